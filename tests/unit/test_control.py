from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from safeupdate.case import Case
from safeupdate.control import against_control, quality
from safeupdate.fingerprint import booted
from safeupdate.ledger.reading import Boot, History, identity
from safeupdate.machine import Machine
from safeupdate.report import Finding, blocker, warning
from tests.unit.initrd import archive
from tests.unit.test_surroundings import MACHINE
from tests.unit.trees import IMAGE, INITRD, RELEASE, Content, case, tree, x86_image

NEW = "6.1.0-51-amd64"
BOOT_ID = "0f1d1f3e-6f5a-4a1c-9b7e-000000000001"
MODULE = f"/lib/modules/{RELEASE}/kernel/x.ko"
FILES: dict[str, Content] = {
    IMAGE: x86_image(),
    INITRD: archive({"init": b"#!/bin/sh\n"}),
    MODULE: "module",
    "/proc/sys/kernel/random/boot_id": f"{BOOT_ID}\n",
    "/proc/sys/kernel/osrelease": f"{RELEASE}\n",
    "/etc/machine-id": "0f1d1f3e6f5a4a1c9b7e000000000001\n",
}


def recorded(one: Case, **changes: object) -> Boot:
    """The boot of this case's entry as `confirm` records it, and what it says of itself."""
    assert one.entry is not None
    files = booted(one.hasher, one.entry, RELEASE)
    boot = Boot(
        BOOT_ID,
        RELEASE,
        one.entry.id,
        "",
        "2026-11-23T01:00:00+00:00",
        "2026-11-23T01:02:00+00:00",
        "service",
        kernel=files.kernel,
        initramfs=files.initramfs,
        modules=files.modules,
        machine=identity(one.machine),
    )
    return replace(boot, **changes)  # type: ignore[arg-type]


def known(root: Path, **changes: object) -> Case:
    """The machine, with one boot in its ledger."""
    one = case(tree(root, FILES))
    return replace(one, history=History(boots=(recorded(one, **changes),)))


def again(one: Case) -> Case:
    """The same case at a later time: what was read of files is forgotten."""
    return replace(case(Machine.tree(one.machine.root)), history=one.history)


def test_a_boot_that_came_up_with_these_files_proves_them(tmp_path: Path) -> None:
    assert quality(known(tmp_path)) == "proven"


@pytest.mark.parametrize("path", [IMAGE, INITRD, MODULE])
def test_a_file_that_changed_since_is_not_proven(tmp_path: Path, path: str) -> None:
    one = known(tmp_path)
    (tmp_path / path.lstrip("/")).write_bytes(archive({"init": b"#!/bin/dash\n"}))
    if path == IMAGE:
        (tmp_path / path.lstrip("/")).write_bytes(x86_image(payload=b"x" * 64))
    assert quality(again(one)) == "booted-before"


def test_a_module_more_or_an_image_more_is_another_boot(tmp_path: Path) -> None:
    one = known(tmp_path)
    tree(tmp_path, {"/boot/ucode.img": archive({"u": b"c"})})
    assert quality(replace(case(one.machine, initramfs=("/boot/ucode.img", INITRD)), history=one.history)) == (
        "booted-before"
    )
    tree(tmp_path, {f"/lib/modules/{RELEASE}/updates/dkms/y.ko": "y"})
    assert quality(again(one)) == "booted-before"


@pytest.mark.parametrize("missing", ["kernel", "initramfs", "modules"])
def test_what_was_not_recorded_proves_nothing(tmp_path: Path, missing: str) -> None:
    assert quality(known(tmp_path, **{missing: None})) == "booted-before"


def test_a_boot_that_nobody_confirmed_proves_nothing(tmp_path: Path) -> None:
    one = known(tmp_path, confirmed=None)
    assert quality(one) == "booted-before"  # it is running now
    (tmp_path / "proc/sys/kernel/osrelease").write_text("6.6.6\n")
    assert quality(again(one)) == "unproven"


def test_the_kernel_that_runs_below_a_chroot_is_the_hosts(tmp_path: Path) -> None:
    assert quality(case(tree(tmp_path, FILES))) == "booted-before"
    tree(tmp_path, {"/proc/self/mountinfo": MACHINE.replace(" / / ", " /c / "), "/proc/1/mountinfo": MACHINE})
    assert quality(case(Machine.tree(str(tmp_path)))) == "unproven"


