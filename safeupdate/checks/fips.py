"""What stops a boot in FIPS mode: dracut holds the kernel's file against a checksum beside it before it goes on.

Its module `fips` (fips.sh: mount_boot, do_fips) mounts what boot= names, and dies where it finds no checksum there,
no sha512hmac(1), or another kernel than that is of. Images of others take no notice of fips=1.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator

from safeupdate.case import Case
from safeupdate.checks.without_initramfs import build_again
from safeupdate.remedies import change_command_line, has, install, reinstall_kernel
from safeupdate.report import Finding, Remedy, blocker
from safeupdate.storage.image import Image
from safeupdate.storage.layers import ask
from safeupdate.volumes import TAGS, Volume

_DIES = "dracut's integrity test fails, and it stops the boot: “FIPS integrity test failed”."


def findings(case: Case, image: Image, path: str) -> Iterator[Finding]:
    """What the test of the kernel, in the image at `path`, will not find."""
    line, entry = ask.arguments(image), case.entry
    if image.generator != "dracut" or image.program("fips.sh") is None or line.last("fips") in (None, "0"):
        return
    if "rd.fips.skipkernel" in line or entry is None or entry.embedded or entry.kernel is None:
        return
    kernel = entry.kernel.path
    if kernel is None or case.release is None:
        return  # its file system is not to be seen here
    volume, root = case.volumes.holding(kernel)[0], case.volumes.holding("/")[0]
    if volume.devices and root.devices and volume.devices != root.devices:
        yield from _boot(case, image, line.last("boot"), volume, path)
    checksum = posixpath.join(posixpath.dirname(kernel), f".{posixpath.basename(kernel)}.hmac")
    if not case.machine.exists(checksum):
        yield blocker(
            "root-storage.fips-checksum-missing",
            checksum,
            f"The kernel is started in FIPS mode (fips=1), and its checksum {checksum} does not exist.",
            _DIES,
            remedy=reinstall_kernel(case.machine, case.release),
        )
    if image.program("sha512hmac") is None:
        again = build_again(case, path)
        before = Remedy("Install the package that has sha512hmac.")
        if has(case.machine, "dnf"):
            before = install(case.machine, "libkcapi-hmaccalc")
        yield blocker(
            "root-storage.fips-program-missing",
            "sha512hmac",
            f"The kernel is started in FIPS mode (fips=1), and the initramfs image {path} does not hold sha512hmac, "
            "which checks its checksum.",
            _DIES,
            remedy=Remedy(f"{before.text} {again.text}", before.commands + again.commands),
        )


def _boot(case: Case, image: Image, named: str | None, volume: Volume, path: str) -> Iterator[Finding]:
    """What is needed to mount a file system of its own that the kernel lies on."""
    assert case.entry is not None and case.entry.kernel is not None
    early = [line.point for line in case.volumes.fstab if "x-initrd.mount" in line.options]
    tag = (named or "").partition("=")[0]
    lost = tag in TAGS and case.volumes.knows(tag) and not case.volumes.source_devices(named or "")
    if lost or (named is None and "/boot" not in early):
        which = f"boot={named} names no device of this machine"
        which = which if lost else "no boot= on its command line names the file system that it lies on"
        stored = (case.volumes.udev.get(name, {}).get("ID_FS_UUID") for name in sorted(volume.devices))
        uuid = next(filter(None, stored), "")
        place = case.entry.kernel.path or ""
        change = change_command_line(case.machine, place, add=f"boot=UUID={uuid}") if uuid else None
        yield blocker(
            "root-storage.fips-boot-not-named",
            case.entry.title,
            f"The kernel is started in FIPS mode (fips=1), and {which}.",
            _DIES,
            evidence=[f"{case.entry.source}: {case.entry.cmdline}"],
            remedy=change or Remedy("Add boot=UUID=… of the file system at /boot to the kernel's command line."),
        )
    elif volume.fstype:
        names = image.target.by_alias(f"fs-{volume.fstype}") or image.target.by_name(volume.fstype)
        if names and not any(map(image.has_module, names)):
            yield blocker(
                "root-storage.fips-boot-not-mounted",
                volume.fstype,
                f"The kernel is started in FIPS mode (fips=1), and the initramfs image {path} does not hold the driver "
                f"{names[0]}, with which it mounts the {volume.fstype} at /boot.",
                _DIES,
                remedy=build_again(case, path),
            )
