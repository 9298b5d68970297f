"""systemd-boot's choice: its order, its variables, its counters, and what it cannot be judged by."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from safeupdate.boot import firmware, systemd_boot
from safeupdate.boot.plan import BootPlan
from safeupdate.report import Finding
from safeupdate.volumes import Volumes
from tests.unit import efi
from tests.unit.trees import Content, tree, x86_image

A, B = "6.1.0-50-amd64", "6.1.0-56-amd64"


def entry(release: str = A, *, more: str = "", initrd: bool = True) -> str:
    """An entry as kernel-install writes it."""
    text = f"title Debian\nversion {release}\nlinux /debian/{release}/linux\noptions root=/dev/sda2 ro\n"
    return text + (f"initrd /debian/{release}/initrd.img\n" if initrd else "") + more


def files(*releases: str, esp: str = "/boot/efi") -> dict[str, Content]:
    """What systemd-boot's entries of these releases name, and systemd-boot itself."""
    found: dict[str, Content] = {f"{esp}/EFI/systemd/systemd-bootx64.efi": efi.systemd_boot()}
    for release in releases:
        found[f"{esp}/debian/{release}/linux"] = x86_image(release)
        found[f"{esp}/debian/{release}/initrd.img"] = b"070701"
    return found


def plan(
    root: Path,
    content: Mapping[str, Content],
    loader: Mapping[str, str] | None = None,
    *,
    mounts: Mapping[str, Content] | None = None,
    **named: str,
) -> BootPlan:
    """The plan for an ESP on /boot/efi that holds this, and with these variables."""
    everything = {
        **(efi.disks() if mounts is None else mounts),
        **files(A, B),
        **efi.variables(loader={**(loader or {}), **named}),
    }
    machine = tree(root, {**everything, **content})
    return systemd_boot.plan(machine, Volumes(machine), firmware.read(machine))


def entries(**named: str) -> dict[str, Content]:
    return {f"/boot/efi/loader/entries/{name}": text for name, text in named.items()}


TWO = entries(**{f"debian-{A}.conf": entry(A), f"debian-{B}.conf": entry(B)})
COUNTED = entries(**{f"debian-{A}.conf": entry(A), f"debian-{B}+2.conf": entry(B)})


def chosen(found: BootPlan) -> str | None:
    return found.next.id if found.next is not None else None


def ids(found: BootPlan) -> list[str]:
    return [finding.id for finding in found.findings]


def only(found: BootPlan, level: str) -> Finding:
    (finding,) = (finding for finding in found.findings if finding.level == level)
    return finding


# -- entries ---------------------------------------------------------------------------------------------------


def test_an_entry_has_its_files_where_the_machine_has_them(tmp_path: Path) -> None:
    found = plan(tmp_path, entries(**{"Debian.conf": entry(A, more="initrd \\debian\\ucode.img\noptions quiet\n")}))
    one = found.next
    assert one is not None
    assert one.kernel is not None
    assert (one.id, one.title, one.release) == ("debian.conf", "Debian", A)
    assert (one.kernel.spec, one.kernel.path, one.kernel.absent) == (
        f"/debian/{A}/linux",
        f"/boot/efi/debian/{A}/linux",
        False,
    )
    assert [(file.path, file.absent) for file in one.initramfs] == [
        (f"/boot/efi/debian/{A}/initrd.img", False),
        ("/boot/efi/debian/ucode.img", True),
    ]
    assert one.cmdline == "root=/dev/sda2 ro quiet"
    assert one.source == "/boot/efi/loader/entries/Debian.conf"
    assert found.config == "/boot/efi/loader"
    assert ids(found) == []


