// SPDX-License-Identifier: Apache-2.0
#include "vmm/mshvsim/page_walk.hpp"
#include "vmm/soft/cpuid.hpp"
#include "vmm/soft/registers.hpp"
#include "vmm/soft/simulator_vcpu.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

/// Running, and from Unicorn's stops to the simulator's exits.
namespace wherry::vmm::soft {

using mshvsim::Access;
using mshvsim::Exit;
using mshvsim::Instruction;
using Answer = mshvsim::MemoryFaults::Answer;
using Outcome = mshvsim::Translation::Outcome;

namespace {

constexpr std::size_t longest_instruction = 15;
constexpr std::uint64_t page_size = 4096;
constexpr std::uint64_t low_half = 0xffffffff;

constexpr std::uint8_t invalid_opcode = 6;
constexpr std::uint8_t general_protection = 13;
constexpr std::uint8_t page_fault = 14;

Exit unsupported(std::uint64_t parameter) {
    return {.kind = Exit::Kind::unsupported, .value = parameter};
}

bool is_port(const Instruction& at) {
    return at.map == 0 &&
           ((at.opcode >= 0x6c && at.opcode <= 0x6f) || (at.opcode >= 0xe4 && at.opcode <= 0xe7) ||
            (at.opcode >= 0xec && at.opcode <= 0xef));
}

bool is_two_byte(const Instruction& at, std::uint8_t opcode) {
    return at.map == 1 && at.opcode == opcode;
}

bool is_memory_fault(uc_err outcome) {
    return outcome == UC_ERR_READ_UNMAPPED || outcome == UC_ERR_WRITE_UNMAPPED ||
           outcome == UC_ERR_FETCH_UNMAPPED || outcome == UC_ERR_READ_PROT ||
           outcome == UC_ERR_WRITE_PROT || outcome == UC_ERR_FETCH_PROT;
}

Access access_of(uc_mem_type type) {
    if (type == UC_MEM_FETCH_UNMAPPED || type == UC_MEM_FETCH_PROT) {
        return Access::execute;
    }
    return type == UC_MEM_WRITE_UNMAPPED || type == UC_MEM_WRITE_PROT ? Access::write
                                                                      : Access::read;
}

} // namespace

void SimulatorVcpu::kick(pthread_t /*runner*/) {
    is_kicked_ = true;
}

Exit SimulatorVcpu::run(const sigset_t& open_signals) {
    open_signals_ = open_signals;
    signals_seen_at_ = 0;
    std::optional<Exit> exit;
    while (!exit) {
        if (is_kicked_.exchange(false)) {
            return {.kind = Exit::Kind::interrupted};
        }
        if (undeliverable_) {
            return unsupported(*undeliverable_);
        }
        if (run_state_ == RunState::halted) {
            return {.kind = Exit::Kind::halted};
        }
        exit = serve(enter());
    }
    return *exit;
}

uc_err SimulatorVcpu::enter() {
    guest_->turn.begin_run();
    const uc_err outcome = enter_with_turn();
    guest_->turn.end();
    return outcome;
}

uc_err SimulatorVcpu::enter_with_turn() {
    stop_ = Stop::none;
    resume_.reset();
    has_stepped_ = false;
    is_paging_stale_ = true;
    const auto rip = unicorn().read<std::uint64_t>(UC_X86_REG_RIP);
    const uc_err outcome = uc_emu_start(unicorn().get(), rip, 0, 0, 0);
    if (stop_ == Stop::none && is_memory_fault(outcome) &&
        access_of(fault_.type) != Access::execute) {
        resume_ = at_;
    }
    if (resume_) { // Unicorn tells a linear address here and an offset there
        const auto system = system_now();
        const mshvsim::CodeView view{.registers = {}, .system = system};
        const std::uint64_t offset =
            view.is_long() ? *resume_ : (*resume_ - system.cs.base) & low_half;
        unicorn().write(UC_X86_REG_RIP, offset);
    }
    if (stop_ == Stop::stale) {
        uc_ctl_remove_cache(unicorn().get(), stale_.first, stale_.end);
    }
    return outcome;
}

std::optional<Exit> SimulatorVcpu::serve(uc_err outcome) {
    switch (stop_) {
    case Stop::visitor:
    case Stop::stale:
    case Stop::stepped:
        return std::nullopt;
    case Stop::interrupted:
        is_kicked_ = false;
        return Exit{.kind = Exit::Kind::interrupted};
    case Stop::instruction:
        return serve_instruction();
    case Stop::not_itself:
        return unsupported(fault_.address);
    case Stop::exception:
        return serve_exception(vector_);
    case Stop::none:
        break;
    }
    if (is_memory_fault(outcome)) {
        return serve_memory();
    }
    return outcome == UC_ERR_INSN_INVALID ? serve_exception(invalid_opcode)
                                          : unsupported(static_cast<std::uint64_t>(outcome));
}

std::optional<Instruction>
SimulatorVcpu::instruction_at(std::uint64_t linear, const Registers& now) {
    std::array<std::byte, longest_instruction> bytes{};
    const std::uint64_t in_page = page_size - linear % page_size;
    const auto first = std::span{bytes}.first(std::min<std::size_t>(bytes.size(), in_page));
    if (!memory_.read(linear, first)) {
        return std::nullopt;
    }
    std::size_t have = first.size();
    if (have < bytes.size() && memory_.read(linear + have, std::span{bytes}.subspan(have))) {
        have = bytes.size();
    }
    return mshvsim::decode(std::span{bytes}.first(have), {.registers = now, .system = system()});
}

std::optional<Exit> SimulatorVcpu::serve_instruction() {
    Registers now = registers();
    const auto at = instruction_at(at_, now);
    const bool is_nothing = at && at->is_string() && at->is_repeated &&
                            mshvsim::counted(now.rcx, at->address_size) == 0;
    if (at && is_port(*at) && !is_nothing) {
        return port_exit(*at, now);
    }
    constexpr std::uint8_t hlt = 0xf4;
    if (at && at->map == 0 && at->opcode == hlt) {
        now.rip += at->length;
        set_registers(now);
        run_state_ = RunState::halted;
        return Exit{.kind = Exit::Kind::halted};
    }
    if (at && is_two_byte(*at, 0xa2)) {
        execute_cpuid(now, at->length);
        return std::nullopt;
    }
    if (at && (is_two_byte(*at, 0x30) || is_two_byte(*at, 0x32))) {
        msr_length_ = at->length;
        is_msr_written_ = is_two_byte(*at, 0x30);
        return serve_msr(now);
    }
    pass_ = at_; // a prefix was taken for a REX, or nothing is left to repeat
    return std::nullopt;
}

Exit SimulatorVcpu::port_exit(const Instruction& at, const Registers& now) {
    constexpr std::uint8_t widest = 4;
    const bool has_immediate = at.opcode >= 0xe4 && at.opcode <= 0xe7;
    Exit exit{.kind = Exit::Kind::port};
    exit.is_write = (at.opcode & 2U) != 0;
    exit.is_string = at.is_string();
    exit.is_repeated = at.is_string() && at.is_repeated;
    exit.size = std::min(at.operand_size, widest);
    exit.port = has_immediate ? static_cast<std::uint16_t>(at.immediate & 0xffU)
                              : static_cast<std::uint16_t>(now.rdx);
    exit.instruction_length = at.length;
    return exit;
}

void SimulatorVcpu::execute_cpuid(const Registers& now, std::uint8_t length) {
    const auto entry =
        look_up(cpuid_, static_cast<std::uint32_t>(now.rax), static_cast<std::uint32_t>(now.rcx));
    Registers after = now;
    after.rax = entry.eax;
    after.rbx = entry.ebx;
    after.rcx = entry.ecx;
    after.rdx = entry.edx;
    after.rip += length;
    set_registers(after);
}

std::optional<Exit> SimulatorVcpu::serve_msr(const Registers& now) {
    const auto number = static_cast<std::uint32_t>(now.rcx);
    const std::uint64_t written = (now.rdx << 32U) | (now.rax & low_half);
    const auto held = msr(number);
    if (!held) {
        return Exit{
            .kind = is_msr_written_ ? Exit::Kind::msr_write : Exit::Kind::msr_read,
            .number = number,
            .value = written};
    }
    if (!is_msr_written_) {
        answer_msr(held);
    } else {
        answer_msr(set_msr(number, written) ? held : std::nullopt);
    }
    return std::nullopt;
}

void SimulatorVcpu::answer_msr(std::optional<std::uint64_t> value) {
    if (!value) {
        undeliverable_ = general_protection;
        return;
    }
    Registers now = registers();
    now.rip += msr_length_;
    if (!is_msr_written_) {
        now.rax = *value & low_half;
        now.rdx = *value >> 32U;
    }
    set_registers(now);
}

/// Unicorn takes memory that is not there for that before it walks page tables.
std::optional<Exit> SimulatorVcpu::serve_memory() {
    const Fault fault = fault_;
    const Access access = access_of(fault.type);
    const auto found = mshvsim::translate(memory_, system(), fault.address, {});
    if (found.outcome == Outcome::table_unreadable) {
        return reach(found.gpa, std::nullopt, Access::read);
    }
    if (found.outcome != Outcome::success) {
        return unsupported(page_fault);
    }
    if (found.gpa != fault.address) {
        return unsupported(fault.address);
    }
    if (access == Access::write) {
        const auto size = std::min<std::size_t>(static_cast<std::size_t>(fault.size), 8);
        if (memory_.ring(fault.address, std::as_bytes(std::span{&fault.value, 1}).first(size))) {
            step_over_store(fault.address);
            return std::nullopt;
        }
    }
    return reach(fault.address, fault.address, access);
}

/// Nothing: it can be accessed now.
std::optional<Exit>
SimulatorVcpu::reach(std::uint64_t gpa, std::optional<std::uint64_t> linear, Access access) {
    const auto answer = memory_.touch(gpa, access);
    if (answer == Answer::resolved) {
        return std::nullopt;
    }
    Exit exit{
        .kind = Exit::Kind::memory,
        .access = access,
        .is_mapped = answer == Answer::intercept,
        .gpa = gpa,
        .gva = linear};
    const auto at =
        linear && access != Access::execute ? instruction_at(at_, registers()) : std::nullopt;
    if (at) {
        exit.instruction_length = at->length;
        exit.access = at->reads_and_writes() ? Access::write : access;
    }
    return exit;
}

/// A store that rang a doorbell goes nowhere: one instruction with a page of nothing under it.
void SimulatorVcpu::step_over_store(std::uint64_t gpa) {
    const std::uint64_t page = gpa & ~(page_size - 1);
    guest_->turn.begin_run();
    if (uc_mem_map(unicorn().get(), page, page_size, UC_PROT_ALL) == UC_ERR_OK) {
        is_stepping_ = true;
        enter_with_turn();
        is_stepping_ = false;
        formats::invariant(
            uc_mem_unmap(unicorn().get(), page, page_size) == UC_ERR_OK,
            "Unicorn takes away what it has mapped");
    }
    guest_->turn.end();
}

/// Unicorn delivers none to a guest. It may have come from page tables that were not there yet.
std::optional<Exit> SimulatorVcpu::serve_exception(std::uint32_t vector) {
    if (vector == page_fault) {
        const auto system = this->system();
        const auto found = mshvsim::translate(memory_, system, system.cr2, {});
        if (found.outcome == Outcome::table_unreadable) {
            return reach(found.gpa, std::nullopt, Access::read);
        }
    }
    return unsupported(vector);
}

} // namespace wherry::vmm::soft
