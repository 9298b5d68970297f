"""How many guests run at once: each holds a slot, over all runs on this host, in the order in which they asked."""

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
        with open(os.path.join(directory, "slot.queue"), "w", encoding="ascii") as queue:
            # The kernel lets in who has waited longest.
            fcntl.flock(queue, fcntl.LOCK_EX)
            while not any(map(_take, files)):
                time.sleep(0.2)
        yield


def _take(file: TextIO) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
