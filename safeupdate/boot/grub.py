"""GRUB's boot plan: which entry of `grub.cfg` starts next, and why.

The configuration is run as GRUB runs it (`grub_script`), with the variables of `grubenv`. Where GRUB's way hangs on
what only the running machine knows, both ways are followed, and only an outcome that they share is told. Then GRUB is
started again on what the first start has written: what a boot counter or a one-shot leads to, and Ubuntu's retry of an
entry with its initramfs, come out of the same script.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from safeupdate import kernels
from safeupdate.boot.grub_commands import COMMANDS
from safeupdate.boot.grub_script import Answers, Loaded, MenuEntry, Run, Sight, is_unknown, readable, split_path
from safeupdate.boot.plan import BootEntry, BootPlan
from safeupdate.errors import FormatError, Missing, Unreadable
from safeupdate.formats import bls
from safeupdate.formats.grub_cfg import Broken
from safeupdate.machine import Machine
from safeupdate.remedies import add_kernels, write_boot_menu
from safeupdate.report import Finding, Remedy, blocker, unknown, warning
from safeupdate.volumes import Volumes

_WORLDS = 32
"""Ways through a configuration that are followed: five questions that have nothing to do with each other."""

_STARTS = 10
"""Starts of GRUB in a row that are followed; boot counters begin at 3 or less (greenboot)."""

_NESTED = 16
"""Menus within menus."""

_RED_HAT = re.compile(r"^ID(?:_LIKE)?=.*\b(fedora|rhel|centos)\b", re.MULTILINE)

_PLACES = ("/boot/grub/grub.cfg", "/boot/grub2/grub.cfg")

_CPUS = r"(i386|x86_64|arm|arm64|ia64|riscv32|riscv64|loongarch64|powerpc|sparc64|mips|mipsel)"
_PLATFORMS = r"(pc|efi|xen|xen_pvh|ieee1275|coreboot|multiboot|qemu|emu|uboot)"


def plan(
    machine: Machine, volumes: Volumes, *, config: str, texts: Mapping[str, bytes] = MappingProxyType({})
) -> BootPlan:
    """What GRUB does at the next boot with the configuration at the machine path `config`.

    `texts` stand in for the content of other files that it sources. Raises nothing: what cannot be read or followed is
    an `unknown` finding of the plan.
    """
    sight = Sight(machine, volumes, texts)
    worlds: list[_World] = []
    pending: list[dict[str, bool]] = [{}]
    asked: dict[str, str] = {}
    try:
        while pending and len(worlds) < _WORLDS:
            given = pending.pop()
            worlds.append(_World(sight, Answers(given), config, whole=not worlds))
            settled = dict(given)
            for question, (answer, place) in worlds[-1].asked.items():
                if question not in given:
                    pending.append({**settled, question: not answer})
                    settled[question] = answer
                asked[question] = place
    except (Missing, Unreadable) as problem:
        finding = unknown(
            "boot-entry.config-unreadable",
            config,
            f"GRUB's configuration cannot be read: {problem}.",
            "Which kernel boots next cannot be told.",
        )
        return BootPlan("grub", config=config, findings=(finding,))
    except FormatError as problem:
        finding = unknown(
            "boot-entry.config-not-followed",
            config,
            f"GRUB's configuration {config} cannot be followed to its end: {problem}.",
            "Which kernel boots next cannot be told.",
        )
        return BootPlan("grub", config=config, findings=(finding,))
    first = worlds[0]
    # Each further world gives one more question the other answer, the last in `given`.
    decisive = [list(world.answers.given)[-1] for world in worlds if world.outcome != first.outcome]
    if not decisive and not pending:
        return first.plan()
    questions = [f"{asked[question]}: {question}" for question in dict.fromkeys([*decisive, *asked])]
    finding = unknown(
        "boot-entry.undecided",
        config,
        f"What GRUB starts next hangs on something that only GRUB itself finds out ({questions[0]}).",
        "Which kernel boots next cannot be told.",
        evidence=questions,
    )
    return replace(first.plan(), next=None, automatic=None, why="", findings=(*first.findings(), finding))


def find_configs(machine: Machine, volumes: Volumes) -> tuple[str, ...]:
    """The machine paths of the configurations that a GRUB of this machine would show, the likeliest first.

    An EFI system partition's `EFI/VENDOR/grub.cfg` that only hands over to another file counts as that other file.
    Raises `Unreadable` where a directory on the way cannot be looked into.
    """
    stubs = []
    esp = volumes.esp()
    directory = None if esp is None else volumes.locate(esp, "/EFI")
    if directory is not None:
        vendors = machine.listdir(directory)
        stubs = [path for vendor in vendors if machine.is_file(path := f"{directory}/{vendor}/grub.cfg")]
    places = [path for path in _PLACES if machine.is_file(path)]
    bios = machine.has_sysfs and not machine.is_dir("/sys/firmware/efi")
    found: dict[str, str] = {}
    for path in [*places, *stubs] if bios else [*stubs, *places]:
        final = _handed_to(machine, volumes, path)
        if final is not None:
            found.setdefault(machine.resolve(final), final)
    return tuple(found.values())


def _handed_to(machine: Machine, volumes: Volumes, config: str) -> str | None:
    """The file whose menu GRUB shows in the end; None where a stub leads to nothing that is to be seen here."""
    sight = Sight(machine, volumes)
    try:
        if machine.size(config) > 4096:
            return config
        run = Run(sight, Answers(), COMMANDS)
        run.read(config)
    except (Missing, Unreadable, FormatError):
        return config
    if run.opened:
        return run.opened[-1]
    return config if run.scope.menu or config in _PLACES else None


# -- one way through the configuration -------------------------------------------------------------------------


@dataclass(frozen=True)
class _Step:
    """A menu that GRUB shows, and the entry in it that starts by itself."""

    level: Run
    entry: MenuEntry
    index: int
    how: str | None


@dataclass
class _World:
    """GRUB's next start, one answer given to each question that came up.

    Only the `whole` one has every entry of the menu; what is asked of the others is which entry starts next.
    """

    sight: Sight
    answers: Answers
    config: str
    whole: bool = True
    entries: dict[tuple[int, ...], BootEntry] = field(default_factory=dict)
    started: Run | None = None
    """The default entry, started."""
    broken: list[tuple[str, Broken]] = field(default_factory=list)
    steps: list[_Step] = field(default_factory=list)

    def __post_init__(self) -> None:
        machine = self.sight.machine
        text = machine.text("/etc/os-release") or machine.text("/usr/lib/os-release") or ""
        self._id_first = bool(_RED_HAT.search(text))
        self._platform = _platform(machine, self.config)
        self._again: dict[object, Run] = {}
        self.run = self._start({})
        self.steps = self._walk(self.run)
        self.position = tuple(step.index for step in self.steps)
        # What the other entries ask does not decide which one starts.
        self.asked = dict(self.answers.asked)
        self._list(self.run, (), (), ())
        self.next = None if self.undecided else self.entries.get(self.position)
        self.automatic = self._automatic() if self.whole else None

    @property
    def outcome(self) -> tuple[object, ...]:
        """What has to be the same in every world."""
        entry = self.next
        if entry is None:
            return None, self.undecided, bool(self.run.scope.menu)
        return entry.id, entry.kernel, entry.initramfs, entry.cmdline, entry.cmdline_without_initramfs

    def _start(self, blocks: Mapping[str, dict[str, str]]) -> Run:
        run = Run(self.sight, self.answers, COMMANDS, blocks=blocks, platform=self._platform, id_first=self._id_first)
        run.read(self.config)
        return run

    def _start_again(self, blocks: Mapping[str, dict[str, str]]) -> Run:
        key = tuple((path, tuple(block.items())) for path, block in blocks.items())
        if key not in self._again:
            self._again[key] = self._start(blocks)
        return self._again[key]

    # -- the menu --------------------------------------------------------------------------------------------

    def _list(self, level: Run, above: tuple[int, ...], ids: tuple[str, ...], titles: tuple[str, ...]) -> None:
        for index, choice in enumerate(level.scope.menu):
            position = (*above, index)
            if not self.whole and position != self.position[: len(position)]:
                continue
            started = level.start(choice)
            self.broken += started.broken
            if position == self.position:
                self.started = started
            path = (*ids, choice.id.replace(">", ">>"))
            if (choice.submenu or started.shown) and len(position) < _NESTED:
                self._list(started, position, path, (*titles, choice.title))
            else:
                self.entries[position] = self._entry(choice, started, ">".join(path), titles)

    def _entry(self, choice: MenuEntry, started: Run, identity: str, titles: tuple[str, ...]) -> BootEntry:
        loaded = started.loaded
        version = None if choice.entry is None else choice.entry.grub.first("version")
        entry = BootEntry(
            "grub",
            identity,
            choice.title,
            choice.source,
            kernel=loaded.kernel,
            initramfs=loaded.initramfs,
            cmdline=loaded.cmdline,
            release=_release(self.sight.machine, loaded, version),
            devicetree=loaded.devicetree,
            submenus=titles,
            unresolved=loaded.unresolved,
            machine_id=None if choice.entry is None else choice.entry.grub.first("machine-id"),
            embedded=loaded.embedded,
        )
        if loaded.kernel is None or loaded.initramfs or not any(save.writable for save in started.saves):
            return entry
        retry = self._at(self._start_again(started.blocks), identity)
        if retry is None or retry.loaded.kernel != loaded.kernel or not retry.loaded.initramfs:
            return entry
        return replace(
            entry,
            initramfs=retry.loaded.initramfs,
            cmdline=retry.loaded.cmdline,
            without_initramfs_first=True,
            cmdline_without_initramfs=loaded.cmdline,
        )

    def _at(self, run: Run, identity: str) -> Run | None:
        """What the entry with this path of ids loads in another start of GRUB."""
        rest: str | None = identity
        while rest is not None:
            head, rest = split_path(rest)
            choice = next((choice for choice in run.scope.menu if choice.id == head), None)
            if choice is None:
                return None
            run = run.start(choice)
        return run

    # -- what starts by itself -------------------------------------------------------------------------------

    def _walk(self, run: Run) -> list[_Step]:
        steps: list[_Step] = []
        while run.scope.menu and len(steps) < _NESTED:
            default = run.scope.variables.get("default", "")
            if is_unknown(default):
                break
            index, how = run.default()
            choice = run.scope.menu[index]
            steps.append(_Step(run, choice, index, how))
            started = run.start(choice, tail=split_path(default)[1])
            if not choice.submenu and not started.shown:
                break
            run = started
        return steps

    @property
    def undecided(self) -> str:
        """The variable without a known value on which the choice of the entry hangs, and where."""
        default = self.run.scope.variables.get("default", "")
        file, line, unset = self.run.set_at.get("default", ("", None, ()))
        names = [name for name in unset if name not in ("saved_entry", "prev_saved_entry", "next_entry")]
        place = f"{file}, line {line}" if line is not None else self.config
        if self.run.scope.menu and is_unknown(default):
            return f"{readable(default)} ({place})"
        return f"${{{names[0]}}} ({place})" if self.run.scope.menu and names else ""

    def _automatic(self) -> BootEntry | None:
        """Where GRUB goes by itself once the next entry has failed."""
        if self.next is None or self.started is None:
            return None
        if self.next.kernel is not None and self.next.kernel.absent and len(self.position) == 1:
            index = self.run.fallback()
            return None if index is None else self.entries.get((index,))
        after = self.started
        seen = []
        for _ in range(_STARTS):
            blocks = after.blocks
            if blocks in seen or not any(save.writable for save in (*self.run.saves, *after.saves)):
                return None
            seen.append(blocks)
            run = self._start_again(blocks)
            steps = self._walk(run)
            if not steps:
                return None
            identity = ">".join(step.entry.id.replace(">", ">>") for step in steps)
            if identity != self.next.id:
                return next((entry for entry in self.entries.values() if entry.id == identity), None)
            last = steps[-1]
            after = last.level.start(last.entry)
        return None

    # -- the plan --------------------------------------------------------------------------------------------

    def plan(self) -> BootPlan:
        return BootPlan(
            "grub",
            tuple(self.entries.values()),
            self.next,
            self._why(),
            tuple(self.findings()),
            self.automatic,
            self._menu(),
            self._menu_file,
            remembers=self._remembers,
        )

    @property
    def _remembers(self) -> bool:
        saves = self.started.saves if self.started is not None else []
        return any(save.writable and "saved_entry" in save.names for save in saves)

    def _timeout(self) -> int | None:
        """Seconds until the default starts; None when GRUB waits for a person."""
        value = self.run.scope.variables.get("timeout", "")
        found = re.match(r"\s*([0-9]{1,9})", value)
        return int(found.group(1)) if found else None

    def _menu(self) -> bool:
        if is_unknown(self.run.scope.variables.get("timeout", "")):
            return True
        # A hidden menu looks at the keyboard once even when its time-out is 0; a shown one with 0 does not.
        style = self.run.scope.variables.get("timeout_style", "menu")
        return self._timeout() != 0 or style in ("hidden", "countdown")

    def _why(self) -> str:
        if self.next is None:
            return ""
        step, entry = self.steps[0], self.next
        value = step.level.scope.variables.get("default", "")
        what = f"entry {step.index}" + (f", {self._age(entry)}" if self._age(entry) else "")
        if len(self.steps) > 1:
            what = f'"{entry.title}" in the menu "{step.entry.title}"'
        by = self._set_by()
        if not value:
            reason = "no entry is saved in grubenv" if "${saved_entry}" in by else f"{self.config} names no default"
            return f"GRUB starts {what}, because {reason}{by}"
        for name, phrase in (("next_entry", "once, as next_entry asks"), ("saved_entry", "as saved_entry asks")):
            loaded, path = self.run.from_block.get(name, ("", ""))
            if loaded == value and self._misses() is None:
                return f'GRUB starts "{entry.title}" {phrase} ({name}={value} in {path})'
        missing = self._misses()
        if missing is not None:
            return f'GRUB starts {what}, because its default "{missing}" names no entry{by}'
        if step.how == "number":
            return f"GRUB starts {what}{by}"
        return f'GRUB starts "{entry.title}", its default{by}'

    def _set_by(self) -> str:
        file, line, _ = self.run.set_at.get("default", ("", None, ()))
        if line is None:
            return ""
        _, lines = self.sight.script(file)
        text = lines[line - 1].strip() if line <= len(lines) else ""
        return f" ({text[:80]} in {file}, line {line})"

    def _age(self, entry: BootEntry) -> str:
        """What to say of its kernel among the others of the menu."""
        releases = {other.release for other in self.entries.values() if other.release}
        if entry.release is None or len(releases) < 2:
            return ""
        older = [bls.compare_versions(entry.release, release) >= 0 for release in releases]
        return "the newest kernel" if all(older) else ""

    def _misses(self) -> str | None:
        """The default, or the part of it, that names no entry."""
        for step in self.steps:
            value = step.level.scope.variables.get("default", "")
            if value and step.how is None:
                return value
        return None

    # -- findings --------------------------------------------------------------------------------------------

    def findings(self) -> Iterator[Finding]:
        """What is worth telling about the choice; the files of the entry itself are not looked at here."""
        yield from self._syntax()
        if not self.run.scope.menu:
            yield self._empty()
        elif self.undecided:
            yield unknown(
                "boot-entry.unresolved-variable",
                self.config,
                f"GRUB's default hangs on {self.undecided}, and nothing that can be read here gives it a value.",
                "Which kernel boots next cannot be told.",
                remedy=self._regenerate(),
            )
        elif self.next is None:
            yield blocker(
                "boot-entry.empty-submenu",
                self.config,
                f'GRUB\'s default is the menu "{self.steps[-1].entry.title}", which has no entries.',
                "GRUB starts nothing and waits for a person.",
                remedy=self._regenerate(),
            )
        else:
            yield from self._default()
            yield from self._person()
        yield from self._block()

    def _syntax(self) -> Iterator[Finding]:
        broken = list(dict.fromkeys([*self.run.broken, *self.broken]))
        if not broken:
            return
        path, error = broken[0]
        lost = f"line {error.line}" if error.line == error.end else f"lines {error.line} to {error.end}"
        yield (warning if self.run.scope.menu else blocker)(
            "boot-entry.syntax-error",
            path,
            f"{path} has a syntax error: {error.message} ({lost}).",
            f"GRUB prints an error and goes on without {lost}; what stands there has no effect."
            if self.run.scope.menu
            else "GRUB has no boot entry that it could start.",
            evidence=[f"{file}, line {each.line}: {each.message}" for file, each in broken[:10]],
            remedy=self._regenerate(),
        )

    def _empty(self) -> Finding:
        if self.run.left:
            problem = f"The configuration {self.config} hands over to {self.run.left} and shows no menu."
            return unknown("boot-entry.leaves-grub", self.config, problem, "What boots next cannot be told.")
        if self.run.unseen:
            return unknown(
                "boot-entry.config-not-seen",
                self.config,
                f"The configuration {self.config} hands over to another one that cannot be seen here.",
                "Which kernel boots next cannot be told.",
                evidence=[self.run.unseen],
            )
        return blocker(
            "boot-entry.empty-menu",
            self.config,
            f"The configuration {self.config} defines no boot entry.",
            "GRUB stops at its prompt, and nothing boots.",
            evidence=[f"not found: {missing}" for missing in self.run.not_found],
            remedy=self._regenerate(),
        )

    def _default(self) -> Iterator[Finding]:
        missing = self._misses()
        if missing is None or self.next is None:
            return
        inside = next((entry for entry in self.entries.values() if entry.id.split(">")[-1] == missing), None)
        yield warning(
            "boot-entry.default-names-nothing",
            self.config,
            f'GRUB\'s default is "{missing}", and no entry has that name, title or number.'
            + (f' There is "{inside.id}"; an entry in a submenu needs the whole path.' if inside else ""),
            f'GRUB says nothing and starts "{self.next.title}" instead.',
            evidence=[self._why()],
            remedy=self._rename((inside or self.next).id),
        )

    def _rename(self, identity: str) -> Remedy:
        """How to give GRUB a default that names an entry: there where today's comes from."""
        top = self.steps[0].level.scope.variables.get("default")
        value, path = self.run.from_block.get("next_entry", ("", ""))
        if value and value == top:
            return Remedy("Take the one-time choice back.", ((self._editenv(), path, "unset", "next_entry"),))
        value, path = self.run.from_block.get("saved_entry", ("", ""))
        if value and value == top:
            tool = self._editenv().replace("editenv", "set-default")
            return Remedy("Save an entry that exists.", ((tool, identity),))
        file = self.run.set_at.get("default", ("", None, ()))[0]
        if file and not file.endswith("/grub.cfg"):
            return Remedy(f"Name an entry that exists in {file}: {identity}")
        text = f'Set GRUB_DEFAULT="{identity}" in /etc/default/grub, then write the boot menu anew.'
        return Remedy(text, self._regenerate().commands)

    def _person(self) -> Iterator[Finding]:
        top = self.run.scope.variables
        if self._timeout() is None and not is_unknown(top.get("timeout", "")):
            yield warning(
                "boot-entry.waits-for-person",
                self.config,
                f"GRUB's time-out is {'-1' if top.get('timeout') == '-1' else 'not set'}: its menu stays until a"
                " person chooses.",
                "After a reboot without a person at the console the machine does not come up.",
                remedy=Remedy(
                    "Set GRUB_TIMEOUT in /etc/default/grub to a number of seconds.", self._regenerate().commands
                ),
            )
        for step in self.steps:
            if step.entry.users is not None and step.level.scope.variables.get("superusers"):
                yield warning(
                    "boot-entry.password",
                    self.config,
                    f'GRUB asks for a password before it starts "{step.entry.title}": superusers is set and the entry'
                    " is not --unrestricted.",
                    "After a reboot the machine waits for a person who knows it.",
                    remedy=Remedy("Mark the entry --unrestricted: it then starts, but cannot be edited, without it."),
                )
                break

    def _block(self) -> Iterator[Finding]:
        """One-shots and counters hang on GRUB's writing them back."""
        for path, problem in self.run.bad_blocks.items():
            yield warning(
                "boot-entry.grubenv-damaged",
                path,
                f"{path} is not an environment block that GRUB can read: {problem}.",
                "GRUB ignores it: a saved or a one-time choice of the entry has no effect.",
                remedy=Remedy("Make an empty one.", ((self._editenv(), path, "create"),)),
            )
        for name in ("next_entry", "boot_counter"):
            value, path = self.run.from_block.get(name, ("", ""))
            saves = [save for save in self.run.saves if name in save.names and not save.writable]
            if value and saves:
                volume = saves[0].volume
                reason = "" if volume is None else f", on {volume.abstraction or volume.fstype} ({volume.name})"
                yield warning(
                    "boot-entry.grubenv-not-writable",
                    path,
                    f"{name} is set in {path}{reason}, where GRUB cannot write.",
                    f"GRUB starts the one-time entry {value} at every boot."
                    if name == "next_entry"
                    else "GRUB's boot counter never counts down, so it never leads to another entry.",
                    evidence=[saves[0].place],
                    remedy=Remedy("Remove it.", ((self._editenv(), path, "unset", name),)),
                )

    def _editenv(self) -> str:
        return "grub2-editenv" if self.sight.machine.exists("/usr/bin/grub2-editenv") else "grub-editenv"

    def _regenerate(self) -> Remedy:
        machine = self.sight.machine
        if not self.run.scope.menu and self.run.bls_asked:
            return add_kernels(machine, [kernel.release for kernel in kernels.installed(machine)])
        return write_boot_menu(machine, "grub", self._menu_file)

    @property
    def _menu_file(self) -> str:
        """The configuration that has the menu: on an ESP often another one than the first that GRUB reads."""
        written = (entry.file for entry in self.run.scope.menu if entry.file.endswith("/grub.cfg"))
        return self.run.opened[-1] if self.run.opened else next(written, self.config)


