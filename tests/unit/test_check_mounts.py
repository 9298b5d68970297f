"""fstab, /boot and the first process, on small machines made for each question."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from safeupdate.case import Case
from safeupdate.checks import mounts
from safeupdate.report import Finding
from tests.unit import elves, initrd
from tests.unit.trees import IMAGE, INITRD, MODULES, RELEASE, Content, Link, case, tree, x86_image

ROOT = "UUID=5afe-root"
SYSTEMD = "/usr/lib/systemd/systemd"
STATIC = elves.program(interpreter=None, needed=())

MODULES_DEP = """kernel/fs/ext4/ext4.ko: kernel/lib/crc16.ko
kernel/lib/crc16.ko:
kernel/fs/fat/vfat.ko: kernel/fs/fat/fat.ko
kernel/fs/fat/fat.ko:
kernel/fs/nls/nls_ascii.ko:
kernel/fs/xfs/xfs.ko:
"""

HEALTHY: Mapping[str, Content] = {
    IMAGE: x86_image(),
    "/bin": Link("usr/bin"),
    "/sbin": Link("usr/sbin"),
    "/lib": Link("usr/lib"),
    "/usr/lib/x": "",
    "/usr/bin/sh": STATIC,
    "/usr/bin/mount": STATIC,
    "/usr/sbin/init": Link("../lib/systemd/systemd"),
    SYSTEMD: STATIC,
    "/usr/lib/systemd/systemd-udevd": STATIC,
    "/usr/lib/systemd/system/systemd-udevd.service": "[Service]\n",
    "/usr/lib/systemd/system/default.target": Link("graphical.target"),
    "/usr/lib/systemd/system/graphical.target": "[Unit]\n",
    "/usr/lib/systemd/system/sysinit.target": "[Unit]\n",
    "/usr/lib/systemd/system/basic.target": "[Unit]\n",
    "/usr/lib/os-release": "ID=debian\n",
    "/etc/os-release": Link("../usr/lib/os-release"),
    f"{MODULES}/modules.dep": MODULES_DEP,
    f"{MODULES}/modules.alias": "alias fs-ext3 ext4\nalias fs-vfat vfat\n",
    f"{MODULES}/modules.builtin": "kernel/fs/fuse/fuse.ko\nkernel/fs/nfsd/nfsd.ko\n",
    **{f"{MODULES}/{line.partition(':')[0]}": "module" for line in MODULES_DEP.splitlines()},
}

FACTS: Mapping[str, Content] = {
    "/sys/class/block/sda1/dev": "8:1\n",
    "/sys/class/block/sda2/dev": "8:2\n",
    "/sys/class/block/dm-0/dev": "253:0\n",
    "/sys/class/block/dm-0/dm/name": "vg-home\n",
    "/sys/class/block/dm-0/dm/uuid": "LVM-x\n",
    "/dev/disk/by-uuid/5afe-root": Link("../../sda1"),
    "/dev/disk/by-uuid/AB12-CD34": Link("../../sda2"),
    "/run/udev/data/b8:1": f"E:ID_FS_UUID={ROOT[5:]}\nE:ID_FS_TYPE=ext4\n",
    "/run/udev/data/b8:2": "E:ID_FS_UUID=AB12-CD34\nE:ID_FS_TYPE=vfat\n",
    "/run/udev/data/b253:0": "E:ID_FS_TYPE=xfs\n",
}


class World:
    """A healthy machine under a directory, to be changed and asked."""

    def __init__(self, root: Path) -> None:
        self.root = root
        tree(root, HEALTHY)
        for path in ("/usr/bin/sh", "/usr/bin/mount", SYSTEMD, "/usr/lib/systemd/systemd-udevd"):
            self.at(path).chmod(0o755)

    def at(self, path: str) -> Path:
        return self.root / path.lstrip("/")

    def add(self, files: Mapping[str, Content]) -> None:
        for path in files:
            self.at(path).unlink(missing_ok=True)
        tree(self.root, files)

    def case(self, *lines: str, cmdline: str = f"root={ROOT} ro", initramfs: tuple[str, ...] = ()) -> Case:
        fstab = "\n".join([f"{ROOT} / ext4 errors=remount-ro 0 1", *lines]) + "\n"
        return case(tree(self.root, {"/etc/fstab": fstab}), cmdline, initramfs=initramfs)

    def ask(self, *lines: str, **options: object) -> list[Finding]:
        return list(mounts.check(self.case(*lines, **options)))  # type: ignore[arg-type]

    def said(self, *lines: str, **options: object) -> list[tuple[str, str]]:
        return [(finding.id.partition(".")[2], finding.level) for finding in self.ask(*lines, **options)]


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


@pytest.fixture
def live(world: World) -> World:
    world.add(FACTS)
    return world


def mountinfo(*mounts: tuple[str, str, str, str]) -> str:
    return "".join(
        f"{number} 1 {device} / {point} rw - {fstype} {source} rw\n"
        for number, (device, point, fstype, source) in enumerate((("8:1", "/", "ext4", "/dev/sda1"), *mounts), 2)
    )


# -- fstab -----------------------------------------------------------------------------------------------------


def test_a_bare_healthy_tree(world: World) -> None:
    assert world.said() == []


def test_a_healthy_machine(live: World) -> None:
    live.add({"/home/x": ""})
    said = live.said(
        "UUID=AB12-CD34 /boot/efi vfat umask=0077 0 1",
        "/dev/mapper/vg-home /home xfs defaults 0 2",
        "/dev/vg/home /home2 xfs defaults 0 2",
        "/dev/sda1 /again ext3 defaults 0 2",
        "UUID=gone /usb ext4 nofail 0 0",
        "UUID=gone /cd iso9660 noauto 0 0",
        "UUID=gone /auto ext4 x-systemd.automount 0 0",
        "//server/share /share cifs guest 0 0",
        "tmpfs /tmp tmpfs defaults 0 0",
        "server:/x /nfs nfs4 defaults 0 0",
        "me@host:/ /ssh fuse.sshfs defaults 0 0",
        "/home /srv none bind 0 0",
        "nfsd /proc/fs/nfsd nfsd defaults 0 0",
    )
    assert said == []


@pytest.mark.parametrize(
    "line",
    [
        "UUID=gone /data ext4 defaults 0 2",
        "LABEL=gone /data ext4 defaults 0 2",
        "PARTUUID=gone /data ext4 defaults 0 2",
        "/dev/disk/by-uuid/gone /data ext4 defaults 0 2",
        "/dev/sdb1 /data ext4 defaults 0 2",
        "/dev/mapper/vg-gone /data ext4 defaults 0 2",
        "/dev/vg/gone /data ext4 defaults 0 2",
    ],
)
def test_a_device_that_does_not_exist(live: World, line: str) -> None:
    live.add({"/run/udev/data/b8:1": "E:ID_FS_UUID=5afe-root\nE:ID_FS_TYPE=ext4\nE:ID_PART_ENTRY_SCHEME=gpt\n"})
    assert live.said(line) == [("device-missing", "blocker")]


@pytest.mark.parametrize(
    "line", ["UUID=gone /data ext4", "/dev/sdb1 /data xfs", "/dev/mapper/x /data xfs", "pool/x /z zfs"]
)
def test_a_device_of_which_a_bare_tree_tells_nothing(world: World, line: str) -> None:
    world.add({f"{MODULES}/modules.builtin": "kernel/fs/zfs.ko\n"})
    assert world.said(line) == [("unproved", "unknown")]


def test_all_unproved_lines_are_one_finding(world: World) -> None:
    (finding,) = world.ask("UUID=a /a ext4", "UUID=b /b ext4", "UUID=c /c ext4 nofail", "UUID=d none swap sw")
    assert "UUID=a (/a) and UUID=b (/b)" in finding.problem
    assert len(finding.evidence) == 2


def test_what_is_mounted_now_proves_its_line(world: World) -> None:
    world.add({"/proc/self/mountinfo": mountinfo(("8:2", "/data", "ext4", "/dev/sda2"))})
    assert world.said("UUID=a /data ext4") == []
    assert world.said("UUID=a /data xfs") == [("unproved", "unknown")]


def test_letter_case_counts(live: World) -> None:
    assert live.said("UUID=ab12-cd34 /boot/efi vfat") == [("letter-case", "blocker")]


def test_another_init_goes_on(live: World) -> None:
    live.add({"/usr/sbin/init": STATIC})
    live.at("/usr/sbin/init").chmod(0o755)
    assert live.said("UUID=gone /data ext4") == [("device-missing", "warning")]


def test_swap(live: World) -> None:
    assert live.said("UUID=gone none swap sw", "/swapfile none swap sw") == [
        ("swap-missing", "warning"),
        ("swap-file-missing", "warning"),
    ]
    live.add({"/swapfile": "swap"})
    assert live.said("/dev/sda2 none swap sw", "/swapfile none swap sw", "/dev/zram0 none swap sw") == []


def test_a_device_that_crypttab_opens_at_boot(live: World) -> None:
    line = "/dev/mapper/data /data ext4"
    assert live.said(line) == [("device-missing", "blocker")]
    live.add({"/etc/crypttab": "data UUID=AB12-CD34 none luks\n"})
    assert live.said(line) == []
    assert live.said("UUID=inside /data ext4") == [("unproved", "unknown")]
    live.add({"/etc/crypttab": "data UUID=gone none luks\n"})
    assert live.said("/dev/mapper/data /data ext4") == [("unproved", "unknown")]


def test_the_line_of_the_root(live: World) -> None:
    fstab = {"/etc/fstab": "UUID=other / ext4 defaults 0 1\n"}
    for cmdline, level in ((f"root={ROOT} ro", "blocker"), (f"root={ROOT} rw", "warning")):
        found = list(mounts.check(case(tree(live.root, fstab), cmdline, initramfs=())))
        assert [(finding.id, finding.level) for finding in found] == [("mounts.root-line", level)]
    fstab = {"/etc/fstab": "/dev/sdz1 / ext4 defaults 0 1\n"}
    assert list(mounts.check(case(tree(live.root, fstab), f"root={ROOT} ro", initramfs=()))) == []


def test_files_and_bind_mounts(live: World) -> None:
    assert live.said("/var/x.img /img ext4 loop") == [("file-missing", "blocker")]
    live.add({"/var/x.img": "image"})
    assert live.said("/var/x.img /img ext4 loop", "/var /srv none bind") == []
    assert live.said("/gone /srv none bind") == [("bind-source-missing", "warning")]
    assert live.said("/dev/sda2 /mnt vfat", "/mnt/x.img /img ext4 loop") == [("unproved", "unknown")]


def test_a_type_that_nothing_mounts(live: World) -> None:
    assert live.said("/dev/sda1 /data ext5") == [("type", "blocker")]
    live.at(f"{MODULES}/kernel/fs/fat/fat.ko").unlink()
    assert live.said("UUID=AB12-CD34 /boot/efi vfat") == [("type", "blocker")]
    assert live.said("UUID=AB12-CD34 /boot/efi vfat nofail") == []
    live.add({f"{MODULES}/modules.builtin": "kernel/fs/fat/vfat.ko\n"})
    assert live.said("UUID=AB12-CD34 /boot/efi vfat") == []


def test_a_mount_program_is_enough(live: World) -> None:
    assert live.said("/dev/sda1 /data fuse.thing") == []
    live.add({"/usr/sbin/mount.thingfs": STATIC})
    assert live.said("/dev/sda1 /data thingfs") == []


def test_character_sets_of_fat(live: World) -> None:
    live.add({f"{MODULES}/config": 'CONFIG_FAT_DEFAULT_IOCHARSET="ascii"\nCONFIG_FAT_DEFAULT_CODEPAGE=437\n'})
    (finding,) = live.ask("UUID=AB12-CD34 /boot/efi vfat")
    assert finding.id == "mounts.type" and "nls_cp437" in finding.problem
    live.add({f"{MODULES}/modules.builtin": "kernel/fs/nls/nls_cp437.ko\n"})
    assert live.said("UUID=AB12-CD34 /boot/efi vfat") == []
    assert live.said("UUID=AB12-CD34 /boot/efi vfat iocharset=iso8859-15") == [("type", "blocker")]


@pytest.mark.parametrize(
    ("real", "wanted", "ok"),
    [
        ("ext4", "ext3", True),
        ("xfs", "ext4", False),
        ("crypto_LUKS", "ext4", False),
        ("crypto_LUKS", "auto", False),
        ("weird", "ext4", True),
    ],
)
def test_another_type_than_the_device_holds(live: World, real: str, wanted: str, ok: bool) -> None:
    live.add({"/run/udev/data/b8:2": f"E:ID_FS_TYPE={real}\n"})
    assert live.said(f"/dev/sda2 /data {wanted}") == ([] if ok else [("other-type", "blocker")])


def test_subvolumes(live: World) -> None:
    live.add(
        {
            "/run/udev/data/b8:2": "E:ID_FS_UUID=AB12-CD34\nE:ID_FS_TYPE=btrfs\n",
            f"{MODULES}/modules.builtin": "kernel/fs/btrfs/btrfs.ko\n",
        }
    )
    line = "UUID=AB12-CD34 /data btrfs subvol=@data"
    assert live.said(line) == [("unproved", "unknown")]
    live.add({"/proc/self/mountinfo": mountinfo(("8:2", "/top", "btrfs", "/dev/sda2")), "/top": None})
    assert live.said(line) == [("subvolume-missing", "blocker")]
    live.at("/top/@data").mkdir()
    assert live.said(line) == []


DRIVER = b"\x7fELF\0umask=%o\0errors\0quiet\0iocharset=%s\0barrier\0codepage\0"


@pytest.mark.parametrize(
    ("options", "refused"),
    [
        ("defaults,umask=0077,noatime,x-systemd.device-timeout=9", ""),
        ("default", "default"),
        ("umask=0077,nofial,nobarrier", "nofial"),
        ("bootwait,quite", "bootwait and quite"),
    ],
)
def test_options_that_the_driver_does_not_know(live: World, options: str, refused: str) -> None:
    live.add({f"{MODULES}/kernel/fs/fat/fat.ko": DRIVER, f"{MODULES}/kernel/fs/fat/vfat.ko": "\x7fELF"})
    found = live.ask(f"UUID=AB12-CD34 /efi vfat {options} 0 1")
    assert [(one.id, one.level) for one in found] == [("mounts.option", "blocker")] * bool(refused)
    assert all(f"with the option {refused}, which vfat" in one.problem for one in found)
    # Who does not wait for it is not stopped by it.
    assert live.said(f"UUID=AB12-CD34 /efi vfat {options},nofail 0 1") == []


def test_options_of_a_driver_that_tells_nothing(live: World) -> None:
    line = "UUID=AB12-CD34 /efi vfat default 0 1"
    assert live.said(line) == []
    live.add({f"{MODULES}/kernel/fs/fat/fat.ko": DRIVER})
    live.at(f"{MODULES}/kernel/fs/fat/vfat.ko").unlink()
    assert live.said(line) == [("type", "blocker")]


@pytest.mark.parametrize(
    ("size", "ok"), [("2G", True), ("512m", True), ("50%", True), ("0x1000", True), ("2GB", False), ("half", False)]
)
def test_the_size_of_a_tmpfs(world: World, size: str, ok: bool) -> None:
    assert world.said(f"tmpfs /tmp tmpfs mode=1777,size={size} 0 0") == [("option", "blocker")] * (not ok)


def test_options_of_the_root(live: World) -> None:
    live.add({f"{MODULES}/kernel/fs/ext4/ext4.ko": b"\x7fELF\0errors\0data\0"})
    assert live.said() == []
    live.add({f"{MODULES}/kernel/fs/ext4/ext4.ko": b"\x7fELF\0errors\0"})
    fstab = f"{ROOT} / ext4 errors=remount-ro,data=ordered 0 1\n"
    for cmdline, level in ((f"root={ROOT} ro", "blocker"), (f"root={ROOT} rw", "warning")):
        asked = live.case(cmdline=cmdline)
        live.add({"/etc/fstab": fstab})
        assert [(one.id, one.level) for one in mounts.check(asked)] == [("mounts.root-option", level)]


def test_required_units(live: World) -> None:
    line = "/dev/sda1 /data ext4 x-systemd.requires=thing@x.service"
    assert live.said(line) == []
    live.add({"/run/systemd/generator/x.mount": "[Mount]\n"})
    assert live.said(line) == [("requires", "blocker")]
    live.add({"/etc/systemd/system/thing@.service": "[Service]\n"})
    assert live.said(line) == []


def test_mount_units(live: World) -> None:
    live.add(
        {
            "/etc/systemd/system/data.mount": "[Mount]\nWhat=/dev/sdb1\nWhere=/data\nType=ext4\n",
            "/etc/systemd/system/local-fs.target.requires/data.mount": Link("../data.mount"),
        }
    )
    (finding,) = live.ask()
    assert finding.id == "mounts.device-missing" and "mount unit for /data" in finding.problem


def test_links_of_udev(live: World) -> None:
    for line in ("/dev/disk/by-id/usb-x /data ext4", "/dev/md/data /data ext4"):
        assert live.said(line) == [("unproved", "unknown")]
        live.add({"/run/udev/data/b8:1": "S:disk/by-id/ata-y\nE:ID_FS_UUID=5afe-root\nE:ID_FS_TYPE=ext4\n"})
        assert live.said(line) == [("device-missing", "blocker")]
        live.add({"/run/udev/data/b8:1": f"S:{line.split()[0][5:]}\nE:ID_FS_UUID=5afe-root\nE:ID_FS_TYPE=ext4\n"})
        assert live.said(line) == []
        live.add({"/run/udev/data/b8:1": "E:ID_FS_UUID=5afe-root\nE:ID_FS_TYPE=ext4\n"})


def test_a_module_from_elsewhere(live: World) -> None:
    live.add({f"{MODULES}/modules.dep": "updates/dkms/oddfs.ko:\n", f"{MODULES}/updates/dkms/oddfs.ko": "module"})
    assert live.said("/dev/sda1 /data oddfs") == []
    live.add({f"{MODULES}/updates/dkms/oddfs.ko": ""})
    assert live.said("/dev/sda1 /data oddfs") == [("type", "blocker")]


def test_bad_lines(world: World) -> None:
    assert world.said("oneword") == [("bad-line", "warning")]


def test_a_second_line_for_the_same_point_is_ignored(live: World) -> None:
    assert live.said("/dev/sda2 /data vfat", "/dev/gone /data vfat") == []


# -- /boot -----------------------------------------------------------------------------------------------------


def test_boot_is_not_mounted_and_kernels_lie_under_it(live: World) -> None:
    live.add({"/proc/self/mountinfo": mountinfo()})
    line = "UUID=AB12-CD34 /boot vfat"
    assert live.said(line) == [("boot-shadowed", "blocker")]
    assert live.said(line + " noauto") == []
    assert live.said(line + " x-systemd.automount") == []
    live.at(IMAGE).unlink()
    assert live.said(line) == [("boot-not-mounted", "unknown")]


def test_boot_is_mounted(live: World) -> None:
    live.add({"/proc/self/mountinfo": mountinfo(("8:2", "/boot", "vfat", "/dev/sda2"))})
    assert live.said("UUID=AB12-CD34 /boot vfat") == []
    live.add({"/proc/self/mountinfo": mountinfo(("8:1", "/boot", "ext4", "/dev/sda1"))})
    assert live.said("UUID=AB12-CD34 /boot vfat") == [("boot-other-device", "warning")]


def test_the_esp_is_not_mounted(live: World) -> None:
    live.add({"/proc/self/mountinfo": mountinfo(), "/boot/efi/EFI/debian/grub.cfg": ""})
    assert live.said("UUID=AB12-CD34 /boot/efi vfat") == [("esp-not-mounted", "warning")]
    live.add({"/proc/self/mountinfo": mountinfo(("0:9", "/boot/efi", "autofs", "systemd-1"))})
    assert live.said("UUID=AB12-CD34 /boot/efi vfat") == []


# -- the first process -----------------------------------------------------------------------------------------


def test_init_does_not_exist(world: World) -> None:
    world.at("/usr/sbin/init").unlink()
    assert world.said() == [("init", "blocker")]


def test_init_is_a_dangling_link(world: World) -> None:
    world.at(SYSTEMD).unlink()
    finding = world.ask()[0]
    assert finding.id == "mounts.init" and "link to ../lib/systemd/systemd" in finding.problem


def test_init_is_not_executable(world: World) -> None:
    world.at(SYSTEMD).chmod(0o644)
    assert ("init", "blocker") in world.said()


def test_a_library_of_init_is_missing(world: World) -> None:
    world.at(SYSTEMD).write_bytes(elves.program(interpreter=None, needed=("libsystemd-shared-252.so",)))
    finding = world.ask()[0]
    assert finding.id == "mounts.init"
    assert f"libsystemd-shared-252.so does not exist, and {SYSTEMD} needs it" in finding.problem


def test_the_package_that_helps(world: World) -> None:
    world.at(SYSTEMD).write_bytes(elves.program(interpreter=None, needed=("libselinux.so.1",)))
    world.add({"/var/lib/dpkg/info/libselinux1:amd64.list": "/.\n/usr/lib/x86_64-linux-gnu/libselinux.so.1\n"})
    (command,) = world.ask()[0].remedy.commands
    assert command == ("apt-get", "install", "--reinstall", "libselinux1:amd64")
    world.at("/var/lib/dpkg/info/libselinux1:amd64.list").unlink()
    assert world.ask()[0].remedy.commands[0][-1] == "systemd-sysv"


def test_init_is_cut_or_no_program(world: World) -> None:
    world.at(SYSTEMD).write_bytes(STATIC[:-1])
    assert world.said()[0] == ("init", "blocker")
    world.at(SYSTEMD).write_bytes(b"\0" * 100)
    assert world.said()[0] == ("init", "blocker")


def test_init_is_for_another_machine(world: World) -> None:
    world.at(SYSTEMD).write_bytes(elves.program(machine=183, interpreter=None, needed=()))
    finding = world.ask()[0]
    assert "a program for aarch64, and the kernel is for x86_64" in finding.problem
    world.at(SYSTEMD).write_bytes(elves.program(32, "<", 3, interpreter=None, needed=()))
    assert world.said() == []


APPARMOR_FIRST = 'CONFIG_SECURITY_SELINUX=y\nCONFIG_LSM="landlock,lockdown,apparmor,selinux,bpf"\n'
SELINUX_FIRST = 'CONFIG_SECURITY_SELINUX=y\nCONFIG_LSM="lockdown,selinux,bpf"\n'
ENFORCING = "# comment\nSELINUX=enforcing\nSELINUXTYPE=targeted\n"


@pytest.mark.parametrize(
    ("config", "settings", "cmdline", "stops"),
    [
        (SELINUX_FIRST, ENFORCING, "ro", True),
        (SELINUX_FIRST, ENFORCING, "ro enforcing=0", False),
        (SELINUX_FIRST, ENFORCING, "ro selinux=0", False),
        (SELINUX_FIRST, ENFORCING.replace("enforcing", "permissive"), "ro", False),
        (SELINUX_FIRST, ENFORCING.replace("enforcing", "disabled"), "ro enforcing=1", False),
        (SELINUX_FIRST, None, "ro", False),
        (SELINUX_FIRST, None, "ro enforcing=1", True),
        (APPARMOR_FIRST, ENFORCING, "ro", False),
        (APPARMOR_FIRST, ENFORCING, "ro security=selinux", True),
        (APPARMOR_FIRST, ENFORCING, "ro apparmor=0", True),
        (APPARMOR_FIRST, ENFORCING, "ro lsm=selinux,bpf", True),
        ("CONFIG_MODULES=y\n", ENFORCING, "ro security=selinux", False),
    ],
)
def test_selinux_without_its_policy(world: World, config: str, settings: str | None, cmdline: str, stops: bool) -> None:
    world.add({f"/boot/config-{RELEASE}": config})
    if settings is not None:
        world.add({"/etc/selinux/config": settings})
    assert world.said(cmdline=cmdline) == []  # this systemd does not ask for a policy
    world.add({"/usr/lib/x86_64-linux-gnu/systemd/libsystemd-core-252.so": b"..Failed to load SELinux policy.\0"})
    assert world.said(cmdline=cmdline) == [("selinux-policy", "blocker")] * stops
    world.add({"/etc/selinux/targeted/policy/policy.33": b"policy"})
    assert world.said(cmdline=cmdline) == []


def test_half_merged_usr(world: World) -> None:
    world.at("/sbin").unlink()
    world.add({"/sbin/init": Link("/usr/lib/systemd/systemd")})
    assert world.said() == [("usr-half-merged", "warning")]


def image(world: World, files: Mapping[str, initrd.Content]) -> None:
    world.at(INITRD).write_bytes(initrd.archive(files))


def test_init_parameter(world: World) -> None:
    assert world.said(cmdline="init=/bin/sh") == []
    assert world.said(cmdline="init=/gone") == [("init-parameter", "blocker")]
    assert world.said(cmdline="init=/gone", initramfs=(INITRD,)) == [("init-parameter", "unknown")]
    image(world, {"init": b"#!/bin/sh\n", "bin/sh": STATIC})
    assert world.said(cmdline="init=/gone", initramfs=(INITRD,)) == [("init-parameter", "warning")]


def test_systemd_in_the_initramfs(world: World) -> None:
    image(world, {"init": "usr/lib/systemd/systemd", "usr/lib/systemd/systemd": STATIC})
    assert world.said(initramfs=(INITRD,)) == []
    assert world.said(initramfs=(INITRD,), cmdline="init=/gone") == [("init-parameter", "blocker")]
    world.at("/usr/sbin/init").unlink()
    assert world.said(initramfs=(INITRD,)) == [("init-link", "warning")]
    world.at("/usr/lib/os-release").unlink()
    assert ("os-release", "blocker") in world.said(initramfs=(INITRD,))
    assert ("os-release", "blocker") not in world.said()


# -- systemd ---------------------------------------------------------------------------------------------------


def test_the_default_target(world: World) -> None:
    world.add({"/etc/systemd/system/default.target": Link("/lib/systemd/system/multi-user.target")})
    assert world.said() == [("default-target", "blocker")]
    world.add({"/etc/systemd/system/default.target": Link("/lib/systemd/system/basic.target")})
    assert world.said() == []
    world.add({"/etc/systemd/system/default.target": Link("/dev/null")})
    assert world.said() == [("default-target", "blocker")]
    assert world.said(cmdline="systemd.unit=graphical.target") == []
    assert world.said(cmdline="systemd.unit=gone.target") == [("default-target", "blocker")]


def test_a_machine_without_units_is_not_asked_for_them(world: World) -> None:
    for path in sorted(world.at("/usr/lib/systemd/system").iterdir()):
        path.unlink()
    assert world.said() == []


def test_programs_that_systemd_needs(world: World) -> None:
    world.at("/usr/lib/systemd/systemd-udevd").unlink()
    world.at("/usr/bin/mount").unlink()
    assert world.said() == [("program", "blocker")] * 2


def test_a_library_that_all_of_them_lack_is_told_once(world: World) -> None:
    for path in (SYSTEMD, "/usr/bin/mount", "/usr/bin/sh"):
        world.at(path).write_bytes(elves.program(interpreter=None, needed=("libselinux.so.1",)))
    assert world.said() == [("init", "blocker")]


def test_the_executor_of_newer_systemds(world: World) -> None:
    needed = {250: [], 257: [("program", "blocker")]}
    for version, said in needed.items():
        name = f"libsystemd-shared-{version}.so"
        world.at(SYSTEMD).write_bytes(elves.program(interpreter=None, needed=(name,)))
        world.add({f"/usr/lib/{name}": STATIC})
        assert world.said() == said


def test_what_cannot_be_read(world: World) -> None:
    asked = world.case("UUID=a /data ext4")
    world.at("/etc/fstab").unlink()
    os.mkfifo(world.at("/etc/fstab"))
    assert [(finding.id, finding.level) for finding in mounts.check(asked)][-1] == ("mounts.unreadable", "unknown")
