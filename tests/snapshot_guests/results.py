"""What the stories showed: a file that each writes its steps to, by machine."""

from __future__ import annotations

import json
import os

from safeupdate import __version__
from tests.gate_guests.results import Row, Rows

NAME = os.path.join(os.path.dirname(os.path.abspath(__file__)), "snapshot-results.json")


def load() -> Rows:
    """What is written down; nothing where there is no file."""
    if not os.path.exists(NAME):
        return {}
    with open(NAME, encoding="utf-8") as file:
        rows: Rows = json.load(file)["stories"]
    return rows


def store(base: str, story: str, rows: list[Row]) -> None:
    """Replace what is written down of this story on this machine."""
    stories = load()
    stories.setdefault(story, {})[base] = rows
    ordered = {name: dict(sorted(machines.items())) for name, machines in sorted(stories.items())}
    with open(f"{NAME}.new", "w", encoding="utf-8") as file:
        json.dump({"format": 1, "safeupdate": __version__, "stories": ordered}, file, indent=1, ensure_ascii=False)
        file.write("\n")
    os.replace(f"{NAME}.new", NAME)
