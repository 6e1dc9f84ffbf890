// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "formats/units.hpp"
#include "vmm/guest_memory.hpp"
#include "vmm/partition.hpp"
#include "vmm/x86/cpu_state.hpp"
#include "vmm/x86/page_walk.hpp"
#include "vmm/x86/step.hpp"

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

namespace wherry::vmm::x86 {

/// Where an operand of 1 to 8 bytes lies: one run of guest physical bytes, or two, where it
/// crosses the edge of a page. Translated, so that reading and writing raise nothing.
struct Place {
    struct Run {
        formats::Gpa at;
        std::size_t size = 0;
        bool is_ram = false;
    };
    std::array<Run, 2> runs{};
    std::size_t run_count = 0;

    [[nodiscard]] std::span<const Run> used() const noexcept {
        return std::span{runs}.first(run_count);
    }
};

/// The guest's memory as its data accesses see it: RAM or the exit handler, page by page.
class LinearMemory {
public:
    LinearMemory(const CpuState& cpu, GuestMemory& memory, ExitHandler& handler)
        : cpu_{cpu},
          memory_{memory},
          handler_{handler} {}

    Step<Place> locate(std::uint64_t linear, unsigned size, Access access);
    Step<std::uint64_t> read(const Place& place);
    Step<void> write(const Place& place, std::uint64_t value);
    /// The write half of a locked instruction that read `expected`. False where another vCPU wrote
    /// to RAM in between: nothing is written, and the instruction starts over. A locked operand
    /// that is not naturally aligned in RAM is written without that guarantee: no such access is
    /// ever intercepted but one that shares the operand with MMIO.
    Step<bool> exchange(const Place& place, std::uint64_t expected, std::uint64_t desired);
    /// Code bytes from `linear` on, to the end of `into` or of what is executable and in RAM.
    /// How many there are; the reason for ending early only where there is none.
    Step<std::size_t> fetch(std::uint64_t linear, std::span<std::byte> into);

private:
    [[nodiscard]] bool is_ram(formats::Gpa at) const noexcept;
    Step<formats::Gpa> physical(std::uint64_t linear, Access access);

    const CpuState& cpu_;
    GuestMemory& memory_;
    ExitHandler& handler_;
};

} // namespace wherry::vmm::x86
