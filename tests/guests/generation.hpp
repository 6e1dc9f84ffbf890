// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

/// The VM generation id, at wherry's fixed address: this guest reads no ACPI tables. Zero where a
/// VMM has none.
namespace wherry::guest::generation {

/// Boot CPU, with its LAPIC enabled: its changes interrupt this CPU from now on.
void watch() noexcept;
/// The 8 bytes of half 0 or 1, as they lie there now.
[[nodiscard]] std::uint64_t half(unsigned number) noexcept;
/// How often its change was told; lets in what is pending, for a busy CPU may never halt.
[[nodiscard]] std::uint64_t events() noexcept;

} // namespace wherry::guest::generation
