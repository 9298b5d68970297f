from __future__ import annotations

import gzip
import lzma
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from safeupdate.boot.plan import BootEntry, BootFile
from safeupdate.case import Case
from safeupdate.checks import early_modules
from safeupdate.checks.dkms_early import early
from safeupdate.config import Config, ModuleSettings
from safeupdate.initramfs import Index
from safeupdate.report import Finding
from tests.unit import initrd
from tests.unit.test_module_symbols import ko
from tests.unit.trees import IMAGE, INITRD, MODULES, REAL_MACHINES, RELEASE, Content, Link, case, tree, x86_image

ROOT = "27 1 0:30 / / rw - zfs rpool/ROOT rw\n"
LOADED = "zfs 1 5 - Live 0x0\nspl 1 1 zfs, Live 0x0\nnvidia 1 0 - Live 0x0\nown 1 0 - Live 0x0\n"
KERNEL = {"module_layout": 0x11, "printk": 0x22}
SYMVERS = "".join(f"0x{number:08x}\t{name}\tvmlinux\tEXPORT_SYMBOL\t\n" for name, number in KERNEL.items())
OWN = ko("own", versions=KERNEL, undefined=["printk"])


def spl(build: str = "2.2", *, api: int = 0x99, layout: int = 0x11) -> bytes:
    """Its name in the tests is part of the build id."""
    versions = {**KERNEL, "module_layout": layout}
    fields = [f"version={build}", f"srcversion=S{build}"]
    return ko(f"spl{build}", versions=versions, undefined=["printk"], exports={"spl_init": api}, fields=fields)


def zfs(build: str = "2.2", *, api: int = 0x99, layout: int = 0x11, source: str = "") -> bytes:
    versions = {**KERNEL, "module_layout": layout, "spl_init": api}
    fields = ["version=2.2", f"srcversion={source}"] if source else [f"version={build}", f"srcversion=Z{build}"]
    return ko(f"zfs{build}", versions=versions, undefined=["printk", "spl_init"], fields=fields)


def nvidia(build: str = "1") -> bytes:
    return ko(f"nvidia{build}", versions=KERNEL, undefined=["printk"], fields=[f"version={build}"])


DISK: Mapping[str, bytes] = {
    "kernel/lib/own.ko": OWN,
    "updates/dkms/zfs.ko": zfs(),
    "updates/dkms/spl.ko": spl(),
    "updates/dkms/nvidia.ko": nvidia(),
}
DEP = "kernel/lib/own.ko:\nupdates/dkms/zfs.ko: updates/dkms/spl.ko\nupdates/dkms/spl.ko:\nupdates/dkms/nvidia.ko:\n"
ZFS = {path: DISK[path] for path in ("kernel/lib/own.ko", "updates/dkms/zfs.ko", "updates/dkms/spl.ko")}

TOOLS: dict[str, initrd.Content] = {"conf/initramfs.conf": b"", "scripts/functions": b"", "init": b"#!/bin/sh\n"}
DRACUT: dict[str, initrd.Content] = {"usr/lib/dracut/modules.txt": b"", "init": b"#!/bin/sh\n"}


def image(
    held: Mapping[str, bytes], *, made_by: Mapping[str, initrd.Content] = TOOLS, kind: str | None = "gzip"
) -> bytes:
    files = {f"usr/lib/modules/{RELEASE}/{path}": data for path, data in held.items()}
    packed = initrd.archive({**made_by, "lib": "usr/lib", **files})
    return packed if kind is None else initrd.compress(kind, packed)


