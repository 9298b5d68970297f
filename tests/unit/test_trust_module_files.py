from __future__ import annotations

import bz2
import gzip
import lzma
from pathlib import Path

import pytest

from safeupdate.errors import Missing, Unreadable
from safeupdate.formats import module_file
from safeupdate.formats.module_file import ModuleFile
from safeupdate.trust import module_files
from tests.unit.signing import module, trailer
from tests.unit.test_trust_modules import CODE, MOK, VENDOR, elf
from tests.unit.trees import Content, tree

GOOD = module(CODE, VENDOR)


def read(root: Path, name: str, content: Content) -> ModuleFile:
    return module_files.read(tree(root, {f"/{name}": content}), f"/{name}")


@pytest.mark.parametrize(
    ("suffix", "data"),
    [
        ("", GOOD),
        (".gz", gzip.compress(GOOD)),
        (".bz2", bz2.compress(GOOD)),
        (".xz", lzma.compress(GOOD, check=lzma.CHECK_CRC32)),
        (".xz", lzma.compress(GOOD, check=lzma.CHECK_SHA256)),
        (".lzma", lzma.compress(GOOD, format=lzma.FORMAT_ALONE)),
    ],
)
def test_every_container_holds_the_same_module(tmp_path: Path, suffix: str, data: bytes) -> None:
    assert read(tmp_path, f"x.ko{suffix}", data) == module_file.read(memoryview(GOOD))
    assert module_files.unpacked(data, f"x.ko{suffix}") == module_file.read(memoryview(GOOD))


@pytest.mark.parametrize("data", [b"", b"junk" * 30, lzma.compress(GOOD)[:-100], lzma.compress(GOOD)[:40] + bytes(500)])
def test_a_damaged_container_is_a_broken_module(tmp_path: Path, data: bytes) -> None:
    assert read(tmp_path, "x.ko.xz", data).broken is not None


@pytest.mark.parametrize("tail", [b"signed", b"unsigned", b"lies", b"other fields"])
def test_a_large_module_is_told_as_a_small_one(tmp_path: Path, tail: bytes) -> None:
    code = elf(17 << 20)
    data = {
        b"signed": module(code, VENDOR, MOK, digest="sha512"),
        b"unsigned": code,
        b"lies": code + trailer(1 << 30),
        b"other fields": code + trailer(500, fields=b"\1\1"),
    }[tail]
    large, small = read(tmp_path, "x.ko", data), module_file.read(memoryview(data))
    assert large == small


def test_a_large_module_that_is_cut(tmp_path: Path) -> None:
    assert "cut" in (read(tmp_path, "x.ko", elf(20 << 20)[:-500]).broken or "")


def test_what_is_not_there_and_what_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(Missing):
        module_files.read(tree(tmp_path, {}), "/x.ko")
    with pytest.raises(Unreadable):
        read(tmp_path, "x.ko", None)
