"""The part of docs/snapshots.md that the stories make."""

from __future__ import annotations

import os
from collections.abc import Iterator

from tests.gate_guests.page import _table
from tests.gate_guests.results import Rows
from tests.lab.wheel import OURS

PAGE = os.path.join(OURS, "docs/snapshots.md")
_START = "<!-- from here on made by `python3 -m tests.snapshot_guests page` -->\n"
_END = "<!-- to here -->\n"

_TITLES = {
    "thin": "LVM with a thin pool: a kernel is installed, the machine is broken, the undo is executed",
    "thick": "LVM without a thin pool: the same",
    "zfs": "ZFS: the same, with the newest kernel configured anew",
    "full": "A thin pool whose metadata, and whose data are nearly full",
    "overflow": "A thick snapshot overflows",
    "cut": "The power is cut while a snapshot is taken",
}


def write(rows: Rows) -> None:
    """Write what was shown into the page."""
    with open(PAGE, encoding="utf-8") as file:
        before, _, rest = file.read().partition(_START)
    after = rest.partition(_END)[2]
    with open(PAGE, "w", encoding="utf-8") as file:
        file.write(f"{before}{_START}\n{chr(10).join(_lines(rows))}\n{_END}{after}")


def _lines(rows: Rows) -> Iterator[str]:
    for story, title in _TITLES.items():
        if story in rows:
            yield f"### {title}"
            yield ""
            yield from _table(rows[story])
            yield ""
