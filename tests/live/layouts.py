"""The machines that check themselves: what is on their disks, and what is done in the guest to install the loader."""

from __future__ import annotations

from dataclasses import dataclass

from tests.lab.bases import OLDER_ONCE
from tests.lab.disks import ESP, ROOT, Part

_GRUB = """
cat > /etc/default/grub <<END
GRUB_DEFAULT=0
GRUB_TIMEOUT=1
GRUB_DISTRIBUTOR=Debian
GRUB_CMDLINE_LINUX_DEFAULT=
GRUB_CMDLINE_LINUX="console=ttyS0,115200"
END
"""
_BIOS_GRUB = f"{_GRUB}\ngrub-install /dev/vda\nupdate-grub\n"
_UEFI_GRUB = f"{_GRUB}\ngrub-install --target=x86_64-efi\nupdate-grub\n"

_SYSTEMD_BOOT = """
bootctl --make-entry-directory=yes install
echo 'timeout 1' > "$(bootctl -p)/loader/loader.conf"
echo "root=UUID=$ROOT_UUID ro console=ttyS0,115200" > /etc/kernel/cmdline
for release in $(ls /lib/modules); do
	kernel-install add "$release" "/boot/vmlinuz-$release" "/boot/initrd.img-$release"
done
bootctl list --no-pager
"""

_LVM = (
    """
pvcreate -y -ff /dev/vda2
vgcreate vg0 /dev/vda2
lvcreate -y -Wn -n root -L 3000M vg0
mkfs.ext4 -q -F -U $ROOT_UUID /dev/vg0/root
mount /dev/vg0/root /mnt
cp -ax / /mnt
rm /mnt/root/live-install.sh
mount /dev/vda1 /mnt/boot
cp -ax /boot/. /mnt/boot/
for name in dev proc sys run; do mount --bind /$name /mnt/$name; done
cat > /mnt/root/grub.sh <<'OUTER'
"""
    + _BIOS_GRUB
    + """
OUTER
chroot /mnt sh -eux /root/grub.sh
rm /mnt/root/grub.sh
umount /mnt/boot
for name in dev proc sys run; do umount /mnt/$name; done
umount /mnt
"""
)

_LUKS = _LVM.replace("pvcreate", "LUKS\npvcreate").replace(
    "LUKS\n",
    """
printf secret > /run/key
cryptsetup luksFormat -q --pbkdf pbkdf2 --pbkdf-force-iterations 1000 --uuid $LUKS_UUID /dev/vda2 /run/key
cryptsetup open --key-file /run/key /dev/vda2 vda2_crypt
""",
)


@dataclass(frozen=True)
class Layout:
    """One machine. `base` is the name of a tree of machines/; `parts` are in the order of the disk, the root with
    the mount point `/`; `install` runs in the guest as process 1, on the machine's own root.

    `staged`: the root is made in the guest, where there is a device mapper, from a copy on a second disk.
    `like`: the disk of another layout, changed by `change`, a script that runs on the host in the mounted root.
    """

    name: str
    base: str = ""
    packages: tuple[str, ...] = ()
    purge: tuple[str, ...] = ()
    parts: tuple[Part, ...] = ()
    fstab: str = ""
    install: str = ""
    uefi: bool = False
    flags: str = ""
    staged: bool = False
    like: str = ""
    change: str = ""
    answers: tuple[tuple[str, str], ...] = ()


def _uuid(number: int, part: int) -> str:
    return f"5afe11fe-{number:04x}-4000-8000-{part:012x}"


ALL = (
    Layout(
        "bios-ext4",
        "debian12",
        ("python3",),
        parts=(Part(3072, "ext4", _uuid(1, 1), "/"),),
        fstab=f"UUID={_uuid(1, 1)} / ext4 errors=remount-ro 0 1\n",
        install=_BIOS_GRUB + OLDER_ONCE,
    ),
    Layout(
        "uefi-btrfs",
        "debian13",
        (
            "python3",
            "btrfs-progs",
            "dosfstools",
            "grub-efi-amd64",
            "grub-efi-amd64-signed",
            "shim-signed",
            "efibootmgr",
        ),
        ("grub-pc",),
        parts=(Part(300, "vfat", "5AFE-0002", "/boot/efi", ESP), Part(3072, "btrfs", _uuid(2, 2), "/", ROOT)),
        fstab=f"UUID={_uuid(2, 2)} / btrfs defaults,subvol=@ 0 0\n"
        f"UUID={_uuid(2, 2)} /home btrfs defaults,subvol=@home 0 0\n"
        "UUID=5AFE-0002 /boot/efi vfat umask=0077 0 1\n",
        install=_UEFI_GRUB,
        uefi=True,
        flags="rootflags=subvol=@",
    ),
    Layout(
        "systemd-boot",
        "debian13",
        ("python3", "python3-pefile", "dosfstools", "systemd-boot", "efibootmgr"),
        ("grub-pc", "grub-pc-bin", "grub2-common", "grub-common"),
        parts=(Part(500, "vfat", "5AFE-0003", "/boot/efi", ESP), Part(3072, "ext4", _uuid(3, 2), "/", ROOT)),
        fstab=f"UUID={_uuid(3, 2)} / ext4 errors=remount-ro 0 1\nUUID=5AFE-0003 /boot/efi vfat umask=0077 0 1\n",
        install=_SYSTEMD_BOOT,
        uefi=True,
    ),
    Layout("systemd-boot-noauto", like="systemd-boot", change="sed -i 's/umask=0077/noauto,&/' etc/fstab"),
    Layout(
        "systemd-boot-automount",
        like="systemd-boot",
        change="sed -i 's/umask=0077/noauto,x-systemd.automount,x-systemd.idle-timeout=60,&/' etc/fstab",
    ),
    Layout("systemd-boot-gpt-auto", like="systemd-boot", change="sed -i /vfat/d etc/fstab; mkdir efi"),
    Layout(
        "xfs-dracut",
        "debian12-dracut",
        ("python3", "xfsprogs"),
        parts=(Part(512, "ext4", _uuid(4, 1), "/boot"), Part(3072, "xfs", _uuid(4, 2), "/")),
        fstab=f"UUID={_uuid(4, 2)} / xfs defaults 0 0\nUUID={_uuid(4, 1)} /boot ext4 defaults 0 2\n",
        install=_BIOS_GRUB,
    ),
    Layout(
        "lvm",
        "debian12",
        ("python3", "lvm2"),
        parts=(Part(512, "ext4", _uuid(5, 1), "/boot"), Part(3200, "ext4", _uuid(5, 2), "/")),
        fstab=f"/dev/mapper/vg0-root / ext4 errors=remount-ro 0 1\nUUID={_uuid(5, 1)} /boot ext4 defaults 0 2\n",
        install=_LVM,
        staged=True,
    ),
    Layout(
        "luks-lvm",
        "debian12",
        ("python3", "lvm2", "cryptsetup-initramfs"),
        parts=(Part(512, "ext4", _uuid(6, 1), "/boot"), Part(3200, "ext4", _uuid(6, 2), "/")),
        fstab=f"/dev/mapper/vg0-root / ext4 errors=remount-ro 0 1\nUUID={_uuid(6, 1)} /boot ext4 defaults 0 2\n",
        install=_LUKS,
        staged=True,
        answers=(("Please unlock disk vda2_crypt", "secret\n"),),
    ),
)

BY_NAME = {layout.name: layout for layout in ALL}
LUKS_UUID = _uuid(6, 3)
