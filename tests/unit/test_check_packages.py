from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest

from safeupdate.boot.firmware import Firmware
from safeupdate.checks.packages import CHECK
from safeupdate.machine import Machine
from safeupdate.report import Finding, NotApplicable, Remedy
from tests.unit.elves import kernel_module
from tests.unit.initrd import archive
from tests.unit.test_packages_rpm import DRACUT, KERNEL, installed
from tests.unit.trees import IMAGE, INITRD, MODULES, RELEASE, Content, case, tree, x86_image

NAME = f"linux-image-{RELEASE}"
DPKG = "/var/lib/dpkg"
MODULE = f"{MODULES}/kernel/e1000.ko"
OTHER = f"{MODULES}/kernel/floppy.ko"


def stanza(name: str, state: str = "ok installed", *more: str) -> str:
    return "".join(f"{line}\n" for line in (f"Package: {name}", f"Status: install {state}", "Version: 1", *more)) + "\n"


def content(name: str) -> bytes:
    return kernel_module([f"name={name}".encode()])


def machine(root: Path, files: Mapping[str, Content | None] | None = None) -> Machine:
    """A Debian machine that e1000 drives; `files` are put over it, after its package did, and None takes one away."""
    brought = {IMAGE: x86_image(), MODULE: content("e1000"), OTHER: content("floppy")}
    tree(
        root,
        {
            **brought,
            f"{MODULES}/modules.dep": "kernel/e1000.ko:\nkernel/floppy.ko:\n",
            INITRD: archive({MODULE[1:]: brought[MODULE]}),
            "/proc/modules": "e1000 1 0 - Live 0x0\n",
            f"{DPKG}/status": stanza(NAME) + stanza("initramfs-tools") + stanza("grub-pc") + stanza("vim"),
            f"{DPKG}/info/{NAME}.list": "".join(f"{path}\n" for path in brought),
            f"{DPKG}/info/{NAME}.md5sums": "".join(
                f"{hashlib.md5(data).hexdigest()}  {path[1:]}\n" for path, data in brought.items()
            ),
        },
    )
    for path in brought:
        os.utime(root / path[1:], (1000, 1000))
    for path, data in (files or {}).items():
        if data is None:
            (root / path[1:]).unlink()
    return tree(root, {path: data for path, data in (files or {}).items() if data is not None})


def ask(judged: Machine, *, secure_boot: bool | None = False) -> dict[str, Finding]:
    found = CHECK.run(case(judged, firmware=Firmware("uefi", secure_boot=secure_boot)))
    return {finding.id.partition(".")[2]: finding for finding in found}


def levels(judged: Machine, *, secure_boot: bool | None = False) -> dict[str, str]:
    return {name: finding.level for name, finding in ask(judged, secure_boot=secure_boot).items()}


def status(*stanzas: str) -> dict[str, Content | None]:
    return {f"{DPKG}/status": "".join(stanzas)}


def test_a_healthy_machine(tmp_path: Path) -> None:
    assert ask(machine(tmp_path)) == {}


def test_other_packages_are_not_our_business(tmp_path: Path) -> None:
    broken = status(
        stanza(NAME),
        stanza("vim", "reinstreq half-installed"),
        stanza("linux-image-amd64", "ok unpacked"),
        stanza("systemd-boot", "ok half-configured"),
        stanza(f"linux-headers-{RELEASE}", "ok half-configured"),
        stanza("linux-image-5.10.0-9-amd64", "ok config-files"),
    )
    assert ask(machine(tmp_path, broken)) == {}


@pytest.mark.parametrize(
    "state", ["reinstreq half-installed", "ok unpacked", "ok half-configured", "reinstreq installed"]
)
def test_a_state_alone_is_a_warning(tmp_path: Path, state: str) -> None:
    found = ask(machine(tmp_path, status(stanza(NAME, state))), secure_boot=True)
    assert {name: finding.level for name, finding in found.items()} == {"kernel-not-configured": "warning"}
    commands = found["kernel-not-configured"].remedy.commands
    assert commands[0] == ("dpkg", "--configure", "-a"), "until then apt does nothing"
    assert (len(commands) == 2) == ("reinstreq" in state), "what is not unpacked cannot be configured"


