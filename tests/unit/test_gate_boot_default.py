"""The loader's default, held and let go: real menus, every refusal, somebody else's changes, and kills in between."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Sequence
from datetime import datetime, timezone
from pathlib import Path

import pytest

from safeupdate import steering
from safeupdate.boot import find_plan
from safeupdate.gate import record
from safeupdate.gate.document import Damaged
from safeupdate.gate.host import Host, NotDone
from safeupdate.gate.lever import Order, State
from safeupdate.gate.levers import boot_default
from safeupdate.machine import Completed, Machine
from safeupdate.steering import OFF
from safeupdate.volumes import Volumes
from tests.unit import efi, test_boot_systemd_boot
from tests.unit.test_boot_grub import (
    ADVANCED,
    DATA,
    FALLBACK,
    FEDORA_OLD,
    MACHINE_ID,
    NEW,
    OLD,
    UUID,
    debian,
    fedora,
    kernels,
    mounted,
    ubuntu,
)
from tests.unit.test_boot_grub import SIMPLE as TARGET
from tests.unit.test_boot_systemd_boot import entry as sd_entry
from tests.unit.test_boot_which import GRUB_ESP, SHIM
from tests.unit.test_steering import BIOS, CUSTOM, A, B, bios, sd_boot
from tests.unit.trees import REAL_MACHINES, Content, Link, tree

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=timezone.utc)
ORDER = Order("The next kernel has no initramfs.", fallback=FALLBACK, release=OLD)
VAR: dict[str, Content] = {"/var/lib": None}
MENU = "/boot/grub/grub.cfg"


class Programs:
    """sync(1), GRUB's checker, and a bootctl(1) that does to the variables' files what the real one does."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.ran: list[tuple[str, ...]] = []
        self.code = 0
        self.deaf = False

    def __call__(self, command: Sequence[str], _seconds: float) -> Completed:
        self.ran.append(tuple(command))
        if command[0] == "bootctl" and self.code == 0:
            return Completed(0, self.bootctl(*command[1:]), b"")
        if command[0].endswith("-check"):
            done = subprocess.run([command[0], self.machine.root + command[1]], capture_output=True, check=False)
            return Completed(done.returncode, done.stdout, done.stderr)
        return Completed(self.code, b"", b"Failed to do it.\n" if self.code else b"")

    def bootctl(self, verb: str, argument: str) -> bytes:
        if verb == "list":
            names = os.listdir(f"{self.machine.root}/boot/efi/loader/entries")
            return json.dumps([{"id": name, "title": "Debian"} for name in names]).encode()
        assert verb == "set-default"
        if not self.deaf:
            set_default(self.machine, argument or None)
        return b""


def set_default(machine: Machine, value: str | None) -> None:
    place = Path(machine.root + steering.VARIABLE)
    if value is None:
        place.unlink(missing_ok=True)
    else:
        place.write_bytes(b"\7\0\0\0" + value.encode("utf-16-le") + b"\0\0")


def host(machine: Machine) -> Host:
    tree(Path(machine.root), VAR)
    return Host(machine, lambda: NOW, Programs(machine))


def ran(it: Host) -> list[tuple[str, ...]]:
    assert isinstance(it.runner, Programs)
    return it.runner.ran


def starts(it: Host) -> str | None:
    plan = find_plan(it.machine, Volumes(it.machine))[1]
    return plan.next.id if plan.next is not None else None


def custom(it: Host) -> bytes | None:
    return it.machine.read_if_there(CUSTOM)


def close(it: Host, fallback: str | None = FALLBACK) -> State:
    return boot_default.close(it, Order(ORDER.why, fallback=fallback))


# -- GRUB: it holds, and lets go ---------------------------------------------------------------------------------


def test_debian_is_held_and_let_go(tmp_path: Path) -> None:
    it = host(bios(tmp_path, {}))
    assert boot_default.state(it) == State("open", "safeupdate does not hold the boot loader's default.")
    state = close(it)
    assert state == State(
        "closed", f'The boot loader\'s default is held on "Debian GNU/Linux, with Linux {OLD}" ({CUSTOM}).'
    )
    assert starts(it) == FALLBACK
    assert boot_default.state(it) == state
    assert custom(it) == steering.hold(FALLBACK)
    kept = record.read(it.machine, "boot-default")
    assert kept is not None
    assert (kept.old, kept.new, kept.why) == (None, {"path": CUSTOM, "entry": FALLBACK}, ORDER.why)
    assert kept.time == "2026-11-23T12:00:00+00:00"
    assert boot_default.let_go(it).position == "open"
    assert (starts(it), custom(it), record.read(it.machine, "boot-default")) == (TARGET, OFF, None)


