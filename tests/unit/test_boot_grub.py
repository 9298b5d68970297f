"""What GRUB starts next: real configurations, and what becomes of them on machines in every state.

The outcomes of `default`, of grubenv's states, of custom.cfg and of syntax errors are what GRUB 2.06 did when it was
run with the same files.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from safeupdate.boot import grub
from safeupdate.boot.grub_commands import COMMANDS
from safeupdate.boot.grub_script import Answers, Call, Run, Sight
from safeupdate.boot.plan import BootEntry, BootPlan
from safeupdate.formats import grubenv
from safeupdate.machine import Machine
from safeupdate.volumes import Volumes
from tests.unit.trees import Content, Link, tree

DATA = Path(__file__).parent.parent / "data" / "grub"
REAL = sorted(DATA.glob("*.cfg"))

UUID = "5f3c0b7e-6d1c-4c1a-9b57-2f6f0c8e4a11"
SIMPLE = f"gnulinux-simple-{UUID}"
ADVANCED = f"gnulinux-advanced-{UUID}"
OLD, NEW = "6.1.0-50-amd64", "6.1.0-56-amd64"
FALLBACK = f"{ADVANCED}>gnulinux-{OLD}-advanced-{UUID}"
CONFIG = "/boot/grub/grub.cfg"


def block(**variables: str) -> bytes:
    text = "".join(f"{name}={value}\n" for name, value in variables.items())
    return (grubenv.SIGNATURE + text.encode()).ljust(1024, b"#")


def kernels(*releases: str, boot: str = "/boot", initramfs: str = "initrd.img-{}") -> dict[str, Content]:
    files: dict[str, Content] = {f"{boot}/vmlinuz-{release}": "kernel" for release in releases}
    return {**files, **{f"{boot}/{initramfs.format(release)}": "image" for release in releases}}


def debian(text: bytes | None = None, **variables: str) -> dict[str, Content]:
    """Debian 12: kernels, its configuration, and grubenv with these variables."""
    data = (DATA / "debian-12.cfg").read_bytes() if text is None else text
    return {**kernels(OLD, NEW), CONFIG: data, "/boot/grub/grubenv": block(**variables)}


def plan(root: Path, files: Mapping[str, Content], config: str = CONFIG) -> BootPlan:
    machine = tree(root, files)
    return grub.plan(machine, Volumes(machine), config=config)


def script(root: Path, text: str, **variables: str) -> BootPlan:
    return plan(root, {**debian(text.encode(), **variables), **kernels("1.0", "2.0")})


def ids(found: BootPlan) -> list[str]:
    return [finding.id.removeprefix("boot-entry.") for finding in found.findings]


def started(found: BootPlan) -> BootEntry:
    assert found.next is not None, found.findings
    return found.next


def mounted(*lines: tuple[str, str, str, str], uuids: Mapping[str, str]) -> dict[str, Content]:
    """Facts of a running machine: (device, root on it, mount point, type) and which device has which UUID."""
    numbers = {"sda1": "8:1", "sda2": "8:2", "sda3": "8:3", "dm-0": "254:0"}
    text = "".join(
        f"{20 + at} 1 {numbers[device]} {root} {point} rw - {fstype} /dev/{device} rw\n"
        for at, (device, root, point, fstype) in enumerate(lines)
    )
    files: dict[str, Content] = {"/proc/self/mountinfo": text}
    for device, number in numbers.items():
        files[f"/sys/class/block/{device}/dev"] = number + "\n"
    for uuid, device in uuids.items():
        files[f"/dev/disk/by-uuid/{uuid}"] = Link(f"../../{device}")
    return files


# -- Debian ----------------------------------------------------------------------------------------------------


def test_debian_starts_its_newest_kernel(tmp_path: Path) -> None:
    found = plan(tmp_path, debian())
    entry = started(found)
    assert (entry.id, entry.release, entry.title) == (SIMPLE, NEW, "Debian GNU/Linux")
    assert entry.kernel is not None
    assert (entry.kernel.path, entry.kernel.volume) == (f"/boot/vmlinuz-{NEW}", f"UUID={UUID}")
    assert [file.path for file in entry.initramfs] == [f"/boot/initrd.img-{NEW}"]
    assert entry.cmdline == f"root=UUID={UUID} ro quiet"
    assert entry.source == f"{CONFIG}:106"
    assert found.why == f'GRUB starts entry 0, the newest kernel (set default="0" in {CONFIG}, line 19)'
    assert found.findings == ()
    assert found.menu
    assert found.automatic is None


def test_the_menu_with_its_submenu(tmp_path: Path) -> None:
    entries = plan(tmp_path, debian()).entries
    assert [entry.release for entry in entries] == [NEW, NEW, NEW, OLD, OLD]
    assert entries[3].id == FALLBACK
    assert entries[3].submenus == ("Advanced options for Debian GNU/Linux",)
    assert entries[3].kernel is not None
    assert entries[3].kernel.path == f"/boot/vmlinuz-{OLD}"


def test_a_saved_entry_alone_does_nothing(tmp_path: Path) -> None:
    assert started(plan(tmp_path, debian(saved_entry=FALLBACK))).id == SIMPLE


def test_a_one_shot_counts_once(tmp_path: Path) -> None:
    found = plan(tmp_path, debian(next_entry=FALLBACK))
    assert started(found).id == FALLBACK
    assert "once" in found.why
    assert "/boot/grub/grubenv" in found.why
    assert found.automatic is not None
    assert found.automatic.id == SIMPLE
    assert found.findings == ()


def with_default(value: str) -> bytes:
    return (DATA / "debian-12.cfg").read_bytes().replace(b'set default="0"', f'set default="{value}"'.encode())


@pytest.mark.parametrize(
    "value",
    [
        FALLBACK,
        f"Advanced options for Debian GNU/Linux>Debian GNU/Linux, with Linux {OLD}",
        "1>2",
        f"{ADVANCED}>2",
        f"1>gnulinux-{OLD}-advanced-{UUID}",
    ],
)
def test_ways_to_name_an_entry(tmp_path: Path, value: str) -> None:
    found = plan(tmp_path, debian(with_default(value)))
    assert started(found).id == FALLBACK
    assert found.findings == ()


@pytest.mark.parametrize(
    ("value", "starts"),
    [
        (f"gnulinux-{OLD}-advanced-{UUID}", SIMPLE),
        ("gone", SIMPLE),
        ("17", SIMPLE),
        (f"{ADVANCED}>gone", f"{ADVANCED}>gnulinux-{NEW}-advanced-{UUID}"),
        ("1>9", f"{ADVANCED}>gnulinux-{NEW}-advanced-{UUID}"),
    ],
)
def test_a_name_that_names_nothing_is_entry_0(tmp_path: Path, value: str, starts: str) -> None:
    found = plan(tmp_path, debian(with_default(value)))
    assert started(found).id == starts
    assert ids(found) == ["default-names-nothing"]
    assert found.findings[0].level == "warning"


def test_a_bare_id_is_told_with_its_path(tmp_path: Path) -> None:
    found = plan(tmp_path, debian(with_default(f"gnulinux-{OLD}-advanced-{UUID}")))
    assert FALLBACK in found.findings[0].remedy.text
    assert found.findings[0].remedy.commands == (("grub-mkconfig", "-o", CONFIG),)


def test_what_helps_against_a_wrong_default_is_where_it_came_from(tmp_path: Path) -> None:
    saved = plan(tmp_path / "saved", debian(with_default("${saved_entry}"), saved_entry="gone"))
    assert saved.findings[0].remedy.commands == (("grub-set-default", SIMPLE),)
    once = plan(tmp_path / "once", debian(next_entry="gone"))
    assert once.findings[0].remedy.commands == (("grub-editenv", "/boot/grub/grubenv", "unset", "next_entry"),)
    custom = plan(tmp_path / "custom", {**debian(), "/boot/grub/custom.cfg": 'set default="gone"\n'})
    assert "/boot/grub/custom.cfg" in custom.findings[0].remedy.text
    assert custom.findings[0].remedy.commands == ()


def test_a_submenu_as_the_default_starts_its_first_entry(tmp_path: Path) -> None:
    found = plan(tmp_path, debian(with_default("1")))
    assert started(found).id == f"{ADVANCED}>gnulinux-{NEW}-advanced-{UUID}"
    assert found.findings == ()


def test_custom_cfg_is_read_last_and_wins(tmp_path: Path) -> None:
    files = debian(next_entry=SIMPLE)
    files["/boot/grub/custom.cfg"] = f'set default="{FALLBACK}"\n'
    found = plan(tmp_path, files)
    assert started(found).id == FALLBACK
    assert "/boot/grub/custom.cfg, line 1" in found.why


def test_a_polite_custom_cfg_lets_the_one_shot_go_first(tmp_path: Path) -> None:
    files = debian(next_entry=SIMPLE)
    files["/boot/grub/custom.cfg"] = f'if [ -z "${{boot_once}}" ]; then set default="{FALLBACK}"; fi\n'
    found = plan(tmp_path, files)
    assert started(found).id == SIMPLE
    assert found.automatic is not None
    assert found.automatic.id == FALLBACK


def test_a_hold_by_a_variable_of_our_own(tmp_path: Path) -> None:
    text = 'if [ -n "${hold}" -a -z "${boot_once}" ]; then set default="${hold}"; fi\n'
    files = {**debian(hold=FALLBACK), "/boot/grub/custom.cfg": text}
    assert started(plan(tmp_path / "on", files)).id == FALLBACK
    files["/boot/grub/grubenv"] = block()
    assert started(plan(tmp_path / "off", files)).id == SIMPLE


@pytest.mark.parametrize(
    "text",
    [
        f'set default="{FALLBACK}',
        "if [ x = x ]; then set default=1\n",
        f"set default={FALLBACK}\n",
        'set default="1"    ; ; \n',
    ],
)
def test_a_broken_custom_cfg_is_entry_0(tmp_path: Path, text: str) -> None:
    found = plan(tmp_path, {**debian(), "/boot/grub/custom.cfg": text})
    assert started(found).id == SIMPLE
    assert ids(found) == ["syntax-error"]
    assert found.findings[0].subject == "/boot/grub/custom.cfg"
    assert found.findings[0].level == "warning"


@pytest.mark.parametrize(("data", "damaged"), [(b"", True), (bytes(1024), True), (None, False)])
def test_saved_without_a_readable_grubenv_is_entry_0(tmp_path: Path, data: bytes | None, damaged: bool) -> None:
    files = debian(with_default("${saved_entry}"))
    if data is None:
        del files["/boot/grub/grubenv"]
    else:
        files["/boot/grub/grubenv"] = data
    found = plan(tmp_path, files)
    assert started(found).id == SIMPLE
    # `[ -s $prefix/grubenv ]` does not even look at an empty one.
    assert ids(found) == (["grubenv-damaged"] if damaged and data else [])
    assert "no entry is saved" in found.why


def test_saved_and_a_cut_grubenv_is_the_saved_entry(tmp_path: Path) -> None:
    files = {**debian(with_default("${saved_entry}")), "/boot/grub/grubenv": block(saved_entry=FALLBACK)[:500]}
    found = plan(tmp_path, files)
    assert started(found).id == FALLBACK
    assert f"saved_entry={FALLBACK} in /boot/grub/grubenv" in found.why


def test_prev_saved_entry_comes_back(tmp_path: Path) -> None:
    files = debian(with_default("${saved_entry}"), prev_saved_entry=FALLBACK, saved_entry=SIMPLE)
    found = plan(tmp_path, files)
    assert started(found).id == SIMPLE
    assert found.automatic is not None
    assert found.automatic.id == FALLBACK


def test_a_configuration_cut_in_its_header_boots_nothing(tmp_path: Path) -> None:
    found = plan(tmp_path, debian((DATA / "debian-12.cfg").read_bytes()[:900]))
    assert found.next is None
    assert "empty-menu" in ids(found)
    assert any(finding.level == "blocker" for finding in found.findings)


def test_a_configuration_cut_after_its_first_entry_still_boots(tmp_path: Path) -> None:
    data = (DATA / "debian-12.cfg").read_bytes()
    found = plan(tmp_path, debian(data[: data.index(b"submenu") + 500]))
    assert started(found).id == SIMPLE
    assert ids(found) == ["syntax-error"]


def test_an_empty_configuration(tmp_path: Path) -> None:
    found = plan(tmp_path, debian(b""))
    assert ids(found) == ["empty-menu"]
    assert found.findings[0].level == "blocker"


def test_a_removed_kernel_is_absent(tmp_path: Path) -> None:
    files = debian()
    del files[f"/boot/vmlinuz-{NEW}"]
    entry = started(plan(tmp_path, files))
    assert entry.kernel is not None
    assert entry.kernel.absent
    assert entry.release == NEW


def test_debian_13_with_a_saved_default(tmp_path: Path) -> None:
    old, new = "6.12.107+deb13-amd64", "6.12.117+deb13-amd64"
    path = f"{ADVANCED}>gnulinux-{old}-advanced-{UUID}"
    files = {**kernels(old, new), CONFIG: (DATA / "debian-13.cfg").read_bytes()}
    assert started(plan(tmp_path / "unset", {**files, "/boot/grub/grubenv": block()})).release == new
    assert started(plan(tmp_path / "set", {**files, "/boot/grub/grubenv": block(saved_entry=path)})).release == old


# -- Ubuntu ----------------------------------------------------------------------------------------------------


def ubuntu(**variables: str) -> dict[str, Content]:
    data = (DATA / "ubuntu-cloud.cfg").read_bytes()
    return {
        **kernels("6.8.0-31-generic", "6.8.0-51-generic"),
        CONFIG: data,
        "/boot/grub/grubenv": block(**variables),
    }


def test_ubuntu_tries_without_initramfs_first(tmp_path: Path) -> None:
    found = plan(tmp_path, ubuntu())
    entry = started(found)
    assert entry.without_initramfs_first
    assert [file.path for file in entry.initramfs] == ["/boot/initrd.img-6.8.0-51-generic"]
    assert entry.cmdline_without_initramfs.endswith("panic=-1")
    assert not entry.cmdline.endswith("panic=-1")
    assert found.automatic is None
    assert found.findings == ()
    assert found.menu


def test_ubuntu_s_submenu_entries_are_never_tried_again(tmp_path: Path) -> None:
    # `partuuid` is not exported, so inside the submenu nothing is written to grubenv.
    entry = next(entry for entry in plan(tmp_path, ubuntu()).entries if "31-generic" in entry.id)
    assert entry.initramfs == ()
    assert not entry.without_initramfs_first


def test_ubuntu_after_a_failed_boot_without_initramfs(tmp_path: Path) -> None:
    entry = started(plan(tmp_path, ubuntu(initrdfail="1")))
    assert entry.initramfs
    assert not entry.without_initramfs_first


def test_ubuntu_without_grubenv_never_tries_the_initramfs(tmp_path: Path) -> None:
    files = ubuntu()
    del files["/boot/grub/grubenv"]
    entry = started(plan(tmp_path, files))
    assert not entry.initramfs
    assert not entry.without_initramfs_first


def test_ubuntu_s_recordfail_is_about_the_time_out_only(tmp_path: Path) -> None:
    assert started(plan(tmp_path, ubuntu(recordfail="1"))).release == "6.8.0-51-generic"


# -- Fedora ----------------------------------------------------------------------------------------------------

MACHINE_ID = "0a1b2c3d4e5f60718293a4b5c6d7e8f9"
FEDORA_OLD, FEDORA_NEW = "6.8.5-301.fc40.x86_64", "6.10.3-200.fc40.x86_64"


def entry_text(release: str, **more: str) -> str:
    fields = {
        "title": f"Fedora Linux ({release}) 40",
        "version": release,
        "linux": f"/vmlinuz-{release}",
        "initrd": f"/initramfs-{release}.img $tuned_initrd",
        "options": "root=UUID=77 ro rootflags=subvol=root rhgb quiet $tuned_params",
        "grub_users": "$grub_users",
        "grub_arg": "--unrestricted",
        **more,
    }
    return "".join(f"{key} {value}\n" for key, value in fields.items())


def fedora(**variables: str) -> dict[str, Content]:
    """A separate /boot with BLS entries, btrfs below /."""
    return {
        **kernels(FEDORA_OLD, FEDORA_NEW, initramfs="initramfs-{}.img"),
        "/boot/grub2/grub.cfg": (DATA / "fedora.cfg").read_bytes(),
        "/boot/grub2/grubenv": block(**variables),
        f"/boot/loader/entries/{MACHINE_ID}-{FEDORA_OLD}.conf": entry_text(FEDORA_OLD),
        f"/boot/loader/entries/{MACHINE_ID}-{FEDORA_NEW}.conf": entry_text(FEDORA_NEW),
        "/boot/efi/EFI/fedora/grub.cfg": (DATA / "esp-fedora.cfg").read_bytes(),
        "/etc/os-release": 'ID=fedora\nVERSION_ID="40"\n',
        "/sys/firmware/efi/fw_platform_size": "64\n",
        **mounted(
            ("sda3", "/root", "/", "btrfs"),
            ("sda2", "/", "/boot", "ext4"),
            ("sda1", "/", "/boot/efi", "vfat"),
            uuids={UUID: "sda2", "ABCD-1234": "sda1"},
        ),
    }


def fedora_plan(root: Path, files: Mapping[str, Content]) -> BootPlan:
    return plan(root, files, "/boot/grub2/grub.cfg")


def test_fedora_starts_the_first_of_blscfg_s_order(tmp_path: Path) -> None:
    found = fedora_plan(tmp_path, fedora())
    entry = started(found)
    assert entry.id == f"{MACHINE_ID}-{FEDORA_NEW}"
    assert entry.release == FEDORA_NEW
    assert entry.kernel is not None
    assert entry.kernel.path == f"/boot/vmlinuz-{FEDORA_NEW}"
    assert [file.path for file in entry.initramfs] == [f"/boot/initramfs-{FEDORA_NEW}.img"]
    assert entry.cmdline == "root=UUID=77 ro rootflags=subvol=root rhgb quiet"
    assert entry.source.endswith(f"{FEDORA_NEW}.conf")
    assert found.findings == ()
    assert [entry.id for entry in found.entries][-1] == "uefi-firmware"
    assert found.entries[-1].kernel is None


def test_fedora_s_saved_entry(tmp_path: Path) -> None:
    found = fedora_plan(tmp_path, fedora(saved_entry=f"{MACHINE_ID}-{FEDORA_OLD}"))
    assert started(found).release == FEDORA_OLD
    assert "saved_entry" in found.why


def test_fedora_s_saved_entry_of_a_removed_kernel(tmp_path: Path) -> None:
    found = fedora_plan(tmp_path, fedora(saved_entry=f"{MACHINE_ID}-6.0.1-1.fc40.x86_64"))
    assert started(found).release == FEDORA_NEW
    assert ids(found) == ["default-names-nothing"]


def test_a_hidden_menu_can_be_called(tmp_path: Path) -> None:
    variables = {"menu_auto_hide": "1", "boot_success": "1"}
    assert fedora_plan(tmp_path / "hidden", fedora(**variables)).menu
    assert not fedora_plan(tmp_path / "fast", fedora(**variables, fastboot="1")).menu


def test_fedora_s_boot_counter_leads_to_the_second_entry(tmp_path: Path) -> None:
    found = fedora_plan(tmp_path / "counting", fedora(boot_counter="2", boot_success="0"))
    assert started(found).release == FEDORA_NEW
    assert found.automatic is not None
    assert found.automatic.release == FEDORA_OLD
    used_up = fedora_plan(tmp_path / "used-up", fedora(boot_counter="0", boot_success="0"))
    assert started(used_up).release == FEDORA_OLD


def test_without_a_counter_nothing_is_automatic(tmp_path: Path) -> None:
    assert fedora_plan(tmp_path, fedora(boot_success="1")).automatic is None


def test_a_counter_that_cannot_be_written(tmp_path: Path) -> None:
    files = fedora(boot_counter="2", boot_success="0")
    files["/proc/self/mountinfo"] = str(files["/proc/self/mountinfo"]).replace("ext4", "btrfs")
    found = fedora_plan(tmp_path, files)
    assert found.automatic is None
    assert ids(found) == ["grubenv-not-writable"]
    assert "btrfs" in found.findings[0].problem


def test_kernelopts_from_grubenv_and_from_the_configuration(tmp_path: Path) -> None:
    files = fedora(kernelopts="root=/dev/x ro")
    path = f"/boot/loader/entries/{MACHINE_ID}-{FEDORA_NEW}.conf"
    files[path] = entry_text(FEDORA_NEW, options="$kernelopts quiet")
    assert started(fedora_plan(tmp_path / "env", files)).cmdline == "root=/dev/x ro quiet"
    files["/boot/grub2/grubenv"] = block()
    assert started(fedora_plan(tmp_path / "cfg", files)).cmdline == f"root=UUID={UUID} ro rhgb quiet quiet"


def test_an_entry_without_a_kernel_line_is_no_entry(tmp_path: Path) -> None:
    files = fedora()
    files[f"/boot/loader/entries/{MACHINE_ID}-9.9.conf"] = "title T\n\nlinux /vmlinuz\n"
    assert started(fedora_plan(tmp_path, files)).release == FEDORA_NEW


def test_a_rescue_entry_has_no_release(tmp_path: Path) -> None:
    files = fedora()
    name = f"0-rescue-{MACHINE_ID}"
    files[f"/boot/loader/entries/{MACHINE_ID}-0-rescue.conf"] = entry_text(name)
    files[f"/boot/vmlinuz-{name}"] = "kernel"
    rescue = next(e for e in fedora_plan(tmp_path, files).entries if e.id.endswith("rescue"))
    assert rescue.release is None
    assert rescue.kernel is not None


def test_a_grub_password(tmp_path: Path) -> None:
    files = fedora()
    files["/boot/grub2/user.cfg"] = "GRUB2_PASSWORD=grub.pbkdf2.sha512.10000.AA\n"
    assert ids(fedora_plan(tmp_path / "entries-are-free", files)) == []
    path = f"/boot/loader/entries/{MACHINE_ID}-{FEDORA_NEW}.conf"
    files[path] = entry_text(FEDORA_NEW, grub_users="root")
    assert ids(fedora_plan(tmp_path / "restricted", files)) == ["password"]


def test_the_stub_on_the_esp_is_followed(tmp_path: Path) -> None:
    machine = tree(tmp_path, fedora(saved_entry=f"{MACHINE_ID}-{FEDORA_OLD}"))
    volumes = Volumes(machine)
    assert grub.find_configs(machine, volumes) == ("/boot/grub2/grub.cfg",)
    found = grub.plan(machine, volumes, config="/boot/efi/EFI/fedora/grub.cfg")
    assert started(found).release == FEDORA_OLD
    assert "/boot/grub2/grub.cfg" in found.why or "/boot/grub2/grubenv" in found.why


def test_the_configurations_of_a_debian_machine(tmp_path: Path) -> None:
    files = {
        **debian(),
        "/boot/efi/EFI/debian/grub.cfg": (DATA / "esp-debian.cfg").read_bytes(),
        "/boot/efi/EFI/gone/grub.cfg": (DATA / "esp-debian.cfg").read_bytes().replace(UUID.encode(), b"0000-0000"),
        **mounted(("sda2", "/", "/", "ext4"), ("sda1", "/", "/boot/efi", "vfat"), uuids={UUID: "sda2", "ABCD": "sda1"}),
        "/sys/firmware/efi/fw_platform_size": "64\n",
    }
    machine = tree(tmp_path, files)
    assert grub.find_configs(machine, Volumes(machine)) == (CONFIG,)
    assert started(grub.plan(machine, Volumes(machine), config="/boot/efi/EFI/debian/grub.cfg")).release == NEW


def test_two_configurations_are_both_told(tmp_path: Path) -> None:
    files = {**debian(), "/boot/grub2/grub.cfg": "menuentry x { linux /boot/vmlinuz-1.0 }\n"}
    machine = tree(tmp_path, files)
    assert grub.find_configs(machine, Volumes(machine)) == (CONFIG, "/boot/grub2/grub.cfg")
    (tmp_path / "boot/grub2/grub.cfg").unlink()
    (tmp_path / "boot/grub2/grub.cfg").symlink_to("../grub/grub.cfg")
    assert grub.find_configs(machine, Volumes(machine)) == (CONFIG,)


def test_a_stub_that_leads_nowhere(tmp_path: Path) -> None:
    files = fedora()
    stub = (DATA / "esp-fedora.cfg").read_bytes()
    files["/boot/efi/EFI/fedora/grub.cfg"] = stub.replace(UUID.encode(), b"0000-0000")
    found = plan(tmp_path, files, "/boot/efi/EFI/fedora/grub.cfg")
    assert ids(found) == ["empty-menu"]
    assert found.findings[0].evidence


def test_a_stub_that_leads_to_what_is_not_mounted(tmp_path: Path) -> None:
    files = fedora()
    files["/proc/self/mountinfo"] = str(files["/proc/self/mountinfo"]).replace(" /boot rw - ext4", " /mnt rw - ext4")
    files["/proc/self/mountinfo"] = "\n".join(
        line for line in str(files["/proc/self/mountinfo"]).splitlines() if "/mnt" not in line
    )
    found = plan(tmp_path, files, "/boot/efi/EFI/fedora/grub.cfg")
    assert ids(found) == ["config-not-seen"]
    assert found.findings[0].level == "unknown"


def test_variables_in_sectors_of_the_disk_are_not_known(tmp_path: Path) -> None:
    found = fedora_plan(tmp_path, fedora(env_block="512+1", saved_entry=f"{MACHINE_ID}-{FEDORA_OLD}"))
    assert found.next is None
    assert any(finding.level == "unknown" for finding in found.findings)


# -- where files are -------------------------------------------------------------------------------------------

LINUX = "linux /vmlinuz-1.0 root=/dev/sda2 ro\ninitrd /initrd.img-1.0\n"


def one_entry(search: str) -> bytes:
    return f"set timeout=5\nmenuentry one {{\n{search}\n{LINUX}}}\n".encode()


def test_a_separate_boot(tmp_path: Path) -> None:
    files = {
        **kernels("1.0"),
        CONFIG: one_entry(f"search --fs-uuid --set=root {UUID}"),
        **mounted(("sda2", "/", "/", "ext4"), ("sda1", "/", "/boot", "ext4"), uuids={UUID: "sda1", "77": "sda2"}),
    }
    entry = started(plan(tmp_path, files))
    assert entry.kernel is not None
    assert entry.kernel.path == "/boot/vmlinuz-1.0"
    assert not entry.kernel.absent


def test_a_file_system_that_is_not_mounted(tmp_path: Path) -> None:
    files = {
        **kernels("1.0"),
        CONFIG: one_entry(f"search --fs-uuid --set=root {UUID}"),
        **mounted(("sda2", "/", "/", "ext4"), uuids={UUID: "sda1", "77": "sda2"}),
    }
    entry = started(plan(tmp_path, files))
    assert entry.kernel is not None
    assert entry.kernel.path is None
    assert not entry.kernel.absent
    assert "not to be seen here" in entry.kernel.why


def test_a_shadowed_boot_is_not_what_grub_reads(tmp_path: Path) -> None:
    files = {
        **kernels("1.0"),
        CONFIG: one_entry(f"search --fs-uuid --set=root {UUID}").replace(b"/vmlinuz", b"/boot/vmlinuz"),
        **mounted(("sda2", "/", "/", "ext4"), ("sda1", "/", "/boot", "ext4"), uuids={UUID: "sda2", "77": "sda1"}),
    }
    entry = started(plan(tmp_path, files))
    assert entry.kernel is not None
    assert entry.kernel.path is None or entry.kernel.absent


def test_an_unknown_uuid_leaves_root_as_it_was(tmp_path: Path) -> None:
    files = {
        **kernels("1.0", boot=""),
        **kernels("1.0"),
        CONFIG: one_entry("search --fs-uuid --set=root 0000-0000"),
        **mounted(("sda2", "/", "/", "ext4"), uuids={"77": "sda2"}),
    }
    entry = started(plan(tmp_path / "grub-s-own-disk", files))
    assert entry.kernel is not None
    assert entry.kernel.path == "/vmlinuz-1.0"
    files[CONFIG] = one_entry("set root=hd1,gpt3\nsearch --fs-uuid --set=root 0000-0000")
    entry = started(plan(tmp_path / "a-disk-by-number", files))
    assert entry.kernel is not None
    assert entry.kernel.path is None
    assert "hd1,gpt3" in entry.kernel.why


def test_a_btrfs_subvolume(tmp_path: Path) -> None:
    text = one_entry(f"search --fs-uuid --set=root {UUID}").replace(b"/vmlinuz", b"/@/boot/vmlinuz")
    files = {
        **kernels("1.0"),
        CONFIG: text,
        **mounted(("sda2", "/@", "/", "btrfs"), uuids={UUID: "sda2"}),
    }
    entry = started(plan(tmp_path, files))
    assert entry.kernel is not None
    assert entry.kernel.path == "/boot/vmlinuz-1.0"
    assert not entry.kernel.absent


def test_the_subvolume_of_this_boot_was_renamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lists = tmp_path / "btrfs"
    lists.write_text("#!/bin/sh\necho 'ID 256 gen 7 top level 5 path @before'\n")
    lists.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    machine = tree(
        tmp_path / "root",
        {
            CONFIG: f"search --fs-uuid --set=root {UUID}\nconfigfile ($root)/@/boot/grub/menu.cfg\n",
            "/proc/cmdline": "BOOT_IMAGE=/@/boot/vmlinuz-1.0 ro rootflags=subvol=@",
            **mounted(("sda2", "/@before", "/", "btrfs"), uuids={UUID: "sda2"}),
        },
    )
    assert ids(grub.plan(machine, Volumes(machine), config=CONFIG)) == ["config-not-seen"]
    machine = Machine(machine.root, live=True)
    assert ids(grub.plan(machine, Volumes(machine), config=CONFIG)) == ["empty-menu"]


def test_suse_reads_relative_to_the_default_subvolume(tmp_path: Path) -> None:
    text = b'set btrfs_relative_path="y"\nexport btrfs_relative_path\n' + one_entry(f"search -u -s {UUID}")
    files = {
        **kernels("1.0"),
        "/boot/grub2/grub.cfg": text.replace(b"/vmlinuz", b"/boot/vmlinuz"),
        **mounted(
            ("sda2", "/@/.snapshots/1/snapshot", "/", "btrfs"),
            ("sda2", "/@/boot/grub2/x86_64-efi", "/boot/grub2/x86_64-efi", "btrfs"),
            uuids={UUID: "sda2"},
        ),
    }
    entry = started(plan(tmp_path, files, "/boot/grub2/grub.cfg"))
    assert entry.kernel is not None
    assert entry.kernel.path == "/boot/vmlinuz-1.0"
    assert not entry.kernel.absent


def test_a_link_to_a_file_system_that_grub_does_not_read(tmp_path: Path) -> None:
    files = {
        **kernels("1.0"),
        "/vmlinuz": Link("boot/vmlinuz-1.0"),
        CONFIG: f"menuentry x {{\nsearch --fs-uuid --set=root {UUID}\nlinux /vmlinuz root=/dev/sda2\n}}\n",
        **mounted(("sda2", "/", "/", "ext4"), ("sda1", "/", "/boot", "ext4"), uuids={UUID: "sda2", "77": "sda1"}),
    }
    entry = started(plan(tmp_path, files))
    assert entry.kernel is not None
    # What lies below the mount point of /boot on that file system is hidden.
    assert entry.kernel.path is None
    assert not entry.kernel.absent
    assert "not to be seen here" in entry.kernel.why


def test_one_shots_on_lvm_stick(tmp_path: Path) -> None:
    files = {
        **debian(next_entry=FALLBACK),
        **mounted(("dm-0", "/", "/", "ext4"), uuids={UUID: "dm-0"}),
        "/sys/class/block/dm-0/dm/uuid": "LVM-abc\n",
    }
    found = plan(tmp_path, files)
    assert started(found).id == FALLBACK
    assert ids(found) == ["grubenv-not-writable"]
    assert found.findings[0].remedy.commands == (("grub-editenv", "/boot/grub/grubenv", "unset", "next_entry"),)
    assert found.automatic is None


def test_stale_grubenv_on_lvm_without_a_one_shot_is_no_matter(tmp_path: Path) -> None:
    files = {
        **debian(),
        **mounted(("dm-0", "/", "/", "ext4"), uuids={UUID: "dm-0"}),
        "/sys/class/block/dm-0/dm/uuid": "LVM-abc\n",
    }
    assert plan(tmp_path, files).findings == ()


# -- small scripts ---------------------------------------------------------------------------------------------


def test_the_release_of_a_linked_kernel(tmp_path: Path) -> None:
    files = {**debian(b"menuentry x {\nlinux /vmlinuz root=/dev/sda1\n}\n"), "/vmlinuz": Link(f"boot/vmlinuz-{NEW}")}
    assert started(plan(tmp_path, files)).release == NEW


@pytest.mark.parametrize(
    ("name", "release"),
    [
        ("vmlinuz-5.4.0-42-generic.efi.signed", "5.4.0-42-generic"),
        ("vmlinuz-6.1.0.old", "6.1.0"),
        ("Image-6.6.0-arm64", "6.6.0-arm64"),
        ("vmlinuz-linux", None),
        ("vmlinuz-0-rescue-0a1b", None),
        ("6.6.0-1-default/linux-0a1b2c3d4e5f60718293a4b5c6d7e8f901234567", "6.6.0-1-default"),
        ("memtest86+x64.bin", None),
    ],
)
def test_the_release_in_a_kernel_s_name(tmp_path: Path, name: str, release: str | None) -> None:
    found = plan(tmp_path, {f"/boot/{name}": "x", CONFIG: f"menuentry x {{\nlinux /boot/{name} ro\n}}\n"})
    assert started(found).release == release


def test_other_systems_have_no_kernel(tmp_path: Path) -> None:
    text = "menuentry W --id w { chainloader /EFI/Microsoft/Boot/bootmgfw.efi }\nmenuentry F { fwsetup }\n"
    found = script(tmp_path, text)
    assert [entry.kernel for entry in found.entries] == [None, None]
    assert started(found).id == "w"


def test_xen_starts_the_kernel_of_its_first_module(tmp_path: Path) -> None:
    text = """menuentry xen {
  multiboot2 /boot/xen-4.17.gz placeholder
  module2 /boot/vmlinuz-1.0 placeholder root=/dev/sda1 ro
  module2 --nounzip /boot/initrd.img-1.0
}
"""
    entry = started(script(tmp_path, text))
    assert entry.release == "1.0"
    assert entry.cmdline == "root=/dev/sda1 ro"
    assert [file.path for file in entry.initramfs] == ["/boot/initrd.img-1.0"]


def test_a_variable_that_nothing_sets_in_the_default(tmp_path: Path) -> None:
    found = script(tmp_path, 'set default="${mystery}"\nmenuentry x { linux /boot/vmlinuz-1.0 }\n')
    assert found.next is None
    assert ids(found) == ["unresolved-variable"]
    assert found.findings[0].level == "unknown"
    assert f"${{mystery}} ({CONFIG}, line 1)" in found.findings[0].problem


def test_a_variable_that_nothing_sets_in_the_kernel_s_name(tmp_path: Path) -> None:
    entry = started(script(tmp_path, "menuentry x {\n  linux /boot/vmlinuz-${ver} root=/dev/sda1\n}\n"))
    assert entry.kernel is not None
    assert entry.kernel.path is None
    assert not entry.kernel.absent
    assert len(entry.unresolved) == 1
    assert f"{CONFIG}, line 2" in entry.unresolved[0]


def test_a_variable_that_nothing_sets_in_root(tmp_path: Path) -> None:
    entry = started(script(tmp_path, "menuentry x {\n  linux /boot/vmlinuz-1.0 root=$where $more\n}\n"))
    assert ["${where}" in each for each in entry.unresolved] == [True]


def test_a_variable_that_nothing_sets_in_the_initramfs(tmp_path: Path) -> None:
    text = "menuentry x {\n  linux /boot/vmlinuz-1.0 root=/dev/sda1\n  initrd /boot/initrd.img-1.0 %s\n}\n"
    entry = started(script(tmp_path / "in-a-name", text % "/boot/ucode-$cpu.img"))
    assert [file.absent for file in entry.initramfs] == [False, False]
    assert "${cpu}" in entry.unresolved[0]
    alone = started(script(tmp_path / "alone", text % "$tuned_initrd"))
    assert len(alone.initramfs) == 1
    assert alone.unresolved == ()


def test_the_uuid_of_the_disk_that_was_searched(tmp_path: Path) -> None:
    text = f"""menuentry x {{
  search --fs-uuid --set=root {UUID}
  set root=($root)
  probe --set=uuid --fs-uuid ($root)
  linux /boot/vmlinuz-1.0 root=UUID=$uuid
}}
menuentry y {{
  probe --set=uuid --fs-uuid (hd0,gpt2)
  linux /boot/vmlinuz-1.0 root=UUID=$uuid
}}
"""
    known, unknown = script(tmp_path, text).entries
    assert known.cmdline == f"root=UUID={UUID}"
    assert known.unresolved == ()
    assert len(unknown.unresolved) == 1


def test_what_hangs_on_the_firmware_is_undecided(tmp_path: Path) -> None:
    text = """
