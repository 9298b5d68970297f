from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from safeupdate.boot.plan import BootEntry, BootFile
from safeupdate.case import Case
from safeupdate.checks.boot_entry import CHECK, release_key
from safeupdate.kernels import Kernel
from safeupdate.machine import Machine
from safeupdate.report import Finding, unknown
from tests.unit.initrd import archive
from tests.unit.test_volumes import ESP, ROOT, disk, mountinfo
from tests.unit.trees import IMAGE, INITRD, MODULES, RELEASE, Content, Link, case, tree, x86_image

OTHER = "5afe0bda-ffff-4000-8000-000000000001"
FILES: dict[str, Content] = {
    IMAGE: x86_image(),
    INITRD: archive({"init": b"#!/bin/sh\n", "scripts/functions": b""}),
    "/boot/grub/grub.cfg": "",
    "/usr/sbin/update-grub": "",
}


def facts(fstab: str, mount: str, **devices: str) -> dict[str, Content]:
    """A machine with its hardware captured: fstab, what is mounted at /, and the devices."""
    return {**FILES, **disk(**devices), "/etc/fstab": fstab, "/proc/self/mountinfo": mountinfo(mount)}


PC = facts(
    f"UUID={ROOT} / ext4 errors=remount-ro 0 1\n",
    "8:2 / / ext4 /dev/sda2",
    sda1=f"E:ID_FS_UUID={ESP} E:ID_PART_ENTRY_UUID=aaaa-01",
    sda2=f"E:ID_FS_UUID={ROOT} E:ID_PART_ENTRY_UUID=aaaa-02 E:ID_FS_LABEL_ENC=root E:ID_PART_ENTRY_NAME=system",
    sdb1=f"E:ID_FS_UUID={OTHER} E:ID_PART_ENTRY_UUID=bbbb-01",
)
LVM = {
    **facts(
        "/dev/mapper/rhel-root / xfs defaults 0 0\n",
        "254:0 / / xfs /dev/mapper/rhel-root",
        sda2="E:ID_FS_TYPE=LVM2_member",
    ),
    "/sys/class/block/dm-0/dev": "254:0\n",
    "/sys/class/block/dm-0/dm/name": "rhel-root\n",
    "/run/udev/data/b254:0": f"E:ID_FS_UUID={ROOT}\nS:disk/by-id/dm-name-rhel-root\n",
}
LUKS = {
    **facts(
        "/dev/mapper/luks-1 / btrfs subvol=root,compress=zstd:1 0 0\n",
        "0:35 /root / btrfs /dev/mapper/luks-1",
        sda3="E:ID_FS_TYPE=crypto_LUKS E:ID_FS_UUID=aaaabbbb-0000-4000-8000-000000000009",
    ),
    "/sys/class/block/dm-0/dev": "254:0\n",
    "/sys/class/block/dm-0/dm/name": "luks-1\n",
    "/run/udev/data/b254:0": f"E:ID_FS_UUID={ROOT}\nE:ID_FS_TYPE=btrfs\n",
}
PI = facts(
    "PARTUUID=cccc-02 / ext4 defaults,noatime 0 1\n",
    "8:2 / / ext4 /dev/root",
    mmcblk0p1="",
    mmcblk0p2="E:ID_PART_ENTRY_UUID=cccc-02",
)
OVERLAY = facts(f"UUID={ROOT} / ext4 ro 0 1\n", "0:25 / / overlay overlayroot", sda2=f"E:ID_FS_UUID={ROOT}")
BARE: dict[str, Content] = {**FILES, "/etc/fstab": f"UUID={ROOT} / ext4 defaults 0 1\n"}


def ask(machine: Machine, cmdline: str, *, initramfs: tuple[str, ...] = (INITRD,)) -> list[Finding]:
    with_shelf = case(machine, cmdline, initramfs=initramfs)
    try:
        return list(CHECK.run(with_shelf))
    finally:
        with_shelf.shelf.close()


def found(machine: Machine, cmdline: str, *, initramfs: tuple[str, ...] = (INITRD,)) -> list[tuple[str, str]]:
    return [(one.level, one.id.partition(".")[2]) for one in ask(machine, cmdline, initramfs=initramfs)]


