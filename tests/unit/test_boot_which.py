"""Which loader starts the machine: by the firmware's variables, by what is on disk, and where neither tells."""

from __future__ import annotations

import random
from collections.abc import Mapping
from pathlib import Path

import pytest

from safeupdate.boot import find_plan
from safeupdate.boot.plan import BootPlan
from safeupdate.report import Finding
from safeupdate.volumes import Volumes
from tests.unit import efi
from tests.unit.trees import Content, Link, tree, x86_image

A, B = "6.1.0-50-amd64", "6.1.0-56-amd64"
BIOS: dict[str, Content] = {**efi.disks(esp=None), "/proc/cmdline": f"BOOT_IMAGE=/boot/vmlinuz-{A} root=/dev/sda2 ro\n"}
SHIM = efi.option("\\EFI\\debian\\shimx64.efi", description="debian")
SYSTEMD = efi.option("\\EFI\\systemd\\systemd-bootx64.efi", description="Linux Boot Manager")


def grub_cfg(release: str = A) -> str:
    return (
        "search --no-floppy --fs-uuid --set=root 11111111\n"
        f"menuentry 'Debian' --id d {{\n\tlinux /boot/vmlinuz-{release} root=/dev/sda2 ro\n"
        f"\tinitrd /boot/initrd.img-{release}\n}}\nset timeout=5\n"
    )


def grub_files(release: str = A) -> dict[str, Content]:
    """GRUB's menu and what it names, on the root file system."""
    return {
        "/boot/grub/grub.cfg": grub_cfg(release),
        f"/boot/vmlinuz-{release}": x86_image(release),
        f"/boot/initrd.img-{release}": b"070701",
    }


STUB = "search.fs_uuid 11111111 root\nset prefix=($root)'/boot/grub'\nconfigfile $prefix/grub.cfg\n"
GRUB_ESP: dict[str, Content] = {
    "/boot/efi/EFI/debian/shimx64.efi": efi.shim(),
    "/boot/efi/EFI/debian/grubx64.efi": efi.grub("/EFI/debian"),
    "/boot/efi/EFI/debian/grub.cfg": STUB,
}
SYSTEMD_ESP: dict[str, Content] = {
    "/boot/efi/EFI/systemd/systemd-bootx64.efi": efi.systemd_boot(),
    "/boot/efi/loader/entries/d.conf": f"title Debian\nlinux /d/{B}/linux\n",
    f"/boot/efi/d/{B}/linux": x86_image(B),
}


def find(root: Path, *contents: Mapping[str, Content]) -> BootPlan:
    machine = tree(root, {path: content for files in contents for path, content in files.items()})
    return find_plan(machine, Volumes(machine))[1]


def starts(plan: BootPlan) -> tuple[str | None, str | None]:
    """The loader, and the release that it starts."""
    return plan.loader, plan.next.release if plan.next is not None else None


def only(plan: BootPlan, level: str) -> Finding:
    (finding,) = (finding for finding in plan.findings if finding.level == level)
    assert plan.next is None
    return finding


# -- by the firmware -------------------------------------------------------------------------------------------


def test_shim_grub_and_its_hand_over(tmp_path: Path) -> None:
    plan = find(tmp_path, efi.disks(), grub_files(), GRUB_ESP, efi.variables(order=[1], current=1, options={1: SHIM}))
    assert starts(plan) == ("grub", A)
    assert 'the firmware starts /EFI/debian/shimx64.efi (Boot0001 "debian")' in plan.why
    assert plan.findings == ()


def test_the_first_option_decides_and_not_what_else_is_on_disk(tmp_path: Path) -> None:
    both = [efi.disks(), grub_files(), GRUB_ESP, SYSTEMD_ESP]
    options = {1: SHIM, 2: SYSTEMD}
    assert starts(find(tmp_path / "1", *both, efi.variables(order=[1, 2], options=options))) == ("grub", A)
    assert starts(find(tmp_path / "2", *both, efi.variables(order=[2, 1], options=options))) == ("systemd-boot", B)


