"""What may be taken out of a root's image, by what `root-storage` asks of it, and what the check says of the rest."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from safeupdate import initramfs
from safeupdate.case import Case
from safeupdate.commands import machine_at
from safeupdate.formats.modules import module_name
from safeupdate.initramfs import Index
from safeupdate.machine import Machine
from safeupdate.storage.requirement import Requirement
from safeupdate.storage.target import Target
from tests.storage_guests.images import Member
from tests.storage_guests.stacks import MENDED
from tests.unit.test_check_root_storage import Given, answers, requirements
from tests.unit.trees import case

_NAMES_VOLUME = "rd.lvm.lv="
_OF_COMMAND_LINE = re.compile(r"(?:rd\.[\w.]+|root)=\S+$")


@dataclass(frozen=True)
class Omission:
    """What is taken out of an image at once: files, words of command lines (with `instead` in their place), a volume's
    line in the image's crypttab; or `added` to it: path, mode and content.

    `must` is what the check says of it; `kind` and `name` are those of the requirement, or words for a sample of what
    is not asked for; `layer` is the one that asks.
    """

    kind: str
    name: str
    layer: str
    must: bool
    gone: frozenset[str] = frozenset()
    words: tuple[str, ...] = ()
    instead: tuple[str, ...] = ()
    volume: str = ""
    added: tuple[tuple[str, int, bytes], ...] = ()

    def of(self, members: Iterable[Member]) -> list[Member]:
        """The image without it."""
        left = [self._edited(one) for one in members if one.path not in self.gone]
        there = {one.path for one in left}
        for path, mode, content in self.added:
            parts = path.split("/")
            above = ("/".join(parts[:count]) for count in range(1, len(parts)))
            left += [Member.new(one, 0o040755) for one in above if one not in there]
            left.append(Member.new(path, mode, content))
        return left

    def line(self, line: str) -> str:
        """The command line without it."""
        return " ".join((*(word for word in line.split() if word not in self.words), *self.instead))

    def _edited(self, one: Member) -> Member:
        if self.volume and re.fullmatch(r"(?:cryptroot|etc)/crypttab", one.path):
            lines = one.content.decode().splitlines(keepends=True)
            return replace(
                one, content="".join(line for line in lines if not line.startswith(f"{self.volume} ")).encode()
            )
        if self.words and re.match(r"etc/cmdline(?:$|\.d/)", one.path):
            return replace(one, content=self.line(one.content.decode()).encode() + b"\n")
        return one


def on(root: Path, release: str, line: str) -> Case:
    """The machine of a captured tree, whose loader starts the kernel with this command line and one image."""
    machine: Machine = machine_at(str(root))
    return case(machine, line, image=f"/boot/vmlinuz-{release}", initramfs=("/boot/initrd.img",))


def index(data: bytes) -> Index:
    """What the check reads of an image."""
    return initramfs.read_image(io.BytesIO(data), size=len(data), hashed=frozenset())


def whole(
    root: str, generator: str, members: Iterable[Member], read: Callable[[str], bytes] = lambda path: b""
) -> list[Omission]:
    """Nothing taken out of an image; where it does not boot as it was made, it as it was mended, too, step by step,
    with files that are `read` from the tree. The last is what all others are taken out of."""
    found = [Omission("whole", "the whole image", "", False)]
    paths = [one.path for one in members]
    for mended in MENDED.get((root, generator), ()):
        names = ", ".join(map(_name, mended.added)) + "".join(f", without {name}" for name in mended.gone)
        added = tuple((path, 0o100644, read(path)) for path in mended.added)
        gone = frozenset(path for path in paths if _name(path) in mended.gone)
        found.append(Omission("mended", names, "", False, gone, added=added))
    return found


def _name(path: str) -> str:
    return path.rpartition("/")[2]


def musts(one: Case, image: Index) -> Iterator[Omission]:
    """What the check asks for, each once; of what is built in nothing can be taken out."""
    assert one.tree is not None
    seen = set()
    for each in _requirements(one, image):
        key = (each.kind, each.names)
        if key in seen or (each.kind == "module" and not one.tree.builtin.isdisjoint(each.names)):
            continue
        seen.add(key)
        found = Omission(each.kind, each.names[0], each.layer.title, each.must)
        if each.kind == "configuration":
            words = tuple(name for name in each.names if _OF_COMMAND_LINE.match(name))
            volume = next((name.partition(" in ")[0] for name in each.names if "crypttab" in name), "")
            if each.met and words and words[0].startswith(_NAMES_VOLUME):
                # Where none is named at all dracut activates all that it finds.
                yield replace(found, must=False, words=words)
                other = (f"{_NAMES_VOLUME}vg9/other",)
                yield replace(found, name=f"{words[0]}, but {other[0]}", words=words, instead=other)
            elif each.met and (words or volume):
                yield replace(found, words=words, volume=volume)
            continue
        gone = frozenset(path for path, file in image.entries.items() if not file.is_dir and answers(path, each))
        if gone:
            yield replace(found, gone=gone)


def samples(one: Case, image: Index) -> Iterator[Omission]:
    """What nobody asks for: all modules but those that are asked for together with the helpers of layers that this root
    does not have, and each of udev's rules that no layer names."""
    assert one.tree is not None
    target = Target(one.tree)
    wanted = _requirements(one, image)
    needed = {name for each in wanted if each.kind == "module" for name in each.names}
    needed |= {below for name in needed for below in target.closure(name)}
    gone = {path for path in image.entries if ".ko" in path and module_name(path) not in needed}
    asked = [each for each in wanted if each.kind != "module"]
    gone |= {path for path in image.entries if _HELPERS.search(path) and not any(answers(path, each) for each in asked)}
    yield Omission("rest", "all other modules, all helpers of other layers", "", False, frozenset(gone))
    for path in sorted(image.entries):
        if "/rules.d/" in path and path not in gone and not any(answers(path, each) for each in asked):
            yield Omission("other rule", _name(path), "", False, frozenset([path]))


