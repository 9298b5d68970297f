"""ELF headers: built byte by byte, so that every bound can be tried, and as this machine's own programs have them."""

from __future__ import annotations

import io
import json
import random
import struct
import sys

import pytest

from safeupdate.errors import FormatError
from safeupdate.formats import elf

LAYOUTS = [(64, "<", 62), (64, ">", 22), (32, "<", 3), (32, ">", 20)]


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


@pytest.mark.parametrize(("bits", "order", "machine"), LAYOUTS)
def test_program_of_every_class_and_byte_order(bits: int, order: str, machine: int) -> None:
    data = program(
        bits,
        order,
        machine,
        runpath="$ORIGIN/../lib:/opt/lib",
        soname="libme.so.2",
        notes=note(order, b"GNU\0", 3, b"\1\2\3"),
    )
    for source in (data, io.BytesIO(data)):
        found = elf.parse(source)
        assert (found.bits, found.endian, found.machine) == (bits, "little" if order == "<" else "big", machine)
        assert found.interpreter == "/lib64/ld.so"
        assert found.needed == ("liba.so.1", "libc.so.6")
        assert found.runpath == ("$ORIGIN/../lib", "/opt/lib") and found.rpath == ()
        assert found.soname == "libme.so.2"
        assert found.build_id == "010203"
        assert found.extent == found.loaded == found.size == len(data)
        assert not found.cut


def test_static_program_needs_nothing() -> None:
    found = elf.parse(program(interpreter=None, needed=()))
    assert found.interpreter is None and found.needed == ()


def test_a_cut_file_is_noticed_at_every_length() -> None:
    data = program(notes=note("<", b"GNU\0", 3, b"\1"))
    for length in range(len(data)):
        try:
            found = elf.parse(data[:length])
        except FormatError:
            continue
        assert found.cut and found.unloadable, length


def test_sections_behind_the_segments_count_for_the_extent_only() -> None:
    data = bytearray(program())
    struct.pack_into("<Q", data, 40, len(data))
    struct.pack_into("<HH", data, 58, 64, 2)
    found = elf.parse(bytes(data))
    assert found.extent == len(data) + 128
    assert found.cut and not found.unloadable


def test_dlopen_notes() -> None:
    content = json.dumps(
        [{"soname": ["libzstd.so.1"], "feature": "zstd", "priority": "suggested"}, {"soname": "wrong"}, 7]
    ).encode()
    notes = note("<", b"FDO\0", 0x407C0C0A, content + b"\0") + note("<", b"FDO\0", 0x407C0C0A, b"{not json")
    assert elf.parse(program(notes=notes)).dlopen == (elf.Dlopen(("libzstd.so.1",), "zstd", "suggested"),)


def test_architectures_have_names() -> None:
    assert elf.parse(program(machine=183)).architecture == "aarch64"
    assert elf.parse(program(machine=21)).architecture == "ppc64le"
    assert elf.parse(program(machine=243)).architecture == "riscv64"
    assert elf.parse(program(machine=9999)).architecture == "machine 9999"


def test_only_the_same_machine_fits() -> None:
    wide, narrow = elf.parse(program()), elf.parse(program(32, "<", 3))
    assert wide.fits(wide) and not wide.fits(narrow)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x7fEL",
        b"\x7fELF",
        b"#!/bin/sh\n",
        b"\x7fELF\x09\x01\x01" + bytes(57),
        b"\x7fELF\x02\x01\x01" + bytes(20),
    ],
)
def test_what_is_no_elf_file(data: bytes) -> None:
    with pytest.raises(FormatError):
        elf.parse(data)


def test_this_pythons_own_program() -> None:
    with open(sys.executable, "rb") as file:
        found = elf.parse(file)
    assert found.interpreter and not found.unloadable


@pytest.mark.parametrize("order", ["<", ">"])
def test_kernel_module(order: str) -> None:
    data = kernel_module(
        [
            b"name=virtio_blk",
            b"depends=virtio,virtio_ring",
            b"alias=virtio:d2v*",
            b"alias=b",
            b"vermagic=6.1.0 SMP ",
            b"",
        ],
        order=order,
    )
    found = elf.module(data + b"~Module signature appended~\n")
    assert found.one("name") == "virtio_blk"
    assert found.one("vermagic") == "6.1.0 SMP "
    assert found.modinfo["alias"] == ("virtio:d2v*", "b")
    assert found.one("signer") is None
    assert found.build_id == "ab" * 20
    assert found.extent == found.elf.extent == len(data)
    assert found == elf.module(io.BytesIO(data + b"~Module signature appended~\n"))


def test_a_cut_module_is_noticed_at_every_length() -> None:
    data = kernel_module([b"name=a"])
    for length in range(len(data)):
        with pytest.raises(FormatError):
            elf.module(data[:length])
        if length >= 64:
            assert elf.parse(data[:length]).unloadable


def test_a_program_is_no_module() -> None:
    with pytest.raises(FormatError, match="not relocatable"):
        elf.module(program())


@pytest.mark.parametrize("seed", range(4))
def test_flipped_bytes_raise_nothing_else(seed: int) -> None:
    chance = random.Random(seed)
    notes = note("<", b"FDO\0", 0x407C0C0A, b'[{"soname":["a"]}]')
    for data, read in ((program(notes=notes), elf.parse), (kernel_module([b"name=a"]), elf.module)):
        for _ in range(500):
            broken = bytearray(data)
            for _ in range(chance.randint(1, 4)):
                broken[chance.randrange(min(len(broken), 400))] = chance.choice(
                    (0, 1, 0x7F, 0xFF, chance.randrange(256))
                )
            for source in (bytes(broken), io.BytesIO(broken)):
                try:
                    read(source)
                except FormatError:
                    pass
