"""The one place that acts: what boots next is judged anew where it changed, and the levers are set to the verdict.

`settle` may be killed between any two of its steps. Levers are set before anything is written about them, and the state
is written last, so that the next run sees the same difference and does the same again.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING

from safeupdate import config as configuration
from safeupdate import control, fingerprint, kernels, packages, steering
from safeupdate.boot import find_plan
from safeupdate.config import DEFAULTS, Config
from safeupdate.errors import SafeupdateError
from safeupdate.fingerprint import Hasher
from safeupdate.gate import permits, policy, state, systemd, tell, waits
from safeupdate.gate.host import RUN, Host
from safeupdate.gate.lever import Lever, Order, State
from safeupdate.gate.levers import LEVERS
from safeupdate.gate.policy import Evidence, Situation, Wanted
from safeupdate.gate.state import Gate, Judged, Memory
from safeupdate.gate.words import headline, reason
from safeupdate.ledger import reading
from safeupdate.ledger.reading import History
from safeupdate.machine import Machine
from safeupdate.volumes import Volumes

if TYPE_CHECKING:
    from safeupdate.report import Report

LOCK = f"{RUN}/lock"

WAY_OUT = f"{RUN}/way-out"
"""Left by `safeupdate-open`, the way out without Python: until the machine restarts nothing is held."""

_LOCK_SECONDS = 600
"""How long to wait for another run. A check takes a minute on a slow machine, and waits for akmods for five."""

_TRY_AGAIN = 0.1

_LOOKS = 3
"""A machine that changes while it is looked at is looked at again; a third change leaves it pending."""

_ATTENDED = frozenset({"kernel-signature.key-pending", "module-signatures.pending-key"})
"""What a person mends at the console, in MokManager, on the way of a reboot that nothing may then hold back."""

_FILES = ("kernels", "initramfs", "modules")
"""The parts of a fingerprint that a boot is started from."""


def settle(
    host: Host,
    look: Callable[[], Report],
    *,
    config: Config = DEFAULTS,
    force: bool = False,
    levers: Sequence[Lever] = LEVERS,
    lock_seconds: float = _LOCK_SECONDS,
) -> Gate:
    """Set every lever to what the verdict and people call for, and return how the gate stands then.

    `look` judges the machine, and records that; it is called where something changed, where it could not be told for
    long, or with `force`. What could not be done is in the gate's `problems`. Raises `SafeupdateError` where another
    run does not come to its end.
    """
    with _alone(host, lock_seconds) as problems:
        return _Run(host, look, config, levers, [*problems]).gate(force=force)


@contextmanager
def _alone(host: Host, seconds: float) -> Iterator[list[str]]:
    """No other run until the end. Where no lock can be made (a full /run), what is done is done without one."""
    try:
        host.make_directory(RUN)
        # For root alone: whoever may open a file may hold it against all others.
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        lock = os.open(host.machine.host_path(LOCK, follow=False), flags, 0o600)
    except (SafeupdateError, OSError) as error:
        yield [f"No other run is kept away while this one works: {error}."]
        return
    try:
        until = time.monotonic() + seconds
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > until:
                    raise SafeupdateError(f"another run of safeupdate has held {LOCK} for too long") from None
                time.sleep(_TRY_AGAIN)
        yield []
    finally:
        os.close(lock)


def parts_now(machine: Machine, history: History) -> Mapping[str, str]:
    """The fingerprint of what boots next, as `judge` takes it. Raises `SafeupdateError`."""
    machine = Machine(machine.root, machine.live)  # one that remembers nothing of the last look
    firmware, plan = find_plan(machine, Volumes(machine), without=steering.read(machine))
    try:
        states = "\n".join(packages.states(packages.databases(machine)))
    except SafeupdateError as error:
        states = str(error)
    found = kernels.installed(machine)
    return fingerprint.of(Hasher(machine, history.hashes), firmware, plan, found, packages=states)


@dataclass
class _Run:
    """One run, with the lock held."""

    host: Host
    look: Callable[[], Report]
    config: Config
    levers: Sequence[Lever]
    problems: list[str]
    before: Gate | None = None
    memory: Memory = field(default_factory=Memory)
    history: History = reading.UNKNOWN
    boot_id: str | None = None
    _permits: tuple[permits.Allowed | None, tuple[permits.Rejected, ...] | None] = field(default=(None, ()))

    @property
    def machine(self) -> Machine:
        return self.host.machine

    def gate(self, *, force: bool) -> Gate:
        """Settle."""
        self._recall()
        parts = self._parts()
        before = self.before
        changed = before is None or before.fingerprint != parts
        if before is not None and not changed and not force and not self._is_due(before):
            return self._set(before.judged, parts, before.mode)
        for _ in range(_LOOKS):
            if changed:
                self._set(self._pending(), parts, self._mode(None))
            judged, report = self._judged(parts)
            seen, parts = parts, self._parts()
            changed = seen != parts
            if not changed:
                return self._set(judged, parts, self._mode(report), report)
        return self._set(self._pending(), parts, self._mode(None))

    # -- what is known -----------------------------------------------------------------------------------------

    def _recall(self) -> None:
        machine = self.machine
        self.boot_id = reading.boot_id(machine)
        self.history = reading.read(machine)
        try:
            self.before = state.read(machine)
        except SafeupdateError as error:
            self.problems.append(str(error))
        if self.before is not None and self.before.boot_id != self.boot_id:
            self.before = None
        try:
            self.memory = state.remembered(machine)
        except SafeupdateError as error:
            # It may have been armed: to hold too much until this boot is judged is the smaller evil.
            self.memory = Memory(mode="armed")
            self.problems.append(str(error))
        allowed, rejected = None, None
        try:
            allowed = permits.allowed(machine)
        except SafeupdateError as error:
            self.problems.append(str(error))
        try:
            rejected = permits.rejected(machine)
        except SafeupdateError as error:
            self.problems.append(str(error))
        self._permits = allowed, rejected

    def _parts(self) -> Mapping[str, str]:
        try:
            return parts_now(self.machine, self.history)
        except SafeupdateError as error:
            self._problem(f"What the next boot is made of cannot be seen: {error}.")
            return {}

    def _is_due(self, before: Gate) -> bool:
        """Whether a verdict is to be had anew though nothing changed."""
        if before.verdict == "pending" or (self._confirmed and not before.confirmed):
            return True
        age = _age(before.judged.time, self.host.now())
        return before.verdict == "unknown" and not timedelta(0) <= age < timedelta(
            seconds=configuration.seconds(self.config.gate.recheck)
        )

    @property
    def _confirmed(self) -> bool:
        boot = self.history.boot(self.boot_id)
        return boot is not None and boot.confirmed is not None

    # -- the verdict -------------------------------------------------------------------------------------------

    def _pending(self) -> Judged:
        """Not judged since it changed; what is known of the last time serves to name it."""
        last = self.before.judged if self.before is not None else Judged("pending", "")
        return replace(last, verdict="pending", time=self.host.time, blockers=(), blocker_ids=())

    def _judged(self, parts: Mapping[str, str]) -> tuple[Judged, Report | None]:
        try:
            report = self.look()
        except SafeupdateError as error:
            judged = Judged("unknown", self.host.time, blockers=(f"It could not be judged: {error}.",))
            return self._stands_by(judged, parts), None
        self.history = reading.read(self.machine)
        return self._stands_by(judged_by(report, waits.of(self.machine, report)), report.fingerprint), report

    def _stands_by(self, judged: Judged, parts: Mapping[str, str]) -> Judged:
        """Something that was judged unsafe, and of which nothing changed since, is not let go because it could not be
        judged again: a time-out, memory, a file that was busy."""
        if judged.verdict != "unknown" or not parts:
            return judged
        digest = fingerprint.digest(parts)
        decided = [row for row in self.history.checks if row.fingerprint == digest and row.verdict != "unknown"]
        if judged.kernel is not None:
            decided = [row for row in decided if row.release == judged.kernel]
        if not decided or decided[0].verdict != "unsafe":
            return judged
        said = "It was judged unsafe before, and nothing has changed since; this time it could not be told."
        return replace(judged, verdict="unsafe", blockers=(said, *judged.blockers))

    def _mode(self, report: Report | None) -> policy.Mode:
        before = self.before.mode if self.before is not None else self.memory.mode
        if report is None:
            return before
        judged_safe = self.memory.armed_boot == self.boot_id or self._running_is_safe(report)
        mode = policy.mode(Evidence(report.target.loader, judged_safe, self._confirmed, before))
        if mode == "armed" and judged_safe:
            self.memory = replace(self.memory, armed_boot=self.boot_id)
        return mode

    def _running_is_safe(self, report: Report) -> bool:
        """Whether the boot that is running, and is known to have come up, was judged safe with the files that it used:
        as what starts next, now or before, or as the fallback, of which the same is asked."""
        boot = self.history.boot(self.boot_id)
        if boot is None or boot.confirmed is None:
            return False
        if report.fallback.kernel == boot.release and report.fallback.quality == "proven":
            return True
        for row in self.history.checks:
            same = boot.parts and all(row.parts.get(part) == boot.parts.get(part) for part in _FILES)
            if same and (row.verdict, row.release, row.entry) == ("safe", boot.release, boot.entry):
                return True
        if report.verdict != "safe" or report.target.kernel != boot.release:
            return False
        _, plan = find_plan(self.machine, Volumes(self.machine), without=steering.read(self.machine))
        hasher = Hasher(self.machine, self.history.hashes)
        return any(
            entry.id == report.target.entry and control.proven(self.machine, self.history, hasher, entry, boot.release)
            for entry in plan.entries
        )

    # -- what is done ------------------------------------------------------------------------------------------

    def _set(self, judged: Judged, parts: Mapping[str, str], mode: policy.Mode, report: Report | None = None) -> Gate:
        """Levers first, then what is told, and the state last."""
        self._remember_fallback(judged, report)
        gate = self._decided(judged, parts, mode, self.before.levers if self.before is not None else self._states())
        wanted, order = self._wanted(gate), _order(gate, report)
        armed = mode == "armed"
        gate = replace(gate, levers=self._pull(wanted, order, armed=armed))
        again = self._decided(judged, parts, mode, gate.levers)
        if self._wanted(again) != wanted:  # the hold on the default, which a rejected kernel hangs on, came or went
            gate = replace(again, levers=self._pull(self._wanted(again), order, armed=armed))
        self._tell(gate)
        gate = replace(gate, problems=tuple(dict.fromkeys(self.problems)))
        self._remember(replace(self.memory, mode=mode))
        try:
            state.store(self.host, gate)
        except SafeupdateError as error:
            self._problem(f"How the gate stands cannot be written down: {error}.")
            gate = replace(gate, problems=tuple(dict.fromkeys(self.problems)))
        self.before = gate
        return gate

    def _states(self) -> dict[str, State]:
        return {lever.name: self._ask(lever, lever.state) for lever in self.levers}

    def _pull(self, wanted: Wanted, order: Order, *, armed: bool) -> dict[str, State]:
        """Every lever in its place: what is to be held first."""
        settings = self.config.gate
        used = {
            one.name: one.name not in settings.off and (not one.opt_in or one.name in settings.also)
            for one in self.levers
        }
        moves = {name: wanted.levers.get(name, "open") if use else "open" for name, use in used.items()}
        states: dict[str, State] = {}
        for lever in self.levers:
            if moves[lever.name] == "closed":
                states[lever.name] = self._ask(lever, lever.close, order, acts=True)
            elif moves[lever.name] == "leave":
                states[lever.name] = self._ask(lever, lever.state)
        for lever in reversed(self.levers):
            if moves[lever.name] == "open":
                states[lever.name] = self._ask(lever, lever.open, acts=True)
                ready = armed and used[lever.name] and states[lever.name].position == "open"
                if ready and lever.prepare is not None:
                    states[lever.name] = self._ask(lever, lever.prepare, acts=True)
                if states[lever.name].position == "closed":
                    self._problem(f"The lever {lever.name} still holds: {states[lever.name].words}")
        return {name: states[name] for name, use in used.items() if use or states[name].position == "closed"}

    def _ask(self, lever: Lever, act: Callable[..., State], *order: Order, acts: bool = False) -> State:
        try:
            return act(self.host, *order)
        except SafeupdateError as error:
            if acts:
                self._problem(f"The lever {lever.name} could not be set: {error}.")
            return State("refused", f"{error}.")

    def _wanted(self, gate: Gate) -> Wanted:
        return policy.decide(self._situation(gate))

    def _situation(self, gate: Gate) -> Situation:
        judged, rejected = gate.judged, self._permits[1]
        names = [one.kernel for one in rejected or ()]
        shut = self.before is not None and not self.before.people
        return Situation(
            verdict=gate.verdict,
            mode=gate.mode,
            allowed=gate.allowed is not None,
            rejected=judged.kernel in names if rejected is not None else None,
            held=gate.held,
            shut=shut,
            attended_only=bool(judged.blocker_ids) and set(judged.blocker_ids) <= _ATTENDED,
            fallback=judged.fallback is not None and judged.fallback not in names,
            had_fallback=self.memory.had_fallback,
            skipped=bool(judged.skipped) and not self.config.gate.trust_skipped,
            offline_update=self._offline_update,
            wanted=self.config.gate.unattended,
        )

    @cached_property
    def _offline_update(self) -> bool:
        try:
            return systemd.runs(self.machine) and systemd.offline_update(self.host)
        except SafeupdateError:
            return False

    def _decided(
        self, judged: Judged, parts: Mapping[str, str], mode: policy.Mode, levers: Mapping[str, State]
    ) -> Gate:
        """The gate as it is to stand, with the levers as they are."""
        gate = Gate(
            position="open",
            mode=mode,
            verdict=judged.verdict,
            cause="pending",
            unattended=False,
            people=True,
            why="",
            since=self.host.time,
            boot_id=self.boot_id,
            confirmed=self._confirmed,
            judged=judged,
            fingerprint=parts,
            levers=levers,
            allowed=self._allowed(parts),
            rejected=self._rejected(judged),
            came_back=self._came_back(),
        )
        wanted = self._wanted(gate)
        gate = replace(
            gate,
            position="closed" if mode == "armed" and not (wanted.unattended and wanted.people) else "open",
            cause=wanted.cause,
            unattended=wanted.unattended,
            people=wanted.people,
        )
        before = self.before
        if before is not None and _standing(before) == _standing(gate):
            gate = replace(gate, since=before.since)
        undecided = gate.verdict in ("pending", "unknown") and gate.cause != "allowed"
        age = _age(gate.since, self.host.now())
        overdue = undecided and age >= timedelta(seconds=configuration.seconds(self.config.gate.deadline))
        gate = replace(gate, overdue=overdue)
        return replace(gate, why=reason(gate))

    def _allowed(self, parts: Mapping[str, str]) -> str | None:
        allowed = self._permits[0]
        if self._exists(WAY_OUT):
            return "`safeupdate-open` was run: nothing is held until the machine restarts"
        if allowed is None or not allowed.is_for(parts, boot_id=self.boot_id, running=self.machine.running_kernel):
            return None
        return f"{allowed.by} allowed it at {allowed.time}: {allowed.reason}"

    def _rejected(self, judged: Judged) -> str | None:
        for one in self._permits[1] or ():
            if one.kernel == judged.kernel:
                return f"{one.by} rejected {one.kernel} at {one.time}: {one.reason}"
        return None

    def _exists(self, path: str) -> bool:
        try:
            return self.machine.exists(path)
        except SafeupdateError:
            return False

    def _came_back(self) -> str | None:
        """That this boot is not the one that was to be."""
        if self.before is not None:
            return self.before.came_back
        intended, running = self.memory.intended, self.machine.running_kernel
        if self.memory.intended_boot in (None, self.boot_id) or None in (intended, running) or intended == running:
            return None
        return f"This machine came back on {running}, and not on {intended}, which was to start next."

    # -- what is remembered and told ---------------------------------------------------------------------------

    def _remember_fallback(self, judged: Judged, report: Report | None) -> None:
        """Whether there is another kernel to go back to, from the last good boot on."""
        if report is None:
            return
        has, memory = judged.fallback is not None, self.memory
        if self._confirmed and memory.fallback_boot != self.boot_id:
            self.memory = replace(memory, had_fallback=has, fallback_boot=self.boot_id)
        elif has:
            self.memory = replace(memory, had_fallback=True)

    def _remember(self, memory: Memory) -> None:
        self.memory = memory
        try:
            if state.remembered(self.machine) == memory:
                return
        except SafeupdateError:
            pass
        try:
            state.remember(self.host, memory)
        except SafeupdateError as error:
            self._problem(f"What is to outlast a reboot cannot be written down: {error}.")

    def _tell(self, gate: Gate) -> None:
        needs_person = gate.mode == "armed" and (gate.cause == "unsafe" or gate.overdue)
        sentence = headline(gate)
        before = self.before
        if before is None or (_standing(before), before.overdue) != (_standing(gate), gate.overdue):
            fields = {
                "GATE": gate.position,
                "MODE": gate.mode,
                "VERDICT": gate.verdict,
                "CAUSE": gate.cause,
                "UNATTENDED": "yes" if gate.unattended else "no",
                "KERNEL": gate.judged.kernel or "",
                "FALLBACK": gate.judged.fallback or "",
            }
            priority = "alarm" if needs_person else gate.position
            tell.journal(self.host, priority, sentence, fields)
        lines = [sentence, "`safeupdate status` tells more."]
        for path, wanted in ((tell.MOTD, gate.position == "closed" or gate.overdue), (tell.ALARM, needs_person)):
            try:
                tell.show(self.host, path, lines if wanted else [])
            except SafeupdateError as error:
                self._problem(f"{path} cannot be kept: {error}.")
        if gate.verdict != "pending":
            self.memory = replace(self.memory, intended=gate.judged.kernel, intended_boot=self.boot_id)
            told = "/".join((gate.position, gate.mode, gate.verdict, gate.cause, gate.judged.kernel or ""))
            if told != self.memory.told:
                self._record(f"gate-{gate.position}", sentence)
                self.memory = replace(self.memory, told=told)

    def _record(self, kind: str, sentence: str) -> None:
        from safeupdate.ledger import writing

        for problem in writing.record_event(
            self.machine, kind, sentence, time=self.host.time, keep_days=self.config.ledger.keep_days
        ):
            self._problem(problem)

    def _problem(self, sentence: str) -> None:
        self.problems.append(sentence)


def judged_by(report: Report, waits_for: tuple[str, ...] = ()) -> Judged:
    """What the gate needs of a report."""
    blocking = [one for result in report.checks for one in result.findings if one.level == "blocker"]
    undecided = [
        one for result in report.checks if result.essential for one in result.findings if one.level == "unknown"
    ]
    told = blocking or (undecided if report.verdict == "unknown" else [])
    return Judged(
        verdict=report.verdict,
        time=report.time,
        kernel=report.target.kernel,
        loader=report.target.loader,
        entry=report.target.entry,
        title=report.target.title,
        fallback=report.fallback.kernel if report.fallback.quality != "none" else None,
        fallback_entry=report.fallback.entry if report.fallback.quality != "none" else None,
        quality=report.fallback.quality,
        blockers=tuple(finding.problem for finding in told),
        blocker_ids=tuple(finding.id for finding in blocking),
        skipped=tuple(result.id for result in report.checks if result.essential and result.outcome == "skipped"),
        waits=waits_for,
    )


def _order(gate: Gate, report: Report | None) -> Order:
    judged = gate.judged
    return Order(why=gate.why, report=report, fallback=judged.fallback_entry, release=judged.fallback)


def _standing(gate: Gate) -> tuple[str, ...]:
    """What makes a change of the gate. What is not decided yet may be so for several reasons in turn."""
    if gate.verdict in ("pending", "unknown") and gate.cause in ("pending", "unknown"):
        return gate.position, gate.mode, "undecided"
    return gate.position, gate.mode, gate.verdict, gate.cause, gate.judged.kernel or ""


def _age(since: str, now: datetime) -> timedelta:
    """How long ago, negative after the clock was set back; what is no time is long ago."""
    try:
        return now - datetime.fromisoformat(since)
    except (ValueError, TypeError):
        return timedelta.max
