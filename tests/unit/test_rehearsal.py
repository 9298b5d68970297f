"""What became of a boot, from its console; and the talk with a guest's agent, which is a shell script."""

from __future__ import annotations

import io
import os
import pty
import select
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from safeupdate.rehearsal import agent, console, hardware, outcome, report
from safeupdate.rehearsal.hardware import Disk, Firmware, Hardware
from safeupdate.rehearsal.outcome import Outcome

CONSOLES = Path(__file__).parent.parent / "data/consoles"

TIMED_OUT = "[ TIME ] Timed out waiting for device dev-disk-by-x2duuid.device - /dev/disk/by-uuid/1b0c66f5."

EMERGENCY = f"""\
systemd[1]: systemd 252.39-1~deb12u2 running in system mode
{TIMED_OUT}
[DEPEND] Dependency failed for srv.mount - /srv.
[DEPEND] Dependency failed for local-fs.target - Local File Systems.
You are in emergency mode. After logging in, type "journalctl -xb" to view
system logs, "systemctl reboot" to reboot, "systemctl default" or "exit"
to boot into default mode.
"""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            EMERGENCY,
            Outcome("degraded", "emergency mode", TIMED_OUT),
        ),
        (
            "systemd[1]: Running in initrd.\n" + EMERGENCY.partition("\n")[2],
            Outcome(
                "failed",
                "emergency mode of the initramfs",
                TIMED_OUT,
            ),
        ),
        (
            "systemd[1]: Running in initial RAM disk.\nsystemd[1]: Switching root.\n" + EMERGENCY,
            Outcome("degraded", "emergency mode", TIMED_OUT),
        ),
        (
            "error: file `/boot/grub/i386-pc/normal.mod' not found.\nEntering rescue mode...\ngrub rescue> ",
            Outcome("failed", "rescue prompt of GRUB", "error: file `/boot/grub/i386-pc/normal.mod' not found."),
        ),
        ("GNU GRUB  version 2.06\n\ngrub> ", Outcome("failed", "prompt of GRUB", "grub>")),
        (
            "error: file `/boot/vmlinuz' not found.\n  Failed to boot both default and fallback entries.\n\nPress any",
            Outcome("failed", "menu of GRUB", "error: file `/boot/vmlinuz' not found."),
        ),
        ("No bootable device.\n", Outcome("failed", "no boot loader", "No bootable device.")),
    ],
    ids=["emergency", "initrd-emergency", "switched-emergency", "rescue", "grub", "menu", "bios"],
)
def test_a_boot_that_stopped_is_told_by_its_console(text: str, expected: Outcome) -> None:
    assert outcome.of(text, "stopped") == expected
    assert outcome.of(text, "ended") == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("panic", ("failed", "kernel panic", "Kernel panic - not syncing: No working init found.")),
        (
            "initramfs",
            ("failed", "shell of the initramfs", "ALERT!  UUID=1b0c66f5-8c9d-4f57-9b41-7f34a1d1b1a0 does not"),
        ),
        ("emergency", ("degraded", "emergency mode", "[ TIME ] Timed out waiting for device …c66f5-8c9d-4f57-")),
    ],
)
def test_consoles_of_real_guests(name: str, expected: tuple[str, str, str]) -> None:
    """The first and the last lines of boots in the lab."""
    found = outcome.of(_console(name), "stopped")
    assert (found.state, found.stage) == expected[:2]
    assert found.line.startswith(expected[2])


def test_a_real_guest_that_is_up_has_no_mark() -> None:
    assert outcome.mark(_console("healthy")) is None
    assert "Multi-User System" in outcome.of(_console("healthy"), "up").line


def _console(name: str) -> str:
    return console.plain((CONSOLES / f"{name}.txt").read_bytes())


def test_a_boot_that_goes_on_has_no_mark() -> None:
    """Words that only look like a mark: a command line, a menu, a unit's description."""
    text = """\
[    0.000000] Command line: root=UUID=1b0c66f5 ro init=(initramfs) panic=-1
  GNU GRUB  version 2.06
   Use the ^ and v keys to select which entry is highlighted.
[  OK  ] Reached target emergency.target - Emergency Mode.
Debian GNU/Linux 12 debian ttyS0
debian login: """
    assert outcome.mark(text) is None


def test_a_boot_that_says_nothing_more_hangs() -> None:
    text = "error: file `/boot/vmlinuz' not found.\nerror: you need to load the kernel first.\n"
    assert outcome.patience(text) < outcome.patience("Loading Linux 6.1.0-56-amd64 ...\n")
    assert outcome.of(text, "silent") == Outcome("failed", "hangs", "error: file `/boot/vmlinuz' not found.")
    assert outcome.of("", "late") == Outcome("failed", "not up in time", "")


def test_what_the_emulation_did_is_no_outcome() -> None:
    text = "[    3.1] Kernel panic - not syncing: IO-APIC + timer doesn't work!  Boot with apic=debug.\n"
    assert outcome.disturbed(text).startswith("Kernel panic")
    assert outcome.disturbed(_console("panic")) == ""


# -- what a machine that is up says ------------------------------------------------------------------------------


