#!/bin/sh
# Runs outside the new root, as an essential hook of mmdebstrap: what the installer would have written, and the disk.
# usage: prepare.sh ROOT   (environment: MACHINE, ROOT_UUID, ROOT_DISK; ROOT_DEVICE: its number, as 7:0, or empty)
set -eu
root=$1
cat > "$root/etc/fstab" <<END
# <file system> <mount point>   <type>  <options>       <dump>  <pass>
UUID=$ROOT_UUID /               ext4    errors=remount-ro 0       1
END
echo "$MACHINE" > "$root/etc/hostname"
echo "$ROOT_UUID" | tr -d - > "$root/etc/machine-id"
echo 'grub-pc grub-pc/install_devices_empty boolean true' | chroot "$root" debconf-set-selections

# The hook of initramfs-tools that copies fsck looks at the root device.
if [ -n "$ROOT_DEVICE" ]; then
	mknod "$root/dev/${ROOT_DISK}1" b "${ROOT_DEVICE%:*}" "${ROOT_DEVICE#*:}"
fi
