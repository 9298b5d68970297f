"""What DKMS has brought for a kernel: trees as dkms 2.8 to 3.2 leave them, after builds that went well or did not."""

from __future__ import annotations

import gzip
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest

from safeupdate.builders import Brought, World, dkms, dkms_tree
from safeupdate.builders.dkms_tree import BuiltModule
from safeupdate.errors import Unreadable
from safeupdate.kernels import Kernel
from safeupdate.machine import Machine
from safeupdate.module_interface import Interface
from safeupdate.module_tree import ModuleTree
from tests.unit import signing
from tests.unit.trees import Content, Link, tree

OLD, NEW = "6.1.0-49-amd64", "6.1.0-50-amd64"
CONF = """PACKAGE_NAME="v4l2loopback"
PACKAGE_VERSION="0.12.7"
BUILT_MODULE_NAME[0]="$PACKAGE_NAME"
DEST_MODULE_LOCATION[0]="/extra"
AUTOINSTALL="yes"
"""
TOP = "/var/lib/dkms/v4l2loopback"
VERSION = f"{TOP}/0.12.7"
LOG = f"DKMS make.log for v4l2loopback-0.12.7 for kernel {NEW} (x86_64)\nMon Nov 23 07:00:00 UTC 2026\n"
APT: dict[str, Content] = {"/usr/bin/apt-get": ""}
PROVIDER = "the DKMS package v4l2loopback/0.12.7"
INSTALL = ("dkms", "install", "v4l2loopback/0.12.7", "-k", NEW)
FORCED = ("dkms", "install", "--force", "v4l2loopback/0.12.7", "-k", NEW)


def added(conf: str = CONF) -> dict[str, Content]:
    """As `dkms add` leaves it, with the kernel's headers there."""
    return {
        "/usr/src/v4l2loopback-0.12.7/dkms.conf": conf,
        f"{VERSION}/source": Link("/usr/src/v4l2loopback-0.12.7"),
        f"{VERSION}/build": None,
        f"/lib/modules/{NEW}/modules.dep": "",
        f"/lib/modules/{NEW}/build": Link(f"/usr/src/linux-headers-{NEW}"),
        f"/usr/src/linux-headers-{NEW}/include": None,
    }


def built(release: str = NEW, content: bytes = b"module", name: str = "v4l2loopback.ko") -> dict[str, Content]:
    return {
        f"{VERSION}/{release}/x86_64/module/{name}": content,
        f"{VERSION}/{release}/x86_64/log/make.log": "",
    }


def installed(release: str = NEW, content: bytes = b"module", name: str = "v4l2loopback.ko") -> dict[str, Content]:
    return {
        f"{TOP}/kernel-{release}-x86_64": Link(f"0.12.7/{release}/x86_64"),
        f"/lib/modules/{release}/updates/dkms/{name}": content,
    }


def world(root: Path, *layers: Mapping[str, Content], release: str = NEW) -> World:
    machine = tree(root, {path: content for layer in layers for path, content in layer.items()})
    of = ModuleTree(Kernel(release, f"/boot/vmlinuz-{release}", machine))
    return World(machine, (), of, Interface(of))


def look(root: Path, *layers: Mapping[str, Content], release: str = NEW) -> list[Brought]:
    return list(dkms.look(world(root, *layers, release=release)))


def one(root: Path, *layers: Mapping[str, Content], release: str = NEW) -> Brought:
    (brought,) = look(root, *layers, release=release)
    assert brought.provider == PROVIDER
    return brought


# -- what was built ------------------------------------------------------------------------------------------------


def test_nothing_without_dkms(tmp_path: Path) -> None:
    assert look(tmp_path) == []
    assert dkms.elsewhere(world(tmp_path)) == {}


def test_installed(tmp_path: Path) -> None:
    brought = one(tmp_path, added(), built(), installed())
    assert brought == Brought("v4l2loopback", PROVIDER, "installed", "updates/dkms/v4l2loopback.ko")


