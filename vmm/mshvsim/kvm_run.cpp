// SPDX-License-Identifier: Apache-2.0
#include "vmm/kvm/abi.hpp"
#include "vmm/mshvsim/kvm_vcpu.hpp"
#include "vmm/mshvsim/page_walk.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include <pthread.h>
#include <sys/ioctl.h>

namespace wherry::vmm::mshvsim {
namespace {

constexpr std::size_t kernel_signals = 8; // bytes of the kernel's own sigset_t
struct SignalMask {
    std::uint32_t length = kernel_signals;
    std::array<std::uint8_t, kernel_signals> closed{};
};
constexpr unsigned long set_signal_mask = kvm::abi::request(kvm::abi::Direction::write, 0x8b, 4);

/// Never delivered: pending only ever while KVM_RUN listens to it, and taken back after.
int kick_signal() {
    return SIGRTMAX - 5;
}

constexpr std::size_t longest_instruction = 15;
constexpr std::uint64_t longest_operand = 15;   ///< beyond its first byte: an XMM register
constexpr std::uint32_t exit_memory_fault = 39; // KVM_EXIT_MEMORY_FAULT, Linux 6.8

} // namespace

void KvmVcpu::set_open_signals(const sigset_t& open_signals) {
    std::uint64_t open = 0;
    for (int signal = 1; signal <= 64; ++signal) {
        if (signal == kick_signal() || ::sigismember(&open_signals, signal) == 1) {
            open |= std::uint64_t{1} << (static_cast<unsigned>(signal) - 1);
        }
    }
    if (open == open_signals_) {
        return;
    }
    SignalMask mask;
    const std::uint64_t closed = ~open;
    std::memcpy(mask.closed.data(), &closed, sizeof(closed));
    formats::invariant(
        ::ioctl(vcpu_.get(), set_signal_mask, &mask) == 0, "KVM_SET_SIGNAL_MASK works");
    open_signals_ = open;
}

void KvmVcpu::kick(pthread_t runner) {
    ::pthread_kill(runner, kick_signal());
}

int KvmVcpu::enter() {
    return ::ioctl(vcpu_.get(), KVM_RUN, 0) >= 0 ? 0 : errno;
}

Exit KvmVcpu::run(const sigset_t& open_signals) {
    set_open_signals(open_signals);
    std::optional<Exit> exit;
    while (!exit) {
        const int error = enter();
        if (error == EINTR) {
            // A kick's signal stays pending, for this thread only: it has done its work.
            sigset_t kicks;
            sigemptyset(&kicks);
            sigaddset(&kicks, kick_signal());
            const timespec now{};
            while (::sigtimedwait(&kicks, nullptr, &now) > 0) {
            }
            return {.kind = Exit::Kind::interrupted};
        }
        if (error == EFAULT) {
            exit = serve_fault_of_host();
        } else if (error != EAGAIN) { // EAGAIN: woken by INIT or SIPI
            exit = error != 0 ? Exit{.kind = Exit::Kind::invalid_state} : serve();
        }
    }
    return *exit;
}

std::optional<Exit> KvmVcpu::serve() {
    using Kind = Exit::Kind;
    switch (area_->exit_reason) {
    case KVM_EXIT_IO:
        return area_->io.direction == KVM_EXIT_IO_IN ? settle_port_in(describe_port())
                                                     : settle_port_out(describe_port());
    case KVM_EXIT_MMIO:
        return serve_memory();
    case KVM_EXIT_IOAPIC_EOI:
        if (!engine_.is_level(area_->eoi.vector)) {
            return std::nullopt;
        }
        return Exit{.kind = Kind::end_of_interrupt, .number = area_->eoi.vector};
    case KVM_EXIT_X86_RDMSR:
        return Exit{.kind = Kind::msr_read, .number = area_->msr.index};
    case KVM_EXIT_X86_WRMSR:
        return Exit{.kind = Kind::msr_write, .number = area_->msr.index, .value = area_->msr.data};
    case KVM_EXIT_INTR:
    case KVM_EXIT_IRQ_WINDOW_OPEN:
    case KVM_EXIT_SET_TPR:
        return std::nullopt;
    case KVM_EXIT_HLT:
        return Exit{.kind = Kind::halted};
    case KVM_EXIT_SHUTDOWN:
        return Exit{.kind = Kind::shut_down};
    case KVM_EXIT_FAIL_ENTRY:
        return Exit{.kind = Kind::invalid_state};
    case KVM_EXIT_INTERNAL_ERROR:
        return serve_internal_error();
    default:
        return Exit{.kind = Kind::unsupported, .value = area_->exit_reason};
    }
}

void KvmVcpu::answer_msr(std::optional<std::uint64_t> value) {
    area_->msr.error = value ? 0 : 1;
    area_->msr.data = value.value_or(0);
    finish(
        {}); // or a state that is saved now would have the instruction before it, and its effects
}

std::optional<Exit> KvmVcpu::serve_memory() {
    auto& mmio = area_->mmio;
    const std::uint64_t gpa = mmio.phys_addr;
    const auto data = std::as_writable_bytes(std::span{mmio.data})
                          .first(std::min<std::size_t>(mmio.len, sizeof(mmio.data)));
    const bool is_write = mmio.is_write != 0;
    if (is_write && memory_.ring(gpa, data)) {
        return std::nullopt;
    }
    const auto answer = memory_.touch(gpa, is_write ? Access::write : Access::read);
    if (answer == MemoryFaults::Answer::resolved) {
        // KVM asked because the page was not mapped a moment ago; what it asks for is there now.
        if (is_write ? memory_.write(gpa, data) : memory_.read(gpa, data)) {
            return std::nullopt;
        }
    }
    const bool is_mapped =
        answer == MemoryFaults::Answer::resolved || answer == MemoryFaults::Answer::intercept;
    return is_write ? settle_memory_write(gpa, is_mapped) : settle_memory_read(gpa, is_mapped);
}

/// Host memory under a slot that went away: KVM stops before the instruction, as MSHV does.
std::optional<Exit> KvmVcpu::serve_fault_of_host() {
    if (area_->exit_reason != exit_memory_fault) {
        return Exit{.kind = Exit::Kind::unsupported, .value = area_->exit_reason};
    }
    std::array<std::uint64_t, 3> fault{}; // flags, gpa, size
    std::memcpy(fault.data(), &area_->hw, sizeof(fault));
    const std::uint64_t gpa = fault[1];
    if (memory_.touch(gpa, Access::write) == MemoryFaults::Answer::resolved) {
        return std::nullopt;
    }
    return Exit{.kind = Exit::Kind::memory, .is_mapped = true, .gpa = gpa};
}

/// KVM cannot fetch code, deliver an event or execute most SSE instructions where the memory is not
/// mapped yet: makes what the vCPU stands on and works with accessible, and gives up where that was
/// not it.
std::optional<Exit> KvmVcpu::serve_internal_error() {
    const Registers now = registers();
    const CodeView view = view_of(now);
    const std::uint64_t rip = view.system.cs.base + now.rip;
    const std::uint64_t rsp = view.system.ss.base + now.rsp;
    const auto at = decode(bytes_at(rip, longest_instruction), view);
    const std::uint64_t operand = at && at->has_memory ? at->linear : rip;
    const std::pair here{rip, operand};
    if (last_error_ == here) {
        return Exit{.kind = Exit::Kind::unsupported, .value = area_->internal.suberror};
    }
    for (const std::uint64_t linear :
         {rip,
          rip + longest_instruction,
          operand,
          operand + longest_operand,
          rsp,
          rsp - 8,
          view.system.idt.base,
          view.system.gdt.base,
          view.system.tr.base}) {
        const bool is_the_instructions = linear == rip || linear == operand;
        if (auto missing = reach(view.system, linear, is_the_instructions)) {
            missing->access = linear == rip ? Access::execute : Access::read;
            last_error_.reset(); // it is here with the next try, which may lack something else
            return missing;
        }
    }
    last_error_ = here;
    return std::nullopt;
}

/// Makes the page at `linear` accessible, and the tables on the way to it; what the VMM has to
/// bring comes back. Where there is no RAM counts only for what the instruction itself touches.
std::optional<Exit>
KvmVcpu::reach(const SystemRegisters& system, std::uint64_t linear, bool is_the_instructions) {
    using Outcome = Translation::Outcome;
    constexpr int most_steps = 6; // five levels of tables, and the page
    for (int step = 0; step < most_steps; ++step) {
        const auto found = mshvsim::translate(memory_, system, linear, {});
        if (found.outcome != Outcome::success && found.outcome != Outcome::table_unreadable) {
            return std::nullopt;
        }
        const auto answer = memory_.touch(found.gpa, Access::read);
        if (MemoryFaults::is_for_vmm(answer) ||
            (answer == MemoryFaults::Answer::unmapped && is_the_instructions)) {
            return Exit{
                .kind = Exit::Kind::memory,
                .is_mapped = answer == MemoryFaults::Answer::intercept,
                .gpa = found.gpa,
                .gva = linear};
        }
        if (found.outcome == Outcome::success || answer != MemoryFaults::Answer::resolved) {
            return std::nullopt;
        }
    }
    return std::nullopt;
}

} // namespace wherry::vmm::mshvsim
