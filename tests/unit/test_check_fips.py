"""A kernel in FIPS mode, which dracut holds against its checksum (fips.sh of dracut-ng 107)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from safeupdate.checks import fips
from safeupdate.storage.image import Image
from safeupdate.storage.target import Target
from tests.unit import initrd
from tests.unit.layouts import BOOT
from tests.unit.test_check_root_storage import asked
from tests.unit.test_distributions import R_NEW, RHEL_BIOS

FILES: dict[str, initrd.Content] = {
    "lib": "usr/lib",
    "init": "usr/lib/systemd/systemd",
    "usr/lib/systemd/systemd": b"",
    "usr/lib/dracut/build-parameter.txt": b"",
    "usr/sbin/fips.sh": b"#!/bin/sh\n",
    "usr/bin/sha512hmac": b"",
    f"usr/lib/modules/{R_NEW}/kernel/fs/xfs.ko": b"",
    f"usr/lib/modules/{R_NEW}/modules.dep": b"kernel/fs/xfs.ko:\n",
}
CHECKSUM = f"/boot/.vmlinuz-{R_NEW}.hmac"
ON = f"fips=1 boot=UUID={BOOT}"


def found(root: Path, words: str, *gone: str, checksum: bool = True) -> list[str]:
    """What is found of RHEL's machine with these words on its command line, and without these files in its image."""
    layout = RHEL_BIOS
    if checksum:
        layout = replace(layout, files={**layout.files, CHECKSUM: f"{'0' * 128}  /boot/vmlinuz-{R_NEW}\n"})
    one = asked(root, layout)
    assert one.entry is not None
    one = replace(one, entry=replace(one.entry, cmdline=f"{one.entry.cmdline} {words}"))
    kept = {path: content for path, content in FILES.items() if not path.endswith(gone)} if gone else FILES
    index = initrd.read(initrd.archive(kept))
    assert one.entry is not None and one.tree is not None
    image = Image(index, Target(one.tree), entry_line=one.entry.cmdline, volumes=one.volumes)
    findings = list(fips.findings(one, image, "/boot/initramfs.img"))
    assert {finding.level for finding in findings} <= {"blocker"}
    return [finding.id.partition(".fips-")[2] for finding in findings]


@pytest.mark.parametrize(
    ("words", "gone", "wanted"),
    [
        (ON, (), []),
        (ON, ("sha512hmac",), ["program-missing"]),
        (ON, ("xfs.ko", "modules.dep"), ["boot-not-mounted"]),
        (ON, ("fips.sh",), []),
        (ON, ("build-parameter.txt",), []),
        ("fips=1", (), ["boot-not-named"]),
        ("fips=1 boot=UUID=11111111-2222-3333-4444-555555555555", (), ["boot-not-named"]),
        ("fips=1 boot=/dev/sda1", (), []),
        ("fips=1 rd.fips.skipkernel", ("sha512hmac",), []),
        ("fips=0", ("sha512hmac",), []),
        ("", ("sha512hmac",), []),
    ],
)
def test_what_dracut_asks_for(tmp_path: Path, words: str, gone: tuple[str, ...], wanted: list[str]) -> None:
    assert found(tmp_path, words, *gone) == wanted


def test_a_kernel_without_its_checksum(tmp_path: Path) -> None:
    assert found(tmp_path / "on", ON, checksum=False) == ["checksum-missing"]
    assert found(tmp_path / "off", "", checksum=False) == []
