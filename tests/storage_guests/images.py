"""Images taken apart and written again without some of their files, not packed: QEMU hands over what it is given."""

from __future__ import annotations

import io
import stat
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

from safeupdate.formats import compression, cpio
from safeupdate.formats.compression import Source

_FIELDS = 13
_SIZE, _LINKS, _INODE, _NAME = 6, 4, 0, 11


@dataclass(frozen=True)
class Member:
    """One file of an image: its path, the numbers of its header, its content."""

    path: str
    fields: tuple[int, ...]
    content: bytes

    @property
    def mode(self) -> int:
        """Type and permissions."""
        return self.fields[1]

    @classmethod
    def new(cls, path: str, mode: int, content: bytes = b"") -> Member:
        """A file, directory or link of root's."""
        return cls(path, (0, mode, *(0 for _ in range(_FIELDS - 2))), content)

    @property
    def is_file(self) -> bool:
        """Whether it is a regular file."""
        return stat.S_ISREG(self.mode)

    @property
    def linked(self) -> bool:
        """Whether it is a file with several names."""
        return self.is_file and self.fields[_LINKS] > 1

    @property
    def inode(self) -> tuple[int, ...]:
        """By which the names of one file are known."""
        return self.fields[_INODE], *self.fields[7:9]


def read(data: bytes) -> list[Member]:
    """All files of an image, each with its own content: of several names of one file the last has it in the image."""
    found = list(_members(data))
    linked = {one.inode: one.content for one in found if one.linked and one.content}
    return [replace(one, content=linked.get(one.inode, b"")) if one.linked else one for one in found]


def write(members: Iterable[Member]) -> bytes:
    """One archive. Of several names of one file the last has the content, as cpio(1) writes it."""
    members = [*members, Member("TRAILER!!!", (0,) * _FIELDS, b"")]
    last = {one.inode: one for one in members if one.linked}
    numbers = {inode: number for number, inode in enumerate(last, len(members) + 1)}
    parts = []
    for number, one in enumerate(members, 1):
        content = one.content if last.get(one.inode, one) is one or not one.linked else b""
        fields = list(one.fields)
        fields[_INODE] = numbers[one.inode] if one.linked else number
        fields[_LINKS] = fields[_LINKS] if one.linked else 1
        fields[_SIZE], fields[_NAME], fields[12] = len(content), len(one.path) + 1, 0
        head = b"070701" + b"".join(b"%08x" % field for field in fields) + one.path.encode() + b"\0"
        parts += [head, bytes(-len(head) % 4), content, bytes(-len(content) % 4)]
    return b"".join(parts)


def added(path: str, content: str) -> bytes:
    """An archive with one text, and the directories above it, to stand behind another."""
    parts = path.split("/")
    above = [cpio.header("/".join(parts[:count]).encode(), 0o040755) for count in range(1, len(parts))]
    text = cpio.header(path.encode(), 0o100644, content.encode())
    return b"".join([*above, text, cpio.header(b"TRAILER!!!", 0)])


def edited(members: Iterable[Member], path: str, change: Callable[[str], str]) -> list[Member]:
    """The image with another text in one file."""
    return [replace(one, content=change(one.content.decode()).encode()) if one.path == path else one for one in members]


def _members(data: bytes) -> Iterator[Member]:
    at = 0
    while at < len(data):
        if data[at] == 0:
            at += 1
        elif data[at : at + 5] == b"07070":
            fields = tuple(int(data[at + 6 + 8 * number : at + 14 + 8 * number], 16) for number in range(_FIELDS))
            start = at + cpio.HEADER + fields[_NAME]
            name = data[at + cpio.HEADER : start - 1]
            start += -start % 4
            at = start + fields[_SIZE]
            if name != cpio.TRAILER:
                yield Member(name.decode().removeprefix("./"), fields, data[start:at])
        else:
            decoder = compression.unpack(Source(io.BytesIO(data), len(data)), at)
            unpacked, piece = bytearray(), memoryview(bytearray(1 << 20))
            while count := decoder.readinto(piece):
                unpacked += piece[:count]
            at = decoder.end
            decoder.close()
            yield from _members(bytes(unpacked))
