"""What a file that bash sources has set, as far as that can be told without running it (bash(1)).

Assignments, arrays, quotes and expansions are read as bash does, and conditions where they ask for what is known here:
a variable, an option of the kernel's configuration. What only bash could compute (a command's output, a condition on
other files) is None, "not known", and so is whatever hangs on it.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import Callable, NamedTuple, Optional, Union

from safeupdate.errors import FormatError
from safeupdate.formats import extended_regex

LATER = "\0"
"""Stands in a value for what will be filled in and is not known yet: no file holds this letter."""

_VALUE_LIMIT = 4096
_INDEX_LIMIT = 512
"""Letters of a value and elements of an array: zfs's longest value has 1,400, lttng-modules' arrays some 100. What has
more is not known."""

_MATCHES = 50
"""Regular expressions that a file may ask for."""

_DEPTH_LIMIT = 40
"""Parentheses inside one another."""

_OPTION = re.compile(r"\^?(CONFIG_\w+)=(?:(\[ym\]|\[my\]|y|m)\$?)?")
_NAME = re.compile(r"[A-Za-z_]\w*")
_SETS = re.compile(r"(?<![=!<>])=(?!=)|\+\+|--")
"""What in an expression of numbers sets a variable."""

_EXPANDS = re.compile(r"[*?{]|\[[^]]*\]")
"""What in a word that is not quoted may make several of it: names of files, braces."""

DECLARATIONS = ("export", "declare", "typeset", "local", "readonly")

Value = Optional[str]
Truth = Optional[bool]


class _Stop(Exception):
    """The file ends itself (exit, return)."""


class Shell:
    """What is set so far. Each command of the program is a function of it that returns whether the command succeeds."""

    def __init__(
        self,
        given: Mapping[str, str],
        *,
        unset: frozenset[str] = frozenset(),
        options: Mapping[str, str] | None = None,
        option_files: Collection[str] = (),
    ) -> None:
        """`given` are the variables that whoever has the file read sets before, `unset` those that it unsets: any other
        may come from the environment. `options` is the kernel's configuration, `option_files` where a file may look
        for it.
        """
        self.given = given
        self.cleared = unset
        self.options = options
        self.option_files = option_files
        self.values: dict[str, dict[int, Value]] = {}
        self.unsure: set[str] = set()
        self.functions: set[str] = set()
        self.maybe = 0
        self.in_loop = False
        self.lost = False
        self.has_options = False
        self.matches = 0

    def source(self, command: Command) -> None:
        """Run a file in a new shell, to which the files before hand on the variables of `unset` alone."""
        self.values = {name: value for name, value in self.values.items() if name in self.cleared}
        self.values.update((name, {0: value}) for name, value in self.given.items())
        self.unsure &= self.cleared
        self.functions = set()
        self.maybe = 0
        self.in_loop = self.lost = self.has_options = False
        with suppress(_Stop):
            command(self)

    def get(self, name: str, index: int = 0) -> Value:
        array = self.values.get(name)
        if array is not None and index in array:
            return array[index]
        if name in self.unsure or self.lost:
            return None
        if array is not None or name in self.cleared:
            return ""
        if name.startswith("CONFIG_") and self.has_options and self.options is not None:
            return self.options.get(name, "")
        return None  # the environment may have it

    def set(self, name: str, index: int | None, value: Value, *, append: bool = False) -> None:
        if append and index is not None:
            before = self.get(name, index)
            value = None if before is None or value is None else before + value
        if value is not None and len(value) > _VALUE_LIMIT:
            value = None
        array = self.values.setdefault(name, {})
        if index is None or not 0 <= index < _INDEX_LIMIT:
            self.not_known(name)  # it may be any of them
        elif self.maybe and (self.in_loop or self.get(name, index) != value):
            array[index] = None
        else:
            array[index] = value

    def set_array(self, name: str, elements: Sequence[Element], *, append: bool) -> None:
        """Set the elements one behind another, or where they say; behind one that may be several, at no known place."""
        if not append:
            self.unset(name)
        following: int | None = max(self.values.setdefault(name, {}), default=-1) + 1
        if name in self.unsure or self.maybe:
            following = None
        for element in elements:
            place = element.at(self) if element.at is not None else following
            for value in element.values(self):
                if place is None and element.at is None:
                    self.unsure.add(name)
                else:
                    self.set(name, place, value)
                place = None if place is None or (value is None and element.splits) else place + 1
            following = place

    def unset(self, name: str) -> None:
        """Nothing is set, or, if that is not certain, anything."""
        if self.maybe:
            self.not_known(name)
        else:
            self.values[name] = {}
            self.unsure.discard(name)

    def not_known(self, name: str) -> None:
        """Something has set this variable, to something."""
        self.values[name] = {}
        self.unsure.add(name)

    def lose(self) -> None:
        """Anything may have been set."""
        self.values = {name: {0: value} for name, value in self.given.items()}
        self.unsure = set(self.cleared)
        self.lost = True

    def run_maybe(self, command: Command) -> None:
        """Run what the real shell runs or not."""
        self.maybe += 1
        try:
            command(self)
        except _Stop:
            return  # from here on nothing is certain
        self.maybe -= 1

    # -- commands

    def call(self, words: list[Value]) -> Truth:
        name, arguments = words[0], words[1:]
        if name is None or name in self.functions or name == "eval":
            self.lose()
        elif name in ("true", ":"):
            return True
        elif name == "false":
            return False
        elif name in ("[", "test"):
            return Test(self, arguments[:-1] if name == "[" else arguments, single=True).run()
        elif name in (".", "source"):
            self._source(arguments)
        elif name == "exit" or (name == "exec" and arguments):
            self.lose()  # whoever has the file read sees nothing of it
            raise _Stop
        elif name == "return":
            raise _Stop
        elif name in ("grep", "egrep"):
            return self._grep(arguments)
        elif name == "unset":
            for argument in arguments:
                if argument is None or argument.startswith("-"):
                    self.lose()
                elif "[" in argument:
                    self.not_known(argument.partition("[")[0])
                else:
                    self.unset(argument)
        elif name in ("read", "mapfile", "readarray", "printf", "getopts", "let"):
            for argument in arguments:
                variable = re.match(r"[A-Za-z_]\w*", argument or "")
                if variable is not None:
                    self.not_known(variable.group())
        return None

    def _source(self, arguments: list[Value]) -> None:
        path = arguments[0] if arguments else None
        if path is None or path not in self.option_files:
            self.lose()
        elif not self.maybe:
            self.has_options = True

    def _grep(self, arguments: list[Value]) -> Truth:
        """A question about one option of the kernel's configuration."""
        if self.options is None or None in arguments:
            return None
        words = [argument for argument in arguments if argument is not None and not re.fullmatch("-[qsE]+", argument)]
        asked = _OPTION.fullmatch(words[0]) if len(words) == 2 and words[1] in self.option_files else None
        if asked is None:
            return None
        name, values = asked.groups()
        return name in self.options if values is None else self.options.get(name) in (*values.strip("[]"),)

    def arithmetic(self, text: str) -> int | None:
        """The value of an expression of sums, with what it sets; None where it is not known."""
        changed = re.match(r"\s*(?:(\+\+|--)\s*)?([A-Za-z_]\w*)\s*(\+\+|--|[-+]?=(?!=))?(.*)$", text, re.DOTALL)
        if _SETS.search(text if changed is None else changed.group(4)):
            for name in _NAME.findall(text):
                self.not_known(name)
            return None
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
        # A zero at the beginning makes it octal.
        return int(text) if text is not None and re.fullmatch(r"0|-?[1-9][0-9]{0,8}", text) else None


