"""/proc/self/mountinfo."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safeupdate.errors import FormatError
from safeupdate.formats.mountinfo import Mount, parse


def test_lines_with_and_without_optional_fields() -> None:
    found = parse(
        b"27 1 254:0 / / rw,relatime shared:1 master:2 - ext4 /dev/vda rw,discard\n"
        b"31 27 0:25 /@home /home\\040dir rw - btrfs /dev/mapper/luks-1 rw,subvol=/@home\n"
        b"32 27 0:26 / /empty rw - tmpfs none\n"
    )
    assert found == (
        Mount(27, 1, "254:0", "/", "/", ("rw", "relatime"), "ext4", "/dev/vda", ("rw", "discard")),
        Mount(31, 27, "0:25", "/@home", "/home dir", ("rw",), "btrfs", "/dev/mapper/luks-1", ("rw", "subvol=/@home")),
        Mount(32, 27, "0:26", "/", "/empty", ("rw",), "tmpfs", "none"),
    )


def test_a_source_may_be_empty() -> None:
    assert parse(b"1 0 0:5 / /x rw - bpf  rw\n")[0].source == ""


@pytest.mark.parametrize("data", [b"x", b"1 2 3 4 5 6 7 8 9", b"1 2 0:1 / / rw - ext4", b"a b 0:1 / / rw - ext4 x rw"])
def test_broken_lines(data: bytes) -> None:
    with pytest.raises(FormatError, match="line 2"):
        parse(b"1 0 0:5 / /x rw - bpf bpf rw\n" + data)


PIECES = [b"1", b"0:5", b"/", b" ", b"-", b"\n", b"\\040", b"ext4", b"rw,x", b"\0", b"\xff"]


@given(st.lists(st.sampled_from(PIECES)))
def test_anything_else(parts: list[bytes]) -> None:
    with suppress(FormatError):
        parse(b"".join(parts))


def test_this_machine() -> None:
    mounts = parse(Path("/proc/self/mountinfo").read_bytes())
    assert "proc" in {mount.fstype for mount in mounts}
    assert all(mount.point.startswith("/") for mount in mounts)
