from __future__ import annotations

import gzip
import io
import lzma
import struct
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from safeupdate.errors import FormatError
from safeupdate.formats import bzimage
from safeupdate.formats.bzimage import KernelImage, Payload
from tests.unit.trees import real_kernels, x86_image

XZ = lzma.compress(b"kernel" * 1000, check=lzma.CHECK_CRC32)
WORD = struct.pack("<I", 6000)


def parse(data: bytes) -> KernelImage:
    return bzimage.parse(io.BytesIO(data))


def pe(machine: int, *, sections: list[tuple[int, int]], at: int = 0x40) -> bytes:
    """PE headers from `at` on, with one section for each pair of offset and size in the file."""
    header = b"PE\0\0" + struct.pack("<HHIIIHH", machine, len(sections), 0, 0, 0, 0, 0)
    table = b"".join(b".text\0\0\0" + struct.pack("<IIIIIIHHI", 0, 0, size, at, 0, 0, 0, 0, 0) for at, size in sections)
    return bytes(at - 0x40) + header + table


def arm64(*, efi: bool = True, memory: int = 1 << 24, sections: list[tuple[int, int]] | None = None) -> bytes:
    """An arm64 `Image`: 64 bytes of header, then the PE headers of its EFI stub."""
    code = b"MZ\x40\xfa" if efi else b"\x1f\x20\x03\xd5"
    head = code + bytes(4) + struct.pack("<QQQQQQ", 0, memory, 0xA, 0, 0, 0) + b"ARM\x64"
    if not efi:
        return head + bytes(4) + bytes(4096)
    return head + struct.pack("<I", 0x40) + pe(0xAA64, sections=sections or [(0x1000, 0x2000), (0x3000, 0x800)])


def riscv(*, efi: bool = True) -> bytes:
    code = b"MZ\x6f\x10" if efi else bytes(4)
    head = code + bytes(4) + struct.pack("<QQQIIQ", 0x200000, 1 << 24, 0, 2, 0, 0) + b"RISCV\0\0\0" + b"RSC\x05"
    return head + struct.pack("<I", 0x40) + (pe(0x5064, sections=[(0x1000, 0x1000)]) if efi else bytes(64))


def loongarch() -> bytes:
    head = b"MZ" + bytes(6) + struct.pack("<QQQ", 0, 1 << 24, 0) + bytes(24) + b"\xcd\x23\x82\x81"
    return head + struct.pack("<I", 0x40) + pe(0x6264, sections=[(0x200, 0x100)])


def zboot(machine: int = 0xAA64, kind: bytes = b"xzkern", packed: bytes = XZ, word: bytes = WORD) -> bytes:
    head = b"MZ\0\0zimg" + struct.pack("<IIII", 0x1000, len(packed), 0, 0) + kind.ljust(32, b"\0")
    head += b"\xcd\x23\x82\x81" + struct.pack("<I", 0x40) + pe(machine, sections=[(0x1000, 0x400)])
    return head.ljust(0x1000, b"\0") + (packed + word).ljust(0x400, b"\0")


def zimage(packed: bytes | None = None) -> bytes:
    """Arm's; with the packed kernel and its size at the end of this, behind a decoder that knows the mark, too."""
    if packed is None:
        return bytes(0x24) + b"\x18\x28\x6f\x01" + struct.pack("<II", 0x100, 0x5100) + bytes(0x100)
    code = b"code \xfd7zXZ\0 code \x02\x21\x4c\x18\xff\xff\xff\xff".ljust(0x200, b"\0")
    table = 0x40 + len(code)
    start = table + 32
    head = bytes(0x24) + struct.pack("<6I", 0x016F2818, 0, start + len(packed), 0x04030201, 0x45454545, table)
    return (
        head.ljust(0x40, b"\0")
        + code
        + struct.pack("<I4sI", 3, b"KLSZ", start + len(packed) - 4).ljust(32, b"\0")
        + packed
    )


# -- x86 -------------------------------------------------------------------------------------------------------


