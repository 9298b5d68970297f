"""`reboot-required`: the files by which packages ask for a reboot lie aside, so that nothing reboots for their sake.

unattended-upgrades and kured look for /run/reboot-required (Debian Policy, "Signaling that a reboot is required") just
before they reboot. What is held lies in /run/safeupdate/held, for anyone to read, and ends with the boot, as the files
themselves do.
"""

from __future__ import annotations

import stat

from safeupdate.gate import record
from safeupdate.gate.host import RUN, Host
from safeupdate.gate.lever import Lever, Order, State
from safeupdate.gate.record import Record
from safeupdate.machine import Machine

NAME = "reboot-required"

HELD = f"{RUN}/held"

_FLAG, _PACKAGES = "reboot-required", "reboot-required.pkgs"


def state(host: Host) -> State:
    """How it stands."""
    machine = host.machine
    if asking := _files(machine, "/run"):
        return State("open", f"/run/{asking[0]} asks for a reboot.")
    if _files(machine, HELD):
        return State("closed", f"The request for a reboot lies aside in {HELD}{_packages(machine)}.")
    return State("not-here", "No package asks for a reboot.")


def close(host: Host, order: Order) -> State:
    """Move the files aside, to what is held already."""
    asking: list[record.Json] = [*_files(host.machine, "/run")]
    if asking:
        record.store(host, Record(NAME, asking, HELD, order.why, host.time))
    for name in _files(host.machine, "/run"):
        _move(host, name, "/run", HELD)
    return state(host)


def reopen(host: Host) -> State:
    """Put back what is held, together with what came since; the flag last, when the list of packages is whole."""
    for name in reversed(_files(host.machine, HELD)):
        _move(host, name, HELD, "/run")
    record.drop(host, NAME)
    return state(host)


def _move(host: Host, name: str, source: str, target: str) -> None:
    machine = host.machine
    if _is_file(machine, f"{target}/{name}"):
        if name == _PACKAGES:
            lines = b"\n".join(machine.read(f"{directory}/{name}") for directory in (HELD, "/run")).splitlines()
            host.write(f"{target}/{name}", b"".join(line + b"\n" for line in dict.fromkeys(lines) if line))
            host.remove(f"{source}/{name}")
            return
        if target == HELD:  # of two flags the older one says since when a reboot is due
            host.remove(f"{source}/{name}")
            return
    # A rename keeps the time, and needs no room on a /run that is full.
    host.move(f"{source}/{name}", f"{target}/{name}")


def _files(machine: Machine, directory: str) -> list[str]:
    return [name for name in (_FLAG, _PACKAGES) if _is_file(machine, f"{directory}/{name}")]


def _is_file(machine: Machine, path: str) -> bool:
    status = machine.stat(path, follow=False)
    return status is not None and stat.S_ISREG(status.st_mode)


def _packages(machine: Machine) -> str:
    names = dict.fromkeys((machine.text(f"{HELD}/{_PACKAGES}") or "").split())
    return f" (for {', '.join(names)})" if names else ""


LEVER = Lever(NAME, "the files that ask for a reboot lie aside", state, close, reopen)
