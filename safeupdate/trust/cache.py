"""What was found out once about bytes that are still the same: a small private file of root's.

The file is JSON, in which a character stands for a byte. One that is damaged, or that somebody other than root could
have written, is as good as none.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from typing import Any, BinaryIO

DIRECTORY = "/var/cache/safeupdate"

_VERSION = 2
_SIZE_LIMIT = 16 << 20
"""Bytes: the modules of five kernels have some 4 MB."""
_KEPT = {"kernel": 16, "exports": 3, "module": 60_000}
"""Entries of each kind that are kept, the newest: of kernels as many as a machine has in a year, of modules those of
ten kernels. What a kernel exports takes 400 KB, and is asked of the one that boots next and of the fallback."""

_CHUNK = 1 << 20


def content_key(file: BinaryIO) -> str:
    """What a file's content is known by."""
    import hashlib

    digest = hashlib.sha256()
    file.seek(0)
    while data := file.read(_CHUNK):
        digest.update(data)
    return digest.hexdigest()


class Cache:
    """Lists of byte strings by kind and key. Reads the file when it is first asked; `save` writes what is new."""

    def __init__(self, directory: str | None = None) -> None:
        # systemd.exec(5): a service with CacheDirectory= is told where.
        directory = directory or os.environ.get("CACHE_DIRECTORY") or DIRECTORY
        self._path = os.path.join(directory, "signatures.json")
        self._values: dict[str, dict[str, list[str]]] | None = None
        self._changed = False

    def get(self, kind: str, key: str) -> list[bytes] | None:
        """What is known, None for nothing."""
        found = self._load().get(kind, {}).get(key)
        try:
            return None if found is None else [value.encode("latin-1") for value in found]
        except ValueError:
            return None

    def put(self, kind: str, key: str, values: list[bytes]) -> None:
        """Keep this, in place of what was there."""
        entries = self._load().setdefault(kind, {})
        entries.pop(key, None)
        entries[key] = [value.decode("latin-1") for value in values]
        self._changed = True

    def save(self) -> None:
        """Write the file if anything is new; a cache that cannot be written is no loss."""
        if not self._changed or self._values is None:
            return
        import json

        for kind, entries in self._values.items():
            for key in list(entries)[: -_KEPT.get(kind, 1)]:
                del entries[key]
        directory = os.path.dirname(self._path)
        temporary = f"{self._path}.{os.getpid()}"
        try:
            os.makedirs(directory, mode=0o700, exist_ok=True)
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            try:
                with os.fdopen(descriptor, "w") as file:
                    json.dump({"version": _VERSION, "values": self._values}, file, separators=(",", ":"))
                os.replace(temporary, self._path)
            except BaseException:
                with suppress(OSError):
                    os.unlink(temporary)
                raise
        except OSError:
            return
        self._changed = False

    def _load(self) -> dict[str, dict[str, list[str]]]:
        if self._values is None:
            self._values = _checked(self._read())
        return self._values

    def _read(self) -> Any:
        import json

        try:
            descriptor = os.open(self._path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            with os.fdopen(descriptor, "rb") as file:
                status = os.fstat(descriptor)
                private = status.st_uid == os.geteuid() and not status.st_mode & 0o022
                if not stat.S_ISREG(status.st_mode) or not private or status.st_size > _SIZE_LIMIT:
                    return None
                return json.loads(file.read(_SIZE_LIMIT))
        except (OSError, ValueError, RecursionError):
            return None


def _checked(data: Any) -> dict[str, dict[str, list[str]]]:
    """The values, if they have the shape that `save` gives them."""
    if not isinstance(data, dict) or data.get("version") != _VERSION or not isinstance(data.get("values"), dict):
        return {}
    for entries in data["values"].values():
        if not isinstance(entries, dict) or not all(
            isinstance(values, list) and all(isinstance(value, str) for value in values) for values in entries.values()
        ):
            return {}
    found: dict[str, dict[str, list[str]]] = data["values"]
    return found
