"""What surrounds every back end: one of each kind, its manifest, policy, and nothing left of what failed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from safeupdate.boot.plan import BootEntry
from safeupdate.commands import reboot
from safeupdate.config import SnapshotSettings
from safeupdate.errors import SafeupdateError
from safeupdate.gate import document, state
from safeupdate.gate.host import Host
from safeupdate.gate.settle import settle
from safeupdate.gate.state import Gate
from safeupdate.ledger import reading
from safeupdate.machine import Completed
from safeupdate.report import Report
from safeupdate.snapshots import kept, manifest, take, undo
from safeupdate.snapshots.backend import (
    Backend,
    Detected,
    Effect,
    Label,
    Place,
    Room,
    Snapshot,
    SnapshotError,
    Step,
    UndoPlan,
    Unusable,
    label,
)
from safeupdate.snapshots.manifest import Manifest
from safeupdate.snapshots.take import Taken
from tests.unit.gates import World, report
from tests.unit.test_boot_grub import NEW, OLD
from tests.unit.test_command_status import OPEN
from tests.unit.trees import x86_image

SETTINGS = SnapshotSettings()


class Fake:
    """A back end that keeps its snapshots in a dictionary. What is set on it goes wrong."""

    def __init__(self, world: World, **traits: Any) -> None:
        self.world = world
        self.kept: dict[Label, tuple[str, ...]] = {}
        self.detected: Detected | Unusable = Detected(
            words="a dictionary",
            parts=("root", "usr"),
            covered=(Place("/", "8:1", "/"),),
            not_covered=(Place("/home", "8:2", "/", "/home is another file system."),),
            undo=Effect(True, "It is a test."),
            boot_returns=False,
        )
        self.free = 2 << 30
        self.made = 2
        self.during: Callable[[], None] = lambda: None
        self.silent = False
        self.problems: dict[Label, str] = {}
        self.lost = False
        self.backend = Backend(
            "fake", "fake", lambda _: self.detected, self._space, self._create, self._list, self._delete, self._undo
        )
        self.backend = replace(self.backend, **traits)

    def _space(self, _: Host) -> tuple[Room, ...]:
        return (Room("the pool", self.free, 1 << 30, "It is a test."),)

    def _create(self, _: Host, label: Label) -> Snapshot:
        self.kept[label] = ("root", "usr")[: self.made]
        self.during()
        if self.made < 2:
            raise SnapshotError("the second part failed")
        return Snapshot(label, self.kept[label])

    def _list(self, _: Host) -> tuple[Snapshot, ...]:
        if self.silent:
            raise SnapshotError("it does not answer")
        return tuple(
            Snapshot(label, ids, self.problems.get(label, ""), self.lost and label in self.problems)
            for label, ids in self.kept.items()
        )

    def _delete(self, _: Host, snapshot: Snapshot) -> None:
        self.kept.pop(snapshot.label, None)

    def _undo(self, _: Host, __: Snapshot) -> UndoPlan:
        return UndoPlan((Step(("switch",), "Switches."),), Effect(True, "It is a test."))

    def take(self, kind: Any = "pre-reboot", **changes: Any) -> tuple[Label, list[str]]:
        self.world.later(minutes=1)
        told: list[str] = []
        settings = replace(SETTINGS, **changes)
        host = self.world.host()
        return take.take(host, kind, NEW, settings, told, self.look, backends=(self.backend,)).label, told

    def look(self) -> Report:
        return report(self.world.machine, self.world.verdict)

    def before_reboot(self, policy: str) -> Taken:
        settings = SnapshotSettings(policy=policy)
        host = self.world.host()
        return take.before_reboot(host, self.look(), settings, self.look, backends=(self.backend,))

    def spoiled(self, host: Host, kernel: str | None) -> str:
        return take.spoiled(host, kernel, backends=(self.backend,))

    def settled(self, policy: str, *, force: bool = False) -> Gate:
        """As `safeupdate settle`."""
        self.world.later(seconds=1)
        return settle(
            self.world.host(),
            self.world.look,
            protect=lambda _: self.before_reboot(policy).holds,
            spoiled=self.spoiled,
            config=replace(self.world.config, snapshots=SnapshotSettings(policy=policy)),
            levers=self.world.levers,
            force=force,
            lock_seconds=5,
        )

    def find(self) -> tuple[kept.Kept, ...]:
        return kept.find(self.world.host(), (self.backend,))[0]

    def manifests(self) -> tuple[int, ...]:
        return manifest.numbers(self.world.machine)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


@pytest.fixture
def fake(world: World) -> Fake:
    return Fake(world)


def test_a_label_and_back() -> None:
    one = Label(7, "pre-reboot", NEW, "boot", "2026-11-23T00:00:00+00:00")
    assert label(one.texts()) == one
    for name, text in (("number", "0"), ("number", "x"), ("kind", "other")):
        assert label({**one.texts(), name: text}) is None
    assert label({}) is None


def test_one_of_each_kind_for_a_kernel_and_a_boot(fake: Fake) -> None:
    first, told = fake.take()
    assert (first.number, told) == (1, ["Snapshot 1 (fake, pre-reboot) was taken."])
    assert fake.take() == (first, [])
    assert fake.take("pre-transaction")[0].number == 2
    fake.world.reboot(OLD)
    assert fake.take()[0].number == 3
    assert fake.take("by-hand")[0].number == 4
    assert fake.take("by-hand")[0].number == 5


def test_the_manifest_holds_what_belongs_together(fake: Fake) -> None:
    fake.take()
    (one,) = fake.find()
    found = one.manifest
    assert found is not None
    assert (found.backend, found.parts, found.running, found.next_kernel) == ("fake", ("root", "usr"), OLD, NEW)
    assert found.loader == "grub"
    assert found.entry is not None
    copied = {file.path for file in found.files if file.copied}
    images = {f"/boot/{name}-{release}" for name in ("vmlinuz", "initrd.img") for release in (OLD, NEW)}
    assert copied == images | {"/boot/grub/grub.cfg", "/boot/grub/grubenv"}
    for file in found.files:
        copy = Path(fake.world.machine.root + found.copy_of(file))
        assert copy.read_bytes() == fake.world.machine.read(file.path)
        assert copy.stat().st_mode & 0o777 == 0o600


def test_the_same_content_is_kept_once(fake: Fake) -> None:
    fake.take()
    fake.take("pre-transaction")
    first, second = (one.manifest for one in fake.find())
    assert first is not None
    assert second is not None
    for one, other in zip(first.files, second.files):
        copies = [
            Path(fake.world.machine.root + found.copy_of(file)) for found, file in ((first, one), (second, other))
        ]
        assert copies[0].stat().st_ino == copies[1].stat().st_ino
    host = fake.world.host()
    take.remove(host, fake.find()[0])
    assert not manifest.damaged_copies(fake.world.machine, second, second.files)


def test_where_the_undo_brings_boot_back_only_small_files_are_copied(fake: Fake) -> None:
    assert isinstance(fake.detected, Detected)
    fake.detected = replace(fake.detected, boot_returns=True)
    fake.take()
    found = fake.find()[0].manifest
    assert found is not None
    assert {file.path for file in found.files if file.copied} == {"/boot/grub/grub.cfg", "/boot/grub/grubenv"}
    assert {file.sha256 for file in found.files if not file.copied}


def test_what_starts_next_must_be_whole(fake: Fake) -> None:
    (fake.world.root / f"boot/initrd.img-{NEW}").unlink()
    with pytest.raises(SnapshotError, match=r"is not whole: /boot/initrd\.img"):
        fake.take()
    assert (fake.kept, fake.manifests()) == ({}, ())


def test_boot_files_that_change_meanwhile(fake: Fake) -> None:
    """Once is a package manager at work; twice is too often."""
    image = fake.world.root / f"boot/initrd.img-{NEW}"
    changes = ["again"]

    def change() -> None:
        if changes:
            image.write_text(image.read_text() + changes.pop())

    fake.during = change
    assert fake.take()[0].number == 1
    found = fake.find()[0].manifest
    assert found is not None
    assert not manifest.damaged_copies(fake.world.machine, found, found.files)
    fake.world.reboot(OLD)
    changes += ["and", "again"]
    with pytest.raises(SnapshotError, match="changed while the snapshot was taken"):
        fake.take()
    assert (len(fake.kept), fake.manifests()) == (1, (1,))


def test_what_fails_in_the_middle_leaves_nothing(fake: Fake) -> None:
    fake.made = 1
    with pytest.raises(SnapshotError, match="the second part failed"):
        fake.take()
    assert (fake.kept, fake.manifests()) == ({}, ())


def test_what_was_cut_off_is_told_and_removed(fake: Fake) -> None:
    """A part is missing, as after a power cut."""
    number = fake.take()[0]
    fake.kept[number] = ("root",)
    assert fake.find()[0].state == "unfinished"
    with pytest.raises(SnapshotError, match="is not whole"):
        undo.plan(fake.world.host(), fake.find()[0])
    told = fake.take()[1]
    assert "Snapshot 1 of" in told[0]
    assert "was not finished; what is left of it is removed" in told[0]
    assert [one.state for one in fake.find()] == ["whole"]


def test_what_somebody_removed_is_forgotten(fake: Fake) -> None:
    """Or what an undo used up: the back end knows nothing of it any more, and is not asked to remove it."""
    fake.take()
    fake.kept.clear()
    assert [(one.state, one.listed) for one in fake.find()] == [("gone", False)]
    fake.backend = replace(fake.backend, delete=lambda *_: pytest.fail("there is nothing to delete"))
    assert "was never made, or somebody removed it" in fake.take()[1][0]
    assert fake.manifests() == (1,)


def test_a_back_end_that_does_not_answer_says_nothing_about_its_snapshots(fake: Fake) -> None:
    fake.take()
    fake.silent = True
    every, problems = kept.find(fake.world.host(), (fake.backend,))
    assert every == ()
    assert problems == ("Which snapshots fake has cannot be seen: it does not answer.",)
    # Nothing is removed, and the number is not given again.
    label, told = fake.take("by-hand")
    assert label.number == 2
    assert problems[0] in told
    assert fake.manifests() == (1, 2)


def test_a_damaged_manifest_is_told_and_left(fake: Fake) -> None:
    fake.take()
    path = f"{manifest.DIRECTORY}/1/manifest.json"
    Path(fake.world.machine.root + path).write_text("{}")
    every, problems = kept.find(fake.world.host(), (fake.backend,))
    assert [(one.state, one.manifest) for one in every] == [("whole", None)]
    assert problems == (f"{path} is damaged: it is not of format 1.",)
    assert fake.take("by-hand")[0].number == 2
    assert fake.manifests() == (1, 2)


def test_without_room_there_are_figures(fake: Fake) -> None:
    fake.free = 5 << 20
    with pytest.raises(SnapshotError, match="the pool has 5120 KiB free, and 1024 MiB are needed"):
        fake.take()
    assert (fake.kept, fake.manifests()) == ({}, ())


def test_the_policy(fake: Fake) -> None:
    assert fake.before_reboot("off") == Taken()
    fake.detected = Unusable("The pool is gone.", "Make one.")
    required = fake.before_reboot("required")
    assert (required.snapshot, required.told) == (None, ())
    sentence = "There is no snapshot to go back to: The pool is gone. Make one."
    assert required.holds == f"{sentence} `safeupdate settle --force` tries again."
    # It is told once, and again when it changes.
    assert fake.before_reboot("if-possible") == Taken(None, (sentence,))
    assert fake.before_reboot("if-possible") == Taken()
    fake.detected = Unusable()
    assert "nothing here can take one" in fake.before_reboot("if-possible").told[0]
    (fake.world.root / "run/ostree-booted").touch()
    assert "rpm-ostree rollback" in fake.before_reboot("if-possible").told[0]


def test_the_gate_waits_for_one_that_is_required(fake: Fake) -> None:
    """And for it alone: a person may reboot."""
    world = fake.world.armed()
    world.update("safe")
    fake.free = 0
    gate = fake.settled("required")
    assert (gate.cause, gate.unattended, gate.people) == ("no-snapshot", False, True)
    assert "There is no snapshot to go back to: the pool has 0 KiB free" in gate.why
    fake.free = 2 << 30
    gate = fake.settled("required")
    assert (gate.cause, gate.unattended) == ("safe", True)
    assert [one.label.kind for one in fake.find()] == ["pre-reboot"]
    assert fake.settled("required") == gate
    assert len(fake.kept) == 1


def test_without_a_reboot_to_come_none_is_taken(fake: Fake) -> None:
    """As after each start, when settle judges anew."""
    fake.world.armed()
    running = replace(fake.look(), target=replace(fake.look().target, kernel=OLD))

    def before_reboot() -> Taken:
        return take.before_reboot(fake.world.host(), running, SETTINGS, fake.look, backends=(fake.backend,))

    assert before_reboot() == Taken()
    (fake.world.root / "run/reboot-required").touch()
    assert before_reboot().told == ("Snapshot 1 (fake, pre-reboot) was taken.",)


def test_a_snapshot_that_breaks_the_next_boot_is_removed(world: World) -> None:
    fake = Fake(world, changes_root=True)
    assert fake.take()[0].number == 1
    world.reboot(OLD)
    world.verdict = "unsafe"
    # Whatever the policy: what is opted in for must not be what keeps the machine from coming back.
    for policy in ("if-possible", "required"):
        taken = fake.before_reboot(policy)
        assert "is removed, as with it the verdict is unsafe" in taken.holds
        assert 'Without "fake" in `also` of [snapshots] none is tried.' in taken.holds
        assert fake.manifests() == (1,)


def test_a_snapshot_that_breaks_the_fallback_is_removed(world: World) -> None:
    """As one of LVM's without a pool does, where only the new initramfs has dm-snapshot."""
    fake = Fake(world, changes_root=True)

    def look() -> Report:
        return report(world.machine, "safe", fallback=None if fake.kept else OLD)

    fake.look = look  # type: ignore[method-assign]
    assert f"as with it {OLD}, the fallback, would not come up" in fake.before_reboot("if-possible").holds
    assert (fake.kept, fake.manifests()) == ({}, ())
    fake.backend = replace(fake.backend, delete=_refused)
    assert "cannot be removed (the pool stands still), and must be" in fake.before_reboot("if-possible").holds


