"""dkms.conf, which dkms(8) has bash read: what is set in it, as far as that can be told without running it.

Assignments, arrays, quotes and expansions are read as bash(1) does, and conditions where they ask for what is known
here: a variable, the kernel's configuration. What only bash could compute (a command's output, a condition on files)
is None, "not known", and so is whatever hangs on it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import Callable, NamedTuple, Optional, Union

from safeupdate.errors import FormatError
from safeupdate.formats import extended_regex

DIRECTIVES = frozenset(
    (
        *("PACKAGE_NAME", "PACKAGE_VERSION", "AUTOINSTALL", "OBSOLETE_BY", "NO_WEAK_MODULES", "BUILD_DEPENDS"),
        *("BUILT_MODULE_NAME", "BUILT_MODULE_LOCATION", "DEST_MODULE_NAME", "DEST_MODULE_LOCATION"),
        *("BUILD_EXCLUSIVE_KERNEL", "BUILD_EXCLUSIVE_KERNEL_MIN", "BUILD_EXCLUSIVE_KERNEL_MAX"),
        *("BUILD_EXCLUSIVE_ARCH", "BUILD_EXCLUSIVE_CONFIG"),
    )
)
"""What is read here. dkms unsets them before it reads the file, and of several files each sees the others' values."""

FRAMEWORK = frozenset(("dkms_tree", "source_tree", "install_tree", "sign_file", "mok_signing_key", "mok_certificate"))

_SIZE_LIMIT = 1 << 20
"""Bytes of a file: the longest of Debian's packages (dahdi, lttng-modules) have 12 KB."""

_VALUE_LIMIT = 64 << 10
_INDEX_LIMIT = 4096
"""Letters of a value and elements of an array; what has more is not known."""

_DEPTH_LIMIT = 40
"""Constructs inside one another."""

_LATER = "\0"
"""Stands in a value for what dkms will fill in for a kernel that is not named yet: no file holds this letter."""

_LATER_SET = ("kernelver", "kernel_source_dir", "kernel_config", "arch")
_ARRAYS = ("BUILT_MODULE_NAME", "BUILT_MODULE_LOCATION", "DEST_MODULE_NAME", "DEST_MODULE_LOCATION")

Value = Optional[str]
_Truth = Optional[bool]


class Module(NamedTuple):
    """One module by its file name without suffix, and where in /lib/modules/R it is to go; None is not known."""

    name: Value
    location: Value


@dataclass(frozen=True)
class DkmsConf:
    """The directives' values by index; None where a value is not known, no index where nothing is set.

    `unsure` are the directives that may hold more than stands here, `possible` the values that one of them, or one
    that is not known, may have: those that are set under a condition which is not known.
    """

    values: Mapping[str, Mapping[int, Value]] = field(default_factory=dict)
    unsure: frozenset[str] = frozenset()
    possible: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def value(self, name: str, index: int = 0) -> Value:
        """One directive's value: empty where it is not set, None where that is not known."""
        if index in self.values.get(name, {}):
            return self.values[name][index]
        return None if name in self.unsure else ""

    @property
    def modules(self) -> tuple[Module, ...]:
        """The modules, as dkms counts them: as many as the longest of the arrays has, with its defaults."""
        count = 1 + max((index for name in _ARRAYS for index in self.values.get(name, {})), default=-1)
        found = []
        for index in range(count):
            name: Value = self.value("BUILT_MODULE_NAME", index)
            if name == "" and count == 1:
                name = self.value("PACKAGE_NAME")
            destination = self.value("DEST_MODULE_NAME", index)
            name = name if destination == "" else destination
            found.append(Module(name or None, self.value("DEST_MODULE_LOCATION", index)))
        return tuple(found)

    @property
    def lists_all_modules(self) -> bool:
        """Whether the names of all modules are known."""
        named = not self.unsure & set(_ARRAYS)
        return named and bool(self.modules) and all(module.name is not None for module in self.modules)


def parse(texts: Iterable[bytes], variables: Mapping[str, str], config: Mapping[str, str] | None = None) -> DkmsConf:
    """What dkms.conf and the files of /etc/dkms that override it, in their order, set together.

    `variables` are those that dkms sets (`dkms_tree`, `source_tree`, `module`, `module_version`, and for a kernel
    `kernelver`, `kernel_source_dir`, `arch`): without a kernel, what hangs on it is not known. `config` is that
    kernel's configuration, option to value, where it is known. Raises `FormatError` with the line for what bash would
    not read either.
    """
    given = {**{name: f"{_LATER}{name}" for name in _LATER_SET}, **variables}
    shell = _Shell(given, config)
    for data in texts:
        program = _program(data)
        shell.begin()
        with suppress(_Stop):
            program(shell)
    return shell.result()


def parse_framework(texts: Iterable[bytes]) -> dict[str, Value]:
    """What framework.conf and the files of framework.conf.d set, in their order; None where a value is not known.

    Raises `FormatError` as `parse` does.
    """
    shell = _Shell({name: f"{_LATER}{name}" for name in _LATER_SET}, None)
    shell.begin()
    for data in texts:
        with suppress(_Stop):
            _program(data)(shell)
    return {
        name: None if value is None or _LATER in value else _clean(value)
        for name in FRAMEWORK & set(shell.values)
        if (value := shell.get(name)) != ""
    }


