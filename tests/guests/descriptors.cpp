// SPDX-License-Identifier: Apache-2.0
// Runs in ring 0 at the start of each CPU: IDT, TSS, and the choice of the ring to work in.
#include "tests/guests/descriptors.hpp"

#include "tests/guests/boot_info.hpp"
#include "tests/guests/cpu.hpp"

#include <string_view>

extern "C" {
extern std::array<std::array<std::uint64_t, 2>, wherry::guest::max_cpus> task_descriptors;
extern const char exception_stubs[];
void timer_interrupt_xapic();
void timer_interrupt_x2apic();
void generation_interrupt_xapic();
void generation_interrupt_x2apic();
void spurious_interrupt();
void service_gate();
std::uint32_t work_ring;
}

namespace wherry::guest {

extern "C" {
Cpus cpu_blocks;
}
alignas(16) std::array<Gate, 256> interrupt_table;

namespace {

constexpr std::uint16_t kernel_code = 0x10;
constexpr std::uint16_t first_task_selector = 0x40;
constexpr std::size_t io_bitmap_offset = 104;

struct [[gnu::packed]] TablePointer {
    std::uint16_t limit;
    std::uint64_t base;
};

template <typename T>
std::uint64_t address_of(T* object) noexcept {
    return reinterpret_cast<std::uint64_t>(object);
}

template <typename T>
void store(Cpu& cpu, std::size_t offset, T value) noexcept {
    __builtin_memcpy(&cpu.task_state[offset], &value, sizeof value);
}

// Intel SDM volume 3, 7.7: 64-bit TSS; rsp0 at 4, I/O map base at 102.
void fill_task_state(Cpu& cpu) noexcept {
    store(cpu, 4, address_of(&cpu.work_stack)); // the ring-0 stack grows down from there
    store(cpu, 102, static_cast<std::uint16_t>(io_bitmap_offset));
    cpu.task_state[io_bitmap_offset + 256] = std::byte{0xff};
    const auto base = address_of(&cpu.task_state);
    const std::uint64_t limit = io_bitmap_offset + 256;
    task_descriptors[cpu.number][0] = limit | ((base & 0xffffff) << 16) |
                                      (std::uint64_t{0x89} << 40) | (((base >> 24) & 0xff) << 56);
    task_descriptors[cpu.number][1] = base >> 32;
}

void fill_interrupt_table() noexcept {
    for (unsigned vector = 0; vector < 32; ++vector) {
        set_gate(vector, address_of(exception_stubs) + 16 * vector, GateUse::hardware);
    }
    set_gate(service_vector, address_of(&service_gate), GateUse::software);
    set_gate(spurious_vector, address_of(&spurious_interrupt), GateUse::hardware);
    set_interrupt_handlers(ApicAccess::xapic);
}

std::uint32_t choose_ring() noexcept {
    const auto line = boot_info.command();
    if (line.find("ring=0") != std::string_view::npos) {
        return 0;
    }
    if (line.find("ring=3") != std::string_view::npos) {
        return 3;
    }
    return boot_info.facts.is_soft ? 0 : 3;
}

} // namespace

void set_gate(unsigned vector, std::uint64_t handler, GateUse use) noexcept {
    auto& gate = interrupt_table[vector];
    gate.low = (handler & 0xffff) | (std::uint64_t{kernel_code} << 16) |
               (std::uint64_t{use == GateUse::software ? 0xeeU : 0x8eU} << 40) |
               ((handler & 0xffff0000) << 32);
    gate.high = handler >> 32;
}

void set_interrupt_handlers(ApicAccess access) noexcept {
    const bool is_x2apic = access == ApicAccess::x2apic;
    set_gate(
        timer_vector,
        address_of(is_x2apic ? &timer_interrupt_x2apic : &timer_interrupt_xapic),
        GateUse::hardware);
    set_gate(
        generation_vector,
        address_of(is_x2apic ? &generation_interrupt_x2apic : &generation_interrupt_xapic),
        GateUse::hardware);
}

/// Called by boot.S on the CPU's ring-0 stack; returns the ring to work in.
extern "C" std::uint32_t prepare_ring0(Cpu* cpu) noexcept {
    if (cpu->number == 0) {
        fill_interrupt_table();
        read_loader_structures();
        work_ring = choose_ring();
    }
    const TablePointer table{sizeof interrupt_table - 1, address_of(&interrupt_table)};
    asm volatile("lidt %0" : : "m"(table));
    if (work_ring == 3) {
        fill_task_state(*cpu);
        const auto selector = static_cast<std::uint16_t>(first_task_selector + 16 * cpu->number);
        asm volatile("ltr %0" : : "r"(selector));
    }
    return work_ring;
}

} // namespace wherry::guest