def _refused(_: Host, __: Snapshot) -> None:
    raise SnapshotError("the pool stands still")


def test_what_does_not_fit_together_is_held_whatever_the_policy(fake: Fake) -> None:
    (fake.world.root / f"boot/initrd.img-{NEW}").unlink()
    taken = fake.before_reboot("if-possible")
    assert (taken.snapshot, taken.told) == (None, ())
    assert f"is not whole: /boot/initrd.img-{NEW}" in taken.holds


def test_an_undo_that_would_not_take_effect_is_no_way_back(fake: Fake) -> None:
    assert isinstance(fake.detected, Detected)
    fake.detected = replace(fake.detected, undo=Effect(False, "It is mounted by its number."))
    sentence = "To go back to snapshot 1 would not take effect. It is mounted by its number."
    required = fake.before_reboot("required")
    assert required.told == ("Snapshot 1 (fake, pre-reboot) was taken.",)
    assert required.holds == f"{sentence} `safeupdate settle --force` tries again."
    # It is said where it is taken, and holds nothing where none is required.
    assert fake.before_reboot("if-possible") == Taken(required.snapshot)
    assert fake.take("by-hand")[1][1:] == [sentence.replace("1", "2")]


def test_what_is_too_old_goes_though_none_is_taken(fake: Fake) -> None:
    """As after each start; what a person took stays."""
    fake.world.armed()
    fake.take()
    fake.take("by-hand")
    running = replace(fake.look(), target=replace(fake.look().target, kernel=OLD))

    def told(policy: str) -> tuple[str, ...]:
        settings = replace(SETTINGS, policy=policy)
        return take.before_reboot(fake.world.host(), running, settings, fake.look, backends=(fake.backend,)).told

    fake.world.later(days=29)
    assert told("if-possible") == ()
    fake.world.later(days=2)
    assert [sentence.endswith("was removed, as it is old.") for sentence in told("off")] == [True]
    assert fake.manifests() == (2,)


