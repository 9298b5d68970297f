"""A small machine with two kernels and a gate: it updates, reboots, loses its power, and says what held when."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from pathlib import Path

from safeupdate.boot import find_plan
from safeupdate.config import DEFAULTS, Config
from safeupdate.fingerprint import Hasher, booted
from safeupdate.gate import policy, record, state
from safeupdate.gate.host import Host
from safeupdate.gate.lever import Lever, Order, State
from safeupdate.gate.parts import parts_now
from safeupdate.gate.record import Record
from safeupdate.gate.settle import settle
from safeupdate.gate.state import Gate
from safeupdate.ledger import writing
from safeupdate.ledger.reading import BOOT_ID, UNKNOWN, Boot, identity
from safeupdate.machine import Completed, Machine
from safeupdate.report import (
    CheckResult,
    FallbackFacts,
    Finding,
    MachineFacts,
    Report,
    Target,
    Verdict,
    blocker,
    unknown,
)
from safeupdate.volumes import Volumes
from tests.unit.test_boot_grub import FALLBACK, NEW, OLD, SIMPLE, debian
from tests.unit.test_steering import BIOS
from tests.unit.trees import Content, tree, x86_image

START = datetime(2026, 11, 23, 8, 0, tzinfo=timezone.utc)

ENTRIES = {NEW: SIMPLE, OLD: FALLBACK}
"""The entry of each kernel in Debian's menu, in which the new one is next."""


def _hold(name: str) -> str:
    """What the lever below holds: in /boot for the one that outlasts a reboot."""
    return f"/boot/held-{name}" if name in policy.STEERING else f"/run/held-{name}"


def lever(name: str) -> Lever:
    """A lever that holds while its file is there, and keeps a record as the real ones do."""

    def look(host: Host) -> State:
        held = host.machine.exists(_hold(name))
        return State("closed" if held else "open", f"{_hold(name)} is {'there' if held else 'not there'}.")

    def close(host: Host, order: Order) -> State:
        if look(host).position == "open":
            record.store(host, Record(name, None, order.fallback, order.why, host.now().isoformat()))
            host.write(_hold(name), (order.fallback or "").encode())
        return look(host)

    def reopen(host: Host) -> State:
        if look(host).position == "closed":
            host.remove(_hold(name))
        record.drop(host, name)
        return look(host)

    return Lever(name, name, look, close, reopen, opt_in=name == "inhibitor")


LEVERS = tuple(lever(name) for name in sorted(policy.LEVERS))


def report(
    machine: Machine,
    verdict: Verdict,
    *,
    kernel: str = NEW,
    fallback: str | None = OLD,
    findings: Sequence[Finding] | None = None,
    loader: str = "grub",
    skipped: Sequence[str] = (),
    time: datetime = START,
) -> Report:
    """What a check of this machine says."""
    if findings is None:
        findings = {
            "safe": (),
            "unsafe": (blocker("initramfs.truncated", kernel, "The initramfs is cut off.", "It panics."),),
            "unknown": (unknown("initramfs.no-decoder", kernel, "Nothing decodes the initramfs.", "Not known."),),
        }[verdict]
    outcome = {"safe": "passed", "unsafe": "failed", "unknown": "unknown"}[verdict]
    checks = [CheckResult("initramfs", "The initramfs", True, outcome, tuple(findings))]  # type: ignore[arg-type]
    checks += [CheckResult(name, name, True, "skipped", reason="a test") for name in skipped]
    return Report(
        version="1",
        time=time.isoformat(timespec="seconds"),
        machine=MachineFacts(machine.root, "debian 12", "x86_64", "bios", False, machine.running_kernel),
        target=Target(kernel, loader, ENTRIES[kernel], f"Linux {kernel}", "GRUB starts its first entry", None),
        fallback=FallbackFacts()
        if fallback is None
        else FallbackFacts(fallback, ENTRIES[fallback], "proven", "manual"),
        verdict=verdict,
        checks=tuple(checks),
        fingerprint=parts_now(machine, UNKNOWN),
    )


def _no_program(_: Sequence[str], _seconds: float) -> Completed:
    """There is no systemd here; `sync` and a syntax checker are content."""
    return Completed(0, b"", b"")


