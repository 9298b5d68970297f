"""Unified kernel images: built byte by byte, and one built from systemd's stub where this host has it."""

from __future__ import annotations

import io
import shutil
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from safeupdate.errors import FormatError
from safeupdate.formats import bzimage, uki
from tests.unit import efi
from tests.unit.trees import RELEASE, x86_image


def test_the_sections_of_an_image() -> None:
    image = uki.parse(efi.uki(cmdline="  root=UUID=1\tquiet \n\0", os_release='ID=debian\nVERSION_ID="12"\n'))
    (profile,) = image.profiles
    assert image.architecture == "x64"
    assert image.whole
    assert profile.cmdline == "root=UUID=1 quiet"
    assert profile.release == RELEASE
    assert profile.os_release == {"ID": "debian", "VERSION_ID": "12"}
    assert profile.linux is not None
    assert profile.initrd is not None
    assert profile.initrd.size == 606
    assert [section.name for section in image.sections] == [".osrel", ".uname", ".cmdline", ".linux", ".initrd"]


def test_a_section_is_a_file_of_its_own() -> None:
    data = efi.uki()
    file = io.BytesIO(data)
    linux = uki.parse(file).profiles[0].linux
    assert linux is not None
    with uki.open_section(file, linux) as part:
        assert part.read() == x86_image(RELEASE)
        assert part.seek(-4, io.SEEK_END) == linux.size - 4
        assert len(part.read(100)) == 4
        assert part.read(1) == b""
        part.seek(0)
        assert bzimage.parse(part).release == RELEASE


def test_profiles_lie_over_the_base() -> None:
    more = [
        (".profile", b"ID=main\n"),
        (".profile", b"ID=factory\nTITLE=Factory reset\n"),
        (".cmdline", b"root=/dev/sda2 factory"),
        (".profile", b""),
        (".cmdline", b""),
    ]
    profiles = uki.parse(efi.uki(cmdline="base", more=more)).profiles
    assert [(one.number, one.id, one.title, one.cmdline) for one in profiles] == [
        (0, "main", None, "base"),
        (1, "factory", "Factory reset", "root=/dev/sda2 factory"),
        (2, None, None, ""),
    ]
    assert {one.linux for one in profiles} == {profiles[0].linux}


def test_the_first_of_two_sections_counts() -> None:
    assert uki.parse(efi.pe([(".cmdline", b"one"), (".cmdline", b"two")])).profiles[0].cmdline == "one"


def test_an_image_without_its_parts() -> None:
    (profile,) = uki.parse(efi.systemd_boot()).profiles
    assert profile == uki.Profile()


def test_a_cut_image_is_not_whole() -> None:
    data = efi.uki()
    image = uki.parse(data[:-700])
    assert not image.whole
    assert [section.name for section in image.sections if not section.whole] == [".initrd"]
    with pytest.raises(FormatError, match=r"the file ends before its section \.cmdline"):
        uki.parse(data[:0x400])


@pytest.mark.parametrize("data", [b"", b"MZ", b"\x7fELF" + bytes(1000), x86_image(), bytes(4096)])
def test_what_is_no_efi_program_is_refused(data: bytes) -> None:
    with pytest.raises(FormatError):
        uki.parse(data)


def test_a_text_that_is_too_long_is_refused() -> None:
    with pytest.raises(FormatError, match=r"\.cmdline is too long"):
        uki.parse(efi.pe([(".cmdline", bytes(1 << 20))]))


def test_profiles_that_repeat_a_long_text_are_refused() -> None:
    profiles = [(".profile", b"ID=a\n")] * 100
    assert len(uki.parse(efi.pe([(".osrel", b"ID=a\n" * 100), *profiles])).profiles) == 100
    with pytest.raises(FormatError, match=r"\.osrel is too long"):
        uki.parse(efi.pe([(".osrel", b"ID=a\n" * 10000), *profiles]))


def test_architectures() -> None:
    assert uki.architecture(efi.pe(machine=0xAA64)) == "aa64"
    assert uki.architecture(efi.pe(machine=1)) is None
    assert uki.architecture(b"MZ") is None
    assert uki.architecture(b"MZ" + bytes(58) + b"\xff\xff\xff\xff" + bytes(100)) is None


def test_what_may_be_an_image() -> None:
    assert uki.looks_like(efi.uki()[:4096])
    assert not uki.looks_like(efi.systemd_boot()[:4096])
    assert not uki.looks_like(x86_image())


def test_an_image_that_objcopy_made_from_the_stub(tmp_path: Path) -> None:
    stub, objcopy = efi.real("linuxx64.efi.stub"), shutil.which("objcopy")
    if stub is None or objcopy is None:
        pytest.skip("needs systemd-boot-efi and binutils")
    command = [objcopy]
    contents = {".osrel": b"ID=debian\n", ".cmdline": b"root=/dev/vda1", ".linux": x86_image(), ".initrd": b"070701"}
    for number, (name, content) in enumerate(contents.items()):
        (tmp_path / name).write_bytes(content)
        command += ["--add-section", f"{name}={tmp_path / name}"]
        command += ["--change-section-vma", f"{name}={0x1000000 * (number + 1):#x}"]
    subprocess.run([*command, stub, tmp_path / "uki.efi"], check=True, timeout=60)
    with (tmp_path / "uki.efi").open("rb") as file:
        image = uki.parse(file)
        (profile,) = image.profiles
        assert image.whole
        assert uki.looks_like((tmp_path / "uki.efi").read_bytes()[:4096])
        assert (profile.cmdline, profile.os_release) == ("root=/dev/vda1", {"ID": "debian"})
        assert profile.linux is not None
        assert uki.open_section(file, profile.linux).read() == contents[".linux"]


SEED = efi.uki(more=[(".profile", b"ID=x\n"), (".cmdline", b"y")])


def parses_or_refuses(data: bytes) -> None:
    with suppress(FormatError):
        for section in uki.parse(data).sections:
            uki.open_section(io.BytesIO(data), section).read(100)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 0x2F0), st.integers(0, 255)), max_size=12), st.integers(0, len(SEED)))
def test_changed_and_cut_images_are_parsed_or_refused(changes: list[tuple[int, int]], length: int) -> None:
    data = bytearray(SEED)
    for at, byte in changes:
        data[at] = byte
    parses_or_refuses(bytes(data[: length or None]))


@settings(max_examples=15, deadline=None)
@given(st.binary(max_size=600))
def test_any_bytes_after_the_magic_are_parsed_or_refused(data: bytes) -> None:
    parses_or_refuses(b"MZ" + data)
    parses_or_refuses(SEED[:0x98] + data)


def test_every_length_of_the_headers_is_parsed_or_refused() -> None:
    for length in range(0, 0x300, 29):
        parses_or_refuses(SEED[:length])
    many = bytearray(SEED)
    many[0x86:0x88] = b"\xff\xff"
    parses_or_refuses(bytes(many))
