"""The ledger for a person: boots, checks and notices, the newest first."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from datetime import datetime, timezone
from typing import Any

from safeupdate.ledger.reading import Boot, CheckRow, Event, History
from safeupdate.render import plain, visible

WIDTH = 80

_INDENT = " " * 18


def render(history: History, *, limit: int) -> str:
    """The newest `limit` rows, in lines of at most 80 columns, long names aside. Times are in UTC."""
    rows = _rows(history)
    lines = [line for row in rows[:limit] for line in _lines(row)]
    if not rows and not history.problems:
        lines = ["Nothing was recorded here yet: `safeupdate check` and `safeupdate confirm` do."]
    elif rows:
        lines.append("Times are in UTC." + " There is more: --limit N shows N rows." * (len(rows) > limit))
    for problem in history.problems:
        lines += textwrap.wrap(visible(f"warning: {problem}"), WIDTH, subsequent_indent="  ")
    return "\n".join(lines) + "\n"


def render_json(history: History, *, limit: int) -> str:
    """The same rows as a JSON document, each with its `kind` and all that is known of it."""
    import json

    document = {
        "format": 1,
        "rows": [_fields(row) for row in _rows(history)[:limit]],
        "problems": list(history.problems),
    }
    return plain(json.dumps(document, indent=2, ensure_ascii=False)) + "\n"


def _rows(history: History) -> list[Boot | CheckRow | Event]:
    rows: list[Boot | CheckRow | Event] = [*history.boots, *history.checks, *history.events]
    return sorted(rows, key=lambda row: row.seq, reverse=True)


def _lines(row: Boot | CheckRow | Event) -> Iterator[str]:
    if isinstance(row, Boot):
        time, what, details = row.started, f"boot   {row.release}", list(_boot(row))
    elif isinstance(row, CheckRow):
        time, what, details = row.time, f"check  {row.verdict.upper()}", list(_check(row))
    else:
        time, what, details = row.time, "notice", [row.detail]
    yield visible(f"{_minute(time)}  {what}")
    for detail in details:
        yield from textwrap.wrap(
            visible(detail),
            WIDTH,
            initial_indent=_INDENT,
            subsequent_indent=_INDENT,
            break_long_words=False,
            break_on_hyphens=False,
        )


def _boot(boot: Boot) -> Iterator[str]:
    came_up = "came up" if boot.confirmed is not None else "not confirmed"
    if boot.source == "journal":
        yield f"{came_up}, as the journal tells; which files booted is not known"
        return
    unknown = [
        name
        for name, value in (("kernel", boot.kernel), ("initramfs", boot.initramfs), ("modules", boot.modules))
        if value is None
    ]
    yield f"{came_up}; {'with unknown ' + ', '.join(unknown) if unknown else 'its files are known'}"
    if boot.entry is not None:
        yield f"entry {boot.entry}"


def _check(row: CheckRow) -> Iterator[str]:
    yield f"next: {row.release or 'not known'}"
    for identity, level, subject in row.findings:
        if level in ("blocker", "unknown"):
            yield f"{level}: {identity} ({subject})"


def _minute(time: str) -> str:
    """A time to the minute, in UTC; as it stands where it is none."""
    try:
        return datetime.fromisoformat(time).astimezone(timezone.utc).strftime("%Y-%m-%d %H:%M")
    except (ValueError, OverflowError):
        return time[:16].ljust(16)


def _fields(row: Boot | CheckRow | Event) -> dict[str, Any]:
    if isinstance(row, Event):
        return {"kind": "notice", "time": row.time, "notice": row.kind, "detail": row.detail}
    if isinstance(row, CheckRow):
        return {
            "kind": "check",
            "time": row.time,
            "safeupdate": row.version,
            "boot_id": row.boot_id,
            "verdict": row.verdict,
            "kernel": row.release,
            "entry": row.entry,
            "fingerprint": row.fingerprint,
            "findings": [
                {"id": identity, "level": level, "subject": subject} for identity, level, subject in row.findings
            ],
        }
    return {
        "kind": "boot",
        "started": row.started,
        "confirmed": row.confirmed,
        "source": row.source,
        "boot_id": row.boot_id,
        "machine": row.machine,
        "kernel": row.release,
        "entry": row.entry,
        "command_line": row.cmdline,
        "sha256": {
            "kernel": row.kernel,
            "initramfs": None if row.initramfs is None else dict(row.initramfs),
            "modules": row.modules,
        },
        "blockers": [
            {"id": identity, "subject": subject, "problem": problem} for identity, subject, problem in row.findings
        ],
    }
