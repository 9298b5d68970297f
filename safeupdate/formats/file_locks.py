"""/proc/locks: which process holds which file (proc_locks(5))."""

from __future__ import annotations

import re
from dataclasses import dataclass

_LINE = re.compile(rb"\d+: [A-Z]+ +[A-Z]+ +WRITE +(\d{1,10}) ([0-9a-f]{2,8}):([0-9a-f]{2,8}):(\d{1,20}) .*")


@dataclass(frozen=True)
class FileLock:
    """A lock for writing that a process holds. `device` is the file system's number, as major and minor."""

    process: int
    device: tuple[int, int]
    inode: int


def parse(data: bytes) -> tuple[FileLock, ...]:
    """The locks for writing that are held. Other lines, as of those who wait for one, are left out."""
    matches = filter(None, map(_LINE.fullmatch, data.splitlines()))
    return tuple(FileLock(int(one[1]), (int(one[2], 16), int(one[3], 16)), int(one[4])) for one in matches)
