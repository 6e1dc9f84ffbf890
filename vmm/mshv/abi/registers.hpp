// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>

namespace wherry::vmm::mshv::abi {

/// The 16 bytes that every register's value takes. Integers sit in the low bytes, the rest is 0;
/// the structures below are other readings of the same bytes.
struct RegisterValue {
    std::uint64_t low = 0;
    std::uint64_t high = 0;
    friend bool operator==(const RegisterValue&, const RegisterValue&) = default;
};
static_assert(sizeof(RegisterValue) == 16);

struct SegmentValue {
    std::uint64_t base = 0;
    std::uint32_t limit = 0;
    std::uint16_t selector = 0;
    /// Type 3:0, S 4, DPL 6:5, P 7, AVL 12, L 13, D/B 14, G 15.
    std::uint16_t attributes = 0;
    friend bool operator==(const SegmentValue&, const SegmentValue&) = default;
};
static_assert(sizeof(SegmentValue) == 16 && offsetof(SegmentValue, selector) == 12);

struct TableValue {
    std::array<std::uint16_t, 3> padding{};
    std::uint16_t limit = 0;
    std::uint64_t base = 0;
    friend bool operator==(const TableValue&, const TableValue&) = default;
};
static_assert(sizeof(TableValue) == 16 && offsetof(TableValue, limit) == 6);

/// Name fp_control_status.
struct FpControlStatusValue {
    std::uint16_t control = 0;
    std::uint16_t status = 0;
    std::uint8_t tag = 0; ///< abridged: a bit per register that is not empty
    std::uint8_t reserved = 0;
    std::uint16_t last_opcode = 0;
    std::uint64_t last_rip = 0; ///< outside long mode: EIP 31:0, CS 47:32
};
static_assert(sizeof(FpControlStatusValue) == 16 && offsetof(FpControlStatusValue, last_rip) == 8);

/// Name xmm_control_status.
struct XmmControlStatusValue {
    std::uint64_t last_rdp = 0; ///< outside long mode: DP 31:0, DS 47:32
    std::uint32_t mxcsr = 0;
    std::uint32_t mxcsr_mask = 0;
};
static_assert(sizeof(XmmControlStatusValue) == 16);

/// Reads a register value as one of the structures, and back.
template <typename Reading>
[[nodiscard]] constexpr Reading read_as(const RegisterValue& value) noexcept {
    return std::bit_cast<Reading>(value);
}
template <typename Reading>
[[nodiscard]] constexpr RegisterValue value_of(const Reading& reading) noexcept {
    static_assert(sizeof(Reading) == sizeof(RegisterValue));
    return std::bit_cast<RegisterValue>(reading);
}

/// Name pending_interruption: what is being delivered, to be delivered again on entry.
namespace pending_interruption {
inline constexpr std::uint64_t pending = 1U << 0U;
inline constexpr unsigned type_shift = 1; // 3 bits
inline constexpr std::uint64_t deliver_error_code = 1U << 4U;
inline constexpr unsigned instruction_length_shift = 5; // 4 bits
inline constexpr std::uint64_t nested_event = 1U << 9U;
inline constexpr unsigned vector_shift = 16;     // 16 bits
inline constexpr unsigned error_code_shift = 32; // 32 bits

inline constexpr std::uint64_t type_interrupt = 0;
inline constexpr std::uint64_t type_nmi = 2;
inline constexpr std::uint64_t type_exception = 3;
inline constexpr std::uint64_t type_software_interrupt = 4;
inline constexpr std::uint64_t type_privileged_software_exception = 5;
inline constexpr std::uint64_t type_software_exception = 6;
} // namespace pending_interruption

/// Name interrupt_state.
namespace interrupt_state {
inline constexpr std::uint64_t shadow = 1U << 0U; ///< of STI and MOV SS alike
inline constexpr std::uint64_t nmi_masked = 1U << 1U;
} // namespace interrupt_state

/// Name pending_event0, low half; the high half is the parameter (CR2 of a page fault).
namespace pending_event {
inline constexpr std::uint64_t pending = 1U << 0U;
inline constexpr unsigned type_shift = 1; // 3 bits
inline constexpr std::uint64_t type_exception = 0;
inline constexpr std::uint64_t deliver_error_code = 1U << 8U;
inline constexpr unsigned vector_shift = 16;     // 16 bits
inline constexpr unsigned error_code_shift = 32; // 32 bits
} // namespace pending_event

/// Name internal_activity.
namespace internal_activity {
inline constexpr std::uint64_t startup_suspend = 1U << 0U; ///< waits for SIPI
inline constexpr std::uint64_t halt_suspend = 1U << 1U;
inline constexpr std::uint64_t idle_suspend = 1U << 2U;
} // namespace internal_activity

/// Names explicit_suspend and intercept_suspend.
inline constexpr std::uint64_t suspended = 1;

} // namespace wherry::vmm::mshv::abi
