"""Weak links, made from what makes them: weak-modules of RHEL 7's package kmod 20, weak-modules2 of suse-module-tools.

No machine of theirs could be had; the former, run on Debian's kernels, made the same link. DKMS's own weak links have
the same form (dkms(8)).
"""

from __future__ import annotations

import gzip
from collections.abc import Mapping
from pathlib import Path

from safeupdate.builders import Brought, World, packaged, weak_updates
from safeupdate.kernels import Kernel
from safeupdate.module_interface import Interface
from safeupdate.module_tree import ModuleTree
from tests.unit.test_module_symbols import ko
from tests.unit.trees import Content, Link, tree

OLD, NEW = "5.14.0-362.8.1.el9_3.x86_64", "5.14.0-427.13.1.el9_4.x86_64"
REST = "SMP preempt mod_unload modversions "
KVDO = ko("kvdo", vermagic=f"{OLD} {REST}", versions={"module_layout": 7, "printk": 1}, undefined=["printk"])
BUILT = f"/lib/modules/{OLD}/extra/kmod-kvdo/vdo/kvdo.ko"
LINK = f"/lib/modules/{NEW}/weak-updates/kmod-kvdo/vdo/kvdo.ko"
WEAK_MODULES: dict[str, Content] = {"/usr/sbin/weak-modules": "#!/bin/bash\n"}


def kernel(release: str, printk: int = 1) -> dict[str, Content]:
    own = ko("fat", vermagic=f"{release} {REST}", versions={"module_layout": 7, "printk": printk})
    symvers = f"{7:#010x}\tmodule_layout\tvmlinux\tEXPORT_SYMBOL\t\n{printk:#010x}\tprintk\tvmlinux\tEXPORT_SYMBOL\t\n"
    return {
        f"/lib/modules/{release}/kernel/fs/fat.ko": own,
        f"/lib/modules/{release}/modules.dep": "kernel/fs/fat.ko:\n",
        f"/boot/symvers-{release}.gz": gzip.compress(symvers.encode()),
    }


def world(root: Path, files: Mapping[str, Content], *, new_printk: int = 1) -> World:
    machine = tree(root, {**kernel(OLD), **kernel(NEW, new_printk), BUILT: KVDO, **files})
    new, old = (ModuleTree(Kernel(release, f"/boot/vmlinuz-{release}", machine)) for release in (NEW, OLD))
    return World(machine, (), new, Interface(new), old)


def test_a_healthy_link(tmp_path: Path) -> None:
    there = world(tmp_path, {LINK: Link(BUILT), **WEAK_MODULES})
    path = LINK.partition(f"{NEW}/")[2]
    assert list(weak_updates.look(there)) == [
        Brought("kvdo", f"a package made for the kernel {OLD}", "installed", path)
    ]
    assert Interface(there.tree).misfit(path) is None
    assert list(packaged.look(there)) == []


def test_a_link_that_leads_nowhere(tmp_path: Path) -> None:
    gone = f"/lib/modules/{OLD}/extra/old-kvdo/kvdo.ko"
    (one,) = weak_updates.look(world(tmp_path, {LINK: Link(gone), **WEAK_MODULES}))
    assert (one.module, one.state, one.fault, one.path) == ("kvdo", "absent", "link", None)
    assert one.why == f"{LINK} leads to {gone}."


def test_links_into_a_directory_that_is_gone_and_in_a_loop(tmp_path: Path) -> None:
    there = world(tmp_path, {LINK: Link("/lib/modules/5.14.0-70.el9.x86_64/extra/kvdo.ko")})
    (one,) = weak_updates.look(there)
    assert (one.state, one.provider) == ("absent", "a package made for the kernel 5.14.0-70.el9.x86_64")
    (tmp_path / LINK[1:]).unlink()
    (tmp_path / LINK[1:]).symlink_to("kvdo.ko")
    loop = World(there.machine, (), (own := ModuleTree(Kernel(NEW, "", tree(tmp_path)))), Interface(own))
    (one,) = weak_updates.look(loop)
    assert (one.state, one.provider) == ("absent", "a package for several kernels")


def test_a_link_in_whose_place_another_file_is_loaded(tmp_path: Path) -> None:
    files: dict[str, Content] = {
        LINK: Link(f"/lib/modules/{OLD}/extra/gone/kvdo.ko"),
        f"/lib/modules/{NEW}/extra/kvdo.ko": KVDO,
    }
    there = world(tmp_path, files)
    (tmp_path / f"lib/modules/{NEW}/modules.dep").write_text("extra/kvdo.ko:\n")
    assert list(weak_updates.look(there)) == []


def test_a_module_that_fits_no_more(tmp_path: Path) -> None:
    """weak-modules takes the link away. One that somebody has left is told by the interface."""
    there = world(tmp_path, WEAK_MODULES, new_printk=2)
    (one,) = packaged.look(there)
    assert (one.module, one.state) == ("kvdo", "lost")
    assert one.why == f"{BUILT} does not fit the kernel {NEW}: the kernel has other versions of printk."
    assert one.remedy.commands == ()

    left = world(tmp_path / "left", {LINK: Link(BUILT)}, new_printk=2)
    (link,) = weak_updates.look(left)
    assert link.path is not None
    misfit = Interface(left.tree).misfit(link.path)
    assert (link.state, misfit is not None and misfit.kind) == ("installed", "symbol-version")


def test_a_module_that_fits_and_has_no_link(tmp_path: Path) -> None:
    (one,) = packaged.look(world(tmp_path, WEAK_MODULES))
    assert one.why == f"{BUILT} fits the kernel {NEW}, and weak-modules has made no link to it."
    assert one.remedy.commands == (("/usr/sbin/weak-modules", "--add-kernel", NEW),)


def test_a_link_of_the_running_kernel_is_followed_to_its_module(tmp_path: Path) -> None:
    older = "5.14.0-70.13.1.el9_0.x86_64"
    built, link = BUILT.replace(OLD, older), LINK.replace(NEW, OLD)
    there = world(tmp_path, {built: KVDO, link: Link(built), **WEAK_MODULES})
    (tmp_path / BUILT[1:]).unlink()
    (one,) = packaged.look(there)
    assert one.why == f"{built} fits the kernel {NEW}, and weak-modules has made no link to it."


def test_suse_where_lib_is_a_link(tmp_path: Path) -> None:
    old, new = "6.4.0-150600.21-default", "6.4.0-150600.23.7-default"
    link = f"/usr/lib/modules/{new}/weak-updates/updates/nvidia.ko.zst"
    files: dict[str, Content] = {
        "/lib": Link("usr/lib"),
        f"/usr/lib/modules/{old}/updates/nvidia.ko.zst": b"",
        link: Link(f"/usr/lib/modules/{old}/updates/nvidia.ko.zst"),
    }
    machine = tree(tmp_path, files)
    (one,) = weak_updates.look(World(machine, (), (own := ModuleTree(Kernel(new, "", machine))), Interface(own)))
    assert (one.state, one.path) == ("installed", "weak-updates/updates/nvidia.ko.zst")
    assert one.provider == f"a package made for the kernel {old}"
