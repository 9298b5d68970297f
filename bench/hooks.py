"""What a package manager pays for a hook that has nothing to do, in a chroot that is taken for the machine itself."""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import time

import machines

LIMIT = 0.030
"""Seconds for a transaction without anything for the boot: the hook before it and the one after it."""

RUNS = 21

_HOOK = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "plugins", "hook")

_UPGRADE = 2000
"""Packages of an upgrade to another release."""

_CALLS = {
    "apt": "/hook apt-pre < /apt && /hook apt-post",
    "dnf": "/hook dnf-pre < /dnf && /hook dnf-post",
    "dnf5": "/hook dnf5-pre && /hook dnf5-post",
    "chroot": "/elsewhere apt-pre < /apt && /elsewhere apt-post",
    "sh": ":",
}


def report(sample: str) -> None:
    """Print the medians, by package manager; in a chroot; and of the shell alone that starts them."""
    if os.geteuid() != 0:
        print("\nhooks: only root can start them")
        return
    print(f"\nhooks with nothing to do, around a transaction of {_UPGRADE} packages; limit {LIMIT:.3f} s for both")
    with machines.copy(sample) as tree:
        _prepare(tree)
        for name, command in _CALLS.items():
            seconds, processors = _median(tree, command)
            print(f"{name:8} {seconds:7.3f} s, processors {processors:6.3f} s")


def _prepare(tree: str) -> None:
    """Beside the machine's own files: the hook, twice, and what the package managers tell it."""
    with open(_HOOK, encoding="utf-8") as file:
        hook = file.read()
    here = hook.replace("boots_here || exit 0\n", "")
    assert here != hook
    for name, text in (("hook", here), ("elsewhere", hook)):
        with open(f"{tree}/{name}", "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(f"{tree}/{name}", 0o755)
    apt = [
        f"library{n} 1.{n}-1 amd64 same < 1.{n}-2 amd64 same /var/cache/apt/archives/library{n}_1.{n}-2_amd64.deb"
        for n in range(_UPGRADE)
    ]
    dnf = [f"library{n} x86_64 1.{n}-2 in" for n in range(_UPGRADE)]
    for name, lines in (
        ("apt", ["VERSION 3", *(f"Some::Option::{n}=value" for n in range(300)), "", *apt]),
        ("dnf", dnf),
    ):
        with open(f"{tree}/{name}", "w", encoding="utf-8") as file:
            file.write("".join(f"{line}\n" for line in lines))


def _median(tree: str, command: str) -> tuple[float, float]:
    """How long it takes, and its processors."""
    took, worked = [], []
    for _ in range(RUNS + 1):
        start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run(["chroot", tree, "sh", "-c", command], capture_output=True, timeout=60, check=False)
        took.append(time.perf_counter() - start)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        worked.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
        assert done.returncode == 0 and not done.stderr, done.stderr
    return statistics.median(took[1:]), statistics.median(worked[1:])
