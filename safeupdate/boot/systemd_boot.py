"""What systemd-boot will start: systemd-boot(7), loader.conf(5), and what its source does where those are silent.

It reads `/loader/loader.conf` and the entries on the EFI system partition (ESP), further entries on the extended boot
loader partition (XBOOTLDR), and EFI variables. An entry's files are on the partition that holds the entry.
"""

from __future__ import annotations

import collections
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cmp_to_key

from safeupdate import kernels
from safeupdate.boot.firmware import Firmware, Program, identify
from safeupdate.boot.plan import BootEntry, BootFile, BootPlan
from safeupdate.errors import FormatError, Missing, Unreadable
from safeupdate.formats import loader_conf, uki
from safeupdate.formats.loader_conf import Counter, LoaderConf
from safeupdate.machine import Machine
from safeupdate.remedies import add_kernels
from safeupdate.report import Finding, Remedy, blocker, note, unknown, warning
from safeupdate.volumes import Volume, Volumes

NAME = "systemd-boot"

_PREFERRED_FEATURE = 1 << 19
"""LoaderFeatures: the loader knows LoaderEntryPreferred (Boot Loader Interface)."""

_SORT_KEY_SINCE = 250
_TYPE1_UKI_SINCE = 258
_PREFERRED_SINCE = 260
"""The systemd releases that brought these (NEWS)."""

_STRIPS_SOMETIMES_SINCE = 255
_STRIPS_SINCE = 259
"""The release whose loader names an entry without its boot counter, and the oldest that had later releases with it."""

_TRIES_FOLLOWED = 64
"""Failing boots that are played through to see where a counter leads; kernel-install counts from 3."""

_CHAINLOADERS = ("grub", "shim", "systemd-boot", "rEFInd", "Limine", "syslinux")


@dataclass(frozen=True)
class _Candidate:
    """An entry with what systemd-boot sorts it by.

    `counts`: its file is renamed at each try. `automatic`: found by itself, never taken unless it is named. `program`
    is the machine's path of what it starts, `image` that program where it is a unified kernel image.
    """

    entry: BootEntry
    sort_key: str | None = None
    machine_id: str = ""
    version: str = ""
    counter: Counter | None = None
    counts: bool = True
    profile: int = 0
    automatic: bool = False
    program: str | None = None
    image: uki.Uki | None = None

    @property
    def bare(self) -> str:
        """The id without its counter."""
        if self.counter is None:
            return self.entry.id
        profile = self.entry.id.rpartition("@")[1:] if self.profile else ()
        return loader_conf.fold(self.counter.stem + self.counter.suffix) + "".join(profile)

    @property
    def id_without_profile(self) -> str:
        return self.entry.id.split("@", 1)[0] if self.profile else self.entry.id


@dataclass(frozen=True)
class _Wishes:
    """What decides between the entries. `strips`: one is named without its counter; None where that is not known."""

    conf: LoaderConf
    oneshot: str | None
    preferred: str | None
    default: str | None
    saved: str | None
    knows_preferred: bool
    strips: bool | None = False

    @property
    def saves(self) -> bool:
        """Whether the loader will note the entry that it starts, to start it again."""
        return self.default == "@saved" or (self.default is None and self.conf.default == "@saved")

    def name(self, candidate: _Candidate) -> str:
        """What the loader calls an entry."""
        return candidate.bare if self.strips else candidate.entry.id


@dataclass(frozen=True)
class _Choice:
    """The entry that starts, and why. `unmet`: what was wished for in vain, by the variable or file that says it."""

    candidate: _Candidate | None
    why: str
    unmet: tuple[tuple[str, str], ...] = ()


