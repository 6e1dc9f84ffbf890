// SPDX-License-Identifier: Apache-2.0
// Register numbers: Intel SDM volume 3, chapter 11 (APIC).
#include "tests/guests/lapic.hpp"

#include "tests/guests/boot_info.hpp"
#include "tests/guests/cpu.hpp"
#include "tests/guests/descriptors.hpp"

namespace wherry::guest {

void spin_for(std::uint64_t microseconds, std::uint32_t tsc_khz) noexcept {
    const auto end = read_tsc() + microseconds * tsc_khz / 1000;
    while (read_tsc() < end) {
        relax();
    }
}

namespace lapic {

namespace {

constexpr std::uint32_t apic_base_msr = 0x1b;
constexpr std::uint64_t apic_enabled = 1U << 11;
constexpr std::uint64_t x2apic_enabled = 1U << 10;

enum class Register : std::uint32_t {
    spurious = 0xf0,
    command = 0x300,
    command_high = 0x310,
    timer_vector = 0x320,
    timer_start = 0x380,
    timer_now = 0x390,
    timer_divide = 0x3e0,
};

constexpr std::uint32_t deadline_mode = 2U << 17;
constexpr std::uint32_t masked = 1U << 16;
constexpr std::uint32_t divide_by_one = 0xb;

bool use_x2apic;
bool use_deadline;
std::uint64_t ticks_per_millisecond; ///< of the TSC in deadline mode, else of the LAPIC timer

std::uint32_t msr_of(Register number) noexcept {
    return 0x800 + (static_cast<std::uint32_t>(number) >> 4);
}

volatile std::uint32_t& memory_of(Register number) noexcept {
    return *reinterpret_cast<volatile std::uint32_t*>(
        0xfee00000U + static_cast<std::uint64_t>(number));
}

void write(Register number, std::uint32_t value) noexcept {
    if (use_x2apic) {
        call_ring0(Service::write_msr, msr_of(number), value);
    } else {
        memory_of(number) = value;
    }
}

std::uint32_t read(Register number) noexcept {
    if (use_x2apic) {
        return static_cast<std::uint32_t>(call_ring0(Service::read_msr, msr_of(number)));
    }
    return memory_of(number);
}

void send_command(std::uint32_t apic_id, std::uint32_t command) noexcept {
    if (use_x2apic) {
        call_ring0(
            Service::write_msr, msr_of(Register::command), std::uint64_t{apic_id} << 32 | command);
    } else {
        write(Register::command_high, apic_id << 24);
        write(Register::command, command);
    }
}

void measure_timer(std::uint32_t tsc_khz) noexcept {
    constexpr std::uint64_t milliseconds = 5;
    write(Register::timer_divide, divide_by_one);
    write(Register::timer_vector, masked | timer_vector);
    write(Register::timer_start, 0xffffffff);
    const auto begin = read(Register::timer_now);
    spin_for(milliseconds * 1000, tsc_khz);
    const auto end = read(Register::timer_now);
    write(Register::timer_start, 0);
    ticks_per_millisecond = (begin - end) / milliseconds;
}

void switch_on() noexcept {
    auto base = call_ring0(Service::read_msr, apic_base_msr) | apic_enabled;
    base |= use_x2apic ? x2apic_enabled : 0;
    call_ring0(Service::write_msr, apic_base_msr, base);
}

} // namespace

void select(ApicMode mode, std::uint32_t tsc_khz) noexcept {
    const auto& facts = boot_info.facts;
    const bool already = (call_ring0(Service::read_msr, apic_base_msr) & x2apic_enabled) != 0;
    use_x2apic = already || (mode != ApicMode::xapic && facts.has_x2apic);
    use_deadline = facts.has_tsc_deadline;
    set_interrupt_handlers(use_x2apic ? ApicAccess::x2apic : ApicAccess::xapic);
    switch_on();
    if (use_deadline) {
        ticks_per_millisecond = tsc_khz;
    } else {
        measure_timer(tsc_khz);
    }
}

void enable_local() noexcept {
    switch_on();
    write(Register::spurious, 0x100 | spurious_vector);
    if (use_deadline) {
        write(Register::timer_vector, deadline_mode | timer_vector);
    } else {
        write(Register::timer_divide, divide_by_one);
        write(Register::timer_vector, timer_vector);
    }
    asm volatile("mfence" : : : "memory"); // the mode must be set before the first deadline is
}

bool timer_works() noexcept {
    if (ticks_per_millisecond == 0) {
        return false;
    }
    constexpr std::uint32_t deadline_msr = 0x6e0;
    const auto before = call_ring0(Service::await_timer, 0); // lets in what may be pending
    if (use_deadline) {
        call_ring0(
            Service::write_msr, deadline_msr, boot_info.facts.ring0_tsc + ticks_per_millisecond);
    } else {
        write(Register::timer_start, static_cast<std::uint32_t>(ticks_per_millisecond));
    }
    return call_ring0(Service::await_timer, 200 * ticks_per_millisecond) != before;
}

void wait(std::uint64_t microseconds) noexcept {
    const auto ticks = microseconds * ticks_per_millisecond / 1000;
    if (use_deadline) {
        call_ring0(Service::wait_deadline, ticks);
    } else {
        call_ring0(use_x2apic ? Service::wait_x2apic : Service::wait_xapic, ticks == 0 ? 1 : ticks);
    }
}

void send_init(std::uint32_t apic_id) noexcept {
    send_command(apic_id, 0x4500);
}

void send_startup(std::uint32_t apic_id, std::uint32_t page) noexcept {
    send_command(apic_id, 0x4600 | page);
}

std::string_view description() noexcept {
    if (use_deadline) {
        return use_x2apic ? "x2apic-deadline" : "xapic-deadline";
    }
    return use_x2apic ? "x2apic-oneshot" : "xapic-oneshot";
}

} // namespace lapic
} // namespace wherry::guest
