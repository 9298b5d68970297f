"""A way back: what keeps the state of a machine before an update changes it, or before a reboot does.

One file a back end, each with one `Backend`, and one line in `BACKENDS`. The first of them that can keep the root file
system is used; what is asked of each stands in `snapshots/backend.py`.
"""

from __future__ import annotations

from safeupdate.snapshots import btrfs, lvm_thick, lvm_thin, snapm, snapper, timeshift, zfs
from safeupdate.snapshots.backend import Backend

BACKENDS: tuple[Backend, ...] = (
    snapper.BACKEND,
    btrfs.BACKEND,
    lvm_thin.BACKEND,
    lvm_thick.BACKEND,
    zfs.BACKEND,
    snapm.BACKEND,
    timeshift.BACKEND,
)
"""In the order in which they are tried: what the administrator has set up for snapshots comes before what we would set
up, and what costs nothing before what costs writes: snapper, btrfs, lvm-thin, lvm-thick, zfs, snapm, timeshift."""
