from __future__ import annotations

import gzip
import lzma
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from safeupdate.case import Case, Shelf
from safeupdate.checks.module_signatures import CHECK
from safeupdate.config import Config, ModuleSettings
from safeupdate.report import Finding, NotApplicable
from safeupdate.trust.cache import Cache
from safeupdate.trust.firmware import SHIM
from tests.unit import initrd
from tests.unit.efi import variables
from tests.unit.signing import module
from tests.unit.test_trust_modules import (
    CODE,
    CONFIG,
    DB,
    FILES,
    MOK,
    OFF,
    ON,
    PATCH,
    STRANGER,
    VENDOR,
    WAITING,
    flipped,
    lists,
    variable,
)
from tests.unit.trees import IMAGE, INITRD, MODULES, RELEASE, Content, Link, case, tree, x86_image

GOOD = module(CODE, VENDOR)
BAD = flipped(GOOD, 2000)
IN_TREE = f"{MODULES}/kernel/drivers/virtio_blk.ko"
DKMS = f"{MODULES}/updates/dkms/nvidia.ko"
INSIDE = f"usr/lib/modules/{RELEASE}/kernel/drivers/virtio_blk.ko"
BUILT = f"/var/lib/dkms/nvidia/535/{RELEASE}/x86_64/module/nvidia.ko"


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CACHE_DIRECTORY", str(tmp_path / "cache"))


def image(files: Mapping[str, Content], kind: str = "gzip") -> bytes:
    inside: dict[str, initrd.Content] = {path: content for path, content in files.items() if isinstance(content, bytes)}
    return initrd.compress(kind, initrd.archive({"init": b"#!/bin/sh\n", "lib": "usr/lib", **inside}))


def machine(
    root: Path,
    files: Mapping[str, Content],
    *,
    firmware: Mapping[str, Content] = OFF,
    loaded: tuple[str, ...] = ("virtio_blk",),
    inside: Mapping[str, Content] | None = None,
    config: Mapping[str, str] | None = CONFIG,
    patched: bool = True,
    cmdline: str = "",
    sysfs: bool = True,
    more: Mapping[str, Content] | None = None,
) -> Case:
    """A machine whose kernel has a key of its own, with these modules on disk and inside the initramfs."""
    payload = gzip.compress(bytes(5000) + VENDOR.certificate + bytes(300) + (PATCH if patched else b""))
    modules = [path for path in files if ".ko" in path]
    made = tree(
        root / "machine",
        {
            IMAGE: x86_image(payload=payload),
            INITRD: image({INSIDE: GOOD} if inside is None else inside),
            IN_TREE: GOOD,
            f"{MODULES}/modules.dep": "".join(f"{path[len(MODULES) + 1 :]}:\n" for path in modules),
            "/proc/modules": "".join(f"{name} 1 0 - Live 0x0\n" for name in loaded),
            "/proc/sys/kernel/osrelease": f"{RELEASE}\n",
            "/usr/sbin/update-initramfs": "",
            "/var/lib/dpkg/status": "",
            **({"/sys/class/block/sda/dev": "8:0\n"} if sysfs else {}),
            **({} if config is None else {f"/boot/config-{RELEASE}": text(config)}),
            **firmware,
            **files,
            **(more or {}),
        },
    )
    return case(made, cmdline)


def text(config: Mapping[str, str]) -> str:
    return "".join(f"{name}={value}\n" for name, value in {"CONFIG_MODULES": "y", **config}.items())


def told(checked: Case) -> list[tuple[str, str]]:
    return [(finding.level, finding.id.partition(".")[2]) for finding in CHECK.run(checked)]


def only(checked: Case) -> Finding:
    (finding,) = CHECK.run(checked)
    return finding


@pytest.mark.parametrize("firmware", [ON, OFF], ids=["on", "off"])
def test_a_healthy_machine(tmp_path: Path, firmware: Mapping[str, Content]) -> None:
    assert told(machine(tmp_path, {IN_TREE: GOOD}, firmware=firmware)) == []


