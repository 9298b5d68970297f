#!/bin/sh
# Runs outside the new root, as a customize hook of mmdebstrap: the kernels, and GRUB's menu.
# usage: customize.sh ROOT   (environment: ROOT_DISK, ROOT_UUID, MMDEBSTRAP_APT_CONFIG)
set -eu
root=$1
export LC_ALL=C.UTF-8

apt_of_root() {
	tool=$1
	shift
	APT_CONFIG=$MMDEBSTRAP_APT_CONFIG "$tool" -o DPkg::Chroot-Directory="$root" "$@"
}

# The two newest kernels of the release's own series (backported series are offered too). Where the archive has one
# only, the build of the same release for clouds is the second.
newest=$(apt_of_root apt-cache depends --no-recommends linux-image-amd64 | sed -n 's/^ *Depends: *//p')
series=$(echo "$newest" | sed -n 's/^linux-image-\([0-9]*\.[0-9]*\)\..*/\1/p')
kernels() {
	apt_of_root apt-cache --names-only search "^linux-image-$series\\..*[0-9]-$1\$" | cut -d ' ' -f 1 | sort -V
}
older=$(kernels amd64 | grep -F -x -v "$newest" | tail -n 1)
if [ -z "$older" ]; then
	older=$(kernels cloud-amd64 | tail -n 1)
fi
# The older one first, as on a machine that was updated.
for kernel in "$older" linux-image-amd64; do
	apt_of_root apt-get --yes --no-install-recommends install "$kernel"
done

# grub-probe needs the disk that this root will be on, and there is none. It is replaced for a moment by a stand-in
# with the answers that it gives on a real one, as docs/machines.md tells; the rest of grub.cfg is GRUB's own work.
# It has hints for disks that go by the names of SCSI disks, and none for those of virtio-blk.
case $ROOT_DISK in
sd?)
	drive=hd0,msdos1
	hints="--hint-bios=hd0,msdos1 --hint-efi=hd0,msdos1 --hint-baremetal=ahci0,msdos1 "
	;;
*)
	drive=
	hints=
	;;
esac
probe=$root/usr/sbin/grub-probe
mv "$probe" "$probe.real"
cat > "$probe" <<END
#!/bin/sh
target=fs
for word in "\$@"; do
	case \$word in
	--target=*) target=\${word#--target=} ;;
	esac
done
case \$target in
device) echo /dev/${ROOT_DISK}1 ;;
disk) echo /dev/$ROOT_DISK ;;
drive) echo "(hostdisk//dev/$ROOT_DISK,msdos1)" ;;
fs) echo ext2 ;;
fs_uuid) echo $ROOT_UUID ;;
partuuid) echo ${ROOT_UUID%%-*}-01 ;;
partmap) echo msdos ;;
fs_label | abstraction | cryptodisk_uuid) ;;
compatibility_hint) echo "$drive" ;;
hints_string) echo "$hints" ;;
*)
	echo "the stand-in for grub-probe does not know \$target" >&2
	exit 1
	;;
esac
END
chmod 755 "$probe"
# 10_linux asks only whether these two exist.
mkdir -p "$root/dev/disk/by-uuid"
device=$root/dev/${ROOT_DISK}1
[ -e "$device" ] || : > "$device"
ln -sf "../../${ROOT_DISK}1" "$root/dev/disk/by-uuid/$ROOT_UUID"

# What grub-install leaves below /boot/grub, but for core.img, which is made for one disk.
mkdir -p "$root/boot/grub/i386-pc" "$root/boot/grub/fonts"
cp "$root"/usr/lib/grub/i386-pc/*.mod "$root"/usr/lib/grub/i386-pc/*.lst "$root/boot/grub/i386-pc/"
cp "$root/usr/share/grub/unicode.pf2" "$root/boot/grub/fonts/"
chroot "$root" grub-editenv /boot/grub/grubenv create
LC_ALL='' LANG=en_US.UTF-8 chroot "$root" update-grub
mv "$probe.real" "$probe"

rm -f "$device"
