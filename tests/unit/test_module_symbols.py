from __future__ import annotations

import io
import random
import re
import shutil
import struct
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Union

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safeupdate.errors import FormatError
from safeupdate.formats import module_symbols, symvers, unpacked
from tests.unit import elves
from tests.unit.trees import REAL_MACHINES

Numbers = Mapping[str, Union[int, None]]
Section = tuple[bytes, int, bytes, int, int, int]
"""Name, type, content, address, link and info."""

SYMTAB, STRTAB, PROGBITS, NOTE = 2, 3, 1, 7
VERMAGIC = "6.1.0-50-amd64 SMP preempt mod_unload modversions "


def elf(sections: Sequence[Section], *, bits: int = 64, order: str = "<", machine: int = 62, kind: int = 1) -> bytes:
    """An ELF file of these sections, with its section table at the end."""
    word, header = ("Q", 64) if bits == 64 else ("I", 52)
    everything = [(b"", 0, b"", 0, 0, 0), *sections, (b".shstrtab", STRTAB, b"", 0, 0, 0)]
    names = b"".join(name + b"\0" for name, *_ in everything)
    data, table = bytes(header), b""
    for name, type_, content, address, link, info in everything:
        content = names if name == b".shstrtab" else content
        data += bytes(-len(data) % 8)
        place = names.index(b"\0" + name + b"\0") + 1 if name else 0
        fields = (place, type_, 2 if address else 0, address, len(data), len(content), link, info, 1, 0)
        table += struct.pack(f"{order}II{word * 4}II{word * 2}", *fields)
        data += content
    data += bytes(-len(data) % 8)
    count = len(everything)
    size = struct.calcsize(f"{order}II{word * 4}II{word * 2}")
    ident = b"\x7fELF" + bytes([1 + (bits == 64), 1 + (order == ">"), 1]) + bytes(9)
    numbers = (kind, machine, 1, 0, 0, len(data), 0, header, 0, 0, size, count, count - 1)
    return ident + struct.pack(f"{order}HHI{word * 3}IHHHHHH", *numbers) + data[header:] + table


