// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "formats/error.hpp"
#include "formats/proto/control.pb.h"
#include "formats/result.hpp"
#include "migrate/epoch.hpp"
#include "migrate/policy.hpp"
#include "migrate/ticket.hpp"

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace wherry::migrate {

/// What a channel is for; the numbers are the wire's.
enum class ChannelRole : std::uint8_t {
    control = 1, ///< messages and the machine's state
    bulk = 2,    ///< rounds of pages
    urgent = 3,  ///< pages that a guest waits for
    inquiry = 4, ///< a control channel after a lost one, or after a process that was lost
    probe = 5,   ///< of no migration: what would become of one
};
/// "control", "bulk", "urgent", "inquiry", "probe".
std::string_view name_of(ChannelRole role) noexcept;

inline constexpr std::size_t migration_id_limit = 64;

/// Which channel of which migration this is, as its source says.
struct ChannelName {
    std::string migration_id;
    Epoch epoch{};
    ChannelRole role = ChannelRole::control;
    std::uint32_t index = 0; ///< among those of its role
    std::optional<Ticket> ticket{};
};

/// What the other side said first on a channel.
struct Hello {
    ChannelName name; ///< within its limits; the id is not yet fit to be shown
    formats::Side side = formats::Side::local;
    Duration patience{}; ///< the sender's, with us
};

void to_proto(const ChannelName& name, formats::Side us, Duration silence, formats::proto::Hello&);
/// Total; `protocol` where a part is outside its limits.
formats::Result<Hello> from_proto(const formats::proto::Hello& said);

} // namespace wherry::migrate
