"""How the gate stands: /run/safeupdate/gate.json for this boot, which anyone may read, and what outlasts the boot in
/var/lib/safeupdate/gate.json. What is damaged counts as if nothing had been judged yet."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal, TypeVar, get_args

from safeupdate.gate import document
from safeupdate.gate.document import Damaged
from safeupdate.gate.host import RUN, VAR, Host
from safeupdate.gate.lever import State
from safeupdate.gate.policy import Cause, Mode, Verdict
from safeupdate.machine import Machine

PATH = f"{RUN}/gate.json"
MEMORY = f"{VAR}/gate.json"


@dataclass(frozen=True)
class Judged:
    """What the last check said, as far as the gate needs it. `blockers` are the sentences of its blockers, or of its
    unknowns where it has none; `blocker_ids` their ids. `waits` says why the next boot will wait for a person,
    `unprotected` why it is not to come by itself though it is safe: it has no snapshot to go back to.
    `fallback` is the kernel to fall back to, `fallback_entry` its entry; None where no other passes the checks."""

    verdict: Verdict
    time: str
    kernel: str | None = None
    loader: str | None = None
    entry: str | None = None
    title: str | None = None
    fallback: str | None = None
    fallback_entry: str | None = None
    quality: str = "none"
    blockers: tuple[str, ...] = ()
    blocker_ids: tuple[str, ...] = ()
    skipped: tuple[str, ...] = ()
    waits: tuple[str, ...] = ()
    unprotected: str = ""


@dataclass(frozen=True)
class Gate:
    """How the gate stands. Times are RFC 3339 in UTC.

    `position` is `closed` where anything is held back, `unattended` and `people` say whose reboot would be let through;
    while it is observing, the gate is open, and they say what the verdict calls for. `since` is when the position,
    the verdict or the cause changed last. `fingerprint` has the parts that the verdict belongs to. `overdue`: not
    decided for longer than a person should leave it so. `came_back` says that this boot is not the one that was to be.
    `problems` are what could not be done.
    """

    position: Literal["open", "closed"]
    mode: Mode
    verdict: Verdict
    cause: Cause
    unattended: bool
    people: bool
    why: str
    since: str
    boot_id: str | None
    confirmed: bool
    judged: Judged
    fingerprint: Mapping[str, str] = field(default_factory=dict, hash=False)
    levers: Mapping[str, State] = field(default_factory=dict, hash=False)
    allowed: str | None = None
    rejected: str | None = None
    came_back: str | None = None
    overdue: bool = False
    problems: tuple[str, ...] = ()

    @property
    def held(self) -> bool:
        """Whether our own lever holds the loader's default on the fallback."""
        lever = self.levers.get("boot-default")
        return lever is not None and lever.position == "closed"


@dataclass(frozen=True)
class Memory:
    """What outlasts a reboot. `armed_boot` is the boot that was judged safe while it ran; `had_fallback` whether the
    boot `fallback_boot` had one. `intended` is the kernel that was to start next, `intended_boot` the boot that was
    running then. `told` is what was recorded last, so that it is recorded once."""

    mode: Mode = "observing"
    armed_boot: str | None = None
    had_fallback: bool = False
    fallback_boot: str | None = None
    intended: str | None = None
    intended_boot: str | None = None
    told: str = ""


def read(machine: Machine) -> Gate | None:
    """How the gate stood last in this boot; None where it was not settled yet. Raises `Damaged` and `Unreadable`."""
    found = document.read(machine, PATH)
    if found is None:
        return None
    try:
        levers = {str(name): State(one["position"], str(one["words"])) for name, one in found.pop("levers").items()}
        judged = _made(Judged, found.pop("judged"))
        fingerprint = {str(name): str(part) for name, part in found.pop("fingerprint").items()}
        gate = _made(Gate, {**found, "judged": judged, "levers": levers, "fingerprint": fingerprint})
    except (KeyError, TypeError, AttributeError, ValueError):
        raise Damaged(PATH, "it is not what this program writes") from None
    return gate


def store(host: Host, gate: Gate) -> None:
    """Replace the state at once. Raises `NotDone`."""
    host.write(PATH, document.text(asdict(gate)))


def forget(host: Host) -> None:
    """Leave no state that is not how the gate stands. Raises `NotDone`."""
    host.remove(PATH)


def remembered(machine: Machine) -> Memory:
    """What outlasted the reboot. Raises `Damaged` and `Unreadable`."""
    found = document.read(machine, MEMORY)
    try:
        return Memory() if found is None else _made(Memory, found)
    except (TypeError, ValueError):
        raise Damaged(MEMORY, "it is not what this program writes") from None


def remember(host: Host, memory: Memory) -> None:
    """Replace what is to outlast a reboot. Raises `NotDone`."""
    host.write(MEMORY, document.text(asdict(memory)), mode=0o600)


_CHOICES = {
    "position": ("open", "closed"),
    "mode": get_args(Mode),
    "verdict": get_args(Verdict),
    "cause": get_args(Cause),
}

_Made = TypeVar("_Made", Gate, Judged, Memory)


def _made(kind: type[_Made], found: Mapping[str, Any]) -> _Made:
    """The value with these fields. Raises `TypeError` or `ValueError` for any that is of another kind."""
    values = {}
    for one in fields(kind):
        if one.name not in found:
            continue
        value = found[one.name]
        if one.name in _CHOICES and value not in _CHOICES[one.name]:
            raise ValueError(one.name)
        declared = str(one.type)
        if declared == "bool" and not isinstance(value, bool):
            raise TypeError(one.name)
        if declared.startswith("str") and not (isinstance(value, str) or (value is None and "None" in declared)):
            raise TypeError(one.name)
        if declared.startswith("tuple"):
            if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
                raise TypeError(one.name)
            value = tuple(value)
        values[one.name] = value
    return kind(**values)
