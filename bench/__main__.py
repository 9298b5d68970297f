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
import tempfile
import time
from collections.abc import Mapping, Sequence
from typing import IO

import machines
from bench import disks, hooks, snapshots
from machines.build import cache

SAMPLE = "debian12"
PACKED_SAMPLE = "debian13"
"""Its modules are packed (.ko.xz)."""
RUNS = 5
MODULE_RUNS = 3
"""Runs over all modules: each takes seconds."""
ADDED_RUNS = 11
"""What is measured is a small part of what two runs differ by anyway."""
PROGRAM = os.path.join(os.path.dirname(sys.executable), "safeupdate")
LARGE = 1500 << 20
"""Bytes that the large image unpacks to: ten times a usual one."""

MEMORY_LIMIT = 120  # MB
CHECK_FACTOR, CHECK_EXTRA = 1.5, 0.15
SIGNATURES_EXTRA = 0.3
VERSION_EXTRA = 0.060
DKMS_EXTRA, STORAGE_EXTRA = 0.1, 0.2
DISKS_LIMIT = 2
MODINFO_FACTOR, PACKED_FACTOR, AGAIN_FACTOR, KEYS_EXTRA = 7, 1.15, 10, 0.1

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


# Verifies every module of a release on disk (no boot entry, hence no initramfs), and prints the seconds that it took,
# what it found, and the peak. With "live" the tree counts as this machine, whose modules may be known from before.
_VERIFIED = """
import sys, time
from dataclasses import replace
from safeupdate.boot.firmware import Firmware
from safeupdate.boot.plan import BootPlan
from safeupdate.case import Case, Shelf
from safeupdate.checks.module_signatures import CHECK
from safeupdate.fingerprint import Hasher
from safeupdate.kernels import kernel_at
from safeupdate.machine import Machine
from safeupdate.volumes import Volumes
tree, image, live = sys.argv[1:]
machine = replace(Machine.tree(tree), live=live == "live")
case = Case(machine=machine, volumes=Volumes(machine), firmware=Firmware("unknown"), plan=BootPlan(None), entry=None,
            kernel=kernel_at(machine, image), shelf=Shelf(machine), hasher=Hasher(machine), all_modules=True)
start = time.perf_counter()
found = list(CHECK.run(case))
case.cache.save()
seconds = time.perf_counter() - start
with open("/proc/self/status") as file:
    peak = next(line.split()[1] for line in file if line.startswith("VmHWM:"))
print(seconds, len(found), peak)
"""

# Reads the keys in a kernel image that nothing is known of, and prints the seconds of that and of unpacking it alone:
# the second time, as modules are imported in the first.
_KEYS = """
import sys, time
from safeupdate.formats import bzimage, compression
from safeupdate.machine import Machine
from safeupdate.trust import built_in
tree, image = sys.argv[1:]
machine = Machine.tree(tree)
for _ in range(2):
    start = time.perf_counter()
    found = built_in.read(machine, image)
    seconds = time.perf_counter() - start
    with machine.open(image) as file:
        start = time.perf_counter()
        payload = bzimage.parse(file).payload
        decoder = compression.unpack(compression.Source(file, payload.offset + payload.length), payload.offset)
        view = memoryview(bytearray(1 << 20))
        while decoder.readinto(view):
            pass
        decoder.close()
    unpacking = time.perf_counter() - start
print(seconds, unpacking, len(found.certificates))
"""

# Prints the seconds that it takes to find what the root of a machine lies on and which of that a kernel without an
# initramfs lacks, those of a processor alone, how many layers the root has, and how much of what they need stops it.
_STACKS = """
import sys, time
from safeupdate.kernels import Kernel
from safeupdate.machine import Machine
from safeupdate.module_tree import ModuleTree
from safeupdate.storage import layers, stack
from safeupdate.storage.image import Image
from safeupdate.storage.target import Target
from safeupdate.volumes import Volumes
tree, release, line = sys.argv[1:]
machine = Machine.tree(tree)
start, worked = time.perf_counter(), time.process_time()
volumes = Volumes(machine)
(found,) = stack.of(machine, volumes, command_line=line)
image = Image(None, Target(ModuleTree(Kernel(release, "", machine))), entry_line=line, volumes=volumes)
lost = {}
for layer in found.walk():
    for one in layers.needs(layer, image):
        if one.must and not image.holds(one):
            lost.setdefault(one.names, set()).add(layer)
stopping = layers.decisive(found.top, image, lost)
found.lines()
seconds, worked = time.perf_counter() - start, time.process_time() - worked
print(seconds, worked, sum(1 for _ in found.walk()), len(stopping))
"""

