"""The tables of docs/signatures-guests.md, made of what was said and what was done."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tests.signature_guests.states import STATES

WITH_DIGEST = " with its digest"


def expected(said: dict[str, str], *, with_digest: bool) -> str:
    """What the kernel will do by what the program says, where the signature's digest is at hand or is not."""
    return said["expected"] if with_digest or not said["otherwise"] else said["otherwise"]


def table(said: dict[str, Any], did: dict[str, Any], kind: str) -> list[str]:
    """One row a case: what the program says with Secure Boot on, and what happened in each state that was tried.

    The verdict of another state stands there where it is another; what the program had wrong is in bold.
    """
    states = [state.name for state in STATES if did.get(state.name, {}).get(kind)]
    rows = [f"| case | verdict | {' | '.join(states)} |", "|---" * (len(states) + 2) + "|"]
    for case in did[states[0]][kind]:
        name = case.removesuffix(WITH_DIGEST)
        verdict = said[states[0]][kind][name]["verdict"]
        cells = []
        for state in states:
            ours, outcome = said[state][kind][name], did[state][kind][case]["outcome"]
            cell = outcome if ours["verdict"] == verdict else f"{outcome} ({ours['verdict']})"
            want = expected(ours, with_digest=case.endswith(WITH_DIGEST))
            cells.append(cell if want == outcome else f"**{outcome}**, not {want}")
        rows.append(f"| {case} | {verdict} | {' | '.join(cells)} |")
    return rows


def count(said: dict[str, Any], did: dict[str, Any]) -> Iterator[str]:
    """How often the program was right, a line a state and kind."""
    for state in (state.name for state in STATES if state.name in did):
        for kind in ("modules", "images"):
            answers = did[state][kind]
            right = sum(
                expected(said[state][kind][case.removesuffix(WITH_DIGEST)], with_digest=case.endswith(WITH_DIGEST))
                == what["outcome"]
                for case, what in answers.items()
            )
            if answers:
                yield f"{state}: {right} of {len(answers)} {kind}"
