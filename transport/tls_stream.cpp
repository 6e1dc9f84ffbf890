// SPDX-License-Identifier: Apache-2.0
#include "transport/tls_stream.hpp"

#include "transport/detail/record_cutter.hpp"
#include "transport/detail/socket.hpp"
#include "transport/detail/socket_stream.hpp"
#include "transport/detail/tls_error.hpp"
#include "transport/detail/tls_session.hpp"

#include <array>
#include <optional>

namespace wherry::transport {

using boost::asio::ip::tcp;
using detail::TlsSession;
using detail::TlsStage;
using formats::Error;
using formats::ErrorCode;
using formats::fail;
using formats::Result;
using formats::Status;
using Outcome = TlsSession::Outcome;

namespace {

// Encrypted bytes are handed to the kernel in pieces of about this size.
constexpr std::size_t flush_bytes = std::size_t{128} << 10U;
// Work done without suspending before others on the thread get their turn: about 2 ms.
constexpr std::size_t turn_bytes = std::size_t{2} << 20U;
constexpr auto farewell_limit = std::chrono::seconds{5};
constexpr auto linger_limit = std::chrono::seconds{1};

class TlsStream final : public detail::SocketStream {
public:
    TlsStream(
        tcp::socket socket,
        std::unique_ptr<TlsSession> session,
        TlsContext context,
        TlsStreamOptions options)
        : SocketStream{std::move(socket), turn_bytes},
          context_{std::move(context)},
          options_{options},
          session_{std::move(session)} {}

    Task<void> shake_hands();

    Task<std::size_t> read_some(std::span<std::byte> into) override;
    Task<void> shut_down() override;
    void close() override;
    [[nodiscard]] std::string peer() const override;

private:
    Task<void> flush();
    Task<void> write_parts(Gather parts) override;
    [[nodiscard]] Error wait_failed(int number) const override {
        return formats::system_error(number, "waiting for " + address());
    }
    Task<void> farewell();
    Task<void> let_peer_read_alert();
    Task<void> drain();
    [[nodiscard]] Error failed(TlsStage stage) const;
    Error write_failed();