def test_titles_that_are_the_same_are_told_apart_as_in_the_menu(tmp_path: Path) -> None:
    one, other = (entry(B, more=f"machine-id {machine_id * 32}\n") for machine_id in "ab")
    found = plan(tmp_path, {**TWO, **entries(**{"x.conf": one, "y.conf": other, "z.conf": other})})
    assert {entry.id: entry.title for entry in found.entries} == {
        f"debian-{A}.conf": f"Debian ({A})",
        f"debian-{B}.conf": f"Debian ({B})",
        "x.conf": f"Debian ({B}) (aaaaaaaa)",
        "y.conf": f"Debian ({B}) (bbbbbbbb) (y.conf)",
        "z.conf": f"Debian ({B}) (bbbbbbbb) (z.conf)",
    }


def test_fat_does_not_look_at_letter_case(tmp_path: Path) -> None:
    text = entry(A).replace("/debian/", "/DEBIAN/")
    found = plan(tmp_path, entries(**{"a.conf": text}))
    assert found.next is not None
    assert found.next.kernel is not None
    assert found.next.kernel.path == f"/boot/efi/debian/{A}/linux"


def test_entries_that_are_passed_over(tmp_path: Path) -> None:
    found = plan(
        tmp_path,
        entries(
            **{
                "good.conf": entry(A),
                ".hidden.conf": entry(A),
                "auto-x.conf": entry(A),
                "a.txt": entry(A),
                "arm.conf": entry(A, more="architecture aa64\n"),
                "same.conf": entry(A, more="architecture X64\n"),
                "gone.conf": entry("6.1.0-1-amd64"),
                "empty.conf": "title x\n",
                "two.conf": entry(A, more="efi /x.efi\n"),
                "self.conf": "title x\nefi /EFI/systemd/systemd-bootx64.efi\n",
            }
        ),
    )
    assert {one.id for one in found.entries} == {"good.conf", "same.conf"}
    assert sorted(finding.subject.rsplit("/", 1)[1] for finding in found.findings) == [
        "empty.conf",
        "gone.conf",
        "two.conf",
    ]
    assert {finding.level for finding in found.findings} == {"note"}


def test_an_entry_that_cannot_be_read_leaves_the_choice_open(tmp_path: Path) -> None:
    found = plan(tmp_path, {**TWO, "/boot/efi/loader/entries/z.conf": b"x" * (2 << 20)})
    assert found.next is None
    assert only(found, "unknown").id == "boot-entry.unreadable"
    assert len(found.entries) == 2


def test_a_unified_image(tmp_path: Path) -> None:
    found = plan(tmp_path, {"/boot/efi/EFI/Linux/Debian-6.1.efi": efi.uki(A, cmdline="root=/dev/sda2")})
    one = found.next
    assert one is not None
    assert one.kernel is not None
    assert (one.id, one.title, one.release, one.embedded) == ("debian-6.1.efi", "Debian", A, True)
    assert one.kernel.path == "/boot/efi/EFI/Linux/Debian-6.1.efi"
    assert (one.cmdline, one.initramfs) == ("root=/dev/sda2", ())


def test_addons_lengthen_the_command_line(tmp_path: Path) -> None:
    content: dict[str, Content] = {
        "/boot/efi/EFI/Linux/d+3-0.efi": efi.uki(A, cmdline="a"),
        "/boot/efi/EFI/Linux/d.efi.extra.d/x.addon.efi": efi.pe([(".cmdline", b"c ")]),
        "/boot/efi/loader/addons/y.addon.efi": efi.pe([(".cmdline", b"b")]),
    }
    found = plan(tmp_path, content)
    assert found.next is not None
    assert found.next.cmdline == "a b c"
    assert (found.next.tries_left, found.next.tries_done) == (3, 0)


def test_images_that_systemd_boot_does_not_take(tmp_path: Path) -> None:
    found = plan(
        tmp_path,
        {
            "/boot/efi/EFI/Linux/good.efi": efi.uki(A),
            "/boot/efi/EFI/Linux/arm.efi": efi.uki(A, machine=0xAA64),
            "/boot/efi/EFI/Linux/text.efi": b"no program",
            "/boot/efi/EFI/Linux/nameless.efi": efi.uki(A, os_release="VERSION=1\n"),
        },
    )
    assert [one.id for one in found.entries] == ["good.efi"]
    assert ids(found) == ["boot-entry.left-out"]