def compare(one: str, other: str) -> int:
    """Below, at or above zero: the order of two versions as dkms has it, each number padded to three digits."""
    first, second = (re.sub(r"\d+", lambda number: number.group().zfill(3), version) for version in (one, other))
    return (first > second) - (first < second)


# -- running ---------------------------------------------------------------------------------------------------


class _Stop(Exception):
    """The file ends itself (exit, return)."""


class _Shell:
    """What is set so far. Each command of the program is a function of it that returns whether the command succeeds."""

    def __init__(self, given: Mapping[str, str], config: Mapping[str, str] | None) -> None:
        self.given = given
        self.config = config
        self.values: dict[str, dict[int, Value]] = {}
        self.unsure: set[str] = set()
        self.possible: dict[str, list[str]] = {}
        self.functions: set[str] = set()
        self.maybe = 0
        self.lost = False
        self.has_options = False

    def begin(self) -> None:
        """A file begins: dkms hands the directives on, and nothing else."""
        self.values = {name: value for name, value in self.values.items() if name in DIRECTIVES}
        self.unsure &= DIRECTIVES
        self.functions = set()
        self.maybe = 0
        self.lost = self.has_options = False
        for name, value in self.given.items():
            self.values[name] = {0: value}

    def result(self) -> DkmsConf:
        # Between reading and using, dkms has the shell read each value again: blanks run together.
        values = {
            name: {index: None if value is None or _LATER in value else _clean(value) for index, value in array.items()}
            for name, array in self.values.items()
            if name in DIRECTIVES
        }
        possible = {
            name: tuple(_clean(value) for value in dict.fromkeys(found) if _LATER not in value)
            for name, found in self.possible.items()
            if name in DIRECTIVES
        }
        return DkmsConf(values, frozenset(self.unsure & DIRECTIVES), possible)

    def get(self, name: str, index: int = 0) -> Value:
        array = self.values.get(name)
        if array is not None and index in array:
            return array[index]
        if name in self.unsure or self.lost:
            return None
        if array is not None or name in DIRECTIVES:
            return ""
        if name.startswith("CONFIG_") and self.has_options and self.config is not None:
            return self.config.get(name, "")
        return None  # the environment may have it

    def set(self, name: str, index: int | None, value: Value, *, append: bool = False) -> None:
        if append and index is not None:
            before = self.get(name, index)
            value = None if before is None or value is None else before + value
        if value is not None and len(value) > _VALUE_LIMIT:
            value = None
        array = self.values.setdefault(name, {})
        if index is None or not 0 <= index < _INDEX_LIMIT:
            self.unsure.add(name)
            self._may_be(name, value)
        elif self.maybe and self.get(name, index) != value:
            array[index] = None
            self._may_be(name, value)
        else:
            array[index] = value

    def _may_be(self, name: str, value: Value) -> None:
        found = self.possible.setdefault(name, [])
        if value is not None and len(found) < _INDEX_LIMIT:
            found.append(value)

    def set_array(self, name: str, elements: Sequence[tuple[int | None, Value]], *, append: bool) -> None:
        array = self.values.setdefault(name, {})
        if not append:
            if self.maybe:
                for index in array:
                    self.set(name, index, None)
            else:
                array.clear()
                self.unsure.discard(name)
        following: int | None = max(array, default=-1) + 1
        if name in self.unsure or self.maybe:
            following = None
        for place, value in elements:
            if place is not None:
                following = place
            self.set(name, following, value)
            following = None if following is None else following + 1

    def unset(self, name: str) -> None:
        if self.maybe:
            for index in self.values.get(name, {}):
                self.set(name, index, None)
        else:
            self.values[name] = {}
            self.unsure.discard(name)

    def not_known(self, name: str) -> None:
        """A command has set this variable, to something."""
        self.values[name] = dict.fromkeys(self.values.get(name, {}))
        self.unsure.add(name)

    def lose(self) -> None:
        """Anything may have been set."""
        for name in [*self.values, *DIRECTIVES]:
            if name not in self.given:
                self.not_known(name)
        self.lost = True

    def is_configuration(self, path: str) -> bool:
        """Whether a file is the kernel's configuration, or one that tells the same."""
        source, release = self.given["kernel_source_dir"], self.given["kernelver"]
        places = (f"{source}/.config", f"{source}/include/config/auto.conf", f"/lib/modules/{release}/config")
        return path in (*places, f"/lib/modules/{release}/build/.config", f"/boot/config-{release}")

    def run_maybe(self, command: _Command) -> None:
        """Run what the real shell runs or not."""
        self.maybe += 1
        try:
            command(self)
        except _Stop:
            return  # from here on nothing is certain
        self.maybe -= 1

    # -- commands

    def call(self, words: list[Value]) -> _Truth:
        name, arguments = words[0], words[1:]
        if name is None or name in self.functions or name == "eval":
            self.lose()
        elif name in ("true", ":"):
            return True
        elif name == "false":
            return False
        elif name in ("[", "test"):
            return _Test(self, arguments[:-1] if name == "[" else arguments, single=True).run()
        elif name in (".", "source"):
            self._source(arguments)
        elif name in ("exit", "return", "exec"):
            raise _Stop
        elif name in ("grep", "egrep"):
            return self._grep(arguments)
        elif name == "unset":
            for argument in arguments:
                if argument is None:
                    self.lose()
                elif not argument.startswith("-"):
                    self.unset(argument.partition("[")[0])
        elif name in ("read", "mapfile", "readarray", "printf", "getopts", "let"):
            for argument in arguments:
                variable = re.match(r"[A-Za-z_]\w*", argument or "")
                if variable is not None:
                    self.not_known(variable.group())
        return None

    def _source(self, arguments: list[Value]) -> None:
        path = arguments[0] if arguments else None
        if path is None or not self.is_configuration(path):
            self.lose()
        elif not self.maybe:
            self.has_options = True

    def _grep(self, arguments: list[Value]) -> _Truth:
        """A question about one option of the kernel's configuration."""
        if self.config is None or None in arguments:
            return None
        words = [argument for argument in arguments if argument is not None and not re.match("-[a-zA-Z]+$", argument)]
        if len(words) != 2 or not self.is_configuration(words[1]):
            return None
        asked = re.match(r"\^?(CONFIG_\w+)=(\[ym\]|\[my\]|\(y\|m\)|y|m|)\$?$", words[0])
        if asked is None:
            return None
        value = self.config.get(asked.group(1), "")
        return value != "" and (not asked.group(2) or value in ("y", "m")) and value in (asked.group(2) or value)

    def arithmetic(self, text: str) -> int | None:
        """The value of an expression of sums, with what it sets; None where it is not known."""
        changed = re.match(r"\s*(?:(\+\+|--)\s*)?([A-Za-z_]\w*)\s*(\+\+|--|[-+]?=(?!=))?(.*)$", text, re.DOTALL)
        if changed is not None and (changed.group(1) or changed.group(3)):
            before, name, after, rest = changed.groups()
            old = self._number(name)
            if before or after in ("++", "--"):
                new = None if old is None or rest.strip() else old + (1 if "+" in (before or after) else -1)
            else:
                new = self._sum(rest)
                if after != "=":
                    new = None if new is None or old is None else old + (new if after == "+=" else -new)
            self.set(name, 0, None if new is None else str(new))
            return old if not before and after in ("++", "--") else new
        return self._sum(text)

    def _sum(self, text: str) -> int | None:
        if not re.fullmatch(r"\s*[-+]?\s*\$?\{?\w+\}?(?:\s*[-+]\s*\$?\{?\w+\}?)*\s*", text[:200]):
            return None
        total = 0
        for sign, word in re.findall(r"([-+]?)\s*\$?\{?(\w+)\}?", text):
            number = self._number(word)
            if number is None:
                return None
            total += -number if sign == "-" else number
        return total

    def _number(self, word: str) -> int | None:
        text = word if word.isdecimal() else self.get(word)
        if text == "":
            return 0
        return int(text) if text is not None and re.fullmatch(r"-?\d{1,9}", text) else None