def test_the_file_is_made_once_and_then_overwritten_where_it_lies(tmp_path: Path) -> None:
    it = host(bios(tmp_path, {}))
    assert boot_default.prepare(it).position == "open"
    assert custom(it) == OFF
    inode = os.stat(tmp_path / CUSTOM[1:]).st_ino
    assert ran(it) == [("sync", "-f", CUSTOM)]
    boot_default.prepare(it)
    assert ran(it) == [("sync", "-f", CUSTOM)]
    close(it)
    boot_default.let_go(it)
    close(it)
    assert os.stat(tmp_path / CUSTOM[1:]).st_ino == inode
    assert starts(it) == FALLBACK
    boot_default.prepare(it)
    assert starts(it) == FALLBACK


def test_again_changes_nothing(tmp_path: Path) -> None:
    it = host(bios(tmp_path, {}))
    first = close(it)
    before = os.stat(tmp_path / CUSTOM[1:]).st_mtime_ns, os.stat(tmp_path / record.path_of("boot-default")[1:]).st_ino
    ran(it).clear()
    assert close(it) == first
    after = os.stat(tmp_path / CUSTOM[1:]).st_mtime_ns, os.stat(tmp_path / record.path_of("boot-default")[1:]).st_ino
    assert before == after
    assert ran(it) == []
    assert boot_default.let_go(it) == boot_default.let_go(it) == boot_default.state(it)


SAVED = 'set default="${saved_entry}"'


@pytest.mark.parametrize(
    ("variables", "default"),
    [
        ({}, None),
        ({"saved_entry": "0"}, SAVED),
        ({"saved_entry": f"{ADVANCED}>gnulinux-{NEW}-advanced-{UUID}"}, SAVED),
        ({}, SAVED),
    ],
)
def test_with_a_default_of_any_kind(tmp_path: Path, variables: dict[str, str], default: str | None) -> None:
    text = (DATA / "debian-12.cfg").read_text()
    changed = text if default is None else text.replace('set default="0"', default)
    assert default is None or changed != text
    it = host(bios(tmp_path, debian(changed.encode(), **variables)))
    before = starts(it)
    environment = it.machine.read("/boot/grub/grubenv")
    assert close(it).position == "closed"
    assert starts(it) == FALLBACK
    boot_default.let_go(it)
    assert starts(it) == before
    assert it.machine.read("/boot/grub/grubenv") == environment


def test_a_saved_entry_that_was_set_meanwhile_wins(tmp_path: Path) -> None:
    """kernel-install sets it for a new kernel while the default is held."""
    text = (DATA / "debian-12.cfg").read_text().replace('set default="0"', SAVED)
    it = host(bios(tmp_path, debian(text.encode(), saved_entry="0")))
    close(it)
    tree(tmp_path, debian(text.encode(), saved_entry=f"{ADVANCED}>gnulinux-{NEW}-recovery-{UUID}"))
    assert starts(it) == FALLBACK
    boot_default.let_go(it)
    assert starts(it) == f"{ADVANCED}>gnulinux-{NEW}-recovery-{UUID}"


def test_a_one_shot_of_the_administrator_goes_first(tmp_path: Path) -> None:
    other = f"{ADVANCED}>gnulinux-{NEW}-recovery-{UUID}"
    it = host(bios(tmp_path, debian(next_entry=other)))
    state = close(it)
    assert state.position == "closed"
    assert 'before it "Debian GNU/Linux, with Linux 6.1.0-56-amd64 (recovery mode)" starts' in state.words
    assert starts(it) == other
    tree(tmp_path, debian(next_entry=""))  # as GRUB leaves it
    assert starts(it) == FALLBACK


def test_ubuntu(tmp_path: Path) -> None:
    it = host(tree(tmp_path, {**BIOS, **ubuntu()}))
    plan = find_plan(it.machine, Volumes(it.machine))[1]
    old = next(entry.id for entry in plan.entries if "6.8.0-31-generic-advanced" in entry.id)
    before = starts(it)
    assert close(it, old).position == "closed"
    assert starts(it) == old
    boot_default.let_go(it)
    assert starts(it) == before


