"""The unit tests on the oldest Python and the oldest `cryptography` that are promised, in a root of Debian 11."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import machines
from machines.namespace import mount, ran

HERE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
_TESTS = "-m pytest -q -p no:cacheprovider -m 'not vm and not machines' tests/unit"

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


def unit_tests(tree: str, command: str, seconds: float) -> int:
    """Run the unit tests in a root tree that may be changed, by `command`, a shell's line that ends with a Python;
    pytest's own exit code."""
    source = os.path.join(tree, "src")
    os.mkdir(source)
    for name in _COPIED:
        if os.path.isdir(os.path.join(HERE, name)):
            shutil.copytree(os.path.join(HERE, name), os.path.join(source, name))
        else:
            shutil.copy(os.path.join(HERE, name), source)
    proc = os.path.join(tree, "proc")
    mount("proc", proc, "ro")
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8", "HOME": "/root"}
    inside = ["chroot", tree, "sh", "-c", f"cd /src && {command} {_TESTS}"]
    try:
        return subprocess.run(inside, env=environment, timeout=seconds, check=False).returncode
    finally:
        ran("umount", "--lazy", proc)


def main() -> int:
    """pytest's own exit code."""
    with machines.copy("debian11-python") as tree:
        print("the unit tests on Python 3.9 with cryptography 36:", flush=True)
        return unit_tests(tree, "exec /venv/bin/python", 1800)


if __name__ == "__main__":
    sys.exit(main())
