"""`safeupdate history`: lines for a terminal of 80 columns, and JSON."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from safeupdate.cli import main
from safeupdate.ledger import schema, writing
from safeupdate.ledger.reading import BOOT_ID, Boot
from safeupdate.machine import Machine
from tests.unit.reports import FULL
from tests.unit.trees import tree

BOOT = Boot(
    "b-2",
    "6.1.0-50-amd64",
    "gnulinux-advanced-5afe0bda-0000-4000-8000-000000000001",
    "root=UUID=5afe0bda ro",
    "2026-11-22T08:00:00+00:00",
    "2026-11-22T08:01:00+00:00",
    "service",
    "aa",
    (("/boot/initrd.img", "bb"),),
    None,
    {},
    (("mounts.device-missing", "/srv", "It is gone."),),
)
OLD = Boot("b-1", "6.1.0-49-amd64", None, "", "2026-11-01T08:00:00+00:00", None, "journal")

TEXT = """\
2026-11-23 04:00  notice
                  The clock was set back: it is 2026-11-23T04:00:00+00:00 now,
                  and the ledger /var/lib/safeupdate/ledger.db has a row of
                  2026-11-30T04:00:00+00:00.
2026-11-23 01:37  check  UNSAFE
                  next: 6.1.0-51-amd64
                  blocker: kernel-files.image-empty (/boot/vmlinuz)
                  unknown: initramfs.no-decoder (x)
2026-11-22 08:00  boot   6.1.0-50-amd64
                  came up; with unknown modules
                  entry gnulinux-advanced-5afe0bda-0000-4000-8000-000000000001
2026-11-01 08:00  boot   6.1.0-49-amd64
                  not confirmed, as the journal tells; which files booted is not
                  known
Times are in UTC.
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    tree(tmp_path, {"/var/lib": None, "/run": None, BOOT_ID: "b-2\n"})
    machine = Machine(str(tmp_path), live=True)
    assert writing.record_boots(machine, (OLD, BOOT), {}, time=FULL.time, keep_days=400) == ()
    assert writing.record_check(machine, FULL, {}, keep_days=400) == ()
    notice = (
        f"The clock was set back: it is 2026-11-23T04:00:00+00:00 now, and the ledger {schema.PATH} has a row of "
        "2026-11-30T04:00:00+00:00."
    )
    assert writing.record_event(machine, "clock-back", notice, time="2026-11-23T04:00:00+00:00", keep_days=400) == ()
    return tmp_path


def test_for_a_person(root: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["history", "--root", str(root)]) == 0
    text = capfd.readouterr().out
    assert text == TEXT
    assert max(map(len, text.splitlines())) <= 80


def test_as_many_as_asked_for(root: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["history", "--root", str(root), "--limit", "2"]) == 0
    text = capfd.readouterr().out
    assert text == TEXT[: TEXT.index("2026-11-22")] + ("Times are in UTC. There is more: --limit N shows N rows.\n")


def test_as_json(root: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["history", "--root", str(root), "--json"]) == 0
    document = json.loads(capfd.readouterr().out)
    assert document["format"] == 1
    assert document["problems"] == []
    assert [row["kind"] for row in document["rows"]] == ["notice", "check", "boot", "boot"]
    check, boot, old = document["rows"][1:]
    assert check["findings"][2] == {"id": "kernel-files.image-empty", "level": "blocker", "subject": "/boot/vmlinuz"}
    assert (boot["source"], boot["confirmed"]) == ("service", BOOT.confirmed)
    assert boot["sha256"] == {"kernel": "aa", "initramfs": {"/boot/initrd.img": "bb"}, "modules": None}
    assert boot["blockers"][0]["subject"] == "/srv"
    assert old["sha256"]["initramfs"] is None


def test_nothing_yet(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["history", "--root", str(tmp_path)]) == 0
    assert "Nothing was recorded" in capfd.readouterr().out
    assert main(["history", "--root", str(tmp_path), "--json"]) == 0
    assert json.loads(capfd.readouterr().out)["rows"] == []


def test_a_ledger_that_cannot_be_used(root: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (root / schema.PATH.lstrip("/")).write_bytes(b"no ledger\x1b[2J")
    assert main(["history", "--root", str(root)]) == 1
    text = capfd.readouterr().out
    assert text.startswith("warning: The ledger")
    assert max(map(len, text.splitlines())) <= 80
    assert main(["history", "--root", str(root), "--json"]) == 1
    assert json.loads(capfd.readouterr().out)["problems"]


def test_names_do_not_steer_the_terminal(root: Path, capfd: pytest.CaptureFixture[str]) -> None:
    odd = Boot("b-3", "6\x1b[2J\n", "e\x1b[2J\u202e", "", "yesterday\x1b[2J", None, "service")
    machine = Machine(str(root), live=True)
    assert writing.record_boots(machine, (odd,), {}, time="2026-11-24T00:00:00+00:00", keep_days=400) == ()
    assert main(["history", "--root", str(root)]) == 0
    text = capfd.readouterr().out
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert "yesterday" in text


@pytest.mark.parametrize("limit", ["0", "-1", "x", "²"])
def test_a_limit_is_a_number(root: Path, limit: str, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["history", "--root", str(root), "--limit", limit])
    assert caught.value.code == 2
    assert "no number" in capfd.readouterr().err or limit == "-1"
