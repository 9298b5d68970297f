"""GRUB's environment block: the file `grubenv` (GRUB manual, "The GRUB environment block").

A signature line, then `NAME=VALUE` lines in which a backslash keeps the character behind it, then `#` up to the end,
1024 bytes in all. GRUB is less strict than its own tool, and this reader takes what GRUB takes: any length from the
signature on, and every variable before the first that is cut.
"""

from __future__ import annotations

from dataclasses import dataclass

from safeupdate.errors import FormatError

SIGNATURE = b"# GRUB Environment Block\n"

_LIMIT = 1 << 20
"""Bytes; a real block has 1024."""


@dataclass(frozen=True)
class Environment:
    """The variables of a block, in file order; of two with one name the last counts."""

    variables: tuple[tuple[str, str], ...] = ()

    def as_dict(self) -> dict[str, str]:
        """Each name with the value that it has once GRUB has loaded the block."""
        return dict(self.variables)


def parse(data: bytes) -> Environment:
    """The variables that GRUB's `load_env` takes from a block.

    Raises `FormatError` where GRUB refuses the whole block ("invalid environment block"): an empty file, zeros, a
    missing signature.
    """
    if len(data) > _LIMIT:
        raise FormatError("this is too large for an environment block", f"{len(data)} bytes")
    if not data.startswith(SIGNATURE) or len(data) == len(SIGNATURE):
        raise FormatError("this is no environment block: its first line is not GRUB's signature", "byte 0")
    variables = []
    at, end = len(SIGNATURE), len(data)
    while at < end:
        if data[at : at + 1] != b"#":
            equals = data.find(b"=", at)
            stop = _line_end(data, equals + 1)
            if equals < 0 or stop >= end:
                break
            variables.append((_text(data[at:equals]), _text(_unescape(data[equals + 1 : stop]))))
            at = stop
        at = _line_end(data, at) + 1
    return Environment(tuple(variables))


def _line_end(data: bytes, at: int) -> int:
    """Where the line that holds `at` ends; a newline behind a backslash belongs to the line."""
    newline = data.find(b"\n", at)
    while newline >= 0 and (backslash := data.find(b"\\", at, newline)) >= 0:
        at = backslash + 2
        if at > newline:
            newline = data.find(b"\n", at)
    return len(data) if newline < 0 else newline


def _unescape(value: bytes) -> bytes:
    parts = []
    at = 0
    while (backslash := value.find(b"\\", at)) >= 0:
        parts += [value[at:backslash], value[backslash + 1 : backslash + 2]]
        at = backslash + 2
    return b"".join([*parts, value[at:]])


def _text(value: bytes) -> str:
    # GRUB's strings end at the first NUL.
    return value.split(b"\0", 1)[0].decode("utf-8", "surrogateescape")
