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
from tests.lab.wheel import OURS

pytestmark = [pytest.mark.vm, pytest.mark.skipif(shutil.which(PROGRAM) is None, reason="needs QEMU")]

HANGS = b"\xeb\xfe"
"""`jmp $`"""

CHATTERS = b"\xba\xf8\x03\xb0x\xee\xb9\x00\x00\xe2\xfe\xeb\xf8"
"""Says x on the first serial port, again and again."""

WRITES = (
    b"\x31\xc0\x8e\xd8\xbe\x18\x7c\xb4\x43\x30\xc0\xb2\x80\xcd\x13\x66\x83\x06\x20\x7c\x40\xeb\xed\0"
    b"\x10\0\x40\0\0\x7c\0\0\x40\0\0\0\0\0\0\0"
)
"""Writes 64 sectors of the first disk after the other, by the BIOS (interrupt 13h, function 43h)."""


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


def test_a_full_disk_of_the_host_is_no_fault_of_the_machine(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom safeupdate.rehearsal.qemu import GuestError, start\n"
        "from safeupdate.rehearsal.hardware import Disk, Hardware\n"
        "with start(Hardware((Disk(sys.argv[1]),), memory=64), sys.argv[2]) as guest:\n"
        "    try:\n        while guest.seconds < 300: guest.poll(1.0)\n"
        "    except GuestError as error: print(error)\n"
    )
    _machine(tmp_path, WRITES)
    small = tmp_path / "small"
    small.mkdir()
    (tmp_path / "code.py").write_text(code)
    script = (
        'mount -t tmpfs -o size=2m tmpfs "$1/small" && '
        'qemu-img create -q -f qcow2 -b "$1/disk.img" -F raw "$1/small/disk" 64M && '
        'exec "$2" "$1/code.py" "$1/small/disk" "$1/console"'
    )
    command = ["unshare", "--mount", "sh", "-c", script, "sh", str(tmp_path), sys.executable]
    done = subprocess.run(command, capture_output=True, text=True, timeout=400, env={**os.environ, "PYTHONPATH": OURS})
    assert done.stdout == "this host could not read or write the guest's disk: No space left on device\n", done.stderr
    assert not list(small.iterdir())


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
