"""`make docs`: every finding that the program can tell, read from its syntax trees. Nothing of it is run.

Writes `docs/findings.md` for people and `safeupdate/findings.txt` for the program. A finding is a call of one of
`report.py`'s functions, also through a variable or a helper that takes one; what depends on the machine becomes a word
in capitals. An id that cannot be read from the code stops it, with file and line: nothing is left out in silence.
"""

from __future__ import annotations

import ast
import itertools
import os
import re
import sys
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, NamedTuple, Union

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
PAGE = os.path.join(TOP, "docs", "findings.md")
LIST = os.path.join(TOP, "safeupdate", "findings.txt")

LEVELS = ("blocker", "unknown", "warning", "note")

_CHOICES = 4
"""More of them in one place of a sentence say no more than a word does."""

_SENTENCE = 40
"""Characters: longer choices are told in a text each."""

_CALLERS = 4
"""Helpers of helpers: deeper than this, nothing is asked of those who call."""

_JUDGE = "safeupdate.judge"
"""It puts the id of whatever check it asks before some names."""

_DEPTH = 12
"""Calls within calls that are followed: a recursion ends there."""

_WAYS = 8
"""Ways to put a list together that are told."""

_WORDS = {
    **dict.fromkeys(
        ("said", "problem", "consequence", "reason", "why", "what", "damage", "lacking", "error", "message", "says"),
        "…",
    ),
    "undecided": "…",
    "spec": "NAME",
    "point": "DIRECTORY",
    ".modules": "DIRECTORY",
    "places": "DIRECTORIES",
    "fstype": "TYPE",
    "real": "TYPE",
    "unit_path": "FILE",
    "_place": "/etc/fstab:LINE",
}
"""Variables, attributes (with a dot) and functions whose own name says too little."""


class Word(str):
    """What is only known on a machine, and nothing else."""

    __slots__ = ()


class Phrase(str):
    """Text with such a word in it."""

    __slots__ = ()


class Nothing(Word):
    """What None stands for: no text, no remedy."""

    __slots__ = ()


NOTHING = Nothing()


class Level(NamedTuple):
    name: str


class Help(NamedTuple):
    """A remedy: its sentence, and its commands."""

    text: str
    commands: tuple[str, ...]


Value = Union[str, Level, Help, tuple[Any, ...]]


@dataclass(frozen=True)
class Module:
    name: str
    path: str
    tree: ast.Module

    def __hash__(self) -> int:
        return hash(self.name)

    def at(self, node: ast.AST) -> str:
        return f"{self.path}:{getattr(node, 'lineno', 0)}"


@dataclass(frozen=True, eq=False)
class Scope:
    """Where an expression stands: its module, the function around it, and what this was called with."""

    module: Module
    function: ast.FunctionDef | None = None
    arguments: dict[str, tuple[ast.expr, Scope | None]] = field(default_factory=dict)
    depth: int = 0


class Variant(NamedTuple):
    """One thing that a call can say."""

    id: str
    levels: tuple[str, ...]
    problem: tuple[str, ...]
    consequence: tuple[str, ...]
    remedy: tuple[Help, ...]
    path: str


class Check(NamedTuple):
    id: str
    title: str
    question: str
    essential: bool
    lowered: tuple[str, ...]
    """Why a finding of this check may have a lower level than its call says."""


class Unreadable(Exception):
    """Something in the code that this program cannot read; the message begins with file and line."""


# -- the package -----------------------------------------------------------------------------------------------


@cache
def modules() -> dict[str, Module]:
    """Every module of the package, by its dotted name."""
    found = {}
    for directory, _, files in sorted(os.walk(os.path.join(TOP, "safeupdate"))):
        for file in sorted(name for name in files if name.endswith(".py")):
            path = os.path.relpath(os.path.join(directory, file), TOP)
            name = path[: -len(".py")].replace(os.sep, ".").removesuffix(".__init__")
            with open(os.path.join(TOP, path), encoding="utf-8") as text:
                found[name] = Module(name, path, ast.parse(text.read(), path))
    return found


