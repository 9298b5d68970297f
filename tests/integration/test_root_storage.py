"""Real images, made by the generators of two Debian releases, and the roots that they were made for.

What the kernel and udev tell of each root is made by hand, as nothing here lies on LUKS, LVM or md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

import machines
from safeupdate.boot import find_plan
from safeupdate.case import Case
from safeupdate.machine import Machine
from safeupdate.volumes import Volumes
from tests.integration.early_images import ARRAY_UUID, LUKS_UUID, image
from tests.unit.layouts import Device, lv
from tests.unit.test_check_root_storage import each_must_taken_out, tell, the_rest_taken_out
from tests.unit.trees import case
from tests.verdicts import layouts
from tests.verdicts.tree import MENU, Tree

pytestmark = pytest.mark.machines

MACHINES = ("debian12", "debian13-dracut")
ARRAY = ARRAY_UUID.replace(":", "")
BOOT = Device("vda1", "254:1", layouts.BOOT_UUID, "ext4", partuuid="5afe0bda-01")
TABLE = f"""\
vda2_crypt: 0 8380416 crypt aes-xts-plain64 :64:logon:cryptsetup:{LUKS_UUID}-d0 0 254:2 32768 1 allow_discards
vg0-root: 0 8372224 linear 253:0 2048
"""


def luks_lvm(tree: Tree) -> None:
    """LVM on LUKS 2, the installer's encrypted layout."""
    crypt = f"CRYPT-LUKS2-{LUKS_UUID.replace('-', '')}-vda2_crypt"
    devices = (
        layouts.DISK,
        BOOT,
        Device("vda2", "254:2", LUKS_UUID, "crypto_LUKS", partuuid="5afe0bda-02"),
        Device("dm-0", "253:0", "x", "LVM2_member", mapper="vda2_crypt", dm_uuid=crypt, below=("vda2",)),
        lv("dm-1", "253:1", "vg0", "root", tree.uuid, "ext4", "dm-0"),
    )
    root = f"/dev/mapper/vg0-root ro rd.luks.uuid={LUKS_UUID} rd.lvm.lv=vg0/root"
    _on(tree, devices, "253:1 / / ext4 /dev/mapper/vg0-root", root)
    tree.write("/run/safeupdate/dmsetup-table", TABLE)
    tree.write("/etc/crypttab", f"vda2_crypt UUID={LUKS_UUID} none luks,discard\n")


def array(tree: Tree) -> None:
    """RAID 1 of two disks."""
    member = Device("vda1", "254:1", ARRAY, "linux_raid_member", partuuid="5afe0bda-01")
    devices = (
        layouts.DISK,
        member,
        replace(member, name="vdb1", number="254:17", partuuid="5afe0bdb-01"),
        Device("md0", "9:0", tree.uuid, "ext4", md=True, below=("vda1", "vdb1")),
    )
    _on(tree, devices, "9:0 / / ext4 /dev/md0", f"UUID={tree.uuid} ro rd.md.uuid={ARRAY_UUID}")


def plain(fstype: str) -> Callable[[Tree], None]:
    """A file system on a partition."""

    def make(tree: Tree) -> None:
        root = Device("vda1", "254:1", tree.uuid, fstype, partuuid="5afe0bda-01")
        _on(tree, (layouts.DISK, root), f"254:1 / / {fstype} /dev/vda1", f"UUID={tree.uuid} ro")

    return make


def _on(tree: Tree, devices: tuple[Device, ...], mount: str, root: str) -> None:
    layouts.facts(tree, devices, [mount], cmdline=f"BOOT_IMAGE=/vmlinuz-{tree.older} root={root}")
    tree.edit(MENU, r"root=\S+ ro\b.*$", f"root={root}")
    spec, fstype = root.partition(" ")[0], mount.split()[3]
    tree.write("/etc/fstab", f"{spec} / {fstype} defaults 0 1\n")


STACKS = {
    "LVM on LUKS": luks_lvm,
    "RAID 1": array,
    **{fstype: plain(fstype) for fstype in ("ext4", "xfs", "btrfs", "f2fs")},
}


@pytest.fixture(params=MACHINES)
def site(request: pytest.FixtureRequest) -> Iterator[Tree]:
    """A machine whose newest kernel has the image that was made for such roots."""
    name = request.param
    with machines.copy(name) as root:
        machines.add_facts(root, name)
        tree = Tree(root, name)
        tree.write(tree.initrd(), image(name).read_bytes())
        yield tree


def next_boot(tree: Tree, make: Callable[[Tree], None]) -> Case:
    """What is judged, on that root."""
    make(tree)
    machine = Machine.tree(tree.root)
    _, plan = find_plan(machine, Volumes(machine))
    assert plan.next is not None
    assert plan.next.release == tree.newest
    return replace(case(machine, entry=plan.next), plan=plan)


def test_the_images_hold_what_these_roots_need(site: Tree) -> None:
    for name, make in STACKS.items():
        one = next_boot(site, make)
        assert (name, tell(one)) == (name, [])
        for missing, findings in each_must_taken_out(one).items():
            assert missing in [finding.subject for finding in findings], (name, missing, findings)
            assert {finding.level for finding in findings} == {"blocker"}, (name, missing, findings)
        assert (name, tell(one, the_rest_taken_out(one))) == (name, [])


@pytest.mark.parametrize("name", MACHINES)
def test_the_installed_images_do_not(name: str) -> None:
    """Their machine has no package for LVM, LUKS and md."""
    with machines.copy(name) as root:
        machines.add_facts(root, name)
        tree = Tree(root, name)
        for make, program in ((luks_lvm, "lvm"), (array, "mdadm")):
            found = tell(next_boot(tree, make))
            assert ("root-storage.helper-missing", program) in [(one.id, one.subject) for one in found], found
