from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path
from types import MappingProxyType

import pytest

from safeupdate.case import Case, Shelf
from safeupdate.checks.root_storage import CHECK
from safeupdate.formats.modules import module_name
from safeupdate.initramfs import Index
from safeupdate.report import Finding
from safeupdate.storage import layers, stack
from safeupdate.storage.image import Image
from safeupdate.storage.requirement import Requirement
from safeupdate.storage.target import Target
from safeupdate.volumes import Volumes
from tests.unit import initrd, layouts
from tests.unit import test_distributions as distributions
from tests.unit.trees import Link, case, dep_index, tree

LAYOUTS = {
    "btrfs on NVMe, dracut": distributions.FEDORA,
    "btrfs on LUKS, dracut": distributions.FEDORA_LUKS,
    "xfs on LVM, dracut": distributions.RHEL_BIOS,
    "ext4 on LVM, initramfs-tools": distributions.UBUNTU_SERVER,
    "ext4 on LVM on LUKS, initramfs-tools": distributions.DEBIAN_LUKS,
    "ext4 on RAID 1, initramfs-tools": distributions.DEBIAN_RAID,
    "ZFS, initramfs-tools": distributions.PROXMOX_MOUNTED,
    "ext4 on LUKS, mkinitcpio": distributions.ARCH_GRUB,
}
each_layout = pytest.mark.parametrize("layout", LAYOUTS.values(), ids=list(LAYOUTS))

KEPT = (
    *("init", "usr/lib/systemd/systemd", "usr/lib/dracut/modules.txt"),
    *("conf/initramfs.conf", "scripts/functions", "buildconfig", "init_functions"),
)
"""Files by which a generator is known, and with udev what it runs."""


class Given(Shelf):
    """An image of which something was taken out."""

    def __init__(self, old: Case, index: Index) -> None:
        super().__init__(old.machine)
        self._places = old.image_places
        self._index = index

    def image(self, path: str, section: str | None = None) -> Index:
        return self._index if (path, section) in self._places else super().image(path, section)


def asked(root: Path, layout: layouts.Layout) -> Case:
    """The entry that the layout's machine starts next."""
    from safeupdate.boot import find_plan

    machine = layouts.build(root, layout)
    _, plan = find_plan(machine, Volumes(machine))
    assert plan.next is not None
    return replace(case(machine, entry=plan.next), plan=plan)


def tell(one: Case, index: Index | None = None) -> list[Finding]:
    """What is found, with another image if one is given."""
    one = one if index is None else replace(one, shelf=Given(one, index))
    try:
        return list(CHECK.run(one))
    finally:
        one.shelf.close()


def requirements(one: Case) -> Iterator[Requirement]:
    """All that the layers under the root ask of an image."""
    assert one.tree is not None and one.entry is not None
    image = Image(one.index, Target(one.tree), entry_line=one.entry.cmdline)
    for each in stack.of(one.machine, one.volumes, command_line=one.entry.cmdline):
        if each.purpose != "resume":
            for layer in each.walk():
                yield from layers.needs(layer, image)


def answers(path: str, requirement: Requirement) -> bool:
    """Whether a file in an image is one of those that a requirement asks for."""
    name = path.rpartition("/")[2]
    if requirement.kind == "module":
        return ".ko" in name and module_name(path) in requirement.names
    if requirement.kind == "rule":
        return "/rules.d/" in path and any(fnmatchcase(name, pattern) for pattern in requirement.names)
    places = (f"/{path}", f"/{path}".replace("/usr/", "/", 1), f"/usr/{path}")
    return any(
        any(fnmatchcase(place, pattern) for place in places) if pattern.startswith("/") else name == pattern
        for pattern in requirement.names
    )


def without(index: Index, gone: set[str]) -> Index:
    """The image without these files."""
    left = {path: entry for path, entry in index.entries.items() if path not in gone}
    return replace(index, entries=MappingProxyType(left), members=tuple(left.values()))


def each_must_taken_out(one: Case) -> dict[str, list[Finding]]:
    """What is said of the image when all that would answer one `must` is not in it, by the first name of each."""
    assert one.index is not None and one.tree is not None
    told = {}
    for requirement in requirements(one):
        gone = {path for path in one.index.entries if answers(path, requirement)}
        built_in = requirement.kind == "module" and not one.tree.builtin.isdisjoint(requirement.names)
        if requirement.must and gone and not built_in:
            told[requirement.names[0]] = tell(one, without(one.index, gone))
    return told