def test_the_state_of_each_module(tmp_path: Path) -> None:
    machine = world(tmp_path, added(), built(), installed())
    (found,) = dkms_tree.packages(machine.machine)
    state = dkms_tree.build(found, machine.tree, "x86_64")
    path = f"{VERSION}/{NEW}/x86_64/module/v4l2loopback.ko"
    assert state.modules == (
        BuiltModule("v4l2loopback", "v4l2loopback", path, "updates/dkms/v4l2loopback.ko", same=True),
    )
    assert state.state == "installed"
    assert found.releases == (NEW,)
    assert found.links == {f"kernel-{NEW}-x86_64"}


@pytest.mark.parametrize("place", ["extra", "updates", "extra/deeper", "misc"])
def test_installed_elsewhere(tmp_path: Path, place: str) -> None:
    files = {path: content for path, content in installed().items() if "/lib/modules" not in path}
    brought = one(tmp_path, added(), built(), files, {f"/lib/modules/{NEW}/{place}/v4l2loopback.ko": b"module"})
    assert (brought.state, brought.path) == ("installed", f"{place}/v4l2loopback.ko")


def test_gentoo_installs_below_kernel(tmp_path: Path) -> None:
    files = {path: content for path, content in installed().items() if "/lib/modules" not in path}
    files[f"/lib/modules/{NEW}/kernel/drivers/media/v4l2loopback.ko"] = b"module"
    assert one(tmp_path, added(), built(), files).state == "installed"


def test_modules_as_links_into_dkms_own_tree(tmp_path: Path) -> None:
    target = f"{VERSION}/{NEW}/x86_64/module/v4l2loopback.ko"
    files = {**installed(), f"/lib/modules/{NEW}/updates/dkms/v4l2loopback.ko": Link(target)}
    assert one(tmp_path, added(), built(), files).state == "installed"


def test_such_a_link_that_leads_nowhere(tmp_path: Path) -> None:
    target = f"{VERSION}/{NEW}/x86_64/module/v4l2loopback.ko"
    files = {**installed(), f"/lib/modules/{NEW}/updates/dkms/v4l2loopback.ko": Link(target)}
    brought = one(tmp_path, added(), files)
    assert (brought.state, brought.fault, brought.path) == ("absent", "link", "updates/dkms/v4l2loopback.ko")
    assert target in brought.why
    assert brought.remedy.commands == (FORCED,)


def test_compressed_by_somebody_else(tmp_path: Path) -> None:
    packed = installed(content=gzip.compress(b"module"), name="v4l2loopback.ko.gz")
    assert one(tmp_path, added(), built(), packed).state == "installed"


def test_signed_after_it_was_installed(tmp_path: Path) -> None:
    key = signing.key("a")
    content = b"\x7fELF" + bytes(5000)
    brought = one(tmp_path, added(), built(content=content), installed(content=signing.module(content, key)))
    assert brought.state == "installed"
    assert brought.fault == ""


def test_large_modules_are_compared_by_their_ends(tmp_path: Path) -> None:
    content = bytes(3 << 20)
    assert one(tmp_path, added(), built(content=content), installed(content=content)).fault == ""
    other = b"x" + content[1:]
    (tmp_path / f"lib/modules/{NEW}/updates/dkms/v4l2loopback.ko").write_bytes(other)
    (brought,) = dkms.look(_again(tmp_path))
    assert (brought.state, brought.fault) == ("installed", "file")


def _again(root: Path, release: str = NEW) -> World:
    machine = Machine.tree(str(root))
    of = ModuleTree(Kernel(release, f"/boot/vmlinuz-{release}", machine))
    return World(machine, (), of, Interface(of))


def test_another_content_than_what_was_built(tmp_path: Path) -> None:
    brought = one(tmp_path, added(), built(), installed(content=b"older"))
    assert (brought.state, brought.fault, brought.path) == ("installed", "file", "updates/dkms/v4l2loopback.ko")
    assert "another content" in brought.why
    assert brought.remedy.commands == (FORCED,)


