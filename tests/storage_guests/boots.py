"""Starts a root from its images, whole and with something taken out, and holds what the check said against that."""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.storage_guests import images, keep, omissions, tree
from tests.storage_guests.guest import Boot, start, turn
from tests.storage_guests.made import ANSWERS, LINE, drives, image, made
from tests.storage_guests.omissions import Omission
from tests.storage_guests.stacks import Root
from tests.unit.test_check_root_storage import tell

RESULTS = Path(__file__).parent / "results.jsonl"

_IMPATIENT = {
    "initramfs-tools": "rootdelay=8",
    "dracut": "rd.retry=60 rd.timeout=120 rd.shell=0 rd.emergency=poweroff systemd.show_status=1",
}
"""So that a root that does not come is given up early; the whole image is started with the same."""


@dataclass(frozen=True)
class Result:
    """One boot, and what the check had said: the levels of its findings."""

    suite: str
    root: str
    generator: str
    kind: str
    name: str
    layer: str
    must: bool
    said: tuple[str, ...]
    ending: str
    seconds: int
    line: str

    @property
    def agrees(self) -> bool:
        """Whether a blocker was said of a boot that failed, and none of one that did not."""
        return ("blocker" in self.said) != (self.ending == "up")

    @property
    def key(self) -> tuple[str, ...]:
        """Of two boots with the same, the later one counts."""
        return self.suite, self.root, self.generator, self.kind, self.name


def results() -> list[Result]:
    """All that were kept, each once."""
    found: dict[tuple[str, ...], Result] = {}
    if RESULTS.exists():
        for line in RESULTS.read_text().splitlines():
            facts = json.loads(line)
            one = Result(**{**facts, "said": tuple(facts["said"])})
            found[one.key] = one
    return list(found.values())


def boots(root: Root, suite: str, generator: str, *, pick: str = "", again: bool = False) -> Iterator[Result]:
    """Start the root once for each omission whose kind and name hold `pick`, and once from the whole image, all of it
    in one of the slots for guests."""
    place = made(suite)
    members = images.read(image(root, suite, generator))
    whole = omissions.index(images.write(members))
    line = root.filled(root.line)
    known = set() if again else {each.key for each in results()}
    with turn(), tempfile.TemporaryDirectory(prefix="boot.", dir=place) as work:
        kept = Path(work, "kept")
        shutil.copytree(place / "out", kept, symlinks=True)
        keep.lies_on(root, kept, line)
        one = omissions.on(kept / "tree", keep.release(kept), line)
        first = Omission("whole", "the whole image", "", False)
        asked = (*omissions.musts(one, whole), *omissions.waits(whole), *omissions.samples(one, whole))
        for omission in (first, *asked):
            key = (suite, root.name, generator, omission.kind, omission.name)
            if key in known or not re.search(pick, f"{omission.kind} {omission.name}"):
                continue
            data, words = images.write(omission.of(members)), omission.line(line)
            told = tell(omissions.on(kept / "tree", keep.release(kept), words), omissions.index(data))
            said = tuple(sorted({finding.level for finding in told}))
            boot = _boot(root, suite, place, work, data, f"{words} {LINE} {_IMPATIENT[generator]}")
            ending = "up" if boot.up else "failed"
            result = Result(*key, omission.layer, omission.must, said, ending, round(boot.seconds), boot.line)
            with RESULTS.open("a") as file:
                file.write(json.dumps(asdict(result)) + "\n")
            yield result


def _boot(root: Root, suite: str, place: Path, work: str, data: bytes, line: str) -> Boot:
    whole = Path(work, "initrd.img")
    whole.write_bytes(data)
    kernel = (str(tree.root(suite) / "vmlinuz"), str(whole), line)
    words = drives(root, place, forget=work)
    return start(kernel, place / f"{root.name}.log", extra=words, answers=ANSWERS, limit=300)
