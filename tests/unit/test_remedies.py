"""The commands that mend, where they depend on the machine."""

from __future__ import annotations

from pathlib import Path

from safeupdate.machine import Machine
from safeupdate.remedies import add_kernels, make_initramfs, reinstall_kernel
from tests.unit.trees import tree


def test_the_file_system_that_the_image_is_on_may_be_the_full_one(tmp_path: Path) -> None:
    image = "/efi/debian/6.1.0/initrd.img-6.1.0"
    machine = tree(tmp_path, {"/usr/sbin/update-initramfs": "", "/boot/initrd.img-6.1.0": "", image: ""})
    update = ("update-initramfs", "-u", "-k", "6.1.0")
    assert make_initramfs(machine, "6.1.0", image).commands == (("df", "-h", "/boot", "/efi/debian/6.1.0"), update)
    for other in ("/boot/initrd.img-6.1.0", "/gone/initrd.img", None):
        assert make_initramfs(machine, "6.1.0", other).commands[0] == ("df", "-h", "/boot")


def test_what_cannot_be_read_is_no_reason_to_raise(tmp_path: Path) -> None:
    tree(tmp_path, {"/usr/bin/dpkg": "", "/usr/sbin/update-initramfs": ""})
    hidden = frozenset({"/var/lib/dpkg", "/etc/kernel", "/boot", "/usr/lib/modules"})
    machine = Machine.tree(str(tmp_path), unreadable=hidden)
    assert reinstall_kernel(machine, "6.1.0").commands == (("apt-get", "install", "--reinstall", "linux-image-6.1.0"),)
    assert make_initramfs(machine, "6.1.0", "/boot/initrd.img-6.1.0").commands[1][0] == "update-initramfs"
    assert add_kernels(machine, ["6.1.0"]).commands == (("kernel-install", "add", "6.1.0"),)
