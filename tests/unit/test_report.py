from __future__ import annotations

import itertools

import pytest

from safeupdate.report import (
    EXIT_CODES,
    CheckResult,
    Finding,
    Outcome,
    Remedy,
    Verdict,
    blocker,
    note,
    outcome_of,
    unknown,
    verdict_of,
    warning,
)

B = blocker("a.b", "s", "p", "c")
U = unknown("a.u", "s", "p", "c")
W = warning("a.w", "s", "p", "c")
N = note("a.n", "s", "p")


@pytest.mark.parametrize(
    ("findings", "outcome"),
    [([], "passed"), ([N], "passed"), ([N, W], "warned"), ([W, U, N], "unknown"), ([N, U, B, W], "failed")],
)
def test_the_worst_level_is_the_outcome(findings: list[Finding], outcome: Outcome) -> None:
    for order in itertools.permutations(findings):
        assert outcome_of(order) == outcome


def _result(outcome: Outcome, *, essential: bool = True) -> CheckResult:
    return CheckResult("x", "X", essential, outcome)


@pytest.mark.parametrize(
    ("outcomes", "verdict"),
    [
        ([("passed", True), ("warned", True), ("not-applicable", True), ("skipped", True)], "safe"),
        ([("passed", True), ("unknown", False)], "safe"),
        ([("passed", True), ("unknown", True)], "unknown"),
        ([("failed", False), ("unknown", True)], "unsafe"),
        ([("failed", True), ("passed", True)], "unsafe"),
    ],
)
def test_verdicts(outcomes: list[tuple[Outcome, bool]], verdict: Verdict) -> None:
    assert verdict_of(_result(outcome, essential=essential) for outcome, essential in outcomes) == verdict


def test_exit_codes_are_the_contracts() -> None:
    assert EXIT_CODES == {"safe": 0, "unsafe": 1, "unknown": 3}


def test_findings_are_values() -> None:
    remedy = Remedy("Do it.", (("do", "it"),))
    assert blocker("a.b", "s", "p", "c", evidence=["x", "y"], remedy=remedy) == Finding(
        "a.b", "blocker", "s", "p", "c", ("x", "y"), remedy
    )
    assert [one.level for one in (B, U, W, N)] == ["blocker", "unknown", "warning", "note"]
    assert hash(B) == hash(blocker("a.b", "s", "p", "c"))