set timeout=5
smbios --type 1 --get-string 5 --set product
if [ $grub_cpu = arm64 ]; then true; fi
if [ "$product" = "A" ]; then set default=1; fi
menuentry a { linux /boot/vmlinuz-1.0 }
menuentry b { linux /boot/vmlinuz-2.0 }
"""
    found = script(tmp_path / "decides", text)
    assert found.next is None
    assert ids(found) == ["undecided"]
    assert f"{CONFIG}, line 5" in found.findings[0].problem
    same = text.replace("set default=1", "set timeout=9")
    assert started(script(tmp_path / "does-not", same)).id == "a"


def test_what_another_entry_asks_does_not_matter(tmp_path: Path) -> None:
    asking = "".join(f'  if [ "$net_default_{number}" = x ]; then true; fi\n' for number in range(9))
    text = f"set timeout=1\nmenuentry a {{ linux /boot/vmlinuz-1.0 }}\nmenuentry b {{\n{asking}}}\n"
    found = script(tmp_path, text)
    assert started(found).id == "a"
    assert found.findings == ()


def test_an_unknown_platform_matters_only_where_it_decides(tmp_path: Path) -> None:
    text = "if [ $grub_platform = efi ]; then set default=1; fi\nmenuentry a { true }\nmenuentry b { true }\n"
    assert ids(script(tmp_path / "unknown", text + "set timeout=1\n")) == ["undecided"]
    known = {**debian(text.encode()), "/boot/grub/x86_64-efi/linux.mod": "m"}
    assert started(plan(tmp_path / "known", known)).id == "b"


def test_an_exported_variable_reaches_a_submenu(tmp_path: Path) -> None:
    text = """
