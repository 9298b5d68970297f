"""What `safeupdate --help` knows, read from the parser."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator

from safeupdate.cli import COMMANDS


def _verbs() -> dict[str, argparse.ArgumentParser]:
    verbs = argparse.ArgumentParser().add_subparsers()
    for command in COMMANDS:
        command.add(verbs)
    return dict(verbs.choices)


def _ends(words: str, parser: argparse.ArgumentParser) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, below in action.choices.items():
                yield from _ends(f"{words} {name}", below)
            return
    yield words, parser


PARSERS = {words: parser for verb, top in _verbs().items() for words, parser in _ends(verb, top)}
"""Of every command that does something, as `snapshot undo`, in the order of the help."""

EXIT_CODES = {verb: set(re.findall(r"\b\d+(?=:)", parser.description or "")) for verb, parser in _verbs().items()}
"""Of every verb, as its help tells them."""


def options(parser: argparse.ArgumentParser) -> dict[str, str]:
    """Every long option but `--help`, which all have, and the name of what it takes, or nothing."""
    shown = [one for one in parser._actions if one.option_strings and one.help != argparse.SUPPRESS]
    named = {one.option_strings[-1]: str(one.metavar or "") for one in shown}
    return {name: takes for name, takes in named.items() if name != "--help"}


def positionals(parser: argparse.ArgumentParser) -> list[tuple[str, bool]]:
    """Their names, and whether each may be left out."""
    return [(str(one.metavar), one.nargs == "?") for one in parser._actions if not one.option_strings]
