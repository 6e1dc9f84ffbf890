// SPDX-License-Identifier: Apache-2.0
#include "vmm/mshvsim/intercepts.hpp"

#include "vmm/mshvsim/vp_registers.hpp"

#include <algorithm>
#include <array>
#include <cstring>

namespace wherry::vmm::mshvsim {

namespace messages = mshv::abi::messages;
using messages::Message;

namespace {

constexpr std::uint64_t cr0_pe = 1U << 0U;
constexpr std::uint64_t cr0_am = 1U << 18U;
constexpr std::uint64_t efer_lma = 1U << 10U;
constexpr std::uint64_t dr7_enabled = 0xff;

template <typename Payload>
Message message_of(
    const InterceptSource& from,
    std::uint32_t type,
    const Payload& payload,
    std::size_t size = sizeof(Payload)) {
    Message message{.type = type, .payload_size = static_cast<std::uint8_t>(size)};
    message.sender = from.partition_id;
    std::memcpy(message.payload.data(), &payload, size);
    return message;
}

std::uint16_t execution_state(CpuShadow& shadow) {
    namespace bits = messages::execution_state;
    const auto& system = shadow.system();
    std::uint32_t state = system.ss.attributes >> 5U & bits::cpl;
    state |= (system.cr0 & cr0_pe) != 0 ? bits::protected_mode : 0U;
    state |= (system.cr0 & cr0_am) != 0 ? bits::alignment_mask : 0U;
    state |= (system.efer & efer_lma) != 0 ? bits::long_mode_active : 0U;
    state |= (shadow.debug().dr7 & dr7_enabled) != 0 ? bits::debug_active : 0U;
    state |= pending_interruption_of(shadow.events()) != 0 ? bits::interruption_pending : 0U;
    state |= shadow.events().interrupt.shadow != 0 ? bits::interrupt_shadow : 0U;
    return static_cast<std::uint16_t>(state);
}

messages::InterceptHeader
header_of(const InterceptSource& from, std::uint8_t length, Access access) {
    const auto& system = from.shadow.system();
    return {
        .vp_index = from.vp_index,
        .instruction_length_and_cr8 =
            static_cast<std::uint8_t>((length & 0xfU) | (system.cr8 << 4U & 0xf0U)),
        .access = static_cast<std::uint8_t>(access),
        .execution_state = execution_state(from.shadow),
        .cs = segment_value(system.cs),
        .rip = from.shadow.registers().rip,
        .rflags = from.shadow.registers().rflags};
}

std::uint8_t put_code(std::array<std::uint8_t, 16>& bytes, const InterceptSource& from) {
    const std::size_t count = std::min(bytes.size(), from.code.size());
    std::ranges::copy(from.code.first(count), std::as_writable_bytes(std::span{bytes}).begin());
    return static_cast<std::uint8_t>(count);
}

} // namespace

Message port_intercept(const InterceptSource& from, const Exit& exit) {
    const auto& registers = from.shadow.registers();
    messages::IoPortIntercept payload;
    payload.header =
        header_of(from, exit.instruction_length, exit.is_write ? Access::write : Access::read);
    payload.port = exit.port;
    payload.access_info = static_cast<std::uint8_t>(
        exit.size | (exit.is_string ? messages::io_access::string : 0U) |
        (exit.is_repeated ? messages::io_access::rep : 0U));
    payload.instruction_byte_count = put_code(payload.instruction_bytes, from);
    payload.rax = registers.rax;
    payload.ds = segment_value(from.shadow.system().ds);
    payload.es = segment_value(from.shadow.system().es);
    payload.rcx = registers.rcx;
    payload.rsi = registers.rsi;
    payload.rdi = registers.rdi;
    return message_of(from, messages::io_port, payload);
}

Message memory_intercept(const InterceptSource& from, const Exit& exit) {
    messages::MemoryIntercept payload;
    payload.header = header_of(from, exit.instruction_length, exit.access);
    constexpr std::uint32_t write_back = 6;
    payload.cache_type = exit.is_mapped ? write_back : 0;
    payload.instruction_byte_count = put_code(payload.instruction_bytes, from);
    payload.tpr = static_cast<std::uint8_t>(from.shadow.system().cr8 << 4U);
    payload.gpa = exit.gpa;
    if (exit.gva) {
        payload.gva = *exit.gva;
        payload.info = messages::memory_info::gva_valid | messages::memory_info::gva_gpa_valid;
    }
    return message_of(
        from, exit.is_mapped ? messages::gpa_intercept : messages::unmapped_gpa, payload);
}

Message bare_intercept(const InterceptSource& from, std::uint32_t type) {
    return message_of(from, type, header_of(from, 0, Access::read));
}

Message end_of_interrupt(const InterceptSource& from, std::uint32_t vector) {
    return message_of(
        from, messages::apic_eoi, messages::ApicEoi{.vp_index = from.vp_index, .vector = vector});
}

Message invalid_register(const InterceptSource& from) {
    return message_of(
        from,
        messages::invalid_vp_register_value,
        messages::InvalidVpRegisterValue{.vp_index = from.vp_index});
}

Message unsupported(const InterceptSource& from, std::uint64_t parameter) {
    return message_of(
        from,
        messages::unsupported_feature,
        messages::UnsupportedFeature{.vp_index = from.vp_index, .code = 1, .parameter = parameter});
}

} // namespace wherry::vmm::mshvsim
