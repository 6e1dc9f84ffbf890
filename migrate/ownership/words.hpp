// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "formats/proto/control.pb.h"
#include "migrate/ownership/event.hpp"

#include <optional>

/// What the sides of a hand-over say to each other, as messages of the control channel.
namespace wherry::migrate {

/// Not for an offer, which says more.
formats::proto::Control message_of(MessageKind kind, Epoch epoch);
/// Nothing where it is another message, or an offer.
std::optional<event::Received> word_in(const formats::proto::Control& message);

} // namespace wherry::migrate
