"""The base machines: RELEASE-GENERATOR-ROOT-FIRMWARE, what is on their disks, and how their boot loader is installed.

An install script runs in a guest as process 1, on the machine's own root, as an installer does.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass

from tests.lab.disks import ESP, ROOT, Part

_GRUB = """
cat > /etc/default/grub <<END
GRUB_DEFAULT=0
GRUB_TIMEOUT=1
GRUB_TERMINAL=console
GRUB_DISTRIBUTOR=Debian
GRUB_CMDLINE_LINUX_DEFAULT=
GRUB_CMDLINE_LINUX="console=ttyS0,115200"
END
"""
_BIOS_GRUB = f"{_GRUB}\ngrub-install /dev/vda\nupdate-grub\n"
_UEFI_GRUB = f"{_GRUB}\ngrub-install --target=x86_64-efi\nupdate-grub\n"

OLDER_ONCE = """
id=$(sed -n 's/^submenu .*\\(gnulinux-advanced-[^ ]*\\)'"'"' {.*/\\1/p' /boot/grub/grub.cfg)
older=$(ls /lib/modules | sort -V | head -n 1)
entry=$(sed -n "s/^.*menuentry_id_option '\\(gnulinux-$older-advanced-[^']*\\)'.*/\\1/p" /boot/grub/grub.cfg)
grub-reboot "$id>$entry"
"""
"""The saved state runs the older kernel, as a machine does after an update: the newest is what comes next."""

_PLAIN_FIRST = """
mkdir -p /etc/default/grub.d
echo "GRUB_TOP_LEVEL=$(ls /boot/vmlinuz-*[0-9]-amd64)" > /etc/default/grub.d/plain-first.cfg
"""
"""The real-time kernel would be the first, and it has no EFI variables."""

_SYSTEMD_BOOT = """
echo 3 > /etc/kernel/tries
bootctl --make-entry-directory=yes install
echo 'timeout 1' > "$(bootctl -p)/loader/loader.conf"
echo "root=UUID=$ROOT_UUID ro console=ttyS0,115200" > /etc/kernel/cmdline
for release in $(ls /lib/modules); do
	kernel-install add "$release" "/boot/vmlinuz-$release" "/boot/initrd.img-$release"
done
bootctl list --no-pager
"""


_BLOCKS = """
# No udevd runs here that the device mapper could wait for.
export DM_DISABLE_UDEV=1
@CREATE@
# A copy block by block: file by file it takes ten minutes in an emulated machine.
mount -o remount,ro /
dd if=$(findmnt -n -o SOURCE /) of=$root bs=4M conv=$how
mount -o remount,rw /
mkdir -p /dev/disk/by-uuid
ln -sf $(realpath $root) /dev/disk/by-uuid/$ROOT_UUID
mount $root /mnt
"""

_FINISH = """\
if [ -e $boot ]; then
	rm -r /mnt/boot
	mkdir /mnt/boot
	mount $boot /mnt/boot
	cp -a /boot/. /mnt/boot
fi
rm /mnt/root/lab-install.sh
for name in dev proc sys run; do mount --bind /$name /mnt/$name; done
cat > /mnt/root/rest.sh <<'OUTER'
@REST@
OUTER
chroot /mnt sh -eux /root/rest.sh
rm /mnt/root/rest.sh
umount /mnt/boot || true
for name in dev proc sys run; do umount /mnt/$name; done
umount /mnt
"""

_VOLUME_GROUP = """
pvcreate -y -ff $physical
vgcreate vg0 $physical
lvcreate -y -Wn -n root -l 90%FREE vg0
root=/dev/vg0/root
boot=/dev/vda1
how=fsync,sparse
"""

_CONTAINER = """
printf secret > /run/key
cryptsetup luksFormat -q --pbkdf pbkdf2 --pbkdf-force-iterations 1000 --uuid $LUKS_UUID /dev/vda2 /run/key
cryptsetup open --key-file /run/key /dev/vda2 vda2_crypt
"""

_WHOLE = "\nhow=fsync\n"
"""What was never written to a container is not zero."""

_IMAGES = """
echo COMPRESSLEVEL=1 > /etc/initramfs-tools/conf.d/lab.conf
update-initramfs -u -k all
"""
"""Here, because the hook of cryptsetup looks at the devices below the root. What is packed best takes half an hour."""

_LOGICAL_CONTAINER = """
printf secret > /run/key
cryptsetup luksFormat -q --pbkdf pbkdf2 --pbkdf-force-iterations 1000 --uuid $LUKS_UUID /dev/vg0/root /run/key
cryptsetup open --key-file /run/key /dev/vg0/root vg0-root_crypt
root=/dev/mapper/vg0-root_crypt
boot=/dev/vda2
how=fsync
"""

_STAGED_UEFI_GRUB = f"""
mount -t efivarfs efivarfs /sys/firmware/efi/efivars
mount /boot/efi
{_UEFI_GRUB}{OLDER_ONCE}
umount /boot/efi /sys/firmware/efi/efivars
"""

_ARRAY = """
hostname -F /etc/hostname
mdadm --create /dev/md0 --run --level=1 --raid-devices=2 --metadata=1.2 --uuid=$ARRAY_UUID --assume-clean \\
	/dev/vda1 /dev/vdb1
