"""Which file system a name means, and where on this machine its files are to be seen.

A boot loader names files by device and path (`search --fs-uuid X`, `/vmlinuz` on that device; an ESP path), a kernel
command line names the root device (`root=UUID=X`). This module answers both from facts: `/dev/disk/by-*`, udev's
database (`/run/udev/data`), `/proc/self/mountinfo` (proc_pid_mountinfo(5)) and fstab(5).
"""