def world(
    root: Path,
    held: Mapping[str, bytes] | bytes,
    *,
    disk: Mapping[str, bytes] = DISK,
    dep: str = DEP,
    loaded: str = LOADED,
    mounts: str = ROOT,
    cmdline: str = "",
    more: Mapping[str, Content] | None = None,
) -> Case:
    """A machine with its root on ZFS, and nvidia loaded and idle."""
    files: dict[str, Content] = {
        IMAGE: x86_image(),
        INITRD: held if isinstance(held, bytes) else image(held),
        f"/boot/config-{RELEASE}": "CONFIG_MODULES=y\nCONFIG_MODVERSIONS=y\nCONFIG_BLK_DEV_INITRD=y\n",
        f"{MODULES}/modules.dep": dep,
        f"{MODULES}/build/Module.symvers": SYMVERS,
        "/proc/modules": loaded,
        "/proc/self/mountinfo": mounts,
        "/proc/sys/kernel/osrelease": f"{RELEASE}\n",
        "/sys/class/block/sda/size": "1\n",
        "/usr/sbin/update-initramfs": "",
    }
    return case(
        tree(root, {**files, **{f"{MODULES}/{path}": data for path, data in disk.items()}, **(more or {})}), cmdline
    )


def ask(asked: Case) -> list[Finding]:
    try:
        return list(early(asked))
    finally:
        asked.shelf.close()


def told(asked: Case) -> list[tuple[str, str]]:
    return [(finding.level, finding.id.partition(".")[2]) for finding in ask(asked)]


def only(asked: Case) -> Finding:
    (finding,) = ask(asked)
    return finding


def test_a_healthy_image(tmp_path: Path) -> None:
    assert told(world(tmp_path, ZFS)) == []


def test_a_module_that_root_needs_is_missing(tmp_path: Path) -> None:
    finding = only(world(tmp_path, {"kernel/lib/own.ko": OWN, "updates/dkms/spl.ko": spl()}))
    assert (finding.level, finding.id, finding.subject) == ("blocker", "dkms.not-in-initramfs", INITRD)
    assert finding.evidence == ("zfs: / is a file system of the type zfs",)
    assert ("update-initramfs", "-u", "-k", RELEASE) in finding.remedy.commands


def test_all_that_root_needs_is_told_at_once(tmp_path: Path) -> None:
    finding = only(world(tmp_path, {"kernel/lib/own.ko": OWN}))
    assert "the modules spl, zfs" in finding.problem
    assert finding.evidence == ("spl: the module zfs depends on it", "zfs: / is a file system of the type zfs")


def test_what_root_does_not_need_may_be_missing(tmp_path: Path) -> None:
    used = LOADED.replace("nvidia 1 0", "nvidia 1 7")
    assert told(world(tmp_path, ZFS, loaded=used)) == []


def test_what_is_built_in_or_not_there_at_all_is_asked_elsewhere(tmp_path: Path) -> None:
    held = {"kernel/lib/own.ko": OWN}
    builtin: dict[str, Content] = {f"{MODULES}/modules.builtin": "kernel/fs/zfs/zfs.ko\nkernel/fs/zfs/spl.ko\n"}
    assert told(world(tmp_path / "a", held, more=builtin)) == []
    assert told(world(tmp_path / "b", held, disk={"kernel/lib/own.ko": OWN}, dep="kernel/lib/own.ko:\n")) == []


def test_modules_of_the_kernel_are_asked_elsewhere(tmp_path: Path) -> None:
    disk = {"kernel/lib/own.ko": OWN, "kernel/zfs/zfs.ko": zfs(), "kernel/zfs/spl.ko": spl()}
    dep = "kernel/lib/own.ko:\nkernel/zfs/zfs.ko: kernel/zfs/spl.ko\nkernel/zfs/spl.ko:\n"
    assert told(world(tmp_path, {"kernel/lib/own.ko": OWN}, disk=disk, dep=dep)) == []


def test_a_module_that_is_asked_for_by_name_is_told_by_root_storage(tmp_path: Path) -> None:
    asked = world(tmp_path, {"kernel/lib/own.ko": OWN, "updates/dkms/spl.ko": spl()})
    assert told(replace(asked, required_drivers=("zfs",))) == []


def test_an_image_without_any_module_is_told_once(tmp_path: Path) -> None:
    assert told(world(tmp_path, image({}))) == []