@pytest.mark.parametrize(
    ("files", "cmdline"),
    [
        *((PC, f"root={root} ro quiet") for root in (f"UUID={ROOT}", "LABEL=root")),
        *((PC, f"root={root} ro") for root in ("/dev/sda2", "PARTUUID=aaaa-02")),
        (PC, "root=PARTLABEL=system"),
        ({**PC, "/proc/cmdline": f"root=UUID={ROOT.upper()} ro\n"}, f"root=UUID={ROOT.upper()} ro"),
        *((PC, f"root=/dev/disk/{link} ro") for link in (f"by-uuid/{ROOT}", "by-label/root", "by-partuuid/aaaa-02")),
        (PC, f'root="UUID={ROOT}" ro rootfstype=ext4'),
        (PC, f"root=/dev/gone root=UUID={ROOT}"),
        (PC, "root=PARTUUID=aaaa-01/PARTNROFF=1"),
        (PC, f"root=UUID={ROOT} resume=UUID={ESP}"),
        (PC, f"root=UUID={ROOT} resume=UUID={OTHER[:-1]}9 noresume"),
        (LVM, "root=/dev/mapper/rhel-root ro rd.lvm.lv=rhel/root"),
        (LVM, "root=/dev/rhel/root ro"),
        (LVM, f"root=UUID={ROOT} ro"),
        (LVM, "root=/dev/disk/by-id/dm-name-rhel-root"),
        (LUKS, "root=/dev/mapper/luks-1 rootflags=subvol=root rd.luks.uuid=luks-aaaabbbb-0000-4000-8000-000000000009"),
        (LUKS, f"root=UUID={ROOT} ro rootflags=subvol=/root rd.luks.name=aaaabbbb-0000-4000-8000-000000000009=luks-1"),
        (PI, "console=serial0,115200 root=PARTUUID=cccc-02 rootfstype=ext4 fsck.repair=yes rootwait"),
        (PI, "root=/dev/mmcblk0p2 rootwait"),
        (OVERLAY, f"root=UUID={ROOT} ro overlayroot=tmpfs"),
        (BARE, f"root=UUID={ROOT} ro"),
        (BARE, f"root=UUID={ROOT.upper()} ro"),
        (BARE, f"root=/dev/disk/by-uuid/{ROOT} ro"),
        ({**BARE, "/etc/fstab": f'UUID="{ROOT}" / ext4 defaults\n'}, f"root=UUID={ROOT}"),
        ({**BARE, "/etc/fstab": f"/dev/disk/by-uuid/{ROOT} / ext4 defaults\n"}, f"root=UUID={ROOT}"),
        ({**BARE, "/etc/fstab": "/dev/mapper/vg-root / ext4\n"}, "root=/dev/mapper/vg-root"),
        ({**BARE, "/etc/fstab": "/dev/my-vg/root / ext4\n"}, "root=/dev/mapper/my--vg-root"),
        ({**BARE, "/etc/fstab": "/dev/sda1 / ext4\n"}, "root=/dev/sda1"),
        ({**BARE, "/etc/fstab": "LABEL=cloudimg-rootfs / ext4\n"}, "root=LABEL=cloudimg-rootfs"),
        *((BARE, f"root={root}") for root in ("/dev/nfs", "nfs:server:/export", "dhcp", "nbd:server:1:ext4")),
        *((BARE, f"root={root}") for root in ("ZFS=rpool/ROOT/debian", "zfs:AUTO", "zfs", "live:LABEL=x")),
        *((BARE, f"root={root}") for root in ("gpt-auto", "tmpfs", "/dev/ram0")),
        (BARE, "root=rpool/ROOT/debian boot=zfs"),
        (BARE, "root=myfs rootfstype=virtiofs rw"),
        (BARE, "root=ubi0:rootfs rootfstype=ubifs ubi.mtd=0"),
        (BARE, "boot=live root=/dev/gone"),
    ],
)  # fmt: skip
def test_roots_of_healthy_machines(tmp_path: Path, files: dict[str, Content], cmdline: str) -> None:
    assert ask(tree(tmp_path, files), cmdline) == []


