"""bash's grammar (bash(1)), as far as configuration uses it: a file becomes a command that a `bash.Shell` can run."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Callable

from safeupdate.errors import FormatError
from safeupdate.formats import bash
from safeupdate.formats.bash import Command, Element, Index, Part, Shell, Truth, Value, Word

_SIZE_LIMIT = 256 << 10
"""Bytes of a file: the longest dkms.conf of Debian's packages (dahdi, lttng-modules) have 12 KB."""

_DEPTH_LIMIT = 40
"""Constructs inside one another."""

_NAME = re.compile(r"[A-Za-z_]\w*")
_VARIABLE = re.compile(r"\$(?:([A-Za-z_]\w*)|\{([A-Za-z_]\w*)\})")
_ASSIGNMENT = re.compile(r"([A-Za-z_]\w*)(?:\[((?:[^][\n]|\[[^][\n]{0,80}\]){0,80})\])?(\+)?=")
_PLACED = re.compile(r"\[([^]\n]{1,80})\]=")
_PLAIN = re.compile(
    r"""([A-Za-z_]\w*)(?:\[(\d{1,4})\])?=(?:"([^"$`\\]*)"|'([^']*)'|([\w./:+@%,-]*))"""
    r"""(?=[ \t\r]*(?:\n|;(?!;)|\Z)|[ \t]+\#)"""
)
"""What most lines are: an assignment of a text."""

_BLANKS = re.compile(r"(?:[ \t\r]|\\\r?\n)+")
_SPACE = re.compile(r"(?:[ \t\r\n;]|\\\r?\n|\#[^\n]*)+")
_INNER_SPACE = re.compile(r"(?:[ \t\r\n]|\\\r?\n|\#[^\n]*)+")
_COMMENT = re.compile(r"\#[^\n]*")
_RUN = re.compile(r"[^\s;&|<>()\"'\\$`]+")
_QUOTED_RUN = re.compile(r'[^"\\$`]+')
_REDIRECTION = re.compile(r"(?:\d*|&)(?:>>|>&|>\||>(?!\()|<<<|<<|<&|<>|<(?!\())")
_RESERVED = ("if", "then", "elif", "else", "fi", "case", "esac", "for", "while", "until", "do", "done", "{", "}")
_AFTER_WORD = (*" \t\r\n;&|()<>", "")
_SORTED = re.compile(
    r"\{\s*echo\s+(\"[^\"]*\"|[^\s;]+)\s*;\s*echo\s+(\"[^\"]*\"|[^\s;]+)\s*;\s*\}\s*\|\s*sort\s+(?:-V\s+-C|-C\s+-V|-VC|-CV)"
)
"""A comparison of two versions as Debian's packages write it."""


