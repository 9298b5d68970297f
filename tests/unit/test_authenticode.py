from __future__ import annotations

import hashlib
import io
import struct
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from safeupdate.errors import FormatError
from safeupdate.formats import authenticode
from safeupdate.formats.authenticode import Image, intact, parse
from tests.unit import efi, signed_efi
from tests.unit.signed_efi import key, sign
from tests.unit.trees import real_kernels

OPTIONAL = 0x40 + 24
DIRECTORY = OPTIONAL + 112 + 32
PLAIN = signed_efi.kernel()
SIGNED = sign(PLAIN, key("one"))
TWICE = sign(SIGNED, key("two"))
START = len(PLAIN)


def read(data: bytes) -> Image:
    return parse(io.BytesIO(data))


def whole(data: bytes) -> bool | None:
    return intact(io.BytesIO(data))


def changed(data: bytes, position: int, value: bytes | None = None) -> bytes:
    """The data with other bytes at this position; without any, one bit is turned."""
    value = bytes([data[position] ^ 1]) if value is None else value
    return data[:position] + value + data[position + len(value) :]


def test_the_digest_of_a_signed_image() -> None:
    assert whole(SIGNED) is True
    assert whole(sign(PLAIN, key("one"), of=bytes(32))) is False
    assert whole(PLAIN) is None


def test_what_a_signature_holds() -> None:
    image = read(sign(SIGNED, key("two"), algorithm="sha384"))
    assert [(one.algorithm, len(one.digest), one.problem) for one in image.signatures] == [
        ("sha256", 32, None),
        ("sha384", 48, None),
    ]
    for one, name in zip(image.signatures, ("one", "two")):
        assert one.signed is not None
        assert one.signed.certificates == (key(name).certificate,)
        assert one.signed_content[:1] == b"\x30"
    assert image.problem is None
    assert [section.name for section in image.sections] == [".text"]


@pytest.mark.parametrize("algorithm", ["sha1", "sha256", "sha384", "sha512"])
def test_every_digest(algorithm: str) -> None:
    data = sign(PLAIN, key("one"), algorithm=algorithm)
    assert whole(data) is True
    file = io.BytesIO(data)
    assert authenticode.digest(file, parse(file), algorithm) == signed_efi.digest(PLAIN_WITH_DIRECTORY, algorithm)


PLAIN_WITH_DIRECTORY = PLAIN


def test_one_of_several_signatures_is_enough() -> None:
    assert whole(sign(sign(PLAIN, key("one"), of=bytes(32)), key("two"))) is True
    assert whole(sign(sign(PLAIN, key("one"), of=bytes(32)), key("two"), of=bytes(32))) is False


def test_every_byte_counts_but_checksum_directory_and_certificates() -> None:
    for position in (2, 0x30, OPTIONAL + 63, OPTIONAL + 68, DIRECTORY - 1, DIRECTORY + 8, 512, START - 1):
        assert whole(changed(SIGNED, position)) is False, position
    for position in (OPTIONAL + 64, OPTIONAL + 67, len(SIGNED) - 1):
        assert whole(changed(SIGNED, position)) is True, position


def test_sections_in_another_order_and_with_room_between_them() -> None:
    """Firmware and shim hash the sections by their place in the file, and no bytes between them."""
    image = bytearray(efi.pe([(".b", b"b" * 512), (".a", b"a" * 512), (".c", b"c" * 512)]))
    pe = int.from_bytes(image[0x3C:0x40], "little")
    table = pe + 24 + 240
    image[table : table + 80] = image[table + 40 : table + 80] + image[table : table + 40]
    headers = 0x200
    # The middle one is given up, so that there is a gap.
    count = struct.unpack_from("<H", image, pe + 6)[0]
    names = {bytes(image[table + 40 * n : table + 40 * n + 2]): table + 40 * n for n in range(count)}
    struct.pack_into("<I", image, names[b".a"] + 16, 0)
    struct.pack_into("<I", image, pe + 24 + 108, 16)
    struct.pack_into("<I", image, pe + 24 + 112, 0)
    file = io.BytesIO(bytes(image))
    found = authenticode.digest(file, parse(file), "sha256")
    directory = pe + 24 + 112 + 32
    expected = hashlib.sha256(image[: pe + 24 + 64] + image[pe + 24 + 68 : directory] + image[directory + 8 : headers])
    # What is left is counted from the sum of all sizes, so that the last section's bytes come a second time.
    expected.update(b"b" * 512 + b"c" * 512 + image[headers + 1024 :])
    assert found == expected.digest()


def test_shim_pads_an_image_without_signatures() -> None:
    file = io.BytesIO(PLAIN + b"x")
    image = parse(file)
    assert image.padding == 7
    assert authenticode.digest(file, image, "sha256", padded=True) == signed_efi.digest(PLAIN + b"x" + bytes(7))
    assert authenticode.digest(file, image, "sha256") == signed_efi.digest(PLAIN + b"x")
    assert read(SIGNED).padding == 0