def test_boot_next_comes_before_the_order(tmp_path: Path) -> None:
    variables = efi.variables(order=[1], following=2, options={1: SHIM, 2: SYSTEMD})
    plan = find(tmp_path, efi.disks(), grub_files(), GRUB_ESP, SYSTEMD_ESP, variables)
    assert starts(plan) == ("systemd-boot", B)
    assert "BootNext" in plan.why


def test_a_program_of_the_firmware_is_chosen_once(tmp_path: Path) -> None:
    inside = efi.node(4, 7, bytes(16)) + efi.node(4, 6, bytes(16))
    for number, attributes in ((2, 1), (3, 0x109)):
        shell = efi.option(None, partuuid=None, description="EFI Internal Shell", attributes=attributes, nodes=inside)
        options = {1: SHIM, number: shell}
        variables = efi.variables(order=[number, 1], current=1, options=options)
        plan = find(tmp_path / f"{number} listed", efi.disks(), grub_files(), GRUB_ESP, variables)
        assert starts(plan) == ("grub", A)
        variables = efi.variables(order=[1, number], following=number, options=options)
        plan = find(tmp_path / f"{number} next", efi.disks(), grub_files(), GRUB_ESP, variables)
        assert plan.next is not None
        assert (plan.next.title, plan.next.kernel) == ("EFI Internal Shell", None)
        assert 'the firmware starts its own program "EFI Internal Shell" (BootNext, ' in plan.why


def test_options_that_the_firmware_goes_past(tmp_path: Path) -> None:
    options = {
        1: efi.option("\\EFI\\systemd\\systemd-bootx64.efi", attributes=0),
        2: efi.option("\\EFI\\systemd\\systemd-bootx64.efi", attributes=0x101),
        3: efi.option("\\EFI\\gone\\grubx64.efi", description="gone"),
        4: efi.option("\\EFI\\debian\\shimx64.efi", partuuid="00000000-1111-2222-3333-444444444444"),
        5: efi.option(None, partuuid=None, description="DVD", nodes=efi.node(3, 18, bytes(6))),
        6: efi.option(None, partuuid=None, description="PXE", nodes=efi.node(3, 11, bytes(33))),
        7: efi.option("\\EFI\\debian\\shimx64.efi", data="\\fwupdx64.efi".encode("utf-16-le")),
        8: SHIM,
    }
    variables = efi.variables(order=[0x99, *options], following=7, options=options)
    plan = find(tmp_path, efi.disks(), grub_files(), GRUB_ESP, SYSTEMD_ESP, variables)
    assert starts(plan) == ("grub", A)
    for part in ("Boot0099 does not exist", 'Boot0003 "gone" names a file', "installs a firmware update"):
        assert part in plan.why


def test_an_esp_that_is_not_mounted_is_judged_by_name_and_running_boot(tmp_path: Path) -> None:
    facts: list[dict[str, Content]] = [efi.disks(esp=None), grub_files(), {"/proc/cmdline": "BOOT_IMAGE=/vmlinuz ro\n"}]
    options = {1: SHIM, 2: efi.option("\\EFI\\BOOT\\BOOTX64.EFI"), 3: efi.option("\\EFI\\ubuntu\\shimx64.efi")}
    running = find(tmp_path / "1", *facts, efi.variables(order=[1], current=1, options=options))
    assert starts(running) == ("grub", A)
    assert running.findings == ()
    default = find(tmp_path / "2", *facts, efi.variables(order=[2], current=2, options=options))
    assert starts(default) == ("grub", A)
    other = find(tmp_path / "3", *facts, efi.variables(order=[3, 1], current=1, options=options))
    assert only(other, "unknown").id == "boot-entry.no-loader"


def test_systemd_boot_on_an_esp_that_is_not_mounted(tmp_path: Path) -> None:
    variables = efi.variables(order=[2], current=2, options={2: SYSTEMD})
    plan = find(tmp_path, efi.disks(esp=None), grub_files(), variables)
    assert only(plan, "unknown").id == "boot-entry.partition-not-visible"


def test_without_an_option_the_default_path_counts(tmp_path: Path) -> None:
    content: dict[str, Content] = {"/boot/efi/EFI/BOOT/bootx64.efi": efi.systemd_boot()}
    plan = find(tmp_path, efi.disks(), SYSTEMD_ESP, content, grub_files(), efi.variables(order=[]))
    assert starts(plan) == ("systemd-boot", B)
    assert "default path" in plan.why


