"""The gate of a small machine, through updates, reboots and mishaps."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from safeupdate import steering
from safeupdate.config import DEFAULTS, LEVERS, OPT_IN_LEVERS, GateSettings
from safeupdate.errors import SafeupdateError
from safeupdate.gate import levers, lock, permits, policy, state, tell
from safeupdate.gate.host import RUN, VAR
from safeupdate.gate.known import WAY_OUT
from safeupdate.gate.lever import State
from safeupdate.gate.parts import parts_now
from safeupdate.gate.permits import Allowed, Rejected
from safeupdate.gate.settle import settle
from safeupdate.gate.state import Gate
from safeupdate.gate.words import headline
from safeupdate.judge import judge
from safeupdate.ledger.reading import BOOT_ID, UNKNOWN, boot_id, read
from safeupdate.report import Report, blocker
from tests.unit.gates import ENTRIES, World
from tests.unit.test_boot_grub import NEW, OLD

ALL = policy.LEVERS - {"inhibitor"}
UNATTENDED = set(policy.UNATTENDED)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


@pytest.fixture
def armed(world: World) -> World:
    world.confirm()
    assert world.settle().mode == "armed"
    return world


def allow(world: World, *, once: bool = False, kernel: str = NEW) -> None:
    machine = world.machine
    parts = parts_now(machine, UNKNOWN)
    permits.allow(world.host(), Allowed("I know", "root", "now", boot_id(machine), once, kernel, parts))


def reject(world: World, *kernels: str) -> None:
    permits.reject(world.host(), tuple(Rejected(kernel, "too slow", "root", "now") for kernel in kernels))


def test_every_lever_of_the_configuration_has_its_row_in_the_policy() -> None:
    assert set(LEVERS) == policy.LEVERS
    assert set(OPT_IN_LEVERS) < policy.LEVERS


def test_the_fingerprint_is_the_one_that_a_report_belongs_to(world: World) -> None:
    assert judge(world.machine).fingerprint == parts_now(world.machine, UNKNOWN)


# -- armed or observing -------------------------------------------------------------------------------------------


def test_a_machine_that_was_never_judged_safe_is_only_observed(world: World) -> None:
    world.update("unsafe", fallback=None)
    world.confirm()
    gate = world.settle()
    assert (gate.mode, gate.position, gate.verdict, gate.people) == ("observing", "open", "unsafe", False)
    assert world.held() == set()
    assert "holds nothing back" in headline(gate)


def test_a_boot_that_came_up_and_was_judged_safe_arms_it(world: World) -> None:
    assert world.settle().mode == "observing"
    world.confirm()
    gate = world.settle()
    assert (gate.mode, gate.position, gate.cause) == ("armed", "open", "safe")
    world.update("unsafe")
    gate = world.settle()
    assert (gate.mode, gate.position, gate.people, gate.unattended) == ("armed", "closed", False, False)
    assert world.held() == ALL
    world.update("safe")
    assert world.settle().position == "open"
    assert world.held() == set()


def test_a_boot_without_a_name_arms_nothing(world: World) -> None:
    (world.root / BOOT_ID[1:]).unlink()
    assert world.settle().mode == "observing"


def test_the_running_kernel_as_a_proven_fallback_arms_it_too(world: World) -> None:
    """safeupdate was installed after the update: what starts next was never anything but broken."""
    world.update("unsafe")
    world.confirm()
    assert world.settle().mode == "armed"
    assert world.held() == ALL


def test_a_loader_that_is_not_understood_never_arms_it(world: World) -> None:
    world.loader = "Windows"
    world.confirm()
    assert world.settle().mode == "observing"


def test_the_files_that_booted_must_be_the_ones_that_were_judged(world: World) -> None:
    world.confirm()
    world.update("safe", kernel=OLD, fallback=None)
    assert world.settle().mode == "observing"


def test_a_kernel_that_is_called_broken_and_comes_up_disarms_it(armed: World) -> None:
    """A false alarm: a person went past it, and the machine runs well."""
    armed.update("unsafe")
    armed.settle()
    armed.reboot(NEW)
    assert armed.settle().mode == "armed"
    armed.fallback = None
    armed.confirm()
    gate = armed.settle()
    assert (gate.mode, gate.position) == ("observing", "open")
    assert armed.held() == set()


# -- what is held -------------------------------------------------------------------------------------------------


def test_while_it_is_judged_what_reboots_by_itself_waits(armed: World) -> None:
    armed.update("safe")
    armed.settle()
    assert armed.during[-1] == ("pending", UNATTENDED)
    assert armed.held() == set()


def test_what_was_held_for_a_broken_kernel_stays_until_the_next_verdict(armed: World) -> None:
    armed.update("unsafe")
    armed.settle()
    armed.update("unsafe")
    armed.error = SafeupdateError("out of memory")
    gate = armed.settle()
    assert armed.during[-1] == ("pending", set(ALL))
    assert (gate.verdict, gate.people, gate.unattended) == ("unknown", True, False)
    assert armed.held() == UNATTENDED


def test_unknown_holds_machines_and_lets_people_through(armed: World) -> None:
    armed.update("unknown")
    gate = armed.settle()
    assert (gate.position, gate.people, gate.unattended) == ("closed", True, False)
    assert armed.held() == UNATTENDED
    assert "a person may reboot" in headline(gate)


def test_a_check_that_fails_does_not_free_what_was_judged_unsafe(armed: World) -> None:
    armed.update("unsafe")
    armed.settle()
    armed.verdict = "unknown"
    gate = armed.settle(force=True)
    assert gate.verdict == "unsafe"
    assert "nothing has changed since" in gate.why
    assert armed.held() == ALL


def test_nothing_is_judged_twice_and_every_lever_is_seen_to(armed: World) -> None:
    armed.update("unsafe")
    first = armed.settle()
    looks = len(armed.during)
    (armed.root / "run/held-reboot-target").unlink()
    second = armed.settle()
    assert len(armed.during) == looks
    assert second == first
    assert armed.held() == ALL


def test_unknown_is_judged_anew_after_a_while_and_told_loudly_after_a_day(armed: World) -> None:
    armed.update("unknown")
    armed.settle()
    looks = len(armed.during)
    armed.later(minutes=50)
    armed.settle()
    assert len(armed.during) == looks
    armed.later(minutes=11)
    armed.settle()
    assert len(armed.during) == looks + 1
    armed.later(hours=22)
    assert not armed.settle().overdue
    assert not (armed.root / tell.ALARM[1:]).exists()
    armed.later(hours=1)
    gate = armed.settle()
    assert gate.overdue
    assert "a person should look" in gate.why
    assert (armed.root / tell.ALARM[1:]).exists()


def test_a_machine_that_changes_while_it_is_looked_at(armed: World) -> None:
    look = armed.look

    def changing() -> Report:
        found = look()
        (armed.root / f"boot/initrd.img-{NEW}").write_bytes(os.urandom(9))
        return found

    armed.update("safe")
    armed.look = changing  # type: ignore[method-assign]
    gate = armed.settle()
    assert (gate.verdict, gate.position) == ("pending", "closed")
    armed.look = look  # type: ignore[method-assign]
    assert armed.settle().position == "open"


def test_a_reboot_that_a_person_must_attend_is_left_to_people(armed: World) -> None:
    armed.findings = [blocker("module-signatures.pending-key", "zfs", "Its key is not enrolled yet.", "It is refused.")]
    armed.update("unsafe")
    gate = armed.settle()
    assert (gate.people, gate.unattended, gate.position) == (True, False, "closed")
    assert armed.held() == UNATTENDED | policy.STEERING
    armed.findings = [*armed.findings, blocker("initramfs.truncated", NEW, "It is cut off.", "It panics.")]
    assert not armed.settle(force=True).people


def test_an_offline_update_is_never_stranded(armed: World) -> None:
    (armed.root / "run/systemd/system").mkdir(parents=True)
    (armed.root / "system-update").symlink_to("/var/lib/update")
    armed.update("unsafe")
    gate = armed.settle()
    assert gate.verdict == "unsafe"
    assert armed.held() == ALL - policy.PEOPLE


def test_levers_as_they_are_configured(armed: World) -> None:
    armed.update("unsafe")
    armed.settle()
    gate = GateSettings(off=("reboot-target",), also=("inhibitor",))
    armed.config = replace(DEFAULTS, gate=gate)
    armed.settle()
    assert armed.held() == policy.LEVERS - {"reboot-target"}


# -- the way back -------------------------------------------------------------------------------------------------


def test_the_last_fallback_must_not_be_lost(armed: World) -> None:
    armed.update("safe")
    assert armed.settle().position == "open"
    armed.update("safe", fallback=None)
    gate = armed.settle()
    assert (gate.position, gate.cause, gate.people) == ("closed", "no-fallback", True)
    assert armed.held() == UNATTENDED
    armed.reboot(NEW)
    armed.confirm()
    gate = armed.settle()  # from here on it is a machine without one
    assert (gate.position, gate.cause) == ("open", "safe")


def test_a_machine_that_never_had_a_fallback_needs_none(armed: World) -> None:
    armed.update("safe", fallback=None)
    assert armed.settle().position == "open"


def test_a_snapshot_is_taken_before_anything_opens(armed: World) -> None:
    armed.protected.clear()
    armed.update("unsafe")
    armed.settle()
    assert armed.protected == []
    armed.unprotected = "There is no snapshot to go back to: the disk is full."
    armed.update("safe")
    gate = armed.settle()
    assert [held for _, held in armed.protected] == [ALL]
    assert (gate.position, gate.cause, gate.people, gate.unattended) == ("closed", "no-snapshot", True, False)
    assert gate.why.endswith(armed.unprotected) and state.read(armed.machine) == gate
    assert armed.held() == UNATTENDED
    armed.settle()
    assert len(armed.protected) == 2  # it is tried anew each time
    armed.unprotected = ""
    assert (armed.settle().position, armed.held()) == ("open", set())
    armed.settle()
    assert len(armed.protected) == 3
    armed.unprotected = "There is none."
    allow(armed)
    armed.update("unsafe")
    allow(armed)
    assert (armed.settle().cause, len(armed.protected)) == ("allowed", 3)


def test_a_check_that_was_skipped_needs_a_permission(armed: World) -> None:
    armed.skipped = ("root-storage",)
    armed.update("safe")
    gate = armed.settle()
    assert (gate.cause, gate.people, gate.unattended) == ("skipped", True, False)
    armed.config = replace(DEFAULTS, gate=GateSettings(trust_skipped=True))
    assert armed.settle().position == "open"


# -- reboots ------------------------------------------------------------------------------------------------------


def test_back_on_the_fallback_the_broken_kernel_stays_held(armed: World) -> None:
    armed.update("unsafe")
    armed.settle()
    armed.reboot(OLD)
    assert armed.held() == set(policy.STEERING)
    gate = armed.settle()  # the early unit: not confirmed, and nothing of /run is left
    assert armed.during[-1] == ("pending", UNATTENDED | policy.STEERING)
    assert (gate.mode, gate.position) == ("armed", "closed")
    assert gate.came_back == f"This machine came back on {OLD}, and not on {NEW}, which was to start next."
    assert armed.held() == ALL
    armed.confirm()
    gate = armed.settle()
    assert (gate.mode, gate.verdict) == ("armed", "unsafe")
    assert gate.came_back
    assert armed.held() == ALL


def test_ten_reboots_with_two_bad_kernels(world: World) -> None:
    """A good machine; a bad kernel that is mended; another one that goes away; and what each boot holds at its end."""
    seen = []
    running, verdict = OLD, "safe"
    for number in range(10):
        if number in (2, 6):
            world.update("unsafe")
            verdict = "unsafe"
        if number in (4, 8):
            world.update("safe")
            verdict = "safe"
        world.settle()
        running = OLD if verdict == "unsafe" or number < 2 else NEW
        if number < 2:
            world.kernel = OLD
        world.fallback = None if number < 2 else NEW if running == NEW and world.kernel == OLD else OLD
        world.reboot(running)
        world.settle()
        world.confirm()
        gate = world.settle()
        seen.append((gate.mode, gate.position, len(world.held())))
    opened, closed = ("armed", "open", 0), ("armed", "closed", len(ALL))
    assert seen == [opened, opened, closed, closed, opened, opened, closed, closed, opened, opened]


# -- people -------------------------------------------------------------------------------------------------------


def test_a_person_opens_it_against_the_verdict(armed: World) -> None:
    armed.update("unsafe")
    armed.settle()
    allow(armed)
    gate = armed.settle()
    assert (gate.position, gate.cause, gate.verdict, gate.unattended) == ("open", "allowed", "unsafe", True)
    assert armed.held() == set()
    assert "I know" in gate.why
    armed.update("unsafe")
    assert armed.settle().position == "closed"


def test_a_permission_lasts_over_the_reboot_that_it_was_for(armed: World) -> None:
    armed.update("unsafe")
    allow(armed)
    armed.reboot(NEW)
    assert armed.settle().cause == "allowed"
    armed.reboot(OLD)
    assert armed.settle().cause == "unsafe"


def test_a_permission_for_once_ends_with_the_boot(armed: World) -> None:
    armed.update("unsafe")
    allow(armed, once=True)
    assert armed.settle().cause == "allowed"
    armed.reboot(NEW)
    assert armed.settle().cause == "unsafe"


def test_the_way_out_holds_nothing_until_the_machine_restarts(armed: World) -> None:
    armed.update("unsafe")
    armed.settle()
    armed.host().write(WAY_OUT, b"")
    gate = armed.settle()
    assert (gate.cause, armed.held()) == ("allowed", set())
    assert "safeupdate-open" in gate.why
    armed.reboot(OLD)
    assert armed.settle().cause == "unsafe"


def test_a_kernel_that_is_not_wanted(armed: World) -> None:
    armed.update("safe")
    armed.settle()
    reject(armed, NEW)
    gate = armed.settle()
    assert (gate.position, gate.cause, gate.unattended) == ("open", "rejected-held", True)
    assert armed.held() == policy.STEERING
    assert "too slow" in gate.why
    armed.reboot(OLD)
    armed.settle()
    armed.confirm()
    assert armed.settle().cause == "rejected-held"
    reject(armed)
    gate = armed.settle()
    assert gate.cause == "safe"
    assert armed.held() == set()


def test_a_kernel_that_is_not_wanted_where_nothing_else_can_start(armed: World) -> None:
    armed.update("safe", fallback=None)
    reject(armed, NEW)
    gate = armed.settle()
    assert (gate.position, gate.cause, gate.people, gate.unattended) == ("closed", "rejected", True, False)
    assert armed.held() == UNATTENDED
    armed.fallback = OLD
    reject(armed, NEW, OLD)
    assert armed.settle(force=True).cause == "rejected"


# -- mishaps ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"format": 2}', b'{"format": 1}', b"\xff" * 9, b"[" * 9999])
@pytest.mark.parametrize("path", [state.PATH, state.MEMORY, permits.ALLOWED, permits.REJECTED])
def test_damaged_files_are_told_and_not_obeyed(armed: World, path: str, damage: bytes) -> None:
    armed.update("unsafe")
    armed.settle()
    (armed.root / path[1:]).write_bytes(damage)
    gate = armed.settle()
    empty = path == state.MEMORY and damage == b'{"format": 1}'
    assert empty or [problem for problem in gate.problems if path in problem]
    assert (gate.mode, gate.position, gate.verdict) == ("armed", "closed", "unsafe")
    assert armed.held() == ALL
    if path in (permits.ALLOWED, permits.REJECTED):
        (armed.root / path[1:]).unlink()
    assert armed.settle().problems == ()


def test_what_was_rejected_stays_held_where_that_can_no_longer_be_read(armed: World) -> None:
    armed.update("safe")
    reject(armed, NEW)
    armed.settle()
    (armed.root / permits.REJECTED[1:]).write_bytes(b"")
    gate = armed.settle()
    assert gate.problems
    assert armed.held() == policy.STEERING


def test_without_a_place_that_outlasts_a_reboot(armed: World) -> None:
    """/var is read-only, or not there: what needs a record is not held, and the state is kept all the same."""
    armed.update("unsafe")
    shutil.rmtree(armed.root / VAR[1:])
    (armed.root / VAR[1:]).write_bytes(b"")
    gate = armed.settle()
    assert (gate.verdict, gate.position) == ("unsafe", "closed")
    assert armed.held() == set()
    assert {lever.position for name, lever in gate.levers.items() if name != "inhibitor"} == {"refused"}
    assert [problem for problem in gate.problems if "outlast a reboot cannot be written down" in problem]
    assert [problem for problem in gate.problems if "The lever boot-default could not be set" in problem]
    assert state.read(armed.machine) == gate


def test_without_a_place_in_run(armed: World) -> None:
    """/run is full: the levers are set all the same, one after the other, as far as each can be."""
    shutil.rmtree(armed.root / RUN[1:])
    (armed.root / RUN[1:]).write_bytes(b"")
    armed.update("unsafe")
    gate = armed.settle()
    assert armed.held() == ALL
    assert [problem for problem in gate.problems if "How the gate stands cannot be written down" in problem]
    assert [problem for problem in gate.problems if "No other run is kept away" in problem]
    armed.update("safe")
    assert armed.settle().position == "open"
    assert armed.held() == set()


def test_a_state_that_cannot_be_replaced_is_not_left_behind(armed: World) -> None:
    """It would tell of a gate that stands otherwise."""
    assert armed.settle().position == "open"
    (armed.root / RUN[1:] / ".gate.json.new").mkdir()
    armed.update("unsafe")
    assert armed.settle().position == "closed"
    assert state.read(armed.machine) is None


def test_a_closed_gate_without_its_mask_does_not_claim_to_hold(armed: World) -> None:
    armed.update("unsafe")
    gate = armed.settle()
    assert "reboots are held back" in headline(gate)
    levers = {**gate.levers, "reboot-target": State("open", "It could not be set.")}
    assert "but nothing stops a `reboot`" in headline(replace(gate, levers=levers))
    assert "a person may reboot" in headline(replace(gate, levers=levers, people=True))


def test_without_systemd(tmp_path: Path) -> None:
    """A machine of another init: what has no systemd to ask is not here, all else holds, and nothing is amiss."""
    world = World(tmp_path, levers=levers.LEVERS)
    world.confirm()
    assert world.settle().mode == "armed"
    flag = tmp_path / "run/reboot-required"
    flag.write_text("*** System restart required ***\n")
    nologin = tmp_path / "run/nologin"
    nologin.write_text("Closed for today.\n")
    world.update("unsafe")
    gate = world.settle()
    assert (gate.position, gate.problems) == ("closed", ())
    held = {name for name, lever in gate.levers.items() if lever.position == "closed"}
    assert held == {"reboot-required", "boot-default"}
    assert {lever.position for name, lever in gate.levers.items() if name not in held} == {"not-here"}
    world.update("safe")
    gate = world.settle()
    assert (gate.position, gate.problems, flag.exists()) == ("open", (), True)
    assert nologin.exists() and not (tmp_path / VAR[1:] / "levers/reboot-target.json").exists()


def test_another_run_is_waited_for_and_not_for_ever(armed: World) -> None:
    armed.update("unsafe")
    code = (
        f"import fcntl, sys; file = open({str(armed.root / lock.PATH[1:])!r}, 'r+'); fcntl.flock(file, fcntl.LOCK_EX)"
    )
    code += "; print('held', flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        with pytest.raises(SafeupdateError, match="another run"):
            settle(armed.host(), armed.look, levers=armed.levers, lock_seconds=0.3)
        other.kill()
    assert armed.settle().position == "closed"


def test_the_real_levers_hold_a_real_menu_and_the_verdict_stays_the_same(tmp_path: Path) -> None:
    """Of Debian's menu the default is held, read back, and let go; no hold makes the verdict pending again."""
    world = World(tmp_path, levers=levers.LEVERS)
    custom, flag = tmp_path / "boot/grub/custom.cfg", tmp_path / "run/reboot-required"
    world.confirm()
    assert world.settle().mode == "armed"
    assert custom.read_bytes() == steering.OFF
    flag.write_text("*** System restart required ***\n")
    world.update("unsafe")
    gate = world.settle()
    assert (gate.problems, gate.held, gate.levers["reboot-required"].position) == ((), True, "closed")
    assert steering.held_by(custom.read_bytes()) == ENTRIES[OLD]
    assert not flag.exists()
    looks = len(world.during)
    assert world.settle() == gate
    assert len(world.during) == looks
    world.reboot(OLD)
    world.settle()
    world.confirm()
    assert world.settle().held
    allow(world)
    assert (world.settle().cause, custom.read_bytes()) == ("allowed", steering.OFF)
    assert world.settle().cause == "allowed"
    world.update("safe")
    assert world.settle().position == "open"
    reject(world, NEW)
    assert world.settle().cause == "rejected-held"
    assert steering.held_by(custom.read_bytes()) == ENTRIES[OLD]


