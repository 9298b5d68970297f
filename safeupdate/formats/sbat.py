"""SBAT: generations of boot programs, and the oldest that shim still starts.

shim, SBAT.md. A program names its components in its section `.sbat`; the variable SbatLevel (SbatLevelRT, as far as it
can be read here) and shim's own section `.sbatlevel` say which generation of each component is wanted at least.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from safeupdate.errors import FormatError

SIZE_LIMIT = 64 << 10
"""Bytes of a `.sbat` section; those of the distributions have under 1 KiB."""

_COLUMNS = 6
"""A component of a program: name, generation, vendor, package, version and URL."""


@dataclass(frozen=True)
class Component:
    """One line of a program's `.sbat`."""

    name: str
    generation: int
    version: str = ""


@dataclass(frozen=True)
class Level:
    """What is wanted at least: the generation by component. `date` is the text that orders levels (YYYYMMDDHH)."""

    generations: dict[str, int] = field(default_factory=dict, hash=False)
    date: str = ""


def components(data: bytes) -> tuple[Component, ...]:
    """The content of a `.sbat` section. Raises `FormatError` with the line where shim refuses it as malformed."""
    found = []
    for number, columns in _rows(data):
        if len(columns) < _COLUMNS or not all(columns[:_COLUMNS]):
            raise FormatError(f"a component has {len(columns)} of {_COLUMNS} fields, or empty ones", f"line {number}")
        found.append(Component(columns[0], _generation(columns[1]), columns[4]))
    return tuple(found)


def level(data: bytes) -> Level:
    """The value of SbatLevel. Raises `FormatError` with the line."""
    generations: dict[str, int] = {}
    date = ""
    for number, columns in _rows(data):
        if len(columns) < 2 or not all(columns):
            raise FormatError("a component has no generation", f"line {number}")
        generations.setdefault(columns[0], _generation(columns[1]))
        if columns[0] == "sbat" and len(columns) > 2:
            date = columns[2]
    return Level(generations, date)


def revoked(found: tuple[Component, ...], wanted: Level) -> tuple[Component, ...]:
    """The components that are older than the level allows."""
    return tuple(one for one in found if one.generation < wanted.generations.get(one.name, 0))


def _rows(data: bytes) -> list[tuple[int, list[str]]]:
    text = data.split(b"\0", 1)[0].removeprefix(b"\xef\xbb\xbf").decode("utf-8", "replace")
    return [(number, line.split(",")) for number, line in enumerate(re.split(r"\r\n|\n|\r", text), 1) if line]


def _generation(text: str) -> int:
    """As shim's atoi has it: the digits at the start, else 0, in 16 bits."""
    digits = re.match(r"\s*\+?([0-9]{1,9})", text)
    return int(digits.group(1)) & 0xFFFF if digits else 0
