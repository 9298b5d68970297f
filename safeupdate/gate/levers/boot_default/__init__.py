"""The boot loader's default, held on the fallback.

No lever stops a panic, a watchdog, `reboot -f` or the power: this one sees to it that the machine comes back from them
on a kernel that works. What each loader is told is in a file of its own here; what it will do then is never taken on
trust, but read back by resolving the plan, before and after.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from safeupdate import steering
from safeupdate.boot import find_plan
from safeupdate.boot.firmware import Firmware
from safeupdate.boot.plan import BootEntry, BootPlan
from safeupdate.errors import SafeupdateError
from safeupdate.gate import record
from safeupdate.gate.document import Damaged
from safeupdate.gate.host import Host
from safeupdate.gate.lever import Lever, Order, State
from safeupdate.gate.levers.boot_default import grub, systemd_boot
from safeupdate.gate.record import Json, Record
from safeupdate.machine import Machine
from safeupdate.steering import Steering
from safeupdate.volumes import Volumes

NAME = "boot-default"

_FREE = State("open", "safeupdate does not hold the boot loader's default.")

_ON_THE_WAY = {"boot-entry.password", "boot-entry.syntax-error"}
"""Findings of a plan that our hold must not bring: GRUB would wait for a person, or not read it."""


@dataclass(frozen=True)
class _Plan:
    """What the machine's loader does without our hold, and how it is held now."""

    firmware: Firmware
    free: BootPlan
    held: Steering | None

    @classmethod
    def of(cls, machine: Machine) -> _Plan:
        held = steering.read(machine)
        return cls(*find_plan(machine, Volumes(machine), without=held), held)


def state(host: Host) -> State:
    """How the default is held now, or why it cannot be."""
    now = _Plan.of(host.machine)
    if now.held is not None:
        return _closed(now.held, _actual(host.machine))
    return _obstacle(host, now) or _FREE


def prepare(host: Host) -> State:
    """Make ready what a later hold overwrites, so that nothing has to be made in a hurry. Raises `NotDone`."""
    now = _Plan.of(host.machine)
    if now.held is not None:
        return _closed(now.held, _actual(host.machine))
    obstacle = _obstacle(host, now)
    if obstacle is None and now.free.loader == grub.NAME:
        grub.make(host, grub.path(now.free))
    return obstacle or _FREE


def close(host: Host, order: Order) -> State:
    """Hold the default on the order's fallback; where that cannot be, an earlier hold stays while its entry is there.

    Raises `SafeupdateError` where it failed half-way; the next call then goes on.
    """
    now = _Plan.of(host.machine)
    obstacle = _obstacle(host, now)
    if obstacle is not None:
        return _kept(host, now, obstacle)
    found = [entry for entry in now.free.entries if entry.id == order.fallback]
    if len(found) != 1:
        return _kept(host, now, State("refused", _not_one(order, len(found))))
    entry = found[0]
    if now.held is None and _leads_anyway(now.free, entry):
        return State("not-here", f'The boot loader starts "{entry.title}" by itself; there is nothing to hold.')
    reason = _reason_against(host, now, entry)
    if reason:
        return _kept(host, now, State("refused", reason))
    wanted = _steering(host.machine, now, entry)
    if now.held not in (None, wanted) and (wanted.path is None or now.held.path != wanted.path):
        # A record has room for one value of ours: killed between the two, it would be taken for somebody else's.
        _take(host, now.held)
    if wanted != now.held or not _recorded(host.machine):
        record.store(host, Record(NAME, wanted.old, _new(wanted), order.why, host.time))
    if wanted != now.held:
        _put(host, wanted)
    actual = _actual(host.machine)
    reason = _reason_after(host, wanted) or _elsewhere(now.free, actual, wanted, entry)
    if reason:
        _take(host, wanted)
        record.drop(host, NAME)
        return State("refused", reason)
    return _closed(wanted, actual)


def let_go(host: Host) -> State:
    """Let go of the default, where it is still ours to let go of."""
    held = steering.read(host.machine)
    if held is not None:
        try:
            _take(host, held)
        except SafeupdateError as error:
            return State("closed", f"The boot loader's default is still held on {held.entry}: {error}.")
        return _forgotten(host)
    try:
        left = record.read(host.machine, NAME)
    except Damaged:
        if steering.default_variable(host.machine) is not None:  # which may be ours
            raise
        return _forgotten(host)
    if left is None:
        return _FREE
    hidden = grub.hidden(host.machine, left)
    if hidden:
        return State("refused", f"Whether the default is still held is not known: {hidden} is not there to be seen.")
    changed = grub.changed(host.machine, left) or systemd_boot.changed(host.machine, left)
    return _forgotten(host, State("not-ours", changed) if changed else _FREE)


def _forgotten(host: Host, state: State = _FREE) -> State:
    """The state after what was recorded is over; a record that stays would be obeyed another time."""
    try:
        record.drop(host, NAME)
    except SafeupdateError as error:
        return State(state.position, f"{state.words} Its record could not be removed: {error}.")
    return state


def _actual(machine: Machine) -> BootPlan:
    return find_plan(machine, Volumes(machine))[1]


