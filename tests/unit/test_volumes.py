from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from safeupdate.volumes import ESP_TYPE, XBOOTLDR_TYPE, Volumes, subvolumes
from tests.unit.trees import Content, Link, tree

ROOT = "5afe0bda-0000-4000-8000-000000000001"
BOOT = "5afe0bda-0000-4000-8000-000000000002"
ESP = "AB12-CD34"
KERNEL = "vmlinuz-6.1.0"


def disk(**devices: str) -> dict[str, Content]:
    """sysfs and udev's database: name of a block device to its udev properties, a line each; sda1 is 8:1."""
    files: dict[str, Content] = {}
    for minor, (name, lines) in enumerate(devices.items(), 1):
        files[f"/sys/class/block/{name.replace('_', '-')}/dev"] = f"8:{minor}\n"
        facts = "I:1\nE:ID_FS_TYPE=ext4\nE:ID_PART_ENTRY_SCHEME=gpt\n"
        files[f"/run/udev/data/b8:{minor}"] = facts + "".join(f"{line}\n" for line in lines.split())
    return files


def mountinfo(*lines: str) -> str:
    """Lines of `DEVICE-NUMBER ROOT POINT TYPE SOURCE`."""
    text = ""
    for number, line in enumerate(lines, 20):
        device, root, point, fstype, source = line.split()
        text += f"{number} 1 {device} {root} {point} rw,relatime shared:1 - {fstype} {source} rw\n"
    return text


def volumes(root: Path, files: Mapping[str, Content], *mounts: str) -> Volumes:
    extra: dict[str, Content] = {"/proc/self/mountinfo": mountinfo(*mounts)} if mounts else {}
    return Volumes(tree(root, {**files, **extra}))


PC = disk(
    sda1=f"E:ID_FS_UUID={ESP} E:ID_FS_TYPE=vfat E:ID_PART_ENTRY_UUID=aaaa-01 E:ID_PART_ENTRY_TYPE={ESP_TYPE.upper()}",
    sda2=f"E:ID_FS_UUID={BOOT} E:ID_FS_TYPE=ext4 E:ID_FS_LABEL_ENC=my\\x20boot E:ID_PART_ENTRY_UUID=aaaa-02",
    sda3=f"E:ID_FS_UUID={ROOT} E:ID_FS_TYPE=ext4 E:ID_PART_ENTRY_UUID=aaaa-03 S:disk/by-id/ata-X-part3",
)
MOUNTS = ("8:3 / / ext4 /dev/sda3", "8:2 / /boot ext4 /dev/sda2", "8:1 / /boot/efi vfat /dev/sda1")
FSTAB = (
    f"UUID={ROOT} / ext4 defaults 0 1\nUUID={BOOT} /boot ext4 defaults 0 2\nUUID={ESP} /boot/efi vfat umask=77 0 1\n"
)


def test_tags_from_udev(tmp_path: Path) -> None:
    found = volumes(tmp_path, PC, *MOUNTS)
    for tag, value, device in (
        ("UUID", ROOT, "sda3"),
        ("UUID", ROOT.upper(), "sda3"),
        ("UUID", ESP.lower(), "sda1"),
        ("LABEL", "my boot", "sda2"),
        ("PARTUUID", "AAAA-03", "sda3"),
    ):
        volume = found.tagged(tag, value)
        assert volume is not None
        assert volume.name == f"/dev/{device}"
        assert volume.devices == {device}
        assert not volume.assumed


def test_what_no_device_has_is_none(tmp_path: Path) -> None:
    found = volumes(tmp_path, PC, *MOUNTS)
    for tag, value in (
        ("UUID", "5afe0bda-0000-4000-8000-0000000000ff"),
        ("UUID", ""),
        ("UUID", "../../class/block"),
        ("UUID", "a\0b"),
        ("LABEL", "MY BOOT"),  # letter case counts in labels
        ("PARTUUID", "aaaa-04"),
        ("PARTLABEL", "root"),  # no partition of this disk has a name
    ):
        assert found.tagged(tag, value) is None, (tag, value)


def test_labels_are_known_where_file_systems_are(tmp_path: Path) -> None:
    only = disk(sda1=f"E:ID_FS_UUID={ROOT} E:ID_PART_ENTRY_UUID=aaaa-01")
    found = volumes(tmp_path, only, "8:1 / / ext4 /dev/sda1")
    assert found.tagged("LABEL", "gone") is None
    assert found.tagged("PARTLABEL", "gone") is None