def the_rest_taken_out(one: Case) -> Index:
    """The image with nothing in it but what the layers ask for, and what these modules depend on."""
    index, tree = one.index, one.tree
    assert index is not None and tree is not None
    target = Target(tree)
    wanted = list(requirements(one))
    needed = {name for each in wanted if each.kind == "module" for name in each.names}
    needed |= {below for name in needed for below in target.closure(name)}

    def stays(path: str) -> bool:
        if path in KEPT or "/modules.dep" in path or "udev" in path or not index.entries[path].is_file:
            return True
        if ".ko" in path:
            return module_name(path) in needed
        return path.startswith(("etc/", "cryptroot/")) or any(
            answers(path, each) for each in wanted if each.kind != "module"
        )

    return without(index, {path for path in index.entries if not stays(path)})


@each_layout
def test_a_whole_image(tmp_path: Path, layout: layouts.Layout) -> None:
    assert tell(asked(tmp_path, layout)) == []


@each_layout
def test_each_must_taken_out_stops_the_boot(tmp_path: Path, layout: layouts.Layout) -> None:
    one = asked(tmp_path, layout)
    told = each_must_taken_out(one)
    assert len(told) >= 2
    for name, findings in told.items():
        assert name in [finding.subject for finding in findings]
        assert {finding.level for finding in findings} == {"blocker"}, (name, findings)


@each_layout
def test_nothing_else_is_missed(tmp_path: Path, layout: layouts.Layout) -> None:
    one = asked(tmp_path, layout)
    assert tell(one, the_rest_taken_out(one)) == []


def test_the_words(tmp_path: Path) -> None:
    one = asked(tmp_path, distributions.DEBIAN_LUKS)
    assert one.index is not None
    finding = tell(one, without(one.index, {path for path in one.index.entries if "dm-crypt" in path}))[0]
    assert finding.problem == (
        "The driver dm_crypt is neither built into the kernel 6.1.0-26-amd64 nor in the initramfs image "
        "/boot/initrd.img-6.1.0-26-amd64: the volume's target crypt comes from it (/ on file system ext4 on LVM "
        "volume laptop-vg/root (dm-1) on LUKS2 volume nvme0n1p3_crypt (dm-0))."
    )
    assert finding.consequence == "The root file system is not found, and the boot stops in the initramfs."
    assert finding.evidence[:3] == ("/", "└─ file system ext4", "   └─ LVM volume laptop-vg/root (dm-1)")
    assert finding.remedy.commands[-1] == ("update-initramfs", "-u", "-k", "6.1.0-26-amd64")


def test_a_rule_that_dracut_leaves_out(tmp_path: Path) -> None:
    rule = "/usr/lib/udev/rules.d/95-dm-notify.rules"
    layout = distributions.RHEL_BIOS
    one = asked(tmp_path, replace(layout, files={**layout.files, rule: b""}))
    assert one.index is not None
    (finding,) = tell(one, without(one.index, {path for path in one.index.entries if path.endswith("dm-notify.rules")}))
    assert f"add {rule} to install_items" in finding.remedy.text
    assert finding.remedy.commands[-1][0] == "dracut"


def test_the_missing_link_is_marked(tmp_path: Path) -> None:
    one = asked(tmp_path, distributions.DEBIAN_LUKS)
    assert one.index is not None
    (finding, *_) = tell(one, without(one.index, {path for path in one.index.entries if "dm-crypt" in path}))
    tree = [line for line in finding.evidence if not line.startswith("missing:")]
    assert [line.lstrip(" └─") for line in tree if "◀──" in line] == [
        "LUKS2 volume nvme0n1p3_crypt (dm-0)  ◀── missing: dm_crypt"
    ]
    assert all(len(line) <= 76 for line in tree)


def test_the_fallback_is_asked_about_its_own_image(tmp_path: Path) -> None:
    one = asked(tmp_path, distributions.DEBIAN_LUKS)
    entry = next(each for each in one.plan.entries if each.release == distributions.D_OLD)
    other = replace(case(one.machine, entry=entry), plan=one.plan)
    assert tell(other) == []
    assert other.index is not None and one.index is not None
    gone = {path for path in other.index.entries if "dm-crypt" in path}
    (finding, *_) = tell(other, without(other.index, gone))
    assert (finding.level, finding.subject) == ("blocker", "dm_crypt")
    assert f"initrd.img-{distributions.D_OLD}" in finding.problem


