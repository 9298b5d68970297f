"""What one machine of the corpus is: a real root tree, a function that changes it, and the verdict that is true of it.

`verdict` and `finding` are what the machine *is*, from a boot of it or from what the kernel, GRUB and systemd are known
to do; never what the program happens to say. `row` is the row of the failure corpus (initramfs and boot loaders) that
it stands for. `note` says what the machine has from documentation instead of from a real system.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import machines
from machines.recipes import RECIPES
from tests.verdicts.tree import Tree

Verdict = Literal["safe", "unsafe", "unknown"]
Change = Callable[[Tree], None]


@dataclass(frozen=True)
class Case:
    """One machine. `finding` decides: a blocker, an unknown, or the one warning that a healthy machine must get.

    `boot` says how QEMU starts it: `bios` or `uefi`. Nothing, where what is odd about it is in no image: facts, or
    hardware that the virtual machine does not have.
    """

    name: str
    base: str
    title: str
    verdict: Verdict
    change: Change
    finding: str | None = None
    row: str = ""
    note: str = ""
    boot: str = ""
    healthy: bool = False
    facts: bool = True
    """Whether the tree has facts of hardware and mounts, as a capture has them, or is a bare root tree."""

    @property
    def wrong(self) -> bool:
        """Whether the program is known to answer something else so far."""
        return self.name in WRONG


WRONG = frozenset[str]()
"""Machines that get another answer than the true one: defects to mend. What is mended comes off this list."""

CASES: list[Case] = []
BY_NAME: dict[str, Case] = {}


def broken(
    name: str,
    base: str,
    title: str,
    finding: str,
    *,
    row: str = "",
    note: str = "",
    boot: str = "",
    verdict: Verdict = "unsafe",
    facts: bool = True,
) -> Callable[[Change], Change]:
    """A machine that does not come back, or of which nobody could tell."""

    def register(change: Change) -> Change:
        _add(Case(name, base, title, verdict, change, finding, row, note, boot, facts=facts))
        return change

    return register


def healthy(
    name: str,
    base: str,
    title: str,
    finding: str | None = None,
    *,
    row: str = "",
    note: str = "",
    boot: str = "",
    facts: bool = True,
) -> Callable[[Change], Change]:
    """A machine that comes back, however odd it looks."""

    def register(change: Change) -> Change:
        _add(Case(name, base, title, "safe", change, finding, row, note, boot, healthy=True, facts=facts))
        return change

    return register


def _add(case: Case) -> None:
    assert case.name not in BY_NAME, case.name
    CASES.append(case)
    BY_NAME[case.name] = case


def apply(case: Case, tree: str) -> None:
    """Change a copy of the case's base tree, with the facts of the machine where the case has them."""
    if case.facts:
        machines.add_facts(tree, case.base)
    case.change(Tree(tree, case.base))


def root_uuid(base: str) -> str:
    """The UUID of the base's root file system."""
    return RECIPES[base].root_uuid
