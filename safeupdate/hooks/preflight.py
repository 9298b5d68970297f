"""What a transaction would certainly do to the next boot, before it begins: what is cheap to know, and nothing else.

All the rest is found afterwards, by the check, on what is there then.
"""

from __future__ import annotations

import re
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

from safeupdate import kernels, packages, remedies
from safeupdate.builders import dkms, dkms_tree
from safeupdate.errors import SafeupdateError
from safeupdate.gate.state import Gate
from safeupdate.hooks.transaction import Source, Transaction
from safeupdate.machine import Machine
from safeupdate.report import Remedy

_PLACES = ("/boot", "/efi")
"""Where kernels lie; an ESP at /boot/efi is below the first."""

_ENTRIES = 50_000
"""Files and directories in them: ten kernels with all device trees of arm64, the most that is known, are 20,000."""

_UNFINISHED = ("half-installed", "unpacked", "half-configured")


@dataclass(frozen=True)
class Concern:
    """One thing that is wrong with a transaction, reason enough to refuse it where that is configured."""

    problem: str
    consequence: str
    remedy: Remedy


def look(
    machine: Machine,
    transaction: Transaction,
    gate: Gate | None,
    source: Callable[[str], Source | None],
) -> Iterator[Concern]:
    """What is wrong with it. `gate` is how the gate stood last, None where that is not known; `source` says where a
    package is that does not come. What cannot be read keeps one question from being answered, and not the others."""
    for answers in (
        _room(machine, transaction),
        _fallback(machine, transaction, gate),
        _headers(machine, transaction, source),
        _unfinished(machine, transaction),
    ):
        with suppress(SafeupdateError):
            yield from answers


def _room(machine: Machine, transaction: Transaction) -> Iterator[Concern]:
    """A new kernel and its initramfs take at least what the smallest kernel takes that is there with both."""
    if not transaction.coming:
        return
    for place, taken in _taken(machine):
        space = machine.space(place)
        if space is None or space.read_only:
            continue
        need = min(taken.values()) * len(transaction.coming)
        freed = 0 if transaction.removes_last else sum(taken.get(release, 0) for release in transaction.going)
        if space.free + freed < need:
            yield Concern(
                f"{_these('kernel', transaction.coming)} will not fit: the file system of {place} has "
                f"{space.free >> 20} MiB left, and at least {-(-need >> 20)} MiB are needed there.",
                "The installation fails half-way, or leaves an initramfs that is cut off, with which the machine does "
                "not start.",
                Remedy("Make room first.", (("df", "-h", place), *_removable(machine))),
            )


def _removable(machine: Machine) -> tuple[tuple[str, ...], ...]:
    """The commands that remove old kernels, where more are there than the running one and another."""
    old = [one.release for one in kernels.installed(machine) if one.release != machine.running_kernel]
    return remedies.remove_kernels(machine, old[:-1]) if len(old) > 1 else ()


def _taken(machine: Machine) -> Iterator[tuple[str, dict[str, int]]]:
    """For each file system with kernels its directory, and the bytes that each kernel with an initramfs takes there."""
    releases = sorted((one.release for one in kernels.installed(machine)), key=len, reverse=True)
    named = [(one, re.compile(rf".*[-/]{re.escape(one)}(?:\.img|\.efi)?(?:/.*)?")) for one in releases]
    found: dict[int, tuple[str, dict[str, int], set[str]]] = {}
    for top in _PLACES:
        if not machine.is_dir(top):
            continue
        start = len(machine.host_path(top))
        for entry in machine.walk(top, limit=_ENTRIES):
            path = top + entry.path[start:]
            release = next((one for one, pattern in named if pattern.fullmatch(path)), None)
            status = entry.stat(follow_symlinks=False) if release is not None else None
            if release is None or status is None or not stat.S_ISREG(status.st_mode):
                continue
            directory = path.rpartition("/")[0]
            above = machine.stat(directory)
            if above is None:
                continue
            # A kernel's own directory is not there any more when that kernel is gone.
            place, taken, whole = found.setdefault(above.st_dev, (directory.partition(f"/{release}")[0], {}, set()))
            taken[release] = taken.get(release, 0) + status.st_size
            if "init" in entry.name or entry.name.endswith(".efi"):
                whole.add(release)
    for place, taken, whole in found.values():
        if whole:
            yield place, {release: size for release, size in taken.items() if release in whole}


