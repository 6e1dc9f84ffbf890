// SPDX-License-Identifier: Apache-2.0
#include "migrate/ticket.hpp"

#include "formats/random_bytes.hpp"

#include <algorithm>
#include <span>
#include <utility>

#include <fmt/format.h>

namespace wherry::migrate {

using formats::ErrorCode;

formats::Result<Ticket> Ticket::issue() {
    Ticket ticket;
    auto filled =
        formats::fill_randomly(std::as_writable_bytes(std::span{ticket.bytes_}), "a ticket");
    if (!filled) {
        return formats::fail(std::move(filled).error());
    }
    return ticket;
}

formats::Result<std::optional<Ticket>> Ticket::from_wire(std::string_view bytes) {
    if (bytes.empty()) {
        return std::optional<Ticket>{};
    }
    if (bytes.size() != size) {
        return formats::fail(
            ErrorCode::protocol,
            fmt::format("a ticket has {} bytes, and one of {} was shown", size, bytes.size()));
    }
    Ticket ticket;
    std::ranges::transform(
        bytes, ticket.bytes_.begin(), [](char byte) { return static_cast<unsigned char>(byte); });
    return std::optional{ticket};
}

std::string Ticket::to_wire() const {
    return {bytes_.begin(), bytes_.end()};
}

bool Ticket::matches(const Ticket& shown) const noexcept {
    unsigned difference = 0;
    for (std::size_t i = 0; i < size; ++i) {
        difference |= static_cast<unsigned>(bytes_[i] ^ shown.bytes_[i]);
    }
    return difference == 0;
}

} // namespace wherry::migrate
