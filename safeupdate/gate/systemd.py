"""What the levers ask systemd and logind (org.freedesktop.systemd1(5), org.freedesktop.login1(5))."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from safeupdate.gate.host import Host, NotDone
from safeupdate.machine import Machine

SECONDS = 30.0
"""For a question: systemd answers in milliseconds, and on a machine that is starved in some seconds."""

RELOAD_SECONDS = 180.0
"""For what reloads all units: 32 and 81 seconds were measured on a starved machine."""

SCHEDULED = "/run/systemd/shutdown/scheduled"
NOLOGIN = "/run/nologin"

_OFFLINE_UPDATES = ("/system-update", "/etc/system-update")
"""Asks for an update with all else stopped, at the next start (systemd.offline-updates(7))."""

_GOING_DOWN = b"System is going down."
"""With this begins the file that logind and systemd-user-sessions write; another is an administrator's own."""

_LOGIN1 = ("org.freedesktop.login1", "/org/freedesktop/login1", "org.freedesktop.login1.Manager")


@dataclass(frozen=True)
class Scheduled:
    """What is to happen, as shutdown(8) names it (`reboot`, `poweroff`, ...), and when, in microseconds since 1970."""

    mode: str
    microseconds: int


def runs(machine: Machine) -> bool:
    """Whether systemd is this machine's process 1 (sd_booted(3))."""
    return machine.is_dir("/run/systemd/system")


def offline_update(host: Host) -> bool:
    """Whether an offline update is asked for or under way. It ends with a reboot that nothing may stop.

    Its first step is to take the request away; its target then waits to be reached, or is.
    """
    if any(host.machine.stat(path, follow=False) is not None for path in _OFFLINE_UPDATES):
        return True
    shown = show(host, "system-update.target", "ActiveState", "Job")
    return shown.get("ActiveState") not in ("inactive", "failed") or bool(shown.get("Job"))


def show(host: Host, unit: str, *properties: str) -> dict[str, str]:
    """Properties of a unit, as systemd has them loaded. Raises `NotDone`, and `ProgramFailed`."""
    return show_each(host, (unit,), *properties)[0]


def show_each(host: Host, units: Sequence[str], *properties: str) -> list[dict[str, str]]:
    """The same of several units at once."""
    done = host.run(["systemctl", "show", f"--property={','.join(properties)}", "--", *units], SECONDS)
    told = done.stdout.decode("utf-8", "replace").strip("\n").split("\n\n")
    if done.code or len(told) != len(units):
        raise NotDone("systemctl show", done.stderr.decode("utf-8", "replace").strip())
    return [dict(line.split("=", 1) for line in one.splitlines() if "=" in line) for one in told]


def scheduled(machine: Machine) -> Scheduled | None:
    """What logind has scheduled; None where it has nothing, or where its file cannot be understood.

    The file is logind's own note for shutdown(8): lines of `USEC=` and `MODE=`. Raises `Unreadable`.
    """
    lines = (machine.text(SCHEDULED) or "").splitlines()
    fields = dict(line.split("=", 1) for line in lines if "=" in line)
    mode, time = fields.get("MODE"), fields.get("USEC", "")
    return Scheduled(mode, int(time)) if mode and time.isascii() and time.isdigit() else None


def login1(host: Host, method: str, *arguments: str) -> None:
    """Call a method of logind. Raises `NotDone`, and `ProgramFailed`."""
    done = host.run(["busctl", "call", *_LOGIN1, method, *arguments], SECONDS)
    if done.code:
        raise NotDone(f"logind's {method}", done.stderr.decode("utf-8", "replace").strip())


def let_users_in(host: Host) -> bool:
    """Remove the /run/nologin of a reboot that did not come to pass, and say whether there was one.

    logind makes it five minutes before a scheduled reboot. A mask refuses the reboot when it is due, and where anything
    delays reboots (an inhibitor's lock) logind then forgets the file: nobody but root could log in any more.
    """
    machine = host.machine
    left = machine.read_if_there(NOLOGIN)
    if left is None or not left.startswith(_GOING_DOWN) or scheduled(machine) is not None:
        return False
    # Written by systemd-user-sessions when it stops, and by logind while the machine is on its way down.
    if show(host, "systemd-user-sessions.service", "ActiveState").get("ActiveState") != "active":
        return False
    preparing = host.run(["busctl", "get-property", *_LOGIN1, "PreparingForShutdown"], SECONDS)
    if preparing.stdout.strip() != b"b false":
        return False
    host.remove(NOLOGIN)
    return True
