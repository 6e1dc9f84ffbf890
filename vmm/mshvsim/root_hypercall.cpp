// SPDX-License-Identifier: Apache-2.0
#include "vmm/mshv/abi/status.hpp"
#include "vmm/mshvsim/hypercalls.hpp"
#include "vmm/mshvsim/user_memory.hpp"

#include <algorithm>
#include <cerrno>

namespace wherry::vmm::mshvsim::detail {

namespace hypercalls = mshv::abi::hypercalls;
namespace status = mshv::abi::status;

namespace {

/// Sheet 1.10, the driver's lists.
bool is_allowed(std::uint16_t code, HypercallSource source) {
    constexpr std::uint16_t everywhere[] = {
        hypercalls::get_partition_property, hypercalls::get_partition_property_ex};
    constexpr std::uint16_t in_partitions[] = {
        hypercalls::install_intercept,
        hypercalls::get_vp_registers,
        hypercalls::set_vp_registers,
        hypercalls::translate_virtual_address,
        hypercalls::clear_virtual_interrupt,
        hypercalls::register_intercept_result,
        hypercalls::assert_virtual_interrupt,
        hypercalls::signal_event_direct,
        hypercalls::post_message_direct,
        hypercalls::get_gpa_pages_access_states,
        hypercalls::get_vp_cpuid_values};
    if (std::ranges::find(everywhere, code) != std::end(everywhere)) {
        return true;
    }
    if (code == hypercalls::set_partition_property) { // asynchronous
        return source == HypercallSource::partition;
    }
    return source != HypercallSource::device &&
           std::ranges::find(in_partitions, code) != std::end(in_partitions);
}

} // namespace

int begin_hypercall(
    std::uint64_t argument,
    HypercallSource source,
    std::uint64_t partition_id,
    mshv::abi::ioctls::RootHvcall& wanted,
    Hypercall& call) {
    if (!copy_in(wanted, argument)) {
        return EFAULT;
    }
    const bool is_output_bad =
        wanted.output != 0 && (wanted.output_size == 0 || wanted.output_size > 4096);
    if (wanted.status != 0 || wanted.input == 0 || wanted.input_size < 8 ||
        wanted.input_size > 4096 ||
        std::ranges::any_of(wanted.reserved, [](auto byte) { return byte != 0; }) ||
        is_output_bad || !is_allowed(wanted.code, source)) {
        return EINVAL;
    }
    if (!copy_in(call.input.data(), wanted.input, wanted.input_size)) {
        return EFAULT;
    }
    std::memcpy(call.input.data(), &partition_id, sizeof(partition_id));
    call.code = wanted.code;
    call.reps = wanted.reps;
    return 0;
}

int end_hypercall(
    std::uint64_t argument,
    mshv::abi::ioctls::RootHvcall& wanted,
    const Hypercall& call,
    std::uint16_t answer) {
    wanted.status = answer;
    wanted.reps = call.done;
    if (!copy_out(argument, wanted)) {
        return EFAULT;
    }
    if (answer == status::success && wanted.output != 0 &&
        !copy_out(wanted.output, call.output.data(), wanted.output_size)) {
        return EFAULT;
    }
    return status::to_errno(answer);
}

} // namespace wherry::vmm::mshvsim::detail
