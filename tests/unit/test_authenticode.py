from __future__ import annotations

import hashlib
import io
import struct
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from safeupdate.errors import FormatError
from safeupdate.formats.authenticode import intact
from tests.unit.trees import real_kernels

OPTIONAL = 0x40 + 24
DIRECTORY = OPTIONAL + 112 + 32
SHA256 = bytes.fromhex("300d06096086480165030402010500") + b"\x04\x20"


def image(*, body: bytes = b"code" * 100, signed: bool = True, digest: bytes | None = None) -> bytes:
    """A PE32+ file, with a certificate table that holds nothing but the digest, as a signature's first content does."""
    data = bytearray(512)
    data[:2] = b"MZ"
    struct.pack_into("<I", data, 0x3C, 0x40)
    data[0x40:0x44] = b"PE\0\0"
    struct.pack_into("<H", data, OPTIONAL, 0x20B)
    data += body
    data += bytes(-len(data) % 8)
    if not signed:
        return bytes(data)
    start = len(data)
    hashed = hashlib.sha256()
    for first, last in ((0, OPTIONAL + 64), (OPTIONAL + 68, DIRECTORY), (DIRECTORY + 8, start)):
        hashed.update(data[first:last])
    table = struct.pack("<IHH", 128, 0x200, 2) + b"\x30\x82" + SHA256 + (digest or hashed.digest())
    table = table.ljust(128, b"\0")
    struct.pack_into("<II", data, DIRECTORY, start, len(table))
    return bytes(data) + table


def test_the_digest_of_a_signed_image() -> None:
    assert intact(io.BytesIO(image())) is True
    assert intact(io.BytesIO(image(digest=bytes(32)))) is False
    assert intact(io.BytesIO(image(signed=False))) is None


def test_every_byte_counts_but_checksum_directory_and_certificates() -> None:
    data = image()
    start = struct.unpack_from("<I", data, DIRECTORY)[0]
    for position in (2, 0x30, OPTIONAL + 63, OPTIONAL + 68, DIRECTORY - 1, DIRECTORY + 8, 512, start - 1):
        damaged = bytearray(data)
        damaged[position] ^= 1
        assert intact(io.BytesIO(bytes(damaged))) is False, position
    for position in (OPTIONAL + 64, OPTIONAL + 67, start + 3, len(data) - 1):
        damaged = bytearray(data)
        damaged[position] ^= 1
        assert intact(io.BytesIO(bytes(damaged))) is True, position


def test_a_cut_image_says_where() -> None:
    data = image()
    with pytest.raises(FormatError, match="beyond the end"):
        intact(io.BytesIO(data[:-1]))
    with pytest.raises(FormatError, match="cut"):
        intact(io.BytesIO(data[: DIRECTORY + 4]))


@pytest.mark.parametrize("data", [b"", b"MZ", b"MZ" + bytes(61), b"\x7fELF" + bytes(100), b"MZ" + b"\xff" * 5000])
def test_what_is_no_pe_file_carries_no_signature(data: bytes) -> None:
    assert intact(io.BytesIO(data)) is None


def test_a_table_without_a_digest_tells_nothing() -> None:
    data = image()
    start = struct.unpack_from("<I", data, DIRECTORY)[0]
    assert intact(io.BytesIO(data[:start] + bytes(128))) is None


@given(st.data())
@settings(max_examples=200, deadline=None)
def test_damaged_headers_never_crash(data: st.DataObject) -> None:
    damaged = bytearray(image())
    for _ in range(data.draw(st.integers(1, 5))):
        position = data.draw(st.integers(0, len(damaged) - 1))
        damaged[position : position + 4] = data.draw(st.binary(min_size=1, max_size=4) | st.just(b"\xff" * 4))
    del damaged[data.draw(st.integers(0, len(damaged))) :]
    try:
        intact(io.BytesIO(bytes(damaged)))
    except FormatError:
        pass


def _signed() -> list[Path]:
    return real_kernels()[:1]


@pytest.mark.skipif(not _signed(), reason="no machines were built here")
def test_a_signed_kernel_of_debian() -> None:
    data = _signed()[0].read_bytes()
    assert intact(io.BytesIO(data)) is True
    for position in (0x300, len(data) // 2, len(data) - 10000):
        damaged = bytearray(data)
        damaged[position] ^= 0x10
        assert intact(io.BytesIO(bytes(damaged))) is False
    with pytest.raises(FormatError):
        intact(io.BytesIO(data[:-100]))
