"""akmods' layout, made from its script, units and packaging (akmods 0.5.6 to 0.6.0), kmodtool's `akmod_install` and
RPM Fusion's nvidia-kmod.spec: no machine with akmods could be had."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import pytest

from safeupdate.builders import Brought, State, World, akmods
from safeupdate.builders.akmods import Akmod
from safeupdate.kernels import Kernel
from safeupdate.machine import Machine
from safeupdate.module_interface import Interface
from safeupdate.module_tree import ModuleTree
from tests.unit.trees import Content, Link, tree

OLD, NEW = "6.6.6-200.fc39.x86_64", "6.6.7-200.fc39.x86_64"
CACHE = "/var/cache/akmods/nvidia"
VERSION = "545.29.06-1"
RPM = f"{CACHE}/kmod-nvidia-{NEW}-545.29.06-1.fc39.x86_64.rpm"
FAILED = f"{CACHE}/{VERSION}-for-{NEW}.failed.log"
GOOD = f"{CACHE}/{VERSION}-for-{NEW}.log"

AKMOD: dict[str, Content] = {
    "/usr/src/akmods/nvidia-kmod-545.29.06-1.fc39.src.rpm": b"\xed\xab\xee\xdb",
    "/usr/src/akmods/nvidia-kmod.latest": Link("nvidia-kmod-545.29.06-1.fc39.src.rpm"),
    f"/lib/modules/{OLD}/extra/nvidia/nvidia.ko.xz": b"",
    f"/lib/modules/{OLD}/extra/nvidia/nvidia-drm.ko.xz": b"",
    f"/lib/modules/{NEW}/modules.dep": b"",
}
UNIT = "/usr/lib/systemd/system/akmods.service"
SERVICE: dict[str, Content] = {
    UNIT: "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/usr/sbin/akmods --from-init\n",
    "/etc/systemd/system/multi-user.target.wants/akmods.service": Link(UNIT),
}
DEVEL: dict[str, Content] = {f"/usr/src/kernels/{NEW}/Makefile": "VERSION = 6\n"}
LOG = f"""\
2023/12/14 10:00:00 akmods: Building RPM using the command '/usr/sbin/akmodsbuild --kernels {NEW} /usr/src/akmods/x'
2023/12/14 10:02:00 akmodsbuild: make[2]: Entering directory '/usr/src/kernels/{NEW}'
2023/12/14 10:02:00 akmodsbuild: nv-mmap.c:321:9: error: assignment of read-only member 'vm_flags'
2023/12/14 10:02:00 akmodsbuild: make[3]: *** [scripts/Makefile.build:243: nv-mmap.o] Error 1
2023/12/14 10:02:01 akmods: Building rpms failed; see {FAILED} for details
"""


def look(root: Path, *layers: dict[str, Content], release: str = NEW) -> Akmod:
    files = {path: content for layer in (AKMOD, *layers) for path, content in layer.items()}
    (one,) = akmods.akmods(tree(root, files), release)
    return one


def test_installed_for_one_kernel_and_waiting_for_the_next(tmp_path: Path) -> None:
    assert look(tmp_path, SERVICE, DEVEL, release=OLD).state == "installed"
    (new,) = akmods.akmods(Machine.tree(str(tmp_path)), NEW)
    assert new == Akmod(
        name="nvidia",
        version=VERSION,
        source="/usr/src/akmods/nvidia-kmod-545.29.06-1.fc39.src.rpm",
        state="waiting",
        modules=("nvidia", "nvidia_drm"),
        package=f"kmod-nvidia-{NEW}",
        built=None,
        starts_at_boot=True,
        can_build=True,
        log=None,
        told=None,
    )
    assert new.comes_at_boot


@pytest.mark.parametrize(
    ("files", "state", "at_boot"),
    [
        ({**SERVICE}, "absent", False),
        ({**DEVEL}, "absent", False),
        ({**DEVEL, UNIT: "", "/etc/systemd/system/akmods.service": Link("/dev/null"), **SERVICE}, "absent", False),
        ({**DEVEL, **SERVICE, "/run/ostree-booted": ""}, "absent", False),
        ({f"/lib/modules/{NEW}/build": Link(f"/usr/src/kernels/{NEW}"), **DEVEL, **SERVICE}, "waiting", True),
        ({**DEVEL, **SERVICE, FAILED: LOG}, "failed", False),
        ({**DEVEL, **SERVICE, FAILED.replace(VERSION, "535.1-1"): LOG}, "waiting", True),
        ({**DEVEL, **SERVICE, RPM: b"", FAILED: LOG}, "built", False),
        ({**DEVEL, **SERVICE, RPM: b""}, "built", True),
        ({**DEVEL, **SERVICE, RPM.replace("06-1", "05-1"): b""}, "waiting", True),
        ({**DEVEL, **SERVICE, FAILED: LOG, f"/lib/modules/{NEW}/extra/nvidia/nvidia.ko.xz": b""}, "installed", False),
        ({f"/lib/modules/{NEW}/extra/nvidia/modules.txt": b""}, "absent", False),
    ],
)
def test_states(tmp_path: Path, files: dict[str, Content], state: State, at_boot: bool) -> None:
    one = look(tmp_path, files)
    assert (one.state, one.comes_at_boot) == (state, at_boot)


def told(root: Path, *layers: dict[str, Content], live: bool = False) -> dict[str, Brought]:
    files = {path: content for layer in (AKMOD, *layers) for path, content in layer.items()}
    machine = tree(root, files)
    machine = Machine(machine.root, live=True) if live else machine
    found = list(akmods.look(World(machine, (), (own := ModuleTree(Kernel(NEW, "", machine))), Interface(own))))
    assert {one.provider for one in found} == {"akmod-nvidia"}
    return {one.module: one for one in found}


BUILD = ("akmods", "--force", "--kernels", NEW)


@pytest.mark.parametrize(
    ("files", "state", "fault", "why", "commands"),
    [
        ({**SERVICE, **DEVEL}, "waiting", "", "akmods will build it when the machine starts.", (BUILD,)),
        (
            SERVICE,
            "absent",
            "headers",
            f"They are in the package kernel-devel-{NEW}.",
            (("dnf", "install", f"kernel-devel-{NEW}"), BUILD),
        ),
        (
            DEVEL,
            "absent",
            "",
            "akmods does not start with the machine.",
            (BUILD, ("systemctl", "enable", "akmods.service")),
        ),
        (
            {**SERVICE, **DEVEL, FAILED: LOG},
            "failed",
            "build",
            f"The log {FAILED} says: nv-mmap.c:321:9: error: assignment of read-only member 'vm_flags'",
            (("dnf", "upgrade", "akmod-nvidia"), BUILD),
        ),
        (
            {**SERVICE, **DEVEL, FAILED: "akmods: Could not install newly built RPMs.\n", RPM: b""},
            "built",
            "",
            f"akmods could not install {RPM} ({FAILED}).",
            (("dnf", "install", RPM),),
        ),
        ({**SERVICE, **DEVEL, RPM: b""}, "waiting", "", "akmods will build it when the machine starts.", (BUILD,)),
    ],
)
def test_what_a_person_is_told(
    tmp_path: Path,
    files: dict[str, Content],
    state: State,
    fault: str,
    why: str,
    commands: tuple[tuple[str, ...], ...],
) -> None:
    found = told(tmp_path, files)
    assert set(found) == {"nvidia", "nvidia_drm"}
    one = found["nvidia"]
    assert (one.state, one.fault, one.why, one.remedy.commands, one.path) == (state, fault, why, commands, None)
    assert bool(one.evidence) == (FAILED in files)


def test_logs_that_a_capture_left_out(tmp_path: Path) -> None:
    look(tmp_path, SERVICE, DEVEL, {FAILED: LOG, f"{CACHE}/.last.log": LOG})
    machine = Machine.tree(str(tmp_path), left_out=frozenset({FAILED, f"{CACHE}/.last.log"}))
    own = ModuleTree(Kernel(NEW, "", machine))
    one = next(akmods.look(World(machine, (), own, Interface(own))))
    assert (one.state, one.fault, one.why, one.evidence) == ("failed", "build", f"The log {FAILED} tells why.", ())
    (tmp_path / FAILED[1:]).unlink()
    assert akmods.akmods(machine, NEW)[0].state == "waiting"


def test_where_it_lies(tmp_path: Path) -> None:
    found = told(tmp_path, {f"/lib/modules/{NEW}/{place}/nvidia.ko.xz": b"" for place in ("extra/nvidia", "kernel/a")})
    assert {(one.module, one.state, one.path) for one in found.values()} == {
        ("nvidia", "installed", "extra/nvidia/nvidia.ko.xz")
    }


@pytest.mark.parametrize(("service", "state"), [(SERVICE, "building"), ({}, "absent")])
def test_a_build_under_way(tmp_path: Path, service: dict[str, Content], state: State) -> None:
    """Cut short by a reboot, it is built at the next boot, or by nobody."""
    group: dict[str, Content] = {"/sys/fs/cgroup/system.slice/akmods.service/cgroup.procs": "4711\n"}
    assert told(tmp_path, service, DEVEL, group, live=True)["nvidia"].state == state


@pytest.mark.parametrize(
    ("release", "package"),
    [
        ("6.6.7-200.fc39.x86_64+debug", "kernel-debug-devel-6.6.7-200.fc39.x86_64"),
        ("5.15.0-208.159.3.el9uek.x86_64", "kernel-uek-devel-5.15.0-208.159.3.el9uek.x86_64"),
    ],
)
def test_the_headers_of_other_flavours(tmp_path: Path, release: str, package: str) -> None:
    machine = tree(tmp_path, AKMOD)
    one = next(akmods.look(World(machine, (), (own := ModuleTree(Kernel(release, "", machine))), Interface(own))))
    assert one.remedy.commands[0] == ("dnf", "install", package)


def test_what_a_failed_build_says(tmp_path: Path) -> None:
    one = look(tmp_path, SERVICE, DEVEL, {FAILED: "x" * (1 << 20) + "\n" + LOG})
    assert one.log == FAILED
    assert one.told is not None
    assert (one.told.cause, one.told.lines) == (
        "build",
        (
            "nv-mmap.c:321:9: error: assignment of read-only member 'vm_flags'",
            "make[3]: *** [scripts/Makefile.build:243: nv-mmap.o] Error 1",
        ),
    )


def test_a_try_that_came_after_the_one_that_failed(tmp_path: Path) -> None:
    """A log of success does not take the other one away; then somebody removed the package that was made."""
    look(tmp_path, SERVICE, DEVEL, {FAILED: LOG, GOOD: "akmods: Successful.\n"})
    os.utime(tmp_path / FAILED[1:], (1000, 1000))
    (one,) = akmods.akmods(Machine.tree(str(tmp_path)), NEW)
    assert (one.state, one.log) == ("waiting", None)


def test_a_build_that_was_cut_short(tmp_path: Path) -> None:
    last = f"{CACHE}/.last.log"
    one = look(tmp_path, SERVICE, DEVEL, {last: "\n".join(LOG.splitlines()[:2])})
    assert (one.state, one.log, one.comes_at_boot) == ("waiting", last, True)
    (tmp_path / last[1:]).write_text(LOG.replace(NEW, OLD))
    assert akmods.akmods(Machine.tree(str(tmp_path)), NEW)[0].log is None


def test_a_ready_made_kmod_that_weak_modules_linked(tmp_path: Path) -> None:
    link = f"/lib/modules/{NEW}/weak-updates/nvidia/nvidia.ko.xz"
    assert look(tmp_path, {link: Link(f"/lib/modules/{OLD}/extra/nvidia/nvidia.ko.xz")}).state == "installed"
    (tmp_path / f"lib/modules/{OLD}/extra/nvidia/nvidia.ko.xz").unlink()
    assert akmods.akmods(Machine.tree(str(tmp_path)), NEW)[0].state == "absent"


def test_sources_that_are_gone(tmp_path: Path) -> None:
    machine = tree(tmp_path, {"/usr/src/akmods/VirtualBox-kmod.latest": Link("VirtualBox-kmod-7.0.12-2.fc39.src.rpm")})
    (one,) = akmods.akmods(machine, NEW)
    assert (one.source, one.version, one.modules) == (None, "7.0.12-2", ("VirtualBox",))
    loop = tree(tmp_path / "loop", {"/usr/src/akmods/wl-kmod.latest": Link("wl-kmod.latest")})
    assert akmods.akmods(loop, NEW)[0].version == ""


def test_without_akmods(tmp_path: Path) -> None:
    assert akmods.akmods(tree(tmp_path), NEW) == ()


@pytest.mark.parametrize(
    "group",
    [
        "/sys/fs/cgroup/system.slice/akmods.service",
        f"/sys/fs/cgroup/system.slice/system-akmods.slice/akmods@{NEW}.service",
        f"/sys/fs/cgroup/systemd/system.slice/system-akmods.slice/akmods@{NEW}.service",
    ],
)
def test_at_work_in_its_control_group(tmp_path: Path, group: str) -> None:
    tree(tmp_path, {**AKMOD, f"{group}/cgroup.procs": "4711\n"})
    live = Machine(str(tmp_path), live=True)
    assert akmods.building(live)
    assert not akmods.building(Machine.tree(str(tmp_path))), "a tree is at work on nothing"
    assert akmods.akmods(live, NEW)[0].state == "building"


def test_control_groups_that_cannot_be_read(tmp_path: Path) -> None:
    """A directory in a file's place, as a stand-in for what the kernel refuses to tell (cgroup.procs, EOPNOTSUPP)."""
    tree(tmp_path, {"/sys/fs/cgroup/system.slice/akmods.service/cgroup.procs": None})
    assert not akmods.building(Machine(str(tmp_path), live=True))


