"""Machines with modules that akmods, weak links or packages of their own bring: layouts of distributions of which no
packages could be had, on Debian's kernels. A module is one of these kernels' own (`dummy`, a network interface) by
another name: the older one of Debian 12 fits the newer kernel, that of Debian 13 does not."""

from __future__ import annotations

import glob
import os
import re
import subprocess

from tests.unit.layouts import Device
from tests.verdicts import layouts
from tests.verdicts.entry import broken, healthy
from tests.verdicts.tree import MENU, Tree

DPKG = "/var/lib/dpkg"


def depmod(tree: Tree, *releases: str) -> None:
    """What is run after modules came or went."""
    for release in releases:
        # With --basedir it would look for what links lead to outside of the tree.
        subprocess.run(["chroot", tree.root, "/usr/sbin/depmod", release], timeout=120, check=True)


def bring(tree: Tree, release: str, path: str, like: str = "drivers/net/dummy") -> None:
    """One of the kernel's modules, with its suffix, at `path` below the modules directory."""
    (source,) = glob.glob(tree.host(f"{tree.modules(release)}/kernel/{like}.ko*"))
    suffix = source[source.rindex(".ko") :]
    tree.write(f"{tree.modules(release)}/{path}{suffix}", tree.read(source[len(tree.root) :]))


def loaded(tree: Tree, module: str, *, used: bool = True, marks: str = "(OE)") -> None:
    """The running kernel has it loaded."""
    line = f"{module} 16384 {int(used)} - Live 0x0 {marks}".rstrip()
    tree.write("/proc/modules", f"{tree.text('/proc/modules')}{line}\n")
    tree.write(f"/sys/module/{module}/initstate", "live\n")


def package(tree: Tree, name: str, *paths: str) -> None:
    """One more installed package in dpkg's database, with these files."""
    stanza = f"Package: {name}\nStatus: install ok installed\nArchitecture: amd64\nVersion: 1\n\n"
    tree.write(f"{DPKG}/status", tree.text(f"{DPKG}/status") + stanza)
    directories = {path[:at] for path in paths for at in (match.start() for match in re.finditer("/", path)) if at}
    tree.write(f"{DPKG}/info/{name}.list", "".join(f"{path}\n" for path in ("/.", *sorted(directories), *paths)))
    tree.write(f"{DPKG}/info/{name}.md5sums", "".join(f"{'0' * 32}  {path[1:]}\n" for path in paths))


# -- akmods ------------------------------------------------------------------------------------------------------

UNIT = "/usr/lib/systemd/system/akmods.service"
CACHE = "/var/cache/akmods/acme"


def akmod(tree: Tree, name: str = "acme", *, service: bool = True, devel: bool = True) -> None:
    """A package akmod-NAME, built for the running kernel, whose module is in use."""
    tree.write(f"/usr/src/akmods/{name}-kmod-1.0-1.fc40.src.rpm", b"\xed\xab\xee\xdb")
    tree.link(f"{name}-kmod-1.0-1.fc40.src.rpm", f"/usr/src/akmods/{name}-kmod.latest")
    tree.write("/usr/sbin/akmods", "#!/usr/bin/bash\n")
    tree.write(UNIT, "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/usr/sbin/akmods --from-init\n")
    if service:
        tree.link(UNIT, "/etc/systemd/system/multi-user.target.wants/akmods.service")
    if devel:
        tree.write(f"/usr/src/kernels/{tree.newest}/Makefile", "VERSION = 6\n")
    bring(tree, tree.older, f"extra/{name}/{name}")
    depmod(tree, tree.older)
    loaded(tree, name)


_AKMODS = "akmods' files as its script and its units make them"


@healthy("akmods-built", "debian12", "an akmod that was built for the newest kernel, too", note=_AKMODS)
def _akmods_built(tree: Tree) -> None:
    akmod(tree)
    bring(tree, tree.newest, "extra/acme/acme")
    depmod(tree, tree.newest)


@healthy(
    "akmods-at-boot",
    "debian13",
    "an akmod that is in use and will be built at the next boot: its service is enabled, the headers are there",
    "dkms.built-later",
    note=_AKMODS,
)
def _akmods_at_boot(tree: Tree) -> None:
    akmod(tree)


@broken(
    "akmods-no-headers",
    "debian13",
    "an akmod that is in use and cannot be built at the next boot: the kernel's headers are not there",
    "dkms.headers-missing",
    note=_AKMODS,
)
def _akmods_no_headers(tree: Tree) -> None:
    akmod(tree, devel=False)


