// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cerrno>
#include <cstdint>
#include <string_view>

/// What the hypervisor answers to a hypercall (low 16 bits), and what Linux makes of it.
namespace wherry::vmm::mshv::abi::status {

inline constexpr std::uint16_t success = 0x00;
inline constexpr std::uint16_t invalid_hypercall_code = 0x02;
inline constexpr std::uint16_t invalid_hypercall_input = 0x03;
inline constexpr std::uint16_t invalid_alignment = 0x04;
inline constexpr std::uint16_t invalid_parameter = 0x05;
inline constexpr std::uint16_t access_denied = 0x06;
inline constexpr std::uint16_t invalid_partition_state = 0x07;
inline constexpr std::uint16_t operation_denied = 0x08;
inline constexpr std::uint16_t unknown_property = 0x09;
inline constexpr std::uint16_t property_value_out_of_range = 0x0a;
inline constexpr std::uint16_t insufficient_memory = 0x0b;
inline constexpr std::uint16_t invalid_partition_id = 0x0d;
inline constexpr std::uint16_t invalid_vp_index = 0x0e;
inline constexpr std::uint16_t not_found = 0x10;
inline constexpr std::uint16_t invalid_port_id = 0x11;
inline constexpr std::uint16_t invalid_connection_id = 0x12;
inline constexpr std::uint16_t insufficient_buffers = 0x13;
inline constexpr std::uint16_t not_acknowledged = 0x14;
inline constexpr std::uint16_t invalid_vp_state = 0x15;
inline constexpr std::uint16_t no_resources = 0x1d;
inline constexpr std::uint16_t processor_feature_not_supported = 0x20;
inline constexpr std::uint16_t invalid_lp_index = 0x41;
inline constexpr std::uint16_t invalid_register_value = 0x50;
inline constexpr std::uint16_t operation_failed = 0x71;
inline constexpr std::uint16_t insufficient_root_memory = 0x73;
inline constexpr std::uint16_t insufficient_contiguous_memory = 0x75;
inline constexpr std::uint16_t time_out = 0x78;
inline constexpr std::uint16_t call_pending = 0x79;
inline constexpr std::uint16_t insufficient_contiguous_root_memory = 0x83;
inline constexpr std::uint16_t vtl_already_enabled = 0x86;

/// The errno (positive; 0 for success) that Linux returns for a status.
constexpr int to_errno(std::uint16_t code) noexcept {
    switch (code) {
    case success:
        return 0;
    case invalid_hypercall_code:
    case invalid_hypercall_input:
    case invalid_parameter:
    case invalid_partition_id:
    case invalid_vp_index:
    case invalid_port_id:
    case invalid_connection_id:
    case invalid_lp_index:
    case invalid_register_value:
        return EINVAL;
    case insufficient_memory:
    case insufficient_root_memory:
    case insufficient_contiguous_memory:
    case insufficient_contiguous_root_memory:
        return ENOMEM;
    default:
        return EIO;
    }
}
static_assert(to_errno(0x0b) == ENOMEM && to_errno(0x0c) == EIO && to_errno(0x50) == EINVAL);

/// For people; "unknown status" for what is not listed.
constexpr std::string_view text(std::uint16_t code) noexcept {
    switch (code) {
    case success:
        return "success";
    case invalid_hypercall_code:
        return "invalid hypercall code";
    case invalid_hypercall_input:
        return "invalid hypercall input";
    case invalid_alignment:
        return "invalid alignment";
    case invalid_parameter:
        return "invalid parameter";
    case access_denied:
        return "access denied";
    case invalid_partition_state:
        return "invalid partition state";
    case operation_denied:
        return "operation denied";
    case unknown_property:
        return "unknown property";
    case property_value_out_of_range:
        return "property value out of range";
    case insufficient_memory:
    case insufficient_root_memory:
    case insufficient_contiguous_memory:
    case insufficient_contiguous_root_memory:
        return "insufficient memory";
    case invalid_partition_id:
        return "invalid partition id";
    case invalid_vp_index:
        return "invalid VP index";
    case not_found:
        return "not found";
    case invalid_vp_state:
        return "invalid VP state";
    case processor_feature_not_supported:
        return "processor feature not supported";
    case invalid_register_value:
        return "invalid register value";
    case operation_failed:
        return "operation failed";
    case time_out:
        return "time-out";
    case call_pending:
        return "call pending";
    default:
        return "unknown status";
    }
}

} // namespace wherry::vmm::mshv::abi::status
