"""Whether this is a machine that boots: not a container, and not a chroot of one."""

from __future__ import annotations

from safeupdate.errors import FormatError, Missing, Unreadable
from safeupdate.formats import mountinfo
from safeupdate.machine import Machine

_CONTAINERS = ("/run/systemd/container", "/run/host/container-manager", "/run/.containerenv")
"""What container managers leave inside, where it is gone after a boot (systemd's Container Interface; podman)."""

_DOCKER = "/.dockerenv"
"""The same of docker, on disk: a machine's root that was made by `docker export` has it too."""


def inside(machine: Machine) -> str | None:
    """What this is instead of a booted machine, `a container` or `a chroot`; None for a machine."""
    try:
        kernel_threads = machine.value("/proc/2/comm") == "kthreadd"  # processes of the machine, not of a container
        if any(machine.exists(path) for path in _CONTAINERS) or (machine.exists(_DOCKER) and not kernel_threads):
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
