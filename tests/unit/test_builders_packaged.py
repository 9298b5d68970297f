"""Modules in packages of their own, of whose distributions no packages could be had. The layouts were made from

- Ubuntu: the kernel's debian.master/control.d/flavour-control.stub (linux-modules-extra-R), and the lists of files at
  packages.ubuntu.com of linux-objects-nvidia-535-open-R and linux-modules-nvidia-535-open-R;
- Proxmox: pve-kernel's debian/rules and debian/control.in (zfs beside kernel/, in the package of the kernel);
- Fedora: kernel.spec's kernel-modules-extra, whose version is the release;
- SUSE: kernel-default-extra, whose version begins with it;
- Arch: archzfs' PKGBUILD and nvidia's, in extramodules/;
- VirtualBox: what its installer is known to leave, in misc/; no source of it was read.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from safeupdate import packages
from safeupdate.builders import Brought, World, packaged
from safeupdate.kernels import Kernel
from safeupdate.module_interface import Interface
from safeupdate.module_tree import ModuleTree
from tests.unit.test_packages_dpkg import stanza
from tests.unit.trees import Content, Link, tree

OLD, NEW = "6.8.0-40-generic", "6.8.0-45-generic"


def look(root: Path, files: Mapping[str, Content], old: str = OLD, new: str = NEW) -> dict[str, Brought]:
    machine = tree(root, files)
    target, running = (ModuleTree(Kernel(release, f"/boot/vmlinuz-{release}", machine)) for release in (new, old))
    found = list(packaged.look(World(machine, packages.databases(machine), target, Interface(target), running)))
    assert {one.state for one in found} <= {"lost", "waiting"}
    return {one.module: one for one in found}


def files_of(release: str, *paths: str) -> dict[str, Content]:
    return {f"/lib/modules/{release}/{path}": b"" for path in paths}


def dpkg(*installed: tuple[str, tuple[str, ...]], also: str = "") -> dict[str, Content]:
    """A database with these packages and their files."""
    found: dict[str, Content] = {
        "/usr/bin/apt-get": b"",
        "/var/lib/dpkg/status": "".join(stanza(name) for name, _ in installed) + also,
    }
    for name, paths in installed:
        directories = {str(parent) for path in paths for parent in Path(path).parents}
        found[f"/var/lib/dpkg/info/{name}.list"] = "".join(f"{path}\n" for path in (*sorted(directories), *paths))
        found[f"/var/lib/dpkg/info/{name}.md5sums"] = "".join(f"{'0' * 32}  {path[1:]}\n" for path in paths)
    return found


def brought(release: str, *paths: str) -> tuple[str, ...]:
    return tuple(f"/lib/modules/{release}/{path}" for path in paths)


BASE = ("kernel/fs/ext4.ko.zst", "kernel/lib/libcrc32c.ko.zst", "kernel/crypto/crc32c_intel.ko.zst")
EXTRA = ("kernel/sound/snd-hda-intel.ko.zst", "kernel/drivers/net/wifi/iwlwifi.ko.zst", "kernel/fs/f2fs.ko.zst")


def ubuntu(*, extra: bool, state: str = "") -> dict[str, Content]:
    """Linux 6.8.0-40 with linux-modules-extra, and 6.8.0-45, which has dropped a module, with it or without."""
    installed = [
        (f"linux-image-{OLD}", (f"/boot/vmlinuz-{OLD}",)),
        (f"linux-modules-{OLD}", brought(OLD, *BASE)),
        (f"linux-modules-extra-{OLD}", brought(OLD, *EXTRA)),
        (f"linux-image-{NEW}", (f"/boot/vmlinuz-{NEW}",)),
        (f"linux-modules-{NEW}", brought(NEW, *BASE[:2])),
    ]
    if extra:
        installed.append((f"linux-modules-extra-{NEW}", brought(NEW, *EXTRA)))
    also = stanza(f"linux-modules-extra-{NEW}", f"install reinstreq {state}") if state else ""
    there = EXTRA if extra else ()
    return {**dpkg(*installed, also=also), **files_of(OLD, *BASE, *EXTRA), **files_of(NEW, *BASE[:2], *there)}


def test_ubuntu_as_it_should_be(tmp_path: Path) -> None:
    """The new kernel has dropped crc32c_intel, which is loaded: that is no loss."""
    use = "crc32c_intel 24576 2 - Live 0x0\n"
    assert look(tmp_path, {**ubuntu(extra=True), "/proc/modules": use}) == {}


def test_ubuntu_without_the_extra_modules(tmp_path: Path) -> None:
    found = look(tmp_path, ubuntu(extra=False))
    assert set(found) == {"snd_hda_intel", "iwlwifi", "f2fs"}
    one = found["iwlwifi"]
    assert one.provider == f"the package linux-modules-extra-{OLD}"
    assert one.why == f"The package linux-modules-extra-{NEW} is not installed."
    assert one.remedy.commands == (("apt-get", "install", f"linux-modules-extra-{NEW}"),)


def test_ubuntu_with_the_extra_modules_half_there(tmp_path: Path) -> None:
    found = look(tmp_path, ubuntu(extra=False, state="half-installed"))
    assert found["f2fs"].why.startswith(f"The package linux-modules-extra-{NEW} was not unpacked to the end")
    assert found["f2fs"].remedy.commands == (("apt-get", "install", "--reinstall", f"linux-modules-extra-{NEW}"),)


def test_a_kernel_that_no_package_brought(tmp_path: Path) -> None:
    """As Debian 14 has it, whose linux-modules-R has them all: nobody packs the like for a kernel built by hand."""
    installed = [
        (f"linux-image-{OLD}", (f"/boot/vmlinuz-{OLD}",)),
        (f"linux-modules-{OLD}", brought(OLD, *BASE, *EXTRA)),
    ]
    files = {**files_of(OLD, *BASE, *EXTRA), **files_of(NEW, BASE[0])}
    assert look(tmp_path / "a", {**dpkg(*installed), **files}) == {}
    packed = (f"linux-image-{NEW}", (f"/boot/vmlinuz-{NEW}",))
    assert set(look(tmp_path / "b", {**dpkg(*installed, packed), **files})) >= {"iwlwifi", "libcrc32c"}


def test_extra_modules_that_moved_into_the_kernels_package(tmp_path: Path) -> None:
    """A package of that name is no more: what the new kernel has not of its modules was dropped."""
    assert look(tmp_path, {**ubuntu(extra=False), **files_of(NEW, *EXTRA[:2])}) == {}


@pytest.mark.parametrize("kind", ["-open", ""])
def test_ubuntus_nvidia(tmp_path: Path, kind: str) -> None:
    """The open one's modules are in a package; the other one's are linked together where the package is installed."""
    module = f"kernel/nvidia-535{kind}/nvidia.ko"
    objects = f"kernel/nvidia-535{kind}/nvidia.ko" if kind else "kernel/nvidia-535/bits/nvidia.o"
    database = dpkg(
        (f"linux-modules-{OLD}", brought(OLD, *BASE)),
        (f"linux-modules-{NEW}", brought(NEW, *BASE)),
        (f"linux-modules-nvidia-535{kind}-{OLD}", ()),
        (f"linux-objects-nvidia-535{kind}-{OLD}", brought(OLD, objects)),
        (f"linux-signatures-nvidia-{OLD}", brought(OLD, f"kernel/nvidia-535{kind}/bits/nvidia.ko.sig")),
    )
    loaded = "nvidia 56713216 1234 nvidia_uvm,nvidia_modeset, Live 0x0000000000000000 (POE)\n"
    files = {**database, **files_of(OLD, *BASE, module), **files_of(NEW, *BASE), "/proc/modules": loaded}
    (one,) = look(tmp_path, files).values()
    assert one.module == "nvidia"
    assert one.why == f"The package linux-modules-nvidia-535{kind}-{NEW} is not installed."
    assert one.remedy.commands == (("apt-get", "install", f"linux-modules-nvidia-535{kind}-{NEW}"),)


PVE, NEWER_PVE = "6.8.12-4-pve", "6.8.12-5-pve"


def proxmox(release: str) -> tuple[str, tuple[str, ...]]:
    paths = brought(release, *BASE, "zfs/zfs.ko", "zfs/spl.ko")
    return f"proxmox-kernel-{release}-signed", (f"/boot/vmlinuz-{release}", *paths)


def test_proxmox_whose_zfs_is_gone(tmp_path: Path) -> None:
    files = {
        **dpkg(proxmox(PVE), proxmox(NEWER_PVE)),
        **files_of(PVE, *BASE, "zfs/zfs.ko", "zfs/spl.ko"),
        **files_of(NEWER_PVE, *BASE, "zfs/spl.ko"),
    }
    (one,) = look(tmp_path, files, PVE, NEWER_PVE).values()
    name = f"proxmox-kernel-{NEWER_PVE}-signed"
    assert (one.module, one.why) == ("zfs", f"The package {name} brought it, and its file is gone.")
    assert one.remedy.commands == (("apt-get", "install", "--reinstall", name),)


def test_debians_kernel_on_proxmox_has_no_zfs(tmp_path: Path) -> None:
    debian = "6.1.0-25-amd64"
    files = {
        **dpkg(proxmox(PVE), (f"linux-image-{debian}", (f"/boot/vmlinuz-{debian}", *brought(debian, *BASE)))),
        **files_of(PVE, *BASE, "zfs/zfs.ko", "zfs/spl.ko"),
        **files_of(debian, *BASE),
    }
    found = look(tmp_path, files, PVE, debian)
    assert set(found) == {"zfs", "spl"}
    assert found["zfs"].provider == f"the package proxmox-kernel-{PVE}-signed"
    assert found["zfs"].why == "That package is for no other kernel."
    assert found["zfs"].remedy.commands == ()


def test_arch_without_any_database_here(tmp_path: Path) -> None:
    old, new = "6.6.7-arch1-1", "6.6.8-arch1-1"
    found = look(tmp_path, {**files_of(old, *BASE, "extramodules/nvidia.ko.xz"), **files_of(new, *BASE)}, old, new)
    assert found["nvidia"].provider == f"an unknown source (in /lib/modules/{old}/extramodules)"


UNIT: dict[str, Content] = {
    "/usr/lib/systemd/system/vboxdrv.service": "[Service]\nExecStart=/usr/lib/virtualbox/vboxdrv.sh start\n",
    "/etc/systemd/system/multi-user.target.wants/vboxdrv.service": Link("/usr/lib/systemd/system/vboxdrv.service"),
}
HEADERS: dict[str, Content] = {
    f"/lib/modules/{NEW}/build": Link(f"/usr/src/linux-headers-{NEW}"),
    f"/usr/src/linux-headers-{NEW}/Makefile": b"",
}


@pytest.mark.parametrize(
    ("files", "state"), [({**UNIT, **HEADERS}, "waiting"), (UNIT, "lost"), (HEADERS, "lost"), ({}, "lost")]
)
def test_virtualbox_builds_its_modules_when_it_starts(tmp_path: Path, files: dict[str, Content], state: str) -> None:
    found = look(tmp_path, {**files_of(OLD, *BASE, "misc/vboxdrv.ko"), **files_of(NEW, *BASE), **files})
    assert (found["vboxdrv"].state, found["vboxdrv"].provider) == (state, "VirtualBox")


@pytest.mark.parametrize(
    ("path", "marks"),
    [
        ("livepatch/livepatch-14.ko", "OK"),  # SUSE's
        ("kernel/kpatch_1_2.ko", "OEK"),
        ("kernel/drivers/staging/r8712u.ko", "C"),
        ("kernel/sound/snd.ko", "E"),
    ],
)
def test_what_is_no_loss(tmp_path: Path, path: str, marks: str) -> None:
    loaded = f"{Path(path).stem.replace('-', '_')} 16384 1 - Live 0x0 ({marks})\n"
    assert look(tmp_path, {**files_of(OLD, path), **files_of(NEW, *BASE), "/proc/modules": loaded}) == {}


def test_what_the_other_kernel_has_in_another_way(tmp_path: Path) -> None:
    """Built in, in another place, under another suffix; a loaded one without a file; a link that leads nowhere."""
    files: dict[str, Content] = {
        **files_of(OLD, "updates/wireguard.ko", "extra/a-b.ko", "updates/dkms/c.ko.xz"),
        **files_of(NEW, "kernel/drivers/a_b.ko.zst", "updates/c.ko"),
        f"/lib/modules/{NEW}/modules.builtin": "kernel/drivers/net/wireguard/wireguard.ko\n",
        f"/lib/modules/{OLD}/weak-updates/gone.ko": Link("/lib/modules/5.0/extra/gone.ko"),
        "/proc/modules": "stap_1 16384 1 - Live 0x0 (OE)\n",
    }
    assert look(tmp_path, files) == {}


def test_the_same_kernel_loses_nothing(tmp_path: Path) -> None:
    assert look(tmp_path, files_of(OLD, "extra/a.ko"), OLD, OLD) == {}


def test_a_database_that_cannot_be_read(tmp_path: Path) -> None:
    files = {**ubuntu(extra=False), **files_of(OLD, "misc/own.ko"), "/var/lib/dpkg/status": "no database\n"}
    assert set(look(tmp_path, files)) == {"own"}


SPEC = """
Name: {name}
Version: {version}
Release: {number}
Summary: A kernel, or a part of it
License: GPL-2.0-only
BuildArch: noarch
AutoReqProv: no
Provides: installonlypkg(kernel), multiversion(kernel)
%description
%install
mkdir -p %buildroot/lib/modules/{release}/kernel/net
touch %buildroot/lib/modules/{release}/{file}
%files
/lib/modules/{release}
"""


@pytest.mark.skipif(shutil.which("rpmbuild") is None or shutil.which("rpm") is None, reason="there is no rpm here")
@pytest.mark.parametrize(
    ("version", "numbers", "releases", "kernel", "extra", "program"),
    [
        (
            "6.6",
            ("6.fc39", "7.fc39"),
            ("6.6-6.fc39.noarch", "6.6-7.fc39.noarch"),
            "kernel-core",
            ("kernel-modules-extra", "kernel-modules-extra-6.6-7.fc39.noarch"),
            "dnf",
        ),
        (
            "6.4.0",
            ("150600.21.3", "150600.23.7.1"),
            ("6.4.0-150600.21-default", "6.4.0-150600.23.7-default"),
            "kernel-default",
            ("kernel-default-extra", "kernel-default-extra-6.4.0-150600.23.7.1"),
            "zypper",
        ),
    ],
)
def test_extra_modules_of_rpm(
    tmp_path: Path,
    version: str,
    numbers: tuple[str, str],
    releases: tuple[str, str],
    kernel: str,
    extra: tuple[str, str],
    program: str,
) -> None:
    """With real packages and rpm's real database: the new kernel was installed without the package of extra modules."""
    (tmp_path / "root/var/lib/rpm").mkdir(parents=True)
    name, wanted = extra
    for package, at, file in ((kernel, 0, "ext4.ko.xz"), (name, 0, "net/rose.ko.xz"), (kernel, 1, "ext4.ko.xz")):
        top = tmp_path / f"{package}-{at}"
        top.mkdir()
        fields = {"name": package, "version": version, "number": numbers[at], "release": releases[at]}
        (top / "spec").write_text(SPEC.format(**fields, file=f"kernel/{file}"))
        define = (f"--define=_topdir {top}", "--define=debug_package %{nil}")
        subprocess.run(
            ["rpmbuild", "-bb", "--quiet", *define, str(top / "spec")], check=True, capture_output=True, timeout=120
        )
        rpms = [str(path) for path in top.rglob("*.rpm")]
        install = ["rpm", "--dbpath", str(tmp_path / "root/var/lib/rpm"), "--install", "--justdb", "--nodeps"]
        subprocess.run([*install, "--noscripts", *rpms], check=True, capture_output=True, timeout=120)
    old, new = releases
    files: dict[str, Content] = {
        **files_of(old, "kernel/ext4.ko.xz", "kernel/net/rose.ko.xz"),
        **files_of(new, "kernel/ext4.ko.xz"),
        f"/usr/bin/{program}": b"",
    }
    (one,) = look(tmp_path / "root", files, old, new).values()
    assert (one.module, one.provider) == ("rose", f"the package {name}")
    assert one.remedy.commands == ((program, "install", wanted),)
