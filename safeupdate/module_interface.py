"""Does a module fit its kernel? The kernel's own tests (kernel/module/main.c and version.c), made beforehand.

Where a kernel and a module have symbol versions (CONFIG_MODVERSIONS), the release in the module's vermagic does not
count: RHEL's weak modules were built for another one. Without them the whole of it must be the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import BinaryIO, Literal

from safeupdate import kernels
from safeupdate.errors import FormatError, Missing, NoDecoder, Unreadable
from safeupdate.formats import elf, module_symbols, modules, symvers, unpacked
from safeupdate.formats.module_symbols import ModuleSymbols
from safeupdate.formats.symvers import Exported
from safeupdate.module_tree import IN_TREE, ModuleTree
from safeupdate.trust.cache import Cache, content_key

Kind = Literal["broken", "vermagic", "symbol-missing", "symbol-version", "symbol-twice", "unknown"]

_LAYOUT = "module_layout"
"""The symbol whose checksum covers the kernel's own structures for modules (check_modstruct_version)."""

_SYMVERS_LIMIT = 8 << 20
"""Bytes of a Module.symvers, which has two."""

_TOLD = 3
"""Symbols that are named; a module that does not fit may lack hundreds."""


@dataclass(frozen=True)
class Misfit:
    """Why the kernel does not load a module: a clause that a sentence may end with. `unknown`: it cannot be told."""

    kind: Kind
    why: str


@dataclass(frozen=True)
class _Known:
    """What the kernel exports. `with_modules`: what its own modules do, too. `complete`: nothing else is exported."""

    exports: Mapping[str, Exported]
    with_modules: bool = False
    complete: bool = True


