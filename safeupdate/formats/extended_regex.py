"""Extended regular expressions (regex(7), POSIX 1003.2), as bash's `=~` takes them, in bounded time.

Python's own engine would take exponential time for some patterns, and patterns come from files here. This one follows
every way at once: the positions that a part of the pattern can have reached are a set.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Callable

from safeupdate.errors import FormatError

_PATTERN_LIMIT = 2048
_TEXT_LIMIT = 256
"""Letters of a pattern and of a text. A kernel release has at most 64 (uname(2)), a pattern for one a few dozen."""

_REPEAT_LIMIT = 255
"""RE_DUP_MAX: how often `{n,m}` may ask for something (limits.h)."""

_STEPS = 20_000
"""Parts that are asked for in one search, before it is given up."""

_CLASSES = {
    "alpha": str.isalpha,
    "digit": str.isdecimal,
    "alnum": str.isalnum,
    "upper": str.isupper,
    "lower": str.islower,
    "space": str.isspace,
    "blank": lambda letter: letter in " \t",
    "punct": lambda letter: letter.isprintable() and not letter.isalnum() and letter != " ",
    "print": str.isprintable,
    "graph": lambda letter: letter.isprintable() and letter != " ",
    "xdigit": lambda letter: letter in "0123456789abcdefABCDEF",
    "cntrl": lambda letter: not letter.isprintable(),
}
_GNU: dict[str, Callable[[str], bool]] = {
    "w": lambda letter: letter.isalnum() or letter == "_",
    "W": lambda letter: not letter.isalnum() and letter != "_",
    "s": str.isspace,
    "S": lambda letter: not letter.isspace(),
}
_BOUND = re.compile(r"\{(\d{1,3})(?:(,)(\d{0,3}))?\}")

_Positions = frozenset[int]
_Part = Callable[["_Search", _Positions], _Positions]


def search(pattern: str, text: str) -> bool:
    """Whether the pattern is found anywhere in the text.

    Raises `FormatError` for what is no such expression (bash takes that for "not found"), for one with a back
    reference, and for one that asks for too much.
    """
    if len(text) > _TEXT_LIMIT:
        raise FormatError("the text is too long")
    part = _compiled(pattern)
    return bool(part(_Search(text), frozenset(range(len(text) + 1))))


class _Search:
    """One text, and how much may still be asked."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.left = _STEPS

    def step(self, positions: _Positions) -> None:
        self.left -= 1 + len(positions)
        if self.left < 0:
            raise FormatError("the regular expression asks for too much")


@lru_cache(maxsize=64)
def _compiled(pattern: str) -> _Part:
    if len(pattern) > _PATTERN_LIMIT:
        raise FormatError("the regular expression is too long")
    parser = _Parser(pattern)
    part = parser.alternatives(0)
    if parser.at < len(pattern):
        raise FormatError("an unmatched )", f"character {parser.at}")
    return part


