// SPDX-License-Identifier: Apache-2.0
#include "transport/detail/socket_stream.hpp"

#include "transport/detail/socket.hpp"

#include <utility>

#include <unistd.h>

namespace wherry::transport::detail {

using boost::asio::ip::tcp;
using formats::ErrorCode;
using formats::fail;
using formats::Status;

SocketStream::SocketStream(tcp::socket socket, std::size_t turn)
    : socket_{std::move(socket)},
      address_{peer_address(socket_)},
      turn_{turn} {}

Task<void> SocketStream::wait(tcp::socket::wait_type for_what) {
    auto alive = co_await check_cancelled();
    if (!alive) {
        co_return alive;
    }
    if (is_closed_) {
        co_return fail(ErrorCode::cancelled, "the stream was closed on this side");
    }
    in_this_turn_ = 0;
    auto [error] = co_await socket_.async_wait(for_what, as_result);
    if (is_closed_ || error == boost::asio::error::operation_aborted) {
        co_return fail(
            ErrorCode::cancelled,
            is_closed_ ? "the stream was closed on this side" : "the operation was cancelled");
    }
    if (error) {
        co_return fail(wait_failed(error.value()));
    }
    co_return Status{};
}

Task<void> SocketStream::take_turn(std::size_t bytes) {
    in_this_turn_ += bytes;
    if (in_this_turn_ < turn_) {
        co_return Status{};
    }
    in_this_turn_ = 0;
    co_return co_await yield_now();
}

Task<void> SocketStream::write_all(Gather parts) {
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

/// The descriptor keeps its number: what reads and writes it directly need not know.
Status SocketStream::rebind(Executor executor) {
    boost::system::error_code error;
    const auto protocol = socket_.local_endpoint(error).protocol();
    const auto handle = error ? tcp::socket::native_handle_type{} : socket_.release(error);
    if (error) {
        close();
        return fail(formats::system_error(error.value(), "moving the connection to " + address_));
    }
    executor_ = std::move(executor);
    socket_ = tcp::socket{executor_};
    socket_.assign(protocol, handle, error);
    if (error) {
        ::close(handle);
        close();
        return fail(formats::system_error(error.value(), "moving the connection to " + address_));
    }
    return {};
}

void SocketStream::close_socket() {
    is_closed_ = true;
    boost::system::error_code closed_already;
    socket_.close(closed_already);
}

} // namespace wherry::transport::detail
