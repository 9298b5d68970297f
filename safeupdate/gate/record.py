"""What a lever changed, written down for good before it changes it: /var/lib/safeupdate/levers/NAME.json.

A lever undoes only what its record says, and only where the value is still the one that it set.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Union

from safeupdate.gate import document
from safeupdate.gate.document import Damaged
from safeupdate.gate.host import VAR, Host
from safeupdate.machine import Machine

DIRECTORY = f"{VAR}/levers"

Json = Union[None, bool, int, str, "list[Json]", "dict[str, Json]"]


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
    found = document.read(machine, path)
    if found is None:
        return None
    if found.get("lever") != lever or not {"old", "new"} <= found.keys():
        raise Damaged(path, "it is not a record of this lever")
    why, time = found.get("why"), found.get("time")
    if not isinstance(why, str) or not isinstance(time, str):
        raise Damaged(path, "its reason and its time are not texts")
    return Record(lever, found["old"], found["new"], why, time)


def store(host: Host, record: Record) -> None:
    """Write the record; it is on the disk when this returns. Raises `NotDone`: the lever must then not act."""
    host.write(path_of(record.lever), document.text(vars(record)), mode=0o600)


def drop(host: Host, lever: str) -> None:
    """Forget the record, after what it says was undone. Raises `NotDone`."""
    host.remove(path_of(lever))
