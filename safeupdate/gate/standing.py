"""How the gate is to stand, from what is known and what was judged."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta

from safeupdate import config as configuration
from safeupdate.config import GateSettings
from safeupdate.gate import policy
from safeupdate.gate.host import Host
from safeupdate.gate.known import Known
from safeupdate.gate.lever import State
from safeupdate.gate.policy import Mode, Situation, Wanted
from safeupdate.gate.state import Gate, Judged
from safeupdate.gate.words import reason

_ATTENDED = frozenset({"kernel-signature.key-pending", "module-signatures.pending-key"})
"""What a person mends at the console, in MokManager, on the way of a reboot that nothing may then hold back."""


def decided(
    host: Host,
    known: Known,
    settings: GateSettings,
    judged: Judged,
    parts: Mapping[str, str],
    mode: Mode,
    levers: Mapping[str, State],
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
        since=host.time,
        boot_id=known.boot_id,
        confirmed=known.confirmed,
        judged=judged,
        fingerprint=parts,
        levers=levers,
        allowed=known.permission(host.machine, parts),
        rejected=known.rejection(judged),
        came_back=known.came_back(),
    )
    called_for = wanted(known, settings, gate)
    through = called_for.unattended and called_for.people
    gate = replace(
        gate,
        position="closed" if mode == "armed" and not through else "open",
        cause=called_for.cause,
        unattended=called_for.unattended,
        people=called_for.people,
    )
    if known.before is not None and kind(known.before) == kind(gate):
        gate = replace(gate, since=known.before.since)
    undecided = gate.verdict in ("pending", "unknown") and gate.cause != "allowed"
    deadline = timedelta(seconds=configuration.seconds(settings.deadline))
    gate = replace(gate, overdue=undecided and _age(gate.since, host.now()) >= deadline)
    return replace(gate, why=reason(gate))


def wanted(known: Known, settings: GateSettings, gate: Gate) -> Wanted:
    """What the policy calls for."""
    judged, names = gate.judged, [one.kernel for one in known.rejected or ()]
    return policy.decide(
        Situation(
            verdict=gate.verdict,
            mode=gate.mode,
            allowed=gate.allowed is not None,
            rejected=judged.kernel in names if known.rejected is not None else None,
            held=gate.held,
            shut=known.before is not None and not known.before.people,
            attended_only=bool(judged.blocker_ids) and set(judged.blocker_ids) <= _ATTENDED,
            fallback=judged.fallback is not None and judged.fallback not in names,
            had_fallback=known.memory.had_fallback,
            skipped=bool(judged.skipped) and not settings.trust_skipped,
            unprotected=bool(judged.unprotected),
            offline_update=known.offline_update,
            wanted=settings.unattended,
        )
    )


def is_due(known: Known, settings: GateSettings, before: Gate, now: datetime) -> bool:
    """Whether a verdict is to be had anew though nothing changed."""
    if before.verdict == "pending" or before.judged.unprotected or (known.confirmed and not before.confirmed):
        return True
    age, recheck = _age(before.judged.time, now), timedelta(seconds=configuration.seconds(settings.recheck))
    return before.verdict == "unknown" and not timedelta(0) <= age < recheck


def kind(gate: Gate) -> tuple[str, ...]:
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