def test_another_release_says_nothing_of_this_one(tmp_path: Path) -> None:
    one = known(tmp_path, release=NEW)
    (tmp_path / "proc/sys/kernel/osrelease").write_text(f"{NEW}\n")
    assert quality(again(one)) == "unproven"


@pytest.mark.parametrize("clones", ["0f1d1f3e6f5a4a1c9b7e000000000002\n", "uninitialized\n", "", None])
def test_a_clone_has_booted_nothing_yet(tmp_path: Path, clones: str | None) -> None:
    one = known(tmp_path, findings=told())
    (tmp_path / "etc/machine-id").unlink()
    if clones is not None:
        (tmp_path / "etc/machine-id").write_text(clones)
    assert quality(again(one)) == "booted-before"
    assert against_control(as_target(again(one)), cut(NEW)).level == "blocker"


def test_machines_without_an_id_are_not_told_apart(tmp_path: Path) -> None:
    one = known(tmp_path, machine=None)
    (tmp_path / "etc/machine-id").unlink()
    assert quality(again(one)) == "booted-before"


def test_the_id_of_dbus_counts_where_there_is_no_other(tmp_path: Path) -> None:
    first = identity(tree(tmp_path / "1", {"/var/lib/dbus/machine-id": "1\n", "/etc/machine-id": "uninitialized\n"}))
    assert first == identity(tree(tmp_path / "2", {"/etc/machine-id": "1\n"}))
    assert first not in (None, "1")


def cut(release: str) -> Finding:
    image = f"/boot/initrd.img-{release}"
    return blocker("initramfs.no-init", image, f"The image {image} lacks foo for {release}.", "It stops.")


def told(release: str = RELEASE) -> tuple[tuple[str, str, str], ...]:
    return ((cut(release).id, cut(release).subject, cut(release).problem),)


def as_target(one: Case) -> Case:
    """The case of a new kernel, on a menu that still has the running one."""
    assert one.kernel is not None
    return replace(one, kernel=replace(one.kernel, release=NEW))


def test_what_the_running_boot_had_too_is_a_warning(tmp_path: Path) -> None:
    found = against_control(as_target(known(tmp_path, findings=told())), cut(NEW))
    assert found.level == "warning"
    assert found.baseline
    assert found.lowered is not None
    assert found.lowered.level == "blocker"


def test_other_words_are_another_finding(tmp_path: Path) -> None:
    one = as_target(known(tmp_path, findings=told()))
    for other in (
        replace(cut(NEW), problem="It lacks bar."),
        replace(cut(NEW), subject="/boot/other"),
        replace(cut(NEW), id="initramfs.truncated"),
        cut("6.1.0-52-amd64"),
    ):
        assert against_control(one, other) is other


def test_only_blockers_are_held_against_the_control(tmp_path: Path) -> None:
    one = as_target(known(tmp_path, findings=told()))
    other = warning(cut(NEW).id, cut(NEW).subject, cut(NEW).problem, "")
    assert against_control(one, other) is other


@pytest.mark.parametrize("path", [INITRD, MODULE])
def test_a_control_whose_files_changed_is_none(tmp_path: Path, path: str) -> None:
    one = known(tmp_path, findings=told())
    (tmp_path / path.lstrip("/")).write_bytes(archive({"init": b"#!/bin/dash\n"}))
    assert against_control(as_target(again(one)), cut(NEW)).level == "blocker"


@pytest.mark.parametrize("change", [{"confirmed": None}, {"boot_id": "another"}, {"modules": None}, {"findings": ()}])
def test_what_makes_no_control(tmp_path: Path, change: dict[str, object]) -> None:
    one = known(tmp_path, **{"findings": told(), **change})
    assert against_control(as_target(one), cut(NEW)).level == "blocker"


def test_a_machine_without_a_past(tmp_path: Path) -> None:
    one = case(tree(tmp_path, {IMAGE: x86_image()}))
    assert quality(one) == "unproven"
    assert against_control(one, cut(RELEASE)).level == "blocker"
