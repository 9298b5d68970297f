"""The writing half of the ledger: what is kept, what is noticed, and everything that may come in the way."""

from __future__ import annotations

import json
import os
import random
import sqlite3
import stat
import subprocess
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from safeupdate.ledger import schema, writing
from safeupdate.ledger.reading import BOOT_ID, Boot, History, read
from safeupdate.machine import Machine
from safeupdate.report import CheckResult, Report, note
from tests.unit.reports import FULL
from tests.unit.trees import Content, Link, open_directory, tree

NOW = datetime(2026, 11, 23, 4, 0, tzinfo=timezone.utc)
DAYS = 400
BOOT = Boot("b-1", "6.1.0-50-amd64", "gnulinux", "root=UUID=x ro", NOW.isoformat(), NOW.isoformat(), "service")
WITNESS = "run/safeupdate/ledger.json"
IN_BOOT = "boot/safeupdate/ledger.json"

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="mounts, and other users, are root's")


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return alive(tmp_path)


def alive(root: Path, **files: Content) -> Machine:
    tree(root, {"/var/lib": None, "/run": None, "/boot": None, BOOT_ID: "boot-1\n", **files})
    return Machine(str(root), live=True)


def ledger(machine: Machine) -> Path:
    return Path(machine.root + schema.PATH)


def at(days: float, report: Report = FULL) -> Report:
    """A report of some days after now."""
    return replace(report, time=(NOW + timedelta(days=days)).isoformat(timespec="seconds"))


def check(machine: Machine, days: float = 0, *, keep: int = DAYS) -> tuple[str, ...]:
    return writing.record_check(machine, at(days), {}, keep_days=keep)


def boots(machine: Machine, *found: Boot, days: float = 0, keep: int = DAYS) -> tuple[str, ...]:
    return writing.record_boots(machine, found, {}, time=at(days).time, keep_days=keep)


def history(machine: Machine) -> History:
    found = read(machine, checks=10_000)
    assert found.problems == ()
    return found


def test_a_check_is_kept_as_it_was(machine: Machine) -> None:
    report = replace(FULL, fingerprint={"menu": "1", "kernels": "2"})
    hashes = {"/boot/vmlinuz": ("1:2", "aa"), "/boot/" + os.fsdecode(b"\xff"): ("1:2", "bb")}
    assert writing.record_check(machine, report, hashes, keep_days=DAYS) == ()
    found = history(machine)
    (row,) = found.checks
    assert (row.seq, row.time, row.version, row.boot_id, row.verdict) == (1, FULL.time, "1.2.3", "boot-1", "unsafe")
    assert (row.release, row.entry) == ("6.1.0-51-amd64", "gnulinux")
    assert row.parts == report.fingerprint
    assert row.fingerprint is not None
    assert row.findings[2] == ("kernel-files.image-empty", "blocker", "/boot/vmlinuz")
    assert len(row.findings) == 4
    assert found.hashes["/boot/vmlinuz"] == ("1:2", "aa")
    assert len(found.hashes) == 2


def test_names_that_are_no_text_are_escaped(machine: Machine) -> None:
    odd = os.fsdecode(b"/boot/\xff") + "\ud800\0"
    report = replace(FULL, checks=(CheckResult("a", "b", True, "passed", (note("a.b", odd, "c"),)),))
    assert writing.record_check(machine, report, {}, keep_days=DAYS) == ()
    assert boots(machine, replace(BOOT, entry=odd, initramfs=((odd, "aa"),))) == ()
    found = history(machine)
    assert found.checks[0].findings == (("a.b", "note", "/boot/\\udcff\\ud800\0"),)
    assert found.boots[0].entry == "/boot/\\udcff\\ud800\0"
    assert found.boots[0].initramfs == ((odd, "aa"),)


def test_it_is_private(machine: Machine) -> None:
    before = os.umask(0)
    try:
        check(machine)
    finally:
        os.umask(before)
    assert stat.S_IMODE(ledger(machine).stat().st_mode) == 0o600
    assert stat.S_IMODE(ledger(machine).parent.stat().st_mode) == 0o700
    ledger(machine).chmod(0o644)
    ledger(machine).parent.chmod(0o777)
    check(machine)
    assert stat.S_IMODE(ledger(machine).stat().st_mode) == 0o600
    assert stat.S_IMODE(ledger(machine).parent.stat().st_mode) == 0o700


