from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from safeupdate.boot.plan import BootEntry, BootFile
from safeupdate.errors import Missing, Unreadable
from tests.unit.elves import program
from tests.unit.initrd import archive
from tests.unit.trees import IMAGE, INITRD, RELEASE, Content, Link, case, tree, x86_image

UCODE = "/boot/ucode.img"


def test_an_image_is_read_once(tmp_path: Path) -> None:
    machine = tree(tmp_path, {IMAGE: x86_image(), INITRD: archive({"init": b"x"}), "/initrd.img": Link(INITRD)})
    one = case(machine)
    try:
        assert one.shelf.prepare(INITRD) is one.shelf.prepare("/initrd.img")
        assert one.shelf.image(INITRD) is one.shelf.image("/boot/../initrd.img")
    finally:
        one.shelf.close()


def test_images_that_are_not_there_or_no_files(tmp_path: Path) -> None:
    machine = tree(tmp_path, {IMAGE: x86_image(), "/boot/directory": None})
    one = case(machine)
    try:
        with pytest.raises(Missing):
            one.shelf.image(INITRD)
        with pytest.raises(Unreadable):
            one.shelf.image("/boot/directory")
        assert one.images == ()
        assert one.index is None
        with pytest.raises(Unreadable):
            _ = replace(one, entry=_entry("/boot/directory")).images
    finally:
        one.shelf.close()


def _entry(*images: str, embedded: bool = False) -> BootEntry:
    files = tuple(BootFile(path, path) for path in images)
    return BootEntry("grub", "x", "X", "grub.cfg", BootFile(IMAGE, IMAGE), files, embedded=embedded)


def test_later_images_lie_over_earlier_ones(tmp_path: Path) -> None:
    files = {IMAGE: x86_image(), UCODE: archive({"a": b"#!/bin/first\n"}), INITRD: archive({"a": b"#!/bin/second\n"})}
    one = case(tree(tmp_path, dict(files)), entry=_entry(UCODE, "/boot/gone", INITRD))
    try:
        assert [path for path, _ in one.images] == [UCODE, INITRD]
        assert one.index is not None
        assert one.index.script("/a") == "/bin/second"
    finally:
        one.shelf.close()


def test_where_the_images_are(tmp_path: Path) -> None:
    one = case(tree(tmp_path, {IMAGE: x86_image()}), entry=_entry(INITRD, embedded=True))
    assert one.image_places == ((IMAGE, ".initrd"), (INITRD, None))
    absent = BootFile("/x", None, absent=True)
    assert replace(one, entry=replace(_entry(), initramfs=(absent,))).image_places == ()
    assert replace(one, entry=None).image_places == ()


def test_the_release(tmp_path: Path) -> None:
    one = case(tree(tmp_path, {IMAGE: x86_image()}))
    assert one.release == RELEASE
    assert replace(one, kernel=None).release is None
    assert replace(one, kernel=None, entry=replace(_entry(), release="5.4")).release == "5.4"
    assert replace(one, kernel=None, entry=None).release is None


def test_the_architecture_of_the_programs(tmp_path: Path) -> None:
    files: dict[str, Content] = {
        IMAGE: x86_image(),
        "/sbin": Link("usr/sbin"),
        "/usr/sbin/init": Link("../lib/systemd/systemd"),
    }
    assert case(tree(tmp_path / "a", {**files, "/usr/lib/systemd/systemd": program()})).architecture == "x86_64"
    script: dict[str, Content] = {**files, "/usr/lib/systemd/systemd": "#!/bin/sh\n", "/bin/sh": program(machine=183)}
    assert case(tree(tmp_path / "b", script)).architecture == "aarch64"
    assert case(tree(tmp_path / "c", {IMAGE: x86_image(), "/sbin/init": None})).architecture is None


def test_modules_in_use(tmp_path: Path) -> None:
    machine = tree(
        tmp_path,
        {
            "/proc/modules": "ext4 983040 1 - Live 0x0000000000000000\nvirtio_net 86016 0 - Live 0x0 (E)\n\n",
            "/etc/modules": "# comment\n; another\n\nloop max_loop=8\n",
            "/etc/modules-load.d/a.conf": "dm-mod\n",
            "/etc/modules-load.d/b.txt": "nothing\n",
            "/usr/lib/modules-load.d/c.conf": "fuse",
        },
    )
    assert case(machine).modules_in_use == {"ext4", "virtio_net", "loop", "dm_mod", "fuse"}
    assert case(tree(tmp_path / "none", {"/x": ""})).modules_in_use == frozenset()
