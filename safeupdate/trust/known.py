"""Modules on this machine that were found sound once, with the same keys, and were not touched since."""

from __future__ import annotations

import hashlib
import os
import time

from safeupdate.trust.cache import Cache
from safeupdate.trust.keys import Trust

_RACY = 3_000_000_000
"""Nanoseconds: a file that changed so recently may change again within the same tick of its clock."""


class Known:
    """What the cache holds about the modules of one machine, for one kernel's trust."""

    def __init__(self, cache: Cache, trust: Trust) -> None:
        self._cache = cache
        self._trust = _digest(trust)

    @staticmethod
    def stamp(status: os.stat_result) -> bytes | None:
        """What changes with every change of a file; None for one that changed just now."""
        if time.time_ns() - max(status.st_ctime_ns, status.st_mtime_ns) < _RACY:
            return None
        numbers = (status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino, status.st_dev)
        return b" ".join(b"%d" % number for number in numbers)

    def has(self, path: str, stamp: bytes) -> bool:
        """Whether this file, with this stamp, was found sound with these keys."""
        return self._cache.get("module", path) == [stamp, self._trust]

    def add(self, path: str, stamp: bytes) -> None:
        """It was found sound. The stamp must have been taken before the file was read."""
        self._cache.put("module", path, [stamp, self._trust])


def _digest(trust: Trust) -> bytes:
    """All that a verdict of `ok` rests on."""
    digest = hashlib.sha256(trust.release.encode("utf-8", "surrogateescape"))
    for part in (
        *(key.certificate.der for key in trust.keys),
        b"leaving",
        *sorted(trust.leaving),
        b"revoked",
        *(key.certificate.der for key in trust.revoked),
        b"denied",
        *sorted(trust.denied),
        b"listed",
        *sorted(trust.listed),
        b"algorithms",
        repr(trust.algorithms).encode(),
    ):
        digest.update(len(part).to_bytes(8, "big") + part)
    return digest.digest()[:16]
