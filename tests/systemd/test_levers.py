"""The levers that act on systemd and logind, and what is left behind."""

from __future__ import annotations

import os
from dataclasses import replace
from datetime import datetime, timedelta, timezone

import pytest

from safeupdate.gate import record
from safeupdate.gate.lever import Order
from safeupdate.gate.levers import inhibitor, reboot_target, scheduled
from safeupdate.gate.systemd import NOLOGIN, SCHEDULED
from tests.systemd import rig

ORDER = Order("The initramfs of 6.1.0-56-amd64 is cut off.")


def _loaded(machine: rig.Rig) -> list[bytes]:
    return machine.run("systemctl", "show", "--property=LoadState", *reboot_target.TARGETS).stdout.split()


@pytest.mark.parametrize("name", rig.SYSTEMD)
def test_a_mask_that_an_administrator_made_is_not_ours(name: str) -> None:
    with rig.started(name) as machine:
        lever = reboot_target.LEVER
        machine.run("systemctl", "mask", "--runtime", "kexec.target")
        assert lever.state(machine.host).position == "not-ours"
        assert lever.close(machine.host, ORDER).position == "not-ours"
        assert _loaded(machine) == [b"LoadState=masked"] * 3
        assert lever.open(machine.host).position == "not-ours"
        assert _loaded(machine)[:2] == [b"LoadState=loaded", b"LoadState=masked"]
        machine.run("systemctl", "unmask", "--runtime", "kexec.target")

        # Masked by us, and by an administrator for good meanwhile.
        assert lever.close(machine.host, ORDER).position == "closed"
        machine.run("systemctl", "mask", "reboot.target")
        assert lever.open(machine.host).position == "not-ours"
        assert _loaded(machine)[:2] == [b"LoadState=masked", b"LoadState=loaded"]
        machine.run("systemctl", "unmask", "reboot.target")
        assert lever.state(machine.host).position == "open"


@pytest.mark.parametrize("name", rig.SYSTEMD)
def test_masks_are_finished_after_a_kill_and_let_go(name: str) -> None:
    with rig.started(name) as machine:
        lever, host = reboot_target.LEVER, machine.host
        lever.close(host, ORDER)
        recorded = record.read(machine.machine, lever.name)
        assert recorded is not None
        # Killed after the record, and after the mask of one target only.
        machine.run("systemctl", "unmask", "--runtime", "kexec.target", "soft-reboot.target")
        assert lever.state(host).position == "open"
        assert lever.close(host, ORDER).position == "closed"
        # Killed while it was opened.
        machine.run("systemctl", "unmask", "--runtime", "reboot.target")
        assert lever.open(host).position == "open"
        assert lever.open(host).position == "open"
        assert b"LoadState=masked" not in _loaded(machine)
        assert record.read(machine.machine, lever.name) is None
        # A record of another boot says nothing of the masks of this one.
        assert isinstance(recorded.new, dict)
        record.store(host, replace(recorded, new={**recorded.new, "boot": "another"}))
        machine.run("systemctl", "mask", "--runtime", "reboot.target")
        assert lever.open(host).position == "not-ours"
        assert _loaded(machine)[0] == b"LoadState=masked"


@pytest.mark.parametrize("name", rig.SYSTEMD)
def test_an_offline_update_is_never_kept_from_its_reboot(name: str) -> None:
    with rig.started(name) as machine:
        lever, host = reboot_target.LEVER, machine.host
        for link in ("/system-update", "/etc/system-update"):
            assert lever.close(host, ORDER).position == "closed"
            machine.run("ln", "-s", "/var/lib/not-there", link)
            assert lever.close(host, ORDER).position == "refused"
            assert b"LoadState=masked" not in _loaded(machine)
            machine.run("rm", link)
        assert lever.close(host, ORDER).position == "closed"
        machine.run("systemctl", "start", "system-update.target")
        assert lever.close(host, ORDER).position == "refused"
        assert machine.run("systemctl", "reboot").code == 0
        assert machine.ended() == "rebooted"


