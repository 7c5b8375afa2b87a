# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# A boot sector that costs an emulator all the memory it can be made to take: it touches every page of its memory, has
# the translations forgotten and made anew, and runs through millions of jumps, each a block of code to be translated.
# Sends a B for each round. TOP: where its memory ends, set with --defsym.
.intel_syntax noprefix
.set REGION, 0x200000
.set BYTES, 0x1000000
.code16
begin:
    cli
    xor ax, ax
    mov ds, ax
    lgdt [0x7c00 + gdtr - begin]

    mov eax, cr0
    or al, 1
    mov cr0, eax
    .byte 0xea
    .word 0x7c00 + protected - begin
    .word 8
.code32
protected:
    mov ax, 0x10
    mov ds, ax
    mov es, ax
    mov ss, ax
    mov esp, 0x7000
    cld
    mov edi, REGION
    mov ecx, BYTES / 4
    mov eax, 0x00eb00eb
    rep stosd
    mov byte ptr [edi], 0xc3
round:
    mov ebx, REGION + BYTES + 0x1000
touch:
    inc dword ptr [ebx]
    add ebx, 0x1000
    cmp ebx, TOP
    jb touch
    mov eax, cr0
    xor eax, 0x10000
    mov cr0, eax
    mov edx, REGION
    call edx
    mov dx, 0x3f8
    mov al, 'B'
    out dx, al
    jmp round
gdt:
    .quad 0
    .quad 0x00cf9a000000ffff
    .quad 0x00cf92000000ffff
gdtr:
    .word 23
    .long 0x7c00 + gdt - begin
