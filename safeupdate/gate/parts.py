"""What the next boot is made of, by which `settle` sees that something changed."""

from __future__ import annotations

from collections.abc import Mapping

from safeupdate import fingerprint, kernels, packages, steering
from safeupdate.boot import find_plan
from safeupdate.fingerprint import Hasher
from safeupdate.ledger.reading import History
from safeupdate.machine import Machine
from safeupdate.volumes import Volumes


def parts_now(machine: Machine, history: History) -> Mapping[str, str]:
    """The fingerprint of what boots next, as `judge` takes it. Raises `SafeupdateError`."""
    machine = Machine(machine.root, machine.live)  # one that remembers nothing of the last look
    firmware, plan = find_plan(machine, Volumes(machine), without=steering.read(machine))
    found, databases = kernels.installed(machine), packages.databases(machine)
    return fingerprint.of(Hasher(machine, history.hashes), firmware, plan, found, databases)
