"""Does the initramfs unpack, and does it hold what early user space needs to start?

What the kernel does with it: init/initramfs.c (it stops at the first error and runs on with what it has) and
init/main.c (it then starts /init, or what `rdinit=` names; without that program it tries to mount root by itself).
Which drivers root needs is another question (`root-storage`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

from safeupdate.boot.plan import BootEntry
from safeupdate.case import Case, Check
from safeupdate.checks.early_modules import differing_modules
from safeupdate.checks.early_programs import NO_ROOT, content, summary
from safeupdate.checks.without_initramfs import build_again, starts_without, without_image
from safeupdate.errors import FormatError, Missing, Unreadable
from safeupdate.formats import cmdline, compression
from safeupdate.initramfs import Index, Problem, Segment
from safeupdate.remedies import install
from safeupdate.report import Finding, NotApplicable, Remedy, blocker, unknown, warning

_SIZE_DROP = 0.2
"""Images of one machine differ by a few per cent from kernel to kernel. Known cases of a driver family left out lost 29
and 46 per cent."""


_KERNEL_MEMORY = 64 << 20
"""What the kernel itself, its page tables and the first processes take at least while it unpacks."""

_SHIFT = {"": 0, "k": 10, "m": 20, "g": 30}

_KERNEL_SAYS = {
    "truncated": {"zstd": "ZSTD-compressed data is truncated"},
    "corrupt": {"zstd": "ZSTD-compressed data is corrupt", "xz": "XZ-compressed data is corrupt"},
}

_PANIC = "The kernel then finds no working /init and stops: “Kernel panic - not syncing”."


def check(case: Case) -> Iterator[Finding]:
    """The images one by one, then what they hold together."""
    entry = case.entry
    if entry is None:
        raise NotApplicable("there is no boot entry to judge")
    try:
        images = case.images
    except Unreadable as error:
        yield unknown(
            "initramfs.unreadable",
            error.path,
            f"The initramfs image {error.path} cannot be read: {error.reason}.",
            "Whether this kernel can start cannot be told.",
        )
        return
    except FormatError as error:
        path = case.image_places[0][0]
        yield unknown(
            "initramfs.unreadable",
            path,
            f"The initramfs inside {path} cannot be read: {error}.",
            "Whether this kernel can start cannot be told.",
        )
        return
    if not images:
        yield from without_image(case, entry)
        return
    optional = entry.without_initramfs_first and starts_without(case, entry.cmdline_without_initramfs)
    for finding in _judge(case, entry, images):
        yield _second_try(finding) if optional and finding.level in ("blocker", "unknown") else finding


CHECK = Check(id="initramfs", title="The initramfs unpacks and can start", essential=True, per_entry=True, run=check)


def _second_try(finding: Finding) -> Finding:
    """What makes a boot fail is a warning where the boot loader starts this kernel without the image first."""
    return replace(
        finding,
        level="warning",
        consequence="The boot loader starts this kernel without the image first, and that is enough here. "
        "Were it not, the image would be needed: " + finding.consequence,
    )


def _judge(case: Case, entry: BootEntry, images: tuple[tuple[str, Index], ...]) -> Iterator[Finding]:
    damaged = False
    junk: list[tuple[str, Problem]] = []
    for path, image in images:
        for finding in _sound(case, path, image):
            damaged = damaged or finding.level in ("blocker", "unknown")
            yield finding
        problem = image.problem
        if problem is not None and problem.kind == "junk":
            junk.append((path, problem))
    yield from _readable_by_kernel(case, images)
    index = case.index
    if damaged or index is None or not (index.members or junk):
        return
    place = images[-1][0]
    found = list(content(case, entry, place, index))
    whole = all(finding.level != "blocker" for finding in found)
    for path, problem in junk:
        yield _junk(case, path, problem, whole)
    yield from found
    yield from _memory(case, place, index)
    yield from _size_drop(case, images)
    yield from differing_modules(case, place, index)


# -- is it sound? ----------------------------------------------------------------------------------------------


def _sound(case: Case, path: str, index: Index) -> Iterator[Finding]:
    if index.problem is None and not index.members:
        what = "is empty (0 bytes)" if index.size == 0 else f"holds no files: {index.size} bytes of padding"
        if case.index is not None and case.index.members:
            yield warning(
                "initramfs.empty",
                path,
                f"The initramfs image {path} {what}.",
                "The kernel uses the other images that the entry loads without it.",
                remedy=build_again(case, path),
            )
        elif case.entry is not None and starts_without(case, case.entry.cmdline):
            yield warning(
                "initramfs.empty",
                path,
                f"The initramfs image {path} {what}.",
                "The kernel mounts the root file system by itself, which this one can.",
                remedy=build_again(case, path),
            )
        else:
            yield blocker(
                "initramfs.empty",
                path,
                f"The initramfs image {path} {what}.",
                f"The kernel gets no early user space. {NO_ROOT}",
                remedy=build_again(case, path),
            )
        return
    for segment in index.segments:
        problem = segment.problem
        if problem is None:
            continue
        evidence = _evidence(index, segment, problem)
        rebuild = build_again(case, path)
        says = _KERNEL_SAYS.get(problem.kind, {}).get(segment.compressor or "")
        stops = (
            f"The kernel unpacks it up to there{f', reports “{says}”,' if says else ''} and goes on with a part of it. "
        )
        if problem.kind == "truncated" and problem.after_end and segment is index.segments[-1]:
            # Seen on real boots: with the last four bytes of a zstd stream gone, every file is there.
            yield warning(
                "initramfs.end-truncated",
                path,
                f"The last bytes of the initramfs image {path} are missing, behind its last file.",
                f"The kernel reports {f'“{says}”' if says else 'an error'}, and goes on with all files of the image.",
                evidence=evidence,
                remedy=rebuild,
            )
        elif problem.kind == "truncated":
            yield blocker(
                "initramfs.truncated",
                path,
                f"The initramfs image {path} is cut off: {problem.message}.",
                stops + _PANIC,
                evidence=evidence,
                remedy=rebuild,
            )
        elif problem.kind == "corrupt":
            yield blocker(
                "initramfs.corrupt",
                path,
                f"The initramfs image {path} is damaged: {problem.message}.",
                stops + _PANIC,
                evidence=evidence,
                remedy=rebuild,
            )
        elif problem.kind == "refused":
            yield blocker(
                "initramfs.kernel-cannot-decode",
                path,
                f"The kernel cannot unpack the initramfs image {path}: {problem.message}.",
                f"Programs on this machine can read it, the kernel's own decoder cannot. {_PANIC}",
                evidence=evidence,
                remedy=rebuild,
            )
        elif problem.kind == "no-decoder":
            yield unknown(
                "initramfs.no-decoder",
                path,
                f"The initramfs image {path} cannot be looked into: {problem.message}.",
                "Whether it is whole, and holds what this machine needs, cannot be told.",
                evidence=evidence,
                remedy=install(case.machine, problem.package),
            )
        elif problem.kind == "too-large":
            yield unknown(
                "initramfs.too-large",
                path,
                f"The initramfs image {path} is larger than this program looks at: {problem.message}.",
                "Whether it is whole, and holds what this machine needs, cannot be told.",
                evidence=evidence,
            )
        elif problem.kind == "unreadable":
            yield unknown(
                "initramfs.unreadable",
                path,
                f"The initramfs image {path} cannot be read to its end: {problem.message}.",
                "Whether it is whole cannot be told. An input or output error points to a failing disk.",
                evidence=evidence,
            )
    last = index.segments[-1]
    if last.problem is None and not last.ended:
        yield unknown(
            "initramfs.no-end-mark",
            path,
            f"The initramfs image {path} ends without the end mark of its last archive.",
            "Every generator writes one (“TRAILER!!!”), so that the file may have been cut between two files.",
            evidence=[summary(index)],
            remedy=build_again(case, path),
        )
    for nested in index.nested:
        if nested.index is None:
            yield unknown(
                "initramfs.nested-image",
                path,
                f"The initramfs image {path} keeps its files in {nested.path} ({nested.kind}), "
                f"and that cannot be looked into: {nested.reason}.",
                "Whether it holds what this machine needs cannot be told.",
                remedy=install(case.machine, nested.package) if nested.package else Remedy(),
            )


def _evidence(index: Index, segment: Segment, problem: Problem) -> list[str]:
    number = index.segments.index(segment) + 1
    kind = segment.compressor or "not compressed"
    lines = [f"segment {number} at offset {segment.offset} of {index.size} bytes ({kind})"]
    if problem.place:
        lines.append(f"at {problem.place}")
    if segment.unpacked:
        lines.append(f"{segment.unpacked} bytes, {segment.files} files unpacked before")
    if problem.during:
        lines.append(f"while {problem.during} was being unpacked")
    return lines


def _junk(case: Case, path: str, problem: Problem, whole: bool) -> Finding:
    remedy = build_again(case, path)
    evidence = [problem.message]
    if whole:
        # Nothing is half written then, and what was unpacked before can start: seen on real boots.
        return warning(
            "initramfs.junk",
            path,
            f"Something that is no part of an initramfs follows in {path} at offset {problem.offset}.",
            "The kernel reports “invalid magic at start of compressed archive” and leaves out all that follows. What "
            "comes before is enough to start.",
            evidence=evidence,
            remedy=remedy,
        )
    return blocker(
        "initramfs.junk",
        path,
        f"Something that is no part of an initramfs stands in {path} at offset {problem.offset}.",
        f"The kernel reports “invalid magic at start of compressed archive” and leaves out all that follows. {_PANIC}",
        evidence=evidence,
        remedy=remedy,
    )


def _readable_by_kernel(case: Case, images: tuple[tuple[str, Index], ...]) -> Iterator[Finding]:
    config = case.kernel.config if case.kernel is not None else None
    if config is None or case.kernel is None:
        return
    if config.get("CONFIG_BLK_DEV_INITRD", "n") != "y":
        yield blocker(
            "initramfs.not-supported-by-kernel",
            images[0][0],
            f"Kernel {case.kernel.release} is built without support for an initramfs (CONFIG_BLK_DEV_INITRD).",
            "It ignores the image, and nothing that the image is there for happens.",
            evidence=[f"{case.kernel.config_path}: CONFIG_BLK_DEV_INITRD is not set"],
            remedy=Remedy("Start a kernel that supports an initramfs, or build this one with CONFIG_BLK_DEV_INITRD."),
        )
        return
    for path, index in images:
        for kind in sorted({segment.compressor for segment in index.segments if segment.compressor}):
            option = compression.CONFIG.get(kind)
            if option is not None and config.get(option, "n") != "y":
                yield blocker(
                    "initramfs.compressor-not-in-kernel",
                    path,
                    f"The initramfs image {path} is compressed with {kind}, which kernel {case.kernel.release} "
                    "cannot unpack.",
                    f"The kernel reports “compression method {kind} not configured” and unpacks nothing. {_PANIC}",
                    evidence=[f"{case.kernel.config_path}: {option} is not set"],
                    remedy=Remedy(
                        "Choose another compression for the initramfs, and build the image again.",
                        build_again(case, path).commands,
                    ),
                )


# -- memory and size -------------------------------------------------------------------------------------------


def _memory(case: Case, path: str, index: Index) -> Iterator[Finding]:
    """While it unpacks, the kernel holds the image and its content. What is captured of memory may be another day's."""
    limit = _memory_limit(case)
    match = re.search(r"^MemTotal:\s+(\d+) kB", case.machine.text("/proc/meminfo") or "", re.MULTILINE)
    known = int(match.group(1)) << 10 if match is not None else limit
    if known is None:
        return
    total = known if limit is None else min(known, limit)
    needed = index.size + index.unpacked + _KERNEL_MEMORY
    evidence = [
        f"image {index.size >> 20} MiB, unpacked {index.unpacked >> 20} MiB, memory {total >> 20} MiB "
        + ("(mem= on the command line)" if total == limit else "(/proc/meminfo)")
    ]
    remedy = Remedy(
        "Make the image smaller (only the drivers that this machine needs), or give the machine more memory."
    )
    if limit is not None and needed > limit:
        yield blocker(
            "initramfs.larger-than-limit",
            path,
            f"The initramfs image {path} needs {needed >> 20} MiB while it unpacks, and the command line leaves the "
            f"kernel {limit >> 20} MiB (mem=).",
            "The kernel runs out of memory and panics.",
            evidence=evidence,
            remedy=Remedy("Remove mem= from the kernel's command line."),
        )
    elif needed > total:
        yield unknown(
            "initramfs.larger-than-memory",
            path,
            f"The initramfs image {path} needs {needed >> 20} MiB while it unpacks, and this machine has "
            f"{total >> 20} MiB.",
            "With so little memory at the next boot, the kernel runs out of it and panics.",
            evidence=evidence,
            remedy=remedy,
        )
    elif index.unpacked > total // 2:
        yield warning(
            "initramfs.large-for-memory",
            path,
            f"The initramfs image {path} unpacks to more than half of this machine's memory.",
            "The kernel may run out of memory while it unpacks it (“Initramfs unpacking failed: write error”).",
            evidence=evidence,
            remedy=remedy,
        )