def test_of_several_files_the_one_that_was_built_counts(tmp_path: Path) -> None:
    by_hand: dict[str, Content] = {f"/lib/modules/{NEW}/extra/v4l2loopback.ko": b"by hand"}
    brought = one(tmp_path, added(), built(), installed(), by_hand)
    assert (brought.path, brought.fault) == ("updates/dkms/v4l2loopback.ko", "")


def test_what_cannot_be_compared_is_not_said_to_differ(tmp_path: Path) -> None:
    packed = {f"/lib/modules/{NEW}/updates/dkms/v4l2loopback.ko.xz": b"no xz"}
    link = {path: content for path, content in installed().items() if "/lib/modules" not in path}
    for number, rest in enumerate((link, {})):
        brought = one(tmp_path / str(number), added(), built(), packed, rest)
        assert (brought.state, brought.fault) == ("installed", "")


def test_the_kernel_was_removed_and_installed_again(tmp_path: Path) -> None:
    """The link stays, and `dkms autoinstall` believes it."""
    files = {path: content for path, content in installed().items() if "/lib/modules" not in path}
    brought = one(tmp_path, added(), built(), files)
    assert (brought.state, brought.fault, brought.path) == ("built", "file", None)
    assert brought.remedy.commands == (FORCED,)


def test_built_and_not_installed(tmp_path: Path) -> None:
    brought = one(tmp_path, added(), built())
    assert (brought.state, brought.fault) == ("built", "")
    assert brought.remedy.commands == (INSTALL,)


def test_the_kernels_own_module_is_as_new(tmp_path: Path) -> None:
    """dkms 3.0 makes the link and copies nothing; 3.2 stops before the link."""
    own: dict[str, Content] = {f"/lib/modules/{NEW}/kernel/drivers/media/v4l2loopback.ko": b"the kernel's"}
    link = {path: content for path, content in installed().items() if "/lib/modules" not in path}
    for number, files in enumerate((link, {})):
        brought = one(tmp_path / str(number), added(), built(), own, files)
        assert (brought.state, brought.path) == ("unwanted", "kernel/drivers/media/v4l2loopback.ko")
        assert "came with the kernel" in brought.why


def test_obsolete_in_this_kernel(tmp_path: Path) -> None:
    """dkms 3.0 builds it, makes the link and copies nothing."""
    link = {path: content for path, content in installed().items() if "/lib/modules" not in path}
    brought = one(tmp_path, added(CONF + "OBSOLETE_BY=6.1\n"), built(), link)
    assert brought.state == "unwanted"
    assert "OBSOLETE_BY" in brought.why


def test_a_build_that_is_not_whole(tmp_path: Path) -> None:
    """Of two modules one could not be copied, as on a full disk."""
    conf = CONF + "BUILT_MODULE_NAME[1]=second\nDEST_MODULE_LOCATION[1]=/extra\n"
    first, second = look(tmp_path, added(conf), built(), installed())
    assert (first.module, first.state) == ("v4l2loopback", "installed")
    assert (second.module, second.state, second.fault) == ("second", "failed", "build")
    assert second.remedy.commands == (("rm", "-r", f"{VERSION}/{NEW}/x86_64"), INSTALL)


def test_files_that_have_another_name_than_the_kernels(tmp_path: Path) -> None:
    """Debian's nvidia."""
    conf = CONF + "DEST_MODULE_NAME[0]=v4l2-current\n"
    files = (built(name="v4l2-current.ko"), installed(name="v4l2-current.ko"))
    brought = one(tmp_path / "a", added(conf), *files)
    assert brought == Brought("v4l2loopback", PROVIDER, "installed", "updates/dkms/v4l2-current.ko")
    assert one(tmp_path / "b", added(conf)).module == "v4l2loopback"


