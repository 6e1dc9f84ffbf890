// SPDX-License-Identifier: Apache-2.0
#include "transport/plain_stream.hpp"

#include "transport/detail/socket.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <optional>
#include <vector>

#include <fmt/format.h>

#include <sys/socket.h>
#include <sys/uio.h>

namespace wherry::transport {

using boost::asio::ip::tcp;
using formats::Error;
using formats::ErrorCode;
using formats::fail;
using formats::Status;

namespace {

constexpr std::size_t turn_bytes = std::size_t{4} << 20U;
constexpr std::size_t parts_at_once = 64;
constexpr auto farewell_limit = std::chrono::seconds{5};

class PlainStream final : public ByteStream {
public:
    explicit PlainStream(tcp::socket socket)
        : socket_{std::move(socket)},
          address_{detail::peer_address(socket_)} {}

    Task<std::size_t> read_some(std::span<std::byte> into) override;
    using ByteStream::write_all;
    Task<void> write_all(Gather parts) override;
    Task<void> shut_down() override;
    void close() override;
    [[nodiscard]] std::string peer() const override { return address_ + " (not authenticated)"; }
    [[nodiscard]] Executor executor() const override { return executor_; }

private:
    Task<void> wait(tcp::socket::wait_type for_what);
    Task<void> take_turn(std::size_t bytes);
    Task<void> write_parts(Gather parts);
    Task<void> farewell();
    [[nodiscard]] Error broken(int number) const;
    bool starts_as_tls();

    tcp::socket socket_;
    Executor executor_ = socket_.get_executor();
    std::string address_;
    std::size_t in_this_turn_ = 0;
    bool is_start_seen_ = false;
    bool is_closed_ = false;
    std::optional<Error> write_failure_;
};

Error PlainStream::broken(int number) const {
    return formats::system_error(number, "the connection to " + address_ + " broke");
}

// Looks at the first two bytes of the stream, once they are there, and leaves them.
bool PlainStream::starts_as_tls() {
    std::array<unsigned char, 2> first{};
    const auto got =
        ::recv(socket_.native_handle(), first.data(), first.size(), MSG_DONTWAIT | MSG_PEEK);
    is_start_seen_ = got > 0;
    return got == std::ssize(first) && first[0] >= 0x14 && first[0] <= 0x17 && first[1] == 3;
}

Task<void> PlainStream::wait(tcp::socket::wait_type for_what) {
    auto alive = co_await check_cancelled();
    if (!alive) {
        co_return alive;
    }
    in_this_turn_ = 0;
    auto [error] = co_await socket_.async_wait(for_what, as_result);
    if (is_closed_ || error == boost::asio::error::operation_aborted) {
        co_return fail(
            ErrorCode::cancelled,
            is_closed_ ? "the stream was closed on this side" : "the operation was cancelled");
    }
    if (error) {
        co_return fail(broken(error.value()));
    }
    co_return Status{};
}

Task<void> PlainStream::take_turn(std::size_t bytes) {
    in_this_turn_ += bytes;
    if (in_this_turn_ < turn_bytes) {
        co_return Status{};
    }
    in_this_turn_ = 0;
    co_return co_await yield_now();
}

Task<std::size_t> PlainStream::read_some(std::span<std::byte> into) {
    for (;;) {
        if (is_closed_) {
            co_return fail(ErrorCode::cancelled, "the stream was closed on this side");
        }
        if (!is_start_seen_ && starts_as_tls()) {
            co_return fail(
                ErrorCode::protocol,
                fmt::format(
                    "the peer {} speaks TLS, but this side was started with --insecure", address_));
        }
        const auto got = ::recv(socket_.native_handle(), into.data(), into.size(), MSG_DONTWAIT);
        const int number = errno;
        if (got >= 0) {
            const auto bytes = static_cast<std::size_t>(got);
            co_await take_turn(bytes);
            co_return bytes;
        }
        if (number != EAGAIN && number != EWOULDBLOCK && number != EINTR) {
            co_return fail(broken(number));
        }
        auto ready = co_await wait(tcp::socket::wait_read);
        if (!ready) {
            co_return fail(std::move(ready).error());
        }
    }
}

Task<void> PlainStream::write_all(Gather parts) {
    if (write_failure_) {
        co_return fail(*write_failure_);
    }
    auto alive = co_await check_cancelled();
    if (!alive) {
        co_return alive;
    }
    auto written = co_await write_parts(parts);
    if (!written) {
        write_failure_ = written.error();
    }
    co_return written;
}

// Up to parts_at_once parts from `at` within the first, as the kernel wants them.
std::vector<iovec> vectors_of(Gather parts, std::size_t at) {
    std::vector<iovec> vectors;
    for (const auto part : parts.first(std::min(parts.size(), parts_at_once))) {
        const auto rest = part.subspan(at);
        at = 0;
        // sendmsg() does not write to what iov_base points to.
        auto* start = const_cast<std::byte*>(rest.data());
        vectors.push_back(iovec{.iov_base = start, .iov_len = rest.size()});
    }
    return vectors;
}

Task<void> PlainStream::write_parts(Gather parts) {
    std::size_t at = 0; // within the first part
    while (!parts.empty()) {
        if (at == parts.front().size()) {
            parts = parts.subspan(1);
            at = 0;
            continue;
        }
        auto vectors = vectors_of(parts, at);
        msghdr message{};
        message.msg_iov = vectors.data();
        message.msg_iovlen = vectors.size();
        const auto sent = ::sendmsg(socket_.native_handle(), &message, MSG_NOSIGNAL | MSG_DONTWAIT);
        const int number = errno;
        auto alive = Status{};
        if (sent >= 0) {
            for (auto left = static_cast<std::size_t>(sent); left > 0;) {
                const auto step = std::min(left, parts.front().size() - at);
                left -= step;
                at += step;
                if (at == parts.front().size()) {
                    parts = parts.subspan(1);
                    at = 0;
                }
            }
            alive = co_await take_turn(static_cast<std::size_t>(sent));
        } else if (number == EAGAIN || number == EWOULDBLOCK) {
            alive = co_await wait(tcp::socket::wait_write);
        } else if (number != EINTR) {
            alive = fail(broken(number));
        }
        if (!alive) {
            co_return alive;
        }
    }
    co_return Status{};
}

Task<void> PlainStream::farewell() {
    boost::system::error_code error;
    socket_.shutdown(tcp::socket::shutdown_send, error);
    if (error) {
        co_return fail(broken(error.value()));
    }
    std::array<std::byte, 4096> dropped{};
    std::size_t count = 1;
    while (count > 0) {
        auto got = co_await read_some(dropped);
        if (!got) {
            co_return fail(std::move(got).error());
        }
        count = *got;
    }
    co_return Status{};
}

Task<void> PlainStream::shut_down() {
    auto ended = co_await within(farewell_limit, farewell());
    close();
    if (!ended) {
        co_return fail(std::move(ended).error().during("ending the stream with " + address_));
    }
    co_return Status{};
}

void PlainStream::close() {
    is_closed_ = true;
    boost::system::error_code closed_already;
    socket_.close(closed_already);
    write_failure_ = Error{ErrorCode::cancelled, "the stream was closed on this side"};
}

} // namespace

formats::Result<std::unique_ptr<ByteStream>> make_plain_stream(tcp::socket socket) {
    auto tuned = detail::tune(socket);
    if (!tuned) {
        return fail(std::move(tuned).error());
    }
    return std::make_unique<PlainStream>(std::move(socket));
}

} // namespace wherry::transport
