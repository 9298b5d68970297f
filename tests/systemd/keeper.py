"""Holds one rig, and takes away what it leaves, whatever ends the test.

usage: keeper.py TREE FILES   prints the number of the rig's process 1 on the host, then how it ended (as Popen)

It ends the rig when its standard input does, which is when the test's process is gone. If the keeper itself is killed,
the kernel kills `unshare` (PR_SET_PDEATHSIG), and that its process 1, and with this go all of its processes and mounts;
empty control groups stay, which the next keeper removes.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator

_INIT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "init.sh")
_NAME = "safeupdate-rig."
_NAMESPACES = ("--pid", "--mount", "--uts", "--ipc", "--net")


def main(tree: str, files: str) -> int:
    """Start the rig and wait for its end."""
    cgroup = _make(_own_cgroup())
    try:
        command = ["setpriv", "--pdeathsig", "KILL", "unshare", *_NAMESPACES, "--fork", "--kill-child", "--"]
        rig = subprocess.Popen([*command, _INIT, tree, files, cgroup], stdin=subprocess.DEVNULL)
        select.select([os.pidfd_open(rig.pid), sys.stdin.fileno()], [], [])
        rig.kill()
        code = rig.wait()
        with contextlib.suppress(BrokenPipeError):
            os.write(sys.stdout.fileno(), b"%d\n" % code)
    finally:
        if files:
            shutil.rmtree(files, ignore_errors=True)
        for _ in range(100):
            if _remove(cgroup):
                break
            time.sleep(0.05)
    return 0


def _own_cgroup() -> str:
    """The directory of the control group (version 2) that this process is in."""
    with open("/proc/self/mounts", encoding="utf-8") as file:
        mounts = [line.split()[1] for line in file if line.split()[2] == "cgroup2"]
    with open("/proc/self/cgroup", encoding="utf-8") as file:
        groups = [line.strip()[3:] for line in file if line.startswith("0::")]
    return os.path.join(mounts[0], groups[0].lstrip("/"))


def _make(above: str) -> str:
    """Make a control group, locked as long as this process lives, and remove those whose keepers are dead."""
    with _locked(above):
        for name in os.listdir(above):
            if name.startswith(_NAME):
                with contextlib.suppress(OSError), _locked(os.path.join(above, name), fcntl.LOCK_NB):
                    _remove(os.path.join(above, name))
        cgroup = os.path.join(above, f"{_NAME}{os.getpid()}")
        os.mkdir(cgroup)
        fcntl.flock(os.open(cgroup, os.O_RDONLY), fcntl.LOCK_EX)
    return cgroup


@contextlib.contextmanager
def _locked(directory: str, flags: int = 0) -> Iterator[None]:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | flags)
        yield
    finally:
        os.close(descriptor)


def _remove(cgroup: str) -> bool:
    """Remove a control group with those in it; whether it is gone. The kernel refuses while a process is in one."""
    for directory, _, _ in os.walk(cgroup, topdown=False):
        with contextlib.suppress(OSError):
            os.rmdir(directory)
    return not os.path.exists(cgroup)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
