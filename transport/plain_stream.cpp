// SPDX-License-Identifier: Apache-2.0
#include "transport/plain_stream.hpp"

#include "transport/detail/socket.hpp"
#include "transport/detail/socket_stream.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
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

class PlainStream final : public detail::SocketStream {
public:
    explicit PlainStream(tcp::socket socket) : SocketStream{std::move(socket), turn_bytes} {}

    Task<std::size_t> read_some(std::span<std::byte> into) override;
    Task<void> shut_down() override;
    void close() override;
    [[nodiscard]] std::string peer() const override { return address() + " (not authenticated)"; }

private:
    Task<void> write_parts(Gather parts) override;
    [[nodiscard]] Error wait_failed(int number) const override { return broken(number); }
    Task<void> farewell();
    [[nodiscard]] Error broken(int number) const;
    bool starts_as_tls();

    bool is_start_seen_ = false;
};

Error PlainStream::broken(int number) const {
    return formats::system_error(number, "the connection to " + address() + " broke");
}

// Looks at the first two bytes of the stream, once they are there, and leaves them.
bool PlainStream::starts_as_tls() {
    std::array<unsigned char, 2> first{};
    const auto got =
        ::recv(socket().native_handle(), first.data(), first.size(), MSG_DONTWAIT | MSG_PEEK);
    is_start_seen_ = got > 0;
    return got == std::ssize(first) && first[0] >= 0x14 && first[0] <= 0x17 && first[1] == 3;
}

Task<std::size_t> PlainStream::read_some(std::span<std::byte> into) {
    for (;;) {
        if (is_closed()) {
            co_return fail(ErrorCode::cancelled, "the stream was closed on this side");
        }
        if (!is_start_seen_ && starts_as_tls()) {
            co_return fail(
                ErrorCode::protocol,
                fmt::format(
                    "the peer {} speaks TLS, but this side was started with --insecure",
                    address()));
        }
        const auto got = ::recv(socket().native_handle(), into.data(), into.size(), MSG_DONTWAIT);
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
        const auto sent =
            ::sendmsg(socket().native_handle(), &message, MSG_NOSIGNAL | MSG_DONTWAIT);
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
    socket().shutdown(tcp::socket::shutdown_send, error);
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
        co_return fail(std::move(ended).error().during("ending the stream with " + address()));
    }
    co_return Status{};
}

void PlainStream::close() {
    close_socket();
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
