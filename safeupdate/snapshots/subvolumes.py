"""The subvolumes of a root file system that is btrfs: what lies in which, what is left, and how another becomes root.

Shared by the back ends whose snapshots are subvolumes, ours and snapper's (btrfs-subvolume(8), btrfs(5)).
"""

from __future__ import annotations

import re
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, replace

from safeupdate.errors import SafeupdateError
from safeupdate.formats import cmdline, fstab, mountinfo
from safeupdate.formats.mountinfo import Mount
from safeupdate.gate.host import RUN, Host
from safeupdate.machine import Machine
from safeupdate.snapshots import places, programs
from safeupdate.snapshots.backend import Detected, Effect, Place, Room, SnapshotError, Step, UndoPlan, Unusable

OURS = ".safeupdate-snapshots"
"""The directory of our snapshots, at the top of the file system."""

INODE = 256
"""The inode number of every subvolume's own directory (BTRFS_FIRST_FREE_OBJECTID)."""

COMMIT = 300.0
"""Seconds for a snapshot: all that is not written yet is written first, on a busy hard disk for minutes."""

_UNDO = f"{RUN}/undo"

_LEAST_FREE, _MOST_FREE = 1 << 30, 10 << 30
"""What an update replaces stays on the disk for as long as the snapshot does: at least what a kernel and its neighbours
have, at most what an upgrade to another release has; between them a tenth of the file system."""

_METADATA_FULL, _UNALLOCATED = 0.8, 1 << 30
"""btrfs allocates metadata in pieces of up to 1 GiB: with less unallocated, and what is allocated nearly full, even
deleting fails for want of room."""

_NESTED = 50
"""Nested subvolumes that a plan has steps for: with more, somebody keeps something else in them than a state."""

_UNFINISHED = re.compile(r".+\.undo-[0-9]+(?:-[0-9]+)?")

_LISTED = re.compile(r"^ID \d+ gen \d+ top level \d+ path (.+)$", re.MULTILINE)


def root(machine: Machine) -> Mount | None:
    """The mount at /, where that is a btrfs."""
    mount = places.root(machine)
    return mount if mount is not None and mount.fstype == "btrfs" else None


def needed(host: Host) -> Mount:
    """The same. Raises `SnapshotError` where it is none."""
    mount = root(host.machine)
    if mount is None:
        raise SnapshotError("the root file system is not btrfs")
    return mount


def top(host: Host, mount: Mount) -> AbstractContextManager[str]:
    """The top of the file system, mounted for as long as needed."""
    return programs.mounted(host, "btrfs", _mount(mount))


def _mount(mount: Mount) -> tuple[str, ...]:
    return ("mount", "-t", "btrfs", "-o", "subvolid=5,noatime,nosuid,nodev,noexec", mount.source)


def detect(host: Host, *, grub_follows: bool = False) -> Detected | Unusable:
    """The root file system is btrfs, and its subvolume can be kept. `grub_follows`: the loader reads /boot of the
    default subvolume, whichever that is, as SUSE's GRUB does."""
    machine = host.machine
    mount = root(machine)
    if mount is None:
        return Unusable()
    if not machine.has_program("btrfs"):
        return Unusable("The root file system is btrfs, and the program btrfs is missing.", "Install btrfs-progs.")
    directory = machine.stat("/")
    if directory is None or directory.st_ino != INODE:
        return Unusable("What is mounted at / is a directory, and not a subvolume.")
    way = _way(machine, mount)
    covered, not_covered = [], []
    for one in places.mounts(machine):
        if places.same(one, mount):
            covered.append(places.place(one))
        elif one.device == mount.device:
            not_covered.append(places.place(one, f"{one.point} is the subvolume {one.root}."))
        else:
            not_covered.append(places.place(one, f"{one.point} is another file system."))
    told = {one.point for one in not_covered}
    nested = [
        Place(point, mount.device, f"{mount.root.rstrip('/')}{point}", f"{point} is a subvolume of its own.")
        for point in _nested(host, mount)
        if point not in told and not point.endswith("/.snapshots")
    ]
    boot = places.holding(machine, "/boot")
    within = boot is not None and places.same(boot, mount) and machine.is_dir("/boot")
    return Detected(
        words=f"the subvolume {mount.root} on {mount.source}",
        parts=(mount.root,),
        covered=tuple(covered),
        not_covered=(*not_covered, *nested),
        undo=way.effect,
        boot_returns=within and (way.by_name or grub_follows),
    )


