"""One scenario: resume the machine, do to it what happens to people, have it judge itself, and start it anew."""

from __future__ import annotations

import contextlib
import json
import os
import re
import time
from dataclasses import asdict, dataclass, field
from typing import Any

from safeupdate.rehearsal import boot, report
from safeupdate.rehearsal.agent import DIRECTORY, Agent
from safeupdate.rehearsal.hardware import Hardware
from safeupdate.rehearsal.outcome import disturbed, mark, of
from safeupdate.rehearsal.qemu import Guest, GuestError, start
from tests.lab import saved
from tests.lab.programs import LabError
from tests.lab.saved import Saved
from tests.lab.scenario import Scenario

INJECT_LIMIT = 1800.0
CHECK_LIMIT = 600.0
OFF_LIMIT = 300.0
"""Seconds. Building an initramfs takes ten minutes in a guest beside another, a check one, and systemd may wait 90
seconds for a service to stop."""


_POWER_OFF = """
sync
systemctl poweroff --no-block && exit
# What broke has broken systemctl, too: as a person does then, by the SysRq key.
echo u > /proc/sysrq-trigger
(sleep 5; echo o > /proc/sysrq-trigger) > /dev/null 2>&1 &
"""

_QUICK = """
if [ -d /etc/initramfs-tools/conf.d ]; then echo COMPRESSLEVEL=1 > /etc/initramfs-tools/conf.d/lab.conf; fi
if [ -d /etc/dracut.conf.d ]; then echo 'compress="zstd -1"' > /etc/dracut.conf.d/lab.conf; fi
"""
"""An initramfs that is built in the guest: what is packed best takes ten minutes more there."""

_WITHOUT = """
mkdir -p /etc/safeupdate/safeupdate.toml.d
printf '[checks.%s]\\nskip = true\\nreason = "the lab asks what it finds"\\n' {check} \\
    > /etc/safeupdate/safeupdate.toml.d/lab.toml
"""


@dataclass(frozen=True)
class Truth:
    """What became of the machine: state, stage and decisive line (`Outcome`), and the kernel that runs."""

    outcome: str
    stage: str
    line: str
    kernel: str = ""


@dataclass(frozen=True)
class Result:
    """What the machine said, and what became of it. `problem`: the lab failed, which says nothing of the machine."""

    verdict: str = ""
    target: str = ""
    findings: tuple[tuple[str, str, str, str], ...] = ()
    truth: Truth = Truth("", "", "")
    seconds: dict[str, int] = field(default_factory=dict)
    problem: str = ""

    @property
    def decisive(self) -> str:
        """The finding that made the verdict: its id."""
        of_level = {level: name for level, name, _, _ in reversed(self.findings)}
        return of_level.get("blocker") or of_level.get("unknown") or ""


def perform(
    scenario: Scenario, state: Saved, *, truth: Truth | None = None, without: str | None = None, keep: bool = False
) -> Result:
    """Run the scenario in a directory of its own, which holds the consoles afterwards; with `keep`, the disk too.

    With `truth`, what became of it is known from before, and it is only judged; `without` this check.
    """
    work = os.path.join(saved.directory(), "runs", scenario.name)
    os.makedirs(work, exist_ok=True)
    clock = _Clock()
    document: dict[str, Any] = {}
    try:
        saved.room()
        machine = state.onto(os.path.join(work, "disk"))
        with start(machine, os.path.join(work, "before.console"), saved=state.memory) as guest:
            agent = Agent(guest)
            agent.hello()
            before = _report(agent, work, "before")
            clock.lap("resume")
            _inject(agent, scenario, work)
            clock.lap("inject")
            document = _check(agent, work, without)
            clock.lap("check")
            if truth is None:
                _power_off(guest, agent)
                clock.lap("power off")
        if oops := _oops(work):
            raise LabError(oops)
        if truth is None:
            truth = _reboot(scenario, machine, before, work)
            clock.lap("boot")
        if not keep:
            for disk in machine.disks:
                os.unlink(disk.image)
    except (LabError, GuestError, OSError) as error:
        return _result(document, Truth("", "", ""), clock.laps, problem=_oops(work) or str(error))
    return _result(document, truth, clock.laps)


