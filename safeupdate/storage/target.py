"""Which modules of one kernel drive a device or answer to a name, built in or not.

A driver that this kernel calls by another name, that was merged into another or that is built in, is found by what it
says of itself: its aliases, which depmod collects in modules.alias, and the kernel's build in modules.builtin.modinfo
(Documentation/kbuild/kbuild.rst). How a name is looked for is libkmod's way (kmod_module_new_from_lookup), but for
one thing: modprobe stops at the first list that has an answer, while here all of them count.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from fnmatch import translate
from functools import cached_property, lru_cache

from safeupdate.errors import FormatError, Missing, NoDecoder, Unreadable
from safeupdate.formats import elf, modules
from safeupdate.module_tree import ModuleTree

_LIST_LIMIT = 16 << 20
"""Bytes of a list; modules.alias of Debian's kernels has 1.4 MB."""

_ALIAS_LIMIT = 4096
"""Characters of a name that is looked for; a modalias is one line of sysfs, at most a page."""

_ALIAS = re.compile(r"^alias ([^\s*?\[]*)(\S*) (\S+)$", re.MULTILINE)
_BRACKET = re.compile(r"(\[[^\]]*\])")

_GENERIC = ("", "_generic", "_intel")
"""What a module that brings an algorithm has behind its name: crc32c_generic, crc32c-intel."""


_PROCESSOR = "cpu:type:"