def test_damaged_and_absent_images_are_told_elsewhere(tmp_path: Path) -> None:
    assert told(world(tmp_path / "a", image({})[:-9])) == []
    assert told(case(tree(tmp_path / "b", {IMAGE: x86_image()}), initramfs=())) == []


def test_optional_modules_are_a_warning(tmp_path: Path) -> None:
    asked = world(tmp_path, {"kernel/lib/own.ko": OWN, "updates/dkms/spl.ko": spl()})
    assert told(replace(asked, config=Config(modules=ModuleSettings(("zfs",))))) == [("warning", "not-in-initramfs")]


# -- the image that is running ---------------------------------------------------------------------------------

OLD = "6.1.0-49-amd64"


def beside_the_running(root: Path, held: Mapping[str, bytes], *, sysfs: bool) -> Case:
    """The kernel is new; the running one has a driver in its image of which nothing but that tells."""
    running = {f"usr/lib/modules/{OLD}/{path}": data for path, data in {**ZFS, "extra/hba.ko": OWN}.items()}
    more: dict[str, Content] = {
        "/proc/sys/kernel/osrelease": f"{OLD}\n",
        f"/boot/initrd.img-{OLD}": initrd.compress("gzip", initrd.archive({**TOOLS, "lib": "usr/lib", **running})),
        f"/boot/vmlinuz-{OLD}": x86_image(OLD),
    }
    mounts = "27 1 8:1 / / rw - ext4 /dev/sda1 rw\n"
    disk = {**DISK, "extra/hba.ko": OWN}
    made = world(
        root, held, disk=disk, dep=DEP + "extra/hba.ko:\n", loaded="hba 1 0 - Live 0x0\n", mounts=mounts, more=more
    )
    if not sysfs:
        shutil.rmtree(root / "sys")
    else:
        tree(
            root,
            {
                "/sys/class/block/sda1": Link("../../devices/x/block/sda/sda1"),
                "/sys/devices/x/block/sda/sda1/partition": "1",
            },
        )
    other = BootEntry(
        loader="grub",
        id="old",
        title="old",
        source="grub.cfg",
        kernel=BootFile(f"/boot/vmlinuz-{OLD}", f"/boot/vmlinuz-{OLD}"),
        initramfs=(BootFile(f"/boot/initrd.img-{OLD}", f"/boot/initrd.img-{OLD}"),),
        release=OLD,
    )
    return case(made.machine, others=(other,))


def test_without_sysfs_the_running_image_makes_it_unknown(tmp_path: Path) -> None:
    finding = only(beside_the_running(tmp_path / "a", {"kernel/lib/own.ko": OWN}, sysfs=False))
    assert (finding.level, finding.id) == ("unknown", "dkms.not-in-initramfs")
    assert "does not hold the module hba, which the image of the running kernel does" in finding.problem
    assert told(beside_the_running(tmp_path / "b", {"kernel/lib/own.ko": OWN}, sysfs=True)) == []
    assert told(beside_the_running(tmp_path / "c", {"kernel/lib/own.ko": OWN, "extra/hba.ko": OWN}, sysfs=False)) == []
    none = replace(beside_the_running(tmp_path / "d", {"kernel/lib/own.ko": OWN}, sysfs=False), required_drivers=())
    assert told(none) == []


# -- copies ----------------------------------------------------------------------------------------------------


def test_a_module_that_was_built_after_the_image(tmp_path: Path) -> None:
    old = {**ZFS, "updates/dkms/zfs.ko": zfs("2.1", api=0x98), "updates/dkms/spl.ko": spl("2.1", api=0x98)}
    finding = only(world(tmp_path, old))
    assert (finding.level, finding.id, finding.subject) == ("warning", "dkms.initramfs-stale", INITRD)
    assert finding.evidence == ("spl: version 2.1, on disk 2.2", "zfs: version 2.1, on disk 2.2")


def test_the_same_source_in_another_build_is_not_stale(tmp_path: Path) -> None:
    disk = {**DISK, "updates/dkms/zfs.ko": zfs("one", source="ABC")}
    assert told(world(tmp_path, {**ZFS, "updates/dkms/zfs.ko": zfs("two", source="ABC")}, disk=disk)) == []


