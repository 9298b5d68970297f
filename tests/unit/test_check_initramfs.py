"""Images of every generator, whole and broken in one thing; real ones where this host has built them."""

from __future__ import annotations

import gzip
import json
import lzma
import struct
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from safeupdate.boot.plan import BootEntry, BootFile
from safeupdate.case import Case
from safeupdate.checks.initramfs import CHECK
from safeupdate.machine import Machine
from safeupdate.report import Finding, NotApplicable
from tests.unit.elves import kernel_module, note, program
from tests.unit.initrd import Content, archive, compress, member, trailer
from tests.unit.trees import INITRD, RELEASE, case, tree, x86_image
from tests.unit.trees import Content as TreeContent

OPTIONS = ("BLK_DEV_INITRD=y", "RD_GZIP=y", "RD_XZ=y", "RD_ZSTD=y", "EXT4_FS=m", "VIRTIO_BLK=m")
CONFIG = "".join(f"CONFIG_{option}\n" for option in OPTIONS)
MODULES = f"usr/lib/modules/{RELEASE}"
ROOT = "root=UUID=11111111-2222-3333-4444-555555555555 ro quiet"


def module(release: str = RELEASE, name: str = "a") -> bytes:
    return kernel_module([f"name={name}".encode(), f"vermagic={release} SMP mod_unload".encode()])


def dlopen(*sonames: str) -> bytes:
    text = json.dumps([{"soname": [soname], "feature": soname, "priority": "recommended"} for soname in sonames])
    return note("<", b"FDO\0", 0x407C0C0A, text.encode() + b"\0")


BASE: dict[str, Content] = {
    "bin": "usr/bin",
    "sbin": "usr/sbin",
    "lib": "usr/lib",
    "lib64": "usr/lib",
    "usr/lib/ld.so": program(interpreter=None, needed=()),
    "usr/lib/libc.so.6": program(interpreter=None, needed=()),
    "usr/lib/libkmod.so.2": program(interpreter=None, needed=("liblzma.so.5", "libc.so.6")),
    "usr/lib/liblzma.so.5": program(interpreter=None, needed=("libc.so.6",)),
    "usr/bin/sh": program(needed=("libc.so.6",)),
    "usr/bin/kmod": program(needed=("liblzma.so.5", "libc.so.6")),
    "usr/bin/mount": program(needed=("libc.so.6",)),
    "usr/bin/mkdir": program(needed=("libc.so.6",)),
    "usr/bin/udevadm": program(needed=("libc.so.6",)),
    "usr/sbin/modprobe": "../bin/kmod",
    "usr/lib/systemd/systemd-udevd": program(needed=("libkmod.so.2", "libc.so.6")),
    f"{MODULES}/kernel/a.ko": module(),
    f"{MODULES}/kernel/b.ko": module(name="b"),
    f"{MODULES}/modules.dep": b"kernel/a.ko:\nkernel/b.ko: kernel/a.ko\n",
}
INITRAMFS_TOOLS: dict[str, Content] = {
    **BASE,
    "init": b"#!/bin/sh\n",
    "conf/initramfs.conf": b"MODULES=most\n",
    "scripts/functions": b"",
    "scripts/init-top/udev": b"#!/bin/sh\n",
    "usr/bin/run-init": program(needed=("libc.so.6",)),
}
DRACUT: dict[str, Content] = {
    **BASE,
    "init": "usr/lib/systemd/systemd",
    "usr/lib/dracut/modules.txt": b"bash\n",
    "usr/lib/systemd/systemd": program(needed=("libc.so.6",)),
    "usr/bin/systemctl": program(needed=("libc.so.6",)),
    "etc/initrd-release": b"NAME=dracut\n",
    **{
        f"usr/lib/systemd/system/initrd{unit}": b""
        for unit in (".target", "-switch-root.target", "-switch-root.service")
    },
}
DRACUT_SHELL: dict[str, Content] = {
    **BASE,
    "init": b"#!/bin/sh\n",
    "usr/lib/dracut/modules.txt": b"bash\n",
    "usr/sbin/switch_root": program(needed=("libc.so.6",)),
}
GENERATORS = {"initramfs-tools": INITRAMFS_TOOLS, "dracut": DRACUT, "dracut without systemd": DRACUT_SHELL}


