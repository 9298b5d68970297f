"""Whole trees with anything at all where files are expected: an answer comes, nothing escapes, nothing is written."""

from __future__ import annotations

import os
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from safeupdate.judge import judge
from safeupdate.ledger import reading
from safeupdate.machine import Machine
from safeupdate.render.json import render as as_json
from safeupdate.render.text import render as as_text
from tests.unit.test_cli import FILES
from tests.unit.trees import IMAGE, INITRD, RELEASE, tree

SECRET = "a line that only the host may read"

PLACES = (
    IMAGE,
    INITRD,
    "/boot/grub/grub.cfg",
    "/boot/grub/grubenv",
    "/boot/efi/EFI/BOOT/BOOTX64.EFI",
    "/boot/efi/loader/loader.conf",
    "/boot/efi/loader/entries/a.conf",
    "/etc/fstab",
    "/etc/os-release",
    "/etc/crypttab",
    "/sbin/init",
    "/bin/sh",
    f"/lib/modules/{RELEASE}",
    f"/lib/modules/{RELEASE}/modules.dep",
    f"/lib/modules/{RELEASE}/modules.dep.bin",
    f"/lib/modules/{RELEASE}/modules.builtin",
    f"/boot/config-{RELEASE}",
    "/proc/self/mountinfo",
    "/proc/cmdline",
    "/proc/modules",
    "/proc/sys/kernel/osrelease",
    "/sys/class/block/vda1/dev",
    "/sys/firmware/efi/efivars/BootOrder-8be4df61-93ca-11d2-aa0d-00e098032b8c",
    "/run/udev/data/b254:1",
    "/dev/disk/by-uuid",
    "/safeupdate-capture.json",
    "/var/lib/dpkg/status",
    "/var/lib/rpm/rpmdb.sqlite",
    "/var/lib/safeupdate/ledger.db",
    "/etc/sysctl.d/x.conf",
)

KINDS = ("fifo", "directory", "loop", "outside", "dangling", "sparse", "noise", "empty", "gone")


def _put(root: Path, place: str, kind: str, noise: bytes) -> None:
    path = root / place[1:]
    if not path.parent.is_dir():
        try:
            path.parent.mkdir(parents=True)
        except OSError:
            return
    if path.is_dir() and not path.is_symlink():
        return
    path.unlink(missing_ok=True)
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "directory":
        path.mkdir()
    elif kind == "loop":
        path.symlink_to(path.name)
    elif kind == "outside":
        path.symlink_to(f"../../../../../../../..{root.parent}/secret")
    elif kind == "dangling":
        path.symlink_to("/nowhere\udcff/\x1b[31m")
    elif kind == "sparse":
        with path.open("wb") as file:
            file.truncate(1 << 40)
    elif kind != "gone":
        path.write_bytes(noise if kind == "noise" else b"")


def _state(root: Path) -> list[tuple[str, int, int, int]]:
    found = []
    for directory, names, files in os.walk(root):
        for name in (*names, *files):
            status = os.lstat(os.path.join(directory, name))
            found.append((os.path.join(directory, name), status.st_mode, status.st_size, status.st_mtime_ns))
    return sorted(found)


@pytest.mark.parametrize("path", PLACES)
def test_a_terabyte_of_nothing_is_not_read(tmp_path: Path, path: str) -> None:
    tree(tmp_path, FILES)
    _put(tmp_path, path, "sparse", b"")
    assert judge(Machine.tree(str(tmp_path))).verdict != "safe"
    assert reading.read(Machine.tree(str(tmp_path))).boots == ()


@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.dictionaries(st.sampled_from(PLACES), st.tuples(st.sampled_from(KINDS), st.binary(max_size=300)), max_size=8),
)
def test_anything_in_the_place_of_any_file(hostile: dict[str, tuple[str, bytes]]) -> None:
    with TemporaryDirectory() as place:
        Path(place, "secret").write_text(SECRET)
        root = Path(place, "machine")
        tree(root, FILES)
        for path, (kind, noise) in hostile.items():
            _put(root, path, kind, noise)
        before = _state(root)
        report = judge(Machine.tree(str(root)))
        assert report.verdict != "safe"  # it never had modules, nor an init
        assert _state(root) == before
        for text in (as_json(report), as_text(report, verbose=True)):
            assert SECRET not in text
            assert "\x1b" not in text
