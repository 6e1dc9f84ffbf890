// SPDX-License-Identifier: Apache-2.0
#include "vmm/state_comparison.hpp"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>

#include <fmt/format.h>

namespace wherry::vmm {
namespace {

/// Time-stamp counters, Hyper-V run time and reference counters, deadline and performance clocks
/// move; microcode revision, platform information and capability registers describe the host.
constexpr std::array<std::uint32_t, 10> incomparable_msrs{
    0x10, 0x8b, 0xce, 0xe7, 0xe8, 0x10a, 0x345, 0x6e0, 0x40000010, 0x40000020};

/// KVM on AMD reads IA32_SYSENTER_ESP and _EIP with 64 bits but writes 32: the rest has no use
/// there, as SYSENTER exists in 32-bit modes only.
std::uint64_t meaningful_bits(std::uint32_t index) {
    return index == 0x175 || index == 0x176 ? 0xffffffff : ~std::uint64_t{0};
}

/// Of the XSAVE area no state: MXCSR_MASK, the processor's own; what is behind the last XMM
/// register, reserved and software's (Linux leaves a mark there); and XSTATE_BV, which tells apart
/// components that have their initial values and those that have not been touched: the values are
/// written out.
bool is_incomparable_in_xsave(std::size_t offset) {
    return (offset >= 28 && offset < 32) || (offset >= 416 && offset < 520);
}

/// Requests raised by timers between the write and the read, the priority that follows from
/// them, and the running count (SDM vol. 3, table 11-1). Nor is the version state: it describes the
/// hypervisor's APIC, and a register that this has not shows by itself.
bool is_incomparable_lapic_register(std::size_t offset) {
    return (offset >= 0x30 && offset < 0x40) || (offset >= 0x200 && offset < 0x280) ||
           (offset >= 0xa0 && offset < 0xb0) || (offset >= 0x390 && offset < 0x3a0);
}

void compare_msrs(
    const VcpuState& wanted, const VcpuState& found, std::vector<std::string>& differing) {
    for (const auto& msr : wanted.msrs) {
        const auto present = std::ranges::find(found.msrs, msr.index, &Msr::index);
        if (std::ranges::find(incomparable_msrs, msr.index) != incomparable_msrs.end() ||
            present == found.msrs.end() ||
            ((present->value ^ msr.value) & meaningful_bits(msr.index)) == 0) {
            continue;
        }
        differing.push_back(
            fmt::format("MSR {:#x} is {:#x}, not {:#x}", msr.index, present->value, msr.value));
    }
}

void compare_xsave(
    std::span<const std::byte> wanted,
    std::span<const std::byte> found,
    std::vector<std::string>& differing) {
    const auto at = [](std::span<const std::byte> area, std::size_t offset) {
        return offset < area.size() ? area[offset] : std::byte{0};
    };
    for (std::size_t offset = 0; offset < std::max(wanted.size(), found.size()); ++offset) {
        if (!is_incomparable_in_xsave(offset) && at(wanted, offset) != at(found, offset)) {
            differing.push_back(fmt::format("the XSAVE area at offset {}", offset));
            return;
        }
    }
}

constexpr std::size_t lapic_stride = 16;
std::uint32_t lapic_register(const std::array<std::byte, 1024>& page, std::size_t offset) {
    std::uint32_t value = 0;
    std::memcpy(&value, &page[offset], sizeof(value));
    return value;
}

void compare_lapic(
    const VcpuState& wanted, const VcpuState& found, std::vector<std::string>& differing) {
    if (!wanted.lapic || !found.lapic) {
        if (wanted.lapic.has_value() != found.lapic.has_value()) {
            differing.emplace_back("the presence of a local APIC");
        }
        return;
    }
    for (std::size_t offset = 0; offset < wanted.lapic->size(); offset += lapic_stride) {
        const auto one = lapic_register(*wanted.lapic, offset);
        const auto other = lapic_register(*found.lapic, offset);
        if (!is_incomparable_lapic_register(offset) && one != other) {
            differing.push_back(
                fmt::format("local APIC register {:#x} ({:#x} to {:#x})", offset, one, other));
            return;
        }
    }
}

struct NamedSegment {
    std::string_view name;
    Segment SystemRegisters::* value;
};
constexpr auto segments = std::to_array<NamedSegment>({
    {"CS", &SystemRegisters::cs},
    {"DS", &SystemRegisters::ds},
    {"ES", &SystemRegisters::es},
    {"FS", &SystemRegisters::fs},
    {"GS", &SystemRegisters::gs},
    {"SS", &SystemRegisters::ss},
    {"TR", &SystemRegisters::tr},
    {"LDTR", &SystemRegisters::ldt},
});
struct NamedControl {
    std::string_view name;
    std::uint64_t SystemRegisters::* value;
};
constexpr auto controls = std::to_array<NamedControl>({
    {"CR0", &SystemRegisters::cr0},
    {"CR2", &SystemRegisters::cr2},
    {"CR3", &SystemRegisters::cr3},
    {"CR4", &SystemRegisters::cr4},
    {"CR8", &SystemRegisters::cr8},
    {"EFER", &SystemRegisters::efer},
    {"the APIC base", &SystemRegisters::apic_base},
});

void compare_system(
    const SystemRegisters& wanted,
    const SystemRegisters& found,
    std::vector<std::string>& differing) {
    for (const auto& [name, value] : segments) {
        const auto& one = wanted.*value;
        const auto& other = found.*value;
        if (one != other) {
            differing.push_back(fmt::format(
                "{} (selector {:#x}, attributes {:#x} to {:#x})",
                name,
                one.selector,
                one.attributes,
                other.attributes));
        }
    }
    if (wanted.gdt != found.gdt || wanted.idt != found.idt) {
        differing.emplace_back("the descriptor tables");
    }
    for (const auto& [name, value] : controls) {
        if (wanted.*value != found.*value) {
            differing.push_back(
                fmt::format("{} ({:#x} to {:#x})", name, wanted.*value, found.*value));
        }
    }
}

/// Hypervisors differ in whether a vCPU before its first INIT is another one than a vCPU after it
/// (both wait for SIPI), and in whether they keep apart the shadows of STI and MOV SS.
RunState comparable(RunState state) {
    return state == RunState::uninitialized ? RunState::init_received : state;
}
PendingEvents comparable(PendingEvents events) {
    events.interrupt.shadow = events.interrupt.shadow == 0 ? 0 : 1;
    return events;
}

/// Timers and what they raise move; the rest of the synthetic state does not by itself.
void compare_hyperv(
    const VcpuState& wanted, const VcpuState& found, std::vector<std::string>& differing) {
    if (!wanted.hyperv || !found.hyperv) {
        return; // what only one of them has was refused, or is what a guest starts with
    }
    const auto& one = *wanted.hyperv;
    const auto& other = *found.hyperv;
    if (one.sint != other.sint || one.scontrol != other.scontrol || one.simp != other.simp ||
        one.siefp != other.siefp) {
        differing.emplace_back("the synthetic interrupt controller");
    }
    if (one.event_page != other.event_page) {
        differing.emplace_back("the synthetic event flags");
    }
    if (one.vp_assist_page != other.vp_assist_page || one.guest_os_id != other.guest_os_id ||
        one.hypercall != other.hypercall || one.reference_tsc != other.reference_tsc) {
        differing.emplace_back("synthetic registers");
    }
}

} // namespace

std::vector<std::string> differences(const VcpuState& wanted, const VcpuState& found) {
    std::vector<std::string> differing;
    const auto check = [&differing](bool is_equal, const char* what) {
        if (!is_equal) {
            differing.emplace_back(what);
        }
    };
    check(wanted.registers == found.registers, "the general registers");
    compare_system(wanted.system, found.system, differing);
    check(wanted.debug == found.debug, "the debug registers");
    check(comparable(wanted.events) == comparable(found.events), "the pending events");
    check(comparable(wanted.run_state) == comparable(found.run_state), "the multiprocessor state");
    check(wanted.extended_controls == found.extended_controls, "the extended control registers");
    compare_xsave(wanted.xsave, found.xsave, differing);
    compare_msrs(wanted, found, differing);
    compare_lapic(wanted, found, differing);
    compare_hyperv(wanted, found, differing);
    return differing;
}

} // namespace wherry::vmm
