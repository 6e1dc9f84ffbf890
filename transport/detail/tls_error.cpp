// SPDX-License-Identifier: Apache-2.0
#include "transport/detail/tls_error.hpp"

#include <cerrno>
#include <cstring>

#include <fmt/format.h>
#include <openssl/err.h>
#include <openssl/sslerr.h>

namespace wherry::transport::detail {

using formats::Error;
using formats::ErrorCode;

namespace {

std::string refused(const TlsContext& ours, const std::string& peer, std::string_view why) {
    return fmt::format(
        "the peer {} refused our certificate {}: {}", peer, ours.certificate_file(), why);
}

std::string hex(const TlsFailure& failure) {
    std::string text;
    for (std::size_t i = 0; i < failure.first_bytes_count; ++i) {
        text += fmt::format("{}{:02x}", i == 0 ? "" : " ", failure.first_bytes[i]);
    }
    return text;
}

Error describe_reason(const TlsFailure& failure, const std::string& peer) {
    const int reason = ERR_GET_REASON(failure.code);
    switch (reason) {
    case SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE:
        return {
            ErrorCode::authentication,
            fmt::format(
                "the peer {} presented no client certificate: it needs client-cert.pem and "
                "client-key.pem of the same CA",
                peer)};
    case SSL_R_UNSUPPORTED_PROTOCOL:
    case SSL_R_WRONG_SSL_VERSION:
    case SSL_R_VERSION_TOO_LOW:
        return {
            ErrorCode::version_mismatch,
            fmt::format("the peer {} does not speak TLS 1.3, only an older version", peer)};
    case SSL_R_NO_APPLICATION_PROTOCOL:
        return wrong_protocol(peer);
    case SSL_R_DECRYPTION_FAILED_OR_BAD_RECORD_MAC:
    case SSL_R_BAD_RECORD_TYPE:
        return {
            ErrorCode::corrupted,
            fmt::format("bytes from {} were changed on the way (TLS record check failed)", peer)};
    default:
        break;
    }
    const char* text = ERR_reason_error_string(failure.code);
    return {
        ErrorCode::protocol,
        fmt::format(
            "TLS with {} failed: {}", peer, text != nullptr ? text : "for no reason given")};
}

/// What may be the matter where the peer does not speak TLS.
std::string_view guess(const TlsContext& ours) {
    return ours.protocol() == alpn_protocol ? ": is it running with --insecure?" : "";
}

Error describe_end(const TlsContext& ours, const std::string& peer, TlsStage stage) {
    if (stage == TlsStage::handshake) {
        return {
            ErrorCode::connection_lost,
            fmt::format(
                "the peer {} closed the connection during the TLS handshake{}", peer, guess(ours))};
    }
    return {
        ErrorCode::connection_lost,
        fmt::format("the TLS stream from {} ended in the middle, without a farewell", peer)};
}

} // namespace

Error wrong_protocol(const std::string& peer) {
    return {
        ErrorCode::protocol, fmt::format("the peer {} speaks TLS but not {}", peer, alpn_protocol)};
}

Error describe_alert(int alert, const TlsContext& ours, const std::string& peer) {
    const auto as = [&](ErrorCode code, std::string text) {
        return Error{code, std::move(text)};
    };
    const auto unwanted = [&](std::string_view why) {
        return as(ErrorCode::authentication, refused(ours, peer, why));
    };
    const bool is_server = ours.role() == TlsContext::Role::server;
    switch (alert) {
    case SSL3_AD_HANDSHAKE_FAILURE:
        return as(
            ErrorCode::authentication,
            fmt::format("the peer {} has no cipher or key exchange in common with us", peer));
    case SSL3_AD_BAD_CERTIFICATE:
        return unwanted(fmt::format(
            "not yet valid by its clock, or malformed (valid {})", ours.certificate_validity()));
    case SSL3_AD_UNSUPPORTED_CERTIFICATE:
        return unwanted(fmt::format(
            "it is not for a TLS {} (extended key usage)", is_server ? "server" : "client"));
    case SSL3_AD_CERTIFICATE_REVOKED:
        return unwanted("it was revoked");
    case SSL3_AD_CERTIFICATE_EXPIRED:
        return unwanted(
            fmt::format("expired by its clock (valid {})", ours.certificate_validity()));
    case SSL3_AD_CERTIFICATE_UNKNOWN:
        return unwanted(fmt::format(
            "it is for {}, not for the name or address that the peer connected to",
            ours.certificate_names()));
    case TLS1_AD_UNKNOWN_CA:
    case TLS1_AD_DECRYPT_ERROR:
        return unwanted("not signed by the CA it trusts: both hosts need certificates of the same "
                        "CA, not self-signed ones");
    case TLS13_AD_CERTIFICATE_REQUIRED:
        return as(
            ErrorCode::authentication,
            fmt::format("the peer {} demands a client certificate, and got none from us", peer));
    case TLS1_AD_PROTOCOL_VERSION:
        return as(
            ErrorCode::version_mismatch, fmt::format("the peer {} does not speak TLS 1.3", peer));
    case TLS1_AD_NO_APPLICATION_PROTOCOL:
        return wrong_protocol(peer);
    case SSL3_AD_BAD_RECORD_MAC:
        return as(
            ErrorCode::corrupted,
            fmt::format("the peer {} received bytes that were changed on the way", peer));
    default:
        return as(
            ErrorCode::protocol,
            fmt::format(
                "the peer {} ended TLS with alert {} ({})",
                peer,
                alert,
                SSL_alert_desc_string_long(alert)));
    }
}

Error describe_failure(
    const TlsFailure& failure,
    const PeerPolicy& policy,
    const TlsContext& ours,
    const std::string& peer,
    TlsStage stage) {
    if (!policy.refusal.empty()) {
        return {
            ErrorCode::authentication,
            fmt::format("TLS with {} refused: {}", peer, policy.refusal)};
    }
    const int reason = ERR_GET_REASON(failure.code);
    if (ERR_GET_LIB(failure.code) == ERR_LIB_SSL && reason > SSL_AD_REASON_OFFSET) {
        return describe_alert(reason - SSL_AD_REASON_OFFSET, ours, peer);
    }
    if (failure.spoke_no_tls) {
        return {
            ErrorCode::protocol,
            fmt::format(
                "the peer {} did not speak TLS (its first bytes: {}){}",
                peer,
                hex(failure),
                guess(ours))};
    }
    // A peer that closes with our bytes unread makes a reset out of its end.
    const bool was_reset = failure.system_error == ECONNRESET || failure.system_error == EPIPE;
    if (failure.saw_end || (was_reset && stage == TlsStage::handshake)) {
        return describe_end(ours, peer, stage);
    }
    if (failure.system_error != 0) {
        return {
            ErrorCode::connection_lost,
            fmt::format(
                "the connection to {} broke: {}", peer, std::strerror(failure.system_error))};
    }
    return describe_reason(failure, peer);
}

} // namespace wherry::transport::detail