def test_a_device_that_is_waited_for_and_gone(tmp_path: Path) -> None:
    one = asked(tmp_path, distributions.RHEL_BIOS)
    assert one.index is not None
    name = "usr/lib/dracut/hooks/initqueue/finished/devexists-\\x2fdev\\x2frl_node-1\\x2fold.sh"
    added = initrd.read(initrd.archive({name: b""}))
    index = replace(one.index, entries=MappingProxyType({**one.index.entries, **added.entries}))
    (finding,) = tell(one, index)
    assert (finding.level, finding.id) == ("blocker", "root-storage.waits-for-missing-device")
    assert finding.subject == "/dev/rl_node-1/old"


def test_what_systemd_mounts_early(tmp_path: Path) -> None:
    """Images of initramfs-tools do not."""
    for layout, asks in ((distributions.FEDORA, True), (distributions.DEBIAN_BIOS, False)):
        fstab = layout.files["/etc/fstab"]
        assert isinstance(fstab, str)
        files = {**layout.files, "/etc/fstab": f"{fstab}/dev/mapper/vg-var /var xfs x-initrd.mount 0 0\n"}
        found = tell(asked(tmp_path / str(asks), replace(layout, files=files)))
        told = [(each.level, each.subject) for each in found if "/var" in each.problem]
        assert told == ([("unknown", "/var")] if asks else [])


def test_a_group_of_lvm_that_misses_a_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Debian's rule waits for it, though the root does not lie on it."""
    layout = distributions.UBUNTU_SERVER
    backup = 'physical_volumes {\n\tpv0 {\n\t\tid = "aaaaaa-bbbb"\n\t\tdevice = "/dev/sdb"\n\t}\n}\n'
    one = asked(tmp_path, replace(layout, files={**layout.files, "/etc/lvm/backup/ubuntu-vg": backup}))
    assert tell(one) == []
    vgs = tree(tmp_path / "bin", {"/vgs": "#!/bin/sh\necho '    1'\n"})
    (tmp_path / "bin/vgs").chmod(0o755)
    monkeypatch.setenv("PATH", vgs.root, prepend=":")
    live = replace(one.machine, live=True)
    (finding,) = tell(replace(one, machine=live, volumes=Volumes(live)))
    assert (finding.level, finding.id, finding.subject) == ("blocker", "root-storage.group-incomplete", "ubuntu-vg")
    (tmp_path / "bin/vgs").write_text("#!/bin/sh\necho '    0'\n")
    assert tell(replace(one, machine=live, volumes=Volumes(live))) == []


def with_network(root: Path, layout: layouts.Layout, *drivers: str, dmi: Mapping[str, str] | None = None) -> Case:
    """The machine with network adapters that are in use, of a kernel that tells all that it has."""
    files = dict(layout.files)
    for number, driver in enumerate(drivers):
        place = f"/sys/devices/pci0000:00/0000:00:1{number}.0"
        files[f"{place}/driver"] = Link(f"../../../bus/pci/drivers/{driver}")
        files[f"{place}/modalias"] = f"pci:v00001D0Fd0000EC2{number}sv00001D0Fsd0000EC20bc02sc00i00\n"
        files[f"{place}/net/eth{number}/carrier"] = "1\n"
        files[f"{place}/net/eth{number}/device"] = Link(f"../../../0000:00:1{number}.0")
        files[f"/sys/class/net/eth{number}"] = Link(f"../../{place[len('/sys/') :]}/net/eth{number}")
        files[f"/sys/bus/pci/drivers/{driver}/module"] = Link(f"../../../../module/{driver}")
    for name in ("veth0", "wg0", "br0"):
        files[f"/sys/devices/virtual/net/{name}/carrier"] = "1\n"
        files[f"/sys/class/net/{name}"] = Link(f"../../devices/virtual/net/{name}")
    files |= {f"/sys/class/dmi/id/{name}": f"{value}\n" for name, value in (dmi or {}).items()}
    for release in (distributions.D_NEW, distributions.D_OLD):
        files[f"/usr/lib/modules/{release}/modules.builtin.modinfo"] = "crc16.alias=crc16\0"
        files[f"/usr/lib/modules/{release}/modules.builtin"] = "kernel/lib/crc16.ko\n"
    return asked(root, replace(layout, files=files))