def test_one_that_is_spoiled_until_the_reboot(fake: Fake) -> None:
    """Seen at the last moment, and settle takes another."""

    def spoiled() -> str:
        return take.spoiled(fake.world.host(), backends=(fake.backend,))

    assert spoiled() == ""
    fake.take("by-hand")
    label = fake.take()[0]
    assert spoiled() == ""
    fake.problems[label] = "It overflowed."
    assert spoiled() == f"Snapshot 2 of {label.time}, taken for this reboot, cannot be gone back to: It overflowed."
    assert fake.take()[0].number == 3
    assert spoiled() == ""
    fake.world.reboot(OLD)
    fake.problems.update(dict.fromkeys(fake.kept, "It overflowed."))
    assert spoiled() == ""


def test_settle_takes_another_where_one_is_lost(fake: Fake) -> None:
    """Somebody removed it, or it overflowed: that is told once, and the gate stays as it is."""
    fake.world.armed().update("safe")
    gate = fake.settled("required")
    assert (gate.cause, gate.problems) == ("safe", ())
    fake.kept.clear()
    assert fake.settled("off").problems == ()
    for _ in range(2):  # the next one, too
        (problem,) = fake.settled("required").problems
        assert problem.startswith("Snapshot 1 of 2026-11-23T08:")
        assert problem.endswith(", taken for this reboot, cannot be gone back to: Somebody removed it.")
        assert len(fake.kept) == 1
        fake.kept.clear()
    assert fake.settled("required").unattended
    (label,) = fake.kept
    fake.problems[label], fake.lost = "It overflowed.", True
    gate = fake.settled("if-possible")
    assert gate.problems[0].endswith("cannot be gone back to: It overflowed.")
    assert (gate.cause, len(fake.kept), label in fake.kept) == ("safe", 1, False)
    assert fake.settled("if-possible") == replace(gate, problems=())


