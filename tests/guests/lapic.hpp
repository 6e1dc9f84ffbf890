// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "tests/guests/options.hpp"

#include <cstdint>
#include <string_view>

namespace wherry::guest {

/// The local APIC: sleeping until its timer interrupts, and starting other CPUs. Worked from any
/// ring: xAPIC registers are memory, x2APIC ones go through the service gate.
namespace lapic {

/// Boot CPU, once: picks xAPIC or x2APIC and the timer's mode.
void select(ApicMode mode, std::uint32_t tsc_khz) noexcept;

/// Each CPU, after select: switches its LAPIC and the timer vector on.
void enable_local() noexcept;

/// Boot CPU, after enable_local: does the timer interrupt at all? Takes 200 ms when it does not.
[[nodiscard]] bool timer_works() noexcept;

/// Halts for at most this long. Interrupts are open only in here.
void wait(std::uint64_t microseconds) noexcept;

/// INIT, then one or two start-up messages. The page holds real-mode code and lies below 1 MiB.
void send_init(std::uint32_t apic_id) noexcept;
void send_startup(std::uint32_t apic_id, std::uint32_t page) noexcept;

/// xapic, x2apic; deadline or one-shot: for the ready line.
[[nodiscard]] std::string_view description() noexcept;

} // namespace lapic

/// Spins on the TSC.
void spin_for(std::uint64_t microseconds, std::uint32_t tsc_khz) noexcept;

} // namespace wherry::guest