class _Parser:
    def __init__(self, pattern: str) -> None:
        self.pattern = pattern
        self.at = 0

    def alternatives(self, depth: int) -> _Part:
        if depth > 20:
            raise FormatError("groups are nested too deeply", f"character {self.at}")
        ways = [self.sequence(depth)]
        while self.pattern.startswith("|", self.at):
            self.at += 1
            ways.append(self.sequence(depth))
        return ways[0] if len(ways) == 1 else lambda search, at: frozenset().union(*[way(search, at) for way in ways])

    def sequence(self, depth: int) -> _Part:
        parts = []
        while self.at < len(self.pattern) and self.pattern[self.at] not in "|)":
            parts.append(self.repeated(self.atom(depth)))

        def run(search: _Search, at: _Positions) -> _Positions:
            for part in parts:
                search.step(at)
                at = part(search, at)
                if not at:
                    break
            return at

        return run

    def atom(self, depth: int) -> _Part:
        letter = self.pattern[self.at]
        self.at += 1
        if letter == "(":
            part = self.alternatives(depth + 1)
            if not self.pattern.startswith(")", self.at):
                raise FormatError("an unmatched (", f"character {self.at}")
            self.at += 1
            return part
        if letter == "[":
            return _one(self.bracket())
        if letter == "^":
            return lambda _, at: at & {0}
        if letter == "$":
            return lambda search, at: at & {len(search.text)}
        if letter == ".":
            return _one(lambda _: True)
        if letter in "*+?" or (letter == "{" and _BOUND.match(self.pattern, self.at - 1)):
            raise FormatError("a repetition of nothing", f"character {self.at - 1}")
        if letter == "\\":
            if self.at >= len(self.pattern):
                raise FormatError("a trailing backslash", f"character {self.at}")
            letter = self.pattern[self.at]
            self.at += 1
            if letter in _GNU:
                return _one(_GNU[letter])
            if letter.isalnum() or letter in "<>`'":
                raise FormatError(f"\\{letter} is not supported", f"character {self.at - 2}")
        return _one(lambda other: other == letter)

    def repeated(self, part: _Part) -> _Part:
        while self.at < len(self.pattern) and self.pattern[self.at] in "*+?{":
            letter = self.pattern[self.at]
            if letter == "{":
                bound = _BOUND.match(self.pattern, self.at)
                if bound is None:
                    raise FormatError("a wrong repetition", f"character {self.at}")
                low = int(bound.group(1))
                high = low if bound.group(2) is None else int(bound.group(3)) if bound.group(3) else None
                if low > _REPEAT_LIMIT or (high is not None and not low <= high <= _REPEAT_LIMIT):
                    raise FormatError("a wrong repetition", f"character {self.at}")
                self.at = bound.end()
            else:
                low, high = {"*": (0, None), "+": (1, None), "?": (0, 1)}[letter]
                self.at += 1
            part = _repeat(part, low, high)
        return part

    def bracket(self) -> Callable[[str], bool]:
        """After the `[`. Equivalence classes and collating symbols are refused."""
        pattern = self.pattern
        negated = pattern.startswith("^", self.at)
        self.at += negated
        tests: list[Callable[[str], bool]] = []
        first = True
        while True:
            if self.at >= len(pattern):
                raise FormatError("an unmatched [", f"character {self.at}")
            letter = pattern[self.at]
            if letter == "]" and not first:
                self.at += 1
                return lambda other: any(test(other) for test in tests) != negated
            first = False
            if letter == "[" and pattern[self.at + 1 : self.at + 2] in (":", "=", "."):
                end = pattern.find(":]", self.at)
                name = pattern[self.at + 2 : max(end, 0)]
                if pattern[self.at + 1] != ":" or name not in _CLASSES:
                    raise FormatError("an unknown class of characters", f"character {self.at}")
                tests.append(_CLASSES[name])
                self.at = end + 2
                continue
            last = letter
            if pattern[self.at + 1 : self.at + 2] == "-" and pattern[self.at + 2 : self.at + 3] not in ("", "]"):
                last = pattern[self.at + 2]
                self.at += 2
            self.at += 1
            if last < letter:
                raise FormatError("a range that ends before it begins", f"character {self.at}")
            tests.append(lambda other, low=letter, high=last: low <= other <= high)  # type: ignore[misc]


def _one(test: Callable[[str], bool]) -> _Part:
    return lambda search, at: frozenset(
        place + 1 for place in at if place < len(search.text) and test(search.text[place])
    )


def _repeat(part: _Part, low: int, high: int | None) -> _Part:
    def run(search: _Search, at: _Positions) -> _Positions:
        for _ in range(low):
            search.step(at)
            at = part(search, at)
        reached, new, count = at, at, low
        while new and (high is None or count < high):
            search.step(new)
            new = part(search, new) - reached
            reached |= new
            count += 1
        return reached

    return run
