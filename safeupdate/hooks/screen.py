"""What a hook says: one screen at most, among the words of a package manager."""

from __future__ import annotations

import shlex
import textwrap
from collections.abc import Iterable, Iterator

from safeupdate.gate.state import Gate
from safeupdate.gate.words import held_back
from safeupdate.hooks.preflight import Concern
from safeupdate.render import visible
from safeupdate.render.text import WIDTH, render
from safeupdate.report import Finding, Remedy, Report

_SHOWN = 3
"""Problems that are told with what helps; the check itself tells of more."""


def before(concerns: Iterable[Concern], *, refused: bool) -> Iterator[str]:
    """What is wrong with a transaction; nothing where nothing is."""
    concerns = list(concerns)
    for one in concerns:
        yield from _wrap(f"safeupdate: {one.problem}")
        yield from _wrap(one.consequence, "  ")
        yield from _help(one.remedy)
    if refused:
        yield from _wrap(
            "safeupdate: nothing was changed: this is refused, as `preflight` in [hooks] of the configuration says. To "
            'do it all the same, set preflight = "warn" there.'
        )


def sentences(*texts: str) -> Iterator[str]:
    """Each for itself; empty ones are left out."""
    for text in texts:
        if text:
            yield from _wrap(f"safeupdate: {text}")


def after(report: Report, gate: Gate, *, colour: bool = False) -> Iterator[str]:
    """What became of the next boot: the verdict, what is wrong, and whether reboots are held back."""
    if gate.verdict == "pending":
        yield from _wrap(
            "safeupdate: what boots next changed again while it was looked at, and is not judged yet. It is looked at "
            "again by itself."
        )
        return
    verdict = " ".join(render(report, quiet=True).split())
    yield from _coloured(_wrap(f"safeupdate: {verdict}"), report, colour=colour)
    told = [one for one in _findings(report) if one.level == "blocker"]
    told = told or [one for one in _findings(report, essential=True) if one.level == "unknown"]
    for one in told[:_SHOWN]:
        yield from _wrap(one.problem, "  ")
        yield from _help(one.remedy)
    warned = sum(one.level == "warning" for one in _findings(report))
    more = len(told) - _SHOWN
    if more > 0 or warned:
        parts = [f"{more} more such findings"] * (more > 0) + [f"{warned} warning{'s' * (warned > 1)}"] * (warned > 0)
        yield from _wrap(f"{' and '.join(parts)}: safeupdate check", "  ")
    if gate.position == "closed":
        held = held_back(gate)
        yield from _wrap(f"{held[0].upper()}{held[1:]}: safeupdate status", "  ")


def _findings(report: Report, *, essential: bool = False) -> Iterator[Finding]:
    for result in report.checks:
        if result.essential or not essential:
            yield from result.findings


def _coloured(lines: Iterable[str], report: Report, *, colour: bool) -> Iterator[str]:
    if not colour:
        yield from lines
        return
    word = report.verdict.upper()
    number = {"safe": 32, "unsafe": 31, "unknown": 33}[report.verdict]
    first, *rest = lines
    yield first.replace(word, f"\x1b[1;{number}m{word}\x1b[0m", 1)
    yield from rest


def _help(remedy: Remedy) -> Iterator[str]:
    if remedy.text:
        yield from _wrap(remedy.text, "  ")
    for command in remedy.commands:
        yield "      " + visible(shlex.join(command))


def _wrap(text: str, indent: str = "") -> list[str]:
    return textwrap.wrap(
        visible(text),
        WIDTH,
        initial_indent=indent,
        subsequent_indent=indent or "  ",
        break_long_words=False,
        break_on_hyphens=False,
    )
