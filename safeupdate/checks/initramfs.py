"""Does the initramfs unpack, and does it hold what early user space needs to start?

What the kernel does with it: init/initramfs.c (it stops at the first error and runs on with what it has) and
init/main.c (it then starts /init, or what `rdinit=` names; without that program it tries to mount root by itself).
Which drivers root needs is another question (`root-storage`).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import BinaryIO

from safeupdate import closure
from safeupdate.boot.plan import BootEntry
from safeupdate.case import Case, Check
from safeupdate.errors import FormatError, Missing, Unreadable
from safeupdate.formats import cmdline, compression, modules
from safeupdate.initramfs import Entry, Index, Problem, Segment
from safeupdate.remedies import add_kernels, install, make_initramfs, write_boot_menu
from safeupdate.report import Finding, NotApplicable, Remedy, blocker, unknown, warning

_CAP = 8
"""Lines of evidence for one finding."""

_STALE_SHARE = 0.2
_STALE_COUNT = 10
"""The image's own modules.dep is written after its modules were copied, so that not one may be missing. A hook that
removes a few afterwards is no damage; a lost part of the image is far above these."""

_SIZE_DROP = 0.2
"""Images of one machine differ by a few per cent from kernel to kernel. Known cases of a driver family left out lost 29
and 46 per cent."""

_SAMPLE = 16
"""Modules whose whole content is held against the disk: a rebuilt kernel differs in every one of them."""

_MODULE_LIMIT = 32 << 20
"""Bytes of one module that are compared; the largest graphics drivers are near."""

_KERNEL_MEMORY = 64 << 20
"""What the kernel itself, its page tables and the first processes take at least while it unpacks."""

_KERNEL_SAYS = {
    "truncated": {"zstd": "ZSTD-compressed data is truncated"},
    "corrupt": {"zstd": "ZSTD-compressed data is corrupt", "xz": "XZ-compressed data is corrupt"},
}

_NO_ROOT = (
    "The kernel then tries to mount the root file system by itself, without the drivers and programs of the image, "
    "and panics: “VFS: Unable to mount root fs”."
)
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
        yield from _without_image(case, entry)
        return
    optional = entry.without_initramfs_first and _starts_without(case, entry.cmdline_without_initramfs)
    for finding in _judge(case, entry, images):
        yield _second_try(finding) if optional and finding.level in ("blocker", "unknown") else finding


CHECK = Check(id="initramfs", title="The initramfs unpacks and can start", essential=True, per_entry=True, run=check)


def _second_try(finding: Finding) -> Finding:
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
    content = list(_content(case, entry, place, index))
    whole = all(finding.level != "blocker" for finding in content)
    for path, problem in junk:
        yield _junk(case, path, problem, whole)
    yield from content
    yield from _memory(case, place, index)
    yield from _size_drop(case, images)
    yield from _differing_modules(case, place, index)


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
                remedy=_rebuild(case, path),
            )
        elif case.entry is not None and _starts_without(case, case.entry.cmdline):
            yield warning(
                "initramfs.empty",
                path,
                f"The initramfs image {path} {what}.",
                "The kernel mounts the root file system by itself, which this one can.",
                remedy=_rebuild(case, path),
            )
        else:
            yield blocker(
                "initramfs.empty",
                path,
                f"The initramfs image {path} {what}.",
                f"The kernel gets no early user space. {_NO_ROOT}",
                remedy=_rebuild(case, path),
            )
        return
    for segment in index.segments:
        problem = segment.problem
        if problem is None:
            continue
        evidence = _evidence(index, segment, problem)
        rebuild = _rebuild(case, path)
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
            evidence=[_summary(index)],
            remedy=_rebuild(case, path),
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
    remedy = _rebuild(case, path)
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
                        _rebuild(case, path).commands,
                    ),
                )


# -- does it hold what starts? ---------------------------------------------------------------------------------


def _content(case: Case, entry: BootEntry, path: str, index: Index) -> Iterator[Finding]:
    rebuild = _rebuild(case, path)
    names = [member.path for member in index.members if member.is_file]
    if names and all(name.startswith("kernel/") or name == "early_cpio" for name in names):
        yield blocker(
            "initramfs.only-microcode",
            path,
            f"The initramfs image {path} holds nothing but firmware for the processor (microcode).",
            f"The part with early user space is missing, as if the file had been cut there. {_NO_ROOT}",
            evidence=[f"the only files: {', '.join(names[:_CAP])}"],
            remedy=rebuild,
        )
        return
    init = cmdline.parse(entry.cmdline).last("rdinit") or "/init"
    found = _init(case, entry, path, index, init)
    if found is not None:
        yield found
        return
    stages = [index, *(nested.index for nested in index.nested if nested.index is not None)]
    broken = False
    for stage in stages:
        for finding in _first_program(path, stage, init if stage is index else "/init", rebuild):
            broken = True
            yield finding
    last = stages[-1]
    if last.has_contents and not broken:
        search = closure.library_directories(last.content, last.names)
        yield from _programs(path, last, search, rebuild)
        yield from _module_loader(case, path, last, search, rebuild)
    yield from _modules(case, path, last, rebuild)


def _first_program(path: str, index: Index, init: str, rebuild: Remedy) -> Iterator[Finding]:
    if not index.has_contents:
        return
    search = closure.library_directories(index.content, index.names)
    for file in closure.missing(index, init, search=search)[:_CAP]:
        yield blocker(
            "initramfs.init-cannot-start",
            path,
            f"{init} in the initramfs image {path} cannot be started: {file.name}, which {file.needed_by} needs, "
            f"{file.why}.",
            "The kernel reports “Failed to execute /init” or “Attempted to kill init!” and panics.",
            remedy=rebuild,
        )


def _init(case: Case, entry: BootEntry, path: str, index: Index, init: str) -> Finding | None:
    found = index.find(init)
    if found is None:
        if _starts_without(case, entry.cmdline):
            return warning(
                "initramfs.no-init",
                path,
                f"The initramfs image {path} has no {init}.",
                "The kernel mounts the root file system by itself, which this one can.",
                remedy=_rebuild(case, path),
            )
        return blocker(
            "initramfs.no-init",
            path,
            f"The initramfs image {path} has no {init}, the program that the kernel starts in it.",
            f"The kernel finds nothing to start. {_NO_ROOT}",
            evidence=[_summary(index)],
            remedy=_rebuild(case, path),
        )
    if not found.is_file or not found.mode & 0o111:
        what = "is not executable" if found.is_file else "is no regular file"
        return blocker(
            "initramfs.init-not-executable",
            path,
            f"{init} in the initramfs image {path} {what}.",
            "The kernel reports “Failed to execute /init” and panics.",
            evidence=[f"{found.path} has the mode {found.mode:o}"],
            remedy=_rebuild(case, path),
        )
    return None


def _summary(index: Index) -> str:
    segments = ", ".join(
        f"{segment.compressor or 'not compressed'} from {segment.offset} to {segment.end}" for segment in index.segments
    )
    return f"{len(index.entries)} files in {len(index.segments)} segments: {segments}"


_PATH = ("/sbin", "/usr/sbin", "/bin", "/usr/bin")

# Each row: what the program does, and its names, one of which must be there.
_INITRAMFS_TOOLS = (
    ("mounts the file systems", ("mount",)),
    ("makes its directories", ("mkdir",)),
    ("hands over to the root file system", ("run-init", "switch_root")),
)
_DRACUT_SYSTEMD = (
    ("mounts the root file system", ("mount",)),
    ("hands over to the root file system", ("systemctl",)),
)
_DRACUT_SHELL = (
    ("mounts the root file system", ("mount",)),
    ("hands over to the root file system", ("switch_root",)),
    ("runs dracut's scripts", ("sh",)),
)
_INITRD_UNITS = ("initrd.target", "initrd-switch-root.target", "initrd-switch-root.service")


def _programs(path: str, index: Index, search: tuple[str, ...], rebuild: Remedy) -> Iterator[Finding]:
    """What early user space of each generator cannot do without, whatever the machine looks like."""
    needed: list[tuple[str, tuple[str, ...]]] = []
    systemd = _runs_systemd(index)
    if index.generator == "initramfs-tools":
        needed += _INITRAMFS_TOOLS
        if index.find("/scripts/init-top/udev") is not None:
            needed.append(
                ("finds the hardware", ("/lib/systemd/systemd-udevd", "/usr/lib/systemd/systemd-udevd", "udevd"))
            )
    elif index.generator == "dracut":
        needed += _DRACUT_SYSTEMD if systemd else _DRACUT_SHELL
        if index.find("/usr/bin/dracut-cmdline") is not None:
            needed.append(("runs dracut's scripts", ("sh",)))
        needed.append(("finds the hardware", ("/usr/lib/systemd/systemd-udevd", "/lib/systemd/systemd-udevd", "udevd")))
        needed.append(("finds the hardware", ("udevadm",)))
    for purpose, names in needed:
        program = _program(index, names)
        if program is None:
            yield blocker(
                "initramfs.program-missing",
                path,
                f"The initramfs image {path} has no {names[0].rsplit('/', 1)[-1]}, the program that {purpose}.",
                "Early user space stops there: an emergency shell, or a panic.",
                evidence=[f"made by {index.generator}; looked for {', '.join(names)}"],
                remedy=rebuild,
            )
            continue
        yield from _startable(path, index, program, purpose, search, rebuild)
    if systemd:
        yield from _systemd(path, index, rebuild)


def _runs_systemd(index: Index) -> bool:
    init = index.find("/init")
    return init is not None and init.path.endswith("/systemd/systemd")


def _program(index: Index, names: Iterable[str]) -> str | None:
    for name in names:
        for place in [name] if name.startswith("/") else [f"{directory}/{name}" for directory in _PATH]:
            if index.resolve(place) is not None:
                return place
    return None


def _startable(
    path: str, index: Index, program: str, purpose: str, search: tuple[str, ...], rebuild: Remedy
) -> Iterator[Finding]:
    lost = closure.missing(index, program, search=search)
    if lost:
        yield blocker(
            "initramfs.program-cannot-start",
            path,
            f"{program} in the initramfs image {path}, the program that {purpose}, cannot be started: {lost[0].name} "
            f"{lost[0].why}.",
            "Early user space stops there: an emergency shell, or a panic.",
            evidence=[f"{file.needed_by} needs {file.name}, which {file.why}" for file in lost[:_CAP]],
            remedy=rebuild,
        )


def _systemd(path: str, index: Index, rebuild: Remedy) -> Iterator[Finding]:
    if index.find("/etc/initrd-release") is None:
        yield blocker(
            "initramfs.no-initrd-release",
            path,
            f"The initramfs image {path} runs systemd and has no /etc/initrd-release.",
            "By this file systemd knows that it runs in an initramfs. Without it, it never goes on to the root file "
            "system.",
            remedy=rebuild,
        )
    lost = [
        unit
        for unit in _INITRD_UNITS
        if all(
            index.find(f"{place}/{unit}") is None
            for place in ("/usr/lib/systemd/system", "/lib/systemd/system", "/etc/systemd/system")
        )
    ]
    if lost:
        yield blocker(
            "initramfs.unit-missing",
            path,
            f"The initramfs image {path} runs systemd and has no {lost[0]}.",
            "Early user space never hands over to the root file system.",
            evidence=[f"missing: {', '.join(lost)}"],
            remedy=rebuild,
        )


# -- modules ---------------------------------------------------------------------------------------------------

_LIBRARIES = {".xz": "liblzma.so", ".lzma": "liblzma.so", ".zst": "libzstd.so", ".gz": "libz.so"}
_COMPRESS_OPTION = {
    ".xz": "CONFIG_MODULE_COMPRESS_XZ",
    ".zst": "CONFIG_MODULE_COMPRESS_ZSTD",
    ".gz": "CONFIG_MODULE_COMPRESS_GZIP",
}


def _suffix(path: str) -> str:
    return path[path.rfind(".ko") + 3 :]


def _module_loader(case: Case, path: str, index: Index, search: tuple[str, ...], rebuild: Remedy) -> Iterator[Finding]:
    """Whether what loads modules is there, and reads the form that they are in."""
    release = case.release
    held = index.modules(release) if release is not None else {}
    if not held or index.generator not in ("initramfs-tools", "dracut", "mkinitcpio"):
        return
    loaders = []
    modprobe = _program(index, ("modprobe",))
    if modprobe is None:
        yield blocker(
            "initramfs.no-modprobe",
            path,
            f"The initramfs image {path} holds {len(held)} kernel modules and no modprobe to load them.",
            "The drivers of the root device are not loaded, and the root file system is not found.",
            remedy=rebuild,
        )
    else:
        lost = list(_startable(path, index, modprobe, "loads the drivers", search, rebuild))
        yield from lost
        if not lost:
            loaders.append(modprobe)
    daemon = _program(index, ("/usr/lib/systemd/systemd-udevd", "/lib/systemd/systemd-udevd"))
    if daemon is not None and not closure.missing(index, daemon, search=search):
        library = _kmod_library(index, daemon, search)
        if library == "":
            yield blocker(
                "initramfs.udev-cannot-load-modules",
                path,
                f"systemd-udevd in the initramfs image {path} loads drivers through libkmod.so.2, which is not there.",
                "No driver is loaded for the hardware that is found, and the root file system is not found.",
                remedy=rebuild,
            )
        elif library is not None:
            loaders.append(library)
    for suffix in sorted({_suffix(name) for name in held} & set(_LIBRARIES)):
        if _kernel_decompresses(case, suffix):
            continue
        for loader in loaders:
            problem = _cannot_read(index, loader, _LIBRARIES[suffix], search)
            if problem:
                yield blocker(
                    "initramfs.modules-unreadable",
                    path,
                    f"The kernel modules in the initramfs image {path} are compressed ({suffix}), and {loader} "
                    f"{problem}.",
                    "No driver can be loaded (“Invalid module format” or “Exec format error”), and the root file "
                    "system is not found.",
                    evidence=[f"{sum(_suffix(name) == suffix for name in held)} modules end in .ko{suffix}"],
                    remedy=rebuild,
                )
                break


def _kmod_library(index: Index, program: str, search: tuple[str, ...]) -> str | None:
    """Path of libkmod as a program finds it; empty where the one it asks for is not there, None without such a wish."""
    real = index.resolve(program)
    header = index.elf(real) if real is not None else None
    asking = [] if header is None else [header]
    for name in header.needed if header is not None else ():
        if name.startswith("libsystemd-shared"):
            shared = closure.library(index, name, program=program, search=search)
            shared_header = index.elf(shared) if shared is not None else None
            asking += [shared_header] if shared_header is not None else []
    for one in asking:
        sonames = [*one.needed, *(soname for wanted in one.dlopen for soname in wanted.sonames)]
        for soname in sonames:
            if soname.startswith("libkmod.so"):
                return closure.library(index, soname, program=program, search=search) or ""
    return None


def _kernel_decompresses(case: Case, suffix: str) -> bool:
    """Whether the kernel itself unpacks such modules (CONFIG_MODULE_DECOMPRESS), so that no library is needed."""
    config = case.kernel.config if case.kernel is not None else None
    if config is None:
        return False
    return config.get("CONFIG_MODULE_DECOMPRESS") == "y" and config.get(_COMPRESS_OPTION.get(suffix, ""), "n") == "y"


def _cannot_read(index: Index, loader: str, library: str, search: tuple[str, ...]) -> str:
    """Why a loader built on kmod cannot read modules that need `library`; empty where it can, or nothing tells."""
    real = index.resolve(loader)
    header = index.elf(real) if real is not None else None
    if real is None or header is None or not header.needed:
        return ""
    if not real.endswith("/kmod") and "libkmod.so" not in real:
        return ""
    if any(name.startswith(library) for name in header.needed):
        return ""
    wanted = [name for one in header.dlopen for name in one.sonames if name.startswith(library)]
    if not wanted:
        return f"was built without {library.partition('.')[0]}, so that it cannot read them"
    if any(closure.library(index, name, program=real, search=search) for name in wanted):
        return ""
    return f"needs {wanted[0]} to read them, which is not in the image"


def _modules(case: Case, path: str, index: Index, rebuild: Remedy) -> Iterator[Finding]:
    release = case.release
    if release is None:
        return
    held = index.modules(release)
    if held:
        yield from _foreign(path, release, held, rebuild)
    elif _drivers_outside(case) == []:
        return
    else:
        others = [name for name in index.releases if name != release and index.modules(name)]
        if others:
            yield blocker(
                "initramfs.other-release",
                path,
                f"The initramfs image {path} holds the kernel modules of {', '.join(others[:3])}, and none of "
                f"{release}, the kernel that is started with it.",
                "The kernel loads none of its drivers, and the root file system is not found.",
                evidence=[f"lib/modules/{name}: {len(index.modules(name))} modules" for name in others[:_CAP]],
                remedy=rebuild,
            )
            return
    lost = list(_dependencies(path, index, release, held, rebuild))
    yield from lost
    if not held and not lost:
        yield from _no_modules(case, path, rebuild)


def _no_modules(case: Case, path: str, rebuild: Remedy) -> Iterator[Finding]:
    outside = _drivers_outside(case)
    if outside:
        yield blocker(
            "initramfs.no-modules",
            path,
            f"The initramfs image {path} holds no kernel modules, and the root file system needs some.",
            "Its driver is not loaded, and the root file system is not found.",
            evidence=[f"not built into {case.release}: {', '.join(outside)}"],
            remedy=rebuild,
        )
    elif _has_modules(case):
        yield warning(
            "initramfs.no-modules",
            path,
            f"The initramfs image {path} holds no kernel modules.",
            "The root file system is found only if every driver for it is built into the kernel.",
            remedy=rebuild,
        )


def _has_modules(case: Case) -> bool:
    return case.kernel is not None and case.machine.is_dir(f"{case.kernel.modules}/kernel")


def _foreign(path: str, release: str, held: Mapping[str, Entry], rebuild: Remedy) -> Iterator[Finding]:
    """Modules in this release's directory that were built for another."""
    built = {
        name: entry.module.vermagic.split(" ")[0]
        for name, entry in held.items()
        if entry.module is not None and entry.module.vermagic
    }
    foreign = {name: magic for name, magic in built.items() if magic != release}
    if built and len(foreign) > 0.9 * len(built):
        yield blocker(
            "initramfs.modules-of-other-build",
            path,
            f"The kernel modules in the initramfs image {path} stand in the directory of {release} and were built for "
            f"{next(iter(foreign.values()))}.",
            "The kernel refuses them (“version magic … should be …”), and the root file system is not found.",
            evidence=[f"{name}: vermagic {magic}" for name, magic in list(foreign.items())[:_CAP]],
            remedy=rebuild,
        )


