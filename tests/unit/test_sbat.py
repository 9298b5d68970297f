from __future__ import annotations

import io
import struct
from typing import BinaryIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safeupdate.errors import FormatError
from safeupdate.formats import authenticode, certificate, sbat, shim
from safeupdate.formats.sbat import Component, Level
from tests.unit import efi, signed_efi
from tests.unit.signed_efi import SBAT

GRUB = (
    SBAT + "grub,5,Free Software Foundation,grub,2.06,https://gnu\ngrub.debian,5,Debian,grub2,1,https://d\n"
).encode()


def test_the_components_of_a_program() -> None:
    found = sbat.components(GRUB + bytes(100))
    assert found == (Component("sbat", 1, "1"), Component("grub", 5, "2.06"), Component("grub.debian", 5, "1"))
    assert sbat.components(b"") == ()
    assert sbat.components(b"\xef\xbb\xbfa,1,b,c,d,e\r\n\r\nb,2,b,c,d,e,and,more\n") == (
        Component("a", 1, "d"),
        Component("b", 2, "d"),
    )


@pytest.mark.parametrize("data", [b"grub,5\n", b"grub,5,a,b,c\n", b"grub,,a,b,c,d\n", b"a,1,b,c,d,e\ngrub\n"])
def test_a_component_that_shim_refuses(data: bytes) -> None:
    with pytest.raises(FormatError, match="fields"):
        sbat.components(data)


def test_a_level() -> None:
    assert sbat.level(b"sbat,1,2025021800\nshim,4\ngrub,5\n") == Level({"sbat": 1, "shim": 4, "grub": 5}, "2025021800")
    assert sbat.level(b"") == Level()
    with pytest.raises(FormatError, match="line 2"):
        sbat.level(b"sbat,1,2025021800\nshim\n")


@pytest.mark.parametrize(("text", "number"), [("7", 7), (" 7x", 7), ("x", 0), ("-1", 0), ("65537", 1)])
def test_generations_are_read_as_shim_reads_them(text: str, number: int) -> None:
    assert sbat.level(f"grub,{text}".encode()).generations == {"grub": number}


def test_what_is_revoked() -> None:
    found = sbat.components(GRUB)
    assert sbat.revoked(found, Level({"grub": 5, "grub.debian": 5, "shim": 9})) == ()
    assert sbat.revoked(found, Level({"grub": 6})) == (found[1],)
    assert sbat.revoked(found, Level({"sbat": 1, "grub": 4, "grub.debian": 6})) == (found[2],)


@given(st.binary(max_size=200) | st.text(alphabet="ab1,\n\r ", max_size=60).map(str.encode))
def test_no_bytes_crash_a_reader(data: bytes) -> None:
    for reader in (sbat.components, sbat.level, shim.vendor, shim.levels):
        try:
            reader(data)
        except FormatError:
            pass


def test_what_shim_carries() -> None:
    key = signed_efi.key("vendor", authority=True)
    denied = signed_efi.entries(b"\1" * 32, kind="sha256")
    file = io.BytesIO(signed_efi.shim(key, denied=denied, latest="sbat,1,2030010100\n"))
    vendor, levels = shim.vendor(_section(file, ".vendor_cert")), shim.levels(_section(file, ".sbatlevel"))
    assert [entry.data for entry in vendor.allowed] == [key.certificate]
    assert [(entry.kind, entry.data) for entry in vendor.denied] == [("sha256", b"\1" * 32)]
    assert levels == (Level({"sbat": 1, "shim": 2, "grub": 3}, "2023012900"), Level({"sbat": 1}, "2030010100"))


def _section(file: BinaryIO, name: str) -> bytes:
    section = authenticode.parse(file).section(name)
    assert section is not None
    return authenticode.read(file, section, limit=shim.SIZE_LIMIT)


def test_a_list_of_keys_in_shim() -> None:
    keys = [signed_efi.key("vendor", authority=True), signed_efi.key("another", authority=True)]
    several = signed_efi.entries(*keys)
    vendor = shim.vendor(struct.pack("<IIII", len(several), 0, 16, 16 + len(several)) + several)
    assert [entry.data for entry in vendor.allowed] == [key.certificate for key in keys]
    with pytest.raises(FormatError, match="beyond"):
        shim.vendor(struct.pack("<IIII", 100, 0, 16, 16))


REAL = efi.real("shimx64.efi.signed")


@pytest.mark.skipif(REAL is None, reason="no signed shim is here")
def test_debians_shim() -> None:
    assert REAL is not None
    with open(REAL, "rb") as file:
        vendor, levels = shim.vendor(_section(file, ".vendor_cert")), shim.levels(_section(file, ".sbatlevel"))
        components = sbat.components(_section(file, ".sbat"))
    assert [certificate.parse(entry.data).common_name for entry in vendor.allowed] == ["Debian Secure Boot CA"]
    assert {entry.kind for entry in vendor.denied} == {"sha256"}
    assert [one.name for one in components] == ["sbat", "shim", "shim.debian"]
    assert levels[0].date <= levels[1].date
    assert not sbat.revoked(components, levels[1])
