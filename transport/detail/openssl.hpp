// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "formats/result.hpp"

#include <chrono>
#include <memory>
#include <string>
#include <string_view>

#include <openssl/bio.h>
#include <openssl/evp.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

namespace wherry::transport::detail {

template <auto Free>
struct FreeWith {
    template <typename T>
    void operator()(T* object) const {
        Free(object);
    }
};
using BioPtr = std::unique_ptr<BIO, FreeWith<&BIO_free_all>>;
using KeyPtr = std::unique_ptr<EVP_PKEY, FreeWith<&EVP_PKEY_free>>;
using SslPtr = std::unique_ptr<SSL, FreeWith<&SSL_free>>;
using X509Ptr = std::unique_ptr<X509, FreeWith<&X509_free>>;
using Time = std::chrono::system_clock::time_point;

/// Takes all of this thread's OpenSSL errors and returns the text of the first, the cause.
std::string take_openssl_error();
/// Error{internal} for an OpenSSL call that cannot fail but for want of memory.
std::unexpected<formats::Error>
openssl_failed(std::string_view what, formats::SourceLine origin = formats::SourceLine::here());

/// "CN=host-b" or whatever else the name consists of.
std::string name_text(const X509_NAME* name);
/// "DNS:host-b, IP:10.0.0.2", or "no name at all".
std::string subject_names(const X509* certificate);
/// "2026-11-22 16:30 UTC"
std::string time_text(const ASN1_TIME* time);
bool is_after(const ASN1_TIME* time, Time than);
bool is_before(const ASN1_TIME* time, Time than);

} // namespace wherry::transport::detail