def test_files_of_two_builds(tmp_path: Path) -> None:
    half = status(stanza(NAME, "reinstreq half-installed"))
    next_build = content("e1000 of the next build")
    assert levels(machine(tmp_path / "1", {**half, f"{MODULE}.dpkg-new": next_build})) == {
        "kernel-not-configured": "warning"
    }
    mixed = machine(tmp_path / "2", {**half, MODULE: next_build, f"{OTHER}.dpkg-new": next_build})
    assert levels(mixed) == {"half-replaced": "blocker"}


def test_the_files_of_a_copy_keep_their_times(tmp_path: Path) -> None:
    """Of a package that is not whole every file is read: dpkg gives them the times of the archive."""
    half = status(stanza(NAME, "reinstreq half-installed"))
    copied = machine(tmp_path, {**half, OTHER: content("next"), f"{MODULE}.dpkg-new": b"x"})
    os.utime(tmp_path / OTHER[1:], (1000, 1000))
    os.utime(tmp_path / f"var/lib/dpkg/info/{NAME}.list", (2000, 2000))
    assert levels(copied) == {"half-replaced": "blocker"}


def test_litter_of_an_installation_that_was_made_later(tmp_path: Path) -> None:
    found = ask(machine(tmp_path, {f"{IMAGE}.dpkg-tmp": b"x", f"{OTHER}.dpkg-new": b"x"}))
    assert {name: finding.level for name, finding in found.items()} == {"left-behind": "note"}
    assert found["left-behind"].remedy.commands == (("rm", f"{IMAGE}.dpkg-tmp", f"{OTHER}.dpkg-new"),)


def test_files_that_a_removal_took(tmp_path: Path) -> None:
    found = ask(machine(tmp_path, {**status(stanza(NAME, "reinstreq half-installed")), OTHER: None}))
    assert {name: finding.level for name, finding in found.items()} == {"files-missing": "blocker"}
    assert found["files-missing"].evidence[1] == f"missing or empty: {OTHER}"
    assert found["files-missing"].problem.endswith("1 of its files are missing or empty: floppy.")


def test_a_kernel_that_is_new_here_and_not_in_its_place(tmp_path: Path) -> None:
    """dpkg has written neither its list nor its sums yet, and depmod knows only what was there when it ran."""
    judged = machine(tmp_path, {**status(stanza(NAME, "reinstreq half-installed")), OTHER: None})
    for kind in ("list", "md5sums"):
        (tmp_path / f"{DPKG}/info/{NAME}.{kind}"[1:]).unlink()
    tree(tmp_path, {f"{OTHER}.dpkg-new": b"x", f"{MODULES}/modules.dep": "kernel/e1000.ko:\n"})
    found = ask(judged)
    assert {name: finding.level for name, finding in found.items()} == {"files-missing": "blocker"}
    assert found["files-missing"].evidence[1] == f"missing or empty: {OTHER}"


def test_a_removal_after_which_depmod_ran(tmp_path: Path) -> None:
    """Its list then misses nothing; what this machine uses is gone all the same."""
    half = status(stanza(NAME, "ok half-installed"))
    found = levels(machine(tmp_path, {**half, MODULE: None, f"{MODULES}/modules.dep": "kernel/floppy.ko:\n"}))
    assert found == {"module-in-use-lost": "blocker", "kernel-not-configured": "warning"}


@pytest.mark.parametrize("state", ["reinstreq half-installed", "ok half-configured"])
def test_files_that_were_left_out_before(tmp_path: Path, state: str) -> None:
    """By dpkg's path-exclude, or by hand: they are in its list, and not in depmod's."""
    files = {**status(stanza(NAME, state)), OTHER: None, f"{MODULES}/modules.dep": "kernel/e1000.ko:\n"}
    assert "blocker" not in levels(machine(tmp_path, files)).values()


@pytest.mark.parametrize(
    ("secure_boot", "expected"),
    [
        (True, {"initramfs-of-another-build": "blocker"}),
        (None, {"initramfs-of-another-build": "unknown"}),
        (False, {"kernel-not-configured": "warning"}),
    ],
)
def test_an_initramfs_of_the_build_before(tmp_path: Path, secure_boot: bool | None, expected: dict[str, str]) -> None:
    data = content("e1000 of the next build")
    sums = f"{hashlib.md5(data).hexdigest()}  {MODULE[1:]}\n"
    half = {**status(stanza(NAME, "ok half-configured")), MODULE: data, f"{DPKG}/info/{NAME}.md5sums": sums}
    assert levels(machine(tmp_path, half), secure_boot=secure_boot) == expected