Command = Callable[[Shell], Truth]
Index = Callable[[Shell], Optional[int]]
Part = tuple[bool, Union[str, Callable[[Shell], Value]]]
"""A piece of a word: whether it was quoted, and its text or what it expands to."""


class Word(NamedTuple):
    """A word as it stands there, and its pieces."""

    raw: str
    parts: tuple[Part, ...]

    def text(self, shell: Shell) -> Value:
        """The word's value as one."""
        if self.raw.startswith("~") or ":~" in self.raw:
            return None  # somebody's home
        if len(self.parts) == 1 and isinstance(self.parts[0][1], str):
            return self.parts[0][1]
        return self._joined(shell, lambda text: text)

    def pattern(self, shell: Shell) -> Value:
        """The word's value as a pattern of file names, in which what was quoted stands for itself."""
        return self._joined(shell, lambda text: re.sub(r"[*?[]", r"[\g<0>]", text))

    def expression(self, shell: Shell) -> Value:
        """The word's value as a regular expression, in which what was quoted stands for itself."""
        return self._joined(shell, lambda text: re.sub(r"[][\\.*+?^$|(){}]", r"\\\g<0>", text))

    def fields(self, shell: Shell) -> list[Value]:
        """The word's value, where it was not quoted split at blanks."""
        value = self.text(shell)
        if not self.splits or value is None:
            return [value]
        return [None] if "IFS" in shell.values or _EXPANDS.search(value) else [*value.split()]

    @property
    def splits(self) -> bool:
        """Whether it may become several words, or none."""
        return any(not quoted and (callable(part) or bool(_EXPANDS.search(part))) for quoted, part in self.parts)

    def _joined(self, shell: Shell, escape: Callable[[str], str]) -> Value:
        found: list[str] | None = []
        length = 0
        for quoted, part in self.parts:
            text = part if isinstance(part, str) else part(shell)  # all of them: an expansion may set something
            length += 0 if text is None else len(text)
            if text is None or length > _VALUE_LIMIT:
                found = None
            elif found is not None:
                found.append(escape(text) if quoted else text)
        return None if found is None else "".join(found)


