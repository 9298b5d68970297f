"""What is written into the ledger, each act in one transaction that is on the disk when it returns.

Nothing is raised for a ledger that cannot be written: what came in the way is returned, as whole sentences.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING
from urllib.parse import quote

from safeupdate import fingerprint
from safeupdate.errors import SafeupdateError
from safeupdate.ledger import place, schema, witness
from safeupdate.ledger.reading import BOOTS_READ, Boot, boot_id
from safeupdate.ledger.schema import PATH
from safeupdate.ledger.witness import Witness
from safeupdate.report import rfc3339

if TYPE_CHECKING:
    import sqlite3

    from safeupdate.machine import Machine
    from safeupdate.report import Report

_CLOCK_TOLERANCE = timedelta(hours=2)
"""A machine without a battery starts with the time that it noted last, every hour (timesyncd, fake-hwclock)."""

_KEPT_ALWAYS = 100
"""Rows of each table that no clock takes away: some months of a machine that is updated weekly."""

_ROWS = 5000
"""Checks and events that are kept at most, for machines that check every minute: some 10 MB."""

_HASHES = 200
"""Checksums that are kept: a machine has three kernels, with three or four files each."""

_CHECKED_UNTIL = 8 << 20
"""Bytes of a ledger that is looked through before it is written to; it takes 10 ms."""

_PRUNE_WITNESSES = timedelta(days=7), timedelta(days=60)
"""Nothing is pruned by age unless some row is as old as this: right after the clock has jumped ahead none is."""


def record_check(
    machine: Machine, report: Report, hashes: Mapping[str, tuple[str, str]], *, keep_days: int
) -> tuple[str, ...]:
    """Record one run of `check`, and the checksums that it took (`Hasher.fresh`). Returns what came in the way.

    Does nothing for a tree.
    """
    findings = [
        (_plain(finding.id), finding.level, _plain(finding.subject))
        for result in report.checks
        for finding in result.findings
    ]

    def act(ledger: _Ledger) -> None:
        ledger.insert(
            "checks",
            seq=ledger.next(),
            time=report.time,
            version=report.version,
            boot_id=boot_id(machine),
            verdict=report.verdict,
            release=report.target.kernel,
            entry=report.target.entry,
            fingerprint=fingerprint.digest(report.fingerprint) if report.fingerprint else None,
            parts=_json(report.fingerprint.items()),
            findings=_json(findings),
        )
        ledger.remember(hashes)

    return _record(machine, "This check", report.time, act, keep_days)


def record_boots(
    machine: Machine, boots: Sequence[Boot], hashes: Mapping[str, tuple[str, str]], *, time: str, keep_days: int
) -> tuple[str, ...]:
    """Record boots, the oldest first. Of one that is known only `confirmed` is filled in, where that was open.

    This also leaves a witness in /boot. Returns what came in the way. Does nothing for a tree.
    """

    def act(ledger: _Ledger) -> None:
        for boot in boots:
            if ledger.confirm(boot):
                continue
            ledger.insert(
                "boots",
                seq=ledger.next(),
                boot_id=boot.boot_id,
                release=boot.release,
                entry=boot.entry,
                cmdline=boot.cmdline,
                started=boot.started,
                confirmed=boot.confirmed,
                source=boot.source,
                kernel=boot.kernel,
                initramfs=None if boot.initramfs is None else _json(boot.initramfs),
                modules=boot.modules,
                parts=_json(boot.parts.items()),
                findings=_json(boot.findings),
                machine=boot.machine,
            )
        ledger.remember(hashes)
        ledger.witness_in_boot = True

    return _record(machine, "This boot", time, act, keep_days)


def record_event(machine: Machine, kind: str, detail: str, *, time: str, keep_days: int) -> tuple[str, ...]:
    """Record anything else that happened. Returns what came in the way. Does nothing for a tree."""
    return _record(machine, "This", time, lambda ledger: ledger.event(kind, detail), keep_days)


def _record(machine: Machine, what: str, time: str, act: Callable[[_Ledger], None], keep_days: int) -> tuple[str, ...]:
    if not machine.live:
        return ()
    try:
        import sqlite3
    except ImportError:
        return (f"{what} is not in the ledger {PATH}: {schema.NO_SQLITE}.",)
    try:
        with place.held(machine) as path:
            place.make(path)
            try:
                return _write(machine, path, time, act, keep_days)
            except (schema.Damaged, sqlite3.DatabaseError, UnicodeDecodeError) as error:
                # Its subclasses are no damage: a full disk, a lock, a mistake of ours.
                if isinstance(error, sqlite3.Error) and type(error) is not sqlite3.DatabaseError:
                    raise
                notice = (
                    f"The ledger {PATH} was damaged ({schema.reason(error)}); it is kept as {place.put_aside(path)}."
                )
            place.make(path)
            return _write(machine, path, time, act, keep_days, damage=notice)
    except (SafeupdateError, sqlite3.Error, UnicodeDecodeError) as error:
        return (f"{what} is not in the ledger {PATH}: {schema.reason(error)}.",)


def _write(
    machine: Machine, path: str, time: str, act: Callable[[_Ledger], None], keep_days: int, damage: str | None = None
) -> tuple[str, ...]:
    """One act, all of it or nothing. Returns the notices that go with it."""
    import sqlite3

    location = f"file:{quote(os.fsencode(path))}?mode=rw"
    with closing(sqlite3.connect(location, uri=True, timeout=schema.BUSY_SECONDS, isolation_level=None)) as database:
        schema.harden(database)
        database.execute("PRAGMA journal_mode=DELETE")  # of one that was set to another since
        database.execute("PRAGMA synchronous=EXTRA")
        database.execute("PRAGMA temp_store=MEMORY")  # nothing of it lies about in /var/tmp
        database.execute("BEGIN IMMEDIATE")
        ledger = _Ledger(database, time)
        notices = {"ledger-damaged": damage} if damage else dict(_notices(machine, ledger, place.home(machine, path)))
        for kind, detail in notices.items():
            ledger.event(kind, detail)
        act(ledger)
        ledger.prune(keep_days)
        ledger.finish(place.home(machine, path))
        database.execute("COMMIT")
    left = Witness(ledger.id, ledger.last)
    witness.leave(machine, witness.RUNNING, left)
    if ledger.witness_in_boot and witness.is_elsewhere(machine, path):
        witness.leave(machine, witness.LASTING, left)
    return tuple(notices.values())


class _Ledger:
    """The open ledger in the middle of an act. `time` is the time of the act, RFC 3339 in UTC."""

    def __init__(self, database: sqlite3.Connection, time: str) -> None:
        self.time = time
        self.witness_in_boot = False
        self._database = database
        self.is_new = not schema.is_begun(database)
        if self.is_new:
            self._begin()
        elif self._size() < _CHECKED_UNTIL:
            (answer,) = database.execute("PRAGMA quick_check(1)").fetchone()
            if answer != "ok":
                raise schema.Damaged(answer)
        row = database.execute("SELECT id, last, home FROM ledger").fetchone()
        if row is None or not isinstance(row[1], int) or not 0 <= row[1] < witness.LAST_LIMIT:
            raise schema.Damaged("it does not know its own name")
        self.id = str(row[0])
        self.last: int = max(row[1], *(self._highest(table) for table in ("boots", "checks", "events")))
        self.home: str | None = row[2]

    def _begin(self) -> None:
        for table in schema.TABLES.values():
            self._database.execute(table)
        self._database.execute("INSERT INTO ledger VALUES (?, 0, NULL)", (os.urandom(16).hex(),))
        self._database.execute(f"PRAGMA user_version={schema.VERSION}")

    def _highest(self, table: str) -> int:
        return int(self._database.execute(f"SELECT ifnull(max(seq), 0) FROM {table}").fetchone()[0])

    def _size(self) -> int:
        size = "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size"
        return int(self._database.execute(size).fetchone()[0])

    def next(self) -> int:
        """The number of the next row."""
        self.last += 1
        return self.last

    def insert(self, table: str, **values: str | int | None) -> None:
        """A row, its texts with what is no character escaped."""
        names, marks = ", ".join(values), ", ".join("?" * len(values))
        row = [_plain(value) if isinstance(value, str) else value for value in values.values()]
        self._database.execute(f"INSERT INTO {table} ({names}) VALUES ({marks})", row)

    def event(self, kind: str, detail: str) -> None:
        """A row of `events`."""
        self.insert("events", seq=self.next(), time=self.time, kind=kind, detail=detail)

    def confirm(self, boot: Boot) -> bool:
        """Whether this boot is known; then only that it came up is still to be said."""
        known = self._database.execute("SELECT confirmed FROM boots WHERE boot_id = ?", (boot.boot_id,)).fetchone()
        if known == (None,) and boot.confirmed is not None:
            self.next()  # a witness sees that the ledger went on
            self._database.execute("UPDATE boots SET confirmed = ? WHERE boot_id = ?", (boot.confirmed, boot.boot_id))
        return known is not None

    def remember(self, hashes: Mapping[str, tuple[str, str]]) -> None:
        """Checksums, by the path and stamp of their files."""
        self._database.executemany(
            "INSERT OR REPLACE INTO hashes VALUES (?, ?, ?, ?)",
            [(_plain(path), stamp, sha256, self.last) for path, (stamp, sha256) in hashes.items()],
        )

    def newest(self) -> str | None:
        """The time of the row that was written last, whatever the clock said then."""
        rows: list[tuple[int, str]] = []
        ours = "SELECT seq, confirmed AS time FROM boots WHERE confirmed IS NOT NULL AND source = 'service'"
        for table in ("checks", "events", f"({ours})"):
            newest = f"SELECT seq, time FROM {table} ORDER BY seq DESC LIMIT 1"
            rows += self._database.execute(newest).fetchall()
        return str(max(rows, key=lambda row: row[0])[1]) if rows else None

    def prune(self, keep_days: int) -> None:
        """Forget what is old, but never the last rows, nor the last good boot of any kernel."""
        old = "seq NOT IN (SELECT seq FROM {0} ORDER BY seq DESC LIMIT {1})"
        proven = "seq NOT IN (SELECT max(seq) FROM boots WHERE confirmed IS NOT NULL GROUP BY release)"
        execute = self._database.execute
        for table in ("checks", "events"):
            execute(f"DELETE FROM {table} WHERE {old.format(table, _ROWS)}")
        execute(f"DELETE FROM boots WHERE {old.format('boots', BOOTS_READ)} AND {proven}")
        execute(f"DELETE FROM hashes WHERE path NOT IN (SELECT path FROM hashes ORDER BY seq DESC LIMIT {_HASHES})")
        now = _moment(self.time)
        recent, distant = (rfc3339(now - span) for span in _PRUNE_WITNESSES)
        seen = "SELECT 1 FROM {0} WHERE time BETWEEN ? AND ? LIMIT 1"
        if not any(execute(seen.format(table), (distant, recent)).fetchone() for table in ("checks", "events")):
            return
        oldest = (rfc3339(now - timedelta(days=keep_days)),)
        for table in ("checks", "events"):
            execute(f"DELETE FROM {table} WHERE time < ? AND {old.format(table, _KEPT_ALWAYS)}", oldest)
        execute(f"DELETE FROM boots WHERE started < ? AND {old.format('boots', _KEPT_ALWAYS)} AND {proven}", oldest)

    def finish(self, home: str | None) -> None:
        """What the next act compares with."""
        self._database.execute("UPDATE ledger SET last = ?, home = ?", (self.last, home or self.home))


def _notices(machine: Machine, ledger: _Ledger, home: str | None) -> Iterator[tuple[str, str]]:
    """What speaks against this ledger being all that was recorded here; each is told once."""
    newest = ledger.newest()
    if newest is not None and _moment(ledger.time) + _CLOCK_TOLERANCE < _moment(newest):
        yield (
            "clock-back",
            f"The clock was set back: it is {ledger.time} now, and the ledger {PATH} has a row of {newest}.",
        )
    running = witness.read(machine, witness.RUNNING)
    others = [other for other in (running, witness.read(machine, witness.LASTING)) if other is not None]
    ahead = max((other.last for other in others if other.id == ledger.id), default=0) - ledger.last
    lost = "what was recorded since is lost"
    if ledger.is_new and running is not None:
        yield "ledger-gone", f"The ledger {PATH} was removed since the machine started: a new one was begun."
    elif running is not None and running.id != ledger.id:
        yield "ledger-replaced", f"The ledger {PATH} was replaced by another one since the machine started."
    elif ahead > 0:
        ledger.last += ahead
        yield "ledger-restored", f"The ledger {PATH} was restored from an older copy or snapshot: {lost}."
    elif None not in (home, ledger.home) and home != ledger.home:
        yield "ledger-moved", f"The ledger {PATH} was moved, or restored from a copy or snapshot: then {lost}."


def _moment(text: str) -> datetime:
    """A time as it is written here. What is none counts as long ago."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return datetime.min.replace(tzinfo=timezone.utc)
    return moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)


def _plain(text: str) -> str:
    r"""The text with halves of characters, as names of files may hold, as `\udcNN`: SQLite takes only whole ones."""
    return text.encode("utf-8", "backslashreplace").decode()


def _json(rows: Iterable[Sequence[str]]) -> str:
    return json.dumps([list(row) for row in rows], separators=(",", ":"))
