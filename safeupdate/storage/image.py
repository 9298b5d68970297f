"""What a layer of storage may ask of early user space: modules, programs, units, rules and texts in an initramfs."""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase
from functools import cached_property

from safeupdate.errors import FormatError
from safeupdate.formats import modules
from safeupdate.initramfs import Entry, Index
from safeupdate.storage.requirement import Requirement
from safeupdate.storage.target import Target
from safeupdate.volumes import Volumes

_PROGRAMS = ("/sbin", "/usr/sbin", "/bin", "/usr/bin")
_UNITS = ("/etc/systemd/system", "/run/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system")
RULES = ("/etc/udev/rules.d", "/usr/lib/udev/rules.d", "/lib/udev/rules.d")

_FIRMWARE_SUFFIXES = ("", ".zst", ".xz")
"""What drivers/base/firmware_loader tries, in whatever order."""


class Contents:
    """The files of all images of one boot entry, laid over one another, as the kernel `release` finds them. Without an
    image there are none."""

    def __init__(self, index: Index | None, release: str) -> None:
        self.index = index
        self.release = release

    @cached_property
    def _stages(self) -> tuple[Index, ...]:
        """What runs last first: dracut may keep most of it in a file system inside the image."""
        if self.index is None:
            return ()
        nested = (one.index for one in self.index.nested)
        return (*(one for one in nested if one is not None), self.index)

    @cached_property
    def generator(self) -> str:
        """The program that made the image, as `Index.generator`; empty where none is known, and without an image."""
        return next((stage.generator for stage in self._stages if stage.generator), "")

    @cached_property
    def systemd(self) -> bool:
        """Whether systemd is what early user space runs."""
        found = self._find("/init")
        return found is not None and found.path.endswith("/systemd/systemd")

    @cached_property
    def own_line(self) -> str:
        """What dracut put into the image to stand before the entry's command line."""
        if self.generator != "dracut":
            return ""
        added = [f"/etc/cmdline.d/{name}" for name in self.names("/etc/cmdline.d") if name.endswith(".conf")]
        texts = (self.text(path) or "" for path in ("/etc/cmdline", *added))
        return " ".join(word for text in texts for word in text.split())

    def program(self, *names: str) -> str | None:
        """The path of the first of these programs that is there; bare names are looked for as early user space does."""
        for name in names:
            for path in [name] if name.startswith("/") else [f"{directory}/{name}" for directory in _PROGRAMS]:
                found = self._find(path)
                if found is not None and found.is_file:
                    return path
        return None

    def unit(self, name: str) -> bool:
        """Whether systemd in the image has a unit, and it is not masked."""
        directory = next((one for one in _UNITS if name in self.names(one)), None)
        found = None if directory is None else self._find(f"{directory}/{name}")  # a mask leads to /dev/null
        return found is not None and found.is_file

    def rule(self, pattern: str) -> bool:
        """Whether a file of udev's rules has a name like this."""
        return any(fnmatchcase(name, pattern) for directory in RULES for name in self.names(directory))

    @cached_property
    def rule_files(self) -> Mapping[str, str]:
        """The files of udev's rules by name, in the order in which udev reads them."""
        files: dict[str, str] = {}
        for directory in RULES:
            for name in self.names(directory):
                if name.endswith(".rules"):
                    files.setdefault(name, f"{directory}/{name}")
        return {name: self.text(files[name]) or "" for name in sorted(files)}

    @cached_property
    def rules(self) -> str:
        """All of udev's rules."""
        return "\n".join(self.rule_files.values())

    def firmware(self, name: str) -> bool:
        """Whether a firmware file is there, packed or not."""
        places = (f"/lib/firmware/updates/{self.release}", "/lib/firmware/updates", f"/lib/firmware/{self.release}")
        directories = (*places, "/lib/firmware", "/usr/lib/firmware")
        return any(
            self._find(f"{directory}/{name}{suffix}") is not None
            for directory in directories
            for suffix in _FIRMWARE_SUFFIXES
        )

    def exists(self, path: str) -> bool:
        """Whether there is anything at a path, in whose last part the wildcards of fnmatch may stand."""
        directory, name = posixpath.split(path)
        if any(letter in name for letter in "*?["):
            return any(fnmatchcase(one, name) for one in self.names(directory))
        return self._find(path) is not None

    def text(self, path: str) -> str | None:
        """A small text; None where there is none, or where it is of a kind that the index does not keep."""
        data = self.data(path)
        return None if data is None else data.decode("utf-8", "replace")

    def names(self, directory: str) -> tuple[str, ...]:
        """The names in a directory, sorted."""
        return tuple(sorted({name for stage in self._stages for name in stage.names(directory)}))

    def _find(self, path: str) -> Entry | None:
        return next((entry for stage in self._stages if (entry := stage.find(path)) is not None), None)

    def data(self, path: str) -> bytes | None:
        """A small file's bytes; None where there is none, or where it is of a kind that the index does not keep."""
        found = self._find(path)
        return None if found is None else found.content


