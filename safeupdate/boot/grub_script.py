"""What GRUB does when it runs its configuration: the menu it builds, and what each entry would load.

The commands do here what GRUB's own do (GRUB manual, "The list of available commands"; the behaviour of GRUB 2.06 and
2.12, Red Hat's `blscfg` included), as far as that decides what boots. Nothing is guessed in silence. A value that only
the running machine has (a firmware's setting, a disk that is not to be seen here) is an unknown value, and a question
that hangs on it is put to `Answers`, so that the caller can look at both answers.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from safeupdate.boot.plan import BootFile
from safeupdate.errors import FormatError, Missing, Unreadable
from safeupdate.formats import bls, grub_cfg, grubenv
from safeupdate.formats.grub_cfg import Block, Command, For, Function, If, Statement, While, Word
from safeupdate.machine import Machine
from safeupdate.volumes import Volume, Volumes

_STEPS = 200_000
"""Commands in all runs of one plan; a menu of two hundred entries takes 5,000."""

_TEXT = 32 << 20
"""Characters that they may put into words: a loop that doubles a variable ends here."""

_DEPTH = 64
"""Commands within commands, GRUB's MAX_RECURSION_DEPTH."""

_EXPORTED = (
    "root prefix cmdpath fw_path config_file config_directory pager color_normal color_highlight grub_cpu grub_platform"
).split()
_FEATURES = (
    "chainloader_bpb ntldr platform_search_hint default_font_path all_video_module menuentry_id menuentry_options"
    " 200_final nativedisk_cmd timeout_style"
).split()

_OF_THE_MACHINE = re.compile(r"cmdpath|fw_path|lockdown|shim_lock|secureboot|grub_cpu|grub_platform|(net|pxe)_\w+")
"""Variables that GRUB itself sets from what it finds at the boot."""

_UNWRITABLE = frozenset({"btrfs", "zfs", "zfs_member", "squashfs", "erofs", "iso9660", "udf"})
_WRITE_ONLY_THROUGH = frozenset({"lvm", "md"})

_QUIET = frozenset(
    """insmod rmmod loadfont terminal_input terminal_output terminal serial echo clear play background_image
    background_color export_efi gfxmode videoinfo cat ls lsmod list_env help password password_pbkdf2 sleep
    cryptomount nativedisk drivemap parttool hexdump font gettext vbeinfo lspci lsacpi acpi trust
    list_trusted verify_detached distrust keymap net_add_addr tpm usb_keyboard efi_gop stall date module_info
    rdmsr wrmsr setpci pcidump memrw search_hint true boot_time bli mm_set_region authenticate""".split()
)
"""Commands that have no part in what boots and that succeed on a machine whose GRUB works."""


def unknown_value(what: str) -> str:
    """A value that only the running machine has; GRUB's strings hold no NUL, so none can be mistaken for it."""
    return f"\0{what}\0"


def is_unknown(text: str) -> bool:
    """Whether any part of a value is one that only the running machine has."""
    return "\0" in text


def readable(text: str) -> str:
    """A value for messages, its unknown parts in angle brackets."""
    return re.sub("\0([^\0]*)\0", r"<\1>", text)


@dataclass
class Answers:
    """What to assume where GRUB's behaviour hangs on something that is not known; `asked` notes what came up."""

    given: Mapping[str, bool] = field(default_factory=dict)
    asked: dict[str, tuple[bool, str]] = field(default_factory=dict)

    def ask(self, question: str, place: str, likely: bool) -> bool:
        """The answer that was given, else the likely one."""
        answer = self.given.get(question, likely)
        self.asked.setdefault(question, (answer, place))
        return answer


@dataclass
class Scope:
    """Variables and the menu that they belong to; a submenu starts with the exported ones only."""

    variables: dict[str, str]
    exported: set[str]
    menu: list[MenuEntry] = field(default_factory=list)

    def inner(self) -> Scope:
        """The scope of a submenu or of a file that `configfile` opens."""
        kept = {name: value for name, value in self.variables.items() if name in self.exported}
        return Scope(kept, set(self.exported))

    def copy(self) -> Scope:
        """The same state, to be changed by itself."""
        return Scope(dict(self.variables), set(self.exported), list(self.menu))


@dataclass(frozen=True)
class MenuEntry:
    """A line of the menu. `users` is None where anyone may start it, else whom `superusers` allows besides."""

    id: str
    title: str
    body: Block
    submenu: bool
    file: str
    line: int | None
    arguments: tuple[str, ...] = ()
    users: str | None = None
    entry: bls.BlsEntry | None = None

    @property
    def source(self) -> str:
        """The file, and where it has one the line."""
        return self.file if self.line is None else f"{self.file}:{self.line}"


@dataclass
class Loaded:
    """What an entry's commands have put into memory. `other` says what they start that is no Linux kernel."""

    kernel: BootFile | None = None
    arguments: tuple[str, ...] = ()
    initramfs: tuple[BootFile, ...] = ()
    devicetree: BootFile | None = None
    embedded: bool = False
    other: str = ""
    unresolved: tuple[str, ...] = ()

    @property
    def cmdline(self) -> str:
        """The kernel command line as GRUB joins it (without `BOOT_IMAGE=`)."""
        return " ".join(_for_kernel(argument) for argument in self.arguments)


@dataclass(frozen=True)
class Save:
    """A `save_env`: the environment block, whether GRUB can write there, and what it writes."""

    path: str | None
    volume: Volume | None
    writable: bool
    names: tuple[str, ...]
    place: str


class _Boot(Exception):
    """The command `boot`: nothing after it runs."""


class _Leave(Exception):
    """GRUB hands over to something else: the firmware, another loader, a halt."""


class _Shown(Exception):
    """A menu that `configfile` built is on the screen; what follows the command does not run by itself."""

    def __init__(self, scope: Scope) -> None:
        super().__init__()
        self.scope = scope


class _Break(Exception):
    def __init__(self, levels: int, again: bool) -> None:
        super().__init__()
        self.levels = levels
        self.again = again


class _Return(Exception):
    def __init__(self, status: int) -> None:
        super().__init__()
        self.status = status


