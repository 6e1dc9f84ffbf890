// SPDX-License-Identifier: Apache-2.0
#include "transport/detail/certificate.hpp"

#include <algorithm>
#include <array>

#include <boost/asio/ip/address.hpp>
#include <fmt/format.h>
#include <openssl/ec.h>
#include <openssl/pem.h>
#include <openssl/rand.h>

namespace wherry::transport::detail {

using formats::ErrorCode;
using formats::Result;
using formats::Status;

namespace {

// 127 random bits: RFC 5280 allows 20 octets, positive.
bool set_random_serial(X509* certificate) {
    std::array<unsigned char, 16> bytes{};
    if (RAND_bytes(bytes.data(), static_cast<int>(bytes.size())) != 1) {
        return false;
    }
    bytes[0] = static_cast<unsigned char>((bytes[0] & 0x7FU) | 0x40U);
    const std::unique_ptr<BIGNUM, FreeWith<&BN_free>> number{
        BN_bin2bn(bytes.data(), static_cast<int>(bytes.size()), nullptr)};
    return number &&
           BN_to_ASN1_INTEGER(number.get(), X509_get_serialNumber(certificate)) != nullptr;
}

bool set_subject(X509* certificate, std::string_view common_name) {
    const std::string text{common_name.substr(0, ub_common_name)};
    return X509_NAME_add_entry_by_NID(
               X509_get_subject_name(certificate),
               NID_commonName,
               MBSTRING_UTF8,
               reinterpret_cast<const unsigned char*>(text.c_str()),
               -1,
               -1,
               0) == 1;
}

bool add_extension(X509* certificate, X509* issuer, int id, const std::string& value) {
    X509V3_CTX context{};
    X509V3_set_ctx(&context, issuer, certificate, nullptr, nullptr, 0);
    const std::unique_ptr<X509_EXTENSION, FreeWith<&X509_EXTENSION_free>> extension{
        X509V3_EXT_conf_nid(nullptr, &context, id, value.c_str())};
    return extension && X509_add_ext(certificate, extension.get(), -1) == 1;
}

std::string alternative_names(std::span<const std::string> hosts) {
    std::string text;
    for (const auto& host : hosts) {
        text +=
            fmt::format("{}{}:{}", text.empty() ? "" : ",", is_address(host) ? "IP" : "DNS", host);
    }
    return text;
}

const char* extended_use(CertificateKind kind) {
    switch (kind) {
    case CertificateKind::authority:
        break;
    case CertificateKind::server:
        return "serverAuth";
    case CertificateKind::client:
        return "clientAuth";
    case CertificateKind::both:
        return "serverAuth,clientAuth";
    }
    return "";
}

bool add_extensions(X509* certificate, X509* issuer, const CertificateRequest& request) {
    const bool is_authority = request.kind == CertificateKind::authority;
    bool done = add_extension(
                    certificate,
                    issuer,
                    NID_basic_constraints,
                    is_authority ? "critical,CA:TRUE,pathlen:0" : "critical,CA:FALSE") &&
                add_extension(
                    certificate,
                    issuer,
                    NID_key_usage,
                    is_authority ? "critical,keyCertSign,cRLSign" : "critical,digitalSignature") &&
                add_extension(certificate, issuer, NID_subject_key_identifier, "hash") &&
                add_extension(certificate, issuer, NID_authority_key_identifier, "keyid:always");
    if (done && !is_authority) {
        done = add_extension(certificate, issuer, NID_ext_key_usage, extended_use(request.kind)) &&
               add_extension(
                   certificate, issuer, NID_subject_alt_name, alternative_names(request.hosts));
    }
    return done;
}

bool set_times(X509* certificate, const CertificateRequest& request) {
    using std::chrono::system_clock;
    return ASN1_TIME_set(
               X509_getm_notBefore(certificate), system_clock::to_time_t(request.not_before)) !=
               nullptr &&
           ASN1_TIME_set(
               X509_getm_notAfter(certificate), system_clock::to_time_t(request.not_after)) !=
               nullptr;
}

template <typename Write>
std::string pem_text(Write write) {
    const BioPtr bio{BIO_new(BIO_s_mem())};
    formats::invariant(bio && write(bio.get()) == 1, "our own certificate can be written as PEM");
    char* data = nullptr;
    const auto size = BIO_get_mem_data(bio.get(), &data);
    return {data, static_cast<std::size_t>(size)};
}

} // namespace

Result<Issued> issue_certificate(const CertificateRequest& request, const Issued* issuer) {
    Issued made{
        .certificate = X509Ptr{X509_new()},
        .key = KeyPtr{EVP_PKEY_Q_keygen(nullptr, nullptr, "EC", "P-256")},
    };
    auto* certificate = made.certificate.get();
    if (!made.certificate || !made.key) {
        return openssl_failed("cannot make a P-256 key");
    }
    auto* parent = issuer != nullptr ? issuer->certificate.get() : certificate;
    auto* signer = issuer != nullptr ? issuer->key.get() : made.key.get();
    const bool done = X509_set_version(certificate, X509_VERSION_3) == 1 &&
                      set_random_serial(certificate) && set_times(certificate, request) &&
                      set_subject(certificate, request.common_name) &&
                      X509_set_issuer_name(certificate, X509_get_subject_name(parent)) == 1 &&
                      X509_set_pubkey(certificate, made.key.get()) == 1 &&
                      add_extensions(certificate, parent, request) &&
                      X509_sign(certificate, signer, EVP_sha256()) > 0;
    if (!done) {
        return openssl_failed("cannot make a certificate for " + request.common_name);
    }
    return made;
}

bool is_address(std::string_view host) {
    boost::system::error_code error;
    boost::asio::ip::make_address(std::string{host}, error);
    return !error;
}

Status check_host(std::string_view host) {
    const auto fits = [](char c) {
        return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
               c == '.' || c == '-' || c == '_' || c == '*';
    };
    const bool has_scope = host.find('%') != std::string_view::npos;
    const bool is_name = !host.empty() && host.size() <= 253 && std::ranges::all_of(host, fits);
    if (has_scope || (!is_address(host) && !is_name)) {
        return formats::fail(
            ErrorCode::invalid_argument,
            fmt::format("'{}' is neither a host name nor an IP address", host));
    }
    return Status{};
}

std::string to_pem(const X509* certificate) {
    return pem_text([&](BIO* bio) { return PEM_write_bio_X509(bio, certificate); });
}

std::string to_pem(const EVP_PKEY* key) {
    return pem_text([&](BIO* bio) {
        return PEM_write_bio_PKCS8PrivateKey(bio, key, nullptr, nullptr, 0, nullptr, nullptr);
    });
}

} // namespace wherry::transport::detail
