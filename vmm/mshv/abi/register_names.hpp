// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

/// Names of VP registers for get_vp_registers and set_vp_registers.
namespace wherry::vmm::mshv::abi::registers {

// Suspension and activity
inline constexpr std::uint32_t explicit_suspend = 0x00000;
inline constexpr std::uint32_t intercept_suspend = 0x00001;
inline constexpr std::uint32_t emulation_hints = 0x00002;
inline constexpr std::uint32_t dispatch_suspend = 0x00003;
inline constexpr std::uint32_t internal_activity = 0x00004;

// Information
inline constexpr std::uint32_t hypervisor_version = 0x00100;
inline constexpr std::uint32_t privileges_and_features = 0x00200;
inline constexpr std::uint32_t features = 0x00201;
inline constexpr std::uint32_t implementation_limits = 0x00202;
inline constexpr std::uint32_t hardware_features = 0x00203;
inline constexpr std::uint32_t crash_p0 = 0x00210;
inline constexpr std::uint32_t crash_p1 = 0x00211;
inline constexpr std::uint32_t crash_p2 = 0x00212;
inline constexpr std::uint32_t crash_p3 = 0x00213;
inline constexpr std::uint32_t crash_p4 = 0x00214;
inline constexpr std::uint32_t crash_control = 0x00215;
inline constexpr std::uint32_t tsc_frequency = 0x00240;
inline constexpr std::uint32_t apic_frequency = 0x00241;
inline constexpr std::uint32_t guest_idle = 0x00250;

// Events
inline constexpr std::uint32_t pending_interruption = 0x10002;
inline constexpr std::uint32_t interrupt_state = 0x10003;
inline constexpr std::uint32_t pending_event0 = 0x10004;
inline constexpr std::uint32_t pending_event1 = 0x10005;
inline constexpr std::uint32_t deliverability_notifications = 0x10006;
inline constexpr std::uint32_t pending_debug_exception = 0x10007;

// General
inline constexpr std::uint32_t rax = 0x20000;
inline constexpr std::uint32_t rcx = 0x20001;
inline constexpr std::uint32_t rdx = 0x20002;
inline constexpr std::uint32_t rbx = 0x20003;
inline constexpr std::uint32_t rsp = 0x20004;
inline constexpr std::uint32_t rbp = 0x20005;
inline constexpr std::uint32_t rsi = 0x20006;
inline constexpr std::uint32_t rdi = 0x20007;
inline constexpr std::uint32_t r8 = 0x20008;
inline constexpr std::uint32_t r9 = 0x20009;
inline constexpr std::uint32_t r10 = 0x2000a;
inline constexpr std::uint32_t r11 = 0x2000b;
inline constexpr std::uint32_t r12 = 0x2000c;
inline constexpr std::uint32_t r13 = 0x2000d;
inline constexpr std::uint32_t r14 = 0x2000e;
inline constexpr std::uint32_t r15 = 0x2000f;
inline constexpr std::uint32_t rip = 0x20010;
inline constexpr std::uint32_t rflags = 0x20011;

// x87 and SSE; xmm0 + n, mmx0 + n
inline constexpr std::uint32_t xmm0 = 0x30000;
inline constexpr std::uint32_t mmx0 = 0x30010;
inline constexpr std::uint32_t fp_control_status = 0x30018;
inline constexpr std::uint32_t xmm_control_status = 0x30019;

// Control; intermediate_*: without checks against each other
inline constexpr std::uint32_t cr0 = 0x40000;
inline constexpr std::uint32_t cr2 = 0x40001;
inline constexpr std::uint32_t cr3 = 0x40002;
inline constexpr std::uint32_t cr4 = 0x40003;
inline constexpr std::uint32_t cr8 = 0x40004;
inline constexpr std::uint32_t xfem = 0x40005;
inline constexpr std::uint32_t intermediate_cr0 = 0x41000;
inline constexpr std::uint32_t intermediate_cr3 = 0x41002;
inline constexpr std::uint32_t intermediate_cr4 = 0x41003;
inline constexpr std::uint32_t intermediate_cr8 = 0x41004;

// Debug
inline constexpr std::uint32_t dr0 = 0x50000;
inline constexpr std::uint32_t dr1 = 0x50001;
inline constexpr std::uint32_t dr2 = 0x50002;
inline constexpr std::uint32_t dr3 = 0x50003;
inline constexpr std::uint32_t dr6 = 0x50004;
inline constexpr std::uint32_t dr7 = 0x50005;

// Segments and tables
inline constexpr std::uint32_t es = 0x60000;
inline constexpr std::uint32_t cs = 0x60001;
inline constexpr std::uint32_t ss = 0x60002;
inline constexpr std::uint32_t ds = 0x60003;
inline constexpr std::uint32_t fs = 0x60004;
inline constexpr std::uint32_t gs = 0x60005;
inline constexpr std::uint32_t ldtr = 0x60006;
inline constexpr std::uint32_t tr = 0x60007;
inline constexpr std::uint32_t idtr = 0x70000;
inline constexpr std::uint32_t gdtr = 0x70001;

// Those that are MSRs to the guest
inline constexpr std::uint32_t tsc = 0x80000;
inline constexpr std::uint32_t efer = 0x80001;
inline constexpr std::uint32_t kernel_gs_base = 0x80002;
inline constexpr std::uint32_t apic_base = 0x80003;
inline constexpr std::uint32_t pat = 0x80004;
inline constexpr std::uint32_t sysenter_cs = 0x80005;
inline constexpr std::uint32_t sysenter_eip = 0x80006;
inline constexpr std::uint32_t sysenter_esp = 0x80007;
inline constexpr std::uint32_t star = 0x80008;
inline constexpr std::uint32_t lstar = 0x80009;
inline constexpr std::uint32_t cstar = 0x8000a;
inline constexpr std::uint32_t sfmask = 0x8000b;
inline constexpr std::uint32_t initial_apic_id = 0x8000c;
inline constexpr std::uint32_t mtrr_capabilities = 0x8000d;
inline constexpr std::uint32_t mtrr_default_type = 0x8000e;
inline constexpr std::uint32_t mtrr_physical_base0 = 0x80010;
inline constexpr std::uint32_t mtrr_physical_mask0 = 0x80040;
inline constexpr std::uint32_t mtrr_fix64k_00000 = 0x80070;
inline constexpr std::uint32_t mtrr_fix16k_80000 = 0x80071;
inline constexpr std::uint32_t mtrr_fix16k_a0000 = 0x80072;
inline constexpr std::uint32_t mtrr_fix4k_c0000 = 0x80073;
inline constexpr std::uint32_t mtrr_fix4k_c8000 = 0x80074;
inline constexpr std::uint32_t mtrr_fix4k_d0000 = 0x80075;
inline constexpr std::uint32_t mtrr_fix4k_d8000 = 0x80076;
inline constexpr std::uint32_t mtrr_fix4k_e0000 = 0x80077;
inline constexpr std::uint32_t mtrr_fix4k_e8000 = 0x80078;
inline constexpr std::uint32_t mtrr_fix4k_f0000 = 0x80079;
inline constexpr std::uint32_t mtrr_fix4k_f8000 = 0x8007a;
inline constexpr std::uint32_t tsc_aux = 0x8007b;
inline constexpr std::uint32_t bndcfgs = 0x8007c;
inline constexpr std::uint32_t debug_control = 0x8007d;
inline constexpr std::uint32_t spec_control = 0x80084;
inline constexpr std::uint32_t prediction_command = 0x80085;
inline constexpr std::uint32_t virtual_spec_control = 0x80086;
inline constexpr std::uint32_t u_xss = 0x8008b;
inline constexpr std::uint32_t u_cet = 0x8008c;
inline constexpr std::uint32_t s_cet = 0x8008d;
inline constexpr std::uint32_t ssp = 0x8008e;
inline constexpr std::uint32_t pl0_ssp = 0x8008f;
inline constexpr std::uint32_t pl1_ssp = 0x80090;
inline constexpr std::uint32_t pl2_ssp = 0x80091;
inline constexpr std::uint32_t pl3_ssp = 0x80092;
inline constexpr std::uint32_t interrupt_ssp_table = 0x80093;
inline constexpr std::uint32_t tsc_adjust = 0x80096;
inline constexpr std::uint32_t misc_enable = 0x800a0;
inline constexpr std::uint32_t feature_control = 0x800a1;
inline constexpr std::uint32_t vmx_capabilities_first = 0x800a2;
inline constexpr std::uint32_t vmx_capabilities_last = 0x800b2;

// Performance monitoring; event_select0 + n, counter0 + n, fixed_counter0 + n, last_branch + n
inline constexpr std::uint32_t perf_global_control = 0x81000;
inline constexpr std::uint32_t perf_global_status = 0x81001;
inline constexpr std::uint32_t fixed_counter_control = 0x81003;
inline constexpr std::uint32_t ds_area = 0x81004;
inline constexpr std::uint32_t event_select0 = 0x81100;
inline constexpr std::uint32_t counter0 = 0x81200;
inline constexpr std::uint32_t fixed_counter0 = 0x81300;
inline constexpr std::uint32_t last_branch = 0x82000;

// APIC
inline constexpr std::uint32_t apic_id = 0x84802;
inline constexpr std::uint32_t apic_version = 0x84803;

// Synthetic
inline constexpr std::uint32_t vp_runtime = 0x90000;
inline constexpr std::uint32_t hypercall = 0x90001;
inline constexpr std::uint32_t guest_os_id = 0x90002;
inline constexpr std::uint32_t vp_index = 0x90003;
inline constexpr std::uint32_t time_reference_count = 0x90004;
inline constexpr std::uint32_t synthetic_eoi = 0x90010;
inline constexpr std::uint32_t synthetic_icr = 0x90011;
inline constexpr std::uint32_t synthetic_tpr = 0x90012;
inline constexpr std::uint32_t vp_assist_page = 0x90013;
inline constexpr std::uint32_t root_signal_count = 0x90014;
inline constexpr std::uint32_t reference_tsc = 0x90017;
inline constexpr std::uint32_t ghcb = 0x90019;
inline constexpr std::uint32_t register_page = 0x9001c;

// SynIC; sint0 + n
inline constexpr std::uint32_t sint0 = 0xa0000;
inline constexpr std::uint32_t scontrol = 0xa0010;
inline constexpr std::uint32_t sversion = 0xa0011;
inline constexpr std::uint32_t siefp = 0xa0012;
inline constexpr std::uint32_t simp = 0xa0013;
inline constexpr std::uint32_t eom = 0xa0014;
inline constexpr std::uint32_t sirbp = 0xa0015;

// Synthetic timers; + 2 n
inline constexpr std::uint32_t stimer0_config = 0xb0000;
inline constexpr std::uint32_t stimer0_count = 0xb0001;
inline constexpr std::uint32_t stimer_unhalted_config = 0xb0100;
inline constexpr std::uint32_t stimer_unhalted_count = 0xb0101;

// Virtual secure mode and others
inline constexpr std::uint32_t vsm_first = 0xd0002;
inline constexpr std::uint32_t vsm_last = 0xd0020;
inline constexpr std::uint32_t isolation_capabilities = 0xd0100;
inline constexpr std::uint32_t cr_intercept_control = 0xe0000;
inline constexpr std::uint32_t cr_intercept_cr0_mask = 0xe0001;
inline constexpr std::uint32_t cr_intercept_cr4_mask = 0xe0002;
inline constexpr std::uint32_t cr_intercept_ia32_misc_enable_mask = 0xe0003;

} // namespace wherry::vmm::mshv::abi::registers
