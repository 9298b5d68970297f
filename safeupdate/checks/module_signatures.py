"""Will the kernel that boots next take the modules that this machine needs?

Asked of modules that did not come with the kernel, of those that are in use now, and of those in the initramfs as they
are in it. A signature that does not fit is fatal always; one that is missing, or by a key that the kernel does not
know, only where signatures are enforced.
"""

from __future__ import annotations

import os
import stat
import zlib
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cached_property

from safeupdate import initramfs, kernels
from safeupdate.case import Case, Check
from safeupdate.checks.module_remedies import keep_keys, make_again, make_known, reboot_attended
from safeupdate.errors import FormatError, Missing, NoDecoder, Unreadable
from safeupdate.formats import modules
from safeupdate.formats.module_file import ModuleFile
from safeupdate.module_tree import IN_TREE, ModuleTree
from safeupdate.remedies import install
from safeupdate.report import Finding, NotApplicable, blocker, note, unknown, warning
from safeupdate.trust import enforcement, firmware, keys, module_files
from safeupdate.trust.firmware import Store
from safeupdate.trust.keys import Trust
from safeupdate.trust.known import Known
from safeupdate.trust.modules import IF_ENFORCED, NEVER, Judge, Verdict

_CAP = 8
"""Lines of evidence for one finding."""

_THREADS = 4
"""Unpacking uses a processor each; with more of them the memory grows and the disk is the limit."""

_PLAIN_THREADS = 2
"""To read and verify a module that is not packed takes 0.2 ms: more threads mostly wait for the interpreter's lock."""

_PICKED = 64
"""Packed modules of an image that are unpacked, besides those that are needed: of an old image all differ."""

_TAKEN = ("loads", "leaving", "taints")
"""Fates of a module that the next boot loads."""

_BATCH = 32
"""Modules that a thread takes at once, and after which progress is told: to hand one over takes as long as its hash."""

_BAR = 20
"""How wide the bar of progress is, in letters."""


@dataclass(frozen=True)
class _Module:
    """One module, where it lies, and what the kernel will say. `image`: the initramfs that holds it; None on disk.

    `sound`: it will be taken because of its bytes and the kernel's keys alone. `spared`: it would be needed, but what
    is loaded is the one of the other place, which is good.
    """

    path: str
    image: str | None
    needed: bool
    in_tree: bool
    file: ModuleFile = field(repr=False)
    verdict: Verdict
    sound: bool = False
    unread: bool = False
    spared: bool = False

    @property
    def name(self) -> str:
        """As the kernel lists it."""
        return modules.module_name(self.path)


def check(case: Case) -> Iterator[Finding]:
    """What waits for a person first, then every module that counts."""
    kernel = case.kernel
    if kernel is None:
        raise NotApplicable("it is not known which kernel boots next")
    try:
        config = kernel.config
    except Unreadable:
        config = None
    store = firmware.read(case.machine)
    if case.is_target:
        yield from _requests(store)
    command_line = case.entry.cmdline if case.entry is not None else ""
    rules = enforcement.of(config, command_line, store.enforcing)
    if not rules.checked:
        raise NotApplicable(f"the kernel {kernel.release} is built without module signatures")
    trust = keys.of(
        case.machine,
        release=kernel.release,
        image=kernel.image,
        embedded=case.entry is not None and case.entry.embedded,
        config=config,
        command_line=command_line,
        store=store,
        cache=case.cache,
    )
    selection = _Selection(case, store, trust, Known(case.cache, trust))
    found = selection.weighed([*selection.on_disk(), *selection.in_images()])
    if trust.missing is not None and trust.enforcement.enforced is False and found:
        yield note(
            "module-signatures.keys-unknown",
            kernel.image,
            f"The keys in the kernel {trust.release} are not known: {trust.missing}.",
            "Nothing enforces signatures, but one that does not fit would be refused all the same.",
        )
    yield from _tell(case, store, trust, found)
    if selection.undecoded:
        error = next(iter(selection.undecoded.values()))
        yield (unknown if selection.undecoded_needed else note)(
            "module-signatures.no-decoder",
            kernel.modules,
            f"Modules of the kernel {kernel.release} cannot be unpacked here: {error}.",
            "Whether the kernel takes them is not known.",
            evidence=sorted(selection.undecoded)[:_CAP],
            remedy=install(case.machine, error.package),
        )


