// SPDX-License-Identifier: Apache-2.0
#include "transport/detail/tls_session.hpp"

#include "transport/detail/certificate.hpp"

#include <algorithm>
#include <cerrno>
#include <span>

#include <openssl/err.h>

#include <sys/socket.h>

namespace wherry::transport::detail {

using Outcome = TlsSession::Outcome;

const BIO_METHOD* TlsSession::bio_method() {
    static const auto method = [] {
        std::unique_ptr<BIO_METHOD, FreeWith<&BIO_meth_free>> made{
            BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "wherry socket")};
        BIO_meth_set_read(made.get(), &TlsSession::bio_read);
        BIO_meth_set_write(made.get(), &TlsSession::bio_write);
        BIO_meth_set_ctrl(made.get(), &TlsSession::bio_control);
        BIO_meth_set_create(made.get(), &TlsSession::bio_create);
        return made;
    }();
    return method.get();
}

int TlsSession::bio_create(BIO* bio) {
    BIO_set_init(bio, 1);
    return 1;
}

long TlsSession::bio_control(BIO*, int command, long, void*) {
    return command == BIO_CTRL_FLUSH || command == BIO_CTRL_PUSH || command == BIO_CTRL_POP ? 1 : 0;
}

int TlsSession::bio_read(BIO* bio, char* into, int size) {
    auto& wire = *static_cast<Wire*>(BIO_get_data(bio));
    BIO_clear_retry_flags(bio);
    ssize_t got = 0;
    do {
        got = ::recv(wire.socket, into, static_cast<std::size_t>(size), MSG_DONTWAIT);
    } while (got < 0 && errno == EINTR);
    if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
        BIO_set_retry_read(bio);
        return -1;
    }
    if (got < 0) {
        wire.failure.system_error = errno;
        return -1;
    }
    if (got == 0) {
        wire.failure.saw_end = true;
        return 0;
    }
    auto& known = wire.failure.first_bytes_count;
    for (ssize_t i = 0; i < got && known < wire.failure.first_bytes.size(); ++i) {
        wire.failure.first_bytes[known++] = static_cast<unsigned char>(into[i]);
    }
    return static_cast<int>(got);
}

int TlsSession::bio_write(BIO* bio, const char* from, int size) {
    auto& wire = *static_cast<Wire*>(BIO_get_data(bio));
    wire.out.insert(wire.out.end(), from, from + size);
    return size;
}

formats::Result<std::unique_ptr<TlsSession>>
TlsSession::open(int socket, const TlsContext& context, std::string host) {
    auto made = std::make_unique<TlsSession>(Key{});
    const bool is_server = context.role() == TlsContext::Role::server;
    made->wire_.socket = socket;
    made->policy_ = {
        .our_role = context.role(),
        .host = std::move(host),
        .ca_file = context.ca_file(),
        .refusal = {}};
    made->ssl_.reset(SSL_new(context.native()));
    BioPtr bio{BIO_new(bio_method())};
    if (!made->ssl_ || !bio) {
        return openssl_failed("cannot set up TLS");
    }
    auto* ssl = made->ssl_.get();
    SSL_set_app_data(ssl, &made->policy_);
    BIO_set_data(bio.get(), &made->wire_);
    SSL_set_bio(ssl, bio.get(), bio.get());
    bio.release(); // the SSL object owns it now
    // RFC 6066 allows host names only, no addresses, in SNI.
    if (!is_server && !is_address(made->policy_.host) &&
        SSL_set_tlsext_host_name(ssl, made->policy_.host.c_str()) != 1) {
        return openssl_failed("cannot name the server");
    }
    if (is_server) {
        SSL_set_accept_state(ssl);
    } else {
        SSL_set_connect_state(ssl);
    }
    return made;
}