def program(machine: Machine, volumes: Volumes, esp: Volume) -> tuple[str, Program] | None:
    """systemd-boot's own file on the ESP and what it is; None where there is none, or none to be seen."""
    for directory in ("/EFI/systemd", "/EFI/BOOT"):
        place = volumes.locate(esp, directory)
        for name in machine.listdir(place) if place is not None else ():
            if not name.lower().endswith(".efi"):
                continue
            try:
                found = identify(machine, f"{place}/{name}")
            except (Missing, Unreadable):
                continue
            if found.kind == NAME:
                return f"{place}/{name}", found
    return None


def plan(
    machine: Machine,
    volumes: Volumes,
    firmware: Firmware,
    *,
    esp: Volume | None = None,
    started: tuple[str, Program] | None = None,
) -> BootPlan:
    """What systemd-boot on this ESP starts next; `started` is its own file, where the firmware's choice is known.

    Files that are broken are findings; nothing is raised for them.
    """
    esp = esp or volumes.esp()
    if esp is None or not _visible(machine, volumes, esp):
        return BootPlan(
            NAME, findings=(_not_visible("EFI system partition", esp),), why="its ESP is not to be seen here"
        )
    findings: list[Finding] = []
    conf_path = volumes.locate(esp, "/loader/loader.conf") or "/loader/loader.conf"
    conf = _conf(machine, conf_path, findings)
    own = started or program(machine, volumes, esp)
    version = _release_number(own[1].version) if own else None
    architecture = own[1].architecture if own else None
    partitions = [esp]
    xbootldr = volumes.xbootldr() or _assumed_xbootldr(machine, volumes, esp)
    if xbootldr is not None and xbootldr != esp:
        if _visible(machine, volumes, xbootldr):
            partitions.append(xbootldr)
        else:
            findings.append(_not_visible("extended boot loader partition", xbootldr))
    found: list[_Candidate] = []
    for volume in partitions:
        reader = _Reader(machine, volumes, volume, firmware, version, architecture, findings)
        found += reader.unified()
        found += reader.listed(own_path=own[0] if own else None)
    if version is not None and version < _SORT_KEY_SINCE:
        found = [replace(candidate, sort_key=None) for candidate in found]
    found = _told_apart(in_order(found))
    entries = tuple(candidate.entry for candidate in found)
    found += _automatic(machine, volumes, esp, conf)
    wishes = _wishes(firmware, conf, version, found)
    choice = _choose(found, wishes)
    if wishes.strips is None and _choose(found, replace(wishes, strips=True)).candidate is not choice.candidate:
        findings.append(_counter_in_name(choice))
    following = _after_failures(found, wishes, choice)
    menu, waits = _menu(firmware, conf)
    if waits:
        findings.append(_menu_waits(waits, conf_path))
    if not entries and not any(finding.level == "unknown" for finding in findings):
        findings.append(_empty(machine, conf_path))
    next_entry = choice.candidate.entry if choice.candidate is not None else None
    why = "; ".join([*(said for _, said in choice.unmet), choice.why])
    if firmware.kind == "uefi" and not firmware.captured and machine.has_sysfs and len(_releases(entries)) > 1:
        findings.append(_variables_unknown())
        next_entry = None
    if any(finding.level == "unknown" for finding in findings):
        # What could not be read may hold, or be, the entry that would come first.
        next_entry = None
    if next_entry is not None and choice.candidate is not None:
        about = list(_about(machine, choice.candidate))
        findings += about
        findings += [_names_nothing(origin, said, next_entry) for origin, said in choice.unmet]
        if any(finding.level == "unknown" for finding in about):
            next_entry = None
    return BootPlan(
        loader=NAME,
        entries=entries,
        next=next_entry,
        why=why,
        findings=tuple(findings),
        automatic=following.entry if following is not None and next_entry is not None else None,
        menu=menu,
        config=conf_path.rsplit("/", 1)[0],
    )