def test_x86() -> None:
    data = x86_image("6.1.0-50-amd64", XZ + WORD)
    image = parse(data)
    assert image.architecture == "x86_64"
    assert image.release == "6.1.0-50-amd64"
    assert image.extent == len(data)
    assert image.payload == Payload(1024, len(XZ), "xz", 6000)


def test_the_size_at_the_end_of_gzip_is_its_own() -> None:
    packed = gzip.compress(b"kernel" * 1000)
    assert parse(x86_image(payload=packed)).payload == Payload(1024, len(packed), "gzip", 6000)


def test_before_version_2_08_there_is_no_payload_field() -> None:
    image = parse(x86_image(version=0x0207))
    assert image.payload is None
    assert image.architecture == "i686"


def test_four_setup_sectors_where_the_field_is_zero() -> None:
    data = bytearray(x86_image())
    data[0x1F1] = 0
    struct.pack_into("<II", data, 0x248, 0, 0)
    assert parse(bytes(data)).extent == len(data) + 3 * 512


def test_a_payload_beyond_the_image() -> None:
    data = bytearray(x86_image())
    struct.pack_into("<II", data, 0x248, 0, 0xFFFFFFFF)
    with pytest.raises(FormatError, match="payload lies beyond"):
        parse(bytes(data))


@pytest.mark.parametrize("length", [0, 1, 63, 64, 0x1FF, 0x205, 0x206, 0x207, 0x20F, 0x236, 0x24B, 0x267])
def test_x86_headers_that_are_cut(length: int) -> None:
    with pytest.raises(FormatError):
        parse(x86_image()[:length])


def test_a_file_cut_anywhere_later_is_shorter_than_its_extent() -> None:
    data = x86_image(payload=XZ + WORD)
    for length in range(0x268, len(data), 7):
        assert parse(data[:length]).extent > length


def test_a_release_that_is_no_text() -> None:
    data = bytearray(x86_image())
    data[0x300:0x306] = b"\x1b[2J\xff "
    assert parse(bytes(data)).release == "\x1b[2J\\xff"
    data[0x300] = 0
    assert parse(bytes(data)).release is None
    struct.pack_into("<H", data, 0x20E, 0xFFFF)  # beyond the end of the file
    assert parse(bytes(data)).release is None


# -- the others ------------------------------------------------------------------------------------------------


def test_arm64_promises_its_sections_and_not_its_memory() -> None:
    assert parse(arm64()) == KernelImage("aarch64", 0x3800)
    assert parse(arm64(memory=0)) == KernelImage("aarch64", 0x3800)
    assert parse(arm64(efi=False)) == KernelImage("aarch64", 64)


def test_riscv_and_loongarch() -> None:
    assert parse(riscv()) == KernelImage("riscv64", 0x2000)
    assert parse(riscv(efi=False)) == KernelImage("riscv64", 64)
    assert parse(loongarch()) == KernelImage("loongarch", 0x300)


def test_a_cut_image_with_an_efi_stub() -> None:
    whole = arm64()
    for length in range(64, len(whole)):
        with pytest.raises(FormatError):
            parse(whole[:length])
    assert parse(whole).extent > len(whole)


def test_bss_has_a_size_of_its_own_but_no_bytes() -> None:
    assert parse(arm64(sections=[(0x1000, 0x200), (0x9000, 0)])).extent == 0x1200


def test_zboot() -> None:
    assert parse(zboot()) == KernelImage("aarch64", 0x1400, None, Payload(0x1000, len(XZ), "xz", 6000))
    packed = gzip.compress(b"x" * 77)
    image = parse(zboot(0x5064, b"gzip", packed, b""))
    assert image.architecture == "riscv64"
    assert image.payload == Payload(0x1000, len(packed), "gzip", 77)
    with pytest.raises(FormatError, match="PE header"):
        parse(zboot()[:0x41].ljust(100, b"\0"))


