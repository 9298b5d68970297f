"""What `safeupdate status` shows, of gates as they stand on real machines, and the verbs that go by them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path

import pytest

from safeupdate.commands import kured_sentinel, reboot, settle
from safeupdate.commands.status import as_json, render
from safeupdate.errors import SafeupdateError
from safeupdate.gate.host import Host
from safeupdate.gate.lever import State
from safeupdate.gate.need import reboot_needed
from safeupdate.gate.state import Gate, Judged
from safeupdate.gate.words import reason
from safeupdate.machine import Completed, Machine
from safeupdate.surroundings import inside
from tests.unit.test_cli import HERE, start
from tests.unit.trees import tree

OLD, NEW = "6.1.0-50-amd64", "6.1.0-56-amd64"

JUDGED = Judged(
    verdict="unsafe",
    time="2026-11-23T08:04:11+00:00",
    kernel=NEW,
    loader="grub",
    entry=f"gnulinux-{NEW}",
    title="Debian GNU/Linux",
    fallback=OLD,
    fallback_entry=f"gnulinux-{OLD}",
    quality="proven",
    blockers=(f"The initramfs /boot/initrd.img-{NEW} is cut off.", "The module zfs is not built for it."),
    blocker_ids=("initramfs.truncated", "dkms.not-built"),
)
HELD = {
    "reboot-required": State("closed", "The request for a reboot lies aside in /run/safeupdate/held (linux-image)."),
    "scheduled": State("not-here", "No reboot is scheduled."),
    "dnf-automatic": State("not-here", "There is no /etc/dnf/automatic.conf."),
    "boot-default": State("closed", f'The boot loader starts "Debian GNU/Linux, with Linux {OLD}" by default.'),
    "molly-guard": State("not-here", "molly-guard is not installed."),
    "reboot-target": State("closed", "systemd refuses every reboot but `systemctl reboot --force`."),
}
FREE = {
    "reboot-required": State("open", "/run/reboot-required asks for a reboot."),
    "scheduled": State("not-here", "No reboot is scheduled."),
    "boot-default": State("open", "safeupdate does not hold the boot loader's default."),
    "reboot-target": State("open", "systemd lets every reboot through."),
}


def gate(**changes: object) -> Gate:
    found = replace(
        Gate(
            position="closed",
            mode="armed",
            verdict="unsafe",
            cause="unsafe",
            unattended=False,
            people=False,
            why="",
            since="2026-11-23T08:04:12+00:00",
            boot_id="boot-1",
            confirmed=True,
            judged=JUDGED,
            levers=HELD,
        ),
        **changes,  # type: ignore[arg-type]
    )
    return replace(found, judged=replace(found.judged, verdict=found.verdict), why=reason(found))


CLOSED = gate()
PENDING = gate(
    verdict="pending", cause="pending", people=True, levers={**FREE, "reboot-required": HELD["reboot-required"]}
)
UNKNOWN = gate(
    verdict="unknown",
    cause="unknown",
    people=True,
    overdue=True,
    levers={**FREE, "reboot-required": HELD["reboot-required"]},
    judged=replace(JUDGED, blockers=("Nothing on this machine decodes zstd.",), blocker_ids=()),
)
OPEN = gate(
    position="open",
    verdict="safe",
    cause="safe",
    people=True,
    unattended=True,
    levers=FREE,
    judged=replace(
        JUDGED,
        blockers=(),
        waits=("The next boot asks for the passphrase of vda3_crypt, which the root file system lies on.",),
    ),
    came_back=f"This machine came back on {OLD}, and not on {NEW}, which was to start next.",
)
OBSERVING = gate(position="open", mode="observing", levers=FREE, confirmed=False)
ALLOWED = gate(
    position="open",
    cause="allowed",
    people=True,
    unattended=True,
    levers=FREE,
    allowed="jane allowed it at 2026-11-23T08:10:00+00:00: the console is open",
)
REJECTED = gate(
    position="open",
    verdict="safe",
    cause="rejected-held",
    people=True,
    unattended=True,
    levers={**FREE, "boot-default": HELD["boot-default"]},
    rejected=f"jane rejected {NEW} at 2026-11-23T08:10:00+00:00: its network driver drops packets",
)
ALL = [CLOSED, PENDING, UNKNOWN, OPEN, OBSERVING, ALLOWED, REJECTED]


@pytest.mark.parametrize("one", ALL)
def test_it_fits_into_a_terminal_and_says_first_what_holds(one: Gate) -> None:
    text = render(one, changed=False)
    assert all(len(line) <= 80 for line in text.splitlines())
    first = text.splitlines()[0].partition(":")[0]
    assert first == ("OBSERVING" if one.mode == "observing" else one.position.upper())
    assert "\x1b[" in render(one, changed=False, colour=True)


@pytest.mark.parametrize(
    ("one", "changed", "commands"),
    [
        (CLOSED, False, ["safeupdate check", "safeupdate allow --reason TEXT"]),
        (CLOSED, True, ["safeupdate settle"]),
        (PENDING, True, ["safeupdate settle"]),
        (UNKNOWN, False, ["safeupdate check", "safeupdate allow --reason TEXT"]),
        (OPEN, False, []),
        (OBSERVING, None, ["safeupdate check"]),
        (ALLOWED, False, ["safeupdate check", "safeupdate allow --withdraw"]),
        (REJECTED, False, ["safeupdate reject --withdraw"]),
        (replace(OPEN, problems=("The lever x could not be set: it broke.",)), False, ["safeupdate-open"]),
        (None, None, ["safeupdate settle"]),
    ],
)
def test_the_commands_that_help(one: Gate | None, changed: bool | None, commands: list[str]) -> None:
    lines = render(one, changed=changed).splitlines()
    assert [line.strip() for line in lines if line.startswith("      safeupdate")] == commands


def test_what_starts_while_the_default_is_held() -> None:
    assert f"Next boot    {OLD}, as the default is held on it" in render(CLOSED, changed=False)
    assert f"Next boot    {NEW}\n" in render(UNKNOWN, changed=False)


@pytest.mark.parametrize(
    ("one", "expected"),
    [
        (CLOSED, "armed: it acts"),
        (OBSERVING, "observing: this boot is not confirmed yet"),
        (replace(OBSERVING, confirmed=True), "observing: the boot that is running was never judged safe"),
        (replace(OBSERVING, judged=replace(JUDGED, loader="Windows")), "observing: the boot loader (Windows) is not"),
        (replace(OBSERVING, judged=replace(JUDGED, loader=None)), "observing: the boot loader (none found) is not"),
    ],
)
def test_why_it_acts_or_only_observes(one: Gate, expected: str) -> None:
    assert f"Mode         {expected}" in " ".join(render(one, changed=False).split("\n"))


def test_a_name_does_not_steer_the_terminal() -> None:
    evil = replace(CLOSED, why="\x1b[2Jcleared", judged=replace(JUDGED, kernel="\x1b]0;evil\x07"))
    assert "\x1b" not in render(evil, changed=False)
    assert json.loads(as_json(evil, changed=False))["judged"]["kernel"] == "\x1b]0;evil\x07"


def test_the_screen_of_the_page() -> None:
    page = (HERE / "docs/gate.md").read_text("utf-8")
    screen = page.split("```\n", 2)[1]
    assert screen == render(CLOSED, changed=False)


def test_the_document() -> None:
    document = json.loads(as_json(CLOSED, changed=True))
    assert (document["format"], document["settled"], document["changed"]) == (1, True, True)
    assert (document["position"], document["mode"], document["verdict"], document["cause"]) == (
        "closed",
        "armed",
        "unsafe",
        "unsafe",
    )
    assert document["levers"]["boot-default"]["position"] == "closed"
    assert document["judged"]["fallback"] == OLD
    assert json.loads(as_json(None, changed=None, problem="It is damaged.")) == {
        "format": 1,
        "settled": False,
        "changed": None,
        "problem": "It is damaged.",
    }


# -- verbs that go by it -------------------------------------------------------------------------------------------


def host(root: Path, ran: list[list[str]], code: int = 0) -> Host:
    def run(command: Sequence[str], _: float) -> Completed:
        ran.append([*command])
        return Completed(code, b"", b"Access denied")

    tree(root, {"/proc/sys/kernel/osrelease": f"{OLD}\n"})
    return Host(Machine(str(root), live=True), lambda: datetime.now(timezone.utc), run)


@pytest.mark.parametrize(
    ("one", "options", "code"),
    [
        (OPEN, {}, reboot.REBOOTING),
        (OPEN, {"if_safe": True}, reboot.REBOOTING),
        (OPEN, {"if_safe": True, "if_needed": True}, reboot.REBOOTING),
        (CLOSED, {}, reboot.HELD),
        (CLOSED, {"if_safe": True}, reboot.HELD),
        (UNKNOWN, {}, reboot.REBOOTING),
        (UNKNOWN, {"if_safe": True}, reboot.HELD),
        (PENDING, {"if_safe": True}, reboot.HELD),
        (OBSERVING, {"if_safe": True}, reboot.HELD),
        (ALLOWED, {"if_safe": True}, reboot.REBOOTING),
        (REJECTED, {"if_safe": True}, reboot.REBOOTING),
        (REJECTED, {"if_safe": True, "if_needed": True}, reboot.NOT_NEEDED),
    ],
)
def test_reboot(tmp_path: Path, one: Gate, options: dict[str, bool], code: int) -> None:
    ran: list[list[str]] = []
    asked = {"if_safe": False, "if_needed": False, **options}
    assert reboot.reboot(host(tmp_path, ran), one, **asked) == code
    assert ran == ([["systemctl", "reboot"]] if code == reboot.REBOOTING else [])


def test_reboot_says_why_not_and_what_helps(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    reboot.reboot(host(tmp_path, []), CLOSED, if_needed=False, if_safe=False)
    told = capfd.readouterr().err
    assert "is cut off" in told
    assert "safeupdate status" in told
    assert "safeupdate allow --reason TEXT" in told


def test_a_reboot_that_systemd_refuses_is_a_failure(tmp_path: Path) -> None:
    with pytest.raises(SafeupdateError, match="Access denied"):
        reboot.reboot(host(tmp_path, [], code=1), OPEN, if_needed=False, if_safe=False)


@pytest.mark.parametrize("flag", ["/run/reboot-required", "/run/safeupdate/held/reboot-required"])
def test_a_package_that_asks_for_a_reboot(tmp_path: Path, flag: str) -> None:
    machine = host(tmp_path, []).machine
    same = replace(OPEN, judged=replace(JUDGED, kernel=OLD))
    assert reboot_needed(machine, same) is None
    assert NEW in (reboot_needed(machine, OPEN) or "")
    tree(tmp_path, {flag: "*** System restart required ***\n"})
    assert flag in (reboot_needed(machine, same) or "")


@pytest.mark.parametrize(
    ("one", "code"),
    [(OPEN, 0), (CLOSED, 1), (UNKNOWN, 1), (PENDING, 1), (OBSERVING, 1), (ALLOWED, 0), (REJECTED, 1)],
)
def test_the_sentinel(tmp_path: Path, one: Gate, code: int) -> None:
    assert kured_sentinel.answer(host(tmp_path, []).machine, one) == code


def test_a_sentinel_that_cannot_tell_is_no_answer() -> None:
    """Here that is a container, or a user who is not root."""
    done = start("kured-sentinel")
    assert done.returncode == kured_sentinel.COULD_NOT_TELL, done
    assert "could not be told" in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize(
    ("one", "code"),
    [
        (OPEN, 0),
        (CLOSED, 4),
        (PENDING, 0),
        (UNKNOWN, 4),
        (replace(UNKNOWN, overdue=False), 0),
        (OBSERVING, 0),
        (replace(OPEN, problems=("It broke.",)), 1),
        (ALLOWED, 0),
    ],
)
def test_what_settle_ends_with(one: Gate, code: int) -> None:
    assert settle.exit_code(one) == code


@pytest.mark.skipif(inside(Machine.here()) is None, reason="this is a machine that boots")
def test_in_a_container_or_a_chroot_nothing_is_done() -> None:
    done = start("settle", "--force")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("This is a c") and "nothing is done" in done.stdout
    for verb in (["reboot"], ["allow", "--reason", "x"], ["reject", "--reason", "x"]):
        done = start(*verb)
        assert (done.returncode, done.stdout) == (1, "") and "nothing is held back here" in done.stderr
    done = start("snapshot", "list")
    assert (done.returncode, done.stdout) == (1, "") and "no snapshot of it is made" in done.stderr
    assert "Run this on the machine itself" in done.stderr


@pytest.mark.parametrize("arguments", [["allow"], ["allow", "--reason", " "], ["allow", "--withdraw", "--reason", "x"]])
def test_what_makes_no_sense_is_a_usage_error(arguments: list[str]) -> None:
    done = start(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert "safeupdate allow --reason TEXT" in done.stderr
