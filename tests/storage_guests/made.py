"""Makes all roots in one guest, and has that capture itself: its devices once, and what is mounted at / for each root.

Every root is small, and holds nothing but a shell that says that it is there. The guest moves onto each
(pivot_root(8)) to note what its mount table says from there.
"""

from __future__ import annotations

import io
import os
import shutil
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from machines.build import cache
from tests.lab.disks import Part, partition
from tests.lab.programs import LabError, run
from tests.storage_guests import images, tree
from tests.storage_guests.guest import start, turn
from tests.storage_guests.stacks import MULTIPATH, PASSPHRASE, ROOTS, WWN, Root

ANSWERS = {r"Please (?:unlock|enter passphrase for) disk [^\n]*": f"{PASSPHRASE}\n"}
LINE = "ro console=ttyS0 panic=-1 init=/sbin/guest"

_HERE = Path(__file__).parent
_RESULT = 100
"""MiB for what the guest hands over."""

_ALL = """
part() { readlink -f /dev/disk/by-id/*[-_]$1-part1 | head -n 1; }
mkdir -p /run/out small/bin small/sbin small/etc small/lib64 small/lib
for name in dev proc sys run tmp root old usr; do mkdir small/$name; done
cp /bin/busybox small/bin/
for name in $(ldd /bin/busybox | grep -o '/[^ ]*'); do
	mkdir -p "small/${name%/*}"
	cp "$name" "small/$name"
done
cp /etc/os-release small/etc/
cp guest small/sbin/guest
chmod 755 small/sbin/guest
ln -s guest small/sbin/init
ln -s busybox small/bin/sh
"""

_EACH = """
(
{parts}
{make}
udevadm settle
mkdir -p /mnt/{name}
mount $top /mnt/{name}
cp -a small/. /mnt/{name}
unshare -m sh -c 'cd /mnt/{name} && mount --bind /proc proc && pivot_root . old && exec bin/busybox chroot . \\
	/bin/busybox sh -c "/bin/busybox umount -l /old; /bin/busybox cat /proc/self/mountinfo"' > /run/out/{name}.mountinfo
) || echo 'failed: {name}'
"""

_CAPTURE = """
udevadm settle
PYTHONPATH=/run/job python3 -c 'import sys; from safeupdate.cli import main; sys.exit(main())' capture /run/out/tree
rm -rf /run/out/tree/usr/bin /run/out/tree/usr/sbin /run/out/tree/usr/lib/x86_64-linux-gnu
tar -cS -C /run/out . > /run/result
sync
umount /mnt/*
"""

_GUEST = f"""#!/bin/busybox sh
/bin/busybox mount -t proc proc /proc 2> /dev/null
exec > /dev/console 2>&1
echo "{tree.UP} $(/bin/busybox grep ' / ' /proc/mounts | /bin/busybox tail -n 1)"
echo o > /proc/sysrq-trigger
/bin/busybox sleep 60
"""


def directory(suite: str) -> Path:
    """Where the disks of all roots are kept, and in `out` what their guest handed over."""
    return Path(cache(), "roots", f"{suite}-all")


def made(suite: str) -> Path:
    """`directory`, with all that is in it; made first where it is missing."""
    place = directory(suite)
    if not (place / "out/tree").is_dir():
        place.mkdir(parents=True, exist_ok=True)
        tree.root(suite)
        with turn():
            _make(suite, place)
    return place


def image(root: Root, suite: str, generator: str) -> bytes:
    """The generator's image with what it takes from this root's configuration."""
    data = tree.root(suite).joinpath(f"{generator}.img").read_bytes()
    return data + bytes(-len(data) % 4) + added(root, generator)


def added(root: Root, generator: str) -> bytes:
    """What a generator takes from a root's configuration, to stand behind an image."""
    texts = dict(MULTIPATH) if root.bus == "multipath" else {}
    if root.crypttab:
        name = "cryptroot/crypttab" if generator == "initramfs-tools" else "etc/crypttab"
        texts[name] = f"{root.filled(root.crypttab)}\n"
    return b"".join(images.added(path, text) for path, text in texts.items())