class Sight:
    """The file systems as GRUB names them, seen from this machine."""

    def __init__(self, machine: Machine, volumes: Volumes) -> None:
        self.machine = machine
        self.volumes = volumes
        self._names: list[Volume] = []
        self.tags: dict[str, str] = {}
        """How the configuration asked for a file system (`UUID=X`), by the name given to it here."""
        self._scripts: dict[str, tuple[grub_cfg.Script, list[str]]] = {}
        self._steps = _STEPS
        self._text = _TEXT

    def step(self, place: str) -> None:
        """Count a command. Raises `FormatError` when there were too many."""
        self._steps -= 1
        if self._steps < 0:
            raise FormatError("the configuration does not come to an end", place)

    def put(self, length: int, place: str) -> None:
        """Count characters that go into words. Raises `FormatError` when there were too many."""
        self._text -= length
        if self._text < 0:
            raise FormatError("the configuration's variables grow without bound", place)

    def device(self, volume: Volume) -> str:
        """A name for a file system, to stand in `$root` and in parentheses."""
        if volume not in self._names:
            self._names.append(volume)
        return f"volume{self._names.index(volume)}"

    def volume(self, device: str) -> Volume | None:
        """The file system behind such a name; None for a name that only GRUB itself can resolve (`hd0,gpt2`)."""
        number = device[len("volume") :]
        if device.startswith("volume") and number.isascii() and number.isdigit() and int(number) < len(self._names):
            return self._names[int(number)]
        return None

    def place(self, path: str) -> str:
        """The GRUB name, device and all, of a machine path."""
        volume, inside = self.volumes.holding(path)
        return f"({self.device(volume)}){inside}"

    def file(self, spec: str, root: str) -> tuple[BootFile, Volume | None]:
        """Where the file that GRUB knows as `spec` is on this machine, and the file system that GRUB reads it from."""
        device, path = root, spec
        if spec.startswith("(") and ")" in spec:
            device, path = spec[1:].split(")", 1)
        volume = self.volume(device)
        shown = readable(spec) if volume is None else path
        if volume is None or is_unknown(path):
            why = f"which disk GRUB calls ({readable(device)}) is not known here"
            if is_unknown(path):
                why = "its name is not known before the boot"
            return BootFile(shown, None, why=why), volume
        place = BootFile(shown, None, volume=self.tags.get(device))
        if not path.startswith("/"):
            return replace(place, absent=True, why="GRUB wants a path that begins with /"), volume
        try:
            found = self.volumes.locate(volume, path)
            if found is None:
                return replace(place, why=f"the file system {volume.name} is not mounted here"), volume
            place = replace(place, path=found)
            if not self.machine.exists(found):
                return replace(place, absent=True, why=f"{found} does not exist"), volume
            if not volume.assumed and self.machine.is_link(found):
                target = self.machine.resolve(found)
                if self.volumes.holding(target)[0].name != volume.name:
                    why = f"{found} is a link to {target}, on another file system than GRUB reads"
                    return replace(place, absent=True, why=why), volume
        except (Missing, Unreadable) as problem:
            return BootFile(shown, None, why=str(problem)), volume
        return place, volume

    def script(self, path: str) -> tuple[grub_cfg.Script, list[str]]:
        """A configuration on this machine, parsed, and its lines. Raises `Missing`, `Unreadable`, `FormatError`."""
        if path not in self._scripts:
            data = self.machine.read(path)
            try:
                script = grub_cfg.parse(data)
            except FormatError as error:
                raise FormatError(f"{path}: {error.message}", error.place) from None
            self._scripts[path] = script, data.decode("utf-8", "surrogateescape").split("\n")
        return self._scripts[path]


