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
from tests.unit.elves import kernel_module, note, program

LAYOUTS = [(64, "<", 62), (64, ">", 22), (32, "<", 3), (32, ">", 20)]


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


def test_of_several_sections_of_one_name_the_first_counts() -> None:
    # Each of 2000 sections is all of `.modinfo`, in which nothing is to be found.
    data = bytearray(kernel_module([b""] * 100_000))
    (table,) = struct.unpack_from("<Q", data, 40)
    headers = [data[table + 64 * n : table + 64 * (n + 1)] for n in range(6)]
    data[table:] = b"".join([*headers, *[headers[2], headers[3]] * 1000])
    struct.pack_into("<H", data, 60, 2006)
    found = elf.module(bytes(data))
    assert (dict(found.modinfo), found.build_id) == ({}, "ab" * 20)


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
