"""One file a verb; here, what several of them share."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from safeupdate.errors import SafeupdateError, UsageError

if TYPE_CHECKING:
    from safeupdate.config import Config
    from safeupdate.gate.host import Host
    from safeupdate.gate.state import Gate
    from safeupdate.machine import Machine
    from safeupdate.report import Report

_WIDTH = 80


def machine_at(root: str | None) -> Machine:
    """This machine, or the one below the directory `root`. Raises `UsageError` where there is no such directory.

    A tree that `safeupdate capture` made comes without what its manifest says is not in it.
    """
    from safeupdate.formats import capture_manifest
    from safeupdate.machine import Machine, Space

    if root is None:
        return Machine.here()
    if not os.path.isdir(root):
        raise UsageError(f"{root} is not a directory")
    data = Machine.tree(root).read_if_there(capture_manifest.PATH)
    if data is None:
        return Machine.tree(root)
    manifest = capture_manifest.parse(data)
    return Machine.tree(
        root,
        left_out=manifest.left_out,
        unreadable=manifest.unreadable,
        spaces={path: Space(**vars(one)) for path, one in manifest.file_systems.items()},
    )


def acting(here: str = "nothing is held back here", hint: str = "") -> Host:
    """This machine, to act on. Raises `SafeupdateError` in a container or a chroot, where `here` is the case and `hint`
    helps, and for who is not root."""
    from datetime import datetime, timezone

    from safeupdate import surroundings
    from safeupdate.gate.host import Host
    from safeupdate.machine import Machine

    machine = Machine.here()
    elsewhere = surroundings.inside(machine)
    if elsewhere is not None:
        raise SafeupdateError(f"this is {elsewhere}: it does not boot by itself, and {here}", hint)
    if os.geteuid() != 0:
        raise SafeupdateError("only root can do this", "run it as root")
    return Host(machine, lambda: datetime.now(timezone.utc))


def settled(host: Host, *, force: bool = False) -> Gate:
    """The gate, set to what the verdict and people call for. Raises `SafeupdateError`."""
    from safeupdate.commands.check import check
    from safeupdate.gate.settle import settle
    from safeupdate.machine import Machine

    config = settings(host.machine)
    return settle(
        host, lambda: check(Machine.here()), protect=protection(host), spoiled=spoiled, config=config, force=force
    )


def protection(host: Host) -> Callable[[Report], str]:
    """What `settle` takes the snapshot before a reboot with: it says why reboots must be held without one."""

    def protect(report: Report) -> str:
        from safeupdate.commands.check import check
        from safeupdate.machine import Machine
        from safeupdate.render import visible
        from safeupdate.snapshots import take

        config = settings(host.machine).snapshots
        taken = take.before_reboot(host, report, config, lambda: check(Machine.here()))
        for sentence in taken.told:
            print(f"safeupdate: {visible(sentence)}", file=sys.stderr)
        return taken.holds

    return protect


def spoiled(host: Host, kernel: str | None) -> str:
    """What `settle` learns from that a snapshot is lost. Where none is on record nothing is loaded for it."""
    from safeupdate.gate.host import SNAPSHOTS

    if not host.machine.listdir(SNAPSHOTS):
        return ""
    from safeupdate.snapshots import take

    return take.spoiled(host, kernel)


def settings(machine: Machine) -> Config:
    """What is configured, as what acts goes by it."""
    from safeupdate import config

    return config.in_force(machine)


def note(host: Host, kind: str, sentence: str) -> None:
    """Write into the ledger what a person decided; what comes in the way is told and keeps nobody from it."""
    for problem in host.record(kind, sentence):
        print(f"safeupdate: {problem}", file=sys.stderr)


def who() -> str:
    """The person at the prompt, as far as it can be told."""
    import pwd

    name = os.environ.get("SUDO_USER")
    if name:
        return name
    try:
        with open("/proc/self/loginuid", encoding="ascii") as file:
            return pwd.getpwuid(int(file.read())).pw_name
    except (OSError, ValueError, KeyError, OverflowError):
        return "root"


def wrapped(text: str, indent: str = "", hanging: str | None = None) -> list[str]:
    """The text in lines for a terminal of 80 columns; those after the first are indented by `hanging`, else alike."""
    import textwrap

    return textwrap.wrap(
        text,
        _WIDTH,
        initial_indent=indent,
        subsequent_indent=indent if hanging is None else hanging,
        break_long_words=False,
        break_on_hyphens=False,
    )


def minute(time: str) -> str:
    """A time that was written down, for people: to the minute, in UTC; as it stands where it is none."""
    from datetime import datetime, timezone

    try:
        return datetime.fromisoformat(time).astimezone(timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
    except (ValueError, OverflowError):
        return time