@pytest.mark.skipif(not REAL_MACHINES, reason="no machine was built on this host")
@pytest.mark.parametrize("boot", REAL_MACHINES, ids=[boot.parent.name.rpartition("-")[0] for boot in REAL_MACHINES])
def test_menus_of_real_machines(tmp_path: Path, boot: Path) -> None:
    if not (boot / "grub/grub.cfg").exists():
        pytest.skip("GRUB does not start this machine")
    (tmp_path / "boot").mkdir()
    shutil.copytree(boot / "grub", tmp_path / "boot/grub")
    images: dict[str, Content] = {f"/boot/{name}": "x" for name in os.listdir(boot) if name[:4] in ("vmli", "init")}
    it = host(tree(tmp_path, {**BIOS, **images}))
    plan = find_plan(it.machine, Volumes(it.machine))[1]
    assert plan.next is not None
    before = plan.next.id
    others = [entry for entry in plan.entries if entry.release != plan.next.release]
    assert others
    for entry in others:
        assert close(it, entry.id).position == "closed"
        assert starts(it) == entry.id
    boot_default.let_go(it)
    assert starts(it) == before


def test_a_menu_without_submenus(tmp_path: Path) -> None:
    """GRUB_DISABLE_SUBMENU."""
    text = re.sub(r"^submenu .*\n((?:.*\n)*?)^}\n", r"\1", (DATA / "debian-12.cfg").read_text(), flags=re.MULTILINE)
    it = host(bios(tmp_path, debian(text.encode())))
    flat = f"gnulinux-{OLD}-advanced-{UUID}"
    assert close(it, flat).position == "closed"
    assert starts(it) == flat
    boot_default.let_go(it)
    assert starts(it) == TARGET


def test_a_boot_of_its_own(tmp_path: Path) -> None:
    facts = mounted(
        ("sda2", "/", "/", "ext4"), ("sda1", "/", "/boot", "ext4"), uuids={"5afe-b007": "sda1", UUID: "sda2"}
    )
    text = (DATA / "debian-12.cfg").read_text().replace("/boot/vmlinuz", "/vmlinuz").replace("/boot/initrd", "/initrd")
    it = host(tree(tmp_path, {**debian(text.replace(f"root {UUID}", "root 5afe-b007").encode()), **facts}))
    assert close(it).position == "closed"
    assert starts(it) == FALLBACK


def test_a_btrfs_subvolume(tmp_path: Path) -> None:
    facts = mounted(("sda1", "/@rootfs", "/", "btrfs"), uuids={UUID: "sda1"})
    text = (DATA / "debian-12.cfg").read_text().replace("/boot/", "/@rootfs/boot/")
    it = host(tree(tmp_path, {**debian(text.encode()), **facts}))
    assert close(it).position == "closed"
    assert starts(it) == FALLBACK
    assert ("sync", "-f", CUSTOM) in ran(it)


@pytest.mark.parametrize("secure_boot", [False, True])
def test_grub_on_uefi(tmp_path: Path, secure_boot: bool) -> None:
    text = (DATA / "debian-12.cfg").read_text().replace(UUID, "1" * 8)
    variables = efi.variables(order=[1], current=1, options={1: SHIM}, secure_boot=secure_boot)
    it = host(tree(tmp_path, {**efi.disks(), **debian(text.encode()), **GRUB_ESP, **variables}))
    before, fallback = starts(it), FALLBACK.replace(UUID, "1" * 8)
    assert close(it, fallback).position == "closed"
    assert starts(it) == fallback
    boot_default.let_go(it)
    assert starts(it) == before


@pytest.mark.skipif(shutil.which("grub-script-check") is None, reason="GRUB's checker is not installed")
def test_grub_s_own_parser_takes_it(tmp_path: Path) -> None:
    it = host(bios(tmp_path, {"/usr/bin/grub-script-check": ""}))
    assert close(it).position == "closed"
    checks = [command for command in ran(it) if command[0] == "/usr/bin/grub-script-check"]
    assert checks == [("/usr/bin/grub-script-check", CUSTOM)]
    boot_default.let_go(it)
    done = subprocess.run(["grub-script-check", str(tmp_path / CUSTOM[1:])], capture_output=True, check=False)
    assert done.stderr.endswith(b"contains no commands and will do nothing\n")


