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

_RUNTIME, _LASTING = "/run/systemd/system", "/etc/systemd/system"


@dataclass(frozen=True)
class _Target:
    """A target as systemd has it loaded. `link`: the runtime has a mask for it. `ours`: that is ours, as our record
    says, or was: with less than 16 MiB free in /run systemd refuses to read its units anew, and masks stay loaded."""

    name: str
    masked: bool
    link: bool
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
    if some := ", ".join(target.name for target in targets if target.masked):
        return State("open", f"systemd refuses {some} alone.")
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
    said = ""
    if missing := [target.name for target in targets if not target.masked or (target.ours and not target.link)]:
        new: dict[str, record.Json] = {"masked": [*ours], "boot": reading.boot_id(host.machine)}
        record.store(host, Record(NAME, None, new, order.why, host.time))
        said = _systemctl(host, "mask", "--runtime", "--", *missing)
    systemd.let_users_in(host)
    loaded = [target.name for target in _targets(host) if not target.masked]
    if loaded:
        return State("refused", f"systemd did not take the mask of {', '.join(loaded)}{said or '.'}")
    return state(host)


def reopen(host: Host) -> State:
    """Take away the masks that are ours."""
    if not systemd.runs(host.machine):
        return state(host)
    if recorded := _recorded(host.machine):
        said = ""
        if links := [name for name in recorded if _link(host.machine, _RUNTIME, name)]:
            said = _systemctl(host, "unmask", "--runtime", "--", *links)
            if left := [name for name in links if _link(host.machine, _RUNTIME, name)]:
                return State("refused", f"systemctl did not unmask {', '.join(left)}{said or '.'}")
        if _still_masked(host):
            said = _systemctl(host, "daemon-reload")
        if still := _still_masked(host):
            return State("closed", f"systemd has the mask of {', '.join(still)} still loaded{said or '.'}")
    record.drop(host, NAME)
    systemd.let_users_in(host)
    return state(host)


def _systemctl(host: Host, *words: str) -> str:
    """Whether it ends in time or not: what came of it is read back. Returns what it said when it failed, as the end of
    a sentence."""
    try:
        done = host.run(["systemctl", *words], systemd.RELOAD_SECONDS)
    except ProgramFailed as error:
        return f": {error}."
    lines = done.stderr.decode("utf-8", "replace").strip().splitlines()
    return f": {lines[-1]}" if done.code and lines else ""


def _still_masked(host: Host) -> list[str]:
    return [target.name for target in _targets(host) if target.masked and target.ours]


def _targets(host: Host) -> list[_Target]:
    recorded, found = _recorded(host.machine), []
    for name, shown in zip(TARGETS, systemd.show_each(host, TARGETS, "LoadState")):
        masked, link = shown.get("LoadState") == "masked", _link(host.machine, _RUNTIME, name)
        ours = name in recorded and (link or (masked and not _link(host.machine, _LASTING, name)))
        found.append(_Target(name, masked, link, ours))
    return found


def _link(machine: Machine, directory: str, name: str) -> bool:
    """Whether the directory has a mask for this unit."""
    path = f"{directory}/{name}"
    return machine.is_link(path) and machine.readlink(path) == "/dev/null"


def _recorded(machine: Machine) -> list[str]:
    """The targets that we masked in this boot; masks of an earlier one ended with it."""
    found = record.read(machine, NAME)
    if found is None or not isinstance(found.new, dict) or found.new.get("boot") != reading.boot_id(machine):
        return []
    masked = found.new.get("masked")
    return [name for name in TARGETS if isinstance(masked, list) and name in masked]


LEVER = Lever(NAME, "systemd refuses every reboot", state, close, reopen)
