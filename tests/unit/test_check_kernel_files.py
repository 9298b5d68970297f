from __future__ import annotations

import gzip
import lzma
import os
import shutil
import struct
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from safeupdate.boot.firmware import Firmware
from safeupdate.checks.kernel_files import CHECK, first_names
from safeupdate.machine import Machine
from safeupdate.report import Finding
from tests.unit import signed_efi
from tests.unit.elves import kernel_module, program
from tests.unit.trees import (
    IMAGE,
    MODULES,
    RELEASE,
    Content,
    Link,
    case,
    dep_index,
    index,
    real_kernels,
    tree,
    x86_image,
)

KERNEL = bytes(range(256)) * 300
XZ = lzma.compress(KERNEL, check=lzma.CHECK_CRC32)
SIZE = struct.pack("<I", len(KERNEL))

DEP = {"kernel/ext4.ko": ("kernel/jbd2.ko",), "kernel/jbd2.ko": (), "kernel/virtio_blk.ko": ()}


def module(release: str = RELEASE) -> bytes:
    return kernel_module([b"name=x", f"vermagic={release} SMP mod_unload modversions ".encode()])


def healthy(dependencies: Mapping[str, tuple[str, ...]] = DEP, payload: bytes = XZ) -> dict[str, Content]:
    return {
        IMAGE: x86_image(payload=payload + SIZE),
        f"/boot/config-{RELEASE}": "CONFIG_MODULES=y\n# CONFIG_X is not set\n",
        "/sbin/init": program(machine=62),
        "/usr/sbin/depmod": "",
        "/var/lib/dpkg/status": "",
        **{f"{MODULES}/{path}": module() for path in dependencies},
        f"{MODULES}/modules.dep": "".join(f"{path}: {' '.join(needed)}\n" for path, needed in dependencies.items()),
        f"{MODULES}/modules.dep.bin": dep_index(dependencies),
        f"{MODULES}/modules.alias.bin": index(),
        f"{MODULES}/modules.symbols.bin": index(),
        f"{MODULES}/modules.builtin.bin": index(),
    }


def ask(machine: Machine, *, secure_boot: bool = False) -> list[Finding]:
    return list(CHECK.run(case(machine, firmware=Firmware("uefi", secure_boot=secure_boot))))


def found(machine: Machine, *, secure_boot: bool = False) -> list[tuple[str, str]]:
    return [(finding.level, finding.id.partition(".")[2]) for finding in ask(machine, secure_boot=secure_boot)]


def with_changes(root: Path, **changes: Content) -> Machine:
    """A healthy machine with other content at IMAGE (`image`) or below /lib/modules/R (dots as `_`); None removes."""
    files = healthy()
    for name, content in changes.items():
        path = IMAGE if name == "image" else f"{MODULES}/{name.replace('_', '.')}"
        if content is None:
            del files[path]
        else:
            files[path] = content
    return tree(root, files)


def test_a_healthy_kernel(tmp_path: Path) -> None:
    assert ask(tree(tmp_path, healthy())) == []


# -- the image -------------------------------------------------------------------------------------------------


def test_an_image_that_is_not_there_is_for_boot_entry(tmp_path: Path) -> None:
    assert found(with_changes(tmp_path, image=None)) == []


@pytest.mark.parametrize(
    ("image", "finding"),
    [
        (b"", "image-empty"),
        (b"#!/bin/sh\n" * 100, "image-not-a-kernel"),
        (bytes(1 << 20), "image-not-a-kernel"),
        (x86_image(payload=XZ + SIZE)[:0x250], "image-not-a-kernel"),
        (x86_image(payload=XZ + SIZE)[:-20], "image-truncated"),
        (x86_image(payload=XZ + SIZE)[:1100], "image-truncated"),
    ],
)
def test_an_image_that_was_cut(tmp_path: Path, image: bytes, finding: str) -> None:
    machine = with_changes(tmp_path, image=image)
    assert found(machine) == [("blocker", finding)]
    (said,) = ask(machine)
    assert IMAGE in said.problem
    assert said.remedy.commands == (("apt-get", "install", "--reinstall", f"linux-image-{RELEASE}"),)


