"""`make run`: a first look. Checks this machine; where it has no kernel of its own, a sample machine."""

from __future__ import annotations

import glob
import os
import subprocess
import sys

import machines
from safeupdate import surroundings
from safeupdate.machine import Machine

PROGRAM = os.path.join(os.path.dirname(sys.executable), "safeupdate")
SAMPLE = "debian12"
KERNELS = ("/boot/vmlinu[xz]*", "/boot/*/*/linux", "/usr/lib/modules/*/vmlinuz", "/boot/efi/EFI/Linux/*.efi")


def main() -> int:
    """0 when every verdict is an answer, and on the sample machine the right one."""
    if any(map(glob.glob, KERNELS)) and surroundings.inside(Machine.here()) != "a container":
        code = _check()
        return 0 if code in (0, 1, 3) else code
    print("This machine has no kernel of its own. The sample machine stands in: a Debian 12 with two kernels,")
    print("built from Debian's packages. It is built once and kept in the cache.", flush=True)
    with machines.copy(SAMPLE) as tree:
        machines.add_facts(tree, SAMPLE)
        _say("1. As it is. It should be safe.")
        healthy = _check("--root", tree)
        image = os.path.realpath(os.path.join(tree, "initrd.img"))
        with open(image, "rb") as file:
            whole = file.read()
        path = image[len(os.path.realpath(tree)) :]
        machines.replace(tree, path, whole[: len(whole) * 9 // 10])
        _say(f"2. A copy, with {path} cut off at nine tenths,\n   as when /boot was full. It should be unsafe.")
        broken = _check("--root", tree)
    right = (healthy, broken) == (0, 1)
    _say("Both verdicts are right." if right else f"These verdicts are wrong: exit codes {healthy} and {broken}.")
    return 0 if right else 1


def _check(*arguments: str) -> int:
    print("$ safeupdate check", *arguments, flush=True)
    return subprocess.run([PROGRAM, "check", *arguments], timeout=600, check=False).returncode


def _say(text: str) -> None:
    print(f"\n{text}\n", flush=True)


if __name__ == "__main__":
    sys.exit(main())
