"""Does the first process find the policy that SELinux is to enforce? A part of the check `mounts`.

selinux_init_load_policy(3) says that it is to be enforced and could not be loaded: systemd then freezes (its
src/core/selinux-setup.c). Which security module a kernel starts: Documentation/admin-guide/LSM/index.rst.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from safeupdate.checks.first_process import World
from safeupdate.errors import Unreadable
from safeupdate.formats.cmdline import CommandLine
from safeupdate.machine import Machine
from safeupdate.report import Finding, Remedy, blocker

_MAJOR = ("apparmor", "selinux", "smack")
"""Of these the kernel starts one."""

_SAYS = b"Failed to load SELinux policy"
_LIMIT = 64 << 20
"""What a systemd that was built with SELinux has in it, and the bytes of its libraries: five million."""


def policy(world: World) -> Iterator[Finding]:
    machine, kernel, line = world.machine, world.case.kernel, world.parameters
    if not world.with_systemd or kernel is None:
        return
    try:
        config = kernel.config
    except Unreadable:
        return
    said = machine.text("/etc/selinux/config") or ""
    mode, name = _setting(said, "SELINUX") or "", _setting(said, "SELINUXTYPE") or "targeted"
    given = line.last("enforcing")
    enforced = mode == "enforcing" if given is None else re.match(r"0*[1-9]", given) is not None
    if not enforced or mode == "disabled" or not _started(line, config or {}):
        return
    directory = f"/etc/selinux/{name}/policy"
    if any(file.startswith("policy.") for file in machine.listdir(directory)) or not _asks(machine):
        return
    yield blocker(
        "mounts.selinux-policy",
        directory,
        f"SELinux is to enforce its policy, by {'/etc/selinux/config' if given is None else 'enforcing=' + given}, and "
        f"{directory} holds none.",
        "systemd, the first process, stops at once: “Failed to load SELinux policy, freezing”.",
        remedy=Remedy(
            "Install the policy again, or let SELinux only warn until there is one: SELINUX=permissive in "
            "/etc/selinux/config, and no enforcing=1 on the command line."
        ),
    )


def _setting(text: str, name: str) -> str | None:
    found = re.findall(rf"^\s*{name}=\s*(\S+)", text, re.MULTILINE)
    return found[-1].lower() if found else None


def _started(line: CommandLine, config: Mapping[str, str]) -> bool:
    """Whether SELinux is the one security module of its kind that this kernel starts."""
    if config.get("CONFIG_SECURITY_SELINUX") != "y" or line.last("selinux") == "0":
        return False
    order = line.last("lsm")
    if order is None and line.last("security"):
        order = line.last("security")
    if order is None:
        order = config.get("CONFIG_LSM", "").strip('"')
    off = [name for name in _MAJOR if line.last(name) == "0"]
    return next((name for name in (order or "").split(",") if name in _MAJOR and name not in off), None) == "selinux"


def _asks(machine: Machine) -> bool:
    """Whether this systemd loads a policy."""
    places = [
        "/usr/lib",
        "/usr/lib64",
        *(f"/usr/lib/{name}" for name in machine.listdir("/usr/lib") if "-linux-" in name),
    ]
    for place in places:
        for name in machine.listdir(f"{place}/systemd"):
            ours = name == "systemd" or name.startswith(("libsystemd-core-", "libsystemd-shared-"))
            if ours and _SAYS in machine.read(f"{place}/systemd/{name}", limit=_LIMIT):
                return True
    return False