def test_a_module_by_a_key_that_is_enrolled(tmp_path: Path) -> None:
    assert told(machine(tmp_path, {DKMS: module(CODE, MOK)}, firmware=ON, loaded=("nvidia",))) == []


@pytest.mark.parametrize(("loaded", "level"), [(("nvidia",), "blocker"), ((), "warning")])
def test_a_key_that_is_not_enrolled(tmp_path: Path, loaded: tuple[str, ...], level: str) -> None:
    files: dict[str, Content] = {DKMS: module(CODE, STRANGER)}
    more: dict[str, Content] = {"/var/lib/dkms/mok.pub": STRANGER.certificate, BUILT: b""}
    finding = only(machine(tmp_path, files, firmware=ON, loaded=loaded, more=more))
    assert (finding.level, finding.id) == (level, "module-signatures.refused")
    assert finding.remedy.commands == (("mokutil", "--import", "/var/lib/dkms/mok.pub"),)
    assert "Secure Boot is on" in finding.consequence


def test_a_module_that_is_idle_or_that_the_machine_can_do_without(tmp_path: Path) -> None:
    files: dict[str, Content] = {DKMS: module(CODE, STRANGER)}
    checked = machine(tmp_path / "in use", files, firmware=ON, loaded=("nvidia",))
    assert told(checked) == [("blocker", "refused")]
    optional = Config(modules=ModuleSettings(optional=("nvidia",)))
    assert told(replace(checked, config=optional)) == [("warning", "refused")]
    device = "/sys/devices/pci0000:00/0000:00:1f.2"
    idle: dict[str, Content] = {
        "/sys/bus/pci/drivers/nvidia/module": Link("/sys/module/nvidia"),
        "/sys/bus/pci/drivers/ahci/0000:00:1f.2": Link(device),
        f"{device}/class": "0x010601\n",
    }
    assert told(machine(tmp_path / "idle", files, firmware=ON, loaded=("nvidia",), more=idle)) == [
        ("warning", "refused")
    ]


def test_a_key_where_dkms_is_told_to_keep_it(tmp_path: Path) -> None:
    more: dict[str, Content] = {
        "/etc/dkms/framework.conf.d/own.conf": 'mok_certificate="/etc/keys/own.der"\n',
        "/etc/keys/own.der": STRANGER.certificate,
        "/var/lib/dkms/mok.pub": MOK.certificate,
    }
    finding = only(machine(tmp_path, {DKMS: module(CODE, STRANGER)}, firmware=ON, loaded=("nvidia",), more=more))
    assert finding.remedy.commands == (("mokutil", "--import", "/etc/keys/own.der"),)


def test_an_unsigned_module_is_signed_by_building_it_again(tmp_path: Path) -> None:
    more: dict[str, Content] = {"/var/lib/dkms/mok.pub": STRANGER.certificate, BUILT: b""}
    finding = only(machine(tmp_path, {DKMS: CODE}, firmware=ON, loaded=("nvidia",), more=more))
    assert finding.remedy.commands == (
        ("dkms", "build", "--force", "nvidia/535", "-k", RELEASE),
        ("dkms", "install", "--force", "nvidia/535", "-k", RELEASE),
        ("mokutil", "--import", "/var/lib/dkms/mok.pub"),
    )


@pytest.mark.parametrize("data", [CODE, module(CODE, STRANGER), module(CODE, MOK)], ids=["unsigned", "unknown", "mok"])
def test_where_nothing_is_enforced_a_module_only_taints(tmp_path: Path, data: bytes) -> None:
    assert told(machine(tmp_path, {DKMS: data}, loaded=("nvidia",))) == [("note", "taints")]


