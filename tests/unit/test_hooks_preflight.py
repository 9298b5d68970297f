"""What is told before a transaction: only what is certain, and how it is said before and after."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from safeupdate.gate.state import Gate, Judged
from safeupdate.hooks import idle, preflight, screen
from safeupdate.hooks.preflight import Concern
from safeupdate.hooks.transaction import Change, Source, Transaction
from safeupdate.machine import Machine, Space
from safeupdate.report import Remedy
from tests.unit.gates import report
from tests.unit.trees import Content, Link, tree, x86_image

OLD, RUNNING, NEW = "6.1.0-48-amd64", "6.1.0-49-amd64", "6.1.0-50-amd64"
MIB = 1 << 20


def kernel(release: str, *, mib: int = 3) -> dict[str, Content]:
    """A kernel with its initramfs, both together a little more than so many MiB."""
    return {
        f"/boot/vmlinuz-{release}": x86_image(release),
        f"/boot/initrd.img-{release}": bytes(mib * MIB),
        f"/lib/modules/{release}/modules.dep": "",
    }


BASE: dict[str, Content] = {
    "/proc/sys/kernel/osrelease": RUNNING,
    "/usr/bin/apt-get": "",
    "/var/lib/dpkg/status": "",
    **kernel(RUNNING),
}


def image(release: str, *, old: str | None = None, new: str | None = "1") -> Change:
    return Change(f"linux-image-{release}", "amd64", old, new)


def machine(root: Path, *layers: dict[str, Content], free: int = 1 << 40) -> Machine:
    made = tree(root, {path: content for layer in (BASE, *layers) for path, content in layer.items()})
    space = Space(device=7, total=1 << 41, free=free, available=free, inodes=None, free_inodes=None, read_only=False)
    return Machine.tree(made.root, spaces={"/boot": space})


def gate(**judged: str) -> Gate:
    return Gate(
        position="open",
        mode="armed",
        verdict="safe",
        cause="safe",
        unattended=True,
        people=True,
        why="",
        since="",
        boot_id=None,
        confirmed=True,
        judged=Judged("safe", "", **judged),  # type: ignore[arg-type]
    )


def look(
    made: Machine, *changes: Change, how: Gate | None = None, last: bool = False, source: Source | None = "offered"
) -> list[Concern]:
    transaction = Transaction(changes, removes_last=last)
    return list(preflight.look(made, transaction, how, lambda _: source))


def test_a_kernel_that_fits_is_no_concern(tmp_path: Path) -> None:
    assert look(machine(tmp_path, free=4 * MIB), image(NEW)) == []


def test_a_kernel_for_which_there_is_no_room(tmp_path: Path) -> None:
    (one,) = look(machine(tmp_path, kernel(OLD, mib=5), free=2 * MIB), image(NEW))
    assert one.problem == (
        f"The kernel {NEW} will not fit: the file system of /boot has 2 MiB left, and at least 4 MiB are needed there."
    )
    assert one.remedy.commands[0] == ("df", "-h", "/boot")


def test_two_kernels_need_twice_the_room(tmp_path: Path) -> None:
    made = machine(tmp_path, free=5 * MIB)
    assert look(made, image(NEW)) == []
    assert "at least 7 MiB" in look(made, image(NEW), image("6.1.0-51-amd64"))[0].problem


def test_room_that_the_transaction_itself_makes(tmp_path: Path) -> None:
    """apt may remove the old kernel first; rpm never does."""
    made = machine(tmp_path, kernel(OLD), free=MIB)
    changes = image(NEW), image(OLD, old="1", new=None)
    assert look(made, *changes) == []
    assert len(look(made, *changes, last=True)) == 1


def test_a_kernel_without_an_initramfs_tells_nothing_of_the_room(tmp_path: Path) -> None:
    made = machine(tmp_path, {f"/boot/vmlinuz-{OLD}": x86_image(OLD)}, free=MIB)
    assert "at least 4 MiB" in look(made, image(NEW))[0].problem


def test_the_same_kernel_built_anew_is_not_measured(tmp_path: Path) -> None:
    assert look(machine(tmp_path, free=MIB), image(RUNNING, old="1", new="2")) == []


def test_the_fallback_goes(tmp_path: Path) -> None:
    made = machine(tmp_path, kernel(OLD))
    goes = image(OLD, old="1", new=None)
    proven = gate(kernel=RUNNING, fallback=OLD, quality="proven")
    (one,) = look(made, goes, how=proven)
    assert OLD in one.problem
    assert look(made, goes, how=gate(kernel=RUNNING, fallback=OLD, quality="unproven")) == []
    assert look(made, goes, how=gate(kernel=RUNNING, fallback=RUNNING, quality="proven")) == []
    assert look(made, goes) == []


def test_the_running_kernel_is_a_fallback_once_another_comes(tmp_path: Path) -> None:
    """As with dnf's installonly_limit, which drops the oldest."""
    made = machine(tmp_path, kernel(OLD))
    proven = gate(kernel=RUNNING, fallback=OLD, quality="proven")
    changes = image(NEW), image(OLD, old="1", new=None)
    assert look(made, *changes, how=proven, last=True) == []
    doubtful = replace(proven, confirmed=False)
    assert len(look(made, *changes, how=doubtful, last=True)) == 1, "nobody knows whether it came up as it should"


