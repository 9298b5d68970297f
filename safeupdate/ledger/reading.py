"""What the ledger knows, for whatever looks.

A ledger may be any bytes: a tree's is anybody's, and a disk forgets. What cannot be understood is a sentence in
`problems`, and never more than that.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from safeupdate.errors import Missing, SafeupdateError, Unreadable
from safeupdate.ledger import schema
from safeupdate.ledger.schema import PATH

if TYPE_CHECKING:
    import sqlite3

    from safeupdate.machine import Machine

Source = Literal["service", "journal"]

BOOT_ID = "/proc/sys/kernel/random/boot_id"

CHECKS_READ = 50
"""Checks that are of use to a check: the last verdicts of each installed kernel, some updates back."""

BOOTS_READ = 1000
"""Boots that are read. The writer keeps fewer, but for the last good one of every kernel that ever ran here."""

_ROWS = 10_000
"""Rows of any table that are read, whatever is asked for."""

_SIZE_LIMIT = 256 << 20
"""Bytes of the largest ledger worth opening: with all the rows that the writer keeps it has some 20 MB."""

_TEXT_LIMIT = 1 << 16
_JSON_LIMIT = 1 << 20
"""Characters of a value: a command line has 4 KiB, the findings of a check some 10 KiB."""

_TOTAL_LIMIT = 32 << 20
"""Characters read at all: rows of a crafted file may all share one long value."""

_STEPS = 20_000_000
"""Instructions of SQLite's machine: all tables at their limits take a quarter of it, and it ends within a second."""

_ROLLBACK_MAGIC = bytes.fromhex("d9d505f920a163d7")
"""A journal that begins so holds the pages of before a write that was not finished (SQLite's file format, 3)."""

_IDENTITIES = ("/etc/machine-id", "/var/lib/dbus/machine-id")

_Row = TypeVar("_Row")


@dataclass(frozen=True)
class Boot:
    """One boot of this machine. Times are RFC 3339 in UTC, hashes SHA-256 in hexadecimal.

    `confirmed` is when it was said to have come up, None where nobody said so. `source`: `service` is our own record,
    `journal` the weaker one of boots before the installation. `kernel`, `initramfs` (path and hash of each image that
    the entry loads) and `modules` (`Hasher.tree` of the release's directory) are the files as they booted, None where
    they had changed before the record was made. `parts` is the fingerprint at that time. `findings` are what a check
    called a blocker on this boot, which had come up all the same: (id, subject, problem). `machine` is the
    `identity` of the machine that booted.
    """

    boot_id: str
    release: str
    entry: str | None
    cmdline: str
    started: str
    confirmed: str | None
    source: Source
    kernel: str | None = None
    initramfs: tuple[tuple[str, str], ...] | None = None
    modules: str | None = None
    parts: Mapping[str, str] = field(default_factory=dict, hash=False)
    findings: tuple[tuple[str, str, str], ...] = ()
    machine: str | None = None
    seq: int = 0


@dataclass(frozen=True)
class CheckRow:
    """One run of `check`. `findings` are (id, level, subject); `fingerprint` is the digest over `parts`."""

    seq: int
    time: str
    version: str
    boot_id: str | None
    verdict: str
    release: str | None
    entry: str | None
    fingerprint: str | None
    parts: Mapping[str, str] = field(default_factory=dict, hash=False)
    findings: tuple[tuple[str, str, str], ...] = ()


@dataclass(frozen=True)
class Event:
    """Anything else that happened: `kind` says what, `detail` in a sentence."""

    seq: int
    time: str
    kind: str
    detail: str


@dataclass(frozen=True)
class History:
    """What the ledger holds, the newest of each first, by the order in which it was written and not by the clock.

    `hashes` are the checksums of files known by path and stamp (`fingerprint.Hasher`). `problems` are whole sentences.
    Where the ledger is not `in_reach`, one of them says why, and it cannot be written either.
    """

    boots: tuple[Boot, ...] = ()
    checks: tuple[CheckRow, ...] = ()
    events: tuple[Event, ...] = ()
    hashes: Mapping[str, tuple[str, str]] = field(default_factory=dict, hash=False)
    problems: tuple[str, ...] = ()
    in_reach: bool = True

    def boot(self, boot_id: str | None) -> Boot | None:
        """The record of this boot, where there is one."""
        return next((boot for boot in self.boots if boot.boot_id == boot_id), None)

    def good(self, release: str | None) -> tuple[Boot, ...]:
        """The boots of this kernel release that came up, the newest first."""
        return tuple(boot for boot in self.boots if boot.release == release and boot.confirmed is not None)


