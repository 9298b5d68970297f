"""`safeupdate confirm`: this boot came up."""

from __future__ import annotations

import argparse
import os
import re
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING

from safeupdate.errors import SafeupdateError, UsageError
from safeupdate.report import rfc3339

if TYPE_CHECKING:
    from safeupdate.boot.firmware import Firmware
    from safeupdate.boot.plan import BootEntry, BootPlan
    from safeupdate.fingerprint import Booted, Hasher
    from safeupdate.ledger.reading import Boot
    from safeupdate.machine import Machine

    Verbs = argparse._SubParsersAction[argparse.ArgumentParser]

_JUST_STARTED = timedelta(minutes=10)
"""What a check says so soon after the start it says of what booted; later, something may have been broken since. The
slowest boots take some minutes (memory tests of servers are over when the kernel starts)."""

_OF_BOOT_FILES = ("boot-entry.", "initramfs.", "kernel-files.", "root-storage.")
"""Findings that rest on what is known not to have changed since the start: the menu, and the files with checksums.
What others rest on may have been broken since, without a trace: programs and units of the root file system, devices
of fstab, what packages brought, the firmware's variables."""

_WRITTEN_BY_UPDATES = (
    "/var/lib/dpkg/status",
    *("/usr/lib/sysimage/rpm/rpmdb.sqlite", "/usr/lib/sysimage/rpm/Packages.db"),
    *("/var/lib/rpm/rpmdb.sqlite", "/var/lib/rpm/Packages"),
    "/var/lib/pacman/local",
)

_COUNTER = re.compile(r"\+\d+(?:-\d+)?(?=\.(?:conf|efi)$)")
"""The tries in the name of an entry (Automatic Boot Assessment), which change with each boot."""


def add(verbs: Verbs) -> None:
    """The verb's arguments."""
    parser = verbs.add_parser(
        "confirm",
        help="record that this boot came up",
        description="Record that the boot that is running came up, and what it started. Exit code 0: recorded, "
        "1: not recorded.",
    )
    parser.set_defaults(run=run)


def run(_: argparse.Namespace) -> int:
    """Record, and say what."""
    from safeupdate import surroundings
    from safeupdate.machine import Machine
    from safeupdate.render import visible

    machine = Machine.here()
    elsewhere = surroundings.inside(machine)
    if elsewhere is not None:
        raise SafeupdateError(f"this is {elsewhere}: it did not boot, so there is nothing to confirm")
    if os.geteuid() != 0:
        raise SafeupdateError("only root can record a boot", "run it as root")
    recorded, told = confirm(machine, datetime.now(timezone.utc))
    for line in told:
        print(visible(line))
    return 0 if recorded else 1


def confirm(machine: Machine, now: datetime) -> tuple[bool, tuple[str, ...]]:
    """Record the boot that is running. Returns whether it is in the ledger now, and what there is to say.

    Raises `SafeupdateError` where the machine does not say which boot and kernel are running.
    """
    from safeupdate import config
    from safeupdate.fingerprint import Hasher
    from safeupdate.ledger import journal, reading, writing

    history = reading.read(machine)
    identity, release = reading.boot_id(machine), machine.running_kernel
    if identity is None or release is None:
        raise SafeupdateError("which boot and which kernel are running is not to be seen", "is /proc mounted?")
    time, keep_days = rfc3339(now), config.in_force(machine).ledger.keep_days
    known = history.boot(identity)
    hasher = Hasher(machine, history.hashes)
    if known is not None:
        boots: tuple[Boot, ...] = (replace(known, confirmed=time),)
        told = [f"This boot ({release}) was recorded before; its files are not looked at again."]
    else:
        this, told = _this_boot(machine, hasher, identity, release, now)
        boots = (this,)
        if not history.boots and not history.problems:
            earlier = tuple(boot for boot in journal.boots(machine) if boot.boot_id != identity)
            told += [f"Taken over from the journal: {len(earlier)} earlier boots."] if earlier else []
            boots = (*earlier, this)
    problems = writing.record_boots(machine, boots, hasher.fresh, time=time, keep_days=keep_days)
    written = reading.read(machine).boot(identity)
    recorded = written is not None and written.confirmed is not None
    return recorded, (*problems, *(told if recorded else ()))