DKMS: dict[str, Content] = {
    "/usr/src/v4l2loopback-0.12.7/dkms.conf": (
        'PACKAGE_NAME="v4l2loopback"\nPACKAGE_VERSION="0.12.7"\nBUILT_MODULE_NAME[0]="v4l2loopback"\n'
        'DEST_MODULE_LOCATION[0]="/extra"\nAUTOINSTALL="yes"\n'
    ),
    "/var/lib/dkms/v4l2loopback/0.12.7/source": Link("/usr/src/v4l2loopback-0.12.7"),
    f"/var/lib/dkms/v4l2loopback/kernel-{RUNNING}-x86_64": Link(f"0.12.7/{RUNNING}/x86_64"),
    f"/var/lib/dkms/v4l2loopback/0.12.7/{RUNNING}/x86_64/module/v4l2loopback.ko": b"module",
}


def test_a_kernel_without_the_headers_that_dkms_needs(tmp_path: Path) -> None:
    made = machine(tmp_path, DKMS)
    (one,) = look(made, image(NEW))
    assert one.problem == (
        f"The kernel {NEW} comes without its headers (linux-headers-{NEW}), and dkms needs them to build v4l2loopback, "
        "which the running kernel has."
    )
    assert one.remedy.commands == (("apt-get", "install", f"linux-headers-{NEW}"),)


def test_headers_that_come_are_there_or_come_later(tmp_path: Path) -> None:
    made = machine(tmp_path, DKMS)
    headers = Change(f"linux-headers-{NEW}", "amd64", None, "1")
    assert look(made, image(NEW), headers) == []
    assert look(made, image(NEW), source="later") == []
    assert look(made, image(NEW), source=None) == [], "what cannot be told is not told"
    (one,) = look(made, image(NEW), source="nowhere")
    assert one.remedy == Remedy("No repository has these headers: leave the kernel out until one does.")
    unpacked = f"Package: linux-headers-{NEW}\nStatus: install ok installed\nVersion: 1\nArchitecture: amd64\n"
    assert look(machine(tmp_path / "again", DKMS, {"/var/lib/dpkg/status": unpacked}), image(NEW)) == []


def test_headers_that_no_repository_of_dnfs_has(tmp_path: Path) -> None:
    """dnf brings in one transaction all that it will bring: what it does not tell of does not come later either."""
    release = "6.17.8-300.fc43.x86_64"
    fedora: dict[str, Content] = {
        "/proc/sys/kernel/osrelease": RUNNING,
        "/usr/bin/dnf": "",
        **kernel(RUNNING),
        **DKMS,
    }
    made = Machine.tree(tree(tmp_path, fedora).root)
    comes = Change("kernel-core", "x86_64", None, "6.17.8-300.fc43")
    transaction = Transaction((comes,), removes_last=True)
    (one,) = preflight.look(made, transaction, None, lambda _: None)
    assert one.remedy.commands == (("dnf", "install", f"kernel-devel-{release}"),)
    told = replace(transaction, sources=((f"kernel-devel-{release}", "nowhere"),))
    (one,) = preflight.look(made, told, None, lambda _: "offered")
    assert one.remedy.commands == (("dnf", "upgrade", "--exclude=kernel*"),)
    headers = Change("kernel-devel", "x86_64", None, "6.17.8-300.fc43")
    assert list(preflight.look(made, replace(told, changes=(comes, headers)), None, lambda _: None)) == []


def test_modules_that_are_not_for_the_new_kernel_need_no_headers(tmp_path: Path) -> None:
    conf = str(DKMS["/usr/src/v4l2loopback-0.12.7/dkms.conf"]) + 'BUILD_EXCLUSIVE_KERNEL_MAX="6.1.0-49"\n'
    assert look(machine(tmp_path, DKMS, {"/usr/src/v4l2loopback-0.12.7/dkms.conf": conf}), image(NEW)) == []


def test_without_dkms_no_headers_are_needed(tmp_path: Path) -> None:
    assert look(machine(tmp_path), image(NEW)) == []