def test_what_grub_s_own_parser_refuses_is_taken_back(tmp_path: Path) -> None:
    it = host(bios(tmp_path, {"/usr/bin/grub-script-check": ""}))
    assert isinstance(it.runner, Programs)

    def refuse(command: Sequence[str], _: float) -> Completed:
        return Completed(int(command[0].endswith("check")), b"", b"")

    it = Host(it.machine, it.now, refuse)
    assert close(it) == State("refused", f"/usr/bin/grub-script-check takes {CUSTOM} for broken.")
    assert (custom(it), record.read(it.machine, "boot-default")) == (OFF, None)


# -- GRUB: it refuses --------------------------------------------------------------------------------------------


def menu(change: Callable[[str], str], name: str = "debian-12.cfg") -> dict[str, Content]:
    text = (DATA / name).read_text()
    changed = change(text)
    assert changed != text
    return debian(changed.encode())


def without_source(text: str) -> str:
    return text.replace("custom.cfg", "other.cfg")


def default_after(text: str) -> str:
    return text + '\nset default="0"\n'


def cut(text: str) -> str:
    return text[: text.index("### BEGIN /etc/grub.d/41_custom")]


def cut_in_an_entry(text: str) -> str:
    return text[: text.index("initrd", text.index(OLD))]


def twice(text: str) -> str:
    return text.replace(f"gnulinux-{OLD}-recovery-", f"gnulinux-{OLD}-advanced-")


def locked(text: str) -> str:
    return 'set superusers="root"\nexport superusers\n' + text.replace("menuentry '", "menuentry --unrestricted '")


def quoted(text: str) -> str:
    return text.replace(f"gnulinux-{OLD}-advanced-{UUID}", "gnulinux-$x")


def long(text: str) -> str:
    return text.replace(f"gnulinux-{OLD}-advanced-{UUID}", "x" * 400)


@pytest.mark.parametrize(
    ("files", "fallback", "position", "words"),
    [
        ({CUSTOM: 'set default="2"\n'}, FALLBACK, "not-ours", "is left as it is"),
        ({CUSTOM: ""}, FALLBACK, "not-ours", "is left as it is"),
        ({CUSTOM: Link("grubenv")}, FALLBACK, "not-ours", "is left as it is"),
        (menu(without_source), FALLBACK, "refused", '"Debian GNU/Linux" would still start'),
        (menu(default_after), FALLBACK, "refused", '"Debian GNU/Linux" would still start'),
        (menu(cut), FALLBACK, "refused", '"Debian GNU/Linux" would still start'),
        (menu(cut_in_an_entry), FALLBACK, "refused", "not at all"),
        (menu(twice), FALLBACK, "refused", "2 times"),
        (menu(locked), FALLBACK, "refused", "asks for a password"),
        (menu(quoted), f"{ADVANCED}>gnulinux-$x", "refused", "characters"),
        (menu(long), f"{ADVANCED}>{'x' * 400}", "refused", "too long a name"),
        (menu(lambda text: "set check_signatures=enforce\n" + text), FALLBACK, "refused", "signed files only"),
        ({f"{MENU}.sig": ""}, FALLBACK, "refused", "signed files only"),
        (menu(lambda text: text + "fi\n"), FALLBACK, "refused", "syntax error"),
        ({}, f"gnulinux-{OLD}-advanced-{UUID}", "refused", "not at all"),
        ({}, None, "refused", "no other kernel"),
        ({}, TARGET, "not-here", "by itself"),
    ],
)
def test_grub_refuses(
    tmp_path: Path, files: dict[str, Content], fallback: str | None, position: str, words: str
) -> None:
    it = host(bios(tmp_path, files))
    before, text = starts(it), it.machine.read_if_there(CUSTOM)
    state = close(it, fallback)
    assert (state.position, words in state.words) == (position, True), state
    assert state.words.endswith(".")
    assert (starts(it), it.machine.read_if_there(CUSTOM)) == (before, text)
    assert record.read(it.machine, "boot-default") is None
    assert boot_default.let_go(it).position == "open"
    assert it.machine.read_if_there(CUSTOM) == text


def test_what_saves_the_started_entry_would_not_come_back(tmp_path: Path) -> None:
    files = {**kernels("6.12.107+deb13-amd64", "6.12.117+deb13-amd64"), MENU: (DATA / "debian-13.cfg").read_bytes()}
    it = host(tree(tmp_path, {**BIOS, **debian(), **files}))
    state = close(it, f"{ADVANCED}>gnulinux-6.12.107+deb13-amd64-advanced-{UUID}")
    assert (state.position, "GRUB_SAVEDEFAULT" in state.words) == ("refused", True)
    assert custom(it) is None


