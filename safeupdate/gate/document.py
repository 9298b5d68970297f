"""What the gate keeps in files: JSON objects of format 1, which only this program writes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from safeupdate.errors import SafeupdateError
from safeupdate.machine import Machine

_FORMAT = 1

_LIMIT = 1 << 20
"""Bytes: ten times what a gate with a hundred sentences takes, or a list of packages that ask for a reboot."""


class Damaged(SafeupdateError):
    """A file that is not as this program writes it. What it said is not known, and nothing is done by it."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"{path} is damaged: {reason}")


def read(machine: Machine, path: str, *, limit: int = _LIMIT) -> dict[str, Any] | None:
    """What the file holds, without its format; None where there is none. Raises `Damaged` and `Unreadable`."""
    data = machine.read_if_there(path, limit=limit)
    if data is None:
        return None
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        raise Damaged(path, "it is not JSON") from None
    if not isinstance(found, dict) or found.pop("format", None) != _FORMAT:
        raise Damaged(path, f"it is not of format {_FORMAT}")
    return found


def text(content: Mapping[str, Any]) -> bytes:
    """The file's bytes, one key a line."""
    return json.dumps({"format": _FORMAT, **content}, indent=1).encode() + b"\n"