def test_dashes(tmp_path: Path) -> None:
    conf = CONF.replace('"$PACKAGE_NAME"', "dm-writeboost")
    brought = one(tmp_path, added(conf), built(name="dm-writeboost.ko"), installed(name="dm-writeboost.ko"))
    assert (brought.module, brought.path) == ("dm_writeboost", "updates/dkms/dm-writeboost.ko")


def test_links_to_another_kernels_modules(tmp_path: Path) -> None:
    files: dict[str, Content] = {
        f"/lib/modules/{OLD}/extra/v4l2loopback.ko": b"module",
        f"{TOP}/kernel-{OLD}-x86_64": Link(f"0.12.7/{OLD}/x86_64"),
        f"/lib/modules/{NEW}/weak-updates/v4l2loopback.ko": Link(f"/lib/modules/{OLD}/extra/v4l2loopback.ko"),
    }
    brought = one(tmp_path, added(), built(OLD), files)
    assert (brought.state, brought.path) == ("installed", "weak-updates/v4l2loopback.ko")
    (tmp_path / f"lib/modules/{OLD}/extra/v4l2loopback.ko").unlink()
    (brought,) = dkms.look(_again(tmp_path))
    assert (brought.state, brought.fault, brought.path) == ("absent", "link", "weak-updates/v4l2loopback.ko")


# -- what was not --------------------------------------------------------------------------------------------------


def test_nothing_was_tried(tmp_path: Path) -> None:
    brought = one(tmp_path, added(), built(OLD), installed(OLD))
    assert (brought.state, brought.fault, brought.path) == ("absent", "", None)
    assert brought.remedy.commands == (INSTALL,)


def test_its_service_comes_too_late(tmp_path: Path) -> None:
    unit = "/usr/lib/systemd/system/dkms.service"
    wanted: dict[str, Content] = {unit: "", "/etc/systemd/system/multi-user.target.wants/dkms.service": Link(unit)}
    brought = one(tmp_path, added(), wanted)
    assert (brought.state, "dkms.service" in brought.why) == ("absent", True)


HEADERS = {
    ("apt-get", NEW): ("apt-get", "install", f"linux-headers-{NEW}"),
    ("apt-get", "6.8.4-2-pve"): ("apt-get", "install", "proxmox-headers-6.8.4-2-pve"),
    ("apt-get", "5.15.107-2-pve"): ("apt-get", "install", "pve-headers-5.15.107-2-pve"),
    ("dnf", "6.6.7-200.fc39.x86_64"): ("dnf", "install", "kernel-devel-6.6.7-200.fc39.x86_64"),
    ("dnf", "5.14.0-1.el9.x86_64+rt"): ("dnf", "install", "kernel-rt-devel-5.14.0-1.el9.x86_64"),
    ("dnf", "5.15.0-6.el9uek.x86_64"): ("dnf", "install", "kernel-uek-devel-5.15.0-6.el9uek.x86_64"),
    ("zypper", "6.4.0-150600.21-default"): ("zypper", "install", "kernel-default-devel"),
    ("pacman", "6.10.1-arch1-1"): ("pacman", "-S", "linux-headers"),
}


@pytest.mark.parametrize(("program", "release"), list(HEADERS))
def test_no_headers(tmp_path: Path, program: str, release: str) -> None:
    files: dict[str, Content] = {
        f"/usr/bin/{program}": "",
        f"/lib/modules/{release}/modules.dep": "",
        f"/usr/lib/modules/{release}/pkgbase": "linux\n",
    }
    package = {path: content for path, content in added().items() if "/lib/modules" not in path}
    brought = one(tmp_path, package, files, release=release)
    assert (brought.state, brought.fault) == ("absent", "headers")
    assert brought.why == f"/lib/modules/{release}/build does not exist."
    assert brought.remedy.commands == (HEADERS[program, release], (*INSTALL[:-1], release))


def test_the_link_to_the_headers_leads_nowhere(tmp_path: Path) -> None:
    files = {path: content for path, content in added().items() if "linux-headers" not in path or "build" in path}
    brought = one(tmp_path, files)
    assert brought.fault == "headers"
    assert f"/lib/modules/{NEW}/build" in brought.why


