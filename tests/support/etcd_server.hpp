// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "tests/support/temp_directory.hpp"

#include <cstdint>
#include <filesystem>
#include <string>

#include <sys/types.h>

namespace wherry::tests {

/// A real etcd on loopback, its data in a directory of its own; killed at the end.
class EtcdServer {
public:
    /// Whether there is an etcd here to be started.
    static bool is_installed();

    EtcdServer(); ///< returns when it serves
    /// The same by TLS alone, for who has a certificate of that directory's CA.
    explicit EtcdServer(std::filesystem::path tls_directory);
    ~EtcdServer();
    EtcdServer(const EtcdServer&) = delete;
    EtcdServer& operator=(const EtcdServer&) = delete;

    void kill(); ///< -9
    void restart();
    void pause();
    void resume();
    /// "127.0.0.1:PORT"
    [[nodiscard]] std::string endpoint() const;

private:
    void start();
    std::filesystem::path tls_directory_; ///< empty: bare HTTP
    TempDirectory data_;
    std::uint16_t client_port_;
    std::uint16_t peer_port_;
    pid_t process_ = -1;
    int log_ = -1; ///< its end of the pipe must stay open: it would die of SIGPIPE
};

/// A port on loopback that was free a moment ago.
std::uint16_t free_port();

} // namespace wherry::tests
