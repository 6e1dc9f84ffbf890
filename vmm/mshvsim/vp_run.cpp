// SPDX-License-Identifier: Apache-2.0
#include "vmm/mshv/abi/register_names.hpp"
#include "vmm/mshv/abi/synthetic_features.hpp"
#include "vmm/mshvsim/intercepts.hpp"
#include "vmm/mshvsim/page_walk.hpp"
#include "vmm/mshvsim/user_memory.hpp"
#include "vmm/mshvsim/vp.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace wherry::vmm::mshvsim {

using mshv::abi::messages::Message;

namespace {

constexpr std::size_t most_code = 16;
/// Page tables beyond these are not looked at before a run.
constexpr std::size_t most_tables = 65536;

// Hyper-V's MSRs (Top Level Functional Specification, chapter 12).
constexpr std::uint32_t msr_guest_os_id = 0x40000000;
constexpr std::uint32_t msr_vp_index = 0x40000002;
constexpr std::uint32_t msr_time_ref_count = 0x40000020;
constexpr std::uint32_t msr_tsc_frequency = 0x40000022;
constexpr std::uint32_t msr_apic_frequency = 0x40000023;

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

/// Nothing: interrupted by a signal or a visitor.
std::optional<Message> Vp::enter(RunSignals& signals) {
    for (;;) {
        if (!gate_.enter_guest()) {
            return std::nullopt;
        }
        const Exit exit = vcpu_->run(signals.open());
        gate_.leave_guest();
        registers_.shadow().forget();
        if (exit.kind == Exit::Kind::interrupted) {
            return std::nullopt;
        }
        if (auto message = message_of(exit)) {
            return message;
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
    return std::nullopt;
}

/// The hypervisor reads page tables and descriptor tables through the same map as the guest does;
/// KVM cannot take such a fault, so that they are looked at before.
std::optional<Exit> Vp::fault_of_hypervisor() {
    auto& memory = hypervisor_.memory;
    if (!memory.has_unmapped()) {
        return std::nullopt;
    }
    const SystemRegisters& system = registers_.shadow().system();
    std::optional<Exit> fault;
    const auto reach = [&](std::uint64_t gpa, std::optional<std::uint64_t> gva, Access access) {
        if (!fault && !memory.rights(gpa).read &&
            memory.touch(gpa, access) == MemoryFaults::Answer::intercept) {
            fault = Exit{
                .kind = Exit::Kind::memory,
                .access = access,
                .is_mapped = true,
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

std::optional<std::uint64_t> Vp::read_msr(std::uint32_t index) {
    namespace name_of = mshv::abi::registers;
    namespace synthetic = mshv::abi::synthetic_features;
    struct Known {
        std::uint32_t msr, name;
        std::uint64_t feature;
    };
    constexpr Known known[] = {
        {msr_guest_os_id, name_of::guest_os_id, synthetic::hypervisor_present},
        {msr_vp_index, name_of::vp_index, synthetic::vp_index},
        {msr_time_ref_count, name_of::time_reference_count, synthetic::reference_counter},
        {msr_tsc_frequency, name_of::tsc_frequency, synthetic::frequency},
        {msr_apic_frequency, name_of::apic_frequency, synthetic::frequency},
    };
    const std::uint64_t offered = hypervisor_.properties.synthetic_features();
    for (const auto& one : known) {
        if (one.msr == index && (offered & one.feature) != 0) {
            return registers_.get(one.name).value_or(mshv::abi::RegisterValue{}).low;
        }
    }
    return std::nullopt;
}

void Vp::serve_msr(const Exit& exit) {
    const bool is_ignored = hypervisor_.properties.ignores_unknown_msrs();
    const auto nothing = is_ignored ? std::optional<std::uint64_t>{0} : std::nullopt;
    if (exit.kind == Exit::Kind::msr_read) {
        const auto value = read_msr(exit.number);
        vcpu_->answer_msr(value ? value : nothing);
        return;
    }
    const bool is_guest_os_id = exit.number == msr_guest_os_id && read_msr(exit.number);
    if (is_guest_os_id) {
        hypervisor_.shared.set(mshv::abi::registers::guest_os_id, exit.value);
    }
    vcpu_->answer_msr(is_guest_os_id ? std::optional<std::uint64_t>{0} : nothing);
}

} // namespace wherry::vmm::mshvsim
