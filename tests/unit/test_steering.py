"""Our own hold on the loader's default: what its file says, and that the plan and the verdict are told without it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from safeupdate import fingerprint, kernels, steering
from safeupdate.boot import find_plan
from safeupdate.capture import capture
from safeupdate.errors import FormatError
from safeupdate.fingerprint import Hasher
from safeupdate.judge import judge
from safeupdate.machine import Machine
from safeupdate.render.text import render
from safeupdate.report import Verdict
from safeupdate.steering import OFF, SIZE, Steering
from safeupdate.volumes import Volumes
from tests.unit import efi, test_boot_systemd_boot
from tests.unit.reports import FULL
from tests.unit.test_boot_grub import DATA, FALLBACK, NEW, OLD, SIMPLE, debian, mounted, ubuntu
from tests.unit.trees import Content, Link, tree, x86_image

CUSTOM = "/boot/grub/custom.cfg"
BIOS = mounted(("sda1", "/", "/", "ext4"), uuids={})
A, B = (f"debian-{release}.conf" for release in (test_boot_systemd_boot.A, test_boot_systemd_boot.B))


def bios(root: Path, files: Mapping[str, Content]) -> Machine:
    images: dict[str, Content] = {f"/boot/vmlinuz-{release}": x86_image(release) for release in (OLD, NEW)}
    return tree(root, {**BIOS, **debian(), **images, **files})


def record(old: object = None, entry: object = A) -> dict[str, Content]:
    return {steering.RECORD: json.dumps({"format": 1, "lever": "boot-default", "old": old, "new": entry})}


def sd_boot(root: Path, files: Mapping[str, Content], **loader: str) -> Machine:
    world = {**efi.disks(), **test_boot_systemd_boot.files(test_boot_systemd_boot.A, test_boot_systemd_boot.B)}
    variables = efi.variables(loader={"LoaderInfo": "systemd-boot 252.39", **loader})
    return tree(root, {**world, **variables, **test_boot_systemd_boot.TWO, **files})


# -- the file ----------------------------------------------------------------------------------------------------


def test_both_texts_fill_one_sector_less_a_byte() -> None:
    assert len(OFF) == len(steering.hold(FALLBACK)) == SIZE == 511
    assert OFF == b"# safeupdate off\n" + b"#" * 493 + b"\n"
    first, second, *rest = steering.hold(FALLBACK).split(b"\n")
    assert first == b"# safeupdate"
    assert second == f'if [ -z "${{boot_once}}" ]; then set default="{FALLBACK}"; fi'.encode()
    assert rest[0].strip(b"#") == b"" and rest[1:] == [b""]


def test_what_was_written_is_read() -> None:
    assert steering.held_by(steering.hold(FALLBACK)) == FALLBACK
    assert steering.held_by(OFF) is None
    assert steering.is_ours(OFF)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b'set default="2"\n',
        OFF[:-1],
        OFF + b"\n",
        steering.hold("a")[:-1],
        steering.hold("a") + b"\n",
        steering.hold("a").replace(b"default", b"DEFAULT"),
        steering.hold("a").replace(b"boot_once", b"boot_more"),
        steering.hold("a").replace(b'"a"', b'a"#'),
        steering.hold("a").replace(b"##\n", b"#\xff\n"),
        steering.hold("a b").replace(b"a b", b"$ab"),
        b"\0" * SIZE,
    ],
)
def test_what_is_not_ours(data: bytes) -> None:
    assert not steering.is_ours(data)
    assert steering.held_by(data) is None


@pytest.mark.parametrize("entry", ['a"b', "a$b", "a\\b", "a`b", "a\nb", "a\tb", "é", "", "a{b", "a'b", "a;b" * 200])
def test_a_name_that_grub_might_read_otherwise_is_never_written(entry: str) -> None:
    with pytest.raises(FormatError):
        steering.hold(entry)


def test_the_longest_name_that_fits() -> None:
    longest = max(n for n in range(1, SIZE) if _fits("a" * n))
    assert steering.hold("a" * longest).endswith(b"fi\n#\n")
    assert not _fits("a" * (longest + 1))


def _fits(entry: str) -> bool:
    try:
        return len(steering.hold(entry)) == SIZE
    except FormatError:
        return False


# -- reading it back ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", steering.CUSTOM)
def test_grub_is_held(tmp_path: Path, path: str) -> None:
    assert steering.read(tree(tmp_path, {path: steering.hold(FALLBACK)})) == Steering("grub", FALLBACK, path)


@pytest.mark.parametrize("content", [OFF, 'set default="2"\n', None, Link("/nowhere")])
def test_grub_is_not_held(tmp_path: Path, content: Content) -> None:
    assert steering.read(tree(tmp_path, {CUSTOM: content})) is None


@pytest.mark.parametrize("old", [None, B])
def test_systemd_boot_is_held(tmp_path: Path, old: str | None) -> None:
    machine = sd_boot(tmp_path, record(old), LoaderEntryDefault=A)
    assert steering.read(machine) == Steering("systemd-boot", A, old=old)


@pytest.mark.parametrize(
    "files",
    [
        {},
        record(entry=B),
        record(entry=7),
        record(old=7),
        {steering.RECORD: "no record"},
        {steering.RECORD: "[" * 100_000},
        {steering.RECORD: b"\xff"},
        {steering.RECORD: "7"},
        {steering.RECORD: f'{{"new": "{A}"}}'},
        {steering.RECORD: None},
    ],
)
def test_a_variable_that_somebody_else_set_is_theirs(tmp_path: Path, files: dict[str, Content]) -> None:
    assert steering.read(sd_boot(tmp_path, files, LoaderEntryDefault=A)) is None


def test_a_record_whose_variable_has_another_value_holds_nothing(tmp_path: Path) -> None:
    assert steering.read(sd_boot(tmp_path / "other", record(), LoaderEntryDefault=B)) is None
    assert steering.read(sd_boot(tmp_path / "none", record())) is None


@pytest.mark.parametrize("loader", ["grub", "systemd-boot"])
def test_a_capture_tells_it_too(tmp_path: Path, loader: str) -> None:
    grub = loader == "grub"
    held = {CUSTOM: steering.hold(FALLBACK)} if grub else {**record(B), **efi.variables(LoaderEntryDefault=A)}
    machine = bios(tmp_path / "machine", held) if grub else sd_boot(tmp_path / "machine", held)
    capture(machine, str(tmp_path / "capture"), boot=False)
    found = steering.read(Machine.tree(str(tmp_path / "capture")))
    assert found == steering.read(machine) is not None


# -- the plan without it, and under it -----------------------------------------------------------------------------


def nexts(machine: Machine, *, without: Steering | None = None, under: Steering | None = None) -> str | None:
    plan = find_plan(machine, Volumes(machine), without=without, under=under)[1]
    return plan.next.id if plan.next is not None else None


def test_grub_s_plan_without_and_under_it(tmp_path: Path) -> None:
    machine = bios(tmp_path, {CUSTOM: steering.hold(FALLBACK)})
    held = steering.read(machine)
    assert (nexts(machine), nexts(machine, without=held)) == (FALLBACK, SIMPLE)
    before = bios(tmp_path / "before", {})
    assert (nexts(before), nexts(before, under=held)) == (SIMPLE, FALLBACK)
    assert not before.exists(CUSTOM)
    off = bios(tmp_path / "off", {CUSTOM: OFF})
    assert (nexts(off), nexts(off, under=held)) == (SIMPLE, FALLBACK)


def test_a_directory_of_grub_s_that_is_a_link(tmp_path: Path) -> None:
    machine = bios(tmp_path, {CUSTOM: steering.hold(FALLBACK), "/boot/grub2": Link("grub")})
    held = Steering("grub", FALLBACK, "/boot/grub2/custom.cfg")
    assert (nexts(machine), nexts(machine, without=held)) == (FALLBACK, SIMPLE)


def test_another_kernel_s_hold_in_its_place(tmp_path: Path) -> None:
    machine = bios(tmp_path, {CUSTOM: steering.hold(FALLBACK)})
    held, other = steering.read(machine), Steering("grub", FALLBACK.replace(OLD, NEW), CUSTOM)
    assert nexts(machine, without=held, under=other) == other.entry


def test_systemd_boot_s_plan_without_and_under_it(tmp_path: Path) -> None:
    machine = sd_boot(tmp_path, record(), LoaderEntryDefault=A)
    held = steering.read(machine)
    assert (nexts(machine), nexts(machine, without=held)) == (A, B)
    before = sd_boot(tmp_path / "before", {})
    assert (nexts(before), nexts(before, under=held)) == (B, A)
    chosen = sd_boot(tmp_path / "chosen", record(B), LoaderEntryDefault=A)
    assert nexts(chosen, without=steering.read(chosen)) == B


def test_a_one_shot_goes_before_the_hold(tmp_path: Path) -> None:
    other = FALLBACK.replace(OLD, NEW)
    files = debian(next_entry=other)
    machine = bios(tmp_path, {**files, CUSTOM: steering.hold(FALLBACK)})
    plan = find_plan(machine, Volumes(machine))[1]
    assert plan.next is not None and plan.next.id == other
    assert plan.automatic is not None and plan.automatic.id == FALLBACK


def test_what_a_started_entry_saves_as_the_default(tmp_path: Path) -> None:
    """GRUB_SAVEDEFAULT, as in this Debian 13; Ubuntu's entries save something else."""
    text = (DATA / "debian-13.cfg").read_bytes()
    assert find_plan(*_with_volumes(bios(tmp_path / "13", debian(text))))[1].remembers
    assert not find_plan(*_with_volumes(bios(tmp_path / "12", {})))[1].remembers
    assert not find_plan(*_with_volumes(tree(tmp_path / "ubuntu", {**BIOS, **ubuntu()})))[1].remembers


