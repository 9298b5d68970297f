"""The commands that mend, where they depend on the machine."""

from __future__ import annotations

from pathlib import Path

from safeupdate.remedies import make_initramfs
from tests.unit.trees import tree


def test_the_file_system_that_the_image_is_on_may_be_the_full_one(tmp_path: Path) -> None:
    image = "/efi/debian/6.1.0/initrd.img-6.1.0"
    machine = tree(tmp_path, {"/usr/sbin/update-initramfs": "", "/boot/initrd.img-6.1.0": "", image: ""})
    update = ("update-initramfs", "-u", "-k", "6.1.0")
    assert make_initramfs(machine, "6.1.0", image).commands == (("df", "-h", "/boot", "/efi/debian/6.1.0"), update)
    for other in ("/boot/initrd.img-6.1.0", "/gone/initrd.img", None):
        assert make_initramfs(machine, "6.1.0", other).commands[0] == ("df", "-h", "/boot")