_Command = Callable[[_Shell], _Truth]
_Part = tuple[bool, Union[str, Callable[[_Shell], Value]]]
"""A piece of a word: whether it was quoted, and its text or what it expands to."""


class _Word(NamedTuple):
    raw: str
    parts: tuple[_Part, ...]

    def text(self, shell: _Shell) -> Value:
        """The word's value as one."""
        if len(self.parts) == 1 and isinstance(self.parts[0][1], str):
            return self.parts[0][1]
        found = [part if isinstance(part, str) else part(shell) for _, part in self.parts]
        known = [text for text in found if text is not None]
        return "".join(known) if len(known) == len(found) else None

    def fields(self, shell: _Shell) -> list[Value]:
        """The word's value, where it was not quoted split at blanks."""
        value = self.text(shell)
        if all(quoted or isinstance(part, str) for quoted, part in self.parts):
            return [value]
        return [None] if value is None else [*value.split()]


class _Test:
    """What stands between [ and ], or [[ and ]]: words, evaluated in three values."""

    def __init__(self, shell: _Shell, words: Sequence[Value], *, single: bool) -> None:
        self.shell = shell
        self.words = list(words)
        self.at = 0
        self.single = single
        self.both, self.either = ("-a", "-o") if single else ("&&", "||")

    def run(self) -> _Truth:
        result = self.any_of(0)
        return result if self.at == len(self.words) else None

    def any_of(self, depth: int) -> _Truth:
        if depth > _DEPTH_LIMIT:
            return None
        result = self.all_of(depth)
        while self.peek() == self.either:
            self.at += 1
            result = _or(result, self.all_of(depth))
        return result

    def all_of(self, depth: int) -> _Truth:
        result = self.one(depth)
        while self.peek() == self.both:
            self.at += 1
            result = _and(result, self.one(depth))
        return result

    def peek(self, ahead: int = 0) -> Value:
        return self.words[self.at + ahead] if self.at + ahead < len(self.words) else ""

    def one(self, depth: int) -> _Truth:
        negated = False
        while self.peek() == "!":
            self.at += 1
            negated = not negated
        result = self.primary(depth)
        return result if result is None else result != negated

    def primary(self, depth: int) -> _Truth:
        left = self.words[self.at : self.at + 3]
        if left[:1] == ["("] and len(left) > 1:
            self.at += 1
            result = self.any_of(depth + 1)
            if self.peek() != ")":
                self.at = len(self.words) + 1
            self.at += 1
            return result
        if len(left) == 3 and left[1] in _BINARY:
            self.at += 3
            return self.binary(left[0], str(left[1]), left[2])
        if len(left) >= 2 and left[0] is not None and re.fullmatch("-[a-zA-Z]", left[0]):
            self.at += 2
            return self.unary(left[0], left[1])
        self.at += 1
        return None if not left or left[0] is None or _LATER in left[0] else left[0] != ""

    def unary(self, operator: str, value: Value) -> _Truth:
        if value is None:
            return None
        if operator in ("-n", "-z"):
            return (value != "") == (operator == "-n")
        if operator in ("-e", "-f", "-r", "-s") and self.shell.is_configuration(value):
            return None if self.shell.config is None else True
        return None

    def binary(self, one: Value, operator: str, other: Value) -> _Truth:
        if one is None or other is None or _LATER in one or _LATER in other:
            return None
        if operator in ("=", "==", "!="):
            same = one == other if self.single else fnmatchcase(one[:_INDEX_LIMIT], _pattern(other))
            return same == (operator != "!=")
        if operator == "=~":
            return matches(other, one)
        if operator in ("<", ">"):
            return one < other if operator == "<" else one > other
        if not all(re.fullmatch(r"-?\d{1,9}", number) for number in (one, other)):
            return None
        difference = int(one) - int(other)
        return {"-eq": difference == 0, "-ne": difference != 0, "-lt": difference < 0, "-le": difference <= 0}.get(
            operator, difference > 0 if operator == "-gt" else difference >= 0
        )