class Element(NamedTuple):
    """One word between the parentheses of an array, with its index where it says one."""

    at: Index | None
    word: Word

    def values(self, shell: Shell) -> list[Value]:
        """The elements that it becomes."""
        return [self.word.text(shell)] if self.at is not None else self.word.fields(shell)

    @property
    def splits(self) -> bool:
        """Whether it may become several elements, or none."""
        return self.at is None and self.word.splits


class Test:
    """What stands between [ and ], or [[ and ]]: words, evaluated in three values."""

    def __init__(self, shell: Shell, words: Sequence[Value], *, single: bool) -> None:
        self.shell = shell
        self.words = list(words)
        self.at = 0
        self.single = single
        self.both, self.either = ("-a", "-o") if single else ("&&", "||")

    def run(self) -> Truth:
        result = self.any_of(0)
        return result if self.at == len(self.words) else None

    def any_of(self, depth: int) -> Truth:
        if depth > _DEPTH_LIMIT:
            return None
        result = self.all_of(depth)
        while self.peek() == self.either:
            self.at += 1
            result = _or(result, self.all_of(depth))
        return result

    def all_of(self, depth: int) -> Truth:
        result = self.one(depth)
        while self.peek() == self.both:
            self.at += 1
            result = _and(result, self.one(depth))
        return result

    def peek(self, ahead: int = 0) -> Value:
        return self.words[self.at + ahead] if self.at + ahead < len(self.words) else ""

    def one(self, depth: int) -> Truth:
        negated = False
        while self.peek() == "!":
            self.at += 1
            negated = not negated
        result = self.primary(depth)
        return result if result is None else result != negated

    def primary(self, depth: int) -> Truth:
        left = self.words[self.at : self.at + 3]
        if left[:1] == ["("] and len(left) > 1:
            self.at += 1
            result = self.any_of(depth + 1)
            if self.peek() != ")":
                self.at = len(self.words) + 1
            self.at += 1
            return result
        if len(left) == 3 and left[1] in BINARY:
            self.at += 3
            return self.binary(left[0], str(left[1]), left[2])
        if len(left) >= 2 and left[0] is not None and re.fullmatch("-[a-zA-Z]", left[0]):
            self.at += 2
            return self.unary(left[0], left[1])
        self.at += 1
        return None if not left or left[0] is None or LATER in left[0] else left[0] != ""

    def unary(self, operator: str, value: Value) -> Truth:
        if value is None:
            return None
        if operator in ("-n", "-z"):
            return (value != "") == (operator == "-n")
        if operator in ("-e", "-f", "-r", "-s") and value in self.shell.option_files:
            return None if self.shell.options is None else True
        return None

    def binary(self, one: Value, operator: str, other: Value) -> Truth:
        if one is None or other is None or LATER in one or LATER in other:
            return None
        if operator in ("=", "==", "!="):
            same = one == other if self.single else like(one, other)
            return same == (operator != "!=")
        if operator == "=~":
            self.shell.matches += 1
            return matches(other, one) if self.shell.matches <= _MATCHES else None
        if operator in ("<", ">"):
            if re.search(r"[^0-9.]", one + other):
                return None  # the locale decides
            return one < other if operator == "<" else one > other
        if not all(re.fullmatch(r"-?\d{1,9}", number) for number in (one, other)):
            return None
        difference = int(one) - int(other)
        return {"-eq": difference == 0, "-ne": difference != 0, "-lt": difference < 0, "-le": difference <= 0}.get(
            operator, difference > 0 if operator == "-gt" else difference >= 0
        )


