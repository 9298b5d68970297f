"""The levers, in the order in which they are closed; they are opened in the reverse order."""

from __future__ import annotations

from safeupdate.gate.lever import Lever
from safeupdate.gate.levers import (
    boot_default,
    dnf_automatic,
    inhibitor,
    molly_guard,
    reboot_required,
    reboot_target,
    scheduled,
)

LEVERS: tuple[Lever, ...] = (
    reboot_required.LEVER,
    scheduled.LEVER,
    dnf_automatic.LEVER,
    boot_default.LEVER,
    molly_guard.LEVER,
    reboot_target.LEVER,
    inhibitor.LEVER,
)
