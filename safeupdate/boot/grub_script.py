"""GRUB at work: its configuration is run, a menu comes out, and each entry of it can be started.

Words, variables, scopes and the order of things are those of GRUB 2.06 and 2.12; the commands are in `grub_commands`.
Nothing is guessed in silence. A value that only the running machine has (a firmware's setting, a disk that is not to
be seen here) is an unknown value, and a question that hangs on it is put to `Answers`, so that the caller can look at
both answers.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from safeupdate.boot.plan import BootFile
from safeupdate.errors import FormatError, Missing, Unreadable
from safeupdate.formats import bls, cmdline, grub_cfg
from safeupdate.formats.grub_cfg import Block, For, Function, If, Statement, While, Word
from safeupdate.machine import Machine
from safeupdate.volumes import Volume, Volumes

_STEPS = 50_000
"""Commands in all runs of one plan; a menu of two hundred entries takes 5,000."""

_TEXT = 8 << 20
"""Characters that they may put into words, and variables and entries that a started entry may take along: a loop that
doubles a variable ends here. An entry takes one or two thousand."""

_WORD = 8
"""Characters that a word counts for besides its own: it takes memory and time without any."""

DEPTH_LIMIT = 64
"""Commands within commands, GRUB's MAX_RECURSION_DEPTH."""

_EXPORTED = (
    *("root", "prefix", "cmdpath", "fw_path", "config_file", "config_directory", "pager", "color_normal"),
    *("color_highlight", "grub_cpu", "grub_platform"),
)
_FEATURES = (
    *("chainloader_bpb", "ntldr", "platform_search_hint", "default_font_path", "all_video_module", "menuentry_id"),
    *("menuentry_options", "200_final", "nativedisk_cmd", "timeout_style"),
)

_OF_THE_MACHINE = re.compile(r"cmdpath|fw_path|lockdown|shim_lock|secureboot|grub_cpu|grub_platform|(net|pxe)_\w+")
"""Variables that GRUB itself sets from what it finds at the boot."""

_SPACE = re.compile(r"[ \t\n\r\f\v]+")


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


class Booted(Exception):
    """The command `boot`: nothing after it runs."""


class Left(Exception):
    """GRUB hands over to something else: the firmware, another loader, a halt."""


class MenuShown(Exception):
    """A menu that `configfile` built is on the screen; what follows the command does not run by itself."""

    def __init__(self, scope: Scope) -> None:
        super().__init__()
        self.scope = scope


class Broke(Exception):
    """`break` or `continue`, out of so many loops."""

    def __init__(self, levels: int, again: bool) -> None:
        super().__init__()
        self.levels = levels
        self.again = again


class Returned(Exception):
    """`return` out of a function."""

    def __init__(self, status: int) -> None:
        super().__init__()
        self.status = status


@dataclass(frozen=True)
class Call:
    """A command's name and arguments, its variables replaced, and the statement that it stands in."""

    name: str
    arguments: list[str]
    statement: grub_cfg.Command