@pytest.mark.parametrize(
    ("data", "problem", "is_whole"),
    [
        (SIGNED[:-1], "beyond the end", False),
        (SIGNED[: START + 9], "beyond the end", False),
        (SIGNED + b"x", "behind its certificate table", False),
        (changed(SIGNED, START, b"\7\0\0\0"), "broken", False),
        (changed(SIGNED, START, b"\xff\xff\xff\xff"), "broken", False),
        (changed(TWICE, len(SIGNED), b"\7\0\0\0"), "broken", True),
        (changed(SIGNED, DIRECTORY + 4, struct.pack("<I", 4)), "broken", False),
    ],
    ids=["cut", "cut far", "more", "length too small", "length too big", "second entry too small", "no room"],
)
def test_a_broken_table(data: bytes, problem: str, is_whole: bool) -> None:
    assert problem in (read(data).problem or "")
    assert whole(data) is is_whole


def test_a_signature_that_is_none() -> None:
    (one,) = read(changed(SIGNED, START + 6, b"\1\0")).signatures
    assert one.problem == "the signature is of the type 1"
    (one,) = read(changed(SIGNED, START + 12, bytes(8))).signatures
    assert "cannot be read" in (one.problem or "")
    assert not one.not_der
    (one,) = read(changed(SIGNED, START + 9, b"\x80")).signatures
    assert one.not_der
    (one,) = read(sign(PLAIN, key("one"), of=b"", algorithm="sha256")[: len(SIGNED)]).signatures
    assert one.digest
    assert whole(changed(SIGNED, START + 12, bytes(8))) is None


@pytest.mark.parametrize("data", [b"", b"MZ", b"MZ" + bytes(61), b"\x7fELF" + bytes(100), b"MZ" + b"\xff" * 5000])
def test_what_is_no_pe_file_carries_no_signature(data: bytes) -> None:
    assert whole(data) is None
    with pytest.raises(FormatError):
        read(data)


@pytest.mark.parametrize(
    ("position", "value", "problem"),
    [
        (0x40 + 6, b"\xff\xff", "section table"),
        (OPTIONAL + 60, bytes(4), "inside the optional header"),
        (OPTIONAL + 240 + 16, b"\0\0\0\x7f", "before its section .text"),
        (OPTIONAL + 60, struct.pack("<I", 0x208), "longer together"),
    ],
)
def test_headers_that_lie(position: int, value: bytes, problem: str) -> None:
    with pytest.raises(FormatError, match=problem):
        read(changed(SIGNED, position, value))


def test_sections_are_not_hashed_more_often_than_the_file_is_long() -> None:
    image = bytearray(efi.pe([(f".{n}", b"") for n in range(90)]) + bytes(1 << 20))
    pe = int.from_bytes(image[0x3C:0x40], "little")
    for number in range(90):
        struct.pack_into("<II", image, pe + 24 + 240 + 40 * number + 16, 1 << 20, 0)
    with pytest.raises(FormatError, match="longer together"):
        read(bytes(image))


def test_names_of_sections_that_are_long() -> None:
    assert {".sbatlevel", ".vendor_cert", ".sbat"} <= {section.name for section in read(signed_efi.shim()).sections}


@given(st.data())
@settings(max_examples=200, deadline=None)
def test_damaged_headers_never_crash(data: st.DataObject) -> None:
    damaged = bytearray(SIGNED)
    for _ in range(data.draw(st.integers(1, 5))):
        position = data.draw(st.integers(0, 0x200) | st.integers(START, len(damaged) - 1))
        damaged[position : position + 4] = data.draw(st.binary(min_size=1, max_size=4) | st.just(b"\xff" * 4))
    del damaged[data.draw(st.integers(0, len(damaged))) :]
    whole(bytes(damaged))
    try:
        read(bytes(damaged))
    except FormatError:
        pass


# -- real ones -------------------------------------------------------------------------------------------------


def _real() -> list[Path]:
    names = ("shimx64.efi.signed", "grubx64.efi.signed", "mmx64.efi.signed", "fbx64.efi.signed")
    return real_kernels() + [path for name in names if (path := efi.real(name)) is not None]


@pytest.mark.skipif(not _real(), reason="no signed image is here")
def test_signed_images_of_distributions() -> None:
    for path in _real():
        with open(path, "rb") as file:
            image = parse(file)
            assert image.signatures, path
            assert all(one.problem is None and one.algorithm == "sha256" for one in image.signatures), path
            assert intact(file) is True, path


@pytest.mark.skipif(not _real(), reason="no signed image is here")
def test_a_signed_image_of_a_distribution_with_a_damage() -> None:
    data = _real()[0].read_bytes()
    for position in (0x300, len(data) // 2, len(data) - 10000):
        assert whole(changed(data, position)) is False
    assert whole(data[:-100]) is False