@pytest.mark.parametrize(
    ("files", "cmdline", "finding"),
    [
        *(
            (PC, f"root={root} ro", "root-missing")
            for root in (f"UUID={ROOT[:-1]}9", "LABEL=rot", "PARTUUID=aaaa-9", "/dev/sdz1", "/dev/v/r", "/dev/mapper/x")
        ),
        *((PC, f"root={root}", "root-letter-case") for root in (f"UUID={ROOT.upper()}", "PARTUUID=AAAA-02")),
        (PC, f"root=UUID={OTHER} ro", "other-root"),
        (PC, "root=/dev/sdb1", "other-root"),
        *((PC, root, "no-root") for root in ("ro quiet", "root= ro")),
        *((PC, f"root={root}", "root-not-understood") for root in (f"UID={ROOT}", f"uuid={ROOT}", "sda2", "UUID")),
        (PC, f"root=UUID={ROOT} rootfstype=xfs", "rootfstype"),
        (
            {
                **PC,
                f"{MODULES}/modules.dep": "kernel/fs/ext4/ext4.ko:\n",
                f"{MODULES}/kernel/fs/ext4/ext4.ko": b"\x7fELF\0errors\0data\0",
            },
            f"root=UUID={ROOT} rootflags=data=ordered,subvol=@",
            "rootflags",
        ),
        (LVM, "root=/dev/mapper/rhel-rot", "root-missing"),
        (LVM, "root=/dev/mapper/rhel-root rd.lvm.lv=rhel/swap", "volume-missing"),
        (LUKS, "root=/dev/mapper/luks-1 rootflags=subvol=rot", "other-subvolume"),
        (
            {
                **LUKS,
                "/proc/self/mountinfo": mountinfo(
                    "0:35 /old / btrfs /dev/mapper/luks-1", "0:35 / /top btrfs /dev/mapper/luks-1"
                ),
                "/top/old": None,
            },
            "root=/dev/mapper/luks-1 rootflags=subvol=root",
            "subvolume-missing",
        ),
        (LUKS, "root=/dev/mapper/luks-1 rd.luks.uuid=luks-ffffbbbb", "luks-missing"),
        (PI, "root=/dev/mmcblk1p2", "root-missing"),
        (OVERLAY, f"root=UUID={OTHER}", "root-missing"),
        (BARE, f"root=UUID={OTHER}", "root-differs-from-fstab"),
        ({**BARE, "/etc/fstab": "/dev/sda1 / ext4\n"}, "root=/dev/sda2", "root-differs-from-fstab"),
        ({**BARE, "/etc/fstab": "/dev/vg/root / ext4\n"}, "root=/dev/mapper/vg-rot", "root-differs-from-fstab"),
        (
            {**BARE, "/etc/fstab": f"UUID={ROOT} / btrfs subvol=@\n"},
            f"root=UUID={ROOT} rootflags=subvol=@old",
            "other-subvolume",
        ),
    ],
)  # fmt: skip
def test_roots_that_do_not_come_up(tmp_path: Path, files: dict[str, Content], cmdline: str, finding: str) -> None:
    assert found(tree(tmp_path, files), cmdline) == [("blocker", finding)]


@pytest.mark.parametrize(
    ("files", "cmdline", "finding"),
    [
        (FILES, f"root=UUID={ROOT}", "root-unproved"),
        (FILES, "root=/dev/sda1", "root-unproved"),
        ({**BARE, "/etc/fstab": "PARTUUID=x / ext4\n"}, f"root=UUID={ROOT}", "root-unproved"),
        (PC, "root=8:2", "root-number"),
        (PC, "root=0802", "root-number"),
        (PC, "root=kiwi:something", "root-unknown-form"),
    ],
)
def test_roots_of_which_nothing_is_known(tmp_path: Path, files: dict[str, Content], cmdline: str, finding: str) -> None:
    assert found(tree(tmp_path, files), cmdline) == [("unknown", finding)]


@pytest.mark.parametrize(
    ("root", "understood"),
    [
        (f"UUID={ROOT}", False),
        ("LABEL=root", False),
        (f"/dev/disk/by-uuid/{ROOT}", False),
        ("PARTUUID=aaaa-02", True),
        ("/dev/sda2", True),
        ("PARTLABEL=system", True),
    ],
)
def test_the_kernel_without_an_initramfs(tmp_path: Path, root: str, understood: bool) -> None:
    answer = found(tree(tmp_path, PC), f"root={root}", initramfs=())
    assert answer == ([] if understood else [("blocker", "root-needs-initramfs")])


def test_logical_volumes_need_an_initramfs(tmp_path: Path) -> None:
    machine = tree(tmp_path, LVM)
    for root in ("/dev/mapper/rhel-root", "/dev/rhel/root"):
        assert found(machine, f"root={root}", initramfs=()) == [("blocker", "root-needs-initramfs")]


