"""cpio archives as the kernel unpacks them: newc (070701) and crc (070702), read in a stream.

Format: the kernel's Documentation/driver-api/early-userspace/buffer-format.rst; the rules that are not in it (what may
stand between entries, how long a name may be) are those of init/initramfs.c.
"""

from __future__ import annotations

import struct
import zlib
from binascii import unhexlify
from collections.abc import Iterator
from dataclasses import dataclass
from stat import S_ISLNK, S_ISREG
from typing import Callable

from safeupdate.errors import FormatError
from safeupdate.formats.compression import Truncated

HEADER = 110
TRAILER = b"TRAILER!!!"

PATH_LIMIT = 4096
"""Longest name and link target (PATH_MAX): the kernel passes over entries with a longer one."""

_FIELDS = struct.Struct(">13I")
_CHUNK = 1 << 20
"""Read at once. Smaller pieces cost system calls; larger ones fall out of the processor's cache."""


@dataclass(frozen=True)
class Member:
    """One entry's header. `offset` is where it stands in the unpacked stream; `checksum` is None in newc archives."""

    offset: int
    name: bytes
    mode: int
    size: int
    links: int
    inode: tuple[int, int, int]
    checksum: int | None


def parse_header(data: bytes, offset: int) -> tuple[Member, int]:
    """A header's 110 bytes as a `Member` still without its name, and the name's length with its final NUL.

    Raises `FormatError` with `offset`.
    """
    magic = data[:6]
    if magic not in (b"070701", b"070702"):
        what = "an old cpio format (070707)" if magic == b"070707" else "no cpio header"
        raise FormatError(f"{what} is where one of newc should be", f"offset {offset}")
    try:
        fields = _FIELDS.unpack(unhexlify(data[6:HEADER]))
    except (ValueError, struct.error):
        raise FormatError("the cpio header is damaged", f"offset {offset}") from None
    inode, mode, _uid, _gid, links, _mtime, size, major, minor, _rmajor, _rminor, name_length, checksum = fields
    if not 0 < name_length <= PATH_LIMIT:
        raise FormatError(f"the cpio header claims a name of {name_length} bytes", f"offset {offset}")
    if S_ISLNK(mode) and size > PATH_LIMIT:
        raise FormatError(f"the cpio header claims a link target of {size} bytes", f"offset {offset}")
    crc = checksum if magic == b"070702" and S_ISREG(mode) else None
    return Member(offset, b"", mode & 0xFFFF, size, links, (major, minor, inode), crc), name_length


def header(name: bytes, mode: int, content: bytes = b"", *, size: int | None = None) -> bytes:
    """The bytes of a newc entry: header, name and, padded, `content`. With `size`, the caller writes the content."""
    fields = (0, mode, 0, 0, 1, 0, len(content) if size is None else size, 0, 0, 0, 0, len(name) + 1, 0)
    data = b"070701" + b"".join(b"%08x" % field for field in fields) + name + b"\0"
    data += bytes(-len(data) % 4) + content
    return data + bytes(-len(data) % 4)


