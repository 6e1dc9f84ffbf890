// SPDX-License-Identifier: Apache-2.0
#include "vmm/mshv/synthetic_state.hpp"

#include "vmm/mshv/abi/ioctls.hpp"
#include "vmm/mshv/abi/register_names.hpp"
#include "vmm/mshv/abi/synthetic_features.hpp"
#include "vmm/mshv/abi/vp_state.hpp"
#include "vmm/mshv/vp_pages.hpp"

#include <algorithm>
#include <array>
#include <vector>

#include <fmt/format.h>

namespace wherry::vmm::mshv {

namespace names = abi::registers;
namespace offered = abi::synthetic_features;
using formats::ErrorCode;
using formats::fail;
using formats::Result;
using formats::Status;

namespace {

struct SyntheticRegister {
    std::uint32_t name;
    std::uint64_t feature;
    std::uint64_t HyperVState::* value;
    const char* text;
};

/// Registers of the partition, in the order in which they are to be written: the hypercall page
/// cannot be enabled while the guest has no identity.
constexpr auto partition_registers = std::to_array<SyntheticRegister>({
    {names::guest_os_id, offered::hypercall, &HyperVState::guest_os_id, "the guest's identity"},
    {names::hypercall, offered::hypercall, &HyperVState::hypercall, "the hypercall page"},
    {names::reference_tsc,
     offered::reference_tsc,
     &HyperVState::reference_tsc,
     "the reference TSC page"},
});
constexpr SyntheticRegister assist_register{
    names::vp_assist_page,
    offered::interrupt_control,
    &HyperVState::vp_assist_page,
    "the VP assist page"};
/// SCONTROL last: it switches the controller on.
constexpr auto synic_registers = std::to_array<SyntheticRegister>({
    {names::simp, offered::synic, &HyperVState::simp, "SIMP"},
    {names::siefp, offered::synic, &HyperVState::siefp, "SIEFP"},
    {names::scontrol, offered::synic, &HyperVState::scontrol, "SCONTROL"},
});

constexpr std::uint64_t enabled = 1;

Status read_one(
    const VpRegisters& registers,
    std::uint64_t features,
    const SyntheticRegister& one,
    HyperVState& state) {
    if ((features & one.feature) == 0) {
        return {};
    }
    const auto value = registers.read(one.name);
    if (!value) {
        return fail(value.error());
    }
    state.*one.value = value->low;
    return {};
}

Status write_one(
    const VpRegisters& registers,
    std::uint64_t features,
    const SyntheticRegister& one,
    const HyperVState& state) {
    if ((features & one.feature) == 0) {
        return state.*one.value == 0
                   ? Status{}
                   : fail(
                         ErrorCode::incompatible,
                         fmt::format("{}: not offered to this partition", one.text));
    }
    const NamedValue value{one.name, {.low = state.*one.value, .high = 0}};
    return registers.write(std::span{&value, 1});
}

Status read_page(
    const Descriptor& vp, std::uint8_t type, std::uint64_t control, std::vector<std::byte>& page) {
    if ((control & enabled) == 0) {
        return {};
    }
    auto read = read_vp_state(vp, type, abi::page_size);
    if (!read) {
        return fail(std::move(read.error()));
    }
    page = std::move(*read);
    return {};
}

Status read_synic(const Descriptor& vp, const VpRegisters& registers, HyperVState& state) {
    std::array<std::uint32_t, 16> sint_names{};
    for (std::uint32_t i = 0; i < sint_names.size(); ++i) {
        sint_names[i] = names::sint0 + i;
    }
    const auto sints = registers.read(sint_names);
    if (!sints) {
        return fail(sints.error());
    }
    std::ranges::transform(*sints, state.sint.begin(), &abi::RegisterValue::low);
    for (const auto& one : synic_registers) {
        if (auto read = read_one(registers, offered::synic, one, state); !read) {
            return read;
        }
    }
    if (auto read = read_page(vp, abi::vp_state::simp, state.simp, state.message_page); !read) {
        return read;
    }
    return read_page(vp, abi::vp_state::siefp, state.siefp, state.event_page);
}

} // namespace

Status read_synthetic(
    const Descriptor& vp,
    const VpRegisters& registers,
    std::uint64_t features,
    std::uint32_t index,
    HyperVState& state) {
    if (index == 0) {
        for (const auto& one : partition_registers) {
            if (auto read = read_one(registers, features, one, state); !read) {
                return read;
            }
        }
    }
    if (auto read = read_one(registers, features, assist_register, state); !read) {
        return read;
    }
    if ((features & offered::synic) != 0) {
        if (auto read = read_synic(vp, registers, state); !read) {
            return read;
        }
    }
    if ((features & offered::synthetic_timers) != 0) {
        auto timers = read_vp_state(
            vp, abi::vp_state::synthetic_timers, sizeof(abi::vp_state::SyntheticTimers));
        if (!timers) {
            return fail(std::move(timers.error()));
        }
        state.timers = std::move(*timers);
    }
    return {};
}

Status write_partition_registers(
    const VpRegisters& registers, std::uint64_t features, const HyperVState& state) {
    for (const auto& one : partition_registers) {
        if (auto written = write_one(registers, features, one, state); !written) {
            return written;
        }
    }
    return {};
}

Status write_synic(
    const Descriptor& vp,
    const VpRegisters& registers,
    std::uint64_t features,
    const HyperVState& state) {
    if (auto written = write_one(registers, features, assist_register, state); !written) {
        return written;
    }
    if ((features & offered::synic) != 0) {
        std::vector<NamedValue> sints;
        for (std::uint32_t i = 0; i < state.sint.size(); ++i) {
            // Zero is no value of a SINT: the state of a guest without a controller.
            if (state.sint[i] != 0) {
                sints.push_back({names::sint0 + i, {.low = state.sint[i], .high = 0}});
            }
        }
        if (auto written = registers.write(sints); !written) {
            return written;
        }
    }
    for (const auto& one : synic_registers) {
        if (auto written = write_one(registers, features, one, state); !written) {
            return written;
        }
    }
    // Contents after the registers: enabling lays a fresh page over guest memory.
    if (!state.message_page.empty()) {
        const auto written = write_vp_state(vp, abi::vp_state::simp, state.message_page);
        if (!written) {
            return written;
        }
    }
    return state.event_page.empty() ? Status{}
                                    : write_vp_state(vp, abi::vp_state::siefp, state.event_page);
}

Status write_timers(const Descriptor& vp, std::uint64_t features, const HyperVState& state) {
    if ((features & offered::synthetic_timers) != 0 && !state.timers.empty()) {
        return write_vp_state(vp, abi::vp_state::synthetic_timers, state.timers);
    }
    const bool is_used =
        std::ranges::any_of(state.timers, [](std::byte byte) { return byte != std::byte{0}; });
    return is_used
               ? fail(ErrorCode::incompatible, "synthetic timers: not offered to this partition")
               : Status{};
}

} // namespace wherry::vmm::mshv