UNKNOWN = History()
"""Of a machine whose past is not known."""


def boot_id(machine: Machine) -> str | None:
    """The kernel's name for the boot that is running (random(4)); None where that is not known."""
    try:
        return machine.value(BOOT_ID)
    except Unreadable:
        return None


def identity(machine: Machine) -> str | None:
    """What tells this machine from a clone of its disk: a hash, as machine-id(5) asks for, of the id that each gets at
    its first boot. None where there is no such id (without systemd and D-Bus, or in an image before its first boot)."""
    from hashlib import sha256

    for path in _IDENTITIES:
        try:
            value = machine.value(path)
        except SafeupdateError:
            continue
        if value and value != "uninitialized":
            return sha256(f"safeupdate {value}".encode("utf-8", "surrogateescape")).hexdigest()
    return None


def read(machine: Machine, *, boots: int = BOOTS_READ, checks: int = CHECKS_READ) -> History:
    """The newest rows of this machine's ledger. Never raises; where there is no ledger, there is no history.

    A tree's is read without a trace (`immutable`). On a live machine SQLite first takes back a write that was cut off.
    """
    try:
        location = _location(machine)
    except Missing:
        return UNKNOWN
    except Unreadable as error:
        if error.reason == os.strerror(errno.EACCES) and os.geteuid() != 0:
            return _without("only root may read it; run this as root", in_reach=False)
        return _without(f"it cannot be read ({error.reason})")
    try:
        import sqlite3
    except ImportError:
        return _without(schema.NO_SQLITE, in_reach=False)
    try:
        with closing(sqlite3.connect(location, uri=True, timeout=schema.BUSY_SECONDS)) as database:
            return _Reader(database).history(boots=boots, checks=checks)
    except sqlite3.OperationalError as error:  # busy, out of reach, or out of steps
        return _without(f"it cannot be read ({schema.reason(error)})")
    except (sqlite3.Error, UnicodeDecodeError, schema.Damaged) as error:
        return _without(f"it is damaged ({schema.reason(error)})")
    except SafeupdateError as error:
        return _without(str(error))


def _without(why: str, *, in_reach: bool = True) -> History:
    problem = f"The ledger {PATH} is not used: {why}. What booted here before is not known."
    return History(problems=(problem,), in_reach=in_reach)


def _location(machine: Machine) -> str:
    """The ledger as a URI of SQLite's. Raises `Missing`, and `Unreadable` for what should not be opened."""
    from urllib.parse import quote

    if machine.is_link(PATH):
        raise Unreadable(PATH, "it is a symbolic link")
    with machine.open(PATH):  # a regular file that this user may read
        pass
    if machine.size(PATH) > _SIZE_LIMIT:
        raise Unreadable(PATH, f"it is larger than {_SIZE_LIMIT >> 20} MiB")
    # A write that was cut off is taken back by the first who reads, if he may write too.
    mode = "mode=rw" if machine.live else "mode=ro&immutable=1"
    if not machine.live and _unfinished(machine):
        raise Unreadable(PATH, "a write to it was not finished, as the journal beside it shows")
    return f"file:{quote(machine.host_path(PATH).encode('utf-8', 'surrogateescape'))}?{mode}"


def _unfinished(machine: Machine) -> bool:
    try:
        with machine.open(f"{PATH}-journal") as file:
            return file.read(len(_ROLLBACK_MAGIC)) == _ROLLBACK_MAGIC
    except Missing:
        return False