def test_enforced_on_the_command_line(tmp_path: Path) -> None:
    finding = only(machine(tmp_path, {DKMS: module(CODE, MOK)}, loaded=("nvidia",), cmdline="ro module.sig_enforce=1"))
    assert (finding.level, finding.id) == ("blocker", "module-signatures.refused")
    assert "Secure Boot off" in finding.problem
    assert "Secure Boot only" in finding.remedy.text


@pytest.mark.parametrize("firmware", [ON, OFF], ids=["on", "off"])
def test_a_damaged_module_on_disk(tmp_path: Path, firmware: Mapping[str, Content]) -> None:
    finding = only(machine(tmp_path, {IN_TREE: BAD}, firmware=firmware))
    assert (finding.level, finding.id) == ("blocker", "module-signatures.bad")
    assert finding.remedy.commands == (("apt-get", "install", "--reinstall", f"linux-image-{RELEASE}"),)


def test_a_damaged_module_in_the_initramfs(tmp_path: Path) -> None:
    finding = only(machine(tmp_path, {IN_TREE: GOOD}, inside={INSIDE: BAD}))
    assert (finding.level, finding.id, finding.subject) == ("blocker", "module-signatures.bad", INITRD)
    assert ("update-initramfs", "-u", "-k", RELEASE) in finding.remedy.commands


DRIVES: Mapping[str, Content] = {
    "/sys/bus/pci/drivers/i801_smbus/module": Link("/sys/module/i2c_i801"),
    "/sys/bus/pci/drivers/i801_smbus/0000:00:1f.3": Link("/sys/devices/pci0000:00/0000:00:1f.3"),
    "/sys/devices/pci0000:00/0000:00:1f.3/class": "0x0c0500\n",
}


@pytest.mark.parametrize(
    ("on_disk", "in_image", "udev", "level"),
    [
        (BAD, GOOD, True, "warning"),
        (GOOD, BAD, True, "warning"),
        (BAD, GOOD, False, "blocker"),
        (BAD, None, True, "blocker"),
    ],
    ids=["loaded early", "loaded later", "no udev early", "not in the image"],
)
def test_a_driver_of_which_another_place_has_a_good_one(
    tmp_path: Path, on_disk: bytes, in_image: bytes | None, udev: bool, level: str
) -> None:
    name = "kernel/drivers/i2c-i801.ko"
    inside: dict[str, Content] = {f"usr/lib/modules/{RELEASE}/{name}": in_image} if in_image is not None else {}
    if udev:
        inside["usr/lib/systemd/systemd-udevd"] = b"\x7fELF"
    files: dict[str, Content] = {f"{MODULES}/{name}": on_disk}
    checked = machine(tmp_path, files, inside={INSIDE: GOOD, **inside}, loaded=("i2c_i801",), more=DRIVES)
    assert told(checked) == [(level, "bad")]


def test_a_driver_that_no_place_has_a_good_one_of(tmp_path: Path) -> None:
    name = "kernel/drivers/i2c-i801.ko"
    inside: dict[str, Content] = {f"usr/lib/modules/{RELEASE}/{name}": BAD, "lib/systemd/systemd-udevd": b"\x7fELF"}
    checked = machine(tmp_path, {f"{MODULES}/{name}": BAD}, inside=inside, loaded=("i2c_i801",), more=DRIVES)
    assert told(checked) == [("blocker", "bad"), ("blocker", "bad")]


def test_an_old_module_in_the_initramfs(tmp_path: Path) -> None:
    finding = only(machine(tmp_path, {IN_TREE: GOOD}, inside={INSIDE: module(CODE, STRANGER)}, firmware=ON))
    assert (finding.level, finding.id, finding.subject) == ("blocker", "module-signatures.refused", INITRD)
    assert ("update-initramfs", "-u", "-k", RELEASE) in finding.remedy.commands