@dataclass(frozen=True)
class Way:
    """How the next boot finds its root: under the name that the subvolume has now, or as the default one."""

    by_name: bool
    effect: Effect


def way(host: Host) -> Way:
    """How it does on this machine, and whether an undo could make use of that."""
    return _way(host.machine, needed(host))


def _way(machine: Machine, mount: Mount) -> Way:
    options = [("the kernel's command line", one) for one in _flags(machine)]
    for line in fstab.parse(machine.read_if_there("/etc/fstab") or b"").lines:
        if line.point == "/":
            options += [("/etc/fstab", one) for one in line.options]
    name = mount.root.strip("/")
    usr = places.holding(machine, "/usr") if machine.exists("/usr") else None
    if usr is not None and not places.same(usr, mount):
        why = f"/usr is not in the subvolume {mount.root}: the programs would be newer than what goes back."
        return Way(by_name=True, effect=Effect(False, why))
    for place, option in options:
        key, _, value = option.partition("=")
        if key == "subvolid":
            instead = f"Write `subvol=/{name}` there instead." if name else "Take it out there."
            why = f"{place[0].upper()}{place[1:]} has `{option}` for /: whatever is put back, that one is mounted. "
            return Way(by_name=True, effect=Effect(False, why + instead))
        if key == "subvol" and value.strip("/") != name:
            why = f"The machine runs from the subvolume {mount.root}, and {place} has `{option}` for /."
            return Way(by_name=True, effect=Effect(False, why))
        if key == "subvol" and not name:
            why = f"{place[0].upper()}{place[1:]} has `{option}` for /, the top, which nothing can take the place of."
            return Way(by_name=True, effect=Effect(False, why))
    if any(option.startswith("subvol=") for _, option in options):
        return Way(by_name=True, effect=Effect(True, f"The next boot mounts / by its name, {mount.root}."))
    return Way(by_name=False, effect=Effect(True, "The next boot mounts the default subvolume as /."))


def _flags(machine: Machine) -> list[str]:
    """The options of `rootflags=`."""
    try:
        flags = cmdline.parse(machine.text("/proc/cmdline") or "").last("rootflags")
    except SafeupdateError:
        return []
    return (flags or "").split(",")


def _nested(host: Host, mount: Mount) -> list[str]:
    """Where subvolumes lie directly within the root's, as paths below /; ours, and snapshots of others, left out."""
    listed = programs.output(host, ("btrfs", "subvolume", "list", "-o", "/")).decode("utf-8", "surrogateescape")
    above = mount.root.strip("/")
    prefix = f"{above}/" if above else ""
    inside = [path[len(prefix) :] for path in _LISTED.findall(listed) if path.startswith(prefix)]
    found = [f"/{path}" for path in inside if not {OURS, "timeshift-btrfs"} & set(path.split("/"))]
    return [path for path in found if "/.snapshots/" not in path][:_NESTED]