# -- reading entries -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Reader:
    """Reads the entries of one partition; what cannot be read is added to `findings`."""

    machine: Machine
    volumes: Volumes
    volume: Volume
    firmware: Firmware
    version: int | None
    architecture: str | None
    findings: list[Finding]

    def unified(self) -> Iterator[_Candidate]:
        """Type 2 entries: the unified kernel images in /EFI/Linux."""
        for name, path in self._files("/EFI/Linux", ".efi"):
            try:
                image = self._image(path)
            except FormatError as error:
                self.findings.append(_hidden(path, f"it is no unified kernel image that systemd-boot takes: {error}"))
                continue
            except (Missing, Unreadable) as error:
                self.findings.append(_unreadable(path, str(error)))
                continue
            if self.architecture and image.architecture != self.architecture:
                continue
            for profile in image.profiles if self._multi_profile else image.profiles[:1]:
                if profile.os_release is not None:
                    yield from self._unified(name, path, profile, image)

    @property
    def _multi_profile(self) -> bool:
        return self.version is None or self.version >= 257

    def _unified(self, name: str, path: str, profile: uki.Profile, image: uki.Uki) -> Iterator[_Candidate]:
        about = profile.os_release or {}
        title = next((about[key] for key in ("PRETTY_NAME", "IMAGE_ID", "NAME", "ID") if key in about), None)
        if title is None:
            return
        identity = loader_conf.fold(name)
        if profile.number:
            identity += "@" + loader_conf.fold(profile.id or str(profile.number))
        label = profile.title or profile.id
        counter = loader_conf.counter(name, ".efi")
        entry = self._entry(
            id=identity,
            title=f"{title} ({label})" if label else title,
            source=path,
            kernel=BootFile(f"/EFI/Linux/{name}", path) if profile.linux is not None else None,
            embedded=True,
            cmdline=" ".join(filter(None, [profile.cmdline, *self._addons(name)])),
            release=profile.release,
            counter=counter,
        )
        versions = ("IMAGE_VERSION", "VERSION", "VERSION_ID", "BUILD_ID")
        yield _Candidate(
            entry,
            sort_key=about.get("IMAGE_ID") or about.get("ID"),
            version=next((about[key] for key in versions if key in about), ""),
            counter=counter,
            profile=profile.number,
            image=image,
        )

    def _addons(self, name: str) -> Iterator[str]:
        """What the addons beside an image, and those for all, append to its command line (systemd-stub(7))."""
        counter = loader_conf.counter(name, ".efi")
        name = counter.stem + counter.suffix if counter is not None else name
        for directory in ("/loader/addons", f"/EFI/Linux/{name}.extra.d"):
            for _, path in self._files(directory, ".addon.efi"):
                try:
                    yield self._image(path).profiles[0].cmdline or ""
                except (FormatError, Missing, Unreadable) as error:
                    self.findings.append(_unreadable(path, str(error)))

    def listed(self, *, own_path: str | None) -> Iterator[_Candidate]:
        """Type 1 entries: /loader/entries/*.conf."""
        for name, path in self._files("/loader/entries", ".conf"):
            try:
                pairs = loader_conf.pairs(self.machine.read(path, limit=loader_conf.LIMIT))
            except (FormatError, Missing, Unreadable) as error:
                self.findings.append(_unreadable(path, str(error)))
                continue
            candidate = self._listed(name, path, pairs, own_path)
            if candidate is not None:
                yield candidate

    def _listed(
        self, name: str, path: str, pairs: Sequence[tuple[str, str]], own_path: str | None
    ) -> _Candidate | None:
        last = dict(pairs)
        loaders = {key for key, _ in pairs if key in self._loader_keys}
        if len(loaders) != 1:
            self.findings.append(_hidden(path, "it has not exactly one of the keys linux, efi and uki"))
            return None
        kind = loaders.pop()
        wanted = {value.lower() for key, value in pairs if key == "architecture"}
        if self.architecture and wanted - {self.architecture}:
            return None
        program_file = self._file(last[kind])
        if kind == "uki-url":
            program_file = replace(program_file, path=None, absent=False, why="it comes from the network")
        elif program_file.absent:
            self.findings.append(_hidden(path, f"its program {last[kind]} does not exist"))
            return None
        if kind == "efi" and own_path is not None and program_file.path == own_path:
            return None
        counter = loader_conf.counter(name, ".conf")
        options = " ".join(value for key, value in pairs if key == "options")
        image = self._image_at(program_file) if kind != "uki-url" else None
        starts_linux = kind != "efi" or image is not None or self._is_kernel(program_file)
        if image is not None and (self.firmware.secure_boot or not options):
            # With Secure Boot, the command line in a signed image is the only one that counts.
            options = image.profiles[0].cmdline or options
        release = image.profiles[0].release if image is not None else self._release(program_file, last)
        entry = self._entry(
            id=loader_conf.fold(name),
            title=last.get("title") or loader_conf.fold(name),
            source=path,
            kernel=program_file if starts_linux else None,
            embedded=image is not None,
            initramfs=tuple(self._file(value) for key, value in pairs if key == "initrd") if kind == "linux" else (),
            # With Secure Boot a device tree, which nothing has signed, is passed over.
            devicetree=None
            if self.firmware.secure_boot or "devicetree" not in last
            else self._file(last["devicetree"]),
            cmdline=options,
            release=release,
            counter=counter,
            machine_id=last.get("machine-id"),
        )
        return _Candidate(
            entry,
            sort_key=last.get("sort-key"),
            machine_id=last.get("machine-id", ""),
            version=last.get("version", ""),
            counter=counter,
            counts=kind in ("linux", "uki"),
            program=program_file.path,
            image=image,
        )

    @property
    def _loader_keys(self) -> tuple[str, ...]:
        if self.version is not None and self.version < _TYPE1_UKI_SINCE:
            return ("linux", "efi")
        return ("linux", "efi", "uki", "uki-url")

    def _files(self, directory: str, suffix: str) -> list[tuple[str, str]]:
        """Names and paths of the files in a directory of the partition that systemd-boot would look at."""
        place = self.volumes.locate(self.volume, directory)
        if place is None:
            return []
        names = [name for name in self.machine.listdir(place) if name.lower().endswith(suffix)]
        names = [name for name in names if not name.startswith(".") and not name.lower().startswith("auto-")]
        return [(name, path) for name in names if not self.machine.is_dir(path := f"{place}/{name}")]

    def _file(self, spec: str) -> BootFile:
        """A path in an entry, on the partition that holds the entry; slashes may lean either way."""
        clean = "/" + re.sub(r"[/\\]+", "/", spec).strip("/")
        path = self.volumes.locate(self.volume, clean)
        absent = path is None or not self.machine.exists(path)
        return BootFile(spec, path, absent, volume=self.volume.name)

    def _image(self, path: str) -> uki.Uki:
        with self.machine.open(path) as file:
            return uki.parse(file)

    def _image_at(self, file: BootFile) -> uki.Uki | None:
        """The unified kernel image that an entry of type 1 names; None where it names something else."""
        try:
            if file.path is None or not uki.looks_like(self._head(file.path)):
                return None
            return self._image(file.path)
        except (FormatError, Missing, Unreadable):
            return None

    def _is_kernel(self, file: BootFile) -> bool:
        return file.path is not None and kernels.image_at(self.machine, file.path) is not None

    def _head(self, path: str) -> bytes:
        with self.machine.open(path) as file:
            return file.read(4096)

    def _release(self, file: BootFile, keys: dict[str, str]) -> str | None:
        """By the image itself, else by names; the key `version` only where it is a release that has modules."""
        kernel = kernels.kernel_at(self.machine, file.path) if file.path is not None else None
        version = keys.get("version", "")
        if kernel is not None:
            return kernel.release
        has_modules = bool(version) and "/" not in version and self.machine.is_dir(f"/lib/modules/{version}")
        return kernels.release_in_name(file.spec) or (version if has_modules else None)

    def _entry(
        self,
        *,
        id: str,
        title: str,
        source: str,
        kernel: BootFile | None,
        embedded: bool,
        cmdline: str,
        release: str | None,
        counter: Counter | None,
        initramfs: tuple[BootFile, ...] = (),
        devicetree: BootFile | None = None,
        machine_id: str | None = None,
    ) -> BootEntry:
        return BootEntry(
            loader=NAME,
            id=id,
            title=title,
            source=source,
            kernel=kernel,
            initramfs=initramfs,
            cmdline=cmdline,
            release=release,
            devicetree=devicetree,
            tries_left=counter.left if counter is not None else None,
            tries_done=counter.done if counter is not None else None,
            machine_id=machine_id,
            embedded=embedded and kernel is not None,
        )