def test_fedora_s_entries_are_files(tmp_path: Path) -> None:
    it = host(tree(tmp_path, {**BIOS, **fedora()}))
    assert starts(it) is not None
    for state in (boot_default.state(it), close(it, f"{MACHINE_ID}-{FEDORA_OLD}")):
        assert (state.position, "grubby --set-default" in state.words) == ("refused", True)
    boot_default.prepare(it)
    assert not it.machine.exists("/boot/grub2/custom.cfg")


def test_no_loader_that_has_a_default(tmp_path: Path) -> None:
    it = host(tree(tmp_path, {**BIOS, "/ostree/repo/config": "", "/run/ostree-booted": ""}))
    for state in (boot_default.state(it), close(it), boot_default.prepare(it)):
        assert state == State("not-here", "What starts this machine is not known well enough to hold its default.")
    assert boot_default.let_go(it).position == "open"


def test_a_directory_that_cannot_be_written(tmp_path: Path) -> None:
    it = host(bios(tmp_path, {"/boot/grub/.custom.cfg.new/in the way": ""}))
    with pytest.raises(NotDone):
        close(it)
    assert starts(it) == TARGET
    assert boot_default.let_go(it).position == "open"
    assert record.read(it.machine, "boot-default") is None


def test_without_a_place_for_its_record_it_does_not_act(tmp_path: Path) -> None:
    machine = bios(tmp_path, {"/var/lib": "no directory"})
    it = Host(machine, lambda: NOW, Programs(machine))
    with pytest.raises(NotDone):
        close(it)
    assert custom(it) is None


# -- GRUB: what others change meanwhile --------------------------------------------------------------------------


def test_what_somebody_else_wrote_over_ours_stays(tmp_path: Path) -> None:
    it = host(bios(tmp_path, {}))
    close(it)
    (tmp_path / CUSTOM[1:]).write_text('set default="2"\n')
    state = boot_default.let_go(it)
    assert state == State(
        "not-ours", f"{CUSTOM} was changed by somebody else while it held the default, and is left as it is."
    )
    assert custom(it) == b'set default="2"\n'
    assert boot_default.let_go(it).position == "open"
    assert close(it).position == "not-ours"


def test_our_file_was_removed(tmp_path: Path) -> None:
    it = host(bios(tmp_path, {}))
    close(it)
    (tmp_path / CUSTOM[1:]).unlink()
    assert boot_default.state(it).position == "open"
    assert close(it).position == "closed"
    (tmp_path / CUSTOM[1:]).unlink()
    assert boot_default.let_go(it).position == "open"
    assert record.read(it.machine, "boot-default") is None


def test_a_boot_that_is_not_mounted_may_still_hold(tmp_path: Path) -> None:
    it = host(bios(tmp_path, {}))
    close(it)
    (tmp_path / "boot").rename(tmp_path / "unmounted")
    it = host(Machine.tree(str(tmp_path)))
    state = boot_default.let_go(it)
    assert (state.position, "/boot/grub is not there to be seen" in state.words) == ("refused", True)
    assert record.read(it.machine, "boot-default") is not None
    (tmp_path / "unmounted").rename(tmp_path / "boot")
    assert boot_default.let_go(host(Machine.tree(str(tmp_path)))).position == "open"
    assert (custom(it), record.read(it.machine, "boot-default")) == (OFF, None)


def test_the_fallback_s_kernel_was_removed(tmp_path: Path) -> None:
    it = host(bios(tmp_path, {}))
    close(it)
    other = f"{ADVANCED}>gnulinux-6.1.0-51-amd64-advanced-{UUID}"
    text = (DATA / "debian-12.cfg").read_text().replace(OLD, "6.1.0-51-amd64")
    tree(tmp_path, {**debian(text.encode()), **kernels("6.1.0-51-amd64")})
    assert "which is not in the boot menu" in boot_default.state(it).words
    assert close(it, other).position == "closed"
    assert starts(it) == other


def test_no_fallback_is_left(tmp_path: Path) -> None:
    it = host(bios(tmp_path, {}))
    close(it)
    tree(tmp_path, menu(lambda text: text.replace(OLD, NEW)))
    state = close(it, None)
    assert (state.position, "was let go" in state.words) == ("refused", True)
    assert (custom(it), record.read(it.machine, "boot-default")) == (OFF, None)


