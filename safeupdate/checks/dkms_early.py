"""Do modules that did not come with the kernel reach early user space? A part of the check `dkms`.

They are built after the kernel was installed, and the initramfs may be older: it then lacks one, or holds another build
than /lib/modules. Only a module that the root file system needs can stop the boot there. The kernel's own modules are
asked about elsewhere, and a module that is not in /lib/modules at all is not asked about here.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property, partial

from safeupdate import initramfs, kernels
from safeupdate.case import Case
from safeupdate.checks.without_initramfs import build_again, drivers_outside
from safeupdate.errors import FormatError, Missing, NoDecoder, Unreadable
from safeupdate.formats import elf, module_symbols, modules, unpacked
from safeupdate.formats.module_symbols import ModuleSymbols
from safeupdate.initramfs import Entry
from safeupdate.module_tree import IN_TREE, ModuleTree
from safeupdate.report import Finding, blocker, note, unknown, warning

_CAP = 8
"""Lines of evidence for one finding."""

_COMPARED_LIMIT = 32 << 20
"""Bytes of one module that are compared; the largest graphics drivers are above, and their size tells."""

_NO_ROOT = "The root file system is not found, and the boot stops in the initramfs."


@dataclass(frozen=True)
class _Copy:
    """A module in an image. `nested`: in a file system inside it, of which the content is not read again."""

    image: str
    entry: Entry
    nested: bool
    stripped: bool
    """Made by dracut, which takes what is for debuggers only out of the modules that it copies."""


def early(case: Case) -> Iterator[Finding]:
    """Modules from outside the kernel's package that are missing from the entry's images, cannot be loaded there, or
    are of another build there."""
    try:
        index = case.index
    except Unreadable:
        return  # the check of the initramfs says so
    if case.tree is None or index is None or index.problem is not None:
        return
    if any(nested.index is None for nested in index.nested):
        return
    look = _Look(case, case.tree)
    if look.held or drivers_outside(case) == []:  # else that check says that the image holds no modules
        yield from _missing(look)
    yield from _unlike(look)


class _Look:
    """What is on disk, and what is in the images of one case."""

    def __init__(self, case: Case, tree: ModuleTree) -> None:
        self.case = case
        self.tree = tree
        self.release = tree.kernel.release
        self.list = f"/lib/modules/{self.release}/modules.dep"
        self.needed = case.needs

    def needs_root(self, name: str) -> bool:
        need = self.needed.get(name)
        return need is not None and need.kind == "root"

    def is_used(self, name: str) -> bool:
        """Whether something asks for the module, or uses it."""
        need = self.needed.get(name)
        return need is not None and need.kind in ("root", "boot", "use")

    def may_block(self, name: str) -> bool:
        """Whether the administrator has not said that the machine can do without it."""
        return not self.case.config.modules.can_miss(name)

    @cached_property
    def outside(self) -> Mapping[str, str]:
        """Modules that did not come with the kernel, by name: the file in /lib/modules that modprobe loads."""
        tree = self.tree
        if not any(path.startswith(IN_TREE) for path in tree.files):
            return {}  # a system that has another order of its modules
        found = {}
        for path in tree.out_of_tree:
            name = modules.module_name(path)
            chosen = tree.chosen(name) or path
            replaced = name in tree.builtin or chosen.startswith(IN_TREE)
            if not replaced and self.case.machine.is_file(tree.path(chosen)):
                found[name] = chosen
        return found

    @cached_property
    def held(self) -> Mapping[str, _Copy]:
        """The modules in the images, by name; of several the last. A weak module is a link to another release's."""
        found = {}
        for image, index in self.case.images:
            stripped = index.generator == "dracut"
            inner = [nested.index for nested in index.nested if nested.index is not None]
            for one in (index, *inner):
                copies = {modules.module_name(path): entry for path, entry in one.modules(self.release).items()}
                for name, path in self.outside.items():
                    linked = one.find(self.tree.path(path)) if name not in copies else None
                    if linked is not None and linked.is_file:
                        copies[name] = linked
                found.update({name: _Copy(image, entry, one is not index, stripped) for name, entry in copies.items()})
        return found

    @cached_property
    def copied(self) -> tuple[str, ...]:
        """Those from outside that are in the images. Of another entry than the one that boots next it is only asked
        whether it would do."""
        names = sorted(set(self.outside) & set(self.held))
        return tuple(name for name in names if self.case.is_target or self.needs_root(name))

    @cached_property
    def listed(self) -> frozenset[str] | None:
        """What modprobe finds in early user space; None where that cannot be told."""
        index = self.case.index
        text = index.content(self.list) if index is not None else None
        try:
            return None if text is None else frozenset(map(modules.module_name, modules.parse_dep(text)))
        except FormatError:
            return None  # the check of the initramfs says so

    @cached_property
    def image(self) -> str:
        """The image that has the modules, else the last one."""
        images = self.case.images
        with_modules = [path for path, index in images if index.modules(self.release)]
        return (with_modules or [path for path, _ in images])[-1]