def test_tags_from_links(tmp_path: Path) -> None:
    links: dict[str, Content] = {
        f"/dev/disk/by-uuid/{ROOT}": Link("../../dm-0"),
        "/dev/disk/by-label/my\\x20root": Link("../../dm-0"),
        "/dev/disk/by-partlabel/a\\x2fb": Link("../../sda2"),
    }
    found = volumes(tmp_path, links, "254:0 / / ext4 /dev/mapper/vg-root")
    root = found.tagged("UUID", ROOT)
    assert root is not None
    assert root.devices == {"dm-0"}
    assert found.devices_tagged("LABEL", "my root") == {"dm-0"}
    assert found.devices_tagged("PARTLABEL", "a/b") == {"sda2"}
    assert found.tagged("UUID", "gone") is None
    assert not found.knows("PARTUUID")


def test_partitions_behind_another(tmp_path: Path) -> None:
    found = volumes(tmp_path, PC, *MOUNTS)
    assert found.tagged("PARTUUID", "aaaa-02/PARTNROFF=1") is not None
    assert found.tagged("PARTUUID", "aaaa-09/PARTNROFF=1") is None


def test_names_of_devices(tmp_path: Path) -> None:
    files: dict[str, Content] = {
        **PC,
        "/sys/class/block/dm-0/dev": "254:0\n",
        "/sys/class/block/dm-0/dm/name": "ubuntu--vg-root--1\n",
        "/sys/class/block/dm-0/dm/uuid": "LVM-abc\n",
        "/sys/class/block/dm-1/dm/name": "luks-1\n",
        "/sys/class/block/dm-1/dm/uuid": "CRYPT-LUKS2-abc-luks-1\n",
        "/sys/class/block/md127/md/level": "raid1\n",
        "/sys/class/block/cciss!c0d0p1/dev": "104:1\n",
        "/dev/md/home": Link("../md127"),
        "/dev/stale": Link("sdz"),
    }
    found = volumes(tmp_path, files)
    for path, device in (
        ("/dev/sda3", "sda3"),
        ("//dev//sda3", "sda3"),
        ("/dev/sda9", None),
        ("/dev/disk/by-id/ata-X-part3", "sda3"),
        (f"/dev/disk/by-uuid/{ROOT}", "sda3"),
        ("/dev/disk/by-uuid/gone", None),
        ("/dev/block/8:3", "sda3"),
        ("/dev/mapper/ubuntu--vg-root--1", "dm-0"),
        ("/dev/ubuntu-vg/root-1", "dm-0"),
        ("/dev/ubuntu-vg/home", None),
        ("/dev/mapper/luks-1", "dm-1"),
        ("/dev/md/home", "md127"),
        ("/dev/md127", "md127"),
        ("/dev/cciss/c0d0p1", "cciss!c0d0p1"),
        ("/dev/stale", None),
        ("/dev/root", None),
        ("/etc/passwd", None),
        ("", None),
    ):
        assert found.device_named(path) == device, path
    assert [found.abstraction(d) for d in ("dm-0", "dm-1", "md127", "sda3")] == ["lvm", "crypt", "md", ""]


# -- separate file systems -------------------------------------------------------------------------------------


def test_separate_boot(tmp_path: Path) -> None:
    found = volumes(tmp_path, {**PC, f"/boot/{KERNEL}": "k", "/boot/efi/EFI/debian/grub.cfg": "g"}, *MOUNTS)
    boot, path = found.holding(f"/boot/{KERNEL}")
    assert (boot.name, path) == ("/dev/sda2", f"/{KERNEL}")
    root, path = found.holding("/etc/fstab")
    assert (root.name, path) == ("/dev/sda3", "/etc/fstab")
    assert found.locate(boot, f"/{KERNEL}") == f"/boot/{KERNEL}"
    assert found.locate(boot, f"{KERNEL}//") == f"/boot/{KERNEL}"
    # What lies below /boot on the root file system is shadowed: the loader sees it, this machine does not.
    assert found.locate(root, f"/boot/{KERNEL}") is None
    assert found.locate(boot, "/gone") == "/boot/gone"