def test_a_resume_device_that_is_gone(tmp_path: Path) -> None:
    machine = tree(tmp_path, PC)
    for resume in (f"UUID={OTHER[:-1]}9", "/dev/sdz1"):
        assert found(machine, f"root=UUID={ROOT} resume={resume}") == [("warning", "resume-missing")]


def test_fstab_that_names_another_root(tmp_path: Path) -> None:
    files: dict[str, Content] = {**PC, "/etc/fstab": f"UUID={OTHER} / ext4 defaults\n"}
    machine = tree(tmp_path, files)
    assert found(machine, f"root=UUID={ROOT}") == [("warning", "fstab-root-differs")]
    assert found(machine, f"root=UUID={OTHER}") == [("warning", "root-moves")]


def test_a_root_that_dracut_put_into_the_image(tmp_path: Path) -> None:
    image = archive({"etc/cmdline.d/95root-dev.conf": f" root=UUID={ROOT} rootfstype=ext4\n".encode(), "init": b"x"})
    assert found(tree(tmp_path, {**PC, INITRD: image}), "ro quiet") == []


# -- files -----------------------------------------------------------------------------------------------------


def _entry(**changes: object) -> BootEntry:
    entry = BootEntry("grub", "debian", "Debian", "/boot/grub/grub.cfg, line 5", cmdline=f"root=UUID={ROOT}")
    entry = replace(entry, kernel=BootFile(IMAGE, IMAGE), initramfs=(BootFile(INITRD, INITRD),))
    return replace(entry, **changes)  # type: ignore[arg-type]


def _asked(machine: Machine, entry: BootEntry, *others: BootEntry) -> list[tuple[str, str]]:
    with_shelf = case(machine, entry=entry, others=others)
    try:
        return [(one.level, one.id.partition(".")[2]) for one in CHECK.run(with_shelf)]
    finally:
        with_shelf.shelf.close()


def test_files_that_are_missing(tmp_path: Path) -> None:
    machine = tree(tmp_path, PC)
    gone = BootFile("/gone", "/boot/gone")
    absent = BootFile("/gone", None, absent=True, why="no device has that UUID")
    unseen = BootFile("/gone", None, why="the ESP is not mounted")
    directory = BootFile("/boot", "/boot")
    assert _asked(machine, _entry()) == []
    for file in (gone, absent):
        assert ("blocker", "kernel-missing") in _asked(machine, _entry(kernel=file))
        assert _asked(machine, _entry(initramfs=(BootFile(INITRD, INITRD), file))) == [("blocker", "initramfs-missing")]
        assert _asked(machine, _entry(devicetree=file)) == [("blocker", "devicetree-missing")]
    assert _asked(machine, _entry(devicetree=directory)) == [("blocker", "not-a-file")]
    assert _asked(machine, _entry(devicetree=unseen)) == [("unknown", "file-not-visible")]


def test_a_fifo_or_a_loop_of_links_where_an_initramfs_is_expected(tmp_path: Path) -> None:
    machine = tree(tmp_path, {**PC, "/boot/loop": Link("loop")})
    os.mkfifo(tmp_path / "boot/fifo")
    assert _asked(machine, _entry(devicetree=BootFile("/fifo", "/boot/fifo"))) == [("blocker", "not-a-file")]
    assert _asked(machine, _entry(initramfs=(BootFile("/loop", "/boot/loop"),))) == [("blocker", "initramfs-missing")]


def test_entries_that_are_no_linux_or_not_resolved(tmp_path: Path) -> None:
    machine = tree(tmp_path, PC)
    assert _asked(machine, _entry(kernel=None, initramfs=())) == [("blocker", "not-linux")]
    assert _asked(machine, _entry(unresolved=("$root in line 7",))) == [("unknown", "unresolved")]


def _with_plan(machine: Machine, **changes: object) -> Case:
    one = case(machine, f"root=UUID={ROOT}")
    return replace(one, entry=None, plan=replace(one.plan, next=None, **changes))  # type: ignore[arg-type]


def test_no_entry(tmp_path: Path) -> None:
    machine = tree(tmp_path, PC)
    (finding,) = CHECK.run(_with_plan(machine))
    assert (finding.level, finding.id) == ("unknown", "boot-entry.none")
    said = unknown("boot-entry.ambiguous-loader", "x", "y", "z")
    assert list(CHECK.run(_with_plan(machine, findings=(said,)))) == [said]


