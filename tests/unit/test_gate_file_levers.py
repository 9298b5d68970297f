"""The levers that move and change files, each on a small root of its own."""

from __future__ import annotations

import configparser
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path

import pytest

from safeupdate.gate import record
from safeupdate.gate.document import Damaged
from safeupdate.gate.host import Host, NotDone
from safeupdate.gate.lever import Lever, Order
from safeupdate.gate.levers import dnf_automatic, molly_guard, reboot_required, scheduled
from safeupdate.machine import Completed, Machine

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=timezone.utc)
ORDER = Order("The initramfs of 6.1.0-56-amd64 is cut off.")


class Killed(BaseException):
    """As a kill: nothing catches it."""


@dataclass(frozen=True)
class DyingHost(Host):
    """A host whose process dies before it does its step `dies_at`, which is counted in `steps`."""

    dies_at: int = -1
    steps: list[str] = field(default_factory=list)

    def _step(self, what: str) -> None:
        if len(self.steps) == self.dies_at:
            raise Killed
        self.steps.append(what)

    def write(self, path: str, data: bytes, mode: int = 0o644) -> None:
        self._step(f"write {path}")
        super().write(path, data, mode)

    def remove(self, path: str) -> None:
        self._step(f"remove {path}")
        super().remove(path)

    def move(self, old: str, new: str) -> None:
        self._step(f"move {old}")
        super().move(old, new)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for directory in ("run/systemd/system", "var/lib", "etc/dnf", "proc/sys/kernel/random"):
        (tmp_path / directory).mkdir(parents=True)
    (tmp_path / "var/run").symlink_to("/run")
    (tmp_path / "proc/sys/kernel/random/boot_id").write_text("11111111-1111-4111-8111-111111111111\n")
    return tmp_path


def _host(root: Path, now: datetime = NOW) -> Host:
    return Host(Machine.tree(str(root)), lambda: now)


def _content(root: Path) -> dict[str, bytes]:
    """Every file but our own records."""
    files = {path.relative_to(root).as_posix(): path for path in root.rglob("*") if path.is_file()}
    return {name: path.read_bytes() for name, path in files.items() if not name.startswith("var/lib/safeupdate/")}


def _survives_kills(root: Path, lever: Lever, closed: dict[str, bytes]) -> None:
    """Whatever step the process dies at, closing once more ends as `closed`, and opening once more as it was."""
    opened = _content(root)
    for act, before, after in ((lever.close, opened, closed), (lever.open, closed, opened)):
        for dies_at in range(20):
            if before is opened:
                lever.open(_host(root))
            else:
                lever.close(_host(root), ORDER)
            assert _content(root) == before
            host = DyingHost(Machine.tree(str(root)), lambda: NOW, dies_at=dies_at)
            try:
                act(host, ORDER) if act is lever.close else act(host)  # type: ignore[call-arg]
                died = False
            except Killed:
                died = True
            act(_host(root), ORDER) if act is lever.close else act(_host(root))  # type: ignore[call-arg]
            assert _content(root) == after, f"killed before step {dies_at} of {host.steps}"
            if not died:
                break
        else:
            raise AssertionError("it takes more steps than any lever may")


# -- reboot-required


def _asks(root: Path, *packages: str) -> None:
    (root / "run/reboot-required").write_text("*** System restart required ***\n")
    (root / "run/reboot-required.pkgs").write_text("".join(f"{package}\n" for package in packages))


def test_a_request_lies_aside_for_all_to_read_and_comes_back_as_it_was(root: Path) -> None:
    _asks(root, "linux-image-amd64", "linux-base")
    os.utime(root / "run/reboot-required", (1_000_000, 1_000_000))
    before = _content(root)
    found = reboot_required.LEVER.close(_host(root), ORDER)
    assert found.position == "closed"
    assert "linux-image-amd64, linux-base" in found.words
    held = root / "run/safeupdate/held"
    assert not (root / "run/reboot-required").exists() and not (root / "var/run/reboot-required.pkgs").exists()
    assert {path.name for path in held.iterdir()} == {"reboot-required", "reboot-required.pkgs"}
    assert held.stat().st_mode & 0o777 == 0o755
    assert reboot_required.LEVER.open(_host(root)).position == "open"
    assert _content(root) == before
    assert (root / "run/reboot-required").stat().st_mtime == 1_000_000
    assert record.read(Machine.tree(str(root)), "reboot-required") is None