def test_fat_does_not_care_for_letter_case(tmp_path: Path) -> None:
    found = volumes(tmp_path, {**PC, "/boot/efi/efi/Debian/grubx64.efi": "g", "/boot/x": ""}, *MOUNTS)
    esp = found.esp()
    assert esp is not None
    assert esp.name == "/dev/sda1"
    assert found.locate(esp, "/EFI/debian/GRUBX64.EFI") == "/boot/efi/efi/Debian/grubx64.efi"
    boot = found.holding("/boot/x")[0]
    assert found.locate(boot, "/X") == "/boot/X"


def test_a_volume_that_is_not_mounted(tmp_path: Path) -> None:
    found = volumes(tmp_path, PC, MOUNTS[0])
    boot = found.tagged("UUID", BOOT)
    assert boot is not None
    assert not boot.assumed
    assert boot.fstype == "ext4"
    assert found.locate(boot, f"/{KERNEL}") is None
    esp = found.esp()
    assert esp is not None
    assert found.locate(esp, "/EFI/BOOT/BOOTX64.EFI") is None


def test_an_empty_directory_for_the_esp_is_no_esp(tmp_path: Path) -> None:
    only = disk(sda2=f"E:ID_FS_UUID={BOOT}", sda3=f"E:ID_FS_UUID={ROOT}")
    mounted = volumes(
        tmp_path / "a", {**only, "/boot/efi": None}, "8:2 / / ext4 /dev/sda3", "8:1 / /boot ext4 /dev/sda2"
    )
    assert mounted.esp() is None
    assert volumes(tmp_path / "b", {"/boot/efi": None, "/etc/fstab": f"UUID={ROOT} / ext4\n"}).esp() is None
    assert volumes(tmp_path / "c", {"/boot/efi": None}).esp() is None


def test_an_esp_at_boot(tmp_path: Path) -> None:
    found = volumes(tmp_path / "a", {"/boot/EFI/systemd": None}, "8:3 / / ext4 /dev/sda3", "8:1 / /boot vfat /dev/sda1")
    esp = found.esp()
    assert esp is not None
    assert esp.name == "/dev/sda1"
    bare = volumes(tmp_path / "b", {"/boot/EFI/systemd": None}).esp()
    assert bare is not None
    assert bare.trees == (("/", "/boot"),)


def test_shadowed_by_a_second_mount(tmp_path: Path) -> None:
    found = volumes(tmp_path, {**PC, "/boot/x": ""}, *MOUNTS[:2], "8:1 / /boot vfat /dev/sda1")
    assert found.holding("/boot/x")[0].name == "/dev/sda1"
    boot = found.tagged("UUID", BOOT)
    assert boot is not None
    assert boot.trees == ()
    assert found.locate(boot, "/x") is None


def test_bind_mounts_of_one_device(tmp_path: Path) -> None:
    files: dict[str, Content] = {**PC, "/srv/www/a": "", "/var/www/b": "", "/boot/k": ""}
    found = volumes(tmp_path, files, MOUNTS[0], "8:3 /srv/www /var/www ext4 /dev/sda3", "8:3 /boot /mnt ext4 /dev/sda3")
    root, path = found.holding("/var/www/b")
    assert (root.name, path) == ("/dev/sda3", "/srv/www/b")
    assert found.locate(root, "/srv/www/a") == "/srv/www/a"
    assert found.locate(root, "/boot/k") in ("/boot/k", "/mnt/k")
    assert len(found.seen) == 1


def test_many_mounts_are_no_trouble(tmp_path: Path) -> None:
    many = [f"0:{n} / /run/{n} tmpfs tmpfs" for n in range(3000)]
    found = volumes(tmp_path, PC, *MOUNTS, *many)
    assert len(found.seen) == 4


# -- btrfs -----------------------------------------------------------------------------------------------------


def test_btrfs_subvolumes(tmp_path: Path) -> None:
    files: dict[str, Content] = {
        **disk(sda2=f"E:ID_FS_UUID={ROOT} E:ID_FS_TYPE=btrfs"),
        f"/boot/{KERNEL}": "",
        "/home/x": "",
    }
    mounts = ("0:30 /@ / btrfs /dev/sda2", "0:30 /@home /home btrfs /dev/sda2")
    found = volumes(tmp_path, files, *mounts)
    root = found.tagged("UUID", ROOT)
    assert root is not None
    assert root.devices == {"sda2"}
    assert found.locate(root, f"/@/boot/{KERNEL}") == f"/boot/{KERNEL}"
    assert found.locate(root, "/@home/x") == "/home/x"
    assert found.holding("/home/x") == (root, "/@home/x")
    assert found.locate(root, "/@snapshots/1/boot/vmlinuz") is None
    # openSUSE's GRUB reads relative to the default subvolume.
    assert found.locate(root, f"/boot/{KERNEL}") == f"/boot/{KERNEL}"