def space(host: Host) -> tuple[Room, ...]:
    """What is free by the pessimistic count of `btrfs filesystem usage`, and what metadata has left."""
    # There is no JSON of this.
    text = programs.output(host, ("btrfs", "filesystem", "usage", "-b", "/")).decode("utf-8", "replace")
    size, unallocated = _figure(text, r"Device size:\s+(\d+)"), _figure(text, r"Device unallocated:\s+(\d+)")
    least = _figure(text, r"\(min: (\d+)\)")
    allocated = _figure(text, r"^Metadata,[^:]+: Size:(\d+)")
    used = _figure(text, r"^Metadata,[^:]+: Size:\d+, Used:(\d+)")
    needed = max(_LEAST_FREE, min(_MOST_FREE, size // 10))
    why = "What an update replaces stays on the disk for as long as the snapshot does."
    rooms = [Room("the btrfs of /", least, needed, why)]
    if used > _METADATA_FULL * allocated:
        why = "Its metadata is nearly full, and what is not allocated yet is all that it can grow into."
        rooms.append(Room("what the btrfs of / has not allocated", unallocated, _UNALLOCATED, why))
    return tuple(rooms)


def _figure(text: str, pattern: str) -> int:
    found = re.search(pattern, text, re.MULTILINE)
    if found is None:
        raise SnapshotError(f"`btrfs filesystem usage` did not say what was expected (`{pattern}`)")
    return int(found.group(1))


def undo_plan(host: Host, source: str, number: int, time: str) -> UndoPlan:
    """A writable copy of the snapshot at `source`, a path that begins at the top, takes the place of the root
    subvolume, which is set aside and kept. `number` serves for its name, `time` is when the snapshot was taken."""
    mount = needed(host)
    found = way(host)
    nested = _nested(host, mount)
    with top(host, mount) as place:
        if not host.machine.is_dir(f"{place}{source}"):
            raise SnapshotError(f"there is no subvolume {source} on {mount.source}")
        new = f"{mount.root}.undo-{number}" if found.by_name else f"/safeupdate-undo-{number}"
        new = _free(host.machine, place, new)
        aside = _free(host.machine, place, f"{mount.root}.before-undo-{number}")
        # In a snapshot a nested subvolume is an empty directory that takes no file.
        moved = [point for point in nested if host.machine.is_dir(f"{place}{source}{point}")]
        left = [name for name in host.machine.listdir(place) if _UNFINISHED.fullmatch(name)]
    if not found.effect.takes_effect:
        return UndoPlan((), found.effect)
    steps = [Step(("umount", _UNDO), "Takes away what an undo left that was cut off.")] * _mounts(host.machine, _UNDO)
    steps += [
        Step(("mkdir", "-p", "-m", "0700", _UNDO), "Makes a directory to mount in."),
        Step((*_mount(mount), _UNDO), "Mounts the top of the file system there."),
        Step(
            ("btrfs", "subvolume", "snapshot", f"{_UNDO}{source}", f"{_UNDO}{new}"),
            "Makes a copy of the snapshot that can be written to.",
            seconds=COMMIT,
        ),
    ]
    if found.by_name:
        kept, now = aside, mount.root
        aloud = f"Should this stop right after it, run the next command: with no {now} the machine does not start."
        steps += [
            Step(("mv", "-T", f"{_UNDO}{now}", f"{_UNDO}{kept}"), f"Sets the present root aside as {kept}. {aloud}"),
            Step(("mv", "-T", f"{_UNDO}{new}", f"{_UNDO}{now}"), "Puts the copy in its place."),
        ]
    else:
        kept, now = mount.root.rstrip("/"), new
        default = ("btrfs", "subvolume", "set-default", f"{_UNDO}{new}")
        steps.append(Step(default, "Makes the copy what is mounted as / by default."))
    for point in moved:
        steps += [
            Step(("rmdir", f"{_UNDO}{now}{point}"), f"Removes what stands for {point} in a snapshot."),
            Step(
                ("mv", "-T", f"{_UNDO}{kept}{point}", f"{_UNDO}{now}{point}"),
                f"Takes the subvolume {point} over as it is.",
                f"Until the reboot {point} is not to be seen.",
            ),
        ]
    steps.append(Step(("umount", _UNDO), "Takes the mount away."))
    called = f"the subvolume {kept}" if kept else "the top of the file system (subvolid=5)"
    stays = [
        f"{point} is a subvolume of its own, and stays {'as it is' if point in moved else f'in {called}'}."
        for point in nested
    ]
    stays += [f"/{name} is left of an undo that was not finished; nothing needs it." for name in left]
    if not found.by_name:
        stays.append(
            f"GRUB, where it starts this machine, goes on reading /boot of {called}: run grub-install and write its "
            "menu anew once the machine is up with the old state."
        )
    effect = replace(found.effect, why=f"{found.effect.why}{_in_menu(host.machine, source)}")
    return UndoPlan(tuple(steps), effect, loses=(lost(time, called),), stays=tuple(stays))


def _in_menu(machine: Machine, source: str) -> str:
    """That grub-btrfs has an entry for the snapshot (its 41_snapshots-btrfs writes the name so); else empty."""
    name = source.strip("/")
    for grub in ("grub", "grub2"):
        with suppress(SafeupdateError):
            if f'subvol="{name}"'.encode() in (machine.read_if_there(f"/boot/{grub}/grub-btrfs.cfg") or b""):
                return f" The menu of GRUB has {name} too, to look at it before, or where nothing else starts."
    return ""


def _mounts(machine: Machine, point: str) -> int:
    found = mountinfo.parse(machine.read_if_there("/proc/self/mountinfo") or b"")
    return sum(mount.point == point for mount in found)


def lost(time: str, called: str) -> str:
    """The sentence on what is gone with an undo, and where it is kept."""
    return (
        f"All that was written to the root file system since {time}: packages, configuration, logs, databases. "
        f"It is kept as {called} until you remove that."
    )


def _free(machine: Machine, top: str, path: str) -> str:
    """A name that nothing has."""
    found, again = path, 1
    while machine.exists(f"{top}{found}"):
        again += 1
        found = f"{path}-{again}"
    return found
