"""Are the kernel modules in an initramfs those of the kernel that is started with it?"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import BinaryIO

from safeupdate.case import Case
from safeupdate.checks.kernel_files import first_names
from safeupdate.checks.without_initramfs import build_again, drivers_outside
from safeupdate.errors import FormatError, Missing, Unreadable
from safeupdate.formats import modules
from safeupdate.initramfs import Entry, Index
from safeupdate.module_tree import IN_TREE
from safeupdate.report import Finding, Remedy, blocker, warning

_CAP = 8
"""Lines of evidence for one finding."""

_STALE_SHARE = 0.2
_STALE_COUNT = 10
"""The image's own modules.dep is written after its modules were copied, so that not one may be missing. A hook that
removes a few afterwards is no damage; a lost part of the image is far above these."""

_SAMPLE = 16
"""Modules whose whole content is held against the disk: a rebuilt kernel differs in every one of them."""

_MODULE_LIMIT = 32 << 20
"""Bytes of one module that are compared; the largest graphics drivers are near."""


def held_modules(case: Case, path: str, index: Index, rebuild: Remedy) -> Iterator[Finding]:
    """Whether the image's modules are of this kernel, and those that its own lists name."""
    release = case.release
    if release is None:
        return
    held = index.modules(release)
    if held:
        yield from _foreign(path, release, held, rebuild)
    elif drivers_outside(case) == []:
        return
    else:
        others = [name for name in index.releases if name != release and index.modules(name)]
        if others:
            yield blocker(
                "initramfs.other-release",
                path,
                f"The initramfs image {path} holds the kernel modules of {', '.join(others[:3])}, and none of "
                f"{release}, the kernel that is started with it.",
                "The kernel loads none of its drivers, and the root file system is not found.",
                evidence=[f"lib/modules/{name}: {len(index.modules(name))} modules" for name in others[:_CAP]],
                remedy=rebuild,
            )
            return
    lost = list(_dependencies(path, index, release, held, rebuild))
    yield from lost
    # booster has a place of its own for them.
    apart = index.generator in ("", "booster") and any(map(modules.is_module, index.entries))
    if not held and not lost and not apart:
        yield from _no_modules(case, path, rebuild)


def _no_modules(case: Case, path: str, rebuild: Remedy) -> Iterator[Finding]:
    outside = drivers_outside(case)
    if outside:
        yield blocker(
            "initramfs.no-modules",
            path,
            f"The initramfs image {path} holds no kernel modules, and the root file system needs some.",
            "Its driver is not loaded, and the root file system is not found.",
            evidence=[f"not built into {case.release}: {', '.join(outside)}"],
            remedy=rebuild,
        )
    elif has_modules(case):
        yield warning(
            "initramfs.no-modules",
            path,
            f"The initramfs image {path} holds no kernel modules.",
            "The root file system is found only if every driver for it is built into the kernel.",
            remedy=rebuild,
        )


def has_modules(case: Case) -> bool:
    """Whether this kernel has modules on disk at all."""
    return case.kernel is not None and case.machine.is_dir(f"{case.kernel.modules}/kernel")


def _foreign(path: str, release: str, held: Mapping[str, Entry], rebuild: Remedy) -> Iterator[Finding]:
    """Modules in this release's directory that were built for another."""
    built = {
        name: entry.module.vermagic.split(" ")[0]
        for name, entry in held.items()
        if entry.module is not None and entry.module.vermagic
    }
    foreign = {name: magic for name, magic in built.items() if magic != release}
    if built and len(foreign) > 0.9 * len(built):
        yield blocker(
            "initramfs.modules-of-other-build",
            path,
            f"The kernel modules in the initramfs image {path} stand in the directory of {release} and were built for "
            f"{next(iter(foreign.values()))}.",
            "The kernel refuses them (“version magic … should be …”), and the root file system is not found.",
            evidence=[f"{name}: vermagic {magic}" for name, magic in list(foreign.items())[:_CAP]],
            remedy=rebuild,
        )


def _dependencies(
    path: str, index: Index, release: str, held: Mapping[str, Entry], rebuild: Remedy
) -> Iterator[Finding]:
    if index.generator not in ("initramfs-tools", "dracut"):
        return
    directory = f"/lib/modules/{release}"
    text = index.content(f"{directory}/modules.dep")
    if text is None:
        if (
            held
            and index.find(f"{directory}/modules.dep") is None
            and index.find(f"{directory}/modules.dep.bin") is None
        ):
            yield blocker(
                "initramfs.no-modules-dep",
                path,
                f"The initramfs image {path} holds kernel modules and no modules.dep for {release}.",
                "modprobe and udev find no module without it, and the root file system is not found.",
                remedy=rebuild,
            )
        return
    try:
        listed = modules.parse_dep(text)
    except FormatError as error:
        yield blocker(
            "initramfs.modules-dep-damaged",
            path,
            f"{directory}/modules.dep in the initramfs image {path} is damaged: {error}.",
            "modprobe and udev do not find every module.",
            remedy=rebuild,
        )
        return
    lost = [name for name in listed if name not in held and index.find(f"{directory}/{name}") is None]
    if len(lost) > max(_STALE_COUNT, _STALE_SHARE * len(listed)):
        yield blocker(
            "initramfs.modules-lost",
            path,
            f"The initramfs image {path} lists {len(listed)} kernel modules for {release}, and {len(lost)} of them are "
            f"not in it: {first_names(lost)}.",
            "Drivers are missing in early user space, and the root file system may not be found.",
            evidence=lost[:_CAP],
            remedy=rebuild,
        )


def differing_modules(case: Case, path: str, index: Index) -> Iterator[Finding]:
    """Modules of the kernel in another state than on disk: an image that was not rebuilt. What dracut strips differs by
    design. Modules from elsewhere are the business of `dkms_early`."""
    if case.kernel is None or case.release is None:
        return
    directory = case.kernel.modules
    held = {name: entry for name, entry in index.modules(case.release).items() if name.startswith(IN_TREE)}
    # They are rebuilt all at once. What no checksum vouches for may have been damaged in the image.
    whole = {*list(held)[:: 1 + len(held) // _SAMPLE], *(name for name, entry in held.items() if not entry.verified)}
    compared = 0
    differing: list[str] = []
    for name, entry in held.items():
        try:
            with case.machine.open(f"{directory}/{name}") as file:
                compared += 1
                if not _same(file, entry, whole=name in whole):
                    differing.append(name)
        except (Missing, Unreadable, OSError):
            continue
    stripped = [module for name in differing if (module := held[name].module) is not None and not module.signature]
    if index.generator == "dracut" and stripped:
        return
    if differing:
        yield warning(
            "initramfs.modules-differ",
            path,
            f"Kernel modules in the initramfs image {path} are not the ones in {directory}: {first_names(differing)}.",
            "The image was not rebuilt after they changed, or they are damaged in it: early user space loads those.",
            evidence=[f"{len(differing)} of {compared} differ", *sorted(differing)[:_CAP]],
            remedy=build_again(case, path),
        )


def _same(file: BinaryIO, entry: Entry, *, whole: bool) -> bool:
    """Whether a file on disk has the entry's size and, if that is asked and it is not too large, its content."""
    import zlib

    if os.fstat(file.fileno()).st_size != entry.size:
        return False
    return not whole or entry.size > _MODULE_LIMIT or zlib.crc32(file.read(entry.size)) == entry.crc32
