#!/bin/sh
# Becomes the systemd of a machine's tree, as process 1 of namespaces of its own, in which `unshare` started it.
# usage: init.sh TREE FILES CGROUP    FILES: a tree of what is there too, in front of TREE, or nothing
# It prints the number that it has on the host, as soon as all is mounted.
set -eu
tree=$1 files=$2
if [ $# -eq 3 ]; then
	echo 0 > "$3/cgroup.procs"
	exec unshare --cgroup -- "$0" "$tree" "$files"
fi
read -r number _ < /proc/self/stat

# Nobody else sees this /mnt. All changes are kept in memory.
cd "$tree"
mount --make-rprivate /
mount -t tmpfs -o mode=755 tmpfs /mnt
mkdir /mnt/changes /mnt/work /mnt/root
mount -t overlay -o lowerdir="${files:+$files:}.",upperdir=/mnt/changes,workdir=/mnt/work overlay /mnt/root
cd /mnt/root

# As https://systemd.io/CONTAINER_INTERFACE asks for it; what belongs to the host's kernel is read-only.
mount -t proc -o nosuid,nodev,noexec proc proc
for place in proc/sys proc/sysrq-trigger proc/irq proc/bus; do
	if [ -e "$place" ]; then
		mount --bind "$place" "$place"
		mount -o remount,bind,ro "$place"
	fi
done
mount -t sysfs -o ro,nosuid,nodev,noexec sysfs sys
mount -t cgroup2 -o nosuid,nodev,noexec cgroup2 sys/fs/cgroup
mount -t tmpfs -o mode=755,nosuid,nodev tmpfs run
mount -t tmpfs -o mode=755,nosuid tmpfs dev
mkdir dev/pts dev/shm
mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts dev/pts
mount -t tmpfs -o mode=1777,nosuid,nodev tmpfs dev/shm
ln -s pts/ptmx dev/ptmx
# Nodes of its own: systemd gives its console another owner and mode, and would do so to the host's.
for device in null:3 zero:5 full:7 random:8 urandom:9 console:3; do
	mknod -m 666 "dev/${device%:*}" c 1 "${device#*:}"
done
mknod -m 666 dev/tty c 5 0

# No disk is there to be mounted, and what an upgrade would fetch is not to be had.
: > etc/fstab
for unit in apt-daily.timer apt-daily-upgrade.timer e2scrub_reap.service console-getty.service getty.target; do
	ln -sf /dev/null "etc/systemd/system/$unit"
done

mkdir mnt/host
pivot_root . mnt/host
umount -l /mnt/host
rmdir /mnt/host
echo "$number"
exec env -i container=rig PATH=/usr/sbin:/usr/bin:/sbin:/bin setpriv \
	--bounding-set=-sys_module,-sys_rawio,-sys_time,-syslog,-mac_admin,-mac_override,-audit_control \
	/lib/systemd/systemd < /dev/null > /dev/null 2>&1
