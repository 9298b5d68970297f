"""What taking a snapshot adds to a package manager's hook, on a btrfs on a loop device."""

from __future__ import annotations

import statistics
import tempfile
from pathlib import Path

from tests.snapshots import box

LIMIT = 1.0
"""Seconds that the snapshot before a transaction may add to the hook."""


def report() -> None:
    """Print the median of what it adds."""
    lacking = box.missing("btrfs")
    if lacking:
        print(f"\nsnapshots: {lacking}")
        return
    with tempfile.TemporaryDirectory() as directory:
        pairs = box.told("settled", "timed", Path(directory))
    added = statistics.median(taking - without for without, taking in pairs)
    print(f"\nwhat a snapshot adds to a hook, on btrfs; medians of {len(pairs)} runs, each beside one without it")
    print(f"btrfs    {added:7.3f} s   limit {LIMIT:.3f} s")


if __name__ == "__main__":
    report()