def _with_volumes(machine: Machine) -> tuple[Machine, Volumes]:
    return machine, Volumes(machine)


# -- the report ----------------------------------------------------------------------------------------------------


def test_the_report_is_about_the_kernel_that_was_meant(tmp_path: Path) -> None:
    free = judge(bios(tmp_path / "free", {}))
    held = judge(bios(tmp_path / "held", {CUSTOM: steering.hold(FALLBACK)}))
    assert (free.target.entry, free.target.actual_next, free.target.actual_kernel) == (SIMPLE, SIMPLE, NEW)
    assert (held.target.entry, held.target.kernel) == (SIMPLE, NEW)
    assert (held.target.actual_next, held.target.actual_kernel) == (FALLBACK, OLD)
    assert held.target.held and not free.target.held
    assert held.target.why == (
        f"{free.target.why}; but safeupdate holds the default on "
        f'"Debian GNU/Linux, with Linux {OLD}" ({CUSTOM}), and that is what starts until it lets go'
    )
    assert held.verdict == free.verdict
    text = " ".join(render(held).split())
    assert text.startswith(("UNSAFE", "UNKNOWN"))
    assert f"safeupdate holds the default on {OLD}, which starts next." in text


@pytest.mark.parametrize(
    ("verdict", "text"),
    [
        (
            "safe",
            f"SAFE: {NEW} may boot, and everything it needs is there. Still safeupdate holds the default on {OLD}",
        ),
        (
            "unsafe",
            f"UNSAFE: {NEW} will fail to boot or lose something it needs; safeupdate holds the default on {OLD}",
        ),
        ("unknown", f"UNKNOWN: whether {NEW} comes up could not be told; safeupdate holds the default on {OLD}"),
    ],
)
def test_the_first_sentence_says_what_starts(verdict: Verdict, text: str) -> None:
    target = replace(FULL.target, kernel=NEW, actual_next=FALLBACK, actual_kernel=OLD)
    report = replace(FULL, verdict=verdict, target=target, checks=())
    assert " ".join(render(report).split()).startswith(f"{text}, which starts next. ")