def test_what_an_earlier_installation_left(tmp_path: Path) -> None:
    status = "Package: initramfs-tools\nStatus: install ok half-configured\nVersion: 1\nArchitecture: all\n"
    made = machine(tmp_path, {"/var/lib/dpkg/status": status})
    (one,) = look(made, image(NEW))
    assert one.problem.startswith("The package initramfs-tools did not come to the end")
    mended = Transaction((image(NEW),), frozenset({"initramfs-tools"}))
    assert list(preflight.look(made, mended, None, lambda _: None)) == [], "the transaction brings it to its end"


def test_a_refusal_says_that_nothing_was_changed_and_what_lets_it_through() -> None:
    concern = Concern("The kernel 1 will not fit.", "It is cut.", Remedy("Make room.", (("df", "-h", "/a b"),)))
    lines = list(screen.before([concern], refused=True))
    assert lines[:4] == ["safeupdate: The kernel 1 will not fit.", "  It is cut.", "  Make room.", "      df -h '/a b'"]
    assert "nothing was changed" in lines[4] and 'preflight = "warn"' in " ".join(lines[4:])
    assert list(screen.before([], refused=False)) == []


def test_one_screen_afterwards(tmp_path: Path) -> None:
    made = machine(tmp_path)
    safe = list(screen.after(report(made, "safe"), gate(kernel=NEW)))
    assert safe[0].startswith("safeupdate: SAFE: the next boot starts") and len(safe) <= 2
    unsafe = list(screen.after(report(made, "unsafe"), gate(kernel=NEW)))
    assert unsafe[0].startswith("safeupdate: UNSAFE: do not reboot") and len(unsafe) <= 24
    assert all(len(line) <= 80 for line in (*safe, *unsafe))
    coloured = list(screen.after(report(made, "unsafe"), gate(kernel=NEW), colour=True))
    assert "\x1b[1;31mUNSAFE\x1b[0m" in coloured[0] and coloured[1:] == unsafe[1:]


@pytest.mark.parametrize("path", ["var/lib/dpkg/lock", "run/safeupdate/dnf"])
def test_who_waits_sees_that_nobody_is_at_work(tmp_path: Path, path: str) -> None:
    made = machine(tmp_path)
    assert idle.wait(made, look=0.0, longest=5.0)
    lock = Path(made.root) / path
    lock.parent.mkdir(parents=True, exist_ok=True)
    lock.touch()
    status = lock.stat()
    held = f"1: POSIX  ADVISORY  WRITE 4711 {status.st_dev >> 8:02x}:{status.st_dev & 255:02x}:{status.st_ino} 0 EOF\n"
    busy = tree(tmp_path, {"/proc/locks": held})
    assert not idle.wait(busy, look=0.01, longest=0.1)


ARCHIVE = """\
Package: linux-headers-amd64
Version: {version}
Architecture: amd64
Depends: linux-headers-{release}
Filename: ./h.deb
Size: 1
Description: x

Package: linux-headers-{release}
Version: {version}
Architecture: amd64
Filename: ./i.deb
Size: 1
Description: x
"""

_ASK = "import sys; from safeupdate.hooks import apt; print([apt.source(name, sys.argv[1]) for name in sys.argv[2:]])"


def test_where_apt_knows_a_package(tmp_path: Path) -> None:
    """By python-apt, which only the system's Python has."""
    python = "/usr/bin/python3"
    if shutil.which("apt-get") is None or subprocess.run([python, "-c", "import apt_pkg"], check=False).returncode:
        pytest.skip("python-apt is not here")
    installed = "Package: linux-headers-amd64\nStatus: install ok installed\nVersion: 1\nArchitecture: amd64\n"
    for directory in ("etc/apt", "var/lib/apt/lists/partial", "var/cache/apt/archives/partial", "repository"):
        (tmp_path / directory).mkdir(parents=True)
    tree(
        tmp_path,
        {
            "/var/lib/dpkg/status": f"{installed}Maintainer: x\nDescription: x\n",
            "/repository/Packages": ARCHIVE.format(version=2, release=NEW),
            "/etc/apt/sources.list": f"deb [trusted=yes] file:{tmp_path}/repository ./\n",
        },
    )
    options = [f"-oDir={tmp_path}", f"-oDir::State::status={tmp_path}/var/lib/dpkg/status", "-oAPT::Architecture=amd64"]
    subprocess.run(["apt-get", *options, "update"], check=True, capture_output=True, timeout=60)
    command = [python, "-c", _ASK, str(tmp_path), f"linux-headers-{NEW}", "linux-headers-9", "linux-headers-amd64"]
    here = Path(__file__).parents[2]
    done = subprocess.run(command, cwd=here, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == "['later', 'nowhere', 'offered']\n", done.stderr