def test_a_menu_that_is_being_written_takes_no_hold_away(tmp_path: Path) -> None:
    """update-grub does not replace its file at once."""
    it = host(bios(tmp_path, {}))
    close(it)
    whole = it.machine.read(MENU)
    for length in range(0, len(whole), 499):
        (tmp_path / MENU[1:]).write_bytes(whole[:length])
        close(it)
        boot_default.state(it)
    (tmp_path / MENU[1:]).write_bytes(whole)
    assert close(it).position == "closed"
    assert starts(it) == FALLBACK


def test_a_fallback_that_no_longer_passes_stays_better_than_nothing(tmp_path: Path) -> None:
    it = host(bios(tmp_path, {}))
    close(it)
    state = close(it, None)
    assert (state.position, "could not be held anew" in state.words) == ("closed", True)
    assert starts(it) == FALLBACK


def test_a_lost_record_is_written_again(tmp_path: Path) -> None:
    it = host(bios(tmp_path, {}))
    close(it)
    for data in (None, b"no record"):
        record.drop(it, "boot-default")
        if data is not None:
            tree(tmp_path, {record.path_of("boot-default"): data})
        assert close(it).position == "closed"
        assert record.read(it.machine, "boot-default") is not None
    tree(tmp_path, {record.path_of("boot-default"): "no record"})
    assert boot_default.let_go(it).position == "open"
    assert (custom(it), it.machine.exists(record.path_of("boot-default"))) == (OFF, False)
    tree(tmp_path, {record.path_of("boot-default"): "no record"})
    assert boot_default.let_go(it).position == "open"


# -- systemd-boot ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("old", [None, B, "@saved", "nothing-of-this-name"])
def test_systemd_boot_is_held_and_gets_its_own_back(tmp_path: Path, old: str | None) -> None:
    loader = {} if old is None else {"LoaderEntryDefault": old}
    it = host(sd_boot(tmp_path, {}, **loader))
    before = starts(it)
    state = close(it, A)
    assert (state.position, "the EFI variable LoaderEntryDefault" in state.words) == ("closed", True)
    assert (starts(it), steering.default_variable(it.machine)) == (A, A)
    assert boot_default.state(it) == state
    kept = record.read(it.machine, "boot-default")
    assert kept is not None
    assert (kept.old, kept.new) == (old, A)
    assert ran(it) == [("bootctl", "list", "--json=short"), ("bootctl", "set-default", A)]
    assert close(it, A) == state
    assert len(ran(it)) == 2
    assert boot_default.let_go(it).position == "open"
    assert (starts(it), steering.default_variable(it.machine)) == (before, old)
    assert ran(it)[2:] == [("bootctl", "set-default", old or "")]
    assert boot_default.let_go(it).position == "open"
    assert len(ran(it)) == 3


SYSTEMD_BOOT = "/boot/efi/EFI/systemd/systemd-bootx64.efi"


def counted(name: str) -> dict[str, Content]:
    return {f"/boot/efi/loader/entries/{name}": sd_entry(test_boot_systemd_boot.A)}


@pytest.mark.parametrize(
    ("files", "loader", "fallback", "words"),
    [
        ({}, {"LoaderInfo": "GRUB 2.12"}, A, "started by GRUB 2.12"),
        ({}, {"LoaderEntryOneShot": B}, A, "once, before any default"),
        (counted("debian-x+3.conf"), {}, "debian-x+3.conf", "counts its boots"),
        (
            {SYSTEMD_BOOT: efi.systemd_boot("260"), **counted("debian-x+3.conf")},
            {},
            "debian-x+3.conf",
            "counts its boots",
        ),
        (counted("debian-x+0-3.conf"), {}, "debian-x+0-3.conf", "counts its boots"),
        (counted("debian-[x].conf"), {}, "debian-[x].conf", "for a pattern"),
        (counted("debian-x.conf"), {}, "debian-y.conf", "not at all"),
        ({SYSTEMD_BOOT: efi.systemd_boot("260")}, {"LoaderEntryPreferred": B}, A, "would still start"),
        ({}, {}, None, "no other kernel"),
    ],
)
def test_systemd_boot_refuses(
    tmp_path: Path, files: dict[str, Content], loader: dict[str, str], fallback: str | None, words: str
) -> None:
    it = host(sd_boot(tmp_path, files, **loader))
    before = starts(it)
    state = close(it, fallback)
    assert (state.position, words in state.words) == ("refused", True), state
    assert (starts(it), steering.default_variable(it.machine)) == (before, None)
    assert record.read(it.machine, "boot-default") is None


