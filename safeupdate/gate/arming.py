"""Whether the gate acts on this machine, or only observes it."""

from __future__ import annotations

from safeupdate import control, steering
from safeupdate.boot import find_plan
from safeupdate.fingerprint import Hasher
from safeupdate.gate.known import Known
from safeupdate.machine import Machine
from safeupdate.report import Report
from safeupdate.volumes import Volumes

_FILES = ("kernels", "initramfs", "modules")
"""The parts of a fingerprint that a boot is started from."""


def judged_safe(machine: Machine, known: Known, report: Report) -> bool:
    """Whether the boot that is running, and is known to have come up, was judged safe with the files that it used:
    as what starts next, now or before, or as the fallback, of which the same is asked."""
    if known.boot_id is not None and known.memory.armed_boot == known.boot_id:
        return True
    history = known.history
    boot = history.boot(known.boot_id)
    if boot is None or boot.confirmed is None:
        return False
    if report.fallback.kernel == boot.release and report.fallback.quality == "proven":
        return True
    for row in history.checks:
        same = boot.parts and all(row.parts.get(part) == boot.parts.get(part) for part in _FILES)
        if same and (row.verdict, row.release, row.entry) == ("safe", boot.release, boot.entry):
            return True
    if report.verdict != "safe" or report.target.kernel != boot.release:
        return False
    _, plan = find_plan(machine, Volumes(machine), without=steering.read(machine))
    hasher = Hasher(machine, history.hashes)
    return any(
        entry.id == report.target.entry and control.proven(machine, history, hasher, entry, boot.release)
        for entry in plan.entries
    )