def test_profiles_are_entries_of_newer_loaders(tmp_path: Path) -> None:
    more = [(".profile", b"ID=main\n"), (".profile", b"ID=Reset\nTITLE=Factory reset\n"), (".cmdline", b"reset")]
    content: dict[str, Content] = {
        "/boot/efi/EFI/systemd/systemd-bootx64.efi": efi.systemd_boot("257.1"),
        "/boot/efi/EFI/Linux/a.efi": efi.uki(A, more=more),
    }
    found = plan(tmp_path / "1", content, LoaderEntryDefault="a.efi@reset")
    assert [one.id for one in found.entries] == ["a.efi", "a.efi@reset"]
    assert found.next is not None
    assert (found.next.id, found.next.cmdline, found.next.title) == (
        "a.efi@reset",
        "reset",
        "Debian (Factory reset)",
    )
    assert chosen(plan(tmp_path / "2", content)) == "a.efi"
    old = plan(tmp_path / "3", {"/boot/efi/EFI/Linux/a.efi": efi.uki(A, more=more)})
    assert [one.id for one in old.entries] == ["a.efi"]


def test_a_cut_image_that_is_next_is_a_blocker(tmp_path: Path) -> None:
    found = plan(tmp_path, {"/boot/efi/EFI/Linux/a.efi": efi.uki(A)[:-700]})
    assert chosen(found) == "a.efi"
    finding = only(found, "blocker")
    assert finding.id == "boot-entry.unified-image-truncated"
    assert finding.remedy.commands == (("kernel-install", "add", A),)


def test_an_efi_entry_may_be_a_kernel_an_image_or_another_loader(tmp_path: Path) -> None:
    def with_program(content: bytes, root: Path) -> BootPlan:
        return plan(root, {**entries(**{"a.conf": "title x\nefi /x.efi\noptions o\n"}), "/boot/efi/x.efi": content})

    kernel = with_program(x86_image(A), tmp_path / "1").next
    assert kernel is not None
    assert kernel.kernel is not None
    assert not kernel.embedded
    image = with_program(efi.uki(A), tmp_path / "2").next
    assert image is not None
    assert (image.embedded, image.cmdline) == (True, "o")
    other = with_program(efi.pe([(".text", b"memtest")]), tmp_path / "3")
    assert other.next is not None
    assert other.next.kernel is None
    chained = with_program(efi.grub(), tmp_path / "4")
    assert chained.next is None
    assert only(chained, "unknown").id == "boot-entry.chainloader"


def test_secure_boot_takes_the_command_line_and_device_tree_away(tmp_path: Path) -> None:
    machine = tree(
        tmp_path,
        {
            **efi.disks(),
            **files(A),
            **efi.variables(secure_boot=True),
            **entries(**{"a.conf": "linux /u.efi\noptions mine\n", "b.conf": entry(A, more="devicetree /x.dtb\n")}),
            "/boot/efi/u.efi": efi.uki(A, cmdline="signed"),
        },
    )
    found = systemd_boot.plan(machine, Volumes(machine), firmware.read(machine))
    assert {one.id: (one.cmdline, one.devicetree) for one in found.entries} == {
        "a.conf": ("signed", None),
        "b.conf": ("root=/dev/sda2 ro", None),
    }


def test_entries_on_a_boot_partition_of_its_own(tmp_path: Path) -> None:
    content: dict[str, Content] = {
        "/boot/loader/entries/x.conf": "title x\nlinux /vmlinuz\n",
        "/boot/vmlinuz": x86_image(A),
        "/efi/EFI/systemd/systemd-bootx64.efi": efi.systemd_boot(),
    }
    found = plan(tmp_path / "1", content, mounts=efi.disks(esp="/efi", boot="/boot", xbootldr=True))
    assert found.next is not None
    assert found.next.kernel is not None
    assert found.next.kernel.path == "/boot/vmlinuz"
    hidden = plan(tmp_path / "2", TWO, mounts=efi.disks(boot="", xbootldr=True))
    assert hidden.next is None
    assert only(hidden, "unknown").id == "boot-entry.partition-not-visible"


