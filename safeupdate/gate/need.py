"""Does anything ask for a reboot?"""

from __future__ import annotations

from safeupdate.errors import SafeupdateError
from safeupdate.gate.host import RUN
from safeupdate.gate.state import Gate
from safeupdate.machine import Machine

_FLAGS = ("/run/reboot-required", "/var/run/reboot-required", f"{RUN}/held/reboot-required")
"""What packages leave (Debian Policy, "Signaling that a reboot is required"), and where a closed gate keeps it."""


def reboot_needed(machine: Machine, gate: Gate) -> str | None:
    """Why a reboot is needed, as a sentence; None where nothing asks for one."""
    running, kernel = machine.running_kernel, gate.judged.kernel
    if kernel is not None and running is not None and kernel != running and gate.rejected is None:
        return f"The kernel {running} is running, and {kernel} is to start next."
    for path in _FLAGS:
        try:
            if machine.exists(path):
                return f"A package asks for it ({path})."
        except SafeupdateError:
            continue
    return None
