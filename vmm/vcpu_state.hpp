// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "formats/result.hpp"

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

namespace wherry::vmm {

/// The architectural state of one x86-64 vCPU, hypervisor-neutral, as plain data. Names and
/// encodings follow the Intel SDM; what differs between hypervisors is brought to this form.
struct Registers {
    std::uint64_t rax = 0, rbx = 0, rcx = 0, rdx = 0, rsi = 0, rdi = 0, rsp = 0, rbp = 0;
    std::uint64_t r8 = 0, r9 = 0, r10 = 0, r11 = 0, r12 = 0, r13 = 0, r14 = 0, r15 = 0;
    std::uint64_t rip = 0, rflags = 2;
    friend bool operator==(const Registers&, const Registers&) = default;
};

/// Attributes in the form of the VMX access-rights word (SDM vol. 3, 24.4.1): type 3:0, S 4,
/// DPL 6:5, P 7, AVL 12, L 13, D/B 14, G 15, unusable 16.
struct Segment {
    std::uint64_t base = 0;
    std::uint32_t limit = 0;
    std::uint16_t selector = 0;
    std::uint32_t attributes = 0;
    friend bool operator==(const Segment&, const Segment&) = default;
};

struct DescriptorTable {
    std::uint64_t base = 0;
    std::uint16_t limit = 0;
    friend bool operator==(const DescriptorTable&, const DescriptorTable&) = default;
};

struct SystemRegisters {
    Segment cs, ds, es, fs, gs, ss, tr, ldt;
    DescriptorTable gdt, idt;
    std::uint64_t cr0 = 0, cr2 = 0, cr3 = 0, cr4 = 0, cr8 = 0;
    std::uint64_t efer = 0, apic_base = 0;
    friend bool operator==(const SystemRegisters&, const SystemRegisters&) = default;
};

struct DebugRegisters {
    std::array<std::uint64_t, 4> db{};
    std::uint64_t dr6 = 0xffff0ff0, dr7 = 0x400;
    friend bool operator==(const DebugRegisters&, const DebugRegisters&) = default;
};

struct Msr {
    std::uint32_t index = 0;
    std::uint64_t value = 0;
    friend bool operator==(const Msr&, const Msr&) = default;
};

struct ExtendedControl {
    std::uint32_t index = 0;
    std::uint64_t value = 0;
    friend bool operator==(const ExtendedControl&, const ExtendedControl&) = default;
};

/// What is on its way into the vCPU between two instructions.
struct PendingEvents {
    struct Exception {
        std::uint8_t vector = 0;
        bool injected = false, pending = false, has_error_code = false, has_payload = false;
        std::uint32_t error_code = 0;
        std::uint64_t payload = 0;
        friend bool operator==(const Exception&, const Exception&) = default;
    } exception;
    struct Interrupt {
        bool injected = false, soft = false;
        std::uint8_t vector = 0;
        /// Interrupt shadow: bit 0 MOV SS, bit 1 STI.
        std::uint8_t shadow = 0;
        friend bool operator==(const Interrupt&, const Interrupt&) = default;
    } interrupt;
    struct NonMaskable {
        bool injected = false, pending = false, masked = false;
        friend bool operator==(const NonMaskable&, const NonMaskable&) = default;
    } nmi;
    std::uint32_t sipi_vector = 0;
    bool smm = false, triple_fault = false;
    friend bool operator==(const PendingEvents&, const PendingEvents&) = default;
};

/// Multiprocessor state, as the LAPIC's INIT/SIPI protocol moves it.
enum class RunState : std::uint8_t {
    runnable = 0,
    uninitialized = 1, ///< waits for INIT
    init_received = 2,
    halted = 3,
    sipi_received = 4,
};

/// What a vCPU of the Microsoft hypervisor has beyond the architecture: its APIC as the hypervisor
/// keeps it, and the synthetic registers that its guest uses (Hypervisor Top Level Functional
/// Specification). Values are the hypervisor's own; zero and empty is what a guest starts with.
struct HyperVState {
    /// 176 bytes: has more than the registers of `VcpuState::lapic`, which says the rest.
    std::vector<std::byte> lapic;
    std::array<std::uint64_t, 16> sint{}; ///< SINT0...; all zero without a SynIC
    std::uint64_t scontrol = 0, siefp = 0, simp = 0;
    /// Contents of the pages that SIMP and SIEFP lay over guest memory: a page, or empty.
    std::vector<std::byte> message_page, event_page;
    /// Four synthetic timers, 200 bytes; empty where the guest has none.
    std::vector<std::byte> timers;
    std::uint64_t vp_assist_page = 0;
    /// Of the partition; with vCPU 0.
    std::uint64_t guest_os_id = 0, hypercall = 0, reference_tsc = 0;
    /// Registers of what is on its way, where PendingEvents and RunState say less.
    std::uint64_t pending_interruption = 0, internal_activity = 0;
    std::array<std::uint64_t, 2> pending_event1{};
    /// Asserted and not yet taken up by the APIC: count in 7:0, then that many vectors.
    std::uint64_t interrupt_vectors = 0;
    friend bool operator==(const HyperVState&, const HyperVState&) = default;
};

struct VcpuState {
    std::uint32_t index = 0;
    Registers registers;
    SystemRegisters system;
    DebugRegisters debug;
    std::vector<ExtendedControl> extended_controls; ///< XCR0...
    /// XSAVE area in the standard (non-compacted) form, SDM vol. 1, 13.4. XSTATE_BV inside says
    /// which components are not in their initial state.
    std::vector<std::byte> xsave;
    /// Every MSR the hypervisor lists as part of a guest, TSC excluded (see `tsc`).
    std::vector<Msr> msrs;
    /// Local APIC registers, the 1 KiB that matters of the 4 KiB page (SDM vol. 3, 10.4.1).
    /// Absent on engines without one.
    std::optional<std::array<std::byte, 1024>> lapic;
    PendingEvents events;
    RunState run_state = RunState::runnable;
    /// Guest TSC at the moment the clock of the machine was read, and TSC_ADJUST lives in msrs.
    std::uint64_t tsc = 0;
    /// In kHz; 0 where the backend cannot tell.
    std::uint64_t tsc_frequency_khz = 0;
    /// Absent on other hypervisors, and for guests from which this one hides (a portable CPU
    /// profile): restoring, absent is what a guest starts with.
    std::optional<HyperVState> hyperv;
    friend bool operator==(const VcpuState&, const VcpuState&) = default;
};

/// `incompatible`, naming it, where the vCPU has what only the Microsoft hypervisor can hold: for
/// all other backends (`backend`, for the text). That a guest could have such state its CPUID
/// tells, which is how a plan is refused long before.
formats::Status refuse_beyond(const VcpuState& state, std::string_view backend);

/// One CPUID leaf as the guest sees it.
struct CpuidEntry {
    std::uint32_t leaf = 0, subleaf = 0;
    bool subleaf_is_significant = false;
    std::uint32_t eax = 0, ebx = 0, ecx = 0, edx = 0;
    friend bool operator==(const CpuidEntry&, const CpuidEntry&) = default;
};

} // namespace wherry::vmm
