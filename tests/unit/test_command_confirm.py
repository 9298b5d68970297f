"""`safeupdate confirm` on a small machine that runs, and through the command line where it must refuse."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from datetime import datetime, timedelta, timezone
from hashlib import sha256
from pathlib import Path

import pytest

from safeupdate.commands.confirm import confirm
from safeupdate.errors import SafeupdateError
from safeupdate.judge import judge
from safeupdate.ledger import schema
from safeupdate.ledger.reading import BOOT_ID, Boot, read
from safeupdate.ledger.reading import identity as identity_of
from safeupdate.machine import Machine
from tests.unit import efi
from tests.unit.test_boot_systemd_boot import entries, entry, files
from tests.unit.test_cli import FILES, HERE, ROOT
from tests.unit.test_ledger_journal import boot as journal_boot
from tests.unit.test_ledger_journal import identity, needs_journal
from tests.unit.test_ledger_journal import write as write_journal
from tests.unit.trees import IMAGE, INITRD, MODULES, RELEASE, Content, Link, tree, x86_image

CMDLINE = f"BOOT_IMAGE={IMAGE} root=UUID={ROOT} ro quiet\n"
STARTED = int(time.time()) + 86_400
"""After all that these tests write, as files are that booted, however long the tests before them take."""

NOW = datetime.fromtimestamp(STARTED + 60, timezone.utc)
RUNNING: dict[str, Content] = {
    **FILES,
    f"{MODULES}/modules.dep": "",
    f"{MODULES}/kernel/a.ko": b"module",
    "/etc/machine-id": "0f1d1f3e6f5a4a1c9b7e000000000001\n",
    "/proc/cmdline": CMDLINE,
    "/proc/sys/kernel/osrelease": f"{RELEASE}\n",
    "/proc/stat": f"cpu  1 2 3\nbtime {STARTED}\nprocesses 9\n",
    BOOT_ID: "boot-1\n",
    "/var/lib": None,
    "/run": None,
}


def machine(root: Path, **changes: Content) -> Machine:
    tree(root, {**RUNNING, **changes})
    return Machine(str(root), live=True)


def recorded(it: Machine, now: datetime = NOW) -> tuple[Boot, tuple[str, ...]]:
    done, told = confirm(it, now)
    assert done
    return read(it).boots[0], told


def test_the_boot_that_is_running(tmp_path: Path) -> None:
    boot, told = recorded(machine(tmp_path))
    assert (boot.boot_id, boot.release, boot.entry, boot.cmdline) == ("boot-1", RELEASE, "debian", CMDLINE.strip())
    assert boot.source == "service"
    assert datetime.fromisoformat(boot.started).timestamp() == STARTED
    assert boot.confirmed == NOW.isoformat(timespec="seconds")
    assert boot.kernel == sha256(x86_image()).hexdigest()
    assert boot.initramfs is not None
    assert [path for path, _ in boot.initramfs] == [INITRD]
    assert boot.modules is not None
    assert boot.machine == identity_of(machine(tmp_path))
    assert told == (f'Recorded: this boot ({RELEASE}, entry "Debian GNU/Linux") came up.',)


def test_a_second_time_changes_nothing(tmp_path: Path) -> None:
    it = machine(tmp_path)
    first, _ = recorded(it)
    tree(tmp_path, {INITRD: b"another"})
    second, told = recorded(it, NOW + timedelta(minutes=1))
    assert second == first
    assert "before" in told[0]
    assert len(read(it).boots) == 1


@pytest.mark.parametrize(
    ("path", "lost"),
    [(IMAGE, "kernel"), (INITRD, "initramfs"), (f"{MODULES}/kernel/b.ko", "modules")],
)
def test_what_changed_since_the_start_may_not_be_what_booted(tmp_path: Path, path: str, lost: str) -> None:
    it = machine(tmp_path)
    started = int(time.time()) + 2
    while time.time() < started:
        time.sleep(0.1)
    tree(tmp_path, {"/proc/stat": f"btime {started - 1}\n", path: x86_image() if path == IMAGE else b"new"})
    boot, told = recorded(it)
    values = {"kernel": boot.kernel, "initramfs": boot.initramfs, "modules": boot.modules}
    assert {name for name, value in values.items() if value is None} == {lost}
    assert "Changed since it started" in told[1]
    assert (path in told[1]) == (lost != "modules")


def test_a_link_that_was_turned_since_the_start(tmp_path: Path) -> None:
    """Both images are old; which of them booted is not to be seen."""
    menu = str(FILES["/boot/grub/grub.cfg"]).replace(INITRD, "/boot/initrd.img")
    it = machine(tmp_path, **{"/boot/grub/grub.cfg": menu.encode(), "/boot/initrd.old": b"old"})
    started = int(time.time()) + 2
    while time.time() < started:
        time.sleep(0.1)
    tree(tmp_path, {"/proc/stat": f"btime {started - 1}\n", "/boot/initrd.img": Link("initrd.old")})
    boot, _ = recorded(it)
    assert boot.entry == "debian"
    assert boot.kernel is not None
    assert boot.initramfs is None


@pytest.mark.parametrize(
    ("cmdline", "identifier", "known"),
    [
        (CMDLINE, "debian", True),
        (CMDLINE.replace("BOOT_IMAGE=", "BOOT_IMAGE=(hd0,gpt2)"), "debian", True),
        (CMDLINE.replace("quiet", "single"), None, True),  # edited in the menu
        (CMDLINE.replace("vmlinuz", "vmlinux"), None, True),
        ("", None, True),
    ],
)
def test_which_entry_it_was(tmp_path: Path, cmdline: str, identifier: str | None, known: bool) -> None:
    boot, _ = recorded(machine(tmp_path, **{"/proc/cmdline": cmdline}))
    assert boot.entry == identifier
    assert (boot.initramfs is not None) == known


TWO = f"""
menuentry 'With' --id with {{
    linux {IMAGE} root=UUID={ROOT} ro
    initrd {INITRD}
}}
menuentry 'Without' --id without {{
    linux {IMAGE} root=UUID={ROOT} ro single
}}
"""


def test_of_several_entries_the_command_line_tells(tmp_path: Path) -> None:
    it = machine(
        tmp_path,
        **{"/boot/grub/grub.cfg": TWO, "/proc/cmdline": f"BOOT_IMAGE={IMAGE} root=UUID={ROOT} ro single"},
    )
    boot, _ = recorded(it)
    assert (boot.entry, boot.initramfs) == ("without", ())


def test_what_is_wrong_with_another_entry_of_this_kernel_is_not_this_boots(tmp_path: Path) -> None:
    menu = TWO.replace(f"initrd {INITRD}", "initrd /boot/broken")
    changes: dict[str, Content] = {
        "/boot/grub/grub.cfg": menu,
        "/boot/broken": b"no initramfs at all",
        "/proc/cmdline": f"BOOT_IMAGE={IMAGE} root=UUID={ROOT} ro single",
    }
    boot, _ = recorded(machine(tmp_path, **changes))
    assert (boot.entry, boot.findings) == ("without", ())


def test_files_are_not_known_where_entries_differ_and_none_fits(tmp_path: Path) -> None:
    it = machine(tmp_path, **{"/boot/grub/grub.cfg": TWO, "/proc/cmdline": "root=/dev/sda1 emergency"})
    boot, told = recorded(it)
    assert (boot.entry, boot.kernel, boot.initramfs, boot.modules) == (None, None, None, None)
    assert "does not have in this form" in told[0]


def test_a_kernel_that_is_no_longer_installed(tmp_path: Path) -> None:
    boot, _ = recorded(machine(tmp_path, **{"/proc/sys/kernel/osrelease": "5.10.0-9-amd64\n"}))
    assert (boot.release, boot.entry, boot.kernel, boot.findings) == ("5.10.0-9-amd64", None, None, ())


def test_what_a_check_calls_broken_here_is_recorded_with_it(tmp_path: Path) -> None:
    """It came up all the same; later, it may be what was broken since that is found."""
    broken: dict[str, Content] = {INITRD: b"no initramfs at all"}
    boot, _ = recorded(machine(tmp_path / "1", **broken))
    assert INITRD in [subject for _, subject, _ in boot.findings]
    assert boot.parts
    late, _ = recorded(machine(tmp_path / "2", **broken), NOW + timedelta(minutes=10))
    assert late.findings == ()


def test_what_may_have_been_broken_without_a_trace_is_not(tmp_path: Path) -> None:
    """No /sbin/init: nothing tells that it was there when this boot started."""
    it = machine(tmp_path, **{INITRD: b"no initramfs at all"})
    report = judge(it, release=RELEASE)
    found = {finding.id for result in report.checks for finding in result.findings if finding.level == "blocker"}
    assert "mounts.init" in found
    boot, _ = recorded(it)
    kept = {identity for identity, _, _ in boot.findings}
    assert kept
    assert not [identity for identity in kept if identity.startswith("mounts.")]


@pytest.mark.parametrize("path", ["/etc/fstab", "/var/lib/dpkg/status", "/boot/grub/grub.cfg"])
def test_what_is_broken_by_a_change_since_the_start_is_not(tmp_path: Path, path: str) -> None:
    it = machine(tmp_path, **{INITRD: b"no initramfs at all"})
    started = int(time.time()) + 2
    while time.time() < started:
        time.sleep(0.1)
    tree(tmp_path, {"/proc/stat": f"btime {started - 1}\n", path: FILES.get(path, "")})
    boot, _ = recorded(it)
    assert (boot.initramfs is not None, boot.findings) == (True, ())


@needs_journal
def test_the_first_time_earlier_boots_come_from_the_journal(tmp_path: Path) -> None:
    it = machine(tmp_path, **{BOOT_ID: identity(2) + "\n"})
    write_journal(tmp_path, journal_boot(0), journal_boot(1, came_up=False), journal_boot(2))
    boot, told = recorded(it)
    assert (boot.boot_id, boot.source) == (identity(2), "service")
    assert [(one.source, one.confirmed is not None) for one in read(it).boots] == [
        ("service", True),
        ("journal", False),
        ("journal", True),
    ]
    assert told[1] == "Taken over from the journal: 2 earlier boots."
    recorded(it)
    assert len(read(it).boots) == 3


def test_a_ledger_that_cannot_be_written(tmp_path: Path) -> None:
    tree(tmp_path, {**RUNNING, schema.PATH: None})
    done, told = confirm(Machine(str(tmp_path), live=True), NOW)
    assert not done
    assert "not in the ledger" in told[0]


def test_no_facts(tmp_path: Path) -> None:
    with pytest.raises(SafeupdateError, match="not to be seen"):
        confirm(Machine(str(tmp_path), live=True), NOW)


def test_a_mistake_in_the_configuration_does_not_keep_it(tmp_path: Path) -> None:
    recorded(machine(tmp_path, **{"/etc/safeupdate/safeupdate.toml": "[nonsense\n"}))


def test_systemd_boot_says_which_entry_it_was(tmp_path: Path) -> None:
    """By the name without its counter, which went down when the entry was started."""
    it = machine(
        tmp_path,
        **{
            **efi.disks(),
            **files(RELEASE),
            **entries(**{"debian+2-1.conf": entry(RELEASE), "other.conf": entry(RELEASE)}),
            **efi.variables(LoaderEntrySelected="debian+3.conf"),
            "/proc/cmdline": "initrd=\\initrd root=/dev/sda2 ro edited\n",
        },
    )
    (tmp_path / "boot/grub/grub.cfg").unlink()
    boot, _ = recorded(it)
    assert boot.entry == "debian+2-1.conf"
    assert boot.initramfs is not None


def start() -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "safeupdate", "confirm"]
    return subprocess.run(command, cwd=HERE, capture_output=True, text=True, timeout=60)


@pytest.mark.skipif(not os.path.exists("/.dockerenv"), reason="this is no container")
def test_a_container_did_not_boot() -> None:
    done = start()
    assert done.returncode == 1
    assert done.stdout == ""
    assert "this is a container" in done.stderr