def _requests(store: Store) -> Iterator[Finding]:
    if store.requests:
        asked = ", ".join(dict.fromkeys(map(store.asks, store.requests)))
        yield warning(
            "module-signatures.waits-for-person",
            "MokManager",
            f"At the next start MokManager asks the person at the console what was requested here: to {asked}.",
            "With nobody there it gives up after some seconds, drops the request and starts the system without it.",
            evidence=[f"the EFI variable {name} is set" for name in store.requests],
            remedy=reboot_attended(store),
        )


class _Selection:
    """The modules of one case that are looked at."""

    def __init__(self, case: Case, store: Store, trust: Trust, known: Known) -> None:
        assert case.kernel is not None
        self._case = case
        self._store = store
        self._known = known
        self._kernel = case.kernel
        self._judge = Judge(trust)
        # A kernel whose own modules carry no signature does not ask for any, whatever its configuration is.
        self._unsigned_tree = trust.config is None
        self._tree = case.tree or ModuleTree(case.kernel)
        self._stamps: dict[str, bytes] = {}
        self._same: set[str] = set()
        self.undecoded: dict[str, NoDecoder] = {}
        self.undecoded_needed = False

    @cached_property
    def _paths(self) -> dict[str, str]:
        """Every module on disk by its name, relative to the modules directory; of two the one that modprobe finds."""
        found = {}
        for name, paths in self._tree.by_name.items():
            for path in (*paths, self._tree.chosen(name)):
                if path is not None and path in self._tree.files:
                    found[name] = path
        return found

    @cached_property
    def _needed(self) -> frozenset[str]:
        """On the way to root, asked for at boot or in use, as far as facts tell, with what these depend on."""
        can_miss = self._case.config.modules.can_miss
        names = {name for name, need in self._case.needs.items() if need.kind != "loaded" and not can_miss(name)}
        by_name = {modules.module_name(path): needed for path, needed in self._tree.dependencies.items()}
        names |= {modules.module_name(path) for name in tuple(names) for path in by_name.get(name, ())}
        return frozenset(names)

    @cached_property
    def _proven(self) -> frozenset[str]:
        """Modules that are loaded now, with Secure Boot on, by a kernel of the same series: such kernels look for keys
        in the same places."""
        running = self._case.machine.running_kernel
        trust = self._judge.trust
        if running is None or not self._store.enforcing or _series(running) != _series(trust.release):
            return frozenset()
        lines = (self._case.machine.text("/proc/modules") or "").splitlines()
        return frozenset(line.split()[0] for line in lines if line.strip())

    def on_disk(self) -> Iterator[_Module]:
        """Modules that did not come with the kernel, and those that are needed; or all."""
        has_tree = any(path.startswith(IN_TREE) for path in self._paths.values())
        wanted = sorted(
            path
            for name, path in self._paths.items()
            if self._wanted(name, also=self._case.all_modules or (has_tree and not path.startswith(IN_TREE)))
            and not self._is_known(path)
        )
        batches = [wanted[at : at + _BATCH] for at in range(0, len(wanted), _BATCH)]
        if len(batches) < 2:
            yield from self._told(len(wanted), map(self._disk_modules, batches))
            return
        plain = all(path.endswith(".ko") for path in wanted)
        with ThreadPoolExecutor(min(_PLAIN_THREADS if plain else _THREADS, os.cpu_count() or 1)) as threads:
            yield from self._told(len(wanted), threads.map(self._disk_modules, batches))

    def _wanted(self, name: str, *, also: bool) -> bool:
        """Of another entry than the one that boots next it is only asked whether it would do."""
        return name in self._needed or ((also or name in self._case.modules_in_use) and self._case.is_target)

    def _told(self, count: int, found: Iterable[list[_Module]]) -> Iterator[_Module]:
        for number, several in enumerate(found, 1):
            done = min(number * _BATCH, count)
            bar = "█" * (done * _BAR // count) + "░" * (_BAR - done * _BAR // count)
            self._case.progress(f"verifying modules {bar} {done} of {count}")
            yield from several

    def _disk_modules(self, paths: list[str]) -> list[_Module]:
        return [one for one in map(self._disk_module, paths) if one is not None]

    def _disk_module(self, path: str) -> _Module | None:
        full = f"{self._kernel.modules}/{path}"
        machine = self._case.machine
        try:
            found = self._judged(path, None, module_files.read(machine, full), place=full)
            if found.sound and path in self._stamps:
                self._known.add(full, self._stamps[path])
            return found
        except Missing:
            return None  # kernel-files speaks of it
        except NoDecoder as error:
            self._undecoded(full, path, error)
            return None
        except Unreadable as error:
            return self._unread(path, full, error)

    def _undecoded(self, place: str, path: str, error: NoDecoder) -> None:
        self.undecoded[place] = error
        self.undecoded_needed = self.undecoded_needed or modules.module_name(path) in self._needed

    def _is_known(self, path: str) -> bool:
        """Whether the module was found sound before and not touched since; else its stamp is kept for when it is.

        A link is read each time, and so is everything of a tree.
        """
        status = self._tree.files[path]
        if not self._case.machine.live or stat.S_ISLNK(status.st_mode):
            return False
        stamp = self._known.stamp(status)
        if stamp is None:
            return False
        self._stamps[path] = stamp
        return self._known.has(f"{self._kernel.modules}/{path}", stamp)

    def _unread(self, path: str, full: str, error: Unreadable) -> _Module | None:
        machine = self._case.machine
        if machine.is_file(full):
            if machine.resolve(full) in machine.left_out and self._judge.trust.enforcement.enforced is False:
                return None
            verdict = Verdict("unverifiable", f"it cannot be read: {error.reason}")
        else:
            verdict = Verdict("unreadable", "it is not a file")
        needed = modules.module_name(path) in self._needed
        return _Module(full, None, needed, path.startswith(IN_TREE), ModuleFile(0, b""), verdict, unread=True)

    def in_images(self) -> Iterator[_Module]:
        """Every module of this release in the images of the entry."""
        try:
            images = self._case.images
        except Unreadable:
            return  # the check of the initramfs says so
        sections = dict(self._case.image_places)
        for image, index in images:
            if index.problem is not None:
                continue
            held = index.modules(self._kernel.release)
            unlike = {}
            for path, entry in held.items():
                if not self._wanted(modules.module_name(path), also=True):
                    continue
                if entry.module is not None and entry.module.file is not None:
                    yield self._judged(path, image, entry.module.file, place=entry.path)
                elif entry.size == 0:
                    yield self._judged(path, image, ModuleFile(0, b"", broken="it is empty"), place=entry.path)
                elif self._as_on_disk(path, entry):
                    self._same.add(modules.module_name(path))
                else:
                    unlike[entry.path] = path
            yield from self._unlike(image, sections[image], unlike)
            for nested in index.nested:
                inside = {} if nested.index is None else nested.index.modules(self._kernel.release)
                for path, entry in inside.items():
                    if entry.module is not None and entry.module.file is not None:
                        yield self._judged(path, image, entry.module.file, place=entry.path)

    def _as_on_disk(self, path: str, entry: initramfs.Entry) -> bool:
        """Whether a module of which the index holds no content, a packed or a very large one, is the one on disk.

        The content of one that is not needed is not read for that.
        """
        full = f"{self._kernel.modules}/{path}"
        try:
            if entry.size != self._case.machine.size(full):
                return False
            if modules.module_name(path) not in self._needed:
                return True
            return zlib.crc32(self._case.machine.read(full)) == entry.crc32
        except (Missing, Unreadable):
            return False

    def _unlike(self, image: str, section: str | None, unlike: dict[str, str]) -> Iterator[_Module]:
        """Modules of an image that are not those on disk, and of which the index holds no content: it is read again."""
        needed = [place for place, path in unlike.items() if modules.module_name(path) in self._needed]
        others = [place for place in unlike if place not in needed]
        wanted = frozenset([*needed, *others[:_PICKED]])
        found: list[_Module] = []

        def take(place: str, data: memoryview, size: int) -> None:
            path = unlike[place]
            if len(data) < size:
                return  # too large to be held
            try:
                found.append(self._judged(path, image, module_files.unpacked(bytes(data), path), place=place))
            except NoDecoder as error:
                self._undecoded(f"{place} in {image}", path, error)
            except Unreadable:
                return

        if wanted:
            try:
                with kernels.part(self._case.machine, image, section) as (file, length):
                    initramfs.pick(file, size=length, wanted=wanted, take=take)
            except (FormatError, Missing, Unreadable):
                return
        yield from found

    def _judged(self, path: str, image: str | None, file: ModuleFile, *, place: str) -> _Module:
        verdict = self._judge.module(file)
        sound = verdict.kind == "ok" and not verdict.remarks and not verdict.leaving
        if verdict.kind == "conditional" and verdict.module is not None:
            there = self._brings(verdict.module, image)
            why = f"the kernel needs the module {verdict.module} to verify its signature, which is not there"
            if there:
                verdict = replace(verdict, kind="ok", why="", module=None)
            else:
                verdict = Verdict("unsupported", why, verdict.key, verdict.digest)
        elif verdict.kind == "conditional" and modules.module_name(path) in self._proven:
            verdict = replace(verdict, kind="ok", why="")
        in_tree = path.startswith(IN_TREE)
        if self._unsigned_tree and in_tree and verdict.kind == "unsigned":
            verdict = Verdict("ok")
        return _Module(place, image, modules.module_name(path) in self._needed, in_tree, file, verdict, sound)

    def weighed(self, found: list[_Module]) -> list[_Module]:
        """The same, those spared of which the other place has a good one. Hardware that got no driver in the initramfs
        is asked about again later."""
        enforced = self._judge.trust.enforcement.enforced
        early = self._case.loaded_early
        bad = {(one.name, one.image is None) for one in found if _fate(one, enforced) not in _TAKEN}

        def good(one: _Module) -> bool:
            on_disk = one.image is None
            if one.name not in early or one.name in self._same or (one.name, not on_disk) in bad:
                return False
            need = self._case.needs.get(one.name)
            return on_disk or (one.name in self._paths and need is not None and need.kind != "root")

        spared = (one.needed and (one.name, one.image is None) in bad and good(one) for one in found)
        return [replace(one, needed=False, spared=True) if is_spared else one for one, is_spared in zip(found, spared)]

    def _brings(self, name: str, image: str | None) -> bool:
        """Whether a digest's module is there to be loaded, the plain one or one for the processor (sha512_ssse3)."""
        first = name.partition("_")[0]
        if image is None:
            names: Iterable[str] = self._paths
        else:
            index = self._case.index
            names = () if index is None else [modules.module_name(path) for path in index.modules(self._kernel.release)]
        return any(one == first or one.startswith(f"{first}_") for one in names)


def _tell(case: Case, store: Store, trust: Trust, found: list[_Module]) -> Iterator[Finding]:
    """One finding for all modules in one place with the same fate."""
    enforced = trust.enforcement.enforced
    # Whether it enforces hangs on facts that a tree without /sys cannot hold: then it is said, and decides nothing.
    undecided = unknown if case.machine.has_sysfs else warning
    groups: dict[tuple[str, bool, str | None, bool, bool], list[_Module]] = {}
    for one in found:
        groups.setdefault((_fate(one, enforced), one.needed, one.image, one.in_tree, one.spared), []).append(one)
    for (fate, needed, image, *_), several in sorted(
        groups.items(), key=lambda group: (not group[0][1], str(group[0]))
    ):
        report = blocker if needed else warning
        leaving = unknown if needed else warning
        where = image or case.kernel.modules if case.kernel is not None else ""
        evidence = [f"{one.path}: {one.verdict.why or _key(one.verdict)}" for one in several[:_CAP]]
        what, loss = _what(several, image), _loss(several, image)
        why = several[0].verdict.why
        if fate == "bad":
            yield report(
                "module-signatures.bad",
                where,
                f"The kernel {trust.release} refuses {what}: {why}.",
                f"It does so with Secure Boot off, too (“Key was rejected by service”). {loss}",
                evidence=evidence,
                remedy=make_again(case, several[0].path, image, in_tree=several[0].in_tree),
            )
        elif fate == "unreadable":
            yield report(
                "module-signatures.unreadable",
                where,
                f"The kernel {trust.release} cannot load {what}: {why}.",
                loss,
                evidence=evidence,
                remedy=make_again(case, several[0].path, image, in_tree=several[0].in_tree),
            )
        elif fate == "denied":
            yield report(
                "module-signatures.denied",
                where,
                f"The kernel {trust.release} refuses {what}: {why}.",
                loss,
                evidence=evidence,
                remedy=make_again(case, several[0].path, image, in_tree=several[0].in_tree),
            )
        elif fate == "pending-key":
            yield report(
                "module-signatures.pending-key",
                where,
                f"The kernel {trust.release} takes {what} only once its key is enrolled, and that waits for a person.",
                f"Without one at the console the request is dropped at the next start. {loss}",
                evidence=evidence,
                remedy=reboot_attended(store),
            )
        elif fate == "refused":
            yield report(
                "module-signatures.refused",
                where,
                f"The kernel {trust.release} refuses {what}: {why}.",
                f"It takes only modules whose signature it can verify: {'; '.join(trust.enforcement.reasons)}. {loss}",
                evidence=evidence,
                remedy=make_known(case, store, several[0].path, several[0].file, image, in_tree=several[0].in_tree),
            )
        elif fate == "leaving":
            yield leaving(
                "module-signatures.refused-once-confirmed",
                where,
                f"The kernel {trust.release} takes {what} as long as its key is enrolled, and a person is asked at the "
                "next start to delete that key.",
                f"With nobody at the console the key stays. Once the deletion is confirmed, it is refused. {loss}",
                evidence=evidence,
                remedy=keep_keys(store),
            )
        elif fate == "undecided" and needed:
            yield undecided(
                "module-signatures.undecided",
                where,
                f"Whether the kernel {trust.release} takes {what} cannot be told: {why}.",
                f"If it does not, it says “Key was rejected by service”. {loss}",
                evidence=evidence,
            )
        elif fate == "taints":
            yield note(
                "module-signatures.taints",
                where,
                f"The kernel {trust.release} loads {what} although it cannot verify the signature: {why}.",
                "It marks itself as tainted (E). Where signatures are enforced it asks for one that it can verify.",
                evidence=evidence,
            )
    weak = [one for one in found if one.verdict.remarks]
    if weak:
        yield warning(
            "module-signatures.weak",
            weak[0].path,
            f"The kernel {trust.release} takes {_what(weak, None)}, but {weak[0].verdict.remarks[0]}.",
            "A kernel to come may refuse it.",
            evidence=[f"{one.path}: {remark}" for one in weak[:_CAP] for remark in one.verdict.remarks],
        )


def _fate(one: _Module, enforced: bool | None) -> str:
    verdict = one.verdict
    if verdict.kind in NEVER:
        return verdict.kind
    if verdict.kind in IF_ENFORCED:
        if enforced is None:
            return "undecided"
        if not enforced:
            return "taints"
        return "pending-key" if verdict.kind == "pending-key" else "refused"
    if verdict.kind == "ok":
        return "leaving" if verdict.leaving and enforced else "loads"
    # Where nothing is enforced a key in doubt does not matter; a module that could not be read may be anything.
    return "loads" if enforced is False and not one.unread else "undecided"


def _key(verdict: Verdict) -> str:
    return "" if verdict.key is None else f'its key "{verdict.key.name}" is in {verdict.key.source}'


def _series(release: str) -> list[str]:
    """`6.12` of a release."""
    return release.partition("-")[0].split(".")[:2]


def _what(several: list[_Module], image: str | None) -> str:
    inside = f" in the initramfs image {image}" if image is not None else ""
    if len(several) == 1:
        place = several[0].path if image is None else several[0].name
        return f"the module {place}{inside}"
    names = ", ".join(one.name for one in several[:_CAP])
    return f"{len(several)} modules{inside} ({names}{', …' if len(several) > _CAP else ''})"


def _loss(several: list[_Module], image: str | None) -> str:
    if several[0].spared:
        return (
            "What is loaded is the one in the initramfs, which is good."
            if image is None
            else "What is loaded, later, is the one on the root file system, which is good."
        )
    if not several[0].needed:
        return "No use of it on this machine is known." if len(several) == 1 else "No use of them here is known."
    if image is not None:
        return "What it drives may be needed to find the root file system."
    return "What it drives does not come back after the reboot."


CHECK = Check("module-signatures", "The kernel accepts the modules that are needed", essential=True, run=check)
