"""One run: from a machine to a report."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timezone

from safeupdate import __version__, control, fingerprint, kernels, packages, steering
from safeupdate.boot import find_plan
from safeupdate.boot.firmware import Firmware
from safeupdate.boot.plan import BootEntry, BootPlan
from safeupdate.case import Case, Check, Fallback, Shelf
from safeupdate.checks import CHECKS, kernel_files
from safeupdate.config import DEFAULTS, Config
from safeupdate.errors import SafeupdateError, Unreadable, UsageError
from safeupdate.fingerprint import Hasher
from safeupdate.formats import cmdline
from safeupdate.kernels import Kernel
from safeupdate.ledger.reading import UNKNOWN, History
from safeupdate.machine import Machine
from safeupdate.report import (
    CheckResult,
    FallbackFacts,
    Finding,
    MachineFacts,
    NotApplicable,
    Outcome,
    Quality,
    Recovery,
    Report,
    Target,
    blocker,
    outcome_of,
    rfc3339,
    unknown,
    verdict_of,
)
from safeupdate.volumes import Volumes

Progress = Callable[[str], None]
"""Called with what is being done, for a person who waits."""

_LOADERS = {"grub": "GRUB", "systemd-boot": "systemd-boot"}

_FALLBACKS_TRIED = 3
"""Distributions keep two or three kernels; older entries are not worth the time of a check."""


def judge(
    machine: Machine,
    *,
    release: str | None = None,
    required_drivers: tuple[str, ...] | None = None,
    config: Config = DEFAULTS,
    history: History = UNKNOWN,
    hasher: Hasher | None = None,
    all_modules: bool = False,
    progress: Progress = lambda _: None,
) -> Report:
    """Ask every check of the kernel that boots next, or of `release`. Raises `UsageError` where it is not installed."""
    progress("reading the boot plan")
    report: Report | None = None
    shelf = Shelf(machine)
    case = Case(
        machine=machine,
        volumes=Volumes(machine),
        firmware=Firmware("unknown"),
        plan=BootPlan(None),
        entry=None,
        kernel=None,
        shelf=shelf,
        required_drivers=required_drivers,
        config=config,
        history=history,
        hasher=Hasher(machine) if hasher is None else hasher,
        all_modules=all_modules,
        progress=progress,
    )

    def run() -> None:
        nonlocal case, report
        firmware, plan = _plan(machine, case.volumes)
        case = replace(case, firmware=firmware, plan=plan, databases=packages.databases(machine))
        report = _judge(case, release)

    try:
        failed = _attempt("kernel-files", "what is installed here", run)
    finally:
        shelf.close()
        case.cache.save()
    if report is not None:
        return report
    assert failed is not None
    return _report(case, (_alone(failed),))


def _plan(machine: Machine, volumes: Volumes) -> tuple[Firmware, BootPlan]:
    """The plan without our own lever on the default, which is judged, and beside it the one with it."""
    held = steering.read(machine)
    firmware, plan = find_plan(machine, volumes, without=held)
    if held is None:
        return firmware, plan
    actual = find_plan(machine, volumes)[1]
    if actual.next is None:
        said = "what starts while it does cannot be told"
    elif actual.next.id == held.entry:
        said = "and that is what starts until it lets go"
    elif held.entry in [entry.id for entry in actual.entries]:
        said = f'and that is what starts after "{actual.next.title}"'
    else:
        said = f'which no longer exists: "{actual.next.title}" starts'
    title = next((entry.title for entry in actual.entries if entry.id == held.entry), held.entry)
    holds = f'safeupdate holds the default on "{title}" ({held.where}), {said}'
    return firmware, replace(plan, why=f"{plan.why}; but {holds}" if plan.why else holds, actual=actual)


def _judge(case: Case, release: str | None) -> Report:
    machine = case.machine
    found = kernels.installed(machine)
    # What the checks read after this is at least as new: a change meanwhile makes another fingerprint.
    parts = fingerprint.of(case.hasher, case.firmware, case.plan, found, case.databases) if machine.live else {}
    plan = case.plan if release is None else _overridden(machine, case.plan, found, release)
    case = replace(case, plan=plan, kernels=found)
    if not found and not kernels.module_releases(machine) and not any(entry.kernel for entry in plan.entries):
        return _report(case, (_alone(_no_kernel(machine)),), parts)
    case = replace(case, entry=plan.next, kernel=_kernel(machine, plan.next, found, release))
    _prepare(case)
    candidates = tuple(_candidates(case))
    for candidate in candidates[:1]:
        _prepare(candidate)
    results = []
    for check in CHECKS:
        if not check.asked(case):
            continue
        case.progress(check.title)
        if check.id == "fallback":
            tried = tuple(_judged(candidates))
            case = replace(case, tried=tried, fallback=next((one for one in tried if one.quality != "none"), None))
        results.append(_ask(check, case))
    return _report(case, tuple(results), parts)


def _overridden(machine: Machine, plan: BootPlan, found: tuple[Kernel, ...], release: str) -> BootPlan:
    if not any(kernel.release == release for kernel in found):
        installed = ", ".join(kernel.release for kernel in found) or "none"
        raise UsageError(f"the kernel {release} is not installed", f"installed: {installed}")
    for entry in plan.entries:
        kernel = _kernel(machine, entry, found)
        if kernel is not None and kernel.release == release:
            return replace(plan, next=entry, why=f"asked for with --kernel {release}", findings=(), actual=None)
    finding = blocker(
        "boot-entry.no-entry",
        release,
        f"The boot menu has no entry for the kernel {release}.",
        "It cannot be started.",
    )
    return replace(plan, next=None, why=f"asked for with --kernel {release}", findings=(finding,), actual=None)


def _kernel(
    machine: Machine, entry: BootEntry | None, found: tuple[Kernel, ...], release: str | None = None
) -> Kernel | None:
    """The kernel that an entry starts, the release by the image itself where it tells."""
    if entry is None:
        return next((kernel for kernel in found if kernel.release == release), None)
    if entry.kernel is None:
        return None
    if entry.kernel.path is not None:
        kernel = kernels.kernel_at(machine, entry.kernel.path, embedded=entry.embedded)
        if kernel is not None:
            return kernel
    name = entry.release or kernels.release_in_name(entry.kernel.spec)
    return None if name is None else Kernel(name, entry.kernel.path or entry.kernel.spec, machine)


def _prepare(case: Case) -> None:
    hashed = None
    if not case.is_target:  # of the fallback it is only asked whether it would do
        with suppress(Unreadable):
            hashed = case.modules_in_use | case.needs.keys()
    for path, section in case.image_places:
        if case.machine.is_file(path):
            case.shelf.prepare(path, section, hashed=hashed)


def _candidates(case: Case) -> Iterator[Case]:
    """A case for each other release of the menu: the running one first, then in menu order."""
    seen = {case.release}
    cases = []
    for entry in case.plan.entries:
        kernel = _kernel(case.machine, entry, case.kernels)
        if entry is case.entry or entry.kernel is None or kernel is None or kernel.release in seen:
            continue
        seen.add(kernel.release)
        cases.append(replace(case, entry=entry, kernel=kernel, is_target=False))
    cases.sort(key=lambda one: one.release != case.machine.running_kernel)
    return iter(cases[:_FALLBACKS_TRIED])


def _judged(candidates: tuple[Case, ...]) -> Iterator[Fallback]:
    """Judge one candidate after the other, until one passes."""
    for case in candidates:
        assert case.entry is not None
        results = tuple(_ask(check, case) for check in CHECKS if check.per_entry and check.asked(case))
        quality: Quality = "none"
        recovery: Recovery = "none"
        if _by_itself(case.plan, case.entry):
            recovery = "automatic"
        elif case.plan.menu:
            recovery = "manual"
        if verdict_of(results) == "safe" and recovery != "none":
            quality = control.quality(case)
        yield Fallback(replace(case.entry, release=case.release), quality, recovery, results)
        if quality != "none":
            return


def _by_itself(plan: BootPlan, entry: BootEntry) -> bool:
    """Whether no person is needed to get to `entry` once the target has failed: a counter leads there, or our hold."""
    actual = plan.actual
    held = () if actual is None else (actual.next, actual.automatic)
    counted = plan.automatic is not None and plan.automatic.kernel == entry.kernel
    return counted or entry.id in [one.id for one in held if one is not None]


def _ask(check: Check, case: Case) -> CheckResult:
    """One check's answer; one that crashes could not tell, and keeps what it found before."""
    skip = case.config.skip(check.id)
    if skip is not None:
        return CheckResult(check.id, check.title, check.essential, "skipped", reason=f"{skip.reason}; {skip.source}")
    started = time.perf_counter()
    findings: list[Finding] = []
    reason: str | None = None
    outcome: Outcome | None = None

    def run() -> None:
        for finding in check.run(case):
            told = _told(case, finding)
            if told not in findings:  # the plan and the entry may stumble over the same file
                findings.append(told)

    try:
        failed = _attempt(check.id, check.title, run)
        if failed is not None:
            findings.append(_told(case, failed))
    except NotApplicable as answer:
        outcome, reason = "not-applicable", str(answer)
    return CheckResult(
        id=check.id,
        title=check.title,
        essential=check.essential,
        outcome=outcome if outcome is not None and not findings else outcome_of(findings),
        findings=tuple(findings),
        reason=reason,
        seconds=time.perf_counter() - started,
    )