def test_settle_closes_the_gate_where_the_required_one_is_lost(fake: Fake) -> None:
    fake.world.armed().update("safe")
    assert fake.settled("required").unattended
    fake.kept.clear()
    fake.free = 0
    gate = fake.settled("required")
    assert (gate.position, gate.cause, gate.unattended, gate.people) == ("closed", "no-snapshot", False, True)
    fake.free = 2 << 30
    assert fake.settled("required").cause == "safe"


def test_what_is_lost_for_good_is_told_without_judging_anew(fake: Fake) -> None:
    """As a volume that a person has merged by hand, until the reboot: nothing else can be done about it."""
    world = fake.world.armed()
    world.update("safe")
    fake.settled("if-possible")
    fake.problems.update(dict.fromkeys(fake.kept, "It is being merged."))
    fake.detected = Unusable("The pool is gone.")
    looks = len(world.during)
    for _ in range(3):
        gate = fake.settled("if-possible")
        assert gate.cause == "safe"
        assert gate.problems[0].endswith("cannot be gone back to: It is being merged.")
    assert len(world.during) == looks + 1
    assert fake.manifests() == (1,)


def test_without_a_snapshot_nothing_is_asked(fake: Fake) -> None:
    """A hook that has nothing to do must stay cheap, also where there is one of another boot, or for another kernel."""
    fake.take("by-hand")
    fake.take()
    fake.kept.clear()
    fake.backend = replace(fake.backend, list=lambda _: pytest.fail("it is asked"))
    assert fake.spoiled(fake.world.host(), OLD) == ""
    fake.world.reboot(OLD)
    assert fake.spoiled(fake.world.host(), None) == ""