def test_what_came_later_is_held_too_and_nothing_is_named_twice(root: Path) -> None:
    _asks(root, "linux-image-amd64", "linux-base")
    os.utime(root / "run/reboot-required", (1_000_000, 1_000_000))
    reboot_required.LEVER.close(_host(root), ORDER)
    _asks(root, "dbus", "linux-base")
    assert reboot_required.LEVER.state(_host(root)).position == "open"
    assert reboot_required.LEVER.close(_host(root), ORDER).position == "closed"
    _asks(root, "libc6")
    reboot_required.LEVER.open(_host(root))
    packages = (root / "run/reboot-required.pkgs").read_text()
    assert packages == "linux-image-amd64\nlinux-base\ndbus\nlibc6\n"
    assert (root / "run/reboot-required").stat().st_mtime == 1_000_000
    assert not list((root / "run/safeupdate/held").iterdir())


def test_nothing_asks_for_a_reboot(root: Path) -> None:
    assert reboot_required.LEVER.close(_host(root), ORDER).position == "not-here"
    assert reboot_required.LEVER.open(_host(root)).position == "not-here"


def test_a_request_survives_kills(root: Path) -> None:
    _asks(root, "linux-image-amd64")
    held = {
        f"run/safeupdate/held/{name.partition('/')[2]}": data
        for name, data in _content(root).items()
        if "reboot" in name
    }
    others = {name: data for name, data in _content(root).items() if "reboot" not in name}
    _survives_kills(root, reboot_required.LEVER, {**others, **held})


def test_nothing_is_moved_where_no_record_can_be_written(root: Path) -> None:
    _asks(root, "linux-image-amd64")
    (root / "var/lib/safeupdate").write_text("in the way")
    before = _content(root)
    with pytest.raises(NotDone):
        reboot_required.LEVER.close(_host(root), ORDER)
    assert _content(root) == before


# -- dnf-automatic

STOCK = """\
[commands]
#  What kind of upgrade to perform:
upgrade_type = default
# When the system should reboot following upgrades:
reboot = {reboot}

# The command that is run to trigger a system reboot.
{command}
[emitters]
emit_via = stdio
reboot_command = not this one
"""
COMMAND = "reboot_command = \"shutdown -r +5 'Rebooting after applying package updates'\"\n"
OF_TWO_LINES = "reboot_command=shutdown -r +5\n    'Rebooting'\n"


def _automatic(root: Path, command: str = COMMAND, reboot: str = "when-needed") -> Path:
    path = root / "etc/dnf/automatic.conf"
    path.write_text(STOCK.format(command=command, reboot=reboot))
    return path


def _reads(path: Path) -> str:
    parser = configparser.ConfigParser(interpolation=None)
    parser.read(path)
    return parser["commands"]["reboot_command"]


@pytest.mark.parametrize("command", [COMMAND, OF_TWO_LINES, "", "reboot_command: shutdown -r\n# more\n"])
def test_dnf_automatic_asks_us_and_gets_its_file_back_to_the_byte(root: Path, command: str) -> None:
    path = _automatic(root, command)
    path.chmod(0o640)
    before = path.read_bytes()
    assert dnf_automatic.LEVER.close(_host(root), ORDER).position == "closed"
    assert _reads(path) == dnf_automatic.OURS
    assert path.stat().st_mode & 0o777 == 0o640
    assert dnf_automatic.LEVER.close(_host(root), ORDER).position == "closed"
    assert dnf_automatic.LEVER.open(_host(root)).position == "open"
    assert path.read_bytes() == before


@pytest.mark.parametrize("last", ["", "\n", "\n\n"])
def test_the_end_of_the_file_stays_as_it_is(root: Path, last: str) -> None:
    path = root / "etc/dnf/automatic.conf"
    path.write_text("[commands]\nreboot = when-changed\nreboot_command = shutdown -r" + last)
    before = path.read_bytes()
    dnf_automatic.LEVER.close(_host(root), ORDER)
    assert _reads(path) == dnf_automatic.OURS
    dnf_automatic.LEVER.open(_host(root))
    assert path.read_bytes() == before


