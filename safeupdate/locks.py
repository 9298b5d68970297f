"""Waits for a lock of flock(2) that others may hold, with an end."""

from __future__ import annotations

import fcntl
import time


def taken(descriptor: int, seconds: float, *, again: float = 0.1) -> bool:
    """Take the lock, tried again every `again` seconds; False where another holds it for `seconds`. Raises `OSError`
    where the file system has no such locks."""
    until = time.monotonic() + seconds
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() > until:
                return False
            time.sleep(again)