def test_an_undo_that_waits_for_the_reboot_is_no_loss(fake: Fake) -> None:
    """It may use its snapshot up."""
    fake.take()
    fake.kept.clear()
    assert fake.spoiled(fake.world.host(), NEW) != ""
    (fake.world.root / kept.UNDONE.lstrip("/")).write_text("1")
    assert fake.spoiled(fake.world.host(), NEW) == ""


@pytest.mark.parametrize(("policy", "if_safe", "held"), [("required", True, True), ("required", False, False)])
def test_a_spoiled_one_is_told_at_the_last_moment(
    world: World, capfd: pytest.CaptureFixture[str], policy: str, if_safe: bool, held: bool
) -> None:
    """And what reboots by itself is held where one is required."""
    boot_id = reading.boot_id(world.machine) or ""
    lost = Manifest(
        label=Label(1, "pre-reboot", NEW, boot_id, "2026-11-23T08:00:00+00:00"),
        backend="btrfs",
        parts=("/@",),
        adopted=None,
        running=OLD,
        loader="grub",
        entry=None,
        next_kernel=NEW,
        releases=(OLD, NEW),
        boot_returns=True,
        files=(),
    )
    manifest.write(world.host(), manifest.Draft(lost, {}, ()))
    (world.root / "etc/safeupdate").mkdir(parents=True)
    (world.root / "etc/safeupdate/safeupdate.toml").write_text(f'[snapshots]\npolicy = "{policy}"\n')
    code = reboot.reboot(world.host(), OPEN, if_needed=False, if_safe=if_safe)
    assert code == (reboot.HELD if held else reboot.REBOOTING)
    said = capfd.readouterr().err
    assert f"Snapshot 1 of {lost.label.time}, taken for this reboot, cannot be gone back to: Somebody removed" in said