def test_nothing_lies_about(machine: Machine) -> None:
    check(machine)
    boots(machine, BOOT)
    assert os.listdir(ledger(machine).parent) == ["ledger.db"]
    assert os.listdir(os.path.dirname(machine.root + "/" + WITNESS)) == ["ledger.json"]
    assert os.listdir(machine.root + "/boot") == []


def test_a_tree_is_not_written_to(tmp_path: Path) -> None:
    machine = tree(tmp_path, {"/var/lib": None})
    assert check(machine) == boots(machine, BOOT) == ()
    assert os.listdir(tmp_path / "var/lib") == []


def test_a_boot_is_written_once_and_confirmed_once(machine: Machine) -> None:
    open_ = replace(BOOT, confirmed=None, kernel="aa", findings=(("a.b", "/x", "It is so."),), parts={"menu": "1"})
    assert boots(machine, open_) == ()
    assert history(machine).boots == (replace(open_, seq=1),)
    assert boots(machine, replace(open_, kernel="changed")) == ()
    assert history(machine).boots == (replace(open_, seq=1),)
    later = "2026-11-23T05:00:00+00:00"
    assert boots(machine, replace(open_, kernel="changed", confirmed=later)) == ()
    assert history(machine).boots == (replace(open_, seq=1, confirmed=later),)
    assert boots(machine, replace(open_, confirmed="2026-11-23T06:00:00+00:00"), days=1) == ()
    assert history(machine).boots == (replace(open_, seq=1, confirmed=later),)


def test_an_event(machine: Machine) -> None:
    assert writing.record_event(machine, "snapshot", "A snapshot.", time=FULL.time, keep_days=DAYS) == ()
    assert [(event.kind, event.detail) for event in history(machine).events] == [("snapshot", "A snapshot.")]


# -- what is forgotten -----------------------------------------------------------------------------------------


def filled(machine: Machine, count: int, days: float, *, confirmed: bool = True) -> None:
    """Rows of each table, written on so many days before now, of one kernel release a table."""
    check(machine)
    then = (NOW - timedelta(days=days)).isoformat()
    with closing(sqlite3.connect(ledger(machine))) as database, database:
        (last,) = database.execute("SELECT last FROM ledger").fetchone()
        for seq in range(last + 1, last + 1 + 2 * count, 2):
            database.execute(
                "INSERT INTO boots VALUES (?, ?, ?, NULL, '', ?, ?, 'service', NULL, NULL, NULL, '[]', '[]', NULL)",
                (seq, f"old-{seq}", f"release-{days}", then, then if confirmed else None),
            )
            database.execute(
                "INSERT INTO checks VALUES (?, ?, '1', NULL, 'safe', ?, NULL, NULL, '[]', '[]')",
                (seq + 1, then, f"release-{days}"),
            )
        database.execute("UPDATE ledger SET last = ?", (last + 2 * count,))
        database.execute("DELETE FROM checks WHERE version = '1.2.3'")


def test_what_is_old_is_forgotten_but_for_the_last_good_boot_of_each_kernel(machine: Machine) -> None:
    filled(machine, 30, DAYS + 200)
    filled(machine, 120, DAYS + 100)
    filled(machine, 110, 30)
    assert check(machine) == ()
    found = history(machine)
    assert len(found.checks) == 111
    assert {row.release for row in found.checks} == {"release-30", "6.1.0-51-amd64"}
    assert [boot.release for boot in found.boots] == ["release-30"] * 110 + [f"release-{DAYS + n}" for n in (100, 200)]


def test_the_last_rows_stay_however_old(machine: Machine) -> None:
    filled(machine, 150, DAYS + 100)
    filled(machine, 5, 30)
    assert check(machine) == ()
    assert len(history(machine).checks) == 100
    assert len(history(machine).boots) == 100


def test_a_clock_far_ahead_forgets_nothing(machine: Machine) -> None:
    filled(machine, 150, 30)
    for minute in range(3):
        assert check(machine, 5000 + minute / 1440) == ()
    assert len(history(machine).checks) == 153
    assert len(history(machine).boots) == 150


