// SPDX-License-Identifier: Apache-2.0
// From the PVH entry (32-bit, paging off, ebx = hvm_start_info; Xen public headers,
// arch-x86/hvm/start_info.h) to long mode, and from there to ring 3. Ring 0 is slow on
// para-virtual KVM, hence static tables and few instructions.
// The GDT keeps the order that Linux uses: para-virtual hypervisors know those selectors.

        .set kernel_code, 0x10
        .set kernel_data, 0x18
        .set kernel_code32, 0x08
        .set user_data, 0x2b
        .set user_code, 0x33

        .section .note.Xen, "a", @note
        .balign 4
        .long 4                         // name size
        .long 8                         // descriptor size
        .long 18                        // XEN_ELFNOTE_PHYS32_ENTRY
        .asciz "Xen"
        .quad pvh_start

        .section .text.boot, "ax"
        .code32
        .globl pvh_start
pvh_start:
        cli
        cld
        movl %ebx, start_info_address
        movl $cpu_blocks, %esi

// esi = the CPU's block (struct Cpu). Shared by the boot CPU and, from the trampoline, the others.
enter_long_mode:
        lgdt gdt_pointer
        movl $kernel_data, %eax
        movl %eax, %ds
        movl %eax, %es
        movl %eax, %ss
        movl %cr4, %eax
        orl $0x620, %eax                // PAE, OSFXSR, OSXMMEXCPT
        movl %eax, %cr4
        movl $boot_pml4, %eax
        movl %eax, %cr3
        movl $0xc0000080, %ecx          // EFER
        rdmsr
        orl $0x100, %eax                // LME
        wrmsr
        movl $0x80000023, %eax          // PG, NE, MP, PE; EM, TS, WP and caching bits clear
        movl %eax, %cr0
        ljmp $kernel_code, $long_mode_start

        .code64
long_mode_start:
        movl $kernel_data, %eax
        movl %eax, %ds
        movl %eax, %es
        movl %eax, %ss
        xorl %eax, %eax
        movl %eax, %fs
        movl %eax, %gs
        movl %esi, %ebx
        leaq 0x3000(%rbx), %rsp         // end of Cpu::ring0_stack
        xorl %ebp, %ebp
        movq %rbx, %rdi
        call prepare_ring0              // returns the ring to work in
        movq %rbx, %rdi
        testl %eax, %eax
        jz 1f
        pushq $user_data
        leaq 0xb000(%rbx), %rax         // end of Cpu::work_stack
        pushq %rax
        pushq $2                        // RFLAGS: interrupts stay off outside of the wait service
        pushq $user_code
        pushq $cpu_main
        iretq
1:      leaq 0xb000(%rbx), %rsp
        call cpu_main
2:      hlt
        jmp 2b

// Copied to trampoline_address (below 1 MiB) for the other CPUs; real mode, CS = address >> 4.
        .globl trampoline_begin, trampoline_end
        .code16
trampoline_begin:
        cli
        xorw %ax, %ax
        movw %ax, %ds
        lgdtl %cs:(trampoline_gdt_pointer - trampoline_begin)
        movl $0x11, %eax
        movl %eax, %cr0
        ljmpl $kernel_code32, $trampoline_protected
        .balign 4
trampoline_gdt_pointer:
        .word gdt_end - gdt - 1
        .long gdt
trampoline_end:

        .code32
trampoline_protected:
        movl $kernel_data, %eax
        movl %eax, %ds
        movl %eax, %ss
        cld
        movl starting_cpu_block, %esi
        jmp enter_long_mode

        .section .data.tables, "aw"
// Identity map of the first 4 GiB in 2 MiB pages, all of it open to ring 3, accessed and dirty
// bits set beforehand. Ring 3 adds what lies above (page tables are plain memory to it).
        .balign 4096
boot_pml4:
        .quad boot_pdpt + 0x27
        .fill 511, 8, 0
        .globl boot_pdpt
boot_pdpt:
        .quad boot_directories + 0x27, boot_directories + 0x1027
        .quad boot_directories + 0x2027, boot_directories + 0x3027
        .fill 508, 8, 0
boot_directories:
        .set frame, 0
        .rept 2039
        .quad frame + 0xe7
        .set frame, frame + 0x200000
        .endr
        .quad frame + 0xff              // 0xfee00000, the LAPIC: uncached
        .set frame, frame + 0x200000
        .rept 8
        .quad frame + 0xe7
        .set frame, frame + 0x200000
        .endr

        .balign 16
        .globl gdt
gdt:
        .quad 0
        .quad 0x00cf9b000000ffff        // 08: ring 0 code, 32 bits
        .quad 0x00af9b000000ffff        // 10: ring 0 code, 64 bits
        .quad 0x00cf93000000ffff        // 18: ring 0 data
        .quad 0x00cffb000000ffff        // 20: ring 3 code, 32 bits
        .quad 0x00cff3000000ffff        // 28: ring 3 data
        .quad 0x00affb000000ffff        // 30: ring 3 code, 64 bits
        .quad 0
        .globl task_descriptors
task_descriptors:
        .fill 8, 8, 0                   // 40, 50, 60, 70: one TSS per CPU
gdt_end:
        .globl gdt_pointer
gdt_pointer:
        .word gdt_end - gdt - 1
        .quad gdt

        .balign 8
        .globl start_info_address, starting_cpu_block
start_info_address:
        .quad 0
starting_cpu_block:
        .quad 0