class Run:
    """One start of GRUB: reads the configuration, and then what each entry of the menu loads.

    `blocks` are environment blocks by machine path, as an earlier start left them. `id_first` is Red Hat's order of
    matching the default: id, title, number; GRUB's own is number, then title or id.
    """

    def __init__(
        self,
        sight: Sight,
        answers: Answers,
        *,
        blocks: Mapping[str, dict[str, str]] | None = None,
        platform: tuple[str | None, str | None] = (None, None),
        id_first: bool = False,
    ) -> None:
        self.sight = sight
        self.answers = answers
        self.id_first = id_first
        self.blocks = {path: dict(block) for path, block in (blocks or {}).items()}
        self.scope = Scope({}, set(_EXPORTED))
        self._platform = platform
        self.functions: dict[str, Block] = {}
        self.loaded = Loaded()
        self.saves: list[Save] = []
        self.from_block: dict[str, tuple[str, str]] = {}
        """What `load_env` has set: value and the block's machine path."""
        self.bad_blocks: dict[str, str] = {}
        self.broken: list[tuple[str, grub_cfg.Broken]] = []
        self.set_at: dict[str, tuple[str, int | None, tuple[str, ...]]] = {}
        """Where a variable was last set: file, line, and the unset variables in the value."""
        self.left = ""
        self.opened: list[str] = []
        """The machine paths that `configfile` and `normal` have opened and whose menu GRUB showed."""
        self._bls: dict[str, tuple[bls.BlsEntry, str]] = {}
        self._bls_shown: set[str] = set()
        self._positional: list[tuple[str, ...] | None] = [None]
        self._file = ""
        self._line: int | None = None
        self._depth = 0
        self.shown = False
        """A file that `configfile` named has put up a menu of its own."""

    # -- the whole -----------------------------------------------------------------------------------------

    def read(self, config: str) -> None:
        """Run the configuration at a machine path; `scope.menu` is then what GRUB shows.

        Raises `Missing`, `Unreadable`, and `FormatError` for what cannot be followed to its end.
        """
        self.sight.script(config)
        place = self.sight.place(config)
        variables = self.scope.variables
        variables["prefix"] = place.rsplit("/", 1)[0]
        variables["root"] = place[1:].split(")", 1)[0]
        variables["color_normal"], variables["color_highlight"] = "light-gray/black", "black/light-gray"
        cpu, platform = self._platform
        if cpu:
            variables["grub_cpu"] = cpu
        if platform:
            variables["grub_platform"] = platform
        for feature in _FEATURES:
            variables[f"feature_{feature}"] = "y"
            self.scope.exported.add(f"feature_{feature}")
        try:
            self._source(place, config)
        except _Shown as shown:
            self.scope = shown.scope
        except _Boot:
            self.scope.menu = [MenuEntry("", "the commands of its configuration", (), False, config, None)]
        except _Leave:
            self.scope.menu = []

    def start(self, entry: MenuEntry, *, tail: str | None = None) -> Run:
        """What this run becomes when GRUB starts `entry`; its `loaded` and, for a submenu, its `scope.menu` tell.

        `tail` is what the default's path has left for a submenu.
        """
        after = Run(self.sight, self.answers, blocks=self.blocks, id_first=self.id_first)
        after.functions = dict(self.functions)
        after.from_block, after.set_at = self.from_block, dict(self.set_at)
        after._bls, after._bls_shown = dict(self._bls), set()
        after.scope = self.scope.inner() if entry.submenu else self.scope.copy()
        if not entry.body:
            after.loaded = self.loaded
            return after
        chosen = after.scope.variables.get("chosen", "")
        after.scope.variables["chosen"] = (chosen + ">" if chosen else "") + entry.id.replace(">", ">>")
        after.scope.exported.add("chosen")
        if tail is not None:
            after.scope.variables["default"] = tail
        after._positional = [entry.arguments]
        after._file = entry.file
        try:
            after._run(entry.body)
        except (_Boot, _Break, _Return):
            pass
        except _Leave:
            after.loaded = Loaded(other=after.left)
        except _Shown as shown:
            after.scope, after.shown = shown.scope, True
        return after

    # -- statements ----------------------------------------------------------------------------------------

    def _run(self, block: Block) -> int | None:
        status: int | None = 0
        for statement in block:
            status = self._statement(statement)
        return status

    def _statement(self, statement: Statement) -> int | None:
        """The status, 0 for success; None where only the running machine knows it."""
        self.sight.step(self._here())
        if isinstance(statement, grub_cfg.Broken):
            self.broken.append((self._file, statement))
            return 0
        self._line = statement.line
        if isinstance(statement, Function):
            self.functions[statement.name] = statement.body
            return 0
        if self._depth >= _DEPTH:
            return 1
        self._depth += 1
        try:
            if isinstance(statement, If):
                status = self._if(statement)
            elif isinstance(statement, For):
                status = self._for(statement)
            elif isinstance(statement, While):
                status = self._while(statement)
            else:
                status = self._command(statement)
        finally:
            self._depth -= 1
        self.scope.variables["?"] = unknown_value("the status of a command") if status is None else str(status)
        return status

    def _holds(self, condition: Block) -> bool:
        status = self._run(condition)
        if status is not None:
            return status == 0
        last = condition[-1]
        shown = " ".join(word.plain for word in last.words) if isinstance(last, Command) else "the condition"
        return self.answers.ask(f"whether `{shown}` succeeds", self._here(), True)

    def _if(self, statement: If) -> int | None:
        for condition, body in statement.branches:
            if self._holds(condition):
                return self._run(body)
        return self._run(statement.otherwise)

    def _for(self, statement: For) -> int | None:
        status: int | None = 0
        for value in self._expand(statement.words):
            self.scope.variables[statement.name] = value
            try:
                status = self._run(statement.body)
            except _Break as stop:
                if self._goes_on(stop):
                    continue
                break
        return status

    def _while(self, statement: While) -> int | None:
        status: int | None = 0
        while self._holds(statement.condition) != statement.until:
            self.sight.step(self._here())
            try:
                status = self._run(statement.body)
            except _Break as stop:
                if self._goes_on(stop):
                    continue
                break
        return status

    @staticmethod
    def _goes_on(stop: _Break) -> bool:
        """Whether this loop takes its next turn; raises for a loop further out."""
        if stop.levels > 1:
            raise _Break(stop.levels - 1, stop.again)
        return stop.again

    def _command(self, statement: Command) -> int | None:
        words = self._expand(statement.words)
        inverted = words[:1] == ["!"]
        if inverted:
            words = words[1:]
        if not words:
            return 1
        status = self._call(words[0], words[1:], statement)
        if inverted and status is not None:
            return 0 if status else 1
        return status

    def _call(self, name: str, arguments: list[str], statement: Command) -> int | None:
        command = _COMMANDS.get(name)
        if command is not None:
            return command(self, arguments, statement)
        if name in _QUIET:
            return 0
        if name in self.functions:
            return self._function(name, arguments)
        if is_unknown(name):
            return None
        if "=" in name:
            variable, value = name.split("=", 1)
            self._set(variable, value, statement.words[:1])
            return 0
        # GRUB says "can't find command", and takes that for success; a command that exists may also fail.
        return None

    def _function(self, name: str, arguments: Sequence[str]) -> int | None:
        self._positional.append(tuple(arguments))
        try:
            return self._run(self.functions[name])
        except _Return as back:
            return back.status
        except _Break:
            return 0
        finally:
            self._positional.pop()

    def _here(self) -> str:
        return f"{self._file}, line {self._line}" if self._line is not None else self._file

    # -- words ---------------------------------------------------------------------------------------------

    def _expand(self, words: Iterable[Word]) -> list[str]:
        """Arguments as GRUB makes them: an unquoted value splits at blanks, and an empty one vanishes."""
        done: list[str] = []
        for word in words:
            current: str | None = None
            for piece in word.pieces:
                if piece.kind == "quoted":
                    current = (current or "") + piece.text
                elif piece.kind == "text":
                    if "*" in piece.text or "?" in piece.text:
                        current = (current or "") + self._pattern(piece.text)
                    else:
                        current = (current or "") + piece.text
                else:
                    values = self._values(piece.text)
                    if piece.kind == "variable":
                        values = [part for value in values for part in value.split()]
                    self.sight.put(sum(map(len, values)), self._here())
                    for index, value in enumerate(values):
                        if index and current is not None:
                            done.append(current)
                            current = None
                        current = (current or "") + value
                if current is not None:
                    self.sight.put(len(current), self._here())
            if current is not None:
                done.append(current)
        return done

    def _pattern(self, text: str) -> str:
        # Names that match take its place, where GRUB's regexp module is loaded.
        return unknown_value(f"files that match {text}") if "/" in text or "(" in text else text

    def _values(self, name: str) -> list[str]:
        positional = self._positional[-1]
        if name[0].isdigit() or name in ("#", "*", "@"):
            if positional is None:
                return []
            if name == "#":
                return [str(len(positional))]
            if name == "@":
                return list(positional)
            if name == "*":
                return [" ".join(positional)] if positional else []
            number = int(name) if len(name) < 9 else 0
            return [positional[number - 1]] if 0 < number <= len(positional) else []
        value = self.value(name)
        return [value] if value else []

    def value(self, name: str) -> str:
        """A variable's value, empty where it is unset."""
        found = self.scope.variables.get(name)
        if found is None:
            return unknown_value(f"${name}") if _OF_THE_MACHINE.fullmatch(name) else ""
        return found

    def _unset_in(self, words: Iterable[Word]) -> tuple[str, ...]:
        return tuple(
            name
            for word in words
            for name in word.variables
            if not name[0].isdigit() and name not in "#*@?" and name not in self.scope.variables
        )

    def _set(self, name: str, value: str, words: Iterable[Word]) -> None:
        self.scope.variables[name] = value
        self.set_at[name] = self._file, self._line, self._unset_in(words)

    # -- commands: variables -------------------------------------------------------------------------------

    def _cmd_set(self, arguments: list[str], statement: Command) -> int:
        if not arguments:
            return 0
        if "=" not in arguments[0]:
            return 1
        name, value = arguments[0].split("=", 1)
        self._set(name, value, statement.words[1:])
        return 0

    def _cmd_unset(self, arguments: list[str], statement: Command) -> int:
        if len(arguments) != 1:
            return 1
        self.scope.variables.pop(arguments[0], None)
        self.set_at.pop(arguments[0], None)
        return 0

    def _cmd_export(self, arguments: list[str], statement: Command) -> int:
        self.scope.exported.update(arguments)
        return 0

    def _cmd_step(self, arguments: list[str], statement: Command) -> int | None:
        if len(arguments) != 1 or arguments[0] not in self.scope.variables:
            return 1
        name = arguments[0]
        if is_unknown(self.value(name)):
            return None
        number, rest = _number(self.value(name))
        if rest is None:
            return 1
        step = 1 if statement.words[0].plain == "increment" else -1
        self._set(name, str(number + step), ())
        return 0

    def _cmd_load_env(self, arguments: list[str], statement: Command) -> int | None:
        options, names = _options(arguments, {"-f": True, "--file": True, "-s": False, "--skip-sig": False})
        path, _ = self._block(options)
        if path is None:
            return None
        block = self._read_block(path)
        if block is None:
            return 1
        for name, value in block.items():
            if not names or name in names:
                self.scope.variables[name] = value
                self.set_at.pop(name, None)
                self.from_block[name] = value, path
        return 0

    def _cmd_save_env(self, arguments: list[str], statement: Command) -> int | None:
        options, names = _options(arguments, {"-f": True, "--file": True})
        if not names:
            return 1
        path, volume = self._block(options)
        writable = volume is not None and volume.fstype not in _UNWRITABLE
        writable = writable and volume is not None and volume.abstraction not in _WRITE_ONLY_THROUGH
        self.saves.append(Save(path, volume, writable, tuple(names), self._here()))
        if path is None:
            return None
        block = self._read_block(path)
        if block is None or not writable:
            return 1
        for name in names:
            if name in self.scope.variables:
                block[name] = self.scope.variables[name]
            else:
                block.pop(name, None)
        return 0

    def _block(self, options: Mapping[str, str]) -> tuple[str | None, Volume | None]:
        """The machine path of an environment block, None where it is in no file that can be seen here."""
        spec = options.get("-f", options.get("--file")) or f"{self.value('prefix')}/grubenv"
        if "+" in spec.rpartition(")")[2] and not spec.rpartition(")")[2].startswith("/"):
            # Sectors of the disk, the way around file systems that GRUB cannot write.
            for name in ("next_entry", "saved_entry"):
                self.scope.variables[name] = unknown_value(f"${name} in the disk area {readable(spec)}")
                self.set_at.pop(name, None)
            return None, None
        file, volume = self.sight.file(spec, self.value("root"))
        return file.path, volume

    def _read_block(self, path: str) -> dict[str, str] | None:
        if path not in self.blocks:
            try:
                data = self.sight.machine.read(path)
                self.blocks[path] = grubenv.parse(data).as_dict()
            except Missing:
                return None
            except FormatError as error:
                self.bad_blocks[path] = str(error)
                return None
        return self.blocks[path]

    # -- commands: questions -------------------------------------------------------------------------------

    def _cmd_test(self, arguments: list[str], statement: Command) -> int:
        if arguments[-1:] == ["]"]:
            arguments = arguments[:-1]
        holds, _ = self._test(arguments, 0, 0)
        return 0 if holds else 1

    def _test(self, words: list[str], at: int, depth: int) -> tuple[bool, int]:
        """GRUB's reading of an expression: left to right, with the longest operator that fits."""
        either, both, inverted = False, True, False
        while at < len(words):
            left = len(words) - at
            holds: bool | None = None
            if left >= 3 and words[at + 1] in _COMPARISONS:
                holds = self._compare(words[at], words[at + 1], words[at + 2])
                at += 3
            elif left >= 3 and words[at + 1][:3] in ("-nt", "-ot"):
                holds = self.answers.ask(f"whether `{readable(' '.join(words))}` is true", self._here(), False)
                at += 3
            elif left >= 2 and words[at] in ("-d", "-e", "-f", "-s"):
                holds = self._file_test(words[at], words[at + 1])
                at += 2
            elif left >= 2 and words[at] in ("-n", "-z"):
                holds = self._empty(words[at + 1]) == (words[at] == "-z")
                at += 2
            elif words[at] == ")":
                return either or both, at + 1
            elif words[at] == "(":
                if depth >= _DEPTH:
                    raise FormatError("an expression is nested too deeply", self._here())
                holds, at = self._test(words, at + 1, depth + 1)
            elif words[at] == "!":
                inverted = not inverted
                at += 1
            elif words[at] == "-a":
                at += 1
            elif words[at] == "-o":
                either, both = either or both, True
                at += 1
            else:
                holds = not self._empty(words[at])
                at += 1
            if holds is not None:
                both = both and holds != inverted
                inverted = False
        return either or both, at

    def _empty(self, text: str) -> bool:
        if is_unknown(text) and not re.sub("\0[^\0]*\0", "", text):
            return self.answers.ask(f"whether {readable(text)} is empty", self._here(), True)
        return not text

    def _compare(self, left: str, operator: str, right: str) -> bool:
        if is_unknown(left) or is_unknown(right):
            return self.answers.ask(
                f"whether `{readable(left)} {operator} {readable(right)}` is true", self._here(), operator == "!="
            )
        if not operator.startswith("-"):
            return _COMPARISONS[operator]((left > right) - (left < right))
        if operator in ("-pgt", "-plt"):
            left, right = _without_prefix(left, right)
        one, two = _number(left)[0], _number(right)[0]
        return _COMPARISONS[operator]((one > two) - (one < two))

    def _file_test(self, operator: str, spec: str) -> bool:
        spec = spec.rstrip("/") or "/" if operator != "-s" else spec
        if spec.endswith(")"):
            spec += "/"
        file, volume = self.sight.file(spec, self.value("root"))
        if file.absent:
            return False
        if file.path is None:
            question = f"whether the file {readable(spec)} is there (`{operator}`)"
            return self.answers.ask(question, self._here(), False)
        machine = self.sight.machine
        if operator == "-d":
            return machine.is_dir(file.path)
        if operator == "-f":
            return not machine.is_dir(file.path)
        return operator == "-e" or machine.size(file.path) > 0

    # -- commands: flow ------------------------------------------------------------------------------------

    def _cmd_return(self, arguments: list[str], statement: Command) -> int:
        if self._positional[-1] is None or len(arguments) > 1:
            return 1
        status = arguments[0] if arguments else self.value("?")
        raise _Return(_number(status)[0])

    def _cmd_break(self, arguments: list[str], statement: Command) -> int:
        levels = _number(arguments[0])[0] if arguments else 1
        if levels < 1:
            return 1
        raise _Break(levels, statement.words[0].plain == "continue")

    def _cmd_setparams(self, arguments: list[str], statement: Command) -> int:
        if self._positional[-1] is None:
            return 1
        self._positional[-1] = tuple(arguments)
        return 0

    def _cmd_shift(self, arguments: list[str], statement: Command) -> int:
        positional = self._positional[-1]
        count = _number(arguments[0])[0] if arguments else 1
        if positional is None:
            return 0
        if count > len(positional):
            return 1
        self._positional[-1] = positional[count:]
        return 0

    def _cmd_eval(self, arguments: list[str], statement: Command) -> int | None:
        return self._run_text(" ".join(arguments))

    def _run_text(self, text: str) -> int | None:
        line = self._line
        if is_unknown(text):
            return None
        try:
            return self._run(grub_cfg.parse(text.encode("utf-8", "surrogateescape")).statements)
        finally:
            self._line = line

    def _cmd_source(self, arguments: list[str], statement: Command) -> int | None:
        return self._open(arguments)

    def _open(self, arguments: list[str]) -> int | None:
        if len(arguments) != 1:
            return 1
        file, _ = self.sight.file(arguments[0], self.value("root"))
        if file.absent:
            return 1
        if file.path is None:
            question = f"whether {readable(arguments[0])}, which is not to be seen here, changes what boots"
            if self.answers.ask(question, self._here(), False):
                self.scope.variables["default"] = unknown_value(f"$default after {readable(arguments[0])}")
            return None
        try:
            return self._source(arguments[0], file.path)
        except Missing:
            return 1

    def _source(self, spec: str, path: str) -> int | None:
        script, _ = self.sight.script(path)
        if not spec.startswith("("):
            spec = f"({self.value('root')}){spec}"
        variables = self.scope.variables
        names = ("config_file", "config_directory")
        kept = [(name, variables.get(name)) for name in names], self._file, self._line
        variables["config_file"], variables["config_directory"] = spec, spec.rsplit("/", 1)[0]
        self._file = path
        try:
            return self._run(script.statements)
        finally:
            before, self._file, self._line = kept
            for name, value in before:
                if value is None:
                    variables.pop(name, None)
                else:
                    variables[name] = value

    def _cmd_configfile(self, arguments: list[str], statement: Command) -> int | None:
        outer = self.scope
        self.scope = outer.inner()
        try:
            status = self._open(arguments)
            if self.scope.menu:
                self._note_opened(arguments)
                raise _Shown(self.scope)
        finally:
            self.scope = outer
        return status

    def _cmd_normal(self, arguments: list[str], statement: Command) -> int | None:
        arguments = arguments or [f"{self.value('prefix')}/grub.cfg"]
        self._open(arguments)
        self._note_opened(arguments)
        raise _Shown(self.scope)

    def _note_opened(self, arguments: list[str]) -> None:
        file, _ = self.sight.file(arguments[0], self.value("root"))
        if file.path is not None:
            self.opened.append(file.path)

    def _cmd_boot(self, arguments: list[str], statement: Command) -> int:
        if self.loaded.kernel is None and not self.loaded.other:
            return 1
        raise _Boot

    def _cmd_leave(self, arguments: list[str], statement: Command) -> int:
        name = statement.words[0].plain
        if name == "fwsetup" and arguments[:1] == ["--is-supported"]:
            return 0
        self.left = {
            "fwsetup": "the firmware's set-up",
            "exit": "the firmware's next choice",
            "halt": "nothing: the machine is switched off",
            "reboot": "a reboot",
        }.get(name, f"the command `{name}`")
        raise _Leave

    # -- commands: the disks -------------------------------------------------------------------------------

    def _cmd_search(self, arguments: list[str], statement: Command) -> int | None:
        kinds = {"-u": "uuid", "--fs-uuid": "uuid", "-l": "label", "--label": "label", "-f": "file", "--file": "file"}
        kind, variable, wanted = "", "", ""
        pending = list(arguments)
        while pending:
            word = pending.pop(0)
            option, equals, value = word.partition("=")
            if word == "--":
                wanted = pending[0] if pending else ""
                break
            if option in kinds:
                kind = kinds[option]
            elif option in ("-s", "--set"):
                variable = value if equals else "root"
            elif option.startswith("--hint") or option == "-h":
                if not equals and pending:
                    pending.pop(0)
            elif not word.startswith("-") and not wanted:
                wanted = word
        return self._search(kind, wanted, variable)

    def _cmd_search_direct(self, arguments: list[str], statement: Command) -> int | None:
        kind = statement.words[0].plain.partition(".")[2]
        return self._search(kind.replace("fs_", ""), *(arguments + ["", ""])[:2])

    def _search(self, kind: str, wanted: str, variable: str) -> int | None:
        volumes = self.sight.volumes
        volume: Volume | None = None
        known = not is_unknown(wanted)
        if known and kind in ("uuid", "label"):
            volume = volumes.tagged("UUID" if kind == "uuid" else "LABEL", wanted)
        elif known:
            holders = [
                candidate
                for candidate in volumes.seen
                if (place := volumes.locate(candidate, wanted)) and self.sight.machine.exists(place)
            ]
            known = len(holders) == 1
            volume = holders[0] if known else None
        if not known:
            if variable:
                self._set(variable, unknown_value(f"the disk that holds {readable(wanted)}"), ())
            return None
        if volume is None:
            return 1
        device = self.sight.device(volume)
        if kind != "file":
            self.sight.tags.setdefault(device, f"{'UUID' if kind == 'uuid' else 'LABEL'}={wanted}")
        if variable:
            self._set(variable, device, ())
        return 0

    def _cmd_ask_machine(self, arguments: list[str], statement: Command) -> None:
        """A command that sets variables from what only the running machine knows."""
        for position, word in enumerate(arguments):
            option, equals, value = word.partition("=")
            if option in ("--set", "-s"):
                value = value if equals else "".join(arguments[position + 1 : position + 2])
                name = value.rpartition(":")[2]
                if name:
                    self._set(name, unknown_value(f"${name} from {statement.words[0].plain}"), ())

    def _cmd_read(self, arguments: list[str], statement: Command) -> int:
        if arguments:
            self._set(arguments[-1], unknown_value("what a person types"), ())
        return 0

    # -- commands: the menu --------------------------------------------------------------------------------

    def _cmd_menuentry(self, arguments: list[str], statement: Command) -> int:
        title: list[str] = []
        identity: str | None = None
        users: str | None = ""
        text: str | None = None
        pending = list(arguments)
        while pending:
            word = pending.pop(0)
            option, equals, value = word.partition("=")
            if word == "--":
                title += pending
                break
            if option == "--unrestricted":
                users = None if not users else users
            elif option in ("--class", "--users", "--hotkey", "--id", "--source"):
                if not equals:
                    if not pending:
                        return 1
                    value = pending.pop(0)
                identity = value if option == "--id" else identity
                users = value if option == "--users" else users
                text = value if option == "--source" else text
            else:
                title.append(word)
        if not title or (text is None) == (statement.block is None):
            return 1
        body = statement.block
        if body is None:
            body = grub_cfg.parse((text or "").encode("utf-8", "surrogateescape")).statements
        submenu = statement.words[0].plain == "submenu"
        self.scope.menu.append(
            MenuEntry(
                title[0] if identity is None else identity,
                title[0],
                body,
                submenu,
                self._file,
                statement.line,
                tuple(title),
                users,
            )
        )
        return 0

    def _cmd_blscfg(self, arguments: list[str], statement: Command) -> int | None:
        only = arguments[0] if len(arguments) == 1 else ""
        device, directory = self.value("root"), self.value("blsdir") or "/loader/entries/"
        places = [directory, "/boot/loader/entries/"]
        if only.startswith("("):
            device, _, path = only[1:].partition(")")
            places = [path]
        for place in places:
            file, _ = self.sight.file(place, device)
            if file.path is None and not file.absent:
                question = f"which entries {readable(place)} on ({readable(device)}) holds"
                if self.answers.ask(question, self._here(), True):
                    self._set("default", unknown_value(f"$default among the entries of {readable(place)}"), ())
                return None
            if file.path is not None and self.sight.machine.is_dir(file.path):
                self._load_entries(file.path)
                break
        self._show_entries(only)
        return 0

    def _load_entries(self, directory: str) -> None:
        for name in self.sight.machine.listdir(directory):
            if name.startswith(".") or not name.endswith(".conf") or len(name) <= len(".conf"):
                continue
            path = f"{directory.rstrip('/')}/{name}"
            try:
                entry = bls.parse(self.sight.machine.read(path), name=name)
            except Missing:
                continue
            except FormatError as error:
                raise FormatError(f"{path}: {error.message}", error.place) from None
            self._bls.setdefault(entry.name, (entry, path))

    def _show_entries(self, only: str) -> None:
        default = self.value("default")
        for index, name in enumerate(bls.in_grub_order(self._bls)):
            entry, path = self._bls[name]
            number, rest = _number(default.lstrip("-"))
            is_default = default in (name, entry.grub.first("title")) or (rest is not None and number == index)
            wanted = {"default": is_default, "non-default": not is_default}.get(
                only, only in ("", name) or only[0] == "("
            )
            if wanted and name not in self._bls_shown and entry.grub.first("linux"):
                self._bls_shown.add(name)
                self.scope.menu.append(self._bls_entry(entry, path))

    def _bls_entry(self, entry: bls.BlsEntry, path: str) -> MenuEntry:
        """The menu entry that blscfg writes: the text of a script, so `$variables` in it have their usual meaning."""
        fields = entry.grub
        kernel = fields.first("linux") or ""
        options = self._in_options(fields.first("options")) or self._in_options(self.value("default_kernelopts"))
        images = fields.all("initrd")
        beside = (images[0] if images else kernel).rpartition("/")
        early = [beside[0] + beside[1] + name for name in self.value("early_initrd").split(" ") if name]
        tree = self._in_options(fields.first("devicetree"))
        if not tree and self.value("devicetree"):
            tree = "".join(kernel.rpartition("/")[:2]) + self._in_options(self.value("devicetree"))
        lines = ["savedefault"] if self.value("save_default") == "true" else []
        lines += ["load_video", "set gfxpayload=keep", "insmod gzio", f"linux ($root){kernel} {options}".rstrip()]
        if early or images:
            lines.append("initrd" + "".join(f" ($root){image}" for image in [*early, *images]))
        if tree:
            lines.append(f"devicetree ($root){tree}")
        text = "\n".join(lines).replace("\0", "")
        body = grub_cfg.parse(text.encode("utf-8", "surrogateescape")).statements
        title = fields.first("title") or kernel
        users = fields.first("grub_users")
        return MenuEntry(
            entry.name,
            title,
            body,
            False,
            path,
            None,
            (title, *fields.all("grub_arg")),
            None if users is None else self._in_options(users),
            entry,
        )

    def _in_options(self, value: str | None) -> str:
        """`$name` replaced by the variable and a blank, as blscfg does it in options; others wait for the script."""

        def replaced(found: re.Match[str]) -> str:
            text = self.value(found.group(1))
            return text + " " if text else ""

        return re.sub(r"(?<!\\)\$([A-Za-z0-9_]+) ?", replaced, value or "")

    # -- commands: what is loaded --------------------------------------------------------------------------

    def _cmd_linux(self, arguments: list[str], statement: Command) -> int | None:
        arguments = [word for word in arguments if word not in ("--no-verify", "-q", "--quiet")]
        if not arguments:
            return 1
        self.loaded = self._kernel(statement, arguments)
        return self._status(self.loaded.kernel)

    def _kernel(self, statement: Command, arguments: list[str]) -> Loaded:
        """A kernel and its command line, and what of them hangs on a variable that nothing has set."""
        file, _ = self.sight.file(arguments[0], self.value("root"))
        words = [word for word in statement.words[1:] if not word.plain.startswith("--")]
        unresolved = [
            f"nothing sets ${{{name}}} in `{word.plain}` ({self._here()})"
            for word in words
            for name in self._unset_in([word])
            if word.plain.startswith("root=") or (word is words[0] and (file.absent or file.path is None))
        ]
        if is_unknown(arguments[0]):
            unresolved.append(f"the name of the kernel, {readable(arguments[0])} ({self._here()})")
        if unresolved and file.absent:
            file = BootFile(words[0].plain, None, why="a variable in its name has no value")
        return Loaded(file, tuple(arguments[1:]), unresolved=tuple(unresolved))

    @staticmethod
    def _status(file: BootFile | None) -> int | None:
        if file is None or file.absent:
            return 1
        return None if file.path is None else 0

    def _cmd_initrd(self, arguments: list[str], statement: Command) -> int | None:
        if self.loaded.kernel is None or self.loaded.kernel.absent:
            return 1
        files = []
        for word in arguments:
            if word.startswith("newc:"):
                word = word.split(":", 2)[-1]
            if not word.startswith("--"):
                files.append(self.sight.file(word, self.value("root"))[0])
        self.loaded = replace(self.loaded, initramfs=tuple(files))
        return max((self._status(file) or 0 for file in files), default=1)

    def _cmd_devicetree(self, arguments: list[str], statement: Command) -> int | None:
        if len(arguments) != 1:
            return 1
        file, _ = self.sight.file(arguments[0], self.value("root"))
        self.loaded = replace(self.loaded, devicetree=file)
        return self._status(file)

    def _cmd_multiboot(self, arguments: list[str], statement: Command) -> int | None:
        files = [word for word in arguments if not word.startswith("--")]
        if not files:
            return 1
        file, _ = self.sight.file(files[0], self.value("root"))
        self.loaded = Loaded(other=f"the multiboot kernel {file.spec}")
        return self._status(file)

    def _cmd_module(self, arguments: list[str], statement: Command) -> int | None:
        """A hypervisor's modules: the first is the kernel of the machine's own system, the next its initramfs."""
        words = [word for word in arguments if not word.startswith("--")]
        if not words or not (self.loaded.other or self.loaded.kernel):
            return 1
        file, _ = self.sight.file(words[0], self.value("root"))
        if self.loaded.kernel is None:
            kernel = self._kernel(statement, words)
            rest = kernel.arguments[1:] if words[1:2] == ["placeholder"] else kernel.arguments
            self.loaded = replace(kernel, arguments=rest, other=self.loaded.other)
        else:
            self.loaded = replace(self.loaded, initramfs=(*self.loaded.initramfs, file))
        return self._status(file)

    def _cmd_chainloader(self, arguments: list[str], statement: Command) -> int | None:
        words = [word for word in arguments if not word.startswith("--")]
        if not words:
            return 1
        if words[0].endswith("+1"):
            self.loaded = Loaded(other=f"the boot sector {readable(words[0])}")
            return 0
        file, _ = self.sight.file(words[0], self.value("root"))
        if re.search(r"/efi/linux/[^/]+\.efi$", file.spec, re.IGNORECASE):
            self.loaded = Loaded(file, tuple(words[1:]), embedded=True)
        else:
            self.loaded = Loaded(other=file.spec)
        return self._status(file)

    def _cmd_other_kernel(self, arguments: list[str], statement: Command) -> int | None:
        self.loaded = Loaded(other=f"`{readable(' '.join([statement.words[0].plain, *arguments[:1]]))}`")
        return None

    # -- the default ---------------------------------------------------------------------------------------

    def default(self) -> tuple[int, str | None]:
        """The entry of `scope.menu` that starts by itself, and how it was named: `id`, `title` or `number`.

        None for how: the default is unset, or names nothing, and GRUB takes entry 0.
        """
        value = self.scope.variables.get("default")
        if value is None:
            return 0, None
        index, how = self._match(value)
        return (index, how) if 0 <= index < len(self.scope.menu) else (0, None)

    def _match(self, value: str) -> tuple[int, str | None]:
        head, _ = split_path(value)
        menu = self.scope.menu
        number, rest = _number(value)
        if not self.id_first:
            if rest is not None:
                return number, "number"
            for index, entry in enumerate(menu):
                if head in (entry.title, entry.id):
                    return index, "id" if head == entry.id else "title"
            return -1, None
        word = re.split(r"[ \t\n\r\f\v]", value, maxsplit=1)[0]
        for index, entry in enumerate(menu):
            if entry.id and split_path(word)[0] == entry.id:
                return (index, "id") if word == value else (-1, None)
        for index, entry in enumerate(menu):
            if head and head == entry.title:
                return index, "title"
        return (number, "number") if rest == "" else (-1, None)

    def fallback(self) -> int | None:
        """The first entry that the variable `fallback` names, None without one."""
        value = self.scope.variables.get("fallback", "").strip()
        if not value or is_unknown(value):
            return None
        if self.id_first:
            index = self._match(value)[0]
        else:
            number, rest = _number(value)
            index = -1 if rest is None else number
        return index if 0 <= index < len(self.scope.menu) else None


