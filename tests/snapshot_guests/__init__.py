"""Snapshots of btrfs, LVM and ZFS in machines that boot, which have the kernel modules.

docs/snapshots.md says what came of it.
"""
