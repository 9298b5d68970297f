"""Roots on every layer, as they were captured in guests that lay on them, with the images that they made themselves.

What was taken out of these images, and what became of the boot then, is in tests/storage_guests/results.jsonl
(docs/root-storage.md): the check must say the same again.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from safeupdate.case import Case
from safeupdate.initramfs import Index
from tests.storage_guests import images, keep, omissions
from tests.storage_guests.boots import Result, results
from tests.storage_guests.images import Member
from tests.storage_guests.keep import GENERATORS
from tests.storage_guests.made import added
from tests.storage_guests.omissions import Omission
from tests.storage_guests.stacks import ROOTS
from tests.unit.test_check_root_storage import tell, the_rest_taken_out, without

BOOTS = results()


@dataclass(frozen=True)
class Root:
    """The capture of a root, one of its images as it was made and as all else is taken out of it, the command line of
    its boot, and what became of boots from there."""

    kept: Path
    made: list[Member]
    members: list[Member]
    index: Index
    line: str
    firsts: list[Omission]
    booted: list[Result]

    def without(self, omission: Omission) -> tuple[Case, Index]:
        """The next boot when something is taken out of the image."""
        if omission in self.firsts:
            return self.case(self.line), omissions.index(images.write(omission.of(self.made)))
        if omission.gone:
            return self.case(self.line), without(self.index, set(omission.gone))
        image = omissions.index(images.write(omission.of(self.members)))
        return self.case(omission.line(self.line)), image

    def case(self, line: str) -> Case:
        return omissions.on(self.kept / "tree", keep.release(self.kept), line)


@pytest.fixture(scope="module")
def captures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("roots")
    keep.unpack(directory)
    return directory


@pytest.fixture(scope="module", params=[(root, generator) for root in ROOTS for generator in GENERATORS], ids=" ".join)
def root(request: pytest.FixtureRequest, captures: Path) -> Root:
    name, generator = request.param
    line = ROOTS[name].filled(ROOTS[name].line)
    kept = captures / "debian12"
    keep.lies_on(ROOTS[name], kept, line)
    data = (kept / f"{generator}.img").read_bytes() + added(ROOTS[name], generator)
    booted = [one for one in BOOTS if (one.root, one.generator) == (name, generator)]
    made = images.read(data)
    firsts = omissions.whole(name, generator, made)
    members = firsts[-1].of(made)
    return Root(kept, made, members, omissions.index(images.write(members)), line, firsts, booted)


def test_the_image_holds_what_the_root_needs(root: Root) -> None:
    for first in root.firsts[:-1]:
        assert {finding.level for finding in tell(*root.without(first))} == {"blocker"}
    assert not list(tell(root.case(root.line), root.index))


def test_each_must_taken_out_stops_the_boot(root: Root) -> None:
    musts = [one for one in omissions.musts(root.case(root.line), root.index) if one.must]
    assert len(musts) >= 2
    for one in musts:
        findings = tell(*root.without(one))
        assert {finding.level for finding in findings} == {"blocker"}, (one.name, findings)


def test_nothing_else_is_missed(root: Root) -> None:
    one = root.case(root.line)
    image = omissions.judging(one, root.index)
    assert not list(tell(one, the_rest_taken_out(image)))


def test_what_was_booted(root: Root) -> None:
    """A blocker for each boot that failed, and none for one that did not."""
    one = root.case(root.line)
    asked = (
        *root.firsts,
        *omissions.musts(one, root.index),
        *omissions.waits(root.index),
        *omissions.samples(one, root.index),
    )
    omitted = {(each.kind, each.name): each for each in asked}
    for boot in root.booted:
        omission = omitted.get((boot.kind, boot.name))
        if omission is not None:
            levels = {finding.level for finding in tell(*root.without(omission))}
            assert ("blocker" in levels) == (boot.ending != "up"), boot