def test_an_offline_update_that_has_taken_away_its_request_is_still_one() -> None:
    unit = b"[Service]\nType=exec\nExecStart=/bin/sh -c 'rm /etc/system-update && exec sleep infinity'\n"
    files = {
        "/etc/system-update": b"",
        "/etc/systemd/system/updater.service": b"[Unit]\nBefore=system-update.target\nDefaultDependencies=no\n" + unit,
        "/etc/systemd/system/system-update.target.d/updater.conf": b"[Unit]\nWants=updater.service\n",
    }
    with rig.started("debian13", files) as machine:
        assert not machine.machine.exists("/etc/system-update")
        assert reboot_target.LEVER.close(machine.host, ORDER).position == "refused"


@pytest.mark.parametrize("name", rig.SYSTEMD)
def test_a_scheduled_reboot_is_cancelled_and_scheduled_again(name: str) -> None:
    with rig.started(name) as machine:
        lever, host = scheduled.LEVER, machine.host
        machine.run("shutdown", "-r", "+4", "Updates: back in a minute")
        before = machine.machine.read(SCHEDULED)
        assert machine.machine.exists(NOLOGIN)
        assert lever.state(host).position == "open"
        assert lever.close(host, ORDER).position == "closed"
        assert not machine.machine.exists(SCHEDULED) and not machine.machine.exists(NOLOGIN)
        assert lever.close(host, ORDER).position == "closed"
        found = lever.open(host)
        assert found.position == "open" and "scheduled again" in found.words
        assert machine.machine.read(SCHEDULED) == before  # with the message that everyone was sent

        machine.run("shutdown", "-P", "+4")
        before = machine.machine.read(SCHEDULED)
        assert lever.close(host, ORDER).position == "not-here"
        assert lever.open(host).position == "not-here"
        assert machine.machine.read(SCHEDULED) == before
        machine.run("shutdown", "-c")

        machine.run("shutdown", "-r", "+4")
        lever.close(host, ORDER)
        found = lever.open(replace(host, now=lambda: datetime.now(timezone.utc) + timedelta(minutes=5)))
        assert found.position == "not-here" and "time has passed" in found.words
        assert not machine.machine.exists(SCHEDULED)


@pytest.mark.parametrize("name", rig.SYSTEMD)
def test_no_user_is_locked_out_by_a_reboot_that_was_refused(name: str) -> None:
    with rig.started(name) as machine:
        host = machine.host
        # Here logind cleans up after a refused reboot; on guests it was seen to leave its file.
        machine.run("shutdown", "-r", "+4")
        machine.run("cp", NOLOGIN, "/tmp/nologin")
        machine.run("shutdown", "-c")
        machine.run("cp", "/tmp/nologin", NOLOGIN)
        reboot_target.LEVER.close(host, ORDER)
        assert not machine.machine.exists(NOLOGIN)
        machine.run("cp", "/tmp/nologin", NOLOGIN)
        scheduled.LEVER.open(host)
        assert not machine.machine.exists(NOLOGIN)

        # An administrator's own, and that of a power-off, stay.
        machine.run("sh", "-c", f"echo maintenance > {NOLOGIN}")
        scheduled.LEVER.close(host, ORDER)
        assert machine.machine.read(NOLOGIN) == b"maintenance\n"
        machine.run("rm", NOLOGIN)
        machine.run("shutdown", "-P", "+2")
        reboot_target.LEVER.open(host)
        assert machine.machine.exists(NOLOGIN)


@pytest.mark.parametrize("name", rig.SYSTEMD)
def test_a_lock_holds_and_goes(name: str) -> None:
    with rig.started(name) as machine:
        lever, host = inhibitor.LEVER, machine.host
        assert lever.state(host).position == "open"
        for _ in range(2):
            assert lever.close(host, ORDER).position == "closed"
        listed = machine.run("systemd-inhibit", "--list", "--no-pager").stdout
        assert listed.count(b"safeupdate") == 1 and ORDER.why.encode() in listed
        assert machine.run("systemctl", "reboot", "--check-inhibitors=yes").code == 1
        assert machine.stays()
        for _ in range(2):
            assert lever.open(host).position == "open"
        assert b"safeupdate" not in machine.run("systemd-inhibit", "--list", "--no-pager").stdout
        assert not os.path.exists("/run/systemd/transient/safeupdate-inhibitor.service")  # on the host
