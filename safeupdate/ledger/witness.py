"""A few bytes outside of the ledger that say how far it had got: one that knows less was restored from an older copy.

The one in /run is ahead of a ledger that was rewound while the machine runs. The one in /boot, where that is another
file system, is ahead of one that was rewound with the root file system, whichever way that was done.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from safeupdate.errors import Missing, SafeupdateError, Unreadable

if TYPE_CHECKING:
    from safeupdate.machine import Machine

RUNNING = "/run/safeupdate/ledger.json"
LASTING = "/boot/safeupdate/ledger.json"

LAST_LIMIT = 1 << 53
"""More rows than a machine can write, and a number that JSON keeps."""


@dataclass(frozen=True)
class Witness:
    """The ledger's own name, and the last number that it had given to a row."""

    id: str
    last: int


def read(machine: Machine, path: str) -> Witness | None:
    """The witness at `path`; None where there is none that makes sense."""
    try:
        found = json.loads(machine.read_if_there(path, limit=4096) or b"null")
        witness = Witness(str(found["id"]), int(found["last"]))
    except (SafeupdateError, ValueError, TypeError, KeyError, OverflowError, RecursionError):
        return None
    return witness if 0 < witness.last < LAST_LIMIT else None


def leave(machine: Machine, path: str, witness: Witness) -> None:
    """Replace the witness at `path` at once and for good. Where that cannot be done the ledger has one witness less."""
    try:
        directory, name = os.path.split(path)
        place = machine.host_path(directory)
        if not os.path.isdir(place):
            os.mkdir(place, 0o755)
        new = f"{place}/{name}.new"
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            with open(os.open(new, flags, 0o600), "wb") as file:
                file.write(json.dumps({"id": witness.id, "last": witness.last}).encode() + b"\n")
                file.flush()
                os.fsync(file.fileno())
            os.replace(new, f"{place}/{name}")
        except OSError:
            with suppress(OSError):
                os.unlink(new)
            raise
        descriptor = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except (OSError, Missing, Unreadable):
        return


def is_elsewhere(machine: Machine, ledger: str) -> bool:
    """Whether /boot is another file system than that of the ledger (its path on the host)."""
    try:
        boot = machine.stat("/boot")
        # Directories are compared: overlayfs gives files the number of the file system below.
        return boot is not None and boot.st_dev != os.stat(os.path.dirname(ledger)).st_dev
    except (OSError, Unreadable):
        return False
