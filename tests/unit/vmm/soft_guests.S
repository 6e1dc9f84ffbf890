// SPDX-License-Identifier: Apache-2.0
// Guests for the soft backend's tests: data for the test program, which copies the entry to 0x1000
// and one body to 0x2000. Bodies are 64-bit and position-independent.
// Ports: 0x10 in: a number, 0x10 out: a number that must be one more than the last,
// 0x11 out: a result, 0x12 out: an error, 0x13 in: 1 when the guest may go on.

        .section .rodata

// PVH entry: builds identity tables for the first 64 MiB and the device pages, goes to 64-bit code.
        .code32
        .globl soft_guest_entry, soft_guest_entry_end
soft_guest_entry:
        movl $0x11003, 0x10000          // PML4
        movl $0x12003, 0x11000          // PDPT: 0 and 3 GiB
        movl $0x13003, 0x11018
        movl $0x12000, %edi
        movl $0x83, %eax
        movl $32, %ecx
1:      movl %eax, (%edi)
        addl $8, %edi
        addl $0x200000, %eax
        loop 1b
        movl $0xfec00093, 0x13fb0
        movl $0x620, %eax               // PAE, OSFXSR, OSXMMEXCPT
        movl %eax, %cr4
        movl $0x10000, %eax
        movl %eax, %cr3
        movl $0xc0000080, %ecx
        rdmsr
        orl $0x100, %eax                // EFER.LME
        wrmsr
        movl $0x80000021, %eax
        movl %eax, %cr0
        // GDT at 0x1800
        movl $0x0000ffff, 0x1810
        movl $0x00af9b00, 0x1814
        movl $0x0000ffff, 0x1818
        movl $0x00cf9300, 0x181c
        movl $0x1800001f, 0x1820        // limit 0x1f, base 0x1800
        movl $0x0000, 0x1824
        lgdt 0x1820
        movl $0x18, %eax
        movl %eax, %ds
        movl %eax, %es
        movl %eax, %ss
        ljmp $0x10, $0x2000
soft_guest_entry_end:

        .code64
// Counts for ever, in a register, in memory, by REP MOVSB, by OUT and by IN, and compares.
        .globl soft_guest_counter, soft_guest_counter_end
soft_guest_counter:
        movl $0x30000, %esp
        xorl %ebx, %ebx
        xorl %r12d, %r12d               // bytes moved
        movabsq $0x1122334455667788, %r13
1:      incq %rbx
        incq 0x20000
        movl $0x21000, %esi
        movl $0x22000, %edi
        movl $7, %ecx
        cld
        rep movsb
        subq $0x22000, %rdi
        addq %rdi, %r12
        movl %ebx, %eax
        movl $0x10, %edx
        outl %eax, %dx
        inl %dx, %eax
        cmpl %ebx, %eax
        jne 3f
        cmpq %rbx, 0x20000
        jne 3f
        imulq $7, %rbx, %r14
        cmpq %r14, %r12
        jne 3f
        pushq %rbx
        popq %r15
        cmpq %r15, %rbx
        jne 3f
        jmp 1b
3:      movl $0x12, %edx
        outl %eax, %dx
        hlt
        jmp 3b
soft_guest_counter_end:

// Runs around an HLT without ever reaching it, ends blocks with the byte of HLT, and counts.
        .globl soft_guest_near_halt, soft_guest_near_halt_end
soft_guest_near_halt:
        movl $0x12, %edx
1:      jmp 2f
        hlt
2:      incq %rbx
        incq %r8
        testq %rbx, %rbx
        jne 1b
        hlt
soft_guest_near_halt_end:

// Halts. Going on after it is an error.
        .globl soft_guest_halt, soft_guest_halt_end
soft_guest_halt:
        movl $0x1234, %ebx
        hlt
        movl $0x12, %edx
        outl %eax, %dx
soft_guest_halt_end:

// Device accesses of all sizes, and string output; the sum as result.
        .globl soft_guest_devices, soft_guest_devices_end
soft_guest_devices:
        movl $0xfec00000, %esi
        movzbl 1(%rsi), %eax
        movzwl 2(%rsi), %ebx
        addl %ebx, %eax
        addl 4(%rsi), %eax
        movq 8(%rsi), %rcx
        addq %rcx, %rax
        movb $0x5a, 0x10(%rsi)
        movq $0x12345678, 0x18(%rsi)
        movl $0x11, %edx
        outl %eax, %dx
        movl $0x20100, %esi
        movl $0x64636261, (%rsi)
        movl $0x14, %edx
        movl $4, %ecx
        rep outsb
        hlt
soft_guest_devices_end:

// Fills everything a save must carry, waits to be let on, then stores what it still has at 0x20000.
        .globl soft_guest_state, soft_guest_state_end