class Sight:
    """The file systems as GRUB names them, seen from this machine."""

    def __init__(self, machine: Machine, volumes: Volumes, texts: Mapping[str, bytes] = MappingProxyType({})) -> None:
        """`texts` stand in for the content of the files at these machine paths."""
        self.machine = machine
        self.volumes = volumes
        self._texts = {machine.resolve(path): data for path, data in texts.items()}
        self._names: list[Volume] = []
        self.tags: dict[str, str] = {}
        """How the configuration asked for a file system (`UUID=X`), by the name given to it here."""
        self.relative = False
        """SUSE's `btrfs_relative_path`: on btrfs, paths begin at the default subvolume."""
        self._scripts: dict[str, tuple[grub_cfg.Script, list[str]]] = {}
        self._steps = _STEPS
        self._text = _TEXT

    def step(self, place: str) -> None:
        """Count a command. Raises `FormatError` when there were too many."""
        self._steps -= 1
        if self._steps < 0:
            raise FormatError("the configuration does not come to an end", place)

    def put(self, length: int, place: str) -> None:
        """Count what goes into words and into scopes. Raises `FormatError` when it was too much."""
        self._text -= length
        if self._text < 0:
            raise FormatError("the configuration's variables grow without bound", place)

    def device(self, volume: Volume) -> str:
        """A name for a file system, to stand in `$root` and in parentheses."""
        if volume not in self._names:
            self._names.append(volume)
        return f"volume{self._names.index(volume)}"

    def volume(self, device: str) -> Volume | None:
        """The file system behind such a name; None for a name that only GRUB itself can resolve (`hd1,gpt2`)."""
        number = device[len("volume") :]
        if device.startswith("volume") and number.isascii() and number.isdigit() and int(number) < len(self._names):
            return self._names[int(number)]
        first = re.fullmatch(r"hd0,(?:msdos|gpt)?(\d{1,3})", device)
        return self.volumes.on_only_disk(int(first.group(1))) if first else None

    def place(self, path: str) -> str:
        """The GRUB name, device and all, of a machine path."""
        volume, inside = self.volumes.holding(path)
        return f"({self.device(volume)}){inside}"

    def file(self, spec: str, root: str) -> tuple[BootFile, Volume | None]:
        """Where the file that GRUB knows as `spec` is on this machine, and the file system that GRUB reads it from."""
        device, path = root, spec
        if spec.startswith("(") and ")" in spec:
            device, path = spec[1:].split(")", 1)
        if not device:
            return BootFile(readable(spec), None, absent=True, why="the device's name is empty"), None
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
            found = self.volumes.locate(volume, path, relative=self.relative)
            if found is None:
                if self._is_lost(volume, path):
                    return replace(place, absent=True, why="this boot's subvolume has that name no more"), volume
                what = "that part of the file system" if volume.trees else "the file system"
                return replace(place, why=f"{what} {volume.name} is not to be seen here"), volume
            place = replace(place, path=found)
            if self._text_of(found) is None and not self.machine.exists(found):
                return replace(place, absent=True, why=f"{found} does not exist"), volume
        except (Missing, Unreadable) as problem:
            return BootFile(shown, None, why=str(problem)), volume
        return place, volume

    def _is_lost(self, volume: Volume, path: str) -> bool:
        """Whether a path is below the subvolume that this boot was started from, which was renamed or deleted since."""
        flags = cmdline.parse(self.machine.value("/proc/cmdline") or "").all("rootflags")
        name = next((flag[len("subvol=") :] for flag in ",".join(flags).split(",") if flag.startswith("subvol=")), None)
        return (
            volume.fstype == "btrfs"
            and name is not None
            and path.startswith(f"/{name.strip('/')}/")
            and self.volumes.has_subvolume(volume, name) is False
        )

    def _text_of(self, path: str) -> bytes | None:
        return self._texts.get(self.machine.resolve(path)) if self._texts else None

    def script(self, path: str) -> tuple[grub_cfg.Script, list[str]]:
        """A configuration on this machine, parsed, and its lines. Raises `Missing`, `Unreadable`, `FormatError`."""
        if path not in self._scripts:
            text = self._text_of(path)
            data = self.machine.read(path) if text is None else text
            try:
                script = grub_cfg.parse(data)
            except FormatError as error:
                raise FormatError(f"{path}: {error.message}", error.place) from None
            self._scripts[path] = script, data.decode("utf-8", "surrogateescape").split("\n")
        return self._scripts[path]


