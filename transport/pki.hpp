// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "formats/result.hpp"

#include <chrono>
#include <filesystem>
#include <span>
#include <string>

namespace wherry::transport {

/// What the server and the client certificate may be used for. Anything but `proper` exists for
/// tests.
enum class KeyUse {
    proper,  ///< serverAuth in the server's, clientAuth in the client's
    swapped, ///< the other way round
    both,    ///< both in both: an etcd is a client of its own
};

struct PkiOptions {
    using Time = std::chrono::system_clock::time_point;
    std::chrono::days host_validity{825};
    std::chrono::days ca_validity{3650};
    /// Certificates are valid from five minutes before this.
    Time now = std::chrono::system_clock::now();
    KeyUse use = KeyUse::proper;
};

/// The file names within a directory of certificates; QEMU and Cloud Hypervisor use the same.
inline constexpr const char* ca_cert_file = "ca-cert.pem";
inline constexpr const char* ca_key_file = "ca-key.pem";
inline constexpr const char* server_cert_file = "server-cert.pem";
inline constexpr const char* server_key_file = "server-key.pem";
inline constexpr const char* client_cert_file = "client-cert.pem";
inline constexpr const char* client_key_file = "client-key.pem";

/// `wherry pki init DIR --host ...`: makes DIR, a CA in it unless it has one, and a server and a
/// client certificate for `hosts` (DNS names and IP literals; the first is also the subject), all
/// ECDSA P-256. Keys have mode 0600. Never overwrites: Error{already_exists} names the file.
formats::Status make_pki(
    const std::filesystem::path& directory,
    std::span<const std::string> hosts,
    const PkiOptions& options = {});

/// Certificates for a further host, signed by the CA in `ca_directory`, into `out_directory`
/// together with a copy of ca-cert.pem (but not of the CA's key).
formats::Status issue_host(
    const std::filesystem::path& ca_directory,
    const std::filesystem::path& out_directory,
    std::span<const std::string> hosts,
    const PkiOptions& options = {});

} // namespace wherry::transport
