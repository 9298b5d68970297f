from __future__ import annotations

import struct
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from safeupdate.errors import FormatError
from safeupdate.formats import modules
from tests.unit.trees import REAL_MACHINES, dep_index, index

DEP = {"kernel/fs/ext4/ext4.ko": ("kernel/fs/jbd2/jbd2.ko",), "kernel/fs/jbd2/jbd2.ko": (), "/extra/a-b.ko.xz": ()}


def test_dep() -> None:
    text = b"# comment\n\nkernel/a.ko: kernel/b.ko kernel/c.ko\nkernel/b.ko:\n"
    assert modules.parse_dep(text) == {"kernel/a.ko": ("kernel/b.ko", "kernel/c.ko"), "kernel/b.ko": ()}
    assert modules.parse_dep(b"") == {}


@pytest.mark.parametrize(
    ("text", "place"),
    [(b"kernel/a.ko:\nkernel/b.k", "line 2"), (b"kernel/a.ko\n", "line 1"), (b"a.ko:\n" + bytes(8) + b"\n", "line 2")],
)
def test_dep_that_was_cut(text: bytes, place: str) -> None:
    with pytest.raises(FormatError) as caught:
        modules.parse_dep(text)
    assert caught.value.place == place


def test_names() -> None:
    assert modules.module_name("kernel/drivers/virtio-blk.ko.zst") == "virtio_blk"
    assert modules.module_name("ext4.ko") == "ext4"
    assert modules.is_module("a/b.ko.gz")
    assert not modules.is_module("a/b.ko.debug")
    assert modules.parse_builtin(b"kernel/fs/ext4/ext4.ko\nkernel/a-b.ko\n\n") == {"ext4", "a_b"}


def test_index() -> None:
    data = dep_index(DEP)
    modules.check_index(data)
    assert modules.read_dep_index(data) == DEP
    modules.check_index(index())
    assert modules.read_dep_index(index()) == {}


def test_an_index_that_was_cut_anywhere() -> None:
    data = dep_index(DEP)
    for length in range(len(data) - 1):
        with pytest.raises(FormatError):
            modules.check_index(data[:length])
        with pytest.raises(FormatError):
            modules.read_index(data[:length])


def test_an_index_whose_end_is_zeroes() -> None:
    data = dep_index(DEP)
    root = struct.unpack_from(">I", data, 8)[0] & 0x0FFFFFFF
    with pytest.raises(FormatError, match="lost its children"):
        modules.check_index(data[:root] + bytes(len(data) - root))


def test_an_index_that_is_a_loop_or_has_too_much() -> None:
    head = struct.pack(">II", modules.INDEX_MAGIC, modules.INDEX_VERSION)
    loop = head + struct.pack(">I", 0x2000000C) + b"aa" + struct.pack(">I", 0x2000000C)
    with pytest.raises(FormatError, match="same child"):
        modules.read_index(loop)
    many = head + struct.pack(">II", 0x4000000C, 0xFFFFFFFF) + b"\0" * 400
    with pytest.raises(FormatError, match="does not end"):
        modules.read_index(many)


def test_an_index_whose_nodes_lie_in_one_another() -> None:
    # 255 children, each of which begins one byte later in the same long prefix: together they would hold 5 MB.
    prefix = b"a" * 20000 + b"\0" + struct.pack(">II", 1, 0) + b"value\0"
    children = struct.pack(">255I", *((12 + start) | 0xC0000000 for start in range(255)))
    head = struct.pack(">III", modules.INDEX_MAGIC, modules.INDEX_VERSION, (12 + len(prefix)) | 0x20000000)
    with pytest.raises(FormatError, match="overlap"):
        modules.read_index(head + prefix + b"\1\xff" + children)


@pytest.mark.parametrize("data", [b"", b"x" * 11, bytes(12), struct.pack(">III", modules.INDEX_MAGIC, 0x30001, 12) * 2])
def test_no_index(data: bytes) -> None:
    with pytest.raises(FormatError):
        modules.check_index(data)


@given(st.data())
@settings(max_examples=300, deadline=None)
def test_damaged_indexes(data: st.DataObject) -> None:
    damaged = bytearray(dep_index(DEP))
    for _ in range(data.draw(st.integers(1, 5))):
        position = data.draw(st.integers(8, len(damaged) - 1))
        damaged[position : position + 4] = data.draw(st.binary(min_size=1, max_size=4) | st.just(b"\xff" * 4))
    try:
        modules.read_index(bytes(damaged))
    except FormatError:
        pass


@given(st.binary(max_size=300))
@settings(deadline=None)
def test_any_list(data: bytes) -> None:
    modules.parse_builtin(data)
    try:
        modules.parse_dep(data)
    except FormatError:
        pass


def _directories() -> list[Path]:
    return [directory for boot in REAL_MACHINES for directory in (boot.parent / "usr/lib/modules").glob("*")][:1]


@pytest.mark.skipif(not _directories(), reason="no machines were built here")
def test_what_depmod_wrote() -> None:
    for directory in _directories():
        text = modules.parse_dep((directory / "modules.dep").read_bytes())
        assert modules.read_dep_index((directory / "modules.dep.bin").read_bytes()) == text
        for path in directory.glob("modules.*.bin"):
            data = path.read_bytes()
            modules.check_index(data)
            for length in (0, 100, len(data) // 2, len(data) - 1000, len(data) - 1):
                with pytest.raises(FormatError):
                    modules.check_index(data[:length])
