# The first instructions of every processor, and the entry of every trap. AT&T syntax.
#
# QEMU finds the note, and enters at `pvh_start` as the Xen PVH boot protocol says: 32-bit
# protected mode, paging off, %ebx = address of `hvm_start_info`. Application processors come in
# at `processor_start`, copied below 1 MiB, in 16-bit mode (Intel SDM, volume 3A, section 9.4).
# Both meet at `protected`, switch to 64-bit mode on the static tables below, and go on in the
# image's own address range.
#
# The static tables map 4 GiB three times with pages of 2 MiB: where it is, at the direct map, and
# (the first GiB) at the image. SSE is switched on before any Rust runs: `core` uses it.

.section .note.Xen, "a", @note
.balign 4
.long 4, 8, 18                          # lengths of name and content; XEN_ELFNOTE_PHYS32_ENTRY
.asciz "Xen"
.quad pvh_start

.section .boot, "awx", @progbits
.global pvh_start, processor_start, processor_start_end
.code32
pvh_start:
    cli
    cld
    movl %ebx, %esi                     # keep the boot information
    xorl %ebp, %ebp                     # 0: the boot processor
    jmp protected
application_start:
    movw $0x10, %ax
    movw %ax, %ds
    movw %ax, %es
    movw %ax, %ss
    movl $1, %ebp                       # 1: an application processor
protected:
    movl %cr4, %eax
    orl $(1<<5|1<<7|1<<9|1<<10), %eax   # PAE, PGE, OSFXSR, OSXMMEXCPT
    movl %eax, %cr4
    movl $boot_root, %eax
    movl %eax, %cr3
    movl $0xC0000080, %ecx              # EFER: LME, NXE
    rdmsr
    orl $(1<<8|1<<11), %eax
    wrmsr
    movl %cr0, %eax
    andl $~(1<<2|1<<3|1<<29|1<<30), %eax # not EM, TS, NW, CD
    orl $(1<<31|1<<16|1<<5|1<<1|1), %eax # PG, WP, NE, MP, PE
    movl %eax, %cr0
    lgdt boot_gdt_pointer
    ljmp $0x08, $long_mode
.code64
long_mode:
    movw $0x10, %ax
    movw %ax, %ds
    movw %ax, %es
    movw %ax, %ss
    xorl %eax, %eax
    movw %ax, %fs
    movw %ax, %gs
    movabsq $image_entry, %rax
    jmp *%rax

# Copied to 0x8000: a start-up interrupt with vector 8 begins at 0800:0000.
.code16
.balign 16
processor_start:
    cli
    cld
    xorw %ax, %ax
    movw %ax, %ds
    lgdtl 0x8000 + (processor_gdt_pointer - processor_start)
    movl %cr0, %eax
    orl $1, %eax                        # PE
    movl %eax, %cr0
    ljmpl $0x18, $application_start     # back into the image, at 1 MiB
.balign 8
processor_gdt_pointer:
    .word 31
    .long boot_gdt
processor_start_end:
.code64

.section .boot.data, "aw", @progbits
.balign 4096
boot_root:
    .quad boot_upper + 3                # [0]   where it is
    .fill 383, 8, 0
    .quad boot_upper + 3                # [384] the direct map, 0xffffc00000000000
    .fill 126, 8, 0
    .quad boot_image + 3                # [511]
boot_upper:
    .quad boot_pages + 3, boot_pages + 0x1003, boot_pages + 0x2003, boot_pages + 0x3003
    .fill 508, 8, 0
boot_image:
    .fill 510, 8, 0
    .quad boot_pages + 3, 0             # the image, at -2 GiB
boot_pages:
    .set page, 0
    .rept 2048
    .quad (page << 21) | 0x83           # present, writable, 2 MiB
    .set page, page + 1
    .endr
boot_gdt:
    .quad 0
    .quad 0x00af9b000000ffff            # 0x08 64-bit code
    .quad 0x00cf93000000ffff            # 0x10 data
    .quad 0x00cf9b000000ffff            # 0x18 32-bit code
boot_gdt_pointer:
    .word 31
    .long boot_gdt

.section .bss.boot_stack, "aw", @nobits
.balign 16
    .skip 65536
boot_stack_end:

# In the image's own range: an application processor leaves the boot tables before it has a stack,
# since its stack is in the final address space only.
.section .text.entry, "ax", @progbits
.code64
image_entry:
    testl %ebp, %ebp
    jnz 1f
    leaq boot_stack_end(%rip), %rsp
    movl %esi, %edi                     # boot_main(start_info)
    leaq boot_main(%rip), %rax
    jmp 2f
1:  movq NEXT_ROOT(%rip), %rax
    movq %rax, %cr3
    movq NEXT_STACK(%rip), %rsp
    leaq application_main(%rip), %rax
2:  xorl %ebp, %ebp                     # the chain of frames ends here
    pushq $0                            # no return address: rsp = 16n + 8, as after a call
    jmp *%rax

# 256 stubs in slots of 16 bytes. Every vector comes in on a stack of the interrupt stack table, so
# that the red zone below the interrupted rsp survives; the frame is then copied to below the red
# zone, so that traps nest. NMI, double fault and machine check own their stacks and stay there.
.section .text.traps, "ax", @progbits
.code64
.balign 16
.global trap_stubs, trap_relocate
trap_stubs:
.set vector, 0
.rept 256
    .balign 16
    # 8, 10-14, 17, 21, 29, 30: the processor pushes an error code itself
    .if !(vector == 8 || (vector >= 10 && vector <= 14) || vector == 17 || vector == 21 || vector == 29 || vector == 30)
    pushq $0
    .endif
    pushq $vector
    jmp trap_entry
    .set vector, vector + 1
.endr
trap_entry:
    .irp register, rax, rcx, rdx, rbx, rbp, rsi, rdi, r8, r9, r10, r11, r12, r13, r14, r15
    pushq %\register
    .endr
    cld
    movl 15*8(%rsp), %eax               # the vector
    .irp own, 2, 8, 18
    cmpl $\own, %eax
    je 1f
    .endr
    movq 20*8(%rsp), %rdi               # the interrupted rsp
    subq $(128 + 22*8), %rdi
    andq $-16, %rdi
    movq %rsp, %rsi
    movq %rdi, %rbx
    movl $22, %ecx
trap_relocate:                          # a fault here is a stack overflow
    rep movsq
    movq %rbx, %rsp
1:  movq %rsp, %rbx                     # survives the call
    movq %rsp, %rdi                     # trap_handler(&mut frame)
    subq $512, %rsp
    andq $-16, %rsp
    fxsave64 (%rsp)
    call trap_handler
    fxrstor64 (%rsp)
    movq %rbx, %rsp
    .irp register, r15, r14, r13, r12, r11, r10, r9, r8, rdi, rsi, rbp, rbx, rdx, rcx, rax
    popq %\register
    .endr
    addq $16, %rsp                      # vector and error code
    iretq
