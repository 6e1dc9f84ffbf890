// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "vmm/mshv/abi/registers.hpp"

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>

/// What RUN_VP returns: an intercept, or an event of the hypervisor.
namespace wherry::vmm::mshv::abi::messages {

inline constexpr std::uint32_t none = 0;
inline constexpr std::uint32_t unmapped_gpa = 0x80000000;
inline constexpr std::uint32_t gpa_intercept = 0x80000001;
inline constexpr std::uint32_t unaccepted_gpa = 0x80000003;
inline constexpr std::uint32_t gpa_attribute = 0x80000004;
inline constexpr std::uint32_t timer_expired = 0x80000010;
inline constexpr std::uint32_t invalid_vp_register_value = 0x80000020;
inline constexpr std::uint32_t unrecoverable_exception = 0x80000021;
inline constexpr std::uint32_t unsupported_feature = 0x80000022;
inline constexpr std::uint32_t opaque_intercept = 0x8000003f;
inline constexpr std::uint32_t hypercall_intercept = 0x80000050;
inline constexpr std::uint32_t synic_event = 0x80000060;
inline constexpr std::uint32_t synic_sint = 0x80000061;
inline constexpr std::uint32_t synic_sint_deliverable = 0x80000062;
inline constexpr std::uint32_t async_call_completion = 0x80000070;
inline constexpr std::uint32_t scheduler_bitset = 0x80000100;
inline constexpr std::uint32_t scheduler_pair = 0x80000101;
inline constexpr std::uint32_t io_port = 0x80010000;
inline constexpr std::uint32_t msr = 0x80010001;
inline constexpr std::uint32_t cpuid = 0x80010002;
inline constexpr std::uint32_t exception = 0x80010003;
inline constexpr std::uint32_t apic_eoi = 0x80010004;
inline constexpr std::uint32_t legacy_fp_error = 0x80010005;
inline constexpr std::uint32_t halt = 0x80010007;
inline constexpr std::uint32_t interruption_deliverable = 0x80010008;
inline constexpr std::uint32_t sipi_intercept = 0x80010009;
inline constexpr std::uint32_t sev_vmgexit = 0x80010013;

struct Message {
    std::uint32_t type = none;
    std::uint8_t payload_size = 0;
    std::uint8_t flags = 0; ///< bit 0: another is waiting
    std::uint16_t reserved = 0;
    std::uint64_t sender = 0;
    std::array<std::byte, 240> payload{};
};
static_assert(sizeof(Message) == 256 && offsetof(Message, payload) == 16);

/// Opens the payload of intercepts.
struct InterceptHeader {
    std::uint32_t vp_index = 0;
    std::uint8_t instruction_length_and_cr8 = 0; ///< length 3:0, cr8 7:4
    std::uint8_t access = 0;                     ///< intercept_access
    std::uint16_t execution_state = 0;           ///< execution_state
    SegmentValue cs;
    std::uint64_t rip = 0;
    std::uint64_t rflags = 0;