def _this_boot(machine: Machine, hasher: Hasher, identity: str, release: str, now: datetime) -> tuple[Boot, list[str]]:
    from safeupdate.boot import find_plan
    from safeupdate.judge import judge
    from safeupdate.ledger import reading
    from safeupdate.volumes import Volumes

    started = _started(machine)
    firmware, plan = find_plan(machine, Volumes(machine))
    cmdline = (machine.text("/proc/cmdline") or "").strip()
    entry, files = _entry(firmware, plan, cmdline, release)
    booted, changed = _booted(hasher, files, release, started)
    findings: tuple[tuple[str, str, str], ...] = ()
    parts: dict[str, str] = {}
    if started is not None and now - started < _JUST_STARTED and not _touched(machine, plan, started):
        try:
            report = judge(machine, release=release, hasher=hasher)
        except UsageError:  # the kernel that is running is no longer installed
            pass
        else:
            parts = dict(report.fingerprint)
            # Of several entries with this kernel another one may have been judged, that did not boot.
            booted_this = entry is not None and entry.id == report.target.entry
            every = [finding for result in report.checks for finding in result.findings] if booted_this else []
            findings = tuple(
                (finding.id, finding.subject, finding.problem)
                for finding in every
                if finding.level == "blocker" and finding.id.startswith(_OF_BOOT_FILES)
            )
    boot = reading.Boot(
        boot_id=identity,
        release=release,
        entry=entry.id if entry is not None else None,
        cmdline=cmdline,
        started=rfc3339(started or now),
        confirmed=rfc3339(now),
        source="service",
        kernel=booted.kernel,
        initramfs=booted.initramfs,
        modules=booted.modules,
        parts=parts,
        findings=findings,
        machine=reading.identity(machine),
    )
    what = f'entry "{entry.title}"' if entry is not None else "an entry that the boot menu does not have in this form"
    lines = [f"Recorded: this boot ({release}, {what}) came up."]
    if changed:
        lines.append(f"Changed since it started, so that what booted is not known: {', '.join(changed)}.")
    return boot, lines


def _entry(firmware: Firmware, plan: BootPlan, cmdline: str, release: str) -> tuple[BootEntry | None, BootEntry | None]:
    """The entry that this boot came from, and one that names the files that it started; None where it is not clear.

    A command line that was edited in the menu is no entry's, and yet the files are those of its kernel's only entry.
    """
    ours = [entry for entry in plan.entries if entry.kernel is not None and entry.release in (release, None)]
    selected = firmware.text("LoaderEntrySelected")
    if plan.loader == "systemd-boot" and selected:
        for entry in ours:
            if _COUNTER.sub("", entry.id).lower() == _COUNTER.sub("", selected).lower():
                return entry, entry
    words = _words(cmdline)
    for entry in ours:
        if entry.without_initramfs_first and _words(entry.cmdline_without_initramfs) == words:
            return entry, replace(entry, initramfs=())
        if _words(entry.cmdline) == words and _same_image(cmdline, entry):
            return entry, entry
    files = {(entry.kernel, entry.initramfs): entry for entry in ours if entry.release == release}
    return None, next(iter(files.values())) if len(files) == 1 else None


def _words(cmdline: str) -> list[str]:
    """A command line without what GRUB and the EFI stub put into it."""
    return [word for word in cmdline.split() if not word.startswith(("BOOT_IMAGE=", "initrd="))]


def _same_image(cmdline: str, entry: BootEntry) -> bool:
    images = [word.rsplit("/", 1)[-1] for word in cmdline.split() if word.startswith("BOOT_IMAGE=")]
    return entry.kernel is None or not images or images[-1] == entry.kernel.spec.rsplit("/", 1)[-1]


def _booted(
    hasher: Hasher, entry: BootEntry | None, release: str, started: datetime | None
) -> tuple[Booted, list[str]]:
    """The checksums of what was started, as far as it was not changed since, and what was."""
    from safeupdate.fingerprint import Booted, booted

    if entry is None or started is None:
        return Booted(None, None, None), []
    found = booted(hasher, entry, release)
    moment = _nanoseconds(started)
    kernel = entry.kernel.path if found.kernel is not None and entry.kernel is not None else None
    images = [path for path, _ in found.initramfs or ()]
    modules = f"/lib/modules/{release}" if found.modules is not None else None
    changed = [path for path in (kernel, *images, modules) if path is not None and hasher.changed(path) > moment]
    return Booted(
        None if kernel in changed else found.kernel,
        None if set(images) & set(changed) else found.initramfs,
        None if modules in changed else found.modules,
    ), changed


def _touched(machine: Machine, plan: BootPlan, started: datetime) -> bool:
    """Whether an update or a person changed, since the start, what else the boot hangs on: its findings are then
    not those of what booted. cloud-init installs updates before a first boot has come up."""
    paths = {*_WRITTEN_BY_UPDATES, "/etc/fstab", "/etc/crypttab", plan.config or "/etc/fstab"}
    paths |= {entry.source.partition(", line ")[0] for entry in plan.entries}
    try:
        found = [status for path in paths if (status := machine.stat(path)) is not None]
    except SafeupdateError:
        return True
    return any(status.st_ctime_ns > _nanoseconds(started) for status in found)


def _nanoseconds(moment: datetime) -> int:
    return int(moment.timestamp()) * 10**9


def _started(machine: Machine) -> datetime | None:
    """When the kernel started, by the clock of now (`btime` of proc_stat(5))."""
    for line in (machine.text("/proc/stat") or "").splitlines():
        name, _, value = line.partition(" ")
        if name == "btime" and value.isdigit():
            return datetime.fromtimestamp(int(value), timezone.utc)
    return None
