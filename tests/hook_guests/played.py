"""What the stories are called, and where what they showed is kept."""

from __future__ import annotations

from tests.played import Played

PLAYED = Played(
    "hook_guests",
    "hook-results.json",
    "docs/hooks.md",
    {
        "apt": "A kernel through apt: without the headers that DKMS needs, without DKMS, upgraded",
        "dpkg": "A kernel through `dpkg -i`",
        "unattended-unsafe": "unattended-upgrades with `Automatic-Reboot`, the next boot unsafe",
        "unattended-safe": "unattended-upgrades with `Automatic-Reboot`, the next boot safe",
        "release": "From Debian 12 to 13 in one `apt full-upgrade`",
        "dnf": "A kernel through dnf, and through its automatic updates with `reboot = when-needed`",
        "eviction": "A kernel that dnf's `installonly_limit` removes",
    },
)