class _Reader:
    """One open ledger, and how much may still be read from it."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database
        self._left = _TOTAL_LIMIT
        self._odd = 0
        database.execute("PRAGMA query_only=ON")
        schema.harden(database)
        database.set_progress_handler(lambda: 1, _STEPS)

    def history(self, *, boots: int, checks: int) -> History:
        if not schema.is_begun(self._database):
            return UNKNOWN
        self._database.execute("BEGIN")  # one state of all tables, whoever writes meanwhile
        found = History(
            boots=tuple(self._rows("boots", _boot, boots)),
            checks=tuple(self._rows("checks", _check, checks)),
            events=tuple(self._rows("events", _event, checks)),
            hashes=dict(self._rows("hashes", _hash, _ROWS)),
        )
        if not self._odd:
            return found
        odd = f"In the ledger {PATH} rows cannot be understood, and are left out: {self._odd}."
        return History(found.boots, found.checks, found.events, found.hashes, (odd,))

    def _rows(self, table: str, parse: Callable[[Mapping[str, Any]], _Row], limit: int) -> Iterator[_Row]:
        cursor = self._database.execute(f"SELECT * FROM {table} ORDER BY seq DESC LIMIT ?", (min(limit, _ROWS),))
        names = [column[0] for column in cursor.description]
        for values in cursor:
            self._left -= sum(len(value) for value in values if isinstance(value, (str, bytes)))
            if self._left < 0:
                raise schema.Damaged("its rows are too long")
            try:
                yield parse(dict(zip(names, values)))
            except (ValueError, RecursionError):
                self._odd += 1


def _boot(row: Mapping[str, Any]) -> Boot:
    source = _text(row["source"])
    if source not in ("service", "journal"):
        raise ValueError(source)
    images = _optional(row["initramfs"], _JSON_LIMIT)
    return Boot(
        boot_id=_text(row["boot_id"]),
        release=_text(row["release"]),
        entry=_optional(row["entry"]),
        cmdline=_text(row["cmdline"]),
        started=_text(row["started"]),
        confirmed=_optional(row["confirmed"]),
        source="service" if source == "service" else "journal",
        kernel=_optional(row["kernel"]),
        initramfs=None if images is None else tuple((path, sha256) for path, sha256 in _lists(images, 2)),
        modules=_optional(row["modules"]),
        parts=_parts(row["parts"]),
        findings=_findings(row["findings"]),
        machine=_optional(row["machine"]),
        seq=_number(row["seq"]),
    )


def _check(row: Mapping[str, Any]) -> CheckRow:
    return CheckRow(
        seq=_number(row["seq"]),
        time=_text(row["time"]),
        version=_text(row["version"]),
        boot_id=_optional(row["boot_id"]),
        verdict=_text(row["verdict"]),
        release=_optional(row["release"]),
        entry=_optional(row["entry"]),
        fingerprint=_optional(row["fingerprint"]),
        parts=_parts(row["parts"]),
        findings=_findings(row["findings"]),
    )


def _event(row: Mapping[str, Any]) -> Event:
    return Event(_number(row["seq"]), _text(row["time"]), _text(row["kind"]), _text(row["detail"]))


def _hash(row: Mapping[str, Any]) -> tuple[str, tuple[str, str]]:
    return _text(row["path"]), (_text(row["stamp"]), _text(row["sha256"]))


def _number(value: object) -> int:
    if not isinstance(value, int):
        raise ValueError("not a number")
    return value


def _text(value: object, limit: int = _TEXT_LIMIT) -> str:
    if not isinstance(value, str) or len(value) > limit:
        raise ValueError("not a text, or too long")
    return value


def _optional(value: object, limit: int = _TEXT_LIMIT) -> str | None:
    return None if value is None else _text(value, limit)


def _lists(value: object, length: int) -> list[list[str]]:
    """A JSON array of arrays of so many strings each."""
    import json

    # Python before 3.11 takes minutes for a number of a million digits.
    found = json.loads(_text(value, _JSON_LIMIT), parse_int=lambda _: None)
    if not isinstance(found, list):
        raise ValueError("not a list")
    for item in found:
        if not isinstance(item, list) or len(item) != length or not all(isinstance(word, str) for word in item):
            raise ValueError("not a list of texts")
    return found


def _findings(value: object) -> tuple[tuple[str, str, str], ...]:
    return tuple((first, second, third) for first, second, third in _lists(value, 3))


def _parts(value: object) -> dict[str, str]:
    return {item[0]: item[1] for item in _lists(value, 2)}