class Archive:
    """The members of archives that follow one another in a stream.

    `fill` writes the next bytes into a buffer and returns how many, 0 at the end. `start` is the stream's offset in
    its file, for messages and alignment. Between two members, `peek`, `crc32` and `position` speak of the content of
    the last one; what is not read of it is passed over.

    With `mixed`, as on the buffer's outermost level, a byte that begins no header ends the archives (`position` is
    then where it stands); in a compressed segment that is an error.
    """

    def __init__(self, fill: Callable[[memoryview], int], *, start: int = 0, mixed: bool = False) -> None:
        self.position = start
        """Offset of the next byte that is not consumed."""
        self.trailers = 0
        """End marks so far: after each, inode numbers mean other files."""
        self._fill = fill
        self._mixed = mixed
        self._buffer = memoryview(bytearray(_CHUNK))
        self._at = 0
        self._end = 0
        self._left = 0

    def __iter__(self) -> Iterator[Member]:
        """Every member but the end marks. Raises `FormatError`, and whatever `fill` raises."""
        while True:
            self._skip(self._left)
            self._skip(-self.position % 4, optional=self._mixed)
            if not self._next():
                return
            offset = self.position
            head, length = parse_header(bytes(self._take(HEADER, "a header")), offset)
            padded = length + -(HEADER + length) % 4
            raw = bytes(self._take(padded, "a name"))[:length]
            if raw[-1:] != b"\0":
                raise FormatError("a name in the cpio archive has no end", f"offset {offset + HEADER}")
            name = raw.partition(b"\0")[0]
            self._left = head.size
            if name == TRAILER:
                self.trailers += 1
            else:
                yield Member(offset, name, head.mode, head.size, head.links, head.inode, head.checksum)

    def peek(self, length: int) -> memoryview:
        """The next bytes of the member's content, at most `length`, without consuming them.

        They are valid until the next call of anything here. Raises `FormatError` where the data ends too early.
        """
        length = min(length, self._left)
        self._ensure(length, "a file's content")
        return self._buffer[self._at : self._at + length]

    def crc32(self, checksum: int | None = None, sink: Callable[[memoryview], object] | None = None) -> int:
        """CRC-32 of what is left of the content, which it consumes; `sink` is given each piece.

        With the header's `checksum` the content is held against it: a sum of all bytes. Raises `FormatError`.
        """
        crc = total = 0
        while self._left:
            length = min(self._left, self._end - self._at)
            if not length:
                self._ensure(1, "a file's content")
                continue
            part = self._buffer[self._at : self._at + length]
            crc = zlib.crc32(part, crc)
            if sink is not None:
                sink(part)
            if checksum is not None:
                total += _sum(part)
            self._consume(length)
        if checksum is not None and total & 0xFFFFFFFF != checksum:
            raise FormatError("a file's content does not match its checksum in the cpio header", self._place())
        return crc

    def _next(self) -> bool:
        """Go to the next header; whether there is one."""
        while True:
            if self._at == self._end and not self._more():
                return False
            waiting = self._buffer[self._at : self._end]
            if waiting[0] == 0x30:
                break
            if waiting[0] != 0:
                if self.position % 4:
                    break
                if self._mixed:
                    return False
                raise FormatError("junk stands between the files of the cpio archive", self._place())
            part = bytes(waiting[:4096])
            zeros = len(part) - len(part.lstrip(b"\0"))
            self._at += zeros
            self.position += zeros
        if self.position % 4:
            raise FormatError("the padding after a file of the cpio archive is broken", self._place())
        return True

    def _skip(self, length: int, *, optional: bool = False) -> None:
        """Pass over bytes; an `optional` part may be missing where the data ends."""
        self._left = 0
        while length:
            if self._at == self._end and not self._more():
                if optional:
                    return
                raise self._cut("a file's content")
            step = min(length, self._end - self._at)
            self._at += step
            self.position += step
            length -= step

    def _take(self, length: int, what: str) -> memoryview:
        self._ensure(length, what)
        data = self._buffer[self._at : self._at + length]
        self._at += length
        self.position += length
        return data

    def _consume(self, length: int) -> None:
        self._at += length
        self.position += length
        self._left -= length

    def _ensure(self, length: int, what: str) -> None:
        """Have `length` bytes in one piece in the buffer."""
        if self._end - self._at >= length:
            return
        waiting = self._end - self._at
        if length > len(self._buffer) - self._at:
            size = len(self._buffer)
            larger = memoryview(bytearray(max(size, length + _CHUNK))) if length > size else self._buffer
            larger[:waiting] = bytes(self._buffer[self._at : self._end])
            self._buffer, self._at, self._end = larger, 0, waiting
        while self._end - self._at < length:
            count = self._fill(self._buffer[self._end :])
            if not count:
                raise self._cut(what)
            self._end += count

    def _more(self) -> bool:
        if len(self._buffer) > 4 * _CHUNK:
            self._buffer = memoryview(bytearray(_CHUNK))
        self._at = 0
        self._end = self._fill(self._buffer)
        return self._end > 0

    def _cut(self, what: str) -> Truncated:
        return Truncated(f"the cpio archive ends inside {what}", f"offset {self.position + self._end - self._at}")

    def _place(self) -> str:
        return f"offset {self.position}"


def _sum(data: memoryview) -> int:
    # The low half of Adler-32 is the sum modulo 65521, so exact for up to 256 bytes, and much faster than sum().
    return sum(zlib.adler32(data[at : at + 256], 0) & 0xFFFF for at in range(0, len(data), 256))