def test_a_whole_device_that_started_this_boot_starts_the_next(tmp_path: Path) -> None:
    content: dict[str, Content] = {"/boot/efi/EFI/BOOT/BOOTX64.EFI": efi.systemd_boot()}
    device = efi.option(None, partuuid=None, description="UEFI Misc Device", nodes=efi.node(1, 1, b"\0\4"))
    variables = efi.variables(order=[1, 2], current=1, options={1: device, 2: SHIM})
    plan = find(tmp_path, efi.disks(), SYSTEMD_ESP, GRUB_ESP, content, grub_files(), variables)
    assert starts(plan) == ("systemd-boot", B)


def test_a_whole_device_with_an_esp_that_is_not_mounted(tmp_path: Path) -> None:
    device = efi.option(None, partuuid=None, description="UEFI Misc Device", nodes=efi.node(1, 1, b"\0\4"))
    variables = efi.variables(order=[1], current=1, options={1: device})
    facts: list[dict[str, Content]] = [grub_files(), {"/proc/cmdline": "BOOT_IMAGE=/vmlinuz ro\n"}, variables]
    assert starts(find(tmp_path / "1", efi.disks(esp=None), *facts)) == ("grub", A)
    assert starts(find(tmp_path / "2", {"/sys/class/block/vda/dev": "254:0\n"}, *facts)) == ("grub", A)


def test_a_partition_without_a_file_means_its_default_path(tmp_path: Path) -> None:
    content: dict[str, Content] = {"/boot/efi/EFI/BOOT/BOOTX64.EFI": efi.systemd_boot()}
    plan = find(tmp_path, efi.disks(), SYSTEMD_ESP, content, efi.variables(order=[1], options={1: efi.option(None)}))
    assert starts(plan) == ("systemd-boot", B)


def test_a_machine_that_came_up_from_the_network_does_so_again(tmp_path: Path) -> None:
    network = efi.option(None, partuuid=None, description="PXE", nodes=efi.node(3, 11, bytes(33)))
    variables = efi.variables(order=[1, 2], current=1, options={1: network, 2: SHIM})
    plan = find(tmp_path, efi.disks(), grub_files(), GRUB_ESP, variables)
    assert only(plan, "unknown").id == "boot-entry.unsupported-loader"


def test_nothing_that_the_firmware_names_exists(tmp_path: Path) -> None:
    gone = efi.variables(order=[1], options={1: efi.option("\\EFI\\gone.efi")})
    plan = find(tmp_path / "1", efi.disks(), {"/boot/efi/EFI": None}, grub_files(), gone)
    assert only(plan, "blocker").id == "boot-entry.no-loader"
    network = efi.option(None, partuuid=None, nodes=efi.node(3, 11, bytes(33)))
    pxe = efi.variables(order=[1], options={1: network})
    plan = find(tmp_path / "2", efi.disks(), {"/boot/efi/EFI": None}, pxe)
    assert only(plan, "unknown").id == "boot-entry.unsupported-loader"
    plan = find(tmp_path / "3", efi.disks(esp=None), efi.variables(order=[]))
    assert only(plan, "unknown").id == "boot-entry.no-loader"


def test_shims_fallback_starts_what_the_csv_names(tmp_path: Path) -> None:
    content: dict[str, Content] = {
        "/boot/efi/EFI/BOOT/BOOTX64.EFI": efi.shim(),
        "/boot/efi/EFI/BOOT/fbx64.efi": efi.pe(),
        "/boot/efi/EFI/BOOT/grubx64.efi": efi.pe([(".text", b"another")]),
        "/boot/efi/EFI/debian/BOOTX64.CSV": b"\xff\xfe" + "shimx64.efi,debian,,x\n".encode("utf-16-le"),
    }
    plan = find(tmp_path, efi.disks(), grub_files(), GRUB_ESP, content, efi.variables(order=[]))
    assert starts(plan) == ("grub", A)