root=/dev/md0
boot=/nowhere
how=fsync,sparse
"""

_CACHE = "zfs_arc_max=201326592"
"""Bytes: of the lab's small machines it would take the half."""

_POOL = f"""
hostname -F /etc/hostname
modprobe zfs {_CACHE}
# As OpenZFS' guide has it. GRUB cannot read such a pool, and need not.
zpool create -f -o ashift=12 -o cachefile=/etc/zfs/zpool.cache -O acltype=posixacl -O xattr=sa -O dnodesize=auto \\
	-O compression=lz4 -O normalization=formD -O relatime=on -O canmount=off -O mountpoint=none rpool /dev/vda2
zfs create -o canmount=off rpool/ROOT
zfs create -o canmount=noauto -o mountpoint=/ rpool/ROOT/debian
zpool set bootfs=rpool/ROOT/debian rpool
mount -t zfs -o zfsutil rpool/ROOT/debian /mnt
tar -C / --one-file-system --numeric-owner --exclude='./boot/*' -cf - . | tar -C /mnt --numeric-owner -xpf -
cp /etc/zfs/zpool.cache /mnt/etc/zfs/
# The root has no line there.
sed -i '\\, / ,d' /mnt/etc/fstab
boot=/dev/vda1
"""

_LIST = """
sed -i 's/^MODULES=.*/MODULES=list/' /etc/initramfs-tools/initramfs.conf
printf '%s\\n' virtio_pci virtio_blk >> /etc/initramfs-tools/modules
"""
"""An initramfs that is made in a guest takes a minute then, and not six."""

_POOL_GRUB = _BIOS_GRUB.replace('="console', f'="root=ZFS=rpool/ROOT/debian zfs.{_CACHE} console')


def _staged(create: str, rest: str) -> str:
    return (_BLOCKS + _FINISH).replace("@CREATE@", create).replace("@REST@", rest)


@dataclass(frozen=True)
class Base:
    """One machine. `tree` is a root tree of machines/; `parts` are in the order of the disk, the root with the mount
    point `/`. `packages` come to those of the tree, `purge` go.

    `staged`: the root is made in the guest, where there is a device mapper, from a copy on a disk that is there for
    that only; `parts` then holds what it lies on, without a file system. `disks` all have the same parts.
    """

    name: str
    tree: str
    packages: tuple[str, ...]
    parts: tuple[Part, ...]
    install: str
    purge: tuple[str, ...] = ()
    root_flags: str = ""
    options: str = "defaults"
    subvolumes: tuple[tuple[str, str], ...] = ()
    staged: Part | None = None
    root_source: str = ""
    crypttab: str = ""
    disks: int = 1
    answers: tuple[tuple[str, str], ...] = ()

    @property
    def firmware(self) -> str:
        """`bios`, `uefi`, `uefisb` or `sdboot`."""
        return self.name.rpartition("-")[2]

    @property
    def uefi(self) -> bool:
        """Whether the firmware is UEFI."""
        return self.firmware != "bios"

    @property
    def secure_boot(self) -> bool:
        """Whether the firmware checks signatures."""
        return self.firmware == "uefisb"

    @property
    def root(self) -> Part:
        """The partition of the root file system, or the disk that it is copied from."""
        return self.staged or next(part for part in self.parts if part.point == "/")

    @property
    def array(self) -> str:
        """The line of mdadm.conf for the array of its disks; empty where there is none."""
        return f"ARRAY /dev/md/0 metadata=1.2 UUID={_array_uuid(self.name)}\n" if self.disks > 1 else ""

    @property
    def fstab(self) -> str:
        """As an installer writes it."""
        root = self.root
        source = self.root_source or f"UUID={root.uuid}"
        lines = [f"{source} / {root.fstype} {self.options} 0 {int(root.fstype == 'ext4')}"]
        lines += [f"{source} {point} {root.fstype} defaults,subvol={name} 0 0" for name, point in self.subvolumes]
        for part in sorted(self.parts, key=lambda part: part.point):
            if part.point == "/":
                continue
            if part.fstype == "vfat":
                lines.append(f"UUID={part.uuid} {part.point} vfat umask=0077 0 1")
            elif part.point:
                lines.append(f"UUID={part.uuid} {part.point} {part.fstype} defaults 0 2")
        return "\n".join(lines) + "\n"