def test_an_error_in_the_build(tmp_path: Path) -> None:
    log = LOG + "a.c:1:2: error: too few arguments\nmake: *** [a] Error 2\n"
    brought = one(tmp_path, added(), {f"{VERSION}/build/make.log": log})
    assert (brought.state, brought.fault) == ("failed", "build")
    assert brought.evidence == ("a.c:1:2: error: too few arguments", "make: *** [a] Error 2")
    assert brought.why == f"The log {VERSION}/build/make.log says: a.c:1:2: error: too few arguments"
    assert brought.remedy.commands == (INSTALL,)


def test_another_compiler(tmp_path: Path) -> None:
    log = LOG + "/bin/sh: 1: gcc-12: not found\nmake: *** [a] Error 127\n"
    config = 'CONFIG_CC_VERSION_TEXT="x86_64-linux-gnu-gcc-12 (Debian 12.2.0-14) 12.2.0"\n'
    files: dict[str, Content] = {f"{VERSION}/build/make.log": log, f"/boot/config-{NEW}": config}
    brought = one(tmp_path, added(), files, APT)
    assert (brought.state, brought.fault) == ("failed", "compiler")
    assert brought.remedy.commands == (("apt-get", "install", "gcc-12"), INSTALL)


def test_a_log_of_another_kernel_says_nothing_of_this_one(tmp_path: Path) -> None:
    log = LOG.replace(NEW, OLD) + "a.c:1:2: error: too few arguments\n"
    brought = one(tmp_path, added(), {f"{VERSION}/build/make.log": log})
    assert (brought.state, brought.fault, brought.evidence) == ("absent", "", ())


def test_a_log_that_names_missing_headers(tmp_path: Path) -> None:
    log = LOG + f"make: *** /lib/modules/{NEW}/build: No such file or directory.  Stop.\n"
    brought = one(tmp_path, added(), {f"{VERSION}/build/make.log": log}, APT)
    assert (brought.state, brought.fault) == ("failed", "headers")
    assert brought.remedy.commands[0] == ("apt-get", "install", f"linux-headers-{NEW}")


def test_an_interrupted_build(tmp_path: Path) -> None:
    """dkms 3.0 makes the directory of the log first, and then refuses to build."""
    brought = one(tmp_path, added(), {f"{VERSION}/{NEW}/x86_64/log": None})
    assert (brought.state, brought.remedy.commands) == (
        "absent",
        (("rm", "-r", f"{VERSION}/{NEW}/x86_64"), INSTALL),
    )
    # 3.2 works in a directory that it renames, and is not hindered by it.
    (tmp_path / f"var/lib/dkms/v4l2loopback/0.12.7/{NEW}/x86_64").rename(
        tmp_path / f"var/lib/dkms/v4l2loopback/0.12.7/{NEW}/.tmp_x86_64_abcdef"
    )
    (brought,) = dkms.look(_again(tmp_path))
    assert (brought.state, brought.remedy.commands) == ("absent", (INSTALL,))


def test_it_waits_for_another_package(tmp_path: Path) -> None:
    conf = CONF + 'BUILD_DEPENDS[0]="other"\n'
    brought = one(tmp_path, added(conf))
    assert "after other" in brought.why
    (tmp_path / f"var/lib/dkms/other/1/{NEW}").mkdir(parents=True)
    (tmp_path / f"var/lib/dkms/other/kernel-{NEW}-x86_64").symlink_to("1")
    (brought,) = dkms.look(_again(tmp_path))
    assert brought.why == "No build of it was tried."


@pytest.mark.parametrize("source", [Link("/usr/src/gone-1"), None])
def test_the_source_is_gone(tmp_path: Path, source: Content) -> None:
    files = {**added(), f"{VERSION}/source": source}
    if source is None:
        files[f"{VERSION}/source/Makefile"] = ""
    brought = one(tmp_path, files, built(OLD), installed(OLD))
    assert (brought.module, brought.state, brought.fault) == ("v4l2loopback", "absent", "source")
    assert f"{VERSION}/source" in brought.why
    # What was built before is no worse for it.
    assert one(tmp_path, release=OLD).state == "installed"


