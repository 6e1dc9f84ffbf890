// SPDX-License-Identifier: Apache-2.0
#include "vmm/mshv/abi/hypercalls.hpp"
#include "vmm/mshv/abi/ioctls.hpp"
#include "vmm/mshv/abi/messages.hpp"
#include "vmm/mshv/abi/status.hpp"
#include "vmm/mshvsim/trace.hpp"
#include "vmm/mshvsim/user_memory.hpp"

#include <algorithm>
#include <array>
#include <cstring>

#include <fmt/format.h>

namespace wherry::vmm::mshvsim {

namespace hypercalls = mshv::abi::hypercalls;
namespace ioctls = mshv::abi::ioctls;
namespace messages = mshv::abi::messages;

namespace {

constexpr std::string_view unreadable = "(unreadable)";
constexpr std::uint16_t most_listed = 64; // registers in one line

std::string value_text(const mshv::abi::RegisterValue& value) {
    return value.high == 0 ? fmt::format("{:#x}", value.low)
                           : fmt::format("{:#x}:{:016x}", value.high, value.low);
}

std::string registers_read(const ioctls::RootHvcall& call) {
    std::string text;
    for (std::uint16_t i = 0; i < std::min(call.reps, most_listed); ++i) {
        std::uint32_t name = 0;
        mshv::abi::RegisterValue value;
        copy_in(name, call.input + sizeof(hypercalls::RegistersHeader) + 4U * i);
        text += fmt::format(" {}", name_of_register(name));
        if (call.status == 0 && copy_in(value, call.output + sizeof(value) * i)) {
            text += "=" + value_text(value);
        }
    }
    return text;
}

std::string registers_written(const ioctls::RootHvcall& call) {
    std::string text;
    // On failure the kernel has left the number that was written; the next is the one refused.
    const auto count = static_cast<std::uint16_t>(call.reps + (call.status != 0 ? 1 : 0));
    for (std::uint16_t i = 0; i < std::min(count, most_listed); ++i) {
        hypercalls::RegisterAssociation one;
        if (copy_in(one, call.input + sizeof(hypercalls::RegistersHeader) + sizeof(one) * i)) {
            text += fmt::format(" {}={}", name_of_register(one.name), value_text(one.value));
        }
    }
    return text;
}

std::string property(const ioctls::RootHvcall& call) {
    hypercalls::SetProperty wanted;
    std::uint64_t value = 0;
    copy_in(&wanted, call.input, std::min<std::size_t>(call.input_size, sizeof(wanted)));
    const auto name = name_of_property(wanted.code);
    if (call.code == hypercalls::set_partition_property) {
        return fmt::format(" {}={:#x}", name, wanted.value);
    }
    if (call.code == hypercalls::get_partition_property_ex) {
        copy_in(value, call.output + 8);
    } else {
        copy_in(value, call.output);
    }
    return call.status == 0 ? fmt::format(" {}={:#x}", name, value) : " " + name;
}

std::string cpuid_result(const ioctls::RootHvcall& call) {
    hypercalls::CpuidResult wanted;
    copy_in(&wanted, call.input, std::min<std::size_t>(call.input_size, sizeof(wanted)));
    return fmt::format(
        " vp={} cpuid {:#x}.{:#x}{} eax={:#x} ebx={:#x} ecx={:#x} edx={:#x}",
        wanted.vp_index,
        wanted.leaf,
        wanted.subleaf,
        wanted.is_subleaf_specific != 0 ? "" : " (all subleaves)",
        wanted.eax.value,
        wanted.ebx.value,
        wanted.ecx.value,
        wanted.edx.value);
}

std::string fields(const ioctls::RootHvcall& call) {
    switch (call.code) {
    case hypercalls::get_vp_registers:
    case hypercalls::set_vp_registers: {
        hypercalls::RegistersHeader header;
        copy_in(header, call.input);
        return fmt::format(" vp={}", header.vp_index) + (call.code == hypercalls::get_vp_registers
                                                             ? registers_read(call)
                                                             : registers_written(call));
    }
    case hypercalls::get_partition_property:
    case hypercalls::set_partition_property:
    case hypercalls::get_partition_property_ex:
        return property(call);
    case hypercalls::register_intercept_result:
        return cpuid_result(call);
    case hypercalls::assert_virtual_interrupt: {
        hypercalls::AssertVirtualInterrupt wanted;
        copy_in(wanted, call.input);
        return fmt::format(
            " control={:#x} destination={:#x} vector={:#x}",
            wanted.control,
            wanted.destination,
            wanted.vector);
    }
    case hypercalls::translate_virtual_address: {
        hypercalls::TranslateVirtualAddress wanted;
        hypercalls::TranslationResult result;
        copy_in(wanted, call.input);
        copy_in(result, call.output);
        return fmt::format(
            " vp={} gva={:#x} flags={:#x} result={} gpa={:#x}",
            wanted.vp_index,
            wanted.gva_page << 12U,
            wanted.control,
            result.code,
            result.gpa_page << 12U);
    }
    case hypercalls::get_gpa_pages_access_states: {
        hypercalls::GetGpaPagesAccessStates wanted;
        copy_in(wanted, call.input);
        return fmt::format(" gfn={:#x} flags={:#x}", wanted.first_gfn, wanted.flags);
    }
    case hypercalls::install_intercept: {
        hypercalls::InstallIntercept wanted;
        copy_in(wanted, call.input);
        return fmt::format(
            " type={} access={} parameter={:#x}", wanted.type, wanted.access, wanted.parameter);
    }
    default:
        return {};
    }
}

std::string describe_hypercall(std::uint64_t argument) {
    ioctls::RootHvcall call;
    if (!copy_in(call, argument)) {
        return std::string{unreadable};
    }
    auto text = fmt::format("{}{}", name_of_hypercall(call.code), fields(call));
    if (call.reps != 0) {
        text += fmt::format(" reps={}", call.reps);
    }
    return text +
           fmt::format(" status={:#x} ({})", call.status, mshv::abi::status::text(call.status));
}

template <typename Payload>
Payload payload_of(const messages::Message& message) {
    return messages::payload_as<Payload>(message);
}

std::string describe_message(std::uint64_t argument) {
    messages::Message message;
    if (!copy_in(message, argument)) {
        return std::string{unreadable};
    }
    auto text = name_of_message(message.type);
    if (message.type == messages::apic_eoi) {
        return text + fmt::format(" vector={:#x}", payload_of<messages::ApicEoi>(message).vector);
    }
    const auto header = payload_of<messages::InterceptHeader>(message);
    text += fmt::format(" rip={:#x}", header.rip);
    if (message.type == messages::io_port) {
        const auto io = payload_of<messages::IoPortIntercept>(message);
        text += fmt::format(
            " {} port={:#x} size={}{}{} length={} rax={:#x}",
            header.access == messages::intercept_access::write ? "out" : "in",
            io.port,
            io.access_info & messages::io_access::size,
            (io.access_info & messages::io_access::string) != 0 ? " string" : "",
            (io.access_info & messages::io_access::rep) != 0 ? " rep" : "",
            header.instruction_length(),
            io.rax);
    } else if (message.type == messages::unmapped_gpa || message.type == messages::gpa_intercept) {
        const auto memory = payload_of<messages::MemoryIntercept>(message);
        constexpr std::array accesses{"read", "write", "execute"};
        text += fmt::format(
            " {} gpa={:#x}",
            accesses[std::min<std::size_t>(header.access, accesses.size() - 1)],
            memory.gpa);
        if ((memory.info & messages::memory_info::gva_valid) != 0) {
            text += fmt::format(" gva={:#x}", memory.gva);
        }
        text += " code=";
        for (std::uint8_t i = 0; i < std::min<std::uint8_t>(memory.instruction_byte_count, 16);
             ++i) {
            text += fmt::format("{:02x}", memory.instruction_bytes[i]);
        }
    }
    return text;
}

std::string describe_partition_call(const TracedCall& call) {
    if (call.request == ioctls::initialize_partition) {
        return "INITIALIZE_PARTITION";
    }
    if (call.request == ioctls::create_vp) {
        ioctls::CreateVp wanted;
        copy_in(wanted, call.argument);
        return fmt::format("CREATE_VP index={}", wanted.vp_index);
    }
    if (call.request == ioctls::set_guest_memory) {
        ioctls::MemoryRegion region;
        copy_in(region, call.argument);
        return fmt::format(
            "SET_GUEST_MEMORY gfn={:#x} size={:#x} host={:#x} flags={:#x}{}",
            region.guest_pfn,
            region.size,
            region.userspace_address,
            region.flags,
            (region.flags & ioctls::memory_flags::unmap) != 0 ? " (unmap)" : "");
    }
    if (call.request == ioctls::irqfd) {
        ioctls::Irqfd irqfd;
        copy_in(irqfd, call.argument);
        return fmt::format(
            "IRQFD fd={} resample={} gsi={} flags={:#x}",
            irqfd.fd,
            irqfd.resample_fd,
            irqfd.gsi,
            irqfd.flags);
    }
    if (call.request == ioctls::ioeventfd) {
        ioctls::Ioeventfd bell;
        copy_in(bell, call.argument);
        return fmt::format(
            "IOEVENTFD address={:#x} length={} match={:#x} fd={} flags={:#x}",
            bell.address,
            bell.length,
            bell.data_match,
            bell.fd,
            bell.flags);
    }
    if (call.request == ioctls::set_msi_routing) {
        ioctls::IrqTableHeader header;
        copy_in(header, call.argument);
        return fmt::format("SET_MSI_ROUTING entries={}", header.count);
    }
    if (call.request == ioctls::get_gpap_access_bitmap) {
        ioctls::GpapAccessBitmap wanted;
        copy_in(wanted, call.argument);
        return fmt::format(
            "GET_GPAP_ACCESS_BITMAP {} {} gfn={:#x} pages={}",
            wanted.access_type == ioctls::access_type::dirty ? "dirty" : "accessed",
            wanted.access_op == ioctls::access_op::clear ? "clear"
            : wanted.access_op == ioctls::access_op::set ? "set"
                                                         : "noop",
            wanted.first_gfn,
            wanted.page_count);
    }
    return fmt::format("request {:#x}", call.request);
}

std::string describe_request(const TracedCall& call) {
    if (call.request == ioctls::root_hvcall) {
        return "ROOT_HVCALL " + describe_hypercall(call.argument);
    }
    if (call.vp) {
        if (call.request == ioctls::run_vp) {
            return "RUN_VP " + (call.result == 0 ? describe_message(call.argument) : "");
        }
        if (call.request == ioctls::get_vp_state || call.request == ioctls::set_vp_state) {
            ioctls::VpState state;
            copy_in(state, call.argument);
            return fmt::format(
                "{}_VP_STATE type={} size={}",
                call.request == ioctls::get_vp_state ? "GET" : "SET",
                state.type,
                state.buffer_size);
        }
        return fmt::format("request {:#x}", call.request);
    }
    if (call.partition == 0 && call.request == ioctls::create_partition) {
        ioctls::CreatePartition wanted;
        copy_in(&wanted, call.argument, sizeof(ioctls::CreatePartitionV1));
        return fmt::format("CREATE_PARTITION flags={:#x}", wanted.flags);
    }
    return describe_partition_call(call);
}

} // namespace

std::string describe(const TracedCall& call) {
    std::string where = fmt::format("fd {}", call.descriptor);
    if (call.partition != 0) {
        where += fmt::format(" partition {}", call.partition);
    }
    if (call.vp) {
        where += fmt::format(" vp {}", *call.vp);
    }
    const auto result = call.result >= 0 ? fmt::format("{}", call.result)
                                         : fmt::format("-1 {}", strerrorname_np(-call.result));
    return fmt::format("{}: {} = {}", where, describe_request(call), result);
}

} // namespace wherry::vmm::mshvsim