def machine(root: Path, image: bytes | None, files: Mapping[str, TreeContent] | None = None) -> Machine:
    world: dict[str, TreeContent] = {
        f"/boot/vmlinuz-{RELEASE}": x86_image(),
        f"/boot/config-{RELEASE}": CONFIG,
        "/usr/sbin/update-initramfs": "",
        **(files or {}),
    }
    if image is not None:
        world[INITRD] = image
    return tree(root, world)


def ask(asked: Case) -> list[Finding]:
    try:
        return list(CHECK.run(asked))
    finally:
        asked.shelf.close()


def judged(
    root: Path, image: bytes | None, files: Mapping[str, TreeContent] | None = None, **more: str
) -> list[Finding]:
    return ask(case(machine(root, image, files), more.get("cmdline", ROOT)))


def ids(findings: list[Finding]) -> list[tuple[str, str]]:
    assert all(finding.id.startswith("initramfs.") for finding in findings)
    return [(finding.level, finding.id.partition(".")[2]) for finding in findings]


# -- whole -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("files", GENERATORS.values(), ids=list(GENERATORS))
@pytest.mark.parametrize("kind", [None, "zstd", "xz"])
def test_whole_images(tmp_path: Path, files: dict[str, Content], kind: str | None) -> None:
    data = archive(files)
    assert judged(tmp_path, data if kind is None else compress(kind, data)) == []


def test_an_image_of_an_unknown_generator(tmp_path: Path) -> None:
    assert judged(tmp_path, archive({"init": program(interpreter=None, needed=()), f"{MODULES}/a.ko": module()})) == []


def test_microcode_in_an_image_of_its_own(tmp_path: Path) -> None:
    microcode = archive({"kernel/x86/microcode/GenuineIntel.bin": bytes(64)})
    world = machine(tmp_path, archive(INITRAMFS_TOOLS), {"/boot/intel-ucode.img": microcode})
    assert ask(case(world, ROOT, initramfs=("/boot/intel-ucode.img", INITRD))) == []
    world = machine(tmp_path / "empty", archive(INITRAMFS_TOOLS), {"/boot/intel-ucode.img": b""})
    assert ids(ask(case(world, ROOT, initramfs=("/boot/intel-ucode.img", INITRD)))) == [("warning", "empty")]
    world = machine(tmp_path / "alone", None, {"/boot/intel-ucode.img": microcode})
    assert ids(ask(case(world, ROOT, initramfs=("/boot/intel-ucode.img",)))) == [("blocker", "only-microcode")]


# -- damaged ---------------------------------------------------------------------------------------------------

GOOD = compress("zstd", archive(INITRAMFS_TOOLS))


