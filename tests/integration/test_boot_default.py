"""The default held on machines that will not come back, and what GRUB itself makes of it (grub-emu)."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import shutil
import struct
import subprocess
import termios
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Callable

import pytest

import machines
from safeupdate import steering
from safeupdate.gate import state
from safeupdate.gate.host import Host
from safeupdate.gate.lever import Order
from safeupdate.gate.levers import boot_default
from safeupdate.gate.settle import settle
from safeupdate.judge import judge
from safeupdate.machine import Completed, Machine
from safeupdate.render.text import render
from safeupdate.report import Report
from tests.unit.test_boot_grub import ADVANCED, DATA, FALLBACK, NEW, SIMPLE, UUID, block
from tests.verdicts import corpus


def judged(machine: Machine) -> Report:
    report = judge(machine)
    return replace(report, time="", checks=tuple(replace(result, seconds=0) for result in report.checks))


@pytest.mark.machines
@pytest.mark.parametrize("name", ["initrd-missing", "initrd-tail"])
def test_a_machine_that_would_not_come_back(name: str, copy_of: Callable[[str], str]) -> None:
    case = corpus.BY_NAME[name]
    tree = copy_of(case.base)
    corpus.apply(case, tree)
    machine = Machine.tree(tree)
    before = judged(machine)
    assert (before.verdict, before.fallback.recovery, before.target.held) == ("unsafe", "manual", False)
    host = Host(machine, lambda: datetime.now(timezone.utc), lambda *_: Completed(0, b"", b""))
    order = Order("It is unsafe.", before, before.fallback.entry, before.fallback.kernel)
    assert boot_default.close(host, order).position == "closed"
    held = judged(machine)
    assert (held.verdict, held.target.kernel, held.target.entry) == (
        "unsafe",
        before.target.kernel,
        before.target.entry,
    )
    assert (held.target.actual_next, held.target.actual_kernel) == (before.fallback.entry, before.fallback.kernel)
    assert held.fallback == replace(before.fallback, recovery="automatic")
    words = " ".join(render(held).split())
    assert f"; safeupdate holds the default on {before.fallback.kernel}, which starts next." in words
    assert "taken by itself" in words
    assert boot_default.let_go(host).position == "open"
    assert judged(machine) == before


@pytest.mark.machines
def test_settle_holds_it_and_lets_it_go(copy_of: Callable[[str], str]) -> None:
    """The hold is no change of what was judged: nothing is judged again for it."""
    root = Path(copy_of("debian12"))
    machines.add_facts(str(root), "debian12")
    for directory in ("run", "var/lib", "proc/sys/kernel/random"):
        (root / directory).mkdir(parents=True, exist_ok=True)
    (root / "proc/sys/kernel/random/boot_id").write_text("boot-1\n")
    looks = 0

    def look() -> Report:
        nonlocal looks
        looks += 1
        return judge(Machine(str(root), live=True))

    def settled() -> tuple[str, str, bool, int]:
        gate = settle(host(), look, levers=(boot_default.LEVER,))
        assert not gate.problems
        return gate.verdict, gate.levers["boot-default"].position, steering.read(host().machine) is not None, looks

    def host() -> Host:
        machine = Machine(str(root), live=True)
        return Host(machine, lambda: datetime.now(timezone.utc), lambda *_: Completed(0, b"", b""))

    state.remember(host(), state.Memory(mode="armed"))
    assert settled() == ("safe", "open", False, 1)
    assert settled() == ("safe", "open", False, 1)
    assert (root / steering.CUSTOM[0][1:]).read_bytes() == steering.OFF
    image = max(root.glob("boot/initrd.img-*"))
    image.rename(root / "kept")
    assert settled() == ("unsafe", "closed", True, 2)
    assert settled() == ("unsafe", "closed", True, 2)
    with open(root / "etc/fstab", "a", encoding="ascii") as file:
        file.write("# looked at\n")
    assert settled() == ("unsafe", "closed", True, 3)
    (root / "kept").rename(image)
    assert settled() == ("safe", "open", False, 4)
    assert settled() == ("safe", "open", False, 4)


# -- GRUB itself -------------------------------------------------------------------------------------------------


def started(directory: Path) -> str:
    """The id of the entry that GRUB starts by itself with the configuration in this directory."""
    master, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 25, 80, 0, 0))
    process = subprocess.Popen(
        ["grub-emu", "-r", "host", "-d", str(directory)],
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        env={**os.environ, "TERM": "vt100"},
        start_new_session=True,
    )
    os.close(terminal)
    said = b""
    try:
        while not re.search(rb"STARTED \S+ *\r", said) and select.select([master], [], [], 60)[0]:
            said += os.read(master, 4096)
    except OSError:  # the other end is closed: it has ended
        pass
    finally:
        process.kill()
        process.wait()
        os.close(master)
    found = re.search(rb"STARTED (\S+)", said)
    assert found, said[-500:]
    return found.group(1).decode()


GONE = f"{ADVANCED}>gnulinux-6.1.0-49-amd64-advanced-{UUID}"


@pytest.mark.skipif(shutil.which("grub-emu") is None, reason="GRUB's emulator is not installed")
@pytest.mark.parametrize(
    ("custom", "variables", "expected"),
    [
        (None, {}, SIMPLE),
        (steering.OFF, {}, SIMPLE),
        (steering.hold(FALLBACK), {}, FALLBACK),
        (steering.hold(FALLBACK), {"saved_entry": "0"}, FALLBACK),
        (steering.hold(FALLBACK), {"next_entry": f"{ADVANCED}>gnulinux-{NEW}-recovery-{UUID}"}, f"{NEW}-recovery"),
        (steering.hold(GONE), {}, f"{NEW}-advanced"),
    ],
)
def test_what_grub_itself_starts(
    tmp_path: Path, custom: bytes | None, variables: dict[str, str], expected: str
) -> None:
    text = (DATA / "debian-12.cfg").read_text().replace("timeout=30", "timeout=0").replace("timeout=5", "timeout=0")
    text = text.replace("terminal_output gfxterm", "true")
    entry = r"^(\s*menuentry '.*? \$menuentry_id_option '([^']+)' \{).*?^\s*\}"
    text, entries = re.subn(entry, r"\1\necho STARTED \2\nsleep 60\n}", text, flags=re.DOTALL | re.MULTILINE)
    assert entries >= 5
    (tmp_path / "grub.cfg").write_text(text)
    (tmp_path / "grubenv").write_bytes(block(**variables))
    if custom is not None:
        (tmp_path / "custom.cfg").write_bytes(custom)
    assert expected.rpartition(">")[2] in started(tmp_path)
