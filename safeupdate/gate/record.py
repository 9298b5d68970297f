"""What a lever changed, written down for good before it changes it: /var/lib/safeupdate/levers/NAME.json.

A lever undoes only what its record says, and only where the value is still the one that it set.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Union

from safeupdate.errors import SafeupdateError
from safeupdate.gate.host import VAR, Host
from safeupdate.machine import Machine

DIRECTORY = f"{VAR}/levers"

FORMAT = 1

_LIMIT = 1 << 20
"""Bytes of a record: the longest value is a list of packages that ask for a reboot."""

Json = Union[None, bool, int, str, "list[Json]", "dict[str, Json]"]


class Damaged(SafeupdateError):
    """A record that is no record. What it said is not known, so that nothing is undone by it."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"{path} is damaged: {reason}")


@dataclass(frozen=True)
class Record:
    """`old` is the value that the lever found, `new` the one that it set; None where there was, or is, none.

    `why` is the sentence that the gate was closed with, `time` RFC 3339 in UTC.
    """

    lever: str
    old: Json
    new: Json
    why: str
    time: str


def path_of(lever: str) -> str:
    """Where the lever's record lies."""
    return f"{DIRECTORY}/{lever}.json"


def read(machine: Machine, lever: str) -> Record | None:
    """The lever's record, None where there is none. Raises `Damaged`, and `Unreadable`."""
    path = path_of(lever)
    data = machine.read_if_there(path, limit=_LIMIT)
    if data is None:
        return None
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        raise Damaged(path, "it is not JSON") from None
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise Damaged(path, f"it is not of format {FORMAT}")
    if found.get("lever") != lever or not {"old", "new"} <= found.keys():
        raise Damaged(path, "it is not a record of this lever")
    why, time = found.get("why"), found.get("time")
    if not isinstance(why, str) or not isinstance(time, str):
        raise Damaged(path, "its reason and its time are not texts")
    return Record(lever, found["old"], found["new"], why, time)


def store(host: Host, record: Record) -> None:
    """Write the record; it is on the disk when this returns. Raises `NotDone`: the lever must then not act."""
    text = json.dumps({"format": FORMAT, **vars(record)}, indent=1)
    host.write(path_of(record.lever), text.encode() + b"\n", mode=0o600)


def drop(host: Host, lever: str) -> None:
    """Forget the record, after what it says was undone. Raises `NotDone`."""
    host.remove(path_of(lever))