EC2 = {"sys_vendor": "Amazon EC2", "product_name": "m5.large"}


@pytest.mark.parametrize(
    ("drivers", "dmi", "level"),
    [
        (["ena"], EC2, "blocker"),
        (["ena", "e1000"], EC2, "blocker"),  # neither has a driver
        (["ena", "ahci"], EC2, "warning"),  # the other one has
        (["ena"], {"sys_vendor": "Dell Inc.", "product_name": "PowerEdge R640"}, "warning"),
        (["ena"], {"sys_vendor": "Microsoft Corporation", "product_name": "Virtual Machine"}, "warning"),
        (["ena"], {}, "warning"),
        (["ahci"], EC2, None),
    ],
)
def test_a_network_that_the_new_kernel_cannot_drive(
    tmp_path: Path, drivers: list[str], dmi: dict[str, str], level: str | None
) -> None:
    one = with_network(tmp_path, distributions.DEBIAN_BIOS, *drivers, dmi=dmi)
    found = [each for each in tell(one) if each.id == "root-storage.network-driver-missing"]
    assert {each.level for each in found} == ({level} if level else set())
    assert not found or found[0].subject == "ena"
    settings = replace(one.config, modules=replace(one.config.modules, optional=("ena", "e1000")))
    found = [each for each in tell(replace(one, config=settings)) if each.level == "blocker"]
    assert found == []


@pytest.mark.parametrize(
    ("dmi", "words"),
    [
        (EC2, "This is an EC2 instance (Nitro): its root file system comes through ahci, the network through sd_mod."),
        ({"bios_version": "4.11.amazon", "sys_vendor": "Xen"}, "This is an EC2 instance (Xen): "),
        ({"sys_vendor": "Google", "product_name": "Google Compute Engine"}, "This is a Google Compute Engine instance"),
        ({"chassis_asset_tag": "7783-7084-3265-9085-8269-3286-77"}, "This is an Azure virtual machine: "),
        ({"sys_vendor": "Microsoft Corporation", "product_name": "Virtual Machine"}, "This is a Hyper-V guest: "),
        ({"sys_vendor": "Microsoft Corporation", "product_name": "Surface Pro"}, ""),
        ({"sys_vendor": "QEMU", "product_name": "Standard PC (Q35 + ICH9, 2009)"}, ""),
        ({}, ""),
    ],
)
def test_what_a_clouds_machine_goes_through(tmp_path: Path, dmi: dict[str, str], words: str) -> None:
    found = tell(with_network(tmp_path, distributions.DEBIAN_BIOS, "sd_mod", dmi=dmi))
    assert [(each.level, each.id) for each in found] == ([("note", "root-storage.platform")] if words else [])
    assert not words or found[0].problem.startswith(words)


def bare(root: Path, layout: layouts.Layout = distributions.DEBIAN_BIOS) -> Case:
    """The machine without what the kernel and udev tell, as an image that is being built."""
    told = ("/sys/", "/proc/", "/run/", "/dev/")
    files = {path: content for path, content in layout.files.items() if not path.startswith(told)}
    return asked(root, replace(layout, files=files))


def test_without_sysfs_it_is_not_known(tmp_path: Path) -> None:
    one = bare(tmp_path)
    (finding,) = tell(one)
    assert (finding.level, finding.id) == ("unknown", "root-storage.hardware-not-known")
    assert "no sysfs" in finding.problem
    assert "--require-driver" in finding.remedy.text


def test_drivers_that_are_named_stand_for_sysfs(tmp_path: Path) -> None:
    one = bare(tmp_path)
    assert tell(replace(one, required_drivers=())) == []
    assert tell(replace(one, required_drivers=("ahci", "sd_mod"))) == []
    (finding,) = tell(replace(one, required_drivers=("ahci", "megaraid-sas")))
    assert (finding.level, finding.id, finding.subject) == ("blocker", "root-storage.driver-missing", "megaraid-sas")


def test_without_sysfs_what_fstab_tells_is_asked(tmp_path: Path) -> None:
    one = replace(bare(tmp_path), required_drivers=())
    assert one.index is not None
    (finding,) = tell(one, without(one.index, {path for path in one.index.entries if path.endswith("/ext4.ko")}))
    assert (finding.id, finding.subject) == ("root-storage.driver-missing", "ext4")