def test_waiting_for_its_end(tmp_path: Path) -> None:
    processes = tmp_path / "sys/fs/cgroup/system.slice/akmods.service/cgroup.procs"
    tree(tmp_path, {str(processes.relative_to(tmp_path)): "4711\n"})
    live = Machine(str(tmp_path), live=True)
    said: list[str] = []

    def progress(text: str) -> None:
        said.append(text)
        processes.write_text("")

    assert not akmods.wait(live, seconds=0, progress=progress)
    assert akmods.wait(live, seconds=60, progress=progress)
    assert akmods.wait(live, seconds=0, progress=progress)
    assert said == ["akmods is building modules: waiting for it to end"]


@pytest.mark.skipif(not os.path.exists("/proc/locks"), reason="no /proc/locks here")
def test_at_work_by_its_lock(tmp_path: Path) -> None:
    """flock(2) on the real file, and what the kernel tells of it."""
    tree(tmp_path, {"/run/akmods/akmods.lock": b"", "/proc": None})
    live = Machine(str(tmp_path), live=True)
    with open(tmp_path / "run/akmods/akmods.lock", "rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        (tmp_path / "proc/locks").write_bytes(Path("/proc/locks").read_bytes())
        assert akmods.building(live)
    (tmp_path / "proc/locks").write_bytes(Path("/proc/locks").read_bytes())
    assert not akmods.building(live)