def _platform(machine: Machine, config: str) -> tuple[str | None, str | None]:
    """GRUB's `grub_cpu` and `grub_platform`, as far as its modules on disk and sysfs tell."""
    efi = machine.is_dir("/sys/firmware/efi") if machine.has_sysfs else None
    kinds = {
        (found.group(1), found.group(2))
        for directory in (config.rpartition("/")[0], "/boot/grub", "/boot/grub2")
        for name in machine.listdir(directory)
        if (found := re.fullmatch(f"{_CPUS}-{_PLATFORMS}", name)) and efi in (None, found.group(2) == "efi")
    }
    if len(kinds) == 1:
        return kinds.pop()
    if efi is None:
        return None, None
    return None, "efi" if efi else None if kinds else "pc"


def _release(machine: Machine, loaded: Loaded, version: str | None) -> str | None:
    """The kernel release that the file's name tells, a link such as /vmlinuz followed; else a BLS entry's version."""
    kernel = loaded.kernel
    if kernel is None:
        return None
    names = [kernel.spec]
    if kernel.path is not None and not kernel.absent:
        try:
            names.append(machine.resolve(kernel.path))
        except (Missing, Unreadable):
            pass
    for path in names:
        release = kernels.release_in_name(path)
        if release is not None and _is_release(release):
            return release
    return version if version and _is_release(version) else None


def _is_release(text: str) -> bool:
    # A rescue kernel's name, 0-rescue-MACHINE_ID, is none.
    return re.fullmatch(r"\d[\w.+~:-]*", text) is not None and not text.startswith("0-rescue")