def _dependencies(
    path: str, index: Index, release: str, held: Mapping[str, Entry], rebuild: Remedy
) -> Iterator[Finding]:
    if index.generator not in ("initramfs-tools", "dracut"):
        return
    directory = f"/lib/modules/{release}"
    text = index.content(f"{directory}/modules.dep")
    if text is None:
        if (
            held
            and index.find(f"{directory}/modules.dep") is None
            and index.find(f"{directory}/modules.dep.bin") is None
        ):
            yield blocker(
                "initramfs.no-modules-dep",
                path,
                f"The initramfs image {path} holds kernel modules and no modules.dep for {release}.",
                "modprobe and udev find no module without it, and the root file system is not found.",
                remedy=rebuild,
            )
        return
    try:
        listed = modules.parse_dep(text)
    except FormatError as error:
        yield blocker(
            "initramfs.modules-dep-damaged",
            path,
            f"{directory}/modules.dep in the initramfs image {path} is damaged: {error}.",
            "modprobe and udev do not find every module.",
            remedy=rebuild,
        )
        return
    lost = [name for name in listed if name not in held and index.find(f"{directory}/{name}") is None]
    if len(lost) > max(_STALE_COUNT, _STALE_SHARE * len(listed)):
        yield blocker(
            "initramfs.modules-lost",
            path,
            f"The initramfs image {path} lists {len(listed)} kernel modules for {release}, and {len(lost)} of them are "
            "not in it.",
            "Drivers are missing in early user space, and the root file system may not be found.",
            evidence=lost[:_CAP],
            remedy=rebuild,
        )


