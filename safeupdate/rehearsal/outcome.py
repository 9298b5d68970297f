"""What became of a boot, from its serial console and from what the machine then says of itself.

`booted`: it came up to multi-user. `degraded`: it came up to emergency or rescue mode, or without a driver or an
out-of-tree module that it had before. `failed`: it stopped before, and waits for a person or for nobody.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from safeupdate.rehearsal.report import Report, lost

State = Literal["booted", "degraded", "failed"]

Ending = Literal["up", "stopped", "ended", "silent", "late"]
"""Why watching ended: the machine is up; the console says that it stopped; it went off by itself; it said nothing
more; it took too long."""


@dataclass(frozen=True)
class Mark:
    """A line of a console that says where a boot stopped: `stage` in words, and the line that says most about why."""

    state: State
    stage: str
    line: str


@dataclass(frozen=True)
class Outcome:
    """What became of a boot, where it stopped or what it lacks, and the decisive line of its console."""

    state: State
    stage: str
    line: str = ""


_MARKS: tuple[tuple[State, str, str], ...] = (
    ("failed", "kernel panic", r"Kernel panic - not syncing.*"),
    ("failed", "process 1 stopped", r"systemd\[1\]: Freezing execution.*|!!!!!!\] .*freezing.*"),
    ("failed", "shell of the initramfs", r"^\(initramfs\) ?$"),
    (
        "failed",
        "emergency shell of dracut",
        r"^(?:dracut:/# ?|Entering emergency mode\. Exit the shell to continue.*)$",
    ),
    ("degraded", "emergency mode", r"You are in emergency mode.*|Give root password for maintenance.*"),
    ("degraded", "rescue mode", r"You are in rescue mode.*"),
    # sulogin(8), which cannot say in whose mode it is.
    ("degraded", "emergency mode", r"Cannot open access to console, the root account is locked.*"),
    ("failed", "rescue prompt of GRUB", r"^grub rescue> ?$"),
    ("failed", "prompt of GRUB", r"^grub> ?$"),
    ("failed", "menu of GRUB", r"Failed to boot both default and fallback entries\."),
    ("failed", "no boot loader", r"^(?:No bootable device\.|BdsDxe: No bootable option or device was found\.).*"),
    ("failed", "shell of the firmware", r"^(?:UEFI Interactive Shell.*|Shell> ?)$"),
    ("failed", "refused by shim", r"^.*Verification failed: \(0x1A\) Security Violation.*"),
)
"""Where a boot stops, with the text that says so. Sources: kernel/panic.c; systemd, src/core/main.c and the units
emergency.service and rescue.service; initramfs-tools, scripts/functions; dracut, modules.d/98dracut-systemd and
99base; GRUB, normal/main.c and normal/menu.c; SeaBIOS, boot.c; EDK2, BdsEntry.c; shim, shim.c."""

_MARK = re.compile("|".join(f"(?P<m{number}>{mark[2]})" for number, mark in enumerate(_MARKS)), re.MULTILINE)

_CAUSES = re.compile(
    r"^.*(?:ALERT! .*|Gave up waiting for .*|Initramfs unpacking failed: .*|VFS: (?:Unable|Cannot|Insert).*"
    r"|dracut-initqueue.*: (?:Warning|Starting timeout scripts).*|Warning: .* does not exist$"
    r"|Timed out waiting for device .*|\[FAILED\] .*|^error: (?!you need to load the kernel first).*"
    r"|bad shim signature.*|mount: .*failed.*|.*Failed to execute /init.*|Target filesystem doesn't have requested .*"
    r"|.*Cannot open root device.*|No init found.*|cryptsetup.*(?:ERROR|WARNING).*"
    r"|Failed to load ZFS modules\..*|Failed to import pool .*|Message: cannot import .*).*$",
    re.MULTILINE,
)
"""Lines that tell why, above the one that tells where."""

_IN_INITRAMFS = re.compile(r"Running in init(?:rd|ial RAM disk|ramfs)")
_SWITCHED = re.compile(r"Switching root|systemd-journald\[\d+\]: Received SIGTERM from PID 1 \(systemd\)")

_WAITS_IN_GRUB = re.compile(r"you need to load the kernel first|Press any key to continue\.\.\.")

_EMULATION = re.compile(r"Kernel panic - not syncing: IO-APIC \+ timer doesn't work!.*")
"""What a kernel says whose emulated timer stood still, because the host had no time for it (arch/x86/kernel/apic/
io_apic.c, check_timer)."""

GRACE = 3.0
"""Seconds that a guest is watched after it has stopped: what it says of the reason may come after."""


def mark(text: str) -> Mark | None:
    """Where the console says that the boot stopped: its first mark, or None."""
    found = _MARK.search(text)
    if found is None:
        return None
    number = next(number for number in range(len(_MARKS)) if found[f"m{number}"] is not None)
    state, stage, _ = _MARKS[number]
    entered = list(_IN_INITRAMFS.finditer(text, 0, found.start()))
    if state == "degraded" and entered and not _SWITCHED.search(text, entered[-1].end(), found.start()):
        state, stage = "failed", f"{stage} of the initramfs"
    line = found[0].strip()
    if stage != "kernel panic":
        # A boot loader before that may have had errors of no account: the last cause is the nearest.
        causes = [cause[0].strip() for cause in _CAUSES.finditer(text, max(0, found.start() - 65536), found.end())]
        line = causes[-1] if causes else line
    return Mark(state, stage, line)


def disturbed(text: str) -> str:
    """The line of a console that tells of the emulation, and nothing of the machine; empty where there is none."""
    found = _EMULATION.search(text)
    return found[0] if found else ""


def patience(text: str) -> float:
    """Seconds for which the console may say nothing before the boot counts as hung.

    GRUB reads a large image for a minute without a word, on a busy host; after an error it goes back to its menu, and
    stays there. Where nothing is shown of a boot (`quiet`), systemd speaks up when it waits for something.
    """
    if "Linux version" in text or len(text) > 32768:
        return 240.0
    return 45.0 if _WAITS_IN_GRUB.search(text[-300:]) else 120.0


def of(console: str, ending: Ending, before: Report | None = None, after: Report | None = None) -> Outcome:
    """What became of the boot that said this; `before` and `after` are what the machine said when it was up."""
    if ending == "up":
        missing = list(lost(before, after)) if before is not None and after is not None else []
        if missing:
            return Outcome("degraded", "something is missing", "; ".join(missing))
        return Outcome("booted", "multi-user", _last(console, "login:", "Multi-User"))
    stopped = mark(console)
    if stopped is not None:
        return Outcome(stopped.state, stopped.stage, stopped.line)
    stage = {
        "stopped": "stopped",
        "ended": "went off or started anew",
        "silent": "hangs",
        "late": "not up in time",
    }[ending]
    causes = [cause[0].strip() for cause in _CAUSES.finditer(console)]
    return Outcome("failed", stage, causes[-1] if causes else _last(console))


def _last(console: str, *words: str) -> str:
    lines = [line.strip() for line in console[-20000:].splitlines() if line.strip()]
    fitting = [line for line in lines if any(word in line for word in words)]
    return (fitting or lines or [""])[-1][:300]
