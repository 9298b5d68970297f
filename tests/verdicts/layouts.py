"""Layouts of disks and loaders that Debian's packages alone do not give, each from its documentation.

The facts follow what the kernel and udev of such a machine write: sysfs(5), proc_pid_mountinfo(5), and udev's database
(`E:` lines in /run/udev/data).
"""

from __future__ import annotations

import os
import shutil
import struct
from collections.abc import Mapping, Sequence

from tests.unit.layouts import Device, esp
from tests.unit.layouts import facts as device_facts
from tests.unit.trees import Link
from tests.verdicts import images
from tests.verdicts.tree import MENU, Tree

BOOT_UUID = "5afe0b07-0000-4000-8000-0000000000b0"
ESP_UUID = "5AFE-0E59"
ESP_PARTUUID = "5afe0e59-0000-4000-8000-0000000000e5"


DISK = Device("vda", "254:0")


def root(tree: Tree, name: str = "vda1", number: str = "254:1", fstype: str = "ext4") -> Device:
    """The partition with the root file system."""
    return Device(name, number, tree.uuid, fstype, partuuid="5afe0bda-01")


ROOT_MOUNT = "254:1 / / ext4 /dev/vda1"


def facts(tree: Tree, devices: Sequence[Device], mounts: Sequence[str], cmdline: str = "") -> None:
    """What the running kernel and udev tell of these devices and mounts, instead of the machine's own facts."""
    for directory in ("sys", "proc", "run", "dev"):
        shutil.rmtree(tree.host(f"/{directory}"))
        tree.mkdir(f"/{directory}")
    release = tree.releases[-1]
    cmdline = cmdline or f"BOOT_IMAGE=/boot/vmlinuz-{release} root=UUID={tree.uuid} ro quiet"
    for path, content in device_facts(devices, mounts, cmdline=cmdline, running=release).items():
        if isinstance(content, Link):
            tree.link(content.target, path)
        elif content is not None:
            tree.write(path, content)


# -- disks -------------------------------------------------------------------------------------------------------


def separate_boot(tree: Tree, *, mounted: bool = True, fstype: str = "ext4") -> None:
    """/boot on a partition of its own, as the installer's "separate /boot" makes it."""
    tree.mount_line(f"UUID={BOOT_UUID} /boot {fstype} defaults 0 2")
    boot = Device("vda1", "254:1", BOOT_UUID, fstype, partuuid="5afe0bda-01")
    above = Device("vda2", "254:2", tree.uuid, "ext4", partuuid="5afe0bda-02")
    mounts = ["254:2 / / ext4 /dev/vda2", f"254:1 / /boot {fstype} /dev/vda1"]
    facts(tree, [DISK, boot, above], mounts if mounted else mounts[:1])
    tree.edit(MENU, rf"(search --no-floppy --fs-uuid --set=root .*){tree.uuid}", rf"\g<1>{BOOT_UUID}")
    tree.edit(MENU, r"^(\s+(?:linux|initrd)\t)/boot/", r"\1/")


def btrfs(tree: Tree, *, subvolume: str = "@") -> None:
    """The root in a subvolume of btrfs, and /boot in it: GRUB's paths begin with the subvolume."""
    tree.write("/etc/fstab", f"UUID={tree.uuid} / btrfs defaults,subvol={subvolume} 0 0\n")
    facts(tree, [DISK, root(tree, fstype="btrfs")], [f"0:26 /{subvolume} / btrfs /dev/vda1"])
    tree.edit(MENU, r"^(\s+(?:linux|initrd)\t)/boot/", rf"\1/{subvolume}/boot/")
    tree.edit(MENU, r"(root=UUID=\S+ ro )", rf"\1rootflags=subvol={subvolume} ")