def test_shims_argument_names_its_second_stage(tmp_path: Path) -> None:
    data = "\\EFI\\systemd\\systemd-bootx64.efi\0".encode("utf-16-le")
    option = efi.option("\\EFI\\debian\\shimx64.efi", data=data)
    variables = efi.variables(order=[1], options={1: option})
    assert starts(find(tmp_path, efi.disks(), GRUB_ESP, SYSTEMD_ESP, grub_files(), variables)) == ("systemd-boot", B)


def test_shim_and_its_stages_as_suse_names_them(tmp_path: Path) -> None:
    content: dict[str, Content] = {
        "/boot/efi/EFI/opensuse/shim.efi": efi.shim(),
        "/boot/efi/EFI/opensuse/grub.efi": efi.grub(),
        "/boot/efi/EFI/opensuse/grub.cfg": STUB,
    }
    variables = efi.variables(order=[1], options={1: efi.option("\\EFI\\opensuse\\shim.efi")})
    assert starts(find(tmp_path, efi.disks(), grub_files(), content, variables)) == ("grub", A)


def test_shim_without_a_second_stage(tmp_path: Path) -> None:
    content: dict[str, Content] = {"/boot/efi/EFI/debian/shimx64.efi": efi.shim()}
    plan = find(tmp_path, efi.disks(), grub_files(), content, efi.variables(order=[1], options={1: SHIM}))
    assert only(plan, "blocker").id == "boot-entry.no-loader"


def test_a_grub_of_grub_install_looks_on_the_file_system_that_it_was_built_for(tmp_path: Path) -> None:
    option = {1: efi.option("\\EFI\\debian\\grubx64.efi")}
    for number, (uuid, expected) in enumerate({"11111111": ("grub", A), "99999999": ("grub", None)}.items()):
        content: dict[str, Content] = {"/boot/efi/EFI/debian/grubx64.efi": efi.grub("/boot/grub", search=uuid)}
        variables = efi.variables(order=[1], options=option)
        plan = find(tmp_path / str(number), efi.disks(), grub_files(), content, variables)
        assert starts(plan) == expected
        if expected[1] is None:
            assert only(plan, "blocker").id == "boot-entry.grub-config-missing"


def test_a_unified_image_without_a_loader(tmp_path: Path) -> None:
    content: dict[str, Content] = {"/boot/efi/EFI/Linux/d.efi": efi.uki(B)}
    variables = efi.variables(order=[1], options={1: efi.option("\\EFI\\Linux\\d.efi", description="Debian UKI")})
    plan = find(tmp_path, efi.disks(), grub_files(), content, variables)
    assert starts(plan) == ("EFI stub", B)
    assert plan.next is not None
    assert (plan.next.embedded, plan.next.cmdline, plan.next.title) == (True, "root=/dev/sda2 ro", "Debian UKI")
    assert not plan.menu


def test_a_cut_unified_image_without_a_loader(tmp_path: Path) -> None:
    content: dict[str, Content] = {"/boot/efi/EFI/Linux/d.efi": efi.uki(B)[:-700]}
    variables = efi.variables(order=[1], options={1: efi.option("\\EFI\\Linux\\d.efi")})
    plan = find(tmp_path, efi.disks(), content, variables)
    assert [finding.id for finding in plan.findings] == ["boot-entry.unified-image-truncated"]


def test_a_kernel_without_a_loader(tmp_path: Path) -> None:
    content: dict[str, Content] = {"/boot/efi/vmlinuz-linux": x86_image(B), "/boot/efi/initramfs.img": b"070701"}
    arguments = "root=/dev/sda2 rw initrd=\\initramfs.img initrd=\\gone.img".encode("utf-16-le")
    variables = efi.variables(order=[1], options={1: efi.option("\\vmlinuz-linux", data=arguments)})
    plan = find(tmp_path, efi.disks(), content, variables)
    assert starts(plan) == ("EFI stub", B)
    assert plan.next is not None
    assert [(file.path, file.absent) for file in plan.next.initramfs] == [
        ("/boot/efi/initramfs.img", False),
        ("/boot/efi/gone.img", True),
    ]