@pytest.mark.parametrize(("data", "answer"), [(GOOD, []), (BAD, [("blocker", "bad")])], ids=["sound", "damaged"])
def test_a_packed_module_in_the_initramfs_that_is_not_the_one_on_disk(
    tmp_path: Path, data: bytes, answer: list[tuple[str, str]]
) -> None:
    packed = lzma.compress(data, preset=1, check=lzma.CHECK_CRC32)
    files: dict[str, Content] = {f"{IN_TREE}.xz": lzma.compress(GOOD, check=lzma.CHECK_CRC64)}
    assert told(machine(tmp_path, files, inside={f"{INSIDE}.xz": packed})) == answer


def test_a_packed_module_that_is_cut(tmp_path: Path) -> None:
    files: dict[str, Content] = {f"{DKMS}.xz": lzma.compress(GOOD)[:-200]}
    finding = only(machine(tmp_path, files, loaded=("nvidia",)))
    assert (finding.level, finding.id) == ("blocker", "module-signatures.unreadable")


@pytest.mark.parametrize(("cut", "loaded"), [(0, ("nvidia",)), (100, ())])
def test_a_module_that_is_cut(tmp_path: Path, cut: int, loaded: tuple[str, ...]) -> None:
    assert told(machine(tmp_path, {DKMS: CODE[:cut]}, loaded=loaded)) == [
        ("blocker" if loaded else "warning", "unreadable")
    ]


def test_a_module_that_is_no_file(tmp_path: Path) -> None:
    checked = machine(tmp_path, {f"{MODULES}/updates": None}, loaded=("nvidia",))
    os.mkfifo(tmp_path / "machine" / f"{MODULES}/updates/nvidia.ko".lstrip("/"))
    assert told(checked) == [("blocker", "unreadable")]


def test_a_module_whose_content_was_not_captured(tmp_path: Path) -> None:
    checked = machine(tmp_path, {DKMS: b""}, loaded=("nvidia",))
    hidden = replace(checked.machine, left_out=frozenset({DKMS}))
    assert told(replace(checked, machine=hidden)) == []
    checked = machine(tmp_path / "on", {DKMS: b""}, loaded=("nvidia",), firmware=ON)
    hidden = replace(checked.machine, left_out=frozenset({DKMS}))
    assert told(replace(checked, machine=hidden)) == [("unknown", "undecided")]


def test_a_key_that_waits_for_a_person(tmp_path: Path) -> None:
    waiting = {**ON, **variable("MokNew", SHIM, lists(WAITING), attributes=7)}
    findings = told(machine(tmp_path, {DKMS: module(CODE, WAITING)}, firmware=waiting, loaded=("nvidia",)))
    assert findings == [("warning", "waits-for-person"), ("blocker", "pending-key")]


LEAVING = {**ON, **variable("MokDel", SHIM, lists(MOK), attributes=7)}
ALL_LEAVING = {**ON, **variable("MokAuth", SHIM, bytes(64), attributes=7)}


@pytest.mark.parametrize(
    ("firmware", "command"),
    [(LEAVING, "--revoke-delete"), (ALL_LEAVING, "--revoke-import")],
    ids=["one", "all"],
)
@pytest.mark.parametrize(("loaded", "level"), [(("nvidia",), "unknown"), ((), "warning")])
def test_a_key_that_a_person_may_delete(
    tmp_path: Path, firmware: Mapping[str, Content], command: str, loaded: tuple[str, ...], level: str
) -> None:
    checked = machine(tmp_path, {DKMS: module(CODE, MOK)}, firmware=firmware, loaded=loaded)
    asked, said = CHECK.run(checked)
    assert (asked.level, asked.id) == ("warning", "module-signatures.waits-for-person")
    assert (said.level, said.id) == (level, "module-signatures.refused-once-confirmed")
    assert said.remedy.commands == (("mokutil", command),)
    assert "DKMS module signing key" in said.evidence[0]