def test_there_is_an_end_to_it_without_any_clock(machine: Machine) -> None:
    filled(machine, 5100, 0)
    with closing(sqlite3.connect(ledger(machine))) as database, database:
        database.executemany("INSERT INTO hashes VALUES (?, '', '', ?)", [(f"/{n}", n) for n in range(300)])
    assert check(machine) == ()
    found = history(machine)
    assert len(found.checks) == 5000
    assert len(found.boots) == 1000
    assert len(found.hashes) == 200
    assert "/299" in found.hashes


# -- what is noticed -------------------------------------------------------------------------------------------


def noticed(machine: Machine, problems: tuple[str, ...]) -> str:
    """The kind of the one notice, which is also an event, and which is not told again."""
    (problem,) = problems
    kind = history(machine).events[0].kind
    assert history(machine).events[0].detail == problem
    assert check(machine, days=40) == ()
    return kind


def test_a_clock_that_jumps_back_is_told_once(machine: Machine) -> None:
    assert check(machine, 10) == ()
    assert check(machine, 10 - 1.9 / 24) == ()
    problems = check(machine, 9)
    assert "2026-12-03" in problems[0]
    assert noticed(machine, problems) == "clock-back"


def test_a_ledger_rewound_while_the_machine_runs(machine: Machine) -> None:
    check(machine)
    old = ledger(machine).read_bytes()
    check(machine)
    check(machine)
    ledger(machine).write_bytes(old)
    problems = check(machine)
    assert noticed(machine, problems) == "ledger-restored"
    assert [row.seq for row in history(machine).checks] == [6, 5, 1]


def test_a_ledger_that_went_away_or_changed_while_the_machine_runs(machine: Machine) -> None:
    check(machine)
    first = ledger(machine).read_bytes()
    ledger(machine).unlink()
    problems = check(machine)
    assert noticed(machine, problems) == "ledger-gone"
    ledger(machine).write_bytes(first)
    problems = check(machine)
    assert noticed(machine, problems) == "ledger-replaced"


MOUNTS = """\
22 1 0:20 / /proc rw - proc proc rw
25 1 0:25 /@ / rw,relatime shared:1 - btrfs /dev/vda2 rw,subvolid=256,subvol=/@
26 25 254:1 / /boot rw,relatime shared:2 - ext4 /dev/vda1 rw
"""


def mounted(machine: Machine, mounts: str) -> None:
    tree(Path(machine.root), {"/proc/self/mountinfo": mounts})


def test_another_subvolume_as_root(machine: Machine) -> None:
    mounted(machine, MOUNTS)
    assert check(machine) == ()
    assert check(machine) == ()
    mounted(machine, MOUNTS.replace("256", "260"))
    problems = check(machine)
    assert noticed(machine, problems) == "ledger-moved"


def test_a_copy_of_the_ledger_in_its_place(machine: Machine) -> None:
    mounted(machine, MOUNTS.replace("btrfs", "ext4"))
    check(machine)
    os.rename(ledger(machine), str(ledger(machine)) + ".old")
    ledger(machine).write_bytes(Path(str(ledger(machine)) + ".old").read_bytes())
    problems = check(machine)
    assert noticed(machine, problems) == "ledger-moved"


@pytest.mark.parametrize(
    "mounts",
    [
        # A service with a view of its own; and the devices by other names after a reboot.
        MOUNTS + "27 25 0:25 /@/var/lib/safeupdate /var/lib/safeupdate rw - btrfs /dev/vda2 rw,subvolid=256\n",
        MOUNTS.replace("vda", "sdb").replace("0:25", "0:31"),
        MOUNTS.replace("btrfs", "overlay"),
        "broken",
        "",
    ],
)
def test_the_same_place_seen_otherwise(machine: Machine, mounts: str) -> None:
    mounted(machine, MOUNTS)
    check(machine)
    mounted(machine, mounts)
    assert check(machine) == ()
    mounted(machine, MOUNTS)
    assert check(machine) == ()


@pytest.mark.parametrize("content", ["", "{", "[]", '{"id": 1}', '{"id": "x", "last": -1}', '{"id":"x","last":1e400}'])
def test_a_witness_that_makes_no_sense_is_none(machine: Machine, content: str) -> None:
    check(machine)
    Path(machine.root, WITNESS).write_text(content)
    assert check(machine) == ()


