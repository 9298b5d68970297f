"""make.log, in which dkms(8) keeps what a build printed: for which kernel it was, and why it failed."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

Cause = Literal["headers", "compiler", "build", "sign"]

_LINES = 8
_LETTERS = 240
"""How much of a log is worth showing: a screen's lines, of which the first error is the one that tells."""

_SAID = 160
"""Letters of one line in a sentence: two lines of a screen."""

_HEAD = re.compile(r"^DKMS (?:\(dkms-[^)]*\) )?make\.log for \S+ for kernel (\S+) \(", re.MULTILINE)
_FOOTER = re.compile(r"# exit code: |# elapsed time: |-{20,}$|# command: ")
_ESCAPE = re.compile(r"\x1b(?:\[[0-9;?]*[A-Za-z]|\][^\x07]*\x07)")

_ERROR = re.compile(
    r"\berror:|\berrors? generated|\*\*\* |\bERROR\b|undefined reference|undefined!|: not found$|command not found"
    r"|No such file or directory|No space left on device|Permission denied|^Killed|internal compiler error"
    r"|Hunk #\d+ FAILED|malformed patch|configure: error|Cannot allocate memory|auto\.conf are missing",
    re.IGNORECASE,
)
_IN_SOURCE = re.compile(r"\.[chS]:\d+(?::\d+)?: (?:fatal )?error: ")
_HEADERS = re.compile(
    r"\*\*\* /(?:\S*/)?(?:lib/modules|usr/src)/\S*: No such file or directory"
    r"|include/generated/autoconf\.h or include/config/auto\.conf are missing"
    r"|kernel (?:headers?|sources?|devel\w*)\b.{0,80}"
    r"(?:not (?:be )?found|missing|not installed|cannot be found|does not exist)"
    r"|(?:fatal error|error): (?:generated/\S+|linux/(?:version|kconfig)\.h): No such file"
    r"|scripts/(?:basic/fixdep|mod/modpost|Makefile\.\w+)\b.{0,20}(?:not found|No such file)"
    r"|make sure the kernel devel package"
    r"|unable to find the (?:sources|headers)\b",
    re.IGNORECASE,
)
_COMPILER = re.compile(
    r"(?:^|[\s/:\"'`])(?:[\w.]+-)*(?:gcc|cc|clang|ld\.lld|g\+\+|cc1)(?:-[\d.]+)?['\"`]?: "
    r"(?:not found|command not found|No such file or directory|Permission denied)"
    r"|error: (?:unrecognized|unknown|unsupported) (?:command[- ]line )?(?:option|argument)"
    r"|error: (?:unrecognized argument in option|bad value .{0,60} for)"
    r"|incompatible gcc/plugin versions|cannot load plugin|C compiler cannot create executables"
    r"|(?:compiler|cc) version check failed|cc_version_check|compiler .{0,40}(?:was not found|is too old)",
    re.IGNORECASE,
)
_COMPILER_DIFFERS = re.compile(
    r"the compiler differs from the one used to build the kernel|does not (?:exactly )?match the compiler",
    re.IGNORECASE,
)
_SIGN = re.compile(
    r"sign-file\b.{0,80}(?:not found|No such file|Permission denied|error)|Failed to sign module|kmodsign:"
)


@dataclass(frozen=True)
class MakeLog:
    """What a log tells.

    `lines` are those that tell of errors, the first of them and the last; without any, the log's last lines. `said` is
    the one that tells most, cut for a sentence: the first error, or the last line; empty for an empty log.
    """

    kernel: str | None
    cause: Cause
    lines: tuple[str, ...]
    said: str


def parse(head: bytes, tail: bytes) -> MakeLog:
    """A log of which only the beginning and the end are read: both are its whole, if it is short. Raises nothing."""
    named = _HEAD.search(_text(head)) or _HEAD.search(_text(tail))
    lines = [line for raw in _text(tail).split("\n") if (line := raw.strip()) and not _FOOTER.match(line)]
    errors = [line for line in lines if _ERROR.search(line)]
    return MakeLog(
        kernel=named.group(1) if named is not None else None,
        cause=_cause(lines, errors),
        lines=tuple(_chosen(errors) if errors else lines[-_LINES:]),
        said=(errors[:1] or lines[-1:] or [""])[0][:_SAID],
    )


def _text(data: bytes) -> str:
    """Lines that can be shown and searched: cut, and without what steers a terminal."""
    pieces = data.decode("utf-8", "surrogateescape").replace("\r", "\n").split("\n")
    cut = (_ESCAPE.sub("", piece[: 2 * _LETTERS])[:_LETTERS] for piece in pieces)
    return "\n".join(re.sub(r"[\x00-\x1f\x7f-\x9f]", " ", piece) for piece in cut)


def _chosen(errors: list[str]) -> list[str]:
    """The first errors, which the others follow from, and the last, which end the build."""
    distinct = list(dict.fromkeys(errors))
    return distinct if len(distinct) <= _LINES else [*distinct[: _LINES - 2], *distinct[-2:]]


def _cause(lines: list[str], errors: list[str]) -> Cause:
    if any(_HEADERS.search(line) for line in errors):
        return "headers"
    if any(_COMPILER.search(line) for line in errors):
        return "compiler"
    if any(_IN_SOURCE.search(line) for line in errors):
        return "build"
    if any(_SIGN.search(line) for line in lines):
        return "sign"
    # A warning of the kernel's Makefile, also in builds that succeed: it counts where nothing else explains the end.
    return "compiler" if any(_COMPILER_DIFFERS.search(line) for line in lines) else "build"
