"""Whether this is a machine that boots: not a container, and not a chroot of one."""

from __future__ import annotations

from safeupdate.errors import FormatError, Missing, Unreadable
from safeupdate.formats import mountinfo
from safeupdate.machine import Machine

_CONTAINERS = ("/run/systemd/container", "/run/host/container-manager", "/run/.containerenv", "/.dockerenv")
"""What container managers leave inside (systemd's Container Interface; podman; docker)."""


def inside(machine: Machine) -> str | None:
    """What this is instead of a booted machine, `a container` or `a chroot`; None for a machine."""
    try:
        if any(machine.exists(path) for path in _CONTAINERS):
            return "a container"
        ours, first = _root(machine, "self"), _root(machine, "1")
    except (FormatError, Unreadable):
        return None
    return "a chroot" if first is not None and ours != first else None


def _root(machine: Machine, process: str) -> tuple[str, str] | None:
    """Which directory of which file system is / for a process: one in a chroot sees no mount of /, or another one."""
    try:
        mounts = mountinfo.parse(machine.read(f"/proc/{process}/mountinfo"))
    except Missing:
        return None
    found = [(mount.device, mount.root) for mount in mounts if mount.point == "/"]
    return found[-1] if found else None
