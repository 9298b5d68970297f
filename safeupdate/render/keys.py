"""The keys of a machine as text."""

from __future__ import annotations

from datetime import datetime

from safeupdate.render import visible
from safeupdate.trust.overview import Group, Overview, Row


def render(overview: Overview, now: datetime) -> str:
    """One paragraph a place, one key under another. `now` tells which have expired; kernels and shim do not ask."""
    parts = ["\n".join(map(visible, overview.state))]
    parts += [_group(group, now) for group in overview.groups]
    return "\n\n".join(parts) + "\n"


def _group(group: Group, now: datetime) -> str:
    lines = [visible(group.title)]
    for row in group.rows:
        lines += _row(row, now)
    if group.digests:
        lines.append(f"  and {group.digests} entries that name a file or a certificate by its digest")
    if group.problem is not None:
        lines.append(f"  not known, or not whole: {visible(group.problem)}")
    return "\n".join(lines)


def _row(row: Row, now: datetime) -> list[str]:
    by = f", issued by {visible(row.issuer)}" if row.issuer else ""
    lines = [f"  {visible(row.name)}{by}", f"    may sign: {visible(row.signs)}"]
    if row.owner:
        lines.append(f"    entered by: {visible(row.owner)}")
    over = row.not_after is not None and row.not_after < now
    expired = " (expired; neither shim nor the kernel asks)" if over else ""
    lines.append(f"    valid: {_day(row.not_before)} to {_day(row.not_after)}{expired}")
    lines.append(f"    SHA-256: {row.fingerprint}")
    return lines


def _day(when: datetime | None) -> str:
    return "?" if when is None else when.date().isoformat()
