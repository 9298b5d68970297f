"""Leftovers of updates that stopped, and the room that the next kernel needs."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from safeupdate.boot.plan import BootFile
from safeupdate.case import Case
from safeupdate.checks import boot_space
from safeupdate.machine import Machine
from safeupdate.report import Finding, NotApplicable
from tests.unit.trees import IMAGE, INITRD, MODULES, RELEASE, Content, case, tree, x86_image

OLDER = "6.1.0-49-amd64"
OLDEST = "6.1.0-48-amd64"

HEALTHY: Mapping[str, Content] = {
    IMAGE: x86_image(),
    INITRD: b"initramfs",
    f"/boot/config-{RELEASE}": "CONFIG_MODULES=y\n",
    f"{INITRD}.dpkg-bak": b"initramfs",
    f"/boot/vmlinuz-{OLDER}": x86_image(OLDER),
    f"/boot/vmlinuz-{OLDER}.old": x86_image(OLDER),
    f"/boot/initrd.img-{OLDER}.old-dkms": b"",
    "/boot/grub/grub.cfg": "menuentry x {\n}\n",
    "/boot/grub/grubenv": b"#" * 1024,
    "/boot/lost+found": None,
    f"{MODULES}/kernel/fs/fs.ko": b"\x7fELF",
    f"{MODULES}/modules.dep": "kernel/fs/fs.ko:\n",
}


def found(root: Path, files: Mapping[str, Content]) -> list[Finding]:
    return list(boot_space.check(case(tree(root, files))))


def ids(findings: list[Finding]) -> list[tuple[str, str]]:
    return [(finding.id, finding.level) for finding in findings]


def age(root: Path, path: str, seconds: int) -> None:
    """Give a file a time in the past."""
    os.utime(root / path.lstrip("/"), (1_700_000_000 - seconds,) * 2)


def test_a_healthy_boot_directory_has_nothing_to_tell(tmp_path: Path) -> None:
    assert found(tmp_path, HEALTHY) == []


def test_nothing_in_boot_is_no_question(tmp_path: Path) -> None:
    with pytest.raises(NotApplicable):
        found(tmp_path, {"/etc/fstab": ""})


def test_a_new_image_that_was_never_renamed(tmp_path: Path) -> None:
    tools = {"/usr/sbin/update-initramfs": ""}
    tree(tmp_path, {**HEALTHY, **tools, f"{INITRD}.new": bytes(3 << 20)})
    age(tmp_path, INITRD, 60)
    age(tmp_path, f"{INITRD}.new", 0)
    (finding,) = found(tmp_path, {})
    assert (finding.id, finding.level, finding.subject) == ("boot-space.not-replaced", "warning", f"{INITRD}.new")
    assert "3 MiB" in finding.problem
    assert ("rm", f"{INITRD}.new") in finding.remedy.commands
    assert ("update-initramfs", "-u", "-k", RELEASE) in finding.remedy.commands


def test_a_leftover_that_is_older_than_the_image_takes_only_room(tmp_path: Path) -> None:
    tree(tmp_path, {**HEALTHY, f"{INITRD}.new": bytes(3 << 20)})
    age(tmp_path, INITRD, 0)
    age(tmp_path, f"{INITRD}.new", 60)
    (finding,) = found(tmp_path, {})
    assert (finding.id, finding.level) == ("boot-space.leftover", "warning")
    assert finding.remedy.commands == (("rm", f"{INITRD}.new"),)


@pytest.mark.parametrize(
    "name",
    [
        f"initrd.img-{OLDEST}.new",
        f"vmlinuz-{OLDEST}.dpkg-new",
        f"vmlinuz-{OLDEST};5f0c1a2b",
        "efi/EFI/Linux/.#arch-linux.efi0123456789abcdef",
        "bootmap_temp.uVYaRn",
    ],
)
def test_leftovers_of_every_program_are_known(tmp_path: Path, name: str) -> None:
    (finding,) = found(tmp_path, {**HEALTHY, f"/boot/{name}": bytes(2 << 20)})
    assert (finding.id, finding.level) == ("boot-space.leftover", "warning")
    assert finding.remedy.commands == (("rm", f"/boot/{name}"),)


def test_a_small_leftover_is_a_note(tmp_path: Path) -> None:
    assert ids(found(tmp_path, {**HEALTHY, "/boot/loader/entries/.#a.conf0123456789abcdef": "title"})) == [
        ("boot-space.leftover", "note")
    ]


def test_a_menu_that_was_never_put_in_place(tmp_path: Path) -> None:
    tree(tmp_path, {**HEALTHY, "/boot/grub/grub.cfg.new": "menuentry y {\n}\n"})
    age(tmp_path, "/boot/grub/grub.cfg", 60)
    age(tmp_path, "/boot/grub/grub.cfg.new", 0)
    (finding,) = found(tmp_path, {})
    assert (finding.id, finding.subject) == ("boot-space.not-replaced", "/boot/grub/grub.cfg.new")


@pytest.mark.parametrize("name", [f"vmlinuz-{RELEASE}.dpkg-new", f"config-{RELEASE};5f0c1a2b"])
def test_of_the_target_s_own_packages_another_check_speaks(tmp_path: Path, name: str) -> None:
    assert found(tmp_path, {**HEALTHY, f"/boot/{name}": bytes(2 << 20)}) == []


def test_an_empty_image_of_another_kernel(tmp_path: Path) -> None:
    files = {**HEALTHY, f"/boot/initrd.img-{OLDER}": b""}
    assert ids(found(tmp_path, files)) == [("boot-space.empty-image", "warning")]


@pytest.mark.parametrize(
    ("blob", "expected"),
    [
        (b"\xd0\x0d\xfe\xed\0\0\0\x10" + bytes(8), []),
        (b"\xd0\x0d\xfe\xed\0\0\0\x10" + bytes(4), [("boot-space.devicetree-cut", "blocker")]),
        (b"", [("boot-space.devicetree-cut", "blocker")]),
    ],
)
def test_a_device_tree_that_was_cut(tmp_path: Path, blob: bytes, expected: list[tuple[str, str]]) -> None:
    path = "/boot/dtbs/board.dtb"
    one = case(tree(tmp_path, {**HEALTHY, path: blob}))
    assert one.entry is not None
    entry = replace(one.entry, devicetree=BootFile(path, path))
    assert ids(list(boot_space.check(replace(one, entry=entry)))) == expected


def test_more_files_than_a_boot_directory_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(boot_space, "_ENTRIES", 30)
    assert found(tmp_path, HEALTHY) == []
    data: dict[str, Content] = {f"/boot/data/{number % 7}/{number}.new": "" for number in range(50)}
    findings = found(tmp_path, data)
    assert ids(findings) == [("boot-space.leftover", "note"), ("boot-space.not-all-seen", "note")]
    assert int(findings[0].problem.split()[0]) < 30


def test_what_is_left_on_the_host_is_nothing_to_a_copied_tree(tmp_path: Path) -> None:
    assert tree(tmp_path, HEALTHY).space("/boot") is None


def test_what_is_left_here() -> None:
    space = Machine.here().space("/")
    assert space is not None
    assert 0 <= space.available <= space.free <= space.total
    assert Machine.here().space("/no/such/directory") is None


def with_kernels(root: Path, *releases: str, running: str | None) -> Case:
    files: dict[str, Content] = {f"/boot/vmlinuz-{release}": x86_image(release) for release in releases}
    machine = tree(root, {**HEALTHY, **files, "/usr/bin/apt-get": "", "/usr/sbin/update-initramfs": ""})
    if running is not None:
        tree(root, {"/proc/sys/kernel/osrelease": f"{running}\n"})
    from safeupdate import kernels

    return replace(case(machine), kernels=kernels.installed(machine))


def test_only_kernels_that_nobody_needs_are_named_for_removal(tmp_path: Path) -> None:
    one = with_kernels(tmp_path, OLDEST, running=RELEASE)
    assert boot_space._removable(one) == [OLDEST]
    assert ("apt-get", "autoremove", "--purge") in boot_space._make_room(one, "/boot").commands


def test_the_running_kernel_is_never_named_for_removal(tmp_path: Path) -> None:
    assert boot_space._removable(with_kernels(tmp_path, OLDEST, running=OLDEST)) == [OLDER]


def test_with_two_kernels_none_is_named_for_removal(tmp_path: Path) -> None:
    one = with_kernels(tmp_path, running=None)
    assert boot_space._removable(one) == []
    assert boot_space._make_room(one, "/boot").commands == (("df", "-h", "/boot"),)


def test_the_need_is_the_largest_set_and_the_image_once_more(tmp_path: Path) -> None:
    one = with_kernels(tmp_path, OLDEST, running=None)
    tree(tmp_path, {f"/boot/initrd.img-{OLDER}": bytes(5000), f"/boot/initrd.img-{OLDEST}": bytes(100)})
    files = list(boot_space._below(one.machine, "/boot", 6, iter(range(99))))
    (need,) = boot_space._needs(one, files)
    assert (need.place, need.size, need.count) == ("/boot", len(x86_image(OLDER)) + 5000 + 5000, 2)