set a=1.0; set b=2.0
export b
submenu s {
  menuentry x { linux /boot/vmlinuz-$a }
  menuentry y { linux /boot/vmlinuz-$b }
}
"""
    first, second = script(tmp_path, text).entries
    assert first.unresolved
    assert second.release == "2.0"


def test_functions_loops_and_positional_arguments(tmp_path: Path) -> None:
    text = """
function load { linux /boot/vmlinuz-$1 "$2"; initrd /boot/initrd.img-$1; }
for release in 2.0 1.0; do
  menuentry "Linux $release" --id "k$release" $release { load $2 "root=/dev/x y" }
done
set default=k1.0
"""
    entry = started(script(tmp_path, text))
    assert (entry.id, entry.title, entry.release) == ("k1.0", "Linux 1.0", "1.0")
    assert entry.cmdline == '"root=/dev/x y"'


def test_fallback_counts_where_the_kernel_is_missing(tmp_path: Path) -> None:
    text = """
set default=0
set fallback=1
menuentry a { linux /boot/vmlinuz-gone }
menuentry b { linux /boot/vmlinuz-1.0 }
"""
    found = script(tmp_path / "missing", text)
    assert started(found).id == "a"
    assert found.automatic is not None
    assert found.automatic.id == "b"
    # GRUB does nothing any more once the kernel has started.
    assert script(tmp_path / "there", text.replace("gone", "2.0")).automatic is None


def test_a_menu_that_waits(tmp_path: Path) -> None:
    entry = "menuentry x { linux /boot/vmlinuz-1.0 }\n"
    assert ids(script(tmp_path / "unset", entry)) == ["waits-for-person"]
    assert ids(script(tmp_path / "minus", "set timeout=-1\n" + entry)) == ["waits-for-person"]
    found = script(tmp_path / "zero", "set timeout=0\n" + entry)
    assert ids(found) == []
    assert not found.menu
    assert script(tmp_path / "hidden", "set timeout_style=hidden\nset timeout=0\n" + entry).menu


def test_a_menu_of_many_entries(tmp_path: Path) -> None:
    entry = "menuentry '{0}' --id k{0} {{\n" + "insmod gzio\n" * 10 + "linux /boot/vmlinuz-1.0 n={0}\n}}\n"
    question = "if [ $grub_platform = efi ]; then insmod a; fi\n"
    text = "set timeout=1\nset default=k399\n" + question + "".join(entry.format(number) for number in range(400))
    found = script(tmp_path, text)
    assert started(found).cmdline == "n=399"
    assert len(found.entries) == 400


def test_a_source_loop_ends(tmp_path: Path) -> None:
    found = script(tmp_path, f"source {CONFIG}\nmenuentry x {{ true }}\nset timeout=1\n")
    assert found.next is not None or ids(found) == ["config-not-followed"]


@pytest.mark.parametrize(
    "text",
    [
        "while true; do true; done\n",
        "a=x\nwhile true; do a=$a$a; done\n",
        "function f { f; f; }\nf\n",
        "menuentry x { while true; do true; done }\n",
        "for i in 1 2; do source /boot/grub/grub.cfg; done\n",
    ],
)
def test_what_does_not_end_is_unknown(tmp_path: Path, text: str) -> None:
    found = script(tmp_path, text)
    if "config-not-followed" in ids(found):
        assert found.findings[0].level == "unknown"
    assert found.next is None


def test_deep_nesting_is_unknown(tmp_path: Path) -> None:
    found = script(tmp_path, "submenu x {\n" * 3000)
    assert ids(found) == ["config-not-followed"]


@pytest.mark.parametrize(
    "text",
    [
        "set a='--hint a '\nwhile true; do set a=\"$a$a\"; search $a; done\n",
        "set a='b -nt c '\nwhile true; do set a=\"$a$a\"; test $a; done\n",
        "set a='--id b '\nwhile true; do set a=\"$a$a\"; menuentry c $a { d; }; done\n",
        "function f { menuentry $1 { true; }; shift; f $@; f $@; }\nf " + "a " * 2000,
        "for i in " + "1 " * 12000 + "; do menuentry $i { true; }; done\n",
        "".join(f"set a{n}=b\n" for n in range(800)) + "for i in " + "1 " * 12000 + "; do submenu $i { true; }; done\n",
    ],
    ids=["search", "test", "menuentry", "arguments", "entries", "submenus"],
)
def test_what_grows_by_the_square_is_not_followed(tmp_path: Path, text: str) -> None:
    assert ids(script(tmp_path, text)) == ["config-not-followed"]


def test_a_missing_configuration_is_unknown(tmp_path: Path) -> None:
    found = plan(tmp_path, {})
    assert ids(found) == ["config-unreadable"]
    assert found.findings[0].level == "unknown"


def test_what_grub_prints(tmp_path: Path) -> None:
    """Word splitting, quotes and statuses, as grub-emu printed them."""
    text = r"""