def test_an_esp_that_is_not_mounted(tmp_path: Path) -> None:
    found = plan(tmp_path, {}, mounts=efi.disks(esp=None))
    assert found.next is None
    assert only(found, "unknown").id == "boot-entry.partition-not-visible"


def test_no_entry_at_all(tmp_path: Path) -> None:
    installed = {f"/boot/vmlinuz-{A}": x86_image(A)}
    found = plan(tmp_path, {"/boot/efi/EFI/Microsoft/Boot/bootmgfw.efi": b"MZ", **installed})
    assert found.next is None
    finding = only(found, "blocker")
    assert finding.id == "boot-entry.empty-menu"
    assert ("kernel-install", "add", A, f"/boot/vmlinuz-{A}") in finding.remedy.commands


# -- choice ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("loader", "conf", "expected"),
    [
        ({}, "", B),
        ({"LoaderEntryDefault": f"debian-{A}.conf"}, "", A),
        ({"LoaderEntryDefault": f"DEBIAN-{A}.CONF"}, "", A),
        ({"LoaderEntryDefault": "gone.conf"}, "", B),
        ({"LoaderEntryDefault": ""}, "", B),
        ({"LoaderEntryOneShot": f"debian-{A}.conf"}, "", A),
        ({"LoaderEntryOneShot": "gone.conf"}, "", B),
        ({"LoaderEntryOneShot": f"debian-{B}.conf", "LoaderEntryDefault": f"debian-{A}.conf"}, "", B),
        ({}, "default *50*", A),
        ({"LoaderEntryDefault": f"debian-{A}.conf"}, "default *56*", A),
        ({}, "default debian", B),
        ({"LoaderEntryLastBooted": f"debian-{A}.conf"}, "default @saved", A),
        ({"LoaderEntryLastBooted": f"debian-{A}.conf"}, "", B),
        ({"LoaderEntryLastBooted": f"debian-{A}.conf", "LoaderEntryDefault": "@saved"}, "default *56*", A),
        ({"LoaderEntryLastBooted": "gone.conf", "LoaderEntryDefault": "@saved"}, "default *50*", A),
        ({"LoaderEntryPreferred": f"debian-{A}.conf"}, "", B),
    ],
)
def test_what_decides(tmp_path: Path, loader: dict[str, str], conf: str, expected: str) -> None:
    found = plan(tmp_path, {**TWO, "/boot/efi/loader/loader.conf": conf}, loader)
    assert chosen(found) == f"debian-{expected}.conf"
    assert found.next is not None
    assert found.next.release == expected


def test_a_wish_that_matches_nothing_is_told(tmp_path: Path) -> None:
    found = plan(tmp_path, TWO, LoaderEntryDefault="gone.conf", LoaderEntryOneShot="also-gone.conf")
    assert 'LoaderEntryDefault says "gone.conf", which no entry matches' in found.why
    assert [(finding.id, finding.subject, finding.remedy.commands) for finding in found.findings] == [
        ("boot-entry.default-names-nothing", "LoaderEntryOneShot", (("bootctl", "set-oneshot", ""),)),
        ("boot-entry.default-names-nothing", "LoaderEntryDefault", (("bootctl", "set-default", ""),)),
    ]