class Interface:
    """What one kernel and its modules offer. `embedded`: its image is in a unified one."""

    def __init__(self, tree: ModuleTree, *, embedded: bool = False, cache: Cache | None = None) -> None:
        self._tree = tree
        self._kernel = tree.kernel
        self._machine = tree.kernel.machine
        self._embedded = embedded
        self._cache = cache
        self._read: dict[str, Mapping[str, int | None] | None] = {}

    def misfit(self, path: str) -> Misfit | None:
        """Why the kernel will not load the module at `path` of the tree; None where nothing speaks against it.

        What it needs of other modules is looked up in those, as they are now; whether they can be loaded themselves is
        another question. Raises nothing.
        """
        try:
            module = self._tree.symbols(path)
            self._read[path] = module.exports
            return self.of(module)
        except FormatError as error:
            return Misfit("broken", str(error))
        except Missing:
            return Misfit("broken", "the file does not exist")
        except (NoDecoder, Unreadable) as error:
            return Misfit("unknown", str(error))

    def of(self, module: ModuleSymbols) -> Misfit | None:
        """The same of a module that was read already, as those of an initramfs are. Raises `Unreadable`."""
        return (
            self._other_kind(module)
            or self._other_magic(module)
            or self._other_symbols(module)
            or self._other_size(module)
        )

    # -- the kernel's kind ---------------------------------------------------------------------------------

    @cached_property
    def _config(self) -> Mapping[str, str] | None:
        try:
            return self._kernel.config
        except Unreadable:
            return None

    @cached_property
    def _versioned(self) -> bool | None:
        """Whether the kernel compares checksums; None where nothing tells."""
        magic = self._tree.vermagic
        if magic is not None:
            return "modversions" in magic.split()
        return None if self._config is None else "CONFIG_MODVERSIONS" in self._config

    @cached_property
    def _forces(self) -> bool | None:
        """Whether it takes a module without vermagic or versions, and only marks itself as tainted (Debian's does)."""
        return None if self._config is None else "CONFIG_MODULE_FORCE_LOAD" in self._config

    def _other_kind(self, module: ModuleSymbols) -> Misfit | None:
        sample = self._tree.sample
        if sample is not None and module.machine != sample.machine:
            built, wanted = (elf.MACHINES.get(one.machine, f"machine {one.machine}") for one in (module, sample))
            return Misfit("broken", f"it is built for {built}, and the kernel is for {wanted}")
        if module.size is None:
            return Misfit("broken", "it is no whole kernel module: its section .gnu.linkonce.this_module is missing")
        return None

    def _other_magic(self, module: ModuleSymbols) -> Misfit | None:
        magic, wanted = module.one("vermagic"), self._tree.vermagic
        if magic is None:
            return None if self._forces is not False else Misfit("vermagic", "it does not say which kernel it is for")
        release, _, settings = magic.partition(" ")
        wanted_release, _, wanted_settings = (wanted or f"{self._kernel.release} {settings}").partition(" ")
        # Extended versions alone leave the release in: the kernel asks for the section __versions.
        if release != wanted_release and (module.versions is None or not self._versioned):
            return Misfit("vermagic", f"it is built for {release}")
        if settings != wanted_settings:
            other = f"“{settings.strip()}” instead of “{wanted_settings.strip()}”"
            return Misfit("vermagic", f"it is built for a kernel with other settings: {other}")
        return None

    def _other_size(self, module: ModuleSymbols) -> Misfit | None:
        """Linux 6.4 and newer refuse such a module; to older ones it does harm."""
        sample = self._tree.sample
        if sample is None or sample.size is None or module.size == sample.size:
            return None
        sizes = f"its struct module has {module.size} bytes, the kernel's {sample.size}"
        return Misfit("vermagic", f"it is built for a kernel with other settings: {sizes}")

    # -- symbols -------------------------------------------------------------------------------------------

    def _other_symbols(self, module: ModuleSymbols) -> Misfit | None:
        """By the list that came with the headers, the quickest to read; they may be of another build, and what speaks
        against a module by them counts only if the kernel's image does not say otherwise."""
        if self._by_symvers is not None:
            found = self._unlike(module, self._by_symvers)
            return found if found is None or self._by_image is None else self._unlike(module, self._by_image)
        if not self._versioned:
            return self._unlike(module, None)
        known = self._by_image or self._by_own_modules
        if known is None:
            return Misfit("unknown", "nothing here tells the versions of the kernel's symbols")
        return self._unlike(module, known)

    def _unlike(self, module: ModuleSymbols, known: _Known | None) -> Misfit | None:
        versions = module.extended if module.extended is not None else module.versions
        missing, unlike = [], []
        unversioned = False
        for name in (*([_LAYOUT] if self._versioned else []), *sorted(module.undefined), *sorted(module.weak)):
            offered = self._offered(name, known)
            if offered is None:
                continue
            if not offered:
                if name in module.undefined:
                    missing.append(name)
            elif self._versioned and None not in offered:
                if versions is None:
                    unversioned = True
                elif name in versions and versions[name] not in offered:
                    unlike.append(name)
        if unlike:
            return Misfit("symbol-version", f"the kernel has other versions of {_names(unlike)}")
        if missing:
            return Misfit("symbol-missing", f"neither the kernel nor another module has {_names(missing)}")
        if unversioned and self._forces is False:
            return Misfit("symbol-version", "it has no symbol versions, and the kernel loads no such modules")
        twice = [] if known is None or not known.complete else _twice(module, known)
        return Misfit("symbol-twice", f"it exports {_names(twice)}, as the kernel itself does") if twice else None

    def _offered(self, name: str, known: _Known | None) -> frozenset[int | None] | None:
        """The checksums under which the symbol is exported, several where modules compete; None in it takes any.

        Empty where nothing exports it; None where that is not known.
        """
        one = None if known is None else known.exports.get(name)
        if one is not None and (one.module == symvers.KERNEL or self._is_from_the_kernel(one.module)):
            return frozenset([one.checksum])
        read = [*self._of_modules(name)]
        found = frozenset(exports[name] for exports in read if exports is not None and name in exports)
        if found:
            return found
        if name == _LAYOUT or None in read or known is None or not known.complete:
            return None
        return frozenset() if known.with_modules or self._tree.exporters else None

    def _is_from_the_kernel(self, path: str) -> bool:
        """Whether modprobe loads the kernel's own module of that name, none that was put in its place."""
        name = modules.module_name(path)
        chosen = self._tree.chosen(name)
        return any(one.startswith(IN_TREE) for one in (self._tree.named(name) if chosen is None else (chosen,)))

    def _of_modules(self, name: str) -> Iterator[Mapping[str, int | None] | None]:
        """What modules export that may have the symbol: those that depmod says, else every one from elsewhere."""
        found = False
        for module in (self._tree.exporters or {}).get(name, ()):
            path = self._tree.chosen(module)
            exports = None if path is None else self._exports(path)
            if exports is not None and name in exports:
                found = True
                yield exports
        if not found:
            yield from map(self._exports, self._tree.out_of_tree)

    def _exports(self, path: str) -> Mapping[str, int | None] | None:
        """What a module exports; None where that cannot be told, and nothing for one that cannot be loaded."""
        if path not in self._read:
            try:
                self._read[path] = self._tree.symbols(path).exports
            except (FormatError, Missing):
                self._read[path] = {}
            except (NoDecoder, Unreadable):
                self._read[path] = None
        return self._read[path]

    @cached_property
    def _by_symvers(self) -> _Known | None:
        release, directory = self._kernel.release, self._tree.directory
        places = [f"{directory}/build/Module.symvers", f"{directory}/Module.symvers"]
        for suffix in ("", ".gz", ".xz", ".zst"):
            places += [f"{directory}/symvers{suffix}", f"/boot/symvers-{release}{suffix}"]
        for place in places:
            try:
                with self._machine.open(place) as file:
                    plain = not place.endswith((".gz", ".xz", ".zst"))
                    content = file if plain else unpacked.of(file, xz=place.endswith(".xz"))
                    known = _Known(symvers.parse(content.read(_SYMVERS_LIMIT)), with_modules=True)
            except (FormatError, Missing, NoDecoder, Unreadable, OSError):
                continue
            if self._is_ours(known):
                return known
        return None

    @cached_property
    def _by_image(self) -> _Known | None:
        section = ".linux" if self._embedded else None
        try:
            with kernels.part(self._machine, self._kernel.image, section) as (file, size):
                known = _Known(_of_kernel(self._of_image(file, size)))
        except (FormatError, Missing, NoDecoder, Unreadable, OSError):
            return None
        return known if self._is_ours(known) else None

    def _of_image(self, file: BinaryIO, size: int) -> Mapping[str, int | None]:
        key = content_key(file) if self._cache is not None else ""
        if self._cache is not None:
            found = _from_lines(self._cache.get("exports", key))
            if found:
                return found
        relative = self._config is not None and "CONFIG_MODULE_REL_CRCS" in self._config
        exports = module_symbols.of_kernel(unpacked.kernel(file, size), relative=relative)
        if self._cache is not None and None not in exports.values():
            self._cache.put("exports", key, [f"{number:08x} {name}".encode() for name, number in exports.items()])
        return exports

    @cached_property
    def _by_own_modules(self) -> _Known | None:
        """What the kernel's own modules ask for is what it has. A few of them tell the symbols that all need."""
        found: dict[str, int | None] = {}
        for module in self._tree.samples:
            found.update(module.extended or module.versions or {})
        return _Known(_of_kernel(found), complete=False) if found else None

    def _is_ours(self, known: _Known) -> bool:
        """Whether what is known fits the kernel's own modules: headers may be of another build."""
        for module in self._tree.samples:
            checksums = module.extended or module.versions or {}
            for name in {_LAYOUT, *module.undefined} if self._versioned else module.undefined:
                one = known.exports.get(name)
                if known.with_modules if one is None else one.checksum != checksums.get(name, one.checksum):
                    return False
        return bool(known.exports)


def _twice(module: ModuleSymbols, known: _Known) -> list[str]:
    """What the kernel has by itself, and no module may bring once more (verify_exported_symbols)."""
    exports = known.exports
    return sorted(name for name in module.exports if name in exports and exports[name].module == symvers.KERNEL)


def _of_kernel(exports: Mapping[str, int | None]) -> dict[str, Exported]:
    return {name: Exported(checksum or 0, symvers.KERNEL) for name, checksum in exports.items()}


def _from_lines(lines: list[bytes] | None) -> dict[str, int | None]:
    """What the cache has, nothing where it has none or no such lines."""
    try:
        return {line[9:].decode(): int(line[:8], 16) for line in lines or ()}
    except ValueError:
        return {}


def _names(names: list[str]) -> str:
    return ", ".join(names[:_TOLD]) + (f" and {len(names) - _TOLD} more" if len(names) > _TOLD else "")
