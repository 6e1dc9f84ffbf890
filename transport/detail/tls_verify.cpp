// SPDX-License-Identifier: Apache-2.0
#include "transport/detail/tls_verify.hpp"

#include "transport/detail/certificate.hpp"

#include <fmt/format.h>
#include <openssl/err.h>

namespace wherry::transport::detail {

namespace {

using Role = TlsContext::Role;

std::string who(const X509* certificate) {
    return fmt::format(
        "the peer's certificate ({}, issued by {})",
        name_text(X509_get_subject_name(certificate)),
        name_text(X509_get_issuer_name(certificate)));
}

// What X509_verify_cert found, as a clause.
std::string describe(int error, const X509* certificate, const PeerPolicy& policy) {
    const auto peer = certificate != nullptr ? who(certificate) : "the peer's certificate";
    switch (error) {
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
    case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
    case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
    case X509_V_ERR_CERT_SIGNATURE_FAILURE:
    case X509_V_ERR_INVALID_CA:
        return fmt::format(
            "{} was not signed by our CA ({}): both hosts need certificates of the same CA",
            peer,
            policy.ca_file);
    case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
        return fmt::format(
            "{} is self-signed and not signed by our CA ({}): both hosts need certificates of the "
            "same CA",
            peer,
            policy.ca_file);
    case X509_V_ERR_CERT_HAS_EXPIRED:
        return fmt::format(
            "{} expired on {}: issue a new one, or check this host's clock",
            peer,
            time_text(X509_get0_notAfter(certificate)));
    case X509_V_ERR_CERT_NOT_YET_VALID:
        return fmt::format(
            "{} is not yet valid, only from {}: check the clocks of both hosts",
            peer,
            time_text(X509_get0_notBefore(certificate)));
    case X509_V_ERR_INVALID_PURPOSE:
        return fmt::format(
            "{} is not for a TLS {} (extended key usage {} is missing): is it the right file?",
            peer,
            policy.our_role == Role::server ? "client" : "server",
            policy.our_role == Role::server ? "clientAuth" : "serverAuth");
    default:
        return fmt::format("{} is not acceptable: {}", peer, X509_verify_cert_error_string(error));
    }
}

int refuse(X509_STORE_CTX* chain, PeerPolicy& policy, int error, std::string clause) {
    policy.refusal = std::move(clause);
    X509_STORE_CTX_set_error(chain, error);
    return 0;
}

bool has_purpose(X509* certificate, Role our_role) {
    // All bits are set where the extension is absent, which means "for anything": not for us.
    const auto uses = X509_get_extended_key_usage(certificate);
    const std::uint32_t wanted = our_role == Role::server ? XKU_SSL_CLIENT : XKU_SSL_SERVER;
    return uses != UINT32_MAX && (uses & wanted) != 0;
}

bool is_for(X509* certificate, const std::string& host) {
    const int match =
        is_address(host)
            ? X509_check_ip_asc(certificate, host.c_str(), 0)
            : X509_check_host(
                  certificate,
                  host.data(),
                  host.size(),
                  X509_CHECK_FLAG_NEVER_CHECK_SUBJECT | X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS,
                  nullptr);
    return match == 1;
}

} // namespace

int verify_peer(X509_STORE_CTX* chain, void*) {
    const auto* ssl = static_cast<const SSL*>(
        X509_STORE_CTX_get_ex_data(chain, SSL_get_ex_data_X509_STORE_CTX_idx()));
    auto& policy = *static_cast<PeerPolicy*>(SSL_get_app_data(ssl));
    auto* leaf = X509_STORE_CTX_get0_cert(chain);
    if (X509_verify_cert(chain) != 1) {
        const int error = X509_STORE_CTX_get_error(chain);
        // A foreign CA that came along is not what the user knows: the leaf is.
        const auto* at = error == X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN
                             ? nullptr
                             : X509_STORE_CTX_get_current_cert(chain);
        policy.refusal = describe(error, at != nullptr ? at : leaf, policy);
        return 0;
    }
    if (!has_purpose(leaf, policy.our_role)) {
        return refuse(
            chain,
            policy,
            X509_V_ERR_INVALID_PURPOSE,
            describe(X509_V_ERR_INVALID_PURPOSE, leaf, policy));
    }
    if (policy.our_role == Role::client && !is_for(leaf, policy.host)) {
        ERR_clear_error();
        // This error has no alert of its own in OpenSSL's table, hence becomes certificate_unknown,
        // where X509_V_ERR_HOSTNAME_MISMATCH would share bad_certificate with other causes.
        return refuse(
            chain,
            policy,
            X509_V_ERR_PERMITTED_VIOLATION,
            fmt::format(
                "{} is for {}, not for {}: connect by one of these names, or issue a certificate "
                "for {}",
                who(leaf),
                subject_names(leaf),
                policy.host,
                policy.host));
    }
    return 1;
}

} // namespace wherry::transport::detail