def _conf(machine: Machine, path: str, findings: list[Finding]) -> LoaderConf:
    try:
        return loader_conf.parse(machine.read(path, limit=loader_conf.LIMIT))
    except Missing:
        return LoaderConf()
    except (FormatError, Unreadable) as error:
        findings.append(_unreadable(path, str(error)))
        return LoaderConf()


def _automatic(machine: Machine, volumes: Volumes, esp: Volume, conf: LoaderConf) -> Iterator[_Candidate]:
    """The entries that systemd-boot adds by itself, after all others."""
    programs = (
        ("auto-windows", "Windows Boot Manager", "/EFI/Microsoft/Boot/bootmgfw.efi"),
        ("auto-osx", "macOS", "/System/Library/CoreServices/boot.efi"),
        ("auto-efi-shell", "EFI Shell", "/shellx64.efi"),
    )
    for name, title, spec in programs if conf.auto_entries else ():
        path = volumes.locate(esp, spec)
        if path is not None and machine.exists(path):
            yield _Candidate(BootEntry(NAME, name, title, path), automatic=True)
    if conf.auto_firmware:
        name = "auto-reboot-to-firmware-setup"
        yield _Candidate(BootEntry(NAME, name, "Reboot Into Firmware Interface", "the firmware"), automatic=True)


