"""`safeupdate check`: what boots next, and is it whole?"""

from __future__ import annotations

import argparse
import errno
import os
import sys
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Callable

from safeupdate.commands import machine_at
from safeupdate.errors import Unreadable

if TYPE_CHECKING:
    from safeupdate.config import Config
    from safeupdate.machine import Machine
    from safeupdate.report import Report

    Verbs = argparse._SubParsersAction[argparse.ArgumentParser]


_CHROOT = (
    "This is a chroot: the kernel that runs, the disks and the firmware are those of the host, and nothing is recorded "
    "here. From outside, `safeupdate check --root DIR` judges what lies in DIR."
)


def add(verbs: Verbs) -> None:
    """The verb's arguments."""
    parser = verbs.add_parser(
        "check",
        help="judge the kernel that boots next",
        description="Judge the kernel that the boot loader starts next. Exit code 0: safe, 1: unsafe, 3: unknown.",
    )
    parser.add_argument("--root", metavar="DIR", help="judge the machine whose files lie below DIR")
    parser.add_argument("--kernel", metavar="RELEASE", help="judge this kernel instead of the one that boots next")
    parser.add_argument(
        "--require-driver",
        metavar="NAME",
        action="append",
        help="a driver under the root file system, where DIR holds no /sys; 'none' for none (repeatable)",
    )
    parser.add_argument(
        "--all-modules",
        action="store_true",
        help="verify the signature of every module of the kernel, not only of those that count",
    )
    shape = parser.add_mutually_exclusive_group()
    shape.add_argument("--json", action="store_true", help="print the report as JSON")
    shape.add_argument("--quiet", action="store_true", help="print the verdict only")
    shape.add_argument("--verbose", action="store_true", help="print evidence and notes too")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Judge, record, print, and return the verdict's exit code."""
    from safeupdate.report import EXIT_CODES

    machine = machine_at(arguments.root)
    drivers = arguments.require_driver
    with _progress(quiet=arguments.quiet) as tell:
        report = check(
            machine,
            release=arguments.kernel,
            required_drivers=None if drivers is None else tuple(name for name in drivers if name != "none"),
            all_modules=arguments.all_modules,
            progress=tell,
        )
    if arguments.json:
        from safeupdate.render.json import render as render_json

        text = render_json(report)
    else:
        from safeupdate.render.text import render as render_text

        terminal = sys.stdout.isatty()
        text = render_text(
            report,
            colour=terminal and "NO_COLOR" not in os.environ,
            verbose=arguments.verbose,
            quiet=arguments.quiet,
        )
    _print(text)
    return EXIT_CODES[report.verdict]


def check(
    machine: Machine,
    *,
    release: str | None = None,
    required_drivers: tuple[str, ...] | None = None,
    all_modules: bool = False,
    progress: Callable[[str], None] = lambda _: None,
) -> Report:
    """The machine's report, by its own configuration and ledger, and recorded there unless it is a tree.

    In a container or a chroot nothing booted: the kernel that runs is the host's, and a ledger would go into an image.
    """
    from safeupdate import surroundings
    from safeupdate.builders import akmods
    from safeupdate.fingerprint import Hasher
    from safeupdate.judge import judge
    from safeupdate.ledger import reading, writing

    config, warnings = _config(machine)
    elsewhere = surroundings.inside(machine) if machine.live else None
    history = reading.read(machine) if elsewhere is None else reading.UNKNOWN
    hasher = Hasher(machine, history.hashes)
    akmods.wait(machine, seconds=config.modules.wait_seconds, progress=progress)
    report = judge(
        machine,
        release=release,
        required_drivers=required_drivers,
        config=config,
        history=history,
        hasher=hasher,
        all_modules=all_modules,
        progress=progress,
    )
    warnings += history.problems
    if elsewhere is None and history.in_reach:
        warnings += writing.record_check(machine, report, hasher.fresh, keep_days=config.ledger.keep_days)
    elif elsewhere == "a chroot":
        warnings += (_CHROOT,)
    return replace(report, warnings=warnings)


def _config(machine: Machine) -> tuple[Config, tuple[str, ...]]:
    """What is configured. Who may not read it is told so, and judges without: no rule makes a verdict worse."""
    from safeupdate import config

    try:
        return config.load(machine), ()
    except Unreadable as error:
        return config.DEFAULTS, (f"{error}. What it lowers or skips is told as it is.",)


def _print(text: str) -> None:
    """Write the report. Where that fails the exit code still tells the verdict."""
    try:
        sys.stdout.buffer.write(text.encode("utf-8"))
        sys.stdout.flush()
    except OSError as error:
        if error.errno != errno.EPIPE:
            print(f"safeupdate: the report cannot be written: {error.strerror}", file=sys.stderr)
        # What is still in the buffer would fail again when Python ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _progress(*, quiet: bool) -> AbstractContextManager[Callable[[str], None]]:
    """What is being done, in one line on a terminal that is rewritten and wiped; nothing in a pipe."""
    if quiet or not sys.stderr.isatty():
        return nullcontext(lambda _: None)
    return _Spinner()


class _Spinner(AbstractContextManager[Callable[[str], None]]):
    def __enter__(self) -> Callable[[str], None]:
        from rich.console import Console

        self._status = Console(stderr=True).status("checking")
        self._status.__enter__()
        return lambda text: self._status.update(f"checking: {text}")

    def __exit__(self, *details: Any) -> None:
        self._status.__exit__(*details)