def test_btrfs_by_fstab_alone(tmp_path: Path) -> None:
    lines = f"UUID={ROOT} / btrfs compress=zstd,subvol=@ 0 0\nUUID={ROOT} /home btrfs subvol=/@home 0 0\n"
    found = volumes(tmp_path, {"/etc/fstab": lines, f"/boot/{KERNEL}": ""})
    root = found.tagged("UUID", ROOT)
    assert root is not None
    assert not root.assumed
    assert found.locate(root, f"/@/boot/{KERNEL}") == f"/boot/{KERNEL}"


def test_btrfs_on_several_devices(tmp_path: Path) -> None:
    files: dict[str, Content] = {
        **disk(sda2="E:X=1", sdb2="E:X=1"),
        f"/dev/disk/by-uuid/{ROOT}": Link("../../sdb2"),
        f"/sys/fs/btrfs/{ROOT}/devices/sda2": Link("x"),
        f"/sys/fs/btrfs/{ROOT}/devices/sdb2": Link("x"),
    }
    found = volumes(tmp_path, files, "0:30 / / btrfs /dev/sda2")
    root = found.tagged("UUID", ROOT)
    assert root is not None
    assert root.name == "/dev/sda2"


def test_a_subvolume_that_was_renamed(tmp_path: Path) -> None:
    files = disk(sda2=f"E:ID_FS_UUID={ROOT} E:ID_FS_TYPE=btrfs")
    found = volumes(tmp_path / "1", files, "0:30 /@ / btrfs /dev/sda2")
    assert found.has_subvolume(found.seen[0], "@") is True
    assert found.has_subvolume(found.seen[0], "/") is True
    assert found.has_subvolume(found.seen[0], "/@home") is None
    mounts = ("0:30 /@ / btrfs /dev/sda2", "0:30 / /top btrfs /dev/sda2")
    found = volumes(tmp_path / "2", {**files, "/top/@home": None}, *mounts)
    assert found.has_subvolume(found.seen[0], "@home") is True
    assert found.has_subvolume(found.seen[0], "@old") is False


def test_what_btrfs_lists() -> None:
    # btrfs-progs 6.2, of a file system whose subvolume `@` is mounted.
    listed = b"""ID 256 gen 7 top level 5 path <FS_TREE>/@
ID 257 gen 7 top level 5 path <FS_TREE>/@ho me
ID 258 gen 7 top level 256 path @/x
ID 260 gen 7 top level 259 path <FS_TREE>/@/s/1/deep
"""
    assert subvolumes(listed) == {"/@", "/@ho me", "/@/x", "/@/s/1/deep"}


# -- few facts -------------------------------------------------------------------------------------------------


def test_a_bare_tree_with_fstab(tmp_path: Path) -> None:
    found = volumes(tmp_path, {"/etc/fstab": FSTAB, f"/boot/{KERNEL}": "", "/boot/efi/EFI/debian": None})
    boot = found.tagged("UUID", BOOT.upper())
    assert boot is not None
    assert found.locate(boot, f"/{KERNEL}") == f"/boot/{KERNEL}"
    esp = found.esp()
    assert esp is not None
    assert esp.trees == (("/", "/boot/efi"),)
    other = found.tagged("UUID", "5afe0bda-0000-4000-8000-0000000000ff")
    assert other is not None
    assert other.assumed


def test_quotes_in_fstab(tmp_path: Path) -> None:
    found = volumes(tmp_path, {"/etc/fstab": f'UUID="{ROOT}" / ext4 defaults 0 1\n'})
    root = found.tagged("UUID", ROOT)
    assert root is not None
    assert not root.assumed


def test_a_bare_tree_without_anything(tmp_path: Path) -> None:
    found = volumes(tmp_path, {f"/boot/{KERNEL}": ""})
    root = found.tagged("UUID", ROOT)
    assert root is not None
    assert root.assumed
    assert found.locate(root, f"/boot/{KERNEL}") == f"/boot/{KERNEL}"
    assert found.locate(root, f"/{KERNEL}") == f"/boot/{KERNEL}"
    assert found.holding("/boot/x")[0].assumed
    assert found.esp() is None
    assert found.xbootldr() is None
    assert found.device_named("/dev/sda1") is None


