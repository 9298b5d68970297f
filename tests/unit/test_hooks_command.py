"""`safeupdate hook`: what it does before and after a transaction, on a small machine with a gate."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from safeupdate.commands import hook
from safeupdate.gate import state
from safeupdate.report import Report
from tests.unit.gates import World
from tests.unit.test_boot_grub import NEW, OLD

COMES = f"linux-image-{NEW} - - none < 1 amd64 none /a.deb\n".encode()
GOES = f"linux-image-{OLD} 1 amd64 none > - - none **REMOVE**\n".encode()


def configured(world: World, text: str) -> None:
    (world.root / "etc/safeupdate").mkdir(exist_ok=True)
    (world.root / "etc/safeupdate/safeupdate.toml").write_text(text, encoding="utf-8")


def test_what_became_of_the_next_boot_is_said_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    world = World(tmp_path).armed()
    capsys.readouterr()
    assert hook.after(world.host(), world.look, lambda _: "") == 0
    assert capsys.readouterr().err == "", "nothing has changed"

    world.update("unsafe")
    assert hook.after(world.host(), world.look, lambda _: "") == 0
    said = capsys.readouterr()
    assert said.out == "", "dnf 5 reads it as commands"
    assert f"safeupdate: UNSAFE: do not reboot: the next boot ({NEW})" in " ".join(said.err.split())
    assert "The initramfs is cut off." in said.err and "But nothing stops a `reboot`: safeupdate status" in said.err
    gate = state.read(world.machine)
    assert gate is not None and (gate.position, gate.verdict) == ("closed", "unsafe")

    assert hook.after(world.host(), world.look, lambda _: "") == 0
    assert "UNSAFE" not in capsys.readouterr().err
    world.update("safe")
    assert hook.after(world.host(), world.look, lambda _: "") == 0
    assert capsys.readouterr().err.startswith("safeupdate: SAFE")


def test_what_was_judged_in_the_midst_of_it_is_said_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As where a kernel's package asks for a reboot, which the gate is set for at once."""
    world = World(tmp_path).armed()
    began = world.root / hook.BEGAN.lstrip("/")
    began.parent.mkdir(parents=True)
    now = world.host().now().timestamp()
    for when, told in ((now - 60, True), (now + 60, False)):
        began.touch()
        os.utime(began, (when, when))
        world.update("unsafe")
        world.settle()
        capsys.readouterr()
        anew = hook.judged_meanwhile(world.host())
        assert anew is told and not began.exists() and not hook.judged_meanwhile(world.host())
        assert hook.after(world.host(), world.look, lambda _: "", anew=anew) == 0
        assert ("safeupdate: UNSAFE" in capsys.readouterr().err) is told


def test_a_machine_that_keeps_changing_is_not_judged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    world = World(tmp_path).armed()
    world.update("safe")

    def look() -> Report:
        world.update("safe")
        return world.look()

    assert hook.after(world.host(), look, lambda _: "") == hook.FAILED
    assert "is not judged yet" in " ".join(capsys.readouterr().err.split())


def test_a_transaction_that_takes_the_fallback_away(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    world = World(tmp_path).armed()
    world.update("safe")
    world.settle()
    world.reboot(NEW)
    world.confirm()
    world.update("safe")
    assert world.settle().judged.fallback == OLD

    def before(told: bytes) -> int:
        return hook.before(world.host(), "apt", told, world.look)

    none = '[snapshots]\npolicy = "off"\n'
    configured(world, none)
    assert before(COMES) == 0
    assert capsys.readouterr().err == ""
    assert before(GOES) == 0
    assert f"This removes the kernel {OLD}" in capsys.readouterr().err
    configured(world, f'{none}[hooks]\npreflight = "refuse"\n')
    assert before(GOES) == hook.REFUSED
    assert "nothing was changed" in capsys.readouterr().err
    assert before(COMES) == 0
    configured(world, f'{none}[hooks]\npreflight = "off"\n')
    assert before(GOES) == 0
    assert capsys.readouterr().err == ""


def test_what_becomes_of_a_snapshot_is_said_and_refuses_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    world = World(tmp_path).armed()
    for policy in ("if-possible", "required"):
        configured(world, f'[snapshots]\npolicy = "{policy}"\n')
        assert hook.before(world.host(), "apt", COMES, world.look) == 0
        assert "safeupdate: There is no snapshot to go back to" in " ".join(capsys.readouterr().err.split())