def _visible(machine: Machine, volumes: Volumes, volume: Volume) -> bool:
    place = volumes.locate(volume, "/")
    return place is not None and machine.is_dir(place)


def _assumed_xbootldr(machine: Machine, volumes: Volumes, esp: Volume) -> Volume | None:
    """/boot beside the ESP, where no fact tells partition types and it holds what only systemd-boot reads there."""
    if volumes.udev or volumes.locate(esp, "/") in (None, "/boot"):
        return None
    if not any(machine.is_dir(f"/boot/{directory}") for directory in ("loader/entries", "EFI/Linux")):
        return None
    return Volume("/boot", trees=(("/", "/boot"),), assumed=True)


def _release_number(version: str | None) -> int | None:
    """252 of `252.39-1~deb12u2`."""
    match = re.match(r"v?(\d{1,6})", version or "")
    return int(match.group(1)) if match else None


def _releases(entries: Sequence[BootEntry]) -> set[str]:
    return {entry.release or entry.id for entry in entries if entry.kernel is not None}


# -- order and choice ------------------------------------------------------------------------------------------


def in_order(candidates: Sequence[_Candidate]) -> list[_Candidate]:
    """The menu's order. What compares equal stays in the order in which it was found."""
    return sorted(candidates, key=cmp_to_key(_compare))


def _told_apart(candidates: Sequence[_Candidate]) -> list[_Candidate]:
    """The titles that the menu shows: to those that several share, version, machine id and id are added in turn."""
    found = list(candidates)
    details: tuple[Callable[[_Candidate], str | None], ...] = (
        lambda candidate: candidate.version,
        lambda candidate: (candidate.machine_id or "")[:8],
        lambda candidate: candidate.entry.id,
    )
    for detail in details:
        uses = collections.Counter(candidate.entry.title for candidate in found)
        for at, candidate in enumerate(found):
            title, more = candidate.entry.title, detail(candidate)
            if uses[title] > 1 and more:
                found[at] = replace(candidate, entry=replace(candidate.entry, title=f"{title} ({more})"))
    return found


