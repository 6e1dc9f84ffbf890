// SPDX-License-Identifier: Apache-2.0
#include "vmm/kvm/registers.hpp"

#include <algorithm>

namespace wherry::vmm::kvm {
namespace {

std::uint32_t field(std::uint32_t value, unsigned shift) {
    return value << shift;
}

std::uint8_t bits(std::uint32_t attributes, unsigned shift, std::uint32_t mask) {
    return static_cast<std::uint8_t>((attributes >> shift) & mask);
}

/// Not present is unusable: loading another that is not present faults (SDM vol. 3, 5.4). KVM
/// does not always say both.
Segment segment(const kvm_segment& from) {
    const bool is_unusable = from.unusable != 0 || from.present == 0;
    const std::uint32_t attributes = field(from.type, 0) | field(from.s, 4) | field(from.dpl, 5) |
                                     field(from.present, 7) | field(from.avl, 12) |
                                     field(from.l, 13) | field(from.db, 14) | field(from.g, 15) |
                                     field(is_unusable ? 1 : 0, 16);
    return {from.base, from.limit, from.selector, attributes};
}

kvm_segment segment(const Segment& from) {
    kvm_segment to{};
    to.base = from.base;
    to.limit = from.limit;
    to.selector = from.selector;
    to.type = bits(from.attributes, 0, 0xf);
    to.s = bits(from.attributes, 4, 1);
    to.dpl = bits(from.attributes, 5, 3);
    to.present = bits(from.attributes, 7, 1);
    to.avl = bits(from.attributes, 12, 1);
    to.l = bits(from.attributes, 13, 1);
    to.db = bits(from.attributes, 14, 1);
    to.g = bits(from.attributes, 15, 1);
    to.unusable = bits(from.attributes, 16, 1);
    return to;
}

kvm_dtable table(const DescriptorTable& from) {
    kvm_dtable to{};
    to.base = from.base;
    to.limit = from.limit;
    return to;
}

} // namespace

Registers canonical(const kvm_regs& from) {
    return {
        .rax = from.rax,
        .rbx = from.rbx,
        .rcx = from.rcx,
        .rdx = from.rdx,
        .rsi = from.rsi,
        .rdi = from.rdi,
        .rsp = from.rsp,
        .rbp = from.rbp,
        .r8 = from.r8,
        .r9 = from.r9,
        .r10 = from.r10,
        .r11 = from.r11,
        .r12 = from.r12,
        .r13 = from.r13,
        .r14 = from.r14,
        .r15 = from.r15,
        .rip = from.rip,
        .rflags = from.rflags};
}

kvm_regs native(const Registers& from) {
    return {
        .rax = from.rax,
        .rbx = from.rbx,
        .rcx = from.rcx,
        .rdx = from.rdx,
        .rsi = from.rsi,
        .rdi = from.rdi,
        .rsp = from.rsp,
        .rbp = from.rbp,
        .r8 = from.r8,
        .r9 = from.r9,
        .r10 = from.r10,
        .r11 = from.r11,
        .r12 = from.r12,
        .r13 = from.r13,
        .r14 = from.r14,
        .r15 = from.r15,
        .rip = from.rip,
        .rflags = from.rflags};
}

SystemRegisters canonical(const kvm_sregs& from) {
    return {
        .cs = segment(from.cs),
        .ds = segment(from.ds),
        .es = segment(from.es),
        .fs = segment(from.fs),
        .gs = segment(from.gs),
        .ss = segment(from.ss),
        .tr = segment(from.tr),
        .ldt = segment(from.ldt),
        .gdt = {from.gdt.base, from.gdt.limit},
        .idt = {from.idt.base, from.idt.limit},
        .cr0 = from.cr0,
        .cr2 = from.cr2,
        .cr3 = from.cr3,
        .cr4 = from.cr4,
        .cr8 = from.cr8,
        .efer = from.efer,
        .apic_base = from.apic_base};
}

kvm_sregs native(const SystemRegisters& from) {
    kvm_sregs to{};
    to.cs = segment(from.cs);
    to.ds = segment(from.ds);
    to.es = segment(from.es);
    to.fs = segment(from.fs);
    to.gs = segment(from.gs);
    to.ss = segment(from.ss);
    to.tr = segment(from.tr);
    to.ldt = segment(from.ldt);
    to.gdt = table(from.gdt);
    to.idt = table(from.idt);
    to.cr0 = from.cr0;
    to.cr2 = from.cr2;
    to.cr3 = from.cr3;
    to.cr4 = from.cr4;
    to.cr8 = from.cr8;
    to.efer = from.efer;
    to.apic_base = from.apic_base;
    return to;
}

DebugRegisters canonical(const kvm_debugregs& from) {
    DebugRegisters to{.db = {}, .dr6 = from.dr6, .dr7 = from.dr7};
    std::ranges::copy(from.db, to.db.begin());
    return to;
}

kvm_debugregs native(const DebugRegisters& from) {
    kvm_debugregs to{};
    std::ranges::copy(from.db, std::begin(to.db));
    to.dr6 = from.dr6;
    to.dr7 = from.dr7;
    return to;
}

PendingEvents canonical(const kvm_vcpu_events& from) {
    PendingEvents to;
    to.exception = {
        .vector = from.exception.nr,
        .injected = from.exception.injected != 0,
        .pending = from.exception.pending != 0,
        .has_error_code = from.exception.has_error_code != 0,
        .has_payload = from.exception_has_payload != 0,
        .error_code = from.exception.error_code,
        .payload = from.exception_payload};
    to.interrupt = {
        .injected = from.interrupt.injected != 0,
        .soft = from.interrupt.soft != 0,
        .vector = from.interrupt.nr,
        .shadow = from.interrupt.shadow};
    to.nmi = {
        .injected = from.nmi.injected != 0,
        .pending = from.nmi.pending != 0,
        .masked = from.nmi.masked != 0};
    to.sipi_vector = from.sipi_vector;
    to.smm = from.smi.smm != 0;
    to.triple_fault = from.triple_fault.pending != 0;
    // Details of an event that is not there are leftovers.
    if (!to.exception.injected && !to.exception.pending) {
        to.exception = {};
    }
    if (!to.interrupt.injected) {
        to.interrupt = {.shadow = to.interrupt.shadow};
    }
    return to;
}

kvm_vcpu_events native(const PendingEvents& from, std::uint32_t flags) {
    kvm_vcpu_events to{};
    to.exception.nr = from.exception.vector;
    to.exception.injected = from.exception.injected ? 1 : 0;
    to.exception.pending = from.exception.pending ? 1 : 0;
    to.exception.has_error_code = from.exception.has_error_code ? 1 : 0;
    to.exception.error_code = from.exception.error_code;
    to.exception_has_payload = from.exception.has_payload ? 1 : 0;
    to.exception_payload = from.exception.payload;
    to.interrupt.injected = from.interrupt.injected ? 1 : 0;
    to.interrupt.soft = from.interrupt.soft ? 1 : 0;
    to.interrupt.nr = from.interrupt.vector;
    to.interrupt.shadow = from.interrupt.shadow;
    to.nmi.injected = from.nmi.injected ? 1 : 0;
    to.nmi.pending = from.nmi.pending ? 1 : 0;
    to.nmi.masked = from.nmi.masked ? 1 : 0;
    to.sipi_vector = from.sipi_vector;
    to.smi.smm = from.smm ? 1 : 0;
    to.triple_fault.pending = from.triple_fault ? 1 : 0;
    to.flags = flags;
    return to;
}

} // namespace wherry::vmm::kvm