def test_what_an_administrator_writes_meanwhile_stays(root: Path) -> None:
    path = _automatic(root)
    dnf_automatic.LEVER.close(_host(root), ORDER)
    path.write_text(path.read_text().replace("default", "security") + "[base]\ndebuglevel = 1\n")
    dnf_automatic.LEVER.open(_host(root))
    assert (
        path.read_text()
        == STOCK.format(command=COMMAND, reboot="when-needed").replace("default", "security")
        + "[base]\ndebuglevel = 1\n"
    )


def test_a_command_that_is_not_ours_any_more_is_left(root: Path) -> None:
    path = _automatic(root)
    dnf_automatic.LEVER.close(_host(root), ORDER)
    path.write_text(path.read_text().replace(f"= {dnf_automatic.OURS}", "= systemctl kexec"))
    theirs = path.read_bytes()
    assert dnf_automatic.LEVER.close(_host(root), ORDER).position == "not-ours"
    assert dnf_automatic.LEVER.open(_host(root)).position == "not-ours"
    assert path.read_bytes() == theirs
    assert dnf_automatic.LEVER.state(_host(root)).position == "open"


@pytest.mark.parametrize("reboot", ["never", "sometimes"])
def test_dnf_automatic_that_never_reboots_is_left_alone(root: Path, reboot: str) -> None:
    path = _automatic(root, reboot=reboot)
    before = path.read_bytes()
    assert dnf_automatic.LEVER.close(_host(root), ORDER).position == "not-here"
    assert path.read_bytes() == before


def test_without_dnf_automatic_there_is_no_lever(root: Path) -> None:
    assert dnf_automatic.LEVER.close(_host(root), ORDER).position == "not-here"
    assert dnf_automatic.LEVER.open(_host(root)).position == "not-here"


def test_a_file_that_is_kept_elsewhere_is_not_replaced(root: Path) -> None:
    _automatic(root).rename(root / "etc/elsewhere")
    (root / "etc/dnf/automatic.conf").symlink_to("/etc/elsewhere")
    assert dnf_automatic.LEVER.close(_host(root), ORDER).position == "refused"
    assert (root / "etc/dnf/automatic.conf").is_symlink()


def test_dnf_automatic_survives_kills(root: Path) -> None:
    path = _automatic(root)
    dnf_automatic.LEVER.close(_host(root), ORDER)
    closed = _content(root)
    dnf_automatic.LEVER.open(_host(root))
    assert path.read_bytes() != closed["etc/dnf/automatic.conf"]
    _survives_kills(root, dnf_automatic.LEVER, closed)


# -- molly-guard


def test_molly_guard_is_told_what_to_say(root: Path) -> None:
    assert molly_guard.LEVER.close(_host(root), ORDER).position == "not-here"
    for name in ("lib/molly-guard/molly-guard", "etc/molly-guard/run.d/50-safeupdate"):
        (root / name).parent.mkdir(parents=True)
        (root / name).write_text("#!/bin/sh\n")
    assert molly_guard.LEVER.state(_host(root)).position == "open"
    assert molly_guard.LEVER.close(_host(root), ORDER).position == "closed"
    said = (root / "run/safeupdate/refused").read_text()
    assert ORDER.why in said and "safeupdate status" in said and "safeupdate-open" in said
    assert molly_guard.LEVER.open(_host(root)).position == "open"
    assert not (root / "run/safeupdate/refused").exists()


# -- scheduled: what logind does is tests/systemd's


@dataclass
class Logind:
    """Answers as logind of the root, and notes what it was asked to do."""

    root: Path
    asked: list[Sequence[str]] = field(default_factory=list)

    def __call__(self, command: Sequence[str], _timeout: float) -> Completed:
        file = self.root / "run/systemd/shutdown/scheduled"
        self.asked.append(command)
        if "CancelScheduledShutdown" in command:
            file.unlink()
        if "ScheduleShutdown" in command:
            schedule(self.root, command[-2], int(command[-1]))
        return Completed(0, b"", b"")


def schedule(root: Path, mode: str, microseconds: int) -> None:
    file = root / "run/systemd/shutdown/scheduled"
    file.parent.mkdir(exist_ok=True)
    file.write_text(f"USEC={microseconds}\nWARN_WALL=1\nMODE={mode}\nUID=0\nWALL_MESSAGE=Gr\\303\\274\\303\\237e\n")


