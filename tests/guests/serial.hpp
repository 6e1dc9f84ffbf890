// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <string_view>

namespace wherry::guest {

/// Output through a 16550 at 0x3f8 by polling. Lines wait in one ring that all CPUs share; a few
/// bytes leave per call of pump, so that output never holds up the loop for long.
namespace serial {

void initialise() noexcept;

/// Queues a whole line. False: no room, or another CPU is at the ring this moment; try again.
[[nodiscard]] bool try_queue(std::string_view line) noexcept;

/// Queues a line, writing out older ones until there is room.
void queue(std::string_view line) noexcept;

/// Writes up to limit bytes if the transmitter is ready. True: bytes are left in the ring.
bool pump(std::size_t limit) noexcept;

/// Writes until the ring is empty.
void drain() noexcept;

/// For a guest that is about to end: straight to the port, past the ring and its lock.
void write_now(std::string_view line) noexcept;

} // namespace serial
} // namespace wherry::guest
