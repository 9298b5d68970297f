"""The unit tests on the oldest Python and the oldest `cryptography` that are promised, in a root of Debian 11."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import machines
from machines.namespace import mount, ran

HERE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
COMMAND = "cd /src && exec /venv/bin/python -m pytest -q -p no:cacheprovider -m 'not vm and not machines' tests/unit"

_COPIED = (
    "safeupdate",
    "tests",
    "machines",
    "docs",
    "bin",
    "plugins",
    "systemd",
    "man",
    "completions",
    "pyproject.toml",
)


def main() -> int:
    """pytest's own exit code."""
    with machines.copy("debian11-python") as tree:
        source = os.path.join(tree, "src")
        os.mkdir(source)
        for name in _COPIED:
            if os.path.isdir(os.path.join(HERE, name)):
                shutil.copytree(os.path.join(HERE, name), os.path.join(source, name))
            else:
                shutil.copy(os.path.join(HERE, name), source)
        proc = os.path.join(tree, "proc")
        mount("proc", proc, "ro")
        print("the unit tests on Python 3.9 with cryptography 36:", flush=True)
        environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8", "HOME": "/root"}
        command = ["chroot", tree, "sh", "-c", COMMAND]
        try:
            return subprocess.run(command, env=environment, timeout=1800, check=False).returncode
        finally:
            ran("umount", "--lazy", proc)


if __name__ == "__main__":
    sys.exit(main())