def test_a_copy_of_another_kernel_with_the_same_name(tmp_path: Path) -> None:
    disk = {**DISK, "updates/dkms/zfs.ko": zfs("one", source="ABC")}
    finding = only(world(tmp_path, {**ZFS, "updates/dkms/zfs.ko": zfs("two", source="ABC", layout=0x12)}, disk=disk))
    assert (finding.level, finding.id) == ("blocker", "dkms.initramfs-misfit")
    assert finding.evidence == ("zfs: the kernel has other versions of module_layout",)


def test_half_of_an_old_pair(tmp_path: Path) -> None:
    finding = only(world(tmp_path, {**ZFS, "updates/dkms/spl.ko": spl("2.1", api=0x98)}))
    assert (finding.level, finding.id) == ("blocker", "dkms.initramfs-misfit")
    assert finding.evidence == ("zfs: it was built with another version of spl_init than that of spl in the image",)


def test_a_copy_that_is_no_module(tmp_path: Path) -> None:
    finding = only(world(tmp_path, {**ZFS, "updates/dkms/zfs.ko": zfs()[:900]}))
    assert (finding.level, finding.id) == ("blocker", "dkms.initramfs-misfit")


def test_what_a_module_needs_is_not_in_the_image(tmp_path: Path) -> None:
    dep = DEP.replace("zfs.ko: updates/dkms/spl.ko", "zfs.ko: updates/dkms/spl.ko kernel/lib/zlib.ko")
    finding = only(world(tmp_path, ZFS, dep=dep))
    assert (finding.level, finding.id) == ("blocker", "dkms.initramfs-misfit")
    assert finding.evidence == ("zfs: it needs the module zlib, which is not in the image",)
    builtin: dict[str, Content] = {f"{MODULES}/modules.builtin": "kernel/lib/zlib.ko\n"}
    assert told(world(tmp_path / "b", ZFS, dep=dep, more=builtin)) == []


@pytest.mark.parametrize(("uses", "level"), [("7", "warning"), ("0", "note")])
def test_what_root_does_not_need_is_stale(tmp_path: Path, uses: str, level: str) -> None:
    held = {**ZFS, "updates/dkms/nvidia.ko": nvidia("0")}
    finding = only(world(tmp_path, held, loaded=LOADED.replace("nvidia 1 0", f"nvidia 1 {uses}")))
    assert (finding.level, finding.id) == (level, "dkms.initramfs-stale")
    assert finding.evidence == ("nvidia: version 0, on disk 1",)


def test_modprobe_does_not_find_it_there(tmp_path: Path) -> None:
    listed = {**ZFS, "modules.dep": DEP.replace("updates/dkms/zfs.ko", "updates/dkms/other.ko").encode()}
    finding = only(world(tmp_path / "a", listed))
    assert (finding.level, finding.id) == ("blocker", "dkms.initramfs-misfit")
    assert "modules.dep) does not have it" in finding.problem
    assert told(world(tmp_path / "b", {**ZFS, "modules.dep": DEP.encode()})) == []
    assert told(world(tmp_path / "c", {**ZFS, "modules.dep": b"damaged"})) == []


def test_of_a_fallback_only_root_is_asked(tmp_path: Path) -> None:
    held = {**ZFS, "updates/dkms/nvidia.ko": nvidia("0")}
    assert told(replace(world(tmp_path, held), is_target=False)) == []


@pytest.mark.parametrize("made_by", [TOOLS, DRACUT], ids=["initramfs-tools", "dracut"])
def test_a_copy_that_was_stripped(tmp_path: Path, made_by: Mapping[str, initrd.Content]) -> None:
    disk = {path: data + bytes(500) for path, data in DISK.items()}
    assert told(world(tmp_path, image(ZFS, made_by=made_by), disk=disk)) == []