def _not_one(order: Order, times: int) -> str:
    if order.fallback is None:
        return "There is no other kernel that passed the checks, and that the default could be held on."
    has = f"{times} times" if times else "not at all"
    return f'The boot menu has the fallback "{order.fallback}" {has}: a hold might lead elsewhere.'


def _leads_anyway(plan: BootPlan, entry: BootEntry) -> bool:
    return plan.next is not None and plan.next.id == entry.id and plan.automatic is None


def _obstacle(host: Host, now: _Plan) -> State | None:
    """Why nothing can be held on this machine, whatever the entry; None where it can."""
    if now.free.loader == grub.NAME:
        return grub.obstacle(host.machine, now.free)
    if now.free.loader == systemd_boot.NAME:
        return systemd_boot.obstacle(host.machine, now.firmware)
    if now.free.loader is None:
        return State("not-here", "What starts this machine is not known well enough to hold its default.")
    return State("not-here", f"{now.free.loader} has no default that could be held and let go again.")


def _reason_against(host: Host, now: _Plan, entry: BootEntry) -> str:
    """Why the default cannot be held on this entry; empty where it can."""
    try:
        if now.free.loader == grub.NAME:
            steering.hold(entry.id)
        elif now.held is None or now.held.entry != entry.id:
            reason = systemd_boot.reason_against(host, now.firmware, entry)
            if reason:
                return reason
    except SafeupdateError as error:
        return f"The default cannot be held: {error}."
    wanted = _steering(host.machine, now, entry)
    plan = find_plan(host.machine, Volumes(host.machine), without=now.held, under=wanted)[1]
    return _elsewhere(now.free, plan, wanted, entry)


def _reason_after(host: Host, wanted: Steering) -> str:
    """What is wrong with the hold as it was written; empty where nothing is."""
    if steering.read(host.machine) != wanted:
        return f"{wanted.where} does not hold what was written to it."
    return grub.syntax(host, wanted.path) if wanted.path is not None else ""


def _elsewhere(free: BootPlan, plan: BootPlan, wanted: Steering, entry: BootEntry) -> str:
    """Why the plan under our hold is not the one that is wanted; empty where it is."""
    told = {finding.id for finding in free.findings}
    for finding in plan.findings:
        if finding.id in _ON_THE_WAY or (finding.level in ("blocker", "unknown") and finding.id not in told):
            return f"The default cannot be held: {finding.problem}"
    if plan.remembers:
        return (
            "GRUB makes each entry that it starts the default of the boots after it (GRUB_SAVEDEFAULT): what is held "
            "for a while would stay."
        )
    if plan.next is not None and plan.next.id == entry.id:
        return ""
    # A one-shot of the administrator goes before any default; the boot after it is what is held.
    if _after(plan) == entry.id != _after(free):
        return ""
    starts = f'"{plan.next.title}"' if plan.next is not None else "something that cannot be told"
    return f'With the default held on "{entry.title}" in {wanted.where}, {starts} would still start.'


def _after(plan: BootPlan) -> str | None:
    return plan.automatic.id if plan.automatic is not None else None


def _steering(machine: Machine, now: _Plan, entry: BootEntry) -> Steering:
    if now.free.loader == grub.NAME:
        return Steering("grub", entry.id, grub.path(now.free))
    if now.held is not None and now.held.path is None:
        return replace(now.held, entry=entry.id)
    return Steering("systemd-boot", entry.id, old=steering.default_variable(machine))


def _new(wanted: Steering) -> Json:
    return wanted.entry if wanted.path is None else {"path": wanted.path, "entry": wanted.entry}


def _recorded(machine: Machine) -> bool:
    try:
        return record.read(machine, NAME) is not None
    except Damaged:
        return False


def _put(host: Host, wanted: Steering) -> None:
    if wanted.path is not None:
        grub.put(host, wanted.path, wanted.entry)
    else:
        systemd_boot.put(host, wanted.entry)


def _take(host: Host, held: Steering) -> None:
    if held.path is not None:
        grub.take(host, held.path)
    else:
        systemd_boot.take(host, held)


def _kept(host: Host, now: _Plan, state: State) -> State:
    """What becomes of an earlier hold where no new one can be: it goes only where its entry surely has gone."""
    if now.held is None:
        return state
    if now.free.next is None or now.held.entry in [entry.id for entry in now.free.entries]:
        words = _closed(now.held, _actual(host.machine)).words
        return State("closed", f"{words} It could not be held anew: {state.words}")
    _take(host, now.held)
    gone = f"It was held on {now.held.entry}, which no longer exists, and was let go."
    return _forgotten(host, State(state.position, f"{state.words} {gone}"))


def _closed(held: Steering, plan: BootPlan) -> State:
    title = next((entry.title for entry in plan.entries if entry.id == held.entry), None)
    on = f'"{title}"' if title is not None else f"{held.entry}, which is not in the boot menu"
    words = f"The boot loader's default is held on {on} ({held.where})"
    if plan.next is None or plan.next.id == held.entry:
        return State("closed", f"{words}.")
    return State("closed", f'{words}; before it "{plan.next.title}" starts.')


LEVER = Lever(NAME, "The boot loader's default", state, close, let_go, prepare=prepare)