# Verifies the signature of one module again and again, and prints the seconds that once takes.
_SIGNATURE = """
import sys, time
from safeupdate.formats import cms, modsig
from safeupdate.machine import Machine
from safeupdate.trust import built_in, module_files, verify
tree, image, path = sys.argv[1:]
machine = Machine.tree(tree)
module = module_files.read(machine, path)
where = modsig.parse(module.tail, module.size)
(signer,) = cms.parse(module.tail[: where.end - where.covered]).signers
digest = module.digests[signer.digest_name]
key = next(key for key in built_in.read(machine, image).certificates if verify.by_key(key, signer, digest))
start = time.perf_counter()
for _ in range(500):
    verify.by_key(key, signer, digest)
print((time.perf_counter() - start) / 500)
"""


def main() -> int:
    """Always 0: it reports, and judges nothing."""
    # An installed program has its bytecode: the run that does not count writes it.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
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
    for part, limit, samples in (
        ("dkms", DKMS_EXTRA, (SAMPLE, f"{SAMPLE}-dkms", f"{PACKED_SAMPLE}-dkms")),
        ("root-storage", STORAGE_EXTRA, (SAMPLE, PACKED_SAMPLE)),
    ):
        print(f"\nwhat {part} adds to check; limit {limit} s; medians of {ADDED_RUNS} runs, each beside one without it")
        for sample in samples:
            _added(part, sample)
    _disks()
    hooks.report(SAMPLE)
    snapshots.report()
    for sample in (SAMPLE, PACKED_SAMPLE):
        _modules(sample)
    return 0


