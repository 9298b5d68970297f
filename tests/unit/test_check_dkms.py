from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from safeupdate.case import Case
from safeupdate.checks.dkms import CHECK
from safeupdate.config import Config, ModuleSettings
from safeupdate.report import Finding, NotApplicable
from tests.unit.test_module_symbols import ko
from tests.unit.trees import IMAGE, MODULES, RELEASE, Content, Link, case, dep_index, tree, x86_image

OLD = "6.1.0-49-amd64"
KERNEL = {"module_layout": 0x11, "printk": 0x22}
SYMVERS = "".join(f"0x{number:08x}\t{name}\tvmlinux\tEXPORT_SYMBOL\t\n" for name, number in KERNEL.items())
CONF = 'PACKAGE_NAME="{name}"\nPACKAGE_VERSION="1.0"\nAUTOINSTALL="yes"\n'


def module(name: str = "acme", *, layout: int = 0x11) -> bytes:
    return ko(name, versions={**KERNEL, "module_layout": layout}, undefined=["printk"], fields=["license=GPL"])


def registered(*modules: str, name: str = "acme", conf: str = "") -> dict[str, Content]:
    """A package that dkms knows, and has built for nothing."""
    lines = [f'BUILT_MODULE_NAME[{n}]="{one}"\nDEST_MODULE_LOCATION[{n}]="/updates"\n' for n, one in enumerate(modules)]
    return {
        f"/usr/src/{name}-1.0/dkms.conf": CONF.format(name=name) + "".join(lines) + conf,
        f"/var/lib/dkms/{name}/1.0/source": Link(f"/usr/src/{name}-1.0"),
    }


def built(*modules: str, name: str = "acme", release: str = RELEASE) -> dict[str, Content]:
    place = f"/var/lib/dkms/{name}/1.0/{release}/x86_64"
    return {f"{place}/module/{one}.ko": module(one) for one in modules}


def installed(*modules: str, name: str = "acme", release: str = RELEASE) -> dict[str, Content]:
    files: dict[str, Content] = {f"/lib/modules/{release}/updates/dkms/{one}.ko": module(one) for one in modules}
    files[f"/var/lib/dkms/{name}/kernel-{release}-x86_64"] = Link(f"1.0/{release}/x86_64")
    return {**built(*modules, name=name, release=release), **files}


HEADERS: Mapping[str, Content] = {
    f"{MODULES}/build/include/generated/uapi/linux/version.h": "",
    f"{MODULES}/build/Makefile": "",
    f"{MODULES}/build/Module.symvers": SYMVERS,
}
READY = {**registered("acme"), **HEADERS}
LOG = f"DKMS make.log for acme-1.0 for kernel {RELEASE} (x86_64)\nMon Nov 23 10:00:00 UTC 2026\n"

IN_USE, IDLE, GONE = "acme 16384 1 - Live 0x0 (OE)\n", "acme 16384 0 - Live 0x0 (OE)\n", ""


def machine(
    root: Path,
    *several: Mapping[str, Content],
    listed: tuple[str, ...] = (),
    loaded: str = IN_USE,
    running: str = RELEASE,
    command_line: str = "",
) -> Case:
    """A kernel with one module of its own; `listed` is what depmod has seen besides."""
    files: dict[str, Content] = {
        IMAGE: x86_image(),
        f"/boot/config-{RELEASE}": "CONFIG_MODULES=y\nCONFIG_MODVERSIONS=y\nCONFIG_X86_64=y\n",
        f"{MODULES}/kernel/lib/own.ko": ko("own", versions=KERNEL, undefined=["printk"]),
        "/proc/modules": f"hid 1 0 - Live 0x0\n{loaded}",
        "/proc/self/mountinfo": "27 1 8:1 / / rw - ext4 /dev/sda1 rw\n",
        "/proc/sys/kernel/osrelease": f"{running}\n",
        "/sys/class/block/sda/size": "1\n",
        "/sys/bus/usb/drivers/usbhid/module": Link("../../../../module/hid"),
        "/sys/bus/usb/drivers/usbhid/1-1:1.0": Link("../../../../devices/pci0000:00/usb1/1-1/1-1:1.0"),
        "/usr/bin/apt-get": "",
    }
    for more in several:
        files.update(more)
    paths = ["kernel/lib/own.ko", *listed]
    files.setdefault(f"{MODULES}/modules.dep", "".join(f"{path}:\n" for path in paths))
    files.setdefault(f"{MODULES}/modules.dep.bin", dep_index(dict.fromkeys(paths, ())))
    return case(tree(root, files), command_line)