BINARY = ("=", "==", "!=", "=~", "<", ">", "-eq", "-ne", "-lt", "-le", "-gt", "-ge")


def matches(pattern: str, text: str) -> bool | None:
    """Whether bash's `[[ text =~ pattern ]]` holds; None where the pattern is more than is understood here."""
    try:
        return extended_regex.search(pattern, text)
    except FormatError:
        return None


def like(text: str, pattern: str) -> bool:
    """Whether a pattern of file names holds. One with many stars would take long, and is taken to the letter."""
    return fnmatchcase(text, pattern) if pattern.count("*") <= 3 else text == pattern


def _and(one: Truth, other: Truth) -> Truth:
    return False if one is False or other is False else None if one is None or other is None else True


def _or(one: Truth, other: Truth) -> Truth:
    return True if one is True or other is True else None if one is None or other is None else False


# -- what commands are put together of ---------------------------------------------------------------------------


def nothing(_: Shell) -> Truth:
    return None


def no_value(_: Shell) -> Value:
    return None


@lru_cache(maxsize=256)
def variable(name: str) -> Callable[[Shell], Value]:
    """$NAME"""
    return lambda shell: shell.get(name)


def as_text(number: int | None) -> Value:
    return None if number is None else str(number)


def sequence(commands: Sequence[Command]) -> Command:
    """Commands one after another."""

    def run(shell: Shell) -> Truth:
        result: Truth = True
        for command in commands:
            result = command(shell)
        return result

    return run


def tested(words: Sequence[str | Callable[[Shell], Value]]) -> Command:
    """[[ ... ]]"""
    return lambda shell: Test(
        shell, [word if isinstance(word, str) else word(shell) for word in words], single=False
    ).run()


def assigned(name: str, index: int, text: str) -> Command:
    def run(shell: Shell) -> Truth:
        shell.set(name, index, text)
        return True

    return run


def negated(command: Command) -> Command:
    def run(shell: Shell) -> Truth:
        result = command(shell)
        return None if result is None else not result

    return run


def connected(commands: Sequence[tuple[str, Command]]) -> Command:
    """Commands, each after && or ||, the first after the empty word."""

    def run(shell: Shell) -> Truth:
        result: Truth = None
        for operator, command in commands:
            if not operator:
                result = command(shell)
            elif result is None:
                shell.run_maybe(command)
            elif result == (operator == "&&"):
                result = command(shell)
        return result

    return run


