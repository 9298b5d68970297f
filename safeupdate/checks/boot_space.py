"""Did an update stop before its files were in place, and is there room for the next kernel?

A write that did not come to its end leaves `.new` (update-initramfs(8), grub-mkconfig(8), flash-kernel(8)), `.#` and
sixteen digits (systemd's tools) or `bootmap_temp.` (zipl(8)); `.dpkg-new`, `.dpkg-tmp`, and `;` with eight digits are
the names that dpkg and rpm give a file until it is in its place. `.dpkg-bak`, `.old` and `.bak` are what healthy
machines keep. Whether an image is whole, or a package, is asked elsewhere: `kernel-files`, `initramfs`, `packages`.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass

from safeupdate.case import Case, Check
from safeupdate.checks.boot_entry import release_key
from safeupdate.errors import Missing, Unreadable
from safeupdate.machine import Machine
from safeupdate.remedies import make_initramfs, reinstall_kernel, remove_kernels, write_boot_menu
from safeupdate.report import Finding, NotApplicable, Remedy, blocker, note, warning

_PLACES = ("/boot", "/efi")
"""Where kernels lie; an ESP at /boot/efi or /boot/esp is below the first."""

_DEPTH = 6
"""Directories below these: /boot/ostree/OS-DIGEST/ and EFI/Linux are the deepest that hold kernels, three and four."""

_ENTRIES = 50_000
"""Files and directories: ten kernels with all device trees of arm64, the most that is known, are under 20,000. What is
not there for the boot at all, in a /boot or /efi on the root file system, must not hold the check up."""

_LEFTOVER = re.compile(
    r"(?P<final>.+)\.new|\.#(?P<systemd>.+)[0-9a-f]{16}|bootmap_temp\.\w{6}"
    r"|(?P<package>.+)(?:\.dpkg-(?:new|tmp)|;[0-9a-f]{8})"
)

_IMAGE = re.compile(r"(?:vmlinu[xz]|initrd|initramfs|Image-)|(?:linux|initrd)$")

_BESIDE = re.compile(r"[.-](?:dpkg-bak|bak|old(?:-dkms)?|hmac|sig|sha512)$")
"""What healthy machines keep beside an image."""

_HARMLESS = 1 << 20
"""Bytes: the leftover of a boot menu or an entry is smaller, and no image is."""

_DEVICETREE = b"\xd0\x0d\xfe\xed"
"""The first bytes of a flattened device tree; its length follows (Devicetree Specification 0.4, section 5.2)."""

_CAP = 10


@dataclass(frozen=True)
class _File:
    """A file, and the device number of its directory: overlayfs gives files another one (st_dev, stat(2))."""

    path: str
    status: os.stat_result
    device: int

    @property
    def name(self) -> str:
        return self.path.rsplit("/", 1)[-1]

    @property
    def final(self) -> str | None:
        """What the file was to become; None for one that is no leftover, or whose name does not tell."""
        match = _LEFTOVER.fullmatch(self.name)
        name = match and next((group for group in match.groups() if group), None)
        return f"{self.path.rsplit('/', 1)[0]}/{name}" if name else None


def check(case: Case) -> Iterator[Finding]:
    """Leftovers of updates that stopped, files that were cut, and room."""
    budget = iter(range(_ENTRIES))
    files = [file for place in _PLACES for file in _below(case.machine, place, _DEPTH, budget)]
    if not files:
        raise NotApplicable("nothing is to be seen in /boot, nor on an EFI system partition")
    yield from _devicetree(case)
    target = _target_files(case)
    yield from _leftovers(case, files, target)
    yield from _empty(files, target)
    yield from _room(case, files)
    if next(budget, None) is None:
        yield note(
            "boot-space.not-all-seen",
            files[-1].path.rpartition("/")[0],
            f"Of the files below {' and '.join(_PLACES)} only the first {_ENTRIES} were looked at.",
            "Leftovers of updates and empty images among the others are not told.",
        )


def _below(machine: Machine, directory: str, depth: int, budget: Iterator[int]) -> Iterator[_File]:
    """The regular files below a directory, as far as this user may look, each once; each entry takes of the budget,
    the near ones before the deep ones."""
    names: list[str] = []
    deeper = []
    with suppress(Unreadable):
        own = machine.stat(directory, follow=False)
        names = machine.listdir(directory) if own is not None and stat.S_ISDIR(own.st_mode) else []
    for name, _ in zip(names, budget):
        path = f"{directory}/{name}"
        with suppress(Unreadable):
            status = machine.stat(path, follow=False)
            if status is not None and own is not None and stat.S_ISREG(status.st_mode):
                yield _File(path, status, own.st_dev)
            elif status is not None and depth:
                deeper.append(path)
    for path in deeper:
        yield from _below(machine, path, depth - 1, budget)


def _mib(size: int) -> str:
    """A size for people, rounded up; what is smaller than one is told in KiB."""
    return f"{-(-size >> 20)} MiB" if size >= 1 << 20 else f"{-(-size >> 10)} KiB"


def _devicetree(case: Case) -> Iterator[Finding]:
    file = case.entry.devicetree if case.entry is not None else None
    if file is None or file.path is None or not case.machine.is_file(file.path):
        return  # boot-entry speaks of one that is not there
    try:
        with case.machine.open(file.path) as blob:
            head = blob.read(8)
    except Unreadable:
        return  # left out of a capture
    size, promised = case.machine.size(file.path), int.from_bytes(head[4:], "big")
    if head[:4] == _DEVICETREE and promised <= size:
        return
    yield blocker(
        "boot-space.devicetree-cut",
        file.path,
        f"The device tree {file.path}, which the boot entry loads, is cut: {size} bytes"
        + (f" of {promised}." if head[:4] == _DEVICETREE else ", which do not begin as a device tree does."),
        "The boot loader refuses it, or the kernel starts without knowing its hardware.",
        remedy=reinstall_kernel(case.machine, case.release or "RELEASE"),
    )


def _empty(files: Iterable[_File], target: Mapping[str, Remedy]) -> Iterator[Finding]:
    """Images of 0 bytes that are not the target's: `kernel-files` and `initramfs` speak of those."""
    for file in files:
        if file.status.st_size or file.final or file.path in target:
            continue
        if _IMAGE.match(file.name) and not _BESIDE.search(file.name):
            yield warning(
                "boot-space.empty-image",
                file.path,
                f"{file.path} is empty (0 bytes): it could not be written.",
                "A boot entry that loads it does not start.",
                remedy=Remedy("Make room, then install that kernel again, or remove it."),
            )