@pytest.mark.parametrize(
    ("image", "level", "id"),
    [
        (b"", "blocker", "empty"),
        (bytes(512), "blocker", "empty"),
        (GOOD[: len(GOOD) // 2], "blocker", "truncated"),
        (gzip.compress(archive(INITRAMFS_TOOLS))[:-1], "warning", "end-truncated"),
        (GOOD[:-5], "blocker", "truncated"),
        (GOOD[:-1] + bytes([GOOD[-1] ^ 1]), "blocker", "corrupt"),
        (GOOD + b"junk", "warning", "junk"),
        (archive(INITRAMFS_TOOLS)[:-600], "blocker", "truncated"),
        (member(b"init", b"#!/bin/sh\n", 0o100755), "unknown", "no-end-mark"),
        (lzma.compress(archive(INITRAMFS_TOOLS)), "blocker", "kernel-cannot-decode"),
        (compress("bzip2", archive(INITRAMFS_TOOLS)), "blocker", "compressor-not-in-kernel"),
    ],
)
def test_damaged_images(tmp_path: Path, image: bytes, level: str, id: str) -> None:
    findings = judged(tmp_path, image)
    assert ids(findings) == [(level, id)]
    assert INITRD in findings[0].problem
    assert findings[0].remedy.commands


def test_a_stream_that_lacks_only_its_checksum(tmp_path: Path) -> None:
    pytest.importorskip("zstandard", reason="the zstd program keeps the last block back")
    assert ids(judged(tmp_path, GOOD[:-4])) == [("warning", "end-truncated")]


def test_junk_before_what_is_needed(tmp_path: Path) -> None:
    assert ids(judged(tmp_path, b"junk" + GOOD)) == [("blocker", "junk"), ("blocker", "no-init")]


def test_the_evidence_says_where(tmp_path: Path) -> None:
    microcode = archive({"kernel/x86/microcode/GenuineIntel.bin": bytes(64)})
    (finding,) = judged(tmp_path, microcode + compress("gzip", archive(INITRAMFS_TOOLS))[:-500])
    assert finding.evidence[0].startswith(f"segment 2 at offset {len(microcode)} of ")
    assert any("was being unpacked" in line for line in finding.evidence)


def test_a_cut_between_two_segments(tmp_path: Path) -> None:
    microcode = archive({"kernel/x86/microcode/GenuineIntel.bin": bytes(64)})
    modules = archive({name: content for name, content in BASE.items() if "/modules/" in name})
    assert ids(judged(tmp_path / "1", microcode)) == [("blocker", "only-microcode")]
    assert ids(judged(tmp_path / "2", microcode + modules)) == [("blocker", "no-init")]
    rest = {name: content for name, content in INITRAMFS_TOOLS.items() if not name.endswith(".ko")}
    many = {f"kernel/{n}.ko": module() for n in range(30)}
    rest[f"{MODULES}/modules.dep"] = "".join(f"{name}:\n" for name in many).encode()
    (finding,) = judged(tmp_path / "3", microcode + compress("xz", archive(rest)))
    assert (finding.level, finding.id) == ("blocker", "initramfs.modules-lost")
    assert finding.problem.endswith("30 of them are not in it: 0, 1, 10 and others.")


def test_a_kernel_without_initramfs_support(tmp_path: Path) -> None:
    config = {f"/boot/config-{RELEASE}": "CONFIG_RD_ZSTD=y\n"}
    assert ids(judged(tmp_path, GOOD, config)) == [("blocker", "not-supported-by-kernel")]
    assert judged(tmp_path / "none", GOOD, {f"/boot/config-{RELEASE}": None}) == []


def test_an_erofs_image_inside(tmp_path: Path) -> None:
    findings = judged(tmp_path, archive({**DRACUT_SHELL, "erofs-root.img": bytes(100)}))
    assert ids(findings) == [("unknown", "nested-image")]


# -- content ---------------------------------------------------------------------------------------------------


def without(files: Mapping[str, Content], *names: str, **changes: Content) -> dict[str, Content]:
    assert set(names) <= set(files)
    return {**{name: content for name, content in files.items() if name not in names}, **changes}


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (without(INITRAMFS_TOOLS, "init"), "no-init"),
        (without(INITRAMFS_TOOLS, init="nowhere"), "no-init"),
        (without(INITRAMFS_TOOLS, init="usr"), "init-not-executable"),
        (without(INITRAMFS_TOOLS, "usr/bin/sh"), "init-cannot-start"),
        (without(INITRAMFS_TOOLS, "usr/lib/ld.so"), "init-cannot-start"),
        (without(INITRAMFS_TOOLS, init=b"no program"), "init-cannot-start"),
        (without(DRACUT, "usr/lib/libc.so.6"), "init-cannot-start"),
        (without(INITRAMFS_TOOLS, "usr/bin/run-init"), "program-missing"),
        (without(INITRAMFS_TOOLS, "usr/bin/mount"), "program-missing"),
        (without(INITRAMFS_TOOLS, "usr/lib/systemd/systemd-udevd"), "program-missing"),
        (without(DRACUT, "usr/bin/systemctl"), "program-missing"),
        (without(DRACUT, "etc/initrd-release"), "no-initrd-release"),
        (without(DRACUT, "usr/lib/systemd/system/initrd-switch-root.service"), "unit-missing"),
        (without(DRACUT_SHELL, "usr/sbin/switch_root"), "program-missing"),
        (without(INITRAMFS_TOOLS, "usr/sbin/modprobe"), "no-modprobe"),
        (without(INITRAMFS_TOOLS, "usr/bin/kmod"), "no-modprobe"),
        (without(INITRAMFS_TOOLS, "usr/lib/libkmod.so.2"), "program-cannot-start"),
        (without(INITRAMFS_TOOLS, f"{MODULES}/modules.dep"), "no-modules-dep"),
    ],
)
def test_something_is_missing(tmp_path: Path, files: dict[str, Content], expected: str) -> None:
    findings = judged(tmp_path, archive(files))
    assert ("blocker", expected) in ids(findings)
    assert {finding.id for finding in findings} == {f"initramfs.{expected}"}


