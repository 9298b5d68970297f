"""DER, the encoding of certificates and signatures (ITU-T X.690, chapters 8 and 10).

A `Reader` goes over the values of one level, and whoever reads a structure goes into each level by hand: nothing
recurses and nothing is read twice, so that time and memory are bounded by the length of the data.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from safeupdate.errors import FormatError

BOOLEAN, INTEGER, BIT_STRING, OCTET_STRING, OID = 0x01, 0x02, 0x03, 0x04, 0x06
UTC_TIME, GENERALIZED_TIME = 0x17, 0x18
SEQUENCE, SET = 0x30, 0x31
CONTEXT = 0x80
"""Identifier octets (chapter 8.1.2). `CONTEXT | n` is the tag [n] of a value without parts."""
CONTEXT_PARTS = 0xA0
"""`CONTEXT_PARTS | n` is the tag [n] of a value that has parts."""

_LENGTH_LIMIT = 4
"""Octets of a length; no file here has 4 GiB."""

_INTEGER_LIMIT = 4096
"""Octets of a number: RSA keys of 16384 bits have 2049."""

_OID_LIMIT = 128


class NotDistinguished(FormatError):
    """It is BER, which others may read (the kernel does), but not DER: an open length, or one with needless octets."""


class Value(NamedTuple):
    """One value: its identifier octet, and the offsets of that octet, of the content, and of what follows."""

    tag: int
    start: int
    body: int
    end: int


class Reader:
    """The values between two offsets, one after another. Every method raises `FormatError` with the offset."""

    __slots__ = ("_end", "at", "data")

    def __init__(self, data: bytes, start: int = 0, end: int | None = None) -> None:
        self.data = data
        self.at = start
        self._end = len(data) if end is None else end

    @property
    def tag(self) -> int | None:
        """The identifier octet of the next value, None at the end."""
        return self.data[self.at] if self.at < self._end else None

    def take(self, what: str, *tags: int) -> Value:
        """The next value, which must have one of these tags (any without one). `what` names it in messages."""
        data, start, end = self.data, self.at, self._end
        if start + 2 > end:
            raise FormatError(f"it ends before {what}", f"offset {start}")
        tag, length, body = data[start], data[start + 1], start + 2
        if tags and tag not in tags:
            raise FormatError(f"{what} has the tag {tag:#04x}", f"offset {start}")
        if tag & 0x1F == 0x1F:
            raise FormatError(f"{what} has a tag of several octets", f"offset {start}")
        if length > 0x7F:
            count = length & 0x7F
            if not count:
                raise NotDistinguished(f"{what} has no length", f"offset {start}")
            if count > _LENGTH_LIMIT or body + count > end:
                raise FormatError(f"the length of {what} has {count} octets", f"offset {start}")
            length = int.from_bytes(data[body : body + count], "big")
            if length < 0x80 or length < 1 << 8 * (count - 1):
                raise NotDistinguished(f"the length of {what} has more octets than it needs", f"offset {start}")
            body += count
        if body + length > end:
            raise FormatError(f"{what} is {length} octets long, {end - body} are left", f"offset {start}")
        self.at = body + length
        return Value(tag, start, body, self.at)

    def into(self, what: str, *tags: int) -> Reader:
        """A reader of what the next value, a sequence where no tag is given, consists of."""
        value = self.take(what, *(tags or (SEQUENCE,)))
        return Reader(self.data, value.body, value.end)

    def skip(self, *tags: int) -> bool:
        """Whether the next value had one of these tags, and was passed over."""
        if self.tag not in tags:
            return False
        self.take("an optional value", *tags)
        return True

    def oid(self, what: str) -> str:
        """The next value, an object identifier, as `1.2.840.113549.1.7.2`."""
        value = self.take(what, OID)
        return _dotted(self.content(value), value.start)

    def integer(self, what: str) -> int:
        """The next value, a number."""
        value = self.take(what, INTEGER)
        content = self.content(value)
        if not 0 < len(content) <= _INTEGER_LIMIT:
            raise FormatError(f"{what} is a number of {len(content)} octets", f"offset {value.start}")
        return int.from_bytes(content, "big", signed=True)

    def content(self, value: Value) -> bytes:
        """A value's content octets."""
        return self.data[value.body : value.end]

    def whole(self, value: Value) -> bytes:
        """A value with its tag and its length, as it stands in the data."""
        return self.data[value.start : value.end]

    def finish(self, what: str) -> None:
        """Nothing may be left of `what`."""
        if self.at < self._end:
            raise FormatError(f"something stands behind the end of {what}", f"offset {self.at}")


def dotted(content: bytes) -> str:
    """An object identifier from its content octets. Raises `FormatError`."""
    return _dotted(content, 0)


@lru_cache(maxsize=256)
def _dotted(content: bytes, offset: int) -> str:
    if not 0 < len(content) <= _OID_LIMIT or content[-1] & 0x80:
        raise FormatError("an object identifier does not end", f"offset {offset}")
    arcs: list[int] = []
    arc = 0
    for octet in content:
        arc = arc << 7 | octet & 0x7F
        if not octet & 0x80:
            arcs.append(arc)
            arc = 0
    # The first two arcs share a number (chapter 8.19.4).
    first = min(arcs[0] // 40, 2)
    return ".".join(map(str, (first, arcs[0] - 40 * first, *arcs[1:])))