@pytest.mark.parametrize("where", ["disk", "image"])
def test_packed_on_one_side_only(tmp_path: Path, where: str) -> None:
    def packed(files: Mapping[str, bytes]) -> dict[str, bytes]:
        return {f"{path}.xz": lzma.compress(data) for path, data in files.items()}

    if where == "disk":
        disk, dep = packed(DISK), DEP.replace(".ko", ".ko.xz")
        assert told(world(tmp_path / "a", ZFS, disk=disk, dep=dep)) == []
        assert told(world(tmp_path / "b", {**ZFS, "updates/dkms/zfs.ko": zfs("2.1")}, disk=disk, dep=dep)) == [
            ("warning", "initramfs-stale")
        ]
    else:
        assert told(world(tmp_path / "a", packed(ZFS))) == []
        held = packed({**ZFS, "updates/dkms/zfs.ko": zfs("2.1")})
        assert told(world(tmp_path / "b", held)) == [("warning", "initramfs-stale")]


def test_packed_anew(tmp_path: Path) -> None:
    disk = {f"{path}.gz": gzip.compress(data, 9, mtime=1) for path, data in DISK.items()}
    held = {f"{path}.gz": gzip.compress(data, 0, mtime=2) for path, data in ZFS.items()}
    assert told(world(tmp_path, held, disk=disk, dep=DEP.replace(".ko", ".ko.gz"))) == []


def test_bytes_that_no_checksum_vouches_for(tmp_path: Path) -> None:
    made = bytearray(image({**ZFS, "updates/dkms/nvidia.ko": nvidia()}, kind=None))
    assert told(world(tmp_path / "a", bytes(made))) == []
    made[made.index(b"name=nvidia1")] ^= 1
    finding = only(world(tmp_path / "b", bytes(made)))
    assert finding.id == "dkms.initramfs-stale" and "no checksum" in finding.evidence[0]


@pytest.mark.parametrize("build", ["2.2", "2.1"])
def test_a_weak_module_is_a_link_to_that_of_another_release(tmp_path: Path, build: str) -> None:
    weak, real = "weak-updates/zfs/zfs.ko", "lib/modules/6.1.0-40-amd64/extra/zfs/zfs.ko"
    disk = {path: data for path, data in DISK.items() if not path.endswith("zfs.ko")}
    files: dict[str, initrd.Content] = {
        **TOOLS,
        "lib": "usr/lib",
        **{f"usr/lib/modules/{RELEASE}/{path}": ZFS[path] for path in ("kernel/lib/own.ko", "updates/dkms/spl.ko")},
        f"usr/{real}": zfs(build),
        f"usr/lib/modules/{RELEASE}/{weak}": f"/{real}",
    }
    more: dict[str, Content] = {f"/{real}": zfs(), f"{MODULES}/{weak}": Link(f"/{real}")}
    made = initrd.compress("gzip", initrd.archive(files))
    asked = world(tmp_path, made, disk=disk, dep=DEP.replace("updates/dkms/zfs.ko", weak), more=more)
    assert told(asked) == ([] if build == "2.2" else [("warning", "initramfs-stale")])


def test_the_kernels_own_driver_of_that_name_in_the_image(tmp_path: Path) -> None:
    held = {path: data for path, data in ZFS.items() if not path.endswith("zfs.ko")}
    held["kernel/fs/zfs.ko"] = zfs("0.1")
    assert told(world(tmp_path, held)) == [("warning", "initramfs-stale")]


def test_the_check_of_the_initramfs_does_not_tell_it_again(tmp_path: Path) -> None:
    asked = world(tmp_path, {**ZFS, "updates/dkms/nvidia.ko": nvidia("0")})
    index = asked.index
    assert isinstance(index, Index) and list(early_modules.differing_modules(asked, INITRD, index)) == []
    asked.shelf.close()


def test_a_tree_that_has_another_order_of_modules(tmp_path: Path) -> None:
    disk = {path.rsplit("/", 1)[-1]: data for path, data in DISK.items()}
    assert told(world(tmp_path, {"own.ko": OWN}, disk=disk, dep="own.ko:\nzfs.ko: spl.ko\nspl.ko:\n")) == []


