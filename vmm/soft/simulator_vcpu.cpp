// SPDX-License-Identifier: Apache-2.0
#include "vmm/soft/simulator_vcpu.hpp"

#include "vmm/guest_clock.hpp"
#include "vmm/mshvsim/page_walk.hpp"
#include "vmm/soft/mode_setup.hpp"
#include "vmm/soft/registers.hpp"

#include <utility>

namespace wherry::vmm::soft {

using formats::Result;

namespace {

constexpr std::uint32_t msr_tsc = 0x10;
constexpr std::uint32_t msr_apic_base = 0x1b;
constexpr std::uint64_t cr0_protection = 1U << 0U;
constexpr std::uint64_t x2apic_enabled = 1U << 10U;
constexpr std::size_t most_tables = 65536;

/// SDM vol. 3, table 9-1.
VcpuState power_on_state() {
    VcpuState state = reset_state();
    auto& system = state.system;
    const Segment data{.base = 0, .limit = 0xffff, .selector = 0, .attributes = 0x93};
    system.ds = system.es = system.fs = system.gs = system.ss = data;
    system.cs = {.base = 0xffff0000, .limit = 0xffff, .selector = 0xf000, .attributes = 0x9b};
    system.gdt.limit = system.idt.limit = 0xffff;
    system.cr0 = 0x60000010;
    state.registers.rip = 0xfff0;
    return state;
}

} // namespace

SimulatorVcpu::SimulatorVcpu(std::shared_ptr<SimulatorGuest> guest, mshvsim::MemoryFaults& memory)
    : guest_{std::move(guest)},
      memory_{memory} {}

Result<std::unique_ptr<SimulatorVcpu>>
SimulatorVcpu::create(std::shared_ptr<SimulatorGuest> guest, mshvsim::MemoryFaults& memory) {
    std::unique_ptr<SimulatorVcpu> vcpu{new SimulatorVcpu{std::move(guest), memory}};
    const Turn::Visit visit{vcpu->guest_->turn};
    if (auto hooked = vcpu->add_hooks(); !hooked) {
        return formats::fail(std::move(hooked.error()));
    }
    const auto state = power_on_state();
    if (!vcpu->load_system(state.system)) {
        return formats::fail(
            formats::ErrorCode::unsupported, "Unicorn does not go into the state of a reset");
    }
    write_registers(vcpu->unicorn(), state);
    vcpu->write_tsc(0);
    return vcpu;
}

SimulatorVcpu::~SimulatorVcpu() {
    const Turn::Visit visit{guest_->turn};
    if (guest_->vcpu == this) {
        guest_->vcpu = nullptr;
    }
}

Registers SimulatorVcpu::registers() {
    const Turn::Visit visit{guest_->turn};
    return read_general(unicorn());
}
bool SimulatorVcpu::set_registers(const Registers& to) {
    const Turn::Visit visit{guest_->turn};
    write_general(unicorn(), to);
    undeliverable_.reset();
    return true;
}

SystemRegisters SimulatorVcpu::system_now() {
    auto read = read_system(unicorn(), guest_->hidden);
    formats::invariant(read.has_value(), "Unicorn tells its registers");
    read->apic_base = apic_base_;
    read->cr8 = cr8_;
    return *read;
}

SystemRegisters SimulatorVcpu::system() {
    const Turn::Visit visit{guest_->turn};
    return system_now();
}

/// With the Turn. Everything else is as before; false: not a state that Unicorn can be in.
bool SimulatorVcpu::load_system(const SystemRegisters& to) {
    auto image = (to.cr0 & cr0_protection) != 0 ? image_in_mode(to) : image_in_real_mode(to);
    auto state = read_state(unicorn(), guest_->hidden);
    if (!image || !state) {
        return false;
    }
    const auto& hidden = guest_->hidden;
    hidden.set_segment(*image, SegmentName::es, to.es);
    hidden.set_segment(*image, SegmentName::cs, to.cs);
    hidden.set_segment(*image, SegmentName::ss, to.ss);
    hidden.set_segment(*image, SegmentName::ds, to.ds);
    hidden.set_segment(*image, SegmentName::fs, to.fs);
    hidden.set_segment(*image, SegmentName::gs, to.gs);
    hidden.set_tsc_offset(*image, tsc_offset_);
    if (!unicorn().put(*image)) {
        return false;
    }
    state->system = to;
    write_registers(unicorn(), *state);
    uc_ctl_flush_tlb(unicorn().get());
    apic_base_ = to.apic_base;
    cr8_ = to.cr8;
    return true;
}

/// With the Turn. To go into another mode takes engines of its own, which take long to make, and
/// what a guest is in already can stay, even if load_system() would not get there.
bool SimulatorVcpu::is_mode_of(const SystemRegisters& to) {
    SystemRegisters now = system_now();
    now.cr2 = to.cr2;
    now.cr3 = to.cr3;
    now.cr8 = to.cr8;
    now.apic_base = to.apic_base;
    return to == now;
}

bool SimulatorVcpu::set_system(const SystemRegisters& to) {
    const Turn::Visit visit{guest_->turn};
    if (!is_mode_of(to)) {
        return load_system(to);
    }
    unicorn().write(UC_X86_REG_CR2, to.cr2);
    unicorn().write(UC_X86_REG_CR3, to.cr3);
    cr8_ = to.cr8;
    apic_base_ = to.apic_base;
    return true;
}

bool SimulatorVcpu::may_hold(const SystemRegisters& part) {
    return has_possible_values(part);
}
bool SimulatorVcpu::can_be_in(const SystemRegisters& whole) {
    const Turn::Visit visit{guest_->turn};
    return is_mode_of(whole) || is_possible_mode(whole);
}

DebugRegisters SimulatorVcpu::debug() {
    const Turn::Visit visit{guest_->turn};
    return read_debug(unicorn());
}
bool SimulatorVcpu::may_hold(const DebugRegisters& to) {
    return (to.dr7 & 0xffU) == 0; // breakpoints could not be delivered
}
bool SimulatorVcpu::set_debug(const DebugRegisters& to) {
    const Turn::Visit visit{guest_->turn};
    if (!may_hold(to)) {
        return false;
    }
    write_debug(unicorn(), to);
    return true;
}

/// An interrupt shadow needs no place: there are no interrupts that it could hold back.
bool SimulatorVcpu::may_hold(const PendingEvents& to) {
    PendingEvents without_shadow = to;
    without_shadow.interrupt.shadow = 0;
    return without_shadow == PendingEvents{};
}

bool SimulatorVcpu::may_hold(RunState to) {
    return to == RunState::runnable || to == RunState::halted;
}
bool SimulatorVcpu::set_run_state(RunState to) {
    if (!may_hold(to)) {
        return false;
    }
    run_state_ = to;
    return true;
}

std::optional<std::uint64_t> SimulatorVcpu::msr(std::uint32_t index) {
    if (index == msr_tsc) {
        return read_host_tsc() + tsc_offset_;
    }
    if (index == msr_apic_base) {
        return apic_base_;
    }
    const Turn::Visit visit{guest_->turn};
    return is_kept_msr(index) ? std::optional{unicorn().read_msr(index)} : std::nullopt;
}

bool SimulatorVcpu::set_msr(std::uint32_t index, std::uint64_t value) {
    if (index == msr_apic_base) {
        return set_apic_base(value);
    }
    const Turn::Visit visit{guest_->turn};
    if (index == msr_tsc) {
        write_tsc(value);
        return true;
    }
    if (!is_kept_msr(index)) {
        return false;
    }
    unicorn().write_msr(index, value);
    return true;
}

/// With the Turn.
void SimulatorVcpu::write_tsc(std::uint64_t value) {
    tsc_offset_ = value - read_host_tsc();
    auto image = unicorn().image();
    formats::invariant(image.has_value(), "Unicorn tells its registers");
    guest_->hidden.set_tsc_offset(*image, tsc_offset_);
    formats::invariant(unicorn().put(*image).has_value(), "Unicorn takes back what it gave");
}

bool SimulatorVcpu::set_xcr0(std::uint64_t value) {
    constexpr std::uint64_t x87 = 1;
    constexpr std::uint64_t sse = 2;
    if ((value & x87) == 0 || (value & ~(x87 | sse)) != 0) {
        return false;
    }
    xcr0_ = value;
    return true;
}

std::vector<std::byte> SimulatorVcpu::xsave() {
    const Turn::Visit visit{guest_->turn};
    return read_xsave(unicorn());
}
bool SimulatorVcpu::set_xsave(std::span<const std::byte> area) {
    if (!check_xsave(area)) {
        return false;
    }
    const Turn::Visit visit{guest_->turn};
    write_xsave(unicorn(), area);
    return true;
}

bool SimulatorVcpu::set_lapic(const LapicPage& /*page*/) {
    return false;
}
/// Carried only, as SoftVcpu does: every PC's state says that there is one.
bool SimulatorVcpu::set_apic_base(std::uint64_t value) {
    if ((value & x2apic_enabled) != 0) {
        return false;
    }
    apic_base_ = value;
    return true;
}
bool SimulatorVcpu::inject_external(std::uint8_t /*vector*/) {
    return false;
}

bool SimulatorVcpu::set_cpuid(std::span<const CpuidEntry> entries) {
    const Turn::Visit visit{guest_->turn};
    cpuid_.assign(entries.begin(), entries.end());
    return true;
}

SystemRegisters SimulatorVcpu::paging_now() const {
    constexpr std::uint32_t msr_efer = 0xc0000080;
    SystemRegisters system;
    system.cr0 = unicorn().read<std::uint64_t>(UC_X86_REG_CR0);
    system.cr3 = unicorn().read<std::uint64_t>(UC_X86_REG_CR3);
    system.cr4 = unicorn().read<std::uint64_t>(UC_X86_REG_CR4);
    system.efer = unicorn().read_msr(msr_efer);
    return system;
}

void SimulatorVcpu::mark_tables() {
    auto& slots = guest_->slots;
    mshvsim::visit_page_tables(slots, paging_now(), most_tables, [&slots](std::uint64_t table) {
        slots.mark(table);
        return true;
    });
}

} // namespace wherry::vmm::soft