def _fallback(machine: Machine, transaction: Transaction, gate: Gate | None) -> Iterator[Concern]:
    """The kernel that is running is one to go back to as well, once another starts next."""
    if gate is None or gate.judged.quality != "proven" or gate.judged.fallback not in transaction.going:
        return
    starts = transaction.coming[-1] if transaction.coming else gate.judged.kernel
    running = machine.running_kernel
    if gate.confirmed and running is not None and running not in (*transaction.going, starts):
        return
    yield Concern(
        f"This removes the kernel {gate.judged.fallback}, the one that is known to start this machine besides "
        f"{gate.judged.kernel}.",
        "If the kernel that starts next does not come up, there is none to go back to.",
        Remedy("Remove it when the other one has come up; until then, keep it."),
    )


def _headers(machine: Machine, transaction: Transaction, source: Callable[[str], Source | None]) -> Iterator[Concern]:
    """dkms builds nothing for a kernel without its headers, and ends with 0."""
    names = _dkms_modules(machine)
    for release in transaction.coming if names else ():
        command = remedies.install_headers(machine, release)
        wanted = [
            name
            for name, package in names.items()
            if dkms.unwanted(package, release=release, architecture=None, config=None) is None
        ]
        if not command or not wanted or machine.exists(f"/lib/modules/{release}/build/include"):
            continue
        headers = command[-1]
        if transaction.brings(headers) or any(one.named(headers) for one in packages.databases(machine)):
            continue
        where = dict(transaction.sources).get(headers) or source(headers)
        # dnf decides on all in one transaction; apt may bring them in its next one.
        if where == "later" or (where is None and not transaction.removes_last):
            continue
        yield Concern(
            f"The kernel {release} comes without its headers ({headers}), and dkms needs them to build "
            f"{', '.join(wanted)}, which the running kernel has.",
            "The new kernel starts without these modules; where the root file system, the network or the display "
            "needs one, it does not come up as it should.",
            Remedy("Install the headers together with the kernel.", (command,))
            if where != "nowhere"
            else Remedy(
                "No repository has these headers: leave the kernel out until one does.",
                (("dnf", "upgrade", "--exclude=kernel*"),) if transaction.removes_last else (),
            ),
        )


def _dkms_modules(machine: Machine) -> dict[str, dkms_tree.Package]:
    """By name, the newest version of each package that dkms has installed for the running kernel."""
    versions: dict[str, list[dkms_tree.Package]] = {}
    for package in dkms_tree.packages(machine):
        if any(link.startswith(f"kernel-{machine.running_kernel}-") for link in package.links):
            versions.setdefault(package.name, []).append(package)
    return {name: dkms_tree.newest(several) for name, several in versions.items()}


def _unfinished(machine: Machine, transaction: Transaction) -> Iterator[Concern]:
    """What the transaction brings to its end itself is no concern."""
    names = [
        one.name
        for database in packages.databases(machine)
        for one in database.packages()
        if (one.state in _UNFINISHED or one.reinstall) and not transaction.touches(one)
    ]
    if names:
        yield Concern(
            f"{_these('package', names)} did not come to the end of an earlier installation, and this one leaves "
            "it so.",
            "What boots next may lack what its scripts were to make: an initramfs, a boot entry.",
            Remedy("Let dpkg finish it.", (("dpkg", "--configure", "-a"),)),
        )


def _these(what: str, names: Sequence[str]) -> str:
    return f"The {what}{'s' * (len(names) > 1)} {', '.join(names)}"