@lru_cache(maxsize=512)
def program(data: bytes) -> Command:
    if len(data) > _SIZE_LIMIT:
        raise FormatError(f"it is larger than {_SIZE_LIMIT >> 10} KiB")
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

    @contextmanager
    def nested(self) -> Iterator[None]:
        """One construct more inside others."""
        self.depth += 1
        if self.depth > _DEPTH_LIMIT:
            raise self.error("constructs are nested too deeply")
        yield
        self.depth -= 1

    def word_is(self, words: Sequence[str]) -> str | None:
        """The reserved word that stands here, if it is one of these."""
        for word in words:
            end = self.at + len(word)
            if self.text.startswith(word, self.at) and (
                (not word[-1].isalpha() and word not in "{}") or self.text[end : end + 1] in _AFTER_WORD
            ):
                return word
        return None

    def commands(self, ends: Sequence[str]) -> Command:
        """Commands until one of the reserved words `ends`, which is left to be read."""
        found: list[Command] = []
        while True:
            self.separators(ends)
            plain = _PLAIN.match(self.text, self.at)
            if plain is not None:
                self.at = plain.end()
                name, index, double, single, bare = plain.groups()
                found.append(bash.assigned(name, int(index or 0), double or single or bare or ""))
                continue
            if self.at >= len(self.text):
                if ends:
                    raise self.error(f"the file ends before {ends[0]}")
                break
            if self.word_is(ends) or self.text[self.at] == ")":
                break
            found.append(self.and_or())
            self.skip(_BLANKS)
            if self.take("&"):
                found[-1] = bash.nothing  # a process of its own
        return bash.sequence(found)

    def separators(self, ends: Sequence[str]) -> None:
        """Blanks, newlines, comments and single semicolons."""
        while self.at < len(self.text):
            if ";;" in ends and self.text.startswith((";;", ";&"), self.at):
                return
            before = self.at
            if self.text[self.at] == ";":
                self.at += 1
            else:
                self.skip(_INNER_SPACE)
            if self.at == before:
                return

    def and_or(self) -> Command:
        found = [("", self.pipeline())]
        while True:
            self.skip(_BLANKS)
            operator = "&&" if self.take("&&") else "||" if self.take("||") else ""
            if not operator:
                return found[0][1] if len(found) == 1 else bash.connected(found)
            self.skip(_INNER_SPACE)
            found.append((operator, self.pipeline()))

    def pipeline(self) -> Command:
        self.skip(_BLANKS)
        negated = False
        while self.word_is(("!",)) and self.text[self.at + 1 : self.at + 2] in (" ", "\t"):
            negated = not negated
            self.at += 1
            self.skip(_BLANKS)
        ordered = _SORTED.match(self.text, self.at)
        if ordered is not None:
            self.at = ordered.end()
            command = bash.in_order(*(_Parser(version).word() for version in ordered.groups()))
        else:
            command = self.command()
            self.skip(_BLANKS)
            while self.text.startswith("|", self.at) and not self.text.startswith("||", self.at):
                self.at += 2 if self.text.startswith("|&", self.at) else 1
                self.skip(_INNER_SPACE)
                self.command()
                command = bash.nothing  # each part is a process of its own
                self.skip(_BLANKS)
        return command if not negated else bash.negated(command)

    def command(self) -> Command:
        with self.nested():
            return self.compound()

    def compound(self) -> Command:
        if self.text.startswith("((", self.at):
            return self.arithmetic()
        if self.text.startswith("[[", self.at) and self.text[self.at + 2 : self.at + 3].isspace():
            return self.redirected(self.test())
        if self.take("("):
            self.commands((")",))
            self.expect(")")
            return self.redirected(bash.nothing)  # a process of its own
        word = self.word_is((*_RESERVED, "function", "select"))
        if word is None:
            return self.simple()
        self.at += len(word)
        if word == "if":
            return self.redirected(self.condition())
        if word in ("while", "until"):
            condition = self.commands(("do",))
            return self.redirected(bash.loop(self.body("do", "done"), condition))
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

    def redirected(self, command: Command) -> Command:
        self.redirections()
        return command

    def redirections(self) -> bool:
        """Redirections are read and have no effect here."""
        any_found = False
        while True:
            self.skip(_BLANKS)
            found = _REDIRECTION.match(self.text, self.at)
            if found is None:
                return any_found
            self.at = found.end()
            if re.fullmatch(r"\d*<<", found.group()):
                self.here_document()
            else:
                self.skip(_BLANKS)
                self.word()
            any_found = True

    def here_document(self) -> None:
        """Leave out the lines after this one, down to the word that ends them."""
        self.take("-")
        self.skip(_BLANKS)
        word = re.sub(r"[\"'\\]", "", self.word().raw)
        line = self.text.find("\n", self.at)
        end = re.compile(rf"^\t*{re.escape(word)}$", re.MULTILINE).search(self.text, line + 1) if line >= 0 else None
        if end is None:
            raise self.error("a here document does not end")
        self.text = self.text[:line] + self.text[end.end() :]

    def expect(self, word: str) -> None:
        if not self.take(word):
            raise self.error(f"{word} is missing")

    def name(self) -> str:
        found = _NAME.match(self.text, self.at)
        if found is None:
            raise self.error("a name is missing")
        self.at = found.end()
        return found.group()

    def body(self, begin: str, end: str) -> Command:
        self.skip(_SPACE)
        self.expect(begin)
        commands = self.commands((end,))
        self.expect(end)
        return commands

    def condition(self) -> Command:
        branches: list[tuple[Command | None, Command]] = []
        while True:
            asked = self.commands(("then",))
            self.expect("then")
            branches.append((asked, self.commands(("elif", "else", "fi"))))
            if self.take("elif"):
                continue
            if self.take("else"):
                branches.append((None, self.commands(("fi",))))
            self.expect("fi")
            return bash.choice(branches)

    def iteration(self) -> Command:
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
                while self.at < len(self.text) and self.text[self.at] not in ";\n#":
                    before = self.at
                    self.word()
                    self.skip(_BLANKS)
                    if self.at == before:
                        raise self.error(f"an unexpected {self.text[self.at]}")
        self.skip(_SPACE)
        if self.text.startswith("{", self.at):
            return bash.loop(self.body("{", "}"), None, name)
        return bash.loop(self.body("do", "done"), None, name)

    def choice(self) -> Command:
        self.skip(_BLANKS)
        subject = self.word()
        self.skip(_SPACE)
        self.expect("in")
        branches: list[tuple[list[Word], Command]] = []
        while True:
            self.skip(_SPACE)
            if self.word_is(("esac",)):
                self.at += 4
                return bash.matched(subject, branches)
            self.take("(")
            patterns = []
            while True:
                self.skip(_BLANKS)
                patterns.append(self.word())
                self.skip(_BLANKS)
                if not self.take("|"):
                    break
            self.expect(")")
            branches.append((patterns, self.commands((";;", ";&", "esac"))))
            if self.take(";;&") or self.take(";&"):
                raise self.error("a branch of case that goes on into the next is not supported")
            self.take(";;")

    def function(self, name: str) -> Command:
        self.skip(_BLANKS)
        if self.take("("):
            self.skip(_BLANKS)
            self.expect(")")
        self.skip(_SPACE)
        self.command()

        def run(shell: Shell) -> Truth:
            shell.functions.add(name)
            return True

        return run

    def arithmetic(self) -> Command:
        end = self.text.find("))", self.at)
        if end < 0:
            raise self.error(")) is missing")
        text = self.text[self.at + 2 : end]
        self.at = end + 2

        def run(shell: Shell) -> Truth:
            if ";" in text or "," in text:
                shell.lose()
                return None
            result = shell.arithmetic(text)
            return None if result is None else result != 0

        return run

    def test(self) -> Command:
        self.at += 2
        words: list[str | Callable[[Shell], Value]] = []
        while True:
            self.skip(_INNER_SPACE)
            if self.at >= len(self.text):
                raise self.error("]] is missing")
            if self.word_is(("]]",)):
                self.at += 2
                return bash.tested(words)
            before = words[-1] if words else ""
            operator = next((one for one in ("&&", "||", "(", ")", "<", ">") if self.take(one)), None)
            if operator is not None and before != "=~":
                words.append(operator)
                continue
            self.at -= len(operator or "")
            start = self.at
            word = self.word(expression=before == "=~")
            if self.at == start:
                raise self.error(f"an unexpected {self.text[self.at]}")
            if word.raw == "!" or (word.raw in bash.BINARY and before not in bash.BINARY):
                words.append(word.raw)
            else:
                words.append(
                    word.expression if before == "=~" else word.pattern if before in ("=", "==", "!=") else word.text
                )

    def simple(self) -> Command:
        assignments: list[Command] = []
        words: list[Word] = []
        while True:
            self.skip(_BLANKS)
            if self.at >= len(self.text) or self.text[self.at] in "\n;&|)" or self.redirections():
                if self.at < len(self.text) and self.text[self.at] not in "\n;&|)":
                    continue
                break
            if self.text[self.at] == "#":
                self.skip(_COMMENT)
                break
            if not words or words[0].raw in bash.DECLARATIONS:
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
        return bash.simple(assignments, words)

    def assignment(self, name: str, index: str | None, append: bool) -> Command:
        where = None if index is None else self.index(index)
        if index is None and self.take("("):
            return bash.array(name, self.elements(), append=append)
        value = self.word()

        def run(shell: Shell) -> Truth:
            text = value.text(shell)
            shell.set(name, 0 if where is None else where(shell), text, append=append)
            return None if text is None else True

        return run

    def elements(self) -> list[Element]:
        """The rest of what stands between the parentheses of an array."""
        found: list[Element] = []
        while True:
            self.skip(_INNER_SPACE)
            if self.at >= len(self.text):
                raise self.error(") is missing")
            if self.take(")"):
                return found
            start = self.at
            placed = _PLACED.match(self.text, self.at)
            if placed is not None:
                self.at = placed.end()
            word = self.word()
            if self.at == start:
                raise self.error(f"an unexpected {self.text[self.at]}")
            found.append(Element(None if placed is None else self.index(placed.group(1)), word))

    def index(self, text: str) -> Index:
        """An array's index: a number, a variable, a sum; `${#NAME[@]}`, the number of elements."""
        inside = re.fullmatch(r"\s*\$\(\((.*)\)\)\s*", text)
        expression = text if inside is None else inside.group(1)
        if "${#" not in expression:
            return lambda shell: shell.arithmetic(expression)
        if self.depth > _DEPTH_LIMIT:
            raise self.error("constructs are nested too deeply")
        parser = _Parser(expression)
        parser.depth = self.depth + 1
        return bash.number(parser.word())

    # -- words

    def word(self, *, expression: bool = False) -> Word:
        """A word; with `expression` one after `=~`, in which parentheses and bars are letters."""
        start, text, parts = self.at, self.text, list[Part]()
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
                if expression and following.isalnum():
                    parts.append((False, f"\\{following}"))
                elif following != "\n":
                    parts.append((True, following))
            elif letter == "$":
                parts.append((False, self.dollar(quoted=False)))
            elif letter == "`":
                self.backtick()
                parts.append((False, bash.no_value))
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
                parts.append((False, bash.no_value))
            else:
                break
        return Word(text[start : self.at], tuple(parts) or ((True, ""),))

    def until(self, quote: str) -> str:
        end = self.text.find(quote, self.at + 1)
        if end < 0:
            raise self.error(f"the quote {quote} is not closed")
        inside = self.text[self.at + 1 : end]
        self.at = end + 1
        return inside

    def quoted(self) -> list[Part]:
        """What stands between double quotes, of which the first was read."""
        parts: list[Part] = [(True, "")]
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
                parts.append((True, bash.no_value))
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

    def dollar(self, *, quoted: bool) -> str | Callable[[Shell], Value]:
        """An expansion; the dollar sign itself where none follows."""
        found = _VARIABLE.match(self.text, self.at)
        if found is not None:
            self.at = found.end()
            return bash.variable(found.group(1) or found.group(2))
        self.at += 1
        text = self.text
        if text.startswith("((", self.at):
            end = text.find("))", self.at)
            if end >= 0 and "(" not in text[self.at + 2 : end]:
                expression = text[self.at + 2 : end]
                self.at = end + 2
                return lambda shell: bash.as_text(shell.arithmetic(expression))
        if self.take("("):
            self.commands((")",))
            self.expect(")")
            return bash.no_value
        if self.take("{"):
            return self.braces()
        if not quoted and text.startswith("'", self.at):
            inside = re.compile(r"'((?:[^'\\]|\\.)*)'", re.DOTALL).match(text, self.at)
            if inside is None:
                raise self.error("the quote ' is not closed")
            self.at = inside.end()
            return inside.group(1) if "\\" not in inside.group(1) else bash.no_value
        if not quoted and text.startswith('"', self.at):
            return ""  # a text to translate: its quotes are read next
        if text[self.at : self.at + 1] in tuple("@*#?$!-0123456789"):
            self.at += 1
            return bash.no_value
        return "$"

    def braces(self) -> Callable[[Shell], Value]:
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
            return bash.no_value
        counted, name, index = found.groups()
        where = index if index is None or index in "@*" else self.index(index)
        return bash.expansion(name, where, bool(counted), "" if operator.group() == "}" else operator.group(), argument)

    def until_brace(self) -> Word:
        """The rest of an expansion as a word. Blanks and quotes may stand in it."""
        with self.nested():
            return self.argument()

    def argument(self) -> Word:
        start, parts = self.at, list[Part]()
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
                parts.append((False, bash.no_value))
            elif letter == "\\":
                parts.append((True, self.text[self.at + 1 : self.at + 2]))
                self.at += 2
            else:
                parts.append((False, letter))
                self.at += 1
        return Word(self.text[start : self.at - 1], tuple(parts) or ((True, ""),))
