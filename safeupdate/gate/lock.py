"""One run of `settle` at a time."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from safeupdate import locks
from safeupdate.errors import SafeupdateError
from safeupdate.gate.host import RUN, Host

PATH = f"{RUN}/lock"

SECONDS = 600
"""How long to wait for another run. A check takes a minute on a slow machine, and waits for akmods for five."""


class NotMade(SafeupdateError):
    """There can be no lock."""


@contextmanager
def alone(host: Host, seconds: float = SECONDS) -> Iterator[str]:
    """No other run until the end. Where no lock can be made (a full /run), what is done is done without one, and a
    sentence says so; else it is empty. Raises `SafeupdateError` where another run does not come to its end."""
    with ExitStack() as stack:
        problem = ""
        try:
            stack.enter_context(held(host, PATH, seconds))
        except NotMade as error:
            problem = f"No other run is kept away while this one works: {error}."
        yield problem


@contextmanager
def held(host: Host, path: str, seconds: float) -> Iterator[None]:
    """The lock of that name in /run, until the end. Raises `NotMade`, and `SafeupdateError` where another run holds it
    for so many seconds."""
    try:
        host.make_directory(RUN)
        # For root alone: whoever may open a file may hold it against all others.
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        lock = os.open(host.machine.host_path(path, follow=False), flags, 0o600)
    except (SafeupdateError, OSError) as error:
        raise NotMade(str(error)) from None
    try:
        if not locks.taken(lock, seconds):
            raise SafeupdateError(f"another run of safeupdate has held {path} for too long")
        yield
    finally:
        os.close(lock)