def test_a_witness_that_cannot_be_left_leaves_nothing(machine: Machine) -> None:
    Path(machine.root, WITNESS).mkdir(parents=True)
    assert check(machine) == ()
    assert [path.name for path in Path(machine.root, WITNESS).parent.iterdir()] == [Path(WITNESS).name]


@contextmanager
def mount(where: Path, *arguments: str) -> Iterator[None]:
    where.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", *arguments, str(where)], check=True, timeout=30)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(where)], check=True, timeout=30)


def small(where: Path) -> AbstractContextManager[None]:
    """A file system of 200 KiB."""
    return mount(where, "-t", "tmpfs", "-o", "size=200k", "safeupdate-test")


def fill(path: Path) -> None:
    """Take what is left of a file system."""
    with suppress(OSError), open(path, "wb", buffering=0) as rest:
        while rest.write(bytes(4096)):
            pass


@needs_root
def test_a_root_that_was_rewound_is_noticed_by_what_lies_in_boot(machine: Machine, tmp_path: Path) -> None:
    with small(tmp_path / "boot"):
        boots(machine, BOOT)
        old = ledger(machine).read_bytes()
        check(machine)
        assert json.loads((tmp_path / IN_BOOT).read_text())["last"] == 1
        boots(machine, replace(BOOT, boot_id="b-2"))
        assert json.loads((tmp_path / IN_BOOT).read_text())["last"] == 3
        assert os.listdir((tmp_path / IN_BOOT).parent) == ["ledger.json"]
        ledger(machine).write_bytes(old)
        (tmp_path / WITNESS).unlink()
        problems = check(machine)
        assert noticed(machine, problems) == "ledger-restored"


@needs_root
def test_a_boot_that_cannot_be_written_is_no_word_worth(machine: Machine, tmp_path: Path) -> None:
    with small(tmp_path / "boot"):
        subprocess.run(["mount", "-o", "remount,ro", str(tmp_path / "boot")], check=True, timeout=30)
        assert boots(machine, BOOT) == ()
        assert os.listdir(tmp_path / "boot") == []


# -- what may come in the way ----------------------------------------------------------------------------------


def refused(problems: tuple[str, ...]) -> str:
    (problem,) = problems
    assert problem.startswith("This ")
    assert schema.PATH in problem
    return problem


@pytest.mark.parametrize("kind", ["link", "fifo", "directory"])
def test_something_else_in_its_place_is_left_alone(machine: Machine, tmp_path: Path, kind: str) -> None:
    target = tmp_path / "target"
    ledger(machine).parent.mkdir(mode=0o700)
    if kind == "link":
        tree(tmp_path, {schema.PATH: Link(str(target))})
    elif kind == "fifo":
        os.mkfifo(ledger(machine))
    else:
        ledger(machine).mkdir()
    assert "not a regular file" in refused(check(machine))
    assert not target.exists()


def test_no_place_for_it(tmp_path: Path) -> None:
    assert "does not exist" in refused(check(Machine(str(tmp_path), live=True)))
    tree(tmp_path, {"/var/lib/safeupdate": "a file"})
    assert "not a directory" in refused(check(Machine(str(tmp_path), live=True)))


def test_a_later_version_is_left_alone(machine: Machine) -> None:
    check(machine)
    with closing(sqlite3.connect(ledger(machine))) as database:
        database.execute("PRAGMA user_version=2")
    before = ledger(machine).read_bytes()
    assert "later version" in refused(check(machine))
    assert ledger(machine).read_bytes() == before