@pytest.mark.parametrize(
    ("version", "listed", "default", "expected"),
    [
        ("252.39-1", "", f"debian-{A}.conf", B),
        ("252.39-1", "", f"debian-{A}+0-3.conf", A),
        ("259.1", "", f"debian-{A}.conf", A),
        ("259.1", "", f"debian-{A}+0-3.conf", B),
        ("257.13-1", f"debian-{A}.conf", f"debian-{A}.conf", A),
        ("257.7-1", f"debian-{A}+1-2.conf", f"debian-{A}.conf", B),
        ("257.7-1", f"debian-{A}+1-2.conf", f"debian-{A}*.conf", A),
        ("257.7-1", "", f"debian-{A}*.conf", A),
        ("257.7-1", "", f"debian-{A}.conf", None),
    ],
)
def test_a_default_names_what_is_counted(
    tmp_path: Path, version: str, listed: str, default: str, expected: str | None
) -> None:
    content: dict[str, Content] = {"/boot/efi/EFI/systemd/systemd-bootx64.efi": efi.systemd_boot(version)}
    content.update(entries(**{f"debian-{A}+0-3.conf": entry(A), f"debian-{B}.conf": entry(B)}))
    menu = {"LoaderEntries": f"debian-{B}.conf\0{listed}"} if listed else {}
    found = plan(tmp_path, content, menu, LoaderEntryDefault=default)
    assert (found.next.release if found.next is not None else None) == expected
    assert ("boot-entry.counter-in-name" in ids(found)) == (expected is None)


def test_preferred_passes_over_what_is_broken(tmp_path: Path) -> None:
    new = {"/boot/efi/EFI/systemd/systemd-bootx64.efi": efi.systemd_boot("260.1"), **TWO}
    assert chosen(plan(tmp_path / "1", new, LoaderEntryPreferred=f"debian-{A}.conf")) == f"debian-{A}.conf"
    del new[f"/boot/efi/loader/entries/debian-{A}.conf"]
    new[f"/boot/efi/loader/entries/debian-{A}+0-3.conf"] = entry(A)
    assert chosen(plan(tmp_path / "2", new, LoaderEntryPreferred="debian*50*")) == f"debian-{B}.conf"
    assert chosen(plan(tmp_path / "3", new, LoaderEntryDefault="debian*50*")) == f"debian-{A}+0-3.conf"


def test_windows_as_the_default_is_no_linux(tmp_path: Path) -> None:
    content = {**TWO, "/boot/efi/EFI/Microsoft/Boot/bootmgfw.efi": b"MZ"}
    found = plan(tmp_path, content, LoaderEntryDefault="auto-windows")
    assert found.next is not None
    assert (found.next.id, found.next.kernel) == ("auto-windows", None)
    assert len(found.entries) == 2


def order(root: Path, **named: str) -> list[str]:
    return [one.id for one in plan(root, entries(**named)).entries]


def test_the_order_of_the_menu(tmp_path: Path) -> None:
    found = order(
        tmp_path,
        **{
            "z.conf": entry(A),
            "debian-6.9.conf": entry(A),
            "debian-6.10.conf": entry(A),
            "k1.conf": entry(A, more="sort-key b\nmachine-id 1\n"),
            "k2.conf": entry(B, more="sort-key b\nmachine-id 1\n"),
            "k3.conf": entry(A, more="sort-key a\n"),
            "k4.conf": entry(B, more="sort-key b\nmachine-id 0\n"),
            "bad+0-3.conf": entry(B, more="sort-key a\n"),
            "worse+0-3.conf": entry(B),
        },
    )
    assert found == [
        "k3.conf",
        "k4.conf",
        "k2.conf",
        "k1.conf",
        "z.conf",
        "debian-6.10.conf",
        "debian-6.9.conf",
        "bad+0-3.conf",
        "worse+0-3.conf",
    ]