def ask(asked: Case) -> list[Finding]:
    return list(CHECK.run(asked))


def told(asked: Case) -> list[tuple[str, str]]:
    return [(finding.level, finding.id.partition(".")[2]) for finding in ask(asked)]


def only(asked: Case) -> Finding:
    (finding,) = ask(asked)
    return finding


# -- nothing to tell -------------------------------------------------------------------------------------------


def test_a_healthy_machine(tmp_path: Path) -> None:
    files = {**registered("acme", "bravo"), **HEADERS, **installed("acme", "bravo")}
    assert told(machine(tmp_path, files, listed=("updates/dkms/acme.ko", "updates/dkms/bravo.ko"))) == []


def test_every_module_came_with_the_kernel(tmp_path: Path) -> None:
    with pytest.raises(NotApplicable, match="came with its kernel"):
        ask(machine(tmp_path))


def test_a_kernel_without_modules_or_none_at_all(tmp_path: Path) -> None:
    with pytest.raises(NotApplicable, match="has no modules at all"):
        ask(case(tree(tmp_path / "a", {IMAGE: x86_image()})))
    with pytest.raises(NotApplicable, match="which kernel boots next"):
        ask(replace(machine(tmp_path / "b"), kernel=None))


def test_what_no_builder_knows_and_what_fits(tmp_path: Path) -> None:
    files: dict[str, Content] = {**HEADERS, f"{MODULES}/extra/acme.ko": module()}
    assert told(machine(tmp_path, files, listed=("extra/acme.ko",))) == []


# -- how bad it is ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("loaded", "level", "words"),
    [
        (IN_USE, "blocker", "comes back without what acme does: it is in use now, by its count in /proc/modules (1)."),
        (IDLE, "warning", "acme is loaded now, and nothing here shows a use of it."),
        (GONE, "warning", "No use of it on this machine is known."),
        (IDLE.replace(" 0 -", " - -"), "unknown", "cannot be told: this kernel does not count its uses."),
    ],
)
def test_the_need_decides(tmp_path: Path, loaded: str, level: str, words: str) -> None:
    finding = only(machine(tmp_path, READY, loaded=loaded))
    assert (finding.level, finding.id, finding.subject) == (level, "dkms.not-built", "acme")
    assert words in finding.consequence
    assert finding.remedy.commands == (("dkms", "install", "acme/1.0", "-k", RELEASE),)


def test_root_needs_it(tmp_path: Path) -> None:
    root: dict[str, Content] = {"/proc/self/mountinfo": "27 1 0:30 / / rw - acme tank/root rw\n"}
    finding = only(machine(tmp_path, READY, root))
    assert finding.level == "blocker"
    assert finding.consequence == (
        "Without acme the root file system is not found: / is a file system of the type acme."
    )


def test_configuration_asks_for_it(tmp_path: Path) -> None:
    asks: dict[str, Content] = {"/etc/modules-load.d/acme.conf": "acme\n"}
    finding = only(machine(tmp_path / "a", READY, asks, loaded=IDLE))
    assert (finding.level, "/etc/modules-load.d/acme.conf asks for it" in finding.consequence) == ("blocker", True)
    finding = only(machine(tmp_path / "b", READY, asks, loaded=GONE))
    assert (finding.level, "goes without acme, too" in finding.consequence) == ("warning", True)
    image = machine(tmp_path / "c", READY, asks)
    for path in ("proc/modules", "proc/sys/kernel/osrelease"):
        (tmp_path / "c" / path).unlink()
    assert only(image).level == "blocker"


def test_the_administrator_can_do_without_it(tmp_path: Path) -> None:
    asked = replace(machine(tmp_path, READY), config=Config(modules=ModuleSettings(("acme",))))
    finding = only(asked)
    assert (finding.level, "modules.optional says" in finding.consequence) == ("warning", True)