    [[nodiscard]] constexpr std::uint8_t instruction_length() const noexcept {
        return instruction_length_and_cr8 & 0xfU;
    }
};
static_assert(sizeof(InterceptHeader) == 40 && offsetof(InterceptHeader, rip) == 24);

namespace intercept_access {
inline constexpr std::uint8_t read = 0;
inline constexpr std::uint8_t write = 1;
inline constexpr std::uint8_t execute = 2;
} // namespace intercept_access
namespace execution_state {
inline constexpr std::uint16_t cpl = 0x3;
inline constexpr std::uint16_t protected_mode = 1U << 2U;
inline constexpr std::uint16_t alignment_mask = 1U << 3U;
inline constexpr std::uint16_t long_mode_active = 1U << 4U;
inline constexpr std::uint16_t debug_active = 1U << 5U;
inline constexpr std::uint16_t interruption_pending = 1U << 6U;
inline constexpr std::uint16_t vtl = 0xfU << 7U;
inline constexpr std::uint16_t enclave_mode = 1U << 11U;
inline constexpr std::uint16_t interrupt_shadow = 1U << 12U;
inline constexpr std::uint16_t virtualization_fault_active = 1U << 13U;
} // namespace execution_state

/// unmapped_gpa, gpa_intercept, unaccepted_gpa.
struct MemoryIntercept {
    InterceptHeader header; ///< its instruction length is not to be relied on
    std::uint32_t cache_type = 0;
    std::uint8_t instruction_byte_count = 0; ///< may be 0
    std::uint8_t info = 0;                   ///< memory_info
    std::uint8_t tpr = 0;
    std::uint8_t reserved = 0;
    std::uint64_t gva = 0;
    std::uint64_t gpa = 0;
    std::array<std::uint8_t, 16> instruction_bytes{};
};
static_assert(sizeof(MemoryIntercept) == 80 && offsetof(MemoryIntercept, gva) == 48);
namespace memory_info {
inline constexpr std::uint8_t gva_valid = 1U << 0U;
inline constexpr std::uint8_t gva_gpa_valid = 1U << 1U;
inline constexpr std::uint8_t hypercall_output_pending = 1U << 2U;
inline constexpr std::uint8_t tlb_locked_no_overlay = 1U << 3U;
} // namespace memory_info

struct IoPortIntercept {
    InterceptHeader header;
    std::uint16_t port = 0;
    std::uint8_t access_info = 0; ///< io_access
    std::uint8_t instruction_byte_count = 0;
    std::uint32_t reserved = 0;
    std::uint64_t rax = 0;
    std::array<std::uint8_t, 16> instruction_bytes{};
    SegmentValue ds;
    SegmentValue es;
    std::uint64_t rcx = 0;
    std::uint64_t rsi = 0;
    std::uint64_t rdi = 0;
};
static_assert(sizeof(IoPortIntercept) == 128 && offsetof(IoPortIntercept, rax) == 48);
static_assert(offsetof(IoPortIntercept, ds) == 72 && offsetof(IoPortIntercept, rcx) == 104);
namespace io_access {
inline constexpr std::uint8_t size = 0x7; ///< bytes: 1, 2, 4
inline constexpr std::uint8_t string = 1U << 3U;
inline constexpr std::uint8_t rep = 1U << 4U;
} // namespace io_access

struct CpuidIntercept {
    InterceptHeader header;
    std::uint64_t rax = 0, rcx = 0, rdx = 0, rbx = 0;
    std::uint64_t default_rax = 0, default_rcx = 0, default_rdx = 0, default_rbx = 0;
};
static_assert(sizeof(CpuidIntercept) == 104);

struct MsrIntercept {
    InterceptHeader header;
    std::uint32_t msr = 0;
    std::uint32_t reserved = 0;
    std::uint64_t rdx = 0;
    std::uint64_t rax = 0;
};
static_assert(sizeof(MsrIntercept) == 64);

struct ExceptionIntercept {
    InterceptHeader header;
    std::uint16_t vector = 0;
    std::uint8_t info = 0; ///< bit 0 error code valid, bit 1 software exception
    std::uint8_t instruction_byte_count = 0;
    std::uint32_t error_code = 0;
    std::uint64_t parameter = 0;
    std::uint64_t reserved = 0;
    std::array<std::uint8_t, 16> instruction_bytes{};
    SegmentValue ds;
    SegmentValue ss;
    std::uint64_t rax = 0, rcx = 0, rdx = 0, rbx = 0, rsp = 0, rbp = 0, rsi = 0, rdi = 0;
    std::array<std::uint64_t, 8> r8_to_r15{};
};
static_assert(sizeof(ExceptionIntercept) == 240 && offsetof(ExceptionIntercept, rax) == 112);

struct HypercallIntercept {
    static constexpr std::size_t payload_size = 196;
    InterceptHeader header;
    std::uint64_t rax = 0, rbx = 0, rcx = 0, rdx = 0, r8 = 0, rsi = 0, rdi = 0;
    std::array<RegisterValue, 6> xmm{};
    std::uint32_t flags = 0;
};
static_assert(offsetof(HypercallIntercept, xmm) == 96);
static_assert(
    offsetof(HypercallIntercept, flags) + sizeof(std::uint32_t) ==
    HypercallIntercept::payload_size);

struct RegisterIntercept {
    InterceptHeader header;
    std::uint8_t is_memory_operand = 0;
    std::array<std::uint8_t, 3> reserved{};
    std::uint32_t name = 0;
    RegisterValue value;
};
static_assert(sizeof(RegisterIntercept) == 64);

/// No common header.
struct ApicEoi {
    std::uint32_t vp_index = 0;
    std::uint32_t vector = 0;
};
static_assert(sizeof(ApicEoi) == 8);

struct InvalidVpRegisterValue {
    std::uint32_t vp_index = 0;
    std::uint32_t reserved = 0;
};
static_assert(sizeof(InvalidVpRegisterValue) == 8);

struct UnsupportedFeature {
    std::uint32_t vp_index = 0;
    std::uint32_t code = 0; ///< 1 intercept, 2 task switch
    std::uint64_t parameter = 0;
};
static_assert(sizeof(UnsupportedFeature) == 16);

struct InterruptionDeliverable {
    InterceptHeader header;
    std::uint32_t type = 0; ///< 0 interrupt, 2 NMI, 3 exception
    std::uint32_t reserved = 0;
};
static_assert(sizeof(InterruptionDeliverable) == 48);

struct SintDeliverable {
    InterceptHeader header;
    std::uint16_t mask = 0;
    std::array<std::uint8_t, 6> reserved{};
};
static_assert(sizeof(SintDeliverable) == 48);

struct SipiIntercept {
    InterceptHeader header;
    std::uint32_t target_vp = 0;
    std::uint32_t vector = 0;
};
static_assert(sizeof(SipiIntercept) == 48);

struct GpaAttribute {
    std::uint32_t vp_index = 0;
    std::uint32_t info = 0; ///< count 4:0, adjust 5, host visibility 7:6, memory type 13:8
    std::array<std::uint64_t, 29> ranges{};
};
static_assert(sizeof(GpaAttribute) == 240);

/// The payload of a message, as the structure its type says it is.
template <typename Payload>
[[nodiscard]] Payload payload_as(const Message& message) noexcept {
    static_assert(std::is_trivially_copyable_v<Payload>);
    Payload payload;
    constexpr std::size_t size =
        sizeof(Payload) < sizeof(message.payload) ? sizeof(Payload) : sizeof(message.payload);
    std::memcpy(&payload, message.payload.data(), size);
    return payload;
}

} // namespace wherry::vmm::mshv::abi::messages