@cache
def _defined(module: Module) -> dict[str, ast.AST]:
    """What a module defines at its top, and the methods of its classes."""
    found: dict[str, ast.AST] = {}
    for node in module.tree.body:
        if isinstance(node, ast.FunctionDef):
            found[node.name] = node
        elif isinstance(node, ast.ClassDef):
            found.update({f"self.{each.name}": each for each in node.body if isinstance(each, ast.FunctionDef)})
        elif isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
            found[node.targets[0].id] = node.value
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value is not None:
            found[node.target.id] = node.value
    return found


@cache
def _imported(module: Module) -> dict[str, tuple[str, str | None]]:
    """Names that a module imports from the package: the other module, and the name there, None for itself."""
    found: dict[str, tuple[str, str | None]] = {}
    for node in ast.walk(module.tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "safeupdate":
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                found[alias.asname or alias.name] = (
                    (whole, None) if whole in modules() else (node.module or "", alias.name)
                )
    return found


def _definition(module: Module, node: ast.expr) -> tuple[Module, str, ast.AST] | None:
    """What a name, `module.name` or `self.name` stands for: where that is, its name there, its tree."""
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        if node.value.id == "self":
            found = _defined(module).get(f"self.{node.attr}")
            return None if found is None else (module, node.attr, found)
        other, name = _imported(module).get(node.value.id, ("", ""))
        if name is None and (found := _defined(modules()[other]).get(node.attr)) is not None:
            return modules()[other], node.attr, found
    elif isinstance(node, ast.Name):
        if (found := _defined(module).get(node.id)) is not None:
            return module, node.id, found
        other, name = _imported(module).get(node.id, ("", ""))
        if name and other in modules() and (found := _defined(modules()[other]).get(name)) is not None:
            return modules()[other], name, found
    return None


def _functions(module: Module) -> Iterator[ast.FunctionDef]:
    for node in _defined(module).values():
        if isinstance(node, ast.FunctionDef):
            yield node


@cache
def _calls() -> dict[int, list[tuple[Module, ast.FunctionDef | None, ast.Call]]]:
    """The calls of each function of the package, by the identity of its tree."""
    found: dict[int, list[tuple[Module, ast.FunctionDef | None, ast.Call]]] = {}
    for module in modules().values():
        for function in _functions(module):
            for node in ast.walk(function):
                if isinstance(node, ast.Call) and (called := _definition(module, node.func)) is not None:
                    found.setdefault(id(called[2]), []).append((module, function, node))
    return found


def _scopes(module: Module, function: ast.FunctionDef, depth: int = 0) -> list[Scope]:
    """A function as each of its callers calls it."""
    called = _calls().get(id(function), []) if depth < _CALLERS else []
    scopes = [
        Scope(module, function, _bound(function, call, scope), depth)
        for caller_module, caller, call in called
        if caller is not None and caller is not function
        for scope in _scopes(caller_module, caller, depth + 1)
    ]
    return scopes or [Scope(module, function, {}, depth)]


def _bound(function: ast.FunctionDef, call: ast.Call, scope: Scope) -> dict[str, tuple[ast.expr, Scope | None]]:
    names = [argument.arg for argument in (*function.args.posonlyargs, *function.args.args)]
    if names[:1] in (["self"], ["cls"]):
        names = names[1:]
    found: dict[str, tuple[ast.expr, Scope | None]] = {}
    for name, default in zip(reversed(names), reversed(function.args.defaults)):
        found[name] = default, None
    for argument, value in zip(function.args.kwonlyargs, function.args.kw_defaults):
        if value is not None:
            found[argument.arg] = value, None
    for name, value in zip(names, call.args):
        if isinstance(value, ast.Starred):
            break
        found[name] = value, scope
    found.update({keyword.arg: (keyword.value, scope) for keyword in call.keywords if keyword.arg is not None})
    return found


# -- what an expression may be ---------------------------------------------------------------------------------


def values(node: ast.expr, scope: Scope) -> list[Value]:
    """All that an expression may be, as far as the code tells; a `Word` where it does not."""
    found = _values(node, scope) if scope.depth < _DEPTH else []
    return list(dict.fromkeys(found)) or [_word(node)]


def _values(node: ast.expr, scope: Scope) -> list[Value]:
    if isinstance(node, ast.Constant):
        return [NOTHING if node.value is None else str(node.value)]
    if isinstance(node, ast.JoinedStr):
        pieces = [_pieces(part, scope) for part in node.values]
        whole = [options if _are_sentences(options) else [_choice(options)] for options in pieces]
        return [_joined(choice) for choice in itertools.islice(itertools.product(*whole), _CHOICES)]
    if isinstance(node, ast.IfExp):
        return [*values(node.body, scope), *values(node.orelse, scope)]
    if isinstance(node, ast.BoolOp) and isinstance(node.op, ast.Or):
        options = [value for each in node.values for value in values(each, scope) if value not in ("", (), NOTHING)]
        return options[:1] if options and isinstance(options[0], Word) else options
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return _sum(values(node.left, scope), values(node.right, scope))
    if isinstance(node, (ast.Tuple, ast.List)):
        return _sequence(node.elts, scope)
    if isinstance(node, ast.GeneratorExp):
        return [(value,) for value in values(node.elt, scope)]
    if isinstance(node, ast.Dict):
        return [value for each in node.values for value in values(each, scope)]
    if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Tuple) and isinstance(node.value, ast.Name):
        return _column(node.value, node.slice, scope)
    if isinstance(node, ast.Subscript):
        return values(node.value, scope) if _is_table(node.value, scope) else []
    if isinstance(node, ast.Name):
        return _named(node, scope)
    if isinstance(node, ast.Attribute):
        if node.attr in ("commands", "text"):
            return [getattr(value, node.attr) for value in values(node.value, scope) if isinstance(value, Help)]
        return _level(_definition(scope.module, node))
    return _called(node, scope) if isinstance(node, ast.Call) else []


