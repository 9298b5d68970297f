"""Settings that a person got wrong, and the many odd ones that are right."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from safeupdate.boot.plan import BootFile
from safeupdate.case import Case
from safeupdate.checks import boot_settings
from safeupdate.errors import NoDecoder
from safeupdate.formats import cmdline, compression, kconfig, kernel_parameters, sysctl
from safeupdate.kernels import image_at
from safeupdate.machine import Machine
from safeupdate.report import Finding, NotApplicable
from tests.unit.trees import IMAGE, RELEASE, Content, case, real_kernels, tree, x86_image

HEADLESS: Mapping[str, Content] = {
    "/sys/class/block/vda/size": "1\n",
    "/sys/class/vtconsole/vtcon0/name": "(S) dummy device\n",
    "/sys/class/input/input0/capabilities/ev": "3\n",  # a power button
    "/sys/class/tty/console/active": "tty0\n",
}
KEYBOARD: Mapping[str, Content] = {"/sys/class/input/input1/capabilities/ev": "120013\n"}
SCREEN: Mapping[str, Content] = {"/sys/class/drm/card0-Virtual-1/status": "connected\n"}
ROOT = "root=UUID=5afe0bda-0012-4000-8000-000000000001"
OPTIONS = "".join(f"CONFIG_OPTION_{number}=y\n" for number in range(1000))
KERNELS = real_kernels()


def settings(root: Path, line: str, files: Mapping[str, Content] | None = None) -> list[Finding]:
    return list(boot_settings.check(case(tree(root, {IMAGE: x86_image(), **(files or {})}), line)))


def ids(findings: list[Finding]) -> list[tuple[str, str]]:
    return [(finding.id.partition(".")[2], finding.level) for finding in findings]


def test_nothing_boots_next(tmp_path: Path) -> None:
    one = replace(case(tree(tmp_path, {"/etc/fstab": ""})), entry=None, kernel=None)
    with pytest.raises(NotApplicable):
        list(boot_settings.check(one))


@pytest.mark.parametrize(
    "line",
    [
        f"{ROOT} ro quiet",
        f"{ROOT} ro quiet splash vt.handoff=7 crashkernel=2G-4G:320M,4G-32G:512M",
        f"{ROOT} ro console=tty1 console=ttyS0,115200n8 net.ifnames=0 biosdevname=0 nvme_core.io_timeout=4294967295",
        "root=/dev/mapper/rhel-root ro crashkernel=1G-4G:192M,4G-64G:256M,64G-:512M rd.lvm.lv=rhel/root rhgb quiet",
        "splash=silent mitigations=auto quiet security=apparmor",
        "hugepagesz=1G hugepages=4 hugepagesz=2M hugepages=512 transparent-hugepage=never",
        "crashkernel=512M,high crashkernel=72M,low intel_iommu=on iommu=pt pcie_aspm=off nosmt=force",
        f'{ROOT} ro dyndbg="file drivers/usb/* +p" systemd.setenv="A=b c" quiet -- --weird "three words"',
        f"{ROOT} ro modules=sd-mod,usb-storage,ext4 console=ttyAMA0 earlycon foo.bra=1 consolation=yes",
        f"BOOT_IMAGE=/vmlinuz {ROOT} rw initrd=\\initramfs-linux.img",
        "",
    ],
)
def test_lines_that_say_what_was_meant(tmp_path: Path, line: str) -> None:
    one = case(tree(tmp_path, {IMAGE: x86_image()}), line, initramfs=())
    assert list(boot_settings.check(one)) == []


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (f"{ROOT} ro mitigatons=off", "mitigations may be meant"),
        (f"{ROOT} ro nomodset", "nomodeset may be meant"),
        (f"{ROOT} ro transparent_hugepages=never", "transparent_hugepage may be meant"),
        (f"{ROOT} ro crahskernel=256M", "crashkernel may be meant"),
        (f"{ROOT} ro panic = 60", "blanks around an equals sign"),
        (f'{ROOT} ro dyndbg="file x +p quiet', "a quote that is never closed"),
        (f"{ROOT} ro dyndbg=“file", "U+201C"),
        (f"{ROOT} ro \u2013\u2013debug", "U+2013"),
        (f"{ROOT} ro\u00a0quiet", "U+00A0"),
    ],
)
def test_mistakes(tmp_path: Path, line: str, said: str) -> None:
    (finding,) = settings(tmp_path, line)
    assert (finding.id, finding.level) == ("boot-settings.mistake", "warning")
    assert said in finding.problem


def test_a_line_that_the_kernel_cuts(tmp_path: Path) -> None:
    from tests.unit.elves import program

    files: dict[str, Content] = {"/sbin/init": program()}
    found = settings(tmp_path, f"{ROOT} " + "x" * 3000, files)
    assert ids(found) == [("too-long", "warning")]
    assert "2047" in found[0].problem


@pytest.mark.parametrize(
    ("line", "level"),
    [("root=/dev/sda1 root=/dev/sdb1 ro", "warning"), ("panic=10 panic=0", "warning"), (f"{ROOT} ro rw", "note")],
)
def test_what_is_given_twice(tmp_path: Path, line: str, level: str) -> None:
    assert ids(settings(tmp_path, line)) == [("given-twice", level)]


def test_the_same_given_twice_is_nothing(tmp_path: Path) -> None:
    assert settings(tmp_path, f"{ROOT} ro {ROOT} ro") == []


def test_a_second_initrd(tmp_path: Path) -> None:
    assert ids(settings(tmp_path, f"{ROOT} initrd=/boot/other.img")) == [("initrd-ignored", "note")]


@pytest.mark.parametrize(
    ("parameter", "option"),
    [
        ("lockdown=integrity", "SECURITY_LOCKDOWN_LSM"),
        ("apparmor=1", "SECURITY_APPARMOR"),
        ("security=selinux", "SECURITY_SELINUX"),
        ("selinux=1", "SECURITY_SELINUX"),
        ("lsm=landlock,yama,apparmor", "SECURITY_APPARMOR"),
        ("zswap.enabled=1", "ZSWAP"),
        ("crashkernel=256M", "KEXEC_CORE"),
        ("hugepages=512", "HUGETLBFS"),
        ("console=ttyS0,115200n8", "SERIAL_8250_CONSOLE"),
        ("console=hvc0", "HVC_DRIVER"),
        ("module.sig_enforce", "MODULE_SIG"),
        ("psi=1", "PSI"),
    ],
)
def test_parameters_that_the_kernel_cannot_honour(tmp_path: Path, parameter: str, option: str) -> None:
    config = f"{OPTIONS}CONFIG_SECURITY_LANDLOCK=y\nCONFIG_SECURITY_YAMA=y\n"
    path = f"/boot/config-{RELEASE}"
    (finding,) = settings(tmp_path, parameter, {path: config})
    assert (finding.id, finding.level, finding.subject) == ("boot-settings.not-in-kernel", "warning", parameter)
    assert f"CONFIG_{option}" in finding.problem
    (tmp_path / path[1:]).write_text(f"{config}CONFIG_{option}=y\n")
    assert settings(tmp_path, parameter) == []


@pytest.mark.parametrize("parameter", ["apparmor=0", "selinux=0", "audit=0", "zswap.enabled=0", "console=tty0"])
def test_what_is_switched_off_needs_nothing(tmp_path: Path, parameter: str) -> None:
    assert settings(tmp_path, parameter, {f"/boot/config-{RELEASE}": OPTIONS}) == []


def test_a_configuration_without_defaults_tells_nothing(tmp_path: Path) -> None:
    assert settings(tmp_path, "lockdown=integrity", {f"/boot/config-{RELEASE}": "CONFIG_MODULES=y\n"}) == []


@pytest.mark.parametrize("kernel", KERNELS, ids=[f"{path.parent.parent.name}-{path.name}" for path in KERNELS])
def test_a_distribution_kernel_honours_what_administrators_ask_of_it(kernel: Path) -> None:
    line = cmdline.parse(
        "lockdown=integrity apparmor=1 security=apparmor selinux=1 lsm=landlock,yama,bpf zswap.enabled=1 psi=1 audit=1 "
        "crashkernel=256M hugepages=4 transparent_hugepage=madvise isolcpus=1 nohz_full=1 rcu_nocbs=1 intel_iommu=on "
        "netconsole=@/,@10.0.0.1/ console=ttyS0 console=hvc0 module.sig_enforce=1 fips=1 ima_policy=tcb page_poison=1"
    )
    config = kconfig.parse((kernel.parent / f"config-{kernel.name.partition('-')[2]}").read_bytes())
    assert len(config) > boot_settings._WHOLE_CONFIG
    assert list(kernel_parameters.unmet(line, config)) == []


NOT_IN_EVERY_KERNEL = {
    *("cgroup_enable", "consoleblank", "netconsole", "nokaslr", "selinux", "slab_debug", "slub_debug", "spectre_v2"),
}
"""Parameters of other configurations, of modules, and of the part that unpacks the kernel; those read by hand."""


@pytest.mark.parametrize("kernel", KERNELS[:1], ids=[path.name for path in KERNELS[:1]])
def test_the_names_are_those_that_the_kernel_knows(kernel: Path) -> None:
    image = image_at(Machine.tree("/"), str(kernel))
    assert image is not None
    assert image.payload is not None
    start, end = image.payload.offset, image.payload.offset + image.payload.length
    text, piece = bytearray(), memoryview(bytearray(1 << 20))
    with open(kernel, "rb") as file:
        try:
            decoder = compression.unpack(compression.Source(file, end), start)
        except NoDecoder:
            pytest.skip("nothing here unpacks this kernel")
        try:
            while count := decoder.readinto(piece):
                text += piece[:count]
        finally:
            decoder.close()
    unknown = {
        name
        for name in kernel_parameters.KNOWN
        if not any(b"\0%s%s" % (name.encode(), end) in text for end in (b"\0", b"=\0", b"="))
    }
    assert unknown <= NOT_IN_EVERY_KERNEL


@pytest.mark.parametrize(
    ("name", "known"),
    [("nomodeset", None), ("nospectre_v1", None), ("mitigation", "mitigations"), ("quiet", None), ("ro", None)],
)
def test_names_that_are_nearly_known(name: str, known: str | None) -> None:
    assert kernel_parameters.meant(name) == known


def test_a_stock_machine_without_a_screen(tmp_path: Path) -> None:
    assert ids(settings(tmp_path, ROOT, HEADLESS)) == [
        ("no-serial-console", "warning"),
        ("panic-waits-by-default", "warning"),
    ]


@pytest.mark.parametrize("files", [{}, {**HEADLESS, **KEYBOARD}, {**HEADLESS, **SCREEN}], ids=str)
def test_a_machine_with_a_person_before_it_or_no_facts_gets_none(tmp_path: Path, files: dict[str, Content]) -> None:
    assert settings(tmp_path, f"{ROOT} panic=0", files) == []


SYSCTL = "/etc/sysctl.d/10-panic.conf"


@pytest.mark.parametrize(
    ("line", "files", "expected"),
    [
        ("console=ttyS0", {}, [("panic-waits-by-default", "warning")]),
        ("console=ttyS0 panic=0", {}, [("panic-waits", "warning")]),
        ("console=ttyS0 panic=0", {SYSCTL: "kernel.panic = 10\n"}, []),
        ("console=ttyS0 panic=60", {SYSCTL: "kernel.panic = 0\n"}, [("panic-waits", "warning")]),
        ("console=ttyS0 panic=60", {}, []),
        ("console=ttyS0 panic=-1", {}, []),
        ("console=ttyS0 panic=0x0", {}, [("panic-waits", "warning")]),
        ("console=ttyS0 panic=010", {}, []),
        ("console=ttyS0 panic=09", {}, []),
        ("console=ttyS0 panic=soon", {}, []),
        ("console=ttyS0", {f"/boot/config-{RELEASE}": "CONFIG_PANIC_TIMEOUT=10\n"}, []),
        ("console=ttyS0", {"/proc/sys/kernel/panic": "10\n"}, []),
        ("console=ttyS0", {"/usr/lib/sysctl.d/50.conf": "kernel/panic=5\n"}, []),
        ("console=ttyS0", {"/etc/systemd/system.conf.d/w.conf": "[Manager]\nRuntimeWatchdogSec=20s\n"}, []),
        (
            "console=ttyS0 panic=0",
            {"/etc/systemd/system.conf": "[Manager]\n#RuntimeWatchdogSec=20\nRuntimeWatchdogSec=0\n"},
            [("panic-waits", "warning")],
        ),
    ],
)
def test_panic(tmp_path: Path, line: str, files: dict[str, Content], expected: list[tuple[str, str]]) -> None:
    assert ids(settings(tmp_path, line, {**HEADLESS, **files})) == expected


def test_a_file_of_etc_hides_one_of_usr(tmp_path: Path) -> None:
    files: dict[str, Content] = {
        "/usr/lib/sysctl.d/50-oom.conf": "vm.panic_on_oom = 1\n",
        "/etc/sysctl.d/50-oom.conf": "# nothing\n",
    }
    assert settings(tmp_path, ROOT, files) == []


@pytest.mark.parametrize(
    ("line", "text", "expected"),
    [
        (ROOT, "vm.panic_on_oom = 1\n", [("panic-on-oom", "warning")]),
        (ROOT, "vm.panic_on_oom=2\nkernel.panic=10\n", [("restarts-on-oom", "note")]),
        (f"{ROOT} panic=10", "-vm/panic_on_oom = 1\n", [("restarts-on-oom", "note")]),
        (f"{ROOT} sysctl.vm.panic_on_oom=1", "", [("panic-on-oom", "warning")]),
        (ROOT, "vm.panic_on_oom = 1\nvm.panic_on_oom = 0\n", []),
    ],
)
def test_panic_on_oom(tmp_path: Path, line: str, text: str, expected: list[tuple[str, str]]) -> None:
    assert ids(settings(tmp_path, line, {SYSCTL: text})) == expected


@pytest.mark.parametrize(
    ("headless", "expected"), [(True, ("serial-console-lost", "warning")), (False, ("serial-console-lost", "note"))]
)
def test_a_serial_console_that_the_next_boot_does_not_have(
    tmp_path: Path, headless: bool, expected: tuple[str, str]
) -> None:
    files = {"/proc/cmdline": f"{ROOT} panic=9 console=tty0 console=ttyS0,115200\n", **(HEADLESS if headless else {})}
    (finding,) = settings(tmp_path, f"{ROOT} panic=9 console=tty0", files)
    assert ids([finding]) == [expected]
    assert "console=ttyS0" in finding.remedy.text


@pytest.mark.parametrize(
    ("name", "meant"),
    [("ttys0", "ttyS0"), ("/dev/ttyS0", "ttyS0"), ("TTYS1,115200", "ttyS1,115200"), ("TTY0", "tty0")],
)
def test_consoles_that_there_are_not(tmp_path: Path, name: str, meant: str) -> None:
    (finding,) = settings(tmp_path, f"{ROOT} console={name}")
    assert ids([finding]) == [("console-misspelt", "warning")]
    assert f"console={meant} would" in finding.problem


@pytest.mark.parametrize(
    "name", ["ttyS0,115200n8", "tty0", "hvc0", "ttymxc0", "0", "uart8250,io,0x3f8,9600", "null", ""]
)
def test_consoles_that_there_are(tmp_path: Path, name: str) -> None:
    assert settings(tmp_path, f"{ROOT} console={name}") == []


def test_a_variable_is_put_right_where_it_is_set(tmp_path: Path) -> None:
    (finding,) = settings(tmp_path, f"{ROOT} console=ttyS0", {**HEADLESS, SYSCTL: "kernel.panic = 0\n"})
    assert (finding.subject, SYSCTL in finding.remedy.text) == (SYSCTL, True)


def test_sysctl_names() -> None:
    data = b"# c\n; c\n\nnet.ipv4.conf.eth0/1.forwarding=1\nnet/ipv4/conf/eth0.1/forwarding = 0\n-a.b= c d \nnone\n"
    assert sysctl.parse(data) == (
        ("net.ipv4.conf.eth0/1.forwarding", "1"),
        ("net.ipv4.conf.eth0/1.forwarding", "0"),
        ("a.b", "c d"),
    )


def with_devicetree(root: Path, path: str | None, files: Mapping[str, Content]) -> Case:
    one = case(tree(root, {IMAGE: x86_image(), f"/lib/modules/{RELEASE}/modules.dep": "", **files}), ROOT)
    assert one.entry is not None
    return replace(one, entry=replace(one.entry, devicetree=BootFile(path, path) if path else None))


def test_a_device_tree_of_another_kernel(tmp_path: Path) -> None:
    files: dict[str, Content] = {"/lib/modules/6.1.0-49-arm64/modules.dep": ""}
    one = with_devicetree(tmp_path, "/boot/dtbs/6.1.0-49-arm64/board.dtb", files)
    assert ids(list(boot_settings.check(one))) == [("devicetree-of-another-kernel", "warning")]


@pytest.mark.parametrize("path", [f"/boot/dtbs/{RELEASE}/board.dtb", "/boot/board.dtb"])
def test_a_device_tree_of_its_own(tmp_path: Path, path: str) -> None:
    assert list(boot_settings.check(with_devicetree(tmp_path, path, {}))) == []


def test_device_trees_for_the_running_kernel_only(tmp_path: Path) -> None:
    files: dict[str, Content] = {
        "/proc/sys/kernel/osrelease": "6.1.0-49-arm64\n",
        "/boot/dtbs/6.1.0-49-arm64/board.dtb": "",
    }
    assert ids(list(boot_settings.check(with_devicetree(tmp_path, None, files)))) == [("no-devicetree", "warning")]
    tree(tmp_path, {f"/boot/dtbs/{RELEASE}/board.dtb": ""})
    assert list(boot_settings.check(with_devicetree(tmp_path, None, {}))) == []


@pytest.mark.parametrize(
    ("later", "expected"),
    [
        ({}, []),
        ({IMAGE: 7200}, [("zipl-not-run", "warning")]),
        ({"/boot/loader/entries/a.conf": 7200}, [("zipl-not-run", "warning")]),
        ({IMAGE: 600}, []),
        ({"/boot/initramfs-6.1-kdump.img": 7200}, []),
    ],
)
def test_zipl(tmp_path: Path, later: dict[str, int], expected: list[tuple[str, str]]) -> None:
    names = ("/boot/bootmap", "/boot/loader/entries/a.conf", "/boot/initramfs-6.1-kdump.img")
    one = case(tree(tmp_path, {IMAGE: x86_image(), **dict.fromkeys(names, "")}), ROOT)
    for name in (IMAGE, *names):
        os.utime(tmp_path / name[1:], (1_700_000_000 + later.get(name, 0),) * 2)
    found = list(boot_settings.check(one))
    assert ids(found) == expected
    assert all(finding.remedy.commands == (("zipl",),) for finding in found)