# -- real modules ----------------------------------------------------------------------------------------------


def real_modules() -> dict[str, Path]:
    """By release, the modules of each kernel that a distribution built."""
    images = [image for boot in REAL_MACHINES for image in sorted(boot.glob("vmlinuz-*"))]
    places = {image.name[8:]: image.parent.parent / "usr/lib/modules" / image.name[8:] for image in images}
    return {release: place for release, place in places.items() if list(place.glob("kernel/fs/minix/minix.ko*"))}


REAL = real_modules()
needs_real = pytest.mark.skipif(len(REAL) < 2, reason="the machines of two distributions are not built here")


def unpacked(path: Path) -> bytes:
    return lzma.decompress(path.read_bytes()) if path.suffix == ".xz" else path.read_bytes()


def minix(release: str) -> bytes:
    return unpacked(next(REAL[release].glob("kernel/fs/minix/minix.ko*")))


def real_case(root: Path, release: str, inside: bytes, *, made_by: Mapping[str, initrd.Content] = TOOLS) -> Case:
    """A real kernel with a few of its modules, a real module from elsewhere, and that in its initramfs."""
    place = REAL[release]
    own = sorted(place.glob("kernel/lib/*.ko*"), key=lambda path: path.stat().st_size)[:10]
    files: dict[str, Content] = {f"/lib/modules/{release}/{path.relative_to(place)}": path.read_bytes() for path in own}
    held = {f"usr/lib/modules/{release}/updates/dkms/hba.ko": inside}
    machine = tree(
        root,
        {
            **files,
            f"/boot/vmlinuz-{release}": (place.parents[3] / "boot" / f"vmlinuz-{release}").read_bytes(),
            f"/boot/config-{release}": (place.parents[3] / "boot" / f"config-{release}").read_bytes(),
            INITRD: initrd.compress("gzip", initrd.archive({**made_by, "lib": "usr/lib", **held})),
            f"/lib/modules/{release}/updates/dkms/hba.ko": minix(release),
            f"/lib/modules/{release}/modules.dep": "updates/dkms/hba.ko:\n",
            "/sys/class/block/sda/size": "1\n",
        },
    )
    return replace(case(machine, image=f"/boot/vmlinuz-{release}"), required_drivers=("hba",))


@needs_real
@pytest.mark.parametrize("release", REAL)
@pytest.mark.parametrize("made_by", [TOOLS, DRACUT], ids=["initramfs-tools", "dracut"])
def test_a_real_module_and_what_dracut_makes_of_it(
    tmp_path: Path, release: str, made_by: Mapping[str, initrd.Content]
) -> None:
    assert told(real_case(tmp_path / "same", release, minix(release), made_by=made_by)) == []
    assert minix(release).endswith(b"~Module signature appended~\n")
    signed_anew = minix(release)[:-80] + bytes(40) + minix(release)[-40:]
    assert told(real_case(tmp_path / "signature", release, signed_anew, made_by=made_by)) == []
    if shutil.which("strip") is None:
        pytest.skip("there is no strip here")
    stripped = tmp_path / "minix.ko"
    stripped.write_bytes(minix(release))
    subprocess.run(["strip", "-g", str(stripped)], check=True, timeout=30)
    assert stripped.read_bytes() != minix(release)
    assert told(real_case(tmp_path / "stripped", release, stripped.read_bytes(), made_by=made_by)) == []


@needs_real
def test_a_real_module_of_another_kernel(tmp_path: Path) -> None:
    releases = sorted(REAL)
    first, last = releases[0], releases[-1]
    finding = only(real_case(tmp_path / "a", last, minix(first)))
    assert (finding.level, finding.id) == ("blocker", "dkms.initramfs-misfit")
    finding = only(real_case(tmp_path / "b", first, minix(last)))
    assert (finding.level, finding.id) == ("blocker", "dkms.initramfs-misfit")
