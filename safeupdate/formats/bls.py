"""Boot Loader Specification entries, type #1: the text files `loader/entries/*.conf`.

The specification (UAPI.1, "Type #1 Boot Loader Specification Entries") has one key and its value a line, blank lines
and lines with `#` ignored. GRUB's blscfg reads the same files differently: it stops at the first line that has no
value, an empty one too, and orders entries by their file names alone (rpm-like, newest first).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from safeupdate.errors import FormatError

_LIMIT = 1 << 20
"""Bytes; a real entry has about 500."""

_ALNUM = frozenset("0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
_DIGITS = frozenset("0123456789")


@dataclass(frozen=True)
class Fields:
    """Keys and values in file order; `initrd`, `options` and the grub_ keys may come several times."""

    pairs: tuple[tuple[str, str], ...] = ()

    def first(self, key: str) -> str | None:
        """The first value of a key, None without one."""
        return next((value for name, value in self.pairs if name == key), None)

    def all(self, key: str) -> tuple[str, ...]:
        """Every value of a key."""
        return tuple(value for name, value in self.pairs if name == key)


@dataclass(frozen=True)
class BlsEntry:
    """One entry: `name` is the file's name without `.conf`.

    `fields` is the specification's reading. `grub` is what GRUB's blscfg takes from the same bytes; it stopped at line
    `grub_stops_at` (from 1) where that line has no value and something follows it that GRUB therefore never sees.
    """

    name: str
    fields: Fields
    grub: Fields
    grub_stops_at: int | None = None

    def first(self, key: str) -> str | None:
        """The specification's first value of a key."""
        return self.fields.first(key)

    def all(self, key: str) -> tuple[str, ...]:
        """The specification's values of a key."""
        return self.fields.all(key)


def parse(data: bytes, *, name: str) -> BlsEntry:
    """An entry from its file's bytes; `name` is the file's name, with or without `.conf`.

    Raises `FormatError` for a file that is too large to be one.
    """
    if len(data) > _LIMIT:
        raise FormatError("this is too large for a boot loader entry", f"{len(data)} bytes")
    name = name.removesuffix(".conf")
    lines = data.decode("utf-8", "surrogateescape").split("\n")
    pairs = []
    for line in lines:
        key, value = _split(line.strip(" \t\r\0"))
        if key and value and not key.startswith("#"):
            pairs.append((key, value))
    grub, stops_at = _as_grub(lines)
    return BlsEntry(name, Fields(tuple(pairs)), Fields(tuple(grub)), stops_at)


def _split(line: str) -> tuple[str, str]:
    words = line.replace("\t", " ").split(" ", 1)
    value = line[len(words[0]) :].strip(" \t")
    if len(value) > 1 and value[0] == value[-1] == '"':
        value = value[1:-1]
    return words[0], value


def _as_grub(lines: list[str]) -> tuple[list[tuple[str, str]], int | None]:
    pairs: list[tuple[str, str]] = []
    for number, raw in enumerate(lines, 1):
        line = raw.replace("\r", "").split("\0", 1)[0].lstrip(" \t")
        if line.startswith("#"):
            continue
        separator = line.find(" ") if " " in line else line.find("\t")
        if separator < 0 or separator + 1 == len(line):
            unseen = any(rest.strip() and not rest.lstrip().startswith("#") for rest in lines[number - 1 :])
            return pairs, number if unseen else None
        pairs.append((line[:separator], line[separator:].lstrip(" \t")))
    return pairs, None


def in_grub_order(names: Iterable[str]) -> tuple[str, ...]:
    """Entry names in the order of blscfg's menu; of two that compare equal only the first is kept."""
    order: list[str] = []
    for name in names:
        place = len(order)
        for index, other in enumerate(order):
            difference = _compare_names(name, other)
            if difference == 0:
                place = -1
            if difference >= 0:
                place = min(place, index)
                break
        if place >= 0:
            order.insert(place, name)
    return tuple(order)


def _compare_names(one: str, two: str) -> int:
    for left, right in zip(_name_version_release(one), _name_version_release(two)):
        difference = compare_versions(left, right)
        if difference:
            return difference
    return 0


def _name_version_release(name: str) -> tuple[str, str, str]:
    parts = name.rsplit("-", 2)
    return parts[0], parts[1] if len(parts) > 1 else "", parts[2] if len(parts) > 2 else ""


def compare_versions(one: str, two: str) -> int:
    """1 when `one` is the newer version, -1 when `two` is, else 0: rpm's order (rpm-version(7)) as GRUB has it."""
    i = j = 0
    while i < len(one) or j < len(two):
        while i < len(one) and one[i] not in _ALNUM and one[i] not in "~+":
            i += 1
        while j < len(two) and two[j] not in _ALNUM and two[j] not in "~+":
            j += 1
        left, right = one[i : i + 1], two[j : j + 1]
        if "~" in (left, right):
            if left != right:
                return -1 if left == "~" else 1
            i, j = i + 1, j + 1
            continue
        if "+" in (left, right):
            # A base version is older than the same with `+something`; against anything else the `+` is the older.
            if left != right:
                if not left or not right:
                    return 1 if left else -1
                return -1 if left == "+" else 1
            i, j = i + 1, j + 1
            continue
        if not left or not right:
            break
        numeric = left in _DIGITS
        k, m = _segment(one, i, numeric), _segment(two, j, numeric)
        if m == j:
            return 1 if numeric else -1
        a, b = one[i:k], two[j:m]
        if numeric:
            a, b = a.lstrip("0"), b.lstrip("0")
            if len(a) != len(b):
                return 1 if len(a) > len(b) else -1
        if a != b:
            return 1 if a > b else -1
        i, j = k, m
    return (i < len(one)) - (j < len(two))


def _segment(text: str, at: int, numeric: bool) -> int:
    while at < len(text) and text[at] in _ALNUM and (text[at] in _DIGITS) == numeric:
        at += 1
    return at
