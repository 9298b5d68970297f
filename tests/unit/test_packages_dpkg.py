from __future__ import annotations

import os
from pathlib import Path

import pytest

from safeupdate import packages
from safeupdate.errors import FormatError
from safeupdate.machine import Machine
from safeupdate.packages.dpkg import Dpkg
from safeupdate.packages.package import Package
from tests.unit.trees import RELEASE, Content, tree

DPKG = "/var/lib/dpkg"
NAME = f"linux-image-{RELEASE}"


def stanza(name: str, state: str = "install ok installed", version: str = "1", *more: str) -> str:
    lines = (f"Package: {name}", f"Status: {state}", "Architecture: amd64", f"Version: {version}", *more)
    return "".join(f"{line}\n" for line in lines) + "\n"


def database(root: Path, files: dict[str, Content]) -> Dpkg:
    found = Dpkg.find(tree(root, {f"{DPKG}/status": stanza(NAME) + stanza("vim"), **files}))
    assert found is not None
    return found


def test_the_journal_is_newer_than_the_status(tmp_path: Path) -> None:
    """What a killed dpkg leaves: the entry that it was about to write is no part of it."""
    dpkg = database(
        tmp_path,
        {
            f"{DPKG}/updates/0000": stanza(NAME, "install reinstreq half-configured"),
            f"{DPKG}/updates/0001": stanza(NAME, "install reinstreq half-installed"),
            f"{DPKG}/updates/0002": stanza("vim", "deinstall ok config-files"),
            f"{DPKG}/updates/tmp.i": "#pad\n" * 4,
        },
    )
    assert dpkg.records == (Package(NAME, "1", "amd64", "half-installed", reinstall=True),)
    assert packages.states([dpkg]) == (f"dpkg {NAME} 1 amd64 half-installed reinstall",)


class MergedMeanwhile(Machine):
    """dpkg puts its journal into `status` when that has just been read."""

    def read_if_there(self, path: str, *, limit: int = 1 << 20) -> bytes | None:
        data = super().read_if_there(path, limit=limit)
        journal = Path(self.root, f"{DPKG}/updates/0000"[1:])
        if path == f"{DPKG}/status" and journal.exists():
            journal.replace(Path(self.root, path[1:]))
        return data


def test_a_journal_that_is_merged_between_two_looks(tmp_path: Path) -> None:
    database(tmp_path, {f"{DPKG}/updates/0000": stanza(NAME, "install reinstreq half-installed")})
    (package,) = Dpkg(MergedMeanwhile.tree(str(tmp_path))).records
    assert package.state == "half-installed"


def test_a_package_may_be_there_for_two_architectures(tmp_path: Path) -> None:
    same = "Multi-Arch: same"
    foreign = stanza("libc6", "install ok installed", "1", same).replace("amd64", "i386")
    files: dict[str, Content] = {
        f"{DPKG}/status": stanza("libc6", "install ok installed", "1", same) + foreign,
        f"{DPKG}/updates/0001": stanza("libc6", "install ok unpacked", "2", same),
    }
    dpkg = database(tmp_path, files)
    assert [(one.version, one.architecture) for one in dpkg.records] == [("2", "amd64"), ("1", "i386")]


def test_a_trigger_that_no_dpkg_has_noted_yet(tmp_path: Path) -> None:
    dpkg = database(
        tmp_path,
        {
            f"{DPKG}/status": stanza("initramfs-tools"),
            f"{DPKG}/triggers/Unincorp": "update-initramfs -\n/etc/../passwd -\n",
            f"{DPKG}/triggers/update-initramfs": "initramfs-tools/noawait\n",
        },
    )
    assert dpkg.packages() == (
        Package("initramfs-tools", "1", "amd64", "triggers-pending", triggers=("update-initramfs",)),
    )


@pytest.mark.parametrize("status", ["", None])
def test_a_status_that_is_lost(tmp_path: Path, status: str | None) -> None:
    dpkg = database(tmp_path, {f"{DPKG}/status": status or "", f"{DPKG}/status-old": stanza(NAME)})
    if status is None:
        (tmp_path / "var/lib/dpkg/status").unlink()
    with pytest.raises(FormatError, match="status-old has what was there before"):
        dpkg.packages()


def test_bad_data_is_named_by_file_and_line(tmp_path: Path) -> None:
    dpkg = database(tmp_path, {f"{DPKG}/updates/0001": stanza("vim") + "\0\0\0\n"})
    with pytest.raises(FormatError) as caught:
        dpkg.packages()
    assert str(caught.value).startswith("/var/lib/dpkg/updates/0001: ")
    assert caught.value.place == "line 6"


