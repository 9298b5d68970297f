from __future__ import annotations

import shutil
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safeupdate.errors import FormatError
from safeupdate.formats.dpkg_status import Record, parse

STATUS = b"""\
Package: linux-image-6.1.0-50-amd64
Status: install reinstreq half-configured
Architecture: amd64
Version: 6.1.192-1
Config-Version: 6.1.190-1
Description: Linux 6.1
 The kernel.
 .
 Status: install ok installed

Package: libc6
Status: hold ok installed
Architecture: amd64
Multi-Arch: same
Version: 2.36-9
Conffiles:
 /etc/ld.so.conf.d/x86_64-linux-gnu.conf d4e7a7b88a71b5ffd9e2644e71a0cfab


Package: initramfs-tools
Status: install ok triggers-pending
Architecture: all
Version: 0.142
Triggers-Pending: update-initramfs /usr/share/x
"""


def test_a_package_a_stanza() -> None:
    assert parse(STATUS) == (
        Record("linux-image-6.1.0-50-amd64", "6.1.192-1", "amd64", "half-configured", reinstall=True),
        Record("libc6", "2.36-9", "amd64", "installed", per_architecture=True),
        Record("initramfs-tools", "0.142", "all", "triggers-pending", triggers=("update-initramfs", "/usr/share/x")),
    )


def test_nothing_is_no_package() -> None:
    assert parse(b"") == parse(b"\n\n") == ()
    assert parse(b"Package: gone\n")[0].state == "not-installed"


@pytest.mark.parametrize(
    ("data", "place"),
    [
        (STATUS + bytes(4096), "line 25"),
        (b"\0" * 100 + b"\n", "line 1"),
        (STATUS.replace(b"Version: 2.36-9\n", b"\x89\x12 noise\n"), "line 15"),
        (STATUS.replace(b"Package: libc6\n", b""), "line 11"),
        (STATUS.replace(b"hold ok installed", b"hold ok intsalled"), "line 11"),
        (STATUS.replace(b"hold ok installed", b"installed"), "line 11"),
        (STATUS[:-10], "line 24"),
    ],
    ids=["zeros after", "zeros", "noise", "no name", "no such state", "one word", "cut"],
)
def test_what_dpkg_would_refuse(data: bytes, place: str) -> None:
    with pytest.raises(FormatError) as caught:
        parse(data)
    assert caught.value.place == place


@given(st.binary(max_size=400), st.integers(0, len(STATUS)), st.integers(0, 40))
def test_any_bytes_are_packages_or_refused(noise: bytes, position: int, length: int) -> None:
    for data in (noise, STATUS[:position] + noise + STATUS[position + length :]):
        with suppress(FormatError):
            assert all(record.name for record in parse(data))


@pytest.mark.skipif(shutil.which("dpkg-query") is None, reason="there is no dpkg here")
def test_the_same_packages_as_dpkg_itself() -> None:
    form = "${Package}\t${Version}\t${Architecture}\t${db:Status-Status}\t${db:Status-Eflag}\n"
    done = subprocess.run(["dpkg-query", "--show", "-f", form], capture_output=True, text=True, timeout=60, check=True)
    told = {tuple(line.split("\t")) for line in done.stdout.splitlines()}
    assert {
        (one.name, one.version, one.architecture, one.state, "reinstreq" if one.reinstall else "ok")
        for one in parse(Path("/var/lib/dpkg/status").read_bytes())
        if one.state != "not-installed"
    } == told