@pytest.mark.parametrize("conf", ['PACKAGE_NAME="a\n', CONF + "case a in a) b=1 ;& c) d=1 ;; esac\n"])
def test_a_conf_that_is_not_understood(tmp_path: Path, conf: str) -> None:
    """bash reads the second one, so that dkms may well build it."""
    brought = one(tmp_path, added(conf))
    assert (brought.module, brought.state, brought.fault) == ("", "absent", "")
    assert "line" in brought.why
    assert brought.remedy.commands == (INSTALL,)


def test_names_that_only_bash_knows(tmp_path: Path) -> None:
    conf = 'PACKAGE_NAME=v4l2loopback\nBUILT_MODULE_NAME="$(cat names)"\nDEST_MODULE_LOCATION=/extra\nAUTOINSTALL=yes\n'
    assert one(tmp_path / "a", added(conf)).module == ""
    assert one(tmp_path / "b", added(conf), built(OLD, name="some-name.ko.xz")).module == "some_name"


def test_another_package_has_put_it_there(tmp_path: Path) -> None:
    assert look(tmp_path, added(), {f"/lib/modules/{NEW}/extra/v4l2loopback.ko.xz": b"module"}) == []


# -- versions ------------------------------------------------------------------------------------------------------


def newer(version: str = "0.15.0") -> dict[str, Content]:
    return {
        f"/usr/src/v4l2loopback-{version}/dkms.conf": CONF.replace("0.12.7", version),
        f"{TOP}/{version}/source": Link(f"/usr/src/v4l2loopback-{version}"),
    }


def test_of_several_versions_the_installed_one_counts(tmp_path: Path) -> None:
    assert one(tmp_path, added(), built(), installed(), newer()).state == "installed"


def test_or_the_newest_that_can_be_built(tmp_path: Path) -> None:
    (brought,) = look(tmp_path, added(), newer(), newer("0.9.1"))
    assert (brought.provider, brought.state) == ("the DKMS package v4l2loopback/0.15.0", "absent")
    (tmp_path / "usr/src/v4l2loopback-0.15.0").rename(tmp_path / "usr/src/away")
    (brought,) = dkms.look(_again(tmp_path))
    assert brought.provider == PROVIDER


def test_leftovers_of_a_package_that_was_removed(tmp_path: Path) -> None:
    files: dict[str, Content] = {f"{VERSION}/{OLD}/x86_64/module/v4l2loopback.ko": b"", f"{TOP}/original_module/x": ""}
    assert look(tmp_path, files) == []


# -- not wanted ----------------------------------------------------------------------------------------------------