def choice(branches: Sequence[tuple[Command | None, Command]]) -> Command:
    def run(shell: Shell) -> Truth:
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


def loop(body: Command, condition: Command | None = None, name: str | None = None) -> Command:
    """How often is not known: what is set in it is not known either. A second round finds what the first has set; a
    loop inside another has it with that one's."""

    def run(shell: Shell) -> Truth:
        if name is not None:
            shell.not_known(name)
        outer, shell.in_loop = shell.in_loop, True
        for command in (condition, body) if outer else (condition, body, condition, body):
            if command is not None:
                shell.run_maybe(command)
        shell.in_loop = outer
        return None

    return run


def matched(subject: Word, branches: Sequence[tuple[list[Word], Command]]) -> Command:
    def run(shell: Shell) -> Truth:
        text = subject.text(shell)
        certain = True
        for patterns, body in branches:
            result: Truth = False
            for word in patterns:
                pattern = word.pattern(shell)
                if text is None or pattern is None or LATER in text or LATER in pattern or "(" in pattern:
                    result = _or(result, True if pattern == "*" else None)
                else:
                    result = _or(result, like(text, pattern))
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


def number(word: Word) -> Index:
    """A word's value as an index."""

    def run(shell: Shell) -> int | None:
        value = word.text(shell)
        return int(value) if value is not None and re.fullmatch("[0-9]{1,9}", value) else None

    return run


def array(name: str, elements: Sequence[Element], *, append: bool) -> Command:
    """NAME=(...)"""

    def run(shell: Shell) -> Truth:
        shell.set_array(name, elements, append=append)
        return True

    return run


def simple(assignments: Sequence[Command], words: Sequence[Word]) -> Command:
    """Assignments, or a program with its arguments."""

    def run(shell: Shell) -> Truth:
        if words and words[0].raw not in DECLARATIONS:
            found: list[Value] = []
            for word in words:
                fields = word.fields(shell)
                found += fields if len(found) < _INDEX_LIMIT else ()
            if found:
                return shell.call(found)
        elif any(re.match("-.*[nilucA]", word.raw) for word in words):
            shell.lose()
            shell.maybe += 1  # what is assigned from here on becomes something else, or is no such array
            return None
        result: Truth = True
        for assignment in assignments:
            result = _and(result, assignment(shell))
        return result

    return run


def in_order(first: Word, second: Word) -> Command:
    """Whether two versions are in the order of `sort -V`, where their numbers tell."""

    def run(shell: Shell) -> Truth:
        texts = [first.text(shell), second.text(shell)]
        if any(text is None or LATER in text for text in texts):
            return None
        one, other = ([int(number) for number in re.findall(r"\d{1,9}", str(text))] for text in texts)
        length = min(len(one), len(other))
        return None if one[:length] == other[:length] and len(one) != len(other) else one <= other

    return run


def expansion(
    name: str, index: str | Index | None, counted: bool, operator: str, argument: Word | None
) -> Callable[[Shell], Value]:
    every = index in ("@", "*")

    def run(shell: Shell) -> Value:
        if every or counted:
            if name in shell.unsure or shell.lost or (name not in shell.values and name not in shell.cleared):
                return None
            array = shell.values.get(name, {})
            if counted:
                if not every:
                    return None
                return str(len(array))
            elements = [array[key] for key in sorted(array)]
            known = [element for element in elements if element is not None]
            value = " ".join(known) if len(known) == len(elements) else None
        else:
            at = index(shell) if callable(index) else 0
            value = None if at is None else shell.get(name, at)
        if not operator:
            return value
        if operator[-1] == "=" and not value:
            shell.not_known(name)
            return None
        if value is None or operator[-1] not in "-+=" or argument is None:
            return None
        if operator in (":-", ":="):
            return value or argument.text(shell)
        if operator == ":+":
            return argument.text(shell) if value else ""
        return None

    return run