def split_path(value: str) -> tuple[str, str | None]:
    """The first step of a default's path `A>B`, `>>` being a plain `>`, and what is left of it."""
    head: list[str] = []
    at = 0
    while at < len(value):
        if value[at] == ">":
            if value[at + 1 : at + 2] != ">":
                return "".join(head), value[at + 1 :] or None
            at += 1
        head.append(value[at])
        at += 1
    return "".join(head), None


def _number(text: str) -> tuple[int, str | None]:
    """strtoul(3) as GRUB has it, a sign before it allowed, and what follows the digits; None where no digit is."""
    text = text.lstrip(" \t\n\r\f\v")
    sign, digits = (-1, text[1:]) if text.startswith("-") else (1, text)
    found = re.match(r"0[xX]([0-9a-fA-F]+)|(0[0-7]*)|([1-9][0-9]*)", digits)
    if not found or len(found.group()) > 20:
        return 0, None
    for group, base in ((1, 16), (2, 8), (3, 10)):
        if found.group(group):
            return sign * int(found.group(group), base), digits[found.end() :]
    return 0, None


def _without_prefix(left: str, right: str) -> tuple[str, str]:
    at = 0
    while at < min(len(left), len(right)) and left[at] == right[at]:
        at += 1
    at -= 1
    while at > 0 and left[at].isdigit():
        at -= 1
    return left[at + 1 :], right[at + 1 :]