def ko(
    name: str = "a",
    *,
    vermagic: str | None = VERMAGIC,
    versions: Mapping[str, int] | None = None,
    extended: Mapping[str, int] | None = None,
    exports: Numbers = {},  # noqa: B006
    undefined: Sequence[str] = (),
    weak: Sequence[str] = (),
    checksums: str = "section",
    fields: Sequence[str] = ("intree=Y", "license=GPL"),
    size: int | None = 896,
    bits: int = 64,
    order: str = "<",
    machine: int = 62,
) -> bytes:
    """A kernel module. Checksums of exports are in a `section` of their own, `absolute`, or among `constants`."""
    word = "Q" if bits == 64 else "I"
    texts = [f"name={name}", *fields, *([f"vermagic={vermagic}"] if vermagic is not None else [])]
    sections: list[Section] = [
        (b".note.gnu.build-id", NOTE, elves.note(order, b"GNU\0", 3, name.encode().ljust(20, b"\xab")), 0, 0, 0),
        (b".modinfo", PROGBITS, b"".join(text.encode() + b"\0" for text in texts), 0, 0, 0),
    ]
    if size is not None:
        sections.append((b".gnu.linkonce.this_module", PROGBITS, bytes(size), 0, 0, 0))
    if versions is not None:
        entries = [
            struct.pack(order + word, number) + symbol.encode().ljust(64 - bits // 8, b"\0")
            for symbol, number in versions.items()
        ]
        sections.append((b"__versions", PROGBITS, b"".join(entries), 0, 0, 0))
    if extended is not None:
        numbers = struct.pack(f"{order}{len(extended)}I", *extended.values())
        sections.append((b"__version_ext_crcs", PROGBITS, numbers, 0, 0, 0))
        sections.append((b"__version_ext_names", PROGBITS, b"".join(one.encode() + b"\0" for one in extended), 0, 0, 0))
    symbols: list[tuple[str, int, int, int]] = []
    if exports:
        known = {symbol: number for symbol, number in exports.items() if number is not None}
        sections.append((b"__ksymtab", PROGBITS, bytes(12 * len(exports)), 0, 0, 0))
        table = len(sections)
        symbols += [(f"__ksymtab_{symbol}", 0, table, 12 * at) for at, symbol in enumerate(exports)]
        if known:
            holder = b".rodata" if checksums == "constants" else b"__kcrctab"
            sections.append((holder, PROGBITS, struct.pack(f"{order}{len(known)}I", *known.values()), 0, 0, 0))
            table = len(sections)
            symbols += [
                (f"__crc_{symbol}", 0, 0xFFF1, number)
                if checksums == "absolute"
                else (f"__crc_{symbol}", 0, table, 4 * at)
                for at, (symbol, number) in enumerate(known.items())
            ]
        if checksums == "constants" or (known and checksums == "absolute"):
            sections.append((b"__kcrctab", PROGBITS, bytes(4 * len(known)), 0, 0, 0))
        strings = b"".join(symbol.encode() + b"\0" for symbol in exports)
        sections.append((b"__ksymtab_strings", PROGBITS, strings, 0, 0, 0))
    symbols += [(symbol, 1, 0, 0) for symbol in undefined] + [(symbol, 2, 0, 0) for symbol in weak]
    strings, entries = b"\0", [bytes(24 if bits == 64 else 16)]
    for symbol, binding, section, value in symbols:
        if bits == 64:
            entries.append(struct.pack(f"{order}IBBHQQ", len(strings), binding << 4, 0, section, value, 0))
        else:
            entries.append(struct.pack(f"{order}IIIBBH", len(strings), value, 0, binding << 4, 0, section))
        strings += symbol.encode() + b"\0"
    sections.append((b".symtab", SYMTAB, b"".join(entries), 0, len(sections) + 2, 1))
    sections.append((b".strtab", STRTAB, strings, 0, 0, 0))
    return elf(sections, bits=bits, order=order, machine=machine)


def vmlinux(
    exports: Mapping[str, int], *, layout: str = "distances", relative: bool = False, bits: int = 64, order: str = "<"
) -> bytes:
    """A kernel's tables of exported symbols, half of them in the table of GPL-only ones."""
    word = "q" if bits == 64 else "i"
    texts = b"".join(name.encode() + b"\0" for name in exports)
    places = {name: texts.index(name.encode() + b"\0") for name in exports}
    base = 0x10000000
    sections: list[Section] = [(b"__ksymtab_strings", PROGBITS, texts, base, 0, 0)]
    names = sorted(exports)
    for number, (suffix, part) in enumerate((("", names[::2]), ("_gpl", names[1::2])), 1):
        address = base + number * 0x100000
        table, crcs, constants = b"", b"", b""
        for at, name in enumerate(part):
            target = base + places[name]
            if layout == "distances":
                table += struct.pack(f"{order}iii", 5, target - (address + 12 * at + 4), 7)
            elif layout == "distances without namespace":
                table += struct.pack(f"{order}ii", 5, target - (address + 8 * at + 4))
            else:
                table += struct.pack(f"{order}{word * 3}", 0x20000000, target, 0)
            crcs += struct.pack(f"{order}i", 0x40000) if relative else struct.pack(f"{order}I", exports[name])
            constants += struct.pack(f"{order}I", exports[name])
        sections.append((f"__ksymtab{suffix}".encode(), PROGBITS, table, address, 0, 0))
        sections.append((f"__kcrctab{suffix}".encode(), PROGBITS, crcs, address + 0x20000, 0, 0))
        sections.append((f".rodata{suffix}".encode(), PROGBITS, constants, address + 0x60000, 0, 0))
    return elf(sections, bits=bits, order=order, kind=2)


def parse(data: bytes) -> module_symbols.ModuleSymbols:
    return module_symbols.parse(io.BytesIO(data))


LAYOUTS = [(64, "<"), (64, ">"), (32, "<"), (32, ">")]


@pytest.mark.parametrize(("bits", "order"), LAYOUTS)
@pytest.mark.parametrize("checksums", ["section", "absolute", "constants"])
def test_everything_that_a_module_says(bits: int, order: str, checksums: str) -> None:
    found = parse(
        ko(
            "ab-c",
            versions={"module_layout": 0xDEADBEEF, "kfree": 1},
            extended={"module_layout": 0xDEADBEEF, "k" * 90: 2},
            exports={"one": 0x12345678, "two": 0xFFFFFFFF, "third": None},
            undefined=["kfree", "printk", "_GLOBAL_OFFSET_TABLE_"],
            weak=["perhaps"],
            checksums=checksums,
            fields=["srcversion=ABC", "import_ns=A", "import_ns=B"],
            bits=bits,
            order=order,
        )
    )
    assert found.one("name") == "ab-c"
    assert found.one("vermagic") == VERMAGIC
    assert found.one("srcversion") == "ABC"
    assert found.one("intree") is None
    assert found.modinfo["import_ns"] == ("A", "B")
    assert found.build_id == (b"ab-c" + b"\xab" * 16).hex()
    assert found.versions == {"module_layout": 0xDEADBEEF, "kfree": 1}
    assert found.extended == {"module_layout": 0xDEADBEEF, "k" * 90: 2}
    assert found.exports == {"one": 0x12345678, "two": 0xFFFFFFFF, "third": 0}
    assert found.undefined == {"kfree", "printk"}
    assert found.weak == {"perhaps"}
    assert found.size == 896
    assert found.machine == 62


def test_exports_without_any_checksum() -> None:
    assert parse(ko(exports={"one": None, "two": None})).exports == {"one": None, "two": None}


def test_a_module_without_anything() -> None:
    found = parse(ko(vermagic=None, size=None))
    assert (found.versions, found.extended, found.size, found.one("vermagic")) == (None, None, None, None)
    assert (found.exports, found.undefined, found.weak) == ({}, frozenset(), frozenset())


def test_names_of_exports_that_were_stripped() -> None:
    """Without the names of the entries (`strip --discard-all`) what may be exported is known, its checksum not."""
    data = (
        ko(exports={"one": 1, "two": 2}).replace(b"__ksymtab_one\0", b"\0" * 14).replace(b"__ksymtab_two\0", b"\0" * 14)
    )
    assert parse(data).exports == {"one": None, "two": None}


def test_extended_versions_that_do_not_fit_together() -> None:
    good = ko(extended={"one": 1, "two": 2})
    for bad in (good.replace(b"__version_ext_crcs", b"__version_ext_crcx"), good.replace(b"one\0two\0", b"onextwo\0")):
        with pytest.raises(FormatError):
            parse(bad)


def test_no_module() -> None:
    assert parse(ko()).exports == {}
    for bad in (b"", b"\x7fELF", elves.program(), elves.kernel_module([b"name=a"]), vmlinux({"a": 1})):
        with pytest.raises(FormatError):
            parse(bad)


@given(st.data())
def test_one_that_was_cut(data: st.DataObject) -> None:
    whole = ko(versions={"module_layout": 1}, exports={"one": 1}, undefined=["kfree"])
    with pytest.raises(FormatError):
        parse(whole[: data.draw(st.integers(0, len(whole) - 1))])


@given(st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), max_size=8))
def test_damage_is_a_format_error_or_nothing(changes: list[tuple[int, int]]) -> None:
    data = bytearray(ko(versions={"module_layout": 1}, extended={"a": 1}, exports={"one": 1}, undefined=["kfree"]))
    for at, value in changes:
        data[-1 - at] = value
    try:
        parse(bytes(data))
    except FormatError:
        pass