def _missing(look: _Look) -> Iterator[Finding]:
    case = look.case
    absent = [name for name in look.outside if name not in look.held]
    # Of those that --require-driver names, root-storage says that they are missing.
    required = {name.replace("-", "_") for name in case.required_drivers or ()}
    for may_block in (True, False):
        lost = [
            name
            for name in absent
            if look.needs_root(name) and name not in required and look.may_block(name) == may_block
        ]
        if lost:
            yield (blocker if may_block else warning)(
                "dkms.not-in-initramfs",
                look.image,
                f"The initramfs image {look.image} does not hold {_names(lost)}, which the root file system needs.",
                _NO_ROOT,
                evidence=[f"{name}: {look.needed[name].why}" for name in lost[:_CAP]],
                remedy=build_again(case, look.image),
            )
    unclear = [name for name in absent if name in look.needed and not look.needs_root(name) and name not in required]
    if unclear and _root_is_unknown(case):
        carried = [name for name in unclear if name in _carried_now(case)]
        if carried:
            yield unknown(
                "dkms.not-in-initramfs",
                look.image,
                f"The initramfs image {look.image} does not hold {_names(carried)}, which the image of the running "
                "kernel does.",
                "Whether the root file system needs that cannot be told: what lies under it is not known.",
                evidence=[f"{name}: {look.needed[name].why}" for name in carried[:_CAP]],
                remedy=build_again(case, look.image),
            )


def _root_is_unknown(case: Case) -> bool:
    """Whether no fact tells what lies under root, so that only an image that has started this machine can."""
    if case.required_drivers is not None:
        return False
    return next(case.stacks[0].devices(), None) is None


def _carried_now(case: Case) -> frozenset[str]:
    """The modules in the images of the kernel that is running, by the first entry that starts it."""
    running = case.machine.running_kernel
    for entry in case.plan.entries:
        if running is not None and entry.release == running:
            with suppress(Unreadable):
                images = replace(case, entry=entry).images
                return frozenset(modules.module_name(path) for _, one in images for path in one.modules(running))
    return frozenset()


# -- not the file on disk --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Other:
    """A copy that is not the file on disk. `content` is what it says of itself, or why the kernel cannot load it; None
    where it could not be looked into."""

    copy: _Copy
    path: str
    on_disk: elf.Module
    content: ModuleSymbols | str | None

    @cached_property
    def difference(self) -> str | None:
        """What shows that it is of another build, for a person; None where nothing does. dracut strips modules, and a
        signature may be another one, so that size and bytes of the same build differ."""
        if isinstance(self.content, str):
            return self.content
        entry, on_disk = self.copy.entry, self.on_disk
        build_id = entry.module.build_id if entry.module is not None else None
        source = None
        if self.content is not None:
            build_id, source = self.content.build_id, self.content.one("srcversion")
            for field in ("version", "srcversion"):
                inside, outside = self.content.one(field), on_disk.one(field)
                if inside != outside:
                    return f"{field} {inside or 'not known'}, on disk {outside or 'not known'}"
        if build_id is not None and on_disk.build_id is not None:
            if build_id == on_disk.build_id:
                damaged = _may_be_damaged(entry, self.on_disk.elf.size)
                return "its bytes differ, which no checksum of the image vouches for" if damaged else None
            return None if source is not None else f"build id {build_id}, on disk {on_disk.build_id}"
        if source is not None or self.copy.stripped or _packing(entry.path) != _packing(self.path):
            return None
        return f"its size is another one ({entry.size} bytes)"


def _unlike(look: _Look) -> Iterator[Finding]:
    """Copies that the kernel cannot load, or that are of another build.

    It is only asked of those that root needs whether they can be loaded: udev tries the others again with the file on
    disk. An old copy of one that is in use is loaded first and stays, and programs that came with the new one may not
    work with it (nvidia's do not): a warning, whatever it is needed for.
    """
    others = dict(_others(look))
    useless = {}
    for name in look.copied:
        why = (_lacking(look, name) or _misfit(look, name, others)) if look.needs_root(name) else None
        if why is not None:
            useless[name] = why
    for image in sorted({look.held[name].image for name in (*useless, *others)}):
        lost = [name for name in useless if look.held[name].image == image]
        for may_block in (True, False):
            several = [name for name in lost if look.may_block(name) == may_block]
            if several:
                why = useless[several[0]]
                yield (blocker if may_block else warning)(
                    "dkms.initramfs-misfit",
                    image,
                    f"The kernel {look.release} cannot load {_names(several)}, which the root file system "
                    f"needs, from the initramfs image {image}: {why}.",
                    _NO_ROOT,
                    evidence=[f"{name}: {useless[name]}" for name in several[:_CAP]],
                    remedy=build_again(look.case, image),
                )
        stale = {name: one.difference for name, one in others.items() if one.copy.image == image and one.difference}
        for used in (True, False):
            several = [name for name in stale if look.is_used(name) == used]
            if several and not lost:
                yield (warning if used else note)(
                    "dkms.initramfs-stale",
                    image,
                    f"The initramfs image {image} does not hold {_names(several)} as in {look.tree.directory}.",
                    "It was not made anew after that changed. What early user space loads stays loaded.",
                    evidence=[f"{name}: {stale[name]}" for name in several[:_CAP]],
                    remedy=build_again(look.case, image),
                )


