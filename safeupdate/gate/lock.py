"""One run of `settle` at a time."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from safeupdate import locks
from safeupdate.errors import SafeupdateError
from safeupdate.gate.host import RUN, Host

PATH = f"{RUN}/lock"

SECONDS = 600
"""How long to wait for another run. A check takes a minute on a slow machine, and waits for akmods for five."""


@contextmanager
def alone(host: Host, seconds: float = SECONDS) -> Iterator[str]:
    """No other run until the end. Where no lock can be made (a full /run), what is done is done without one, and a
    sentence says so; else it is empty. Raises `SafeupdateError` where another run does not come to its end."""
    try:
        host.make_directory(RUN)
        # For root alone: whoever may open a file may hold it against all others.
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        lock = os.open(host.machine.host_path(PATH, follow=False), flags, 0o600)
    except (SafeupdateError, OSError) as error:
        yield f"No other run is kept away while this one works: {error}."
        return
    try:
        if not locks.taken(lock, seconds):
            raise SafeupdateError(f"another run of safeupdate has held {PATH} for too long")
        yield ""
    finally:
        os.close(lock)