    TlsContext context_;
    TlsStreamOptions options_;
    std::unique_ptr<TlsSession> session_;
    std::string subject_;
    detail::RecordBuffer staging_{};
    std::uint64_t under_this_key_ = 0;
    bool has_ended_ = false;
    std::optional<Error> read_failure_;
};

Error TlsStream::failed(TlsStage stage) const {
    return detail::describe_failure(
        session_->failure(), session_->policy(), context_, address(), stage);
}

// A peer that refuses us sends an alert and closes; our next write may meet the closed door before
// our reader has met the alert, which has the better story.
Error TlsStream::write_failed() {
    std::array<std::byte, 1> nothing{};
    const auto errno_first = failed(TlsStage::stream);
    if (!has_ended_ && !read_failure_ && session_->look(nothing) == Outcome::failed) {
        read_failure_ = failed(TlsStage::stream);
    }
    const bool explains = read_failure_ && read_failure_->code() == ErrorCode::authentication;
    return explains ? *read_failure_ : errno_first;
}

Task<void> TlsStream::flush() {
    for (;;) {
        const auto outcome = session_->flush();
        if (outcome == Outcome::done) {
            co_return Status{};
        }
        if (outcome == Outcome::failed) {
            co_return fail(write_failed());
        }
        auto ready = co_await wait(tcp::socket::wait_write);
        if (!ready) {
            co_return ready;
        }
    }
}

Task<void> TlsStream::shake_hands() {
    for (;;) {
        const auto outcome = session_->shake_hands();
        if (outcome == Outcome::done && session_->has_agreed(context_.protocol())) {
            subject_ = session_->peer_subject();
            co_return co_await flush();
        }
        if (outcome == Outcome::wants_read) {
            auto flushed = co_await flush();
            if (!flushed) {
                co_return flushed;
            }
            auto ready = co_await wait(tcp::socket::wait_read);
            if (!ready) {
                co_return ready;
            }
            continue;
        }
        auto error = outcome == Outcome::done ? detail::wrong_protocol(address())
                                              : failed(TlsStage::handshake);
        if (session_->failure().spoke_no_tls) {
            session_->queue_plain_alert();
        }
        co_await within(linger_limit, let_peer_read_alert());
        close();
        co_return fail(std::move(error));
    }
}

// Closing at once would let unread input turn into a reset, and that can destroy the alert.
Task<void> TlsStream::let_peer_read_alert() {
    auto flushed = co_await flush();
    if (!flushed) {
        co_return flushed;
    }
    boost::system::error_code gone_already;
    socket().shutdown(tcp::socket::shutdown_send, gone_already);
    co_return co_await drain();
}

Task<void> TlsStream::drain() {
    while (session_->drop_input() == Outcome::wants_read) {
        auto ready = co_await wait(tcp::socket::wait_read);
        if (!ready) {
            co_return ready;
        }
    }
    co_return Status{};
}

Task<std::size_t> TlsStream::read_some(std::span<std::byte> into) {
    auto alive = co_await take_turn(0);
    while (alive) {
        if (read_failure_) {
            co_return fail(*read_failure_);
        }
        if (has_ended_) {
            co_return std::size_t{0};
        }
        const auto [outcome, bytes] = session_->read(into);
        if (outcome == Outcome::failed) {
            read_failure_ = failed(TlsStage::stream);
        }
        has_ended_ = outcome == Outcome::ended;
        if (bytes > 0) {
            alive = co_await take_turn(bytes);
            co_return bytes;
        }
        if (outcome == Outcome::wants_read) {
            alive = co_await wait(tcp::socket::wait_read);
        }
    }
    co_return fail(std::move(alive).error());
}

Task<void> TlsStream::write_parts(Gather parts) {
    detail::RecordCutter cutter{parts, staging_};
    for (auto record = cutter.next(); !record.empty(); record = cutter.next()) {
        auto outcome = Outcome::done;
        if (under_this_key_ >= options_.rekey_after_bytes) {
            under_this_key_ = 0;
            outcome = session_->renew_key();
        }
        if (outcome == Outcome::done) {
            outcome = session_->write(record);
        }
        if (outcome != Outcome::done) {
            co_return fail(write_failed());
        }
        under_this_key_ += record.size();
        if (session_->queued() < flush_bytes) {
            continue;
        }
        auto flushed = co_await flush();
        if (!flushed) {
            co_return flushed;
        }
        auto alive = co_await take_turn(flush_bytes);
        if (!alive) {
            co_return alive;
        }
    }
    co_return co_await flush();
}

Task<void> TlsStream::farewell() {
    if (session_->shut_down() == Outcome::failed) {
        co_return fail(failed(TlsStage::stream));
    }
    auto flushed = co_await flush();
    if (!flushed) {
        co_return flushed;
    }
    std::size_t dropped = 1;
    while (dropped > 0) {
        auto got = co_await read_some(staging_);
        if (!got) {
            co_return fail(std::move(got).error());
        }
        dropped = *got;
    }
    co_return Status{};
}

Task<void> TlsStream::shut_down() {
    auto ended = write_failure_ ? Status{std::unexpect, *write_failure_} : Status{};
    if (ended) {
        ended = co_await within(farewell_limit, farewell());
    }
    close();
    if (!ended) {
        co_return fail(std::move(ended).error().during("ending the stream with " + address()));
    }
    co_return Status{};
}

void TlsStream::close() {
    close_socket();
    read_failure_ = write_failure_ = Error{ErrorCode::cancelled, "the stream was closed here"};
}

std::string TlsStream::peer() const {
    return subject_.empty() ? address() : address() + " (" + subject_ + ")";
}

Task<std::unique_ptr<ByteStream>>
shake_hands(tcp::socket socket, TlsContext context, std::string host, TlsStreamOptions options) {
    auto tuned = detail::tune(socket);
    if (!tuned) {
        co_return fail(std::move(tuned).error());
    }
    auto session = TlsSession::open(socket.native_handle(), context, std::move(host));
    if (!session) {
        co_return fail(std::move(session).error());
    }
    auto stream = std::make_unique<TlsStream>(
        std::move(socket), *std::move(session), std::move(context), options);
    auto shaken = co_await stream->shake_hands();
    if (!shaken) {
        co_return fail(std::move(shaken).error());
    }
    co_return std::move(stream);
}

} // namespace

Task<std::unique_ptr<ByteStream>>
tls_connect(tcp::socket socket, TlsContext context, std::string host, TlsStreamOptions options) {
    formats::invariant(
        context.role() == TlsContext::Role::client, "tls_connect() gets a client's context");
    return shake_hands(std::move(socket), std::move(context), std::move(host), options);
}

Task<std::unique_ptr<ByteStream>>
tls_accept(tcp::socket socket, TlsContext context, TlsStreamOptions options) {
    formats::invariant(
        context.role() == TlsContext::Role::server, "tls_accept() gets a server's context");
    return shake_hands(std::move(socket), std::move(context), {}, options);
}

} // namespace wherry::transport
