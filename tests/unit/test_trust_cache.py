from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from safeupdate.trust.cache import Cache
from safeupdate.trust.enforcement import Enforcement
from safeupdate.trust.keys import Trust
from safeupdate.trust.known import Known

FILE = "signatures.json"


def filled(directory: Path) -> Cache:
    cache = Cache(str(directory))
    cache.put("kernel", "a", [b"\1", b"certificate"])
    cache.save()
    return cache


def test_what_was_put_in_comes_out(tmp_path: Path) -> None:
    filled(tmp_path / "new")
    again = Cache(str(tmp_path / "new"))
    assert again.get("kernel", "a") == [b"\1", b"certificate"]
    assert again.get("kernel", "b") is None
    assert again.get("module", "a") is None
    assert (tmp_path / "new" / FILE).stat().st_mode & 0o777 == 0o600
    assert os.listdir(tmp_path / "new") == [FILE]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"junk",
        b"[]",
        b"[" * 100_000,
        b'{"version": 1, "values": {}}',
        b'{"version": 2, "values": {"kernel": {"a": "text"}}}',
        b'{"version": 2, "values": {"kernel": {"a": [5]}}}',
        b'{"version": 2, "values": {"kernel": {"a": ["no byte: \\u20ac"]}}}',
        b'{"version": 2, "values": [1]}',
    ],
)
def test_a_damaged_file_is_as_good_as_none(tmp_path: Path, data: bytes) -> None:
    filled(tmp_path)
    (tmp_path / FILE).write_bytes(data)
    cache = Cache(str(tmp_path))
    assert cache.get("kernel", "a") is None
    cache.put("kernel", "b", [b"x"])
    cache.save()
    assert Cache(str(tmp_path)).get("kernel", "b") == [b"x"]


def test_a_file_that_others_may_write_is_not_believed(tmp_path: Path) -> None:
    filled(tmp_path)
    os.chmod(tmp_path / FILE, 0o666)
    assert Cache(str(tmp_path)).get("kernel", "a") is None


def test_a_link_and_a_pipe_are_not_followed(tmp_path: Path) -> None:
    filled(tmp_path / "real")
    (tmp_path / FILE).symlink_to(tmp_path / "real" / FILE)
    assert Cache(str(tmp_path)).get("kernel", "a") is None
    (tmp_path / FILE).unlink()
    os.mkfifo(tmp_path / FILE, 0o600)
    assert Cache(str(tmp_path)).get("kernel", "a") is None


def test_the_oldest_kernels_are_forgotten(tmp_path: Path) -> None:
    cache = Cache(str(tmp_path))
    for number in range(20):
        cache.put("kernel", str(number), [b"x"])
    cache.save()
    again = Cache(str(tmp_path))
    assert again.get("kernel", "3") is None
    assert again.get("kernel", "19") == [b"x"]


def test_nowhere_to_write_is_no_loss(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    cache = Cache(str(tmp_path / "file" / "below"))
    cache.put("kernel", "a", [b"x"])
    cache.save()
    assert cache.get("kernel", "a") == [b"x"]


def test_a_module_is_known_until_it_or_the_keys_change(tmp_path: Path) -> None:
    trust = Trust("6.1.0", Enforcement(True, False))
    cache = Cache(str(tmp_path))
    known = Known(cache, trust)
    stamp = known.stamp(os.stat(os.__file__))
    assert stamp is not None
    assert not known.has("/a.ko", stamp)
    known.add("/a.ko", stamp)
    assert known.has("/a.ko", stamp)
    assert not known.has("/a.ko", stamp + b"1")
    assert not known.has("/b.ko", stamp)
    assert not Known(cache, replace(trust, denied=frozenset({b"x"}))).has("/a.ko", stamp)


def test_a_file_that_changed_just_now_has_no_stamp(tmp_path: Path) -> None:
    (tmp_path / "new").write_bytes(b"")
    assert Known.stamp(os.stat(tmp_path / "new")) is None
