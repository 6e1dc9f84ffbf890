// SPDX-License-Identifier: Apache-2.0
// From the PVH entry (32-bit, flat, paging off) to probe_main, which stays there: descriptor tables
// of our own, since those of the loader are gone, and gates for what may interrupt.

        .set code_selector, 0x08
        .set data_selector, 0x10

        .section .note.Xen, "a", @note
        .balign 4
        .long 4                         // name size
        .long 4                         // descriptor size
        .long 18                        // XEN_ELFNOTE_PHYS32_ENTRY
        .asciz "Xen"
        .long pvh_start

        .section .text.boot, "ax"
        .code32
        .globl pvh_start
pvh_start:
        cli
        cld
        lgdt table_pointer
        movl $data_selector, %eax
        movl %eax, %ds
        movl %eax, %es
        movl %eax, %ss
        ljmp $code_selector, $1f
1:      movl $stack_end, %esp
        call fill_gates
        lidt gates_pointer
        call probe_main
2:      cli
        hlt
        jmp 2b

// All 256 vectors: below 32 an exception that nobody wants, above an interrupt that is counted.
fill_gates:
        movl $gates, %edi
        xorl %ecx, %ecx
1:      movl $exception_entry, %eax
        cmpl $32, %ecx
        jb 2f
        movl $interrupt_entry, %eax
2:      movw %ax, (%edi)
        movw $code_selector, 2(%edi)
        movw $0x8e00, 4(%edi)           // present, ring 0, 32-bit interrupt gate
        shrl $16, %eax
        movw %ax, 6(%edi)
        addl $8, %edi
        incl %ecx
        cmpl $256, %ecx
        jb 1b
        ret

exception_entry:
        pushl %esp
        call on_exception               // ends the VM

interrupt_entry:
        pushal
        cld
        call on_interrupt
        popal
        lretl $4                        // not iret: para-virtual KVM knows none in protected mode.
                                        // Flags are lost; interrupts are open around a halt only.

        .section .data.tables, "aw"
        .balign 8
table:
        .quad 0
        .quad 0x00cf9b000000ffff        // 08: ring 0 code, 32 bits
        .quad 0x00cf93000000ffff        // 10: ring 0 data
table_end:
table_pointer:
        .word table_end - table - 1
        .long table
        .balign 4
gates_pointer:
        .word 256 * 8 - 1
        .long gates

        .section .bss
        .balign 16
gates:  .fill 256 * 8
stack:  .fill 8192
stack_end:
