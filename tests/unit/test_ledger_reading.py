"""The reading half of the ledger: every file that may lie in its place."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from safeupdate.ledger import schema
from safeupdate.ledger.reading import Boot, CheckRow, Event, History, read
from safeupdate.machine import Machine
from tests.unit.trees import Link, open_directory, tree

BOOT = (
    "INSERT INTO boots VALUES (1, 'b-1', '6.1.0-50-amd64', 'gnulinux', 'root=UUID=x ro', '2026-11-01T08:00:00+00:00',"
    " '2026-11-01T08:01:00+00:00', 'service', 'aa', '[[\"/boot/initrd.img\", \"bb\"]]', 'cc', '[[\"menu\", \"1\"]]',"
    ' \'[["mounts.device-missing", "/srv", "It is gone."]]\', \'dd\')'
)
CHECK = (
    "INSERT INTO checks VALUES (2, '2026-11-02T08:00:00+00:00', '1.0', 'b-1', 'unsafe', '6.1.0-51-amd64', NULL, 'ff',"
    ' \'[["menu", "2"]]\', \'[["initramfs.truncated", "blocker", "/boot/initrd.img"]]\')'
)


def ledger(path: Path, *statements: str, version: int = schema.VERSION, tables: bool = True) -> Path:
    """A ledger file with these statements run in it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        for table in schema.TABLES.values() if tables else ():
            database.execute(table)
        for statement in statements:
            database.execute(statement)
        database.execute(f"PRAGMA user_version={version}")
    return path


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / schema.PATH.lstrip("/")


def test_no_ledger_is_no_history_and_no_problem(tmp_path: Path) -> None:
    assert read(tree(tmp_path, {"/etc/fstab": ""})) == History()


def test_rows_come_newest_first(tmp_path: Path, place: Path) -> None:
    later = BOOT.replace("(1, 'b-1'", "(4, 'b-2'").replace("'2026-11-01T08:01:00+00:00'", "NULL")
    ledger(
        place,
        BOOT,
        CHECK,
        "INSERT INTO events VALUES (3, '2026-11-03T08:00:00+00:00', 'clock-back', 'The clock.')",
        later.replace("08:00", "07:00"),
        "INSERT INTO hashes VALUES ('/boot/vmlinuz', '1:2:3', 'aa', 4)",
    )
    history = read(Machine.tree(str(tmp_path)))
    assert history.problems == ()
    assert [boot.boot_id for boot in history.boots] == ["b-2", "b-1"]
    assert history.boot("b-1") == Boot(
        "b-1",
        "6.1.0-50-amd64",
        "gnulinux",
        "root=UUID=x ro",
        "2026-11-01T08:00:00+00:00",
        "2026-11-01T08:01:00+00:00",
        "service",
        "aa",
        (("/boot/initrd.img", "bb"),),
        "cc",
        {"menu": "1"},
        (("mounts.device-missing", "/srv", "It is gone."),),
        "dd",
        1,
    )
    assert history.good("6.1.0-50-amd64") == (history.boot("b-1"),)
    assert history.boot(None) is None
    assert history.good(None) == ()
    assert history.checks == (
        CheckRow(
            2,
            "2026-11-02T08:00:00+00:00",
            "1.0",
            "b-1",
            "unsafe",
            "6.1.0-51-amd64",
            None,
            "ff",
            {"menu": "2"},
            (("initramfs.truncated", "blocker", "/boot/initrd.img"),),
        ),
    )
    assert history.events == (Event(3, "2026-11-03T08:00:00+00:00", "clock-back", "The clock."),)
    assert history.hashes == {"/boot/vmlinuz": ("1:2:3", "aa")}


def test_a_tree_is_read_without_a_trace(tmp_path: Path, place: Path) -> None:
    ledger(place, BOOT)
    before = [(entry.name, entry.stat()[:9]) for entry in sorted(os.scandir(place.parent), key=lambda e: e.name)]
    assert read(Machine.tree(str(tmp_path))).boots
    assert before == [(entry.name, entry.stat()[:9]) for entry in os.scandir(place.parent)]