def test_udev_without_sysfs(tmp_path: Path) -> None:
    files = {path: content for path, content in PC.items() if not path.startswith("/sys")}
    found = volumes(tmp_path, files, "8:3 / / ext4 /dev/root", *MOUNTS[1:])
    root = found.tagged("UUID", ROOT)
    assert root is not None
    assert ("/", "/") in root.trees


# -- autofs, overlay, odd roots --------------------------------------------------------------------------------


@pytest.mark.parametrize("fstab", ["", f"UUID={ESP} /efi vfat noauto,x-systemd.automount\n"])
def test_an_automounted_esp(tmp_path: Path, fstab: str) -> None:
    files: dict[str, Content] = {**PC, "/efi/EFI/systemd/systemd-bootx64.efi": "", "/etc/fstab": fstab}
    found = volumes(tmp_path, files, MOUNTS[0], "0:40 / /efi autofs systemd-1")
    esp = found.esp()
    assert esp is not None
    assert esp.devices == {"sda1"}
    assert found.tagged("PARTUUID", "aaaa-01") == esp
    assert found.locate(esp, "/EFI/systemd/systemd-bootx64.efi") == "/efi/EFI/systemd/systemd-bootx64.efi"


def test_an_automounted_esp_in_use(tmp_path: Path) -> None:
    mounts = (MOUNTS[0], "0:40 / /efi autofs systemd-1", "8:1 / /efi vfat /dev/sda1")
    found = volumes(tmp_path, {**PC, "/efi/EFI/x": ""}, *mounts)
    esp = found.esp()
    assert esp is not None
    assert (esp.name, esp.trees) == ("/dev/sda1", (("/", "/efi"),))


def test_xbootldr_at_boot_by_gpt_auto(tmp_path: Path) -> None:
    files = disk(
        sda1=f"E:ID_PART_ENTRY_TYPE={ESP_TYPE} E:ID_FS_TYPE=vfat",
        sda2=f"E:ID_PART_ENTRY_TYPE={XBOOTLDR_TYPE} E:ID_FS_TYPE=vfat",
        sda3=f"E:ID_FS_UUID={ROOT}",
    )
    files.update({"/boot/loader/entries/a.conf": "", "/efi/EFI/x": ""})
    found = volumes(tmp_path, files, MOUNTS[0], "0:40 / /boot autofs systemd-1", "0:41 / /efi autofs systemd-1")
    boot, esp = found.xbootldr(), found.esp()
    assert boot is not None
    assert esp is not None
    assert boot.devices == {"sda2"}
    assert boot.trees == (("/", "/boot"),)
    assert esp.devices == {"sda1"}
    assert esp.trees == (("/", "/efi"),)


def test_an_automount_that_was_never_used_is_not_seen(tmp_path: Path) -> None:
    found = volumes(tmp_path, {**PC, "/efi": None}, MOUNTS[0], "0:40 / /efi autofs systemd-1")
    esp = found.esp()
    assert esp is not None
    assert found.locate(esp, "/EFI/systemd") is None


def test_overlay_root(tmp_path: Path) -> None:
    mounts = ("0:30 / / overlay overlayroot", "8:3 / /media/root-ro ext4 /dev/sda3", "8:2 / /boot ext4 /dev/sda2")
    found = volumes(tmp_path, {**PC, f"/boot/{KERNEL}": "", "/media/root-ro/etc/fstab": ""}, *mounts)
    root = found.tagged("UUID", ROOT)
    assert root is not None
    assert found.locate(root, "/etc/fstab") == "/media/root-ro/etc/fstab"
    assert found.holding(f"/boot/{KERNEL}")[0].name == "/dev/sda2"
    assert found.holding("/etc")[0].assumed


def test_dev_root(tmp_path: Path) -> None:
    found = volumes(tmp_path, PC, "8:3 / / ext4 /dev/root")
    root = found.tagged("UUID", ROOT)
    assert root is not None
    assert root.devices == {"sda3"}
    assert root.trees == (("/", "/"),)


def test_remote_and_zfs_roots_have_no_device(tmp_path: Path) -> None:
    for number, line in enumerate(("0:50 / / nfs4 server:/export", "0:27 / / zfs rpool/ROOT/debian")):
        found = volumes(tmp_path / str(number), {"/etc/x": ""}, line)
        root, path = found.holding("/etc/x")
        assert (root.devices, path) == (frozenset(), "/etc/x")
