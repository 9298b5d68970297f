"""ELF files, made byte by byte."""

from __future__ import annotations

import struct


def note(order: str, name: bytes, kind: int, content: bytes) -> bytes:
    def pad(data: bytes) -> bytes:
        return data + bytes(-len(data) % 4)

    return struct.pack(f"{order}III", len(name), len(content), kind) + pad(name) + pad(content)


def program(
    bits: int = 64,
    order: str = "<",
    machine: int = 62,
    *,
    interpreter: str | None = "/lib64/ld.so",
    needed: tuple[str, ...] = ("liba.so.1", "libc.so.6"),
    runpath: str = "",
    rpath: str = "",
    soname: str = "",
    notes: bytes = b"",
) -> bytes:
    """A program of one segment that holds everything, at address 0x10000."""
    word = "Q" if bits == 64 else "I"
    header_size, program_size = (64, 56) if bits == 64 else (52, 32)
    strings, tags = b"\0", []
    for tag, text in [*((1, name) for name in needed), (14, soname), (15, rpath), (29, runpath)]:
        if text:
            tags.append((tag, len(strings)))
            strings += text.encode() + b"\0"
    interp = interpreter.encode() + b"\0" if interpreter else b""
    count = 2 + bool(interp) + bool(notes)
    at = header_size + count * program_size
    interp_at, notes_at = at, at + len(interp)
    notes_at += -notes_at % 4
    strings_at = notes_at + len(notes)
    dynamic_at = strings_at + len(strings)
    dynamic_at += -dynamic_at % 8
    tags += [(5, 0x10000 + strings_at), (0, 0)]
    dynamic = b"".join(struct.pack(f"{order}{word}{word}", *tag) for tag in tags)
    end = dynamic_at + len(dynamic)

    def segment(kind: int, offset: int, size: int) -> bytes:
        address = 0x10000 + offset
        if bits == 64:
            return struct.pack(f"{order}IIQQQQQQ", kind, 5, offset, address, address, size, size, 4)
        return struct.pack(f"{order}IIIIIIII", kind, offset, address, address, size, size, 5, 4)

    segments = segment(1, 0, end) + segment(2, dynamic_at, len(dynamic))
    segments += segment(3, interp_at, len(interp)) if interp else b""
    segments += segment(4, notes_at, len(notes)) if notes else b""
    ident = b"\x7fELF" + bytes([1 + (bits == 64), 1 + (order == ">"), 1]) + bytes(9)
    data = ident + struct.pack(
        f"{order}HHI{word}{word}{word}IHHHHHH",
        3,
        machine,
        1,
        0,
        header_size,
        0,
        0,
        header_size,
        program_size,
        count,
        0,
        0,
        0,
    )
    data += segments + interp
    data += bytes(notes_at - len(data)) + notes + strings
    return data + bytes(dynamic_at - len(data)) + dynamic


def kernel_module(fields: list[bytes], *, build_id: bytes = b"\xab" * 20, order: str = "<") -> bytes:
    """A relocatable 64-bit file with `.text`, `.modinfo`, a build id and a section name table."""
    contents = [
        (b"", 0, b""),
        (b".text", 1, b"\x90" * 32),
        (b".modinfo", 1, b"\0".join(fields) + b"\0"),
        (b".note.gnu.build-id", 7, note(order, b"GNU\0", 3, build_id)),
        (b".bss", 8, b""),
    ]
    names = b"".join(name + b"\0" for name, _kind, _content in contents) + b".shstrtab\0"
    contents.append((b".shstrtab", 3, names))
    data, headers = bytes(64), b""
    for name, kind, content in contents:
        size = 1 << 40 if kind == 8 else len(content)
        place = names.index(name + b"\0") if name else 0
        headers += struct.pack(f"{order}IIQQQQIIQQ", place, kind, 0, 0, len(data), size, 0, 0, 1, 0)
        data += content
    ident = b"\x7fELF\x02" + bytes([1 + (order == ">"), 1]) + bytes(9)
    numbers = (1, 62, 1, 0, 0, len(data), 0, 64, 0, 0, 64, len(contents), len(contents) - 1)
    return ident + struct.pack(f"{order}HHIQQQIHHHHHH", *numbers) + data[64:] + headers
