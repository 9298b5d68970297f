"""The part of docs/lab.md that the results make: the confusion table, the bases, and a line for every scenario."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping

from tests.lab import results
from tests.lab.bases import BASES
from tests.lab.corpus import CORPUS
from tests.lab.results import Row

PAGE = os.path.join(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))), "docs/lab.md")
_START = "<!-- from here on made by `python3 -m tests.lab page` -->\n"

_VERDICTS = ("safe", "unsafe", "unknown")
_OUTCOMES = ("booted", "degraded", "failed")


def write(rows: Mapping[str, Row]) -> None:
    """Write the results into the page."""
    with open(PAGE, encoding="utf-8") as file:
        before = file.read().partition(_START)[0]
    with open(PAGE, "w", encoding="utf-8") as file:
        file.write(before + _START + "\n" + "\n".join(_lines(rows)) + "\n")


def confusion(rows: Mapping[str, Row]) -> list[str]:
    """The table of verdicts against what happened."""
    counts = results.confusion(rows)
    lines = ["| | booted | degraded | failed |", "|---|---|---|---|"]
    for verdict in _VERDICTS:
        lines.append(f"| `{verdict}` | {' | '.join(str(counts[verdict, outcome]) for outcome in _OUTCOMES)} |")
    return lines


def worth(rows: Mapping[str, Row]) -> str:
    """How many of each judgement there are, in one line."""
    counts = Counter(row["judgement"] for row in rows.values())
    return ", ".join(f"{count} {name}" for name, count in counts.most_common())


def _lines(rows: Mapping[str, Row]) -> Iterator[str]:
    healthy = [row for row in rows.values() if "healthy" in row["tags"]]
    booted = sum(row["outcome"] == "booted" for row in rows.values()) - len(healthy)
    broken = sum(row["outcome"] in ("degraded", "failed") for row in rows.values())
    yield from ("## Results", "")
    programs = Counter(row.get("program", "") for row in rows.values())
    yield f"{len(rows)} scenarios: {worth(rows)}. {broken} break the boot, {booted} look broken and boot, "
    yield f"{len(healthy)} are machines to which nothing was done. They were judged by {len(programs)} states of the "
    yield f"program ({', '.join(str(count) for _, count in programs.most_common())} scenarios each)."
    yield from ("", *confusion(rows), "")
    yield from _bases(rows)
    yield from ("", *_corpus(rows))
    yield from ("", "### Every scenario", "")
    yield "| scenario | base | verdict | decisive finding | the boot | decisive line | | s |"
    yield "|---|---|---|---|---|---|---|---|"
    for name, row in sorted(rows.items()):
        finding = f"`{row['decisive']}`" if row["decisive"] else ""
        line = row["problem"] or row["line"]
        cells = [f"`{name}`: {row['what']}", row["base"], row["verdict"], finding, f"{row['outcome']}: {row['stage']}"]
        cells += [f"`{_cell(line)}`" if line else "", row["judgement"], str(sum(row["seconds"].values()))]
        yield f"| {' | '.join(cells)} |"


def _bases(rows: Mapping[str, Row]) -> Iterator[str]:
    yield from ("| base | scenarios | of them right |", "|---|---|---|")
    for base in BASES:
        mine = [row for row in rows.values() if row["base"] == base]
        yield f"| `{base}` | {len(mine)} | {sum(row['judgement'] == 'right' for row in mine)} |"


def _corpus(rows: Mapping[str, Row]) -> Iterator[str]:
    """What each of the known failures was shown by."""
    shown: dict[int, list[str]] = {}
    for name, row in sorted(rows.items()):
        for number in row["corpus"]:
            shown.setdefault(number, []).append(f"`{name}`")
    yield from ("| | failure | scenarios |", "|---|---|---|")
    yield from (f"| {number} | {words} | {', '.join(shown.get(number, ()))} |" for number, words in CORPUS.items())


def _cell(text: str) -> str:
    """A line of a console in a table: no pipes, no backticks, not longer than a person reads."""
    text = text.replace("|", "¦").replace("`", "'")
    return text if len(text) <= 120 else f"{text[:119]}…"