class Run:
    """One start of GRUB: reads the configuration, and then starts entries of the menu.

    `commands` are GRUB's own, by name. `blocks` are environment blocks by machine path, as an earlier start left them.
    `id_first` is Red Hat's order of matching the default: id, title, number; GRUB's own is number, then title or id.
    A menu of `blscfg` implies the first, its ids may begin with a digit.
    """

    def __init__(
        self,
        sight: Sight,
        answers: Answers,
        commands: Mapping[str, Command],
        *,
        blocks: Mapping[str, dict[str, str]] | None = None,
        platform: tuple[str | None, str | None] = (None, None),
        id_first: bool = False,
    ) -> None:
        self.sight = sight
        self.answers = answers
        self._commands = commands
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
        self.not_found: list[str] = []
        """Further configurations that GRUB does not find."""
        self.unseen = ""
        """A further configuration whose menu GRUB shows, and that is not to be seen here."""
        self.bls: dict[str, tuple[bls.BlsEntry, str]] = {}
        self.bls_shown: set[str] = set()
        self.bls_asked = False
        """Whether `blscfg` has run: entries are files of their own, which GRUB's generator does not write."""
        self.positional: list[tuple[str, ...] | None] = [None]
        self.place = ""
        self._line: int | None = None
        self._depth = 0
        self.loops = 0
        """The loops that `break` can end; those around a function's call are not among them."""
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
        except MenuShown as shown:
            self.scope = shown.scope
        except Booted:
            self.scope.menu = [MenuEntry("", "the commands of its configuration", (), False, config, None)]
        except Left:
            self.scope.menu = []

    def start(self, entry: MenuEntry, *, tail: str | None = None) -> Run:
        """What this run becomes when GRUB starts `entry`; its `loaded` and, for a submenu, its `scope.menu` tell.

        `tail` is what the default's path has left for a submenu.
        """
        after = Run(self.sight, self.answers, self._commands, blocks=self.blocks, id_first=self.id_first)
        after.functions = dict(self.functions)
        after.from_block, after.set_at = self.from_block, dict(self.set_at)
        after.bls, after.bls_shown = dict(self.bls), set()
        self.sight.put(len(self.scope.variables) + len(self.scope.menu) + len(self.set_at), entry.source)
        after.scope = self.scope.inner() if entry.submenu else self.scope.copy()
        if not entry.body:
            after.loaded = self.loaded
            return after
        chosen = after.scope.variables.get("chosen", "")
        after.scope.variables["chosen"] = (chosen + ">" if chosen else "") + entry.id.replace(">", ">>")
        after.scope.exported.add("chosen")
        if tail is not None:
            after.scope.variables["default"] = tail
        after.positional = [entry.arguments]
        after.place = entry.file
        try:
            after._run(entry.body)
        except (Booted, Returned):
            pass
        except Left:
            after.loaded = Loaded(other=after.left)
        except MenuShown as shown:
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
        self.sight.step(self.here())
        if isinstance(statement, grub_cfg.Broken):
            self.broken.append((self.place, statement))
            return 0
        self._line = statement.line
        if isinstance(statement, Function):
            self.functions[statement.name] = statement.body
            return 0
        if self._depth >= DEPTH_LIMIT:
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
        shown = " ".join(word.plain for word in last.words) if isinstance(last, grub_cfg.Command) else "the condition"
        return self.answers.ask(f"whether `{shown}` succeeds", self.here(), True)

    def _if(self, statement: If) -> int | None:
        for condition, body in statement.branches:
            if self._holds(condition):
                return self._run(body)
        return self._run(statement.otherwise)

    def _for(self, statement: For) -> int | None:
        status: int | None = 0
        for value in self._expand(statement.words):
            self.scope.variables[statement.name] = value
            self.loops += 1
            try:
                status = self._run(statement.body)
            except Broke as stop:
                if not self._goes_on(stop):
                    break
            finally:
                self.loops -= 1
        return status

    def _while(self, statement: While) -> int | None:
        while self._holds(statement.condition) != statement.until:
            self.sight.step(self.here())
            self.loops += 1
            try:
                self._run(statement.body)
            except Broke as stop:
                if not self._goes_on(stop):
                    return 0
            finally:
                self.loops -= 1
        return 0 if statement.until else 1

    @staticmethod
    def _goes_on(stop: Broke) -> bool:
        """Whether this loop takes its next turn; raises for a loop further out."""
        if stop.levels > 1:
            raise Broke(stop.levels - 1, stop.again)
        return stop.again

    def _command(self, statement: grub_cfg.Command) -> int | None:
        words = self._expand(statement.words)
        inverted = words[:1] == ["!"]
        if inverted:
            words = words[1:]
        if not words:
            return 1
        status = self._call(Call(words[0], words[1:], statement))
        if inverted and status is not None:
            return 0 if status else 1
        return status

    def _call(self, call: Call) -> int | None:
        command = self._commands.get(call.name)
        if command is not None:
            return command(self, call)
        if call.name in self.functions:
            return self._function(call.name, call.arguments)
        if "=" in call.name and not is_unknown(call.name.split("=", 1)[0]):
            variable, value = call.name.split("=", 1)
            self.assign(variable, value, call.statement.words[:1])
            return 0
        # GRUB says "can't find command" and takes that for success; a command that it does have may also fail.
        return None

    def _function(self, name: str, arguments: Sequence[str]) -> int | None:
        self.positional.append(tuple(arguments))
        loops, self.loops = self.loops, 0
        try:
            return self._run(self.functions[name])
        except Returned as back:
            return back.status
        finally:
            self.positional.pop()
            self.loops = loops

    def here(self) -> str:
        """The file and the line that runs, for messages."""
        return f"{self.place}, line {self._line}" if self._line is not None else self.place

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
                        values = [part for value in values for part in _split(value)]
                    self.sight.put(sum(len(value) + _WORD for value in values), self.here())
                    for index, value in enumerate(values):
                        if index and current is not None:
                            done.append(current)
                            current = None
                        current = (current or "") + value
                if current is not None:
                    self.sight.put(len(current), self.here())
            if current is not None:
                done.append(current)
        return done

    @staticmethod
    def _pattern(text: str) -> str:
        # Names that match take its place, where GRUB's regexp module is loaded.
        return unknown_value(f"files that match {text}") if "/" in text or "(" in text else text

    def _values(self, name: str) -> list[str]:
        positional = self.positional[-1]
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

    def unset_in(self, words: Iterable[Word]) -> tuple[str, ...]:
        """The variables in these words that nothing has set."""
        return tuple(
            name
            for word in words
            for name in word.variables
            if not name[0].isdigit() and name not in "#*@?" and name not in self.scope.variables
        )

    def assign(self, name: str, value: str, words: Iterable[Word]) -> None:
        """Set a variable to the value that `words` came to."""
        if name == "root" and value.startswith("(") and value.endswith(")"):
            value = value[1:-1]
        if name == "btrfs_relative_path":
            self.sight.relative = bool(value)
        self.scope.variables[name] = value
        self.set_at[name] = self.place, self._line, self.unset_in(words)

    # -- files ---------------------------------------------------------------------------------------------

    def file(self, spec: str) -> BootFile:
        """Where a file is that a command names; without a device it is on `$root`."""
        return self.sight.file(spec, self.value("root"))[0]

    def open(self, arguments: Sequence[str]) -> int | None:
        """Run a further configuration, in the scope that is there; GRUB takes a missing one for success."""
        if len(arguments) != 1:
            return 1
        file = self.file(arguments[0])
        if file.absent:
            self.not_found.append(f"{self.here()}: {readable(arguments[0])} ({file.why})")
            return 0
        if file.path is None:
            shown = readable(arguments[0])
            if self.answers.ask(f"whether {shown}, which is not to be seen here, changes it", self.here(), False):
                self.assign("default", unknown_value(f"$default after {shown}"), ())
            return None
        try:
            return self._source(arguments[0], file.path)
        except Missing:
            return 0

    def _source(self, spec: str, path: str) -> int | None:
        script, _ = self.sight.script(path)
        if not spec.startswith("("):
            spec = f"({self.value('root')}){spec}"
        variables = self.scope.variables
        before = {name: variables.get(name) for name in ("config_file", "config_directory")}
        place, line = self.place, self._line
        variables["config_file"], variables["config_directory"] = spec, spec.rsplit("/", 1)[0]
        self.place = path
        try:
            return self._run(script.statements)
        finally:
            self.place, self._line = place, line
            for name, value in before.items():
                if value is None:
                    variables.pop(name, None)
                else:
                    variables[name] = value

    def run_text(self, text: str) -> int | None:
        """Run a string as a script (`eval`)."""
        line = self._line
        if is_unknown(text):
            return None
        try:
            return self._run(grub_cfg.parse(text.encode("utf-8", "surrogateescape")).statements)
        finally:
            self._line = line

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
        number, rest = number_in(value)
        if not (self.id_first or self.bls):
            if rest is not None:
                return number, "number"
            for index, entry in enumerate(menu):
                if head in (entry.title, entry.id):
                    return index, "id" if head == entry.id else "title"
            return -1, None
        word = _SPACE.split(value, maxsplit=1)[0]
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
            number, rest = number_in(value)
            index = -1 if rest is None else number
        return index if 0 <= index < len(self.scope.menu) else None


Command = Callable[[Run, Call], "int | None"]
"""A command's status: 0 for success, None where only the running machine would know it."""


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


def number_in(text: str) -> tuple[int, str | None]:
    """strtoul(3) as GRUB has it: the number, and what follows its digits, None where it has none."""
    text = text.lstrip(" \t\n\r\f\v")
    found = re.match(r"0[xX]([0-9a-fA-F]+)|(0[0-7]*)|([1-9][0-9]*)", text)
    if not found or len(found.group()) > 20:
        return 0, None
    for group, base in ((1, 16), (2, 8), (3, 10)):
        if found.group(group):
            return int(found.group(group), base), text[found.end() :]
    return 0, None


def signed_in(text: str) -> tuple[int, str | None]:
    """The same, with a minus sign before the digits."""
    number, rest = number_in(text.removeprefix("-"))
    return (-number if text.startswith("-") else number), rest


def _split(value: str) -> list[str]:
    # What an unknown value holds is a description.
    return [value] if is_unknown(value) else [part for part in _SPACE.split(value) if part]


def _for_kernel(argument: str) -> str:
    quoted = re.sub(r"([\\'\"])", r"\\\1", readable(argument))
    return f'"{quoted}"' if " " in quoted else quoted
