"""GRUB's environment block, whole and damaged."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safeupdate.errors import FormatError
from safeupdate.formats import grubenv

BLOCK = grubenv.SIGNATURE + b"saved_entry=gnulinux-advanced-1>gnulinux-2\nnext_entry=\n" + b"#" * 900


def test_variables_in_file_order() -> None:
    assert grubenv.parse(BLOCK).variables == (("saved_entry", "gnulinux-advanced-1>gnulinux-2"), ("next_entry", ""))


def test_a_backslash_keeps_what_follows() -> None:
    data = grubenv.SIGNATURE + rb"a=x\\y" + b"\nb=two\\\nlines\nc=1=2\n####"
    assert grubenv.parse(data).as_dict() == {"a": "x\\y", "b": "two\nlines", "c": "1=2"}


def test_a_line_of_backslashes() -> None:
    pairs = b"\\\\" * 400_000
    assert grubenv.parse(grubenv.SIGNATURE + b"a=" + pairs + b"\nb=c\n").as_dict() == {"a": "\\" * 400_000, "b": "c"}
    assert grubenv.parse(grubenv.SIGNATURE + b"a=b\\\nc\nd=e\n").as_dict() == {"a": "b\nc", "d": "e"}


def test_the_last_of_two_counts() -> None:
    assert grubenv.parse(grubenv.SIGNATURE + b"a=1\na=2\n").as_dict() == {"a": "2"}


def test_a_comment_goes_to_the_end_of_its_line() -> None:
    assert grubenv.parse(grubenv.SIGNATURE + b"# a=1\nb=2\n##").as_dict() == {"b": "2"}


def test_a_value_ends_at_a_nul() -> None:
    assert grubenv.parse(grubenv.SIGNATURE + b"a=1\0two\n").as_dict() == {"a": "1"}


def test_a_cut_block_keeps_what_is_whole() -> None:
    whole = grubenv.SIGNATURE + b"saved_entry=0\n"
    assert grubenv.parse(BLOCK[:500]).as_dict()["saved_entry"] == "gnulinux-advanced-1>gnulinux-2"
    assert grubenv.parse(whole + b"next_entry=gnu").as_dict() == {"saved_entry": "0"}
    assert grubenv.parse(whole + b"next_ent").as_dict() == {"saved_entry": "0"}


@pytest.mark.parametrize("data", [b"", bytes(1024), grubenv.SIGNATURE, b"# GRUB Environment Bloc", b"a=1\n"])
def test_what_grub_refuses(data: bytes) -> None:
    with pytest.raises(FormatError):
        grubenv.parse(data)


def test_a_huge_file_is_no_block() -> None:
    with pytest.raises(FormatError):
        grubenv.parse(grubenv.SIGNATURE + b"#" * (1 << 20))


@given(st.binary(max_size=200))
def test_any_bytes(data: bytes) -> None:
    for name, value in grubenv.parse(grubenv.SIGNATURE + b"#" + data).variables:
        assert "\0" not in name + value
    with contextlib.suppress(FormatError):
        grubenv.parse(data)


@given(st.integers(0, len(BLOCK)), st.binary(max_size=3))
def test_any_change_of_a_real_block(place: int, bytes_there: bytes) -> None:
    for data in (BLOCK[:place], BLOCK[:place] + bytes_there + BLOCK[place + len(bytes_there) :]):
        with contextlib.suppress(FormatError):
            grubenv.parse(data)
