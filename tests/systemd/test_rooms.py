"""The gate where /run is really full, and /var really cannot be written, on a systemd that runs."""

from __future__ import annotations

import json
import os

import pytest

from safeupdate.gate.host import VAR
from safeupdate.gate.lever import Order
from safeupdate.gate.levers import reboot_required, reboot_target, scheduled
from safeupdate.gate.settle import settle
from safeupdate.gate.state import Gate
from safeupdate.report import Verdict
from tests.systemd import rig
from tests.unit.gates import report

LEVERS = (reboot_required.LEVER, scheduled.LEVER, reboot_target.LEVER)

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

FILL = "mount -o remount,size=$(df --output=used -k /run | tail -n 1 | tr -d ' ')k /run; cat /dev/zero > /run/fill"
EMPTY = "rm /run/fill; mount -o remount,size=50% /run"

READ_ONLY = "mount --bind /var /var && mount -o remount,bind,ro /var && ! touch /var/written"


def _settle(machine: rig.Rig, verdict: Verdict) -> Gate:
    return settle(machine.host, lambda: report(machine.machine, verdict), levers=LEVERS, force=True)


def _not_done(gate: Gate) -> list[str]:
    """What could not be done. SQLite opens no ledger by the descriptor that the rig is reached by."""
    return [problem for problem in gate.problems if "ledger" not in problem]


def _refuses(machine: rig.Rig) -> bool:
    """Whether systemd has the targets masked."""
    return reboot_target.LEVER.state(machine.host).position == "closed"


def _sh(machine: rig.Rig, script: str) -> int:
    return machine.run("sh", "-c", script).code


@pytest.mark.parametrize("name", rig.SYSTEMD)
def test_it_holds_and_lets_go_without_room_and_says_what_could_not_be_written(name: str) -> None:
    armed = json.dumps({"format": 1, "mode": "armed"}).encode()
    with rig.started(name, {f"{VAR}/gate.json": armed}) as machine:
        _sh(machine, FILL)
        assert _sh(machine, "echo more > /run/more") != 0
        gate = _settle(machine, "unsafe")
        assert (gate.mode, gate.position) == ("armed", "closed")
        assert [problem for problem in _not_done(gate) if "How the gate stands cannot be written down" in problem]
        # systemd 257 reads its units anew with 16 MiB of room and more: what it had loaded it keeps as it was.
        assert machine.run("systemctl", "reboot").code == 1 and machine.stays()
        _sh(machine, EMPTY)
        assert _not_done(_settle(machine, "unsafe")) == []
        assert _refuses(machine)
        _sh(machine, FILL)
        gate = _settle(machine, "safe")
        assert gate.position == "open"
        assert rig.SYSTEMD[name] < 257 or [problem for problem in _not_done(gate) if "still loaded" in problem]
        _sh(machine, EMPTY)
        assert _not_done(_settle(machine, "safe")) == []
        assert reboot_target.LEVER.state(machine.host).position == "open"
        assert _not_done(_settle(machine, "unsafe")) == []
        assert _refuses(machine)

        assert _sh(machine, READ_ONLY) == 0
        gate = _settle(machine, "safe")
        assert _not_done(gate) and not _refuses(machine)
        gate = _settle(machine, "unsafe")
        assert [problem for problem in _not_done(gate) if "The lever reboot-target could not be set" in problem]
        assert not _refuses(machine)
        assert _sh(machine, "umount /var") == 0
        assert _not_done(_settle(machine, "unsafe")) == []
        assert _refuses(machine)
        machine.run("systemctl", "poweroff")
        assert machine.ended() == "powered off"


@pytest.mark.parametrize("name", rig.SYSTEMD)
def test_the_way_out_opens_as_soon_as_there_is_room(name: str) -> None:
    with open(os.path.join(TOP, "bin/safeupdate-open"), "rb") as file:
        script = file.read()
    with rig.started(name, {"/usr/sbin/safeupdate-open": script}) as machine:
        reboot_target.LEVER.close(machine.host, Order("The initramfs is cut off."))
        assert _refuses(machine)
        _sh(machine, FILL)
        assert machine.run("safeupdate-open").code == 1
        _sh(machine, EMPTY)
        done = machine.run("safeupdate-open")
        assert (done.code, done.stderr) == (0, b"")
        assert reboot_target.LEVER.state(machine.host).position == "open"

        # Where its record cannot be removed it opens all the same, and says so.
        reboot_target.LEVER.close(machine.host, Order("The initramfs is cut off."))
        assert _sh(machine, READ_ONLY) == 0
        done = machine.run("safeupdate-open")
        assert (done.code, b"cannot be removed" in done.stderr) == (1, True)
        assert not _refuses(machine)
        assert _sh(machine, "umount /var") == 0
        assert machine.run("safeupdate-open").code == 0
        machine.run("systemctl", "reboot")
        assert machine.ended() == "rebooted"