def test_the_kernel_has_a_driver_of_that_name(tmp_path: Path) -> None:
    own: dict[str, Content] = {f"{MODULES}/kernel/drivers/acme.ko": module()}
    finding = only(machine(tmp_path / "a", READY, own, listed=("kernel/drivers/acme.ko",)))
    assert (finding.level, finding.consequence) == (
        "warning",
        "The kernel's own driver of that name is loaded instead.",
    )
    builtin: dict[str, Content] = {f"{MODULES}/modules.builtin": "kernel/drivers/acme.ko\n"}
    assert only(machine(tmp_path / "b", READY, builtin)).level == "warning"


def test_all_modules_of_a_package_are_told_at_once_the_needed_first(tmp_path: Path) -> None:
    files = {**registered("alpha", "zulu", "bravo", "acme"), **HEADERS}
    finding = only(machine(tmp_path, files, loaded="zulu 1 1 - Live 0x0\nacme 1 0 - Live 0x0\n"))
    assert "no build of the modules acme, zulu, alpha, bravo of the DKMS package acme/1.0 for" in finding.problem
    assert (finding.level, "without what zulu does" in finding.consequence) == ("blocker", True)


# -- not made --------------------------------------------------------------------------------------------------


def test_headers_are_missing(tmp_path: Path) -> None:
    finding = only(machine(tmp_path, registered("acme")))
    assert (finding.level, finding.id) == ("blocker", "dkms.headers-missing")
    assert ("apt-get", "install", f"linux-headers-{RELEASE}") in finding.remedy.commands


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("acme.c:12:9: error: implicit declaration of function 'acme'", "build-failed"),
        ("/bin/sh: 1: gcc-13: not found", "compiler-mismatch"),
        ("Error! sign-file: No such file or directory", "build-failed"),
    ],
)
@pytest.mark.parametrize(("loaded", "level"), [(IN_USE, "blocker"), (GONE, "warning")])
def test_a_build_failed(tmp_path: Path, line: str, name: str, loaded: str, level: str) -> None:
    log: dict[str, Content] = {"/var/lib/dkms/acme/1.0/build/make.log": f"{LOG}{line}\n# exit code: 2\n"}
    finding = only(machine(tmp_path, READY, log, loaded=loaded))
    assert (finding.level, finding.id) == (level, f"dkms.{name}")
    assert line in finding.evidence and "/var/lib/dkms/acme/1.0/build/make.log" in finding.problem


def test_the_source_is_gone(tmp_path: Path) -> None:
    files = {path: content for path, content in READY.items() if not path.startswith("/usr/src")}
    finding = only(machine(tmp_path, files, built("acme", release=OLD)))
    assert (finding.level, finding.id) == ("blocker", "dkms.source-missing")


def test_it_was_built_and_not_installed(tmp_path: Path) -> None:
    finding = only(machine(tmp_path, READY, built("acme")))
    assert (finding.level, finding.id) == ("blocker", "dkms.not-installed")


def test_another_file_than_was_built(tmp_path: Path) -> None:
    listed = ("updates/dkms/acme.ko",)
    other: dict[str, Content] = {f"{MODULES}/updates/dkms/acme.ko": module("other")}
    finding = only(machine(tmp_path / "a", READY, installed("acme"), other, listed=listed))
    assert (finding.level, finding.id) == ("warning", "dkms.not-as-built")
    misfit: dict[str, Content] = {f"{MODULES}/updates/dkms/acme.ko": module("other", layout=0x12)}
    assert told(machine(tmp_path / "b", READY, installed("acme"), misfit, listed=listed)) == [("blocker", "misfit")]


def test_a_file_with_another_name_than_the_module_in_it(tmp_path: Path) -> None:
    """As Debian's nvidia-current.ko."""
    files: dict[str, Content] = {
        f"{MODULES}/updates/dkms/nvidia-current.ko": ko("nvidia", versions={"module_layout": 1})
    }
    listed = ("updates/dkms/nvidia-current.ko",)
    finding = only(machine(tmp_path, HEADERS, files, listed=listed, loaded="nvidia 1 5 - Live 0x0 (OE)\n"))
    assert (finding.level, finding.id) == ("blocker", "dkms.misfit")
    assert "without what nvidia does" in finding.consequence


NOT_WANTED = {**registered("acme", conf='BUILD_EXCLUSIVE_KERNEL="^5\\."\n'), **HEADERS}


