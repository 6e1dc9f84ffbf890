// SPDX-License-Identifier: Apache-2.0
#include "vmm/mshv/registers.hpp"

#include "vmm/general_registers.hpp"
#include "vmm/mshv/abi/register_names.hpp"

#include <cstddef>

namespace wherry::vmm::mshv {

namespace names = abi::registers;

namespace {

constexpr std::uint32_t unusable = 1U << 16U;
constexpr std::uint32_t present = 1U << 7U;
constexpr std::uint32_t attribute_bits = 0xf0ff;

struct NamedSegment {
    std::uint32_t name;
    Segment SystemRegisters::* value;
};
constexpr std::array<NamedSegment, 8> segments{{
    {names::es, &SystemRegisters::es},
    {names::cs, &SystemRegisters::cs},
    {names::ss, &SystemRegisters::ss},
    {names::ds, &SystemRegisters::ds},
    {names::fs, &SystemRegisters::fs},
    {names::gs, &SystemRegisters::gs},
    {names::ldtr, &SystemRegisters::ldt},
    {names::tr, &SystemRegisters::tr},
}};

struct NamedControl {
    std::uint32_t read_name;
    std::uint32_t write_name;
    std::uint64_t SystemRegisters::* value;
};
constexpr std::array<NamedControl, 7> controls{{
    {names::efer, names::efer, &SystemRegisters::efer},
    {names::apic_base, names::apic_base, &SystemRegisters::apic_base},
    {names::cr0, names::intermediate_cr0, &SystemRegisters::cr0},
    {names::cr4, names::intermediate_cr4, &SystemRegisters::cr4},
    {names::cr3, names::intermediate_cr3, &SystemRegisters::cr3},
    {names::cr2, names::cr2, &SystemRegisters::cr2},
    {names::cr8, names::cr8, &SystemRegisters::cr8},
}};
constexpr std::size_t controls_before_segments = 2;

constexpr std::size_t first_segment = 18; // after 16 general registers, RIP, RFLAGS
constexpr std::size_t first_table = first_segment + segments.size();
constexpr std::size_t first_control = first_table + 2;
constexpr std::size_t first_debug = first_control + controls.size();
constexpr std::size_t xcr0_at = first_debug + 6;
constexpr std::size_t plain_count = xcr0_at + 1;

constexpr std::array<std::uint32_t, plain_count> make_plain_names() {
    std::array<std::uint32_t, plain_count> all{};
    for (std::uint32_t i = 0; i < first_segment; ++i) {
        all[i] = names::rax + i;
    }
    for (std::size_t i = 0; i < segments.size(); ++i) {
        all[first_segment + i] = segments[i].name;
    }
    all[first_table] = names::gdtr;
    all[first_table + 1] = names::idtr;
    for (std::size_t i = 0; i < controls.size(); ++i) {
        all[first_control + i] = controls[i].read_name;
    }
    for (std::uint32_t i = 0; i < 6; ++i) {
        all[first_debug + i] = names::dr0 + i;
    }
    all[xcr0_at] = names::xfem;
    return all;
}
constexpr auto all_plain_names = make_plain_names();

abi::RegisterValue plain(std::uint64_t value) {
    return {.low = value, .high = 0};
}

abi::RegisterValue native(const DescriptorTable& from) {
    return abi::value_of(abi::TableValue{.padding = {}, .limit = from.limit, .base = from.base});
}

DescriptorTable canonical_table(const abi::RegisterValue& from) {
    const auto table = abi::read_as<abi::TableValue>(from);
    return {.base = table.base, .limit = table.limit};
}

} // namespace

Segment canonical(const abi::SegmentValue& from) noexcept {
    const std::uint32_t attributes = from.attributes & attribute_bits;
    return {
        .base = from.base,
        .limit = from.limit,
        .selector = from.selector,
        .attributes = attributes | ((attributes & present) == 0 ? unusable : 0U)};
}

abi::SegmentValue native(const Segment& from) noexcept {
    const bool is_unusable = (from.attributes & unusable) != 0;
    const std::uint32_t attributes = from.attributes & attribute_bits;
    return {
        .base = from.base,
        .limit = from.limit,
        .selector = from.selector,
        .attributes = static_cast<std::uint16_t>(is_unusable ? attributes & ~present : attributes)};
}

std::array<std::uint64_t, 16> general_of(const Registers& registers) noexcept {
    std::array<std::uint64_t, 16> values{};
    for (std::size_t i = 0; i < values.size(); ++i) {
        values[i] = registers.*general_order[i];
    }
    return values;
}

void set_general(Registers& registers, const std::array<std::uint64_t, 16>& values) noexcept {
    for (std::size_t i = 0; i < values.size(); ++i) {
        registers.*general_order[i] = values[i];
    }
}

std::span<const std::uint32_t> plain_names() noexcept {
    return all_plain_names;
}

void canonical_plain(std::span<const abi::RegisterValue> values, VcpuState& state) {
    for (std::size_t i = 0; i < general_order.size(); ++i) {
        state.registers.*general_order[i] = values[i].low;
    }
    state.registers.rip = values[16].low;
    state.registers.rflags = values[17].low;
    for (std::size_t i = 0; i < segments.size(); ++i) {
        state.system.*segments[i].value =
            canonical(abi::read_as<abi::SegmentValue>(values[first_segment + i]));
    }
    state.system.gdt = canonical_table(values[first_table]);
    state.system.idt = canonical_table(values[first_table + 1]);
    for (std::size_t i = 0; i < controls.size(); ++i) {
        state.system.*controls[i].value = values[first_control + i].low;
    }
    for (std::size_t i = 0; i < state.debug.db.size(); ++i) {
        state.debug.db[i] = values[first_debug + i].low;
    }
    state.debug.dr6 = values[first_debug + 4].low;
    state.debug.dr7 = values[first_debug + 5].low;
    state.extended_controls = {{.index = 0, .value = values[xcr0_at].low}};
}

std::vector<NamedValue> native_plain(const VcpuState& state) {
    std::vector<NamedValue> values;
    values.reserve(plain_count);
    const auto add_control = [&](const NamedControl& control) {
        values.push_back({control.write_name, plain(state.system.*control.value)});
    };
    for (const auto& control : std::span{controls}.first(controls_before_segments)) {
        add_control(control);
    }
    for (const auto& segment : segments) {
        values.push_back({segment.name, abi::value_of(native(state.system.*segment.value))});
    }
    values.push_back({names::gdtr, native(state.system.gdt)});
    values.push_back({names::idtr, native(state.system.idt)});
    for (const auto& control : std::span{controls}.subspan(controls_before_segments)) {
        add_control(control);
    }
    for (std::uint32_t i = 0; i < general_order.size(); ++i) {
        values.push_back({names::rax + i, plain(state.registers.*general_order[i])});
    }
    values.push_back({names::rip, plain(state.registers.rip)});
    values.push_back({names::rflags, plain(state.registers.rflags)});
    for (const auto& control : state.extended_controls) {
        if (control.index == 0) {
            values.push_back({names::xfem, plain(control.value)});
        }
    }
    return values;
}

std::vector<NamedValue> native_debug(const DebugRegisters& debug) {
    std::vector<NamedValue> values;
    for (std::uint32_t i = 0; i < debug.db.size(); ++i) {
        values.push_back({names::dr0 + i, plain(debug.db[i])});
    }
    values.push_back({names::dr6, plain(debug.dr6)});
    values.push_back({names::dr7, plain(debug.dr7)});
    return values;
}

} // namespace wherry::vmm::mshv