def _told(case: Case, finding: Finding) -> Finding:
    """The finding with the weight that it has on this machine."""
    return case.config.lowered(control.against_control(case, finding))


def _attempt(identity: str, title: str, act: Callable[[], None]) -> Finding | None:
    """Act; what comes in the way is an answer that could not be had, never one of its own."""
    hint = ""
    try:
        act()
        return None
    except (NotApplicable, UsageError):
        raise
    except SafeupdateError as error:
        what, hint = str(error), error.hint
    except Exception as error:  # a defect in one place must not hide the answers of the others
        what = f"it crashed ({type(error).__name__}: {error})"
    return unknown(
        f"{identity}.could-not-tell",
        title,
        f"This could not be looked at to its end: {what}.",
        "What would have been found is not known.",
        evidence=[hint] if hint else [],
    )


def _no_kernel(machine: Machine) -> Finding:
    return unknown(
        "no-kernel",
        machine.root,
        "No kernel is installed here: neither /boot, nor /lib/modules, nor a boot menu has one.",
        "There is nothing that boots next, as in a container.",
    )


def _alone(finding: Finding) -> CheckResult:
    """The one answer of a run in which no check could be asked."""
    return CheckResult("kernel-files", kernel_files.CHECK.title, True, outcome_of([finding]), (finding,))


