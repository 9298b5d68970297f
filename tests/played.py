"""What stories in guests showed: kept by machine as they end, and written into a page as tables."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from safeupdate import __version__

_TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

_END = "<!-- to here -->\n"

Row = dict[str, Any]
"""A step, what was seen, and whether that is what was to come."""

Rows = dict[str, dict[str, list[Row]]]
"""By story and machine."""


@dataclass(frozen=True)
class Played:
    """The stories of a package below tests/, in the order of the page: its file of results, the page that they are
    written into, and a title for each."""

    package: str
    results: str
    page: str
    titles: Mapping[str, str]

    @property
    def _file(self) -> str:
        return os.path.join(_TOP, "tests", self.package, self.results)

    def load(self) -> Rows:
        """What is written down; nothing where there is no file."""
        if not os.path.exists(self._file):
            return {}
        with open(self._file, encoding="utf-8") as file:
            rows: Rows = json.load(file)["stories"]
        return rows

    def store(self, base: str, story: str, rows: list[Row]) -> None:
        """Replace what is written down of this story on this machine. Another run may be writing of another one."""
        directory = os.open(os.path.dirname(self._file), os.O_RDONLY)
        try:
            fcntl.flock(directory, fcntl.LOCK_EX)
            stories = self.load()
            stories.setdefault(story, {})[base] = rows
            ordered = {name: dict(sorted(machines.items())) for name, machines in sorted(stories.items())}
            content = {"format": 1, "safeupdate": __version__, "stories": ordered}
            with open(f"{self._file}.new", "w", encoding="utf-8") as file:
                json.dump(content, file, indent=1, ensure_ascii=False)
                file.write("\n")
            os.replace(f"{self._file}.new", self._file)
        finally:
            os.close(directory)

    def write(self) -> None:
        """Write what was shown into the page."""
        page = os.path.join(_TOP, self.page)
        start = f"<!-- from here on made by `python3 -m tests.{self.package} page` -->\n"
        with open(page, encoding="utf-8") as file:
            before, _, rest = file.read().partition(start)
        after = rest.partition(_END)[2]
        with open(page, "w", encoding="utf-8") as file:
            file.write(f"{before}{start}\n{chr(10).join(self._lines())}\n{_END}{after}")

    def _lines(self) -> Iterator[str]:
        rows = self.load()
        for story, title in self.titles.items():
            if story in rows:
                yield f"### {title}"
                yield ""
                yield from _table(rows[story])
                yield ""


def _table(machines: Mapping[str, list[Row]]) -> Iterator[str]:
    """A column for each machine where all went through the same steps; else a table for each."""
    steps = [[row["step"] for row in rows] for rows in machines.values()]
    if all(each == steps[0] for each in steps):
        yield from _columns(machines)
        return
    for number, (base, rows) in enumerate(machines.items()):
        yield from [""] * bool(number)
        yield from _columns({base: rows})


def _columns(machines: Mapping[str, list[Row]]) -> Iterator[str]:
    yield f"| | {' | '.join(f'`{base}`' for base in machines)} |"
    yield "|---" * (len(machines) + 1) + "|"
    for each in zip(*machines.values()):
        seen = [f"{row['seen']}{'' if row['right'] else ' (**not as it is to be**)'}" for row in each]
        yield f"| {_cell(each[0]['step'])} | {' | '.join(map(_cell, seen))} |"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
