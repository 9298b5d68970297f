"""GRUB's script language, the text of `grub.cfg` (GRUB manual, "Writing full configuration files directly").

GRUB reads a configuration line by line, takes further lines while a block, an `if` or a quote is open, runs what it
has, and goes on. So a syntax error costs the commands of its own line, or of the open block up to that line, and GRUB
continues with the next line: what stands before and after it counts. `parse` keeps both, with the error between them.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from dataclasses import dataclass
from typing import Literal, NamedTuple, NoReturn, Union

from safeupdate.errors import FormatError

_LIMIT = 4 << 20
"""Bytes; a menu of two hundred snapshots has 1 MB."""

_PIECES_LIMIT = 400_000
"""Words, symbols, and pieces of words; that menu has 150,000. Each takes some hundred bytes of memory."""

DEPTH_LIMIT = 64
"""Blocks within blocks; GRUB itself stops at as many nested commands (MAX_RECURSION_DEPTH)."""

Kind = Literal["text", "quoted", "variable", "quoted-variable"]


@dataclass(frozen=True)
class Piece:
    """A part of a word. `text` is what stands between quotes, a variable's name, or unquoted text, unescaped."""

    kind: Kind
    text: str


@dataclass(frozen=True)
class Word:
    """One argument as it is written; unquoted variables may make it none or several."""

    pieces: tuple[Piece, ...]
    line: int

    @property
    def plain(self) -> str:
        """The word with its variables as `${name}`: for messages, and for words that have none."""
        return "".join(
            "${" + piece.text + "}" if piece.kind.endswith("variable") else piece.text for piece in self.pieces
        )

    @property
    def variables(self) -> tuple[str, ...]:
        """The names of the variables in it."""
        return tuple(piece.text for piece in self.pieces if piece.kind.endswith("variable"))


@dataclass(frozen=True)
class Command:
    """A simple command; `block` is the `{ ... }` at its end, as `menuentry` and `submenu` have it."""

    words: tuple[Word, ...]
    block: Block | None
    line: int


@dataclass(frozen=True)
class If:
    """`branches` are the conditions of `if` and each `elif`, with what they guard."""

    branches: tuple[tuple[Block, Block], ...]
    otherwise: Block
    line: int


@dataclass(frozen=True)
class For:
    """`for name in words`."""

    name: str
    words: tuple[Word, ...]
    body: Block
    line: int


@dataclass(frozen=True)
class While:
    """`while`, or `until` where that is set."""

    condition: Block
    body: Block
    until: bool
    line: int


@dataclass(frozen=True)
class Function:
    """A function definition; the language has them at the top level only."""

    name: str
    body: Block
    line: int


@dataclass(frozen=True)
class Broken:
    """A syntax error: GRUB skips `line` to `end`, and goes on behind them."""

    message: str
    line: int
    end: int


Statement = Union[Command, If, For, While, Function, Broken]
Block = tuple[Statement, ...]


@dataclass(frozen=True)
class Script:
    """A configuration's statements in file order, the broken ones among them."""

    statements: Block

    @property
    def broken(self) -> tuple[Broken, ...]:
        """Its syntax errors."""
        return tuple(statement for statement in self.statements if isinstance(statement, Broken))


def parse(data: bytes) -> Script:
    """The script in `data`; syntax errors are part of the result.

    Raises `FormatError` only beyond the bounds of size and of nesting, with the line.
    """
    if len(data) > _LIMIT:
        raise FormatError("this is too large for a GRUB configuration", f"{len(data)} bytes")
    parser = _Parser(_Lexer(data.decode("utf-8", "surrogateescape")))
    statements: list[Statement] = []
    while parser.lexer.more():
        line = parser.lexer.line()
        try:
            statements += parser.unit()
        except _Error as error:
            statements.append(Broken(error.message, line, parser.resume()))
    return Script(tuple(statements))


class _Error(Exception):
    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class _Token(NamedTuple):
    kind: str
    word: Word | None
    line: int