def _others(look: _Look) -> Iterator[tuple[str, _Other]]:
    """By name, the copies that differ from the file on disk, unless their build id says that it is the same build."""
    unlike: dict[str, elf.Module] = {}
    for name in look.copied:
        path, entry = look.outside[name], look.held[name].entry
        try:
            if _same_bytes(look.case, look.tree.path(path), entry):
                continue
            with look.tree.open(path) as file:
                on_disk = elf.module(file)
        except (FormatError, Missing, NoDecoder, Unreadable):
            continue  # what is wrong with the file on disk is told of that
        build_id = entry.module.build_id if entry.module is not None else None
        if build_id is None or build_id != on_disk.build_id or _may_be_damaged(entry, on_disk.elf.size):
            unlike[name] = on_disk
    contents = _contents(look, unlike)
    for name, on_disk in unlike.items():
        yield name, _Other(look.held[name], look.outside[name], on_disk, contents.get(name))


def _same_bytes(case: Case, path: str, entry: Entry) -> bool:
    import zlib

    if case.machine.size(path) != entry.size:
        return False
    return entry.size > _COMPARED_LIMIT or zlib.crc32(case.machine.read(path)) == entry.crc32


def _may_be_damaged(entry: Entry, size: int) -> bool:
    """Whether bytes that differ in a file of the same size may be the image's fault."""
    return not entry.verified and entry.size == size


def _packing(path: str) -> str:
    return path.rpartition(".ko")[2]


def _contents(look: _Look, names: Iterable[str]) -> Mapping[str, ModuleSymbols | str]:
    """What copies say of themselves, by name, or why the kernel cannot load one. The images are read again."""
    found: dict[str, ModuleSymbols | str] = {}
    wanted = {(look.held[name].image, look.held[name].entry.path): name for name in names if not look.held[name].nested}

    def take(image: str, place: str, data: memoryview, size: int) -> None:
        if len(data) < size:
            return  # too large to be held
        name = wanted[image, place]
        try:
            with unpacked.module(io.BytesIO(data), place) as content:
                found[name] = module_symbols.parse(content)
        except FormatError as error:
            found[name] = str(error)
        except NoDecoder:
            return

    for image, section in look.case.image_places:
        places = frozenset(place for one, place in wanted if one == image)
        if places:
            with suppress(FormatError, Missing, Unreadable), kernels.part(look.case.machine, image, section) as part:
                initramfs.pick(part[0], size=part[1], wanted=places, take=partial(take, image))
    return found


def _lacking(look: _Look, name: str) -> str | None:
    """What a module needs and the images do not hold. What is told of as missing by itself is passed over."""
    if look.listed is not None and name not in look.listed:
        return f"modprobe does not find it there, as the image's list of modules ({look.list}) does not have it"
    for path in look.tree.dependencies.get(look.outside[name], ()):
        needed = modules.module_name(path)
        told = needed in look.outside and look.needs_root(needed)
        if not told and needed not in look.held and needed not in look.tree.builtin:
            return f"it needs the module {needed}, which is not in the image"
    return None


def _misfit(look: _Look, name: str, others: Mapping[str, _Other]) -> str | None:
    """Why the kernel does not load a module of the image, where that or one that it needs is another than on disk.

    What it needs of such a one is looked up in the image: old modules fit one another.
    """
    contents = {one: other.content for one, other in others.items() if isinstance(other.content, ModuleSymbols)}
    if name in others:
        content = others[name].content
        if not isinstance(content, ModuleSymbols):
            return content
    else:
        needed = map(modules.module_name, look.tree.dependencies.get(look.outside[name], ()))
        if contents.keys().isdisjoint(needed):
            return None  # on disk it is asked of the file
        try:
            content = look.tree.symbols(look.outside[name])
        except (FormatError, Missing, NoDecoder, Unreadable):
            return None
    exports = {
        symbol: (one, crc) for one, has in contents.items() if one != name for symbol, crc in has.exports.items()
    }
    versions = content.extended or content.versions or {}
    for symbol in sorted((content.undefined | content.weak) & exports.keys()):
        one, crc = exports[symbol]
        if crc is not None and versions.get(symbol, crc) != crc:
            return f"it was built with another version of {symbol} than that of {one} in the image"
    rest = replace(content, undefined=content.undefined - exports.keys(), weak=content.weak - exports.keys())
    misfit = look.case.interface.of(rest) if look.case.interface is not None else None
    return None if misfit is None or misfit.kind == "unknown" else misfit.why


def _names(names: Sequence[str]) -> str:
    """For a sentence."""
    if len(names) == 1:
        return f"the module {names[0]}"
    return f"the modules {', '.join(names[:_CAP])}{', …' if len(names) > _CAP else ''}"
