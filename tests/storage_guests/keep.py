"""What is kept of the guest, for tests: tests/data/captures/roots.tar.xz.

`SUITE/tree` is its capture, with nothing but facts of hardware and volumes and depmod's lists; `SUITE/NAME.mountinfo`
what its mount table said with each root at /; `SUITE/GENERATOR.img` an image whose programs, libraries and modules are
empty.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

from tests.storage_guests import images, tree
from tests.storage_guests.stacks import Root
from tests.unit import captures

ARCHIVE = Path(__file__).parent.parent / "data/captures/roots.tar.xz"

GENERATORS = ("initramfs-tools", "dracut")

_LISTS = r"/usr/lib/modules/[^/]+/modules\.(?:dep|alias|softdep|builtin|builtin\.modinfo)$"
_FACTS = re.compile(
    r"/(?:sys|dev|run/udev|run/safeupdate)/|/proc/(?:modules|swaps|sys/kernel/osrelease)$"
    rf"|/(?:usr/lib|etc)/os-release$|/safeupdate-capture\.json$|{_LISTS}"
)
_NOT = re.compile(r"/sys/(?:class/dmi|devices/virtual/dmi|module/[^/]+/(?:refcnt|srcversion))|.*/(?:iosched|queue)/")
_TEXTS = re.compile(
    r"(?:etc|conf|cryptroot|scripts)/|(?:usr/)?lib/(?:udev/rules\.d|dracut|systemd/system)/"
    r"|(?:usr/)?lib/modules/[^/]+/modules\.(?:dep|builtin)$"
)


def keep(made: Path, suite: str) -> None:
    """Pack what a suite's guest handed over."""
    with tempfile.TemporaryDirectory(prefix="roots.") as work:
        top = Path(work, suite)
        _facts(made / "out/tree", top / "tree")
        for path in (made / "out").glob("*.mountinfo"):
            shutil.copyfile(path, top / path.name)
        for generator in GENERATORS:
            members = images.read(tree.root(suite).joinpath(f"{generator}.img").read_bytes())
            (top / f"{generator}.img").write_bytes(images.write(map(_emptied, members)))
        command = ["tar", "--sort=name", "--mtime=@0", "--owner=0", "--group=0", "--numeric-owner", "-I", "xz -9e"]
        subprocess.run([*command, "-cf", str(ARCHIVE), "-C", work, "."], check=True, timeout=600)
    print(ARCHIVE, ARCHIVE.stat().st_size)


def unpack(directory: Path) -> None:
    """Unpack the archive."""
    with tarfile.open(ARCHIVE) as archive:
        captures.unpack(archive, directory)


def lies_on(root: Root, kept: Path, line: str) -> None:
    """Make the captured tree, beside the mount tables, that of the machine whose root is this one."""
    captured = kept / "tree"
    (captured / "etc").mkdir(exist_ok=True)
    (captured / "proc/self").mkdir(parents=True, exist_ok=True)
    (captured / "etc/fstab").write_text(f"{root.filled(root.fstab)}\n")
    (captured / "etc/crypttab").write_text(f"{root.filled(root.crypttab)}\n")
    (captured / "proc/cmdline").write_text(f"{line}\n")
    shutil.copyfile(kept / f"{root.name}.mountinfo", captured / "proc/self/mountinfo")
    if not (captured / "lib").is_symlink():
        (captured / "lib").symlink_to("usr/lib")


def release(kept: Path) -> str:
    """The kernel that ran."""
    return (kept / "tree/proc/sys/kernel/osrelease").read_text().strip()


def _facts(captured: Path, target: Path) -> None:
    for place, directories, files in os.walk(captured):
        links = [name for name in directories if Path(place, name).is_symlink()]
        for path in (Path(place, name) for name in (*links, *files)):
            inside = f"/{path.relative_to(captured)}"
            if _FACTS.match(inside) and not _NOT.match(inside):
                copy = target / inside[1:]
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(path, copy, follow_symlinks=False)
    manifest = target / "safeupdate-capture.json"
    facts = json.loads(manifest.read_text())
    facts["left_out"] = [path for path in facts["left_out"] if (target / path[1:]).exists()]
    facts["unreadable"] = [path for path in facts["unreadable"] if _FACTS.match(path)]
    manifest.write_text(json.dumps(facts))


def _emptied(one: images.Member) -> images.Member:
    text = not one.is_file or (_TEXTS.match(one.path) and b"\0" not in one.content)
    return one if text else images.Member(one.path, one.fields, b"")