def test_what_costs_is_used_only_where_it_is_named(world: World) -> None:
    fake = Fake(world, opt_in=True)
    with pytest.raises(SnapshotError, match="nothing here can take one"):
        fake.take()
    assert fake.take(also=("fake",))[0].number == 1


def test_what_is_slow_is_not_run_from_a_hook(world: World) -> None:
    """It is begun apart, once; who rests on it waits, and finds it when it is there."""
    fake = Fake(world, slow=True)
    ran: list[str] = []
    states = {"systemctl": b"ActiveState=inactive\n"}

    def runner(command: Sequence[str], _: float) -> Completed:
        ran.append(" ".join(command))
        return Completed(0, states.get(command[0], b""), b"")

    def before(when: str, **more: bool) -> Taken:
        host = replace(world.host(), runner=runner)
        if when == "transaction":
            return take.before_transaction(host, NEW, SETTINGS, fake.look, backends=(fake.backend,))
        return take.before_reboot(host, fake.look(), SETTINGS, fake.look, backends=(fake.backend,), **more)

    assert "fake copies for minutes, and is not started from here" in before("transaction").told[0]
    assert ran == []
    taken = before("reboot")
    assert (taken.snapshot, taken.told) == (None, ())
    assert taken.holds.startswith(f"This system is being copied since {world.host().time}")
    (started,) = ran
    assert started.startswith("systemd-run --unit=safeupdate-snapshot.service")
    assert started.endswith("/usr/bin/safeupdate snapshot create --kind=pre-reboot")
    states["systemctl"] = b"ActiveState=active\n"
    ran.clear()
    assert before("reboot") == taken
    assert before("transaction").holds == taken.holds
    assert all(command.startswith("systemctl show") for command in ran)
    # What was begun is this, and settles with what becomes of it.
    done = before("reboot", waits=True)
    assert done.told == ("Snapshot 1 (fake, pre-reboot) was taken.",)
    states["systemctl"] = b"ActiveState=inactive\n"
    assert before("reboot") == Taken(done.snapshot)


