// SPDX-License-Identifier: Apache-2.0
#include "vmm/mshv/abi/status.hpp"
#include "vmm/mshvsim/intercepts.hpp"
#include "vmm/mshvsim/page_walk.hpp"
#include "vmm/mshvsim/synthetic_msrs.hpp"
#include "vmm/mshvsim/user_memory.hpp"
#include "vmm/mshvsim/vp.hpp"

#include <algorithm>
#include <cerrno>
#include <ctime>

namespace wherry::vmm::mshvsim {

using mshv::abi::messages::Message;

namespace {

constexpr std::size_t most_code = 16;
/// Page tables beyond these are not looked at before a run.
constexpr std::size_t most_tables = 65536;

std::uint64_t processor_time_of_thread() {
    timespec now{};
    ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return static_cast<std::uint64_t>(now.tv_sec) * 10'000'000 +
           static_cast<std::uint64_t>(now.tv_nsec) / 100;
}

} // namespace

int Vp::run(std::uint64_t buffer) {
    RunSignals signals;
    gate_.acquire();
    registers_.intercept_suspend = false;
    registers_.explicit_suspend = false;
    registers_.consume(*page_);
    const auto message = run_until_message(signals);
    registers_.explicit_suspend = registers_.explicit_suspend || !message;
    registers_.intercept_suspend = message.has_value();
    if (message) {
        *message_ = *message;
    }
    registers_.fill(*page_);
    gate_.release();
    if (!message) {
        return -EINTR;
    }
    return copy_out(buffer, *message) ? 0 : -EFAULT;
}

std::optional<Message> Vp::run_until_message(RunSignals& signals) {
    for (;;) {
        if (auto message = make_ready()) {
            return message;
        }
        if (auto message = enter(signals)) {
            return message;
        }
        if (signals.is_pending()) {
            return std::nullopt;
        }
        // A visitor of the registers wants them, or has had them.
        do {
            gate_.release();
            if (registers_.explicit_suspend) {
                signals.wait_a_moment();
            }
            gate_.acquire();
            if (signals.is_pending()) {
                return std::nullopt;
            }
        } while (registers_.explicit_suspend);
    }
}

/// Nothing: interrupted by a signal or a visitor, or something is to be made ready.
std::optional<Message> Vp::enter(RunSignals& signals) {
    for (;;) {
        if (!gate_.enter_guest()) {
            return std::nullopt;
        }
        const std::uint64_t begun = counts_runtime_ ? processor_time_of_thread() : 0;
        const Exit exit = vcpu_->run(signals.open());
        gate_.leave_guest();
        registers_.runtime += counts_runtime_ ? processor_time_of_thread() - begun : 0;
        registers_.shadow().forget();
        if (exit.kind == Exit::Kind::interrupted) {
            return std::nullopt;
        }
        if (auto message = message_of(exit)) {
            return message;
        }
        if (exit.kind == Exit::Kind::msr_write) {
            return std::nullopt; // a page to lay, a timer that is due already
        }
    }
}

std::optional<Message> Vp::message_of(const Exit& exit) {
    const auto bytes = exit.kind == Exit::Kind::memory || exit.kind == Exit::Kind::port
                           ? code()
                           : std::vector<std::byte>{};
    const InterceptSource from{
        .partition_id = hypervisor_.partition_id,
        .vp_index = index_,
        .shadow = registers_.shadow(),
        .code = bytes};
    switch (exit.kind) {
    case Exit::Kind::port:
        return port_intercept(from, exit);
    case Exit::Kind::memory:
        if (exit.is_mapped) {
            hypervisor_.memory.request_scan(); // the VMM is about to fill what is missing
        }
        return memory_intercept(from, exit);
    case Exit::Kind::end_of_interrupt:
        return hypervisor_.interrupts.end_of_interrupt(exit.number)
                   ? std::nullopt
                   : std::optional{end_of_interrupt(from, exit.number)};
    case Exit::Kind::msr_read:
    case Exit::Kind::msr_write:
        serve_msr(exit);
        return std::nullopt;
    case Exit::Kind::halted:
        return bare_intercept(from, mshv::abi::messages::halt);
    case Exit::Kind::shut_down:
        return bare_intercept(from, mshv::abi::messages::unrecoverable_exception);
    case Exit::Kind::invalid_state:
        return invalid_register(from);
    case Exit::Kind::unsupported:
        return unsupported(from, exit.value);
    case Exit::Kind::interrupted:
        break;
    }
    return std::nullopt;
}

bool Vp::apply_cpuid() {
    if (!is_cpuid_stale_) {
        return true;
    }
    is_cpuid_stale_ = false;
    return vcpu_->set_cpuid(hypervisor_.cpuid.of_vp(index_));
}

/// Before the guest is entered; a message where that is not possible.
std::optional<Message> Vp::make_ready() {
    apply_cpuid();
    const InterceptSource from{
        .partition_id = hypervisor_.partition_id,
        .vp_index = index_,
        .shadow = registers_.shadow(),
        .code = {}};
    if (!registers_.shadow().flush()) {
        registers_.shadow().forget();
        return invalid_register(from);
    }
    hypervisor_.memory.map_populated();
    if (const auto fault = fault_of_hypervisor()) {
        hypervisor_.memory.request_scan();
        return memory_intercept(from, *fault);
    }
    if (const auto missing = lay_pages()) {
        hypervisor_.memory.request_scan();
        return memory_intercept(from, *missing);
    }
    registers_.timers().serve();
    return std::nullopt;
}

/// The hypervisor reads page tables and descriptor tables through the same map as the guest does;
/// KVM cannot take such a fault, so that they are looked at before.
std::optional<Exit> Vp::fault_of_hypervisor() {
    auto& memory = hypervisor_.memory;
    if (!memory.has_gaps()) {
        return std::nullopt;
    }
    const SystemRegisters& system = registers_.shadow().system();
    std::optional<Exit> fault;
    const auto reach = [&](std::uint64_t gpa, std::optional<std::uint64_t> gva, Access access) {
        if (fault || memory.rights(gpa).read) {
            return !fault.has_value();
        }
        const auto answer = memory.touch(gpa, access);
        if (MemoryFaults::is_for_vmm(answer)) {
            fault = Exit{
                .kind = Exit::Kind::memory,
                .access = access,
                .is_mapped = answer == MemoryFaults::Answer::intercept,
                .gpa = gpa,
                .gva = gva};
        }
        return !fault.has_value();
    };
    if (tables_generation_ != memory.generation() || tables_root_ != system.cr3) {
        visit_page_tables(memory, system, most_tables, [&](std::uint64_t table) {
            return reach(table, std::nullopt, Access::read);
        });
    }
    const auto reach_linear = [&](std::uint64_t linear, Access access) {
        const auto at = translate(memory, system, linear, {});
        if (at.outcome == Translation::Outcome::success) {
            reach(at.gpa, linear, access);
        }
    };
    reach_linear(system.cs.base + registers_.shadow().registers().rip, Access::execute);
    reach_linear(system.idt.base, Access::read);
    reach_linear(system.gdt.base, Access::read);
    reach_linear(system.tr.base, Access::read);
    if (!fault) {
        tables_generation_ = memory.generation();
        tables_root_ = system.cr3;
    }
    return fault;
}

std::vector<std::byte> Vp::code() {
    const auto& system = registers_.shadow().system();
    const std::uint64_t rip = system.cs.base + registers_.shadow().registers().rip;
    std::vector<std::byte> bytes(most_code);
    std::size_t have = 0;
    while (have < bytes.size()) {
        const auto at = translate(hypervisor_.memory, system, rip + have, {});
        const std::size_t in_page = 4096 - ((rip + have) & 4095U);
        const auto part = std::span{bytes}.subspan(have, std::min(in_page, bytes.size() - have));
        if (at.outcome != Translation::Outcome::success || !hypervisor_.memory.read(at.gpa, part)) {
            break;
        }
        have += part.size();
    }
    bytes.resize(have);
    return bytes;
}

/// The hypervisor's pages in guest memory: what is missing of them is its own access.
std::optional<Exit> Vp::lay_pages() {
    const auto of_partition = hypervisor_.pages.settle();
    const auto missing = of_partition ? of_partition : registers_.synic().settle();
    if (!missing) {
        return std::nullopt;
    }
    return Exit{.kind = Exit::Kind::memory, .is_mapped = true, .gpa = *missing};
}

void Vp::serve_msr(const Exit& exit) {
    const bool is_ignored = hypervisor_.properties.ignores_unknown_msrs();
    auto answer = is_ignored ? std::optional<std::uint64_t>{0} : std::nullopt;
    const auto known = synthetic_msr(exit.number);
    if (known && is_offered(known->feature)) {
        if (exit.kind == Exit::Kind::msr_read) {
            answer = registers_.get(known->name).value_or(mshv::abi::RegisterValue{}).low;
        } else {
            const bool is_taken =
                known->is_writable &&
                registers_.write_synthetic(known->name, exit.value, Writer::guest) ==
                    mshv::abi::status::success;
            answer = is_taken ? std::optional<std::uint64_t>{0} : std::nullopt;
        }
    }
    vcpu_->answer_msr(answer);
    registers_.shadow().forget();
}

} // namespace wherry::vmm::mshvsim
