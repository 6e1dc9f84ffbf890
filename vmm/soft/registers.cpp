// SPDX-License-Identifier: Apache-2.0
#include "vmm/soft/registers.hpp"

#include "vmm/soft/mode_setup.hpp"

#include <algorithm>
#include <array>
#include <cstdint>
#include <string>
#include <string_view>

#include <fmt/format.h>

namespace wherry::vmm::soft {

using formats::ErrorCode;
using formats::Result;
using formats::Status;

namespace {

struct NamedRegister {
    int id;
    std::uint64_t Registers::* place;
};
constexpr std::array<NamedRegister, 18> general_registers{{
    {UC_X86_REG_RAX, &Registers::rax},
    {UC_X86_REG_RBX, &Registers::rbx},
    {UC_X86_REG_RCX, &Registers::rcx},
    {UC_X86_REG_RDX, &Registers::rdx},
    {UC_X86_REG_RSI, &Registers::rsi},
    {UC_X86_REG_RDI, &Registers::rdi},
    {UC_X86_REG_RSP, &Registers::rsp},
    {UC_X86_REG_RBP, &Registers::rbp},
    {UC_X86_REG_R8, &Registers::r8},
    {UC_X86_REG_R9, &Registers::r9},
    {UC_X86_REG_R10, &Registers::r10},
    {UC_X86_REG_R11, &Registers::r11},
    {UC_X86_REG_R12, &Registers::r12},
    {UC_X86_REG_R13, &Registers::r13},
    {UC_X86_REG_R14, &Registers::r14},
    {UC_X86_REG_R15, &Registers::r15},
    {UC_X86_REG_RIP, &Registers::rip},
    {UC_X86_REG_RFLAGS, &Registers::rflags},
}};

constexpr std::uint32_t msr_pat = 0x277;
constexpr std::uint32_t msr_efer = 0xc0000080;
constexpr std::uint64_t pat_at_reset = 0x0007'0406'0007'0406;
/// The MSRs an engine keeps: SYSENTER, MISC_ENABLE, MTRRs, PAT, SYSCALL, KERNEL_GS_BASE, TSC_AUX.
constexpr std::array<std::uint32_t, 38> kept_msrs{
    0x174, 0x175,   0x176, 0x1a0,      0x200,      0x201,      0x202,      0x203,     0x204, 0x205,
    0x206, 0x207,   0x208, 0x209,      0x20a,      0x20b,      0x20c,      0x20d,     0x20e, 0x20f,
    0x250, 0x258,   0x259, 0x268,      0x269,      0x26a,      0x26b,      0x26c,     0x26d, 0x26e,
    0x26f, msr_pat, 0x2ff, 0xc0000081, 0xc0000082, 0xc0000083, 0xc0000084, 0xc0000102};
constexpr std::uint32_t msr_tsc_aux = 0xc0000103;
// These two are the bases of FS and GS, which the segments carry.
constexpr std::array<std::uint32_t, 2> segment_msrs{0xc0000100, 0xc0000101};

std::unexpected<formats::Error> no_place(std::string_view what) {
    return formats::fail(
        ErrorCode::incompatible,
        fmt::format("the soft backend has no place for {} of this vCPU", what));
}

Segment from_mmr(const uc_x86_mmr& mmr) {
    return {
        .base = mmr.base,
        .limit = mmr.limit,
        .selector = mmr.selector,
        .attributes = attributes_from_flags(mmr.flags)};
}

uc_x86_mmr to_mmr(const Segment& segment) {
    return {
        .selector = segment.selector,
        .base = segment.base,
        .limit = segment.limit,
        .flags = flags_from_attributes(segment.attributes)};
}

DescriptorTable from_table(const uc_x86_mmr& mmr) {
    return {.base = mmr.base, .limit = static_cast<std::uint16_t>(mmr.limit)};
}

uc_x86_mmr to_table(const DescriptorTable& table) {
    return {.selector = 0, .base = table.base, .limit = table.limit, .flags = 0};
}

Status check_events(const VcpuState& state) {
    const auto& events = state.events;
    if (events.exception.injected || events.exception.pending) {
        return no_place("a pending exception");
    }
    if (events.interrupt.injected) {
        return no_place("an injected interrupt");
    }
    if (events.nmi.injected || events.nmi.pending || events.nmi.masked) {
        return no_place("an NMI in hand");
    }
    if (events.smm || events.triple_fault) {
        return no_place(events.smm ? "system management mode" : "a triple fault");
    }
    if (state.run_state != RunState::runnable && state.run_state != RunState::halted) {
        return no_place("a wait for INIT or SIPI");
    }
    return {};
}

Status check_msrs(const VcpuState& state) {
    for (const Msr& msr : state.msrs) {
        const bool is_elsewhere =
            std::ranges::count(segment_msrs, msr.index) != 0 || msr.index == msr_efer;
        if (!is_kept_msr(msr.index) && !is_elsewhere && msr.value != 0) {
            return no_place(fmt::format("MSR {:#x} = {:#x}", msr.index, msr.value));
        }
    }
    return {};
}

} // namespace

VcpuState reset_state() {
    VcpuState state;
    const auto data =
        Segment{.base = 0, .limit = 0xffffffff, .selector = 0x18, .attributes = 0xc093};
    auto& system = state.system;
    system.cs = {.base = 0, .limit = 0xffffffff, .selector = 0x10, .attributes = 0xc09b};
    system.ds = system.es = system.fs = system.gs = system.ss = data;
    system.tr = {.base = 0, .limit = 0xffff, .selector = 0, .attributes = 0x8b};
    system.ldt = {.base = 0, .limit = 0xffff, .selector = 0, .attributes = 0x82};
    system.cr0 = 0x11; // PE, ET
    state.extended_controls = {{.index = 0, .value = 1}};
    state.msrs = {{.index = msr_pat, .value = pat_at_reset}};
    return state;
}

Status check_restorable(const VcpuState& state) {
    if (state.index != 0) {
        return no_place("an index other than 0");
    }
    if (state.lapic) {
        return no_place("the local APIC");
    }
    if (state.system.cr8 != 0) {
        return no_place("a task priority (CR8)");
    }
    if ((state.debug.dr7 & 0xffU) != 0) {
        return no_place("an active hardware breakpoint (DR7)");
    }
    for (const ExtendedControl& control : state.extended_controls) {
        if (control.index != 0 || (control.value & ~std::uint64_t{3}) != 0) {
            return no_place(fmt::format("XCR{} = {:#x}", control.index, control.value));
        }
    }
    return in_turn(
        [&] { return check_events(state); },
        [&] { return check_msrs(state); },
        [&] { return check_xsave(state.xsave); });
}

bool is_kept_msr(std::uint32_t index) {
    return index == msr_tsc_aux || std::ranges::count(kept_msrs, index) != 0;
}

void write_general(const Engine& engine, const Registers& registers) {
    for (const auto& [id, place] : general_registers) {
        engine.write(id, registers.*place);
    }
}

void write_debug(const Engine& engine, const DebugRegisters& debug) {
    for (std::size_t i = 0; i < debug.db.size(); ++i) {
        engine.write(UC_X86_REG_DR0 + static_cast<int>(i), debug.db[i]);
    }
    engine.write(UC_X86_REG_DR6, debug.dr6);
    engine.write(UC_X86_REG_DR7, debug.dr7);
}

void write_registers(const Engine& engine, const VcpuState& state) {
    write_general(engine, state.registers);
    const auto& system = state.system;
    engine.write(UC_X86_REG_CR0, system.cr0);
    engine.write(UC_X86_REG_CR2, system.cr2);
    engine.write(UC_X86_REG_CR3, system.cr3);
    engine.write(UC_X86_REG_CR4, system.cr4);
    engine.write(UC_X86_REG_GDTR, to_table(system.gdt));
    engine.write(UC_X86_REG_IDTR, to_table(system.idt));
    engine.write(UC_X86_REG_TR, to_mmr(system.tr));
    engine.write(UC_X86_REG_LDTR, to_mmr(system.ldt));
    write_debug(engine, state.debug);
    for (const Msr& msr : state.msrs) {
        if (is_kept_msr(msr.index)) {
            engine.write_msr(msr.index, msr.value);
        }
    }
    write_xsave(engine, state.xsave);
}

Registers read_general(const Engine& engine) {
    Registers registers;
    for (const auto& [id, place] : general_registers) {
        registers.*place = engine.read<std::uint64_t>(id);
    }
    return registers;
}

DebugRegisters read_debug(const Engine& engine) {
    DebugRegisters debug;
    for (std::size_t i = 0; i < debug.db.size(); ++i) {
        debug.db[i] = engine.read<std::uint64_t>(UC_X86_REG_DR0 + static_cast<int>(i));
    }
    debug.dr6 = engine.read<std::uint64_t>(UC_X86_REG_DR6);
    debug.dr7 = engine.read<std::uint64_t>(UC_X86_REG_DR7);
    return debug;
}

Result<SystemRegisters> read_system(const Engine& engine, const HiddenState& hidden) {
    auto image = engine.image();
    if (!image) {
        return std::unexpected{std::move(image).error()};
    }
    SystemRegisters system;
    system.es = hidden.segment(*image, SegmentName::es);
    system.cs = hidden.segment(*image, SegmentName::cs);
    system.ss = hidden.segment(*image, SegmentName::ss);
    system.ds = hidden.segment(*image, SegmentName::ds);
    system.fs = hidden.segment(*image, SegmentName::fs);
    system.gs = hidden.segment(*image, SegmentName::gs);
    system.tr = from_mmr(engine.read<uc_x86_mmr>(UC_X86_REG_TR));
    system.ldt = from_mmr(engine.read<uc_x86_mmr>(UC_X86_REG_LDTR));
    system.gdt = from_table(engine.read<uc_x86_mmr>(UC_X86_REG_GDTR));
    system.idt = from_table(engine.read<uc_x86_mmr>(UC_X86_REG_IDTR));
    system.cr0 = engine.read<std::uint64_t>(UC_X86_REG_CR0);
    system.cr2 = engine.read<std::uint64_t>(UC_X86_REG_CR2);
    system.cr3 = engine.read<std::uint64_t>(UC_X86_REG_CR3);
    system.cr4 = engine.read<std::uint64_t>(UC_X86_REG_CR4);
    system.efer = engine.read_msr(msr_efer);
    return system;
}

Result<VcpuState> read_state(const Engine& engine, const HiddenState& hidden) {
    auto system = read_system(engine, hidden);
    if (!system) {
        return std::unexpected{std::move(system).error()};
    }
    VcpuState state;
    state.registers = read_general(engine);
    state.system = *system;
    state.debug = read_debug(engine);
    state.extended_controls = {{.index = 0, .value = 1}};
    for (const std::uint32_t index : kept_msrs) {
        state.msrs.push_back({.index = index, .value = engine.read_msr(index)});
    }
    state.msrs.push_back({.index = msr_tsc_aux, .value = engine.read_msr(msr_tsc_aux)});
    state.xsave = read_xsave(engine);
    return state;
}

} // namespace wherry::vmm::soft
