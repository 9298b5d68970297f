from __future__ import annotations

from pathlib import Path

import pytest

from safeupdate.surroundings import inside
from tests.unit.trees import Content, tree

MACHINE = "25 1 254:1 / / rw - ext4 /dev/vda1 rw\n"


@pytest.mark.parametrize(
    ("files", "found"),
    [
        ({}, None),
        ({"/proc/self/mountinfo": MACHINE}, None),  # process 1 is hidden (hidepid=)
        ({"/proc/self/mountinfo": MACHINE, "/proc/1/mountinfo": MACHINE}, None),
        # A service with mounts of its own.
        ({"/proc/self/mountinfo": MACHINE.replace("25 1", "90 70"), "/proc/1/mountinfo": MACHINE}, None),
        # A chroot sees no mount of /, or a directory that was mounted to be one.
        ({"/proc/self/mountinfo": "22 25 0:20 / /proc rw - proc proc rw\n", "/proc/1/mountinfo": MACHINE}, "a chroot"),
        ({"/proc/self/mountinfo": MACHINE.replace(" / / ", " /c / "), "/proc/1/mountinfo": MACHINE}, "a chroot"),
        ({"/proc/self/mountinfo": MACHINE.replace("254:1", "7:0"), "/proc/1/mountinfo": MACHINE}, "a chroot"),
        ({"/run/systemd/container": "lxc\n"}, "a container"),
        ({"/.dockerenv": ""}, "a container"),
        ({"/run/.containerenv": ""}, "a container"),
        ({"/proc/self/mountinfo": "x y\n", "/proc/1/mountinfo": MACHINE}, None),
    ],
)
def test_where_this_runs(tmp_path: Path, files: dict[str, Content], found: str | None) -> None:
    assert inside(tree(tmp_path, {"/etc": None, **files})) == found