def _compare(one: _Candidate, other: _Candidate) -> int:
    def spent(candidate: _Candidate) -> bool:
        return candidate.entry.tries_left == 0

    if spent(one) != spent(other):
        return 1 if spent(one) else -1
    if (one.sort_key is None) != (other.sort_key is None):
        return 1 if one.sort_key is None else -1
    if one.sort_key is not None and other.sort_key is not None:
        keys = (one.sort_key, one.machine_id), (other.sort_key, other.machine_id)
        if keys[0] != keys[1]:
            return 1 if keys[0] > keys[1] else -1
        newer = loader_conf.compare_versions(one.version, other.version)
        if newer:
            return -newer
    newer = loader_conf.compare_versions(one.id_without_profile, other.id_without_profile)
    if newer:
        return -newer
    if one.profile and other.profile and one.profile != other.profile:
        return 1 if one.profile > other.profile else -1
    if one.counter is None or other.counter is None:
        return 0
    left = one.counter.left - other.counter.left
    return -left if left else one.counter.done - other.counter.done


def _strips(firmware: Firmware, version: int | None, candidates: Sequence[_Candidate]) -> bool | None:
    """Whether this loader names an entry without its counter: since 259, and in later releases of those
    before. What it had in its menu tells it of these."""
    if version is not None and not _STRIPS_SOMETIMES_SINCE <= version < _STRIPS_SINCE:
        return version >= _STRIPS_SINCE
    listed = {loader_conf.fold(name) for name in firmware.entries}
    if any(loader_conf.counter(name, suffix) for name in listed for suffix in (".conf", ".efi")):
        return False
    return True if any(candidate.counter and candidate.bare in listed for candidate in candidates) else None


def _wishes(firmware: Firmware, conf: LoaderConf, version: int | None, candidates: Sequence[_Candidate]) -> _Wishes:
    def folded(name: str) -> str | None:
        text = firmware.text(name)
        return None if text is None else loader_conf.fold(text)

    if version is not None:
        knows_preferred = version >= _PREFERRED_SINCE
    else:
        knows_preferred = firmware.features is None or bool(firmware.features & _PREFERRED_FEATURE)
    return _Wishes(
        conf,
        folded("LoaderEntryOneShot"),
        folded("LoaderEntryPreferred"),
        folded("LoaderEntryDefault"),
        folded("LoaderEntryLastBooted"),
        knows_preferred,
        _strips(firmware, version, candidates),
    )


def _choose(candidates: Sequence[_Candidate], wishes: _Wishes) -> _Choice:
    """The entry that is started when nobody touches the keyboard, and what was wished for in vain."""
    steps = [("LoaderEntryOneShot", wishes.oneshot)]
    if wishes.knows_preferred:
        steps += [("LoaderEntryPreferred", wishes.preferred), ("`preferred` in loader.conf", wishes.conf.preferred)]
    steps.append(("LoaderEntryDefault", wishes.default))
    if not (wishes.default == "@saved" and wishes.conf.default == "@saved"):
        steps.append(("`default` in loader.conf", wishes.conf.default))
    unmet: list[tuple[str, str]] = []
    for origin, pattern in steps:
        wanted = wishes.saved if pattern == "@saved" else pattern
        if not wanted:
            continue
        said = f'{origin} says @saved, and LoaderEntryLastBooted "{wanted}"' if pattern == "@saved" else ""
        said = said or f'{origin} says "{wanted}"'
        # Only `preferred` passes over what boot counting has found to be broken.
        skips = "referred" in origin
        for candidate in candidates:
            if loader_conf.matches(wanted, wishes.name(candidate)) and not (skips and candidate.entry.tries_left == 0):
                return _Choice(candidate, said, tuple(unmet))
        unmet.append((origin, f"{said}, which no entry {'that has tries left ' if skips else ''}matches"))
    for candidate in candidates:
        if not candidate.automatic:
            return _Choice(candidate, "it is the first in systemd-boot's order", tuple(unmet))
    return _Choice(None, "there is no entry that systemd-boot would take by itself", tuple(unmet))