_BLANK = re.compile(r"[ \t]+")
_CHARACTERS = re.compile(r"[^{}|&$;<> \t\n'\"\\]+")
_VARIABLE = re.compile(r"\$(?:([A-Za-z_][A-Za-z0-9_]*|[0-9]+|[?#*@])|\{([A-Za-z_][A-Za-z0-9_]*|[0-9]+|[?#*@])\})")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_DOUBLE = re.compile(r'[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
_SYMBOL = re.compile(r"\|\||&&|;;|[|&;<>{}\n]")
_RESERVED = frozenset(
    [
        *("[[", "]]", "case", "do", "done", "elif", "else", "esac", "fi", "for", "function", "if", "in", "select"),
        *("then", "until", "while"),
    ]
)
_ARGUMENTS = (_RESERVED - {"[[", "]]"}) | {"name", "word"}
_STARTS = frozenset({"name", "word", "if", "for", "while", "until"})


class _Lexer:
    def __init__(self, text: str) -> None:
        # As GRUB's line reader has it: no carriage returns, a line ends at a NUL, and a line that begins with `#`
        # does not exist, wherever it stands.
        kept = []
        self._numbers = []
        for number, raw in enumerate(text.split("\n"), 1):
            line = raw.replace("\r", "").split("\0", 1)[0]
            if not line.startswith("#"):
                kept.append(line)
                self._numbers.append(number)
        self.text = "\n".join(kept) + "\n" if kept else ""
        self._starts = []
        start = 0
        for line in kept:
            self._starts.append(start)
            start += len(line) + 1
        self.at = 0
        self._left = _PIECES_LIMIT

    def line(self, at: int | None = None) -> int:
        place = self.at if at is None else at
        return self._numbers[max(0, bisect_right(self._starts, min(place, len(self.text) - 1)) - 1)]

    def more(self) -> bool:
        return self.at < len(self.text)

    def _count(self) -> None:
        self._left -= 1
        if self._left < 0:
            raise FormatError("this has too many words for a GRUB configuration", f"line {self.line()}")

    def token(self) -> _Token:
        self._count()
        text = self.text
        blank = _BLANK.match(text, self.at)
        if blank:
            self.at = blank.end()
        if self.at >= len(text):
            return _Token("end", None, self.line())
        if text[self.at] == "#":
            self.at = text.index("\n", self.at)
        line = self.line()
        symbol = _SYMBOL.match(text, self.at)
        if symbol is None:
            return self._word(line)
        self.at = symbol.end()
        return _Token(symbol.group(), None, line)

    def _word(self, line: int) -> _Token:
        text, start = self.text, self.at
        pieces: list[Piece] = []
        while self.at < len(text):
            self._count()
            character = text[self.at]
            run = _CHARACTERS.match(text, self.at)
            if run:
                pieces.append(Piece("text", run.group()))
                self.at = run.end()
            elif character == "'":
                end = text.find("'", self.at + 1)
                if end < 0:
                    self._unterminated()
                pieces.append(Piece("quoted", text[self.at + 1 : end]))
                self.at = end + 1
            elif character == '"' or text.startswith('$"', self.at):
                self._double(pieces, translated=character == "$")
            elif character == "\\":
                if text[self.at + 1] != "\n":
                    pieces.append(Piece("quoted", text[self.at + 1]))
                self.at += 2
                if self.at >= len(text):
                    raise _Error("the file ends behind a backslash")
            elif character == "$":
                self._variable(pieces, "variable")
            else:
                break
        written = text[start : self.at]
        word = Word(tuple(pieces), line)
        if written in _RESERVED:
            return _Token(written, word, line)
        return _Token("name" if _NAME.match(written) else "word", word, line)

    def _unterminated(self) -> NoReturn:
        line = self.line()
        self.at = len(self.text)
        raise _Error(f"the quote that opens in line {line} is never closed")

    def _variable(self, pieces: list[Piece], kind: Kind) -> None:
        self._count()
        found = _VARIABLE.match(self.text, self.at)
        if not found:
            self.at += 1
            raise _Error("a `$` is followed by no variable name")
        pieces.append(Piece(kind, found.group(1) or found.group(2)))
        self.at = found.end()

    def _double(self, pieces: list[Piece], *, translated: bool) -> None:
        start = self.at + (2 if translated else 1)
        found = _DOUBLE.match(self.text, start)
        if not found:
            self._unterminated()
        end = found.end() - 1
        pieces.append(Piece("quoted", ""))
        literal: list[str] = []
        at = start
        while at < end:
            character, following = self.text[at], self.text[at + 1]
            if character == "\\" and following in '$\\"\n':
                literal.append("" if following == "\n" else following)
                at += 2
            elif character == "$" and not translated:
                pieces.append(Piece("quoted", "".join(literal)))
                literal = []
                self.at = at
                self._variable(pieces, "quoted-variable")
                at = self.at
            else:
                literal.append(character)
                at += 1
        pieces.append(Piece("quoted", "".join(literal)))
        self.at = found.end()


class _Parser:
    """Recursive descent over the grammar of GRUB's own parser, one token ahead."""

    def __init__(self, lexer: _Lexer) -> None:
        self.lexer = lexer
        self._ahead: _Token | None = None
        self._depth = 0

    def _peek(self) -> _Token:
        if self._ahead is None:
            self._ahead = self.lexer.token()
        return self._ahead

    def _take(self) -> _Token:
        token = self._peek()
        self._ahead = None
        return token

    def _expect(self, kind: str) -> _Token:
        token = self._peek()
        if token.kind != kind:
            if token.kind == "end":
                raise _Error(f"the file ends where `{kind}` is missing")
            raise _Error(f"`{_shown(token)}` stands where `{_named(kind)}` belongs")
        return self._take()

    def resume(self) -> int:
        """Go on behind an error, at the next line; returns the last line that is lost."""
        if self._ahead is None or self._ahead.kind != "\n":
            newline = self.lexer.text.find("\n", self.lexer.at)
            self.lexer.at = len(self.lexer.text) if newline < 0 else newline + 1
        self._ahead = None
        self._depth = 0
        return self.lexer.line(self.lexer.at - 1)

    def unit(self) -> list[Statement]:
        """What GRUB parses before it runs anything: a line, and the lines that its open blocks need."""
        statements: list[Statement] = []
        while self._peek().kind != "\n":
            statements.append(self._function() if self._peek().kind == "function" else self._command())
            if self._peek().kind != ";":
                break
            self._take()
        self._expect("\n")
        return statements

    def _deeper(self, line: int) -> None:
        self._depth += 1
        if self._depth > DEPTH_LIMIT:
            raise FormatError("blocks are nested too deeply", f"line {line}")

    def _newlines(self) -> None:
        while self._peek().kind == "\n":
            self._take()

    def _delimiters(self) -> bool:
        if self._peek().kind not in (";", "\n"):
            return False
        self._take()
        self._newlines()
        return True

    def _commands(self, *, delimited: bool = True) -> Block:
        """One command at least; `delimited` ones end with a `;` or a new line."""
        self._newlines()
        commands = [self._command()]
        while True:
            separated = self._delimiters()
            if separated and self._peek().kind in _STARTS:
                commands.append(self._command())
                continue
            if delimited and not separated:
                self._expect("\n")
            return tuple(commands)

    def _command(self) -> Statement:
        kind = self._peek().kind
        if kind == "if":
            return self._if()
        if kind == "for":
            return self._for()
        if kind in ("while", "until"):
            return self._while()
        if kind not in ("name", "word"):
            if kind == "end":
                raise _Error("the file ends in an open block")
            raise _Error(f"`{_shown(self._peek())}` stands where a command belongs")
        line = self._peek().line
        words = self._arguments()
        return Command(words, self._block() if self._peek().kind == "{" else None, line)

    def _arguments(self) -> tuple[Word, ...]:
        words = []
        while self._peek().kind in _ARGUMENTS:
            word = self._take().word
            if word is not None:
                words.append(word)
        return tuple(words)

    def _block(self) -> Block:
        self._deeper(self._expect("{").line)
        body = self._commands(delimited=False)
        self._expect("}")
        self._depth -= 1
        return body

    def _function(self) -> Function:
        line = self._take().line
        name = self._expect("name").word
        self._newlines()
        self._deeper(self._expect("{").line)
        body = self._commands()
        self._expect("}")
        self._depth -= 1
        return Function(name.plain if name else "", body, line)

    def _if(self) -> If:
        line = self._take().line
        self._deeper(line)
        branches = []
        otherwise: Block = ()
        while True:
            condition = self._commands()
            self._expect("then")
            branches.append((condition, self._commands()))
            if self._peek().kind != "elif":
                break
            self._take()
        if self._peek().kind == "else":
            self._take()
            otherwise = self._commands()
        self._expect("fi")
        self._depth -= 1
        return If(tuple(branches), otherwise, line)

    def _for(self) -> For:
        line = self._take().line
        self._deeper(line)
        name = self._expect("name").word
        self._expect("in")
        words = self._arguments()
        if not self._delimiters():
            self._expect("\n")
        self._expect("do")
        body = self._commands()
        self._expect("done")
        self._depth -= 1
        return For(name.plain if name else "", words, body, line)

    def _while(self) -> While:
        token = self._take()
        self._deeper(token.line)
        condition = self._commands()
        self._expect("do")
        body = self._commands()
        self._expect("done")
        self._depth -= 1
        return While(condition, body, token.kind == "until", token.line)


def _named(kind: str) -> str:
    return {"\n": "the end of the command", "name": "a name"}.get(kind, kind)


def _shown(token: _Token) -> str:
    if token.word is not None:
        return token.word.plain
    return {"\n": "the end of the line", "end": "the end of the file"}.get(token.kind, token.kind)