def mapped_root(tree: Tree, name: str, dm_uuid: str, fstype: str = "ext4", boot_fstype: str = "ext4") -> None:
    """The root on a device-mapper device above vda2, and a small /boot on vda1."""
    separate_boot(tree, fstype=boot_fstype)
    tree.edit("/etc/fstab", r"^UUID=\S+ /\s+ext4", f"/dev/mapper/{name} / {fstype}")
    layer = "crypto_LUKS" if dm_uuid.startswith("CRYPT") else "LVM2_member"
    links = (name.replace("-", "/", 1),) if layer == "LVM2_member" else ()
    devices = [
        DISK,
        Device("vda1", "254:1", BOOT_UUID, boot_fstype, partuuid="5afe0bda-01"),
        Device("vda2", "254:2", "5afe0bda-1a75-4000-8000-0000000000a2", layer, partuuid="5afe0bda-02"),
        Device("dm-0", "253:0", tree.uuid, fstype, mapper=name, dm_uuid=dm_uuid, below=("vda2",), links=links),
    ]
    mounts = [f"253:0 / / {fstype} /dev/mapper/{name}", f"254:1 / /boot {boot_fstype} /dev/vda1"]
    facts(tree, devices, mounts, cmdline=f"BOOT_IMAGE=/vmlinuz-{tree.older} root=/dev/mapper/{name} ro")
    if os.path.exists(tree.host(MENU)):
        tree.edit(MENU, r"root=UUID=\S+", f"root=/dev/mapper/{name}")


def luks(tree: Tree) -> None:
    """The installer's encrypted root."""
    mapped_root(tree, "vda2_crypt", f"CRYPT-LUKS2-{LUKS_UUID.replace('-', '')}-vda2_crypt")
    tree.write("/etc/crypttab", CRYPTTAB)


def rhel_lvm(tree: Tree) -> None:
    """RHEL's root on LVM, with its boot entries."""
    mapped_root(tree, "rhel-root", "LVM-" + "a" * 64)
    options = "root=/dev/mapper/rhel-root ro rd.lvm.lv=rhel/root"
    saved = f"{MACHINE_ID}-{tree.newest}"
    grub_bls(tree, "$kernelopts", prefix="/", kernelopts=options, saved_entry=saved)


LUKS_UUID = "5afe0bda-1a75-4000-8000-0000000000a2"
CRYPTTAB = f"vda2_crypt UUID={LUKS_UUID} none luks,discard\n"
_RULES = ("10-dm", "11-dm-lvm", "55-dm", "60-persistent-storage-dm", "64-lvm", "95-dm-notify")
OPENS: Mapping[str, bytes] = {
    # What cryptsetup-initramfs, dmsetup and dracut's module lvm put into images, but for what is in these files.
    **{f"usr/sbin/{name}": b"#!/bin/sh\n" for name in ("cryptsetup", "dmsetup", "lvm", "lvm_scan")},
    **{f"usr/lib/cryptsetup/{name}": b"#!/bin/sh\n" for name in ("askpass", "functions")},
    **{f"usr/lib/udev/rules.d/{name}.rules": b"" for name in _RULES},
    "scripts/local-top/cryptroot": b"#!/bin/sh\n",
    "cryptroot/crypttab": CRYPTTAB.encode(),
}


def opened_early(tree: Tree, *modules: str) -> None:
    """What the generator puts into the images for such a root."""
    for release in tree.releases:
        image = images.with_modules(
            tree.read(tree.initrd(release)), release, tree.host(tree.modules(release)), *modules
        )
        tree.write(tree.initrd(release), images.with_files(image, OPENS))


# -- BLS in GRUB -------------------------------------------------------------------------------------------------

MACHINE_ID = "0123456789abcdef0123456789abcdef"


