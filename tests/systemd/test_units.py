"""The units, the script of molly-guard and the way out, on a systemd that runs; a stub is in safeupdate's place."""

from __future__ import annotations

import os

import pytest

from safeupdate import steering
from safeupdate.gate.host import RUN
from safeupdate.gate.lever import Order
from safeupdate.gate.levers import dnf_automatic, inhibitor, molly_guard, reboot_required, reboot_target, scheduled
from safeupdate.gate.systemd import NOLOGIN, SCHEDULED
from tests.systemd import rig

ORDER = Order("The initramfs of 6.1.0-56-amd64 is cut off.")

_TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

NOTED = "/run/noted"

STUB = f"""#!/bin/sh
echo "$1" >> {NOTED}
if [ -e /etc/close ] && [ "$1" = settle ]; then
	sleep 1
	systemctl mask --runtime reboot.target kexec.target soft-reboot.target
	echo "closed: $?" >> {NOTED}
fi
"""

UPGRADE = f"""[Service]
Type=oneshot
ExecStart=/bin/sh -c 'systemctl reboot; echo "upgraded, rebooted: $?" >> {NOTED}'
"""


def _file(path: str) -> bytes:
    with open(os.path.join(_TOP, path), "rb") as file:
        return file.read()


def _units() -> dict[str, bytes]:
    """Our units, switched on. The rig is a container, in which they would do nothing."""
    files, wanted = {"/usr/bin/safeupdate": STUB.encode()}, []
    for name in sorted(os.listdir(os.path.join(_TOP, "systemd"))):
        text = _file(f"systemd/{name}")
        files[f"/usr/lib/systemd/system/{name}"] = text.replace(b"ConditionVirtualization=!container\n", b"")
        wanted += [name] if b"[Install]" in text else []
    files["/etc/systemd/system/multi-user.target.d/test.conf"] = f"[Unit]\nWants={' '.join(wanted)}\n".encode()
    return files


def _noted(machine: rig.Rig) -> list[str]:
    return (machine.machine.text(NOTED) or "").splitlines()


def _soon(machine: rig.Rig, words: str) -> bool:
    """Whether a command of the shell succeeds within half a minute."""
    return machine.run("sh", "-c", f"for i in $(seq 300); do {words} && exit; sleep 0.1; done; exit 1").code == 0


@pytest.mark.parametrize("name", rig.SYSTEMD)
def test_the_gate_is_closed_before_an_upgrade_reboots_by_itself(name: str) -> None:
    files = {
        **_units(),
        "/etc/close": b"",
        "/etc/systemd/system/apt-daily-upgrade.service": UPGRADE.encode(),
        "/etc/systemd/system/multi-user.target.d/upgrade.conf": b"[Unit]\nWants=apt-daily-upgrade.service\n",
    }
    with rig.started(name, files) as machine:
        assert _soon(machine, f"[ $(grep -c closed: {NOTED}) = 2 ]")
        noted = _noted(machine)
        assert noted[:2] == ["settle", "closed: 0"]
        assert noted.index("upgraded, rebooted: 1") < noted.index("confirm")
        # systemd takes a job out of an ordering cycle, whichever comes first, and says so in the journal alone.
        assert b"cycle" not in machine.run("systemd-analyze", "verify", "--man=no", "multi-user.target").stderr
        assert noted[-2:] == ["settle", "closed: 0"]  # by the service that confirmed the boot
        assert machine.run("systemctl", "--failed", "--no-legend").stdout == b""
        assert machine.run("systemctl", "is-active", "multi-user.target").stdout == b"active\n"
        assert machine.run("systemctl", "reboot").code == 1
        machine.run("systemctl", "poweroff")
        assert machine.ended() == "powered off"


def test_a_boot_that_a_health_check_refuses_is_not_confirmed() -> None:
    files = {
        **_units(),
        "/etc/systemd/system/health.service": b"[Service]\nType=oneshot\nExecStart=false\n",
        "/etc/systemd/system/boot-complete.target.d/health.conf": b"[Unit]\nRequires=health.service\n",
        "/etc/systemd/system/health.service.d/first.conf": b"[Unit]\nBefore=boot-complete.target\n",
    }
    with rig.started("debian13", files) as machine:
        assert "settle" in _noted(machine) and "confirm" not in _noted(machine)


@pytest.mark.parametrize("name", rig.SYSTEMD)
def test_what_asks_for_a_reboot_and_what_needs_a_person_is_noticed(name: str) -> None:
    with rig.started(name, _units()) as machine:
        assert machine.run("systemctl", "is-active", "safeupdate-settle.timer").stdout == b"active\n"
        # What changes while the service runs is not noticed: that is left to the timer.
        state = '[ "$(systemctl show --property=ActiveState --value safeupdate-{}.service)" = {} ]'
        idle = f"{state.format('settle', 'inactive')} && {state.format('alarm', 'inactive')}"
        for asks in ("shutdown -r +10", "echo please > /run/reboot-required"):
            assert _soon(machine, idle)
            machine.host.remove(NOTED)
            machine.run("sh", "-c", asks)
            assert _soon(machine, f"grep -qx settle {NOTED}")

        assert _soon(machine, idle)
        alarm = f"{RUN}/alarm"
        for _ in range(2):
            machine.host.write(alarm, b"The gate is closed: the initramfs is cut off.\n")
            assert _soon(machine, state.format("alarm", "failed"))
            # The journal may be a moment behind.
            assert _soon(machine, "systemctl status safeupdate-alarm.service | grep -q 'initramfs is cut off'")
            machine.host.remove(alarm)
            assert _soon(machine, state.format("alarm", "inactive"))

        machine.run("systemctl", "stop", "safeupdate-boot.service")
        machine.run("ln", "-s", "/var/cache", "/system-update")
        machine.run("systemctl", "start", "safeupdate-boot.service")
        shown = machine.run("systemctl", "show", "--property=ConditionResult,ActiveState", "safeupdate-boot.service")
        assert sorted(shown.stdout.split()) == [b"ActiveState=inactive", b"ConditionResult=no"]


