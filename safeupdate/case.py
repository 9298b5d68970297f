"""All that a check may look at, and what a check is."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from typing import Callable

from safeupdate import initramfs, kernels, needs
from safeupdate.boot.firmware import Firmware
from safeupdate.boot.plan import BootEntry, BootPlan
from safeupdate.config import DEFAULTS, Config
from safeupdate.errors import FormatError, Missing, Unreadable
from safeupdate.fingerprint import Hasher
from safeupdate.formats import elf, modules
from safeupdate.initramfs import Index
from safeupdate.kernels import Kernel
from safeupdate.ledger.reading import UNKNOWN, History
from safeupdate.machine import Machine
from safeupdate.module_interface import Interface
from safeupdate.module_tree import ModuleTree
from safeupdate.needs import Need
from safeupdate.packages import Database
from safeupdate.report import CheckResult, Finding, Quality, Recovery
from safeupdate.storage import stack
from safeupdate.storage.stack import Stack
from safeupdate.trust.cache import Cache
from safeupdate.volumes import Volumes

_UDEV = ("/usr/lib/systemd/systemd-udevd", "/lib/systemd/systemd-udevd")
"""It loads drivers for all hardware that it finds, in the initramfs as later."""


class Shelf:
    """The initramfs images of one run: each is read once, in the background if asked early, and then shared."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        # Each keeps two processors busy, with unpacking and with reading. With no more of them than that, the target is
        # judged while the fallback's image is read.
        workers = max(1, min(2, (os.cpu_count() or 1) // 2))
        self._readers = ThreadPoolExecutor(workers, thread_name_prefix="initramfs")
        self._images: dict[tuple[str, str | None], Future[Index]] = {}

    def prepare(self, path: str, section: str | None = None, *, hashed: frozenset[str] | None = None) -> Future[Index]:
        """Start to read the image at `path`, or in that section of a unified kernel image, unless that was done.

        `hashed` are the modules whose signatures will be asked about; all, without it.
        """
        place = self._machine.resolve(path), section
        if place not in self._images:
            self._images[place] = self._readers.submit(self._read, *place, hashed)
        return self._images[place]

    def image(self, path: str, section: str | None = None) -> Index:
        """The image's index. Raises `Missing` and `Unreadable`; a damaged image is an index that says so."""
        return self.prepare(path, section).result()

    def close(self) -> None:
        """Start nothing more, and wait for what is running."""
        self._readers.shutdown(wait=True, cancel_futures=True)

    def _read(self, path: str, section: str | None, hashed: frozenset[str] | None) -> Index:
        with kernels.part(self._machine, path, section) as (file, size):
            return initramfs.read_image(file, size=size, hashed=hashed)


@dataclass(frozen=True)
class Fallback:
    """The best other entry: what it is worth, and what the same checks said of it."""

    entry: BootEntry
    quality: Quality
    recovery: Recovery
    results: tuple[CheckResult, ...] = ()


@dataclass(frozen=True)
class Case:
    """One kernel, started by one boot entry, on one machine."""

    machine: Machine
    volumes: Volumes
    firmware: Firmware
    plan: BootPlan
    entry: BootEntry | None
    kernel: Kernel | None
    shelf: Shelf
    hasher: Hasher
    databases: tuple[Database, ...] = ()
    kernels: tuple[Kernel, ...] = ()
    config: Config = DEFAULTS
    history: History = UNKNOWN
    required_drivers: tuple[str, ...] | None = None
    all_modules: bool = False
    progress: Callable[[str], None] = lambda _: None
    cache: Cache = field(default_factory=Cache)
    is_target: bool = True
    fallback: Fallback | None = None
    tried: tuple[Fallback, ...] = ()
    """Every other entry that was judged, the fallback among them."""

    @property
    def release(self) -> str | None:
        """The kernel release that is judged, where it is known."""
        if self.kernel is not None:
            return self.kernel.release
        return self.entry.release if self.entry is not None else None

    @cached_property
    def image_places(self) -> tuple[tuple[str, str | None], ...]:
        """Where the images that the entry loads are, in the loader's order: a path, and a section inside it or None."""
        entry = self.entry
        if entry is None:
            return ()
        places: list[tuple[str, str | None]] = []
        if entry.embedded and entry.kernel is not None and entry.kernel.path is not None:
            places.append((entry.kernel.path, ".initrd"))
        places += [(file.path, None) for file in entry.initramfs if file.path is not None and not file.absent]
        return tuple(places)

    @cached_property
    def images(self) -> tuple[tuple[str, Index], ...]:
        """Path and index of every initramfs image that the entry loads, in the loader's order.

        One that is not there is left out: `boot-entry` speaks of it. Raises `Unreadable`.
        """
        found = []
        for path, section in self.image_places:
            try:
                found.append((path, self.shelf.image(path, section)))
            except Missing:
                continue
        return tuple(found)

    @cached_property
    def index(self) -> Index | None:
        """What early user space finds: all images of the entry, laid over one another. None without any."""
        indexes = [index for _, index in self.images]
        return initramfs.merge(indexes) if indexes else None

    @cached_property
    def architecture(self) -> str | None:
        """The architecture of this machine's programs, by /sbin/init; None where that tells nothing."""
        for program in ("/sbin/init", "/usr/lib/systemd/systemd", "/bin/sh"):
            try:
                with self.machine.open(program) as file:
                    return elf.parse(file).architecture
            except (Missing, Unreadable, FormatError):
                continue
        return None

    @cached_property
    def tree(self) -> ModuleTree | None:
        """The kernel's modules; None where it is not known which kernel it is."""
        return None if self.kernel is None else ModuleTree(self.kernel)

    @cached_property
    def interface(self) -> Interface | None:
        """What the kernel and its modules offer; None where it is not known which kernel it is."""
        if self.tree is None:
            return None
        embedded = self.entry is not None and self.entry.embedded
        return Interface(self.tree, embedded=embedded, cache=self.cache)

    @cached_property
    def running_tree(self) -> ModuleTree | None:
        """The modules of the kernel that is running; None where that is not known."""
        release = self.machine.running_kernel
        if release is None or release == self.release:
            return None if release is None else self.tree
        kernel = next((one for one in self.kernels if one.release == release), None)
        return ModuleTree(kernel or Kernel(release, f"/boot/vmlinuz-{release}", self.machine))

    @cached_property
    def stacks(self) -> tuple[Stack, ...]:
        """What the root file system of the entry lies on, the first of them; then /usr and what is resumed from."""
        command_line = self.entry.cmdline if self.entry is not None else ""
        return stack.of(self.machine, self.volumes, command_line=command_line)

    @cached_property
    def needs(self) -> Mapping[str, Need]:
        """Why this machine needs a module, by its name; nothing for one of which no use is known."""
        return needs.of(
            self.machine,
            self.volumes,
            command_line=self.entry.cmdline if self.entry is not None else "",
            stacks=self.stacks,
            required=self.required_drivers,
            release=self.release,
        )

    @cached_property
    def modules_in_use(self) -> frozenset[str]:
        """Modules that are loaded now, or that configuration asks for at boot (modules-load.d(5), /etc/modules)."""
        names = {line.split()[0] for line in (self.machine.text("/proc/modules") or "").splitlines() if line.strip()}
        lists = ["/etc/modules"]
        for directory in ("/etc/modules-load.d", "/usr/lib/modules-load.d", "/lib/modules-load.d"):
            lists += [f"{directory}/{name}" for name in self.machine.listdir(directory) if name.endswith(".conf")]
        for path in lists:
            for line in (self.machine.text(path) or "").splitlines():
                word = line.strip().split(" ")[0]
                if word and word[0] not in "#;":
                    names.add(word.replace("-", "_"))
        return frozenset(names)

    @cached_property
    def loaded_early(self) -> frozenset[str]:
        """Modules of the initramfs that are loaded before the root file system, with what that has of them, is there:
        those on the way to it, and what drives a device now. None where the image cannot be read."""
        try:
            index = self.index
        except Unreadable:
            return frozenset()
        if index is None or self.tree is None or not any(map(index.resolve, _UDEV)):
            return frozenset()
        name = modules.module_name
        asked = needs.driving(self.machine) | {need.module for need in self.needs.values() if need.kind == "root"}
        early = {*asked}
        for path, needed in self.tree.dependencies.items():
            if name(path) in asked:
                early.update(map(name, needed))
        held = index.modules(self.tree.kernel.release)
        return frozenset(name(path) for path, entry in held.items() if entry.size) & early


@dataclass(frozen=True)
class Check:
    """One question. `essential`: an `unknown` here makes the verdict unknown. `per_entry`: its answer depends on the
    boot entry, so that it is asked of the fallback too. `asked`: whether the report lists it at all for this case."""

    id: str
    title: str
    essential: bool
    run: Callable[[Case], Iterator[Finding]]
    per_entry: bool = True
    asked: Callable[[Case], bool] = lambda _: True
