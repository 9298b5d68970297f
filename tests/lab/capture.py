"""Facts of a base machine, captured in it by `safeupdate capture`, and made small enough for tests/data/captures."""

from __future__ import annotations

import base64
import io
import json
import os
import shutil
import tarfile

from safeupdate.rehearsal.agent import Agent
from safeupdate.rehearsal.qemu import start
from tests.lab import saved
from tests.lab.programs import LabError
from tests.lab.saved import Saved
from tests.unit.captures import unpack

LIMIT = 1800.0
"""Seconds for the capture and the way out, over a serial port: some megabytes."""

_CAPTURE = """
safeupdate capture /var/tmp/capture > /dev/null 2>&1 || exit
tar -C /var/tmp/capture -cf - . | gzip -1 | base64
"""

_KEPT = ("/etc/", "/boot/", "/efi/", "/proc/", "/sys/", "/run/", "/dev/")
_MANIFEST = "safeupdate-capture.json"


def capture(state: Saved, directory: str) -> None:
    """Write the machine's facts below the directory. Raises `LabError`, `GuestError`."""
    work = os.path.join(saved.directory(), "runs", f"capture-{state.base.name}")
    os.makedirs(work, exist_ok=True)
    machine = state.onto(os.path.join(work, "disk"))
    with start(machine, os.path.join(work, "console"), saved=state.memory) as guest:
        agent = Agent(guest)
        agent.hello()
        done = agent.run(_CAPTURE, LIMIT)
    shutil.rmtree(work)
    if done.code != 0:
        raise LabError(f"{state.base.name} could not be captured: {done.output[-500:]}")
    with tarfile.open(fileobj=io.BytesIO(base64.b64decode(done.output))) as archive:
        unpack(archive, directory)


def thin(tree: str) -> None:
    """Empty the large files of a captured tree that say nothing of this machine alone.

    Programs, libraries, indexes of modules and package lists lose their content as kernels do in every capture without
    --boot: names, modes and sizes stay, and the manifest lists them. The 4,000 names of each kernel's modules go.
    """
    with open(os.path.join(tree, _MANIFEST), encoding="utf-8") as file:
        manifest = json.load(file)
    left_out = set(manifest["left_out"])
    modules = os.path.join(tree, "usr/lib/modules")
    for release in os.listdir(modules):
        shutil.rmtree(os.path.join(modules, release, "kernel"))
        manifest["unreadable"].append(f"/usr/lib/modules/{release}/kernel")
    for place, _, names in os.walk(tree):
        for name in names:
            path = os.path.join(place, name)
            inside = path[len(tree) :]
            ours = inside.startswith(_KEPT) and "ld.so" not in name and not name.startswith("config-")
            if ours or os.path.islink(path):
                continue
            size = os.path.getsize(path)
            if size < 4096 or name == _MANIFEST or inside in left_out:
                continue
            with open(path, "wb") as empty:
                empty.truncate(size)
            left_out.add(inside)
    gone = tuple(f"{directory}/" for directory in manifest["unreadable"])
    manifest["left_out"] = sorted(path for path in left_out if not path.startswith(gone))
    with open(os.path.join(tree, _MANIFEST), "w", encoding="utf-8") as file:
        json.dump(manifest, file)
