"""The part of docs/root-storage.md that the boots make."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tests.storage_guests.boots import Result, results
from tests.storage_guests.stacks import ROOTS

PAGE = Path(__file__).parent.parent.parent / "docs/root-storage.md"
_WHOLE = ("whole", "mended")
_START = "<!-- from here on made by `python3 -m tests.storage_guests page` -->\n"


def write() -> None:
    """Write all results into the page."""
    before = PAGE.read_text(encoding="utf-8").partition(_START)[0]
    PAGE.write_text(before + _START + "\n" + "\n".join(_lines(results())) + "\n", encoding="utf-8")


def _lines(found: list[Result]) -> Iterator[str]:
    yield from ("## The boots", "")
    kinds = (
        ("whole images came up", [one for one in found if one.kind in _WHOLE], "up"),
        ("images without something that must be there did not come up", [one for one in found if one.must], "failed"),
        (
            "images without something else came up",
            [one for one in found if not one.must and one.kind not in _WHOLE],
            "up",
        ),
    )
    yield f"Boots: {len(found)}, in {sum(one.seconds for one in found) // 60} minutes."
    for words, some, ending in kinds:
        if some:
            yield f"{sum(one.ending == ending for one in some)} of {len(some)} {words}."
    wrong = [one for one in found if not one.agrees]
    yield f"The check said otherwise of {len(wrong)}." if wrong else "The check said the same of every one."
    yield ""
    for name, root in ROOTS.items():
        mine = [one for one in found if one.root == name]
        if not mine:
            continue
        yield from (f"### {root.title}", "", f"`{root.filled(root.line)}`", "")
        yield "| image | taken out | asked by | the check | the boot | s | last words |"
        yield "|---|---|---|---|---|---|---|"
        order = {"whole": 0, "mended": 0, "rest": 2}
        for one in sorted(
            mine, key=lambda one: (one.suite, one.generator, order.get(one.kind, 1 if one.must else 3), one.kind)
        ):
            yield f"| {' | '.join(_cells(one))} |"
        yield ""


def _cells(one: Result) -> Iterator[str]:
    yield f"{one.suite}, {one.generator}"
    taken = {
        "whole": "nothing",
        "mended": f"nothing, but `{one.name}` added",
        "rest": one.name,
        "waits": f"nothing, but {one.name} added",
    }.get(one.kind, f"{one.kind} `{one.name}`")
    yield f"**{taken}**" if one.must else taken
    yield one.layer
    yield ", ".join(one.said) or "passed"
    yield one.ending if one.agrees else f"**{one.ending}**"
    yield str(one.seconds)
    line = one.line.replace("|", "¦").replace("`", "'")
    yield "" if one.ending == "up" else f"`{line if len(line) <= 100 else line[:99] + '…'}`"
