"""A serial console as a person sees it: text without terminal sequences, and not more of it than can be handled."""

from __future__ import annotations

import re
from typing import BinaryIO

HEAD = 4 << 20
TAIL = 1 << 20
"""Bytes that are kept in memory. A boot says a tenth of a megabyte; one that starts again and again never ends."""

FILE_LIMIT = 64 << 20
"""Bytes that are written to the file."""

# ECMA-48: control sequences (CSI), of which systemd may cut off the end with its line; commands to the terminal (OSC);
# selections of character sets; and what a VT100 has.
_SEQUENCES = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]?|\x1b\][^\x07\x1b\n]*(?:\x07|\x1b\\)?|\x1b[()].|\x1b[=>78McD]")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")


def plain(data: bytes) -> str:
    """The text of what a serial line said, without terminal sequences; what is not UTF-8 is replaced."""
    return _CONTROL.sub("", _SEQUENCES.sub("", data.decode("utf-8", "replace")))


class Console:
    """What a serial line has said so far; `file` gets its bytes as they come."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._head = bytearray()
        self._tail = bytearray()
        self.size = 0

    def take(self, data: bytes) -> None:
        """Append what was said."""
        if self.size < FILE_LIMIT:
            self._file.write(data)
            self._file.flush()
        self.size += len(data)
        room = HEAD - len(self._head)
        self._head += data[:room]
        self._tail += data[room:]
        if len(self._tail) > 2 * TAIL:
            del self._tail[:-TAIL]

    def text(self) -> str:
        """All of it; where it is too long, its middle is left out."""
        return plain(bytes(self._head + self._tail))

    def last(self, size: int = 65536) -> str:
        """The end of it, from not more than so many bytes."""
        return plain(bytes((self._tail if len(self._tail) >= size else self._head + self._tail)[-size:]))