def test_a_name_is_no_uri(tmp_path: Path) -> None:
    root = tmp_path / "a?b#c%20d"
    ledger(root / schema.PATH.lstrip("/"), BOOT)
    assert len(read(Machine.tree(str(root))).boots) == 1


def test_an_empty_file_is_a_ledger_that_was_just_made(tmp_path: Path, place: Path) -> None:
    place.parent.mkdir(parents=True)
    place.write_bytes(b"")
    assert read(Machine.tree(str(tmp_path))) == History()


def problem(root: Path, *, live: bool = False) -> str:
    history = read(Machine(str(root), live=live))
    assert history == History(problems=history.problems)
    (sentence,) = history.problems
    assert schema.PATH in sentence
    return sentence


def test_a_later_version_is_left_alone(tmp_path: Path, place: Path) -> None:
    ledger(place, BOOT, version=2)
    assert "later version" in problem(tmp_path)


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TRIGGER t AFTER INSERT ON boots BEGIN DELETE FROM boots; END",
        "CREATE VIEW v AS SELECT 1",
        "ALTER TABLE boots ADD COLUMN more",
        "DROP TABLE hashes",
    ],
)
def test_other_tables_are_not_ours(tmp_path: Path, place: Path, statement: str) -> None:
    ledger(place, BOOT, statement)
    assert "is damaged" in problem(tmp_path)


def test_a_view_in_place_of_a_table_is_not_run(tmp_path: Path, place: Path) -> None:
    endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i AS seq FROM n"
    ledger(place, *(f"CREATE VIEW {name} AS {endless}" for name in schema.TABLES), tables=False)
    assert "is damaged" in problem(tmp_path)


@pytest.mark.parametrize("content", [b"no database", b"SQLite format 3\0", bytes(70_000), os.urandom(8192)])
def test_other_bytes_are_a_problem(tmp_path: Path, place: Path, content: bytes) -> None:
    place.parent.mkdir(parents=True)
    place.write_bytes(content)
    assert "is damaged" in problem(tmp_path)
    assert "is damaged" in problem(tmp_path, live=True)


@pytest.mark.parametrize(
    "change",
    [
        "boot_id=x'00ff'",
        "initramfs='[[1, 2]]'",
        "initramfs='{}'",
        "initramfs='[[\"a\"]]'",
        "parts='" + "[" * 100_000 + "'",
        "parts='" + "9" * 100_000 + "'",
        "source='telepathy'",
        "cmdline=zeroblob(9)",
        "release=printf('%.*c', 70000, 'x')",
    ],
)
def test_a_row_that_makes_no_sense_is_left_out(tmp_path: Path, place: Path, change: str) -> None:
    ledger(place, BOOT, BOOT.replace("(1, 'b-1'", "(2, 'b-2'"), f"UPDATE boots SET {change} WHERE seq=2")
    history = read(Machine.tree(str(tmp_path)))
    assert [boot.boot_id for boot in history.boots] == ["b-1"]
    assert history.problems == (f"In the ledger {schema.PATH} rows cannot be understood, and are left out: 1.",)


def test_what_is_read_is_bounded(tmp_path: Path, place: Path) -> None:
    ledger(
        place,
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 50)"
        " INSERT INTO events SELECT i, '', 'k', printf('%.*c', 1000000, 'x') FROM n",
    )
    assert "too long" in problem(tmp_path)


def test_rows_are_as_many_as_asked_for(tmp_path: Path, place: Path) -> None:
    ledger(
        place,
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 50)"
        " INSERT INTO events SELECT i, '', 'k', '' FROM n",
    )
    assert [event.seq for event in read(Machine.tree(str(tmp_path)), checks=2).events] == [50, 49]


