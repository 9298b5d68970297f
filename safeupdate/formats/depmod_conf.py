"""depmod.d(5): which of several modules with the same name depmod(8) takes, and where it looks for them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from safeupdate.errors import FormatError
from safeupdate.formats import extended_regex

BUILT_IN, EXTERNAL = "built-in", "external"
"""Words of `search` that name no directory: whatever no other word names, and the directories of `external`."""

DEFAULT_SEARCH = ("updates", BUILT_IN)

_LINES_LIMIT = 10_000


@dataclass(frozen=True)
class Override:
    """`module` is taken from `directory`, whatever the order, for kernels that `kernel` matches."""

    module: str
    kernel: str
    directory: str


@dataclass(frozen=True)
class External:
    """`directory`, an absolute path, is looked at too, for kernels that `kernel` matches."""

    kernel: str
    directory: str


@dataclass(frozen=True)
class DepmodConf:
    """What one file says, or several together: each in the order of the lines. No `search` at all means the default."""

    search: tuple[str, ...] = ()
    overrides: tuple[Override, ...] = ()
    externals: tuple[External, ...] = ()
    excludes: frozenset[str] = frozenset()


def parse(data: bytes) -> DepmodConf:
    """One file. Like depmod it leaves out lines that it does not know. Raises `FormatError` for far too many lines."""
    if data.count(b"\n") > _LINES_LIMIT:
        raise FormatError("it has more lines than such a file can have", f"line {_LINES_LIMIT}")
    search: list[str] = []
    overrides: list[Override] = []
    externals: list[External] = []
    excludes: set[str] = set()
    for line in re.sub(r"\\\n", "", data.decode("utf-8", "surrogateescape")).split("\n"):
        if line.startswith("#"):
            continue
        command, *words = re.split(r"[\t ]+", line.strip("\t ")) or [""]
        if command == "search":
            search += words
        elif command == "override" and len(words) >= 3:
            overrides.append(Override(*words[:3]))
        elif command == "external" and len(words) >= 2:
            externals.append(External(*words[:2]))
        elif command == "exclude":
            excludes.update(words)
    return DepmodConf(tuple(search), tuple(overrides), tuple(externals), frozenset(excludes))


def together(files: Iterable[DepmodConf]) -> DepmodConf:
    """What several files say, in the order in which depmod reads them."""
    files = tuple(files)
    return DepmodConf(
        tuple(word for one in files for word in one.search),
        tuple(override for one in files for override in one.overrides),
        tuple(external for one in files for external in one.externals),
        frozenset().union(*(one.excludes for one in files)),
    )


def matches(pattern: str, release: str) -> bool:
    """Whether a pattern of kernels, `*` or a POSIX extended regular expression, matches a kernel release.

    One that is no such expression matches nothing, as for depmod; neither does one that asks for too much.
    """
    try:
        return pattern == "*" or extended_regex.search(pattern, release)
    except FormatError:
        return False