def drives(root: Root, place: Path, *, forget: str = "", port: int = 0) -> list[str]:
    """QEMU's arguments for the disks of a root, on AHCI from this port on. What is written goes with `forget`, a
    directory for that."""
    words: list[str] = []
    for number, serial in enumerate(root.serials):
        file = str(place / f"{serial}.img")
        if root.bus == "multipath":
            form = "raw"
            if forget:
                over, form = f"{forget}/{serial}.qcow2", "qcow2"
                run("qemu-img", "create", "-q", "-f", "qcow2", "-b", file, "-F", "raw", over)
                file = over
            words += ["-blockdev", f"driver={form},node-name={serial},file.driver=file,file.filename={file}"]
            words += ["-device", "virtio-scsi-pci,id=scsi"]
            for _ in range(2):  # both paths share one node
                words += ["-device", f"scsi-hd,bus=scsi.0,drive={serial},share-rw=on,serial={serial},wwn=0x{WWN}"]
            continue
        snapshot = "on" if forget else "off"
        words += ["-drive", f"file={file},format=raw,if=none,id={serial},cache=unsafe,snapshot={snapshot}"]
        device = {"virtio": "virtio-blk-pci", "ahci": f"ide-hd,bus=ide.{port + number}", "nvme": "nvme"}[root.bus]
        words += ["-device", f"{device},drive={serial},serial={serial}"]
    return words


def _make(suite: str, place: Path) -> None:
    base = tree.root(suite)
    words: list[str] = []
    script = _ALL
    files: dict[str, str | bytes] = {"guest": _GUEST}
    port = 0
    for root in ROOTS.values():
        for serial in root.serials:
            partition(str(place / f"{serial}.img"), [Part(root.size)], gpt=False)
        words += drives(root, place, port=port)
        port += root.disks if root.bus == "ahci" else 0
        parts = "\n".join(f"{name}=$(part {serial})" for name, serial in zip("ab", root.serials))
        script += _EACH.format(parts=parts, make=root.filled(root.make), name=root.name)
    files["job"] = script + _CAPTURE
    files.update({path.rpartition("/")[2]: text for path, text in MULTIPATH.items()})
    result = place / "result.img"
    with result.open("wb") as file:
        file.truncate(_RESULT << 20)
    words += ["-drive", f"file={base / 'tree.img'},format=raw,if=none,id=tree,snapshot=on"]
    words += ["-device", "virtio-blk-pci,drive=tree,serial=tree"]
    words += ["-drive", f"file={result},format=raw,if=none,id=result"]
    words += ["-device", "virtio-blk-pci,drive=result,serial=result", *_job(place, files)]
    line = f"root=UUID={tree.UUID} ro console=ttyS0 panic=-1 init=/usr/local/sbin/guest-init guest.job=rw"
    kernel = (str(base / "vmlinuz"), str(base / "initramfs-tools.img"), line)
    boot = start(kernel, place / "make.log", extra=words, job=True)
    for line in boot.text.splitlines():
        if line.startswith("failed: "):
            print(f"roots: {line}", flush=True)
    if boot.ending != "up":
        raise LabError(f"the guest did not do its job ({boot.ending}, {boot.seconds:.0f} s), see {place}/make.log")
    print(f"roots: made and captured in {boot.seconds:.0f} s", flush=True)
    out = place / "out"
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    run("tar", "-x", "-C", str(out), "-f", str(result))
    result.unlink()


def _job(place: Path, files: Mapping[str, str | bytes]) -> Sequence[str]:
    """A disk that is an archive of these files and of the program, with its bytecode if that is there."""
    name = place / "job.tar"
    with tarfile.open(name, "w") as archive:
        for path, content in files.items():
            data = content.encode() if isinstance(content, str) else content
            member = tarfile.TarInfo(path)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
        archive.add(_HERE.parent.parent / "safeupdate", "safeupdate")
    os.truncate(name, (name.stat().st_size + 65535) // 65536 * 65536)
    drive = f"file={name},format=raw,if=none,id=job,readonly=on"
    return ["-drive", drive, "-device", "virtio-blk-pci,drive=job,serial=job"]