echo "x$nope"y$nope z
v="  p q "
echo [$v]-[x$v] "$v"
echo 'a'"b"\ c "\d"
function f { echo f $1 $# $* "$@"; return 3; }
f "a b" c
echo st $?
! true
echo not $?
if nosuchcommand; then echo T; fi
if [ 010 -eq 8 -a -1 -lt 1 ]; then echo numbers; fi
if [ "(" a = b ")" -o x ]; then echo parentheses; fi
if [ vmlinuz-2 -plt vmlinuz-11 ]; then echo prefixes; fi
for i in 1 2 3; do for j in a b; do if [ $i = 2 ]; then break 2; fi; echo $i$j; done; done
until [ x$u = xuu ]; do u=u$u; done
echo $u $?
eval "q=5"
echo $q
"""
    machine = tree(tmp_path, {CONFIG: text})
    printed: list[str] = []

    def echo(_run: Run, call: Call) -> int:
        printed.append(" ".join(call.arguments))
        return 0

    run = Run(Sight(machine, Volumes(machine)), Answers(), {**COMMANDS, "echo": echo})
    run.read(CONFIG)
    assert printed == [
        "xy z",
        "[p q]-[xp q]   p q ",
        "ab c \\d",
        "f a b 2 a b c a b c",
        "st 3",
        "not 1",
        "T",
        "numbers",
        "parentheses",
        "prefixes",
        "1a",
        "1b",
        "uu 0",
        "5",
    ]


# -- anything --------------------------------------------------------------------------------------------------

ANY = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))


def check_any(root: Path, data: bytes) -> None:
    root = root / str(time.monotonic_ns())
    found = plan(root, {**kernels(NEW), CONFIG: data, "/boot/grub/grubenv": block(saved_entry="1>0")})
    if found.next is None:
        assert any(finding.level in ("blocker", "unknown") for finding in found.findings)


@ANY
@given(st.sampled_from(REAL), st.data())
def test_any_change_of_a_real_file(tmp_path: Path, path: Path, draw: st.DataObject) -> None:
    data = path.read_bytes()
    place = draw.draw(st.integers(0, len(data)))
    put = draw.draw(st.sampled_from([b"", b"}", b"fi\n", b'"', b"'", b"\0", b"\xff", b"$", b"source $config_file\n"]))
    check_any(tmp_path, data[:place] + put + data[place + draw.draw(st.integers(0, 60)) :])


@ANY
@given(st.sampled_from(REAL), st.floats(0, 1))
def test_a_real_file_cut_anywhere(tmp_path: Path, path: Path, part: float) -> None:
    data = path.read_bytes()
    check_any(tmp_path, data[: int(len(data) * part)])


WORDS = [
    *("menuentry x {", "}", "submenu 'y' {", "linux /boot/vmlinuz", "initrd /i", "set default=", "1>0", "set a=$a"),
    *("if [", "];", "then", "fi", "for i in 1 2; do", "done", "while", "true", "false", "function f {", "f", "search"),
    *("--set=root", "-u", "--label x", "load_env", "save_env a", "configfile /boot/grub/grub.cfg", "source", "blscfg"),
    *("export a", "unset", "return", "break", "continue 2", "shift", "setparams", "eval 'x=1'", "boot", "exit", ";"),
    *("module", "regexp --set=1:a b c", "! !", "-f (hd0)", "( ( (", "*", "?", "${root}", "normal", "-o -a", "$1"),
    *("chainloader +1", "multiboot /x", "devicetree", "cat", "[", "smbios --set a"),
]


@ANY
@given(st.lists(st.sampled_from([*WORDS, "\n", "\n", "\n"]), max_size=40))
def test_any_words(tmp_path: Path, words: list[str]) -> None:
    check_any(tmp_path, " ".join(words).encode())
