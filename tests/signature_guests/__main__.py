"""python3 -m tests.signature_guests SET [STATE...]: ask guests anew, and write what they answered beside this file.

`--decide` before the set: write what the program says of it, and ask nobody. `--tables`: print those of the page.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tests.signature_guests.cases import Set, known
from tests.signature_guests.guests import ask
from tests.signature_guests.held_out import held_out
from tests.signature_guests.states import STATES, Said, State, of_images, of_modules
from tests.signature_guests.table import WITH_DIGEST, count, expected, table

SETS = {"known": known, "held-out": held_out}
RESULTS = Path(__file__).with_name("results.json")
BEFOREHAND = Path(__file__).with_name("beforehand.json")


def load(path: Path) -> Any:
    """What a file of results holds: set, state, `modules` or `images`, case."""
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def said(state: State, cases: Set) -> dict[str, dict[str, Said]]:
    """What the program says of the modules and images of a set."""
    return {"modules": of_modules(state, cases), "images": of_images(state, cases) if state.images else {}}


def tables() -> str:
    """What stands in the page."""
    lines: list[str] = []
    for name, did in load(RESULTS).items():
        said = load(BEFOREHAND)[name]
        for kind in ("modules", "images"):
            lines += [f"### {name}: {kind}", "", *table(said, did, kind), ""]
        lines += [*(f"- {line}" for line in count(said, did)), ""]
    return "\n".join(lines)


def _keep(path: Path, name: str, state: str, results: dict[str, Any]) -> None:
    document = load(path)
    document.setdefault(name, {})[state] = results
    path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def main(arguments: Sequence[str]) -> int:
    """Ask a set's guests in the states named (all without a name)."""
    if arguments == ["--tables"]:
        print(tables())
        return 0
    decide = arguments[:1] == ["--decide"]
    name, *names = arguments[decide:]
    cases = SETS[name]()
    for state in STATES:
        if names and state.name not in names:
            continue
        ours = said(state, cases)
        if decide:
            rows = {kind: {case: asdict(one) for case, one in found.items()} for kind, found in ours.items()}
            _keep(BEFOREHAND, name, state.name, rows)
            continue
        answers = ask(state, cases)
        again = of_modules(state, cases, answers.variables)
        print(f"== {state.name}: {answers.seconds} s, sig_enforce {answers.enforces}, lockdown {answers.lockdown}")
        results: dict[str, Any] = {"enforces": answers.enforces, "lockdown": answers.lockdown}
        for kind, did in (("modules", answers.modules), ("images", answers.images)):
            results[kind] = {case: asdict(what) for case, what in did.items()}
            for case, what in did.items():
                one = ours[kind][case.removesuffix(WITH_DIGEST)]
                right = expected(asdict(one), with_digest=case.endswith(WITH_DIGEST)) == what.outcome
                # A request is gone once MokManager has waited for its person.
                same = kind == "images" or state.pending or again[case.removesuffix(WITH_DIGEST)] == one
                words = f"{'' if right else 'MISS '}{'' if same else 'OTHER BY THE GUEST S VARIABLES '}"
                print(f"   {words}{case}: {one.verdict}, {one.expected} {one.otherwise} / {what}", flush=True)
        _keep(RESULTS, name, state.name, results)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