soft_guest_state:
        movl $0x30000, %esp
        movl $0x21000, %esi             // 16 patterns of 16 bytes are there
        movups (%rsi), %xmm0
        movups 16(%rsi), %xmm1
        movups 112(%rsi), %xmm7
        movups 128(%rsi), %xmm8
        movups 240(%rsi), %xmm15
        movl $0x7f80, 0x20200           // MXCSR: round to zero
        ldmxcsr 0x20200
        fninit
        fldpi
        fld1
        fldln2
        movl $0xc0000100, %ecx          // FS base
        movl $0x55667788, %eax
        movl $0x11223344, %edx
        wrmsr
        movl $0xc0000102, %ecx          // KERNEL_GS_BASE
        wrmsr
        movabsq $0xfedcba9876543210, %r9
        movl $0x13, %edx
        pushq $0xcd7                    // CF PF AF ZF SF DF OF
        popfq
1:      inb %dx, %al                    // changes no flag
        movzbl %al, %ecx
        decl %ecx                       // all but CF
        stc
        jnz 1b
        pushq $0xcd7
        popfq
        inb %dx, %al                    // the last wait, with the flags set
        jmp 2f                          // a kick is served between two blocks
2:      pushfq
        popq 0x20000
        movups %xmm0, 0x20010
        movups %xmm1, 0x20020
        movups %xmm7, 0x20030
        movups %xmm8, 0x20040
        movups %xmm15, 0x20050
        fstpt 0x20060
        fstpt 0x20070
        fstpt 0x20080
        stmxcsr 0x20090
        movq %r9, 0x20098
        movl $0xc0000100, %ecx
        rdmsr
        movl %eax, 0x200a0
        movl %edx, 0x200a4
        movl $0xc0000102, %ecx
        rdmsr
        movl %eax, 0x200a8
        movl %edx, 0x200ac
        hlt
soft_guest_state_end:

// Writes one byte to every page of [4 MiB, 4 MiB + r8 pages), again and again, r8 given by the test.
        .globl soft_guest_writer, soft_guest_writer_end
soft_guest_writer:
        inb $0x13, %al
        movl 0x20000, %r8d
1:      movl $0x400000, %edi
        movl %r8d, %ecx
2:      incb 0x123(%rdi)
        addq $0x1000, %rdi
        decl %ecx
        jnz 2b
        incq 0x20008
        inb $0x13, %al
        jmp 1b
soft_guest_writer_end:

// CPUID leaf 0x40000000 to 0x20000, then RDTSC to 0x20010 for ever.
        .globl soft_guest_clock, soft_guest_clock_end
soft_guest_clock:
        movl $0x40000000, %eax
        cpuid
        movl %ebx, 0x20000
        movl %ecx, 0x20004
        movl %edx, 0x20008
1:      rdtsc
        shlq $32, %rdx
        orq %rdx, %rax
        movq %rax, 0x20010
        inb $0x13, %al
        jmp 1b
soft_guest_clock_end:

// Maps 4 MiB to 8 MiB, and tells.
        .globl soft_guest_remapper, soft_guest_remapper_end
soft_guest_remapper:
        movl $0x800083, 0x12010
        movl $0x10000, %eax
        movq %rax, %cr3
        outb %al, $0x11
        hlt
soft_guest_remapper_end:

// Divides by zero at its third instruction.
        .globl soft_guest_divider, soft_guest_divider_end
soft_guest_divider:
        xorl %ecx, %ecx
        xorl %edx, %edx
        divl %ecx
soft_guest_divider_end:

// One instruction of every set that the backend offers by CPUID; 1 as result.
        .globl soft_guest_features, soft_guest_features_end
soft_guest_features:
        movl $0x20000, %edi
        xorl %eax, %eax
        cmovzl %edi, %esi               // CMOV
        lock cmpxchg8b (%rdi)           // CX8
        lock cmpxchg16b (%rdi)          // CX16
        fxsave (%rdi)                   // FXSR
        fxrstor (%rdi)
        clflush (%rdi)                  // CLFLUSH
        movaps (%rdi), %xmm0            // SSE
        paddq %xmm0, %xmm0              // SSE2
        pshufb %xmm0, %xmm0             // SSSE3
        ptest %xmm0, %xmm0              // SSE4.1
        pcmpgtq %xmm0, %xmm0            // SSE4.2
        aesenc %xmm0, %xmm0             // AES
        rdtscp                          // RDTSCP
        lzcntl %edi, %eax               // ABM
        andnl %edi, %edi, %eax          // BMI1
        rorxl $3, %edi, %eax            // BMI2
        adcxl %edi, %eax                // ADX
        fldz                            // FPU
        movl $0x2ff, %ecx               // MSR, MTRR
        rdmsr
        movl $1, %eax
        outl %eax, $0x11
        hlt
soft_guest_features_end:

        .section .note.GNU-stack, "", @progbits
