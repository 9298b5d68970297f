"""GRUB: a file of our own that grub.cfg reads last, overwritten where it lies.

GRUB replays no journal: what a rename, a new file or grub-reboot has changed is not seen after a power cut, and that is
where it matters. One sector overwritten in its own blocks is.
"""

from __future__ import annotations

import re
from contextlib import suppress

from safeupdate import steering
from safeupdate.boot.plan import BootPlan
from safeupdate.errors import SafeupdateError
from safeupdate.gate.host import Host, NotDone
from safeupdate.gate.lever import State
from safeupdate.gate.record import Record
from safeupdate.machine import Machine

NAME = "grub"

_SYNC_SECONDS = 120
"""Everything that waits to be written to the file system goes with it."""

_CHECKERS = ("/usr/bin/grub-script-check", "/usr/bin/grub2-script-check")

_SIGNED = re.compile(rb"^\s*(?:set\s+)?check_signatures=[\"']?enforce", re.MULTILINE)


def path(plan: BootPlan) -> str:
    """Our file's place beside the configuration of this plan."""
    return f"{(plan.config or '').rpartition('/')[0]}/custom.cfg"


def obstacle(machine: Machine, plan: BootPlan) -> State | None:
    """Why GRUB's default cannot be held on this machine; None where it can."""
    place = path(plan)
    if plan.config is None or place not in steering.CUSTOM:
        read = plan.config or "a configuration that is not to be seen"
        return State("refused", f"GRUB reads {read}, beside which safeupdate writes nothing.")
    if any("/loader/entries/" in entry.source for entry in plan.entries):
        return State(
            "refused",
            "GRUB takes its entries from /boot/loader/entries (blscfg), where no hold has been proven; "
            "`grubby --set-default` sets the default by hand.",
        )
    if machine.exists(f"{plan.config}.sig") or _SIGNED.search(machine.read_if_there(plan.config) or b""):
        return State("refused", "GRUB takes signed files only (check_signatures), and safeupdate signs nothing.")
    if not _ours(machine, place):
        return State("not-ours", f"{place} was written by somebody else, and is left as it is.")
    return None


def hidden(machine: Machine, left: Record) -> str:
    """The directory that our file was written to, where it is not there: on a /boot that is not mounted. Else empty."""
    directory = _place(left).rpartition("/")[0]
    return directory if directory and not machine.is_dir(directory) else ""


def changed(machine: Machine, left: Record) -> str:
    """What somebody else made of our file, after a hold that is over; empty where nothing."""
    place = _place(left)
    if not place or _ours(machine, place):
        return ""
    return f"{place} was changed by somebody else while it held the default, and is left as it is."


def _place(left: Record) -> str:
    place = left.new.get("path") if isinstance(left.new, dict) else None
    return place if isinstance(place, str) else ""


def _ours(machine: Machine, place: str) -> bool:
    data = machine.read_if_there(place)
    return not machine.is_link(place) and (data is None or steering.is_ours(data))


def make(host: Host, place: str) -> None:
    """The file, holding nothing, so that GRUB finds it even after a power cut. Raises `NotDone`."""
    if not host.machine.exists(place):
        host.write(place, steering.OFF)
        _sync(host, place)


def put(host: Host, place: str, entry: str) -> None:
    """Hold the default on the entry. Raises `NotDone`."""
    make(host, place)
    _overwrite(host, place, steering.hold(entry))


def take(host: Host, place: str) -> None:
    """Let go. Raises `NotDone`."""
    _overwrite(host, place, steering.OFF)


def syntax(host: Host, place: str) -> str:
    """What GRUB's own parser says against our file; empty where nothing, or where it is not installed."""
    checker = next((one for one in _CHECKERS if host.machine.exists(one)), None)
    if checker is None:
        return ""
    try:
        done = host.run((checker, place), 30)
    except SafeupdateError:
        return ""
    return f"{checker} takes {place} for broken." if done.code else ""


def _overwrite(host: Host, place: str, text: bytes) -> None:
    if not _ours(host.machine, place):
        raise NotDone(place, "somebody else changed it meanwhile")
    host.overwrite(place, text)
    _sync(host, place)


def _sync(host: Host, place: str) -> None:
    # Where a file system writes nothing in place (btrfs, ZFS), or has only just made the file, this is what GRUB needs;
    # elsewhere the file is on the disk already.
    with suppress(SafeupdateError):
        host.run(("sync", "-f", place), _SYNC_SECONDS)
