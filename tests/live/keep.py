"""Makes a capture of a guest small enough for tests/data/captures: python3 -m tests.live.keep LAYOUT

Programs, libraries, indexes of modules and package lists lose their content as kernels do in every capture without
--boot: their names, modes and sizes stay, and the manifest lists them. The 4,000 names of each kernel's modules go.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

from tests.live.build import directory

_KEPT = ("/etc/", "/boot/", "/efi/", "/proc/", "/sys/", "/run/", "/dev/")
_MANIFEST = "safeupdate-capture.json"


def thin(tree: str) -> None:
    """Empty the large files of a captured tree that say nothing of this machine alone."""
    with open(os.path.join(tree, _MANIFEST), encoding="utf-8") as file:
        manifest = json.load(file)
    left_out = set(manifest["left_out"])
    modules = os.path.join(tree, "usr/lib/modules")
    for release in os.listdir(modules):
        shutil.rmtree(os.path.join(modules, release, "kernel"))
        manifest["unreadable"].append(f"/usr/lib/modules/{release}/kernel")
    for place, _, names in os.walk(tree):
        for name in names:
            path = os.path.join(place, name)
            inside = path[len(tree) :]
            ours = inside.startswith(_KEPT) and "ld.so" not in name and not name.startswith("config-")
            if ours or os.path.islink(path):
                continue
            size = os.path.getsize(path)
            if size < 4096 or name == _MANIFEST or inside in left_out:
                continue
            with open(path, "wb") as file:
                file.truncate(size)
            left_out.add(inside)
    gone = tuple(f"{directory}/" for directory in manifest["unreadable"])
    manifest["left_out"] = sorted(path for path in left_out if not path.startswith(gone))
    with open(os.path.join(tree, _MANIFEST), "w", encoding="utf-8") as file:
        json.dump(manifest, file)


def main(name: str) -> int:
    """Thin the last run's capture of a layout, and pack it."""
    captured = os.path.join(directory(), f"{name}.run/results/captured/capture")
    thin(captured)
    here = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    target = os.path.join(here, f"data/captures/{name}.tar.xz")
    os.makedirs(os.path.dirname(target), exist_ok=True)
    command = [
        "tar",
        "--sparse",
        "--sort=name",
        "--mtime=@0",
        "--owner=0",
        "--group=0",
        "--numeric-owner",
        "-I",
        "xz -9e",
    ]
    subprocess.run([*command, "-cf", target, "-C", captured, "."], check=True, timeout=600)
    print(target, os.path.getsize(target))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
