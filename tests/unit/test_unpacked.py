from __future__ import annotations

import io
import lzma
import random
import shutil
from typing import BinaryIO

import pytest

from safeupdate.errors import FormatError, NoDecoder
from safeupdate.formats import unpacked
from tests.unit import initrd
from tests.unit.trees import x86_image

SMALL = bytes(range(256)) * 40
LARGE = random.Random(1).randbytes(1 << 16) * 160
"""Ten megabytes: more than is held."""

KINDS = ["", ".gz", ".xz", *([".zst"] if shutil.which("zstd") else [])]


def pack(suffix: str, data: bytes) -> bytes:
    if suffix == ".xz":
        return lzma.compress(data, preset=0)  # with CRC64, as `xz` makes it: liblzma reads that, the kernel does not
    return initrd.compress({".gz": "gzip", ".zst": "zstd"}[suffix], data) if suffix else data


@pytest.mark.parametrize("suffix", KINDS)
@pytest.mark.parametrize("data", [SMALL, LARGE], ids=["small", "large"])
def test_any_place_may_be_read_in_any_order(suffix: str, data: bytes) -> None:
    with unpacked.module(io.BytesIO(pack(suffix, data)), f"a.ko{suffix}") as file:
        assert file.seek(0, io.SEEK_END) == len(data)
        chance = random.Random(2)
        for start in (len(data) - 64, len(data) - 4096, 0, *(chance.randrange(len(data)) for _ in range(6))):
            file.seek(start)
            assert file.read(5000) == data[start : start + 5000]
        file.seek(len(data) + 10)
        assert file.read(1) == b""


@pytest.mark.parametrize("suffix", KINDS[1:])
@pytest.mark.parametrize("data", [SMALL, LARGE], ids=["small", "large"])
def test_damage_is_a_format_error(suffix: str, data: bytes) -> None:
    packed = pack(suffix, data)
    for bad in (packed[: len(packed) // 2], b"", b"\0" * 100):
        with pytest.raises((FormatError, NoDecoder)):
            unpacked.module(io.BytesIO(bad), f"a.ko{suffix}").seek(0, io.SEEK_END)


def kernel(image: bytes) -> BinaryIO:
    return unpacked.kernel(io.BytesIO(image), len(image))


def test_the_kernel_in_an_image() -> None:
    payload = initrd.compress("gzip", LARGE)
    file = kernel(x86_image(payload=payload, tail=b"behind"))
    assert file.seek(-10, io.SEEK_END) == len(LARGE) - 10
    assert file.read() == LARGE[-10:]
    file.seek(100)
    assert file.read(100) == LARGE[100:200]


def test_no_kernel() -> None:
    with pytest.raises(FormatError):
        kernel(b"no kernel")
    with pytest.raises(FormatError):
        kernel(x86_image())