def _pieces(part: ast.expr, scope: Scope) -> list[str]:
    part = part.value if isinstance(part, ast.FormattedValue) else part
    if isinstance(part, ast.Call) and isinstance(part.func, ast.Name) and part.func.id in _WORDS:
        return [_word(part.func)]
    return [value for value in values(part, scope) if isinstance(value, str)]


def _are_sentences(options: list[str]) -> bool:
    """Whether several texts for one place are too long to stand in it side by side."""
    return 1 < len(options) <= _CHOICES and all(len(text) > _SENTENCE for text in options)


def _choice(options: Iterable[Value]) -> str:
    """Several texts for one place, as manual pages write them."""
    texts = [option for option in options if isinstance(option, str)]
    if len(texts) == 1:
        return texts[0]
    said = list(dict.fromkeys(text for text in texts if text and not text.endswith("=")))
    if said and all(isinstance(text, Word) for text in said):
        return said[0]
    if not said or len(said) > _CHOICES or any(text == "…" for text in said):
        return Word("…")
    return Phrase(f"[{'|'.join(said)}]") if len(said) > 1 or "" in texts else said[0]


def _joined(pieces: Sequence[str]) -> str:
    text = re.sub("…+", "…", "".join(pieces)).replace("….", "…")
    return Phrase(text) if any(isinstance(piece, (Word, Phrase)) for piece in pieces) else text


def _sum(left: list[Value], right: list[Value]) -> list[Value]:
    if all(isinstance(value, str) for value in (*left, *right)):
        return [_joined([_choice(left), _choice(right)])]
    pairs = itertools.product(left, right)
    return [one + other for one, other in pairs if type(one) is tuple and type(other) is tuple]


def _sequence(elements: list[ast.expr], scope: Scope) -> list[Value]:
    parts: list[list[tuple[Value, ...]]] = []
    for element in elements:
        if isinstance(element, ast.Starred):
            options = [value if type(value) is tuple else (value,) for value in values(element.value, scope)]
            known = [option for option in options if not all(isinstance(each, Word) for each in option)]
            options = known or options
            if () in options and len(options) == 2:
                options = [(Phrase(f"[{' '.join(map(str, option))}]"),) for option in options if option]
            parts.append(options)
            continue
        found = values(element, scope)
        texts = all(isinstance(value, str) for value in found)
        parts.append([(_choice(found),)] if texts else [(value,) for value in found])
    return [tuple(itertools.chain(*parts)) for parts in itertools.islice(itertools.product(*parts), _WAYS)]


