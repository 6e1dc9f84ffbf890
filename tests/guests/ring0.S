// SPDX-License-Identifier: Apache-2.0
// All that ring 0 ever does after the start: exceptions, the LAPIC timer, and one service gate.

        .text
        .code64

// 32 stubs of 16 bytes; descriptors.cpp computes their addresses from that.
        .balign 16
        .globl exception_stubs
exception_stubs:
        .set vector, 0
        .rept 32
        .balign 16
        .if !(vector == 8 || (vector >= 10 && vector <= 14) || vector == 17 || vector == 21 || vector == 29 || vector == 30)
        pushq $0
        .endif
        pushq $vector
        jmp exception_common
        .set vector, vector + 1
        .endr
        .balign 16

exception_common:
        cld
        movq %rsp, %rdi
        movq %cr2, %rsi
        andq $-16, %rsp
        call report_exception           // does not return
1:      hlt
        jmp 1b

// The timer and the generation id, xAPIC and x2APIC flavour: acknowledge, count, return.
        .macro count_xapic name, counter
        .globl \name
\name:
        pushq %rax
        movl $0xfee000b0, %eax
        movl $0, (%rax)
        lock incq \counter
        popq %rax
        iretq
        .endm

        .macro count_x2apic name, counter
        .globl \name
\name:
        pushq %rax
        pushq %rcx
        pushq %rdx
        movl $0x80b, %ecx
        xorl %eax, %eax
        xorl %edx, %edx
        wrmsr
        lock incq \counter
        popq %rdx
        popq %rcx
        popq %rax
        iretq
        .endm

        count_xapic timer_interrupt_xapic, timer_interrupts
        count_x2apic timer_interrupt_x2apic, timer_interrupts
        count_xapic generation_interrupt_xapic, generation_interrupts
        count_x2apic generation_interrupt_x2apic, generation_interrupts

        .globl spurious_interrupt

spurious_interrupt:
        iretq

// From ring 3 by INT3, from ring 0 by a call: edi = function, rsi and rdx = arguments, result in rax; rcx and rdx are lost.
// 0: halt until the next interrupt, at the latest rsi TSC ticks from now (TSC-deadline mode)
// 1: the same with LAPIC timer counts in esi, xAPIC    2: the same, x2APIC
// 3: read MSR esi    4: write rdx to MSR esi
// 5: let interrupts in until the timer has interrupted or rsi TSC ticks have passed; result: the count
// of timer interrupts so far
        .globl service_gate, service_from_ring0
service_from_ring0:                     // makes the frame that INT3 would have made
        popq %rcx
        movq %rsp, %rax
        pushq $0x18
        pushq %rax
        pushfq
        pushq $0x10
        pushq %rcx
service_gate:
        cmpl $3, %edi
        je 3f
        cmpl $4, %edi
        je 4f
        ja 6f
        testl %edi, %edi
        jnz 1f
        rdtsc                           // relative: ring 3 and ring 0 may read different TSCs
        shlq $32, %rdx
        orq %rdx, %rax
        addq %rsi, %rax
        movq %rax, %rdx
        shrq $32, %rdx
        movl $0x6e0, %ecx
        wrmsr
        jmp 5f
1:      cmpl $1, %edi
        jne 2f
        movl $0xfee00380, %eax
        movl %esi, (%rax)
        jmp 5f
2:      movl %esi, %eax
        xorl %edx, %edx
        movl $0x838, %ecx
        wrmsr
5:      sti
        hlt
        cli
        iretq
3:      movl %esi, %ecx
        rdmsr
        shlq $32, %rdx
        orq %rdx, %rax
        iretq
4:      movl %esi, %ecx
        movl %edx, %eax
        shrq $32, %rdx
        wrmsr
        iretq
6:      pushq %rbx
        pushq timer_interrupts
        rdtsc
        shlq $32, %rdx
        orq %rdx, %rax
        addq %rax, %rsi
        sti
7:      pause
        movq timer_interrupts, %rbx
        cmpq %rbx, (%rsp)
        jne 8f
        rdtsc
        shlq $32, %rdx
        orq %rdx, %rax
        cmpq %rsi, %rax
        jb 7b
8:      cli
        movq timer_interrupts, %rax
        addq $8, %rsp
        popq %rbx
        iretq

        .bss
        .balign 64
        .globl timer_interrupts, generation_interrupts
timer_interrupts:
        .quad 0
generation_interrupts:
        .quad 0
