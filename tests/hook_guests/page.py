"""The part of docs/hooks.md that the stories make."""

from __future__ import annotations

import os
from collections.abc import Iterator

from tests.gate_guests.page import _table
from tests.gate_guests.results import Rows
from tests.lab.wheel import OURS

PAGE = os.path.join(OURS, "docs/hooks.md")
_START = "<!-- from here on made by `python3 -m tests.hook_guests page` -->\n"
_END = "<!-- to here -->\n"

_TITLES = {
    "apt": "A kernel through apt: without the headers that DKMS needs, without DKMS, upgraded",
    "dpkg": "A kernel through `dpkg -i`",
    "unattended-unsafe": "unattended-upgrades with `Automatic-Reboot`, the next boot unsafe",
    "unattended-safe": "unattended-upgrades with `Automatic-Reboot`, the next boot safe",
    "release": "From Debian 12 to 13 in one `apt full-upgrade`",
    "dnf": "A kernel through dnf, and through its automatic updates with `reboot = when-needed`",
}


def write(rows: Rows) -> None:
    """Write what was shown into the page."""
    with open(PAGE, encoding="utf-8") as file:
        before, _, rest = file.read().partition(_START)
    after = rest.partition(_END)[2]
    with open(PAGE, "w", encoding="utf-8") as file:
        file.write(f"{before}{_START}\n{chr(10).join(_lines(rows))}\n{_END}{after}")


def _lines(rows: Rows) -> Iterator[str]:
    for story, title in _TITLES.items():
        if story in rows:
            yield f"### {title}"
            yield ""
            yield from _table(rows[story])
            yield ""
