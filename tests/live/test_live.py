"""Machines judge themselves, in QEMU: minutes each, and as root (`make vm`)."""

from __future__ import annotations

import os
import shutil

import pytest

from tests.live.jobs import BREAKS, captured, findings, job, perform, report
from tests.live.layouts import ALL, Layout

pytestmark = [
    pytest.mark.vm,
    pytest.mark.skipif(os.geteuid() != 0 or shutil.which("qemu-system-x86_64") is None, reason="needs root and QEMU"),
]


@pytest.mark.parametrize("layout", ALL, ids=lambda layout: layout.name)
def test_a_healthy_machine_says_so_and_so_does_its_capture(layout: Layout) -> None:
    whole = not layout.like
    results, ended = perform(layout.name, job(whole=whole), keep="test")
    assert ended.done, ended.console[-2000:]
    live = report(results, "healthy")
    assert live["verdict"] == "safe", findings(live)
    assert captured(results, "capture")["target"] == live["target"]
    if not whole:
        return
    tree = captured(results, "capture-boot")
    assert (tree["verdict"], findings(tree)) == (live["verdict"], findings(live))
    assert tree["target"] == live["target"]
    assert tree["boot_path"] == live["boot_path"]
    broken = report(results, "broken")
    assert broken["verdict"] == "unsafe"
    assert {each.finding for each in BREAKS} <= {name for level, name, _ in findings(broken) if level == "blocker"}
