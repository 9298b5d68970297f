"""Will the next boot wait for a person: for a passphrase, in MokManager, in a boot menu?"""

from __future__ import annotations

from collections.abc import Iterator

from safeupdate.errors import SafeupdateError
from safeupdate.formats import cmdline, crypttab, mountinfo
from safeupdate.machine import Machine
from safeupdate.report import Report
from safeupdate.volumes import Volumes

_FINDINGS = frozenset({"boot-entry.waits-for-person", "boot-entry.password", "module-signatures.waits-for-person"})

_BY_ITSELF = ("tpm2-device", "keyscript", "plain", "swap", "tmp")
"""Options of crypttab(5) with which a volume is opened without a person, or may be."""

_NETWORK_BOUND = ("/usr/bin/clevis-luks-unlock", "/usr/bin/clevis")

_LAYERS = 16
"""Block devices below one another; five are usual."""


def of(machine: Machine, report: Report) -> tuple[str, ...]:
    """Why the next boot will wait for a person, one sentence each."""
    told = [finding.problem for result in report.checks for finding in result.findings if finding.id in _FINDINGS]
    try:
        told += _passphrases(machine)
    except SafeupdateError:
        pass  # what cannot be told is not told
    return tuple(dict.fromkeys(told))


def _passphrases(machine: Machine) -> Iterator[str]:
    """The encrypted volumes under the root file system that nothing but a passphrase is known to open."""
    mounts = mountinfo.parse(machine.read("/proc/self/mountinfo"))
    root = next((mount.source for mount in reversed(mounts) if mount.point == "/"), None)
    if root is None or any(machine.exists(path) for path in _NETWORK_BOUND):
        return
    lines = {line.name: line for line in crypttab.parse(machine.read_if_there("/etc/crypttab") or b"")}
    given = cmdline.parse(machine.text("/proc/cmdline") or "")
    if "rd.luks.key" in given or "cryptkey" in given or "cryptdevice" in given:
        return
    for device in sorted(_below(machine, Volumes(machine).source_devices(root))):
        if not (machine.value(f"/sys/class/block/{device}/dm/uuid") or "").startswith("CRYPT-"):
            continue
        name = machine.value(f"/sys/class/block/{device}/dm/name") or device
        line = lines.get(name)
        if line is None or (line.key == "none" and not line.has(*_BY_ITSELF)):
            yield f"The next boot asks for the passphrase of {name}, which the root file system lies on."


def _below(machine: Machine, devices: set[str] | frozenset[str]) -> set[str]:
    """These block devices and all that they lie on, by the kernel's names."""
    found: set[str] = set()
    pending = set(devices)
    for _ in range(_LAYERS):
        found |= pending
        pending = {slave for one in pending for slave in machine.listdir(f"/sys/class/block/{one}/slaves")} - found
    return found