UNWANTED = {
    'BUILD_EXCLUSIVE_KERNEL="^5\\."': "BUILD_EXCLUSIVE_KERNEL",
    "BUILD_EXCLUSIVE_KERNEL_MIN=6.2": "BUILD_EXCLUSIVE_KERNEL_MIN",
    "BUILD_EXCLUSIVE_KERNEL_MAX=6.0.99": "BUILD_EXCLUSIVE_KERNEL_MAX",
    'BUILD_EXCLUSIVE_ARCH="aarch64|ppc64le"': "BUILD_EXCLUSIVE_ARCH",
    'BUILD_EXCLUSIVE_CONFIG="CONFIG_ACPI CONFIG_NEVER"': "with CONFIG_NEVER",
    'BUILD_EXCLUSIVE_CONFIG="!CONFIG_ACPI"': "without CONFIG_ACPI",
    "OBSOLETE_BY=5.10": "OBSOLETE_BY",
    "AUTOINSTALL=": "AUTOINSTALL",
    "AUTOINSTALL=no": "AUTOINSTALL",
    "if ! grep -q CONFIG_NEVER=y $kernel_source_dir/.config; then BUILD_EXCLUSIVE_ARCH=^never$; fi": "^never$",
}
WANTED = (
    'BUILD_EXCLUSIVE_KERNEL="^(5|6)\\."',
    "BUILD_EXCLUSIVE_KERNEL_MIN=4.9",
    "BUILD_EXCLUSIVE_KERNEL_MAX=6.1.0-60",
    'BUILD_EXCLUSIVE_ARCH="x86"',
    'BUILD_EXCLUSIVE_CONFIG="CONFIG_ACPI !CONFIG_PREEMPT_RT"',
    "OBSOLETE_BY=6.2",
    "OBSOLETE_BY=5.10; BUILD_EXCLUSIVE_KERNEL_MAX=7",
    "if [ -e /nowhere ]; then BUILD_EXCLUSIVE_KERNEL=never; fi",
    "AUTOINSTALL=$(echo yes)",
    'BUILD_EXCLUSIVE_KERNEL="("',
)
OPTIONS: dict[str, Content] = {f"/boot/config-{NEW}": "CONFIG_X86_64=y\nCONFIG_ACPI=y\n"}


@pytest.mark.parametrize("line", list(UNWANTED))
def test_not_for_this_kernel(tmp_path: Path, line: str) -> None:
    brought = one(tmp_path, added(f"{CONF}{line}\n"), OPTIONS)
    assert (brought.state, UNWANTED[line] in brought.why) == ("unwanted", True)
    # What is there all the same is as good as any other.
    assert one(tmp_path, built(), installed()).state == "installed"


@pytest.mark.parametrize("line", WANTED)
def test_for_this_kernel(tmp_path: Path, line: str) -> None:
    assert one(tmp_path, added(f"{CONF}{line}\n"), OPTIONS).state == "absent"


@pytest.mark.parametrize("line", [line for line in UNWANTED if "CONFIG" in line or "ARCH" in line])
def test_without_the_kernels_configuration_nothing_is_unwanted(tmp_path: Path, line: str) -> None:
    assert one(tmp_path, added(f"{CONF}{line}\n")).state == "absent"


@pytest.mark.parametrize(
    "name",
    ["", "-0.12.7", f"-0.12.7-{NEW}", f"-0.12.7-{NEW}-x86_64", f"--{NEW}", f"--{NEW}-x86_64"],
)
def test_an_administrator_has_the_last_word(tmp_path: Path, name: str) -> None:
    files: dict[str, Content] = {
        f"/etc/dkms/v4l2loopback{name}.conf": "AUTOINSTALL=\n",
        "/etc/dkms/other.conf": "fi fi\n",
    }
    assert one(tmp_path, added(), OPTIONS, files).state == "unwanted"


def test_no_autoinstall(tmp_path: Path) -> None:
    brought = one(tmp_path, added(), {"/etc/dkms/no-autoinstall": ""})
    assert (brought.state, "/etc/dkms/no-autoinstall" in brought.why) == ("unwanted", True)
    assert brought.remedy.commands == (INSTALL,)  # by hand it can be built


def test_another_place_for_all_of_it(tmp_path: Path) -> None:
    moved = {path.replace("/var/lib/dkms", "/srv/dkms"): content for path, content in {**added(), **built()}.items()}
    files: dict[str, Content] = {"/etc/dkms/framework.conf.d/a.conf": "dkms_tree=/srv/dkms\n", **moved}
    assert one(tmp_path, files).state == "built"


# -- other kernels -------------------------------------------------------------------------------------------------