class Target:
    """What depmod and the kernel's build wrote down about one kernel's modules. Everything may raise `Unreadable`."""

    def __init__(self, tree: ModuleTree) -> None:
        self.tree = tree
        self._machine = tree.kernel.machine
        self._answers: dict[str, tuple[str, ...]] = {}  # 2,000 disks ask the same
        self._firmware: dict[str, tuple[str, ...]] = {}

    def by_name(self, name: str) -> tuple[str, ...]:
        """The modules that go by a name, in the kernel's spelling: the one that has it, else those that answer to it,
        as the successor of a driver does. Empty: this kernel has none, as far as its lists tell."""
        plain = name.replace("-", "_")
        if self.tree.chosen(plain) is not None or plain in self.tree.builtin:
            return (plain,)
        return self.by_alias(name)

    def by_alias(self, alias: str) -> tuple[str, ...]:
        """The modules with an alias that fits: a modalias of sysfs, `fs-ext4`, `crypto-crc32c`. Loadable ones come
        first. Empty: none, or one that is built into a kernel before 5.2, which does not list its aliases."""
        if alias not in self._answers:
            wanted = _spelled(alias[:_ALIAS_LIMIT])
            self._answers[alias] = tuple(dict.fromkeys(self._fitting(wanted)))
        return self._answers[alias]

    def algorithm(self, name: str) -> tuple[str, ...]:
        """The modules that bring a cipher, a hash or a mode of the kernel's crypto API (`xts`, `crc32c`) on this
        machine, by the aliases that it asks for, and where those of what is built in are not listed, by their usual
        names."""
        found = self.by_alias(f"crypto-{name}") + self.by_name(name)
        plain = name.replace("-", "_")
        found += tuple(plain + suffix for suffix in _GENERIC if plain + suffix in self.tree.builtin)
        return tuple(one for one in dict.fromkeys(found) if self.suits(one))

    def suits(self, name: str) -> bool:
        """Whether this machine's processor has what a module says that it needs, as `aesni_intel` does; the kernel
        loads it on others, too, and it gives up there. True where either is not known."""
        return name not in self._of_processors or name in self._of_this_processor

    @property
    def lists_modules(self) -> bool:
        """Whether it is known what this kernel has, as a module or built in, so that what is not listed is not
        there."""
        return bool(self.tree.dependencies) and bool(self.tree.builtin)

    @cached_property
    def lists_aliases(self) -> bool:
        """Whether the aliases of what is built in are known, too, so that `by_alias` can be believed when it finds
        nothing. The kernel's build has written them since Linux 5.2."""
        return bool(self._built_in) and self.lists_modules

    def closure(self, name: str) -> tuple[str, ...]:
        """The names of the modules that a module depends on, directly or not, those that are loaded first at the end,
        as modules.dep has them. Empty for one that is built in or not listed."""
        path = self.tree.chosen(name)
        paths = () if path is None else self.tree.dependencies[path]
        return tuple(modules.module_name(one) for one in paths)

    def before(self, name: str) -> tuple[str, ...]:
        """What a module says is to be loaded before it (`softdep … pre:`): names or aliases, as it spells them.

        modprobe goes on without what it does not find. Which of them are missed then, the module alone knows.
        """
        return self._softdeps.get(name.replace("-", "_"), ())

    def firmware(self, name: str) -> tuple[str, ...]:
        """The files that a module and those that it depends on may load, below lib/firmware, as they list them. Empty
        where they cannot be looked into."""
        if name not in self._firmware:
            self._firmware[name] = tuple(self._listed_firmware((name, *self.closure(name))))
        return self._firmware[name]

    def version(self, name: str) -> str:
        """What a module says of its version; empty where it says nothing, or cannot be looked into."""
        path = self.tree.chosen(name)
        with suppress(FormatError, Missing, NoDecoder, Unreadable):
            if path is not None:
                with self.tree.open(path) as content:
                    return next(iter(elf.module(content).modinfo.get("version", ())), "")
        return ""

    def _listed_firmware(self, names: Iterable[str]) -> Iterator[str]:
        for path in filter(None, map(self.tree.chosen, names)):
            with suppress(FormatError, Missing, NoDecoder, Unreadable), self.tree.open(path) as content:
                yield from elf.module(content).modinfo.get("firmware", ())

    @cached_property
    def _of_processors(self) -> frozenset[str]:
        """The modules that name features of processors (the kernel's include/linux/cpufeature.h)."""
        if not self._processor:
            return frozenset()
        lists = (found for beginning, found in self._aliases.items() if beginning.startswith(_PROCESSOR))
        return frozenset(module for found in lists for _, module in found)

    @cached_property
    def _of_this_processor(self) -> frozenset[str]:
        return frozenset(self.by_alias(self._processor))

    @cached_property
    def _processor(self) -> str:
        """The modalias of this machine's processors; empty where it is not known."""
        found = self._machine.value("/sys/devices/system/cpu/modalias") or ""
        return found if found.startswith(_PROCESSOR) else ""

    def _fitting(self, wanted: str) -> Iterator[str]:
        for end in range(len(wanted) + 1):
            for rest, module in self._aliases.get(wanted[:end], ()):
                if _fits(rest, wanted[end:]):
                    yield module

    @cached_property
    def _aliases(self) -> Mapping[str, list[tuple[str, str]]]:
        """By what stands before an alias' first wildcard: the rest of it, and the module."""
        found: dict[str, list[tuple[str, str]]] = {}
        for beginning, rest, module in (*_ALIAS.findall(self._text("modules.alias")), *self._built_in_aliases()):
            rest = _spelled(rest) if "-" in rest else rest
            found.setdefault(beginning.replace("-", "_"), []).append((rest, module.replace("-", "_")))
        return found

    def _built_in_aliases(self) -> Iterator[tuple[str, str, str]]:
        for module, alias in self._built_in:
            found = _ALIAS.match(f"alias {alias} {module}")
            if found is not None:
                beginning, rest, module = found.groups()
                yield beginning, rest, module

    @cached_property
    def _built_in(self) -> tuple[tuple[str, str], ...]:
        """Modules that are built in, with each of their aliases."""
        found = []
        for line in self._text("modules.builtin.modinfo").split("\0"):
            module, mark, alias = line.partition(".alias=")
            if mark:
                found.append((module, alias))
        return tuple(found)

    @cached_property
    def _softdeps(self) -> Mapping[str, tuple[str, ...]]:
        found: dict[str, tuple[str, ...]] = {}
        for line in self._text("modules.softdep").splitlines():
            words = line.split()
            if len(words) > 2 and words[0] == "softdep" and "pre:" in words:
                named = words[words.index("pre:") + 1 :]
                name = words[1].replace("-", "_")
                found[name] = found.get(name, ()) + tuple(named[: named.index("post:")] if "post:" in named else named)
        return found

    def _text(self, name: str) -> str:
        data = self._machine.read_if_there(f"{self.tree.directory}/{name}", limit=_LIST_LIMIT)
        return (data or b"").decode("utf-8", "replace")


def _spelled(alias: str) -> str:
    """A name as depmod and modprobe compare it: underscores for dashes, but in a set of characters."""
    if "[" not in alias:
        return alias.replace("-", "_")
    return "".join(part if part.startswith("[") else part.replace("-", "_") for part in _BRACKET.split(alias))


def _fits(pattern: str, text: str) -> bool:
    """Whether a text is like an alias, as fnmatch(3) has it without any flag."""
    first, star, rest = pattern.partition("*")
    if "?" in pattern or "[" in pattern:
        return _pattern(pattern).match(text) is not None
    if not star:
        return text == pattern
    *middle, last = rest.split("*")
    if len(text) < len(first) + len(last) or not text.startswith(first) or not text.endswith(last):
        return False
    at, end = len(first), len(text) - len(last)
    for part in middle:
        found = text.find(part, at, end)
        if found < 0:
            return False
        at = found + len(part)
    return True


@lru_cache(maxsize=1024)
def _pattern(pattern: str) -> re.Pattern[str]:
    return re.compile(translate(pattern.replace("[^", "[!")))
