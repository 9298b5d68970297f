"""The systemd units that builders work in: does one start at boot, is one at work now?"""

from __future__ import annotations

from safeupdate.machine import Machine

_CONFIGURED = ("/etc/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system")
"""From the one that wins to those that give way (systemd.unit(5), "UNIT FILE LOAD PATH")."""

_CONTROL_GROUPS = ("/sys/fs/cgroup/system.slice", "/sys/fs/cgroup/systemd/system.slice")
"""The second is where version 1 of control groups has systemd's (EL 8)."""


def enabled(machine: Machine, unit: str) -> bool:
    """Whether another unit starts this one at boot: it is defined, not masked, and wanted (systemctl(1), "enable")."""
    defined = next((path for one in _CONFIGURED if machine.stat(path := f"{one}/{unit}", follow=False)), None)
    if defined is None or not machine.is_file(defined):  # a masked one is a link to /dev/null
        return False
    return any(
        machine.stat(f"{directory}/{name}/{unit}", follow=False) is not None
        for directory in _CONFIGURED
        for name in machine.listdir(directory)
        if name.endswith((".wants", ".requires"))
    )


def at_work(machine: Machine, name: str) -> bool:
    """Whether a process runs in NAME.service or in one made from the template NAME@.service (cgroups(7)).

    A service that only stays active, as those of `Type=oneshot` do, has none.
    """
    for slice_ in _CONTROL_GROUPS:
        instances = f"{slice_}/system-{name}.slice"
        groups = [f"{slice_}/{name}.service", *(f"{instances}/{one}" for one in machine.listdir(instances))]
        if any(machine.value(f"{group}/cgroup.procs") for group in groups):
            return True
    return False