def test_files_changed_on_purpose(tmp_path: Path) -> None:
    found = ask(machine(tmp_path, {IMAGE: x86_image(tail=b"signed"), OTHER: content("stripped")}))
    assert {name: finding.level for name, finding in found.items()} == {"files-changed": "warning"}
    assert found["files-changed"].evidence == (f"changed: {IMAGE}", f"changed: {OTHER}")


def test_modules_that_power_took(tmp_path: Path) -> None:
    """Of right length, but zeros: no list of depmod's tells."""
    zeros = bytes(len(content("e1000")))
    assert levels(machine(tmp_path / "1", {MODULE: zeros})) == {"module-in-use-lost": "blocker"}
    assert levels(machine(tmp_path / "2", {OTHER: bytes(9)})) == {"module-hollow": "warning"}


def test_modules_that_depmod_misses_no_more(tmp_path: Path) -> None:
    dep = {f"{MODULES}/modules.dep": "kernel/other.ko:\n"}
    assert levels(machine(tmp_path / "1", {**dep, MODULE: None})) == {"module-in-use-lost": "blocker"}
    assert levels(machine(tmp_path / "2", {**dep, OTHER: None})) == {"files-left-out": "note"}
    assert levels(machine(tmp_path / "3", {**dep, MODULE: b""})) == {"module-in-use-lost": "blocker"}


def test_a_module_that_another_took_the_place_of(tmp_path: Path) -> None:
    """DKMS moves the kernel's own into /var/lib/dkms/MODULE/original_module when it installs one of that name."""
    own = {f"{MODULES}/updates/dkms/e1000.ko": content("e1000 by DKMS"), MODULE: None}
    dep = {f"{MODULES}/modules.dep": "updates/dkms/e1000.ko:\nkernel/floppy.ko:\n"}
    assert ask(machine(tmp_path / "1", {**own, **dep})) == {}
    assert ask(machine(tmp_path / "2", {**own, **dep, MODULE: b""})) == {}


def test_what_kernel_files_says_is_not_said_again(tmp_path: Path) -> None:
    assert levels(machine(tmp_path / "1", {MODULE: None, OTHER: b""})) == {}
    assert levels(machine(tmp_path / "2", {IMAGE: None})) == {}


def test_what_a_capture_left_out_is_not_compared(tmp_path: Path) -> None:
    machine(tmp_path)
    assert ask(Machine.tree(str(tmp_path), left_out=frozenset({IMAGE, MODULE, OTHER}))) == {}
    hidden = Machine.tree(str(tmp_path), unreadable=frozenset({MODULE}))
    assert levels(hidden) == {"files-unreadable": "unknown"}


def test_what_makes_the_initramfs(tmp_path: Path) -> None:
    pending = stanza("initramfs-tools", "ok triggers-pending", "Triggers-Pending: update-initramfs")
    found = ask(machine(tmp_path / "1", status(stanza(NAME), pending)))
    assert {name: finding.level for name, finding in found.items()} == {"triggers-pending": "warning"}
    assert "(update-initramfs)" in found["triggers-pending"].problem
    broken = status(stanza(NAME), *(stanza(name, "ok half-configured") for name in ("grub-pc", "dracut", "zfs-dkms")))
    found = ask(machine(tmp_path / "2", broken))
    assert [(finding.level, finding.subject) for finding in found.values()] == [
        ("warning", "dracut, grub-pc, zfs-dkms")
    ]


def test_in_the_middle_of_an_update(tmp_path: Path) -> None:
    """What is half done is told with it; where nothing is, it is nobody's business."""
    judged = machine(tmp_path, {f"{DPKG}/lock": "", "/proc/locks": ""})
    lock = os.stat(tmp_path / "var/lib/dpkg/lock")
    device = f"{os.major(lock.st_dev):02x}:{os.minor(lock.st_dev):02x}"
    (tmp_path / "proc/locks").write_text(f"1: POSIX  ADVISORY  WRITE 712 {device}:{lock.st_ino} 0 EOF\n")
    assert ask(judged) == {}
    half = tree(tmp_path, status(stanza(NAME, "ok half-configured")))
    found = ask(half)
    assert list(found) == ["kernel-not-configured", "at-work"]
    assert "process 712" in found["at-work"].problem
    (tmp_path / "proc/locks").write_text(f"1: POSIX  ADVISORY  WRITE 712 {device}:{lock.st_ino + 1} 0 EOF\n")
    assert "at-work" not in ask(half)