def _named(node: ast.Name, scope: Scope) -> list[Value]:
    if scope.function is not None:
        found = _reaching(scope.function, node)
        if found:
            options: list[Value] = []
            for value in found:
                options += [_word(node)] if value is None else values(value, scope)
            return _appended(node, scope) if options == [()] else _own_word(node, options)
        if node.id in scope.arguments:
            value, caller = scope.arguments[node.id]
            return _own_word(node, values(value, caller or Scope(scope.module)))
    defined = _definition(scope.module, node)
    if defined is None:
        return []
    module, _, tree = defined
    return values(tree, Scope(module, depth=scope.depth + 1)) if isinstance(tree, ast.expr) else _level(defined)


def _level(defined: tuple[Module, str, ast.AST] | None) -> list[Value]:
    if defined is None or defined[0].name != "safeupdate.report" or defined[1] not in LEVELS:
        return []
    return [Level(defined[1])]


def _is_table(node: ast.expr, scope: Scope) -> bool:
    if not isinstance(node, ast.Name) or scope.function is None:
        return False
    found = _reaching(scope.function, node)
    return bool(found) and all(isinstance(value, ast.Dict) for value in found)


def _column(table: ast.Name, place: ast.Tuple, scope: Scope) -> list[Value]:
    index = place.elts[-1].value if isinstance(place.elts[-1], ast.Constant) else None
    rows = [row for found in values(table, scope) if type(found) is tuple for row in found if type(row) is tuple]
    return [row[index] for row in rows if isinstance(index, int) and len(row) > index]


def _own_word(node: ast.Name, options: list[Value]) -> list[Value]:
    """A variable's own name says more than where its value comes from."""
    return [
        _word(node)
        if type(value) is Word or (isinstance(value, Phrase) and re.fullmatch("[A-Z…=/-]+", value))
        else value
        for value in options
    ]


def _appended(node: ast.Name, scope: Scope) -> list[Value]:
    """A list that begins empty, with what is appended to it."""
    assert scope.function is not None
    added = [
        call.args[0]
        for call in ast.walk(scope.function)
        if isinstance(call, ast.Call)
        and isinstance(call.func, ast.Attribute)
        and call.func.attr == "append"
        and isinstance(call.func.value, ast.Name)
        and call.func.value.id == node.id
    ]
    return _sequence(added, scope)


@cache
def _reaching(function: ast.FunctionDef, use: ast.Name) -> list[ast.expr | None]:
    return _assigned(function.body, use.id, use)


def _assigned(
    body: Sequence[ast.AST], name: str, use: ast.AST, before: Sequence[ast.expr | None] = ()
) -> list[ast.expr | None]:
    """What a variable may hold where it is used: the assignments that reach it, None for one that is not read."""
    reaching = list(before)
    for statement in body:
        if not _holds(statement, use):
            made = list(_assignments(statement, name))
            reaching = made if made and isinstance(statement, (ast.Assign, ast.AnnAssign)) else reaching + made
            continue
        blocks = [block for _, block in ast.iter_fields(statement) if isinstance(block, list)]
        block = next((block for block in blocks if any(_holds(each, use) for each in block)), [])
        if isinstance(statement, ast.Try) and block is not statement.body:
            reaching += [value for each in statement.body for value in _assignments(each, name)]
        heads = _nodes(statement).difference(*(_nodes(part) for part in itertools.chain(*blocks)))
        if any(isinstance(node, ast.Name) and node.id == name and isinstance(node.ctx, ast.Store) for node in heads):
            reaching = list(_columns(statement, name)) or [None]
        if isinstance(statement, ast.ExceptHandler) and statement.name == name:
            reaching = [None]
        return (
            _assigned(block, name, use, reaching) if isinstance(statement, (ast.stmt, ast.ExceptHandler)) else reaching
        )
    return reaching


