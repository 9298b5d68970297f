"""Takes initramfs images apart and puts them together, without the program under test.

The buffer's grammar and the newc header are in the kernel's Documentation/driver-api/early-userspace/buffer-format.rst.
What is made is kept in the cache: packing 130 MB takes seconds.
"""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

from machines.build import cache

_NEWC = re.compile(rb"07070[12][0-9A-Fa-f]{104}")

PACK = {
    "zstd": ("zstd", "-q", "-1", "-T2"),
    "xz": ("xz", "-0", "-T2", "--check=crc32"),
    "gzip": ("gzip", "-1", "-n"),
    "bzip2": ("bzip2", "-1"),
    "lzma": ("xz", "-0", "--format=lzma"),
    "lz4": ("lz4", "-q", "-l", "-1"),
    "lz4 frame": ("lz4", "-q", "-1"),
}
"""Programs that write each format as the kernel reads it, but for the lz4 frame, which it does not read."""

_UNPACK = {
    b"\x28\xb5\x2f\xfd": ("zstd", "-q", "-dc"),
    b"\xfd7zX": ("xz", "-dc"),
    b"\x1f\x8b": ("gzip", "-dc"),
}


_KEPT = 7 * 86400
"""Seconds for which an image that nothing asks for is kept: kernels, and so their images, change with the archive."""


@dataclass(frozen=True)
class File:
    """One member of an archive."""

    name: str
    mode: int
    data: bytes
    fields: tuple[int, ...] = (0,) * 13

    def packed(self) -> bytes:
        name = self.name.encode() + b"\0"
        values = list(self.fields)
        values[1], values[6], values[11] = self.mode, len(self.data), len(name)
        header = b"070701" + b"".join(b"%08x" % value for value in values)
        return _aligned(_aligned(header + name) + self.data)


def _aligned(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)


def split(image: bytes) -> list[bytes]:
    """The uncompressed archives at the front, one by one, and what is left: one compressed stream, if anything."""
    parts = []
    position = 0
    while _NEWC.match(image, position):
        end = _archive_end(image, position)
        while end < len(image) and image[end] == 0:
            end += 1
        parts.append(image[position:end])
        position = end
    if position < len(image):
        parts.append(image[position:])
    return parts


def _archive_end(data: bytes, position: int) -> int:
    while position < len(data):
        fields, name, start = _member(data, position)
        position = start + fields[6] + -fields[6] % 4
        if name == "TRAILER!!!":
            return position
    return len(data)


def _member(data: bytes, position: int) -> tuple[tuple[int, ...], str, int]:
    header = data[position : position + 110]
    assert _NEWC.match(header), position
    fields = tuple(int(header[at : at + 8], 16) for at in range(6, 110, 8))
    name = data[position + 110 : position + 110 + fields[11] - 1].decode()
    length = 110 + fields[11]
    return fields, name, position + length + -length % 4


def files(archive: bytes) -> list[File]:
    """The members of one unpacked archive."""
    found: list[File] = []
    position = 0
    while position < len(archive):
        fields, name, start = _member(archive, position)
        if name == "TRAILER!!!":
            return found
        found.append(File(name, fields[1], archive[start : start + fields[6]], fields))
        position = start + fields[6] + -fields[6] % 4
    return found


def archive(members: Iterable[File]) -> bytes:
    """An archive of these."""
    return b"".join(member.packed() for member in (*members, File("TRAILER!!!", 0, b"")))


def unpack(stream: bytes) -> bytes:
    """What a compressed stream holds."""
    program = next(program for magic, program in _UNPACK.items() if stream.startswith(magic))
    return _piped(program, stream)


def pack(data: bytes, compressor: str) -> bytes:
    """Compressed by the format's own program."""
    return _piped(PACK[compressor], data)


def _piped(program: tuple[str, ...], data: bytes) -> bytes:
    return subprocess.run(program, input=data, stdout=subprocess.PIPE, check=True, timeout=300).stdout


def edited(image: bytes, what: str, change: Callable[[File], File | None]) -> bytes:
    """The image with every member changed, or dropped where `change` returns None. `what` names the change."""

    def make() -> bytes:
        parts = []
        for part in split(image):
            plain = _NEWC.match(part) is not None
            content = archive(
                new for file in files(part if plain else unpack(part)) if (new := change(file)) is not None
            )
            parts.append(content if plain else pack(content, "zstd"))
        return b"".join(parts)

    return kept(image, what, make)


def recompressed(image: bytes, compressor: str) -> bytes:
    """The image with its compressed part in another format."""

    def make() -> bytes:
        *front, last = split(image)
        return b"".join(front) + pack(unpack(last), compressor)

    return kept(image, compressor, make)


def without(image: bytes, *names: str) -> bytes:
    """The image without the members whose whole name matches one of these patterns."""
    pattern = re.compile("|".join(names))

    def change(file: File) -> File | None:
        return None if pattern.fullmatch(file.name) else file

    return edited(image, f"without {names}", change)


def with_files(image: bytes, added: Mapping[str, bytes]) -> bytes:
    """The image and behind it an archive with these files, all of which can be executed."""
    places = {path[:end] for path in added for end, letter in enumerate(path) if letter == "/"}
    members = [
        *(File(path, 0o040755, b"") for path in sorted(places)),
        *(File(path, 0o100755, data) for path, data in added.items()),
    ]
    return _aligned(image) + archive(members)


def with_modules(image: bytes, release: str, directory: str, *names: str) -> bytes:
    """The image and what else of the modules in `directory` makes these whole."""

    def make() -> bytes:
        with open(f"{directory}/modules.dep", encoding="ascii") as file:
            listed = {path: needed.split() for path, _, needed in (line.partition(":") for line in file)}
        chosen = [path for path in listed if path.rpartition("/")[2].partition(".")[0].replace("-", "_") in names]
        place = f"usr/lib/modules/{release}/"
        held = {
            file.name[len(place) :]
            for part in split(image)
            for file in files(part if _NEWC.match(part) else unpack(part))
            if file.name.startswith(place)
        }
        added = {}
        for path in {one for first in chosen for one in (first, *listed[first])} - held:
            with open(f"{directory}/{path}", "rb") as module:
                added[f"{place}{path}"] = module.read()
            held.add(path)
        lines = "".join(f"{path}: {' '.join(needed)}\n" for path, needed in listed.items() if path in held)
        return with_files(image, {**added, f"{place}modules.dep": lines.encode()})

    return kept(image, f"with {names}", make)


def with_mode(image: bytes, name: str, mode: int) -> bytes:
    """The image with other permissions on one file."""

    def change(file: File) -> File:
        return replace(file, mode=file.mode & ~0o7777 | mode) if file.name == name else file

    return edited(image, f"{name} {mode:o}", change)


def kept(image: bytes, what: str, make: Callable[[], bytes]) -> bytes:
    """What `make` returns, made once for this image."""
    directory = os.path.join(cache(), "verdicts")
    path = os.path.join(directory, hashlib.sha256(hashlib.sha256(image).digest() + what.encode()).hexdigest()[:24])
    try:
        with open(path, "rb") as made:
            os.utime(path)
            return made.read()
    except FileNotFoundError:
        pass
    data = make()
    os.makedirs(directory, exist_ok=True)
    for entry in os.scandir(directory):
        if time.time() - entry.stat().st_mtime > _KEPT:
            os.unlink(entry.path)
    with open(f"{path}.{os.getpid()}", "wb") as new:
        new.write(data)
    os.replace(new.name, path)
    return data
