"""What is mounted where, as far as a state of the machine lies in it."""

from __future__ import annotations

from safeupdate.errors import FormatError
from safeupdate.formats import mountinfo
from safeupdate.formats.mountinfo import Mount
from safeupdate.machine import Machine
from safeupdate.snapshots.backend import Place

_ELSEWHERE = (
    "/run",
    "/proc",
    "/sys",
    "/dev",
    "/tmp",
    "/media",
    "/mnt",
    "/snap",
    "/var/lib/docker",
    "/var/lib/containers",
)
"""Below these lies what an update does not change: what ends with the boot, other people's disks, images."""

_WITHOUT_DEVICE = ("btrfs", "zfs", "bcachefs")
"""File systems on disks that have a number of their own, with 0 before the colon."""

_IMAGES = ("squashfs", "erofs", "iso9660", "udf")


def mounts(machine: Machine) -> tuple[Mount, ...]:
    """The mounts of file systems on disks that hold this machine's state, the topmost at each point, in the order of
    their points. Raises `Unreadable`; none where it cannot be told."""
    try:
        every = mountinfo.parse(machine.read_if_there("/proc/self/mountinfo") or b"")
    except FormatError:
        return ()
    topmost = {mount.point: mount for mount in every if mount.fstype != "autofs"}
    return tuple(
        mount
        for _, mount in sorted(topmost.items())
        if (not mount.device.startswith("0:") or mount.fstype in _WITHOUT_DEVICE)
        and mount.fstype not in _IMAGES
        and not any(mount.point == above or mount.point.startswith(f"{above}/") for above in _ELSEWHERE)
    )


def root(machine: Machine) -> Mount | None:
    """The mount at /, where it is of a file system on a disk."""
    return next((mount for mount in mounts(machine) if mount.point == "/"), None)


def holding(machine: Machine, path: str) -> Mount | None:
    """The mount that the path lies on; None where that is none of those."""
    path = machine.resolve(path)
    above = [one for one in mounts(machine) if one.point in ("/", path) or path.startswith(f"{one.point}/")]
    return max(above, key=lambda mount: len(mount.point), default=None)


def same(one: Mount, other: Mount) -> bool:
    """Whether both show the same directory of the same file system: a snapshot of one holds the other."""
    return (one.device, one.root) == (other.device, other.root)


def place(mount: Mount, why: str = "") -> Place:
    """The mount as a place, with the sentence that says why it is not covered."""
    return Place(mount.point, mount.device, mount.root, why)