Outcome TlsSession::classify(int result) {
    const int error = SSL_get_error(ssl_.get(), result);
    if (error == SSL_ERROR_WANT_READ) {
        return Outcome::wants_read;
    }
    if (error == SSL_ERROR_ZERO_RETURN) {
        return Outcome::ended;
    }
    auto& failure = wire_.failure;
    failure.code = ERR_peek_error();
    ERR_clear_error();
    // Content types 20 to 23 and a major version of 3: RFC 8446, 5.1.
    const auto& first = failure.first_bytes;
    failure.spoke_no_tls =
        failure.first_bytes_count >= 2 && (first[0] < 20 || first[0] > 23 || first[1] != 3);
    return Outcome::failed;
}

Outcome TlsSession::shake_hands() {
    ERR_clear_error();
    const int result = SSL_do_handshake(ssl_.get());
    return result == 1 ? Outcome::done : classify(result);
}

TlsSession::Progress TlsSession::read(std::span<std::byte> into) {
    ERR_clear_error();
    std::size_t total = 0;
    while (total < into.size()) {
        std::size_t got = 0;
        const int result = SSL_read_ex(ssl_.get(), into.data() + total, into.size() - total, &got);
        if (result == 1) {
            total += got;
            continue;
        }
        const auto outcome = classify(result);
        const bool is_pause = outcome == Outcome::wants_read && total > 0;
        return {.outcome = is_pause ? Outcome::done : outcome, .bytes = total};
    }
    return {.outcome = Outcome::done, .bytes = total};
}

Outcome TlsSession::look(std::span<std::byte> into) {
    ERR_clear_error();
    std::size_t got = 0;
    const int result = SSL_peek_ex(ssl_.get(), into.data(), into.size(), &got);
    return result == 1 ? Outcome::done : classify(result);
}

Outcome TlsSession::write(std::span<const std::byte> record) {
    ERR_clear_error();
    while (!record.empty()) {
        std::size_t taken = 0;
        const int result = SSL_write_ex(ssl_.get(), record.data(), record.size(), &taken);
        if (result != 1) {
            return classify(result) == Outcome::ended ? Outcome::ended : Outcome::failed;
        }
        record = record.subspan(taken);
    }
    return Outcome::done;
}

Outcome TlsSession::shut_down() {
    ERR_clear_error();
    const int result = SSL_shutdown(ssl_.get());
    return result >= 0 ? Outcome::done : classify(result);
}

Outcome TlsSession::renew_key() {
    ERR_clear_error();
    const int result = SSL_key_update(ssl_.get(), SSL_KEY_UPDATE_NOT_REQUESTED);
    return result == 1 ? Outcome::done : classify(result);
}

void TlsSession::queue_plain_alert() {
    // Record: alert, version 3.3, length 2; fatal, protocol_version.
    constexpr std::array<char, 7> alert{21, 3, 3, 0, 2, 2, 70};
    wire_.out.insert(wire_.out.end(), alert.begin(), alert.end());
}

Outcome TlsSession::flush() {
    while (queued() > 0) {
        const auto sent = ::send(
            wire_.socket, wire_.out.data() + wire_.out_at, queued(), MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent >= 0) {
            wire_.out_at += static_cast<std::size_t>(sent);
        } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
            return Outcome::wants_write;
        } else if (errno != EINTR) {
            wire_.failure.system_error = errno;
            return Outcome::failed;
        }
    }
    wire_.out.clear();
    wire_.out_at = 0;
    return Outcome::done;
}

Outcome TlsSession::drop_input() {
    std::array<char, 16384> dropped{};
    for (;;) {
        const auto got = ::recv(wire_.socket, dropped.data(), dropped.size(), MSG_DONTWAIT);
        if (got == 0) {
            return Outcome::ended;
        }
        if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
            return Outcome::wants_read;
        }
        if (got < 0 && errno != EINTR) {
            return Outcome::failed;
        }
    }
}

bool TlsSession::has_agreed(std::string_view protocol) const {
    const unsigned char* name = nullptr;
    unsigned size = 0;
    SSL_get0_alpn_selected(ssl_.get(), &name, &size);
    return std::ranges::equal(std::span{name, size}, protocol);
}

std::string TlsSession::peer_subject() const {
    const X509Ptr certificate{SSL_get1_peer_certificate(ssl_.get())};
    return certificate ? name_text(X509_get_subject_name(certificate.get())) : std::string{};
}

} // namespace wherry::transport::detail