def waits(image: Index) -> Iterator[Omission]:
    """With dracut: devices that the image waits for, and that are gone."""
    device, unit = "/dev/disk/by-uuid/5afe0bad-0000", "dev-disk-by\\x2duuid-5afe0bad\\x2d0000.device"
    top = next((top for top in ("usr/lib", "lib") if image.names(f"/{top}/dracut/hooks")), None)
    if top is not None:
        escaped = device.replace("/", "\\x2f")
        hook = f"{top}/dracut/hooks/initqueue/finished/devexists-{escaped}.sh"
        test = (hook, 0o100755, f'[ -e "{device}" ]\n'.encode())
        yield Omission("waits", "a hook that waits for a device which is gone", "", True, added=(test,))
        link = (f"etc/systemd/system/initrd.target.wants/{unit}", 0o120777, f"../{unit}".encode())
        endless = (f"etc/systemd/system/{unit}.d/timeout.conf", 0o100644, b"[Unit]\nJobTimeoutSec=0\n")
        yield Omission("waits", "a unit that waits for a device which is gone", "", True, added=(link, endless))
        yield Omission("waits", "a unit that waits for such a device for a while", "", False, added=(link,))


_HELPERS = re.compile(
    r"(?:bin|lib/udev|scripts/[\w-]+|lib/cryptsetup|rules\.d|system-generators|system)/[^/]*"
    r"(?:lvm|dmeventd|mdadm|md-raid|md_raid|mdmon|multipath|kpartx|crypt|btrfs|thin_|cache_|bcache|dmraid|mpath)[^/]*$"
)


def judging(one: Case, image: Index) -> Case:
    """The case with that image."""
    return replace(one, shelf=Given(one, image))


def _requirements(one: Case, image: Index) -> Sequence[Requirement]:
    return list(requirements(judging(one, image)))