def grub_bls(tree: Tree, options: str, *, prefix: str = "/boot", **environment: str) -> None:
    """Fedora's and RHEL's way: /boot/loader/entries, a grub.cfg that calls blscfg, grubenv beside it."""
    tree.rename("/boot/grub", "/boot/grub2")
    for release in tree.releases:
        where = "" if prefix == "/" else prefix
        text = f"""title Debian GNU/Linux ({release})
version {release}
linux {where}/vmlinuz-{release}
initrd {where}/initrd.img-{release}
options {options}
grub_users $grub_users
grub_arg --unrestricted
grub_class debian
"""
        tree.write(f"/boot/loader/entries/{MACHINE_ID}-{release}.conf", text)
    search = f"search --no-floppy --fs-uuid --set=root {BOOT_UUID if prefix == '/' else tree.uuid}"
    menu = f"""set pager=1
if [ -f ${{config_directory}}/grubenv ]; then
  load_env -f ${{config_directory}}/grubenv
elif [ -s $prefix/grubenv ]; then
  load_env
fi
if [ "${{next_entry}}" ] ; then
   set default="${{next_entry}}"
   set next_entry=
   save_env next_entry
   set boot_once=true
else
   set default="${{saved_entry}}"
fi
function savedefault {{
  if [ -z "${{boot_once}}" ]; then
    saved_entry="${{chosen}}"
    save_env saved_entry
  fi
}}
terminal_output console
if [ x$feature_timeout_style = xy ] ; then
  set timeout_style=menu
  set timeout=5
else
  set timeout=5
fi
insmod part_gpt
insmod ext2
{search}
insmod blscfg
blscfg
if [ "${{boot_success}}" = "1" -o "${{boot_indeterminate}}" = "1" ]; then
  set last_boot_ok=1
else
  set last_boot_ok=0
fi
if [ "${{boot_indeterminate}}" ]; then
  set boot_indeterminate=0
fi
set boot_success=0
save_env boot_success boot_indeterminate
if [ x$feature_timeout_style = xy ] ; then
  if [ "${{menu_show_once}}" ]; then
    unset menu_show_once
    save_env menu_show_once
    set timeout_style=menu
    set timeout=60
  elif [ "${{menu_auto_hide}}" -a "${{last_boot_ok}}" = "1" ]; then
    set orig_timeout_style=${{timeout_style}}
    set orig_timeout=${{timeout}}
    set timeout_style=hidden
    set timeout=1
  fi
fi
"""
    tree.write("/boot/grub2/grub.cfg", menu)
    lines = "".join(f"{name}={value}\n" for name, value in environment.items())
    tree.write("/boot/grub2/grubenv", ("# GRUB Environment Block\n" + lines).ljust(1024, "#"))


# -- systemd-boot ------------------------------------------------------------------------------------------------


def on_esp(release: str, name: str) -> str:
    """Where kernel-install(8) puts a kernel's files."""
    return f"/boot/{MACHINE_ID}/{release}/{name}"


def efi_program(tree: Tree, name: str) -> bytes:
    """A program of the package systemd-boot-efi, from the tree where it is installed."""
    return tree.read(f"/usr/lib/systemd/boot/efi/{name}")


def systemd_boot(
    tree: Tree,
    *,
    counters: Mapping[str, str] | None = None,
    only: Sequence[str] = (),
    keep_grub: bool = False,
    default: str = "",
) -> None:
    """The ESP at /boot, entries as kernel-install(8) makes them, systemd-boot on the default path."""
    for release in only or tree.releases:
        directory = f"/boot/{MACHINE_ID}/{release}"
        tree.write(f"{directory}/linux", tree.read(tree.vmlinuz(release)))
        tree.write(f"{directory}/initrd.img", tree.read(tree.initrd(release)))
        text = f"""title      Debian GNU/Linux
version    {release}
machine-id {MACHINE_ID}
sort-key   debian
options    root=UUID={tree.uuid} ro quiet
linux      /{MACHINE_ID}/{release}/linux
initrd     /{MACHINE_ID}/{release}/initrd.img
"""
        suffix = (counters or {}).get(release, "")
        tree.write(f"/boot/loader/entries/{MACHINE_ID}-{release}{suffix}.conf", text)
        if not keep_grub:
            tree.remove(tree.vmlinuz(release), tree.initrd(release))
    _loader(tree, keep_grub=keep_grub, default=default)


def _loader(tree: Tree, *, keep_grub: bool = False, default: str = "") -> None:
    program = efi_program(tree, "systemd-bootx64.efi")
    tree.write("/boot/EFI/systemd/systemd-bootx64.efi", program)
    tree.write("/boot/EFI/BOOT/BOOTX64.EFI", program)
    tree.write("/boot/loader/loader.conf", f"timeout 3\n{f'default {default}' if default else ''}\n")
    tree.write("/etc/machine-id", MACHINE_ID + "\n")
    if keep_grub:
        return
    tree.remove("/boot/grub")
    esp_facts(tree, "/boot")


