"""EFI variables: real values, and what must be refused."""

from __future__ import annotations

import struct
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safeupdate.errors import FormatError
from safeupdate.formats import efi_variables

# Boot0001 as efibootmgr and Debian's grub-install write it: HD(1,GPT,...)/File(\EFI\debian\shimx64.efi).
DEBIAN = bytes.fromhex(
    """
    01000000 6200 640065006200690061006e000000
    04012a00 01000000 0008000000000000 0000100000000000 78563412bc9af0de1122334455667788 02 02
    04043400 5c004500460049005c00640065006200690061006e005c007300680069006d007800360034002e006500660069000000
    7fff0400
    """
)


def node(kind: int, subtype: int, body: bytes = b"") -> bytes:
    return struct.pack("<BBH", kind, subtype, 4 + len(body)) + body


END = node(0x7F, 0xFF)


def load_option(path: bytes, *, attributes: int = 1, description: str = "x", data: bytes = b"") -> bytes:
    text = description.encode("utf-16-le") + b"\0\0"
    return struct.pack("<IH", attributes, len(path)) + text + path + data


def test_a_file_of_efivarfs_is_attributes_and_value() -> None:
    assert efi_variables.parse(b"\x07\0\0\0\1\0") == efi_variables.Variable(7, b"\1\0")
    assert efi_variables.parse(b"\x06\0\0\0").data == b""
    with pytest.raises(FormatError):
        efi_variables.parse(b"\x07\0\0")


def test_an_installed_boot_option() -> None:
    option = efi_variables.load_option(DEBIAN)
    assert option.active
    assert not option.hidden
    assert not option.application
    assert option.description == "debian"
    assert option.nodes == ("HD", "file")
    assert option.partition == "12345678-9abc-def0-1122-334455667788"
    assert option.path == "\\EFI\\debian\\shimx64.efi"
    assert option.data == b""


def test_an_mbr_partition_has_the_partuuid_that_udev_gives_it() -> None:
    body = struct.pack("<IQQ", 2, 2048, 4096) + b"\x78\x56\x34\x12" + bytes(12) + b"\1\1"
    assert efi_variables.load_option(load_option(node(4, 1, body) + END)).partition == "12345678-02"


def test_several_file_nodes_are_one_path() -> None:
    parts = [node(4, 4, part.encode("utf-16-le") + b"\0\0") for part in ("\\EFI", "Linux\\", "\\a.efi")]
    assert efi_variables.load_option(load_option(b"".join(parts) + END)).path == "\\EFI\\Linux\\a.efi"


def test_arguments_and_further_device_paths_are_left_apart() -> None:
    first = node(4, 4, "\\a".encode("utf-16-le") + b"\0\0") + END
    second = node(4, 4, "\\b".encode("utf-16-le") + b"\0\0") + END
    option = efi_variables.load_option(load_option(first + second, data="root=/dev/sda2".encode("utf-16-le")))
    assert option.path == "\\a"
    assert option.data.decode("utf-16-le") == "root=/dev/sda2"


def test_what_is_no_disk_is_named() -> None:
    mac = node(2, 1, bytes(8)) + node(1, 1, bytes(2)) + node(3, 11, bytes(33)) + node(3, 12, bytes(23)) + END
    option = efi_variables.load_option(load_option(mac, attributes=0x109, description="UEFI PXEv4"))
    assert option.nodes == ("ACPI", "PCI", "MAC", "IPv4")
    assert (option.partition, option.path) == (None, None)
    assert option.hidden
    assert option.application
    assert efi_variables.load_option(load_option(node(9, 9) + END)).nodes == ("9/9",)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        DEBIAN[:5],
        DEBIAN[:10],
        DEBIAN[:40],
        load_option(node(4, 1, bytes(10)) + END),
        load_option(struct.pack("<BBH", 4, 4, 2)),
        load_option(struct.pack("<BBH", 4, 4, 60000)),
        load_option(b"\4\4"),
    ],
)
def test_a_broken_boot_option_is_refused(data: bytes) -> None:
    with pytest.raises(FormatError):
        efi_variables.load_option(data)


def test_numbers_texts_and_flags() -> None:
    assert efi_variables.numbers(b"\1\0\0\x20") == (1, 0x2000)
    assert efi_variables.text("systemd-boot 252.39-1\0garbage".encode("utf-16-le")) == "systemd-boot 252.39-1"
    assert efi_variables.text("no end".encode("utf-16-le")) == "no end"
    assert efi_variables.text(b"\x00\xd8\0\0") == "\ufffd"
    assert efi_variables.flag(b"\1")
    assert not efi_variables.flag(b"\0")
    assert efi_variables.bits(b"\0\0\x08" + bytes(5)) == 1 << 19
    for parser, data in (
        (efi_variables.numbers, b"\1"),
        (efi_variables.text, b"a\0b"),
        (efi_variables.flag, b""),
        (efi_variables.flag, b"\2"),
        (efi_variables.bits, b"\1"),
    ):
        with pytest.raises(FormatError):
            parser(data)


@given(st.binary(max_size=300) | st.binary(max_size=60).map(lambda tail: DEBIAN[:30] + tail))
def test_no_bytes_do_anything_but_parse_or_be_refused(data: bytes) -> None:
    for parser in (
        efi_variables.parse,
        efi_variables.numbers,
        efi_variables.text,
        efi_variables.flag,
        efi_variables.bits,
        efi_variables.load_option,
    ):
        with suppress(FormatError):
            parser(data)


@given(st.integers(0, len(DEBIAN) - 1), st.integers(0, 255))
def test_a_changed_byte_is_no_crash(at: int, byte: int) -> None:
    changed = bytearray(DEBIAN)
    changed[at] = byte
    with suppress(FormatError):
        efi_variables.load_option(bytes(changed))