@broken(
    "akmods-no-service",
    "debian12",
    "an akmod that is in use and was not built, and akmods does not start with the machine",
    "dkms.not-built",
    note=_AKMODS,
)
def _akmods_no_service(tree: Tree) -> None:
    akmod(tree, service=False)


def failed(tree: Tree) -> None:
    """The log of a build that did not succeed."""
    stamp = "2026/03/01 10:00:00"
    tree.write(
        f"{CACHE}/1.0-1-for-{tree.newest}.failed.log",
        f"{stamp} akmodsbuild: acme.c:12:9: error: assignment of read-only member 'vm_flags'\n"
        f"{stamp} akmodsbuild: make[3]: *** [scripts/Makefile.build:243: acme.o] Error 1\n",
    )


@broken(
    "akmods-failed", "debian12", "an akmod that is in use and could not be built", "dkms.build-failed", note=_AKMODS
)
def _akmods_failed(tree: Tree) -> None:
    akmod(tree)
    failed(tree)


@healthy(
    "akmods-failed-idle",
    "debian12",
    "an akmod that nothing uses and that could not be built",
    "dkms.build-failed",
    note=_AKMODS,
)
def _akmods_failed_idle(tree: Tree) -> None:
    akmod(tree)
    failed(tree)
    tree.edit("/proc/modules", "^acme .*\n", "")


# -- weak links --------------------------------------------------------------------------------------------------

_WEAK = "links as weak-modules of RHEL's kmod makes them"
MODULE = "extra/kmod-acme/acme"


def weak(tree: Tree) -> None:
    """A package with a module for the older kernel, linked into the newest; it is in use."""
    tree.write("/usr/sbin/weak-modules", "#!/bin/bash\n")
    bring(tree, tree.older, MODULE)
    (module,) = glob.glob(tree.host(f"{tree.modules(tree.older)}/{MODULE}.ko*"))
    name = os.path.basename(module)
    tree.link(module[len(tree.root) :], f"{tree.modules()}/weak-updates/kmod-acme/{name}")
    depmod(tree, *tree.releases)
    loaded(tree, "acme")


@healthy("weak-link", "debian12", "a module of the older kernel, linked into the newest, which it fits", note=_WEAK)
def _weak_link(tree: Tree) -> None:
    weak(tree)


@broken(
    "weak-link-misfit",
    "debian13",
    "a module of the older kernel that is in use, linked into the newest, which it does not fit",
    "dkms.misfit",
    note=_WEAK,
)
def _weak_link_misfit(tree: Tree) -> None:
    weak(tree)


@broken(
    "weak-link-dangling",
    "debian12",
    "a weak link to a module that is in use leads nowhere: its package was updated for other kernels",
    "dkms.dangling-link",
    note=_WEAK,
)
def _weak_link_dangling(tree: Tree) -> None:
    weak(tree)
    tree.rename(f"{tree.modules(tree.older)}/extra/kmod-acme", f"{tree.modules(tree.older)}/extra/kmod-acme-2")
    depmod(tree, *tree.releases)


@broken(
    "weak-link-gone",
    "debian13",
    "a module that is in use has no link in the newest kernel, which it does not fit",
    "dkms.module-lost",
    note=_WEAK,
)
def _weak_link_gone(tree: Tree) -> None:
    weak(tree)
    tree.remove(f"{tree.modules()}/weak-updates")
    depmod(tree, tree.newest)


# -- packages ----------------------------------------------------------------------------------------------------

_UBUNTU = "packages as Ubuntu splits its kernel's modules"
SOUND = "/kernel/sound/"


def without_sound(tree: Tree) -> None:
    """The sound drivers of both kernels in packages of their own, of which the newest kernel's is not installed."""
    for release in tree.releases:
        for kind in ("list", "md5sums"):
            info = f"{DPKG}/info/linux-image-{release}.{kind}"
            lines = tree.text(info).splitlines(keepends=True)
            moved = [line.split()[-1] for line in lines if SOUND in line and ".ko" in line]
            tree.write(info, "".join(line for line in lines if SOUND not in line))
        if release == tree.older:
            package(tree, f"linux-modules-extra-{release}", *(f"/{path.lstrip('/')}" for path in moved))
    tree.remove(f"{tree.modules()}/kernel/sound")
    depmod(tree, tree.newest)


@broken(
    "extra-modules",
    "debian12",
    "the newest kernel's package of extra modules is not installed, and a sound driver of it is in use",
    "dkms.module-lost",
    note=_UBUNTU,
)
def _extra_modules(tree: Tree) -> None:
    without_sound(tree)
    loaded(tree, "snd_hda_intel", marks="")