@pytest.mark.parametrize(
    ("name", "listed", "brought"),
    [
        (NAME, None, True),
        (f"{NAME}-unsigned", [f"/boot/vmlinuz-{RELEASE}"], True),
        (f"linux-modules-extra-{RELEASE}", [f"/lib/modules/{RELEASE}/kernel/a.ko"], True),
        (f"linux-modules-nvidia-{RELEASE}", [f"/usr/lib/modules/{RELEASE}/kernel/nvidia/a.ko.zst"], True),
        ("raspberrypi-kernel", [f"/lib/modules/{RELEASE}/kernel"], True),
        ("linux-image-current-rockchip64", [f"/boot/vmlinuz-{RELEASE}"], True),
        ("linux-image-amd64", ["/usr/share/doc/linux-image-amd64"], False),
        (f"linux-headers-{RELEASE}", [f"/lib/modules/{RELEASE}", f"/lib/modules/{RELEASE}/build"], False),
        (f"linux-headers-{RELEASE}", None, False),
        (f"linux-image-{RELEASE}1", None, False),
        (f"linux-image-{RELEASE}-dbg", [f"/usr/lib/debug/lib/modules/{RELEASE}/kernel/a.ko"], False),
    ],
)
def test_which_packages_a_kernel_came_in(tmp_path: Path, name: str, listed: list[str] | None, brought: bool) -> None:
    files: dict[str, Content] = {f"{DPKG}/status": stanza(name)}
    if listed is not None:
        files[f"{DPKG}/info/{name}.list"] = "/.\n" + "".join(f"{path}\n" for path in listed)
    assert [one.name for one in database(tmp_path, files).of_kernel(RELEASE)] == [name] * brought


def test_a_list_that_has_the_architecture_in_its_name(tmp_path: Path) -> None:
    files: dict[str, Content] = {f"{DPKG}/info/{NAME}:amd64.list": f"/.\n/boot/vmlinuz-{RELEASE}\n"}
    assert [one.name for one in database(tmp_path, files).of_kernel(RELEASE)] == [NAME]
    files = {f"{DPKG}/info/{NAME}:amd64.list": "/.\n/usr/share/doc\n"}
    assert database(tmp_path, files).of_kernel(RELEASE) == ()


def test_files_with_their_sums(tmp_path: Path) -> None:
    module = f"lib/modules/{RELEASE}/kernel/a.ko"
    sums = f"{'a' * 32}  boot/vmlinuz-{RELEASE}\n{'b' * 32}  {module}\n{'c' * 32}  boot/config-{RELEASE}\nx\n"
    dpkg = database(
        tmp_path,
        {
            f"{DPKG}/info/{NAME}.list": f"/.\n/boot/vmlinuz-{RELEASE}\n",
            f"{DPKG}/info/{NAME}.md5sums": sums,
            f"{DPKG}/diversions": f"/{module}\n/{module}.theirs\nmine\n/boot/vmlinuz-{RELEASE}\n/boot/other\n{NAME}\n",
            f"/{module}": "1",
        },
    )
    (package,) = dpkg.of_kernel(RELEASE)
    image, diverted = dpkg.files(package, RELEASE)
    assert (image.path, image.digest) == (f"/boot/vmlinuz-{RELEASE}", "a" * 32)
    assert (diverted.path, diverted.algorithm) == (f"/{module}.theirs", "md5")
    place = tmp_path / module
    assert place.stat().st_mtime >= image.placed - 1
    os.utime(tmp_path / f"var/lib/dpkg/info/{NAME}.list", (1000, 1000))
    image, _ = dpkg.files(package, RELEASE)
    assert image.copied, "the list is of 1970, its inode of today"
    os.utime(place, (900, 900))
    assert not image.touched(place.stat())
    os.utime(place, (1100, 1100))
    assert image.touched(place.stat())


def test_a_machine_without(tmp_path: Path) -> None:
    assert packages.databases(tree(tmp_path, {"/usr/bin/pacman": ""})) == ()


def test_who_brought_a_module(tmp_path: Path) -> None:
    """As Ubuntu's linux-modules-extra and linux-modules-nvidia are: the latter's script links the module together."""
    extra, nvidia = f"linux-modules-extra-{RELEASE}", f"linux-modules-nvidia-535-{RELEASE}"
    directory = f"/lib/modules/{RELEASE}/kernel"
    dpkg = database(
        tmp_path,
        {
            f"{DPKG}/status": stanza(extra) + stanza(nvidia) + stanza("v4l2loopback-dkms") + stanza("vim"),
            f"{DPKG}/info/{extra}.list": f"/lib/modules/{RELEASE}\n{directory}\n{directory}/snd.ko.zst\n",
            f"{DPKG}/info/{nvidia}.list": f"{directory}\n{directory}/nvidia-535\n{directory}/nvidia-535/bits\n",
        },
    )
    for place in ("/lib/modules", "/usr/lib/modules"):
        assert dpkg.owner(f"{place}/{RELEASE}/kernel/snd.ko.zst", RELEASE) == Package(extra, "1", "amd64")
        assert dpkg.owner(f"{place}/{RELEASE}/kernel/nvidia-535/nvidia.ko", RELEASE) == Package(nvidia, "1", "amd64")
        assert dpkg.owner(f"{place}/{RELEASE}/kernel/other.ko", RELEASE) is None, "two have its directory"
        assert dpkg.owner(f"{place}/{RELEASE}/misc/vboxdrv.ko", RELEASE) is None
    assert dpkg.named("vim") == Package("vim", "1", "amd64")
    assert dpkg.named(f"{extra}-more") is None