def _after_failures(candidates: Sequence[_Candidate], wishes: _Wishes, choice: _Choice) -> _Candidate | None:
    """Where boots that fail, one after the other, lead without a person; None where they lead nowhere else.

    Each try renames a file that has a counter, with it its id, and uses up a one-shot; then the loader chooses anew.
    """
    first = choice.candidate
    if first is None or first.automatic:
        return None
    now = list(candidates)
    for _ in range(_TRIES_FOLLOWED):
        tried = choice.candidate
        if tried is None:
            return None
        if wishes.saves and wishes.name(tried) != wishes.oneshot:
            wishes = replace(wishes, saved=wishes.name(tried))
        spent_oneshot = wishes.oneshot is not None
        wishes = replace(wishes, oneshot=None)
        if tried.counter is not None and tried.counts and tried.counter.left > 0:
            left = tried.counter.after_a_try()
            renamed = replace(
                tried,
                counter=left,
                entry=replace(tried.entry, id=loader_conf.fold(left.name), tries_left=left.left, tries_done=left.done),
            )
            now = [renamed if candidate is tried else candidate for candidate in now]
            ours = [candidate for candidate in now if not candidate.automatic]
            now = in_order(ours) + [candidate for candidate in now if candidate.automatic]
        elif not spent_oneshot:
            return None
        choice = _choose(now, wishes)
        found = choice.candidate
        if found is None or found.automatic:
            return None
        if found.entry.source != first.entry.source or found.profile != first.profile:
            return found
    return None


def _menu(firmware: Firmware, conf: LoaderConf) -> tuple[bool, str]:
    """Whether a person can reach the menu, and what makes it wait for one; empty where nothing does."""
    timeout, origin = conf.timeout, "`timeout` in loader.conf"
    variable = firmware.text("LoaderConfigTimeout")
    value = loader_conf.timeout(variable) if variable is not None else None
    if value is not None:
        timeout, origin = value, "the variable LoaderConfigTimeout"
    once = firmware.text("LoaderConfigTimeoutOneShot")
    value = loader_conf.timeout(once) if once is not None else None
    if value is not None:
        return True, "the variable LoaderConfigTimeoutOneShot" if value in (0, "menu-force") else ""
    return timeout != "menu-disabled", origin if timeout == "menu-force" else ""


# -- findings --------------------------------------------------------------------------------------------------


def _about(machine: Machine, candidate: _Candidate) -> Iterator[Finding]:
    """What is worth knowing of the entry that starts next."""
    entry = candidate.entry
    if entry.tries_left == 0:
        yield warning(
            "boot-entry.tries-used-up",
            entry.source,
            f"The boot entry {entry.id} has no tries left: {entry.tries_done} boots of it were not confirmed as good.",
            "systemd-boot takes it for broken, and starts it only because it is asked to or has nothing better.",
            remedy=Remedy("See why nothing confirms them.", (("systemctl", "status", "systemd-bless-boot.service"),)),
        )
    cut = [section for section in candidate.image.sections if not section.whole] if candidate.image else []
    if cut:
        yield blocker(
            "boot-entry.unified-image-truncated",
            candidate.program or entry.source,
            f"The unified kernel image of the entry {entry.id} is cut short: the file ends before its section "
            f"{cut[0].name} does.",
            "The firmware refuses to load it, and the machine does not start with it.",
            remedy=add_kernels(machine, [entry.release] if entry.release else []),
        )
    if entry.kernel is None and candidate.program is not None:
        try:
            kind = identify(machine, candidate.program).kind
        except (Missing, Unreadable) as error:
            yield _unreadable(candidate.program, str(error))
            return
        if kind in _CHAINLOADERS:
            yield unknown(
                "boot-entry.chainloader",
                entry.source,
                f"systemd-boot hands over to another boot loader, {kind} ({candidate.program}).",
                "What that one starts is not judged.",
            )


