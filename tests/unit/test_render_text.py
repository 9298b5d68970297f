from __future__ import annotations

import re
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from safeupdate.render import plain, visible
from safeupdate.render.text import render
from safeupdate.report import CheckResult, Lowered, Remedy, Report, Verdict, blocker
from tests.unit.reports import EMPTY, FULL

COLOUR = re.compile("\x1b\\[[0-9;]*m")


@pytest.mark.parametrize("verbose", [False, True])
@pytest.mark.parametrize("report", [FULL, EMPTY])
def test_eighty_columns(report: Report, verbose: bool) -> None:
    text = render(report, verbose=verbose)
    assert text.endswith("\n")
    assert all(len(line) <= 80 for line in text.split("\n"))
    assert all(len(line) <= 40 or "apt-get" in line for line in render(report, width=40, verbose=verbose).split("\n"))


def test_the_order_of_a_report() -> None:
    text = render(FULL)
    order = [
        "UNSAFE: do not reboot",
        "BLOCKER: ",
        "Install it again.",
        "      apt-get install --reinstall 'linux image'\n",
        "UNKNOWN: ",
        "warning: ",
        "Passed: boot-entry.",
        "Not-applicable: fallback (no entry is known).",
        "Fallback: 6.1.0-50-amd64",
        "Boot path: UEFI → GRUB → ",
        "1 note: see --verbose.",
    ]
    places = [text.index(words) for words in order]
    assert places == sorted(places)
    assert "kernel-files.no-config" not in text
    assert "0 bytes" not in text


def test_verbose_and_quiet() -> None:
    verbose = render(FULL, verbose=True)
    assert "note: This sentence" in verbose
    assert "[kernel-files.image-empty, check kernel-files]" in verbose
    assert "  | 0 bytes" in verbose
    quiet = render(FULL, quiet=True)
    assert quiet.startswith("UNSAFE: ")
    assert "BLOCKER" not in quiet
    assert len(quiet.splitlines()) <= 4


def test_safe_says_what_was_not_looked_at_and_what_was_lowered() -> None:
    def head(*checks: CheckResult) -> str:
        return " ".join(render(replace(FULL, verdict="safe", checks=checks), quiet=True).split())

    lowered = blocker("b.x", "x", "x", "x").at("warning", Lowered("blocker", "known", "/etc/safeupdate.toml"))
    skipped = CheckResult("a", "", True, "skipped", reason="on purpose")
    told = CheckResult("b", "", True, "warned", (lowered,))
    assert head().endswith("and everything it needs is there.")
    assert head(replace(skipped, essential=False)).endswith("and everything it needs is there.")
    assert head(skipped).endswith("and everything that was looked at is there; not looked at: a.")
    assert head(told).endswith("and everything it needs is there, but for what is told with less weight here.")


@pytest.mark.parametrize(
    ("reason", "source", "line"),
    [
        ("it came up", None, "it came up."),
        ("known.", None, "known."),
        ("known", "/etc/x.toml", "known (/etc/x.toml)."),
        ("known.", "/etc/x.toml", "known (/etc/x.toml)."),
    ],
)
def test_why_something_was_lowered_is_a_sentence(reason: str, source: str | None, line: str) -> None:
    lowered = blocker("b.x", "x", "x", "x").at("warning", Lowered("blocker", reason, source))
    report = replace(FULL, checks=(CheckResult("b", "", True, "warned", (lowered,)),))
    assert f"  Lowered from blocker: {line}\n" in render(report)


@pytest.mark.parametrize("verdict", ["safe", "unsafe", "unknown"])
def test_every_verdict_comes_first(verdict: Verdict) -> None:
    for report in (FULL, EMPTY):
        assert render(replace(report, verdict=verdict)).startswith(f"{verdict.upper()}: ")


def test_colour_changes_nothing_else() -> None:
    coloured = render(FULL, colour=True, verbose=True)
    assert "\x1b[1;31mUNSAFE\x1b[0m" in coloured
    assert COLOUR.sub("", coloured) == render(FULL, verbose=True)
    assert "\x1b" not in render(FULL, verbose=True)


HOSTILE = "\x1b]0;owned\x07 \x9b2J\r\n\u202e\u2028\udcff \ud83d \x00 \x7f"


def _with(text: str) -> Report:
    finding = blocker("a.b", text, text, text, evidence=[text], remedy=Remedy(text, ((text, text),)))
    check = CheckResult("a", text, True, "failed", (finding,))
    skipped = CheckResult("b", text, True, "skipped", reason=text)
    target = replace(FULL.target, kernel=text, entry=text, title=text, why=text)
    fallback = replace(FULL.fallback, kernel=text)
    return replace(FULL, checks=(check, skipped), target=target, fallback=fallback, boot_path=(text,))


def test_no_name_steers_the_terminal() -> None:
    for verbose in (False, True):
        text = render(_with(HOSTILE), colour=True, verbose=verbose)
        left = COLOUR.sub("", text)
        assert all(c.isprintable() or c == "\n" for c in left)
        assert "\\x1b]0;owned\\x07" in left
        text.encode("utf-8")


@given(st.text(st.characters(), max_size=60))
@settings(deadline=None)
def test_any_text_can_be_shown(text: str) -> None:
    shown = render(_with(text), verbose=True)
    assert all(c.isprintable() or c == "\n" for c in shown)
    shown.encode("utf-8")
    assert all(c.isprintable() for c in visible(text))
    plain(text).encode("utf-8")


def test_a_long_name_stays_whole() -> None:
    path = "/lib/modules/" + "x" * 100
    assert path in render(_with(f"The file {path} is gone."))