_BINARY = ("=", "==", "!=", "=~", "<", ">", "-eq", "-ne", "-lt", "-le", "-gt", "-ge")


def matches(pattern: str, text: str) -> bool | None:
    """Whether bash's `[[ text =~ pattern ]]` holds; None where the pattern is more than is understood here."""
    try:
        return extended_regex.search(pattern, text)
    except FormatError:
        return None


def _pattern(text: str) -> str:
    """A shell pattern, as fnmatch takes it. Its many stars would take long: then it is only itself."""
    return text if text.count("*") <= 3 and len(text) < 200 else re.sub(r"([*?[])", r"[\1]", text)


def _and(one: _Truth, other: _Truth) -> _Truth:
    return False if one is False or other is False else None if one is None or other is None else True


def _or(one: _Truth, other: _Truth) -> _Truth:
    return True if one is True or other is True else None if one is None or other is None else False


def _clean(value: str) -> str:
    return " ".join(value.split())


# -- reading ---------------------------------------------------------------------------------------------------

_NAME = re.compile(r"[A-Za-z_]\w*")
_ASSIGNMENT = re.compile(r"([A-Za-z_]\w*)(?:\[((?:[^][\n]|\[[^][\n]*\])*)\])?(\+)?=")
_PLAIN = re.compile(
    r"""([A-Za-z_]\w*)(?:\[(\d{1,4})\])?=(?:"([^"$`\\]*)"|'([^']*)'|([\w./:+@%,-]*))[ \t]*(?=\n|;(?!;)|\#|\r?\Z)"""
)
"""What most lines are: an assignment of a text."""

_BLANKS = re.compile(r"(?:[ \t\r]|\\\r?\n)+")
_SPACE = re.compile(r"(?:[ \t\r\n;]|\\\r?\n|\#[^\n]*)+")
_RUN = re.compile(r"[^\s;&|<>()\"'\\$`]+")
_QUOTED_RUN = re.compile(r'[^"\\$`]+')
_REDIRECTION = re.compile(r"(?:\d*|&)(?:>>|>&|>\||>|<&|<>|<(?![<(]))|\d*<<<")
_RESERVED = ("if", "then", "elif", "else", "fi", "case", "esac", "for", "while", "until", "do", "done", "{", "}")
_AFTER_WORD = (*" \t\r\n;&|()<>", "")
_DECLARATIONS = ("export", "declare", "typeset", "local", "readonly")
_SORTED = re.compile(
    r"\{\s*echo\s+(\"[^\"]*\"|[^\s;]+)\s*;\s*echo\s+(\"[^\"]*\"|[^\s;]+)\s*;\s*\}\s*\|\s*sort\s+(?:-V\s+-C|-C\s+-V|-VC|-CV)"
)
"""A comparison of two versions as Debian's packages write it."""


@lru_cache(maxsize=512)
def _program(data: bytes) -> _Command:
    if len(data) > _SIZE_LIMIT:
        raise FormatError(f"it is larger than {_SIZE_LIMIT >> 20} MiB")
    if b"\0" in data:
        raise FormatError("it holds a NUL byte", f"line {data.count(10, 0, data.index(0)) + 1}")
    parser = _Parser(data.decode("utf-8", "surrogateescape"))
    program = parser.commands(())
    if parser.at < len(parser.text):
        raise parser.error("something that is no command")
    return program