@pytest.mark.parametrize("policy", ["required", "if-possible"])
def test_a_copy_that_was_killed_is_begun_again_once(world: World, policy: str) -> None:
    """By the next settle, which says so; then a person is asked. Another kernel is another copy."""
    fake = Fake(world, slow=True)
    world.armed().update("safe")
    ran: list[str] = []
    states = {"systemctl": b"ActiveState=active\n"}

    def runner(command: Sequence[str], _: float) -> Completed:
        ran.append(command[0])
        return Completed(0, states.get(command[0], b""), b"")

    told: list[str] = []

    def protect(_: Report) -> str:
        host, settings = replace(world.host(), runner=runner), SnapshotSettings(policy=policy)
        taken = take.before_reboot(host, fake.look(), settings, fake.look, backends=(fake.backend,))
        told.extend(taken.told)
        return taken.holds

    def settled() -> tuple[str, str]:
        world.later(minutes=10)
        ran.clear()
        gate = settle(
            world.host(), world.look, protect=protect, config=world.config, levers=world.levers, lock_seconds=5
        )
        return gate.cause, " ".join(ran)

    assert settled() == ("no-snapshot", "systemd-run")
    begun = world.host().time
    assert settled() == ("no-snapshot", "systemctl")
    # It is told to stop, and then gone.
    states["systemctl"] = b"ActiveState=deactivating\n"
    assert settled() == ("no-snapshot", "systemctl")
    assert told == []
    states["systemctl"] = b"ActiveState=inactive\n"
    assert settled() == ("no-snapshot", "systemctl systemd-run")
    copied = f"safeupdate-snapshot.service, begun at {begun} to copy this system, "
    assert told == [f"{copied}ended before it was done, and is begun again."]
    told.clear()
    cause, asked = settled()
    assert (cause, asked) == ("no-snapshot" if policy == "required" else "safe", "systemctl")
    why = told[0] if policy == "if-possible" else (state.read(world.machine) or OPEN).why
    assert "begun 2 times and ended before it was done" in why
    assert why.endswith("`safeupdate snapshot create --kind=pre-reboot` does it while you wait.")
    host = replace(world.host(), runner=runner)
    by_hand = SnapshotSettings(policy=policy)
    done = take.before_reboot(host, fake.look(), by_hand, fake.look, backends=(fake.backend,), waits=True)
    assert done.snapshot is not None
    assert not world.machine.exists("/run/safeupdate/snapshot-apart")
    assert settled()[0] == "safe"


def test_where_nothing_can_be_begun_apart_the_policy_decides(world: World) -> None:
    fake = Fake(world, slow=True)
    host = replace(world.host(), runner=lambda *_: Completed(1, b"", b"no systemd"))
    taken = take.before_reboot(host, fake.look(), SETTINGS, fake.look, backends=(fake.backend,))
    assert (taken.holds, len(taken.told)) == ("", 1)
    assert "no systemd" in taken.told[0]


def test_the_snapshot_of_another_hook_is_adopted(world: World) -> None:
    since: list[str] = []

    def adopt(_: Host, time: str) -> str:
        since.append(time)
        return "41"

    fake = Fake(world, adopt=adopt)
    number, told = fake.take("pre-transaction")
    assert told == ["Snapshot 1 (fake, pre-transaction) was adopted."]
    assert since == ["2026-11-23T07:52:00+00:00"]
    (one,) = fake.find()
    assert (one.snapshot, fake.kept) == (Snapshot(number, ("41",)), {})
    assert fake.take("pre-transaction")[0].number == 1
    # Whose it is removes it.
    fake.kept[number] = ("not", "ours")
    take.remove(world.host(), one)
    assert (list(fake.kept), fake.manifests()) == ([number], ())


def test_the_undo_stops_where_it_fails(fake: Fake) -> None:
    """Before its first step is done nothing has changed; after that no snapshot is taken until the reboot."""
    fake.take()
    (one,) = fake.find()
    plan = undo.plan(fake.world.host(), one)
    ran: list[str] = []

    def runner(command: Sequence[str], _: float) -> Completed:
        ran.append(command[0])
        return Completed(int(command[0] == fails), b"", b"it is full")

    def execute() -> None:
        undo.execute(replace(fake.world.host(), runner=runner), one, plan, ran.append)

    fails = "switch"
    with pytest.raises(SnapshotError, match=r"step 1 failed \(it ended with 1: it is full\); nothing was changed"):
        execute()
    assert ran == ["1/2 switch", "switch"]
    fake.take("by-hand")
    fails = "sync"
    with pytest.raises(SnapshotError, match=r"step 2 failed .*; 1 of 2 steps are done"):
        execute()
    assert fake.before_reboot("required") == Taken()
    with pytest.raises(SnapshotError, match="waits for the reboot"):
        fake.take("by-hand")
    fails = ""
    execute()
    assert document.read(fake.world.machine, undo.PROGRESS) == {
        "number": 1,
        "time": fake.world.host().time,
        "begun": 3,
        "steps": [["switch"], ["sync"]],
    }
    kinds = [event.kind for event in reading.read(fake.world.machine).events]
    assert kinds[:5] == ["undo-done", "undo-begun", "undo-stopped", "undo-begun", "snapshot-taken"]