def _columns(loop: ast.AST, name: str) -> Iterator[ast.expr]:
    """`for a, b in rows`: the column that a variable of the loop's head runs through, as `rows[:, 0]`."""
    if isinstance(loop, ast.For) and isinstance(loop.target, ast.Tuple) and isinstance(loop.iter, ast.Name):
        for index, target in enumerate(loop.target.elts):
            if isinstance(target, ast.Name) and target.id == name:
                yield ast.Subscript(loop.iter, ast.Tuple([ast.Slice(), ast.Constant(index)]))


@cache
def _nodes(tree: ast.AST) -> frozenset[ast.AST]:
    return frozenset(ast.walk(tree))


def _holds(tree: ast.AST, node: ast.AST) -> bool:
    return node in _nodes(tree)


def _assignments(statement: ast.AST, name: str) -> Iterator[ast.expr | None]:
    for node in ast.walk(statement):
        target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
        if isinstance(node, (ast.Assign, ast.AnnAssign)) and isinstance(target, ast.Name):
            if target.id == name and node.value is not None:
                yield node.value
        elif isinstance(target, ast.expr):
            yield from (None for each in ast.walk(target) if isinstance(each, ast.Name) and each.id == name)


def _called(node: ast.Call, scope: Scope) -> list[Value]:
    first = node.args[0] if node.args else None
    if isinstance(node.func, ast.Name) and first is not None:
        if node.func.id in ("tuple", "list", "sorted"):
            return [value for value in values(first, scope) if type(value) is tuple]
        if node.func.id == "next":
            first = first.elt if isinstance(first, ast.GeneratorExp) else first
            return [value for each in (first, *node.args[1:]) for value in values(each, scope)]
    if isinstance(node.func, ast.Attribute) and node.func.attr == "format" and first is not None:
        texts = [text for text in values(node.func.value, scope) if isinstance(text, str)]
        return [Phrase(text.replace("{}", _choice(values(first, scope)))) for text in texts]
    if isinstance(node.func, ast.Name) and node.func.id == "Remedy":
        return _remedies(node, scope)
    defined = _definition(scope.module, node.func)
    if defined is None or not isinstance(defined[2], ast.FunctionDef):
        return []
    module, function = defined[0], defined[2]
    inner = Scope(module, function, _bound(function, node, scope), scope.depth + 1)
    returned = [each.value for each in ast.walk(function) if isinstance(each, ast.Return) and each.value is not None]
    return [value for each in returned for value in values(each, inner)]


def _remedies(node: ast.Call, scope: Scope) -> list[Value]:
    given = _given(node, ("text", "commands"))
    texts = [_choice(values(given["text"], scope))] if "text" in given else [""]
    lists = values(given["commands"], scope) if "commands" in given else [()]
    return [Help(text, _commands(commands)) for text in texts for commands in lists]


def _given(call: ast.Call, names: tuple[str, ...]) -> dict[str, ast.expr]:
    named = {keyword.arg: keyword.value for keyword in call.keywords if keyword.arg is not None}
    return {**dict(zip(names, call.args)), **named}


def _commands(value: Value) -> tuple[str, ...]:
    if type(value) is not tuple:
        return ()
    return tuple(
        each if isinstance(each, str) else " ".join(_quoted(part) for part in each)
        for each in value
        if isinstance(each, (str, tuple)) and not isinstance(each, Word)
    )


def _quoted(argument: str) -> str:
    return argument if argument and not re.search(r"[\s*]", argument.strip("[]")) else f"'{argument}'"