def test_a_hold_on_an_entry_that_is_gone_leads_nowhere(tmp_path: Path) -> None:
    gone = FALLBACK.replace(OLD, "6.1.0-49-amd64")
    report = judge(bios(tmp_path, {CUSTOM: steering.hold(gone)}))
    assert report.target.entry == SIMPLE
    assert report.target.actual_kernel == NEW
    assert "which no longer exists" in report.target.why
    assert report.fallback.recovery != "automatic"


def test_a_hold_behind_a_one_shot(tmp_path: Path) -> None:
    other = FALLBACK.replace(OLD, NEW)
    report = judge(bios(tmp_path, {**debian(next_entry=other), CUSTOM: steering.hold(FALLBACK)}))
    assert (report.target.entry, report.target.actual_next) == (other, other)
    assert f'that is what starts after "Debian GNU/Linux, with Linux {NEW}"' in report.target.why


def test_a_kernel_that_was_asked_for_is_judged_without_the_hold(tmp_path: Path) -> None:
    report = judge(bios(tmp_path, {CUSTOM: steering.hold(FALLBACK)}), release=NEW)
    assert (report.target.actual_next, report.target.why) == (SIMPLE, f"asked for with --kernel {NEW}")


# -- the fingerprint -----------------------------------------------------------------------------------------------


def parts(machine: Machine) -> dict[str, str]:
    firmware, plan = find_plan(machine, Volumes(machine), without=steering.read(machine))
    return fingerprint.of(Hasher(machine), firmware, plan, kernels.installed(machine))


def test_holding_grub_is_no_change_of_the_machine(tmp_path: Path) -> None:
    machine = bios(tmp_path, {})
    before = parts(machine)
    for content in (OFF, steering.hold(FALLBACK), OFF):
        (tmp_path / CUSTOM[1:]).write_bytes(content)
        assert parts(machine) == before
    (tmp_path / CUSTOM[1:]).write_bytes(b'set default="2"\n')
    assert parts(machine)["menu"] != before["menu"]


def test_holding_systemd_boot_is_no_change_of_the_machine(tmp_path: Path) -> None:
    free = parts(sd_boot(tmp_path / "x", {}))["loader-state"]
    assert parts(sd_boot(tmp_path / "y", record(), LoaderEntryDefault=A))["loader-state"] == free
    chosen = parts(sd_boot(tmp_path / "z", {}, LoaderEntryDefault=B))["loader-state"]
    assert parts(sd_boot(tmp_path / "w", record(B), LoaderEntryDefault=A))["loader-state"] == chosen != free