def _not_visible(what: str, volume: Volume | None) -> Finding:
    name = volume.name if volume is not None else what
    return unknown(
        "boot-entry.partition-not-visible",
        name,
        f"The {what} that systemd-boot reads ({name}) is not to be seen here."
        if volume is not None
        else f"No {what} is to be seen here, and systemd-boot reads its entries from one.",
        "Its boot entries, and so what starts next, are not known.",
        remedy=Remedy(
            "Mount it and check again.", (("mount", "-o", "ro", name, "/mnt"),) if volume is not None else ()
        ),
    )


def _unreadable(path: str, why: str) -> Finding:
    return unknown(
        "boot-entry.unreadable",
        path,
        f"{path} could not be read: {why}.",
        "What systemd-boot makes of it is not known.",
    )


def _hidden(path: str, why: str) -> Finding:
    return note(
        "boot-entry.left-out",
        path,
        f"systemd-boot leaves the entry {path} out of its menu: {why}.",
        remedy=Remedy("See the entries that it finds.", (("bootctl", "list"),)),
    )


def _empty(machine: Machine, path: str) -> Finding:
    return blocker(
        "boot-entry.empty-menu",
        path.rsplit("/", 1)[0],
        "systemd-boot finds no entry of a Linux system: no file in /loader/entries names an existing kernel, and "
        "/EFI/Linux has no unified kernel image.",
        "The machine stops in the firmware, or in a menu that starts no Linux.",
        remedy=add_kernels(machine, [kernel.release for kernel in kernels.installed(machine)]),
    )


def _names_nothing(origin: str, said: str, instead: BootEntry) -> Finding:
    commands = {
        "LoaderEntryDefault": "set-default",
        "LoaderEntryPreferred": "set-preferred",
        "LoaderEntryOneShot": "set-oneshot",
    }
    return warning(
        "boot-entry.default-names-nothing",
        origin,
        f"{said}.",
        f'systemd-boot says nothing and starts "{instead.title}" instead.',
        remedy=Remedy("Take the variable away.", (("bootctl", commands[origin], ""),))
        if origin in commands
        else Remedy("Name an entry of the menu, with its suffix, in loader.conf.", (("bootctl", "list"),)),
    )


def _counter_in_name(choice: _Choice) -> Finding:
    return unknown(
        "boot-entry.counter-in-name",
        choice.why.partition(" says ")[0],
        "Whether this systemd-boot names entries with their boot counters is not known, and its default hangs on it.",
        "Which entry starts next cannot be told.",
        evidence=[said for _, said in choice.unmet] or [choice.why],
        remedy=Remedy(
            "Take the default away, or wait until the counted entry has been started.", (("bootctl", "list"),)
        ),
    )


def _menu_waits(origin: str, path: str) -> Finding:
    once = "OneShot" in origin
    command = ("bootctl", "set-timeout-oneshot", "") if once else ("bootctl", "set-timeout", "")
    remedy = (
        Remedy(f"Set `timeout` in {path} to a number of seconds.")
        if "loader.conf" in origin
        else Remedy("Take the variable away.", (command,))
    )
    return warning(
        "boot-entry.waits-for-person",
        path,
        f"The boot menu stays until a person chooses: {origin} asks for it.",
        "The machine does not come back unattended.",
        remedy=remedy,
    )


def _variables_unknown() -> Finding:
    return unknown(
        "boot-entry.efi-variables-not-visible",
        "/sys/firmware/efi/efivars",
        "The EFI variables are not to be seen here, and they may hold the entry that systemd-boot starts next.",
        "Which of its entries that is cannot be told.",
        remedy=Remedy("Mount them.", (("mount", "-t", "efivarfs", "efivarfs", "/sys/firmware/efi/efivars"),)),
    )
