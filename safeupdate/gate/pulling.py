"""Every lever in its place."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from safeupdate.config import GateSettings
from safeupdate.errors import SafeupdateError
from safeupdate.gate.host import Host
from safeupdate.gate.lever import Lever, Order, State
from safeupdate.gate.policy import Wanted

Problem = Callable[[str], None]
"""Told what could not be done, in a sentence."""


def pull(
    host: Host,
    levers: Sequence[Lever],
    settings: GateSettings,
    wanted: Wanted,
    order: Order,
    *,
    armed: bool,
    problem: Problem,
) -> dict[str, State]:
    """Set every lever, what is to be held first, and return how those stand that are used here, or still hold."""
    used = {one.name: one.name not in settings.off and (not one.opt_in or one.name in settings.also) for one in levers}
    moves = {name: wanted.levers.get(name, "open") if use else "open" for name, use in used.items()}
    states: dict[str, State] = {}
    for lever in levers:
        if moves[lever.name] == "closed":
            states[lever.name] = _ask(host, lever, lever.close, order, problem=problem)
        elif moves[lever.name] == "leave":
            states[lever.name] = _ask(host, lever, lever.state)
    for lever in reversed(levers):
        if moves[lever.name] == "open":
            states[lever.name] = _ask(host, lever, lever.open, problem=problem)
            ready = armed and used[lever.name] and states[lever.name].position == "open"
            if ready and lever.prepare is not None:
                states[lever.name] = _ask(host, lever, lever.prepare, problem=problem)
            if states[lever.name].position == "closed":
                problem(f"The lever {lever.name} still holds: {states[lever.name].words}")
    return {name: states[name] for name, use in used.items() if use or states[name].position == "closed"}


def look(host: Host, levers: Sequence[Lever]) -> dict[str, State]:
    """How they stand."""
    return {lever.name: _ask(host, lever, lever.state) for lever in levers}


def _ask(host: Host, lever: Lever, act: Callable[..., State], *order: Order, problem: Problem | None = None) -> State:
    try:
        return act(host, *order)
    except SafeupdateError as error:
        if problem is not None:
            problem(f"The lever {lever.name} could not be set: {error}.")
        return State("refused", f"{error}.")