def esp_facts(tree: Tree, point: str, *, options: str = "umask=0077") -> None:
    """The ESP on vdb, mounted at `point`."""
    tree.mount_line(f"UUID={ESP_UUID} {point} vfat {options} 0 1")
    first = esp("vda1", "254:1", ESP_UUID, partuuid=ESP_PARTUUID)
    second = Device("vda2", "254:2", tree.uuid, "ext4", partuuid="5afe0bda-0000-4000-8000-000000000002")
    mounts = ["254:2 / / ext4 /dev/vda2", f"254:1 / {point} vfat /dev/vda1"]
    facts(tree, [DISK, first, second], mounts, cmdline=f"root=UUID={tree.uuid} ro quiet")
    efi_variables(tree)


_VENDOR = "4a67b082-0a4c-41cf-b6c7-440b29bb8c4f"
_GLOBAL = "8be4df61-93ca-11d2-aa0d-00e098032b8c"


def efi_variables(tree: Tree, **values: str) -> None:
    """Variables of systemd-boot's vendor GUID (Boot Loader Interface), and the firmware's Secure Boot state: off."""
    directory = "/sys/firmware/efi/efivars"
    for name, value in values.items():
        tree.write(f"{directory}/{name}-{_VENDOR}", b"\x06\0\0\0" + (value + "\0").encode("utf-16-le"))
    tree.write(f"{directory}/SecureBoot-{_GLOBAL}", b"\x06\0\0\0\0")
    tree.write(f"{directory}/LoaderInfo-{_VENDOR}", b"\x06\0\0\0" + "systemd-boot 252\0".encode("utf-16-le"))


def unified(tree: Tree) -> None:
    """A unified kernel image for each kernel in /EFI/Linux, and systemd-boot (UAPI.5; systemd-stub(7))."""
    stub = efi_program(tree, "linuxx64.efi.stub")
    os_release = tree.read("/usr/lib/os-release")
    for release in tree.releases:
        sections = {
            ".osrel": os_release,
            ".cmdline": f"root=UUID={tree.uuid} ro quiet console=ttyS0".encode(),
            ".uname": release.encode(),
            ".linux": tree.read(tree.vmlinuz(release)),
            ".initrd": tree.read(tree.initrd(release)),
        }
        tree.write(f"/boot/EFI/Linux/{MACHINE_ID}-{release}.efi", with_sections(stub, sections))
        tree.remove(tree.vmlinuz(release), tree.initrd(release))
    _loader(tree)


def with_sections(program: bytes, sections: Mapping[str, bytes]) -> bytes:
    """A PE file with more sections behind its own (PE/COFF specification, "Section Table")."""
    data = bytearray(program)
    pe = int.from_bytes(data[0x3C:0x40], "little")
    count = int.from_bytes(data[pe + 6 : pe + 8], "little")
    optional = pe + 24
    table = optional + int.from_bytes(data[pe + 20 : pe + 22], "little")
    align = int.from_bytes(data[optional + 32 : optional + 36], "little")
    file_align = int.from_bytes(data[optional + 36 : optional + 40], "little")
    address = 0
    for at in range(table, table + 40 * count, 40):
        size, start = (int.from_bytes(data[at + o : at + o + 4], "little") for o in (8, 12))
        address = max(address, start + size)
    first = min(int.from_bytes(data[at + 20 : at + 24], "little") for at in range(table, table + 40 * count, 40))
    assert table + 40 * (count + len(sections)) <= first, "no room for section headers"
    data += bytes(-len(data) % file_align)
    for number, (name, content) in enumerate(sections.items(), count):
        address = -(-address // align) * align
        raw = content + bytes(-len(content) % file_align)
        header = struct.pack(
            "<8s6I2HI", name.encode(), len(content), address, len(raw), len(data), 0, 0, 0, 0, 0x40000040
        )
        data[table + 40 * number : table + 40 * number + 40] = header
        data += raw
        address += len(content)
    data[pe + 6 : pe + 8] = (count + len(sections)).to_bytes(2, "little")
    size_of_image = -(-address // align) * align
    data[optional + 56 : optional + 60] = size_of_image.to_bytes(4, "little")
    return bytes(data)
