"""The part of docs/gate.md that the stories make."""

from __future__ import annotations

import os
from collections.abc import Iterator

from tests.gate_guests.results import Row, Rows
from tests.lab.wheel import OURS

PAGE = os.path.join(OURS, "docs/gate.md")
_START = "<!-- from here on made by `python3 -m tests.gate_guests page` -->\n"
_END = "<!-- to here -->\n"

_TITLES = {
    "fallback": "A kernel that does not boot, held: `reboot -f`",
    "power": "The power is cut while the default is held or let go",
    "closed": "Reboot commands, the gate closed",
    "open": "Reboot commands, the gate open",
    "rooms": "No room, no writing, a reboot scheduled",
    "offline": "An offline update asked for while the gate is closed",
    "reboots": "Ten reboots with two bad kernels in between",
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


def _table(machines: dict[str, list[Row]]) -> Iterator[str]:
    """A column for each machine where all went through the same steps; else a table for each."""
    steps = [[row["step"] for row in rows] for rows in machines.values()]
    if all(each == steps[0] for each in steps):
        yield from _columns(machines)
        return
    for number, (base, rows) in enumerate(machines.items()):
        yield from [""] * bool(number)
        yield from _columns({base: rows})


def _columns(machines: dict[str, list[Row]]) -> Iterator[str]:
    yield f"| | {' | '.join(f'`{base}`' for base in machines)} |"
    yield "|---" * (len(machines) + 1) + "|"
    for each in zip(*machines.values()):
        seen = [f"{row['seen']}{'' if row['right'] else ' (**not as it is to be**)'}" for row in each]
        yield f"| {_cell(each[0]['step'])} | {' | '.join(map(_cell, seen))} |"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