def _report(*lines: str) -> report.Report:
    said = report.parse("\n".join(["kernel 6.1.0-56-amd64", "boot 1", "system running", *lines, "end"]))
    assert said is not None
    return said


def test_what_is_missing_after_a_boot_makes_it_degraded() -> None:
    disk = "device /sys/bus/pci/devices/0000:00:02.0 ../../../../bus/pci/drivers/virtio-pci"
    card = "device /sys/bus/pci/devices/0000:00:03.0"
    before = _report(disk, f"{card} ../../../bus/pci/drivers/e1000", "module v4l2loopback", "mount /")
    assert before.drivers["/sys/bus/pci/devices/0000:00:03.0"] == "e1000"
    same = outcome.of("debian login: ", "up", before, before)
    assert (same.state, same.line) == ("booted", "debian login:")
    after = outcome.of("", "up", before, _report(disk, card))
    assert after.state == "degraded"
    assert "had the driver e1000" in after.line
    assert "v4l2loopback" in after.line
    # What it hung on is gone, and told of itself.
    assert outcome.of("", "up", before, _report(disk, "module v4l2loopback")).state == "booted"


def test_a_report_that_was_cut_off_is_none() -> None:
    assert report.parse("kernel 6.1.0-56-amd64\nsystem runn") is None


def test_the_script_runs_on_this_system() -> None:
    done = subprocess.run(["sh", "-c", report.SCRIPT], capture_output=True, text=True, timeout=60, check=False)
    said = report.parse(done.stdout)
    assert said is not None
    assert said.kernel == os.uname().release


# -- the console -------------------------------------------------------------------------------------------------


def test_a_console_is_read_as_a_person_sees_it() -> None:
    data = b"\x1b[2J\x1b[01;01H\x1b[=3hBdsDxe: loading\r\n[\x1b[0;32m  OK  \x1b[0m] \x1b[0;1;39mx\x1b[0m.\r\r\n\xff\n"
    data += b"\x1b[!p\x1b]104\x07\x1b[?7h\x1b[6n\x1b[0;1;\xe2\x80\xa6.\n"
    assert console.plain(data) == "BdsDxe: loading\n[  OK  ] x.\n�\n….\n"


def test_an_endless_console_stays_bounded() -> None:
    file = io.BytesIO()
    said = console.Console(file)
    count = console.HEAD // 1000 + 5000
    for number in range(count):
        said.take(f"{number:<999}\n".encode())
    text = said.text()
    assert len(text) <= console.HEAD + 2 * console.TAIL
    assert text.startswith("0 ")
    assert said.last().endswith(f"{count - 1:<999}\n")
    assert len(said.last()) == 65536


# -- the hardware ------------------------------------------------------------------------------------------------


def test_a_machine_is_what_qemu_is_told() -> None:
    machine = Hardware((Disk("/a,b.qcow2"), Disk("/c.img", "raw", "ahci", forget=True)), Firmware("/v.fd", True), 512)
    words = " ".join(hardware.arguments(machine))
    assert "file=/a,,b.qcow2,format=qcow2" in words
    assert "file=/c.img,format=raw" in words and "snapshot=on" in words and "ide-hd,drive=disk1,bus=ide.1" in words
    assert "smm=on" in words and hardware.CODE_SECURE_BOOT in words and "-m 512" in words
    assert "pflash" not in " ".join(hardware.arguments(Hardware(())))


# -- the agent ---------------------------------------------------------------------------------------------------


class _Line:
    """A guest that is the agent's script alone, on a terminal instead of a serial port."""

    def __init__(self, terminal: int) -> None:
        self.port = bytearray()
        self._terminal = terminal

    def send(self, data: bytes) -> None:
        while data:
            data = data[os.write(self._terminal, data[:1024]) :]
            self.poll(0)

    def poll(self, seconds: float) -> bool:
        ready, _, _ = select.select([self._terminal], [], [], seconds)
        if ready:
            self.port += os.read(self._terminal, 65536)
        return True


@pytest.fixture
def talk(tmp_path: Path) -> Iterator[agent.Agent]:
    try:
        ours, theirs = pty.openpty()
    except OSError:
        pytest.skip("this root has no terminals")
    script = agent.SCRIPT.replace("/dev/ttyS1", os.ttyname(theirs)).replace(agent.DIRECTORY, str(tmp_path))
    with subprocess.Popen(["sh", "-c", script], stdin=subprocess.DEVNULL) as process:
        yield agent.Agent(_Line(ours))  # type: ignore[arg-type]
        process.kill()
    os.close(ours)
    os.close(theirs)


def test_an_agent_takes_files_and_runs_scripts(talk: agent.Agent, tmp_path: Path) -> None:
    talk.hello()
    data = bytes(range(256)) * 100
    talk.put("file", data)
    assert (tmp_path / "file").read_bytes() == data
    done = talk.run(f"cat {tmp_path}/file; cat; exit 3")
    assert done.code == 3
    assert done.output == data.decode("utf-8", "replace")
    assert talk.run("echo DONE 0 5; echo READY").output == "DONE 0 5\nREADY\n"
    assert talk.run("exec 2> /dev/null; no-such-program").code == 127