def test_another_kernel(tmp_path: Path) -> None:
    other = stanza("linux-image-6.1.0-51-amd64", "reinstreq half-installed")
    assert levels(machine(tmp_path, status(stanza(NAME), other))) == {"other-kernel": "warning"}


def test_a_status_of_garbage(tmp_path: Path) -> None:
    found = ask(machine(tmp_path, {**status(stanza(NAME), "\0\0\0"), f"{DPKG}/status-old": stanza(NAME)}))
    finding = found["database-unreadable"]
    assert (finding.level, finding.subject) == ("unknown", f"{DPKG}/status")
    assert "line 5" in finding.problem
    keep, put_back = finding.remedy.commands
    assert keep == ("cp", "-p", f"{DPKG}/status", f"{DPKG}/status.broken"), "it has what was changed last"
    assert put_back == ("cp", "-p", f"{DPKG}/status-old", f"{DPKG}/status")


def test_a_status_that_is_gone(tmp_path: Path) -> None:
    found = ask(machine(tmp_path, {f"{DPKG}/status": None, f"{DPKG}/status-old": stanza(NAME)}))
    commands = found["database-unreadable"].remedy.commands
    assert commands == (("cp", "-p", f"{DPKG}/status-old", f"{DPKG}/status"),), "there is nothing to be kept"


@pytest.mark.parametrize("old", [stanza(NAME)[:-9], "", "\0\0\0\n", None])
def test_a_status_of_garbage_and_one_before_that_is_no_better(tmp_path: Path, old: str | None) -> None:
    files = {**status(stanza(NAME, "\0\0\0")), **({} if old is None else {f"{DPKG}/status-old": old})}
    assert ask(machine(tmp_path, files))["database-unreadable"].remedy == Remedy()


def test_a_kernel_of_no_package(tmp_path: Path) -> None:
    with pytest.raises(NotApplicable, match=f"the kernel {RELEASE} came with no package of dpkg"):
        ask(machine(tmp_path, status(stanza("vim"))))


def test_a_machine_without_a_database(tmp_path: Path) -> None:
    with pytest.raises(NotApplicable, match="no package manager"):
        ask(tree(tmp_path, {IMAGE: x86_image()}))


def test_a_database_that_no_program_reads(tmp_path: Path) -> None:
    found = ask(tree(tmp_path, {IMAGE: x86_image(), "/var/lib/rpm/rpmdb.sqlite": b"no database" * 100}))
    assert [(name, finding.level) for name, finding in found.items()] == [("database-unreadable", "unknown")]


def test_dpkg_beside_rpm(tmp_path: Path) -> None:
    """Debian has rpm for alien: that its database is broken is nobody's business here."""
    assert ask(machine(tmp_path, {"/var/lib/rpm/rpmdb.sqlite": b"no database" * 100})) == {}


@pytest.mark.skipif(shutil.which("rpmbuild") is None or shutil.which("rpm") is None, reason="there is no rpm here")
@pytest.mark.parametrize(
    ("spec", "module", "listed", "expected"),
    [
        (KERNEL, "a", "kernel/a.ko:\n", {"unpacking-cut-short": "warning"}),
        (KERNEL, "e1000", "kernel/a.ko:\n", {"files-missing": "blocker"}),
        (KERNEL, "floppy", "kernel/a.ko:\n", {"unpacking-cut-short": "warning"}),
        (KERNEL, "floppy", "", {"files-missing": "blocker"}),
        (DRACUT.format("059"), "floppy", "kernel/a.ko:\n", {"files-missing": "blocker"}),
    ],
    ids=["the old one is there", "in use", "of a package of more modules", "before depmod ran", "of no package"],
)
def test_modules_that_a_killed_rpm_did_not_put_in_place(
    tmp_path: Path, spec: str, module: str, listed: str, expected: dict[str, str]
) -> None:
    files: dict[str, Content] = {
        IMAGE: x86_image(),
        f"{MODULES}/vmlinuz": "image\n",
        f"{MODULES}/kernel/a.ko": "module\n",
        f"{MODULES}/kernel/{module}.ko;5f0c1a2b": b"x",
        f"{MODULES}/modules.dep": listed,
        "/proc/modules": "e1000 1 0 - Live 0x0\n",
    }
    installed(tmp_path / "root", tmp_path, spec)
    assert levels(tree(tmp_path / "root", files)) == expected
