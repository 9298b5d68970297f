"""The unit tests on the Python and the libraries of each Debian release, in roots that are made once and kept."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence

from machines.build import cache
from machines.copies import copy_of
from tools import python39

SUITES = ("bullseye", "bookworm", "trixie", "testing")
"""Python 3.9, 3.11, 3.13, and 3.14 when this was written. That of bullseye is `tools.python39`'s: Debian 11's own
cryptography is older than what is promised."""

_MODULES = ("cryptography", "hypothesis", "jsonschema", "pefile", "pytest", "rich")

_COMMAND = f"""python3 --version &&
dpkg-query --show {" ".join(f"python3-{name}" for name in _MODULES)} &&
exec python3"""

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


def tested(suite: str) -> bool:
    """Whether the unit tests pass on this release; what pytest prints is printed."""
    print(f"matrix: Debian {suite}", flush=True)
    if suite == "bullseye":
        return python39.main() == 0
    with copy_of(root(suite), suite) as tree:
        return python39.unit_tests(tree, _COMMAND, _SECONDS) == 0


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
