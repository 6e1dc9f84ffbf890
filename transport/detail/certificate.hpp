// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "transport/detail/openssl.hpp"

#include <span>
#include <string>

namespace wherry::transport::detail {

enum class CertificateKind { authority, server, client, both };

struct CertificateRequest {
    std::string common_name; ///< cut to the 64 characters X.520 allows
    CertificateKind kind = CertificateKind::server;
    std::span<const std::string> hosts; ///< checked DNS names and IP literals; none for a CA
    Time not_before;
    Time not_after;
};

struct Issued {
    X509Ptr certificate;
    KeyPtr key;
};

/// A new P-256 key and a certificate for it, signed by `issuer`, or by itself when there is none.
formats::Result<Issued> issue_certificate(const CertificateRequest& request, const Issued* issuer);
/// A host name or address literal that may stand in a certificate, else Error{invalid_argument}.
formats::Status check_host(std::string_view host);
bool is_address(std::string_view host);

std::string to_pem(const X509* certificate);
std::string to_pem(const EVP_PKEY* key);

} // namespace wherry::transport::detail