def _word(node: ast.AST) -> Word:
    """A word in capitals for what an expression stands for."""
    if isinstance(node, ast.Name):
        return Word(_WORDS.get(node.id, node.id.strip("_").upper().replace("_", "-")))
    if isinstance(node, ast.Attribute):
        return Word(
            _WORDS.get(f".{node.attr}") or _WORDS.get(node.attr, node.attr.strip("_").upper().replace("_", "-"))
        )
    if isinstance(node, ast.Call):
        if isinstance(node.func, ast.Name):
            if node.func.id == "len":
                return Word("N")
            return _word(node.args[0]) if node.args else _word(node.func)
        if isinstance(node.func, ast.Attribute):
            inner = node.func.value
            return _word(
                node.args[0]
                if node.args and (isinstance(inner, ast.Constant) or node.func.attr in ("get", "fromkeys"))
                else inner
            )
    if isinstance(node, (ast.Subscript, ast.Starred, ast.FormattedValue)):
        return _word(node.value)
    if isinstance(node, (ast.GeneratorExp, ast.ListComp)):
        return _word(node.elt)
    if isinstance(node, ast.BoolOp):
        return _word(node.values[0])
    return Word("N") if isinstance(node, ast.BinOp) else Word("…")


# -- findings and checks ---------------------------------------------------------------------------------------


_LITERAL = ("id", "title", "essential")


@cache
def checks() -> list[Check]:
    """The checks in the order in which they are asked."""
    room = modules()["safeupdate.checks"]
    order = _defined(room)["CHECKS"]
    assert isinstance(order, ast.Tuple)
    found = []
    for element in order.elts:
        defined = _definition(room, element)
        if defined is None or not isinstance(defined[2], ast.Call):
            raise Unreadable(f"{room.at(element)}: this is not the CHECK of a module")
        module, call = defined[0], defined[2]
        given = _given(call, _LITERAL)
        plain = [value.value if isinstance(value := given.get(name), ast.Constant) else None for name in _LITERAL]
        if None in plain:
            raise Unreadable(f"{module.at(call)}: {', '.join(_LITERAL)} of a check are to be literal")
        identity, title, essential = plain
        question = (ast.get_docstring(module.tree) or "").split("\n\n")[0].replace("\n", " ")
        lowered = tuple(dict.fromkeys(_lowered(module)))
        found.append(Check(str(identity), str(title), question, bool(essential), lowered))
    return found


def _lowered(module: Module) -> Iterator[str]:
    """The docstrings of functions that give findings of this check another level."""
    for function in _functions(module):
        for node in ast.walk(function):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "replace":
                if any(keyword.arg == "id" for keyword in node.keywords):
                    raise Unreadable(f"{module.at(node)}: a finding's id is changed")
                if any(keyword.arg == "level" for keyword in node.keywords):
                    text = ast.get_docstring(function)
                    if text is None:
                        raise Unreadable(f"{module.at(function)}: it changes levels, and no docstring says when")
                    yield text.replace("\n", " ")


def variants() -> list[Variant]:
    """All that the calls in the package say, in the order of the files."""
    found: list[Variant] = []
    for module in modules().values():
        if module.name == "safeupdate.report":
            continue
        for function in _functions(module):
            scopes: list[Scope] | None = None
            for node in ast.walk(function):
                if isinstance(node, ast.Call) and _may_tell(node, module):
                    scopes = _scopes(module, function) if scopes is None else scopes
                    found += (said for scope in scopes for said in _said(node, scope))
    return list(dict.fromkeys(found))


def _may_tell(node: ast.Call, module: Module) -> bool:
    if isinstance(node.func, ast.Name) and node.func.id == "Finding":
        raise Unreadable(f"{module.at(node)}: a finding is made by blocker, unknown, warning or note")
    return isinstance(node.func, (ast.Name, ast.Attribute, ast.IfExp))


def _said(node: ast.Call, scope: Scope) -> Iterator[Variant]:
    levels = [value.name for value in values(node.func, scope) if isinstance(value, Level)]
    if not levels:
        return
    names = ("id", "subject", "problem", "consequence")
    given = _given(node, names)
    texts = {
        name: tuple("…" if isinstance(text, Word) else str(text) for text in _texts(given.get(name), scope))
        for name in names
    }
    remedies = values(given["remedy"], scope) if "remedy" in given else []
    remedy = tuple(dict.fromkeys(value for value in remedies if isinstance(value, Help) and value != Help("", ())))
    for identity in _texts(given.get("id"), scope):
        for name in _identities(identity, node, scope):
            ordered = tuple(level for level in LEVELS if level in levels)
            yield Variant(name, ordered, texts["problem"], texts["consequence"], remedy, scope.module.path)