def test_windows_first_is_no_linux(tmp_path: Path) -> None:
    content: dict[str, Content] = {"/boot/efi/EFI/Microsoft/Boot/bootmgfw.efi": efi.pe([(".text", b"bootmgfw.pdb")])}
    options = {1: efi.option("\\EFI\\Microsoft\\Boot\\bootmgfw.efi"), 2: SHIM}
    plan = find(tmp_path, efi.disks(), content, grub_files(), GRUB_ESP, efi.variables(order=[1, 2], options=options))
    assert plan.next is not None
    assert plan.next.kernel is None


def test_programs_that_are_not_judged(tmp_path: Path) -> None:
    for number, body in enumerate((b"limine.conf", b"iPXE", b"who knows")):
        content: dict[str, Content] = {"/boot/efi/EFI/x.efi": efi.pe([(".text", body)])}
        variables = efi.variables(order=[1], options={1: efi.option("\\EFI\\x.efi")})
        plan = find(tmp_path / str(number), efi.disks(), content, grub_files(), variables)
        assert only(plan, "unknown").id == "boot-entry.unsupported-loader"


# -- by what is on disk ----------------------------------------------------------------------------------------


def test_bios_starts_grub_whatever_else_lies_about(tmp_path: Path) -> None:
    assert starts(find(tmp_path, BIOS, efi.disks(), grub_files(), SYSTEMD_ESP)) == ("grub", A)


@pytest.mark.parametrize(
    ("beside", "lost"),
    [
        ({"/boot/grub/i386-pc/normal.mod": b"", "/boot/grub/fonts/unicode.pf2": b""}, False),
        ({"/boot/grub/powerpc-ieee1275/normal.mod": b"", "/boot/grub/fonts/unicode.pf2": b""}, False),
        ({}, False),  # an image with every module built in, or another system's
        ({"/boot/grub/i386-pc/ext2.mod": b""}, True),
        ({"/boot/grub/fonts/unicode.pf2": b""}, True),
    ],
)
def test_grub_without_its_modules(tmp_path: Path, beside: dict[str, Content], lost: bool) -> None:
    found = [finding.id for finding in find(tmp_path, BIOS, grub_files(), beside).findings]
    assert found == (["boot-entry.loader-files-missing"] if lost else [])


def test_a_bare_tree_with_one_loader(tmp_path: Path) -> None:
    assert starts(find(tmp_path / "1", grub_files())) == ("grub", A)
    assert starts(find(tmp_path / "2", SYSTEMD_ESP)) == ("systemd-boot", B)
    fedora: dict[str, Content] = {**grub_files(), "/boot/loader/entries/x.conf": "title x\nlinux /vmlinuz\n"}
    assert starts(find(tmp_path / "3", fedora)) == ("grub", A)


def test_two_loaders_that_disagree(tmp_path: Path) -> None:
    finding = only(find(tmp_path / "1", grub_files(A), SYSTEMD_ESP), "unknown")
    assert finding.id == "boot-entry.ambiguous-loader"
    assert "grub (/boot/grub/grub.cfg)" in finding.problem
    assert "systemd-boot (/boot/efi/loader)" in finding.problem
    facts = [efi.disks(), efi.variables(), grub_files(A), SYSTEMD_ESP]
    assert only(find(tmp_path / "2", *facts), "unknown").id == "boot-entry.ambiguous-loader"


def test_two_loaders_that_agree(tmp_path: Path) -> None:
    assert starts(find(tmp_path, grub_files(B), SYSTEMD_ESP)) == ("grub", B)


def test_the_running_boots_loader_settles_it(tmp_path: Path) -> None:
    facts = [efi.disks(), grub_files(A), SYSTEMD_ESP]
    plan = find(tmp_path / "1", *facts, efi.variables(LoaderInfo="systemd-boot 252.39"))
    assert starts(plan) == ("systemd-boot", B)
    assert starts(find(tmp_path / "2", *facts, efi.variables(LoaderInfo="GRUB 2.12"))) == ("grub", A)