@healthy(
    "extra-modules-idle",
    "debian13",
    "the newest kernel's package of extra modules is not installed, and none of them is in use",
    "dkms.module-lost",
    note=_UBUNTU,
)
def _extra_modules_idle(tree: Tree) -> None:
    without_sound(tree)
    loaded(tree, "snd_hda_intel", used=False, marks="")


@healthy(
    "module-dropped",
    "debian12",
    "a module of the running kernel that is loaded and held, and that the newest kernel has no more",
)
def _module_dropped(tree: Tree) -> None:
    """As crc32c_intel in Linux 6.14, or libcrc32c in 6.15."""
    path = "kernel/arch/x86/crypto/crc32c-intel.ko"
    tree.remove(f"{tree.modules()}/{path}")
    for kind in ("list", "md5sums"):
        tree.edit(f"{DPKG}/info/linux-image-{tree.newest}.{kind}", rf"^.*{re.escape(path)}\n", "")
    depmod(tree, tree.newest)
    loaded(tree, "crc32c_intel", marks="")


@broken(
    "nvidia-packaged",
    "debian12",
    "nvidia's modules for the running kernel, in use, and none for the newest one",
    "dkms.module-lost",
    note="packages and places as of Ubuntu's linux-objects-nvidia-535-open-RELEASE",
)
def _nvidia_packaged(tree: Tree) -> None:
    place = "kernel/nvidia-535-open/nvidia"
    bring(tree, tree.older, place)
    package(tree, f"linux-objects-nvidia-535-open-{tree.older}", f"/lib/modules/{tree.older}/{place}.ko")
    depmod(tree, tree.older)
    loaded(tree, "nvidia", marks="(POE)")


@healthy(
    "vboxdrv-at-boot",
    "debian12",
    "VirtualBox' own installer has its modules for the running kernel; its service builds them at the next boot",
    "dkms.built-later",
    note="files and unit as VirtualBox' installer makes them",
)
def _vboxdrv_at_boot(tree: Tree) -> None:
    unit = "/usr/lib/systemd/system/vboxdrv.service"
    tree.write(unit, "[Service]\nType=forking\nExecStart=/usr/lib/virtualbox/vboxdrv.sh start\n")
    tree.link(unit, "/etc/systemd/system/multi-user.target.wants/vboxdrv.service")
    tree.write(f"/usr/src/linux-headers-{tree.newest}/Makefile", "VERSION = 6\n")
    tree.link(f"/usr/src/linux-headers-{tree.newest}", f"{tree.modules()}/build")
    bring(tree, tree.older, "misc/vboxdrv")
    depmod(tree, tree.older)
    loaded(tree, "vboxdrv")


def on_zfs(tree: Tree) -> None:
    """The root on ZFS, and a /boot of its own that GRUB can read."""
    layouts.separate_boot(tree)
    tree.edit("/etc/fstab", rf"^UUID={tree.uuid} .*\n", "")
    devices = [
        layouts.DISK,
        Device("vda1", "254:1", layouts.BOOT_UUID, "ext4", partuuid="5afe0bda-01"),
        Device("vda2", "254:2", "1234567890123456789", "zfs_member", label="rpool", partuuid="5afe0bda-02"),
    ]
    root = "root=ZFS=rpool/ROOT/pve-1"
    mounts = ["0:25 / / zfs rpool/ROOT/pve-1", "254:1 / /boot ext4 /dev/vda1"]
    layouts.facts(tree, devices, mounts, cmdline=f"BOOT_IMAGE=/vmlinuz-{tree.older} {root} ro")
    tree.edit(MENU, r"root=UUID=\S+", root)


@broken(
    "akmods-root",
    "debian12",
    "the root is on ZFS, and akmods will build that at the next boot: too late",
    "dkms.not-built",
    note=_AKMODS,
)
def _akmods_root(tree: Tree) -> None:
    on_zfs(tree)
    akmod(tree, "zfs")


@broken(
    "zfs-root",
    "debian12",
    "the root is on ZFS, and the newest kernel, of another package, has no such module",
    "dkms.module-lost",
    note="zfs in the package of the kernel and beside its modules, as Proxmox has it",
)
def _zfs_root(tree: Tree) -> None:
    on_zfs(tree)
    for name, like in (("zfs", "drivers/net/dummy"), ("spl", "drivers/net/bonding/bonding")):
        bring(tree, tree.older, f"zfs/{name}", like)
    depmod(tree, tree.older)
    loaded(tree, "zfs", marks="(POE)")
    loaded(tree, "spl", marks="(OE)")
