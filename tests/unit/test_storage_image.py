from __future__ import annotations

from pathlib import Path

import pytest

from safeupdate.kernels import Kernel
from safeupdate.machine import Machine
from safeupdate.module_tree import ModuleTree
from safeupdate.storage.image import Image
from safeupdate.storage.target import Target
from tests.unit import initrd
from tests.unit.trees import MODULES, RELEASE, Content, tree

BARE = Target(ModuleTree(Kernel(RELEASE, f"/boot/vmlinuz-{RELEASE}", Machine.tree("/nowhere"))))
"""A kernel of which nothing is on disk."""

KO = f"usr/lib/modules/{RELEASE}"
TOOLS: dict[str, initrd.Content] = {
    "lib": "usr/lib",
    "bin": "usr/bin",
    "conf/initramfs.conf": b"",
    "scripts/functions": b"",
    "init": b"#!/bin/sh\n",
    "usr/bin/busybox": b"",
    "usr/bin/mount": "busybox",
}
DISK: dict[str, initrd.Content] = {
    f"{KO}/kernel/ahci.ko.xz": b"",
    f"{KO}/kernel/libahci.ko.xz": b"",
    f"{KO}/kernel/dm-mod.ko.xz": b"",
    f"{KO}/modules.dep": b"kernel/ahci.ko.xz: kernel/libahci.ko.xz\nkernel/libahci.ko.xz:\nkernel/dm-mod.ko.xz:\n",
}


def image(files: dict[str, initrd.Content], *, target: Target = BARE) -> Image:
    return Image(initrd.read(initrd.archive(files)), target)


def on_disk(root: Path, **lists: Content) -> Target:
    files = {f"{MODULES}/modules.{name}": text for name, text in lists.items()}
    return Target(ModuleTree(Kernel(RELEASE, f"/boot/vmlinuz-{RELEASE}", tree(root, files))))


def without(files: dict[str, initrd.Content], *gone: str) -> dict[str, initrd.Content]:
    return {path: content for path, content in files.items() if not path.endswith(gone)}


def test_modules_that_are_there() -> None:
    found = image({**TOOLS, **DISK})
    assert found.modules == {"ahci", "libahci", "dm_mod"}
    assert [found.has_module(name) for name in ("ahci", "dm_mod", "dm-mod", "nvme")] == [True, True, True, False]
    assert found.lacking("nvme") == "nvme"


def test_a_dependency_is_missing() -> None:
    assert image({**TOOLS, **without(DISK, "/libahci.ko.xz")}).lacking("ahci") == "libahci"


def test_what_modules_dep_does_not_name_is_not_found() -> None:
    files: dict[str, initrd.Content] = {**TOOLS, **DISK, f"{KO}/kernel/nvme.ko.xz": b""}
    assert image(files).lacking("nvme") == "the line for nvme in modules.dep"
    assert image({**TOOLS, **without(DISK, "modules.dep")}).lacking("ahci") == "a modules.dep that finds ahci"
    files = {**TOOLS, **DISK, f"{KO}/modules.dep": b"kernel/ahci.ko.xz: kernel/libahci.ko.xz"}
    assert image(files).lacking("ahci") == "a readable modules.dep that finds ahci"


def test_mkinitcpio_leaves_the_index_alone(tmp_path: Path) -> None:
    """The dependencies are then those of the kernel's own list."""
    target = on_disk(tmp_path, dep="kernel/ahci.ko.xz: kernel/libahci.ko.xz\nkernel/libahci.ko.xz:\n")
    files: dict[str, initrd.Content] = {**without(DISK, "modules.dep"), f"{KO}/modules.dep.bin": b"x"}
    files = {"lib": "usr/lib", "buildconfig": b"", **files}
    assert image(files, target=target).lacking("ahci") is None
    assert image(without(files, "/libahci.ko.xz"), target=target).lacking("ahci") == "libahci"


def test_what_is_built_in(tmp_path: Path) -> None:
    target = on_disk(tmp_path, builtin="kernel/fs/ext4/ext4.ko\nkernel/drivers/ata/libahci.ko\n")
    assert Image(None, target).has_module("ext4")
    assert not Image(None, target).has_module("ahci")
    assert image({**TOOLS, **without(DISK, "/libahci.ko.xz")}, target=target).has_module("ahci")
    files: dict[str, initrd.Content] = {**TOOLS, **DISK, f"{KO}/modules.builtin": b"kernel/fs/ext4/ext4.ko\n"}
    assert image(files).is_built_in("ext4")