SHOWN: list[tuple[str, str | None, str, str]] = [
    ("6.1.0-050-Z+2-1.efi", "a", "", ""),
    ("6.10~rc1+2-1.conf", "a", "", "f"),
    ("deb_x-deb.x.conf", "b", "6.1.a", ""),
    ("6.1a-deb_x.conf", "b", "6.1^post", ""),
    ("6.1.0-50+2-1.conf", "b", "", ""),
    ("6.1.0-9+2-1.conf", "b", "", ""),
    ("6.1.0-50-6.1.0-050.conf", "b", "", "f"),
    ("6.10-rc1+1-2.conf", "debian", "deb12", ""),
    ("6.1.a-deb.x.conf", "debian", "Z", ""),
    ("1-6.9.conf", "debian", "", ""),
    ("deb-x-1+2-1.efi", "debian", "", ""),
    ("6.1^post-a.conf", None, "a", ""),
    ("deb9-deb_x+1-2.conf", None, "deb9", "0"),
    ("deb_x-6.9.conf", None, "", ""),
    ("6.1a-deb-x+0-2.conf", "Debian", "", ""),
    ("deb-x-6.1.a+0-2.conf", "Debian", "", ""),
    ("1+0-2.efi", "debian", "6.9", ""),
    ("6.1.a+0-2.conf", "debian", "", ""),
    ("deb12-6.1.0-50+0-2.efi", "debian", "", ""),
    ("1-a+0-2.conf", None, "", ""),
]
"""The menu that systemd-boot 252.39 showed in a virtual machine: file name, sort-key, version, machine-id."""


def test_a_menu_as_it_was_seen_on_the_screen(tmp_path: Path) -> None:
    content: dict[str, Content] = {}
    for name, sort_key, version, machine_id in SHOWN:
        if name.endswith(".efi"):
            about = f"PRETTY_NAME=x\nID={sort_key}\n" + (f"IMAGE_VERSION={version}\n" if version else "")
            content[f"/boot/efi/EFI/Linux/{name}"] = efi.uki(A, os_release=about)
        else:
            keys = {"sort-key": sort_key, "version": version, "machine-id": machine_id, "linux": f"/debian/{A}/linux"}
            text = "".join(f"{key} {value}\n" for key, value in keys.items() if value)
            content[f"/boot/efi/loader/entries/{name}"] = text
    assert [one.id for one in plan(tmp_path, content).entries] == [name.lower() for name, *_ in SHOWN]


def test_old_loaders_know_no_sort_key(tmp_path: Path) -> None:
    content = {
        **entries(**{"a.conf": entry(B, more="sort-key a\n"), "b.conf": entry(A)}),
        "/boot/efi/EFI/systemd/systemd-bootx64.efi": efi.systemd_boot("249.11"),
    }
    assert chosen(plan(tmp_path, content)) == "b.conf"


# -- counters --------------------------------------------------------------------------------------------------


def after(found: BootPlan) -> str | None:
    return found.automatic.id if found.automatic is not None else None


def test_a_counter_leads_to_the_entry_that_follows(tmp_path: Path) -> None:
    found = plan(tmp_path, COUNTED)
    assert (chosen(found), after(found)) == (f"debian-{B}+2.conf", f"debian-{A}.conf")
    assert found.next is not None
    assert (found.next.tries_left, found.next.tries_done) == (2, 0)


def test_no_counter_leads_nowhere(tmp_path: Path) -> None:
    assert after(plan(tmp_path, TWO)) is None


def test_a_default_that_still_matches_holds_a_counted_entry(tmp_path: Path) -> None:
    glob = plan(tmp_path / "1", COUNTED, LoaderEntryDefault="debian*56*")
    assert (chosen(glob), after(glob)) == (f"debian-{B}+2.conf", None)
    exact = plan(tmp_path / "2", COUNTED, LoaderEntryDefault=f"debian-{B}+2.conf")
    assert (chosen(exact), after(exact)) == (f"debian-{B}+2.conf", f"debian-{A}.conf")
    conf = plan(tmp_path / "3", {**COUNTED, "/boot/efi/loader/loader.conf": "default debian*56*"})
    assert after(conf) is None


def test_the_default_that_is_held_does_not_use_up_another_counter(tmp_path: Path) -> None:
    found = plan(tmp_path, COUNTED, LoaderEntryDefault=f"debian-{A}.conf")
    assert (chosen(found), after(found)) == (f"debian-{A}.conf", None)