@pytest.mark.parametrize("version", ["252", "260"])
def test_a_new_kernel_that_systemd_boot_counts_is_held_off_all_the_same(tmp_path: Path, version: str) -> None:
    """Its counter leads to the fallback, after as many panics as there are tries; held, none of them is used up."""
    machine = sd_boot(tmp_path, {SYSTEMD_BOOT: efi.systemd_boot(version)})
    place = tmp_path / "boot/efi/loader/entries"
    tries = (place / B).rename(place / B.replace(".conf", "+2.conf"))
    it = host(machine)
    plan = find_plan(machine, Volumes(machine))[1]
    assert (starts(it), plan.automatic is not None) == (tries.name, True)
    assert close(it, A).position == "closed"
    assert (starts(it), steering.default_variable(machine), tries.exists()) == (A, A, True)
    assert boot_default.let_go(it).position == "open"
    assert (starts(it), steering.default_variable(machine)) == (tries.name, None)
    tries.rename(place / B.replace(".conf", "+0-2.conf"))
    state = close(it, A)
    assert (starts(it), state.position, "by itself" in state.words) == (A, "not-here", True)
    assert steering.default_variable(machine) is None


def test_an_entry_that_bootctl_does_not_list(tmp_path: Path) -> None:
    it = host(sd_boot(tmp_path, {}))
    assert isinstance(it.runner, Programs)
    for answer in (b"[]", b"{", b'["x"]', b'[{"title": "x"}]', b"7"):
        other = Host(it.machine, it.now, lambda *_, answer=answer: Completed(0, answer, b""))
        assert close(other, A).position == "refused"
    it.runner.code = 1
    assert close(it, A) == State("refused", "The default cannot be held: bootctl list: Failed to do it.")
    assert record.read(it.machine, "boot-default") is None


def test_a_firmware_that_takes_nothing(tmp_path: Path) -> None:
    it = host(sd_boot(tmp_path, {}))
    assert isinstance(it.runner, Programs)
    it.runner.deaf = True
    state = close(it, A)
    assert state == State("refused", "the EFI variable LoaderEntryDefault does not hold what was written to it.")
    assert record.read(it.machine, "boot-default") is None


def test_what_somebody_else_set_stays(tmp_path: Path) -> None:
    it = host(sd_boot(tmp_path, {}, LoaderEntryDefault=B))
    close(it, A)
    set_default(it.machine, "theirs")
    assert close(it, A).position == "not-ours"
    state = boot_default.let_go(it)
    assert (state.position, 'is "theirs"' in state.words) == ("not-ours", True)
    assert steering.default_variable(it.machine) == "theirs"
    assert boot_default.let_go(it).position == "open"
    assert close(it, A).position == "closed"
    set_default(it.machine, None)
    assert "was taken away" in boot_default.let_go(it).words


def test_a_damaged_record_is_told_and_not_obeyed(tmp_path: Path) -> None:
    it = host(sd_boot(tmp_path, {}, LoaderEntryDefault=B))
    close(it, A)
    tree(tmp_path, {record.path_of("boot-default"): "no record"})
    for act in (boot_default.let_go, boot_default.state, lambda it: close(it, A)):
        with pytest.raises(Damaged):
            act(it)
    assert steering.default_variable(it.machine) == A


def test_systemd_boot_is_held_on_another_entry(tmp_path: Path) -> None:
    other = "debian-c.conf"
    it = host(sd_boot(tmp_path, {f"/boot/efi/loader/entries/{other}": sd_entry()}, LoaderEntryDefault=B))
    close(it, A)
    assert close(it, other).position == "closed"
    assert starts(it) == other
    boot_default.let_go(it)
    assert steering.default_variable(it.machine) == B


def test_a_machine_that_went_from_grub_to_systemd_boot_while_held(tmp_path: Path) -> None:
    it = host(sd_boot(tmp_path, {CUSTOM: steering.hold(FALLBACK)}))
    assert close(it, A).position == "closed"
    assert (custom(it), starts(it)) == (OFF, A)
    boot_default.let_go(it)
    assert (starts(it), steering.read(it.machine)) == (B, None)


