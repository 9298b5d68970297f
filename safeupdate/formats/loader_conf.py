"""The text files of systemd-boot, and how it compares, matches and counts the names in them.

loader.conf(5); UAPI.1 Boot Loader Specification, "Type #1 Boot Loader Specification Entries" and "Boot counting";
UAPI.10 Version Format Specification. Where the loader itself is laxer or stricter than those, it is followed: what
counts is what it does at the next boot.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from safeupdate.errors import FormatError

LIMIT = 1 << 20
"""Bytes of the largest file that is read as text here; real ones have some hundred."""

MENU_WORDS = ("menu-disabled", "menu-force", "menu-hidden")
"""The values of `timeout` that are no number."""

_COUNT_MAX = 2**31 - 1
_TIMEOUT_MAX = 2**32 - 1
_TRUE = ("1", "yes", "y", "true", "t", "on")
_FALSE = ("0", "no", "n", "false", "f", "off")
_COUNTER = re.compile(r"(?P<stem>.*)\+(?P<left>[0-9]+)(?:-(?P<done>[0-9]+))?(?P<suffix>\.[^.+-]+)", re.DOTALL)


@dataclass(frozen=True)
class LoaderConf:
    """What loader.conf sets of the choice that the loader makes; patterns are lower case, as the ids that they match.

    `timeout` is in seconds, 0 hides the menu; or it is one of `MENU_WORDS`; None where it is not set.
    """

    timeout: int | str | None = None
    default: str | None = None
    preferred: str | None = None
    editor: bool = True
    auto_entries: bool = True
    auto_firmware: bool = True


@dataclass(frozen=True)
class Counter:
    """The boot counter in a file name, `NAME+LEFT-DONE.conf`; a name without `-DONE` has 0 done."""

    stem: str
    left: int
    done: int
    suffix: str

    def after_a_try(self) -> Counter:
        """The counter as the loader renames the file before it starts the entry."""
        return Counter(self.stem, max(self.left - 1, 0), min(self.done + 1, _COUNT_MAX), self.suffix)

    @property
    def name(self) -> str:
        """The file name as the loader writes it."""
        return f"{self.stem}+{self.left}-{self.done}{self.suffix}"


def pairs(data: bytes, separators: str = " \t") -> tuple[tuple[str, str], ...]:
    """Keys and values in their order, as systemd-boot reads its files, and os-release(5) with the separator `=`.

    A line without a separator is passed over, a value in a pair of quotes loses them. Raises `FormatError` only for
    more than `LIMIT` bytes.
    """
    if len(data) > LIMIT:
        raise FormatError("the file is too long for a configuration", f"byte {LIMIT}")
    found = []
    text = data.split(b"\0", 1)[0].decode("utf-8", "surrogateescape")
    for line in re.split("[\n\r]", text):
        line = line.strip(" \t")
        key = re.split(f"[{separators}]", line, maxsplit=1)[0]
        if line.startswith("#") or key == line:
            continue
        value = line[len(key) :].lstrip(separators)
        if len(value) > 1 and value[0] in "\"'" and value[-1] == value[0]:
            value = value[1:-1]
        found.append((key, value))
    return tuple(found)


def parse(data: bytes) -> LoaderConf:
    """loader.conf. What the loader would pass over (unknown keys, values that make no sense) is passed over here too.

    Raises `FormatError` as `pairs` does.
    """
    timeout: int | str | None = None
    patterns: dict[str, str] = {}
    switches = {"editor": True, "auto-entries": True, "auto-firmware": True}
    for key, value in pairs(data):
        if key == "timeout":
            timeout = _timeout(value, timeout)
        elif key in ("default", "preferred"):
            if not value.startswith("@") or value.lower() == "@saved":
                patterns[key] = fold(value)
        elif key in switches and value in _TRUE + _FALSE:
            switches[key] = value in _TRUE
    return LoaderConf(
        timeout,
        patterns.get("default"),
        patterns.get("preferred"),
        switches["editor"],
        switches["auto-entries"],
        switches["auto-firmware"],
    )


def timeout(value: str) -> int | str | None:
    """The value of the variables LoaderConfigTimeout and LoaderConfigTimeoutOneShot; None where it makes no sense."""
    return _timeout(value, None)


def _timeout(value: str, before: int | str | None) -> int | str | None:
    if value in MENU_WORDS:
        return value
    if not re.fullmatch("[0-9]+", value) or len(value) > 20:
        return before
    return int(value) if int(value) <= _TIMEOUT_MAX else before


def fold(name: str) -> str:
    """Lower case as the loader has it: ASCII letters only."""
    return re.sub("[A-Z]+", lambda match: match.group().lower(), name)


def counter(name: str, suffix: str) -> Counter | None:
    """The boot counter of a file name that ends in `suffix` (`.conf`, `.efi`, letter case aside); None without one."""
    match = _COUNTER.fullmatch(name)
    if match is None or fold(match["suffix"]) != suffix:
        return None
    if max(len(match["left"]), len(match["done"] or "")) > 10:
        return None
    left, done = int(match["left"]), int(match["done"] or 0)
    if max(left, done) > _COUNT_MAX:
        return None
    return Counter(match["stem"], left, done, match["suffix"])


def matches(pattern: str, name: str) -> bool:
    """Whether a pattern of the loader matches the whole name: `*`, `?`, `[...]` with ranges, `\\` takes the next as is.

    The same as fnmatch(3) with few extras: no classes, no negation, and a set or an escape without its end matches
    nothing.
    """
    pieces = _pieces(pattern)
    if pieces is None:
        return False
    # Between two stars, the first place that fits is as good as any other: no backtracking is needed.
    first, last = pieces[0], pieces[-1]
    if len(pieces) == 1:
        return len(name) == len(first) and _fits(first, name, 0)
    if len(first) + len(last) > len(name) or not _fits(first, name, 0):
        return False
    end = len(name) - len(last)
    if not _fits(last, name, end):
        return False
    at = len(first)
    for piece in pieces[1:-1]:
        found = next((start for start in range(at, end - len(piece) + 1) if _fits(piece, name, start)), None)
        if found is None:
            return False
        at = found + len(piece)
    return True


_Range = tuple[str, str]


def _pieces(pattern: str) -> list[list[tuple[_Range, ...]]] | None:
    """The parts between stars; each character as the ranges that it may lie in, `?` as everything."""
    pieces: list[list[tuple[_Range, ...]]] = [[]]
    at = 0
    while at < len(pattern):
        character = pattern[at]
        at += 1
        if character == "*":
            pieces.append([])
        elif character == "?":
            pieces[-1].append((("\0", "\U0010ffff"),))
        elif character == "\\":
            if at == len(pattern):
                return None
            pieces[-1].append(((pattern[at], pattern[at]),))
            at += 1
        elif character == "[":
            ranges, at = _set(pattern, at)
            if at < 0:
                return None
            pieces[-1].append(ranges)
        else:
            pieces[-1].append(((character, character),))
    return pieces


def _set(pattern: str, at: int) -> tuple[tuple[_Range, ...], int]:
    """The ranges of a set that starts at `at`, and where it ends; -1 where it does not. `[a-c-f]` is `[-abcf]`."""
    ranges: list[_Range] = []
    start = at
    can_range = True
    while at < len(pattern):
        character = pattern[at]
        if character == "]" and at > start:
            return tuple(ranges), at + 1
        if character == "-" and can_range and at > start and pattern[at + 1 : at + 2] != "]":
            low = pattern[at - 1]
            at += 2 if pattern[at + 1 : at + 2] == "\\" else 1
            if at >= len(pattern):
                break
            ranges.append((low, pattern[at]))
            can_range = False
        elif character == "\\":
            at += 1
            if at >= len(pattern):
                break
            ranges.append((pattern[at], pattern[at]))
            can_range = True
        else:
            ranges.append((character, character))
            can_range = True
        at += 1
    return (), -1


def _fits(piece: list[tuple[_Range, ...]], name: str, start: int) -> bool:
    return all(any(low <= name[start + at] <= high for low, high in ranges) for at, ranges in enumerate(piece))


def compare_versions(one: str, other: str) -> int:
    """-1, 0 or 1: how systemd orders two versions (UAPI.10 Version Format Specification).

    Differs from rpm's order in that `-` and `.` count: 123 < 123-1 < 123.1 < 123a.
    """
    # A NUL after the end is in no class of characters and spares every test for the end.
    one, other = one + "\0", other + "\0"
    a = b = 0
    while True:
        a, b = _past_others(one, a), _past_others(other, b)
        if "~" in (one[a], other[b]):
            if one[a] != other[b]:
                return -1 if one[a] == "~" else 1
            a, b = a + 1, b + 1
        if "\0" in (one[a], other[b]):
            return (one[a] != "\0") - (other[b] != "\0")
        for separator in "-^.":
            if separator in (one[a], other[b]):
                if one[a] != other[b]:
                    return -1 if one[a] == separator else 1
                a, b = a + 1, b + 1
        numeric = one[a] in _DIGITS or other[b] in _DIGITS
        first, second = _run(one, a, numeric), _run(other, b, numeric)
        a, b = a + len(first), b + len(second)
        if numeric:
            if not first or not second:
                return 1 if first else -1
            first, second = first.lstrip("0"), second.lstrip("0")
            if len(first) != len(second):
                return 1 if len(first) > len(second) else -1
        if first != second:
            return 1 if first > second else -1


_DIGITS = "0123456789"
_OTHERS = re.compile("[^0-9A-Za-z~^.\\0-]*")
_NUMBER = re.compile("[0-9]*")
_WORD = re.compile("[A-Za-z]*")


def _past_others(version: str, at: int) -> int:
    """Past the characters that no version may hold; they only end a part."""
    match = _OTHERS.match(version, at)
    return match.end() if match else at


def _run(version: str, at: int, numeric: bool) -> str:
    match = (_NUMBER if numeric else _WORD).match(version, at)
    return match.group() if match else ""
