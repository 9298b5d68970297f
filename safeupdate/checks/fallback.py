"""Is there another kernel to go back to? The same checks were asked of it; this one tells what came out."""

from __future__ import annotations

from collections.abc import Iterator

from safeupdate.case import Case, Check, Fallback
from safeupdate.report import Finding, NotApplicable, Remedy, note, unknown, verdict_of, warning

_CAP = 3


def check(case: Case) -> Iterator[Finding]:
    """The best other entry, or why there is none."""
    if case.entry is None:
        raise NotApplicable("it is not known which entry boots next")
    fallback = case.fallback
    if fallback is None:
        yield _none(case)
        return
    release = fallback.entry.release or fallback.entry.title
    if fallback.quality == "unproven":
        yield note(
            "fallback.unproven",
            release,
            f"The fallback {release} passes the same checks, but no boot of it is known.",
            "It should start; nothing proves it.",
        )
    if fallback.recovery == "manual":
        yield note(
            "fallback.manual",
            release,
            f'If the next boot fails, a person has to choose "{fallback.entry.title}" in the boot menu.',
        )


def _none(case: Case) -> Finding:
    if not case.tried:
        return warning(
            "fallback.none",
            case.release or "",
            "The boot menu has no other kernel release than the one that boots next.",
            "If it fails, the machine has to be mended from a rescue system.",
            remedy=Remedy("Keep the previous kernel installed."),
        )
    evidence = []
    for tried in case.tried:
        evidence += [f'"{tried.entry.title}": {_why(tried)}']
    subject = ", ".join(tried.entry.release or tried.entry.title for tried in case.tried[:_CAP])
    if any(tried.recovery != "none" and verdict_of(tried.results) == "unknown" for tried in case.tried):
        return unknown(
            "fallback.not-known",
            subject,
            "Whether another kernel in the boot menu passes the same checks could not be told.",
            "There may be no way back if the next boot fails.",
            evidence=evidence,
        )
    return warning(
        "fallback.broken",
        subject,
        "No other kernel in the boot menu passes the same checks.",
        "If the next boot fails, the machine has to be mended from a rescue system.",
        evidence=evidence,
    )


def _why(tried: Fallback) -> str:
    for level in ("blocker", "unknown"):
        for result in tried.results:
            for finding in result.findings:
                if finding.level == level:
                    return finding.problem
    return "it cannot be reached from the boot menu"


CHECK = Check("fallback", "There is a way back", essential=False, run=check, per_entry=False)