WRAPPER = b"""#!/bin/sh
MOLLYGUARD_CMD=${0##*/}
export MOLLYGUARD_CMD
/etc/molly-guard/run.d/50-safeupdate || exit $?
echo through
"""


def test_molly_guard_refuses_reboots_alone_and_nothing_runs_in_a_container() -> None:
    files = {
        "/etc/molly-guard/run.d/50-safeupdate": _file("plugins/molly-guard/50-safeupdate"),
        "/usr/lib/molly-guard/molly-guard": b"#!/bin/sh\n",
        "/usr/bin/safeupdate": STUB.encode(),
        "/usr/lib/systemd/system/safeupdate-settle.service": _file("systemd/safeupdate-settle.service"),
        **{f"/opt/{command}": WRAPPER for command in ("reboot", "shutdown", "halt", "poweroff", "pm-suspend")},
    }
    with rig.started("debian12", files) as machine:
        machine.run("systemctl", "start", "safeupdate-settle.service")
        assert _noted(machine) == []

        refused = (
            "reboot",
            "shutdown -r now",
            "shutdown --reboot +5",
            "shutdown -fr now",
            "halt --reboot",
            "reboot -d",
        )
        through = (
            "shutdown now",
            "shutdown -h now",
            "shutdown -P +5 rest",
            "halt",
            "poweroff",
            "reboot -p",
            "pm-suspend",
        )
        for command in refused + through:
            assert machine.run(*f"/opt/{command}".split()).stdout == b"through\n", command
        assert molly_guard.LEVER.close(machine.host, ORDER).position == "closed"
        for command in refused:
            done = machine.run(*f"/opt/{command}".split())
            assert (done.code, done.stdout) == (1, b""), command
            assert ORDER.why.encode() in done.stderr and b"safeupdate status" in done.stderr
        for command in through:
            assert machine.run(*f"/opt/{command}".split()).stdout == b"through\n", command
        molly_guard.LEVER.open(machine.host)
        assert machine.run("/opt/reboot").stdout == b"through\n"


AUTOMATIC = b"[commands]\nreboot = when-needed\nreboot_command = shutdown -r +5\n    'rest'"


@pytest.mark.parametrize("name", rig.SYSTEMD)
def test_a_script_opens_everything_without_python(name: str) -> None:
    files = {
        "/usr/sbin/safeupdate-open": _file("bin/safeupdate-open"),
        "/etc/molly-guard/run.d/50-safeupdate": _file("plugins/molly-guard/50-safeupdate"),
        "/usr/lib/molly-guard/molly-guard": b"#!/bin/sh\n",
        "/etc/dnf/automatic.conf": AUTOMATIC,
        "/boot/grub/custom.cfg": steering.hold("gnulinux-advanced-x>gnulinux-6.1.0-50-amd64-advanced-x"),
    }
    with rig.started(name, files) as machine:
        host, files_of = machine.host, machine.machine
        machine.run("sh", "-c", "echo please > /run/reboot-required; echo linux-base > /run/reboot-required.pkgs")
        machine.run("shutdown", "-r", "+4")
        machine.run("cp", NOLOGIN, "/tmp/nologin")
        machine.run("systemctl", "mask", "--runtime", "soft-reboot.target")  # an administrator's
        levers = [module.LEVER for module in (reboot_required, scheduled, dnf_automatic, molly_guard, inhibitor)]
        assert {lever.close(host, ORDER).position for lever in levers} == {"closed"}
        reboot_target.LEVER.close(host, ORDER)
        machine.run("sh", "-c", f"cp /tmp/nologin {NOLOGIN}; echo linux-image-amd64 > /run/reboot-required.pkgs")
        assert machine.run("systemctl", "reboot").code == 1

        done = machine.run("safeupdate-open")
        assert (done.code, done.stderr) == (0, b"")
        assert b"To unmask it: systemctl unmask --runtime soft-reboot.target" in done.stdout
        assert files_of.read("/run/reboot-required") == b"please\n"
        assert sorted(files_of.read("/run/reboot-required.pkgs").split()) == [b"linux-base", b"linux-image-amd64"]
        assert files_of.read("/etc/dnf/automatic.conf") == AUTOMATIC
        assert files_of.read("/boot/grub/custom.cfg") == steering.OFF
        assert not files_of.exists(NOLOGIN) and not files_of.exists(SCHEDULED)
        assert files_of.listdir("/var/lib/safeupdate/levers") == []
        assert "closed" not in {lever.state(host).position for lever in levers}
        assert files_of.exists(f"{RUN}/way-out")

        again = machine.run("safeupdate-open")
        assert again.code == 0 and len(again.stdout.splitlines()) == 3
        machine.run("systemctl", "reboot")
        assert machine.ended() == "rebooted"
