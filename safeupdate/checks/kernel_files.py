"""Is the kernel whole, and does it find its modules?"""

from __future__ import annotations

import stat
from collections.abc import Iterable, Iterator, Mapping
from posixpath import basename
from typing import BinaryIO

from safeupdate import kernels
from safeupdate.case import Case, Check
from safeupdate.errors import FormatError, Missing, NoDecoder, Unreadable
from safeupdate.formats import authenticode, bzimage, compression, elf, modules
from safeupdate.formats.bzimage import KernelImage
from safeupdate.kernels import Kernel
from safeupdate.module_tree import IN_TREE, ModuleTree
from safeupdate.remedies import reinstall_kernel
from safeupdate.report import Finding, NotApplicable, Remedy, blocker, note, unknown, warning

_NEEDED_INDEXES = ("modules.dep.bin", "modules.alias.bin")
"""modprobe(8) finds modules by name through the first, udev drivers for hardware through the second."""

_INDEXES = (*_NEEDED_INDEXES, "modules.symbols.bin", "modules.builtin.bin")

_LOST_SHARE = 0.5
"""Where more than this part of the modules is gone, the directory as such is lost: no selection by hand goes so far."""

_UNPACKED_LIMIT = 1 << 30
"""Bytes: no architecture maps a larger kernel image (x86: KERNEL_IMAGE_SIZE, arch/x86/include/asm/page_64_types.h)."""

_RUNS = {
    "x86_64": ("x86_64", "i386"),
    "i686": ("i386",),
    "aarch64": ("aarch64", "arm"),
    "ppc64": ("ppc64", "ppc"),
    "sparc64": ("sparc64", "sparc"),
}
"""Whose programs a kernel starts, where that is more than its own architecture's, or has another name."""

_CAP = 10


def check(case: Case) -> Iterator[Finding]:
    """The kernel image, then `/lib/modules/R`."""
    if case.kernel is None:
        if case.entry is None:
            raise NotApplicable("it is not known which kernel boots next")
        if case.entry.kernel is None:
            raise NotApplicable("what the loader starts next is no kernel of this system")
        yield unknown(
            "kernel-files.release-unknown",
            case.entry.title,
            f"Neither the kernel image of this entry nor its file name ({case.entry.kernel.spec}) tells a kernel "
            "release.",
            "Its modules and its configuration cannot be looked for.",
        )
        return
    try:
        yield from _image(case, case.kernel)
    except Unreadable as error:
        yield unknown(
            "kernel-files.image-unreadable",
            error.path,
            f"The kernel image {error.path} cannot be read: {error.reason}.",
            "Whether it is whole cannot be told.",
        )
    yield from _modules(case, case.kernel, case.tree or ModuleTree(case.kernel))


def _image(case: Case, kernel: Kernel) -> Iterator[Finding]:
    machine, path = case.machine, kernel.image
    embedded = case.entry is not None and case.entry.embedded
    if not machine.exists(path):
        return  # boot-entry speaks of files that are not there
    with machine.open(path) as file:
        size = machine.size(path)
        if size == 0:
            yield blocker(
                "kernel-files.image-empty",
                path,
                f"The kernel image {path} is empty (0 bytes).",
                "The boot loader cannot load it: this entry does not start.",
                remedy=reinstall_kernel(case.machine, kernel.release),
            )
            return
        try:
            with kernels.part(machine, path, ".linux" if embedded else None) as (linux, size):
                image = bzimage.parse(linux)
                cut = size < image.extent
                signed = None if cut else authenticode.intact(file)
                damage = None if signed or cut else _payload_damage(linux, image)
        except FormatError as error:
            report = blocker if case.architecture in ("x86_64", "i386", None) else unknown
            yield report(
                "kernel-files.image-not-a-kernel",
                path,
                f"{path} is no kernel image that can be started: {error}.",
                "The boot loader refuses it, and this entry does not start.",
                remedy=reinstall_kernel(case.machine, kernel.release),
            )
            return
        if cut:
            yield blocker(
                "kernel-files.image-truncated",
                path,
                f"The kernel image {path} is cut: {size} bytes of {image.extent}.",
                "The boot loader reports a premature end of file, or the kernel stops while it unpacks itself.",
                evidence=[f"the image's header promises {image.extent} bytes"],
                remedy=reinstall_kernel(case.machine, kernel.release),
            )
            return
        if damage is not None:
            yield blocker(
                "kernel-files.image-corrupt",
                path,
                f"The kernel image {path} is damaged: {damage}.",
                "The kernel stops while it unpacks itself, before the first message.",
                remedy=reinstall_kernel(case.machine, kernel.release),
            )
            return
        if signed is False:
            report = blocker if case.firmware.secure_boot else warning
            yield report(
                "kernel-files.image-changed",
                path,
                f"The kernel image {path} is not the file that was signed: "
                "its digest differs from the one in its signature.",
                "With Secure Boot on, the boot loader refuses it; without, the changed code runs.",
                remedy=reinstall_kernel(case.machine, kernel.release),
            )
    if case.architecture and case.architecture not in _RUNS.get(image.architecture, (image.architecture,)):
        yield blocker(
            "kernel-files.other-architecture",
            path,
            f"The kernel image {path} is for {image.architecture}, "
            f"the programs of this machine are for {case.architecture}.",
            "The kernel does not start, or cannot run a single program.",
            remedy=reinstall_kernel(case.machine, kernel.release),
        )