def _options(arguments: Iterable[str], known: Mapping[str, bool]) -> tuple[dict[str, str], list[str]]:
    """Options (those that are True take a value) and the other words."""
    options: dict[str, str] = {}
    others = []
    pending: Iterator[str] = iter(arguments)
    for word in pending:
        option, equals, value = word.partition("=")
        if option not in known:
            others.append(word)
        elif known[option] and not equals:
            options[option] = next(pending, "")
        else:
            options[option] = value
    return options, others


def _for_kernel(argument: str) -> str:
    quoted = re.sub(r"([\\'\"])", r"\\\1", readable(argument))
    return f'"{quoted}"' if " " in quoted else quoted


_COMPARISONS: dict[str, Callable[[int], bool]] = {
    "=": lambda order: order == 0,
    "==": lambda order: order == 0,
    "!=": lambda order: order != 0,
    "<": lambda order: order < 0,
    "<=": lambda order: order <= 0,
    ">": lambda order: order > 0,
    ">=": lambda order: order >= 0,
    "-eq": lambda order: order == 0,
    "-ne": lambda order: order != 0,
    "-lt": lambda order: order < 0,
    "-le": lambda order: order <= 0,
    "-gt": lambda order: order > 0,
    "-ge": lambda order: order >= 0,
    "-plt": lambda order: order < 0,
    "-pgt": lambda order: order > 0,
}