def _texts(node: ast.expr | None, scope: Scope) -> list[str]:
    return [] if node is None else [text for text in values(node, scope) if isinstance(text, str)]


def _identities(identity: str, node: ast.Call, scope: Scope) -> Iterator[str]:
    """The id as it stands there; one of every check, where the judge puts the check's own id before it."""
    if scope.module.name == _JUDGE and isinstance(identity, Phrase) and identity.count(".") == 1:
        name = identity.split(".")[1]
        yield from (f"{check.id}.{name}" for check in checks())
        return
    if isinstance(identity, (Word, Phrase)) or not re.fullmatch(r"[a-z0-9-]+(\.[a-z0-9-]+)?", identity):
        raise Unreadable(f"{scope.module.at(node)}: the id of this finding cannot be read ({identity})")
    yield identity


def catalogue() -> dict[str, list[Variant]]:
    """By id, sorted: what each finding can say, the worst first."""
    found: dict[str, list[Variant]] = {}
    for variant in sorted(variants(), key=lambda one: (one.id, LEVELS.index(one.levels[0]))):
        found.setdefault(variant.id, []).append(variant)
    for module in modules().values():
        for node in ast.walk(module.tree):
            if isinstance(node, ast.Constant) and node.value not in found and _is_id(node.value):
                raise Unreadable(
                    f"{module.at(node)}: {node.value!r} looks like the id of a finding in no call that is read"
                )
    return found


NO_IDS = ("fallback.efi", "dkms.service", "dkms.conf")
"""Names of files that look like one."""


def _is_id(text: object) -> bool:
    match = re.fullmatch(r"([a-z0-9-]+)\.[a-z0-9-]+", text) if isinstance(text, str) else None
    return match is not None and match.group() not in NO_IDS and match[1] in {check.id for check in checks()}


def levels(check: Check | None, said: list[Variant]) -> tuple[str, ...]:
    """The levels that a finding may have."""
    possible = {level for variant in said for level in variant.levels}
    if check is not None and check.lowered and possible & {"blocker", "unknown"}:
        possible.add("warning")
    return tuple(level for level in LEVELS if level in possible)


# -- the pages -------------------------------------------------------------------------------------------------

_HEAD = """\
# Findings

Everything that `safeupdate check` can tell, by check in running order. Written by `make docs` from the code.

- WORDS IN CAPITALS stand for what the report names; of `[this|that]` it says one, `…` is told by the report alone.
- A **blocker** makes the verdict `unsafe`. An **unknown** makes it `unknown` where the check is essential. A
  **warning** is worth mending, a **note** worth knowing.
- A remedy whose commands differ from system to system stands in brackets; [Commands](#commands) has them all. The
  report gives the ones that fit the machine.
- In the configuration a finding is named by its id: `[findings."initramfs.truncated"]`.
"""

_EVERY = "CHECK"


def listing() -> str:
    """`findings.txt`: id and possible levels, a line each, sorted."""
    by_id = {check.id: check for check in checks()}
    found = catalogue()
    return "".join(f"{name} {' '.join(levels(by_id.get(name.split('.')[0]), found[name]))}\n" for name in sorted(found))


def page() -> str:
    """`findings.md`."""
    order, found = checks(), catalogue()
    of_all = _of_every_check(order, found)
    commands = _by_text(found)
    parts = [_HEAD]
    for check in order:
        parts.append(f"## {check.id}: {check.title}\n")
        parts.append(_wrapped(f"{check.question}{' Essential.' if check.essential else ''}"))
        parts += [_wrapped(text) for text in check.lowered]
        mine = [name for name in sorted(found) if name.split(".")[0] == check.id]
        parts += [_finding(name, check, found[name], commands) for name in mine if name.split(".")[1] not in of_all]
    parts.append("## Every check, or none\n")
    for name in sorted(of_all):
        parts.append(_finding(f"{_EVERY}.{name}", None, found[f"{order[0].id}.{name}"], commands))
    known = {check.id for check in order}
    parts += [_finding(name, None, found[name], commands) for name in sorted(found) if name.split(".")[0] not in known]
    parts.append("## Commands\n")
    for text in sorted(commands):
        parts.append(f"### {text}\n")
        lists = commands[text]
        # Of steps that are put together from parts, the parts say enough.
        lists = lists if len(lists) <= 6 else [(each,) for each in dict.fromkeys(itertools.chain(*lists))]
        parts.append("".join(f"- {_code(steps)}\n" for steps in lists))
    parts.append("".join(f"[{text}]: #{_anchor(text)}\n" for text in sorted(commands)))
    return "\n".join(parts)


