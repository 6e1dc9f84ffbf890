// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "formats/result.hpp"

#include <array>
#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace wherry::migrate {

/// What lets a channel join a migration: random, issued once by the destination over the control
/// channel, shown in the hello of every further one.
class Ticket {
public:
    static constexpr std::size_t size = 16;

    /// A new one, which nobody can guess.
    static formats::Result<Ticket> issue();
    /// As it is on the wire; nothing where it is empty, `protocol` where it has another length.
    static formats::Result<std::optional<Ticket>> from_wire(std::string_view bytes);
    [[nodiscard]] std::string to_wire() const;

    /// Takes as long whatever the difference is.
    [[nodiscard]] bool matches(const Ticket& shown) const noexcept;

private:
    std::array<unsigned char, size> bytes_{};
};

} // namespace wherry::migrate