def _target_files(case: Case) -> dict[str, Remedy]:
    """The files by which this boot starts, and how each is made anew."""
    machine, release = case.machine, case.release or "RELEASE"
    found = {path: make_initramfs(machine, release, path) for path, _ in case.image_places}
    if case.kernel is not None:
        found[case.kernel.image] = reinstall_kernel(machine, release)
    config = case.plan.config
    if config is not None and machine.is_file(config):
        found[config] = write_boot_menu(machine, case.plan.loader, config)
    with suppress(Missing, Unreadable):
        return {machine.resolve(path): remedy for path, remedy in found.items()}
    return found


def _leftovers(case: Case, files: Iterable[_File], target: Mapping[str, Remedy]) -> Iterator[Finding]:
    litter = []
    for file in files:
        match = _LEFTOVER.fullmatch(file.name)
        if match is None:
            continue
        if match["package"] and case.release is not None and case.release in file.name:
            continue  # `packages` knows whether that installation came to its end
        remedy, there = target.get(file.final or ""), case.machine.stat(file.final or file.path)
        if remedy is None or there is None or file.status.st_mtime <= there.st_mtime:
            litter.append(file)
            continue
        yield warning(
            "boot-space.not-replaced",
            file.path,
            f"{file.path} was to replace {file.final}, and that did not happen; it has {_mib(file.status.st_size)}.",
            "Unless an update is at work at this moment, the machine starts with the previous file, without what the "
            "update was to bring.",
            evidence=_room_left(case.machine, file.path.rpartition("/")[0]),
            remedy=Remedy(
                "Remove it to make room, then make the file anew. " + remedy.text,
                (("rm", file.path), *remedy.commands),
            ),
        )
    if not litter:
        return
    size = sum(file.status.st_size for file in litter)
    level = warning if size >= _HARMLESS else note
    yield level(
        "boot-space.leftover",
        litter[0].path,
        f"{len(litter)} file{'s are' if len(litter) > 1 else ' is'} left of updates that did not come to their end: "
        f"{_mib(size)}.",
        "They do no harm but for the room that they take from the next kernel.",
        evidence=[f"{file.path}: {_mib(file.status.st_size)}" for file in litter[:_CAP]],
        remedy=Remedy("When no update is at work, remove them.", (("rm", *(file.path for file in litter[:_CAP])),)),
    )


def _room_left(machine: Machine, directory: str) -> list[str]:
    space = machine.space(directory)
    return [f"its file system has {_mib(space.free)} left of {_mib(space.total)}"] if space is not None else []


