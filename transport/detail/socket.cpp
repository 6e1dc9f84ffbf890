// SPDX-License-Identifier: Apache-2.0
#include "transport/detail/socket.hpp"

#include <array>
#include <cerrno>

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

namespace wherry::transport::detail {

namespace {

struct IntegerOption {
    int level;
    int name;
    int value;
};

// A peer that is silent for 30 s, or whose kernel has not taken our bytes for that long, is gone.
// Buffer sizes stay with the kernel: setting them would switch its own tuning off (tcp(7)).
constexpr std::array options{
    IntegerOption{IPPROTO_TCP, TCP_NODELAY, 1},
    IntegerOption{SOL_SOCKET, SO_KEEPALIVE, 1},
    IntegerOption{IPPROTO_TCP, TCP_KEEPIDLE, 10},
    IntegerOption{IPPROTO_TCP, TCP_KEEPINTVL, 5},
    IntegerOption{IPPROTO_TCP, TCP_KEEPCNT, 4},
    IntegerOption{IPPROTO_TCP, TCP_USER_TIMEOUT, 30'000},
};

} // namespace

formats::Status tune(boost::asio::ip::tcp::socket& socket) {
    boost::system::error_code error;
    socket.native_non_blocking(true, error);
    if (error) {
        return formats::fail(formats::system_error(error.value(), "cannot set up the socket"));
    }
    for (const auto& [level, name, value] : options) {
        if (::setsockopt(socket.native_handle(), level, name, &value, sizeof value) != 0) {
            return formats::fail(formats::system_error(errno, "cannot set up the socket"));
        }
    }
    return formats::Status{};
}

Endpoint endpoint_of(const boost::asio::ip::tcp::endpoint& at) {
    namespace ip = boost::asio::ip;
    const auto address = at.address();
    const bool is_mapped = address.is_v6() && address.to_v6().is_v4_mapped();
    const auto host = is_mapped ? ip::make_address_v4(ip::v4_mapped, address.to_v6()).to_string()
                                : address.to_string();
    return Endpoint{.host = host, .port = at.port()};
}

std::string peer_address(const boost::asio::ip::tcp::socket& socket) {
    boost::system::error_code error;
    const auto at = socket.remote_endpoint(error);
    return error ? "an unknown address" : endpoint_of(at).to_string();
}

} // namespace wherry::transport::detail