def test_the_other_entries(tmp_path: Path) -> None:
    machine = tree(tmp_path, PC)
    stale = _entry(kernel=BootFile("/boot/vmlinuz-5", "/boot/vmlinuz-5"), title="old")
    windows = _entry(kernel=None, initramfs=(), title="Windows")
    assert _asked(machine, _entry(), windows) == []
    assert _asked(machine, _entry(), stale) == [("warning", "stale")]


def test_the_newest_kernel(tmp_path: Path) -> None:
    newer = "/boot/vmlinuz-6.1.0-51-amd64"
    machine = tree(tmp_path, {**PC, newer: x86_image("6.1.0-51-amd64")})
    one = case(machine, f"root=UUID={ROOT}")
    one = replace(one, kernels=(*one.kernels, Kernel("6.1.0-51-amd64", newer, machine)))
    (finding,) = CHECK.run(one)
    assert (finding.level, finding.id) == ("warning", "boot-entry.not-the-newest")
    listed = replace(one, plan=replace(one.plan, entries=(*one.plan.entries, _entry(kernel=BootFile(newer, newer)))))
    (finding,) = CHECK.run(listed)
    assert (finding.level, finding.id) == ("note", "boot-entry.not-the-newest")
    assert (finding.subject, RELEASE in finding.problem) == ("6.1.0-51-amd64", True)


@pytest.mark.parametrize(
    "releases",
    [
        ("5.10.0-30-amd64", "6.1.0-9-amd64", "6.1.0-10-amd64", "6.9.0-rc1-amd64", "6.9.0-rc10-amd64", "6.9.0-amd64"),
        ("6.8.5-301.fc40.x86_64", "6.8.12-300.fc40.x86_64", "6.10.3-200.fc40.x86_64"),
        ("5.14.0-427.el9.x86_64", "5.14.0-427.13.1.el9_4.x86_64", "5.14.0-503.el9.x86_64"),
        ("6.4.0-150600.21-default", "6.4.0-150600.23.7-default", "6.12.0-160000.5-default"),
        ("6.12~rc6-amd64", "6.12.6-amd64", "6.12.6+bpo-amd64", "6.12.10+bpo-amd64"),
        ("6.8.0-9-generic", "6.8.0-51-generic", "6.11.0-9-generic"),
        ("6.8.12-4-pve", "6.8.12-10-pve", "6.11.0-1-pve"),
        ("6.12.1-arch1-1", "6.12.1-arch1-2", "6.12.2-arch1-1"),
    ],
)
def test_releases_in_order(releases: tuple[str, ...]) -> None:
    for older, newer in zip(releases, releases[1:]):
        assert release_key(older) < release_key(newer), (older, newer)


@pytest.mark.parametrize(
    "words",
    [
        "init=/bin/sh",
        "single",
        "S",
        "emergency",
        "systemd.unit=rescue.target",
        "rd.systemd.unit=emergency.target",
        "rdinit=/bin/sh",
    ],
)
def test_a_command_line_that_stops_in_a_shell(tmp_path: Path, words: str) -> None:
    findings = ask(tree(tmp_path, PC), f"root=UUID={ROOT} ro quiet {words}")
    assert [(finding.level, finding.id) for finding in findings] == [("blocker", "boot-entry.stops-in-shell")]
    assert words in findings[0].problem


@pytest.mark.parametrize(
    ("mark", "words"),
    [
        ({"conf/initramfs.conf": b"", "scripts/functions": b""}, "break=premount"),
        ({"usr/lib/dracut/x": b""}, "rd.break"),
    ],
)
def test_a_word_that_stops_one_initramfs_only(tmp_path: Path, mark: dict[str, bytes], words: str) -> None:
    for name, files in (("knows", mark), ("knows-not", {"init": b""})):
        world = tree(tmp_path / name, {**PC, INITRD: archive({"init": b"#!/bin/sh\n", **files})})
        found = [finding.id for finding in ask(world, f"root=UUID={ROOT} ro {words}")]
        assert found == (["boot-entry.stops-in-shell"] if name == "knows" else [])


@pytest.mark.parametrize(
    "words", ["init=/usr/lib/systemd/systemd", "systemd.unit=graphical.target", "3", "quiet splash"]
)
def test_a_command_line_that_does_not_stop(tmp_path: Path, words: str) -> None:
    assert ask(tree(tmp_path, PC), f"root=UUID={ROOT} ro {words}") == []
