"""Initramfs images of machines whose root lies on LUKS, LVM and md, made by the machine's own generator.

The chain itself is not there where they are made: crypttab, fstab and mdadm.conf say that it is, and dracut is told
which of its modules to take, as it would find out by itself on the machine.
"""

from __future__ import annotations

import hashlib
import os
import shlex
import subprocess
import tempfile
from pathlib import Path

import machines
from machines.build import cache, path, releases
from machines.recipes import RECIPES, Recipe

LUKS_UUID = "5afe0bda-0007-4000-8000-000000000001"
ARRAY_UUID = "5afe0bda:00070001:5afe0bda:00070001"

_TOOLS = ("lvm2", "cryptsetup", "mdadm", "xfsprogs", "btrfs-progs", "f2fs-tools", "thin-provisioning-tools")
_OF_RELEASE = {"trixie": ("systemd-cryptsetup",)}
_DRACUT_MODULES = "crypt lvm mdraid dm btrfs"

_TEXTS = {
    "etc/crypttab": f"vda2_crypt UUID={LUKS_UUID} none luks,initramfs,discard\n",
    "etc/fstab": "/dev/mapper/vg0-root / ext4 errors=remount-ro 0 1\n",
    "etc/mdadm/mdadm.conf": f"HOMEHOST <system>\nARRAY /dev/md0 metadata=1.2 UUID={ARRAY_UUID}\n",
}


def image(name: str) -> Path:
    """The image of the newest kernel of the machine `name`; made once (three minutes, with the Debian archive)."""
    recipe = hashlib.sha256(repr((_TOOLS, _OF_RELEASE, _DRACUT_MODULES, _TEXTS)).encode()).hexdigest()[:8]
    made = Path(cache(), "early", f"{os.path.basename(path(name))}-{recipe}.img")
    if not made.exists():
        made.parent.mkdir(parents=True, exist_ok=True)
        _make(RECIPES[name], machines.root(name), made)
    return made


def _make(recipe: Recipe, base: str, made: Path) -> None:
    release = releases(base)[-1]
    tools = (*_TOOLS, *_OF_RELEASE.get(recipe.suite, ()))
    if recipe.name.endswith("dracut"):
        generator = f"dracut --force --no-hostonly --add '{_DRACUT_MODULES}' /boot/new.img {release}"
    else:
        tools += ("cryptsetup-initramfs",)
        generator = f"mkinitramfs -o /boot/new.img {release}"
    apt = 'APT_CONFIG=$MMDEBSTRAP_APT_CONFIG apt-get -o DPkg::Chroot-Directory="$1"'
    texts = (f'printf %s {shlex.quote(text)} > "$1/{where}"' for where, text in _TEXTS.items())
    steps = (
        f"{apt} --yes --no-install-recommends install {' '.join(tools)}",
        *texts,
        f'chroot "$1" {generator}',
        f'cp "$1/boot/new.img" {shlex.quote(f"{made}.new")}',
    )
    with tempfile.TemporaryDirectory(prefix="early.", dir=made.parent) as work:
        command = ["mmdebstrap", "--mode=root", "--variant=custom", "--format=directory"]
        command += [f"--components={','.join(recipe.components)}"]
        command += [f'--setup-hook=cp -a --reflink=auto {shlex.quote(base)}/. "$1"']
        command += [f"--customize-hook={step}" for step in steps]
        done = subprocess.run(
            [*command, recipe.suite, f"{work}/root"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=900,
            text=True,
            errors="replace",
            check=False,
        )
    assert done.returncode == 0, done.stdout[-4000:]
    os.replace(f"{made}.new", made)


if __name__ == "__main__":
    for each in machines.names():
        if not each.endswith("dkms"):
            print(image(each), flush=True)
