"""What a lever is: one mechanism that holds reboots back, or steers them, in one file of `levers/`.

Each of its functions may be called at any time and any number of times, also after one before it was killed half-way;
`settle` calls them with the gate's lock held. What `settle` catches is `SafeupdateError`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from safeupdate.gate.host import Host
from safeupdate.report import Report

Position = Literal["closed", "open", "not-here", "not-ours", "refused"]
"""`closed`: it holds. `open`: it does not. `not-here`: this machine has not what it acts on. `not-ours`: somebody else
changed what it had set, or set it before; it is left as it is. `refused`: it cannot act here in a way that it could
undo, or it tried and failed."""


@dataclass(frozen=True)
class State:
    """How a lever stands. `words` is one sentence for a person who asks what holds."""

    position: Position
    words: str


@dataclass(frozen=True)
class Order:
    """What a lever is closed for. `why` is one sentence. `fallback` is the id of the entry that the loader's default
    is to be held on, and `release` its kernel; None where there is none that could be."""

    why: str
    report: Report | None = None
    fallback: str | None = None
    release: str | None = None


@dataclass(frozen=True)
class Lever:
    """`state` looks and changes nothing. `close` and `open` return how it stands after them.

    `opt_in` marks a lever that is used only where the configuration names it. `prepare` makes ready, where the gate is
    armed and the lever open, what it is closed with.
    """

    name: str
    title: str
    state: Callable[[Host], State]
    close: Callable[[Host, Order], State]
    open: Callable[[Host], State]
    opt_in: bool = False
    prepare: Callable[[Host], State] | None = None
