"""One kernel's modules as depmod(8) and modprobe(8) see them.

What modprobe loads is written down in modules.dep.bin. What depmod would write there follows from depmod.d(5): where
the two differ, depmod has not run since something changed.
"""

from __future__ import annotations

import os
import stat
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from typing import BinaryIO

from safeupdate.errors import FormatError, Missing, NoDecoder, Unreadable
from safeupdate.formats import depmod_conf, module_symbols, modules, unpacked
from safeupdate.formats.depmod_conf import BUILT_IN, EXTERNAL, DepmodConf
from safeupdate.formats.module_symbols import ModuleSymbols
from safeupdate.kernels import Kernel

IN_TREE = "kernel/"
"""Where the modules lie that came with the kernel (modules_install); others go to updates, extra, weak-updates, ..."""

_CONF = ("/etc/depmod.d", "/run/depmod.d", "/usr/local/lib/depmod.d", "/usr/lib/depmod.d", "/lib/depmod.d")
"""Where depmod.d(5) has its files: of two with the same name the first counts. Before kmod 28 /run came before /etc."""

_NEVER = ("build", "source")
"""Names that depmod passes by, wherever they are."""

_LOADABLE = (".ko", ".ko.gz", ".ko.xz", ".ko.zst")

_ELSEWHERE_LIMIT = 20_000
"""Entries below a directory outside; a whole kernel has under 10,000."""

_PLACES_LIMIT = 16
"""Directories outside that are looked into; hardly anybody has one."""

_SYMBOLS_LIMIT = 8 << 20
"""Bytes of modules.symbols, which has one."""

_TRIED = 10
"""Modules that are asked which kernel they were built for: the first one tells, unless it is damaged."""


@dataclass(frozen=True)
class Listing:
    """What depmod wrote: each module's path to those that it needs. `problem` says why there is nothing."""

    dependencies: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    problem: str | None = None