def test_kernels_that_lack_it(tmp_path: Path) -> None:
    others: dict[str, Content] = {
        f"/lib/modules/{OLD}/modules.dep": "kernel/a.ko:\n",
        "/lib/modules/6.1.0-48-amd64/modules.dep": "updates/dkms/v4l2loopback.ko.xz:\n",
        "/lib/modules/5.4.0-1-amd64/modules.dep": "",
        "/lib/modules/6.1.0-47-amd64/kernel/a.ko": "",
    }
    conf = f"{CONF}BUILD_EXCLUSIVE_KERNEL_MIN=6\n"
    here = world(tmp_path, added(conf), built(), installed(), others)
    assert dkms.elsewhere(here) == {PROVIDER: (OLD,)}
    (tmp_path / f"var/lib/dkms/v4l2loopback/kernel-{OLD}-x86_64").symlink_to("0.12.7/x")
    assert dkms.elsewhere(_again(tmp_path)) == {}


# -- bounds --------------------------------------------------------------------------------------------------------


def test_a_log_of_a_gigabyte(tmp_path: Path) -> None:
    path = tmp_path / "var/lib/dkms/v4l2loopback/0.12.7/build/make.log"
    here = world(tmp_path, added(), {f"{VERSION}/build/make.log": LOG})
    with open(path, "r+b") as file:
        file.truncate(1 << 30)
        file.seek(0, 2)
        file.write(b"\na.c:1:2: error: the last\n")
    (brought,) = dkms.look(here)
    assert (brought.state, brought.evidence) == ("failed", ("a.c:1:2: error: the last",))


PLACES = (
    "/usr/src/v4l2loopback-0.12.7/dkms.conf",
    *(f"{VERSION}/{name}" for name in ("build/make.log", NEW, f"{NEW}/x86_64", f"{NEW}/x86_64/module")),
)


@pytest.mark.parametrize("path", PLACES)
@pytest.mark.parametrize("kind", ["directory", "file", "fifo", "loop", "self"])
def test_whatever_stands_in_the_tree(tmp_path: Path, path: str, kind: str) -> None:
    tree(tmp_path, {**added(), **built(), f"{VERSION}/build/make.log": LOG})
    place = tmp_path / path.lstrip("/")
    if place.is_dir():
        shutil.rmtree(place)
    else:
        place.unlink()
    if kind == "directory":
        place.mkdir()
    elif kind == "file":
        place.write_bytes(b"\xff" * 10)
    elif kind == "fifo":
        os.mkfifo(place)
    else:
        place.symlink_to(place.name if kind == "loop" else "..")
    try:
        found = list(dkms.look(_again(tmp_path)))
    except Unreadable:
        return
    assert [brought.provider for brought in found] == [PROVIDER]


def test_names_that_nobody_gives(tmp_path: Path) -> None:
    strange = "a\x1b[31m\nb'$(x)"
    files: dict[str, Content] = {
        f"/usr/src/{strange}-1/dkms.conf": "PACKAGE_NAME=x\nDEST_MODULE_LOCATION=/extra\nAUTOINSTALL=yes\n",
        f"/var/lib/dkms/{strange}/1/source": Link(f"/usr/src/{strange}-1"),
        "/var/lib/dkms/mok.key": "",
        "/var/lib/dkms/dkms_dbversion": "",
    }
    (brought,) = look(tmp_path, files)
    assert brought.module == "x"


def test_many_packages_for_many_kernels(tmp_path: Path) -> None:
    releases = [f"6.1.0-{number}-amd64" for number in range(31, 51)]
    files: dict[str, Content] = {}
    for number in range(50):
        top = f"/var/lib/dkms/m{number}"
        files[f"/usr/src/m{number}-1/dkms.conf"] = CONF.replace("v4l2loopback", f"m{number}")
        files[f"{top}/1/source"] = Link(f"/usr/src/m{number}-1")
        for release in releases:
            files[f"{top}/1/{release}/x86_64/module/m{number}.ko"] = b"module"
            files[f"{top}/kernel-{release}-x86_64"] = Link(f"1/{release}/x86_64")
        files[f"/lib/modules/{NEW}/updates/dkms/m{number}.ko"] = b"module"
    here = world(tmp_path, files)
    assert {brought.state for brought in dkms.look(here)} == {"installed"}
    assert dkms.elsewhere(here) == {}
