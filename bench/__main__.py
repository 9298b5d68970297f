"""`make bench`: figures beside their limits, on the sample machine, warm, whole processes, medians."""

from __future__ import annotations

import glob
import os
import resource
import shlex
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import IO

import machines
from machines.build import cache

SAMPLE = "debian12"
RUNS = 5
PROGRAM = os.path.join(os.path.dirname(sys.executable), "safeupdate")
LARGE = 1500 << 20
"""Bytes that the large image unpacks to: ten times a usual one."""

MEMORY_LIMIT = 120  # MB
CHECK_FACTOR, CHECK_EXTRA = 1.5, 0.15
VERSION_EXTRA = 0.060

# Runs the program in this process, then tells its peak (VmHWM is of this program alone, from its exec on) and the
# largest peak among its children. After a vfork, a child's peak starts at its parent's: an upper bound.
_MEASURED = """
import os, resource, sys
from safeupdate.cli import main
code = main(sys.argv[1:])
with open("/proc/self/status") as file:
    peak = next(line.split()[1] for line in file if line.startswith("VmHWM:"))
print(code, peak, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, file=sys.stderr)
"""


def main() -> int:
    """Always 0: it reports, and judges nothing."""
    with machines.copy(SAMPLE) as tree:
        machines.add_facts(tree, SAMPLE)
        images = sorted(glob.glob(f"{tree}/boot/initrd.img-*"))
        kernels = sorted(glob.glob(f"{tree}/boot/vmlinuz-*"))
        size = sum(map(os.path.getsize, images + kernels)) / 1e6
        print(f"sample machine {SAMPLE}: {len(images)} images and {len(kernels)} kernels, {size:.0f} MB packed")
        print(f"medians of {RUNS} runs, after one that does not count; {os.cpu_count()} processors\n")
        _times(tree, images, kernels)
        _memory("check, peak memory", tree)
        newest = os.path.realpath(f"{tree}/initrd.img")
        large = _large_image(newest)
        os.unlink(newest)
        shutil.copyfile(large, newest)
        _memory(f"check, an image of {LARGE >> 20} MB unpacked", tree)
    return 0


def _times(tree: str, images: Sequence[str], kernels: Sequence[str]) -> None:
    judged = shlex.join([*images, *kernels])
    decoding = "; ".join(f"zstd -dcq {shlex.quote(image)} > /dev/null" for image in images)
    listing = "; ".join(f"lsinitramfs {shlex.quote(image[len(tree) :])} > /dev/null" for image in images)
    commands = {
        "check": [PROGRAM, "check", "--root", tree],
        "decode": ["sh", "-c", f"{decoding}; sha256sum {judged} > /dev/null"],
        "list": ["chroot", tree, "sh", "-c", listing],
        "version": [PROGRAM, "--version"],
        "python": [sys.executable, "-c", "pass"],
    }
    took: dict[str, list[float]] = {name: [] for name in commands}
    worked: dict[str, list[float]] = {name: [] for name in commands}
    # One of each in turn: a slow moment of the machine then falls on all.
    for run in range(RUNS + 1):
        for name, command in commands.items():
            start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
            done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, timeout=600, check=False)
            seconds = time.perf_counter() - start
            if run == 0 and done.returncode != 0:
                print(f"  {name}: exit code {done.returncode} {done.stderr.decode('utf-8', 'replace')[-300:].strip()}")
            if run > 0:
                after = resource.getrusage(resource.RUSAGE_CHILDREN)
                took[name].append(seconds)
                worked[name].append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    median = {name: statistics.median(times) for name, times in took.items()}
    limit = CHECK_FACTOR * median["decode"] + CHECK_EXTRA
    version_limit = median["python"] + VERSION_EXTRA
    for name, text in (
        ("check", f"limit {limit:.3f} s"),
        ("decode", f"zstd -dc and sha256sum of the same files; x {CHECK_FACTOR} + {CHECK_EXTRA} s is that limit"),
        ("list", "lsinitramfs of the release over the same images: another limit of check"),
        ("version", f"limit {version_limit:.3f} s"),
        ("python", f"python -c pass; + {VERSION_EXTRA} s is that limit"),
    ):
        print(f"{name:8} {median[name]:7.3f} s, processors {statistics.median(worked[name]):6.3f} s   {text}")


def _memory(what: str, tree: str) -> None:
    command = [sys.executable, "-c", _MEASURED, "check", "--root", tree, "--quiet"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    try:
        code, own, children = map(int, done.stderr.split()[-3:])
    except ValueError:
        print(f"{what}: {done.stderr[-300:]}")
        return
    print(
        f"{what}: {own / 1024:.0f} MB, children at most {children / 1024:.0f} MB; {MEMORY_LIMIT} MB (exit code {code})"
    )


def _large_image(image: str) -> str:
    """The image with a segment of files behind it, made once."""
    large = os.path.join(cache(), "bench", f"{os.path.basename(image)}-{LARGE >> 20}M-{os.path.getsize(image)}")
    if not os.path.exists(large):
        os.makedirs(os.path.dirname(large), exist_ok=True)
        with open(image, "rb") as source, open(f"{large}.new", "wb") as target:
            packed = source.read()
            target.write(packed + bytes(-len(packed) % 4))
            target.flush()
            with subprocess.Popen(["zstd", "-1", "-q", "-c"], stdin=subprocess.PIPE, stdout=target) as zstd:
                assert zstd.stdin is not None
                _write_archive(zstd.stdin, packed)
        os.rename(f"{large}.new", large)
    return large


def _write_archive(file: IO[bytes], content: bytes) -> None:
    """A newc archive (initramfs buffer format) of files, LARGE bytes in all, that packs to a quarter as others do."""
    content = content[: 12 << 20] + bytes(38 << 20)
    _write_entry(file, "large", 0o040755, b"")
    for number in range(LARGE // len(content)):
        _write_entry(file, f"large/{number}", 0o100644, content)
    _write_entry(file, "TRAILER!!!", 0, b"")


def _write_entry(file: IO[bytes], name: str, mode: int, data: bytes) -> None:
    encoded = name.encode() + b"\0"
    fields = (0, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(encoded), 0)
    header = b"070701" + b"".join(b"%08X" % field for field in fields) + encoded
    file.writelines(part + bytes(-len(part) % 4) for part in (header, data))


if __name__ == "__main__":
    sys.exit(main())