class Image(Contents):
    """What early user space has, as the kernel whose modules `target` are finds it. Without an image that is what is
    built into the kernel alone.

    `entry_line` is the entry's command line, `volumes` are those of the machine that it starts, and `before` gives the
    image with which another kernel, which is running now, was started. What asks for built-in modules may raise
    `Unreadable`.
    """

    def __init__(
        self,
        index: Index | None,
        target: Target,
        *,
        entry_line: str = "",
        volumes: Volumes | None = None,
        before: Callable[[], Contents | None] = lambda: None,
    ) -> None:
        super().__init__(index, target.tree.kernel.release)
        self.target = target
        self.volumes = volumes
        self.machine = None if volumes is None else volumes.machine
        self._entry_line = entry_line
        self._before = before

    @cached_property
    def running(self) -> Contents | None:
        """The image of the kernel that is running, where that is another one and its image can be read."""
        return self._before()

    @cached_property
    def command_line(self) -> str:
        """The entry's command line; with dracut what the image has beside it goes before (dracut.cmdline(7))."""
        return f"{self.own_line} {self._entry_line}".strip()

    @cached_property
    def hidden(self) -> str:
        """Why it cannot be told what is in the image, a sentence without its full stop; empty where it can."""
        if self.index is not None and self.generator in ("", "booster") and not self._held:
            return "its modules lie where the program that made it alone finds them"
        return ""

    @property
    def modules(self) -> frozenset[str]:
        """The names of the modules for this kernel that are in the image."""
        return frozenset(self._held)

    def is_built_in(self, name: str) -> bool:
        """Whether the kernel itself has what others have as a module of this name."""
        return name.replace("-", "_") in self._built_in

    def has_module(self, name: str) -> bool:
        """Whether a module is built in, or can be loaded from the image."""
        return self.lacking(name) is None

    def lacking(self, name: str) -> str | None:
        """What is not there, in words, of a module and all that it depends on; None where it is whole or built in."""
        name = name.replace("-", "_")
        if name in self._built_in:
            return None
        if name not in self._held:
            return name
        if isinstance(self._listed, str):
            return f"{self.unlisted} that finds {name}"
        if self._listed is None:
            needed = self.target.closure(name)
        elif name in self._listed:
            needed = self._listed[name]
        else:
            return f"the line for {name} in modules.dep"
        return next((one for one in needed if one not in self._held and one not in self._built_in), None)

    @property
    def unlisted(self) -> str:
        """What is missing of the list by which modprobe finds modules; empty where it is there."""
        return self._listed if isinstance(self._listed, str) else ""

    @cached_property
    def _built_in(self) -> frozenset[str]:
        listed = f"/lib/modules/{self.release}/modules.builtin"
        return self.target.tree.builtin or modules.parse_builtin(self.data(listed) or b"")

    @cached_property
    def _held(self) -> frozenset[str]:
        found = {modules.module_name(path) for stage in self._stages for path in stage.modules(self.release)}
        if isinstance(self._dep, Mapping):
            # Links to the modules of another release (weak-modules) are no modules of the index.
            for path in self._dep:
                entry = self._find(f"/lib/modules/{self.release}/{path}")
                if entry is not None and entry.is_file:
                    found.add(modules.module_name(path))
        return frozenset(found)

    @cached_property
    def _listed(self) -> Mapping[str, tuple[str, ...]] | str | None:
        """What modprobe finds: each module's name to what it depends on. None where it cannot be told, as the index
        that modprobe reads is there and the text beside it is not (mkinitcpio). Words for what is missing of it."""
        if not isinstance(self._dep, Mapping):
            return self._dep
        name = modules.module_name
        return {name(path): tuple(map(name, needed)) for path, needed in self._dep.items()}

    @cached_property
    def _dep(self) -> Mapping[str, tuple[str, ...]] | str | None:
        directory = f"/lib/modules/{self.release}"
        text = self.data(f"{directory}/modules.dep")
        if text is None:
            there = any(self._find(f"{directory}/{name}") is not None for name in ("modules.dep", "modules.dep.bin"))
            return None if there else "a modules.dep"
        try:
            return modules.parse_dep(text)
        except FormatError:
            return "a readable modules.dep"

    def holds(self, requirement: Requirement) -> bool:
        """Whether any of the names that will do is there, or what the layer found out itself."""
        if requirement.met is not None:
            return requirement.met
        ask = {
            "module": self.has_module,
            "program": lambda name: self.program(name) is not None,
            "file": self.exists,
            "unit": self.unit,
            "rule": self.rule,
            "firmware": self.firmware,
        }.get(requirement.kind)
        return ask is None or any(ask(name) for name in requirement.names)