def test_an_exact_default_misses_the_counted_name(tmp_path: Path) -> None:
    content = entries(**{f"debian-{A}+1.conf": entry(A), f"debian-{B}.conf": entry(B)})
    found = plan(tmp_path, content, LoaderEntryDefault=f"debian-{A}.conf")
    assert chosen(found) == f"debian-{B}.conf"


def test_after_a_one_shot_the_default_follows(tmp_path: Path) -> None:
    found = plan(tmp_path, TWO, LoaderEntryOneShot=f"debian-{A}.conf")
    assert (chosen(found), after(found)) == (f"debian-{A}.conf", f"debian-{B}.conf")


def test_tries_that_are_used_up(tmp_path: Path) -> None:
    found = plan(tmp_path, entries(**{f"debian-{B}+0-2.conf": entry(B)}))
    assert chosen(found) == f"debian-{B}+0-2.conf"
    assert only(found, "warning").id == "boot-entry.tries-used-up"
    assert after(found) is None


def test_a_saved_entry_loses_its_name_with_the_first_try(tmp_path: Path) -> None:
    found = plan(tmp_path, COUNTED, LoaderEntryDefault="@saved", LoaderEntryLastBooted=f"debian-{B}+2.conf")
    assert (chosen(found), after(found)) == (f"debian-{B}+2.conf", f"debian-{A}.conf")


# -- the menu --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("conf", "loader", "menu", "waits"),
    [
        ("", {}, True, False),
        ("timeout 0", {}, True, False),
        ("timeout menu-disabled", {}, False, False),
        ("timeout menu-force", {}, True, True),
        ("timeout menu-force", {"LoaderConfigTimeout": "3"}, True, False),
        ("timeout 3", {"LoaderConfigTimeout": "menu-force"}, True, True),
        ("timeout menu-disabled", {"LoaderConfigTimeoutOneShot": "5"}, True, False),
        ("timeout 3", {"LoaderConfigTimeoutOneShot": "0"}, True, True),
    ],
)
def test_whether_a_person_can_or_must_choose(
    tmp_path: Path, conf: str, loader: dict[str, str], menu: bool, waits: bool
) -> None:
    found = plan(tmp_path, {**TWO, "/boot/efi/loader/loader.conf": conf}, loader)
    assert found.menu is menu
    assert ids(found) == (["boot-entry.waits-for-person"] if waits else [])


# -- trees without facts ---------------------------------------------------------------------------------------


def test_a_bare_tree_is_judged_by_its_files(tmp_path: Path) -> None:
    machine = tree(tmp_path, {**files(A, B), **TWO})
    found = systemd_boot.plan(machine, Volumes(machine), firmware.read(machine))
    assert chosen(found) == f"debian-{B}.conf"
    assert ids(found) == []


def test_a_bare_tree_with_a_boot_directory_beside_the_esp(tmp_path: Path) -> None:
    content: dict[str, Content] = {
        "/efi/EFI/systemd/systemd-bootx64.efi": efi.systemd_boot(),
        "/boot/EFI/Linux/a.efi": efi.uki(A),
    }
    machine = tree(tmp_path, content)
    assert chosen(systemd_boot.plan(machine, Volumes(machine), firmware.read(machine))) == "a.efi"


def test_variables_that_were_not_captured_leave_the_choice_open(tmp_path: Path) -> None:
    everything = {**efi.disks(), **files(A, B), "/sys/firmware/efi/fw_platform_size": "64"}
    machine = tree(tmp_path / "1", {**everything, **TWO})
    found = systemd_boot.plan(machine, Volumes(machine), firmware.read(machine))
    assert found.next is None
    assert only(found, "unknown").id == "boot-entry.efi-variables-not-visible"
    machine = tree(tmp_path / "2", {**everything, **entries(**{"a.conf": entry(A)})})
    assert chosen(systemd_boot.plan(machine, Volumes(machine), firmware.read(machine))) == "a.conf"