def test_no_loader_at_all(tmp_path: Path) -> None:
    kernel: dict[str, Content] = {f"/boot/vmlinuz-{A}": x86_image(A)}
    assert only(find(tmp_path / "1", BIOS, kernel), "blocker").id == "boot-entry.no-loader"
    assert only(find(tmp_path / "2", kernel), "unknown").id == "boot-entry.no-loader"
    unmounted: dict[str, Content] = {"/etc/fstab": "/dev/sda3 /boot ext4 defaults 0 2\n"}
    assert only(find(tmp_path / "3", BIOS, kernel, unmounted), "unknown").id == "boot-entry.no-loader"
    assert only(find(tmp_path / "4"), "unknown").id == "boot-entry.no-loader"


# -- others ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("ostree", {"/proc/cmdline": "BOOT_IMAGE=(hd0,gpt2)/ostree/x/vmlinuz ostree=/ostree/boot.1/x/0\n"}),
        ("ostree", {"/sysroot/ostree/repo": None, "/ostree": Link("sysroot/ostree")}),
        ("NixOS", {"/etc/NIXOS": ""}),
        ("Windows Subsystem", {"/proc/sys/kernel/osrelease": "5.15.90.1-microsoft-standard-WSL2\n"}),
        ("zipl", {"/etc/zipl.conf": ""}),
        ("petitboot", {"/sys/firmware/opal/msglog": ""}),
        ("Raspberry", {"/boot/firmware/config.txt": "", "/boot/firmware/start4.elf": ""}),
        ("U-Boot", {"/boot/extlinux/extlinux.conf": "", "/proc/device-tree/model": "x"}),
    ],
)
def test_machines_of_another_kind_are_not_judged_by_a_grub_cfg(
    tmp_path: Path, name: str, content: dict[str, Content]
) -> None:
    finding = only(find(tmp_path, grub_files(), content), "unknown")
    assert finding.id == "boot-entry.unsupported-loader"
    assert name in finding.problem
    assert finding.evidence


OTHERS: list[tuple[str, dict[str, Content]]] = [
    ("rEFInd", {"/boot/efi/EFI/refind/refind.conf": ""}),
    ("Limine", {"/boot/limine.conf": ""}),
    ("ZFSBootMenu", {"/boot/efi/EFI/ZBM/VMLINUZ.EFI": ""}),
    ("U-Boot", {"/boot/boot.scr": ""}),
    ("syslinux", {"/boot/syslinux/syslinux.cfg": ""}),
    ("syslinux", {"/boot/extlinux/extlinux.conf": ""}),
    ("GRUB legacy", {"/boot/grub/menu.lst": ""}),
    ("LILO", {"/etc/lilo.conf": ""}),
    ("hypervisor", {"/proc/cmdline": "root=/dev/vda ro console=ttyS0\n"}),
]


@pytest.mark.parametrize(("name", "content"), OTHERS)
def test_other_loaders_are_named_where_no_known_one_is(tmp_path: Path, name: str, content: dict[str, Content]) -> None:
    finding = only(find(tmp_path / "1", BIOS, content), "unknown")
    assert finding.id == "boot-entry.unsupported-loader"
    assert name in finding.problem
    assert starts(find(tmp_path / "2", BIOS, grub_files(), content)) == ("grub", A)


def test_proxmox_starts_from_its_own_partitions(tmp_path: Path) -> None:
    managed: dict[str, Content] = {"/etc/kernel/proxmox-boot-uuids": "ABCD-1234\nABCD-5678\n"}
    hidden = only(find(tmp_path / "1", efi.disks(esp=None), managed, grub_files()), "unknown")
    assert hidden.id == "boot-entry.proxmox-partition-not-visible"
    assert "ABCD-1234, ABCD-5678" in hidden.problem
    bare = only(find(tmp_path / "2", managed, grub_files()), "unknown")
    assert bare.id == "boot-entry.proxmox-partition-not-visible"
    content: dict[str, Content] = {
        "/mnt/grub/grub.cfg": f"menuentry x {{\n linux /vmlinuz-{B} root=/dev/sda2\n}}\n",
        f"/mnt/vmlinuz-{B}": x86_image(B),
    }
    bios = find(tmp_path / "3", efi.disks(esp="/mnt"), managed, grub_files(A), content)
    assert bios.config == "/mnt/grub/grub.cfg"
    moved = {path.replace("/boot/efi", "/mnt"): text for path, text in SYSTEMD_ESP.items()}
    uefi = find(
        tmp_path / "4",
        efi.disks(esp="/mnt"),
        managed,
        grub_files(A),
        moved,
        efi.variables(order=[2], options={2: SYSTEMD}),
    )
    assert starts(uefi) == ("systemd-boot", B)


