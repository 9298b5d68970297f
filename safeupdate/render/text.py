"""The report for a person: the verdict, each problem with the command that mends it, one line for the rest."""

from __future__ import annotations

import shlex
import textwrap
from collections.abc import Iterator

from safeupdate.render import visible
from safeupdate.report import CheckResult, Finding, Level, Report

WIDTH = 80

_STYLES = {
    "safe": "1;32",
    "unsafe": "1;31",
    "unknown": "1;33",
    "blocker": "31",
    "warning": "33",
    "note": "2",
    "bold": "1",
}
"""ECMA-48 graphic renditions."""

_MARKS: dict[Level, str] = {"blocker": "BLOCKER", "unknown": "UNKNOWN", "warning": "warning", "note": "note"}
_ORDER: tuple[Level, ...] = ("blocker", "unknown", "warning", "note")


def render(
    report: Report, *, colour: bool = False, verbose: bool = False, quiet: bool = False, width: int = WIDTH
) -> str:
    """The report as lines of at most `width` columns; commands and long names stay whole. `quiet`: the verdict."""
    pen = _Pen(colour, min(width, 100))
    lines = [*_head(report, pen)]
    if not quiet:
        if report.target.why:
            lines += pen.wrap(f"Next: {report.target.why}", "  ", "  ")
        findings = [(result, finding) for result in report.checks for finding in result.findings]
        for level in _ORDER:
            for result, finding in findings:
                if finding.level == level and (verbose or not _kept_back(finding)):
                    lines += ["", *_finding(result, finding, pen, verbose)]
        lines += ["", *_foot(report, pen, verbose)]
    return "\n".join(lines) + "\n"


class _Pen:
    """Colour and width."""

    def __init__(self, colour: bool, width: int) -> None:
        self._colour = colour
        self._width = width

    def style(self, name: str, text: str) -> str:
        return f"\x1b[{_STYLES[name]}m{text}\x1b[0m" if self._colour and name in _STYLES else text

    def wrap(self, text: str, indent: str = "", hanging: str | None = None) -> list[str]:
        return textwrap.wrap(
            visible(text),
            self._width,
            initial_indent=indent,
            subsequent_indent=indent if hanging is None else hanging,
            break_long_words=False,
            break_on_hyphens=False,
        ) or [indent.rstrip()]


def _head(report: Report, pen: _Pen) -> Iterator[str]:
    word = pen.style(report.verdict, report.verdict.upper())
    sentence = _sentence(report)
    first, *rest = pen.wrap(f"{report.verdict.upper()}: {sentence}")
    yield first.replace(report.verdict.upper(), word, 1)
    yield from rest


def _sentence(report: Report) -> str:
    kernel, target = report.target.kernel, report.target
    if kernel is None:
        return {
            "safe": "everything that was asked for is there.",
            "unsafe": "do not reboot: the boot loader has nothing that it can start.",
            "unknown": "which kernel boots next could not be told.",
        }[report.verdict]
    skipped = [result.id for result in report.checks if result.outcome == "skipped" and result.essential]
    findings = [finding for result in report.checks for finding in result.findings]
    lowered = any(one.lowered is not None and one.lowered.level in ("blocker", "unknown") for one in findings)
    there = (
        f"everything {'that was looked at' if skipped else 'it needs'} is there"
        f"{', but for what is told with less weight here' * lowered}"
        f"{'; not looked at: ' + ', '.join(skipped) if skipped else ''}."
    )
    if target.held:
        instead = f"safeupdate holds the default on {target.actual_kernel or target.actual_next}, which starts next"
        return {
            "safe": f"{kernel} may boot, and {there} Still {instead}.",
            "unsafe": f"{kernel} will fail to boot or lose something it needs; {instead}.",
            "unknown": f"whether {kernel} comes up could not be told; {instead}.",
        }[report.verdict]
    return {
        "safe": f"the next boot starts {kernel}, and {there}",
        "unsafe": f"do not reboot: the next boot ({kernel}) will fail or lose something it needs.",
        "unknown": f"whether the next boot ({kernel}) comes up could not be told.",
    }[report.verdict]


def _finding(result: CheckResult, finding: Finding, pen: _Pen, verbose: bool) -> Iterator[str]:
    mark = _MARKS[finding.level]
    first, *rest = pen.wrap(f"{mark}: {finding.problem}", "", "  ")
    yield first.replace(mark, pen.style(finding.level if finding.level in _STYLES else "unknown", mark), 1)
    yield from rest
    if finding.lowered is not None:
        source = f" ({finding.lowered.source})" if finding.lowered.source is not None else ""
        reason = finding.lowered.reason.rstrip(".")
        yield from pen.wrap(f"Lowered from {finding.lowered.level}: {reason}{source}.", "  ")
    if finding.consequence:
        yield from pen.wrap(finding.consequence, "  ")
    if finding.remedy.text:
        yield from pen.wrap(finding.remedy.text, "  ")
    for command in finding.remedy.commands:
        yield "      " + pen.style("bold", visible(shlex.join(command)))
    if verbose:
        yield from pen.wrap(f"[{finding.id}, check {result.id}]", "  ")
        for line in finding.evidence:
            yield from pen.wrap(line, "  | ")


def _foot(report: Report, pen: _Pen, verbose: bool) -> Iterator[str]:
    passed = [result.id for result in report.checks if result.outcome == "passed"]
    warned = [result.id for result in report.checks if result.outcome == "warned"]
    if passed:
        yield from pen.wrap(f"Passed: {', '.join(passed)}.", "", "  ")
    if warned:
        yield from pen.wrap(f"Passed with warnings: {', '.join(warned)}.", "", "  ")
    for result in report.checks:
        if result.outcome in ("not-applicable", "skipped"):
            yield from pen.wrap(f"{result.outcome.capitalize()}: {result.id} ({result.reason}).", "", "  ")
    yield from pen.wrap(_fallback(report), "", "  ")
    if report.boot_path:
        yield from pen.wrap("Boot path: " + " → ".join(report.boot_path), "", "  ")
    for warning in report.warnings:
        first, *rest = pen.wrap(f"warning: {warning}", "", "  ")
        yield first.replace("warning", pen.style("warning", "warning"), 1)
        yield from rest
    notes = sum(_kept_back(finding) for result in report.checks for finding in result.findings)
    if notes and not verbose:
        yield pen.style("note", f"{notes} note{'s' if notes > 1 else ''}: see --verbose.")


def _kept_back(finding: Finding) -> bool:
    """Told with --verbose only. What a rule made a note is always told, with the rule's reason."""
    return finding.level == "note" and finding.lowered is None


def _fallback(report: Report) -> str:
    fallback = report.fallback
    if fallback.quality == "none":
        return "Fallback: none."
    known = {"proven": "proven", "booted-before": "has booted before", "unproven": "never seen to boot"}[
        fallback.quality
    ]
    way = {"automatic": "taken by itself", "manual": "chosen in the boot menu", "none": "out of reach"}[
        fallback.recovery
    ]
    return f"Fallback: {fallback.kernel} ({known}; {way})."
