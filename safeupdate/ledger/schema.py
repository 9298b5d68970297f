"""Where the ledger is, what its tables are, and how one is told from any other bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from safeupdate.errors import SafeupdateError

if TYPE_CHECKING:
    import sqlite3

PATH = "/var/lib/safeupdate/ledger.db"

VERSION = 1
"""`PRAGMA user_version` of a ledger that this program understands; 0 is one in which nothing was ever written."""

BUSY_SECONDS = 2.0
"""How long to wait for another process. A record is written in some milliseconds: what holds the ledger for longer
hangs, and a check must not hang with it."""

TABLES = {
    # One row. `last` is the number that was given last, to a row of any table; `home` the place of the file.
    "ledger": "CREATE TABLE ledger (id TEXT NOT NULL, last INTEGER NOT NULL, home TEXT)",
    "boots": """CREATE TABLE boots (
    seq INTEGER PRIMARY KEY, boot_id TEXT NOT NULL UNIQUE, release TEXT NOT NULL, entry TEXT, cmdline TEXT NOT NULL,
    started TEXT NOT NULL, confirmed TEXT, source TEXT NOT NULL, kernel TEXT, initramfs TEXT, modules TEXT,
    parts TEXT NOT NULL, findings TEXT NOT NULL, machine TEXT)""",
    "checks": """CREATE TABLE checks (
    seq INTEGER PRIMARY KEY, time TEXT NOT NULL, version TEXT NOT NULL, boot_id TEXT, verdict TEXT NOT NULL,
    release TEXT, entry TEXT, fingerprint TEXT, parts TEXT NOT NULL, findings TEXT NOT NULL)""",
    "events": """CREATE TABLE events (
    seq INTEGER PRIMARY KEY, time TEXT NOT NULL, kind TEXT NOT NULL, detail TEXT NOT NULL)""",
    "hashes": """CREATE TABLE hashes (
    path TEXT PRIMARY KEY, stamp TEXT NOT NULL, sha256 TEXT NOT NULL, seq INTEGER NOT NULL)""",
}

NO_SQLITE = (
    "the Python that runs this lacks its module sqlite3; install the package that has it (libpython3-stdlib on Debian "
    "and Ubuntu, python3-sqlite3 or python3 elsewhere)"
)


class Damaged(SafeupdateError):
    """The file is no ledger, or no longer a whole one."""


class Newer(SafeupdateError):
    """A later version of this program wrote the ledger."""


def reason(error: Exception) -> str:
    """What came in the way, in one line. A message of SQLite's that quotes a damaged name is no text."""
    return "a name in it is no text" if isinstance(error, UnicodeDecodeError) else " ".join(str(error).split())


def harden(database: sqlite3.Connection) -> None:
    """Take nothing in the file for more than rows: no functions in its schema, no trust in its pages."""
    database.execute("PRAGMA trusted_schema=OFF")
    database.execute("PRAGMA cell_size_check=ON")
    database.execute("PRAGMA mmap_size=0")
    database.text_factory = lambda data: data.decode("utf-8", "replace")


def is_begun(database: sqlite3.Connection) -> bool:
    """Whether anything was ever written. Raises `Damaged` for what is not this program's work, and `Newer`.

    The tables must be these to the letter: a view or a trigger in their place would run another one's code.
    """
    (version,) = database.execute("PRAGMA user_version").fetchone()
    if version > VERSION:
        raise Newer(f"a later version of safeupdate wrote it (format {version}; this one knows {VERSION})")
    found = {}
    for name, sql in database.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL LIMIT 100"):
        found[name] = sql
    if version == 0 and not found:
        return False
    if version != VERSION or found != TABLES:
        raise Damaged("its tables are not those of safeupdate")
    return True