# -- killed in between -------------------------------------------------------------------------------------------


class Killed(BaseException):
    """What SIGKILL looks like to the code: nothing of it runs any more."""


class Mortal(Host):
    """Killed before its `left`th act, or after it has been done."""

    left: int
    after: bool

    def _act(self, act: Callable[..., object], *arguments: object) -> object:
        counter = self.__dict__
        if counter["left"] == 0 and not counter["after"]:
            raise Killed
        result = act(*arguments)
        if counter["left"] == 0:
            raise Killed
        counter["left"] -= 1
        return result

    def write(self, path: str, data: bytes, mode: int = 0o644) -> None:
        self._act(super().write, path, data, mode)

    def overwrite(self, path: str, data: bytes) -> None:
        self._act(super().overwrite, path, data)

    def remove(self, path: str) -> None:
        self._act(super().remove, path)

    def run(self, command: Sequence[str], timeout: float) -> Completed:
        done = self._act(super().run, command, timeout)
        assert isinstance(done, Completed)
        return done


def mortal(it: Host, left: int, *, after: bool) -> Host:
    found = Mortal(it.machine, it.now, it.runner)
    found.__dict__.update(left=left, after=after)
    return found


Act = Callable[[Host], State]


def _kills(make: Callable[[Path], Host], root: Path, first: Act, then: Act, check: Callable[[Host], None]) -> int:
    """Kill `first` at each of its acts, before and after; then `then` has to lead to where it leads without a kill."""
    kills = 0
    for left in range(20):
        for after in (False, True):
            it = make(root / f"{left}-{after}")
            try:
                first(mortal(it, left, after=after))
            except Killed:
                kills += 1
                then(it)
                check(it)
            else:
                return kills
    raise AssertionError("it never comes to its end")


def _free(expected: str, variable: str | None = None) -> Callable[[Host], None]:
    def check(it: Host) -> None:
        assert starts(it) == expected
        assert boot_default.state(it).position == "open"
        assert record.read(it.machine, "boot-default") is None
        assert steering.default_variable(it.machine) == variable
        assert custom(it) in (None, OFF)

    return check


def _held(expected: str) -> Callable[[Host], None]:
    def check(it: Host) -> None:
        assert starts(it) == expected
        assert boot_default.state(it).position == "closed"
        assert record.read(it.machine, "boot-default") is not None

    return check


def _grub(root: Path) -> Host:
    return host(bios(root, {}))


def _systemd_boot(root: Path) -> Host:
    return host(sd_boot(root, {"/boot/efi/loader/entries/c.conf": sd_entry()}, LoaderEntryDefault=B))


def _closing(fallback: str) -> Act:
    return lambda it: close(it, fallback)


def _held_before(make: Callable[[Path], Host], fallback: str) -> Callable[[Path], Host]:
    def held(root: Path) -> Host:
        it = make(root)
        assert close(it, fallback).position == "closed"
        return it

    return held


RECOVERY = f"{ADVANCED}>gnulinux-{OLD}-recovery-{UUID}"


@pytest.mark.parametrize(
    ("make", "fallback", "other", "free"),
    [(_grub, FALLBACK, RECOVERY, _free(TARGET)), (_systemd_boot, A, "c.conf", _free(B, B))],
    ids=["grub", "systemd-boot"],
)
def test_killed_between_any_two_acts(
    tmp_path: Path, make: Callable[[Path], Host], fallback: str, other: str, free: Callable[[Host], None]
) -> None:
    closing, held = _closing(fallback), _held_before(make, fallback)
    assert _kills(make, tmp_path / "closing, closed", closing, closing, _held(fallback)) >= 5
    assert _kills(make, tmp_path / "closing, opened", closing, boot_default.let_go, free) >= 5
    assert _kills(held, tmp_path / "opening, opened", boot_default.let_go, boot_default.let_go, free) >= 3
    assert _kills(held, tmp_path / "opening, closed", boot_default.let_go, closing, _held(fallback)) >= 3
    moving = _closing(other)
    assert _kills(held, tmp_path / "moving, moved", moving, moving, _held(other)) >= 3
    assert _kills(held, tmp_path / "moving, back", moving, closing, _held(fallback)) >= 3
    assert _kills(held, tmp_path / "moving, opened", moving, boot_default.let_go, free) >= 3