class _Parser:
    """bash's grammar, as far as such files use it; what each construct does is a function that is returned."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.depth = 0

    def error(self, message: str) -> FormatError:
        return FormatError(message, f"line {self.text.count(chr(10), 0, self.at) + 1}")

    def skip(self, pattern: re.Pattern[str]) -> None:
        found = pattern.match(self.text, self.at)
        if found is not None:
            self.at = found.end()

    def take(self, text: str) -> bool:
        if self.text.startswith(text, self.at):
            self.at += len(text)
            return True
        return False

    def word_is(self, words: Sequence[str]) -> str | None:
        """The reserved word that stands here, if it is one of these."""
        for word in words:
            end = self.at + len(word)
            if self.text.startswith(word, self.at) and (
                (not word[-1].isalpha() and word not in "{}") or self.text[end : end + 1] in _AFTER_WORD
            ):
                return word
        return None

    def commands(self, ends: Sequence[str]) -> _Command:
        """Commands until one of the reserved words `ends`, which is left to be read."""
        self.depth += 1
        if self.depth > _DEPTH_LIMIT:
            raise self.error("constructs are nested too deeply")
        found: list[_Command] = []
        while True:
            if "\n" in self.text[self.at : self.at + 1] or not self.text.startswith(";;", self.at):
                self._separators(ends)
            if self.at >= len(self.text):
                if ends:
                    raise self.error(f"the file ends before {ends[0]}")
                break
            if self.word_is(ends) or self.text[self.at] == ")":
                break
            found.append(self.and_or())
            self.skip(_BLANKS)
            if self.text.startswith("&", self.at) and not self.text.startswith("&&", self.at):
                self.at += 1
        self.depth -= 1

        def run(shell: _Shell) -> _Truth:
            result: _Truth = True
            for command in found:
                result = command(shell)
            return result

        return run

    def _separators(self, ends: Sequence[str]) -> None:
        """Blanks, newlines, comments and single semicolons."""
        while self.at < len(self.text):
            if self.text.startswith(";;", self.at) and ";;" in ends:
                return
            before = self.at
            if self.text[self.at] == ";":
                self.at += 1
            else:
                self.skip(_INNER_SPACE)
            if self.at == before:
                return

    def and_or(self) -> _Command:
        result = self.pipeline()
        while True:
            self.skip(_BLANKS)
            operator = "&&" if self.take("&&") else "||" if self.take("||") else ""
            if not operator:
                return result
            self.skip(_INNER_SPACE)
            result = _connected(result, operator, self.pipeline())

    def pipeline(self) -> _Command:
        self.skip(_BLANKS)
        negated = False
        while self.word_is(("!", "time")) and self.text[self.at + 1 : self.at + 2] in (" ", "\t", "i"):
            negated ^= self.text[self.at] == "!"
            self.at += 1 if self.text[self.at] == "!" else 4
            self.skip(_BLANKS)
        ordered = _SORTED.match(self.text, self.at)
        if ordered is not None:
            self.at = ordered.end()
            command = _in_order(*(_Parser(version).word() for version in ordered.groups()))
        else:
            command = self.command()
            self.skip(_BLANKS)
            while self.text.startswith("|", self.at) and not self.text.startswith("||", self.at):
                self.at += 2 if self.text.startswith("|&", self.at) else 1
                self.skip(_INNER_SPACE)
                self.command()
                command = _nothing  # each part is a process of its own
                self.skip(_BLANKS)
        return command if not negated else _negated(command)

    def command(self) -> _Command:
        plain = _PLAIN.match(self.text, self.at)
        if plain is not None:
            self.at = plain.end()
            name, index, double, single, bare = plain.groups()
            return _assigned(name, int(index or 0), double or single or bare or "")
        if self.text.startswith("((", self.at):
            return self.arithmetic()
        if self.text.startswith("[[", self.at) and self.text[self.at + 2 : self.at + 3].isspace():
            return self.redirected(self.test())
        if self.take("("):
            self.commands((")",))
            self.expect(")")
            return self.redirected(_nothing)  # a process of its own
        word = self.word_is((*_RESERVED, "function", "select"))
        if word is None:
            return self.simple()
        self.at += len(word)
        if word == "if":
            return self.redirected(self.condition())
        if word in ("while", "until"):
            condition = self.commands(("do",))
            return self.redirected(_loop(self.body("do", "done"), condition))
        if word in ("for", "select"):
            return self.redirected(self.iteration())
        if word == "case":
            return self.redirected(self.choice())
        if word == "{":
            body = self.commands(("}",))
            self.expect("}")
            return self.redirected(body)
        if word == "function":
            self.skip(_BLANKS)
            return self.function(self.name())
        raise self.error(f"{word} where a command should be")

    def redirected(self, command: _Command) -> _Command:
        self.redirections()
        return command

    def redirections(self) -> bool:
        """Redirections are read and have no effect here. A here document is not understood."""
        any_found = False
        while True:
            self.skip(_BLANKS)
            found = _REDIRECTION.match(self.text, self.at)
            if found is None:
                return any_found
            self.at = found.end()
            self.skip(_BLANKS)
            self.word()
            any_found = True

    def expect(self, word: str) -> None:
        if not self.take(word):
            raise self.error(f"{word} is missing")

    def name(self) -> str:
        found = _NAME.match(self.text, self.at)
        if found is None:
            raise self.error("a name is missing")
        self.at = found.end()
        return found.group()

    def body(self, begin: str, end: str) -> _Command:
        self.skip(_SPACE)
        self.expect(begin)
        commands = self.commands((end,))
        self.expect(end)
        return commands

    def condition(self) -> _Command:
        branches: list[tuple[_Command | None, _Command]] = []
        while True:
            asked = self.commands(("then",))
            self.expect("then")
            branches.append((asked, self.commands(("elif", "else", "fi"))))
            if self.take("elif"):
                continue
            if self.take("else"):
                branches.append((None, self.commands(("fi",))))
            self.expect("fi")
            return _choice(branches)

    def iteration(self) -> _Command:
        self.skip(_BLANKS)
        if self.text.startswith("((", self.at):
            self.arithmetic()
            self.skip(_SPACE)
            name = None
        else:
            name = self.name()
            self.skip(_SPACE)
            if self.word_is(("in",)):
                self.at += 2
                self.skip(_BLANKS)
                while self.at < len(self.text) and self.text[self.at] not in ";\n":
                    self.word()
                    self.skip(_BLANKS)
        self.skip(_SPACE)
        if self.text.startswith("{", self.at):
            return _loop(self.body("{", "}"), None, name)
        return _loop(self.body("do", "done"), None, name)

    def choice(self) -> _Command:
        self.skip(_BLANKS)
        subject = self.word()
        self.skip(_SPACE)
        self.expect("in")
        branches: list[tuple[list[_Word], _Command]] = []
        while True:
            self.skip(_SPACE)
            if self.word_is(("esac",)):
                self.at += 4
                return _matched(subject, branches)
            self.take("(")
            patterns = []
            while True:
                self.skip(_BLANKS)
                patterns.append(self.word())
                self.skip(_BLANKS)
                if not self.take("|"):
                    break
            self.expect(")")
            branches.append((patterns, self.commands((";;", "esac"))))
            self.take(";;&") or self.take(";;")

    def function(self, name: str) -> _Command:
        self.skip(_BLANKS)
        if self.take("("):
            self.skip(_BLANKS)
            self.expect(")")
        self.skip(_SPACE)
        self.command()

        def run(shell: _Shell) -> _Truth:
            shell.functions.add(name)
            return True

        return run

    def arithmetic(self) -> _Command:
        end = self.text.find("))", self.at)
        if end < 0:
            raise self.error(")) is missing")
        text = self.text[self.at + 2 : end]
        self.at = end + 2

        def run(shell: _Shell) -> _Truth:
            if ";" in text or "," in text:
                shell.lose()
                return None
            result = shell.arithmetic(text)
            return None if result is None else result != 0

        return run

    def test(self) -> _Command:
        self.at += 2
        words: list[_Word | str] = []
        while True:
            self.skip(_INNER_SPACE)
            if self.at >= len(self.text):
                raise self.error("]] is missing")
            if self.word_is(("]]",)):
                self.at += 2
                return lambda shell: _Test(
                    shell, [word if isinstance(word, str) else word.text(shell) for word in words], single=False
                ).run()
            operator = next((one for one in ("&&", "||", "(", ")", "<", ">") if self.take(one)), None)
            if operator is not None:
                words.append(operator)
            else:
                words.append(self.word(expression=words[-1:] == ["=~"]))
                if words[-1].raw in _BINARY or words[-1].raw == "!":  # type: ignore[union-attr]
                    words[-1] = words[-1].raw  # type: ignore[union-attr]

    def simple(self) -> _Command:
        assignments: list[_Command] = []
        words: list[_Word] = []
        while True:
            self.skip(_BLANKS)
            if self.at >= len(self.text) or self.text[self.at] in "\n;&|)" or self.redirections():
                if self.at < len(self.text) and self.text[self.at] not in "\n;&|)":
                    continue
                break
            if self.text[self.at] == "#":
                self.skip(_COMMENT)
                break
            if not words or words[0].raw in _DECLARATIONS:
                found = _ASSIGNMENT.match(self.text, self.at)
                if found is not None:
                    self.at = found.end()
                    assignments.append(self.assignment(found.group(1), found.group(2), bool(found.group(3))))
                    continue
            if self.text[self.at] == "(" and len(words) == 1 and _NAME.fullmatch(words[0].raw):
                return self.function(words[0].raw)
            before = self.at
            words.append(self.word())
            if self.at == before:
                raise self.error(f"an unexpected {self.text[self.at]}")
        return _simple(assignments, words)

    def assignment(self, name: str, index: str | None, append: bool) -> _Command:
        where = None if index is None else _index(index)
        if index is None and self.take("("):
            elements: list[tuple[Callable[[_Shell], int | None] | None, _Word]] = []
            while True:
                self.skip(_INNER_SPACE)
                if self.at >= len(self.text):
                    raise self.error(") is missing")
                if self.take(")"):
                    return _array(name, elements, append)
                placed = re.compile(r"\[([^]\n]*)\]=").match(self.text, self.at)
                if placed is not None:
                    self.at = placed.end()
                before = self.at
                element = self.word()
                if self.at == before and placed is None:
                    raise self.error(f"an unexpected {self.text[self.at]}")
                elements.append((None if placed is None else _index(placed.group(1)), element))
        value = self.word()

        def run(shell: _Shell) -> _Truth:
            text = value.text(shell)
            shell.set(name, 0 if where is None else where(shell), text, append=append)
            return None if text is None else True

        return run

    # -- words

    def word(self, *, expression: bool = False) -> _Word:
        """A word; with `expression` one after `=~`, in which parentheses and bars are letters."""
        start, text, parts = self.at, self.text, list[_Part]()
        while self.at < len(text):
            run = _RUN.match(text, self.at)
            if run is not None:
                parts.append((False, run.group()))
                self.at = run.end()
                continue
            letter = text[self.at]
            if letter == "'":
                parts.append((True, self.until("'")))
            elif letter == '"':
                self.at += 1
                parts += self.quoted()
            elif letter == "\\":
                following = text[self.at + 1 : self.at + 2]
                self.at += 2
                if following != "\n":
                    parts.append((True, ("\\" if expression else "") + following))
            elif letter == "$":
                parts.append((False, self.dollar(quoted=False)))
            elif letter == "`":
                self.backtick()
                parts.append((False, _no_value))
            elif expression and letter in "()|<>&;":
                parts.append((False, letter))
                self.at += 1
            elif letter == "(" and text[self.at - 1] in "?*+@!" and self.at > start:
                self.at += 1
                end = text.find(")", self.at)
                if end < 0:
                    raise self.error(") is missing")
                parts.append((False, f"({text[self.at : end]})"))
                self.at = end + 1
            elif letter in "<>" and text.startswith("(", self.at + 1):
                self.at += 2
                self.commands((")",))
                self.expect(")")
                parts.append((False, _no_value))
            else:
                break
        return _Word(text[start : self.at], tuple(parts) or ((True, ""),))

    def until(self, quote: str) -> str:
        end = self.text.find(quote, self.at + 1)
        if end < 0:
            raise self.error(f"the quote {quote} is not closed")
        inside = self.text[self.at + 1 : end]
        self.at = end + 1
        return inside

    def quoted(self) -> list[_Part]:
        """What stands between double quotes, of which the first was read."""
        parts: list[_Part] = [(True, "")]
        opened = self.at
        while True:
            run = _QUOTED_RUN.match(self.text, self.at)
            if run is not None:
                parts.append((True, run.group()))
                self.at = run.end()
            letter = self.text[self.at : self.at + 1]
            if letter == "":
                self.at = opened
                raise self.error('the quote " is not closed')
            if letter == '"':
                self.at += 1
                return parts
            if letter == "$":
                parts.append((True, self.dollar(quoted=True)))
            elif letter == "`":
                self.backtick()
                parts.append((True, _no_value))
            else:
                following = self.text[self.at + 1 : self.at + 2]
                self.at += 2
                if following != "\n":
                    parts.append((True, following if following in '$`"\\' else f"\\{following}"))

    def backtick(self) -> None:
        end = re.compile(r"`(?:[^`\\]|\\.)*`", re.DOTALL).match(self.text, self.at)
        if end is None:
            raise self.error("the quote ` is not closed")
        self.at = end.end()

    def dollar(self, *, quoted: bool) -> str | Callable[[_Shell], Value]:
        """An expansion; the dollar sign itself where none follows."""
        self.at += 1
        text = self.text
        if text.startswith("((", self.at):
            end = text.find("))", self.at)
            if end >= 0 and "(" not in text[self.at + 2 : end]:
                expression = text[self.at + 2 : end]
                self.at = end + 2
                return lambda shell: _as_text(shell.arithmetic(expression))
        if self.take("("):
            self.commands((")",))
            self.expect(")")
            return _no_value
        if self.take("{"):
            return self.braces()
        if not quoted and text.startswith("'", self.at):
            inside = re.compile(r"'((?:[^'\\]|\\.)*)'", re.DOTALL).match(text, self.at)
            if inside is None:
                raise self.error("the quote ' is not closed")
            self.at = inside.end()
            return inside.group(1) if "\\" not in inside.group(1) else _no_value
        if not quoted and text.startswith('"', self.at):
            return ""  # a text to translate: its quotes are read next
        found = _NAME.match(text, self.at)
        if found is not None:
            self.at = found.end()
            name = found.group()
            return lambda shell: shell.get(name)
        if text[self.at : self.at + 1] in tuple("@*#?$!-0123456789"):
            self.at += 1
            return _no_value
        return "$"

    def braces(self) -> Callable[[_Shell], Value]:
        """What stands between ${ and }."""
        found = re.compile(r"(#?)([A-Za-z_]\w*)(?:\[([^]\n}]*)\])?").match(self.text, self.at)
        if found is not None:
            self.at = found.end()
        operator = re.compile(r":?[-+=?]|[#%/^,@:!]|\}|").match(self.text, self.at)
        assert operator is not None
        self.at = operator.end()
        argument = None
        if operator.group() != "}":
            argument = self.until_brace()
        if found is None:
            return _no_value
        counted, name, index = found.groups()
        return _expansion(name, index, bool(counted), "" if operator.group() == "}" else operator.group(), argument)

    def until_brace(self) -> _Word:
        """The rest of an expansion as a word. Blanks and quotes may stand in it."""
        self.depth += 1
        if self.depth > _DEPTH_LIMIT:
            raise self.error("constructs are nested too deeply")
        start, parts = self.at, list[_Part]()
        while not self.take("}"):
            letter = self.text[self.at : self.at + 1]
            if letter == "":
                raise self.error("} is missing")
            if letter == '"':
                self.at += 1
                parts += self.quoted()
            elif letter == "'":
                parts.append((True, self.until("'")))
            elif letter == "$":
                parts.append((False, self.dollar(quoted=False)))
            elif letter == "`":
                self.backtick()
                parts.append((False, _no_value))
            elif letter == "\\":
                parts.append((True, self.text[self.at + 1 : self.at + 2]))
                self.at += 2
            else:
                parts.append((False, letter))
                self.at += 1
        self.depth -= 1
        return _Word(self.text[start : self.at - 1], tuple(parts) or ((True, ""),))


_INNER_SPACE = re.compile(r"(?:[ \t\r\n]|\\\r?\n|\#[^\n]*)+")
_COMMENT = re.compile(r"\#[^\n]*")


def _nothing(_: _Shell) -> _Truth:
    return None


def _no_value(_: _Shell) -> Value:
    return None


def _as_text(number: int | None) -> Value:
    return None if number is None else str(number)


def _assigned(name: str, index: int, text: str) -> _Command:
    def run(shell: _Shell) -> _Truth:
        shell.set(name, index, text)
        return True

    return run


def _negated(command: _Command) -> _Command:
    def run(shell: _Shell) -> _Truth:
        result = command(shell)
        return None if result is None else not result

    return run


def _connected(first: _Command, operator: str, second: _Command) -> _Command:
    def run(shell: _Shell) -> _Truth:
        result = first(shell)
        if result is None:
            shell.run_maybe(second)
            return None
        return second(shell) if result == (operator == "&&") else result

    return run


def _choice(branches: Sequence[tuple[_Command | None, _Command]]) -> _Command:
    def run(shell: _Shell) -> _Truth:
        certain = True
        for asked, body in branches:
            result = True if asked is None else asked(shell)
            if result is False:
                continue
            if result and certain:
                return body(shell)
            certain = False
            shell.run_maybe(body)
            if result:
                break
        return True if certain else None

    return run


def _loop(body: _Command, condition: _Command | None = None, name: str | None = None) -> _Command:
    """How often is not known: what is set in it is not known either. The second round finds what the first has set."""

    def run(shell: _Shell) -> _Truth:
        if name is not None:
            shell.not_known(name)
        for command in (condition, body, body):
            if command is not None:
                shell.run_maybe(command)
        return None

    return run


def _matched(subject: _Word, branches: Sequence[tuple[list[_Word], _Command]]) -> _Command:
    def run(shell: _Shell) -> _Truth:
        text = subject.text(shell)
        certain = text is not None and _LATER not in text
        for patterns, body in branches:
            result: _Truth = False
            for word in patterns:
                pattern = word.text(shell)
                if text is None or pattern is None or not certain or "(" in pattern:
                    result = _or(result, True if pattern == "*" else None)
                else:
                    result = _or(result, fnmatchcase(text[:_INDEX_LIMIT], _pattern(pattern)))
            if result is False:
                continue
            if result and certain:
                return body(shell)
            certain = False
            shell.run_maybe(body)
            if result:
                break
        return None

    return run


def _index(text: str) -> Callable[[_Shell], int | None]:
    """An array's index: a number, a variable, a sum; `${#NAME[@]}`, the number of elements."""
    plain = re.fullmatch(r"\s*\$\(\((.*)\)\)\s*", text)
    expression = plain.group(1) if plain is not None else text
    if "${#" in expression:
        word = _Parser(expression).word()

        def counted(shell: _Shell) -> int | None:
            value = word.text(shell)
            return int(value) if value is not None and value.isdecimal() else None

        return counted
    return lambda shell: shell.arithmetic(expression)


