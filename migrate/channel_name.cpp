// SPDX-License-Identifier: Apache-2.0
#include "migrate/channel_name.hpp"

#include <utility>

#include <fmt/format.h>

namespace wherry::migrate {

using formats::ErrorCode;

std::string_view name_of(ChannelRole role) noexcept {
    switch (role) {
    case ChannelRole::control:
        return "control";
    case ChannelRole::bulk:
        return "bulk";
    case ChannelRole::urgent:
        return "urgent";
    case ChannelRole::inquiry:
        return "inquiry";
    case ChannelRole::probe:
        return "probe";
    }
    return "unknown";
}

void to_proto(
    const ChannelName& name, formats::Side us, Duration silence, formats::proto::Hello& hello) {
    hello.set_migration_id(name.migration_id);
    hello.set_role(static_cast<std::uint32_t>(name.role));
    hello.set_index(name.index);
    hello.set_epoch(static_cast<std::uint64_t>(name.epoch));
    hello.set_side(static_cast<std::uint32_t>(us));
    hello.set_silence_ms(static_cast<std::uint32_t>(
        std::chrono::duration_cast<std::chrono::milliseconds>(silence).count()));
    if (name.ticket) {
        hello.set_ticket(name.ticket->to_wire());
    }
}

formats::Result<Hello> from_proto(const formats::proto::Hello& said) {
    Hello hello;
    if (said.role() < 1 || said.role() > 5) {
        return formats::fail(
            ErrorCode::protocol,
            fmt::format("there is no role {} for a channel in this version", said.role()));
    }
    hello.name.role = static_cast<ChannelRole>(said.role());
    const std::uint32_t limit = hello.name.role == ChannelRole::bulk ? channels_limit : 1;
    if (said.index() >= limit) {
        return formats::fail(
            ErrorCode::protocol,
            fmt::format(
                "the number of a {} channel is below {}, and {} came",
                name_of(hello.name.role),
                limit,
                said.index()));
    }
    if (said.migration_id().size() > migration_id_limit) {
        return formats::fail(
            ErrorCode::protocol,
            fmt::format("a migration id of over {} bytes came", migration_id_limit));
    }
    auto ticket = Ticket::from_wire(said.ticket());
    if (!ticket) {
        return formats::fail(std::move(ticket).error());
    }
    hello.name.ticket = *ticket;
    hello.name.index = said.index();
    hello.name.migration_id = said.migration_id();
    hello.name.epoch = Epoch{said.epoch()};
    hello.side = formats::side_from(said.side());
    hello.patience = std::chrono::milliseconds{said.silence_ms()};
    return hello;
}

} // namespace wherry::migrate