def test_a_key_that_a_person_may_delete_and_nothing_rests_on(tmp_path: Path) -> None:
    asked = [("warning", "waits-for-person")]
    twice = module(module(CODE, VENDOR), MOK)
    for number, (data, firmware, config) in enumerate(
        (
            (GOOD, LEAVING, CONFIG),
            (module(CODE, MOK), {**LEAVING, **variable("db", DB, lists(MOK))}, CONFIG),
            (module(CODE, MOK), {**ON, **variable("MokDel", SHIM, lists(STRANGER))}, CONFIG),
            (module(CODE, MOK), LEAVING, {**CONFIG, "CONFIG_LSM": "yama"}),
        )
    ):
        checked = machine(tmp_path / str(number), {DKMS: data}, firmware=firmware, loaded=("nvidia",), config=config)
        assert told(checked) == asked, number
    # Of two signatures that are stacked the kernel sees the last.
    checked = machine(tmp_path / "twice", {DKMS: twice}, firmware=LEAVING, loaded=("nvidia",))
    assert told(checked) == [*asked, ("unknown", "refused-once-confirmed")]


def test_a_deletion_is_asked_about_a_module_that_was_found_sound_before(tmp_path: Path) -> None:
    long_ago = 1_600_000_000
    checked = machine(tmp_path, {DKMS: module(CODE, MOK)}, firmware=ON, loaded=("nvidia",))
    live = replace(checked, machine=replace(checked.machine, live=True))
    os.utime(tmp_path / "machine" / DKMS.lstrip("/"), (long_ago, long_ago))
    assert told(live) == []
    tree(tmp_path / "machine", variable("MokDel", SHIM, lists(MOK), attributes=7))
    later = [("warning", "waits-for-person"), ("unknown", "refused-once-confirmed")]
    assert told(live) == later
    assert told(live) == later


def test_a_request_alone_is_told(tmp_path: Path) -> None:
    finding = only(machine(tmp_path, {}, firmware={**OFF, **variable("MokSB", SHIM, bytes(20), attributes=7)}))
    assert (finding.level, finding.id) == ("warning", "module-signatures.waits-for-person")
    assert "validation" in finding.problem


def test_the_digest_that_is_in_a_module(tmp_path: Path) -> None:
    files: dict[str, Content] = {DKMS: module(CODE, MOK, digest="sha512")}
    there: dict[str, Content] = {f"{MODULES}/kernel/crypto/sha512_generic.ko": GOOD}
    assert told(machine(tmp_path / "a", {**files, **there}, firmware=ON, loaded=("nvidia",))) == []
    assert told(machine(tmp_path / "b", files, firmware=ON, loaded=("nvidia",))) == [("blocker", "refused")]
    # What is on disk is of no use to early user space.
    inside: dict[str, Content] = {INSIDE: module(CODE, MOK, digest="sha512")}
    assert told(machine(tmp_path / "c", there, firmware=ON, inside=inside)) == [("blocker", "refused")]


def test_a_ring_that_the_running_kernel_shows_to_count(tmp_path: Path) -> None:
    files: dict[str, Content] = {DKMS: module(CODE, MOK)}
    old = {name: value for name, value in CONFIG.items() if "MACHINE_KEYRING" not in name}
    known = machine(tmp_path / "a", files, firmware=ON, loaded=("nvidia",), config=old, patched=False)
    assert told(known) == []
    other: dict[str, Content] = {"/proc/sys/kernel/osrelease": "5.4.0-1-amd64\n"}
    told_nothing = machine(
        tmp_path / "b", files, firmware=ON, loaded=("nvidia",), config=old, patched=False, more=other
    )
    assert told(told_nothing) == [("unknown", "undecided")]


def test_a_kernel_without_module_signatures(tmp_path: Path) -> None:
    with pytest.raises(NotApplicable, match="without module signatures"):
        told(machine(tmp_path, {DKMS: CODE}, firmware=ON, config={}))