class World:
    """The machine. `verdict`, `kernel` and `fallback` are what the next check says."""

    def __init__(self, root: Path, *, levers: Sequence[Lever] = LEVERS, config: Config = DEFAULTS) -> None:
        self.root = root
        self.levers = levers
        self.config = config
        self.clock = START
        self.verdict: Verdict = "safe"
        self.kernel = OLD
        self.fallback: str | None = None
        self.findings: Sequence[Finding] | None = None
        self.skipped: Sequence[str] = ()
        self.unprotected = ""
        self.protected: list[tuple[Report, set[str]]] = []
        self.loader = "grub"
        self.error: Exception | None = None
        self.during: list[tuple[str, set[str]]] = []
        self._boots = 0
        files: dict[str, Content] = {
            "/etc/machine-id": "0f1d1f3e6f5a4a1c9b7e000000000001\n",
            **BIOS,
            **debian(),
            "/var/lib": None,
            "/proc/sys/kernel/random": None,
        }
        for release in (OLD, NEW):
            files[f"/boot/vmlinuz-{release}"] = x86_image(release)
            files[f"/boot/initrd.img-{release}"] = release
            files[f"/lib/modules/{release}/modules.dep"] = ""
        tree(root, files)
        self.reboot(OLD)

    @property
    def machine(self) -> Machine:
        return Machine(str(self.root), live=True)

    def host(self) -> Host:
        return Host(self.machine, lambda: self.clock, _no_program)

    def later(self, **span: float) -> None:
        self.clock += timedelta(**span)

    def reboot(self, release: str) -> None:
        """However it came about: what is in /run is gone."""
        self._boots += 1
        self.later(minutes=1)
        shutil.rmtree(self.root / "run", ignore_errors=True)
        (self.root / "run").mkdir()
        (self.root / BOOT_ID.lstrip("/")).write_text(f"boot-{self._boots}\n")
        (self.root / "proc/sys/kernel/osrelease").write_text(f"{release}\n")

    def confirm(self) -> None:
        """This boot has come up."""
        machine = self.machine
        release = machine.running_kernel or ""
        plan = find_plan(machine, Volumes(machine))[1]
        entry = next(one for one in plan.entries if one.id == ENTRIES[release])
        files = booted(Hasher(machine), entry, release)
        time = self.clock.isoformat(timespec="seconds")
        boot = Boot(
            boot_id=f"boot-{self._boots}",
            release=release,
            entry=ENTRIES[release],
            cmdline="",
            started=time,
            confirmed=time,
            source="service",
            kernel=files.kernel,
            initramfs=files.initramfs,
            modules=files.modules,
            machine=identity(machine),
        )
        assert writing.record_boots(machine, [boot], {}, time=time, keep_days=400) == ()

    def update(self, verdict: Verdict, *, kernel: str = NEW, fallback: str | None = OLD) -> None:
        """The package manager changes what boots next."""
        self.verdict, self.kernel, self.fallback = verdict, kernel, fallback
        image = self.root / f"boot/initrd.img-{kernel}"
        image.write_bytes(image.read_bytes() + b"+")

    def look(self) -> Report:
        """The check, recorded as the verb records it. `during` has what was held at each."""
        gate = state.read(self.machine)
        self.during.append((gate.verdict if gate is not None else "", self.held()))
        if self.error is not None:
            raise self.error
        machine = self.machine
        found = report(
            machine,
            self.verdict,
            kernel=self.kernel,
            fallback=self.fallback,
            findings=self.findings,
            skipped=self.skipped,
            loader=self.loader,
            time=self.clock,
        )
        writing.record_check(machine, found, {}, keep_days=400)
        return found

    def protect(self, found: Report) -> str:
        """The snapshot, and what was held while it was taken."""
        self.protected.append((found, self.held()))
        return self.unprotected

    def settle(self, *, force: bool = False, host: Host | None = None) -> Gate:
        self.later(seconds=1)
        return settle(
            host or self.host(),
            self.look,
            protect=self.protect,
            config=self.config,
            force=force,
            levers=self.levers,
            lock_seconds=5,
        )

    def armed(self) -> World:
        """The old kernel is running, has come up, and was judged safe."""
        self.confirm()
        assert self.settle().mode == "armed"
        return self

    def held(self) -> set[str]:
        """The levers that hold."""
        return {name for name in policy.LEVERS if os.path.exists(f"{self.root}{_hold(name)}")}