def test_it_is_not_for_this_kernel(tmp_path: Path) -> None:
    finding = only(machine(tmp_path, NOT_WANTED, loaded=IDLE))
    assert (finding.level, finding.id) == ("note", "dkms.not-wanted")
    assert told(replace(machine(tmp_path / "fallback", NOT_WANTED, loaded=IDLE), is_target=False)) == []


def test_it_is_not_for_this_kernel_and_in_use(tmp_path: Path) -> None:
    finding = only(machine(tmp_path, NOT_WANTED))
    assert (finding.level, finding.id) == ("blocker", "dkms.module-lost")
    assert "on purpose" in finding.problem and "BUILD_EXCLUSIVE_KERNEL" in finding.problem
    assert finding.remedy.commands == ()
    by_hand = {**registered("acme", conf="AUTOINSTALL=no\n"), **HEADERS}
    finding = only(machine(tmp_path / "by-hand", by_hand))
    assert (finding.level, finding.id) == ("blocker", "dkms.module-lost")
    assert finding.remedy.commands == (("dkms", "install", "acme/1.0", "-k", RELEASE),)


def test_the_running_kernel_has_it_from_elsewhere(tmp_path: Path) -> None:
    older: dict[str, Content] = {
        f"/lib/modules/{OLD}/extra/acme.ko": module(),
        f"/lib/modules/{OLD}/kernel/lib/own.ko": module("own"),
        f"/lib/modules/{OLD}/modules.dep": "extra/acme.ko:\n",
    }
    finding = only(machine(tmp_path / "a", HEADERS, older, running=OLD))
    assert (finding.level, finding.id) == ("blocker", "dkms.module-lost")
    assert finding.problem.startswith("The running kernel has the module acme of ")
    assert only(machine(tmp_path / "b", HEADERS, older, running=OLD, loaded=GONE)).level == "warning"


def akmod(*, service: bool = True) -> dict[str, Content]:
    unit = "/usr/lib/systemd/system/akmods.service"
    files: dict[str, Content] = {
        "/usr/src/akmods/acme-kmod-1.0-1.fc40.src.rpm": b"\xed\xab\xee\xdb",
        "/usr/src/akmods/acme-kmod.latest": Link("acme-kmod-1.0-1.fc40.src.rpm"),
        unit: "[Service]\n",
    }
    return {**files, "/etc/systemd/system/multi-user.target.wants/akmods.service": Link(unit)} if service else files


def test_it_is_built_at_the_next_boot(tmp_path: Path) -> None:
    finding = only(machine(tmp_path / "a", HEADERS, akmod()))
    assert (finding.level, finding.id) == ("warning", "dkms.built-later")
    finding = only(machine(tmp_path / "b", HEADERS, akmod(service=False)))
    assert (finding.level, finding.id) == ("blocker", "dkms.not-built")


def test_what_root_needs_cannot_be_built_later(tmp_path: Path) -> None:
    root: dict[str, Content] = {"/proc/self/mountinfo": "27 1 0:30 / / rw - acme tank/root rw\n"}
    finding = only(machine(tmp_path, HEADERS, akmod(), root))
    assert (finding.level, finding.id) == ("blocker", "dkms.not-built")


def test_a_weak_link_leads_nowhere(tmp_path: Path) -> None:
    link: dict[str, Content] = {f"{MODULES}/weak-updates/acme.ko": Link(f"/lib/modules/{OLD}/extra/acme.ko")}
    finding = only(machine(tmp_path / "a", HEADERS, link, listed=("weak-updates/acme.ko",)))
    assert (finding.level, finding.id) == ("blocker", "dkms.dangling-link")
    finding = only(machine(tmp_path / "b", HEADERS, link, listed=("weak-updates/acme.ko",), loaded=GONE))
    assert finding.level == "warning"


# -- not loaded ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("loaded", "level"), [(IN_USE, "blocker"), (GONE, "warning")])
def test_depmod_has_not_run(tmp_path: Path, loaded: str, level: str) -> None:
    finding = only(machine(tmp_path, READY, installed("acme"), loaded=loaded))
    assert (finding.level, finding.id) == (level, "dkms.not-listed")
    assert finding.remedy.commands == (("depmod", "-a", RELEASE),)


