// SPDX-License-Identifier: Apache-2.0
#include "vmm/mshv/tsc.hpp"

#include "vmm/guest_clock.hpp"
#include "vmm/mshv/abi/register_names.hpp"

#include <fmt/format.h>

namespace wherry::vmm::mshv {

using formats::ErrorCode;
using formats::fail;
using formats::Result;
using formats::Status;

namespace {

/// The guest's TSC and the host's, read together.
struct Reading {
    std::uint64_t guest = 0;
    std::uint64_t host = 0;
    /// Two reads gave one value: frozen time is a frozen TSC on this hypervisor.
    bool stands_still = false;
};

Result<Reading> look(const VpRegisters& registers) {
    const auto first = registers.read(abi::registers::tsc);
    if (!first) {
        return fail(first.error());
    }
    const std::uint64_t host = read_host_tsc();
    const auto second = registers.read(abi::registers::tsc);
    if (!second) {
        return fail(second.error());
    }
    return Reading{.guest = second->low, .host = host, .stands_still = first->low == second->low};
}

/// Guest ticks are host ticks: the hypervisor offsets and does not scale.
std::uint64_t guest_when(const Reading& reading, std::uint64_t host_tsc) {
    return reading.stands_still ? reading.guest : reading.guest - (reading.host - host_tsc);
}

} // namespace

Result<std::uint64_t>
read_tsc(const VpRegisters& registers, const PartitionTime& time, std::uint64_t khz) {
    const auto reading = look(registers);
    if (!reading) {
        return fail(reading.error());
    }
    const auto value = guest_when(*reading, time.saved_at());
    return reading->stands_still ? value + ticks_in(time.frozen_until_save(), khz) : value;
}

Status write_tsc(
    const VpRegisters& registers,
    const PartitionTime& time,
    std::uint64_t saved,
    std::uint64_t saved_khz,
    std::uint64_t khz) {
    if (saved_khz != 0 && khz != 0 && !same_frequency(saved_khz, khz)) {
        return fail(
            ErrorCode::incompatible,
            fmt::format(
                "the guest's TSC runs at {} kHz, this host's at {} kHz and cannot be scaled",
                saved_khz,
                khz));
    }
    const auto before = look(registers);
    if (!before) {
        return fail(before.error());
    }
    const auto& anchor = time.anchor();
    const std::uint64_t passed_ticks = ticks_in(anchor.elapsed, khz);
    const std::uint64_t wanted = saved + passed_ticks;
    const std::uint64_t since = before->stands_still ? 0 : read_host_tsc() - anchor.host_tsc;
    const NamedValue value{abi::registers::tsc, {.low = wanted + since, .high = 0}};
    if (auto written = registers.write(std::span{&value, 1}); !written) {
        return written;
    }
    const auto after = look(registers);
    if (!after) {
        return fail(after.error());
    }
    const std::uint64_t found = guest_when(*after, anchor.host_tsc);
    const std::uint64_t distance = found > wanted ? found - wanted : wanted - found;
    // Ten milliseconds, for small corrections of the real-time clock, and 500 ppm, its slew.
    if (distance <= 10 * khz + passed_ticks / 2000) {
        return {};
    }
    return fail(
        ErrorCode::incompatible,
        fmt::format(
            "this host's MSHV does not set a guest's TSC: it stays {} ticks from what it should be",
            distance));
}

} // namespace wherry::vmm::mshv
