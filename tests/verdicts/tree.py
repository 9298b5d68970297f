"""A private copy of a machine's root tree, and the changes that the corpus makes to it."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable

import machines
from machines.recipes import RECIPES

MENU = "/boot/grub/grub.cfg"


class Tree:
    """Paths are the machine's. `releases` are the installed kernels, the newest first."""

    def __init__(self, root: str, base: str) -> None:
        self.root = root
        self.base = base
        names = (name[len("vmlinuz-") :] for name in os.listdir(f"{root}/boot") if name.startswith("vmlinuz-"))
        self.releases = sorted(names, key=lambda name: [int(part) for part in re.findall(r"\d+", name)], reverse=True)
        self.uuid = RECIPES[base].root_uuid
        self.disk = RECIPES[base].root_disk

    @property
    def newest(self) -> str:
        return self.releases[0]

    @property
    def older(self) -> str:
        return self.releases[1]

    def initrd(self, release: str = "") -> str:
        return f"/boot/initrd.img-{release or self.newest}"

    def vmlinuz(self, release: str = "") -> str:
        return f"/boot/vmlinuz-{release or self.newest}"

    def modules(self, release: str = "") -> str:
        return f"/usr/lib/modules/{release or self.newest}"

    # -- files -----------------------------------------------------------------------------------------------

    def host(self, path: str) -> str:
        return self.root + path

    def read(self, path: str) -> bytes:
        with open(self.host(path), "rb") as file:
            return file.read()

    def text(self, path: str) -> str:
        return self.read(path).decode()

    def write(self, path: str, data: bytes | str) -> None:
        os.makedirs(os.path.dirname(self.host(path)), exist_ok=True)
        machines.replace(self.root, path, data.encode() if isinstance(data, str) else data)

    def remove(self, *paths: str) -> None:
        for path in paths:
            machines.remove(self.root, path)

    def rename(self, old: str, new: str) -> None:
        shutil.move(self.host(old), self.host(new))  # an overlay cannot rename a directory of the layer below

    def link(self, target: str, path: str) -> None:
        os.makedirs(os.path.dirname(self.host(path)), exist_ok=True)
        os.symlink(target, self.host(path))

    def mkdir(self, path: str) -> None:
        os.makedirs(self.host(path), exist_ok=True)

    def cut(self, path: str, size: int) -> None:
        """Keep the first `size` bytes; a negative size takes that many off the end."""
        self.write(path, self.read(path)[:size])

    def flip(self, path: str, position: float) -> None:
        """Turn one bit, `position` being a part of the file's length."""
        data = bytearray(self.read(path))
        data[int(len(data) * position)] ^= 0x40
        self.write(path, bytes(data))

    def edit(
        self, path: str, pattern: str, replacement: str | Callable[[re.Match[str]], str], *, count: int = 0
    ) -> None:
        """Replace in a text file; what the pattern does not find is an error."""
        text, found = re.subn(pattern, replacement, self.text(path), count=count, flags=re.MULTILINE)
        assert found, f"{pattern} is not in {path}"
        self.write(path, text)

    # -- GRUB ------------------------------------------------------------------------------------------------

    def environment(self, **values: str) -> None:
        """GRUB's environment block, as grub-editenv writes it: 1024 bytes."""
        lines = "".join(f"{name}={value}\n" for name, value in values.items())
        self.write("/boot/grub/grubenv", ("# GRUB Environment Block\n" + lines).ljust(1024, "#"))

    def default(self, value: str) -> None:
        """GRUB_DEFAULT, as update-grub writes it into the menu's header."""
        self.edit(MENU, r'^   set default="0"$', f'   set default="{value}"')

    def parameter(self, word: str) -> None:
        """One more parameter on every kernel's command line."""
        self.edit(MENU, r"^(\s+linux\t.*)$", rf"\1 {word}")

    def submenu_path(self, release: str) -> str:
        """The `A>B` of a release's entry, by ids."""
        return f"gnulinux-advanced-{self.uuid}>gnulinux-{release}-advanced-{self.uuid}"

    def menu(self, body: str, *, header: bool = True) -> None:
        """A menu of other entries, below the header that update-grub wrote."""
        text = self.text(MENU)
        head = text[: text.index("### BEGIN /etc/grub.d/10_linux ###")] if header else ""
        self.write(MENU, head + body)

    # -- packages and facts -----------------------------------------------------------------------------------

    def package_state(self, state: str, name: str = "", *, want: str = "install") -> None:
        """dpkg's state of a package, the newest kernel's where none is named, and what dpkg was to do with it."""
        name = re.escape(name or f"linux-image-{self.newest}")
        self.edit(
            "/var/lib/dpkg/status", rf"^(Package: {name}\nStatus:) install ok installed$", rf"\1 {want} ok {state}"
        )

    def in_use(self, module: str) -> None:
        """One more module that the running kernel has loaded."""
        self.write("/proc/modules", f"{self.text('/proc/modules')}{module} 16384 1 - Live 0x0\n")
        self.write(f"/sys/module/{module}/initstate", "live\n")

    def headless(self) -> None:
        """Neither screen nor keyboard, as on a machine that is reached by a serial line."""
        self.write("/sys/class/vtconsole/vtcon0/name", "(S) dummy device\n")
        self.write("/sys/class/tty/console/active", "ttyS0\n")

    # -- mounts ----------------------------------------------------------------------------------------------

    def mount_line(self, line: str) -> None:
        """One more line of /etc/fstab."""
        self.write("/etc/fstab", self.text("/etc/fstab") + line + "\n")

    def copy(self, old: str, new: str) -> None:
        shutil.copytree(self.host(old), self.host(new), symlinks=True)
