"""The smallest RISC-V executable that ttnn's kernel loader accepts.

The loader wants a 32-bit little-endian RISC-V executable whose entry point is the start of its one loaded segment, with
.text alone in that segment and its relocations and symbols kept (they are what the loader moves a kernel by).

Source: Tool Interface Standard, ELF specification 1.2; RISC-V ELF psABI 1.0 for the machine and relocation numbers.
"""

from __future__ import annotations

import struct

# Layouts, all little-endian.
ELF_HEADER = struct.Struct("<16s2H5I6H")
PROGRAM_HEADER = struct.Struct("<8I")
SECTION_HEADER = struct.Struct("<10I")
SYMBOL = struct.Struct("<3I2BH")
RELOCATION = struct.Struct("<2Ii")

IDENT = b"\x7fELF" + bytes([1, 1, 1]) + bytes(9)  # 32-bit, little-endian, ELF version 1
ET_EXEC = 2
EM_RISCV = 243
EV_CURRENT = 1

PT_LOAD = 1
PF_R_X = 4 | 1

SHT_PROGBITS, SHT_SYMTAB, SHT_STRTAB, SHT_RELA = 1, 2, 3, 4
SHF_ALLOC_EXEC = 2 | 4
SHF_INFO_LINK = 0x40

STB_GLOBAL_FUNC = 1 << 4 | 2
R_RISCV_RELAX = 51  # marks a place and changes nothing

TEXT_ADDRESS = 0x5000
CODE = struct.pack("<2I", 0x0000_0013, 0x0000_8067)  # nop; ret

TEXT, RELA_TEXT, SYMTAB, STRTAB, SHSTRTAB = range(1, 6)  # section indices; 0 is the null section
SECTION_NAMES = ("", ".text", ".rela.text", ".symtab", ".strtab", ".shstrtab")


def null_executable() -> bytes:
    """A program that returns at once: `_start: nop; ret`."""
    names = _strings(SECTION_NAMES)
    symbols = _strings(("", "_start"))
    start = SYMBOL.pack(symbols.index(b"_start"), TEXT_ADDRESS, len(CODE), STB_GLOBAL_FUNC, 0, TEXT)
    relocation = RELOCATION.pack(TEXT_ADDRESS, 1 << 8 | R_RISCV_RELAX, 0)  # against symbol 1
    contents = {
        TEXT: CODE,
        RELA_TEXT: relocation,
        SYMTAB: bytes(SYMBOL.size) + start,
        STRTAB: symbols,
        SHSTRTAB: names,
    }

    body = b""
    offsets: dict[int, int] = {}
    body_offset = ELF_HEADER.size + PROGRAM_HEADER.size
    for index, content in contents.items():
        offsets[index] = body_offset + len(body)
        body += _padded(content)

    def section(index: int, kind: int, flags: int, address: int, link: int, info: int, align: int, entry: int) -> bytes:
        name = names.index(SECTION_NAMES[index].encode() + b"\0")
        size = len(contents[index])
        return SECTION_HEADER.pack(name, kind, flags, address, offsets[index], size, link, info, align, entry)

    sections = (
        bytes(SECTION_HEADER.size)
        + section(TEXT, SHT_PROGBITS, SHF_ALLOC_EXEC, TEXT_ADDRESS, 0, 0, 4, 0)
        + section(RELA_TEXT, SHT_RELA, SHF_INFO_LINK, 0, SYMTAB, TEXT, 4, RELOCATION.size)
        + section(SYMTAB, SHT_SYMTAB, 0, 0, STRTAB, 1, 4, SYMBOL.size)
        + section(STRTAB, SHT_STRTAB, 0, 0, 0, 0, 1, 0)
        + section(SHSTRTAB, SHT_STRTAB, 0, 0, 0, 0, 1, 0)
    )
    segment = PROGRAM_HEADER.pack(
        PT_LOAD, offsets[TEXT], TEXT_ADDRESS, TEXT_ADDRESS, len(CODE), len(CODE), PF_R_X, 4
    )  # fmt: skip
    header = ELF_HEADER.pack(
        IDENT, ET_EXEC, EM_RISCV, EV_CURRENT,
        TEXT_ADDRESS, ELF_HEADER.size, body_offset + len(body), 0,
        ELF_HEADER.size, PROGRAM_HEADER.size, 1, SECTION_HEADER.size, len(SECTION_NAMES), SHSTRTAB,
    )  # fmt: skip
    return header + segment + body + sections


def _strings(entries: tuple[str, ...]) -> bytes:
    """A string table: its entries one after another, each ended by a zero."""
    return b"".join(entry.encode() + b"\0" for entry in entries)


def _padded(content: bytes) -> bytes:
    return content + bytes(-len(content) % 4)
