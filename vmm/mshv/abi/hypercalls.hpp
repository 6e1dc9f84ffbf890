// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "vmm/mshv/abi/registers.hpp"

#include <array>
#include <cstddef>
#include <cstdint>

/// The hypercalls that ROOT_HVCALL passes on, and their input and output pages. The kernel writes
/// the partition id into the first 8 bytes of each input.
namespace wherry::vmm::mshv::abi::hypercalls {

inline constexpr std::uint16_t get_partition_property = 0x0044;
inline constexpr std::uint16_t set_partition_property = 0x0045; ///< partition's descriptor only
inline constexpr std::uint16_t install_intercept = 0x004d;
inline constexpr std::uint16_t get_vp_registers = 0x0050; // rep
inline constexpr std::uint16_t set_vp_registers = 0x0051; // rep
inline constexpr std::uint16_t translate_virtual_address = 0x0052;
inline constexpr std::uint16_t read_gpa = 0x0053;  ///< not passed on by Linux 7.2
inline constexpr std::uint16_t write_gpa = 0x0054; ///< not passed on by Linux 7.2
inline constexpr std::uint16_t clear_virtual_interrupt = 0x0056;
inline constexpr std::uint16_t register_intercept_result = 0x0091;
inline constexpr std::uint16_t assert_virtual_interrupt = 0x0094;
inline constexpr std::uint16_t signal_event_direct = 0x00c0;
inline constexpr std::uint16_t post_message_direct = 0x00c1;
inline constexpr std::uint16_t get_gpa_pages_access_states = 0x00c9; // rep
inline constexpr std::uint16_t get_vp_cpuid_values = 0x00f4;         // rep
inline constexpr std::uint16_t get_partition_property_ex = 0x0101;

struct GetProperty {
    std::uint64_t partition_id = 0;
    std::uint32_t code = 0;
    std::uint32_t padding = 0;
};
static_assert(sizeof(GetProperty) == 16);

struct SetProperty {
    std::uint64_t partition_id = 0;
    std::uint32_t code = 0;
    std::uint32_t padding = 0;
    std::uint64_t value = 0;
};
static_assert(sizeof(SetProperty) == 24);

struct GetPropertyEx {
    std::uint64_t partition_id = 0;
    std::uint32_t code = 0;
    std::uint32_t padding = 0;
    std::uint64_t argument = 0;
};
static_assert(sizeof(GetPropertyEx) == 24);
inline constexpr std::size_t max_property_ex_output = 4072;
/// Output of vmm_capabilities and assignable_synthetic_features.
struct PropertyExBanks {
    std::uint16_t banks = 0;
    std::array<std::uint16_t, 3> reserved{};
    std::uint64_t bank0 = 0;
};
static_assert(sizeof(PropertyExBanks) == 16);

struct InstallIntercept {
    std::uint64_t partition_id = 0;
    std::uint32_t access = 0; ///< intercept_access; 0: none
    std::uint32_t type = 0;   ///< intercept_type
    std::uint64_t parameter = 0;
};
static_assert(sizeof(InstallIntercept) == 24);
namespace intercept_access {
inline constexpr std::uint32_t read = 1;
inline constexpr std::uint32_t write = 2;
inline constexpr std::uint32_t execute = 4;
} // namespace intercept_access
namespace intercept_type {
inline constexpr std::uint32_t io_port = 0;
inline constexpr std::uint32_t msr = 1;
inline constexpr std::uint32_t cpuid = 2;
inline constexpr std::uint32_t exception = 3;
inline constexpr std::uint32_t mmio = 5;
inline constexpr std::uint32_t global_cpuid = 6;
inline constexpr std::uint32_t apic_smi = 7;
inline constexpr std::uint32_t hypercall = 8;
inline constexpr std::uint32_t apic_init_sipi = 9;
inline constexpr std::uint32_t microcode_update_read = 0xa;
inline constexpr std::uint32_t apic_write = 0xb;
inline constexpr std::uint32_t msr_index = 0xc;
inline constexpr std::uint32_t maximum = 0xd;
} // namespace intercept_type

/// Header of get_vp_registers (then u32 names) and set_vp_registers (then RegisterAssociation).
struct RegistersHeader {
    std::uint64_t partition_id = 0;
    std::uint32_t vp_index = 0;
    std::uint8_t vtl = 0;
    std::array<std::uint8_t, 3> reserved{};
};
static_assert(sizeof(RegistersHeader) == 16);
inline constexpr std::size_t max_registers_read = 256;
inline constexpr std::size_t max_registers_written = 127;
struct RegisterAssociation {
    std::uint32_t name = 0;
    std::uint32_t reserved0 = 0;
    std::uint64_t reserved1 = 0;
    RegisterValue value;
};
static_assert(sizeof(RegisterAssociation) == 32);
static_assert(offsetof(RegisterAssociation, value) == 16);

struct TranslateVirtualAddress {
    std::uint64_t partition_id = 0;
    std::uint32_t vp_index = 0;
    std::uint32_t padding = 0;
    std::uint64_t control = 0; ///< translate_flags; VTL in the top byte
    std::uint64_t gva_page = 0;
};
static_assert(sizeof(TranslateVirtualAddress) == 32);
struct TranslationResult {
    std::uint32_t code = 0;  ///< translate_result; the hypercall itself succeeds for all of them
    std::uint32_t cache = 0; ///< cache type 7:0, overlay page 8
    std::uint64_t gpa_page = 0;
};
static_assert(sizeof(TranslationResult) == 16);
namespace translate_flags {
inline constexpr std::uint64_t read = 0x1;
inline constexpr std::uint64_t write = 0x2;
inline constexpr std::uint64_t execute = 0x4;
inline constexpr std::uint64_t privilege_exempt = 0x8;
inline constexpr std::uint64_t set_page_table_bits = 0x10;
inline constexpr std::uint64_t tlb_flush_inhibit = 0x20;
inline constexpr std::uint64_t supervisor = 0x40;
inline constexpr std::uint64_t user = 0x80;
inline constexpr std::uint64_t enforce_smap = 0x100;
inline constexpr std::uint64_t override_smap = 0x200;
inline constexpr std::uint64_t shadow_stack = 0x400;
} // namespace translate_flags
namespace translate_result {
inline constexpr std::uint32_t success = 0;
inline constexpr std::uint32_t page_not_present = 1;
inline constexpr std::uint32_t privilege_violation = 2;
inline constexpr std::uint32_t invalid_page_table_flags = 3;
inline constexpr std::uint32_t gpa_unmapped = 4;
inline constexpr std::uint32_t gpa_no_read_access = 5;
inline constexpr std::uint32_t gpa_no_write_access = 6;
inline constexpr std::uint32_t gpa_illegal_overlay = 7;
inline constexpr std::uint32_t intercept = 8;
inline constexpr std::uint32_t gpa_unaccepted = 9;
} // namespace translate_result

struct ClearVirtualInterrupt {
    std::uint64_t partition_id = 0;
};
static_assert(sizeof(ClearVirtualInterrupt) == 8);

/// register_intercept_result of intercept_type::cpuid. `input_size` bytes go to the hypervisor.
struct CpuidResult {
    static constexpr std::size_t input_size = 60;
    struct Output {
        std::uint32_t value = 0;
        std::uint32_t mask = 0xffffffff; ///< bits taken from `value`, the rest the hypervisor's
    };
    std::uint64_t partition_id = 0;
    std::uint32_t vp_index = 0;
    std::uint32_t type = intercept_type::cpuid;
    std::uint32_t leaf = 0;    ///< input eax
    std::uint32_t subleaf = 0; ///< input ecx
    std::uint8_t is_subleaf_specific = 0;
    std::uint8_t always_override = 0;
    std::uint16_t padding = 0;
    Output eax, ebx, ecx, edx;
};
static_assert(offsetof(CpuidResult, leaf) == 16 && offsetof(CpuidResult, eax) == 28);
static_assert(offsetof(CpuidResult, edx) + sizeof(CpuidResult::Output) == CpuidResult::input_size);
/// register_intercept_result of intercept_type::msr.
struct MsrResult {
    static constexpr std::size_t input_size = 28;
    std::uint64_t partition_id = 0;
    std::uint32_t vp_index = 0;
    std::uint32_t type = intercept_type::msr;
    std::uint32_t msr = 0;
    std::uint32_t access = 0;
    std::uint32_t action = 0;
};
static_assert(offsetof(MsrResult, action) + sizeof(std::uint32_t) == MsrResult::input_size);

struct AssertVirtualInterrupt {
    std::uint64_t partition_id = 0;
    std::uint64_t control = 0;     ///< interrupt_type 31:0, interrupt_control
    std::uint64_t destination = 0; ///< APIC id, or logical destination
    std::uint32_t vector = 0;
    std::uint8_t vtl = 0;
    std::array<std::uint8_t, 3> reserved{};
};
static_assert(sizeof(AssertVirtualInterrupt) == 32);
static_assert(offsetof(AssertVirtualInterrupt, vector) == 24);
namespace interrupt_type {
inline constexpr std::uint32_t fixed = 0;
inline constexpr std::uint32_t lowest_priority = 1;
inline constexpr std::uint32_t smi = 2;
inline constexpr std::uint32_t remote_read = 3;
inline constexpr std::uint32_t nmi = 4;
inline constexpr std::uint32_t init = 5;
inline constexpr std::uint32_t sipi = 6;
inline constexpr std::uint32_t external = 7;
inline constexpr std::uint32_t local_int0 = 8;
inline constexpr std::uint32_t local_int1 = 9;
} // namespace interrupt_type
namespace interrupt_control {
inline constexpr std::uint64_t level_triggered = 1ULL << 32U;
inline constexpr std::uint64_t logical_destination = 1ULL << 33U;
} // namespace interrupt_control

struct SignalEventDirect {
    std::uint64_t partition_id = 0;
    std::uint32_t vp_index = 0;
    std::uint8_t vtl = 0;
    std::uint8_t sint = 0;
    std::uint16_t flag = 0;
};
static_assert(sizeof(SignalEventDirect) == 16);
struct SignalEventResult {
    std::uint8_t newly_signaled = 0;
    std::array<std::uint8_t, 7> reserved{};
};
static_assert(sizeof(SignalEventResult) == 8);

struct PostMessageDirect {
    std::uint64_t partition_id = 0;
    std::uint32_t vp_index = 0;
    std::uint8_t vtl = 0;
    std::array<std::uint8_t, 3> padding0{};
    std::uint32_t sint = 0;
    std::array<std::uint8_t, 256> message{};
    std::uint32_t padding1 = 0;
};
static_assert(sizeof(PostMessageDirect) == 280);
static_assert(offsetof(PostMessageDirect, message) == 20);

/// reps pages from `first_gfn`; output is one byte a page: its state before the operation.
struct GetGpaPagesAccessStates {
    std::uint64_t partition_id = 0;
    std::uint64_t flags = 0; ///< gpa_access_flags; 0 looks without changing
    std::uint64_t first_gfn = 0;
};
static_assert(sizeof(GetGpaPagesAccessStates) == 24);
inline constexpr std::size_t max_gpa_access_reps = 4095;
namespace gpa_access_flags {
inline constexpr std::uint64_t clear_accessed = 1U << 0U;
inline constexpr std::uint64_t set_accessed = 1U << 1U;
inline constexpr std::uint64_t clear_dirty = 1U << 2U;
inline constexpr std::uint64_t set_dirty = 1U << 3U;
} // namespace gpa_access_flags
namespace gpa_access_state {
inline constexpr std::uint8_t accessed = 1U << 0U;
inline constexpr std::uint8_t dirty = 1U << 1U;
} // namespace gpa_access_state

/// One rep; output 4 x u32: eax, ebx, ecx, edx.
struct GetVpCpuidValues {
    std::uint64_t partition_id = 0;
    std::uint32_t vp_index = 0;
    std::uint32_t flags = 0; ///< cpuid_values_flags
    std::uint64_t reserved = 0;
    std::uint32_t leaf = 0;
    std::uint32_t subleaf = 0;
    std::uint64_t xfem = 0;
    std::uint64_t xss = 0;
};
static_assert(sizeof(GetVpCpuidValues) == 48 && offsetof(GetVpCpuidValues, leaf) == 24);
namespace cpuid_values_flags {
inline constexpr std::uint32_t use_vp_xfem_xss = 1U << 0U;
inline constexpr std::uint32_t apply_registered = 1U << 1U;
} // namespace cpuid_values_flags

} // namespace wherry::vmm::mshv::abi::hypercalls