@pytest.mark.parametrize(("loaded", "level"), [(IN_USE, "blocker"), (GONE, "warning")])
def test_a_file_that_depmod_has_seen_is_gone(tmp_path: Path, loaded: str, level: str) -> None:
    finding = only(machine(tmp_path, HEADERS, listed=("extra/acme.ko",), loaded=loaded))
    assert (finding.level, finding.id, finding.subject) == (level, "dkms.file-missing", f"{MODULES}/extra/acme.ko")


@pytest.mark.parametrize(("loaded", "level"), [(IN_USE, "blocker"), (IDLE, "warning")])
def test_a_module_of_another_kernel(tmp_path: Path, loaded: str, level: str) -> None:
    files: dict[str, Content] = {f"{MODULES}/extra/acme.ko": module(layout=0x12)}
    finding = only(machine(tmp_path, HEADERS, files, listed=("extra/acme.ko",), loaded=loaded))
    assert (finding.level, finding.id) == (level, "dkms.misfit")
    assert "refuses to load it" in finding.consequence


@pytest.mark.parametrize("content", [b"", module()[:700]])
def test_a_module_that_is_cut(tmp_path: Path, content: bytes) -> None:
    files: dict[str, Content] = {f"{MODULES}/extra/acme.ko": content}
    finding = only(machine(tmp_path, HEADERS, files, listed=("extra/acme.ko",)))
    assert (finding.level, finding.id) == ("blocker", "dkms.broken")


@pytest.mark.parametrize(("loaded", "level"), [(IN_USE, "unknown"), (IDLE, "note")])
def test_a_module_that_cannot_be_read(tmp_path: Path, loaded: str, level: str) -> None:
    files: dict[str, Content] = {f"{MODULES}/extra/acme.ko": module()}
    asked = machine(tmp_path, HEADERS, files, listed=("extra/acme.ko",), loaded=loaded)
    hidden = replace(asked.machine, left_out=frozenset({f"{MODULES}/extra/acme.ko"}))
    finding = only(case(hidden))
    assert (finding.level, finding.id) == (level, "dkms.undecided")


def test_another_file_goes_before_it(tmp_path: Path) -> None:
    other: dict[str, Content] = {f"{MODULES}/own/acme.ko": module("another")}
    finding = only(machine(tmp_path, READY, installed("acme"), other, listed=("own/acme.ko",)))
    assert (finding.level, finding.id, finding.subject) == ("warning", "dkms.overridden", f"{MODULES}/own/acme.ko")
    assert f"the DKMS package acme/1.0 has put {MODULES}/updates/dkms/acme.ko there" in finding.problem
    misfit: dict[str, Content] = {f"{MODULES}/own/acme.ko": module("another", layout=0x12)}
    finding = only(machine(tmp_path / "b", READY, installed("acme"), misfit, listed=("own/acme.ko",)))
    assert (finding.level, finding.id) == ("blocker", "dkms.misfit")
    assert f"It is taken instead of {MODULES}/updates/dkms/acme.ko." in finding.problem


def test_of_a_fallback_only_what_is_needed_is_asked(tmp_path: Path) -> None:
    files: dict[str, Content] = {f"{MODULES}/extra/acme.ko": module(layout=0x12)}
    for loaded, expected in ((IN_USE, [("blocker", "misfit")]), (GONE, [])):
        asked = machine(tmp_path / str(len(loaded)), HEADERS, files, listed=("extra/acme.ko",), loaded=loaded)
        assert told(replace(asked, is_target=False)) == expected


# -- other kernels ---------------------------------------------------------------------------------------------


def test_other_kernels_are_a_note(tmp_path: Path) -> None:
    other: dict[str, Content] = {
        f"/lib/modules/{OLD}/modules.dep": "kernel/lib/own.ko:\n",
        f"/lib/modules/{OLD}/kernel/lib/own.ko": module("own"),
    }
    asked = machine(tmp_path, READY, installed("acme"), other, listed=("updates/dkms/acme.ko",))
    finding = only(asked)
    assert (finding.level, finding.id) == ("note", "dkms.other-kernels")
    assert finding.problem == (f"The DKMS package acme/1.0 has no module for other kernels that are installed: {OLD}.")
    assert told(replace(asked, is_target=False)) == []
