"""`safeupdate check` and its ledger: what is recorded, and where nothing is."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from safeupdate.cli import main
from safeupdate.commands.check import check
from safeupdate.ledger import schema
from safeupdate.ledger.reading import BOOT_ID, read
from safeupdate.machine import Machine
from tests.unit.test_cli import FILES, HERE
from tests.unit.test_surroundings import MACHINE
from tests.unit.trees import Content, open_directory, tree

LIVE: dict[str, Content] = {**FILES, BOOT_ID: "boot-1\n", "/var/lib": None, "/run": None}
CHROOT: dict[str, Content] = {
    "/proc/self/mountinfo": MACHINE.replace(" / / ", " /c / "),
    "/proc/1/mountinfo": MACHINE,
}


def live(root: Path, **changes: Content) -> Machine:
    tree(root, {**LIVE, **changes})
    return Machine(str(root), live=True)


def test_a_check_is_recorded(tmp_path: Path) -> None:
    it = live(tmp_path)
    report = check(it)
    assert report.warnings == ()
    assert [(row.verdict, row.boot_id) for row in read(it).checks] == [(report.verdict, "boot-1")]


@pytest.mark.parametrize(("changes", "told"), [(CHROOT, 1), ({"/.dockerenv": ""}, 0)])
def test_no_ledger_is_made_where_nothing_booted(tmp_path: Path, changes: dict[str, Content], told: int) -> None:
    report = check(live(tmp_path, **changes))
    assert ["This is a chroot" in warning for warning in report.warnings] == [True] * told
    assert os.listdir(tmp_path / "var/lib") == []
    assert os.listdir(tmp_path / "run") == []


def test_a_ledger_in_a_chroot_is_not_asked(tmp_path: Path) -> None:
    it = live(tmp_path, **{**CHROOT, schema.PATH: b"no ledger"})
    assert len(check(it).warnings) == 1
    assert (tmp_path / schema.PATH.lstrip("/")).read_bytes() == b"no ledger"
    assert check(Machine(it.root)).warnings == read(it).problems  # a tree's is


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_an_ordinary_user_is_told_once(capfd: pytest.CaptureFixture[str]) -> None:
    with open_directory() as root:
        it = live(root)
        assert check(it).warnings == ()
        assert main(["history", "--root", str(root)]) == 0  # all that it imports may be where others may not enter
        capfd.readouterr()
        child = os.fork()
        if not child:
            code = 1
            try:
                os.setresuid(65534, 65534, 65534)
                shown = main(["history", "--root", str(root)])
                code = 0 if shown == 1 and ["root" in one for one in check(it).warnings] == [True] else 1
            finally:
                os._exit(code)
        assert os.waitpid(child, 0)[1] == 0
    assert "run this as root" in " ".join(capfd.readouterr().out.split())


@pytest.mark.skipif(not os.path.exists("/.dockerenv"), reason="this is no container")
def test_the_program_in_a_container() -> None:
    before = os.path.lexists("/var/lib/safeupdate/ledger.db")
    command = [sys.executable, "-m", "safeupdate", "check", "--quiet"]
    done = subprocess.run(command, cwd=HERE, capture_output=True, text=True, timeout=60)
    assert done.returncode in (0, 1, 3)
    assert done.stderr == ""
    assert os.path.lexists("/var/lib/safeupdate/ledger.db") == before
