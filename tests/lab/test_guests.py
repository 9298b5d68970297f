"""The engine with guests that are a boot sector: seconds each (`make vm`)."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from safeupdate.rehearsal import boot, outcome
from safeupdate.rehearsal.hardware import Disk, Hardware
from safeupdate.rehearsal.qemu import PROGRAM, GuestError, start

pytestmark = [pytest.mark.vm, pytest.mark.skipif(shutil.which(PROGRAM) is None, reason="needs QEMU")]

HANGS = b"\xeb\xfe"
"""`jmp $`"""

CHATTERS = b"\xba\xf8\x03\xb0x\xee\xb9\x00\x00\xe2\xfe\xeb\xf8"
"""Says x on the first serial port, again and again."""


def _machine(tmp_path: Path, code: bytes) -> Hardware:
    image = tmp_path / "disk.img"
    image.write_bytes(code.ljust(510, b"\0") + b"\x55\xaa" + bytes(1 << 20))
    return Hardware((Disk(str(image), "raw"),), memory=64, processors=1)


def test_a_machine_without_a_boot_loader_fails(tmp_path: Path) -> None:
    with start(Hardware((), memory=64), str(tmp_path / "console")) as guest:
        ending = boot.watch(guest)
        assert ending == "stopped"
        assert outcome.of(guest.console.text(), ending).stage == "no boot loader"
    assert b"No bootable device." in (tmp_path / "console").read_bytes()


def test_a_guest_that_hangs_is_ended(tmp_path: Path) -> None:
    with start(_machine(tmp_path, HANGS), str(tmp_path / "console")) as guest:
        assert boot.watch(guest, limit=5) == "late"


def test_a_saved_guest_goes_on(tmp_path: Path) -> None:
    machine, saved = _machine(tmp_path, CHATTERS), str(tmp_path / "it's saved")
    with start(machine, str(tmp_path / "console")) as guest:
        while not guest.console.last().endswith("xx"):
            assert guest.poll(1.0)
        guest.save(saved)
    with start(machine, str(tmp_path / "console"), saved=saved) as guest:
        while not guest.console.last().endswith("xx"):
            assert guest.poll(1.0)
        assert "SeaBIOS" not in guest.console.text()
        assert guest.seconds < 30


def test_a_saved_state_that_is_cut_off_is_no_boot(tmp_path: Path) -> None:
    machine, saved = _machine(tmp_path, HANGS), tmp_path / "saved"
    with start(machine, str(tmp_path / "console")) as guest:
        guest.save(str(saved))
    saved.write_bytes(saved.read_bytes()[:10000])
    with pytest.raises(GuestError), start(machine, str(tmp_path / "console"), saved=str(saved)):
        pass


def test_a_guest_ends_with_whoever_started_it(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom safeupdate.rehearsal.qemu import start\nfrom safeupdate.rehearsal.hardware import Hardware\n"
        "with start(Hardware((), memory=64), sys.argv[1]) as guest:\n"
        "    print(guest._process.pid, flush=True)\n    while guest.poll(1.0): pass\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "console")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        guest = int(process.stdout.readline())
        assert os.path.exists(f"/proc/{guest}")
        process.send_signal(signal.SIGKILL)
    until = time.monotonic() + 30
    while os.path.exists(f"/proc/{guest}") and time.monotonic() < until:
        time.sleep(0.1)
    assert not os.path.exists(f"/proc/{guest}")