def test_a_signed_grub_without_its_configuration(tmp_path: Path) -> None:
    content = {path: text for path, text in GRUB_ESP.items() if not path.endswith("grub.cfg")}
    plan = find(tmp_path, efi.disks(), grub_files(), content, efi.variables(order=[1], options={1: SHIM}))
    assert only(plan, "blocker").id == "boot-entry.grub-config-missing"


def test_an_esp_in_an_array_is_the_mounted_one(tmp_path: Path) -> None:
    facts = efi.disks()
    facts["/proc/self/mountinfo"] = "1 0 8:2 / / rw - ext4 /dev/sda2 rw\n2 1 9:1 / /boot/efi rw - vfat /dev/md1 rw\n"
    facts["/sys/class/block/md1/dev"] = "9:1\n"
    facts["/sys/class/block/md1/slaves/sda1"] = Link("../../sda1")
    plan = find(tmp_path, facts, SYSTEMD_ESP, efi.variables(order=[2], options={2: SYSTEMD}))
    assert starts(plan) == ("systemd-boot", B)


# -- bad input -------------------------------------------------------------------------------------------------


def test_a_broken_boot_order_is_told_and_the_disk_decides(tmp_path: Path) -> None:
    variables = efi.variables(options={1: SHIM})
    variables[f"{efi.VARIABLES}/BootOrder-8be4df61-93ca-11d2-aa0d-00e098032b8c"] = b"\7\0\0\0\1"
    plan = find(tmp_path, efi.disks(), grub_files(), GRUB_ESP, variables)
    assert starts(plan) == ("grub", A)
    assert [finding.level for finding in plan.findings] == ["unknown"]


def test_a_broken_boot_option_matters_where_the_firmware_comes_to_it(tmp_path: Path) -> None:
    facts = [efi.disks(), grub_files(), GRUB_ESP]
    options = {1: SHIM, 2: b"\1\0"}
    assert starts(find(tmp_path / "1", *facts, efi.variables(order=[1, 2], options=options))) == ("grub", A)
    finding = only(find(tmp_path / "2", *facts, efi.variables(order=[2, 1], options=options)), "unknown")
    assert finding.id == "boot-entry.unreadable"


def test_programs_that_hand_over_in_a_circle_end(tmp_path: Path) -> None:
    content: dict[str, Content] = {"/boot/efi/EFI/d/shimx64.efi": efi.shim(), "/boot/efi/EFI/d/grubx64.efi": efi.shim()}
    variables = efi.variables(order=[1], options={1: efi.option("\\EFI\\d\\shimx64.efi")})
    assert only(find(tmp_path, efi.disks(), content, variables), "blocker").id == "boot-entry.no-loader"


def test_files_of_any_bytes_raise_nothing(tmp_path: Path) -> None:
    source = random.Random(1)
    variables = efi.variables(order=[1, 2], current=1, options={1: SHIM, 2: SYSTEMD}, LoaderEntryDefault="x")
    healthy = {**efi.disks(), **grub_files(), **GRUB_ESP, **SYSTEMD_ESP, **variables}
    spoiled = [path for path in healthy if not path.startswith("/sys/class")]
    for number in range(30):
        files = dict(healthy)
        for path in source.sample(spoiled, 3):
            old = files[path]
            data = bytearray(old.encode() if isinstance(old, str) else old if isinstance(old, bytes) else b"")
            way = source.randrange(5)
            if way == 0:
                files[path] = source.randbytes(source.randrange(300))
            elif way == 1:
                files[path] = None
            elif way == 2:
                files[path] = Link(path.rsplit("/", 1)[1])
            else:
                for _ in range(3):
                    data[source.randrange(len(data))] = source.randrange(256)
                files[path] = bytes(data[: source.randrange(len(data))] if way == 3 else data)
        find(tmp_path / str(number), files)
