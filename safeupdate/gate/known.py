"""What a run of `settle` knows before it looks: how the gate stood, what outlasted the reboot, what people said."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from safeupdate.errors import SafeupdateError
from safeupdate.gate import permits, state, systemd
from safeupdate.gate.host import RUN, Host
from safeupdate.gate.permits import Allowed, Rejected
from safeupdate.gate.state import Gate, Judged, Memory
from safeupdate.ledger import reading
from safeupdate.ledger.reading import History
from safeupdate.machine import Machine

WAY_OUT = f"{RUN}/way-out"
"""Left by `safeupdate-open`, the way out without Python: until the machine restarts nothing is held."""


@dataclass(frozen=True)
class Known:
    """`before` is the gate as it was last set in this boot, `rejected` None where it cannot be read. `offline_update`:
    one is asked for or under way."""

    boot_id: str | None
    running: str | None
    history: History
    before: Gate | None
    memory: Memory
    allowed: Allowed | None
    rejected: tuple[Rejected, ...] | None
    offline_update: bool

    @property
    def confirmed(self) -> bool:
        """Whether this boot is known to have come up."""
        boot = self.history.boot(self.boot_id)
        return boot is not None and boot.confirmed is not None

    def permission(self, machine: Machine, parts: Mapping[str, str]) -> str | None:
        """Who let reboots through against the verdict, and why, where that still holds."""
        if _way_out(machine):
            return "`safeupdate-open` was run: nothing is held until the machine restarts"
        allowed = self.allowed
        if allowed is None or not allowed.is_for(parts, boot_id=self.boot_id, running=self.running):
            return None
        return f"{allowed.by} allowed it at {allowed.time}: {allowed.reason}"

    def rejection(self, judged: Judged) -> str | None:
        """Who does not want the kernel that is to start next, and why."""
        for one in self.rejected or ():
            if one.kernel == judged.kernel:
                return f"{one.by} rejected {one.kernel} at {one.time}: {one.reason}"
        return None

    def came_back(self) -> str | None:
        """That this boot is not the one that was to be."""
        if self.before is not None:
            return self.before.came_back
        intended, when = self.memory.intended, self.memory.intended_boot
        if when in (None, self.boot_id) or None in (intended, self.running) or intended == self.running:
            return None
        return f"This machine came back on {self.running}, and not on {intended}, which was to start next."


def recall(host: Host, problem: Callable[[str], None]) -> Known:
    """Read all of it; what is damaged or cannot be read is told, and not obeyed."""
    machine = host.machine
    boot_id = reading.boot_id(machine)
    before, allowed, rejected = None, None, None
    try:
        before = state.read(machine)
    except SafeupdateError as error:
        problem(str(error))
    try:
        memory = state.remembered(machine)
    except SafeupdateError as error:
        # It may have been armed: to hold too much until this boot is judged is the smaller evil.
        memory = Memory(mode="armed")
        problem(str(error))
    try:
        allowed = permits.allowed(machine)
    except SafeupdateError as error:
        problem(str(error))
    try:
        rejected = permits.rejected(machine)
    except SafeupdateError as error:
        problem(str(error))
    return Known(
        boot_id=boot_id,
        running=machine.running_kernel,
        history=reading.read(machine),
        before=before if before is not None and before.boot_id == boot_id else None,
        memory=memory,
        allowed=allowed,
        rejected=rejected,
        offline_update=_offline_update(host),
    )


def _way_out(machine: Machine) -> bool:
    try:
        return machine.exists(WAY_OUT)
    except SafeupdateError:
        return False


def _offline_update(host: Host) -> bool:
    try:
        return systemd.runs(host.machine) and systemd.offline_update(host)
    except SafeupdateError:
        return False
