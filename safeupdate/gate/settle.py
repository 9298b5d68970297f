"""The one place that acts: what boots next is judged anew where it changed, and the levers are set to the verdict.

`settle` may be killed between any two of its steps. Levers are set before anything is written about them, and the state
is written last, so that the next run sees the same difference and does the same again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from safeupdate.config import DEFAULTS, Config
from safeupdate.errors import SafeupdateError
from safeupdate.gate import arming, lock, policy, pulling, standing, state, tell, verdict, waits
from safeupdate.gate.host import Host
from safeupdate.gate.known import Known, recall
from safeupdate.gate.lever import Lever, Order, State
from safeupdate.gate.levers import LEVERS
from safeupdate.gate.parts import parts_now
from safeupdate.gate.policy import Evidence, Mode, Wanted
from safeupdate.gate.state import Gate, Judged, Memory
from safeupdate.gate.words import headline
from safeupdate.ledger import reading

if TYPE_CHECKING:
    from safeupdate.report import Report

_LOOKS = 3
"""A machine that changes while it is looked at is looked at again; a third change leaves it pending."""


def settle(
    host: Host,
    look: Callable[[], Report],
    *,
    protect: Callable[[Report], str] = lambda _: "",
    spoiled: Callable[[Host, str | None], str] = lambda *_: "",
    config: Config = DEFAULTS,
    force: bool = False,
    levers: Sequence[Lever] = LEVERS,
    lock_seconds: float = lock.SECONDS,
) -> Gate:
    """Set every lever to what the verdict and people call for, and return how the gate stands then.

    `look` judges the machine, and records that; it is called where something changed, where it could not be told for
    long, or with `force`. `protect` makes the way back from what was judged safe anew, before any lever opens; it
    returns the sentence why no machine may reboot by itself yet, or nothing. `spoiled` says why the snapshot that was
    taken for a reboot into this kernel is of no use any more, or nothing; then all is done anew. What could not be done
    is in the gate's `problems`. Raises `SafeupdateError` where another run does not come to its end.
    """
    with lock.alone(host, lock_seconds) as problem:
        problems = [problem] if problem else []
        known = recall(host, problems.append)
        return _Run(host, look, protect, spoiled, config, levers, problems, known).gate(force=force)


@dataclass
class _Run:
    """One run, with the lock held."""

    host: Host
    look: Callable[[], Report]
    protect: Callable[[Report], str]
    spoiled: Callable[[Host, str | None], str]
    config: Config
    levers: Sequence[Lever]
    problems: list[str]
    known: Known

    def gate(self, *, force: bool) -> Gate:
        """Settle."""
        parts = self._parts()
        before = self.known.before
        changed = before is None or before.fingerprint != parts
        if before is not None and not (changed or force or self._is_due(before) or self._is_unprotected(before)):
            return self._set(before.judged, parts, before.mode)
        for _ in range(_LOOKS):
            if changed:
                self._set(self._pending(), parts, self._mode(None))
            judged, report = self._judged(parts)
            seen, parts = parts, self._parts()
            changed = seen != parts
            if not changed:
                if report is not None and judged.verdict == "safe":
                    judged = replace(judged, unprotected=self.protect(report))
                return self._set(judged, parts, self._mode(report), report)
        return self._set(self._pending(), parts, self._mode(None))

    def _parts(self) -> Mapping[str, str]:
        try:
            return parts_now(self.host.machine, self.known.history)
        except SafeupdateError as error:
            self.problems.append(f"What the next boot is made of cannot be seen: {error}.")
            return {}

    def _is_due(self, before: Gate) -> bool:
        return standing.is_due(self.known, self.config.gate, before, self.host.now())

    def _is_unprotected(self, before: Gate) -> bool:
        """Whether the snapshot is lost that the gate stands open with. That is a problem for as long as no other was
        taken, and a reason to do all anew once."""
        if before.cause != "safe" or self.config.snapshots.policy == "off":
            return False
        try:
            lost = self.spoiled(self.host, before.judged.kernel)
        except SafeupdateError as error:
            lost = f"Whether there is a snapshot to go back to cannot be seen: {error}."
        if lost:
            self.problems.append(lost)
        return bool(lost) and lost not in before.problems

    def _pending(self) -> Judged:
        before = self.known.before
        return verdict.not_yet(before.judged if before is not None else None, self.host.time)

    def _judged(self, parts: Mapping[str, str]) -> tuple[Judged, Report | None]:
        try:
            report = self.look()
        except SafeupdateError as error:
            judged = Judged("unknown", self.host.time, blockers=(f"It could not be judged: {error}.",))
            return verdict.stands_by(judged, parts, self.known.history), None
        self.known = replace(self.known, history=reading.read(self.host.machine))
        judged = verdict.judged_by(report, waits.of(self.host.machine, report))
        return verdict.stands_by(judged, report.fingerprint, self.known.history), report

    def _mode(self, report: Report | None) -> Mode:
        known = self.known
        before = known.before.mode if known.before is not None else known.memory.mode
        if report is None:
            return before
        judged_safe = arming.judged_safe(self.host.machine, known, report)
        mode = policy.mode(Evidence(report.target.loader, judged_safe, known.confirmed, before))
        if mode == "armed" and judged_safe:
            self._keep(replace(known.memory, armed_boot=known.boot_id))
        return mode

    def _set(self, judged: Judged, parts: Mapping[str, str], mode: Mode, report: Report | None = None) -> Gate:
        """Levers first, then what is told, and the state last."""
        self._keep_fallback(judged, report)
        before = self.known.before
        levers = before.levers if before is not None else pulling.look(self.host, self.levers)
        gate = self._decided(judged, parts, mode, levers)
        wanted = self._wanted(gate)
        order = Order(gate.why, report, judged.fallback_entry, judged.fallback)
        gate = replace(gate, levers=self._pull(wanted, order, mode))
        again = self._decided(judged, parts, mode, gate.levers)
        if self._wanted(again) != wanted:  # the hold on the default, which a rejected kernel hangs on, came or went
            gate = replace(again, levers=self._pull(self._wanted(again), order, mode))
        self.problems += tell.told(self.host, before, gate)
        self._record(gate)
        gate = replace(gate, problems=tuple(dict.fromkeys(self.problems)))
        self._keep(replace(self.known.memory, mode=mode))
        self._remember()
        try:
            state.store(self.host, gate)
        except SafeupdateError as error:
            self.problems.append(f"How the gate stands cannot be written down: {error}.")
            with suppress(SafeupdateError):
                state.forget(self.host)
        gate = replace(gate, problems=tuple(dict.fromkeys(self.problems)))
        self.known = replace(self.known, before=gate)
        return gate

    def _decided(self, judged: Judged, parts: Mapping[str, str], mode: Mode, levers: Mapping[str, State]) -> Gate:
        return standing.decided(self.host, self.known, self.config.gate, judged, parts, mode, levers)

    def _wanted(self, gate: Gate) -> Wanted:
        return standing.wanted(self.known, self.config.gate, gate)

    def _pull(self, wanted: Wanted, order: Order, mode: Mode) -> dict[str, State]:
        settings, problem = self.config.gate, self.problems.append
        return pulling.pull(self.host, self.levers, settings, wanted, order, armed=mode == "armed", problem=problem)

    def _record(self, gate: Gate) -> None:
        """One row in the ledger for each change that is decided."""
        if gate.verdict == "pending":
            return
        known = self.known
        self._keep(replace(known.memory, intended=gate.judged.kernel, intended_boot=known.boot_id))
        told = "/".join((gate.position, gate.mode, gate.verdict, gate.cause, gate.judged.kernel or ""))
        if told == known.memory.told:
            return
        from safeupdate.ledger import writing

        self.problems += writing.record_event(
            self.host.machine,
            f"gate-{gate.position}",
            headline(gate),
            time=self.host.time,
            keep_days=self.config.ledger.keep_days,
        )
        self._keep(replace(self.known.memory, told=told))

    def _keep_fallback(self, judged: Judged, report: Report | None) -> None:
        """Whether there is another kernel to go back to, from the last good boot on."""
        if report is None:
            return
        has, memory = judged.fallback is not None, self.known.memory
        if self.known.confirmed and memory.fallback_boot != self.known.boot_id:
            self._keep(replace(memory, had_fallback=has, fallback_boot=self.known.boot_id))
        elif has:
            self._keep(replace(memory, had_fallback=True))

    def _keep(self, memory: Memory) -> None:
        """For `_remember`."""
        self.known = replace(self.known, memory=memory)

    def _remember(self) -> None:
        memory = self.known.memory
        try:
            if state.remembered(self.host.machine) == memory:
                return
        except SafeupdateError:
            pass
        try:
            state.remember(self.host, memory)
        except SafeupdateError as error:
            self.problems.append(f"What is to outlast a reboot cannot be written down: {error}.")