@dataclass
class _Need:
    """What the next kernel takes of one file system: bytes and files, by the largest that is there."""

    place: str
    size: int = 0
    count: int = 0
    parts: tuple[str, ...] = ()


def _room(case: Case, files: Iterable[_File]) -> Iterator[Finding]:
    """The next kernel is taken to be as large as the largest now; an old one is removed only after the new one is in
    (apt's autoremove, dnf's installonly_limit), so that nothing is freed before."""
    for need in _needs(case, files):
        space = case.machine.space(need.place)
        # What a squashfs or an image of composefs leaves is always nothing: no kernel is installed there.
        if space is None or (space.read_only and space.free == 0):
            continue
        evidence = [*need.parts, f"{_mib(space.free)} of {_mib(space.total)} left"]
        if space.free < need.size:
            yield warning(
                "boot-space.little-room",
                need.place,
                f"The file system of {need.place} has {_mib(space.free)} left; the next kernel needs about "
                f"{_mib(need.size)} there.",
                "The next kernel update fails, or leaves an image that is cut.",
                evidence=evidence,
                remedy=_make_room(case, need.place),
            )
        if space.free_inodes is not None and space.free_inodes < need.count:
            yield warning(
                "boot-space.few-inodes",
                need.place,
                f"The file system of {need.place} can take {space.free_inodes} more files; the next kernel has about "
                f"{need.count}.",
                "The next kernel update fails with “No space left on device”, although there is room.",
                evidence=[f"{space.free_inodes} of {space.inodes} inodes left"],
                remedy=_make_room(case, need.place, inodes=True),
            )


def _needs(case: Case, files: Iterable[_File]) -> Iterable[_Need]:
    """For each file system with kernels, and for the one with their modules."""
    releases = sorted((kernel.release for kernel in case.kernels), key=len, reverse=True)
    sets: dict[int, dict[str, list[_File]]] = {}
    for file in files:
        if file.final or _BESIDE.search(file.name):
            continue
        release = next((one for one in releases if re.search(rf"(?<![\d.]){re.escape(one)}(?!\d)", file.path)), None)
        if release is not None:
            sets.setdefault(file.device, {}).setdefault(release, []).append(file)
    found = {}
    for device, by_release in sets.items():
        release, largest = max(by_release.items(), key=lambda one: sum(file.status.st_size for file in one[1]))
        need = _Need(min((file.path.rsplit("/", 1)[0] for file in largest), key=len))
        need.size, need.count = sum(file.status.st_size for file in largest), len(largest)
        need.parts = (f"{release}: {_mib(need.size)} in {need.count} files",)
        images = [f for one in by_release.values() for f in one if f.name.startswith("init") and "kdump" not in f.name]
        twin = max((file.status.st_size for file in images), default=0)
        if twin and case.machine.exists("/usr/sbin/update-initramfs"):
            need.size += twin
            need.parts += (f"{_mib(twin)} once more: update-initramfs writes a new image beside the old one",)
        found[device] = need
    _add_modules(case, found)
    return found.values()


def _add_modules(case: Case, needs: dict[int, _Need]) -> None:
    if case.kernel is None or case.machine.space("/lib/modules") is None:
        return
    status = case.machine.stat("/lib/modules")
    if status is None:
        return
    files = case.machine.below(case.kernel.modules)
    size = sum(one.st_size for one in files.values() if stat.S_ISREG(one.st_mode))
    count = len(files) + len({path.rpartition("/")[0] for path in files})
    need = needs.setdefault(status.st_dev, _Need("/lib/modules"))
    need.size, need.count = need.size + size, need.count + count
    need.parts += (f"{case.kernel.modules}: {_mib(size)} in {count} files and directories",)


def _make_room(case: Case, place: str, *, inodes: bool = False) -> Remedy:
    look = ("df", "-i" if inodes else "-h", place)
    old = _removable(case)
    if not old:
        return Remedy(
            "No kernel is installed that this machine can do without: enlarge the file system, or remove other files "
            "from it.",
            (look,),
        )
    return Remedy(
        f"Remove kernels that are neither running, nor next, nor the one to go back to: {', '.join(old)}.",
        (look, *remove_kernels(case.machine, old)),
    )


def _removable(case: Case) -> list[str]:
    """Installed releases that are not needed, the oldest first."""
    releases = sorted((kernel.release for kernel in case.kernels), key=release_key)
    needed = {case.release, case.machine.running_kernel} & set(releases)
    for release in reversed(releases):
        if len(needed) < 2:  # the next one, and one to go back to
            needed.add(release)
    return [release for release in releases if release not in needed]


CHECK = Check("boot-space", "No update was cut short, and the next kernel has room", False, check, per_entry=False)