_COMMANDS: dict[str, Callable[[Run, list[str], Command], int | None]] = {
    "set": Run._cmd_set,
    "unset": Run._cmd_unset,
    "export": Run._cmd_export,
    "increment": Run._cmd_step,
    "decrement": Run._cmd_step,
    "load_env": Run._cmd_load_env,
    "save_env": Run._cmd_save_env,
    "[": Run._cmd_test,
    "test": Run._cmd_test,
    "false": lambda run, arguments, statement: 1,
    "keystatus": lambda run, arguments, statement: 1,
    "return": Run._cmd_return,
    "break": Run._cmd_break,
    "continue": Run._cmd_break,
    "setparams": Run._cmd_setparams,
    "shift": Run._cmd_shift,
    "eval": Run._cmd_eval,
    "source": Run._cmd_source,
    ".": Run._cmd_source,
    "configfile": Run._cmd_configfile,
    "normal": Run._cmd_normal,
    "boot": Run._cmd_boot,
    **{name: Run._cmd_leave for name in ("fwsetup", "exit", "halt", "reboot", "normal_exit", "efiemu_unload")},
    "search": Run._cmd_search,
    **{f"search.{kind}": Run._cmd_search_direct for kind in ("fs_uuid", "fs_label", "file")},
    **{
        name: Run._cmd_ask_machine
        for name in ("regexp", "smbios", "probe", "pcidump", "setpci", "rdmsr", "gptprio.next")
    },
    "read": Run._cmd_read,
    "menuentry": Run._cmd_menuentry,
    "submenu": Run._cmd_menuentry,
    "blscfg": Run._cmd_blscfg,
    "bls_import": Run._cmd_blscfg,
    **{name: Run._cmd_linux for name in ("linux", "linux16", "linuxefi")},
    **{name: Run._cmd_initrd for name in ("initrd", "initrd16", "initrdefi")},
    "devicetree": Run._cmd_devicetree,
    **{name: Run._cmd_multiboot for name in ("multiboot", "multiboot2", "xen_hypervisor")},
    **{name: Run._cmd_module for name in ("module", "module2", "xen_module")},
    "chainloader": Run._cmd_chainloader,
    **{
        name: Run._cmd_other_kernel
        for name in ("ntldr", "freedos", "kfreebsd", "knetbsd", "kopenbsd", "xnu_kernel64", "legacy_configfile")
    },
}
