// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "formats/result.hpp"

#include <chrono>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

struct ssl_ctx_st;

namespace wherry::transport {

/// The application protocol that both of wherry's sides must name (ALPN, RFC 7301).
inline constexpr std::string_view alpn_protocol = "wherry/1";

struct TlsOptions {
    using Time = std::chrono::system_clock::time_point;
    /// What is named and must be agreed on. A client may name none, where the other side is none of
    /// wherry's; a server has this one.
    std::string_view protocol = alpn_protocol;
    /// The time by which certificates, our own and the peer's, are judged. Unset: the clock.
    std::optional<Time> now;
};

/// Who we are and whom we trust: TLS 1.3 only, mutual, no resumption, AEAD suites only. Made from a
/// directory with ca-cert.pem and {server,client}-{cert,key}.pem. Cheap to copy; copies share.
/// Refuses, naming file and remedy: a missing or unreadable file, a key file that others may read,
/// a key that does not belong to the certificate, an expired or not yet valid own certificate.
class TlsContext {
public:
    enum class Role { server, client };

    static formats::Result<TlsContext>
    for_server(const std::filesystem::path& directory, TlsOptions options = {});
    static formats::Result<TlsContext>
    for_client(const std::filesystem::path& directory, TlsOptions options = {});

    [[nodiscard]] Role role() const noexcept { return role_; }
    /// TlsOptions::protocol
    [[nodiscard]] std::string_view protocol() const noexcept { return protocol_; }
    /// For messages: the file of our own certificate, of the CA, and the names ours is valid for.
    [[nodiscard]] const std::string& certificate_file() const noexcept { return certificate_file_; }
    [[nodiscard]] const std::string& ca_file() const noexcept { return ca_file_; }
    [[nodiscard]] const std::string& certificate_names() const noexcept {
        return certificate_names_;
    }
    /// "from DATE to DATE"
    [[nodiscard]] const std::string& certificate_validity() const noexcept {
        return certificate_validity_;
    }
    [[nodiscard]] ssl_ctx_st* native() const noexcept { return context_.get(); }

private:
    TlsContext() = default;
    static formats::Result<TlsContext>
    load(const std::filesystem::path& directory, Role role, const TlsOptions& options);

    /// Shared by all copies and by every connection made from them.
    std::shared_ptr<ssl_ctx_st> context_;
    Role role_ = Role::client;
    std::string protocol_;
    std::string certificate_file_;
    std::string ca_file_;
    std::string certificate_names_;
    std::string certificate_validity_;
};

} // namespace wherry::transport