def test_a_link_to_a_module_of_another_release() -> None:
    files: dict[str, initrd.Content] = {
        **TOOLS,
        **DISK,
        "usr/lib/modules/6.1.0-40-amd64/extra/hba.ko": b"",
        f"{KO}/weak-updates/hba.ko": "/lib/modules/6.1.0-40-amd64/extra/hba.ko",
        f"{KO}/modules.dep": b"weak-updates/hba.ko:\n",
    }
    assert image(files).has_module("hba")
    assert not image(without(files, "extra/hba.ko")).has_module("hba")


def test_programs() -> None:
    found = image(TOOLS)
    assert found.program("mount") == "/bin/mount"
    assert found.program("lvm", "busybox") == "/bin/busybox"
    assert found.program("/usr/bin/mount") == "/usr/bin/mount"
    assert found.program("lvm") is None
    assert image(without(TOOLS, "/busybox")).program("mount") is None


def test_units_rules_and_files() -> None:
    units = "usr/lib/systemd/system"
    files: dict[str, initrd.Content] = {
        **TOOLS,
        f"{units}/cryptsetup.target": b"",
        f"{units}/multipathd.service": b"",
        f"{units}/stratis.service": b"",
        "etc/systemd/system/multipathd.service": "/dev/null",
        "etc/systemd/system/stratis.service": "../nowhere",
        "usr/lib/udev/rules.d/69-lvm.rules": b"vendor",
        "etc/udev/rules.d/69-lvm.rules": b"own",
        "etc/udev/rules.d/70-x.rules": b"last",
        "usr/lib/firmware/qla/ql2500.bin.xz": b"",
    }
    found = image(files)
    assert found.unit("cryptsetup.target")
    assert not found.unit("multipathd.service")
    assert not found.unit("lvm2.service")
    assert found.rule("*-lvm.rules")
    assert not found.rule("*-dm-lvm.rules")
    assert found.rules == "own\nlast"
    assert found.firmware("qla/ql2500.bin")
    assert not found.firmware("qla/ql2600.bin")
    assert found.exists("/lib/udev/rules.d/69-*.rules")
    assert not found.exists("/lib/udev/rules.d/68-*.rules")
    assert found.exists("/bin/busybox")
    assert (found.text("/etc/udev/rules.d/70-x.rules"), found.text("/etc/crypttab")) == ("last", None)


@pytest.mark.parametrize(
    ("more", "systemd", "generator"),
    [
        (TOOLS, False, "initramfs-tools"),
        ({"usr/lib/dracut/modules.txt": b"", "init": "usr/lib/systemd/systemd"}, True, "dracut"),
        ({"buildconfig": b"", "init": b"#!/bin/ash\n"}, False, "mkinitcpio"),
    ],
)
def test_who_made_it(more: dict[str, initrd.Content], systemd: bool, generator: str) -> None:
    found = image({"usr/lib/systemd/systemd": b"", **more})
    assert (found.systemd, found.generator, found.hidden) == (systemd, generator, "")


def test_the_command_line_of_dracut_has_parts_in_the_image() -> None:
    parts: dict[str, initrd.Content] = {
        "etc/cmdline.d/90crypt.conf": b"rd.luks.uuid=luks-1\n",
        "etc/cmdline.d/91lvm.conf.old": b"rd.lvm.lv=gone",
        "etc/cmdline.d/91lvm.conf": b" rd.lvm.lv=vg/root \n",
    }
    index = initrd.read(initrd.archive({"usr/lib/dracut/modules.txt": b"", **parts}))
    assert Image(index, BARE, entry_line="ro").command_line == "rd.luks.uuid=luks-1 rd.lvm.lv=vg/root ro"
    index = initrd.read(initrd.archive({**TOOLS, **parts}))
    assert Image(index, BARE, entry_line="ro").command_line == "ro"


def test_what_cannot_be_told() -> None:
    """booster and NixOS keep modules in places of their own."""
    nixos: dict[str, initrd.Content] = {"init": b"#!/nix/store/x\n", "nix/store/x-modules/lib/modules/a.ko": b""}
    assert image(nixos).hidden
    assert image({"init": b"", "lib": "usr/lib", **DISK}).hidden == ""
    assert Image(None, BARE).hidden == ""
    assert Image(None, BARE).generator == ""
