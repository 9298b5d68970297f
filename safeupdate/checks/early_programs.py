"""Does an initramfs hold the programs that early user space starts, and can these read the modules beside them?

What is started is the generator's design: initramfs-tools(7), dracut.modules(7), bootup(7) for systemd in the image.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from safeupdate import closure
from safeupdate.boot.plan import BootEntry
from safeupdate.case import Case
from safeupdate.checks.early_modules import held_modules
from safeupdate.checks.without_initramfs import build_again, starts_without
from safeupdate.formats import cmdline
from safeupdate.initramfs import Index
from safeupdate.report import Finding, Remedy, blocker, warning

_CAP = 8
"""Lines of evidence for one finding."""

NO_ROOT = (
    "The kernel then tries to mount the root file system by itself, without the drivers and programs of the image, "
    "and panics: “VFS: Unable to mount root fs”."
)


def content(case: Case, entry: BootEntry, path: str, index: Index) -> Iterator[Finding]:
    """What is missing of that which starts first, in an image that unpacks; `path` names the image in findings."""
    rebuild = build_again(case, path)
    names = [member.path for member in index.members if member.is_file]
    if names and all(name.startswith("kernel/") or name == "early_cpio" for name in names):
        yield blocker(
            "initramfs.only-microcode",
            path,
            f"The initramfs image {path} holds nothing but firmware for the processor (microcode).",
            f"The part with early user space is missing, as if the file had been cut there. {NO_ROOT}",
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
    yield from held_modules(case, path, last, rebuild)


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
        if starts_without(case, entry.cmdline):
            return warning(
                "initramfs.no-init",
                path,
                f"The initramfs image {path} has no {init}.",
                "The kernel mounts the root file system by itself, which this one can.",
                remedy=build_again(case, path),
            )
        return blocker(
            "initramfs.no-init",
            path,
            f"The initramfs image {path} has no {init}, the program that the kernel starts in it.",
            f"The kernel finds nothing to start. {NO_ROOT}",
            evidence=[summary(index)],
            remedy=build_again(case, path),
        )
    if not found.is_file or not found.mode & 0o111:
        what = "is not executable" if found.is_file else "is no regular file"
        return blocker(
            "initramfs.init-not-executable",
            path,
            f"{init} in the initramfs image {path} {what}.",
            "The kernel reports “Failed to execute /init” and panics.",
            evidence=[f"{found.path} has the mode {found.mode:o}"],
            remedy=build_again(case, path),
        )
    return None


def summary(index: Index) -> str:
    """What an image holds, in one line of evidence."""
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


# -- the program that loads modules ----------------------------------------------------------------------------

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