def test_a_bare_tree_says_what_it_hangs_on_and_decides_nothing(tmp_path: Path) -> None:
    bare = machine(tmp_path, {DKMS: CODE}, firmware={}, loaded=("nvidia",), sysfs=False)
    assert told(bare) == [("warning", "undecided")]


def test_firmware_that_was_not_captured(tmp_path: Path) -> None:
    checked = machine(tmp_path, {DKMS: CODE}, firmware={"/sys/firmware/efi": None}, loaded=("nvidia",))
    assert told(checked) == [("unknown", "undecided")]


def test_a_kernel_of_unknown_configuration_whose_own_modules_are_unsigned(tmp_path: Path) -> None:
    assert told(machine(tmp_path, {IN_TREE: CODE}, firmware=ON, inside={INSIDE: CODE}, config=None)) == []


def test_keys_that_cannot_be_read(tmp_path: Path) -> None:
    broken: dict[str, Content] = {IMAGE: x86_image(payload=b"\x1f\x8b" + bytes(62))}
    assert told(machine(tmp_path / "a", {DKMS: GOOD}, loaded=("nvidia",), more=broken)) == [("note", "keys-unknown")]
    assert told(machine(tmp_path / "b", {}, firmware=ON, more=broken)) == [("unknown", "undecided")] * 2


def test_a_list_of_keys_that_cannot_be_read_decides_nothing(tmp_path: Path) -> None:
    cut = {**ON, **variable("MokListRT", SHIM, lists(MOK)[:-1])}
    checked = machine(tmp_path, {DKMS: module(CODE, MOK)}, firmware=cut, loaded=("nvidia", "virtio_blk"))
    assert told(checked) == [("unknown", "undecided")]


def test_only_what_counts_is_looked_at_unless_all_is_asked_for(tmp_path: Path) -> None:
    checked = machine(tmp_path, {f"{MODULES}/kernel/fs/xfs.ko": BAD})
    assert told(checked) == []
    lines: list[str] = []
    assert told(replace(checked, all_modules=True, progress=lines.append)) == [("warning", "bad")]
    assert "2 of 2" in lines[-1]


def test_a_weak_digest_is_told(tmp_path: Path) -> None:
    files: dict[str, Content] = {DKMS: module(CODE, MOK, digest="sha1")}
    assert told(machine(tmp_path, files, firmware=ON)) == [("warning", "weak")]


def test_what_was_found_sound_once_is_known_until_it_changes(tmp_path: Path) -> None:
    long_ago = 1_600_000_000
    checked = machine(tmp_path, {DKMS: module(CODE, MOK)}, firmware={**FILES, **variables(secure_boot=True)})
    live = replace(checked, machine=replace(checked.machine, live=True), all_modules=True)
    path = tmp_path / "machine" / DKMS.lstrip("/")
    os.utime(path, (long_ago, long_ago))
    assert told(live) == []
    live.cache.save()
    assert (tmp_path / "cache" / "signatures.json").stat().st_mode & 0o777 == 0o600
    path.write_bytes(flipped(module(CODE, MOK), 2000))
    os.utime(path, (long_ago, long_ago))
    assert told(replace(live, cache=Cache())) == [("warning", "bad")]


def test_of_the_fallback_only_what_is_needed_is_asked(tmp_path: Path) -> None:
    other = INSIDE.replace("virtio_blk", "xfs")
    checked = machine(tmp_path, {IN_TREE: GOOD, DKMS: BAD}, inside={INSIDE: BAD, other: BAD})
    assert told(checked) == [("blocker", "bad"), ("warning", "bad"), ("warning", "bad")]
    checked.shelf.close()
    for hashed in (checked.modules_in_use, frozenset[str]()):
        fallback = replace(checked, is_target=False, shelf=Shelf(checked.machine))
        fallback.shelf.prepare(INITRD, hashed=hashed)
        assert told(fallback) == [("blocker", "bad")]
