"""How many guests run at once: each holds a slot, over all runs on this host."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from typing import TextIO

from machines.build import cache


@contextlib.contextmanager
def slot(count: int) -> Iterator[None]:
    """Wait for one of that many slots and hold it; it is free again when this process ends, whatever ends it."""
    directory = os.path.join(cache(), "lab")
    os.makedirs(directory, exist_ok=True)
    with contextlib.ExitStack() as stack:
        files = [
            stack.enter_context(open(os.path.join(directory, f"slot.{number}"), "w", encoding="ascii"))
            for number in range(count)
        ]
        while not any(map(_take, files)):
            time.sleep(0.5)
        yield


def _take(file: TextIO) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
