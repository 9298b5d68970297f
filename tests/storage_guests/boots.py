"""Starts a root from its images, whole and with something taken out, and holds what the check said against that."""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.storage_guests import images, keep, omissions, tree
from tests.storage_guests.guest import Boot, start, turn
from tests.storage_guests.made import ANSWERS, LINE, drives, image, made
from tests.storage_guests.stacks import Root
from tests.unit.test_check_root_storage import tell

RESULTS = Path(__file__).parent / "results.jsonl"

_IMPATIENT = {
    "initramfs-tools": "rootdelay=8",
    "dracut": "rd.retry=30 rd.timeout=90 rd.shell=0 rd.emergency=poweroff systemd.show_status=error",
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
    """Start the root once from the whole image, and once without each thing that can be taken out of it, where `pick`
    is found in kind and name. What was started before is not started again, unless it proved nothing. Where the whole
    image does not come up, nor what it was mended to, nothing else would tell anything."""
    place = made(suite)
    made_image = images.read(image(root, suite, generator))
    firsts = omissions.whole(root.name, generator, made_image, lambda path: tree.file(suite, path))
    members = firsts[-1].of(made_image)
    whole = omissions.index(images.write(members))
    line = root.filled(root.line)
    before = [] if again else [each for each in results() if each.key[:3] == (suite, root.name, generator)]
    if any(each.key[3:] == (firsts[-1].kind, firsts[-1].name) and each.ending != "up" for each in before):
        return
    known = {each.key for each in before}
    with tempfile.TemporaryDirectory(prefix="boot.", dir=place) as work:
        kept = Path(work, "kept")
        shutil.copytree(place / "out", kept, symlinks=True)
        keep.lies_on(root, kept, line)
        one = omissions.on(kept / "tree", keep.release(kept), line)
        asked = (*firsts, *omissions.musts(one, whole), *omissions.waits(whole), *omissions.samples(one, whole))
        keys = {(suite, root.name, generator, each.kind, each.name): each for each in asked}
        left = [key for key in keys if key not in known and re.search(pick, f"{key[3]} {key[4]}")]
        with turn() if left else nullcontext():
            for key in left:
                omission = keys[key]
                data, words = (
                    images.write(omission.of(made_image if omission in firsts else members)),
                    omission.line(line),
                )
                told = tell(omissions.on(kept / "tree", keep.release(kept), words), omissions.index(data))
                said = tuple(sorted({finding.level for finding in told}))
                name = re.sub("[^0-9A-Za-z]+", "-", omission.name)
                log = place / "logs" / f"{root.name}.{generator}.{omission.kind}.{name}"
                boot = _boot(root, suite, log, work, data, f"{words} {LINE} {_IMPATIENT[generator]}")
                if boot.ending == "late":
                    print(f"late: {log}: {boot.line}", flush=True)
                    continue
                ending = "up" if boot.ending == "up" else "failed"
                result = Result(*key, omission.layer, omission.must, said, ending, round(boot.seconds), boot.line)
                with RESULTS.open("a") as file:
                    file.write(json.dumps(asdict(result)) + "\n")
                yield result
                if omission is firsts[-1] and ending != "up":
                    return


def _boot(root: Root, suite: str, log: Path, work: str, data: bytes, line: str) -> Boot:
    whole = Path(work, "initrd.img")
    whole.write_bytes(data)
    log.parent.mkdir(exist_ok=True)
    kernel = (str(tree.root(suite) / "vmlinuz"), str(whole), line)
    return start(kernel, log, extra=drives(root, made(suite), forget=work), answers=ANSWERS)