def test_the_old_ones_go(fake: Fake) -> None:
    for _ in range(4):
        fake.take(keep=3)
        fake.world.reboot(OLD)
    assert [one.label.number for one in fake.find()] == [2, 3, 4]
    fake.take("pre-transaction", keep=2)
    assert [one.label.number for one in fake.find()] == [4, 5]
    fake.world.later(days=31)
    fake.world.reboot(OLD)
    told = fake.take(keep=2)[1]
    assert [one.label.number for one in fake.find()] == [6]
    assert all("it is old" in sentence for sentence in told[1:])


def test_the_way_back(fake: Fake) -> None:
    """What is missing in /boot comes first, then the switch, then what the loader chooses by."""
    fake.take("pre-transaction")
    boot = fake.world.root / "boot"
    (boot / f"vmlinuz-{OLD}").unlink()
    (boot / f"initrd.img-{NEW}").write_text("rebuilt")
    (boot / "grub/grub.cfg").write_text("other")
    (boot / "grub/grubenv").write_text("other")
    (one,) = fake.find()
    plan = undo.plan(fake.world.host(), one)
    copies = f"{manifest.DIRECTORY}/1/files/boot"
    assert [step.command for step in plan.steps] == [
        ("install", "-m", "0644", f"{copies}/vmlinuz-{OLD}", f"/boot/vmlinuz-{OLD}.undo"),
        ("mv", "-fT", f"/boot/vmlinuz-{OLD}.undo", f"/boot/vmlinuz-{OLD}"),
        ("switch",),
        ("install", "-m", "0644", f"{copies}/initrd.img-{NEW}", f"/boot/initrd.img-{NEW}.undo"),
        ("mv", "-fT", f"/boot/initrd.img-{NEW}.undo", f"/boot/initrd.img-{NEW}"),
        ("install", "-m", "0644", f"{copies}/grub/grub.cfg", "/boot/grub/grub.cfg.undo"),
        ("mv", "-fT", "/boot/grub/grub.cfg.undo", "/boot/grub/grub.cfg"),
        ("cp", "--no-preserve=all", f"{copies}/grub/grubenv", "/boot/grub/grubenv"),
        ("sync",),
    ]
    assert not any("came since" in sentence for sentence in plan.stays)
    assert plan.stays[0] == "/home is another file system, and stays as it is."
    assert undo.describe(one, plan)[0].endswith("undoes that.")
    with pytest.raises(SafeupdateError, match="there is no snapshot 9"):
        kept.numbered(fake.world.host(), 9, (fake.backend,))


def test_what_came_since_is_not_started(fake: Fake) -> None:
    """A loader that reads a directory of entries takes the newest kernel; the old state has no modules for that."""
    fake.take("pre-transaction")
    (fake.world.root / "boot/vmlinuz-9.9").write_bytes(x86_image("9.9"))
    (one,) = fake.find()
    assert one.manifest is not None
    assert "The kernel 9.9 came since." in " ".join(undo.plan(fake.world.host(), one).stays)
    entries = [
        BootEntry("systemd-boot", name, name, f"{directory}/{name}", release=release)
        for directory, name, release in (
            ("/efi/loader/entries", "new.conf", "9.9"),
            ("/efi/EFI/Linux", "new.efi", "9.9"),
            ("/efi/loader/entries", "old.conf", NEW),
            ("/efi/loader/entries", "shell.conf", None),
            ("/boot/grub", "grub.cfg, line 3", "9.9"),
        )
    ]
    assert undo.newer(entries, one.manifest) == ("/efi/loader/entries/new.conf", "/efi/EFI/Linux/new.efi")