def _with_logind(root: Path, logind: Logind, now: datetime = NOW) -> Host:
    return Host(Machine.tree(str(root)), lambda: now, logind)


LATER = int(datetime(2026, 11, 23, 22, 0, tzinfo=timezone.utc).timestamp()) * 10**6


@pytest.mark.parametrize("mode", ["reboot", "kexec", "soft-reboot"])
def test_a_scheduled_reboot_is_cancelled_and_comes_back(root: Path, mode: str) -> None:
    schedule(root, mode, LATER)
    logind = Logind(root)
    assert scheduled.LEVER.close(_with_logind(root, logind), ORDER).position == "closed"
    assert scheduled.LEVER.close(_with_logind(root, logind), ORDER).position == "closed"
    found = scheduled.LEVER.open(_with_logind(root, logind))
    assert found.position == "open" and "2026-11-23 22:00 UTC is scheduled again" in found.words
    assert [command[-3:] for command in logind.asked if "ScheduleShutdown" in command] == [["st", mode, str(LATER)]]
    assert len(logind.asked) == 2


@pytest.mark.parametrize("mode", ["poweroff", "halt", "dry-reboot"])
def test_a_scheduled_power_off_is_never_touched(root: Path, mode: str) -> None:
    schedule(root, mode, LATER)
    before, logind = _content(root), Logind(root)
    assert scheduled.LEVER.close(_with_logind(root, logind), ORDER).position == "not-here"
    assert scheduled.LEVER.open(_with_logind(root, logind)).position == "not-here"
    assert _content(root) == before and not logind.asked


def test_a_reboot_whose_time_has_passed_is_told_once_and_not_made_up_for(root: Path) -> None:
    schedule(root, "reboot", LATER)
    logind = Logind(root)
    scheduled.LEVER.close(_with_logind(root, logind), ORDER)
    tomorrow = _with_logind(root, logind, datetime(2026, 11, 24, tzinfo=timezone.utc))
    still = scheduled.LEVER.close(tomorrow, ORDER)
    assert still.position == "closed" and "its time has passed" in still.words
    found = scheduled.LEVER.open(tomorrow)
    assert found.position == "not-here" and "its time has passed" in found.words
    assert scheduled.LEVER.open(tomorrow).words == "No reboot is scheduled."
    assert not [command for command in logind.asked if "ScheduleShutdown" in command]


def test_what_was_scheduled_in_another_boot_is_forgotten(root: Path) -> None:
    schedule(root, "reboot", LATER)
    logind = Logind(root)
    scheduled.LEVER.close(_with_logind(root, logind), ORDER)
    (root / "proc/sys/kernel/random/boot_id").write_text("22222222-2222-4222-8222-222222222222\n")
    assert scheduled.LEVER.state(_with_logind(root, logind)).position == "not-here"
    assert scheduled.LEVER.open(_with_logind(root, logind)).position == "not-here"
    assert len(logind.asked) == 1


def test_what_somebody_scheduled_since_stays(root: Path) -> None:
    schedule(root, "reboot", LATER)
    logind = Logind(root)
    scheduled.LEVER.close(_with_logind(root, logind), ORDER)
    schedule(root, "poweroff", LATER)
    assert scheduled.LEVER.open(_with_logind(root, logind)).position == "not-here"
    assert "MODE=poweroff" in (root / "run/systemd/shutdown/scheduled").read_text()


@pytest.mark.parametrize("data", [b"", b"MODE=reboot\n", b"USEC=1\n", b"USEC=\xc2\xb2\nMODE=reboot\n", b"\0" * 100])
def test_a_file_that_is_not_logind_s_schedules_nothing(root: Path, data: bytes) -> None:
    (root / "run/systemd/shutdown").mkdir()
    (root / "run/systemd/shutdown/scheduled").write_bytes(data)
    assert scheduled.LEVER.close(_host(root), ORDER).position == "not-here"


def test_a_damaged_record_is_told_and_forgotten(root: Path) -> None:
    path = root / record.path_of("scheduled")[1:]
    path.parent.mkdir(parents=True)
    path.write_text("{")
    with pytest.raises(Damaged):
        scheduled.LEVER.state(_host(root))
    assert "is damaged" in scheduled.LEVER.open(_host(root)).words
    assert scheduled.LEVER.open(_host(root)).words == "No reboot is scheduled."
