"""The layouts of distributions that nobody here starts, each from its documentation: healthy, and with one fault."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from safeupdate.judge import judge
from safeupdate.report import Report
from tests.unit import efi, layouts
from tests.unit.layouts import (
    BOOT,
    DEBIAN_TOOLS,
    DPKG,
    ESP,
    FEDORA_TOOLS,
    HOME,
    LUKS,
    MACHINE_ID,
    ROOT,
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
        {path: content for path, content in FEDORA_TREE.items() if not path.startswith(("/usr/sbin/", "/sbin"))},
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
        **modules(release),
    }


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

LAYOUTS = [
    FEDORA, FEDORA_ROOT, FEDORA_KERNEL_GONE, FEDORA_NO_ENTRIES, FEDORA_LUKS,
    RHEL_BIOS, RHEL_KERNELOPTS, RHEL_UEFI,
    UBUNTU_SERVER, UBUNTU_CLOUD, UBUNTU_CLOUD_BOOT, UBUNTU_DESKTOP,
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
