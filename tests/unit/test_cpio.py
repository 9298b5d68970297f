from __future__ import annotations

import io
import stat
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from safeupdate.errors import FormatError
from safeupdate.formats import cpio
from safeupdate.formats.compression import Truncated
from tests.unit.initrd import member, trailer

LINK = stat.S_IFLNK | 0o777


def names(data: bytes, *, mixed: bool = False, read: bool = True, step: int = 1 << 20) -> list[bytes]:
    file = io.BytesIO(data)
    archive = cpio.Archive(lambda view: file.readinto(view[:step]), mixed=mixed)
    found = []
    for one in archive:
        found.append(one.name)
        if read:
            archive.crc32(one.checksum)
    return found


def test_headers_and_contents() -> None:
    data = member(b"etc", mode=stat.S_IFDIR | 0o755) + member(b"etc/a", b"hello", inode=7, links=2) + trailer()
    archive = cpio.Archive(io.BytesIO(data).readinto)
    members = iter(archive)
    directory = next(members)
    assert (directory.name, stat.S_ISDIR(directory.mode), directory.offset) == (b"etc", True, 0)
    file = next(members)
    assert (file.size, file.links, file.inode, file.checksum) == (5, 2, (8, 1, 7), None)
    assert bytes(archive.peek(100)) == b"hello"
    assert archive.crc32() == zlib.crc32(b"hello")
    assert list(members) == []
    assert archive.trailers == 1
    assert archive.position == len(data)


def test_a_piece_at_a_time_gives_the_same() -> None:
    data = b"".join(member(b"file%d" % n, bytes([n]) * n * 13) for n in range(30)) + trailer() + member(b"next")
    assert (
        names(data, step=1) == names(data) == names(data, read=False) == [*(b"file%d" % n for n in range(30)), b"next"]
    )


def test_content_larger_than_the_buffer_is_had_in_one_piece() -> None:
    content = bytes(range(256)) * 12_000
    archive = cpio.Archive(io.BytesIO(member(b"a", b"x") + member(b"big", content) + member(b"z")).readinto)
    members = iter(archive)
    next(members)
    next(members)
    assert bytes(archive.peek(len(content))) == content
    assert archive.crc32() == zlib.crc32(content)
    assert [one.name for one in members] == [b"z"]


def test_sums_of_the_crc_format() -> None:
    content = bytes(range(256)) * 40
    good = member(b"a", content, magic=b"070702", checksum=sum(content))
    assert names(good) == [b"a"]
    bad = member(b"a", content, magic=b"070702", checksum=sum(content) - 1)
    with pytest.raises(FormatError, match="checksum"):
        names(bad)


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"070707" + bytes(200), "old cpio format"),
        (b"0abc" + bytes(200), "no cpio header"),
        (b"070701" + b"g" * 104, "damaged"),
        (b"070701+" + b"0" * 103, "damaged"),
        (member(b"a", name_size=4097), "name of 4097 bytes"),
        (member(b"a", name_size=0xFFFFFFFF), "name of 4294967295 bytes"),
        (member(b"a", mode=LINK, size=5000), "link target of 5000 bytes"),
        (member(b"abc", name_size=3), "has no end"),
        (member(b"a", b"12345678") + b"junk", "junk stands between"),
        (member(b"a", b"12345678") + b"\0" + b"070701", "padding"),
    ],
)
def test_bad_archives_say_where(data: bytes, what: str) -> None:
    with pytest.raises(FormatError, match=what) as caught:
        names(data)
    assert caught.value.place.startswith("offset ")


def test_a_header_field_of_zero_length_name() -> None:
    data = bytearray(member(b"a"))
    data[6 + 11 * 8 : 6 + 12 * 8] = b"00000000"
    with pytest.raises(FormatError, match="name of 0 bytes"):
        names(bytes(data))


def test_huge_sizes_end_with_the_data() -> None:
    with pytest.raises(Truncated, match="inside a file's content"):
        names(member(b"a", b"x", size=0xFFFFFFFF))


def test_a_name_ends_at_its_first_nul() -> None:
    assert names(member(b"a\0b")) == [b"a"]


def test_what_follows_on_the_outermost_level_is_left_to_the_caller() -> None:
    data = member(b"a", b"1234") + bytes(8) + b"\x1f\x8b"
    archive = cpio.Archive(io.BytesIO(data).readinto, mixed=True)
    assert [one.name for one in archive] == [b"a"]
    assert archive.position == len(data) - 2


def test_truncation_at_every_byte() -> None:
    data = member(b"dir", mode=stat.S_IFDIR | 0o755) + member(b"dir/a", b"hello") + member(b"b", b"x" * 70)
    boundaries = {0, 116, 116 + 124, len(data)}
    for length in range(len(data) + 1):
        if length in boundaries:
            names(data[:length])
        else:
            with pytest.raises(Truncated):
                names(data[:length])


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_flipped_bits_and_junk_raise_nothing_else(data: st.DataObject) -> None:
    image = bytearray(member(b"a", b"hello") + member(b"l", b"a", LINK) + trailer())
    for _ in range(data.draw(st.integers(1, 4))):
        image[data.draw(st.integers(0, len(image) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    try:
        found = names(bytes(image), mixed=data.draw(st.booleans()))
    except FormatError:
        return
    assert len(found) <= 3
