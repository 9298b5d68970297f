"""What a check says and what a whole run adds up to: values that every renderer draws from.

The words (level, outcome, verdict, quality) are the contract's; see `docs/architecture.md`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from typing import Literal

Level = Literal["blocker", "unknown", "warning", "note"]
Outcome = Literal["passed", "warned", "failed", "unknown", "not-applicable", "skipped"]
Verdict = Literal["safe", "unsafe", "unknown"]
Quality = Literal["proven", "booted-before", "unproven", "none"]
Recovery = Literal["automatic", "manual", "none"]


def rfc3339(moment: datetime) -> str:
    """The time as all are written down: RFC 3339 in UTC, to the second, so that they compare as texts."""
    return moment.astimezone(timezone.utc).isoformat(timespec="seconds")


EXIT_CODES: dict[Verdict, int] = {"safe": 0, "unsafe": 1, "unknown": 3}


@dataclass(frozen=True)
class Remedy:
    """What helps: a sentence, and the commands, each a list of arguments ready to run."""

    text: str = ""
    commands: tuple[tuple[str, ...], ...] = ()


@dataclass(frozen=True)
class Lowered:
    """What the check itself said, and why this machine tells it with less weight. `source` is the file that says so;
    None for a baseline finding: the boot that is running now has the same, and came up."""

    level: Level
    reason: str
    source: str | None = None


@dataclass(frozen=True)
class Finding:
    """One answer worth telling."""

    id: str
    level: Level
    subject: str
    problem: str
    consequence: str = ""
    evidence: tuple[str, ...] = ()
    remedy: Remedy = Remedy()
    lowered: Lowered | None = None

    @property
    def baseline(self) -> bool:
        """Whether the running boot has it too."""
        return self.lowered is not None and self.lowered.source is None

    def at(self, level: Level, lowered: Lowered) -> Finding:
        """The same finding, told at a lower level."""
        return replace(self, level=level, lowered=lowered)


def blocker(
    id: str, subject: str, problem: str, consequence: str, *, evidence: Iterable[str] = (), remedy: Remedy = Remedy()
) -> Finding:
    """The next boot will fail, or come back without something that is needed."""
    return Finding(id, "blocker", subject, problem, consequence, tuple(evidence), remedy)


def unknown(
    id: str, subject: str, problem: str, consequence: str, *, evidence: Iterable[str] = (), remedy: Remedy = Remedy()
) -> Finding:
    """A question that could not be answered; never a pass and never a failure."""
    return Finding(id, "unknown", subject, problem, consequence, tuple(evidence), remedy)


def warning(
    id: str, subject: str, problem: str, consequence: str, *, evidence: Iterable[str] = (), remedy: Remedy = Remedy()
) -> Finding:
    """Worth mending; the next boot does not hang on it."""
    return Finding(id, "warning", subject, problem, consequence, tuple(evidence), remedy)


def note(
    id: str,
    subject: str,
    problem: str,
    consequence: str = "",
    *,
    evidence: Iterable[str] = (),
    remedy: Remedy = Remedy(),
) -> Finding:
    """Worth knowing, nothing to do."""
    return Finding(id, "note", subject, problem, consequence, tuple(evidence), remedy)


class NotApplicable(Exception):
    """Raised by a check whose question does not arise here; the message says why."""


@dataclass(frozen=True)
class CheckResult:
    """One check's answer."""

    id: str
    title: str
    essential: bool
    outcome: Outcome
    findings: tuple[Finding, ...] = ()
    reason: str | None = None
    seconds: float = 0.0


def outcome_of(findings: Iterable[Finding]) -> Outcome:
    """The worst of the levels, as an outcome."""
    levels = {finding.level for finding in findings}
    if "blocker" in levels:
        return "failed"
    if "unknown" in levels:
        return "unknown"
    return "warned" if "warning" in levels else "passed"


def verdict_of(results: Iterable[CheckResult]) -> Verdict:
    """`unsafe` with any failed check, else `unknown` with an essential one that could not tell, else `safe`."""
    results = tuple(results)
    if any(result.outcome == "failed" for result in results):
        return "unsafe"
    if any(result.outcome == "unknown" and result.essential for result in results):
        return "unknown"
    return "safe"


@dataclass(frozen=True)
class MachineFacts:
    """What was judged."""

    root: str
    distribution: str | None
    architecture: str | None
    firmware: Literal["uefi", "bios", "unknown"]
    secure_boot: bool | None
    running_kernel: str | None


@dataclass(frozen=True)
class Target:
    """What boots next and why; `actual_next` differs from `entry` only while a lever of ours holds the default."""

    kernel: str | None
    loader: str | None
    entry: str | None
    title: str | None
    why: str
    actual_next: str | None
    actual_kernel: str | None = None

    @property
    def held(self) -> bool:
        """Whether another entry starts than the one that is judged."""
        return self.actual_next is not None and self.actual_next != self.entry


@dataclass(frozen=True)
class FallbackFacts:
    """The way back through the boot menu."""

    kernel: str | None = None
    entry: str | None = None
    quality: Quality = "none"
    recovery: Recovery = "none"


@dataclass(frozen=True)
class Report:
    """One run of `check`."""

    version: str
    time: str
    machine: MachineFacts
    target: Target
    fallback: FallbackFacts
    verdict: Verdict
    checks: tuple[CheckResult, ...]
    boot_path: tuple[str, ...] = ()
    fingerprint: Mapping[str, str] = field(default_factory=dict)
    """What the verdict belongs to, part by part; empty for a tree."""
    warnings: tuple[str, ...] = ()
    """What went wrong beside the question: a configuration that is for root only, a check that was not recorded."""