@pytest.mark.parametrize("what", ["link", "fifo", "directory", "sparse"])
def test_only_a_plain_file_is_opened(tmp_path: Path, place: Path, what: str) -> None:
    place.parent.mkdir(parents=True)
    if what == "link":
        tree(tmp_path, {schema.PATH: Link("/tmp/other")})
    elif what == "fifo":
        os.mkfifo(place)
    elif what == "directory":
        place.mkdir()
    else:
        with open(place, "wb") as file:
            file.truncate(1 << 40)
    assert "cannot be read" in problem(tmp_path)
    assert "cannot be read" in problem(tmp_path, live=True)


def cut_off(place: Path) -> None:
    """Leave the ledger as a write leaves it that was killed: pages changed, the journal beside it."""
    ledger(place, BOOT)
    child = os.fork()
    if not child:
        database = sqlite3.connect(place, isolation_level=None)
        database.execute("PRAGMA cache_size=1")
        database.execute("PRAGMA cache_spill=1")
        database.execute("BEGIN")
        database.execute("DELETE FROM boots")
        database.executemany("INSERT INTO events VALUES (?, '', 'k', ?)", [(n, "x" * 3000) for n in range(100)])
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert place.with_name("ledger.db-journal").stat().st_size > 512


def test_a_write_that_was_cut_off_is_taken_back_where_the_machine_lives(tmp_path: Path, place: Path) -> None:
    cut_off(place)
    assert [boot.boot_id for boot in read(Machine(str(tmp_path), live=True)).boots] == ["b-1"]


def test_a_write_that_was_cut_off_leaves_a_tree_as_it_is(tmp_path: Path, place: Path) -> None:
    cut_off(place)
    before = place.read_bytes()
    assert "not finished" in problem(tmp_path)
    assert place.read_bytes() == before
    assert place.with_name("ledger.db-journal").exists()


def test_one_who_writes_for_long_is_not_waited_for(tmp_path: Path, place: Path) -> None:
    ledger(place, BOOT)
    with closing(sqlite3.connect(place, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        assert "locked" in problem(tmp_path, live=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_an_ordinary_user_is_told_that_the_ledger_is_private() -> None:
    with open_directory() as root:
        place = ledger(root / schema.PATH.lstrip("/"), BOOT)
        place.chmod(0o600)
        place.parent.chmod(0o700)
        child = os.fork()
        if not child:
            os.setresuid(65534, 65534, 65534)
            told = read(Machine(str(root), live=True))
            os._exit(0 if told.boots == () and "run this as root" in told.problems[0] and not told.in_reach else 1)
        assert os.waitpid(child, 0)[1] == 0


def test_a_python_without_sqlite_is_told_of(tmp_path: Path, place: Path) -> None:
    """As where a distribution has that module in a package of its own. Without a ledger there is nothing to read."""
    ledger(place, BOOT)
    tree(tmp_path / "new", {"/var/lib": None, "/run": None})
    tree(tmp_path / "split", {"/sqlite3.py": "raise ImportError(\"No module named '_sqlite3'\")\n"})
    program = (
        "import sys; from safeupdate.ledger import reading, writing; from safeupdate.machine import Machine\n"
        "for root in sys.argv[1:]:\n"
        "    machine = Machine(root, live=True)\n"
        "    told = writing.record_event(machine, 'a', 'b', time='2026-11-23T04:00:00+00:00', keep_days=9)\n"
        "    print(*reading.read(machine).problems, *told, sep='\\n')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path), str(tmp_path / "new")],
        env={**os.environ, "PYTHONPATH": os.pathsep.join((str(tmp_path / "split"), *sys.path))},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stderr == ""
    read_, written, new = done.stdout.splitlines()
    assert "is not used: the Python that runs this lacks its module sqlite3" in read_
    assert "This is not in the ledger" in written
    assert written == new
    assert "libpython3-stdlib" in new
