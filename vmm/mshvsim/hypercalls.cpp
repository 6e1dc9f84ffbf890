// SPDX-License-Identifier: Apache-2.0
#include "vmm/mshvsim/hypercalls.hpp"

#include "vmm/mshv/abi/properties.hpp"
#include "vmm/mshv/abi/register_names.hpp"
#include "vmm/mshv/abi/status.hpp"
#include "vmm/mshv/abi/synthetic_features.hpp"
#include "vmm/mshvsim/page_walk.hpp"
#include "vmm/mshvsim/partition.hpp"

#include <algorithm>

namespace wherry::vmm::mshvsim {

namespace hypercalls = mshv::abi::hypercalls;
namespace property = mshv::abi::properties;
namespace status = mshv::abi::status;

namespace {

std::uint16_t get_property_ex(const EngineCapabilities& engine, Hypercall& call) {
    const auto wanted = call.read<hypercalls::GetPropertyEx>();
    hypercalls::PropertyExBanks answer{.banks = 1};
    switch (wanted.code) {
    case property::ex::vmm_capabilities:
        answer.bank0 = property::vmm_capability::assignable_synthetic;
        break;
    case property::ex::assignable_synthetic_processor_features:
        answer.bank0 = assignable_synthetic_features(engine);
        break;
    default:
        return status::unknown_property;
    }
    call.write(answer);
    return status::success;
}

std::uint16_t get_property(Partition& partition, Hypercall& call) {
    std::uint64_t value = 0;
    const auto answer =
        partition.hypervisor().properties.get(call.read<hypercalls::GetProperty>().code, value);
    call.write(value);
    return answer;
}

std::uint16_t set_property(Partition& partition, Hypercall& call) {
    const auto wanted = call.read<hypercalls::SetProperty>();
    auto& hypervisor = partition.hypervisor();
    if (wanted.code == property::gpa_page_access_tracking) {
        const bool enabled = (wanted.value & property::access_tracking::enable) != 0;
        if (const auto answer = hypervisor.memory.set_tracking(enabled);
            answer != status::success) {
            return answer;
        }
    }
    const auto answer =
        hypervisor.properties.set(wanted.code, wanted.value, partition.is_initialized());
    if (wanted.code == property::time_freeze || wanted.code == property::reference_time) {
        hypervisor.alarm.clock_changed();
    }
    return answer;
}

/// The VP that the header names; its VTL must be 0.
Vp* vp_of(Partition& partition, const hypercalls::RegistersHeader& header, std::uint16_t& answer) {
    Vp* const vp = partition.vp(header.vp_index);
    answer = vp == nullptr     ? status::invalid_vp_index
             : header.vtl != 0 ? status::invalid_parameter
                               : status::success;
    return answer == status::success ? vp : nullptr;
}

std::uint16_t get_registers(Partition& partition, Hypercall& call) {
    std::uint16_t answer = status::success;
    const auto header = call.read<hypercalls::RegistersHeader>();
    Vp* const vp = vp_of(partition, header, answer);
    if (vp == nullptr) {
        return answer;
    }
    if (call.reps > hypercalls::max_registers_read) {
        return status::invalid_hypercall_input;
    }
    return vp->with_registers([&call](VpRegisters& registers) {
        for (; call.done < call.reps; ++call.done) {
            const auto name =
                call.read<std::uint32_t>(sizeof(hypercalls::RegistersHeader) + 4U * call.done);
            const auto value = registers.get(name);
            if (!value) {
                return status::invalid_parameter;
            }
            call.write(*value, sizeof(*value) * call.done);
        }
        return status::success;
    });
}

std::uint16_t set_registers(Partition& partition, Hypercall& call) {
    using Association = hypercalls::RegisterAssociation;
    std::uint16_t answer = status::success;
    const auto header = call.read<hypercalls::RegistersHeader>();
    Vp* const vp = vp_of(partition, header, answer);
    if (vp == nullptr) {
        return answer;
    }
    if (call.reps > hypercalls::max_registers_written) {
        return status::invalid_hypercall_input;
    }
    return vp->with_registers([&](VpRegisters& registers) {
        namespace names = mshv::abi::registers;
        using Written = VpRegisters::Written;
        std::uint16_t outcome = status::success;
        auto written = Written::general_only;
        bool is_mode_written = false;
        for (; call.done < call.reps && outcome == status::success; ++call.done) {
            const auto one = call.read<Association>(
                sizeof(hypercalls::RegistersHeader) + sizeof(Association) * call.done);
            written =
                one.name >= names::rax && one.name <= names::rflags ? written : Written::others;
            outcome = one.reserved0 != 0 || one.reserved1 != 0 ? status::invalid_parameter
                                                               : registers.set(one.name, one.value);
            if (outcome != status::success) {
                break;
            }
            is_mode_written = is_mode_written || VpRegisters::is_part_of_mode(one.name);
        }
        if (outcome == status::success && is_mode_written && !registers.is_mode_possible()) {
            outcome = status::invalid_register_value;
            --call.done;
        }
        vp->refresh_page(written);
        return outcome;
    });
}

std::uint32_t code_of(const Translation& at) {
    namespace result = hypercalls::translate_result;
    switch (at.outcome) {
    case Translation::Outcome::success:
        return result::success;
    case Translation::Outcome::not_present:
        return result::page_not_present;
    case Translation::Outcome::privilege:
        return result::privilege_violation;
    case Translation::Outcome::bad_flags:
        return result::invalid_page_table_flags;
    case Translation::Outcome::table_unreadable:
        return result::gpa_no_read_access;
    }
    return result::invalid_page_table_flags;
}

std::uint16_t translate_address(Partition& partition, Hypercall& call) {
    namespace flags = hypercalls::translate_flags;
    namespace result = hypercalls::translate_result;
    const auto wanted = call.read<hypercalls::TranslateVirtualAddress>();
    Vp* const vp = partition.vp(wanted.vp_index);
    if (vp == nullptr) {
        return status::invalid_vp_index;
    }
    auto& memory = partition.hypervisor().memory;
    const auto at = vp->with_registers([&](VpRegisters& registers) {
        const auto& system = registers.shadow().system();
        const bool is_user =
            (wanted.control & flags::user) != 0 ||
            ((wanted.control & flags::supervisor) == 0 && (system.ss.attributes >> 5U & 3U) == 3);
        return translate(
            memory,
            system,
            wanted.gva_page << 12U,
            {.write = (wanted.control & flags::write) != 0,
             .execute = (wanted.control & flags::execute) != 0,
             .user = is_user,
             .check = (wanted.control & flags::privilege_exempt) == 0});
    });
    hypercalls::TranslationResult answer{.code = code_of(at)};
    const auto rights = memory.rights(at.gpa);
    if (at.outcome == Translation::Outcome::success) {
        const bool needs_write = (wanted.control & flags::write) != 0;
        answer.code = !rights.is_mapped              ? result::gpa_unmapped
                      : !rights.read                 ? result::gpa_no_read_access
                      : needs_write && !rights.write ? result::gpa_no_write_access
                                                     : result::success;
    } else if (answer.code == result::gpa_no_read_access && !rights.is_mapped) {
        answer.code = result::gpa_unmapped;
    }
    answer.gpa_page = at.gpa >> 12U;
    call.write(answer);
    return status::success;
}

std::uint16_t register_result(Partition& partition, Hypercall& call) {
    const auto wanted = call.read<hypercalls::CpuidResult>();
    Vp* const vp = partition.vp(wanted.vp_index);
    if (vp == nullptr) {
        return status::invalid_vp_index;
    }
    if (wanted.type == hypercalls::intercept_type::msr) {
        return status::processor_feature_not_supported;
    }
    if (wanted.type != hypercalls::intercept_type::cpuid) {
        return status::invalid_parameter;
    }
    partition.hypervisor().cpuid.register_result(wanted);
    vp->cpuid_changed();
    return status::success;
}

std::uint16_t assert_interrupt(Partition& partition, Hypercall& call) {
    const auto wanted = call.read<hypercalls::AssertVirtualInterrupt>();
    constexpr std::uint32_t to_all = 0xffffffff;
    const bool is_known_place = wanted.destination <= 0xff || wanted.destination == to_all;
    if (wanted.vector > 0xff || wanted.vtl != 0 || !is_known_place) {
        return status::invalid_parameter;
    }
    namespace control = hypercalls::interrupt_control;
    return partition.assert_interrupt(
        {.type = static_cast<std::uint32_t>(wanted.control),
         .destination = static_cast<std::uint32_t>(wanted.destination) & 0xffU,
         .vector = static_cast<std::uint8_t>(wanted.vector),
         .is_level = (wanted.control & control::level_triggered) != 0,
         .is_logical = (wanted.control & control::logical_destination) != 0});
}

std::uint16_t access_states(Partition& partition, Hypercall& call) {
    const auto wanted = call.read<hypercalls::GetGpaPagesAccessStates>();
    if (call.reps > hypercalls::max_gpa_access_reps || (wanted.flags & ~std::uint64_t{0xf}) != 0) {
        return status::invalid_hypercall_input;
    }
    std::array<std::uint8_t, hypercalls::max_gpa_access_reps> states{};
    const auto asked = std::span{states}.first(call.reps);
    const auto answer =
        partition.hypervisor().memory.access_states(wanted.first_gfn, wanted.flags, asked);
    if (answer == status::success) {
        call.done = call.reps;
        std::memcpy(call.output.data(), states.data(), asked.size());
    }
    return answer;
}

std::uint16_t cpuid_values(Partition& partition, Hypercall& call) {
    const auto wanted = call.read<hypercalls::GetVpCpuidValues>();
    if (partition.vp(wanted.vp_index) == nullptr) {
        return status::invalid_vp_index;
    }
    if (call.reps != 1) {
        return status::invalid_hypercall_input;
    }
    const bool applies = (wanted.flags & hypercalls::cpuid_values_flags::apply_registered) != 0;
    const auto entry =
        partition.hypervisor().cpuid.answer(wanted.vp_index, wanted.leaf, wanted.subleaf, applies);
    call.write(std::array{entry.eax, entry.ebx, entry.ecx, entry.edx});
    call.done = 1;
    return status::success;
}

/// What is wrong with a call to this VP's SynIC; success: nothing.
std::uint16_t check_synic(Partition& partition, std::uint32_t vp, std::uint8_t vtl) {
    const bool is_offered = (partition.hypervisor().properties.synthetic_features() &
                             mshv::abi::synthetic_features::synic) != 0;
    return !is_offered                   ? status::operation_denied
           : partition.vp(vp) == nullptr ? status::invalid_vp_index
           : vtl != 0                    ? status::invalid_parameter
                                         : status::success;
}

std::uint16_t signal_event(Partition& partition, Hypercall& call) {
    const auto wanted = call.read<hypercalls::SignalEventDirect>();
    const auto checked = check_synic(partition, wanted.vp_index, wanted.vtl);
    if (checked != status::success) {
        return checked;
    }
    bool is_new = false;
    const auto answer = partition.vp(wanted.vp_index)->with_registers([&](VpRegisters& registers) {
        return registers.synic().signal(wanted.sint, wanted.flag, is_new);
    });
    call.write(hypercalls::SignalEventResult{.newly_signaled = static_cast<std::uint8_t>(is_new)});
    return answer;
}

std::uint16_t post_message(Partition& partition, Hypercall& call) {
    const auto wanted = call.read<hypercalls::PostMessageDirect>();
    const auto checked = check_synic(partition, wanted.vp_index, wanted.vtl);
    if (checked != status::success) {
        return checked;
    }
    Synic::Message message;
    static_assert(sizeof(message) == sizeof(wanted.message));
    std::memcpy(&message, wanted.message.data(), sizeof(message));
    if (message.payload_size > message.payload.size() || message.type == 0) {
        return status::invalid_parameter;
    }
    return partition.vp(wanted.vp_index)->with_registers([&](VpRegisters& registers) {
        return registers.synic().post(wanted.sint, message);
    });
}

bool is_repeated(std::uint16_t code) {
    return code == hypercalls::get_vp_registers || code == hypercalls::set_vp_registers ||
           code == hypercalls::get_gpa_pages_access_states ||
           code == hypercalls::get_vp_cpuid_values;
}

} // namespace

std::uint16_t execute_on_host(const EngineCapabilities& engine, Hypercall& call) {
    if (call.code == hypercalls::get_partition_property_ex) {
        return get_property_ex(engine, call);
    }
    const auto value = host_property(engine, call.read<hypercalls::GetProperty>().code);
    if (!value) {
        return status::unknown_property;
    }
    call.write(*value);
    return status::success;
}

std::uint16_t execute_on_partition(Partition& partition, Hypercall& call) {
    if (is_repeated(call.code) != (call.reps != 0)) {
        return status::invalid_hypercall_input;
    }
    switch (call.code) {
    case hypercalls::get_partition_property:
        return get_property(partition, call);
    case hypercalls::set_partition_property:
        return set_property(partition, call);
    case hypercalls::get_partition_property_ex:
        return get_property_ex(partition.hypervisor().engine->capabilities(), call);
    case hypercalls::get_vp_registers:
        return get_registers(partition, call);
    case hypercalls::set_vp_registers:
        return set_registers(partition, call);
    case hypercalls::translate_virtual_address:
        return translate_address(partition, call);
    case hypercalls::register_intercept_result:
        return register_result(partition, call);
    case hypercalls::assert_virtual_interrupt:
        return assert_interrupt(partition, call);
    case hypercalls::get_gpa_pages_access_states:
        return access_states(partition, call);
    case hypercalls::get_vp_cpuid_values:
        return cpuid_values(partition, call);
    case hypercalls::clear_virtual_interrupt:
        return status::success;
    case hypercalls::install_intercept: // kept by nobody: see README.md
        return call.read<hypercalls::InstallIntercept>().type <= hypercalls::intercept_type::maximum
                   ? status::success
                   : status::invalid_parameter;
    case hypercalls::signal_event_direct:
        return signal_event(partition, call);
    case hypercalls::post_message_direct:
        return post_message(partition, call);
    default:
        return status::operation_denied;
    }
}

int Partition::hypercall(std::uint64_t argument, HypercallSource source) {
    std::unique_lock held{driver_lock_, std::defer_lock};
    if (source == HypercallSource::partition) {
        held.lock();
    }
    return root_hypercall(argument, source, hypervisor_.partition_id, [this](Hypercall& call) {
        return execute_on_partition(*this, call);
    });
}

} // namespace wherry::vmm::mshvsim
