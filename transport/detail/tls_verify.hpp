// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "transport/detail/openssl.hpp"
#include "transport/tls_context.hpp"

#include <string>

namespace wherry::transport::detail {

/// What one connection demands of its peer, and how that ended. Attached to its SSL object.
struct PeerPolicy {
    TlsContext::Role our_role = TlsContext::Role::client;
    std::string host;    ///< whom a client wants to reach: name or address literal
    std::string ca_file; ///< for messages
    std::string refusal; ///< set by verify_peer: one clause saying what is wrong with the peer
};

/// The certificate callback (SSL_CTX_set_cert_verify_callback): chain to our CA, validity, extended
/// key usage (which must be present), and for a client the subject alternative name.
///
/// Each cause leads to an alert of its own, which is all that the other side learns: unknown_ca,
/// certificate_expired, bad_certificate (not yet valid), unsupported_certificate (key usage),
/// certificate_unknown (name).
int verify_peer(X509_STORE_CTX* chain, void*);

} // namespace wherry::transport::detail
