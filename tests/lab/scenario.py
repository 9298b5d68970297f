"""A scenario: a folder with `scenario.toml` and `inject`. What is to come out is written nowhere: the boot tells.

    base = "debian12-initramfstools-ext4-bios"
    what = "The newest initramfs lacks its last 200 bytes."
    tags = ["initramfs"]            # what it is about; `smoke`: a part of `make lab-smoke`
    corpus = [2]                    # known failures that it shows (corpus.py)

    [next-boot]                     # what is another machine at the next boot
    memory = 256                    # MiB
    controller = "ahci"             # of the disk: virtio, ahci or nvme

`inject` is run by `sh -e`, as root, in the booted guest.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from safeupdate.rehearsal.hardware import Controller, Hardware
from tests.lab.bases import BASES, Base
from tests.lab.corpus import CORPUS
from tests.lab.programs import LabError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

OURS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "scenarios")

_KEYS = {"base", "what", "tags", "corpus", "next-boot"}
_CONTROLLERS = ("virtio", "ahci", "nvme")


@dataclass(frozen=True)
class Scenario:
    """What happens to which machine. `identity` changes with what happens."""

    name: str
    base: Base
    what: str
    tags: tuple[str, ...]
    inject: str
    identity: str
    corpus: tuple[int, ...] = ()
    memory: int | None = None
    controller: Controller | None = None

    def next_boot(self, machine: Hardware) -> Hardware:
        """The machine as it will be at the next boot."""
        disks = machine.disks
        if self.controller is not None:
            disks = tuple(replace(disk, controller=self.controller) for disk in disks)
        return replace(machine, disks=disks, memory=self.memory or machine.memory)


def load(directory: str) -> list[Scenario]:
    """The scenarios in that directory, by name. Raises `LabError` with the file that is wrong."""
    found = list(_load(directory))
    if not found:
        raise LabError(f"there are no scenarios in {directory}")
    return found


def _load(directory: str) -> Iterator[Scenario]:
    for name in sorted(os.listdir(directory)):
        place = os.path.join(directory, name)
        file = os.path.join(place, "scenario.toml")
        if not os.path.exists(file):
            continue
        try:
            with open(file, "rb") as toml:
                text = toml.read()
            with open(os.path.join(place, "inject"), "rb") as script:
                inject = script.read()
            yield _parse(name, tomllib.loads(text.decode()), inject.decode())
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise LabError(f"{file}: {error}") from None


def _parse(name: str, document: dict[str, Any], inject: str) -> Scenario:
    if set(document) - _KEYS:
        raise ValueError(f"unknown: {', '.join(sorted(set(document) - _KEYS))}")
    if document["base"] not in BASES:
        raise ValueError(f"there is no base {document['base']}; there are {', '.join(BASES)}")
    boot = document.get("next-boot", {})
    if set(boot) - {"memory", "controller"} or boot.get("controller", "virtio") not in _CONTROLLERS:
        raise ValueError(f"next-boot has memory and controller ({', '.join(_CONTROLLERS)})")
    corpus = tuple(document.get("corpus", ()))
    if set(corpus) - set(CORPUS):
        raise ValueError(f"corpus has {', '.join(map(str, corpus))}; there are 1 to {max(CORPUS)}")
    return Scenario(
        name=name,
        base=BASES[document["base"]],
        what=str(document["what"]),
        tags=tuple(map(str, document["tags"])),
        inject=inject,
        identity=hashlib.sha256(repr((inject, sorted(boot.items()))).encode()).hexdigest()[:12],
        corpus=corpus,
        memory=boot.get("memory"),
        controller=boot.get("controller"),
    )
