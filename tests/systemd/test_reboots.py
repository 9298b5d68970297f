"""Every way to ask systemd for a reboot, with the mask of `reboot-target` and without: the table of docs/gate.md."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pytest

from safeupdate.gate.lever import Order
from safeupdate.gate.levers import reboot_target
from tests.systemd import rig

ORDER = Order("The initramfs of 6.1.0-56-amd64 is cut off.")

_LOGIN1 = "busctl call org.freedesktop.login1 /org/freedesktop/login1 org.freedesktop.login1.Manager"
_FAILING = "systemd-run --wait --property=FailureAction=reboot false"


@dataclass(frozen=True)
class Asked:
    """A command, the exit code and the words with which it is refused. `soft`: only processes are started anew."""

    command: str
    code: int
    words: str = ""
    soft: bool = False


_DENIED = "Call to Reboot failed: Access denied"

ASKED = (
    Asked("systemctl reboot", 1, _DENIED),
    Asked("reboot", 1, _DENIED),
    Asked("shutdown -r now", 1, _DENIED),
    Asked("init 6", 1, _DENIED),
    Asked("telinit 6", 1, _DENIED),
    Asked("systemctl start reboot.target", 1, "Unit reboot.target is masked."),
    Asked("systemctl start kexec.target", 1, "Unit kexec.target is masked."),
    Asked("systemctl start ctrl-alt-del.target", 1, "Unit reboot.target is masked."),
    Asked("systemctl isolate reboot.target", 4, "Operation refused, unit may not be isolated."),
    Asked(f"{_LOGIN1} Reboot b false", 1, "Call failed: Access denied"),
    Asked(f"{_LOGIN1} RebootWithFlags t 1", 1, "Call failed: Access denied"),
    Asked(f"{_LOGIN1} ScheduleShutdown st reboot $(date -d '1 second' +%s000000)", 0),
    Asked("kill -RTMIN+5 1", 0),
    Asked("kill -RTMIN+6 1", 0),
    Asked("kill -INT 1", 0),
    Asked(_FAILING, 1),
    Asked("systemctl soft-reboot", 1, _DENIED, soft=True),
    Asked("systemctl start soft-reboot.target", 1, "Unit soft-reboot.target is masked.", soft=True),
    Asked("kill -RTMIN+7 1", 0, soft=True),
)

NOT_STOPPED = ("systemctl reboot --force", "systemctl reboot --force --force")

OFF = ("systemctl poweroff", "shutdown -h now", "halt", "kill -RTMIN+4 1")


def _asked(name: str) -> list[Asked]:
    """What this systemd understands: it starts its processes alone anew since 254."""
    return [one for one in ASKED if not one.soft or rig.SYSTEMD[name] >= 254]


@pytest.mark.parametrize("name", rig.SYSTEMD)
def test_a_closed_gate_refuses_every_command(name: str) -> None:
    with rig.started(name) as machine:
        assert reboot_target.LEVER.close(machine.host, ORDER).position == "closed"
        for asked in _asked(name):
            done = machine.run("sh", "-c", asked.command)
            assert done.code == asked.code, asked.command
            assert asked.words in done.stderr.decode(), asked.command
            assert machine.stays(), asked.command
        machine.run("sleep", "1.5")  # for the one that was scheduled
        assert machine.stays()
        for command in ("daemon-reload", "daemon-reexec"):
            assert machine.run("systemctl", command).code == 0
            assert machine.run("systemctl", "reboot").code == 1
        assert reboot_target.LEVER.state(machine.host).position == "closed"
        assert machine.stays()
        assert reboot_target.LEVER.open(machine.host).position == "open"
        assert machine.run("systemctl", "reboot").code == 0
        assert machine.ended() == "rebooted"


@pytest.mark.parametrize("name", rig.SYSTEMD)
def test_every_command_reboots_a_machine_that_nothing_holds(name: str) -> None:
    def became(asked: Asked) -> str | None:
        with rig.started(name) as machine:
            machine.run("sh", "-c", asked.command)
            if asked.soft:
                return "rebooted softly" if machine.rebooted_softly() else None
            return machine.ended()

    wanted = {asked: "rebooted softly" if asked.soft else "rebooted" for asked in _asked(name)}
    with ThreadPoolExecutor(6) as threads:
        assert dict(zip(wanted, threads.map(became, wanted))) == wanted


@pytest.mark.parametrize("name", rig.SYSTEMD)
def test_what_no_mask_stops_and_what_none_may_stop(name: str) -> None:
    def became(command: str) -> str | None:
        with rig.started(name) as machine:
            assert reboot_target.LEVER.close(machine.host, ORDER).position == "closed"
            machine.run("sh", "-c", command)
            return machine.ended()

    wanted = {**dict.fromkeys(NOT_STOPPED, "rebooted"), **dict.fromkeys(OFF, "powered off")}
    with ThreadPoolExecutor(6) as threads:
        assert dict(zip(wanted, threads.map(became, wanted))) == wanted
