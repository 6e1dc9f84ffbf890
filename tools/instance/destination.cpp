// SPDX-License-Identifier: Apache-2.0
#include "tools/instance/destination.hpp"

#include "tools/instance/request_numbers.hpp"
#include "tools/instance/security.hpp"

#include <cstdio>
#include <string_view>
#include <utility>

#include <fmt/format.h>

namespace wherry::tools {

using formats::ErrorCode;
using formats::fail;
using formats::Result;

namespace {

template <typename Request>
Result<transport::Security> security_from(const Request& request, std::string_view warning) {
    if (request.insecure()) {
        fmt::print(stderr, "wherry: WARNING: --insecure: {}\n", warning);
        return transport::Insecure{};
    }
    if (request.tls_directory().empty()) {
        return fail(
            ErrorCode::invalid_argument,
            fmt::format(
                "to connect to {} needs --tls DIR with certificates (wherry pki init makes them)",
                request.to()));
    }
    return client_security(request.tls_directory());
}

template <typename Request>
Result<Destination> reached(const Request& request, std::string_view warning) {
    auto to = transport::Endpoint::parse(request.to());
    if (!to) {
        return fail(std::move(to).error());
    }
    if (auto good = check_numbers({{"connect_timeout_ms", request.connect_timeout_ms()}}); !good) {
        return fail(std::move(good).error());
    }
    auto security = security_from(request, warning);
    if (!security) {
        return fail(std::move(security).error());
    }
    transport::ConnectOptions how;
    if (request.connect_timeout_ms() > 0) {
        how.connect_deadline = from_ms(request.connect_timeout_ms());
    }
    Destination destination{.endpoint = to->to_string(), .connect = {}};
    destination.connect = [to = *std::move(to), security = *std::move(security), how](
                              migrate::ChannelRole, std::uint32_t) {
        return transport::connect(to, security, how);
    };
    return destination;
}

} // namespace

Result<Destination> destination_from(const api::MigrateRequest& request) {
    return reached(request, "the VM goes over the network readable and changeable by anyone");
}

Result<Destination> destination_from(const api::EstimateRequest& request) {
    return reached(request, "anyone on the way can read what the VM is, and answer for its host");
}

} // namespace wherry::tools
