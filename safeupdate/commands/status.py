"""`safeupdate status`: how the gate stands, and what helps."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

from safeupdate.commands import minute, wrapped
from safeupdate.errors import SafeupdateError

if TYPE_CHECKING:
    from safeupdate.gate.state import Gate
    from safeupdate.machine import Machine

    Verbs = argparse._SubParsersAction[argparse.ArgumentParser]

OPEN, CLOSED, NOT_KNOWN = 0, 1, 3

_LABEL = 13


def add(verbs: Verbs) -> None:
    """The verb's arguments."""
    parser = verbs.add_parser(
        "status",
        help="show whether reboots are held back, and why",
        description="Show whether reboots are held back, why, and what helps. Exit code 0: the gate is open, 1: it is "
        "closed, 3: it is not known.",
    )
    parser.add_argument("--json", action="store_true", help="print it as JSON")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Read what was settled, and print it."""
    from safeupdate.gate import state
    from safeupdate.machine import Machine

    machine = Machine.here()
    try:
        gate, problem = state.read(machine), ""
    except SafeupdateError as error:
        gate, problem = None, str(error)
    changed = _changed(machine, gate)
    if arguments.json:
        text = as_json(gate, changed=changed, problem=problem)
    else:
        colour = sys.stdout.isatty() and "NO_COLOR" not in os.environ
        text = render(gate, changed=changed, problem=problem, colour=colour)
    sys.stdout.buffer.write(text.encode("utf-8"))
    sys.stdout.flush()
    if gate is None:
        return NOT_KNOWN
    return OPEN if gate.position == "open" else CLOSED


def _changed(machine: Machine, gate: Gate | None) -> bool | None:
    """Whether what boots next changed since it was settled; None for who may not see that."""
    from safeupdate.gate.parts import parts_now
    from safeupdate.ledger import reading

    if gate is None or os.geteuid() != 0:
        return None
    try:
        return parts_now(machine, reading.read(machine)) != gate.fingerprint
    except SafeupdateError:
        return None


def as_json(gate: Gate | None, *, changed: bool | None, problem: str = "") -> str:
    """The state as it was settled, with `changed`, and the sentence that `render` begins with."""
    import json
    from dataclasses import asdict

    from safeupdate.gate.words import headline
    from safeupdate.render import plain

    document: dict[str, object] = {"format": 1, "settled": gate is not None, "changed": changed}
    if problem:
        document["problem"] = problem
    if gate is not None:
        document.update(asdict(gate), headline=headline(gate))
    return plain(json.dumps(document, indent=2, ensure_ascii=False)) + "\n"


def render(gate: Gate | None, *, changed: bool | None, problem: str = "", colour: bool = False) -> str:
    """The same for a person: what holds and why first, what helps last, in lines of 80 columns."""
    if gate is None:
        why = "it was not settled since this machine started, or that could not be written down."
        lines = [*wrapped(f"It is not known how the gate stands: {why}")]
        lines += wrapped(problem, "  ") if problem else []
        return "\n".join([*lines, "", *_helps([("Judge it, and set the gate", "safeupdate settle")])]) + "\n"
    lines = [*_head(gate, colour)]
    if changed and gate.verdict != "pending":
        lines += wrapped("Something that boots next has changed since: this is not judged yet.", "  ")
    lines += ["", *_facts(gate), "", *_levers(gate)]
    for sentence in gate.problems:
        lines += wrapped(f"warning: {sentence}", "", "  ")
    helps = _remedies(gate, changed=bool(changed))
    return "\n".join([*lines, *([""] if helps else []), *_helps(helps)]) + "\n"


def _head(gate: Gate, colour: bool) -> Iterator[str]:
    from safeupdate.gate.words import held_back
    from safeupdate.render import visible

    if gate.mode == "observing":
        word, rest = "OBSERVING", "nothing is held back."
    elif gate.position == "open":
        word, rest = "OPEN", "reboots are let through."
    else:
        word, rest = "CLOSED", f"{held_back(gate)}."
    code = {"OPEN": "1;32", "CLOSED": "1;31", "OBSERVING": "1;33"}[word]
    yield f"\x1b[{code}m{word}\x1b[0m: {rest}" if colour else f"{word}: {rest}"
    yield from wrapped(visible(gate.why), "  ")


def _facts(gate: Gate) -> Iterator[str]:
    judged = gate.judged
    yield from _fact("Since", minute(gate.since))
    if gate.held:
        yield from _fact("Next boot", f"{judged.fallback or 'the fallback'}, as the default is held on it")
        yield from _fact("Let go", f"{judged.kernel or 'not known'} starts once that is let go")
    else:
        yield from _fact("Next boot", judged.kernel or "not known")
    known = {"proven": "proven", "booted-before": "has booted before", "unproven": "never seen to boot"}
    yield from _fact(
        "Fallback", f"{judged.fallback} ({known.get(judged.quality, judged.quality)})" if judged.fallback else "none"
    )
    yield from _fact("Mode", _mode(gate))
    for sentence in judged.waits or ("no, as far as can be told",):
        yield from _fact("Will wait", sentence)
    for label, text in (("Allowed", gate.allowed), ("Rejected", gate.rejected), ("Came back", gate.came_back)):
        if text and text not in gate.why:
            yield from _fact(label, text)


def _mode(gate: Gate) -> str:
    from safeupdate.gate.policy import LOADERS

    if gate.mode == "armed":
        return "armed: it acts, as it has judged the boot that is running safe"
    if gate.judged.loader not in LOADERS:
        return f"observing: the boot loader ({gate.judged.loader or 'none found'}) is not one that this program holds"
    if not gate.confirmed:
        return "observing: this boot is not confirmed yet (`safeupdate confirm`)"
    return "observing: the boot that is running was never judged safe"


def _levers(gate: Gate) -> Iterator[str]:
    from safeupdate.render import visible

    for name, lever in gate.levers.items():
        if lever.position != "not-here":
            yield from wrapped(visible(f"{lever.position:<10}{name}: {lever.words}"), "", " " * 10)
    absent = [name for name, lever in gate.levers.items() if lever.position == "not-here"]
    if absent:
        yield from wrapped(f"{'not here':<10}{', '.join(absent)}", "", " " * 10)


def _remedies(gate: Gate, *, changed: bool) -> list[tuple[str, str]]:
    """What helps, and the command for it."""
    if changed or gate.verdict == "pending":
        return [("Judge it now", "safeupdate settle")]
    helps = []
    if gate.verdict in ("unsafe", "unknown"):
        helps.append(("What is wrong, with the commands that mend it", "safeupdate check"))
    if gate.rejected is not None:
        helps.append(("To want this kernel again", "safeupdate reject --withdraw"))
    if gate.position == "closed" and gate.cause not in ("rejected", "rejected-held"):
        what = "To let machines reboot too" if gate.people else "To reboot all the same"
        helps.append((what, "safeupdate allow --reason TEXT"))
    if gate.allowed is not None:
        helps.append(("To take back what was allowed", "safeupdate allow --withdraw"))
    if gate.problems:
        helps.append(("Should safeupdate itself be broken: the way out", "safeupdate-open"))
    return helps


def _helps(helps: list[tuple[str, str]]) -> Iterator[str]:
    for text, command in helps:
        yield f"{text}:"
        yield f"      {command}"


def _fact(label: str, text: str) -> list[str]:
    from safeupdate.render import visible

    return wrapped(f"{label:<{_LABEL}}{visible(text)}", "", " " * _LABEL)