def test_a_dependency_that_is_missing_is_named(tmp_path: Path) -> None:
    one = asked(tmp_path, distributions.DEBIAN_BIOS)
    assert one.index is not None
    (finding,) = tell(one, without(one.index, {path for path in one.index.entries if path.endswith("/libahci.ko")}))
    assert finding.subject == "ahci"
    assert "with libahci, which it depends on" in finding.problem


def test_one_disk_of_a_mirror_may_be_missing(tmp_path: Path) -> None:
    """The other half hangs on a driver that is there."""
    files = dict(distributions.DEBIAN_RAID.files)
    place = "/sys/devices/pci0000:00/0000:00:1c.0/0000:02:00.0"
    for path in [path for path in files if path.startswith("/sys/") and "/sdb" in path]:
        files[path.replace(f"{layouts.place('sdb')}", f"{place}/host9/target9:0:0/9:0:0:0/block/sdb")] = files.pop(path)
    for name in ("sdb", "sdb2"):
        below = "sdb/sdb2" if name == "sdb2" else name
        link = f"../../devices/pci0000:00/0000:00:1c.0/0000:02:00.0/host9/target9:0:0/9:0:0:0/block/{below}"
        files[f"/sys/class/block/{name}"] = Link(link)
    files[f"{layouts.place('md0')}/slaves/sdb2"] = Link("../../../../../class/block/sdb2")
    bus = "/sys/bus/pci/drivers/mpt3sas"
    files[f"{place}/driver"] = Link("../../../../bus/pci/drivers/mpt3sas")
    files[f"{place}/modalias"] = "pci:v00001000d00000097sv00001000sd00003090bc01sc07i00\n"
    files[f"{bus}/module"] = Link("../../../../module/mpt3sas")
    files["/sys/module/mpt3sas/initstate"] = "live\n"
    for release in (distributions.D_NEW, distributions.D_OLD):
        directory = f"/usr/lib/modules/{release}"
        text = files[f"{directory}/modules.dep"]
        assert isinstance(text, str)
        text += "kernel/mpt3sas.ko:\n"
        listed = (line.partition(":") for line in text.splitlines())
        files[f"{directory}/modules.dep"] = text
        files[f"{directory}/modules.dep.bin"] = dep_index({path: tuple(needed.split()) for path, _, needed in listed})
    one = asked(tmp_path, replace(distributions.DEBIAN_RAID, files=files))
    (finding,) = tell(one)
    assert (finding.level, finding.id, finding.subject) == ("warning", "root-storage.driver-missing", "mpt3sas")
    assert "degraded" in finding.consequence


def test_a_swap_area_to_resume_from_stops_no_boot(tmp_path: Path) -> None:
    one = asked(tmp_path, distributions.RHEL_BIOS)
    assert one.entry is not None
    assert "resume=" in one.entry.cmdline
    assert (
        tell(replace(one, entry=replace(one.entry, cmdline=one.entry.cmdline.replace("rd.lvm.lv=rl_node-1/swap", ""))))
        == []
    )


def test_an_image_of_which_nobody_knows_where_its_modules_are(tmp_path: Path) -> None:
    files = {path: text for path, text in distributions.DEBIAN_BIOS.files.items() if "/boot/config-" not in path}
    one = asked(tmp_path, replace(distributions.DEBIAN_BIOS, files=files))
    assert one.index is not None
    index = without(one.index, {path for path in one.index.entries if not path.endswith("/sh")})
    (finding,) = tell(one, index)
    assert (finding.level, finding.id) == ("unknown", "root-storage.modules-not-visible")
    assert "(ext4, sd_mod, ahci)" in finding.problem


def test_without_an_image_all_must_be_built_in(tmp_path: Path) -> None:
    assert tell(asked(tmp_path / "a", distributions.GENTOO)) == []
    release = distributions.G_NEW
    files = {**distributions.GENTOO.files, f"/lib/modules/{release}/modules.builtin": "kernel/fs/ext4/ext4.ko\n"}
    found = tell(asked(tmp_path / "b", replace(distributions.GENTOO, files=files)))
    assert [(finding.level, finding.subject) for finding in found] == [("blocker", "sd_mod"), ("blocker", "ahci")]
    assert "is not built into" in found[0].problem