def _array(
    name: str, elements: Sequence[tuple[Callable[[_Shell], int | None] | None, _Word]], append: bool
) -> _Command:
    def run(shell: _Shell) -> _Truth:
        found: list[tuple[int | None, Value]] = []
        unsure = False
        for where, word in elements:
            if where is not None:
                index = where(shell)
                unsure |= index is None
                found.append((index, word.text(shell)))
            else:
                fields = word.fields(shell)
                unsure |= None in fields and len(word.parts) > 0 and not word.raw.startswith('"')
                found += [(None, value) for value in fields]
        shell.set_array(name, found, append=append)
        if unsure:
            shell.unsure.add(name)
        return True

    return run


def _simple(assignments: Sequence[_Command], words: Sequence[_Word]) -> _Command:
    def run(shell: _Shell) -> _Truth:
        if words and words[0].raw not in _DECLARATIONS:
            return shell.call([field for word in words for field in word.fields(shell)] or [""])
        result: _Truth = True
        for assignment in assignments:
            result = _and(result, assignment(shell))
        return result

    return run


def _in_order(first: _Word, second: _Word) -> _Command:
    """Whether two versions are in the order of `sort -V`, where their numbers tell."""

    def run(shell: _Shell) -> _Truth:
        texts = [first.text(shell), second.text(shell)]
        if any(text is None or _LATER in text for text in texts):
            return None
        one, other = ([int(number) for number in re.findall(r"\d{1,9}", str(text))] for text in texts)
        length = min(len(one), len(other))
        return None if one[:length] == other[:length] and len(one) != len(other) else one <= other

    return run


def _expansion(
    name: str, index: str | None, counted: bool, operator: str, argument: _Word | None
) -> Callable[[_Shell], Value]:
    every = index in ("@", "*")
    where = None if index is None or every else _index(index)

    def run(shell: _Shell) -> Value:
        if every or counted:
            if name in shell.unsure or shell.lost or (name not in shell.values and name not in DIRECTIVES):
                return None
            array = shell.values.get(name, {})
            if counted:
                if not every:
                    return None
                return str(len(array))
            elements = [array[key] for key in sorted(array)]
            value = None if None in elements else " ".join(element for element in elements if element is not None)
        else:
            at = 0 if where is None else where(shell)
            value = None if at is None else shell.get(name, at)
        if not operator:
            return value
        if value is None or operator[-1] not in "-+" or argument is None:
            return None
        if operator == ":-":
            return value or argument.text(shell)
        if operator == ":+":
            return argument.text(shell) if value else ""
        return None

    return run