def _reboot(scenario: Scenario, machine: Hardware, before: report.Report, work: str) -> Truth:
    for _ in range(saved.BOOTS):
        with start(scenario.next_boot(machine), os.path.join(work, "console")) as guest:
            ending = boot.watch(guest, answers=dict(scenario.base.answers))
            after = _report(Agent(guest), work, "after") if ending == "up" else None
            console = guest.console.text()
        if not disturbed(console):
            outcome = of(console, ending, before, after)
            kernel = after.kernel if after is not None else ""
            return Truth(outcome.state, outcome.stage, outcome.line, kernel)
    raise LabError(f"the host is too busy to emulate a machine: {disturbed(console)}")


def _result(document: dict[str, Any], truth: Truth, seconds: dict[str, int], problem: str = "") -> Result:
    findings = [
        (finding["level"], finding["id"], finding["subject"], finding["problem"])
        for check in document.get("checks", ())
        for finding in check["findings"]
    ]
    return Result(
        verdict=document.get("verdict", ""),
        target=document.get("target", {}).get("kernel") or "",
        findings=tuple(findings),
        truth=truth,
        seconds=seconds,
        problem=problem,
    )


def _oops(work: str) -> str:
    """What the kernel of the machine that is asked said of its own failure: what came after that counts nowhere."""
    with contextlib.suppress(FileNotFoundError), open(os.path.join(work, "before.console"), "rb") as file:
        found = re.search(rb"BUG: (?:kernel|unable to handle) [^\r\n]*", file.read())
        return found[0].decode("ascii", "replace") if found else ""
    return ""


class _Clock:
    def __init__(self) -> None:
        self._last = time.monotonic()
        self.laps: dict[str, int] = {}

    def lap(self, name: str) -> None:
        now = time.monotonic()
        self.laps[name] = round(now - self._last)
        self._last = now


def _report(agent: Agent, work: str, name: str) -> report.Report:
    text = agent.run(report.SCRIPT, limit=180).output
    said = report.parse(text)
    if said is None:
        raise LabError(f"the machine does not say how it is: {text[-500:]}")
    with open(os.path.join(work, f"{name}.json"), "w", encoding="utf-8") as file:
        json.dump(asdict(said), file, indent=1, default=sorted)
    return said


def _inject(agent: Agent, scenario: Scenario, work: str) -> None:
    agent.put("inject", (_QUICK + scenario.inject).encode())
    # No program may take the agent's serial port for the terminal of a person.
    command = f"DEBIAN_FRONTEND=noninteractive setsid --wait sh -e {DIRECTORY}/inject"
    done = agent.run(f"{command}; code=$?; rm {DIRECTORY}/inject; exit $code", INJECT_LIMIT)
    with open(os.path.join(work, "inject.log"), "w", encoding="utf-8") as file:
        file.write(done.output)
    if done.code != 0:
        raise LabError(f"inject ended with {done.code}: {done.output[-500:].strip()}")


def _check(agent: Agent, work: str, without: str | None) -> dict[str, Any]:
    if without is not None:
        agent.run(_WITHOUT.format(check=without))
    done = agent.run(f"safeupdate check --json 2> {DIRECTORY}/errors; echo; cat {DIRECTORY}/errors", CHECK_LIMIT)
    with open(os.path.join(work, "check.json"), "w", encoding="utf-8") as file:
        file.write(done.output)
    try:
        document, _ = json.JSONDecoder().raw_decode(done.output)
    except ValueError:
        raise LabError(f"the check printed no report: {done.output[-1000:].strip()}") from None
    assert isinstance(document, dict)
    return document


def _power_off(guest: Guest, agent: Agent) -> None:
    with contextlib.suppress(GuestError):
        # On an idle host it is off before it has answered.
        agent.run(_POWER_OFF)
    began = guest.seconds
    while guest.poll(1.0):
        if mark(guest.console.last()) is not None:
            # It stopped on its way, all written: its person takes the power away.
            return
        if guest.seconds - began > OFF_LIMIT:
            raise LabError("the machine does not power off")
