// SPDX-License-Identifier: Apache-2.0
// The part of MshvVcpu that serves exits.
#include "vmm/mshv/abi/ioctls.hpp"
#include "vmm/mshv/abi/messages.hpp"
#include "vmm/mshv/abi/register_names.hpp"
#include "vmm/mshv/vcpu.hpp"
#include "vmm/x86/emulator.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

#include <fmt/format.h>

namespace wherry::vmm::mshv {

namespace messages = abi::messages;
using formats::ErrorCode;
using formats::fail;
using formats::Gpa;
using formats::Status;

namespace {

/// The region of RAM that an address is in.
const MemoryRegion* region_of(const GuestMemory& memory, std::uint64_t gpa) {
    const formats::Gfn page{gpa / formats::page_size};
    const auto found = std::ranges::find_if(memory.regions(), [page](const MemoryRegion& region) {
        return page >= region.pages.first() && page < region.pages.end();
    });
    return found == memory.regions().end() ? nullptr : &*found;
}

std::span<const std::uint8_t>
fetched_bytes(const std::array<std::uint8_t, 16>& bytes, std::uint8_t count) {
    return std::span{bytes}.first(std::min<std::size_t>(bytes.size(), count));
}

/// RIP after an instruction; outside 64-bit mode it has 32 bits.
std::uint64_t next_rip(const messages::InterceptHeader& header) {
    constexpr std::uint16_t long_segment = 1U << 13U;
    const bool is_64_bit =
        (header.execution_state & messages::execution_state::long_mode_active) != 0 &&
        (header.cs.attributes & long_segment) != 0;
    const std::uint64_t next = header.rip + header.instruction_length();
    return is_64_bit ? next : next & 0xffffffffU;
}

/// What IN leaves in RAX: 32 bits replace all 64, fewer replace themselves.
std::uint64_t merged(std::uint64_t rax, std::uint32_t value, std::size_t size) {
    if (size == sizeof(value)) {
        return value;
    }
    const std::uint64_t mask = (std::uint64_t{1} << (8 * size)) - 1;
    // The upper half of RAX stays, as for every write to AL or AX.
    return (rax & ~mask) | (value & mask);
}

} // namespace

MshvVcpu::Served MshvVcpu::serve(const messages::Message& message, ExitHandler& handler) {
    const auto go_on = [](Status done) -> Served {
        return done ? Served{std::nullopt} : Served{fail(std::move(done.error()))};
    };
    switch (message.type) {
    case messages::io_port:
        return go_on(serve_port(message, handler));
    case messages::unmapped_gpa:
    case messages::gpa_intercept:
        return go_on(serve_memory(message, handler));
    case messages::apic_eoi:
        handler.end_of_interrupt(
            static_cast<std::uint8_t>(messages::payload_as<messages::ApicEoi>(message).vector));
        return Served{std::nullopt};
    case messages::unrecoverable_exception:
        return Served{ExitReason::shut_down};
    case messages::halt:
        return Served{ExitReason::halted};
    case messages::unsupported_feature: {
        const auto what = messages::payload_as<messages::UnsupportedFeature>(message);
        return fail(
            ErrorCode::guest,
            fmt::format(
                "the guest used what the hypervisor does not support (code {}, parameter {:#x})",
                what.code,
                what.parameter));
    }
    case messages::invalid_vp_register_value:
        return fail(ErrorCode::guest, "the hypervisor refuses to run the VP's register values");
    default:
        return fail(
            ErrorCode::io,
            fmt::format("MSHV_RUN_VP returned an unexpected message {:#x}", message.type));
    }
}

Status MshvVcpu::serve_port(const messages::Message& message, ExitHandler& handler) {
    const auto access = messages::payload_as<messages::IoPortIntercept>(message);
    const std::size_t size = access.access_info & messages::io_access::size;
    const bool is_string = (access.access_info & messages::io_access::string) != 0;
    if (size != 1 && size != 2 && size != 4) {
        return fail(ErrorCode::io, fmt::format("a port access of {} bytes", size));
    }
    const bool single_steps = (access.header.rflags & x86::rflags::tf) != 0;
    if (is_string || single_steps || access.header.instruction_length() == 0) {
        return emulate(
            access.header,
            fetched_bytes(access.instruction_bytes, access.instruction_byte_count),
            handler);
    }
    const std::uint64_t rip = next_rip(access.header);
    Status stored;
    if (access.header.access == messages::intercept_access::write) {
        std::array<std::byte, 4> data{};
        std::memcpy(data.data(), &access.rax, data.size());
        handler.port_write(access.port, std::span{data}.first(size));
        stored = window_.store_rip(rip);
    } else {
        std::uint32_t value = 0;
        handler.port_read(access.port, std::as_writable_bytes(std::span{&value, 1}).first(size));
        stored = window_.store_rax_and_rip(merged(access.rax, value, size), rip);
    }
    return stored ? end_shadow(access.header) : stored;
}

Status MshvVcpu::serve_memory(const messages::Message& message, ExitHandler& handler) {
    const auto access = messages::payload_as<messages::MemoryIntercept>(message);
    if (shared_.memory == nullptr) {
        return fail(ErrorCode::wrong_state, "the partition has no memory");
    }
    // The hypervisor may report either message for a device's address: what tells RAM from
    // devices is our own map.
    if (region_of(*shared_.memory, access.gpa) != nullptr) {
        return await_page(access.gpa);
    }
    refused_times_ = 0;
    if ((access.header.execution_state & messages::execution_state::interruption_pending) != 0) {
        return fail(
            ErrorCode::guest,
            fmt::format("the delivery of an event met a device at {:#x}", access.gpa));
    }
    return emulate(
        access.header,
        fetched_bytes(access.instruction_bytes, access.instruction_byte_count),
        handler);
}

/// RAM that the guest could not have: see WindowSource. It does again what it did, once that is
/// worth it; nothing is emulated.
Status MshvVcpu::await_page(std::uint64_t gpa) {
    constexpr unsigned tries = 3;
    const std::uint64_t page = gpa / formats::page_size;
    const auto outcome = shared_.missing.await(formats::Gfn{page}, kick_);
    if (!outcome) {
        return fail(outcome.error());
    }
    if (*outcome == WindowGate::Outcome::waited) {
        refused_times_ = 0;
        return {};
    }
    refused_times_ = refused_gpa_ == page ? refused_times_ + 1 : 1;
    refused_gpa_ = page;
    if (refused_times_ > tries) {
        return fail(
            ErrorCode::io, fmt::format("the kernel does not give the guest its RAM at {:#x}", gpa));
    }
    return {};
}

Status MshvVcpu::emulate(
    const messages::InterceptHeader& header,
    std::span<const std::uint8_t> fetched,
    ExitHandler& handler) {
    x86::CpuState cpu;
    cpu.physical_address_bits = shared_.physical_address_bits;
    if (auto loaded = window_.load(cpu); !loaded) {
        return loaded;
    }
    const auto outcome = x86::emulate(cpu, *shared_.memory, handler, std::as_bytes(fetched));
    if (!outcome) {
        return fail(outcome.error());
    }
    if (auto stored = window_.store(outcome->registers); !stored) {
        return stored;
    }
    if (outcome->exception) {
        const NamedValue event{
            abi::registers::pending_event0, native_exception(*outcome->exception)};
        if (auto written = registers_.write(std::span{&event, 1}); !written) {
            return written;
        }
    }
    // A fault leaves the instruction, and with it the shadow, where they were.
    return outcome->registers.rip == cpu.registers.rip ? Status{} : end_shadow(header);
}

/// An instruction that was completed here ends the shadow that it was in.
Status MshvVcpu::end_shadow(const messages::InterceptHeader& header) {
    if ((header.execution_state & messages::execution_state::interrupt_shadow) == 0) {
        return {};
    }
    const auto state = registers_.read(abi::registers::interrupt_state);
    if (!state) {
        return fail(state.error());
    }
    const NamedValue ended{
        abi::registers::interrupt_state,
        {.low = state->low & ~abi::interrupt_state::shadow, .high = 0}};
    return registers_.write(std::span{&ended, 1});
}

} // namespace wherry::vmm::mshv