def _uuid(base: str, point: str) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_OID, f"{base} {point}"))


def _array_uuid(base: str) -> str:
    """As mdadm writes it: four groups of eight digits."""
    digits = _uuid(base, "array").replace("-", "")
    return ":".join(digits[start : start + 8] for start in range(0, 32, 8))


def _esp(base: str, size: int = 200) -> Part:
    serial = _uuid(base, "/boot/efi")[:8].upper()
    return Part(size, "vfat", f"{serial[:4]}-{serial[4:]}", "/boot/efi", ESP)


def _bases() -> tuple[Base, ...]:
    ext4 = "errors=remount-ro"
    efi_grub = ("grub-efi-amd64", "grub-efi-amd64-signed", "shim-signed", "efibootmgr", "dosfstools", "mokutil")
    bios = "debian12-initramfstools-ext4-bios"
    uefi = "debian13-initramfstools-ext4-uefi"
    dracut = "debian12-dracut-xfs-bios"
    signed = "debian13-initramfstools-btrfs-uefisb"
    sdboot = "debian13-initramfstools-ext4-sdboot"
    lvm = "debian12-initramfstools-lvm-bios"
    luks = "debian12-initramfstools-lukslvm-bios"
    inner = "debian13-initramfstools-luksonlvm-uefi"
    array = "debian13-initramfstools-md-bios"
    dracut_uefi = "debian13-dracut-ext4boot-uefi"
    testing = "testing-dracut-btrfs-uefi"
    pool = "debian12-initramfstools-zfs-bios"
    built = ("openssl", "dkms", "v4l2loopback-dkms")
    return (
        Base(
            bios,
            "debian12-dkms",
            (),
            (Part(4096, "ext4", _uuid(bios, "/"), "/"),),
            _BIOS_GRUB + OLDER_ONCE,
            options=ext4,
        ),
        Base(
            uefi,
            "debian13-dkms",
            efi_grub,
            (_esp(uefi), Part(4096, "ext4", _uuid(uefi, "/"), "/", ROOT)),
            _UEFI_GRUB + OLDER_ONCE,
            purge=("grub-pc",),
            options=ext4,
        ),
        Base(
            dracut,
            "debian12-dracut",
            ("xfsprogs", "openssl", "dkms", "v4l2loopback-dkms"),
            (
                Part(512, "ext4", _uuid(dracut, "/boot"), "/boot"),
                Part(4096, "xfs", _uuid(dracut, "/"), "/"),
            ),
            _BIOS_GRUB + OLDER_ONCE,
        ),
        Base(
            signed,
            "debian13-dkms",
            ("btrfs-progs", *efi_grub),
            (_esp(signed), Part(4096, "btrfs", _uuid(signed, "/"), "/", ROOT)),
            # GRUB cannot write to btrfs: a kernel that is to start once would start always.
            _UEFI_GRUB,
            purge=("grub-pc",),
            root_flags="rootflags=subvol=@",
            options="defaults,subvol=@",
            subvolumes=(("@home", "/home"),),
        ),
        Base(
            sdboot,
            "debian13-dkms",
            ("dosfstools", "systemd-boot", "efibootmgr"),
            (_esp(sdboot, 500), Part(4096, "ext4", _uuid(sdboot, "/"), "/", ROOT)),
            _SYSTEMD_BOOT,
            purge=("grub-pc", "grub-pc-bin", "grub2-common", "grub-common"),
            options=ext4,
        ),
        Base(
            lvm,
            "debian12-dkms",
            ("lvm2",),
            (Part(512, "ext4", _uuid(lvm, "/boot"), "/boot"), Part(4400)),
            _staged("physical=/dev/vda2" + _VOLUME_GROUP, _BIOS_GRUB + OLDER_ONCE),
            options=ext4,
            staged=Part(3400, "ext4", _uuid(lvm, "/")),
            root_source="/dev/mapper/vg0-root",
        ),
        Base(
            luks,
            "debian12-dkms",
            ("lvm2", "cryptsetup-initramfs"),
            (Part(512, "ext4", _uuid(luks, "/boot"), "/boot"), Part(4400)),
            _staged(
                f"LUKS_UUID={_uuid(luks, 'container')}{_CONTAINER}physical=/dev/mapper/vda2_crypt{_VOLUME_GROUP}"
                + _WHOLE,
                _BIOS_GRUB + OLDER_ONCE + _IMAGES,
            ),
            options=ext4,
            staged=Part(3400, "ext4", _uuid(luks, "/")),
            root_source="/dev/mapper/vg0-root",
            crypttab=f"vda2_crypt UUID={_uuid(luks, 'container')} none luks,discard\n",
            answers=(("Please unlock disk vda2_crypt", "secret\n"),),
        ),
        Base(
            inner,
            "debian13-dkms",
            ("lvm2", "cryptsetup-initramfs", *efi_grub),
            (_esp(inner), Part(512, "ext4", _uuid(inner, "/boot"), "/boot"), Part(4400)),
            _staged(
                f"LUKS_UUID={_uuid(inner, 'container')}\nphysical=/dev/vda3{_VOLUME_GROUP}{_LOGICAL_CONTAINER}",
                _STAGED_UEFI_GRUB + _IMAGES,
            ),
            purge=("grub-pc",),
            options=ext4,
            staged=Part(3400, "ext4", _uuid(inner, "/")),
            root_source="/dev/mapper/vg0-root_crypt",
            crypttab=f"vg0-root_crypt UUID={_uuid(inner, 'container')} none luks,discard\n",
            answers=(("Please unlock disk vg0-root_crypt", "secret\n"),),
        ),
        Base(
            array,
            "debian13-dkms",
            ("mdadm",),
            (Part(4400),),
            # GRUB cannot write to an array.
            _staged(f"ARRAY_UUID={_array_uuid(array)}{_ARRAY}", f"{_BIOS_GRUB}\ngrub-install /dev/vdb\n"),
            options=ext4,
            staged=Part(3400, "ext4", _uuid(array, "/")),
            disks=2,
        ),
        Base(
            dracut_uefi,
            "debian13-dracut",
            (*built, *efi_grub),
            (
                _esp(dracut_uefi),
                Part(512, "ext4", _uuid(dracut_uefi, "/boot"), "/boot"),
                Part(4096, "ext4", _uuid(dracut_uefi, "/"), "/", ROOT),
            ),
            _UEFI_GRUB + OLDER_ONCE,
            purge=("grub-pc",),
            options=ext4,
        ),
        Base(
            testing,
            "testing-dracut",
            # Its archive has one kernel at a time, in several flavours; the one for clouds can have no v4l2loopback.
            ("btrfs-progs", *built, *efi_grub, "linux-image-rt-amd64", "linux-headers-rt-amd64"),
            (_esp(testing), Part(4096, "btrfs", _uuid(testing, "/"), "/", ROOT)),
            _PLAIN_FIRST + _UEFI_GRUB,
            purge=("grub-pc", "?name(^linux-.*cloud-amd64$)"),
            root_flags="rootflags=subvol=@",
            options="defaults,subvol=@",
            subvolumes=(("@home", "/home"),),
        ),
        Base(
            pool,
            "debian12-zfs",
            (),
            (Part(512, "ext4", _uuid(pool, "/boot"), "/boot"), Part(4400)),
            _POOL + _FINISH.replace("@REST@", _POOL_GRUB + OLDER_ONCE + _LIST + _IMAGES) + "zpool export rpool\n",
            # Two files of three, and into a pool they are copied one by one.
            purge=("?name(^linux-headers-)",),
            staged=Part(3400, "ext4", _uuid(pool, "/")),
        ),
    )


BASES = {base.name: base for base in _bases()}