def _report(case: Case, results: tuple[CheckResult, ...], parts: Mapping[str, str] | None = None) -> Report:
    machine, plan, fallback, entry = case.machine, case.plan, case.fallback, case.plan.next
    actual = entry if plan.actual is None else plan.actual.next
    embedded = entry is not None and entry.embedded
    image = kernels.image_at(machine, case.kernel.image, embedded=embedded) if case.kernel is not None else None
    return Report(
        version=__version__,
        time=rfc3339(datetime.now(timezone.utc)),
        machine=MachineFacts(
            root=machine.root,
            distribution=machine.distribution,
            architecture=image.architecture if image is not None else case.architecture,
            firmware=case.firmware.kind,
            secure_boot=case.firmware.secure_boot,
            running_kernel=machine.running_kernel,
        ),
        target=Target(
            kernel=case.release,
            loader=plan.loader,
            entry=entry.id if entry is not None else None,
            title=entry.title if entry is not None else None,
            why=plan.why,
            actual_next=actual.id if actual is not None else None,
            actual_kernel=case.release if actual is entry else _release(case, actual),
        ),
        fallback=FallbackFacts()
        if fallback is None
        else FallbackFacts(fallback.entry.release, fallback.entry.id, fallback.quality, fallback.recovery),
        verdict=verdict_of(results),
        checks=results,
        boot_path=_boot_path(case),
        fingerprint=parts or {},
    )


def _release(case: Case, entry: BootEntry | None) -> str | None:
    kernel = _kernel(case.machine, entry, case.kernels)
    return kernel.release if kernel is not None else None


def _boot_path(case: Case) -> tuple[str, ...]:
    """Firmware, loader, kernel, initramfs, devices, root: the way that the next boot goes, as far as it is known."""
    if case.entry is None:
        return ()
    steps = [] if case.firmware.kind == "unknown" else [case.firmware.kind.upper()]
    steps += [_LOADERS.get(case.plan.loader or "", case.plan.loader or "boot loader"), case.release or case.entry.title]
    steps += [file.spec.rsplit("/", 1)[-1] for file in case.entry.initramfs]
    root = cmdline.parse(case.entry.cmdline).last("root")
    if root:
        devices = sorted(case.volumes.source_devices(root))
        steps.append(f"{root} ({', '.join(devices)})" if devices and f"/dev/{devices[0]}" != root else root)
    return (*steps, "/")