def _payload_damage(file: BinaryIO, image: KernelImage) -> str | None:
    """Why the packed kernel inside the image does not unpack; None where it does, or where nothing can tell."""
    payload = image.payload
    if payload is None:
        return None
    if payload.compressor is None:
        return f"the packed kernel inside it begins with no compressor's mark (offset {payload.offset:#x})"
    source = compression.Source(file, payload.offset + payload.length)
    bound = _UNPACKED_LIMIT if payload.unpacked is None else min(payload.unpacked, _UNPACKED_LIMIT)
    total = 0
    view = memoryview(bytearray(1 << 18))
    try:
        decoder = compression.unpack(source, payload.offset, memory=compression.KERNEL_MEMORY)
        try:
            while total <= bound and (count := decoder.readinto(view)):
                total += count
        finally:
            decoder.close()
    except (NoDecoder, compression.Refused):
        return None  # what is refused in an initramfs, such as a wide zstd window, may be in a kernel image
    except FormatError as error:
        return str(error)
    if payload.unpacked is not None and total != payload.unpacked:
        return f"the packed kernel inside it does not have the {payload.unpacked} bytes that the image promises"
    return None


def _modules(case: Case, kernel: Kernel, tree: ModuleTree) -> Iterator[Finding]:
    machine, directory = case.machine, kernel.modules
    config = kernel.config
    present = {path: status.st_size for path, status in tree.files.items() if stat.S_ISREG(status.st_mode)}
    in_tree = {path for path in present if path.startswith(IN_TREE)}
    if config is not None and "CONFIG_MODULES" not in config and not in_tree:
        yield note(
            "kernel-files.no-module-support", kernel.release, f"The kernel {kernel.release} is built without modules."
        )
        return
    if not machine.is_dir(directory):
        yield blocker(
            "kernel-files.no-modules",
            directory,
            f"The kernel {kernel.release} has no modules: the directory {directory} does not exist.",
            "Whatever is not in the initramfs stays without a driver: network, file systems, consoles.",
            remedy=reinstall_kernel(case.machine, kernel.release),
        )
        return
    if config is None:
        yield note(
            "kernel-files.no-config",
            kernel.release,
            f"No file has the whole configuration of the kernel {kernel.release} "
            f"({kernel.config_path or f'/boot/config-{kernel.release}'}).",
            "What depends on the kernel's configuration is judged without it.",
        )
    depmod = Remedy(f"Write the lists of the modules of {kernel.release} anew.", (("depmod", "-a", kernel.release),))
    for name in _INDEXES:
        path = f"{directory}/{name}"
        problem = tree.index.problem if name == "modules.dep.bin" else _problem(machine.read_if_there(path))
        if name == "modules.dep.bin" and in_tree and not tree.index.dependencies:
            problem = problem or "it is empty, although there are modules"
        if problem is not None:
            needed = name in _NEEDED_INDEXES
            yield (blocker if needed else warning)(
                "kernel-files.modules-index",
                path,
                f"The index {path} cannot be used: {problem}.",
                "modprobe and udev find no driver for the hardware after the switch to the root file system."
                if needed
                else "Some modules are not found by name.",
                remedy=depmod,
            )
    if tree.text.problem is not None:
        path = f"{directory}/modules.dep"
        yield warning(
            "kernel-files.modules-dep",
            path,
            f"The list of modules {path} cannot be used: {tree.text.problem}.",
            "modprobe reads modules.dep.bin instead; other tools do not find the modules' dependencies.",
            remedy=depmod,
        )
    dependencies = tree.dependencies
    lost = in_tree - dependencies.keys()
    if dependencies and len(lost) > _LOST_SHARE * len(in_tree):
        yield blocker(
            "kernel-files.modules-not-listed",
            f"{directory}/modules.dep.bin",
            f"The index {directory}/modules.dep.bin lists only {len(in_tree) - len(lost)} of {len(in_tree)} modules. "
            f"It lacks {first_names(lost)}.",
            "modprobe and udev do not find the others after the switch to the root file system.",
            evidence=[f"not listed: {name}" for name in sorted(lost)[:_CAP]],
            remedy=depmod,
        )
    yield from _listed(case, kernel, dependencies, present, depmod)
    yield from _vermagic(case, kernel, tree)


