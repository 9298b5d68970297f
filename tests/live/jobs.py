"""What a guest does once it is up: judges itself, is captured, is broken in one place after the other and judged again.

The job goes in on a second disk and its results come out on a third, both plain tar archives, so that nothing is
mounted that the machine itself does not have. What the guest writes to its own disk is forgotten.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
from dataclasses import dataclass
from typing import Any

from tests.live import guest
from tests.live.build import directory, disk
from tests.live.layouts import BY_NAME

_NEWEST = "newest=$(ls /lib/modules | sort -V | tail -n 1)\n"
_IMAGE = (
    _NEWEST
    + "image=/boot/initrd.img-$newest\n"
    + "[ ! -d /boot/efi/loader ] || image=$(ls /boot/efi/$(cat /etc/machine-id)/$newest/initrd*)\n"
)
_MENU = "menu=/boot/grub/grub.cfg\n[ ! -d /boot/efi/loader ] || menu=$(ls /boot/efi/loader/entries/*$newest*.conf)\n"


@dataclass(frozen=True)
class Break:
    """One thing that is broken: the script that does it, and the blocker that must say so."""

    do: str
    finding: str


BREAKS = (
    Break(_IMAGE + 'truncate -s -200 "$image"', "initramfs.truncated"),
    Break(
        "echo UUID=5afe0bad-0000-4000-8000-000000000bad /srv ext4 defaults 0 2 >> /etc/fstab",
        "mounts.device-missing",
    ),
    Break(
        _NEWEST + _MENU + "sed -i -E 's,root=(UUID=|/dev/)[^ ]+,root=UUID=5afe0bad-0000-4000-8000-000000000bad,' $menu",
        "boot-entry.root-missing",
    ),
)
"""Done one after the other, and then judged once: a check takes a minute and more in a guest."""

_JOB = """
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root PYTHONPATH=/run/live/program PYTHONDONTWRITEBYTECODE=1
mkdir -p /var/tmp/results/captured
cd /var/tmp/results
timed() {
	name=$1
	shift
	began=$(date +%s%N)
	"$@" > "$name.out" 2> "$name.err"
	echo $? > "$name.code"
	echo "$(( ($(date +%s%N) - began) / 1000000 ))" > "$name.ms"
	echo "$name took $(cat "$name.ms") ms, code $(cat "$name.code")" > /dev/console
}
for name in "cat /proc/self/mountinfo" "blkid" "cat /etc/fstab" "cat /proc/cmdline" "uname -r" "bootctl --no-pager" \
	"bootctl --no-pager list" "efibootmgr -v" "systemctl --failed --no-pager" "ls -l /dev/disk/by-uuid" "free -m"; do
	echo "== $name"
	$name 2>&1
done > truth.txt
"""


def job(*, whole: bool = True) -> str:
    """The script of a run; without `whole`, the machine only judges itself and is captured without its boot files."""
    lines = [_JOB, "timed python python3 -c pass", "timed healthy python3 -m safeupdate check --json"]
    lines += ["cat healthy.out truth.txt > /dev/console"]
    lines += ["timed capture python3 -m safeupdate capture /var/tmp/results/captured/capture"]
    if whole:
        lines += ["timed capture-boot python3 -m safeupdate capture --boot /var/tmp/results/captured/capture-boot"]
        lines += [f"(\n{each.do}\n)" for each in BREAKS]
        lines += ["timed broken python3 -m safeupdate check --json"]
    lines += ["tar -S -cf /dev/vdc -C /var/tmp/results .", "sync"]
    return "\n".join(lines) + "\n"


def perform(name: str, script: str, *, keep: str) -> tuple[str, guest.Ended]:
    """Start a layout's machine with a job, and return the directory of its results. Its disk stays as it was."""
    made = disk(name)
    layout = BY_NAME[name]
    work = os.path.join(directory(), f"{name}.{keep}")
    shutil.rmtree(work, ignore_errors=True)
    os.makedirs(work)
    given, taken = os.path.join(work, "in.tar"), os.path.join(work, "out.tar")
    with open(os.path.join(work, "job.sh"), "w", encoding="utf-8") as file:
        file.write(script)
    with tarfile.open(given, "w") as archive:
        archive.add(os.path.join(work, "job.sh"), "job.sh")
        archive.add(program(), "program/safeupdate", filter=_source)
    with open(given, "ab") as file:
        file.truncate(-(-os.path.getsize(given) // 512) * 512)
    with open(taken, "wb") as file:
        file.truncate(4 << 30)
    variables = f"{work}/variables.fd" if made.variables else None
    arguments: list[str] = []
    if made.variables and variables:
        shutil.copyfile(made.variables, variables)
        arguments += guest.uefi(variables)
    arguments += [*guest.drive(made.image, snapshot=True), *guest.drive(given), *guest.drive(taken)]
    ended = guest.run(arguments, os.path.join(work, "console.log"), answers=dict(layout.answers))
    results = os.path.join(work, "results")
    os.makedirs(results)
    subprocess.run(["tar", "-xf", taken, "-C", results], timeout=300, check=ended.done)
    os.unlink(taken)
    return results, ended


def program() -> str:
    """The program that goes into the guest: this checkout's, or the one that SAFEUPDATE_LIVE_PROGRAM names."""
    here = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    return os.environ.get("SAFEUPDATE_LIVE_PROGRAM") or os.path.join(here, "safeupdate")


def _source(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
    return None if member.name.endswith(("__pycache__", ".pyc")) else member


def report(results: str, name: str) -> dict[str, Any]:
    """A report that the guest printed."""
    with open(os.path.join(results, f"{name}.out"), encoding="utf-8") as file:
        document: dict[str, Any] = json.load(file)
    return document


def captured(results: str, name: str) -> dict[str, Any]:
    """What the program says here of a tree that the guest captured."""
    environment = {**os.environ, "PYTHONPATH": os.path.dirname(program())}
    command = [sys.executable, "-m", "safeupdate", "check", "--json", "--root", os.path.join(results, "captured", name)]
    done = subprocess.run(command, capture_output=True, timeout=300, env=environment, cwd="/")
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def findings(document: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Level, id and subject of each finding, in the order of the report."""
    return [
        (finding["level"], finding["id"], finding["subject"])
        for check in document["checks"]
        for finding in check["findings"]
    ]