class ModuleTree:
    """`/lib/modules/R` of one kernel. Paths of modules are relative to it; those in a directory of depmod.d's
    `external` are absolute. Nothing is read before it is asked for; everything may raise `Unreadable`."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.directory = kernel.modules
        self._machine = kernel.machine

    def path(self, module: str) -> str:
        """The absolute path inside the machine."""
        return module if module.startswith("/") else f"{self.directory}/{module}"

    @cached_property
    def files(self) -> Mapping[str, os.stat_result]:
        """Whatever is a module by its name and no directory, with its status, links not followed."""
        found: dict[str, os.stat_result] = {}
        links = []
        for path, status in self._machine.below(self.directory).items():
            if not modules.is_module(path):
                if stat.S_ISLNK(status.st_mode) and _is_looked_at(path):
                    links.append(path)
            elif _is_looked_at(path):
                found[path] = status
        for path in links[:_PLACES_LIMIT]:
            found.update(self._linked(path))
        return found

    def _linked(self, path: str) -> Iterator[tuple[str, os.stat_result]]:
        """The modules in a directory outside that a link names."""
        place = self.path(path)
        if not self._machine.is_dir(place):
            return
        inside, own = (f"{self._machine.resolve(one)}/" for one in (place, self.directory))
        if not inside.startswith(own) and not own.startswith(inside):
            yield from ((f"{path}/{name}", status) for name, status in self._elsewhere(place))

    def _elsewhere(self, directory: str) -> Iterator[tuple[str, os.stat_result]]:
        """The modules below a directory that is not this kernel's; not all of them where it holds far too much."""
        with suppress(Missing, Unreadable):
            top = len(self._machine.host_path(directory)) + 1
            for entry in self._machine.walk(directory, limit=_ELSEWHERE_LIMIT):
                path = entry.path[top:]
                if modules.is_module(path) and _is_looked_at(path) and not entry.is_dir(follow_symlinks=False):
                    with suppress(FileNotFoundError):  # an update is at work
                        yield path, entry.stat(follow_symlinks=False)

    @cached_property
    def by_name(self) -> Mapping[str, tuple[str, ...]]:
        """Every file of every module, by the name that the kernel lists it by."""
        found: dict[str, list[str]] = defaultdict(list)
        for path in (*self.files, *self._external):
            found[modules.module_name(path)].append(path)
        return {name: tuple(sorted(paths)) for name, paths in found.items()}

    @cached_property
    def _external(self) -> tuple[str, ...]:
        """Modules in the directories that depmod.d names for this kernel."""
        return tuple(f"{place}/{path}" for place in self._external_places for path, _ in self._elsewhere(place))

    @cached_property
    def _external_places(self) -> tuple[str, ...]:
        externals = () if self._conf is None else self._conf.externals[:_PLACES_LIMIT]
        return tuple(
            one.directory.rstrip("/")
            for one in externals
            if one.directory.startswith("/") and depmod_conf.matches(one.kernel, self.kernel.release)
        )

    def named(self, name: str) -> tuple[str, ...]:
        """Every file of one module, sorted."""
        return self.by_name.get(name.replace("-", "_"), ())

    @cached_property
    def out_of_tree(self) -> tuple[str, ...]:
        """Modules that did not come with the kernel: those not below `kernel/`, sorted."""
        return tuple(sorted(path for path in (*self.files, *self._external) if not path.startswith(IN_TREE)))

    # -- what depmod wrote ---------------------------------------------------------------------------------

    @cached_property
    def index(self) -> Listing:
        """`modules.dep.bin`, which alone modprobe reads."""
        try:
            data = self._machine.read_if_there(f"{self.directory}/modules.dep.bin")
            if data is None:
                raise FormatError("the file does not exist")
            return Listing(modules.read_dep_index(data))
        except FormatError as error:
            return Listing(problem=str(error))

    @cached_property
    def text(self) -> Listing:
        """`modules.dep`, which other tools read."""
        try:
            data = self._machine.read_if_there(f"{self.directory}/modules.dep")
            if data is None:
                raise FormatError("the file does not exist")
            return Listing(modules.parse_dep(data))
        except FormatError as error:
            return Listing(problem=str(error))

    @property
    def dependencies(self) -> Mapping[str, tuple[str, ...]]:
        """What `modules.dep.bin` says; `modules.dep`, where the index cannot be used."""
        return self.index.dependencies or self.text.dependencies

    @cached_property
    def _chosen(self) -> Mapping[str, str]:
        return {modules.module_name(path): path for path in self.dependencies}

    def chosen(self, name: str) -> str | None:
        """The file that modprobe loads, whether or not it is there; None for a module that depmod has not listed."""
        return self._chosen.get(name.replace("-", "_"))

    @cached_property
    def builtin(self) -> frozenset[str]:
        """Names of what other kernels have as modules and this one has built in."""
        return modules.parse_builtin(self._machine.read_if_there(f"{self.directory}/modules.builtin") or b"")

    @cached_property
    def exporters(self) -> Mapping[str, list[str]] | None:
        """Symbols to the names of the modules that export them, as depmod saw it (modules.symbols). None without."""
        data = self._machine.read_if_there(f"{self.directory}/modules.symbols", limit=_SYMBOLS_LIMIT)
        if data is None:
            return None
        found: dict[str, list[str]] = defaultdict(list)
        for line in data.decode("utf-8", "replace").splitlines():
            words = line.split()
            if len(words) == 3 and words[1].startswith("symbol:"):
                found[words[1][7:]].append(words[2])
        return found

    # -- what depmod would write ---------------------------------------------------------------------------

    @cached_property
    def _conf(self) -> DepmodConf | None:
        """What depmod.d says; None where not all of it can be read."""
        files: dict[str, str] = {}
        try:
            for directory in _CONF:
                for name in self._machine.listdir(directory):
                    if name.endswith(".conf") and not name.startswith("."):
                        files.setdefault(name, f"{directory}/{name}")
            return depmod_conf.together(depmod_conf.parse(self._read(files[name])) for name in sorted(files))
        except (FormatError, Unreadable):
            return None

    def _read(self, path: str) -> bytes:
        """A file of depmod.d, in which a link to /dev/null says nothing."""
        if self._machine.is_file(path):
            return self._machine.read(path)
        return b""

    def preferred(self, name: str) -> str | None:
        """The file that depmod would choose. None without any, and where that cannot be told: of two that it takes for
        equal it chooses by the order of the directory on disk, which only the one that it has chosen tells."""
        if self._conf is None:
            return None
        ranks = {path: self._rank(path) for path in self.named(name) if self._is_candidate(path)}
        highest = max(ranks.values(), default=None)
        best = [path for path, rank in ranks.items() if rank == highest]
        if len(best) == 1:
            return best[0]
        chosen = self.chosen(name)
        return chosen if chosen in best else None

    def _is_candidate(self, path: str) -> bool:
        assert self._conf is not None
        directories = path.split("/")[:-1]
        return (
            path.endswith(_LOADABLE)
            and self._conf.excludes.isdisjoint(directories)
            and self._machine.is_file(self.path(path))
        )

    @cached_property
    def _overrides(self) -> tuple[str, ...]:
        """Paths without suffix, the one that goes before all others last."""
        assert self._conf is not None
        matching = (one for one in self._conf.overrides if depmod_conf.matches(one.kernel, self.kernel.release))
        return tuple(f"{one.directory}/{one.module}" for one in matching)

    def _rank(self, path: str) -> tuple[int, int]:
        """How high depmod ranks a module (tools/depmod.c of kmod, depmod_module_is_higher_priority): what is named
        later in depmod.d goes before earlier overrides, what `search` names earlier before what it names later."""
        assert self._conf is not None
        plain = path[: path.rindex(".ko")]
        override = max((number for number, one in enumerate(self._overrides, 1) if one == plain), default=0)
        place = built_in = -1
        for number, prefix in enumerate(self._places):
            if prefix is None:
                built_in = number
            elif self.path(path).startswith(prefix):
                place = number
        return override, place if place >= 0 else built_in

    @cached_property
    def _places(self) -> tuple[str | None, ...]:
        """What the order of `search` names, the first last, as the beginnings of paths; None is `built-in`."""
        assert self._conf is not None
        places: list[str | None] = []
        for word in reversed(self._conf.search or depmod_conf.DEFAULT_SEARCH):
            if word == EXTERNAL:
                places += [f"{place}/" for place in reversed(self._external_places)]
            else:
                places.append(None if word == BUILT_IN else f"{self.directory}/{word}/")
        return tuple(places)

    # -- what is in them -----------------------------------------------------------------------------------

    @contextmanager
    def open(self, module: str) -> Iterator[BinaryIO]:
        """A module's file, unpacked. Raises `Missing`, `Unreadable`, `NoDecoder`, `FormatError` for damaged data."""
        path = self.path(module)
        with self._machine.open(path) as file:
            try:
                with unpacked.module(file, path) as content:
                    yield content
            except OSError as error:
                raise Unreadable(path, os.strerror(error.errno or 0)) from None

    def symbols(self, module: str) -> ModuleSymbols:
        """What a module exports and needs. Raises what `open` does, `FormatError` for one that cannot be loaded too."""
        with self.open(module) as content:
            return module_symbols.parse(content)

    @cached_property
    def samples(self) -> tuple[ModuleSymbols, ...]:
        """Some of the kernel's own modules, the smallest that are whole; none where none of them can be read."""
        found = []
        for path in self.smallest:
            with suppress(FormatError, Missing, NoDecoder, Unreadable):
                found.append(self.symbols(path))
        # Not everything below kernel/ came with the kernel. What did says so, since Linux 3.2.
        return tuple(one for one in found if one.one("intree") is not None) or tuple(found)

    @property
    def sample(self) -> ModuleSymbols | None:
        """One of `samples`."""
        return next(iter(self.samples), None)

    @cached_property
    def smallest(self) -> tuple[str, ...]:
        """Some of the modules that came with the kernel, the smallest first: they are quick to read."""
        sizes = {path: status.st_size for path, status in self.files.items() if path.startswith(IN_TREE)}
        own = (path for path in sorted(sizes) if sizes[path] and stat.S_ISREG(self.files[path].st_mode))
        return tuple(sorted(own, key=lambda path: sizes[path])[:_TRIED])

    @property
    def vermagic(self) -> str | None:
        """What this kernel asks of every module (include/linux/vermagic.h); None where none of its own tells."""
        return None if self.sample is None else self.sample.one("vermagic")


def _is_looked_at(path: str) -> bool:
    return not any(part in _NEVER for part in path.split("/"))