def _times(tree: str, images: Sequence[str], kernels: Sequence[str]) -> None:
    judged = shlex.join([*images, *kernels])
    decoding = "; ".join(f"zstd -dcq {shlex.quote(image)} > /dev/null" for image in images)
    listing = "; ".join(f"lsinitramfs {shlex.quote(image[len(tree) :])} > /dev/null" for image in images)
    commands = {
        "check": [PROGRAM, "check", "--root", tree],
        "unsigned": _without("module-signatures", tree),
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
    signed_limit = median["unsigned"] + SIGNATURES_EXTRA
    for name, text in (
        ("check", f"limit {signed_limit:.3f} s: what it takes without signatures, and {SIGNATURES_EXTRA} s"),
        ("unsigned", f"limit {limit:.3f} s; check without module-signatures"),
        ("decode", f"zstd -dc and sha256sum of the same files; x {CHECK_FACTOR} + {CHECK_EXTRA} s is that limit"),
        ("list", "lsinitramfs of the release over the same images: another limit of check"),
        ("version", f"limit {version_limit:.3f} s"),
        ("python", f"python -c pass; + {VERSION_EXTRA} s is that limit"),
    ):
        print(f"{name:8} {median[name]:7.3f} s, processors {statistics.median(worked[name]):6.3f} s   {text}")


def _without(skipped: str, tree: str) -> list[str]:
    """The command of a check without one of its parts."""
    drop_ins = f"{tree}/etc/safeupdate/safeupdate.toml.d"
    os.makedirs(drop_ins)
    with open(f"{drop_ins}/off", "w", encoding="ascii") as file:
        file.write(f'[checks.{skipped}]\nskip = true\nreason = "timed without"\n')
    check = shlex.join([PROGRAM, "check", "--root", tree])
    return ["sh", "-c", f"cd {drop_ins} && mv off x.toml; {check}; mv x.toml off"]


def _added(part: str, sample: str) -> None:
    with machines.copy(sample) as tree:
        machines.add_facts(tree, sample)
        skipping = _without(part, tree)
        checking = [word.replace("x.toml", "x") for word in skipping]  # the same commands, with a file that is not read
        pairs = [(_seconds(skipping), _seconds(checking)) for _ in range(ADDED_RUNS + 1)]
    added, processors = (statistics.median(usual[n] - without[n] for without, usual in pairs[1:]) for n in (0, 1))
    print(f"{sample:14} {added:7.3f} s, processors {processors:6.3f} s")


def _disks() -> None:
    """The way to a root on many disks, and what is missing on it, in fresh interpreters."""
    with tempfile.TemporaryDirectory() as tree:
        disks.make(tree)
        arguments = [tree, disks.RELEASE, disks.LINE]
        found = [_run_python(_STACKS, arguments, dict(os.environ)) for _ in range(RUNS + 1)][1:]
    seconds, processors = (statistics.median(one[n] for one in found) for n in (0, 1))
    what = f"{disks.DISKS} disks, {disks.DEVICES} multipath devices"
    print(f"\n{what}: {seconds:.3f} s, processors {processors:.3f} s   limit {DISKS_LIMIT} s")
    assert all(layers > disks.DISKS + disks.DEVICES and stopping == disks.LACKS for *_, layers, stopping in found)


def _seconds(command: Sequence[str]) -> tuple[float, float]:
    """How long a program took, and its processors."""
    start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=600, check=False)
    seconds, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    return seconds, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _modules(sample: str) -> None:
    """Every module of a kernel, beside programs that do a part of the same with the same files, one after another."""
    tree = machines.root(sample)
    image = max(glob.glob(f"{tree}/boot/vmlinuz-*"))[len(tree) :]
    release = image.partition("-")[2]
    files = sorted(glob.glob(f"{tree}/lib/modules/{release}/**/*.ko*", recursive=True))
    packed = files[0].endswith(".xz")
    size = sum(map(os.path.getsize, files)) / 1e6
    print(f"\n{len(files)} modules of {sample}, {release}: {size:.0f} MB; medians of {MODULE_RUNS} runs")
    listed = "\0".join(files).encode()
    processors = os.cpu_count() or 1
    others = {"xz -dc": ["xargs", "-0", "-P", str(processors), "-n", "64", "xz", "-dc"]}
    if not packed:
        others = {
            "sha256sum": ["xargs", "-0", "sha256sum"],
            "modinfo": ["xargs", "-0", "-n", "1", "modinfo", "-F", "signer"],
        }
    took: dict[str, list[float]] = {name: [] for name in ("verify", "again", "keys", "unpack", "signature", *others)}
    peaks: list[int] = []
    with tempfile.TemporaryDirectory() as cached:
        environment = {**os.environ, "CACHE_DIRECTORY": cached}
        _run_python(_VERIFIED, [tree, image, "live"], environment)
        for _ in range(MODULE_RUNS):
            seconds, found, peak = _run_python(_VERIFIED, [tree, image, "no"], environment)
            took["verify"].append(seconds)
            peaks.append(int(peak))
            took["again"].append(_run_python(_VERIFIED, [tree, image, "live"], environment)[0])
            for name, command in others.items():
                start = time.perf_counter()
                subprocess.run(command, input=listed, stdout=subprocess.DEVNULL, timeout=600, check=False)
                took[name].append(time.perf_counter() - start)
            whole, unpacking, _ = _run_python(_KEYS, [tree, image], environment)
            took["keys"].append(whole)
            took["unpack"].append(unpacking)
            took["signature"] += _run_python(_SIGNATURE, [tree, image, files[0][len(tree) :]], environment)
    median = {name: statistics.median(times) for name, times in took.items()}
    signatures = median["signature"] * len(files) / processors
    if packed:
        floor = median["xz -dc"] + signatures
        limit = f"limit {PACKED_FACTOR * median['xz -dc']:.2f} s; xz -dc and the signatures alone take {floor:.2f} s"
    else:
        limit = f"limits {median['sha256sum']:.2f} s and {median['modinfo'] / MODINFO_FACTOR:.2f} s"
    print(f"verify    {median['verify']:7.3f} s   {limit}; findings: {found:.0f}; peak {max(peaks) / 1024:.0f} MB")
    print(f"again     {median['again']:7.3f} s   limit {median['verify'] / AGAIN_FACTOR:.3f} s")
    for name in others:
        print(f"{name:9} {median[name]:7.3f} s")
    each = median["signature"] * 1000
    print(f"signatures{signatures:7.3f} s   {each:.3f} ms of a processor each, on {processors} of them")
    print(
        f"keys      {median['keys']:7.3f} s   limit {median['unpack'] + KEYS_EXTRA:.3f} s: unpacking and {KEYS_EXTRA} s"
    )


def _run_python(code: str, arguments: Sequence[str], environment: Mapping[str, str]) -> list[float]:
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600, check=False)
    if done.returncode != 0:
        raise SystemExit(done.stderr[-2000:])
    return [float(word) for word in done.stdout.split()]


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