def _differing_modules(case: Case, path: str, index: Index) -> Iterator[Finding]:
    """Modules in another state than on disk: an image that was not rebuilt. What dracut strips differs by design."""
    if case.kernel is None or case.release is None:
        return
    directory = case.kernel.modules
    held = index.modules(case.release)
    # Modules of other packages are rebuilt one by one, those of the kernel all at once. What no checksum vouches for
    # may have been damaged in the image.
    inside = [name for name in held if name.startswith("kernel/")]
    whole = {name for name in held if not name.startswith("kernel/")} | set(inside[:: 1 + len(inside) // _SAMPLE])
    whole |= {name for name, entry in held.items() if not entry.verified}
    compared = 0
    differing: list[str] = []
    for name, entry in held.items():
        try:
            with case.machine.open(f"{directory}/{name}") as file:
                compared += 1
                if not _same(file, entry, whole=name in whole):
                    differing.append(name)
        except (Missing, Unreadable, OSError):
            continue
    stripped = [module for name in differing if (module := held[name].module) is not None and not module.signature]
    if index.generator == "dracut" and stripped:
        return
    if differing:
        yield warning(
            "initramfs.modules-differ",
            path,
            f"Kernel modules in the initramfs image {path} are not the ones in {directory}.",
            "The image was not rebuilt after they changed, or they are damaged in it: early user space loads those.",
            evidence=[f"{len(differing)} of {compared} differ", *sorted(differing)[:_CAP]],
            remedy=_rebuild(case, path),
        )


def _same(file: BinaryIO, entry: Entry, *, whole: bool) -> bool:
    """Whether a file on disk has the entry's size and, if that is asked and it is not too large, its content."""
    import zlib

    if os.fstat(file.fileno()).st_size != entry.size:
        return False
    return not whole or entry.size > _MODULE_LIMIT or zlib.crc32(file.read(entry.size)) == entry.crc32


# -- memory and size -------------------------------------------------------------------------------------------


def _memory(case: Case, path: str, index: Index) -> Iterator[Finding]:
    """While it unpacks, the kernel holds the image and its content. What is captured of memory may be another day's."""
    match = re.search(r"^MemTotal:\s+(\d+) kB", case.machine.text("/proc/meminfo") or "", re.MULTILINE)
    if match is None:
        return
    total = int(match.group(1)) << 10
    needed = index.size + index.unpacked + _KERNEL_MEMORY
    evidence = [
        f"image {index.size >> 20} MiB, unpacked {index.unpacked >> 20} MiB, memory {total >> 20} MiB (/proc/meminfo)"
    ]
    remedy = Remedy(
        "Make the image smaller (only the drivers that this machine needs), or give the machine more memory."
    )
    if needed > total:
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
        remedy=_rebuild(case, path),
    )


def _form(index: Index) -> tuple[str, list[str | None]]:
    return index.generator, [segment.compressor for segment in index.segments if segment.compressor]


# -- without an image ------------------------------------------------------------------------------------------

_FOR_EARLY_USER_SPACE = re.compile(
    r"(?:UUID=|LABEL=|/dev/mapper/|/dev/disk/|/dev/[^/]+/|zfs[:=]|nfs|iscsi|live:|block:|nbd:)", re.IGNORECASE
)
"""What the kernel cannot mount by itself: it knows names, numbers, PARTUUID= and PARTLABEL= (early_lookup_bdev)."""

_DISK_DRIVERS = (
    (re.compile(r"vd[a-z]"), ("CONFIG_VIRTIO_BLK", "CONFIG_VIRTIO_PCI")),
    (re.compile(r"nvme\d"), ("CONFIG_BLK_DEV_NVME",)),
    (re.compile(r"sd[a-z]"), ("CONFIG_BLK_DEV_SD", "CONFIG_SCSI")),
    (re.compile(r"mmcblk\d"), ("CONFIG_MMC_BLOCK", "CONFIG_MMC")),
    (re.compile(r"xvd[a-z]"), ("CONFIG_XEN_BLKDEV_FRONTEND",)),
    (re.compile(r"dm-\d"), ("an initramfs that sets up the device",)),
    (re.compile(r"md\d"), ("CONFIG_BLK_DEV_MD",)),
)
_FILE_SYSTEMS = {"ext2": "EXT4_FS", "ext3": "EXT4_FS", "ext4": "EXT4_FS", "vfat": "VFAT_FS"}


def _without_image(case: Case, entry: BootEntry) -> Iterator[Finding]:
    files = entry.initramfs
    if any(file.path is None and not file.absent for file in files):
        yield unknown(
            "initramfs.not-visible",
            files[0].spec,
            f"The initramfs image {files[0].spec} is on a file system that is not to be seen here.",
            "Whether it is whole cannot be told.",
            evidence=[file.why for file in files if file.why],
        )
        return
    if files:
        raise NotApplicable("the image that the entry names is not there; boot-entry speaks of it")
    reason = _needs_image(case, entry.cmdline)
    if reason is None:
        raise NotApplicable("the entry starts its kernel without an initramfs, and nothing here needs one")
    yield blocker(
        "initramfs.none-loaded",
        entry.title,
        f"The boot entry “{entry.title}” loads no initramfs, and this machine needs one: {reason}.",
        "The kernel cannot mount the root file system: “VFS: Unable to mount root fs on unknown-block(0,0)”.",
        evidence=[f"{entry.source}: {entry.cmdline}"],
        remedy=_create(case),
    )


def _needs_image(case: Case, command_line: str) -> str | None:
    """Why the kernel cannot mount root by itself, as far as that is known; None where nothing says so."""
    root = cmdline.parse(command_line).last("root") or ""
    if _FOR_EARLY_USER_SPACE.match(root):
        return f"the kernel by itself does not understand root={root}"
    lost = _drivers_outside(case)
    return f"{', '.join(lost)} {'is' if len(lost) == 1 else 'are'} not built into the kernel" if lost else None


def _starts_without(case: Case, command_line: str) -> bool:
    """Whether the kernel surely mounts root by itself: a name that it knows, and the drivers built in."""
    root = cmdline.parse(command_line).last("root") or ""
    if not root or _FOR_EARLY_USER_SPACE.match(root):
        return False
    return _drivers_outside(case) == []


def _drivers_outside(case: Case) -> list[str] | None:
    """Options of the drivers under root that are not built in; None where device or configuration are not known."""
    config = case.kernel.config if case.kernel is not None else None
    if config is None:
        return None
    volume, _ = case.volumes.holding("/")
    options: list[str] = []
    if volume.fstype is None or not volume.devices:
        return None
    options.append(f"CONFIG_{_FILE_SYSTEMS.get(volume.fstype, volume.fstype.upper() + '_FS')}")
    for device in volume.devices:
        known = next((drivers for pattern, drivers in _DISK_DRIVERS if pattern.match(device)), None)
        if known is None:
            return None
        options += known
    return sorted({option for option in options if config.get(option, "n") != "y"})


def _create(case: Case) -> Remedy:
    menu = write_boot_menu(case.machine, case.plan.loader, case.plan.config)
    image = make_initramfs(case.machine, case.release) if case.release is not None else Remedy()
    return Remedy(
        "Build the image for this kernel, and write the boot loader's menu again.", image.commands + menu.commands
    )


def _rebuild(case: Case, path: str) -> Remedy:
    if case.release is None:
        return Remedy("Build the image again.")
    if case.entry is not None and case.entry.embedded:
        return add_kernels(case.machine, [case.release])
    return make_initramfs(case.machine, case.release, path)