def _of_every_check(order: list[Check], found: dict[str, list[Variant]]) -> set[str]:
    """What the judge tells of any check in the same words."""
    judge = modules().get(_JUDGE)
    told = {name for name, said in found.items() if all(judge and variant.path == judge.path for variant in said)}
    return set.intersection(
        *({name.split(".")[1] for name in told if name.startswith(f"{check.id}.")} for check in order)
    )


def _by_text(found: dict[str, list[Variant]]) -> dict[str, list[tuple[str, ...]]]:
    """The lists of commands of each remedy that has several."""
    commands: dict[str, list[tuple[str, ...]]] = {}
    for said in found.values():
        for remedy in (remedy for variant in said for remedy in variant.remedy if remedy.commands):
            lists = commands.setdefault(str(remedy.text), [])
            if remedy.commands not in lists:
                lists.append(remedy.commands)
    return {text: sorted(lists) for text, lists in commands.items() if len(lists) > 1 and "[" not in text}


def _finding(name: str, check: Check | None, said: list[Variant], commands: dict[str, list[tuple[str, ...]]]) -> str:
    told: dict[tuple[tuple[str, ...], tuple[str, ...], tuple[Help, ...], str], list[str]] = {}
    for variant in said:
        problems = told.setdefault((variant.levels, variant.consequence, variant.remedy, variant.path), [])
        problems += [text for text in variant.problem if text not in problems and text != "…"]
    lowered = "warning" in levels(check, said) and not any("warning" in variant.levels for variant in said)
    lines = [f"### {name}\n"]
    rest = len(told)
    for (own, consequences, remedies, path), problems in told.items():
        rest -= 1
        level = " or ".join(f"**{each}**" for each in own) + (", lowered to a warning at times" if lowered else "")
        lines.append(f"{level} (`{path}`)\n")
        lines += [_wrapped(text) for text in problems]
        items = [f"- Consequence: {text}" for text in consequences]
        if len({variant.remedy for variant in said}) > 1 or not rest:
            items += [f"- Remedy: {text}" for text in _remedies_told(remedies, commands)]
        lines += ["".join(_wrapped(item, "  ") for item in items)] if items else []
    return "\n".join(lines)


def _remedies_told(remedies: Iterable[Help], commands: dict[str, list[tuple[str, ...]]]) -> Iterator[str]:
    for text in dict.fromkeys(str(remedy.text) for remedy in remedies):
        lists = [remedy.commands for remedy in remedies if remedy.text == text and remedy.commands]
        codes = [_code(steps) for steps in lists]
        yield f"[{text}]" if text in commands and codes else " ".join([text, *codes] if text else codes)


def _code(steps: Iterable[str]) -> str:
    return ", then ".join(f"`{step}`" for step in steps)


def _anchor(text: str) -> str:
    """The name that forges give a heading."""
    return re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")


def _wrapped(text: str, indent: str = "") -> str:
    """Lines for a terminal, never broken inside a command."""
    text = re.sub(r"`[^`]*`", lambda code: code.group().replace(" ", "\0"), text)
    lines = textwrap.wrap(text, 110, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
    return "\n".join(lines).replace("\0", " ") + "\n"


def main() -> int:
    try:
        pages = {PAGE: page(), LIST: listing()}
    except Unreadable as problem:
        print(problem, file=sys.stderr)
        return 1
    for path, text in pages.items():
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