def _flipped(data: bytes, position: int) -> bytes:
    return data[:position] + bytes([data[position] ^ 0x10]) + data[position + 1 :]


def _packed() -> dict[str, bytes]:
    packed = {"xz": XZ + SIZE, "gzip": gzip.compress(KERNEL)}
    packed["lzma"] = lzma.compress(KERNEL, lzma.FORMAT_ALONE) + SIZE
    for name, arguments in {"zstd": ["-c"], "lz4": ["-lc"], "bzip2": ["-c"], "lzop": ["-c"]}.items():
        if shutil.which(name):
            done = subprocess.run([name, *arguments], input=KERNEL, capture_output=True, timeout=30, check=True)
            packed[name] = done.stdout + SIZE
    return packed


PACKED = _packed()


@pytest.mark.parametrize("kind", PACKED)
def test_the_kernel_inside_an_unsigned_image(tmp_path: Path, kind: str) -> None:
    payload = PACKED[kind]
    assert found(with_changes(tmp_path / "whole", image=x86_image(payload=payload))) == []
    for position in (1, len(payload) // 2, len(payload) - 2):
        damaged = x86_image(payload=_flipped(payload, position))
        machine = with_changes(tmp_path / str(position), image=damaged)
        if kind in ("lz4", "lzma") and position == len(payload) // 2:
            continue  # neither has a checksum; that a byte is another one may show in nothing
        assert found(machine) == [("blocker", "image-corrupt")], position


def test_a_bomb_inside_an_image_is_not_unpacked_further_than_promised(tmp_path: Path) -> None:
    bomb = gzip.compress(bytes(1 << 28), 9)
    image = x86_image(payload=bomb[:-4] + struct.pack("<I", 1000))
    assert found(with_changes(tmp_path, image=image)) == [("blocker", "image-corrupt")]


def test_a_signed_image_that_was_changed(tmp_path: Path) -> None:
    image = signed_efi.kernel(image=x86_image(payload=XZ + SIZE, tail=bytes(64)))
    key = signed_efi.key("one")
    for number, signed in enumerate((signed_efi.sign(image, key, of=bytes(32)), signed_efi.sign(image, key)[:-20])):
        machine = with_changes(tmp_path / str(number), image=signed)
        assert found(machine) == [("warning", "image-changed")]
        assert found(machine, secure_boot=True) == [("blocker", "image-changed")]
    assert found(with_changes(tmp_path / "sound", image=signed_efi.sign(image, key)), secure_boot=True) == []


def test_an_image_of_another_architecture(tmp_path: Path) -> None:
    files = healthy()
    for machine, level in ((183, "blocker"), (40, "blocker"), (3, None), (62, None)):
        files["/sbin/init"] = program(machine=machine)
        answer = found(tree(tmp_path / str(machine), files))
        assert answer == ([(level, "other-architecture")] if level else [])


def test_a_fifo_instead_of_an_image(tmp_path: Path) -> None:
    machine = with_changes(tmp_path)
    os.unlink(tmp_path / IMAGE[1:])
    os.mkfifo(tmp_path / IMAGE[1:])
    assert found(machine) == [("unknown", "image-unreadable")]


# -- the modules -----------------------------------------------------------------------------------------------


def test_no_modules_directory(tmp_path: Path) -> None:
    files = {path: content for path, content in healthy().items() if not path.startswith(MODULES)}
    assert found(tree(tmp_path / "none", files)) == [("blocker", "no-modules")]
    assert found(tree(tmp_path / "empty", {**files, MODULES: None})) == [
        ("blocker", "modules-index"),
        ("blocker", "modules-index"),
        ("warning", "modules-index"),
        ("warning", "modules-index"),
        ("warning", "modules-dep"),
    ]
    files[f"/boot/config-{RELEASE}"] = "CONFIG_64BIT=y\n# CONFIG_MODULES is not set\n"
    assert found(tree(tmp_path / "monolithic", files)) == [("note", "no-module-support")]


@pytest.mark.parametrize("config", ["", "CONFIG_64BIT=y\nCONFIG_MOD", None])
def test_a_configuration_that_was_cut_says_nothing(tmp_path: Path, config: str | None) -> None:
    files = {path: content for path, content in healthy().items() if not path.startswith(MODULES)}
    del files[f"/boot/config-{RELEASE}"]
    if config is not None:
        files[f"/boot/config-{RELEASE}"] = config
    assert found(tree(tmp_path / "a", files)) == [("blocker", "no-modules")]
    files.update({path: content for path, content in healthy().items() if path.startswith(MODULES)})
    assert found(tree(tmp_path / "b", files)) == [("note", "no-config")]


@pytest.mark.parametrize("name", ["modules_dep_bin", "modules_alias_bin"])
@pytest.mark.parametrize("content", [None, b"", b"text\n" * 10, dep_index(DEP)[:-3]])
def test_an_index_that_modprobe_needs(tmp_path: Path, name: str, content: bytes | None) -> None:
    (finding,) = ask(with_changes(tmp_path, **{name: content}))
    assert (finding.level, finding.id) == ("blocker", "kernel-files.modules-index")
    assert finding.subject == f"{MODULES}/{name.replace('_', '.')}"
    assert finding.remedy.commands == (("depmod", "-a", RELEASE),)


def test_an_index_that_lists_nothing_or_little(tmp_path: Path) -> None:
    assert found(with_changes(tmp_path / "a", modules_dep_bin=index())) == [("blocker", "modules-index")]
    few = dep_index({"kernel/jbd2.ko": ()})
    (finding,) = ask(with_changes(tmp_path / "b", modules_dep_bin=few))
    assert (finding.level, finding.id) == ("blocker", "kernel-files.modules-not-listed")
    assert finding.problem.endswith(f" It lacks {first_names(DEP.keys() - {'kernel/jbd2.ko'})}.")


@pytest.mark.parametrize("content", [None, b"kernel/ext4.ko: kernel/jb", b"kernel/ext4.ko\n"])
def test_the_text_that_modprobe_does_not_read(tmp_path: Path, content: bytes | None) -> None:
    assert found(with_changes(tmp_path, modules_dep=content)) == [("warning", "modules-dep")]


def test_modules_that_are_gone_or_empty(tmp_path: Path) -> None:
    files = healthy()
    files[f"{MODULES}/kernel/virtio_blk.ko"] = b""
    assert found(tree(tmp_path / "one", files)) == [("warning", "module-missing")]
    files["/proc/modules"] = "virtio_blk 20480 2 - Live 0x0000000000000000\n"
    assert found(tree(tmp_path / "used", files)) == [("blocker", "module-in-use-lost")]
    del files["/proc/modules"]
    files["/etc/modules"] = "# a list\nvirtio-blk\n"
    assert found(tree(tmp_path / "asked for", files)) == [("blocker", "module-in-use-lost")]
    del files[f"{MODULES}/kernel/jbd2.ko"]
    assert found(tree(tmp_path / "most", files)) == [("blocker", "modules-lost")]
    for path in DEP:
        files.pop(f"{MODULES}/{path}", None)
    assert found(tree(tmp_path / "all", files)) == [("blocker", "modules-lost")]


def test_two_losses_do_not_read_the_same(tmp_path: Path) -> None:
    problems = set()
    for kept in DEP:
        files = {path: content for path, content in healthy().items() if not path.endswith(".ko")}
        files[f"{MODULES}/{kept}"] = healthy()[f"{MODULES}/{kept}"]
        (finding,) = [one for one in ask(tree(tmp_path / kept, files)) if one.id == "kernel-files.modules-lost"]
        problems.add(finding.problem)
    assert len(problems) == len(DEP)


def test_three_names_are_enough_for_a_sentence() -> None:
    assert first_names(["kernel/b-c.ko.xz", "a.ko"]) == "a, b_c"
    assert first_names(f"kernel/{name}.ko" for name in "dcba") == "a, b, c and others"
    assert first_names([f"/boot/vmlinuz-{RELEASE}"]) == f"vmlinuz-{RELEASE}"


@pytest.mark.parametrize("suffix", [".ko", ".ko.xz", ".ko.gz", ".ko.zst"])
def test_modules_of_another_release(tmp_path: Path, suffix: str) -> None:
    if suffix == ".ko.zst" and not shutil.which("zstd"):
        pytest.skip("no zstd here")

    def packed(data: bytes) -> bytes:
        if suffix == ".ko.zst":
            return subprocess.run(["zstd", "-c"], input=data, capture_output=True, timeout=30, check=True).stdout
        return {".ko": bytes, ".ko.xz": lambda d: lzma.compress(d, check=lzma.CHECK_CRC32), ".ko.gz": gzip.compress}[
            suffix
        ](data)

    dependencies: dict[str, tuple[str, ...]] = {f"kernel/ext4{suffix}": ()}
    files = healthy(dependencies)
    files[f"{MODULES}/kernel/ext4{suffix}"] = packed(module())
    assert found(tree(tmp_path / "same", files)) == []
    files[f"{MODULES}/kernel/ext4{suffix}"] = packed(module("6.1.0-49-amd64"))
    assert found(tree(tmp_path / "other", files)) == [("blocker", "modules-of-another-release")]
    files[f"{MODULES}/kernel/ext4{suffix}"] = packed(module())[:-30]
    found(tree(tmp_path / "cut", files))  # no question of this check; it must not crash


def test_modules_through_links(tmp_path: Path) -> None:
    dependencies: dict[str, tuple[str, ...]] = {**DEP, "weak-updates/extra/old.ko": ()}
    files = healthy(dependencies)
    files[f"{MODULES}/weak-updates/extra/old.ko"] = Link("/lib/modules/5.14.0-1/extra/old.ko")
    assert found(tree(tmp_path / "gone", files)) == []  # the check dkms asks about modules from elsewhere
    files["/lib/modules/5.14.0-1/extra/old.ko"] = module("5.14.0-1")
    assert found(tree(tmp_path / "weak", files)) == []
    moved = {path.replace("/lib/", "/usr/lib/"): content for path, content in files.items()}
    moved["/usr/lib/modules/real"] = None
    assert found(tree(tmp_path / "usr", {**moved, "/lib": Link("usr/lib")})) == []
    real = {path.replace(MODULES, "/opt/modules"): content for path, content in healthy().items()}
    assert found(tree(tmp_path / "elsewhere", {**real, MODULES: Link("/opt/modules")})) == []


# -- real ones -------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not real_kernels(), reason="no machines were built here")
def test_a_real_kernel_without_its_signature(tmp_path: Path) -> None:
    path = real_kernels()[0]
    data = bytearray(path.read_bytes())
    pe = struct.unpack_from("<I", data, 0x3C)[0]
    struct.pack_into("<II", data, pe + 24 + 112 + 32, 0, 0)
    release = path.name.partition("-")[2]
    files = {path.replace(RELEASE, release): content for path, content in healthy().items()}
    files = {k: module(release) if k.endswith(".ko") else v for k, v in files.items()}
    for name, position in (("whole", None), ("flipped", len(data) // 2)):
        if position is not None:
            data[position] ^= 1
        files[f"/boot/{path.name}"] = bytes(data)
        machine = tree(tmp_path / name, files)
        answer = [finding.id for finding in CHECK.run(case(machine, image=f"/boot/{path.name}"))]
        assert answer == (["kernel-files.image-corrupt"] if position else [])