def test_init_is_not_executable(tmp_path: Path) -> None:
    assert ids(judged(tmp_path, archive(INITRAMFS_TOOLS, executable=False))) == [("blocker", "init-not-executable")]


def test_rdinit_on_the_command_line(tmp_path: Path) -> None:
    image = archive({**INITRAMFS_TOOLS, "other": b"#!/bin/sh\n"})
    assert judged(tmp_path, image, cmdline=f"{ROOT} rdinit=/other") == []
    assert ids(judged(tmp_path / "2", image, cmdline=f"{ROOT} rdinit=/missing")) == [("blocker", "no-init")]


def test_modules_of_another_release(tmp_path: Path) -> None:
    renamed = {name.replace(RELEASE, "6.1.0-99-amd64"): content for name, content in INITRAMFS_TOOLS.items()}
    assert ids(judged(tmp_path, archive(renamed))) == [("blocker", "other-release")]
    both = archive({**renamed, **INITRAMFS_TOOLS})
    assert judged(tmp_path / "both", both) == []


def test_modules_built_for_another_release(tmp_path: Path) -> None:
    foreign: dict[str, Content] = {f"{MODULES}/kernel/{name}.ko": module("6.1.0-99-amd64", name) for name in "ab"}
    assert ids(judged(tmp_path, archive({**INITRAMFS_TOOLS, **foreign}))) == [("blocker", "modules-of-other-build")]


def test_no_modules_at_all(tmp_path: Path) -> None:
    files = {name: content for name, content in INITRAMFS_TOOLS.items() if "/modules/" not in name}
    disk = {f"/lib/modules/{RELEASE}/kernel/a.ko": module()}
    assert ids(judged(tmp_path, archive(files), disk)) == [("warning", "no-modules")]
    assert judged(tmp_path / "none", archive(files)) == []


def test_modules_in_a_place_of_their_own(tmp_path: Path) -> None:
    files: dict[str, Content] = {
        "init": program(interpreter=None),
        "etc/booster.init.yaml": b"",
        "usr/lib/modules/virtio_blk.ko": module(),
    }
    disk = {f"/lib/modules/{RELEASE}/kernel/a.ko": module()}
    assert "no-modules" not in [name for _, name in ids(judged(tmp_path, archive(files), disk))]
    del files["usr/lib/modules/virtio_blk.ko"]
    assert "no-modules" in [name for _, name in ids(judged(tmp_path / "none", archive(files), disk))]


def compressed(suffix: str, kmod: bytes, library: bytes) -> dict[str, Content]:
    files = {name: content for name, content in INITRAMFS_TOOLS.items() if "/modules/" not in name}
    return {
        **files,
        "usr/bin/kmod": kmod,
        "usr/lib/libkmod.so.2": library,
        f"{MODULES}/kernel/a.ko{suffix}": b"compressed",
        f"{MODULES}/modules.dep": f"kernel/a.ko{suffix}:\n".encode(),
    }


def test_modules_that_kmod_cannot_read(tmp_path: Path) -> None:
    linked = program(needed=("liblzma.so.5", "libc.so.6"))
    opens = program(needed=("libc.so.6",), notes=dlopen("liblzma.so.5", "libzstd.so.1"))
    bare = program(needed=("libc.so.6",))
    for number, (suffix, kmod, library, readable) in enumerate(
        [
            (".xz", linked, linked, True),
            (".xz", opens, opens, True),
            (".zst", opens, opens, False),
            (".gz", opens, opens, False),
            (".xz", bare, linked, False),
            (".xz", linked, bare, False),
        ]
    ):
        findings = judged(tmp_path / str(number), archive(compressed(suffix, kmod, library)))
        assert ids(findings) == ([] if readable else [("blocker", "modules-unreadable")]), number
    config = f"{CONFIG}CONFIG_MODULE_DECOMPRESS=y\nCONFIG_MODULE_COMPRESS_XZ=y\n"
    assert judged(tmp_path / "k", archive(compressed(".xz", bare, bare)), {f"/boot/config-{RELEASE}": config}) == []


