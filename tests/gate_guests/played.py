"""What the stories are called, and where what they showed is kept."""

from __future__ import annotations

from tests.played import Played

PLAYED = Played(
    "gate_guests",
    "gate-results.json",
    "docs/gate.md",
    {
        "fallback": "A kernel that does not boot, held: `reboot -f`",
        "power": "The power is cut while the default is held or let go",
        "closed": "Reboot commands, the gate closed",
        "open": "Reboot commands, the gate open",
        "rooms": "No room, no writing, a reboot scheduled",
        "offline": "An offline update asked for while the gate is closed",
        "reboots": "Ten reboots with two bad kernels in between",
    },
)
