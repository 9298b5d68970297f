"""What a check said, as far as the gate goes by it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from safeupdate import fingerprint
from safeupdate.gate.state import Judged
from safeupdate.ledger.reading import History
from safeupdate.report import Report


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


def not_yet(last: Judged | None, time: str) -> Judged:
    """Not judged since it changed; what is known of the last time serves to name it."""
    return replace(last or Judged("pending", ""), verdict="pending", time=time, blockers=(), blocker_ids=())


def stands_by(judged: Judged, parts: Mapping[str, str], history: History) -> Judged:
    """Something that was judged unsafe, and of which nothing changed since, is not let go because it could not be
    judged again: a time-out, memory, a file that was busy."""
    if judged.verdict != "unknown" or not parts:
        return judged
    digest = fingerprint.digest(parts)
    decided = [row for row in history.checks if row.fingerprint == digest and row.verdict != "unknown"]
    if judged.kernel is not None:
        decided = [row for row in decided if row.release == judged.kernel]
    if not decided or decided[0].verdict != "unsafe":
        return judged
    said = "It was judged unsafe before, and nothing has changed since; this time it could not be told."
    return replace(judged, verdict="unsafe", blockers=(said, *judged.blockers))
