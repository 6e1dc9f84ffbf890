// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "transport/detail/openssl.hpp"
#include "transport/detail/tls_verify.hpp"

#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace wherry::transport::detail {

/// Why the last call of a TlsSession failed, as raw facts.
struct TlsFailure {
    unsigned long code = 0;    ///< OpenSSL's first error, or 0
    int system_error = 0;      ///< errno of a failed recv or send, or 0
    bool saw_end = false;      ///< the peer closed the connection (FIN)
    bool spoke_no_tls = false; ///< the first bytes received are no TLS record
    std::array<unsigned char, 8> first_bytes{};
    std::size_t first_bytes_count = 0;
};

/// One TLS connection over a non-blocking socket: OpenSSL reads from the socket itself, in large
/// pieces; what it writes gathers here and goes out with flush(), many records per system call. So
/// no OpenSSL call ever waits for the socket to become writable. Never suspends, one thread.
class TlsSession {
    struct Key {};

public:
    explicit TlsSession(Key) {} ///< for open()
    enum class Outcome {
        done,
        wants_read,  ///< again when the socket is readable
        wants_write, ///< again when the socket is writable (flush only)
        ended,       ///< close_notify was received
        failed       ///< see failure()
    };
    struct Progress {
        Outcome outcome = Outcome::done;
        std::size_t bytes = 0;
    };

    /// The socket must stay open as long as this lives.
    static formats::Result<std::unique_ptr<TlsSession>>
    open(int socket, const TlsContext& context, std::string host);

    Outcome shake_hands();
    /// Takes up to into.size() bytes of those that have arrived; `done` with at least one byte.
    Progress read(std::span<std::byte> into);
    /// As read(), but leaves the bytes where they are.
    Outcome look(std::span<std::byte> into);
    /// Encrypts one record of at most 16 KiB: done, or failed.
    Outcome write(std::span<const std::byte> record);
    /// Queues close_notify.
    Outcome shut_down();
    /// Takes new sending keys into use from the next record on.
    Outcome renew_key();
    /// Queues the unencrypted alert by which a peer that does not speak TLS can tell that we do.
    void queue_plain_alert();

    [[nodiscard]] std::size_t queued() const noexcept { return wire_.out.size() - wire_.out_at; }
    /// Hands queued bytes to the kernel: done, wants_write, or failed.
    Outcome flush();
    /// Reads and drops whatever arrives, encrypted or not: wants_read, ended or failed.
    Outcome drop_input();

    [[nodiscard]] const TlsFailure& failure() const noexcept { return wire_.failure; }
    [[nodiscard]] const PeerPolicy& policy() const noexcept { return policy_; }
    /// On no other application protocol than this one; empty: on none.
    [[nodiscard]] bool has_agreed(std::string_view protocol) const;
    /// Subject of the peer's certificate, once hands are shaken.
    [[nodiscard]] std::string peer_subject() const;

private:
    struct Wire {
        int socket = -1;
        std::vector<char> out;
        std::size_t out_at = 0;
        TlsFailure failure;
    };
    static const BIO_METHOD* bio_method();
    static int bio_read(BIO* bio, char* into, int size);
    static int bio_write(BIO* bio, const char* from, int size);
    static long bio_control(BIO* bio, int command, long, void*);
    static int bio_create(BIO* bio);
    Outcome classify(int result);

    Wire wire_;
    PeerPolicy policy_;
    SslPtr ssl_;
};

} // namespace wherry::transport::detail
