// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "vmm/x86/emulator.hpp"
#include "x86_oracle.hpp"

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

namespace wherry::fuzz {

/// The emulator under test, with the oracle's memory layout: by segments and no paging in real
/// mode, through page tables (2-level, 4-level) that put MMIO elsewhere in the others.
class Machine {
public:
    explicit Machine(Mode mode);
    Machine(const Machine&) = delete;
    Machine& operator=(const Machine&) = delete;
    ~Machine();

    /// A state that differs in all registers with `seed`; pointers into RAM and MMIO, mostly near
    /// page edges, small numbers, and anything.
    [[nodiscard]] vmm::x86::CpuState state_from(std::uint64_t seed) const;

    /// Nothing where the emulator does not know the instruction.
    std::optional<vmm::x86::Outcome>
    emulate(const vmm::x86::CpuState& state, std::span<const std::uint8_t, 15> code);
    /// The last instruction used ports, addresses that the oracle has not, or wrote to its own
    /// page, which a REP then sees in one and not in the other.
    [[nodiscard]] bool is_beyond_comparison() const;

    [[nodiscard]] std::span<const std::uint8_t> ram() const;
    [[nodiscard]] std::span<const std::uint8_t> mmio() const;
    [[nodiscard]] const Pages& written_pages() const noexcept;
    void restore();

private:
    class Handler;
    class Observer;
    void build_tables_32();
    void build_tables_64();
    void put(std::uint64_t at, std::uint64_t value, std::size_t size);

    Mode mode_;
    vmm::GuestMemory memory_;
    std::unique_ptr<Observer> observer_;
    std::unique_ptr<Handler> handler_;
};

} // namespace wherry::fuzz
