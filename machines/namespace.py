"""Mounts that only this process and its children see: whatever ends them, nothing stays mounted."""

from __future__ import annotations

import ctypes
import functools
import os
import subprocess

_CLONE_NEWNS = 0x00020000  # unshare(2)


@functools.cache
def private_mounts() -> bool:
    """Leave the mount namespace that others see. False where this process may not."""
    library = ctypes.CDLL(None)
    return os.geteuid() == 0 and library.unshare(_CLONE_NEWNS) == 0 and ran("mount", "--make-rprivate", "/")


def mount(kind: str, where: str, options: str) -> bool:
    """Mount a file system that needs no device, if that can be done."""
    return ran("mount", "-t", kind, "-o", options, kind, where)


def ran(*command: str) -> bool:
    """Run a program of a moment, and say whether it succeeded."""
    return subprocess.run(command, timeout=60, capture_output=True, check=False).returncode == 0
