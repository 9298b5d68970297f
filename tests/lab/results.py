"""What the lab found: a file that every scenario is written to as it ends, and what is counted in it."""

from __future__ import annotations

import fcntl
import json
import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from safeupdate import __version__
from tests.lab.perform import Result, Truth
from tests.lab.saved import Saved
from tests.lab.scenario import Scenario

NAME = "lab-results.json"

Row = dict[str, Any]


def load(name: str) -> dict[str, Row]:
    """The rows of the file by scenario; none where there is no such file."""
    if not os.path.exists(name):
        return {}
    with open(name, encoding="utf-8") as file:
        rows: dict[str, Row] = json.load(file)["scenarios"]
    return rows


def store(name: str, scenario: str, row: Row) -> None:
    """Write the file anew with this row, whole or not at all; other runs may be adding theirs."""
    directory = os.open(os.path.dirname(name), os.O_RDONLY)
    try:
        fcntl.flock(directory, fcntl.LOCK_EX)
        rows = {**load(name), scenario: row}
        document = {"format": 1, "safeupdate": __version__, "scenarios": dict(sorted(rows.items()))}
        with open(f"{name}.new", "w", encoding="utf-8") as file:
            json.dump(document, file, indent=1, ensure_ascii=False)
            file.write("\n")
        os.replace(f"{name}.new", name)
    finally:
        os.close(directory)


def row(scenario: Scenario, state: Saved, result: Result) -> Row:
    """A scenario with what came out. `identity` is that of what happens to which machine, `program` that of what judged
    it: the boot tells the same truth to every program."""
    return {
        "base": scenario.base.name,
        "what": scenario.what,
        "tags": list(scenario.tags),
        "corpus": list(scenario.corpus),
        "identity": identity(scenario, state),
        "program": state.program,
        **{name: value for name, value in asdict(result).items() if name != "truth"},
        **asdict(result.truth),
        "decisive": result.decisive,
        "judgement": judgement(result),
    }


def identity(scenario: Scenario, state: Saved) -> str:
    """What happens to which machine, as one hash each."""
    return f"{scenario.identity} {state.machine}"


def truth(row: Row) -> Truth:
    """What became of that scenario's machine."""
    return Truth(row["outcome"], row["stage"], row["line"], row["kernel"])


def judgement(result: Result) -> str:
    """What the verdict was worth: `right`, `false alarm`, `miss`, `other kernel` (safe, and another one came up than
    was judged), `unknown`, or `not run`."""
    if result.problem or not result.verdict:
        return "not run"
    if result.verdict == "unknown":
        return "unknown"
    if result.verdict == "unsafe":
        return "false alarm" if result.truth.outcome == "booted" else "right"
    if result.truth.outcome != "booted":
        return "miss"
    return "right" if result.truth.kernel == result.target else "other kernel"


def confusion(rows: Mapping[str, Row]) -> Counter[tuple[str, str]]:
    """How often each verdict met each outcome."""
    return Counter((row["verdict"], row["outcome"]) for row in rows.values() if row["judgement"] != "not run")
