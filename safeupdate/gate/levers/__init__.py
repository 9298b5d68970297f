"""The levers, in the order in which they are closed; they are opened in the reverse order."""

from __future__ import annotations

from safeupdate.gate.lever import Lever
from safeupdate.gate.levers import boot_default

LEVERS: tuple[Lever, ...] = (boot_default.LEVER,)