def test_udev_opens_libkmod_itself(tmp_path: Path) -> None:
    files = {
        **INITRAMFS_TOOLS,
        "usr/lib/systemd/systemd-udevd": program(needed=("libsystemd-shared-257.so", "libc.so.6")),
        "usr/lib/libsystemd-shared-257.so": program(
            interpreter=None, needed=("libc.so.6",), notes=dlopen("libbpf.so.1", "libkmod.so.2")
        ),
    }
    assert judged(tmp_path / "1", archive(files)) == []
    del files["usr/lib/libkmod.so.2"]
    assert ids(judged(tmp_path / "2", archive(files))) == [("blocker", "udev-cannot-load-modules")]


# -- against the machine ---------------------------------------------------------------------------------------


def test_modules_that_differ_from_the_disk(tmp_path: Path) -> None:
    disk: dict[str, TreeContent] = {f"/lib/modules/{RELEASE}/kernel/{name}.ko": module(name=name) for name in "ab"}
    assert judged(tmp_path / "same", archive(INITRAMFS_TOOLS), disk) == []
    disk[f"/lib/modules/{RELEASE}/kernel/b.ko"] = module(name="c")
    (finding,) = judged(tmp_path / "content", archive(INITRAMFS_TOOLS), disk)
    assert (finding.level, finding.id) == ("warning", "initramfs.modules-differ")
    assert finding.evidence == ("1 of 2 differ", "kernel/b.ko")
    disk[f"/lib/modules/{RELEASE}/kernel/b.ko"] = module() + b"larger"
    assert ids(judged(tmp_path / "size", archive(INITRAMFS_TOOLS), disk)) == [("warning", "modules-differ")]
    # dracut strips modules that are not signed.
    assert judged(tmp_path / "dracut", archive(DRACUT), disk) == []


def test_a_module_that_was_damaged_where_no_checksum_stands(tmp_path: Path) -> None:
    files = {name: content for name, content in INITRAMFS_TOOLS.items() if not name.endswith(".ko")}
    modules: dict[str, Content] = {
        f"{MODULES}/kernel/m{number}.ko": module(name=f"{number:03}") for number in range(99)
    }
    image = bytearray(archive(modules) + compress("gzip", archive(files)))
    disk = {f"/{name[4:]}": content for name, content in modules.items()}
    assert judged(tmp_path / "good", bytes(image), disk) == []
    image[image.index(b"name=037")] ^= 1
    (finding,) = judged(tmp_path / "bad", bytes(image), disk)
    assert (finding.id, finding.evidence) == ("initramfs.modules-differ", ("1 of 99 differ", "kernel/m37.ko"))


def test_memory(tmp_path: Path) -> None:
    image = compress("zstd", archive({**INITRAMFS_TOOLS, "big": bytes(40 << 20)}))
    for number, (kilobytes, expected) in enumerate(
        [(1 << 20, []), (70 << 10, [("unknown", "larger-than-memory")]), (110 << 10, [])]
    ):
        findings = judged(tmp_path / str(number), image, {"/proc/meminfo": f"MemTotal:  {kilobytes} kB\n"})
        assert ids(findings) == expected, kilobytes
    image = compress("zstd", archive({**INITRAMFS_TOOLS, "big": bytes(120 << 20)}))
    findings = judged(tmp_path / "half", image, {"/proc/meminfo": f"MemTotal:  {200 << 10} kB\n"})
    assert ids(findings) == [("warning", "large-for-memory")]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("mem=70M", [("blocker", "larger-than-limit")]),
        ("mem=71680k", [("blocker", "larger-than-limit")]),
        ("mem=2G", []),
    ],
)
def test_memory_that_the_command_line_limits(tmp_path: Path, given: str, expected: list[tuple[str, str]]) -> None:
    image = compress("zstd", archive({**INITRAMFS_TOOLS, "big": bytes(40 << 20)}))
    facts = {"/proc/meminfo": f"MemTotal:  {1 << 20} kB\n"}
    assert ids(judged(tmp_path, image, facts, cmdline=given)) == expected


