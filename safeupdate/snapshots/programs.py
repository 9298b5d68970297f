"""How back ends start programs, and mount what is not to be seen."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from safeupdate.errors import ProgramFailed, SafeupdateError
from safeupdate.formats import mountinfo
from safeupdate.gate.host import RUN, Host
from safeupdate.snapshots.backend import SnapshotError

SECONDS = 60.0
"""For programs that ask or change metadata: milliseconds on an idle machine, but a transaction commit waits for all
that is being written, on a slow disk for tens of seconds."""

MOUNTS = f"{RUN}/mounts"
"""Private mounts of ours, for as long as one is needed."""

_WORDS = 300
"""Characters of a program's own words that are told."""


def output(host: Host, command: Sequence[str], seconds: float = SECONDS) -> bytes:
    """What the program writes to its stdout. Raises `SnapshotError` with its own words where it ends with an error, or
    cannot be started, or does not end in time."""
    try:
        done = host.run(command, seconds)
    except ProgramFailed as error:
        raise SnapshotError(str(error)) from None
    if done.code == 0:
        return done.stdout
    words = " ".join((done.stderr or done.stdout).decode("utf-8", "replace").split())[:_WORDS]
    raise SnapshotError(f"`{' '.join(command)}` ended with {done.code}: {words or 'it said nothing'}")


def answer(host: Host, command: Sequence[str], seconds: float = SECONDS) -> Any:
    """The JSON that the program writes. Raises `SnapshotError` as `output` does, and for what is none."""
    try:
        return json.loads(output(host, command, seconds))
    except (ValueError, RecursionError):
        raise SnapshotError(f"`{' '.join(command)}` did not answer in JSON") from None


@contextmanager
def mounted(host: Host, name: str, command: Sequence[str]) -> Iterator[str]:
    """A directory below `MOUNTS` on which `command`, with its name appended, has mounted something, until the end.

    A mount that a killed run left there is taken away first. Raises `SnapshotError`.
    """
    point = f"{MOUNTS}/{name}"
    host.make_directory(point)
    # Old programs with a set-uid bit may come to be seen in there.
    with suppress(OSError):
        os.chmod(host.machine.host_path(MOUNTS), 0o700)
    _unmount(host, point)
    output(host, (*command, point))
    try:
        yield point
    finally:
        # Whatever is wrong with it is told by the next run, which must take it away to go on.
        with suppress(SafeupdateError, OSError):
            _unmount(host, point)
            os.rmdir(host.machine.host_path(point))


def _unmount(host: Host, point: str) -> None:
    mounts = mountinfo.parse(host.machine.read_if_there("/proc/self/mountinfo") or b"")
    for _ in [mount for mount in mounts if mount.point == point]:
        output(host, ("umount", point))