def _memory_limit(case: Case) -> int | None:
    """Bytes that the entry's command line leaves the kernel (mem=, by memparse() of lib/cmdline.c); None for all."""
    given = cmdline.parse(case.entry.cmdline).last("mem") if case.entry is not None else None
    match = re.match(r"(0[xX][0-9a-fA-F]+|\d+)([kmgKMG]?)", given or "")
    return int(match[1], 0 if match[1][:2] in ("0x", "0X") else 10) << _SHIFT[match[2].lower()] if match else None


def _size_drop(case: Case, images: tuple[tuple[str, Index], ...]) -> Iterator[Finding]:
    """Held against the image of the kernel that is running: it came up with that one."""
    machine = case.machine
    running = machine.running_kernel
    if running is None or running == case.release or not images:
        return
    other = next(
        (one for one in case.plan.entries if one.release == running and one.initramfs and not one.embedded), None
    )
    if other is None or other.initramfs[-1].path is None:
        return
    path, index = images[-1]
    earlier = other.initramfs[-1].path
    try:
        if index.size >= (1 - _SIZE_DROP) * machine.size(earlier):
            return
        proven = case.shelf.image(earlier)
    except (Missing, Unreadable):
        return
    if proven.problem is not None or _form(proven) != _form(index):
        return
    yield warning(
        "initramfs.size-drop",
        path,
        f"The initramfs image {path} is {100 - 100 * index.size // proven.size} % smaller than {earlier}, with which "
        "the running kernel started.",
        "Drivers or firmware may have been left out.",
        evidence=[f"{index.size} and {proven.size} bytes; {len(index.entries)} and {len(proven.entries)} files"],
        remedy=build_again(case, path),
    )


def _form(index: Index) -> tuple[str, list[str | None]]:
    return index.generator, [segment.compressor for segment in index.segments if segment.compressor]