# -- kernels ---------------------------------------------------------------------------------------------------

EXPORTS = {"printk": 0x11111111, "kfree": 2, "intk": 0xFFFFFFFF, "module_layout": 4}


@pytest.mark.parametrize(("bits", "order"), LAYOUTS)
@pytest.mark.parametrize("layout", ["distances", "distances without namespace", "pointers"])
@pytest.mark.parametrize("relative", [False, True])
def test_what_a_kernel_exports(bits: int, order: str, layout: str, relative: bool) -> None:
    image = vmlinux(EXPORTS, layout=layout, relative=relative, bits=bits, order=order)
    assert module_symbols.of_kernel(io.BytesIO(image), relative=relative) == EXPORTS


def test_names_within_names() -> None:
    """The linker puts a name that is the end of another into that one."""
    image = vmlinux({"printk": 1, "intk": 2}).replace(b"intk\0printk\0", b"printk\0printk\0")
    assert module_symbols.of_kernel(io.BytesIO(image)) == {"printk": 1, "intk": 2}


def test_images_without_tables() -> None:
    good = vmlinux(EXPORTS)
    for bad in (b"", bytes(4096), ko(), good[: len(good) // 2], good.replace(b"printk\0", b"pri\1tk\0")):
        with pytest.raises(FormatError):
            module_symbols.of_kernel(io.BytesIO(bad))


@given(st.lists(st.tuples(st.integers(0, 3000), st.integers(0, 255)), max_size=8))
def test_damage_to_a_kernel_is_a_format_error_or_nothing(changes: list[tuple[int, int]]) -> None:
    data = bytearray(vmlinux(EXPORTS, relative=True))
    for at, value in changes:
        data[at % len(data)] = value
    for relative in (False, True):
        try:
            module_symbols.of_kernel(io.BytesIO(bytes(data)), relative=relative)
        except FormatError:
            pass


# -- real ones -------------------------------------------------------------------------------------------------

HEADERS = [
    path for boot in REAL_MACHINES for path in sorted(boot.parent.glob("usr/src/linux-headers-*/Module.symvers"))
]
"""Of Debian's linux-headers packages, which the machines with DKMS have."""


def real_modules(count: int) -> list[Path]:
    """Some modules of each distribution's kernels, always the same."""
    found = []
    for boot in REAL_MACHINES:
        paths = sorted((boot.parent / "lib/modules").glob("*/kernel/**/*.ko*"))
        found += random.Random(1).sample(paths, min(count, len(paths)))
    return found


@pytest.mark.skipif(not REAL_MACHINES, reason="no distribution's machine is on this host")
@pytest.mark.skipif(not shutil.which("modprobe") or not shutil.which("nm"), reason="kmod or binutils is not here")
def test_the_same_as_modprobe_and_nm_say(tmp_path: Path) -> None:
    for path in real_modules(6):
        with path.open("rb") as file, unpacked.module(file, path.name) as content:
            found = module_symbols.parse(content)
            content.seek(0)
            (tmp_path / "a.ko").write_bytes(content.read())

        def said(*command: str) -> str:
            done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=tmp_path, check=True)
            return done.stdout

        lines = [line.split("\t") for line in said("modprobe", "--dump-modversions", "a.ko").splitlines()]
        assert found.versions == {name: int(number, 16) for number, name in lines}, path
        symbols = re.findall(r"^(\S*) +(\w) (\S+)$", said("nm", "a.ko"), re.MULTILINE)
        assert found.undefined == {name for _, kind, name in symbols if kind == "U"}, path
        assert found.weak == {name for _, kind, name in symbols if kind == "w"}, path
        assert set(found.exports) == {name[10:] for _, _, name in symbols if name.startswith("__ksymtab_")}, path
        assert said("modinfo", "-F", "vermagic", "./a.ko").strip("\n") == found.one("vermagic"), path


@pytest.mark.parametrize("path", HEADERS, ids=[path.parent.name for path in HEADERS])
def test_a_kernels_image_and_its_headers_agree(path: Path) -> None:
    release = path.parent.name.partition("linux-headers-")[2]
    listed = symvers.parse(path.read_bytes())
    image = path.parents[3] / f"boot/vmlinuz-{release}"
    with image.open("rb") as file:
        exports = module_symbols.of_kernel(unpacked.kernel(file, image.stat().st_size))
    assert exports == {name: one.checksum for name, one in listed.items() if one.module == symvers.KERNEL}
