// SPDX-License-Identifier: Apache-2.0
#include "vmm/mshvsim/page_walk.hpp"
#include "vmm/soft/mode_setup.hpp"
#include "vmm/soft/simulator_vcpu.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <x86intrin.h>

#include <signal.h>

/// What Unicorn calls while guest code runs.
namespace wherry::vmm::soft {

using formats::Status;

namespace {

constexpr std::uint64_t page_shift = 12;
constexpr std::size_t longest_instruction = 15;
/// Ticks between two looks at pending signals: a system call each.
constexpr std::uint64_t signal_ticks = 1U << 18U;

// MSRs that Unicorn derives its mode from: left to it.
constexpr std::uint32_t msr_efer = 0xc0000080;
constexpr std::uint32_t msr_fs_base = 0xc0000100;
constexpr std::uint32_t msr_gs_base = 0xc0000101;

bool is_prefix(std::uint8_t byte) {
    return byte == 0x66 || byte == 0x67 || byte == 0xf0 || byte == 0xf2 || byte == 0xf3 ||
           byte == 0x26 || byte == 0x2e || byte == 0x36 || byte == 0x3e || byte == 0x64 ||
           byte == 0x65 || (byte & 0xf0U) == 0x40; // REX; taken for one too often does no harm
}

bool is_port_access(std::uint8_t opcode) {
    return (opcode >= 0x6c && opcode <= 0x6f) || (opcode >= 0xe4 && opcode <= 0xe7) ||
           (opcode >= 0xec && opcode <= 0xef);
}

} // namespace

struct SimulatorVcpu::Hooks {
    static SimulatorVcpu& of(void* user) { return *static_cast<SimulatorVcpu*>(user); }
    static void block(uc_engine* /*engine*/, std::uint64_t at, std::uint32_t size, void* user) {
        of(user).at_block(at, size);
    }
    static void code(uc_engine* /*engine*/, std::uint64_t at, std::uint32_t /*size*/, void* user) {
        of(user).at_instruction(at);
    }
    static void access(
        uc_engine* /*engine*/,
        uc_mem_type type,
        std::uint64_t at,
        int size,
        std::int64_t /*value*/,
        void* user) {
        of(user).at_access(at, static_cast<std::uint64_t>(size), type == UC_MEM_WRITE);
    }
    static bool invalid(
        uc_engine* /*engine*/,
        uc_mem_type type,
        std::uint64_t at,
        int size,
        std::int64_t value,
        void* user) {
        of(user).fault_ = {
            .type = type, .address = at, .value = static_cast<std::uint64_t>(value), .size = size};
        return false; // uc_emu_start fails, with nothing of the instruction done
    }
    static void exception(uc_engine* /*engine*/, std::uint32_t vector, void* user) {
        of(user).vector_ = vector;
        of(user).stop(Stop::exception);
    }
};

Status SimulatorVcpu::add_hooks() {
    // Unicorn takes every callback as void* and calls it by the type that goes with the hook.
    const auto add = [&](int type, auto* callback) -> Status {
        uc_hook hook = 0;
        return checked(
            uc_hook_add(
                unicorn().get(), &hook, type, reinterpret_cast<void*>(callback), this, 1, 0),
            "uc_hook_add");
    };
    // With a hook for code, registers are exact wherever a run ends.
    return in_turn(
        [&] { return add(UC_HOOK_BLOCK, &Hooks::block); },
        [&] { return add(UC_HOOK_CODE, &Hooks::code); },
        [&] { return add(UC_HOOK_MEM_READ | UC_HOOK_MEM_WRITE, &Hooks::access); },
        [&] { return add(UC_HOOK_MEM_INVALID, &Hooks::invalid); },
        [&] { return add(UC_HOOK_INTR, &Hooks::exception); });
}

void SimulatorVcpu::stop(Stop why) {
    if (stop_ == Stop::none) {
        stop_ = why;
    }
    uc_emu_stop(unicorn().get());
}

/// Before the instruction at this linear address.
void SimulatorVcpu::stop_at(Stop why, std::uint64_t address) {
    resume_ = address;
    stop(why);
}

bool SimulatorVcpu::is_interrupted() {
    if (is_kicked_.load(std::memory_order_relaxed)) {
        return true;
    }
    const std::uint64_t now = __rdtsc();
    if (now - signals_seen_at_ < signal_ticks) {
        return false;
    }
    signals_seen_at_ = now;
    sigset_t pending;
    ::sigemptyset(&pending);
    ::sigpending(&pending);
    // Not sigisemptyset, which glibc 2.36 answers wrongly where only signals above 32 are set.
    for (int signal = 1; signal < NSIG; ++signal) {
        if (::sigismember(&pending, signal) == 1 && ::sigismember(&open_signals_, signal) == 1) {
            return true;
        }
    }
    return false;
}

/// The VMM may have put other code there since it was translated, which Unicorn would not see.
void SimulatorVcpu::at_block(std::uint64_t address, std::uint32_t size) {
    if (stop_ != Stop::none) {
        return;
    }
    if (guest_->turn.is_wanted()) {
        stop_at(Stop::visitor, address);
        return;
    }
    if (is_interrupted()) {
        stop_at(Stop::interrupted, address);
        return;
    }
    if (is_paging_stale_) {
        is_paging_stale_ = false;
        is_paging_ = (unicorn().read<std::uint64_t>(UC_X86_REG_CR0) & cr0_paging) != 0;
        checked_.fill(0);
    }
    if (!check_identity(address) || !check_identity(address + size - 1)) {
        return;
    }
    auto& known = blocks_[address];
    std::uint64_t left = 0;
    const std::byte* const code = guest_->slots.find(address, left);
    if (code != nullptr && left >= size && known.size() == size &&
        std::memcmp(known.data(), code, size) == 0) {
        return;
    }
    const bool is_new = known.empty();
    known.resize(size);
    if (!guest_->slots.read(address, known)) {
        known.clear(); // a block that is there has been fetched from somewhere
    }
    if (!is_new) {
        stale_ = {.first = address, .end = address + size};
        stop_at(Stop::stale, address);
    }
}

bool SimulatorVcpu::check_identity(std::uint64_t address) {
    if (!is_paging_) {
        return true;
    }
    const std::uint64_t page = address >> page_shift;
    auto& checked = checked_[page % checked_.size()];
    if (checked == page + 1) {
        return true;
    }
    using Outcome = mshvsim::Translation::Outcome;
    const auto found = mshvsim::translate(guest_->slots, paging_now(), address, {});
    if (found.outcome != Outcome::success) {
        return true; // Unicorn walks the same tables, and raises a page fault
    }
    if (found.gpa != address) {
        fault_ = {.type = UC_MEM_READ, .address = address, .value = found.gpa, .size = 1};
        stop(Stop::not_itself);
        return false;
    }
    checked = page + 1;
    return true;
}

void SimulatorVcpu::at_access(std::uint64_t address, std::uint64_t size, bool is_write) {
    const std::uint64_t last = address + size - 1;
    if (!check_identity(address) || !check_identity(last)) {
        return;
    }
    if (is_write && guest_->slots.is_logging()) {
        guest_->slots.mark(address);
        guest_->slots.mark(last);
    }
}

void SimulatorVcpu::at_instruction(std::uint64_t address) {
    if (stop_ != Stop::none) {
        return;
    }
    if (is_stepping_ && std::exchange(has_stepped_, true)) {
        stop_at(Stop::stepped, address);
        return;
    }
    at_ = address;
    if (pass_ == address) {
        pass_.reset();
    } else if (is_served_outside(address)) {
        stop_at(Stop::instruction, address);
    }
}

bool SimulatorVcpu::is_served_outside(std::uint64_t address) {
    std::uint64_t left = 0;
    const std::byte* const code = guest_->slots.find(address, left);
    if (code == nullptr) {
        return false;
    }
    std::array<std::byte, longest_instruction> bytes{};
    const auto count = std::min<std::uint64_t>(left, bytes.size());
    std::size_t at = 0;
    while (at < count && is_prefix(std::to_integer<std::uint8_t>(code[at]))) {
        ++at;
    }
    if (at + 1 >= count) { // its end may be in the next slot
        if (!guest_->slots.read(address, bytes)) {
            return false;
        }
    } else {
        std::memcpy(bytes.data(), code, at + 2);
    }
    while (at + 1 < bytes.size() && is_prefix(std::to_integer<std::uint8_t>(bytes[at]))) {
        ++at;
    }
    const auto opcode = std::to_integer<std::uint8_t>(bytes[at]);
    constexpr std::uint8_t hlt = 0xf4;
    if (opcode == hlt || is_port_access(opcode)) {
        return true;
    }
    if (opcode != 0x0f || at + 1 >= bytes.size()) {
        return false;
    }
    switch (std::to_integer<std::uint8_t>(bytes[at + 1])) {
    case 0xa2: // CPUID
        return true;
    case 0x30: // WRMSR, RDMSR
    case 0x32: {
        is_paging_stale_ = true;
        const auto msr = unicorn().read<std::uint32_t>(UC_X86_REG_ECX);
        return msr != msr_efer && msr != msr_fs_base && msr != msr_gs_base;
    }
    case 0x22: // MOV to a control register
        if (guest_->slots.is_logging()) {
            mark_tables(); // those of before
        }
        is_paging_stale_ = true;
        return false;
    case 0x01: // INVLPG, LMSW and others
        is_paging_stale_ = true;
        return false;
    default:
        return false;
    }
}

} // namespace wherry::vmm::soft
