"""`safeupdate snapshot`: what there is to go back to, and the way back."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

from safeupdate.commands import acting, minute, settings, wrapped
from safeupdate.errors import SafeupdateError

if TYPE_CHECKING:
    from safeupdate.gate.host import Host
    from safeupdate.report import Report
    from safeupdate.snapshots.backend import UndoPlan
    from safeupdate.snapshots.kept import Kept

    Verbs = argparse._SubParsersAction[argparse.ArgumentParser]

NO_EFFECT = 1


def add(verbs: Verbs) -> None:
    """The verb's arguments."""
    parser = verbs.add_parser(
        "snapshot",
        help="keep a state of this machine, and go back to it",
        description="Keep a state of this machine, and go back to it. Exit code 0: done, 1: not done.",
    )
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    listed = actions.add_parser("list", help="show what there is to go back to")
    listed.add_argument("--json", action="store_true", help="print it as JSON, with all that is known")
    created = actions.add_parser("create", help="take a snapshot now")
    # For units that are started apart from a hook.
    created.add_argument("--kind", choices=("by-hand", "pre-reboot"), default="by-hand", help=argparse.SUPPRESS)
    deleted = actions.add_parser("delete", help="remove a snapshot")
    deleted.add_argument("number", metavar="NUMBER", type=int)
    undone = actions.add_parser("undo", help="print the commands that go back to a snapshot, or run them")
    undone.add_argument("number", metavar="NUMBER", type=int)
    undone.add_argument("--execute", action="store_true", help="run them, one by one, up to the first that fails")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Do what is asked, and say what became of it."""
    actions = {"list": _list, "create": _create, "delete": _delete, "undo": _undo}
    return actions[arguments.action](arguments)


def _host() -> Host:
    return acting(
        "no snapshot of it is made or gone back to in here",
        "Run this on the machine itself; where its new kernel does not start, choose an older one in the boot menu.",
    )


def _list(arguments: argparse.Namespace) -> int:
    from safeupdate.snapshots import kept, take

    host = _host()
    every, problems = kept.find(host)
    if arguments.json:
        import json

        print(json.dumps({"format": 1, "snapshots": [_facts(one) for one in every], "problems": problems}, indent=1))
    else:
        _print(_table(every))
        if since := take.apart(host):
            _print(["", *wrapped(take.is_copied(since))])
        _tell(problems)
    return 1 if problems else 0


def _facts(one: Kept) -> dict[str, object]:
    from dataclasses import asdict

    return {
        **asdict(one.label),
        "backend": one.backend.name,
        "ids": one.snapshot.ids,
        "state": one.state,
        "problem": one.snapshot.problem or None,
        "adopted": one.adopted,
        "manifest": asdict(one.manifest) if one.manifest is not None else None,
    }


_STATES = {
    "unfinished": "This was cut off before it was whole, and cannot be gone back to.",
    "gone": "There is no such snapshot: it is not made yet, or somebody removed it.",
}

_KINDS = {
    "pre-transaction": "pre-transaction: from before the packages changed. To go back to it undoes the update.",
    "pre-reboot": "pre-reboot: from after that. To go back to it keeps the update, and undoes what came later.",
}
"""Of those that this program takes by itself, in words."""


def _table(every: Iterable[Kept]) -> Iterator[str]:
    rows, notes = [("NUMBER", "TAKEN (UTC)", "KIND", "KERNEL", "IN")], [""]
    for one in every:
        time = minute(one.label.time).replace(" UTC", "")
        rows.append((str(one.label.number), time, one.label.kind, one.label.kernel, one.backend.name))
        notes.append(_STATES.get(one.state, one.snapshot.problem))
    if len(rows) == 1:
        yield "There is no snapshot to go back to."
        return
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row, note in zip(rows, notes):
        yield "  ".join(text.ljust(width) for text, width in zip(row, widths)).rstrip()
        yield from wrapped(note, " " * (widths[0] + 2))
    kinds = [text for kind, text in _KINDS.items() if any(row[2] == kind for row in rows)]
    if kinds:
        yield ""
        for text in kinds:
            yield from wrapped(text, "", "  ")


def _create(arguments: argparse.Namespace) -> int:
    from safeupdate.commands.check import check
    from safeupdate.machine import Machine
    from safeupdate.snapshots import kept, take

    def look() -> Report:
        return check(Machine.here())

    host, told = _host(), list[str]()
    if arguments.kind == "pre-reboot":
        return _settled_with(host, look)
    try:
        made = take.take(host, arguments.kind, None, settings(host.machine).snapshots, told, look)
    except SafeupdateError as error:
        raise SafeupdateError(f"no snapshot was taken: {error}", error.hint) from None
    finally:
        _print(line for sentence in told for line in wrapped(sentence))
    _print(_contents(host, kept.numbered(host, made.label.number)))
    return 0


def _settled_with(host: Host, look: Callable[[], Report]) -> int:
    """What `settle` has begun apart, as it is copied for minutes: no lock of the gate is held meanwhile."""
    from safeupdate.gate.settle import settle
    from safeupdate.gate.words import headline
    from safeupdate.snapshots import take

    config = settings(host.machine)
    taken = take.before_reboot(host, look(), config.snapshots, look, waits=True)
    _print(taken.told)
    gate = settle(host, look, protect=lambda _: taken.holds, config=config, force=True)
    _print([headline(gate)])
    return 0 if taken.snapshot is not None else 1


def _contents(host: Host, one: Kept) -> Iterator[str]:
    """What a snapshot that was just taken has in it, and what not."""
    from safeupdate.snapshots.backend import Detected

    found = one.backend.detect(host)
    if isinstance(found, Detected):
        yield from wrapped(f"It holds {found.words}.")
        boot = [] if found.boot_returns else ["/boot (its files are kept beside it)"]
        others = [place.point for place in found.not_covered if not place.point.startswith("/boot")]
        if boot or others:
            yield from wrapped(f"Not in it: {', '.join([*boot, *others])}.")
    yield f"`safeupdate snapshot undo {one.label.number}` prints the way back to it, and changes nothing."


def _delete(arguments: argparse.Namespace) -> int:
    from safeupdate.snapshots import kept, take

    host = _host()
    with kept.alone(host):
        one = kept.numbered(host, arguments.number)
        take.remove(host, one)
    became = "forgotten, and left to whom it belongs" if one.adopted else "removed"
    _print([f"Snapshot {one.label.number} is {became}."])
    return 0


def _undo(arguments: argparse.Namespace) -> int:
    from safeupdate.snapshots import kept, undo

    host = _host()
    one = kept.numbered(host, arguments.number)
    plan = undo.plan(host, one)
    if not plan.effect.takes_effect:
        _tell([f"This undo would not take effect. {plan.effect.why}"])
        return NO_EFFECT
    _print(_story(one, plan, undo.describe(one, plan)))
    print()
    if not arguments.execute:
        _print([f"Nothing was changed. `safeupdate snapshot undo {one.label.number} --execute` runs these commands."])
        return 0
    undo.execute(host, one, plan, lambda line: _print([line]))
    _let_through(one.label.number)
    _print(["Done. It counts from the reboot on: reboot now."])
    return 0


def _let_through(number: int) -> None:
    """Have the gate let the reboot through that the undo waits for: what it could judge now is neither the old state
    nor the new one."""
    from safeupdate.commands import allow

    try:
        reason = f"the undo of snapshot {number} waits for the reboot"
        allow.run(argparse.Namespace(reason=reason, once=True, withdraw=False))
    except SafeupdateError as error:
        _tell([f"The gate may hold the reboot back: {error}. `safeupdate allow --reason TEXT` lets it through."])


def _story(one: Kept, plan: UndoPlan, words: Iterable[str]) -> Iterator[str]:
    kernel = f" ({one.label.kernel})" if one.label.kernel else ""
    yield f"The way back to snapshot {one.label.number} of {minute(one.label.time)}{kernel}"
    yield from wrapped(" ".join(words))
    for title, sentences in (("What is lost", plan.loses), ("What does not come back", plan.stays)):
        if sentences:
            yield ""
            yield title
            for sentence in sentences:
                yield from wrapped(sentence, "  ")
    yield ""
    yield "The commands, as root, in this order; a reboot follows"
    for number, step in enumerate(plan.steps, 1):
        yield from wrapped(f"{number:>3}. {step.does}{f' {step.loses}' if step.loses else ''}", "", " " * 5)
        yield f"       {shlex.join(step.command)}"


def _print(lines: Iterable[str]) -> None:
    from safeupdate.render import visible

    for line in lines:
        print(visible(line))
    sys.stdout.flush()


def _tell(problems: Iterable[str]) -> None:
    from safeupdate.render import visible

    for problem in problems:
        print(f"safeupdate: {visible(problem)}", file=sys.stderr)