# -- what is told -------------------------------------------------------------------------------------------------


def fields(datagram: bytes) -> dict[str, str]:
    """The journal's native protocol: a name, the length of the value, the value."""
    found = {}
    while datagram:
        name, _, rest = datagram.partition(b"\n")
        length = int.from_bytes(rest[:8], "little")
        found[name.decode()] = rest[8 : 8 + length].decode()
        assert rest[8 + length : 9 + length] == b"\n"
        datagram = rest[9 + length :]
    return found


def test_the_journal_has_one_message_for_each_change(armed: World) -> None:
    place = armed.root / "run/systemd/journal"
    place.mkdir(parents=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as journal:
        journal.bind(str(place / "socket"))
        journal.setblocking(False)

        def messages() -> list[dict[str, str]]:
            found = []
            while True:
                try:
                    found.append(fields(journal.recv(1 << 16)))
                except BlockingIOError:
                    return found

        armed.settle()
        assert messages() == []
        armed.update("unsafe")
        armed.settle()
        pending, unsafe = messages()
        assert (pending["SAFEUPDATE_VERDICT"], pending["PRIORITY"]) == ("pending", "4")
        assert {name: value for name, value in unsafe.items() if name != "MESSAGE"} == {
            "MESSAGE_ID": tell.MESSAGE_ID,
            "PRIORITY": "3",
            "SYSLOG_IDENTIFIER": "safeupdate",
            "SAFEUPDATE_GATE": "closed",
            "SAFEUPDATE_MODE": "armed",
            "SAFEUPDATE_VERDICT": "unsafe",
            "SAFEUPDATE_CAUSE": "unsafe",
            "SAFEUPDATE_UNATTENDED": "no",
            "SAFEUPDATE_KERNEL": NEW,
            "SAFEUPDATE_FALLBACK": OLD,
        }
        assert unsafe["MESSAGE"].startswith("The gate is closed, reboots are held back. ")
        armed.settle()
        assert messages() == []
        armed.update("safe")
        armed.settle()
        assert [one["SAFEUPDATE_VERDICT"] for one in messages()] == ["pending", "safe"]


def test_the_message_of_the_day_and_the_alarm_are_there_as_long_as_they_are_true(armed: World) -> None:
    motd, alarm = armed.root / tell.MOTD[1:], armed.root / tell.ALARM[1:]
    assert not motd.exists()
    armed.update("unsafe")
    armed.settle()
    assert motd.read_text().startswith("The gate is closed")
    assert "safeupdate status" in motd.read_text()
    assert alarm.exists()
    armed.update("unknown")
    armed.settle()
    assert motd.exists()
    assert not alarm.exists()
    armed.update("safe")
    armed.settle()
    assert not motd.exists()


def test_the_ledger_has_each_change_once(armed: World) -> None:
    armed.update("unsafe")
    armed.settle()
    armed.settle()
    armed.reboot(OLD)
    armed.settle()
    armed.confirm()
    armed.settle()
    armed.update("safe")
    armed.settle()
    events = [(event.kind, event.detail.partition(".")[0]) for event in reversed(read(armed.machine).events)]
    assert events == [
        ("gate-open", "The gate is open"),
        ("gate-closed", "The gate is closed, reboots are held back"),
        ("gate-open", "The gate is open"),
    ]


def test_what_is_stored_can_be_read_by_anyone(armed: World) -> None:
    armed.update("unsafe")
    gate = armed.settle()
    place = armed.root / state.PATH[1:]
    assert place.stat().st_mode & 0o777 == 0o644
    assert place.parent.stat().st_mode & 0o777 == 0o755
    document = json.loads(place.read_bytes())
    assert (document["format"], document["position"], document["judged"]["kernel"]) == (1, "closed", NEW)
    assert state.read(armed.machine) == gate
    assert isinstance(gate, Gate)
