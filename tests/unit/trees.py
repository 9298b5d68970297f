"""Small machines in a directory: files, links, a kernel image with true headers."""

from __future__ import annotations

import os
import struct
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Union

from safeupdate import packages
from safeupdate.boot.firmware import Firmware
from safeupdate.boot.plan import BootEntry, BootFile, BootPlan
from safeupdate.case import Case, Shelf
from safeupdate.fingerprint import Hasher
from safeupdate.kernels import kernel_at
from safeupdate.machine import Machine
from safeupdate.volumes import Volumes


@dataclass(frozen=True)
class Link:
    """A symbolic link to `target`."""

    target: str


Content = Union[bytes, str, Link, None]
"""A file's bytes or text, a link, or None for a directory."""

RELEASE = "6.1.0-50-amd64"

REAL_MACHINES = sorted((Path.home() / ".cache/safeupdate/machines").glob("debian*/boot"))
"""The /boot of every machine that was built from distribution packages on this host, if any, of releases that stand."""


@contextmanager
def open_directory() -> Iterator[Path]:
    """A directory that every user may enter, which those of pytest are not."""
    with tempfile.TemporaryDirectory() as directory:
        os.chmod(directory, 0o755)
        yield Path(directory)


def real_kernels() -> list[Path]:
    """Kernel images that a distribution built; none on a host that has not built the machines."""
    return [path for boot in REAL_MACHINES for path in sorted(boot.glob("vmlinuz-*"))]


def tree(root: Path, files: Mapping[str, Content] | None = None) -> Machine:
    """The machine below `root`, with these files added to it; directories come by themselves."""
    for path, content in (files or {}).items():
        place = root / path.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        if content is None:
            place.mkdir(parents=True, exist_ok=True)
        elif isinstance(content, Link):
            place.symlink_to(content.target)
        else:
            place.write_bytes(content.encode() if isinstance(content, str) else content)
    return Machine.tree(str(root))


IMAGE = f"/boot/vmlinuz-{RELEASE}"
INITRD = f"/boot/initrd.img-{RELEASE}"
BIOS = Firmware("bios", secure_boot=False)
MODULES = f"/lib/modules/{RELEASE}"


def case(
    machine: Machine,
    cmdline: str = "",
    *,
    image: str = IMAGE,
    initramfs: tuple[str, ...] = (INITRD,),
    entry: BootEntry | None = None,
    others: tuple[BootEntry, ...] = (),
    firmware: Firmware = BIOS,
) -> Case:
    """One kernel and its initramfs images, started by GRUB with this command line."""
    entry = entry or BootEntry(
        loader="grub",
        id="debian",
        title="Debian GNU/Linux",
        source="/boot/grub/grub.cfg, line 1",
        kernel=BootFile(image, image),
        initramfs=tuple(BootFile(path, path) for path in initramfs),
        cmdline=cmdline,
    )
    kernel = kernel_at(machine, entry.kernel.path) if entry.kernel is not None and entry.kernel.path else None
    kernels = () if kernel is None else (kernel,)
    plan = BootPlan("grub", (entry, *others), entry, "GRUB starts its first entry", config="/boot/grub/grub.cfg")
    return Case(
        machine=machine,
        volumes=Volumes(machine),
        firmware=firmware,
        plan=plan,
        entry=entry,
        kernel=kernel,
        shelf=Shelf(machine),
        hasher=Hasher(machine),
        databases=packages.databases(machine),
        kernels=kernels,
    )


def x86_image(release: str = RELEASE, payload: bytes = bytes(64), *, tail: bytes = b"", version: int = 0x020F) -> bytes:
    """A bzImage with one setup sector after the boot sector, and `payload` at the start of its protected-mode part."""
    body = payload + tail
    body += bytes(-len(body) % 16)
    setup = bytearray(2 * 512)
    setup[0x1F1] = 1
    struct.pack_into("<I", setup, 0x1F4, len(body) // 16)
    struct.pack_into("<H", setup, 0x1FE, 0xAA55)
    setup[0x202:0x206] = b"HdrS"
    struct.pack_into("<H", setup, 0x206, version)
    struct.pack_into("<H", setup, 0x20E, 0x300 - 0x200)
    setup[0x211] = 1
    struct.pack_into("<H", setup, 0x236, 1)
    struct.pack_into("<II", setup, 0x248, 0, len(payload))
    words = f"{release} (builder@host) #1 SMP".encode()[:0xFF] + b"\0"
    setup[0x300 : 0x300 + len(words)] = words
    return bytes(setup) + body


def index() -> bytes:
    """A binary index of depmod's with nothing in it."""
    return struct.pack(">III", 0xB007F457, 0x00020001, 12) + b"\0"


def dep_index(dependencies: Mapping[str, tuple[str, ...]]) -> bytes:
    """A `modules.dep.bin`: of every node the key's end stands behind its children, and so does the root."""
    if not dependencies:
        return index()
    data = bytearray(struct.pack(">III", 0xB007F457, 0x00020001, 0))
    lines = {
        path.rsplit("/", 1)[-1].partition(".")[0].replace("-", "_").encode(): f"{path}: {' '.join(needed)}".rstrip()
        for path, needed in dependencies.items()
    }

    def node(keys: Mapping[bytes, str]) -> int:
        first_key, last_key = min(keys), max(keys)
        prefix = first_key[: next((at for at, pair in enumerate(zip(first_key, last_key)) if pair[0] != pair[1]), None)]
        letters = sorted({key[len(prefix)] for key in keys if len(key) > len(prefix)})
        rest = {key[len(prefix) :]: line for key, line in keys.items()}
        below = {one: node({key[1:]: line for key, line in rest.items() if key[:1] == bytes([one])}) for one in letters}
        offset = len(data)
        if prefix:
            data.extend(prefix + b"\0")
            offset |= 0x80000000
        if letters:
            first, last = letters[0], letters[-1]
            numbers = (below.get(letter, 0) for letter in range(first, last + 1))
            data.extend(bytes([first, last]) + b"".join(struct.pack(">I", number) for number in numbers))
            offset |= 0x20000000
        if b"" in rest:
            data.extend(struct.pack(">II", 1, 0) + rest[b""].encode() + b"\0")
            offset |= 0x40000000
        return offset

    struct.pack_into(">I", data, 8, node(lines))
    return bytes(data)
