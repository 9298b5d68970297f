"""The rig itself: it reboots, it powers off, and nothing of it stays."""

from __future__ import annotations

import glob
import os
import signal
import subprocess
import sys
import time
from typing import Callable

import pytest

from tests.systemd import rig

_HOLDER = """
import sys, time
from tests.systemd import rig
with rig.started("debian12") as machine:
    print(machine.keeper.pid, machine.number, flush=True)
    time.sleep(600)
"""


@pytest.mark.parametrize("name", rig.SYSTEMD)
def test_it_is_the_systemd_that_it_is_said_to_be_and_reboots(name: str) -> None:
    with rig.started(name) as machine:
        assert machine.run("systemctl", "--version").stdout.split()[1].startswith(b"%d" % rig.SYSTEMD[name])
        assert machine.run("systemctl", "--failed", "--no-legend").stdout == b""
        assert machine.run("systemctl", "is-active", "systemd-logind.service").stdout == b"active\n"
        assert machine.stays()
        machine.run("systemctl", "reboot")
        assert machine.ended() == "rebooted"


@pytest.mark.parametrize("killed", ["the test", "the keeper"])
def test_nothing_of_it_stays_when_it_is_killed(killed: str) -> None:
    with rig.started("debian12") as machine:  # skips here where no rig can be
        machine.run("systemctl", "poweroff", "--force", "--force")
    before = _groups()
    holder = subprocess.Popen([sys.executable, "-c", _HOLDER], stdout=subprocess.PIPE)
    assert holder.stdout is not None
    with holder.stdout:
        keeper, number = map(int, holder.stdout.readline().split())
    assert os.path.exists(f"/proc/{number}")
    os.kill(holder.pid if killed == "the test" else keeper, signal.SIGKILL)
    assert _soon(lambda: not os.path.exists(f"/proc/{number}"))
    holder.kill()
    holder.wait()
    if killed == "the keeper":  # the next one takes away the empty groups
        with rig.started("debian12"):
            pass
    assert _soon(lambda: _groups() <= before)


def _groups() -> set[str]:
    return set(glob.glob("/sys/fs/cgroup/**/safeupdate-rig.*", recursive=True))


def _soon(true: Callable[[], bool]) -> bool:
    """Whether it becomes so; a minute is for the most starved machine."""
    for _ in range(600):
        if true():
            return True
        time.sleep(0.1)
    return False