def test_a_lock_is_waited_for_but_not_for_long(machine: Machine) -> None:
    check(machine)
    with closing(sqlite3.connect(ledger(machine), isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        assert "locked" in refused(check(machine))
        other.execute("COMMIT")
    assert check(machine) == ()


@needs_root
def test_a_full_file_system(tmp_path: Path) -> None:
    with small(tmp_path / "var/lib"):
        machine = alive(tmp_path)
        assert check(machine) == ()
        fill(tmp_path / "var/lib/rest")
        full: list[str] = []
        while not full:
            done = len(history(machine).checks)
            full = list(check(machine))
        assert "full" in full[0] or "disk" in full[0]
        assert len(history(machine).checks) == done
        (tmp_path / "var/lib/rest").unlink()
        assert check(machine) == ()
        assert len(history(machine).checks) == done + 1
        assert os.listdir(ledger(machine).parent) == ["ledger.db"]


@needs_root
def test_a_full_file_system_from_the_beginning(tmp_path: Path) -> None:
    with small(tmp_path / "var/lib"):
        machine = alive(tmp_path)
        fill(tmp_path / "var/lib/rest")
        assert "full" in refused(check(machine)) or "disk" in refused(check(machine))
        assert history(machine) == History()


@needs_root
@pytest.mark.parametrize("begun", [False, True])
def test_a_read_only_file_system(tmp_path: Path, begun: bool) -> None:
    with small(tmp_path / "var/lib"):
        machine = alive(tmp_path)
        if begun:
            check(machine)
        subprocess.run(["mount", "-o", "remount,ro", str(tmp_path / "var/lib")], check=True, timeout=30)
        assert "ead-only" in refused(check(machine)) or "readonly" in refused(check(machine))
        assert len(history(machine).checks) == begun


@needs_root
def test_another_owner_and_an_ordinary_user() -> None:
    with open_directory() as root:
        machine = alive(root)
        check(machine)
        for place in (ledger(machine), ledger(machine).parent):
            before = place.stat().st_uid
            os.chown(place, 1, 1)
            assert "owner" in refused(check(machine))
            os.chown(place, before, before)
        assert check(machine) == ()
        for begun in (True, False):
            if not begun:
                ledger(machine).unlink()
                ledger(machine).parent.rmdir()
            child = os.fork()
            if not child:
                os.setresuid(65534, 65534, 65534)
                told = check(machine)
                os._exit(0 if len(told) == 1 and ("owner" in told[0] or "ermission" in told[0]) else 1)
            assert os.waitpid(child, 0)[1] == 0


# -- what is damaged -------------------------------------------------------------------------------------------


def aside(machine: Machine) -> list[str]:
    return sorted(name for name in os.listdir(ledger(machine).parent) if "damaged" in name)


@pytest.mark.parametrize("content", [b"no ledger at all", bytes(9000), b"SQLite format 3\0" + bytes(100)])
def test_a_damaged_ledger_is_put_aside_and_a_new_one_begun(machine: Machine, content: bytes) -> None:
    check(machine)
    ledger(machine).write_bytes(content)
    problems = check(machine)
    (name,) = aside(machine)
    assert (ledger(machine).parent / name).read_bytes() == content
    assert name in problems[0]
    assert noticed(machine, problems) == "ledger-damaged"
    assert len(history(machine).checks) == 2


def test_only_some_damaged_ledgers_are_kept(machine: Machine) -> None:
    check(machine)
    for day in range(10, 20):
        (ledger(machine).parent / f"ledger.db.damaged-202601{day}T000000Z").write_bytes(b"")
    ledger(machine).write_bytes(b"broken")
    check(machine)
    assert len(aside(machine)) == 3
    assert aside(machine)[0] == "ledger.db.damaged-20260118T000000Z"


def test_tables_of_others_are_put_aside(machine: Machine) -> None:
    check(machine)
    with closing(sqlite3.connect(ledger(machine))) as database:
        database.execute("CREATE TRIGGER t AFTER INSERT ON checks BEGIN DELETE FROM boots; END")
    assert "damaged" in check(machine)[0]


def test_bytes_that_rot_are_no_crash(machine: Machine) -> None:
    """What is read of a ledger with some wrong bytes are rows, or a sentence; what is written afterwards is there."""
    for _ in range(20):
        check(machine)
    boots(machine, BOOT)
    whole = ledger(machine).read_bytes()
    dice = random.Random(3)
    for _ in range(60):
        broken = bytearray(whole)
        for _ in range(dice.choice((1, 1, 5, 50))):
            broken[dice.randrange(len(broken))] = dice.randrange(256)
        if dice.random() < 0.2:
            del broken[dice.randrange(len(broken)) :]
        ledger(machine).write_bytes(broken)
        with suppress(FileNotFoundError):
            (Path(machine.root) / WITNESS).unlink()
        for reader in (machine, Machine.tree(machine.root)):
            read(reader)
        problems = check(machine, 1)
        if not any("is not in the ledger" in problem for problem in problems):
            assert read(machine).checks[0].time == at(1).time
