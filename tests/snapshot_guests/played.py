"""What the stories are called, and where what they showed is kept."""

from __future__ import annotations

from tests.played import Played

PLAYED = Played(
    "snapshot_guests",
    "snapshot-results.json",
    "docs/snapshots.md",
    {
        "btrfs": "btrfs, its root in `@`: a kernel is installed, the machine is broken, the undo is executed",
        "thin": "LVM with a thin pool: a kernel is installed, the machine is broken, the undo is executed",
        "thick": "LVM without a thin pool: the same",
        "zfs": "ZFS: the same, with the newest kernel configured anew",
        "full": "A thin pool whose metadata, and whose data are nearly full",
        "overflow": "A thick snapshot overflows",
        "cut": "The power is cut while a snapshot is taken",
    },
)
