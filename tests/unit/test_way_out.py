"""`safeupdate-open ROOT`: the way out from a rescue system. On a machine that runs it is tried by tests/systemd."""

from __future__ import annotations

import os
import subprocess
from datetime import datetime, timezone
from pathlib import Path

import pytest

from safeupdate import steering
from safeupdate.gate.host import Host
from safeupdate.gate.lever import Order
from safeupdate.gate.levers import dnf_automatic
from safeupdate.machine import Machine

SCRIPT = os.path.join(
    os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))), "bin/safeupdate-open"
)

HELD = steering.hold("gnulinux-advanced-x>gnulinux-6.1.0-50-amd64-advanced-x")

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root opens the gate")


def _open(root: Path) -> str:
    done = subprocess.run(["sh", SCRIPT, str(root)], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.mark.parametrize("directory", ["grub", "grub2"])
def test_grub_lets_go_in_place(tmp_path: Path, directory: str) -> None:
    file = tmp_path / "boot" / directory / "custom.cfg"
    file.parent.mkdir(parents=True)
    file.write_bytes(HELD)
    before = file.stat().st_ino
    assert "GRUB starts its own default again" in _open(tmp_path)
    assert file.read_bytes() == steering.OFF and file.stat().st_ino == before
    assert "GRUB" not in _open(tmp_path)


@pytest.mark.parametrize("theirs", [b"set default=0\n", HELD + b"\n", b"# mine\n" + HELD[7:], b""])
def test_what_is_not_ours_stays(tmp_path: Path, theirs: bytes) -> None:
    file = tmp_path / "boot/grub/custom.cfg"
    file.parent.mkdir(parents=True)
    file.write_bytes(theirs)
    assert _open(tmp_path) == "safeupdate holds nothing any more.\n"
    assert file.read_bytes() == theirs


@pytest.mark.parametrize(
    "end", ["", "\n", "\n\n", "\n[base]\ndebuglevel = 1", "\n    more\n\t'words \\n %s'\n# \xff\n"]
)
def test_dnf_automatic_is_as_it_was(tmp_path: Path, end: str) -> None:
    (tmp_path / "etc/dnf").mkdir(parents=True)
    (tmp_path / "var/lib").mkdir(parents=True)
    file = tmp_path / "etc/dnf/automatic.conf"
    for command in ("reboot_command = shutdown -r", "# none"):
        file.write_bytes(f"[commands]\nreboot = when-needed\n{command}{end}".encode("latin-1"))
        file.chmod(0o640)
        before = file.read_bytes()
        host = Host(Machine.tree(str(tmp_path)), lambda: datetime.now(timezone.utc))
        assert dnf_automatic.LEVER.close(host, Order("why")).position == "closed"
        _open(tmp_path)
        assert file.read_bytes() == before and file.stat().st_mode & 0o777 == 0o640
        assert not list(file.parent.glob("*.safeupdate-open"))
