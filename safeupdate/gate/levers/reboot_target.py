"""`reboot-target`: reboots are refused by systemd, whoever asks (systemctl, shutdown, logind, signals to process 1).

The runtime mask of the three targets is the strongest lever there is; it ends with the boot, and power-off stays free.
What it does not stop is in docs/gate.md.
"""

from __future__ import annotations

from dataclasses import dataclass

from safeupdate.errors import ProgramFailed
from safeupdate.gate import record, systemd
from safeupdate.gate.host import Host
from safeupdate.gate.lever import Lever, Order, State
from safeupdate.gate.record import Record
from safeupdate.ledger import reading
from safeupdate.machine import Machine

NAME = "reboot-target"

TARGETS = ("reboot.target", "kexec.target", "soft-reboot.target")
"""All three: with a kexec kernel loaded, `reboot` goes to the second. The third is there since systemd 254, and
masked before it is there on older ones, in case systemd is upgraded while the gate is closed."""

_RUNTIME = "/run/systemd/system"


@dataclass(frozen=True)
class _Target:
    """A target as systemd has it loaded. `ours`: masked by a link of the runtime, which our record names."""

    name: str
    masked: bool
    ours: bool


def state(host: Host) -> State:
    """How it stands, as systemd has it loaded."""
    if not systemd.runs(host.machine):
        return State("not-here", "systemd does not run here.")
    targets = _targets(host)
    names = ", ".join(target.name for target in targets if target.masked and not target.ours)
    if all(target.masked for target in targets):
        if names:
            return State("not-ours", f"systemd refuses reboots, but not for our sake: somebody masked {names}.")
        return State("closed", "systemd refuses every reboot but `systemctl reboot --force`.")
    if names:
        return State("not-ours", f"Somebody masked {names}.")
    return State("open", "systemd lets every reboot through.")


def close(host: Host, order: Order) -> State:
    """Mask what nobody has masked. Never where that would leave a machine in the middle of an offline update."""
    if not systemd.runs(host.machine):
        return state(host)
    if systemd.offline_update(host):
        reopen(host)
        return State("refused", "An offline update is asked for or under way, and has to end with its reboot.")
    targets = _targets(host)
    ours = [target.name for target in targets if target.ours or not target.masked]
    if missing := [target.name for target in targets if not target.masked]:
        new: dict[str, record.Json] = {"masked": [*ours], "boot": reading.boot_id(host.machine)}
        record.store(host, Record(NAME, None, new, order.why, host.time))
        _systemctl(host, "mask", missing)
    systemd.let_users_in(host)
    loaded = [target.name for target in _targets(host) if not target.masked]
    if loaded:
        return State("refused", f"systemd did not take the mask of {', '.join(loaded)}.")
    return state(host)


def reopen(host: Host) -> State:
    """Take away the masks that are ours."""
    if not systemd.runs(host.machine):
        return state(host)
    if ours := [name for name in _recorded(host.machine) if _link(host.machine, name)]:
        _systemctl(host, "unmask", ours)
        if left := [name for name in ours if _link(host.machine, name)]:
            return State("refused", f"systemctl did not unmask {', '.join(left)}.")
    record.drop(host, NAME)
    systemd.let_users_in(host)
    return state(host)


def _systemctl(host: Host, verb: str, targets: list[str]) -> None:
    """Mask or unmask, whether it ends in time or not: what came of it is read back."""
    try:
        host.run(["systemctl", verb, "--runtime", "--", *targets], systemd.RELOAD_SECONDS)
    except ProgramFailed:
        pass


def _targets(host: Host) -> list[_Target]:
    recorded, found = _recorded(host.machine), []
    for name, shown in zip(TARGETS, systemd.show_each(host, TARGETS, "LoadState")):
        ours = name in recorded and _link(host.machine, name)
        found.append(_Target(name, shown.get("LoadState") == "masked", ours))
    return found


def _link(machine: Machine, name: str) -> bool:
    """Whether the runtime has a mask for this unit."""
    path = f"{_RUNTIME}/{name}"
    return machine.is_link(path) and machine.readlink(path) == "/dev/null"


def _recorded(machine: Machine) -> list[str]:
    """The targets that we masked in this boot; masks of an earlier one ended with it."""
    found = record.read(machine, NAME)
    if found is None or not isinstance(found.new, dict) or found.new.get("boot") != reading.boot_id(machine):
        return []
    masked = found.new.get("masked")
    return [name for name in TARGETS if isinstance(masked, list) and name in masked]


LEVER = Lever(NAME, "systemd refuses every reboot", state, close, reopen)
