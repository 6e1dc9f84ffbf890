// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "transport/byte_stream.hpp"

#include <cstddef>
#include <optional>
#include <string>

#include <boost/asio/ip/tcp.hpp>

namespace wherry::transport::detail {

/// What streams on a TCP socket share: waiting, taking turns on the thread, and that a stream that
/// could not write once never writes again.
class SocketStream : public ByteStream {
public:
    using ByteStream::write_all;
    Task<void> write_all(Gather parts) final;
    [[nodiscard]] formats::Status rebind(Executor executor) final;
    [[nodiscard]] Executor executor() const final { return executor_; }

protected:
    /// `turn` bytes are moved without suspending before others on the thread get their turn.
    SocketStream(boost::asio::ip::tcp::socket socket, std::size_t turn);

    /// The whole of it; called once no more after it failed.
    virtual Task<void> write_parts(Gather parts) = 0;
    /// What waiting for the socket ended with.
    [[nodiscard]] virtual formats::Error wait_failed(int number) const = 0;

    Task<void> wait(boost::asio::ip::tcp::socket::wait_type for_what);
    Task<void> take_turn(std::size_t bytes);
    void close_socket();

    [[nodiscard]] boost::asio::ip::tcp::socket& socket() noexcept { return socket_; }
    [[nodiscard]] const std::string& address() const noexcept { return address_; }
    [[nodiscard]] bool is_closed() const noexcept { return is_closed_; }
    std::optional<formats::Error> write_failure_;

private:
    boost::asio::ip::tcp::socket socket_;
    Executor executor_ = socket_.get_executor();
    std::string address_;
    std::size_t turn_;
    std::size_t in_this_turn_ = 0;
    bool is_closed_ = false;
};

} // namespace wherry::transport::detail
