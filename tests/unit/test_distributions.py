"""The layouts of distributions that nobody here starts, each from its documentation: healthy, and with one fault."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from safeupdate.judge import judge
from safeupdate.machine import Completed, Machine
from safeupdate.report import Report
from tests.unit import efi, layouts
from tests.unit.layouts import (
    ARCH_TOOLS,
    BOOT,
    DEBIAN_TOOLS,
    DPKG,
    ESP,
    ESP2,
    FEDORA_TOOLS,
    HOME,
    LUKS,
    MACHINE_ID,
    ROOT,
    SUSE_TOOLS,
    SWAP,
    Device,
    Fault,
    Files,
    Layout,
    bls_entry,
    bls_menu,
    build,
    config,
    debian_menu,
    facts,
    firmware,
    grubenv,
    image,
    kernel_image,
    lv,
    merged,
    modules,
    system,
)
from tests.unit.trees import Link

GONE = "5afe0bda-ffff-4000-8000-00000000000f"

# -- Fedora ----------------------------------------------------------------------------------------------------

F_NEW, F_OLD = "6.11.4-301.fc41.x86_64", "6.8.5-301.fc40.x86_64"
FEDORA_OPTIONS = f"root=UUID={ROOT} ro rootflags=subvol=root rhgb quiet"
FEDORA_FSTAB = (
    "# Created by anaconda\n#\n"
    f"UUID={ROOT} /                       btrfs   subvol=root,compress=zstd:1 0 0\n"
    f"UUID={BOOT} /boot                   ext4    defaults        1 2\n"
    f"UUID={ESP}          /boot/efi               vfat    umask=0077,shortname=winnt 0 2\n"
    f"UUID={ROOT} /home                   btrfs   subvol=home,compress=zstd:1 0 0\n"
)


def fedora_kernel(release: str, token: str = MACHINE_ID) -> Files:
    return {
        f"/boot/vmlinuz-{release}": kernel_image(release),
        f"/usr/lib/modules/{release}/vmlinuz": kernel_image(release),
        f"/usr/lib/modules/{release}/config": config("EXT4_FS", "MODULE_COMPRESS_XZ"),
        f"/boot/config-{release}": config("EXT4_FS", "MODULE_COMPRESS_XZ"),
        f"/boot/initramfs-{release}.img": image("dracut", release, ".ko.xz", microcode=True, kind="xz"),
        **modules(release, ".ko.xz", built_in=("fs/ext4/ext4",)),
        f"/boot/loader/entries/{token}-{release}.conf": bls_entry("Fedora Linux", release, FEDORA_OPTIONS),
    }


FEDORA_RESCUE: Files = {
    f"/boot/vmlinuz-0-rescue-{MACHINE_ID}": kernel_image(F_OLD),
    f"/boot/initramfs-0-rescue-{MACHINE_ID}.img": image("dracut", F_OLD, ".ko.xz"),
    f"/boot/loader/entries/{MACHINE_ID}-0-rescue.conf": bls_entry(
        "Fedora Linux", f"0-rescue-{MACHINE_ID}", FEDORA_OPTIONS
    ),
}
FEDORA_ESP: Files = {
    "/boot/efi/EFI/fedora/shimx64.efi": efi.shim(),
    "/boot/efi/EFI/fedora/grubx64.efi": efi.grub("/EFI/fedora"),
    "/boot/efi/EFI/fedora/grub.cfg": (
        f"search --no-floppy --root-dev-only --fs-uuid --set=dev {BOOT}\nset prefix=($dev)/grub2\nexport $prefix\n"
        "configfile $prefix/grub.cfg\n"
    ),
    "/boot/efi/EFI/BOOT/BOOTX64.EFI": efi.shim(),
    "/boot/efi/EFI/BOOT/fbx64.efi": efi.pe([(".text", b"fallback")]),
}
NVME = (
    Device("nvme0n1", "259:0"),
    layouts.esp("nvme0n1p1", "259:1"),
    Device("nvme0n1p2", "259:2", BOOT, "ext4", partuuid="11111111-0000-4000-8000-000000000002"),
    Device("nvme0n1p3", "259:3", ROOT, "btrfs", "fedora", partuuid="11111111-0000-4000-8000-000000000003"),
    Device("zram0", "252:0"),
)
FEDORA_MOUNTS = (
    *("0:33 /root / btrfs /dev/nvme0n1p3", "0:33 /home /home btrfs /dev/nvme0n1p3"),
    *("259:2 / /boot ext4 /dev/nvme0n1p2", "259:1 / /boot/efi vfat /dev/nvme0n1p1"),
)
FEDORA_TREE = merged(
    system('NAME="Fedora Linux"\nID=fedora\nVERSION_ID=41\nVARIANT_ID=workstation\n', FEDORA_FSTAB, *FEDORA_TOOLS),
    facts(
        NVME,
        FEDORA_MOUNTS,
        cmdline=f"BOOT_IMAGE=(hd0,gpt2)/vmlinuz-{F_OLD} {FEDORA_OPTIONS}",
        running=F_OLD,
    ),
    fedora_kernel(F_NEW),
    fedora_kernel(F_OLD),
    FEDORA_RESCUE,
    bls_menu(BOOT, prefix=f"UUID={ROOT}"),
    {
        "/boot/grub2/grubenv": grubenv(
            saved_entry=f"{MACHINE_ID}-{F_NEW}", menu_auto_hide="1", boot_success="1", boot_indeterminate="0"
        ),
        "/usr/lib/systemd/zram-generator.conf": "[zram0]\nzram-size = min(ram, 8192)\n",
        "/proc/swaps": "Filename Type Size Used Priority\n/dev/zram0 partition 8388604 0 100\n",
    },
    FEDORA_ESP,
    firmware("\\EFI\\fedora\\shimx64.efi", "Fedora", secure=True),
)
FEDORA = Layout(
    "Fedora Workstation 41",
    "https://fedoraproject.org/wiki/Changes/BtrfsByDefault, .../BootLoaderSpecByDefault, .../HiddenGrubMenu",
    FEDORA_TREE,
    F_NEW,
    "as saved_entry asks",
    Fault(
        "initramfs.truncated",
        {f"/boot/initramfs-{F_NEW}.img": image("dracut", F_NEW, ".ko.xz", microcode=True)[:-900]},
        command=("dracut", "--force", f"/boot/initramfs-{F_NEW}.img", F_NEW),
    ),
)
FEDORA_ROOT = replace(
    FEDORA,
    name="Fedora whose entries name a root that is gone",
    fault=Fault(
        "boot-entry.root-missing",
        {
            f"/boot/loader/entries/{MACHINE_ID}-{F_NEW}.conf": bls_entry(
                "Fedora Linux", F_NEW, FEDORA_OPTIONS.replace(ROOT, GONE)
            )
        },
        command=("grubby", f"--update-kernel=/boot/vmlinuz-{F_NEW}"),
    ),
)
FEDORA_KERNEL_GONE = replace(
    FEDORA,
    name="Fedora with an entry of a kernel that was removed",
    fault=Fault(
        "boot-entry.kernel-missing",
        gone=(f"/boot/vmlinuz-{F_NEW}",),
        command=("kernel-install", "add", F_NEW, f"/usr/lib/modules/{F_NEW}/vmlinuz"),
    ),
)
FEDORA_NO_ENTRIES = replace(
    FEDORA,
    name="Fedora whose entries are lost",
    fault=Fault(
        "boot-entry.not-linux",
        gone=(
            *(f"/boot/loader/entries/{MACHINE_ID}-{name}.conf" for name in (F_NEW, F_OLD, "0-rescue")),
            "/boot/grub2/grubenv",
        ),
        command=("kernel-install", "add"),
    ),
)

LUKS_OPTIONS = f"root=UUID={ROOT} ro rootflags=subvol=root rd.luks.uuid=luks-{LUKS} rhgb quiet"
FEDORA_LUKS = replace(
    FEDORA,
    name="Fedora 42 on LUKS, /usr/sbin merged into /usr/bin",
    documented="https://fedoraproject.org/wiki/Changes/Unify_bin_and_sbin; dracut.cmdline(7)",
    files=merged(
        {
            path: content
            for path, content in FEDORA_TREE.items()
            if not path.startswith(("/usr/sbin/", "/sbin", "/sys/fs/btrfs/"))
        },
        {
            "/sbin": Link("usr/bin"),
            "/usr/sbin": Link("bin"),
            "/usr/bin/init": Link("../lib/systemd/systemd"),
            "/usr/bin/grub2-mkconfig": layouts.STATIC,
            "/usr/bin/grubby": layouts.STATIC,
            "/etc/crypttab": f"luks-{LUKS} UUID={LUKS} none discard\n",
            "/usr/lib/os-release": "ID=fedora\nVERSION_ID=42\n",
        },
        {
            f"/boot/loader/entries/{MACHINE_ID}-{release}.conf": bls_entry("Fedora Linux", release, LUKS_OPTIONS)
            for release in (F_NEW, F_OLD)
        },
        facts(
            (
                *NVME[:3],
                Device("nvme0n1p3", "259:3", LUKS, "crypto_LUKS", partuuid="11111111-0000-4000-8000-000000000003"),
                Device(
                    "dm-0",
                    "253:0",
                    ROOT,
                    "btrfs",
                    "fedora",
                    mapper=f"luks-{LUKS}",
                    dm_uuid=f"CRYPT-LUKS2-{LUKS.replace('-', '')}-luks-{LUKS}",
                    below=("nvme0n1p3",),
                ),
            ),
            (
                f"0:33 /root / btrfs /dev/mapper/luks-{LUKS}",
                f"0:33 /home /home btrfs /dev/mapper/luks-{LUKS}",
                *FEDORA_MOUNTS[2:],
            ),
            cmdline=f"BOOT_IMAGE=(hd0,gpt2)/vmlinuz-{F_OLD} {LUKS_OPTIONS}",
            running=F_OLD,
        ),
    ),
    fault=Fault(
        "boot-entry.luks-missing",
        {
            f"/boot/loader/entries/{MACHINE_ID}-{F_NEW}.conf": bls_entry(
                "Fedora Linux", F_NEW, LUKS_OPTIONS.replace(LUKS, GONE)
            )
        },
        command=("grubby", f"--update-kernel=/boot/vmlinuz-{F_NEW}"),
    ),
)

# -- RHEL ------------------------------------------------------------------------------------------------------

R_NEW, R_OLD = "5.14.0-427.13.1.el9_4.x86_64", "5.14.0-362.8.1.el9_3.x86_64"
RHEL_OPTIONS = (
    "root=/dev/mapper/rl_node--1-root ro crashkernel=1G-4G:192M,4G-64G:256M,64G-:512M "
    "resume=/dev/mapper/rl_node--1-swap rd.lvm.lv=rl_node-1/root rd.lvm.lv=rl_node-1/swap rhgb quiet"
)
RHEL_FSTAB = (
    "/dev/mapper/rl_node--1-root   /                       xfs     defaults        0 0\n"
    f"UUID={BOOT} /boot                   xfs     defaults        0 0\n"
    "/dev/mapper/rl_node--1-home   /home                   xfs     defaults        0 0\n"
    "/dev/mapper/rl_node--1-swap   none                    swap    defaults        0 0\n"
)
RHEL_LVS = (
    lv("dm-0", "253:0", "rl_node-1", "root", ROOT, "xfs", "sda2"),
    lv("dm-1", "253:1", "rl_node-1", "swap", SWAP, "swap", "sda2"),
    lv("dm-2", "253:2", "rl_node-1", "home", HOME, "xfs", "sda2"),
)
RHEL_MOUNTS = (
    *("253:0 / / xfs /dev/mapper/rl_node--1-root", "8:1 / /boot xfs /dev/sda1"),
    "253:2 / /home xfs /dev/mapper/rl_node--1-home",
)


def rhel_kernel(release: str, options: str) -> Files:
    entry = bls_entry("Rocky Linux", release, f"{options} $tuned_params", more="grub_class rocky\n")
    return {
        f"/boot/vmlinuz-{release}": kernel_image(release),
        f"/usr/lib/modules/{release}/vmlinuz": kernel_image(release),
        f"/usr/lib/modules/{release}/config": config(),
        f"/boot/initramfs-{release}.img": image("dracut", release, ".ko.xz", microcode=True),
        **modules(release, ".ko.xz", built_in=("fs/ext4/ext4",)),
        f"/boot/loader/entries/{MACHINE_ID}-{release}.conf": entry.replace(".img\n", ".img $tuned_initrd\n"),
    }


def rhel(options: str) -> Files:
    menu = bls_menu(BOOT, prefix="/dev/mapper/rl_node--1-root")
    text = str(menu["/boot/grub2/grub.cfg"])
    return merged(
        system('ID="rocky"\nID_LIKE="rhel centos fedora"\nVERSION_ID="9.4"\n', RHEL_FSTAB, *FEDORA_TOOLS),
        rhel_kernel(R_NEW, options),
        rhel_kernel(R_OLD, options),
        {"/boot/grub2/grub.cfg": 'set tuned_params=""\nset tuned_initrd=""\n' + text},
        {"/boot/grub2/i386-pc/normal.mod": "", "/boot/grub2/device.map": "(hd0) /dev/sda\n"},
    )


RHEL_BIOS = Layout(
    "Rocky Linux 9 on LVM, BIOS",
    "RHEL 9, Managing, monitoring, and updating the kernel; tuned's 00_tuned",
    merged(
        rhel(RHEL_OPTIONS),
        facts(
            (
                Device("sda", "8:0"),
                Device("sda1", "8:1", BOOT, "xfs", partuuid="5afe0e11-01"),
                Device("sda2", "8:2", "Zzzzzz-1111-2222-3333-4444-5555-aaaaaa", "LVM2_member", partuuid="5afe0e11-02"),
                *RHEL_LVS,
            ),
            RHEL_MOUNTS,
            cmdline=f"BOOT_IMAGE=(hd0,msdos1)/vmlinuz-{R_OLD} {RHEL_OPTIONS}",
            running=R_OLD,
        ),
        {"/boot/grub2/grubenv": grubenv(saved_entry=f"{MACHINE_ID}-{R_NEW}", boot_success="0")},
    ),
    R_NEW,
    "as saved_entry asks",
    Fault(
        "mounts.device-missing",
        {"/etc/fstab": RHEL_FSTAB.replace("rl_node--1-home", "rl_node-1-home")},
        command=("blkid",),
    ),
)
RHEL_KERNELOPTS = replace(
    RHEL_BIOS,
    name="RHEL 8 style: $kernelopts from grubenv, $tuned_params that nothing sets",
    files=merged(
        RHEL_BIOS.files,
        {
            f"/boot/loader/entries/{MACHINE_ID}-{release}.conf": bls_entry(
                "Red Hat Enterprise Linux", release, "$kernelopts $tuned_params", more="grub_class kernel\n"
            ).replace(".img\n", ".img $tuned_initrd\n")
            for release in (R_NEW, R_OLD)
        },
        {
            "/boot/grub2/grub.cfg": bls_menu(BOOT, prefix="/dev/mapper/rl_node--1-root")["/boot/grub2/grub.cfg"],
            "/boot/grub2/grubenv": grubenv(saved_entry=f"{MACHINE_ID}-{R_NEW}", kernelopts=RHEL_OPTIONS),
        },
    ),
    fault=Fault(
        "boot-entry.volume-missing",
        {
            "/boot/grub2/grubenv": grubenv(
                saved_entry=f"{MACHINE_ID}-{R_NEW}", kernelopts=RHEL_OPTIONS.replace("rl_node-1/root", "rl/root")
            )
        },
        command=("grubby", f"--update-kernel=/boot/vmlinuz-{R_NEW}", "--remove-args=rd.lvm.lv=rl/root"),
    ),
)
RHEL_UEFI = replace(
    RHEL_BIOS,
    name="Rocky Linux 9 on LVM, UEFI, the stub on the ESP",
    documented="RHEL 9.0 release notes: one grub.cfg, in /boot/grub2; a stub on the ESP",
    files=merged(
        rhel(RHEL_OPTIONS),
        facts(
            (
                Device("sda", "8:0"),
                layouts.esp("sda1", "8:1"),
                Device("sda2", "8:2", BOOT, "xfs", partuuid="11111111-0000-4000-8000-000000000002"),
                Device("sda3", "8:3", "Zz", "LVM2_member", partuuid="11111111-0000-4000-8000-000000000003"),
                *(replace(one, below=("sda3",)) for one in RHEL_LVS),
            ),
            (
                *(line.replace("8:1 / /boot xfs /dev/sda1", "8:2 / /boot xfs /dev/sda2") for line in RHEL_MOUNTS),
                "8:1 / /boot/efi vfat /dev/sda1",
            ),
            cmdline=f"BOOT_IMAGE=(hd0,gpt2)/vmlinuz-{R_OLD} {RHEL_OPTIONS}",
            running=R_OLD,
        ),
        {
            "/etc/fstab": RHEL_FSTAB + f"UUID={ESP} /boot/efi vfat umask=0077,shortname=winnt 0 2\n",
            "/boot/grub2/grubenv": grubenv(saved_entry=f"{MACHINE_ID}-{R_NEW}"),
            **{path.replace("/fedora/", "/rocky/"): content for path, content in FEDORA_ESP.items()},
            "/boot/efi/EFI/rocky/grubx64.efi": efi.grub("/EFI/rocky"),
            "/usr/sbin/grub2-install": layouts.STATIC,
        },
        firmware("\\EFI\\rocky\\shimx64.efi", "Rocky Linux"),
    ),
    fault=Fault(
        "boot-entry.grub-config-missing",
        gone=("/boot/efi/EFI/rocky/grub.cfg",),
        command=("dnf", "reinstall", "shim-*", "grub2-efi-*"),
    ),
)

# -- Ubuntu ----------------------------------------------------------------------------------------------------

U_NEW, U_OLD = "6.8.0-51-generic", "6.8.0-31-generic"
LV_UUID = "LVM-" + "x" * 32 + "ubuntu-lv".ljust(32, "y")
SERVER_FSTAB = (
    f"/dev/disk/by-id/dm-uuid-{LV_UUID} / ext4 defaults 0 1\n"
    f"/dev/disk/by-uuid/{BOOT} /boot ext4 defaults 0 1\n"
    f"/dev/disk/by-uuid/{ESP} /boot/efi vfat defaults 0 1\n"
    "/swap.img\tnone\tswap\tsw\t0\t0\n"
)
UBUNTU_OS = 'PRETTY_NAME="Ubuntu 24.04.1 LTS"\nID=ubuntu\nID_LIKE=debian\nVERSION_ID="24.04"\n'


def debian_kernel(release: str, *options: str, at: str = "/boot", generator: str = "initramfs-tools") -> Files:
    return {
        f"{at}/vmlinuz-{release}": kernel_image(release),
        f"{at}/initrd.img-{release}": image(generator, release),
        f"/boot/config-{release}": config(*options),
        **modules(release, built_in=[MODULES_OF[option] for option in options if option in MODULES_OF]),
        **{
            f"/var/lib/dpkg/info/{name.format(release)}.list": "".join(f"{path}\n" for path in paths)
            for name, paths in {
                "linux-headers-{}": ("/lib/modules", f"/lib/modules/{release}", f"/lib/modules/{release}/build"),
                PACKAGES.get(release.rsplit("-", maxsplit=1)[-1], "linux-image-{}"): (f"/boot/vmlinuz-{release}",),
                "linux-modules-{}": (f"/lib/modules/{release}", f"/lib/modules/{release}/kernel"),
            }.items()
        },
    }


MODULES_OF = {
    "EXT4_FS": "fs/ext4/ext4",
    "VIRTIO_BLK": "drivers/block/virtio_blk",
    "VIRTIO_PCI": "drivers/virtio/virtio_pci",
}
PACKAGES = {"pve": "proxmox-kernel-{}-signed"}
"""What brings the image, where it is not linux-image-RELEASE."""


def esp_stub(uuid: str, prefix: str, vendor: str) -> Files:
    """What grub-install of Debian and Ubuntu puts on the ESP with Secure Boot."""
    return {
        f"/boot/efi/EFI/{vendor}/shimx64.efi": efi.shim(),
        f"/boot/efi/EFI/{vendor}/grubx64.efi": efi.grub(f"/EFI/{vendor}"),
        f"/boot/efi/EFI/{vendor}/grub.cfg": (
            f"search.fs_uuid {uuid} root \nset prefix=($root)'{prefix}'\nconfigfile $prefix/grub.cfg\n"
        ),
    }


SERVER_ROOT = "root=/dev/mapper/ubuntu--vg-ubuntu--lv"
UBUNTU_SERVER = Layout(
    "Ubuntu 24.04 server on LVM",
    "https://canonical-subiquity.readthedocs-hosted.com (curtin's fstab), grub2 of Ubuntu",
    merged(
        system(UBUNTU_OS, SERVER_FSTAB, *DEBIAN_TOOLS),
        DPKG,
        debian_kernel(U_NEW),
        debian_kernel(U_OLD),
        facts(
            (
                Device("sda", "8:0"),
                layouts.esp("sda1", "8:1"),
                Device("sda2", "8:2", BOOT, "ext4", partuuid="11111111-0000-4000-8000-000000000002"),
                Device("sda3", "8:3", "Zz", "LVM2_member", partuuid="11111111-0000-4000-8000-000000000003"),
                replace(
                    lv("dm-0", "252:0", "ubuntu-vg", "ubuntu-lv", ROOT, "ext4", "sda3"),
                    links=("ubuntu-vg/ubuntu-lv", f"disk/by-id/dm-uuid-{LV_UUID}"),
                ),
                Device("loop0", "7:0", fstype="squashfs"),
            ),
            (
                "252:0 / / ext4 /dev/mapper/ubuntu--vg-ubuntu--lv",
                "8:2 / /boot ext4 /dev/sda2",
                "8:1 / /boot/efi vfat /dev/sda1",
                "7:0 / /snap/core22/1380 squashfs /dev/loop0",
                "0:26 /snapd/ns /run/snapd/ns tmpfs tmpfs",
            ),
            cmdline=f"BOOT_IMAGE=/vmlinuz-{U_OLD} {SERVER_ROOT} ro",
            running=U_OLD,
        ),
        {
            "/swap.img": b"",
            "/boot/grub/grub.cfg": debian_menu("Ubuntu", BOOT, [U_NEW, U_OLD], f"{SERVER_ROOT} ro", at=""),
            "/boot/grub/grubenv": grubenv(),
            "/etc/netplan/50-cloud-init.yaml": "network: {version: 2}\n",
            "/boot/vmlinuz": Link(f"vmlinuz-{U_NEW}"),
            "/boot/initrd.img": Link(f"initrd.img-{U_NEW}"),
        },
        esp_stub(BOOT, "/grub", "ubuntu"),
        firmware("\\EFI\\ubuntu\\shimx64.efi", "ubuntu"),
    ),
    U_NEW,
    "entry 0, the newest kernel",
    Fault(
        "boot-entry.initramfs-missing",
        gone=(f"/boot/initrd.img-{U_NEW}", "/boot/initrd.img"),
        command=("update-initramfs", "-c", "-k", U_NEW),
    ),
)

CLOUD_PART = "26f22d2b-892e-459e-ba29-0fdab351f296"
CLOUD_OPTIONS = ("VIRTIO_BLK", "VIRTIO_PCI", "EXT4_FS", "EFI_PARTITION")
CLOUD_MENU = (layouts.GRUB_DATA / "ubuntu-cloud.cfg").read_text()
CLOUD_FS = "b993fcf5-2d55-493c-b232-97ca4539f4e9"


def cloud(menu: str, fstab: str, devices: tuple[Device, ...], mounts: tuple[str, ...], stub: Files) -> Files:
    return merged(
        system(UBUNTU_OS, fstab, *DEBIAN_TOOLS),
        DPKG,
        debian_kernel(U_NEW, *CLOUD_OPTIONS),
        debian_kernel(U_OLD, *CLOUD_OPTIONS),
        facts(
            devices,
            mounts,
            cmdline=f"BOOT_IMAGE=/boot/vmlinuz-{U_OLD} root=PARTUUID={CLOUD_PART} ro console=tty1 panic=-1",
            running=U_OLD,
        ),
        {"/boot/grub/grub.cfg": menu, "/boot/grub/grubenv": grubenv()},
        stub,
        firmware("\\EFI\\ubuntu\\shimx64.efi", "ubuntu"),
    )


CLOUD_ROOT = Device("vda1", "252:1", CLOUD_FS, "ext4", "cloudimg-rootfs", CLOUD_PART)
CLOUD_ESP = layouts.esp("vda15", "252:15", label="UEFI")
UBUNTU_CLOUD = Layout(
    "Ubuntu 22.04 cloud image",
    "livecd-rootfs, live-build/ubuntu-cpc/hooks.d; /etc/default/grub.d/40-force-partuuid.cfg",
    cloud(
        CLOUD_MENU,
        "LABEL=cloudimg-rootfs\t/\t ext4\tdiscard,errors=remount-ro\t0 1\n"
        "LABEL=UEFI\t/boot/efi\tvfat\tumask=0077\t0 1\n",
        (
            Device("vda", "252:0"),
            CLOUD_ROOT,
            Device("vda14", "252:14", partuuid="11111111-0000-4000-8000-00000000000e"),
            CLOUD_ESP,
        ),
        ("252:1 / / ext4 /dev/vda1", "252:15 / /boot/efi vfat /dev/vda15", "7:0 / /snap/lxd/1 squashfs /dev/loop0"),
        esp_stub(CLOUD_FS, "/boot/grub", "ubuntu"),
    ),
    U_NEW,
    "entry 0",
    Fault(
        "boot-entry.root-missing",
        {"/boot/grub/grub.cfg": CLOUD_MENU.replace(f"PARTUUID={CLOUD_PART}", f"PARTUUID={GONE}")},
        command=("update-grub",),
    ),
)
UBUNTU_CLOUD_BOOT = replace(
    UBUNTU_CLOUD,
    name="Ubuntu 24.04 cloud image with a /boot of its own",
    files=cloud(
        CLOUD_MENU.replace(f"--set=root {CLOUD_FS}", f"--set=root {BOOT}").replace("\t/boot/", "\t/"),
        "LABEL=cloudimg-rootfs\t/\t ext4\tdiscard,commit=30,errors=remount-ro\t0 1\n"
        "LABEL=BOOT\t/boot\text4\tdefaults\t0 2\nLABEL=UEFI\t/boot/efi\tvfat\tumask=0077\t0 1\n",
        (
            Device("vda", "252:0"),
            CLOUD_ROOT,
            CLOUD_ESP,
            Device("vda16", "259:0", BOOT, "ext4", "BOOT", "11111111-0000-4000-8000-000000000010"),
        ),
        ("252:1 / / ext4 /dev/vda1", "259:0 / /boot ext4 /dev/vda16", "252:15 / /boot/efi vfat /dev/vda15"),
        esp_stub(BOOT, "/grub", "ubuntu"),
    ),
    fault=Fault(
        "mounts.device-missing",
        {"/etc/fstab": "LABEL=cloudimg-rootfs / ext4 defaults 0 1\nLABEL=boot /boot ext4 defaults 0 2\n"},
        command=("blkid",),
    ),
)
DESKTOP_FSTAB = (
    f"# / was on /dev/sda2 during curtin installation\n/dev/disk/by-uuid/{ROOT} / ext4 defaults 0 1\n"
    f"/dev/disk/by-uuid/{ESP} /boot/efi vfat defaults 0 1\n/swap.img\tnone\tswap\tsw\t0\t0\n"
)
DESKTOP_ROOT = f"root=UUID={ROOT} ro  quiet splash $vt_handoff"
UBUNTU_DESKTOP = Layout(
    "Ubuntu desktop: /boot on the root, snaps, a swap file",
    "https://help.ubuntu.com/community/Grub2, SwapFaq",
    merged(
        system(UBUNTU_OS, DESKTOP_FSTAB, *DEBIAN_TOOLS),
        DPKG,
        debian_kernel(U_NEW),
        debian_kernel(U_OLD),
        facts(
            (
                Device("sda", "8:0"),
                layouts.esp("sda1", "8:1"),
                Device("sda2", "8:2", ROOT, "ext4", partuuid="11111111-0000-4000-8000-000000000002"),
                *(Device(f"loop{at}", f"7:{at}", fstype="squashfs") for at in range(3)),
            ),
            (
                "8:2 / / ext4 /dev/sda2",
                "8:1 / /boot/efi vfat /dev/sda1",
                *(f"7:{at} / /snap/s{at}/1 squashfs /dev/loop{at}" for at in range(3)),
                "8:2 /var/snap/firefox/common/host-hunspell /var/snap/firefox/common/host-hunspell ext4 /dev/sda2",
            ),
            cmdline=f"BOOT_IMAGE=/boot/vmlinuz-{U_OLD} root=UUID={ROOT} ro quiet splash vt.handoff=7 "
            f"resume=UUID={ROOT} resume_offset=34816",
            running=U_OLD,
        ),
        {
            "/swap.img": b"",
            "/boot/grub/grub.cfg": debian_menu("Ubuntu", ROOT, [U_NEW, U_OLD], DESKTOP_ROOT)
            + "menuentry 'Windows Boot Manager' --class windows $menuentry_id_option 'osprober-efi-X' {\n"
            f"\tsearch --no-floppy --fs-uuid --set=root {ESP}\n\tchainloader /EFI/Microsoft/Boot/bootmgfw.efi\n}}\n",
            "/boot/grub/grubenv": grubenv(),
        },
        esp_stub(ROOT, "/boot/grub", "ubuntu"),
        firmware("\\EFI\\ubuntu\\shimx64.efi", "ubuntu"),
    ),
    U_NEW,
    "entry 0, the newest kernel",
    Fault(
        "initramfs.other-release",
        {f"/boot/initrd.img-{U_NEW}": image("initramfs-tools", U_OLD)},
        command=("update-initramfs", "-u", "-k", U_NEW),
    ),
)

# -- openSUSE --------------------------------------------------------------------------------------------------

S_NEW, S_OLD = "6.4.0-150600.23.25-default", "6.4.0-150600.21-default"
SUSE_FSTAB = "".join(
    f"UUID={ROOT}  {point}  btrfs  {'subvol=/@' + point if point != '/' else 'defaults'}  0  0\n"
    for point in ("/", "/var", "/usr/local", "/boot/grub2/x86_64-efi", "/.snapshots")
) + (f"UUID={SWAP}  swap  swap  defaults  0  0\nUUID={ESP}  /boot/efi  vfat  utf8  0  2\n")
SUSE_MENU = (
    'set btrfs_relative_path="y"\nexport btrfs_relative_path\n'
    "if [ -f ${config_directory}/grubenv ]; then\n  load_env -f ${config_directory}/grubenv\n"
    "elif [ -s $prefix/grubenv ]; then\n  load_env\nfi\n"
    'if [ "${env_block}" ]; then\n  set env_block="(${root})${env_block}"\n  export env_block\n'
    '  load_env -f "${env_block}"\nfi\n'
    'if [ "${next_entry}" ] ; then\n   set default="${next_entry}"\n   set next_entry=\n'
    '   if [ "${env_block}" ]; then\n     save_env -f "${env_block}" next_entry\n'
    "   else\n     save_env next_entry\n   fi\n"
    '   set boot_once=true\nelse\n   set default="${saved_entry}"\nfi\n'
    'if [ x"${feature_menuentry_id}" = xy ]; then\n  menuentry_id_option="--id"\nfi\nexport menuentry_id_option\n'
    "set timeout=8\n"
)
SUSE_SNAPSHOTS = 'if [ -f "/.snapshots/grub-snapshot.cfg" ]; then\n  source "/.snapshots/grub-snapshot.cfg"\nfi\n'


def suse_entry(title: str, identity: str, release: str, root: str = ROOT) -> str:
    return (
        f"menuentry '{title}' --class opensuse $menuentry_id_option '{identity}' {{\n"
        f"\tload_video\n\tset gfxpayload=keep\n\tinsmod gzio\n\tinsmod btrfs\n"
        f"\tsearch --no-floppy --fs-uuid --set=root {ROOT}\n"
        f"\tlinux\t/boot/vmlinuz-{release} root=UUID={root}  ${{extra_cmdline}} splash=silent "
        f"resume=/dev/disk/by-uuid/{SWAP} quiet security=apparmor mitigations=auto\n"
        f"\tinitrd\t/boot/initrd-{release}\n}}\n"
    )


def suse_menu(root: str = ROOT) -> str:
    text = SUSE_MENU + suse_entry("openSUSE Leap 15.6", f"gnulinux-simple-{ROOT}", S_NEW, root)
    text += f"submenu 'Advanced options for openSUSE Leap 15.6' $menuentry_id_option 'gnulinux-advanced-{ROOT}' {{\n"
    for release in (S_NEW, S_OLD):
        title = f"openSUSE Leap 15.6, with Linux {release}"
        text += suse_entry(title, f"gnulinux-{release}-advanced-{ROOT}", release, root)
    return text + "}\n" + SUSE_SNAPSHOTS


def suse_kernel(release: str) -> Files:
    return {
        f"/boot/vmlinuz-{release}": Link(f"../usr/lib/modules/{release}/vmlinuz"),
        f"/boot/config-{release}": Link(f"../usr/lib/modules/{release}/config"),
        f"/usr/lib/modules/{release}/vmlinuz": kernel_image(release),
        f"/usr/lib/modules/{release}/config": config(),
        f"/boot/initrd-{release}": image("dracut", release, microcode=True),
        **modules(release),
    }


SUSE_DISK = (
    Device("vda", "254:0"),
    layouts.esp("vda1", "254:1"),
    Device("vda2", "254:2", ROOT, "btrfs", partuuid="11111111-0000-4000-8000-000000000002"),
    Device("vda3", "254:3", SWAP, "swap", partuuid="11111111-0000-4000-8000-000000000003"),
)
SUSE_MOUNTS = (
    "0:34 /@/.snapshots/1/snapshot / btrfs /dev/vda2",
    *(f"0:34 /@{point} {point} btrfs /dev/vda2" for point in ("/.snapshots", "/var", "/boot/grub2/x86_64-efi")),
    "0:34 /@/usr/local /usr/local btrfs /dev/vda2",
    "254:1 / /boot/efi vfat /dev/vda1",
)
SUSE_LINE = f"root=UUID={ROOT} splash=silent quiet security=apparmor mitigations=auto"
SUSE_TREE = merged(
    system('NAME="openSUSE Leap"\nID="opensuse-leap"\nID_LIKE="suse opensuse"\n', SUSE_FSTAB, *SUSE_TOOLS),
    suse_kernel(S_NEW),
    suse_kernel(S_OLD),
    facts(SUSE_DISK, SUSE_MOUNTS, cmdline=f"BOOT_IMAGE=/boot/vmlinuz-{S_OLD} {SUSE_LINE}", running=S_OLD),
    {
        "/boot/grub2/grub.cfg": suse_menu(),
        "/boot/grub2/grubenv": grubenv(saved_entry=f"gnulinux-simple-{ROOT}"),
        "/boot/grub2/x86_64-efi/normal.mod": "",
        "/.snapshots/grub-snapshot.cfg": "submenu 'Start bootloader from a read-only snapshot' {\n  true\n}\n",
        "/boot/efi/EFI/opensuse/shim.efi": efi.shim(),
        "/boot/efi/EFI/opensuse/grub.efi": efi.grub("/EFI/opensuse"),
        "/boot/efi/EFI/opensuse/grub.cfg": (
            f'set btrfs_relative_path="yes"\nsearch --fs-uuid --set=root {ROOT}\n'
            'set prefix=(${root})/boot/grub2\nsource "${prefix}/grub.cfg"\n'
        ),
    },
    firmware("\\EFI\\opensuse\\shim.efi", "opensuse-secureboot", secure=True),
)
OPENSUSE = Layout(
    "openSUSE Leap 15.6: btrfs snapshots, GRUB relative to the default subvolume",
    "https://doc.opensuse.org/documentation/leap/reference (snapper, GRUB 2); shim-install; grub2's SUSE patches",
    SUSE_TREE,
    S_NEW,
    "as saved_entry asks",
    Fault(
        "boot-entry.root-missing",
        {"/boot/grub2/grub.cfg": suse_menu(GONE)},
        command=("grub2-mkconfig", "-o", "/boot/grub2/grub.cfg"),
    ),
)
OPENSUSE_INITRD = replace(
    OPENSUSE,
    name="openSUSE without the initramfs",
    fault=Fault(
        "boot-entry.initramfs-missing",
        gone=(f"/boot/initrd-{S_NEW}",),
        command=("dracut", "--force", f"/boot/initrd-{S_NEW}", S_NEW),
    ),
)
OPENSUSE_BLOCK = replace(
    OPENSUSE,
    name="openSUSE, GRUB's variables in sectors of the disk",
    documented="https://en.opensuse.org/GRUB (env_block)",
    files={**SUSE_TREE, "/boot/grub2/grubenv": grubenv(env_block="512+1")},
    verdict="unknown",
    warnings=("boot-entry.unresolved-variable", "boot-entry.undecided"),
    kernel=None,
    why="",
    fault=None,
)
T_NEW = "6.11.3-1-default"
T_TOKEN, T_HASH = "opensuse-tumbleweed", "0a1b2c3d4e5f60718293a4b5c6d7e8f901234567"
TUMBLEWEED_SDBOOT = Layout(
    "openSUSE Tumbleweed with systemd-boot: sdbootutil's entries, one a snapshot",
    "https://github.com/openSUSE/sdbootutil; Boot Loader Specification",
    merged(
        {path: content for path, content in SUSE_TREE.items() if "/boot/" not in path[:6] and "efivars" not in path},
        modules(T_NEW),
        {
            "/etc/fstab": SUSE_FSTAB.replace(f"UUID={ROOT}  /boot/grub2/x86_64-efi", f"#UUID={ROOT}  /boot/grub2"),
            f"/usr/lib/modules/{T_NEW}/vmlinuz": kernel_image(T_NEW),
            f"/usr/lib/modules/{T_NEW}/config": config(),
            f"/boot/efi/{T_TOKEN}/{T_NEW}/linux-{T_HASH}": kernel_image(T_NEW),
            f"/boot/efi/{T_TOKEN}/{T_NEW}/initrd-{T_HASH}": image("dracut", T_NEW),
            "/boot/efi/EFI/systemd/systemd-bootx64.efi": efi.systemd_boot("256.7"),
            "/boot/efi/EFI/systemd/shim.efi": efi.shim(),
            "/boot/efi/EFI/systemd/grub.efi": efi.systemd_boot("256.7"),
            "/boot/efi/loader/loader.conf": "timeout 5\nconsole-mode keep\n",
            **{
                f"/boot/efi/loader/entries/{T_TOKEN}-{T_NEW}-{snapshot}.conf": (
                    f"# Boot Loader Specification type#1 entry\ntitle      openSUSE Tumbleweed\n"
                    f"version    {snapshot}@{T_NEW}\nsort-key   opensuse-tumbleweed\n"
                    f"options    root=UUID={ROOT} splash=silent rootflags=subvol=@/.snapshots/{snapshot}/snapshot\n"
                    f"linux      /{T_TOKEN}/{T_NEW}/linux-{T_HASH}\n"
                    f"initrd     /{T_TOKEN}/{T_NEW}/initrd-{T_HASH}\n"
                )
                for snapshot in (1,)
            },
            "/proc/sys/kernel/osrelease": f"{T_NEW}\n",
        },
        firmware("\\EFI\\systemd\\shim.efi", "openSUSE Boot Manager", secure=True),
    ),
    T_NEW,
    "first in systemd-boot's order",
    Fault(
        "boot-entry.other-subvolume",
        {
            "/proc/self/mountinfo": "30 1 0:34 /@/.snapshots/7/snapshot / rw - btrfs /dev/vda2 rw\n"
            "31 30 254:1 / /boot/efi rw - vfat /dev/vda1 rw\n"
        },
        command=("kernel-install", "add", T_NEW),
    ),
    warnings=("fallback.none",),
)

# -- Arch ------------------------------------------------------------------------------------------------------

A_NEW = "6.9.7-arch1-1"
ARCH_MOUNTS = ("8:2 / / ext4 /dev/sda2", "8:1 / /boot vfat /dev/sda1")
ARCH_DISK = (
    Device("sda", "8:0"),
    layouts.esp("sda1", "8:1"),
    Device("sda2", "8:2", ROOT, "ext4", partuuid="11111111-0000-4000-8000-000000000002"),
)
ARCH_KERNEL = merged(
    modules(A_NEW),
    {
        f"/usr/lib/modules/{A_NEW}/vmlinuz": kernel_image(A_NEW),
        f"/usr/lib/modules/{A_NEW}/pkgbase": "linux\n",
    },
)
ARCH_BOOT: Files = {
    "/boot/vmlinuz-linux": kernel_image(A_NEW),
    "/boot/initramfs-linux.img": image("mkinitcpio", A_NEW),
    "/boot/initramfs-linux-fallback.img": image("mkinitcpio", A_NEW),
    "/boot/intel-ucode.img": layouts.microcode_archive(),
}
ARCH_FSTAB = f"UUID={ROOT} / ext4 rw,relatime 0 1\nUUID={ESP} /boot vfat rw,relatime,fmask=0022,utf8 0 2\n"
ARCH_OS = 'NAME="Arch Linux"\nID=arch\n'


def arch_entry(image_name: str = "initramfs-linux.img") -> str:
    return (
        "title   Arch Linux\nlinux   /vmlinuz-linux\ninitrd  /intel-ucode.img\n"
        f"initrd  /{image_name}\noptions root=PARTUUID=11111111-0000-4000-8000-000000000002 zswap.enabled=0 rw\n"
    )


ARCH_SDBOOT = Layout(
    "Arch with systemd-boot, the ESP at /boot",
    "https://wiki.archlinux.org/title/Systemd-boot",
    merged(
        system(ARCH_OS, ARCH_FSTAB, *ARCH_TOOLS, sbin="usr/bin"),
        ARCH_KERNEL,
        ARCH_BOOT,
        facts(ARCH_DISK, ARCH_MOUNTS, cmdline="initrd=\\initramfs-linux.img root=PARTUUID=x rw", running=A_NEW),
        {
            "/boot/EFI/systemd/systemd-bootx64.efi": efi.systemd_boot("256.1-1-arch"),
            "/boot/loader/loader.conf": "default  arch.conf\ntimeout  4\nconsole-mode max\neditor   no\n",
            "/boot/loader/entries/arch.conf": arch_entry(),
            "/boot/loader/entries/arch-fallback.conf": arch_entry("initramfs-linux-fallback.img"),
        },
        firmware("\\EFI\\systemd\\systemd-bootx64.efi", "Linux Boot Manager"),
    ),
    A_NEW,
    '`default` in loader.conf says "arch.conf"',
    Fault(
        "kernel-files.no-modules",
        {"/boot/vmlinuz-linux": kernel_image("6.9.8-arch1-1")},
        command=("pacman", "-S", "linux"),
    ),
    warnings=("fallback.none",),
)
ARCH_GRUB = replace(
    ARCH_SDBOOT,
    name="Arch with GRUB on BIOS, dos partitions, cryptdevice",
    documented="https://wiki.archlinux.org/title/GRUB; dm-crypt/Encrypting an entire system",
    files=merged(
        system(
            ARCH_OS,
            f"/dev/mapper/cryptroot / ext4 rw,relatime 0 1\nUUID={BOOT} /boot ext4 rw,relatime 0 2\n"
            "/swapfile none swap defaults 0 0\n",
            *ARCH_TOOLS,
            sbin="usr/bin",
        ),
        ARCH_KERNEL,
        ARCH_BOOT,
        facts(
            (
                Device("sda", "8:0"),
                Device("sda1", "8:1", BOOT, "ext4", partuuid="5afe0e11-01"),
                Device("sda2", "8:2", LUKS, "crypto_LUKS", partuuid="5afe0e11-02"),
                Device("dm-0", "254:0", ROOT, "ext4", mapper="cryptroot", dm_uuid="CRYPT-LUKS2-x-cryptroot"),
            ),
            ("254:0 / / ext4 /dev/mapper/cryptroot", "8:1 / /boot ext4 /dev/sda1"),
            cmdline="BOOT_IMAGE=/vmlinuz-linux root=/dev/mapper/cryptroot rw",
            running=A_NEW,
        ),
        {
            "/swapfile": b"",
            "/boot/grub/i386-pc/normal.mod": "",
            "/boot/grub/grub.cfg": debian_menu(
                "Arch Linux",
                BOOT,
                ["linux"],
                f"root=/dev/mapper/cryptroot rw  cryptdevice=UUID={LUKS}:cryptroot loglevel=3 quiet",
                at="",
                root="hd0,msdos1",
                initrd_name="intel-ucode.img /initramfs-linux.img",
            ),
            "/boot/grub/grubenv": grubenv(),
        },
    ),
    why="entry 0",
    fault=Fault(
        "boot-entry.root-missing",
        {
            "/boot/grub/grub.cfg": debian_menu(
                "Arch Linux", BOOT, ["linux"], f"root=UUID={GONE} rw", at="", initrd_name="initramfs-linux.img"
            )
        },
        command=("grub-mkconfig", "-o", "/boot/grub/grub.cfg"),
    ),
)
ARCH_UKI = replace(
    ARCH_SDBOOT,
    name="Arch with unified kernel images, the ESP at /efi",
    documented="https://wiki.archlinux.org/title/Unified_kernel_image",
    files=merged(
        system(ARCH_OS, f"UUID={ROOT} / ext4 rw 0 1\n", *ARCH_TOOLS, sbin="usr/bin"),
        ARCH_KERNEL,
        {"/boot/vmlinuz-linux": kernel_image(A_NEW)},
        facts(
            ARCH_DISK,
            ("8:2 / / ext4 /dev/sda2", "0:40 / /efi autofs systemd-1", "8:1 / /efi vfat /dev/sda1"),
            cmdline=f"root=UUID={ROOT} rw",
            running=A_NEW,
        ),
        {
            "/efi/EFI/systemd/systemd-bootx64.efi": efi.systemd_boot("256.1-1-arch"),
            "/efi/loader/loader.conf": "timeout 3\n",
            "/efi/EFI/Linux/arch-linux.efi": layouts.unified(A_NEW, f"root=UUID={ROOT} rw"),
        },
        firmware("\\EFI\\systemd\\systemd-bootx64.efi", "Linux Boot Manager"),
    ),
    why="first in systemd-boot's order",
    fault=Fault(
        "boot-entry.root-missing",
        {"/efi/EFI/Linux/arch-linux.efi": layouts.unified(A_NEW, f"root=UUID={GONE} rw")},
    ),
)

# -- Debian ----------------------------------------------------------------------------------------------------

D_NEW, D_OLD = "6.1.0-26-amd64", "6.1.0-25-amd64"
DEBIAN_OS = 'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nID=debian\nVERSION_ID="12"\n'
LAPTOP_ROOT = "root=/dev/mapper/laptop--vg-root ro  quiet"
DEBIAN_LUKS = Layout(
    "Debian laptop: LUKS, LVM, a small /boot",
    "Debian installer's guided encrypted LVM; crypttab(5), cryptsetup's README.initramfs",
    merged(
        system(
            DEBIAN_OS,
            "# <file system> <mount point>   <type>  <options>       <dump>  <pass>\n"
            "/dev/mapper/laptop--vg-root /               ext4    errors=remount-ro 0       1\n"
            f"UUID={BOOT} /boot           ext2    defaults        0       2\n"
            f"UUID={ESP}  /boot/efi       vfat    umask=0077      0       1\n"
            "/dev/mapper/laptop--vg-swap_1 none            swap    sw              0       0\n"
            "/dev/sr0        /media/cdrom0   udf,iso9660 user,noauto     0       0\n",
            *DEBIAN_TOOLS,
        ),
        DPKG,
        debian_kernel(D_NEW),
        debian_kernel(D_OLD),
        facts(
            (
                Device("nvme0n1", "259:0"),
                layouts.esp("nvme0n1p1", "259:1"),
                Device("nvme0n1p2", "259:2", BOOT, "ext2", partuuid="11111111-0000-4000-8000-000000000002"),
                Device("nvme0n1p3", "259:3", LUKS, "crypto_LUKS", partuuid="11111111-0000-4000-8000-000000000003"),
                Device(
                    "dm-0",
                    "254:0",
                    "Zz",
                    "LVM2_member",
                    mapper="nvme0n1p3_crypt",
                    dm_uuid="CRYPT-LUKS2-x-nvme0n1p3_crypt",
                    below=("nvme0n1p3",),
                ),
                lv("dm-1", "254:1", "laptop-vg", "root", ROOT, "ext4", "dm-0"),
                lv("dm-2", "254:2", "laptop-vg", "swap_1", SWAP, "swap", "dm-0"),
            ),
            (
                "254:1 / / ext4 /dev/mapper/laptop--vg-root",
                "259:2 / /boot ext2 /dev/nvme0n1p2",
                "259:1 / /boot/efi vfat /dev/nvme0n1p1",
            ),
            cmdline=f"BOOT_IMAGE=/vmlinuz-{D_OLD} {LAPTOP_ROOT}",
            running=D_OLD,
        ),
        {
            "/etc/crypttab": f"nvme0n1p3_crypt UUID={LUKS} none luks,discard\n",
            "/etc/initramfs-tools/conf.d/resume": f"RESUME=UUID={SWAP}\n",
            "/boot/grub/grub.cfg": debian_menu("Debian GNU/Linux", BOOT, [D_NEW, D_OLD], LAPTOP_ROOT, at=""),
            "/boot/grub/grubenv": grubenv(),
        },
        esp_stub(BOOT, "/grub", "debian"),
        firmware("\\EFI\\debian\\shimx64.efi", "debian"),
    ),
    D_NEW,
    "entry 0, the newest kernel",
    Fault(
        "initramfs.truncated",
        {f"/boot/initrd.img-{D_NEW}": image("initramfs-tools", D_NEW)[:-700]},
        command=("update-initramfs", "-u", "-k", D_NEW),
    ),
)
RAID_ROOT = f"root=UUID={ROOT} ro  quiet"
DEBIAN_RAID = replace(
    DEBIAN_LUKS,
    name="Debian on md RAID 1 with two ESPs",
    documented="https://wiki.debian.org/UEFI#RAID_for_the_EFI_System_Partition; md(4)",
    files=merged(
        system(
            DEBIAN_OS,
            f"UUID={ROOT} / ext4 errors=remount-ro 0 1\nUUID={ESP} /boot/efi vfat umask=0077 0 1\n"
            f"UUID={ESP2} /boot/efi2 vfat umask=0077,nofail 0 1\n/dev/md1 none swap sw 0 0\n",
            *DEBIAN_TOOLS,
        ),
        DPKG,
        debian_kernel(D_NEW),
        debian_kernel(D_OLD),
        facts(
            (
                Device("sda", "8:0"),
                layouts.esp("sda1", "8:1"),
                Device("sda2", "8:2", "aa", "linux_raid_member", partuuid="11111111-0000-4000-8000-000000000002"),
                Device("sdb", "8:16"),
                layouts.esp("sdb1", "8:17", ESP2, partuuid="22222222-9abc-def0-1122-334455667788"),
                Device("sdb2", "8:18", "aa", "linux_raid_member", partuuid="22222222-0000-4000-8000-000000000002"),
                Device("md0", "9:0", ROOT, "ext4", md=True, below=("sda2", "sdb2"), links=("md/0",)),
                Device("md1", "9:1", SWAP, "swap", md=True, below=("sda2", "sdb2"), links=("md/1",)),
            ),
            ("9:0 / / ext4 /dev/md0", "8:1 / /boot/efi vfat /dev/sda1", "8:17 / /boot/efi2 vfat /dev/sdb1"),
            cmdline=f"BOOT_IMAGE=/boot/vmlinuz-{D_OLD} {RAID_ROOT}",
            running=D_OLD,
        ),
        {
            "/boot/grub/grub.cfg": debian_menu(
                "Debian GNU/Linux", ROOT, [D_NEW, D_OLD], RAID_ROOT, root="mduuid/5afe0bda1111222233334444"
            ),
            "/boot/grub/grubenv": grubenv(),
        },
        esp_stub(ROOT, "/boot/grub", "debian"),
        firmware("\\EFI\\debian\\shimx64.efi", "debian"),
    ),
    fault=Fault(
        "boot-entry.grubenv-not-writable",
        {"/boot/grub/grubenv": grubenv(next_entry="0")},
        command=("grub-editenv", "/boot/grub/grubenv", "unset", "next_entry"),
        verdict="safe",
    ),
)

# -- overlays, networks, other loaders -------------------------------------------------------------------------

OVERLAY_MENU = debian_menu("Ubuntu", ROOT, [U_NEW, U_OLD], f"root=UUID={ROOT} ro overlayroot=tmpfs")
OVERLAYROOT = Layout(
    "Ubuntu with overlayroot=tmpfs",
    "overlayroot(8), /etc/overlayroot.conf",
    merged(
        system(
            UBUNTU_OS,
            "#\n#  This fstab is for overlayroot. The real one can be found at\n#  /media/root-ro/etc/fstab\n#\n"
            "/media/root-ro/ / overlay lowerdir=/media/root-ro/,upperdir=/media/root-rw/overlay/,"
            "workdir=/media/root-rw/overlay-workdir/_ 0 0\n",
            *DEBIAN_TOOLS,
        ),
        DPKG,
        debian_kernel(U_NEW),
        debian_kernel(U_OLD),
        {
            f"/media/root-ro/boot/{name}-{release}": content
            for release in (U_NEW, U_OLD)
            for name, content in (
                ("vmlinuz", kernel_image(release)),
                ("initrd.img", image("initramfs-tools", release)),
            )
        },
        facts(
            (Device("vda", "252:0"), Device("vda1", "252:1", ROOT, "ext4", partuuid="5afe0e11-01")),
            (
                "0:40 / / overlay overlayroot",
                "252:1 / /media/root-ro ext4 /dev/vda1",
                "0:39 / /media/root-rw tmpfs tmpfs-root",
            ),
            cmdline=f"BOOT_IMAGE=/boot/vmlinuz-{U_OLD} root=UUID={ROOT} ro overlayroot=tmpfs",
            running=U_OLD,
        ),
        {
            "/boot/grub/grub.cfg": OVERLAY_MENU,
            "/boot/grub/grubenv": grubenv(),
            "/boot/grub/i386-pc/normal.mod": "",
            "/media/root-ro/boot/grub/grub.cfg": OVERLAY_MENU,
            "/media/root-ro/boot/grub/grubenv": grubenv(),
        },
    ),
    U_NEW,
    "entry 0, the newest kernel",
    Fault(
        "boot-entry.initramfs-missing",
        gone=(f"/media/root-ro/boot/initrd.img-{U_NEW}",),
        command=("update-initramfs",),
    ),
)
NFS_ROOT = Layout(
    "A diskless machine: PXE, root on NFS",
    "Documentation/admin-guide/nfs/nfsroot.rst; initramfs-tools(7), boot=nfs",
    merged(
        system(DEBIAN_OS, "/dev/nfs / nfs tcp,nolock 0 0\ntmpfs /tmp tmpfs defaults 0 0\n", *DEBIAN_TOOLS),
        debian_kernel(D_NEW),
        facts(
            (Device("loop0", "7:0"),),
            ("0:22 / / nfs4 10.0.0.1:/srv/root",),
            cmdline="BOOT_IMAGE=vmlinuz initrd=initrd.img root=/dev/nfs nfsroot=10.0.0.1:/srv/root ip=dhcp rw",
            running=D_NEW,
        ),
    ),
    None,
    "a server on the network",
    verdict="unknown",
    warnings=("boot-entry.unsupported-loader",),
)
LIVE = Layout(
    "Debian's live medium on a machine whose disk has another system",
    "https://live-team.pages.debian.net/live-manual; live-boot(7)",
    merged(
        system(DEBIAN_OS, "overlay / overlay rw 0 0\ntmpfs /tmp tmpfs nosuid,nodev 0 0\n"),
        debian_kernel(D_NEW),
        facts(
            (Device("sda", "8:0"), Device("sda1", "8:1", ROOT, "ext4", partuuid="5afe0e11-01"), Device("sr0", "11:0")),
            ("0:30 / / overlay overlay", "11:0 / /run/live/medium iso9660 /dev/sr0"),
            cmdline="BOOT_IMAGE=/live/vmlinuz-6.1.0-26-amd64 boot=live components quiet splash findiso=",
            running=D_NEW,
        ),
    ),
    None,
    "a live medium",
    verdict="unknown",
    warnings=("boot-entry.unsupported-loader",),
)
PROXMOX = Layout(
    "Proxmox VE on ZFS, its ESPs not mounted",
    "https://pve.proxmox.com/wiki/Host_Bootloader",
    merged(
        system(DEBIAN_OS, "proc /proc proc defaults 0 0\n", *DEBIAN_TOOLS),
        DPKG,
        debian_kernel("6.8.12-4-pve"),
        facts(
            (
                Device("sda", "8:0"),
                layouts.esp("sda2", "8:2"),
                Device("sda3", "8:3", "17", "zfs_member", "rpool", "11111111-0000-4000-8000-000000000003"),
            ),
            ("0:28 / / zfs rpool/ROOT/pve-1",),
            cmdline="initrd=\\EFI\\proxmox\\6.8.12-4-pve\\initrd.img-6.8.12-4-pve root=ZFS=rpool/ROOT/pve-1 boot=zfs",
            running="6.8.12-4-pve",
        ),
        {
            "/etc/kernel/proxmox-boot-uuids": f"{ESP}\n",
            "/boot/grub/grub.cfg": debian_menu("Proxmox VE", ROOT, ["6.8.12-4-pve"], "root=ZFS=rpool/ROOT/pve-1"),
        },
        firmware("\\EFI\\systemd\\systemd-bootx64.efi", "Linux Boot Manager"),
    ),
    None,
    "names the ESPs that count",
    verdict="unknown",
    warnings=("boot-entry.proxmox-partition-not-visible",),
)
ZFS_LINE = "root=ZFS=rpool/ROOT/pve-1 boot=zfs quiet"


def proxmox_kernel(release: str) -> Files:
    directory = f"/EFI/proxmox/{release}"
    return {
        f"/mnt/esp/loader/entries/proxmox-{release}.conf": (
            f"title    Proxmox Virtual Environment\nversion  {release}\noptions   {ZFS_LINE}\n"
            f"linux    {directory}/vmlinuz-{release}\ninitrd   {directory}/initrd.img-{release}\n"
        ),
        f"/mnt/esp{directory}/vmlinuz-{release}": kernel_image(release),
        f"/mnt/esp{directory}/initrd.img-{release}": image("initramfs-tools", release),
    }


PROXMOX_MOUNTED = replace(
    PROXMOX,
    name="Proxmox VE on ZFS, an ESP mounted",
    files=merged(
        PROXMOX.files,
        debian_kernel("6.8.8-2-pve"),
        {
            "/proc/self/mountinfo": "30 1 0:28 / / rw - zfs rpool/ROOT/pve-1 rw\n"
            "31 30 8:2 / /mnt/esp rw - vfat /dev/sda2 rw\n",
            "/mnt/esp/EFI/systemd/systemd-bootx64.efi": efi.systemd_boot("252.31"),
            "/mnt/esp/loader/loader.conf": "timeout 3\ndefault proxmox-*\n",
        },
        *(proxmox_kernel(release) for release in ("6.8.12-4-pve", "6.8.8-2-pve")),
        {"/usr/sbin/proxmox-boot-tool": layouts.STATIC},
    ),
    kernel="6.8.12-4-pve",
    why='`default` in loader.conf says "proxmox-*"',
    verdict="safe",
    warnings=(),
    fault=Fault(
        "initramfs.truncated",
        {"/mnt/esp/EFI/proxmox/6.8.12-4-pve/initrd.img-6.8.12-4-pve": image("initramfs-tools", "6.8.12-4-pve")[:-500]},
        command=("df",),
    ),
)
PROXMOX_EMPTY = replace(
    PROXMOX_MOUNTED,
    name="Proxmox VE with an empty kernel on the ESP",
    fault=Fault(
        "kernel-files.image-empty",
        {"/mnt/esp/EFI/proxmox/6.8.12-4-pve/vmlinuz-6.8.12-4-pve": b""},
        command=(
            "apt-get",
            "install",
            "--reinstall",
            "linux-modules-6.8.12-4-pve",
            "proxmox-kernel-6.8.12-4-pve-signed",
        ),
    ),
)
PROXMOX_NO_ENTRIES = replace(
    PROXMOX_MOUNTED,
    name="Proxmox VE with no entries on the ESP",
    fault=Fault(
        "boot-entry.empty-menu",
        gone=tuple(f"/mnt/esp/loader/entries/proxmox-{release}.conf" for release in ("6.8.12-4-pve", "6.8.8-2-pve")),
        command=("proxmox-boot-tool", "refresh"),
    ),
)
ARM_CLOUD = Layout(
    "Ubuntu cloud image on arm64: an Image packed with gzip",
    "Documentation/arch/arm64/booting.rst; linux-image of Ubuntu",
    merged(
        {path: content for path, content in UBUNTU_CLOUD.files.items() if "vmlinuz" not in path and "shim" not in path},
        {
            path: layouts.arm(content) if isinstance(content, bytes) else content
            for path, content in system(UBUNTU_OS, "LABEL=cloudimg-rootfs / ext4 discard 0 1\n", *DEBIAN_TOOLS).items()
        },
        {f"/boot/vmlinuz-{release}": layouts.arm_image() for release in (U_NEW, U_OLD)},
        {f"/boot/initrd.img-{release}": layouts.arm_initramfs(release) for release in (U_NEW, U_OLD)},
        {
            "/boot/efi/EFI/ubuntu/shimaa64.efi": efi.shim(),
            "/boot/efi/EFI/ubuntu/grubaa64.efi": efi.grub("/EFI/ubuntu"),
        },
        firmware("\\EFI\\ubuntu\\shimaa64.efi", "ubuntu"),
    ),
    U_NEW,
    "entry 0",
    Fault(
        "kernel-files.image-corrupt",
        {f"/boot/vmlinuz-{U_NEW}": layouts.arm_image()[:-40]},
        command=("apt-get", "install", "--reinstall", f"linux-image-{U_NEW}", f"linux-modules-{U_NEW}"),
    ),
)
PI = Layout(
    "Raspberry Pi OS",
    "https://www.raspberrypi.com/documentation/computers/config_txt.html",
    merged(
        system(DEBIAN_OS, "PARTUUID=5afe0e11-02 / ext4 defaults,noatime 0 1\n"),
        {
            "/boot/firmware/config.txt": "arm_64bit=1\n",
            "/boot/firmware/cmdline.txt": "root=PARTUUID=5afe0e11-02 rootwait\n",
            "/boot/firmware/start4.elf": b"x",
            "/boot/firmware/kernel8.img": b"x",
            "/boot/vmlinuz-6.6.51+rpt-rpi-v8": layouts.arm_image(),
            "/proc/device-tree/model": "Raspberry Pi 4 Model B\0",
        },
        facts(
            (
                Device("mmcblk0", "179:0"),
                Device("mmcblk0p1", "179:1", ESP, "vfat", "bootfs", "5afe0e11-01"),
                Device("mmcblk0p2", "179:2", ROOT, "ext4", "rootfs", "5afe0e11-02"),
            ),
            ("179:2 / / ext4 /dev/mmcblk0p2", "179:1 / /boot/firmware vfat /dev/mmcblk0p1"),
            cmdline="coherent_pool=1M root=PARTUUID=5afe0e11-02 rootfstype=ext4 fsck.repair=yes rootwait",
            running="6.6.51+rpt-rpi-v8",
        ),
    ),
    None,
    "the Raspberry Pi's firmware",
    verdict="unknown",
    warnings=("boot-entry.unsupported-loader",),
)
ALPINE = Layout(
    "Alpine: musl, OpenRC, mkinitfs, extlinux",
    "https://wiki.alpinelinux.org/wiki/Bootloaders",
    {
        "/etc/os-release": 'ID=alpine\nVERSION_ID=3.20.3\nPRETTY_NAME="Alpine Linux v3.20"\n',
        "/etc/fstab": f"UUID={ROOT}\t/\text4\trw,relatime 0 1\nUUID={BOOT}\t/boot\text4\trw,relatime 0 2\n",
        "/sbin/init": Link("/bin/busybox"),
        "/bin/sh": Link("/bin/busybox"),
        "/bin/mount": Link("/bin/busybox"),
        "/bin/busybox": layouts.STATIC,
        "/boot/vmlinuz-lts": kernel_image("6.6.56-0-lts"),
        "/boot/initramfs-lts": image("initramfs-tools", "6.6.56-0-lts"),
        "/boot/extlinux.conf": "DEFAULT menu.c32\nLABEL lts\n  LINUX vmlinuz-lts\n  INITRD initramfs-lts\n",
        "/boot/ldlinux.sys": b"x",
        **{path.replace("/usr/lib", "/lib"): content for path, content in modules("6.6.56-0-lts").items()},
        **facts(
            (
                Device("sda", "8:0"),
                Device("sda1", "8:1", BOOT, "ext4", partuuid="5afe0e11-01"),
                Device("sda2", "8:2", ROOT, "ext4", partuuid="5afe0e11-02"),
            ),
            ("8:2 / / ext4 /dev/sda2", "8:1 / /boot ext4 /dev/sda1"),
            cmdline=f"BOOT_IMAGE=vmlinuz-lts root=UUID={ROOT} modules=sd-mod,usb-storage,ext4 quiet",
            running="6.6.56-0-lts",
        ),
    },
    None,
    "syslinux",
    verdict="unknown",
    warnings=("boot-entry.unsupported-loader",),
)
G_NEW = "6.6.58-gentoo"
GENTOO_CONFIG = ("EXT4_FS", "BLK_DEV_SD", "SCSI", "SATA_AHCI", "EFI_STUB")
GENTOO_DRIVERS = ("fs/ext4/ext4", "drivers/scsi/sd_mod", "drivers/ata/ahci", "drivers/ata/libahci")
GENTOO = Layout(
    "Gentoo: a kernel of one's own, no initramfs, OpenRC",
    "https://wiki.gentoo.org/wiki/Handbook:AMD64 (kernel, bootloader)",
    {
        "/etc/os-release": "ID=gentoo\n",
        "/etc/fstab": "/dev/sda2\t/\text4\tdefaults,noatime\t0 1\n/dev/sda1\t/efi\tvfat\tnoauto,umask=0077\t0 2\n",
        "/sbin/init": layouts.STATIC,
        "/bin/sh": layouts.STATIC,
        "/bin/mount": layouts.STATIC,
        "/usr/bin/grub-mkconfig": layouts.STATIC,
        f"/boot/vmlinuz-{G_NEW}": kernel_image(G_NEW),
        f"/boot/config-{G_NEW}": config(*GENTOO_CONFIG),
        "/boot/grub/grub.cfg": debian_menu(
            "Gentoo GNU/Linux", ROOT, [G_NEW], "root=/dev/sda2 ro", initrd_name="{}"
        ).replace(f"\tinitrd\t/boot/{G_NEW}\n", ""),
        "/boot/grub/grubenv": grubenv(),
        **{
            path.replace("/usr/lib", "/lib"): content
            for path, content in modules(G_NEW, built_in=GENTOO_DRIVERS).items()
        },
        **facts(
            (
                Device("sda", "8:0"),
                layouts.esp("sda1", "8:1"),
                Device("sda2", "8:2", ROOT, "ext4", partuuid="11111111-0000-4000-8000-000000000002"),
            ),
            ("8:2 / / ext4 /dev/root",),
            cmdline=f"BOOT_IMAGE=/boot/vmlinuz-{G_NEW} root=/dev/sda2 ro",
            running=G_NEW,
        ),
        **firmware("\\EFI\\gentoo\\grubx64.efi", "gentoo"),
    },
    G_NEW,
    "entry 0",
    Fault(
        "initramfs.none-loaded",
        {f"/boot/config-{G_NEW}": config(*GENTOO_CONFIG, without=("EXT4_FS",))},
    ),
    warnings=("fallback.none",),
)

# -- more of the same families ---------------------------------------------------------------------------------

N_NEW, N_OLD = "6.1.112-122.189.amzn2023.x86_64", "6.1.109-118.189.amzn2023.x86_64"
AMAZON_OPTIONS = f"root=UUID={ROOT} ro console=tty0 console=ttyS0,115200n8 nvme_core.io_timeout=4294967295 rd.shell=0"


def amazon_kernel(release: str) -> Files:
    return {
        f"/boot/vmlinuz-{release}": kernel_image(release),
        f"/boot/config-{release}": config(),
        f"/boot/initramfs-{release}.img": image("dracut", release, ".ko.xz"),
        **modules(release, ".ko.xz"),
        f"/boot/loader/entries/{MACHINE_ID}-{release}.conf": bls_entry(
            "Amazon Linux", release, AMAZON_OPTIONS, at="/boot", more="grub_class amzn\n"
        ),
    }


AMAZON = Layout(
    "Amazon Linux 2023: entries with /boot on the root",
    "https://docs.aws.amazon.com/linux/al2023; GRUB's blscfg",
    merged(
        system(
            'ID="amzn"\nID_LIKE="fedora"\nVERSION_ID="2023"\n',
            f"UUID={ROOT} / xfs defaults,noatime 1 1\n"
            f"UUID={ESP} /boot/efi vfat defaults,noatime,umask=0077,shortname=winnt,x-systemd.automount 0 2\n",
            *FEDORA_TOOLS,
        ),
        amazon_kernel(N_NEW),
        amazon_kernel(N_OLD),
        facts(
            (
                Device("nvme0n1", "259:0"),
                Device("nvme0n1p1", "259:1", ROOT, "xfs", "/", "11111111-0000-4000-8000-000000000001", "Linux"),
                layouts.esp("nvme0n1p128", "259:2"),
            ),
            ("259:1 / / xfs /dev/nvme0n1p1", "0:35 / /boot/efi autofs systemd-1"),
            cmdline=f"BOOT_IMAGE=(hd0,gpt1)/boot/vmlinuz-{N_OLD} {AMAZON_OPTIONS}",
            running=N_OLD,
        ),
        bls_menu(ROOT, prefix=f"UUID={ROOT}"),
        {"/boot/grub2/grubenv": grubenv(saved_entry=f"{MACHINE_ID}-{N_NEW}"), "/boot/grub2/i386-pc/normal.mod": ""},
    ),
    N_NEW,
    "as saved_entry asks",
    Fault(
        "initramfs.corrupt",
        {f"/boot/initramfs-{N_NEW}.img": layouts.damaged(image("dracut", N_NEW, ".ko.xz"))},
        command=("dracut", "--force"),
    ),
)
ZFS_MENU = debian_menu(
    "Ubuntu 22.04.4 LTS",
    "9a3c5f0b1d2e4f67",
    [U_NEW, U_OLD],
    "root=ZFS=rpool/ROOT/ubuntu_x quiet splash",
    at="/BOOT/ubuntu_x@",
    root="hd0,gpt3",
)
UBUNTU_ZFS = Layout(
    "Ubuntu desktop on ZFS: /boot in a pool that GRUB names by a number of its own",
    "https://openzfs.github.io/openzfs-docs/Getting Started/Ubuntu",
    merged(
        system(UBUNTU_OS, f"UUID={ESP} /boot/efi vfat umask=0022,fmask=0022 0 1\n", *DEBIAN_TOOLS),
        DPKG,
        debian_kernel(U_NEW),
        debian_kernel(U_OLD),
        facts(
            (
                Device("sda", "8:0"),
                layouts.esp("sda1", "8:1"),
                Device("sda3", "8:3", "11113333", "zfs_member", "bpool", "11111111-0000-4000-8000-000000000003"),
                Device("sda4", "8:4", "22224444", "zfs_member", "rpool", "11111111-0000-4000-8000-000000000004"),
            ),
            (
                "0:28 / / zfs rpool/ROOT/ubuntu_x",
                "0:40 / /boot zfs bpool/BOOT/ubuntu_x",
                "8:1 / /boot/efi vfat /dev/sda1",
                "8:1 /grub /boot/grub vfat /dev/sda1",
            ),
            cmdline=f"BOOT_IMAGE=/BOOT/ubuntu_x@/vmlinuz-{U_OLD} root=ZFS=rpool/ROOT/ubuntu_x ro quiet splash",
            running=U_OLD,
        ),
        {
            "/boot/grub/grub.cfg": ZFS_MENU,
            "/boot/grub/grubenv": grubenv(),
            "/boot/efi/grub/grub.cfg": ZFS_MENU,
            "/boot/efi/grub/grubenv": grubenv(),
        },
        esp_stub(ESP, "/grub", "ubuntu"),
        firmware("\\EFI\\ubuntu\\shimx64.efi", "ubuntu"),
    ),
    U_NEW,
    "entry 0",
    verdict="unknown",
    warnings=("boot-entry.file-not-visible", "initramfs.not-visible", "fallback.not-known"),
)
DEBIAN_BIOS = Layout(
    "Debian on BIOS, /boot on the root",
    "Debian installer, all files in one partition",
    merged(
        system(
            DEBIAN_OS,
            f"UUID={ROOT} / ext4 errors=remount-ro 0 1\nUUID={SWAP} none swap sw 0 0\n"
            "/dev/sr0 /media/cdrom0 udf,iso9660 user,noauto 0 0\n",
            *DEBIAN_TOOLS,
        ),
        DPKG,
        debian_kernel(D_NEW),
        debian_kernel(D_OLD),
        facts(
            (
                Device("sda", "8:0"),
                Device("sda1", "8:1", ROOT, "ext4", partuuid="5afe0e11-01"),
                Device("sda5", "8:5", SWAP, "swap", partuuid="5afe0e11-05"),
            ),
            ("8:1 / / ext4 /dev/sda1",),
            cmdline=f"BOOT_IMAGE=/boot/vmlinuz-{D_OLD} {RAID_ROOT}",
            running=D_OLD,
        ),
        {
            "/boot/grub/i386-pc/normal.mod": "",
            "/boot/grub/grubenv": grubenv(),
            "/boot/grub/grub.cfg": debian_menu("Debian GNU/Linux", ROOT, [D_NEW, D_OLD], RAID_ROOT, root="hd0,msdos1"),
        },
    ),
    D_NEW,
    "entry 0, the newest kernel",
    Fault("boot-entry.no-loader", gone=("/boot/grub/grub.cfg",), command=("update-grub",)),
)
UBUNTU_CORE = replace(
    UBUNTU_DESKTOP,
    name="Ubuntu with TPM-backed encryption: a kernel snap",
    documented="https://ubuntu.com/core/docs/uc20/recovery-modes",
    files={
        **UBUNTU_DESKTOP.files,
        "/proc/cmdline": "snapd_recovery_mode=run console=tty1 panic=-1 quiet splash\n",
    },
    kernel=None,
    why="snapd",
    fault=None,
    verdict="unknown",
    warnings=("boot-entry.unsupported-loader",),
)
RHEL8_UEFI = replace(
    RHEL_UEFI,
    name="RHEL 8 on UEFI: the menu and grubenv on the ESP",
    documented="RHEL 8, Managing, monitoring, and updating the kernel (grubby, grubenv)",
    files=merged(
        {path: content for path, content in RHEL_UEFI.files.items() if not path.startswith("/boot/grub2/")},
        {path: content for path, content in RHEL_KERNELOPTS.files.items() if path.startswith("/boot/loader/")},
        {
            "/boot/efi/EFI/rocky/grub.cfg": bls_menu(BOOT, prefix="/dev/mapper/rl_node--1-root")[
                "/boot/grub2/grub.cfg"
            ],
            "/boot/efi/EFI/rocky/grubenv": grubenv(saved_entry=f"{MACHINE_ID}-{R_NEW}", kernelopts=RHEL_OPTIONS),
            "/boot/grub2/grubenv": Link("../efi/EFI/rocky/grubenv"),
        },
    ),
    fault=Fault(
        "boot-entry.syntax-error",
        {
            "/boot/efi/EFI/rocky/grub.cfg": "if [ x = y ]; then\n"
            + str(bls_menu(BOOT, prefix="/dev/mapper/rl_node--1-root")["/boot/grub2/grub.cfg"])
        },
        command=("grub2-mkconfig", "-o", "/boot/efi/EFI/rocky/grub.cfg"),
        verdict="safe",
    ),
)
RHEL_MODULES = replace(
    RHEL_BIOS,
    name="Rocky Linux 9 without the new kernel's modules",
    fault=Fault(
        "kernel-files.modules-lost",
        gone=tuple(path for path in RHEL_BIOS.files if f"/{R_NEW}/kernel/" in path),
        command=("dnf", "reinstall", f"kernel*-{R_NEW}"),
    ),
)
L_NEW = "6.6.56-0-lts"
ALPINE_LINE = f"root=UUID={ROOT} ro modules=sd-mod,usb-storage,ext4 quiet rootfstype=ext4"
ALPINE_GRUB = Layout(
    "Alpine on UEFI: GRUB, musl, OpenRC, mkinitfs",
    "https://wiki.alpinelinux.org/wiki/Bootloaders; mkinitfs(1)",
    {
        **{
            path: content
            for path, content in ALPINE.files.items()
            if "linux.conf" not in path and "sys" not in path[:13]
        },
        "/boot/initramfs-lts": layouts.mkinitfs(L_NEW),
        "/boot/config-6.6.56-0-lts": config(),
        **facts(
            (
                Device("sda", "8:0"),
                layouts.esp("sda1", "8:1"),
                Device("sda2", "8:2", BOOT, "ext4", partuuid="11111111-0000-4000-8000-000000000002"),
                Device("sda3", "8:3", ROOT, "ext4", partuuid="11111111-0000-4000-8000-000000000003"),
            ),
            ("8:3 / / ext4 /dev/sda3", "8:2 / /boot ext4 /dev/sda2", "8:1 / /boot/efi vfat /dev/sda1"),
            cmdline=f"BOOT_IMAGE=/vmlinuz-lts {ALPINE_LINE}",
            running=L_NEW,
        ),
        "/usr/sbin/grub-mkconfig": layouts.STATIC,
        "/boot/efi/EFI/alpine/grubx64.efi": efi.grub("/grub", search=BOOT),
        "/boot/grub/grub.cfg": debian_menu(
            "Alpine Linux v3.20", BOOT, ["lts"], ALPINE_LINE, at="", initrd_name="initramfs-{}"
        ),
        "/boot/grub/grubenv": grubenv(),
        **firmware("\\EFI\\alpine\\grubx64.efi", "alpine"),
    },
    L_NEW,
    "entry 0",
    Fault(
        "boot-entry.root-missing",
        {
            "/boot/grub/grub.cfg": debian_menu(
                "Alpine", BOOT, ["lts"], ALPINE_LINE.replace(ROOT, GONE), at="", initrd_name="initramfs-{}"
            )
        },
        command=("grub-mkconfig", "-o", "/boot/grub/grub.cfg"),
    ),
    warnings=("fallback.none",),
)
OPENSUSE_LOADER = replace(
    OPENSUSE,
    name="openSUSE whose shim lost GRUB",
    fault=Fault(
        "boot-entry.no-loader", gone=("/boot/efi/EFI/opensuse/grub.efi",), command=("update-bootloader", "--reinit")
    ),
)

LAYOUTS = [
    FEDORA, FEDORA_ROOT, FEDORA_KERNEL_GONE, FEDORA_NO_ENTRIES, FEDORA_LUKS,
    RHEL_BIOS, RHEL_KERNELOPTS, RHEL_UEFI,
    UBUNTU_SERVER, UBUNTU_CLOUD, UBUNTU_CLOUD_BOOT, UBUNTU_DESKTOP,
    OPENSUSE, OPENSUSE_INITRD, OPENSUSE_BLOCK, TUMBLEWEED_SDBOOT,
    ARCH_SDBOOT, ARCH_GRUB, ARCH_UKI,
    DEBIAN_LUKS, DEBIAN_RAID,
    OVERLAYROOT, NFS_ROOT, LIVE, PROXMOX, PROXMOX_MOUNTED, PROXMOX_EMPTY, PROXMOX_NO_ENTRIES,
    ARM_CLOUD, PI, ALPINE, GENTOO,
    AMAZON, UBUNTU_ZFS, DEBIAN_BIOS, UBUNTU_CORE, OPENSUSE_LOADER, RHEL_MODULES, RHEL8_UEFI, ALPINE_GRUB,
]  # fmt: skip


def told(report: Report) -> list[str]:
    """Every finding above a note, to be read where a test fails."""
    return [
        f"{finding.level} {finding.id}: {finding.problem} {finding.evidence} {finding.remedy.commands}"
        for result in report.checks
        for finding in result.findings
        if finding.level != "note"
    ]


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.name)
def test_a_healthy_machine(tmp_path: Path, layout: Layout) -> None:
    report = judge(build(tmp_path, layout))
    found = told(report)
    assert report.verdict == layout.verdict, found
    assert report.target.kernel == layout.kernel, found
    assert layout.why in report.target.why
    assert [line for line in found if not any(allowed in line for allowed in layout.warnings)] == []


@pytest.mark.parametrize("layout", [layout for layout in LAYOUTS if layout.fault], ids=lambda layout: layout.name)
def test_a_machine_with_one_fault(tmp_path: Path, layout: Layout) -> None:
    fault = layout.fault
    assert fault is not None
    report = judge(build(tmp_path, layout, fault))
    findings = [finding for result in report.checks for finding in result.findings if finding.id == fault.finding]
    assert findings, told(report)
    assert report.verdict == fault.verdict, told(report)
    commands = [command for finding in findings for command in finding.remedy.commands]
    assert not fault.command or any(command[: len(fault.command)] == fault.command for command in commands), commands


class Running(Machine):
    """A machine as it runs: its one program is grub2-editenv, and that prints this block."""

    block = f"env_block=512+1\nsaved_entry=gnulinux-advanced-{ROOT}>gnulinux-{S_OLD}-advanced-{ROOT}\n"

    def run(self, command: Sequence[str], **_: object) -> Completed:
        assert command == ("grub2-editenv", "-", "list")
        return Completed(0 if self.block else 1, self.block.encode(), b"")


class RunningUnread(Running):
    block = ""


def test_variables_in_sectors_of_the_disk(tmp_path: Path) -> None:
    root = build(tmp_path, OPENSUSE_BLOCK).root
    report = judge(Running(root, live=True))
    assert (report.verdict, report.target.kernel) == ("safe", S_OLD), told(report)
    assert judge(RunningUnread(root, live=True)).verdict == "unknown"


# -- lines that people write -----------------------------------------------------------------------------------

DATA, POOL = "5afe0bda-0000-4000-8000-00000000000d", "5afe0bda-0000-4000-8000-00000000000e"
WILD_DISK = (
    Device("sda", "8:0"),
    Device("sda1", "8:1", ROOT, "ext4", "my root", partuuid="5afe0e11-01"),
    Device("sda2", "8:2", DATA, "ext4", "Meine Daten", partuuid="5afe0e11-02", links=("disk/by-id/ata-X_1-part2",)),
    Device("sdb", "8:16", POOL, "btrfs", "pool"),
    Device("sdc", "8:32", POOL, "btrfs", "pool"),
    Device("sdd", "8:48", LUKS, "crypto_LUKS", links=("disk/by-path/pci-0000:00:1f.2-ata-4",)),
    Device("dm-0", "254:0", HOME, "xfs", mapper="crypt-home", dm_uuid="CRYPT-LUKS2-x-crypt-home", below=("sdd",)),
    Device("dm-1", "254:1", SWAP, "swap", mapper="cryptswap", dm_uuid="CRYPT-PLAIN-cryptswap", below=("sda5",)),
    lv("dm-2", "254:2", "my-vg", "var-log", "5afe0bda-0000-4000-8000-000000000010", "xfs", "sdd"),
    Device("md127", "9:127", "5afe0bda-0000-4000-8000-000000000011", "ext4", md=True, links=("md/nas:data",)),
    Device("zram0", "252:0", fstype="swap"),
)
WILD_FSTAB = f"""
LABEL=my\\040root  /  ext4  errors=remount-ro  0 1
proc  /proc  proc  defaults  0 0
tmpfs  /tmp  tmpfs  mode=1777,size=2G  0 0
none  /dev/shm  tmpfs  defaults  0 0
LABEL=Meine\\040Daten  /mnt/a  ext4  defaults  0 2
LABEL="Meine\\040Daten"  /mnt/b  ext4  noauto  0 0
/dev/disk/by-id/ata-X_1-part2  /mnt/c  auto  defaults,x-systemd.device-timeout=1  0 0
PARTUUID=5afe0e11-02  /mnt/d  ext4  relatime  0 2
UUID="{DATA}"  /mnt/e  ext4  ro  0 2
UUID={POOL}  /pool  btrfs  subvol=@pool,degraded,compress=zstd  0 0
LABEL=pool  /pool-top  btrfs  subvolid=5  0 0
/dev/sdb  /pool-b  btrfs  device=/dev/sdb,device=/dev/sdc,subvol=/@pool  0 0
/dev/mapper/crypt-home  /home  xfs  defaults,x-systemd.makefs  0 2
UUID={HOME}  /home2  xfs  defaults  0 2
/dev/my-vg/var-log  /var/log  xfs  defaults  0 2
/dev/mapper/my--vg-var--log  /var/log2  xfs  defaults  0 2
/dev/md/nas:data  /srv/raid  ext4  defaults  0 2
/dev/md127  /srv/raid2  ext4  defaults  0 2
/mnt/a/x  /srv/x  none  bind,x-systemd.requires-mounts-for=/mnt/a  0 0
/mnt/a  /srv/y  none  rbind  0 0
UUID={GONE}  /usb  ext4  nofail,x-systemd.device-timeout=5s  0 0
LABEL=stick  /stick  vfat  noauto,user  0 0
UUID={GONE}  /auto  ext4  x-systemd.automount,x-systemd.idle-timeout=60  0 0
server:/export  /mnt/nfs  nfs  defaults  0 0
server:/export  /mnt/nfs4  nfs4  _netdev,x-systemd.automount  0 0
//server/share  /mnt/cifs  cifs  credentials=/root/c,uid=1000,_netdev  0 0
user@host:/  /mnt/ssh  fuse.sshfs  noauto,x-systemd.automount,_netdev  0 0
/mnt/a*:/mnt/b*  /mnt/pool  fuse.mergerfs  allow_other,category.create=mfs  0 0
overlay  /mnt/over  overlay  lowerdir=/mnt/a,upperdir=/mnt/d/u,workdir=/mnt/d/w  0 0
/srv/image.img  /mnt/img  ext4  loop,ro  0 0
/dev/sr0  /media/cdrom0  udf,iso9660  user,noauto  0 0
/dev/fd0  /media/floppy0  auto  rw,user,noauto  0 0
/dev/zram0  none  swap  pri=100  0 0
/dev/mapper/cryptswap  none  swap  sw  0 0
/swapfile  swap  swap  defaults  0 0
"""
WILD_MOUNTS = (
    *("8:1 / / ext4 /dev/sda1", "8:2 / /mnt/a ext4 /dev/sda2", "0:44 /@pool /pool btrfs /dev/sdb"),
    *("0:44 / /pool-top btrfs /dev/sdb", "254:0 / /home xfs /dev/mapper/crypt-home"),
    "254:2 / /var/log xfs /dev/mapper/my--vg-var--log",
)


def wild(cmdline: str, fstab: str = WILD_FSTAB, generator: str = "initramfs-tools") -> Layout:
    menu = debian_menu("Debian GNU/Linux", ROOT, [D_NEW, D_OLD], cmdline, root="hd0,msdos1")
    files = merged(
        system(DEBIAN_OS, fstab, *DEBIAN_TOOLS),
        DPKG,
        debian_kernel(D_NEW, generator=generator),
        debian_kernel(D_OLD, generator=generator),
        facts(WILD_DISK, WILD_MOUNTS, cmdline=f"BOOT_IMAGE=/boot/vmlinuz-{D_OLD} {cmdline}", running=D_OLD),
        {
            "/etc/crypttab": f"crypt-home UUID={LUKS} /root/key luks\ncryptswap /dev/sda5 /dev/urandom swap\n"
            "backup UUID=x none noauto\n",
            "/swapfile": b"",
            "/srv/image.img": b"",
            "/mnt/a/x": None,
            "/pool-top/@pool": None,
            "/boot/grub/grub.cfg": menu,
            "/boot/grub/grubenv": grubenv(),
            "/boot/grub/i386-pc/normal.mod": "",
        },
    )
    return Layout("wild", "fstab(5), systemd.mount(5), crypttab(5)", files, D_NEW, "entry 0")


def test_lines_of_fstab_that_stop_no_boot(tmp_path: Path) -> None:
    report = judge(build(tmp_path, wild(f"root=UUID={ROOT} ro")))
    assert (report.verdict, told(report)) == ("safe", [])


@pytest.mark.parametrize("generator", ["initramfs-tools", "dracut", "dracut without systemd"])
@pytest.mark.parametrize(
    "cmdline",
    [
        f"root=UUID={GONE} root=UUID={ROOT} ro",
        f'root="UUID={ROOT}" ro dyndbg="file drivers/usb/* +p" quiet',
        '"root=LABEL=my root" ro',
        "root=PARTUUID=5afe0e11-01 rootfstype=ext4 rootwait",
        f"root=/dev/disk/by-uuid/{ROOT} ro rootflags=data=ordered",
        "root=/dev/sda1 ro resume=/dev/mapper/cryptswap",
        f"root=UUID={ROOT} ro resume=UUID={ROOT} resume_offset=34816",
        f"root=UUID={ROOT} ro noresume resume=UUID={GONE}",
        f"root=UUID={ROOT} ro resume=254:1",
        f"root=UUID={ROOT} rw rd.luks.uuid=luks-{LUKS} rd.luks.uuid={LUKS} rd.luks.options=discard",
        f"root=UUID={ROOT} rw rd.luks.name={LUKS}=crypt-home rd.luks.uuid={LUKS[:8]}",
        f"root=UUID={ROOT} ro rd.lvm.lv=my-vg/var-log rd.lvm.vg=my-vg rd.md.uuid=11:22:33:44 rd.auto",
        f"root=UUID={ROOT} ro init=/usr/lib/systemd/systemd systemd.unit=multi-user.target",
        f"root=UUID={ROOT} ro init=/sbin/init zswap.enabled=1 mitigations=auto,nosmt net.ifnames=0 -- 3",
        f"root=UUID={ROOT} ro init=/lib/systemd/systemd systemd.show_status=1",
    ],
)
def test_command_lines_that_start_it(tmp_path: Path, cmdline: str, generator: str) -> None:
    report = judge(build(tmp_path, wild(cmdline, generator=generator)))
    odd = [one for one in told(report) if not one.startswith("warning boot-settings.given-twice: ")]
    assert (report.verdict, odd) == ("safe", [])


# -- the page --------------------------------------------------------------------------------------------------

PAGE = Path(__file__).parent.parent.parent / "docs" / "distributions.md"
HEAD = """# Distributions that were built from their documentation

Systems that are not started here: trees with what each one's installer, generators, kernel and udev leave behind,
around small kernels and images. `tests/unit/test_distributions.py` judges every one of them healthy and with one
fault, and keeps this page; `python3 -m tests.unit.test_distributions` writes it anew.

| layout | its form is documented in | healthy | what finds its fault |
|---|---|---|---|
"""


def page() -> str:
    rows = [
        f"| {layout.name} | {layout.documented} | **{layout.verdict}** | "
        + (f"`{layout.fault.finding}`: {layout.fault.verdict} |\n" if layout.fault is not None else "- |\n")
        for layout in LAYOUTS
    ]
    return HEAD + "".join(rows)


def test_the_page_tells_what_is_tried_here() -> None:
    assert PAGE.read_text() == page()


if __name__ == "__main__":
    PAGE.write_text(page())