def test_an_image_packed_as_a_whole() -> None:
    data = gzip.compress(arm64() + bytes(5000))
    image = parse(data)
    assert image.architecture == "aarch64"
    assert image.payload == Payload(0, len(data), "gzip", len(arm64()) + 5000)
    assert parse(gzip.compress(riscv())).architecture == "riscv64"
    for other in (gzip.compress(b"text" * 1000), gzip.compress(bytes(1 << 26)), b"\x1f\x8b\x08" + b"\xff" * 200):
        with pytest.raises(FormatError):
            parse(other)


def test_zimage() -> None:
    assert parse(zimage()) == KernelImage("arm", 0x5000)
    xz = zimage(XZ + WORD)
    assert parse(xz) == KernelImage("arm", len(xz), payload=Payload(len(xz) - 4 - len(XZ), len(XZ), "xz", 6000))
    packed = gzip.compress(b"kernel" * 1000, mtime=0)
    gz = zimage(packed)
    assert parse(gz).payload == Payload(len(gz) - len(packed), len(packed), "gzip", 6000)
    assert parse(zimage(b"packed by nothing that is known")).payload is None


def test_elf() -> None:
    header = struct.pack("<16sHHIQQQIHHHHHH", b"\x7fELF\2\1\1", 2, 21, 1, 0, 64, 0, 0, 64, 56, 1, 64, 0, 0)
    program = struct.pack("<IIQQQQQQ", 1, 5, 0x10000, 0, 0, 0x4000, 0x8000, 0x10000)
    assert parse(header + program) == KernelImage("ppc64le", 0x14000)
    with pytest.raises(FormatError):
        parse(header)


@pytest.mark.parametrize("data", [b"", bytes(5000), b"#!/bin/sh\n" * 20, b"MZ" + bytes(200), b"\xff" * 2000])
def test_no_kernel(data: bytes) -> None:
    with pytest.raises(FormatError):
        parse(data)


# -- anything --------------------------------------------------------------------------------------------------

_SEEDS = [
    x86_image(payload=XZ + WORD),
    arm64(),
    riscv(),
    loongarch(),
    zboot(),
    zimage(XZ + WORD),
    gzip.compress(arm64()),
]


def test_a_zimage_that_ends_within_its_table() -> None:
    whole = zimage(XZ + WORD)
    assert parse(whole[: whole.index(b"KLSZ") + 4]).payload is None


@given(st.sampled_from(_SEEDS), st.data())
@settings(max_examples=300, deadline=None)
def test_damaged_headers_are_parsed_or_refused(seed: bytes, data: st.DataObject) -> None:
    damaged = bytearray(seed)
    for _ in range(data.draw(st.integers(1, 6))):
        position = data.draw(st.integers(0, min(len(seed), 0x400) - 1))
        damaged[position : position + 4] = data.draw(st.binary(min_size=1, max_size=4) | st.just(b"\xff" * 4))
    del damaged[data.draw(st.integers(0, len(damaged))) :]
    try:
        image = parse(bytes(damaged))
    except FormatError:
        return
    assert image.extent >= 0


@given(st.binary(max_size=2000))
@settings(deadline=None)
def test_anything_is_parsed_or_refused(data: bytes) -> None:
    try:
        parse(data)
    except FormatError:
        pass


def _real() -> list[Path]:
    return real_kernels()[:4]


@pytest.mark.skipif(not _real(), reason="no machines were built here")
def test_real_kernels() -> None:
    for path in _real():
        with open(path, "rb") as file:
            image = bzimage.parse(file)
            size = file.seek(0, 2)
            file.seek(0)
            head = file.read(0x8000)
        assert path.name == f"vmlinuz-{image.release}"
        assert image.architecture == "x86_64"
        assert size - 4096 < image.extent <= size
        assert image.payload is not None
        assert image.payload.compressor in ("xz", "zstd")
        assert image.payload.unpacked is not None
        assert 30 << 20 < image.payload.unpacked < 200 << 20
        for length in (*range(0, 0x400, 3), *range(0x400, len(head), 997)):
            try:
                assert parse(head[:length]).extent == image.extent
            except FormatError:
                assert length < 0x268
