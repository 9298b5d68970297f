"""What boots that came up prove: how well a fallback is known, and which findings the running boot has too.

A boot proves something of the files that it used, and of no others: the ledger holds their checksums as they were at
the boot, and they are compared with what is on disk now. A boot of which the journal alone tells, or of another machine
as the ledger of a cloned disk has them, proves that its release came up once.
"""

from __future__ import annotations

from safeupdate.boot.plan import BootEntry
from safeupdate.case import Case
from safeupdate.fingerprint import Hasher, booted
from safeupdate.ledger.reading import Boot, History, boot_id, identity
from safeupdate.machine import Machine
from safeupdate.report import Finding, Lowered, Quality
from safeupdate.surroundings import inside

_BASELINE = "the boot that is running now has the same, and came up"


def quality(case: Case) -> Quality:
    """How well the entry of `case` is known to boot, all checks having passed."""
    if case.entry is not None and proven(case.machine, case.history, case.hasher, case.entry, case.release):
        return "proven"
    running = case.machine.running_kernel if inside(case.machine) is None else None  # the host's is not this one's
    return "booted-before" if case.history.good(case.release) or case.release == running else "unproven"


def proven(machine: Machine, history: History, hasher: Hasher, entry: BootEntry, release: str | None) -> bool:
    """Whether a boot of this release came up with the very files that `entry` names, as they are now."""
    return any(_used(boot, machine, hasher, entry) for boot in history.good(release))


def against_control(case: Case, finding: Finding) -> Finding:
    """A blocker that the running boot had in the same words, its release apart, as a warning: that boot came up."""
    if finding.level != "blocker" or case.release is None:
        return finding
    control = _control(case)
    if control is None:
        return finding
    words = _words((finding.id, finding.subject, finding.problem), case.release)
    if words not in [_words(told, control.release) for told in control.findings]:
        return finding
    if not any(_used(control, case.machine, case.hasher, entry) for entry in case.plan.entries):
        return finding
    return finding.at("warning", Lowered("blocker", _BASELINE))


def _control(case: Case) -> Boot | None:
    """The running boot, where it was recorded and has come up."""
    boot = case.history.boot(boot_id(case.machine))
    return boot if boot is not None and boot.confirmed is not None else None


def _used(boot: Boot, machine: Machine, hasher: Hasher, entry: BootEntry) -> bool:
    """Whether `boot` used the very files that `entry` names, as they are now, on this machine."""
    if entry.release not in (boot.release, None) or boot.kernel is None or boot.modules is None:
        return False
    if boot.machine is None or boot.machine != identity(machine):
        return False
    now = booted(hasher, entry, boot.release)
    return (now.kernel, now.modules) == (boot.kernel, boot.modules) and (
        now.initramfs is not None
        and boot.initramfs is not None
        and [sha256 for _, sha256 in now.initramfs] == [sha256 for _, sha256 in boot.initramfs]
    )


def _words(told: tuple[str, str, str], release: str) -> tuple[str, ...]:
    return tuple(text.replace(release, "RELEASE") for text in told)
