/* SPDX-License-Identifier: Apache-2.0 */

# The smallest guest that a disk and its vCPUs can be seen by: a boot sector that, at every tick of the clock, writes a
# growing counter to sector 8 through the BIOS and prints "." on the serial line ("!" where the write failed).
# The letter q on the serial line powers it off.

        .code16
        .globl _start
_start: cli
        xorw %ax, %ax
        movw %ax, %ds
        movw %ax, %es
        movw %ax, %ss
        movw $0x7c00, %sp
        sti
        movb %dl, drive
1:      incl 0x8000
        movw $packet, %si
        movb drive, %dl
        movw $0x4300, %ax               # extended write
        int $0x13
        movb $'.', %al
        jnc 2f
        movb $'!', %al
2:      movw $0x3f8, %dx                # COM1
        outb %al, %dx
        movw $0x3fd, %dx                # has a byte come?
        inb %dx, %al
        testb $1, %al
        jz 3f
        movw $0x3f8, %dx
        inb %dx, %al
        cmpb $'q', %al
        jne 3f
        movw $0x604, %dx                # q35: PM1a control, soft off
        movw $0x2000, %ax
        outw %ax, %dx
3:      hlt
        jmp 1b

drive:  .byte 0
        .balign 4
packet: .byte 16, 0
        .word 1                         # sectors
        .word 0x8000, 0                 # from
        .quad 8                         # to

        .org 510
        .word 0xaa55
