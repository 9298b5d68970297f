"""What the lab found: a file that every scenario is written to as it ends, and what is counted in it."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from safeupdate import __version__
from tests.lab.perform import Result
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


def store(name: str, rows: Mapping[str, Row]) -> None:
    """Write the file anew, whole or not at all."""
    document = {"format": 1, "safeupdate": __version__, "scenarios": dict(sorted(rows.items()))}
    with open(f"{name}.new", "w", encoding="utf-8") as file:
        json.dump(document, file, indent=1, ensure_ascii=False)
        file.write("\n")
    os.replace(f"{name}.new", name)


def row(scenario: Scenario, identity: str, result: Result) -> Row:
    """A scenario with what came out."""
    return {
        "base": scenario.base.name,
        "what": scenario.what,
        "tags": list(scenario.tags),
        "corpus": list(scenario.corpus),
        "waits_for": scenario.waits_for,
        "identity": identity,
        **asdict(result),
        "decisive": result.decisive,
        "judgement": judgement(result),
    }


def judgement(result: Result) -> str:
    """What the verdict was worth: `right`, `false alarm`, `miss`, `other kernel` (safe, and another one came up than
    was judged), `unknown`, or `not run`."""
    if result.problem or not result.verdict:
        return "not run"
    if result.verdict == "unknown":
        return "unknown"
    if result.verdict == "unsafe":
        return "false alarm" if result.outcome == "booted" else "right"
    if result.outcome != "booted":
        return "miss"
    return "right" if result.kernel == result.target else "other kernel"


def confusion(rows: Mapping[str, Row]) -> Counter[tuple[str, str]]:
    """How often each verdict met each outcome."""
    return Counter((row["verdict"], row["outcome"]) for row in rows.values() if row["judgement"] != "not run")
