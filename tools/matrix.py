"""The unit tests on the Python and the libraries of each Debian release, in roots that are made once and kept."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence

from machines.build import cache
from machines.namespace import mount, private_mounts, ran
from tools import python39

HERE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

SUITES = ("bullseye", "bookworm", "trixie", "testing")
"""Python 3.9, 3.11, 3.13, and 3.14 when this was written. That of bullseye is `tools.python39`'s: Debian 11's own
cryptography is older than what is promised."""

_MODULES = ("cryptography", "hypothesis", "jsonschema", "pefile", "pytest", "rich")

_COPIED = ("safeupdate", "tests", "machines", "docs", "bin", "plugins", "systemd", "man", "completions")

_COMMAND = f"""
cd /src
python3 --version
dpkg-query --show {" ".join(f"python3-{name}" for name in _MODULES)}
exec python3 -m pytest -q -p no:cacheprovider -m 'not vm and not machines' tests/unit
"""

_SECONDS = 3600
"""For the tests of one release, and to make a root: minutes, with room for a slow or busy machine."""


def root(suite: str) -> str:
    """The directory of a release's root, 170 MB, made first where it is missing. Nothing may be changed in it."""
    command = ["mmdebstrap", "--quiet", "--mode=root", "--format=directory", "--variant=minbase"]
    command += [
        "--aptopt=APT::Install-Recommends false",
        f"--include={','.join(f'python3-{name}' for name in _MODULES)},zstd",
    ]
    # A mirror of testing that has stood still for a while is good enough here.
    command += ["--aptopt=Acquire::Retries 3", "--aptopt=Acquire::Check-Valid-Until false"]
    command += [f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in ("doc", "info", "locale", "man")]
    digest = hashlib.sha256(repr(command).encode()).hexdigest()[:12]
    place = os.path.join(cache(), "matrix", f"{suite}-{digest}")
    if not os.path.isdir(place):
        os.makedirs(os.path.dirname(place), exist_ok=True)
        print(f"matrix: building a root tree of Debian {suite} (minutes, once)", file=sys.stderr)
        with tempfile.TemporaryDirectory(prefix=f"{suite}.new.", dir=os.path.dirname(place)) as work:
            subprocess.run([*command, suite, f"{work}/root"], timeout=_SECONDS, check=True)
            os.rename(f"{work}/root", place)
    return place


@contextlib.contextmanager
def _changeable(base: str) -> Iterator[str]:
    """The same tree, to be changed in memory; this process and its children see it."""
    with tempfile.TemporaryDirectory(prefix="safeupdate-matrix.") as place:
        if not (private_mounts() and mount("tmpfs", place, "mode=0755")):
            raise SystemExit("matrix: this process may make no mounts of its own")
        for directory in ("upper", "work"):
            os.mkdir(f"{place}/{directory}", 0o755)
        layers = f"lowerdir={base},upperdir={place}/upper,workdir={place}/work"
        try:
            if not mount("overlay", place, layers):
                raise SystemExit(f"matrix: no overlay can be mounted over {base}")
            mount("proc", f"{place}/proc", "ro")
            yield place
        finally:
            ran("umount", "--lazy", f"{place}/proc")
            for _ in ("the overlay", "and what it keeps its changes in"):
                ran("umount", "--lazy", place)


def tested(suite: str) -> bool:
    """Whether the unit tests pass on this release; what pytest prints is printed."""
    print(f"matrix: Debian {suite}", flush=True)
    if suite == "bullseye":
        return python39.main() == 0
    with _changeable(root(suite)) as tree:
        source = os.path.join(tree, "src")
        for name in _COPIED:
            shutil.copytree(f"{HERE}/{name}", f"{source}/{name}", ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(f"{HERE}/pyproject.toml", source)
        environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8", "HOME": "/root"}
        command = ["chroot", tree, "sh", "-c", _COMMAND]
        return subprocess.run(command, env=environment, timeout=_SECONDS, check=False).returncode == 0


def main(arguments: Sequence[str]) -> int:
    """Test the releases that are named, without a name all; 1 when a test failed in one of them."""
    for suite in arguments:
        if suite not in SUITES:
            print(f"matrix: there is no {suite}; there are {', '.join(SUITES)}", file=sys.stderr)
            return 2
    failed = [suite for suite in arguments or SUITES if not tested(suite)]
    if failed:
        print(f"matrix: tests failed on {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