def test_much_smaller_than_the_image_that_booted(tmp_path: Path) -> None:
    filler = b"".join(struct.pack("<I", number * 2654435761 & 0xFFFFFFFF) for number in range(20_000))
    earlier = compress("gzip", archive({**INITRAMFS_TOOLS, "firmware": filler}))
    world = machine(
        tmp_path,
        compress("gzip", archive(INITRAMFS_TOOLS)),
        {"/boot/initrd.img-6.1.0-49": earlier, "/proc/sys/kernel/osrelease": "6.1.0-49\n"},
    )
    path = "/boot/initrd.img-6.1.0-49"
    other = BootEntry("grub", "old", "Old", "grub.cfg", None, (BootFile(path, path),), ROOT, "6.1.0-49")
    assert ids(ask(case(world, ROOT, others=(other,)))) == [("warning", "size-drop")]
    (tmp_path / path[1:]).write_bytes(compress("xz", archive({**INITRAMFS_TOOLS, "firmware": filler})))
    assert ask(case(world, ROOT, others=(other,))) == []


# -- no image --------------------------------------------------------------------------------------------------

BUILT_IN = {
    f"/boot/config-{RELEASE}": CONFIG.replace("=m", "=y") + "CONFIG_VIRTIO_PCI=y\n",
    "/sys/class/block/vda1/dev": "254:1\n",
    "/proc/self/mountinfo": "25 1 254:1 / / rw,relatime - ext4 /dev/vda1 rw\n",
}


def entry(cmdline: str, *files: BootFile) -> BootEntry:
    image = f"/boot/vmlinuz-{RELEASE}"
    return BootEntry("grub", "one", "Linux", "/boot/grub/grub.cfg, line 1", BootFile(image, image), files, cmdline)


def test_an_entry_without_image(tmp_path: Path) -> None:
    world = machine(tmp_path, None)
    assert ids(ask(case(world, entry=entry(ROOT)))) == [("blocker", "none-loaded")]
    with pytest.raises(NotApplicable):
        ask(case(world, entry=entry("root=PARTUUID=1234-02 ro")))
    world = machine(tmp_path / "m", None, {**BUILT_IN, f"/boot/config-{RELEASE}": CONFIG})
    (finding,) = ask(case(world, entry=entry("root=/dev/vda1 ro")))
    assert "CONFIG_EXT4_FS" in finding.problem
    world = machine(tmp_path / "y", None, BUILT_IN)
    with pytest.raises(NotApplicable):
        ask(case(world, entry=entry("root=/dev/vda1 ro")))


def test_an_image_that_is_not_there_or_not_to_be_seen(tmp_path: Path) -> None:
    world = machine(tmp_path, None)
    with pytest.raises(NotApplicable):
        ask(case(world, entry=entry(ROOT, BootFile("/initrd", "/boot/initrd", absent=True))))
    findings = ask(case(world, entry=entry(ROOT, BootFile("/initrd", None, why="no such file system here"))))
    assert ids(findings) == [("unknown", "not-visible")]


def test_a_kernel_that_is_started_without_the_image_first(tmp_path: Path) -> None:
    """Ubuntu's GRUB_FORCE_PARTUUID: what is wrong with the image matters only where the first try fails."""
    image = BootFile(INITRD, INITRD)
    plain = "root=PARTUUID=1234-02 ro"
    first = replace(entry(ROOT, image), without_initramfs_first=True, cmdline_without_initramfs=plain)
    world = machine(tmp_path / "y", GOOD[:-9], BUILT_IN)
    assert ids(ask(case(world, entry=first))) == [("warning", "truncated")]
    world = machine(tmp_path / "m", GOOD[:-9])
    assert ids(ask(case(world, entry=first))) == [("blocker", "truncated")]


def test_a_kernel_that_needs_no_image_and_has_an_empty_one(tmp_path: Path) -> None:
    world = machine(tmp_path, b"", BUILT_IN)
    assert ids(ask(case(world, "root=/dev/vda1 ro"))) == [("warning", "empty")]
    world = machine(tmp_path / "2", trailer() + archive({"etc/x": b""}), BUILT_IN)
    assert ids(ask(case(world, "root=/dev/vda1 ro"))) == [("warning", "no-init")]


def test_no_entry(tmp_path: Path) -> None:
    with pytest.raises(NotApplicable):
        ask(replace(case(machine(tmp_path, None)), entry=None))


def test_a_unified_kernel_image_that_is_broken(tmp_path: Path) -> None:
    world = machine(tmp_path, None)
    assert ids(ask(case(world, entry=replace(entry(ROOT), embedded=True)))) == [("unknown", "unreadable")]


def test_an_image_that_is_no_file(tmp_path: Path) -> None:
    assert ids(judged(tmp_path, None, {INITRD: None})) == [("unknown", "unreadable")]