def _problem(data: bytes | None) -> str | None:
    """Why an index cannot be used."""
    if data is None:
        return "the file does not exist"
    try:
        modules.check_index(data)
    except FormatError as error:
        return str(error)
    return None


def first_names(paths: Iterable[str]) -> str:
    """Three of these modules, for a sentence: two losses that differ must not read the same (`control.py`)."""
    names = sorted(modules.module_name(path) if modules.is_module(path) else basename(path) for path in paths)
    return ", ".join(names[:3]) + (" and others" if len(names) > 3 else "")


def _listed(
    case: Case,
    kernel: Kernel,
    dependencies: Mapping[str, tuple[str, ...]],
    present: dict[str, int],
    depmod: Remedy,
) -> Iterator[Finding]:
    machine, directory = case.machine, kernel.modules
    gone = []
    for path in dependencies:
        if not path.startswith(IN_TREE):
            continue  # the check of the name dkms asks about modules from elsewhere
        size = present.get(path)
        if size is None:
            size = machine.size(f"{directory}/{path}") if machine.is_file(f"{directory}/{path}") else 0
        if size == 0:
            gone.append(path)
    if not gone:
        return
    evidence = [f"missing or empty: {directory}/{path}" for path in gone[:_CAP]]
    if len(gone) > _CAP:
        evidence.append(f"and {len(gone) - _CAP} more")
    if len(gone) > _LOST_SHARE * len(dependencies):
        yield blocker(
            "kernel-files.modules-lost",
            directory,
            f"{len(gone)} of the {len(dependencies)} modules of the kernel {kernel.release} are missing or empty: "
            f"{first_names(gone)}.",
            "Drivers for network, file systems and devices are not found after the switch to the root file system.",
            evidence=evidence,
            remedy=reinstall_kernel(case.machine, kernel.release),
        )
        return
    needed = [path for path in gone if modules.module_name(path) in case.modules_in_use - case.loaded_early]
    if needed:
        yield blocker(
            "kernel-files.module-in-use-lost",
            directory,
            f"Modules that this machine uses are missing or empty in {directory}: "
            + ", ".join(modules.module_name(path) for path in needed[:_CAP])
            + ".",
            "What they drive does not come back after the reboot.",
            evidence=evidence,
            remedy=reinstall_kernel(case.machine, kernel.release),
        )
        return
    yield warning(
        "kernel-files.module-missing",
        directory,
        f"{len(gone)} of the {len(dependencies)} modules that {directory}/modules.dep names are missing or empty: "
        f"{first_names(gone)}.",
        "They cannot be loaded from there; that this machine needs them from there is not known.",
        evidence=evidence,
        remedy=depmod,
    )


def _vermagic(case: Case, kernel: Kernel, tree: ModuleTree) -> Iterator[Finding]:
    """A module that came with the kernel says which release all of them were built for: the smallest that is whole."""
    for name in tree.smallest:
        path = tree.path(name)
        try:
            with tree.open(name) as content:
                built_for = (elf.module(content).one("vermagic") or "").partition(" ")[0]
        except NoDecoder:
            return
        except (Missing, FormatError):
            continue
        if built_for and built_for != kernel.release:
            yield blocker(
                "kernel-files.modules-of-another-release",
                kernel.modules,
                f"The modules in {kernel.modules} are built for {built_for}, the kernel is {kernel.release}.",
                "The kernel refuses every module: no network, no further file systems.",
                evidence=[f"vermagic of {path}: {built_for}"],
                remedy=reinstall_kernel(case.machine, kernel.release),
            )
        return


CHECK = Check("kernel-files", "The kernel and its modules are whole", essential=True, run=check)
