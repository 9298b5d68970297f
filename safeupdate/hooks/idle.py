"""Waits until no package manager is at work: in the middle of an update nothing can be judged."""

from __future__ import annotations

import time

from safeupdate import packages
from safeupdate.errors import SafeupdateError
from safeupdate.gate.host import RUN
from safeupdate.machine import Machine

_LOOK = 2.0
"""Seconds between two looks, and before the first: what has just begun to write may not have its lock yet."""

_HOOKS = (f"{RUN}/dnf", "/run/dnf/rpmtransaction.lock")
"""Held until the hook behind a transaction has ended, as rpm's lock is given up before: by dnf 4's plugin of ours, and
by dnf 5 itself (TRANSACTION_LOCK_FILEPATH in its libdnf5/conf/const.hpp)."""

_LONGEST = 3600.0
"""Seconds. One that asks a question may wait for its answer all night; the timer looks again then."""


def wait(machine: Machine, *, look: float = _LOOK, longest: float = _LONGEST) -> bool:
    """Wait until nobody holds the lock of a package database; whether that came."""
    until = time.monotonic() + longest
    while time.monotonic() < until:
        time.sleep(look)
        if not _busy(machine):
            return True
    return False


def _busy(machine: Machine) -> bool:
    if packages.locked(machine, _HOOKS) is not None:
        return True
    try:
        return any(packages.at_work(machine, database) is not None for database in packages.databases(machine))
    except SafeupdateError:
        return False
