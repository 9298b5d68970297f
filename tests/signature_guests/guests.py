"""A guest in one state: shim and GRUB are shown the kernel images, the kernel that starts then the modules."""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from machines.build import cache
from safeupdate.rehearsal.hardware import Disk, Firmware, Hardware
from safeupdate.rehearsal.outcome import mark
from safeupdate.rehearsal.qemu import start
from tests.lab.programs import run
from tests.signature_guests.cases import RELEASE, Set, kernel, program, tree
from tests.signature_guests.states import PASSWORD, State, stored
from tests.unit import initrd
from tests.unit.efi import VARIABLES
from tests.unit.trees import Content

_DIGESTS = "kernel/crypto/sha512_generic.ko"
"""Shown a second time when it is there: modules that need it."""

_ESP_SIZE = 240 << 20

_DONE = "safeupdate: everything was shown"

_LIMIT = 2700.0
"""Seconds for one guest: it takes five minutes on two idle processors, and twenty on busy ones."""

_INIT = """#!/bin/busybox sh
b=/bin/busybox
$b mount -t proc proc /proc
$b mount -t sysfs sysfs /sys
$b mount -t securityfs securityfs /sys/kernel/security
/sbin/insmod /efivarfs.ko
$b mount -t efivarfs efivarfs /sys/firmware/efi/efivars
show() {
	$b dmesg -c > /dev/null
	said=$(/sbin/insmod "/cases/$1" 2>&1)
	code=$?
	taint=$($b cat /sys/module/MODULE/taint 2> /dev/null)
	log=$($b dmesg | $b tail -n 1)
	echo "CASE|$2|$code|${said##*: }|$taint|$log"
	$b rmmod MODULE 2> /dev/null
}
echo "STATE|$($b cat /sys/module/module/parameters/sig_enforce)|$($b cat /sys/kernel/security/lockdown)"
for each in /sys/firmware/efi/efivars/SecureBoot-* /sys/firmware/efi/efivars/SetupMode-* \
	/sys/firmware/efi/efivars/db* /sys/firmware/efi/efivars/Mok* /sys/firmware/efi/efivars/Sbat*; do
	[ ! -f "$each" ] || echo "VARIABLE|${each##*/}|$($b base64 -w 0 "$each")"
done
for each in $($b cat /names); do
	show "$each" "$each"
done
/sbin/insmod /digests.ko
for each in $($b cat /again); do
	show "$each" "$each with its digest"
done
echo "DONE"
$b poweroff -f
"""


_PERSON = {
    "Press any key to perform MOK": "\r",
    "Enroll key from disk": "\x1b[B\r",
    "View key 0": "\x1b[B\r",
    r"(Enroll|Delete) the key\(s\)|Erase all stored keys": "\x1b[B\r",
    "Password:": f"{PASSWORD}\r",
    "Reboot": "\r",
}
"""What a person types at MokManager's questions; the guest ends where it would start again."""


@dataclass(frozen=True)
class Did:
    """What shim or the kernel did: `loads`, `taints` or `refused`, and what was said of it."""

    outcome: str
    error: str = ""
    log: str = ""


@dataclass(frozen=True)
class Ended:
    """What the console of a guest said, and after how many seconds it ended."""

    console: str
    seconds: int


@dataclass(frozen=True)
class Answers:
    """Everything that a guest answered. `enforces` and `lockdown` are the kernel's own words for its state."""

    modules: Mapping[str, Did]
    images: Mapping[str, Did]
    variables: Mapping[str, Content]
    enforces: str
    lockdown: str
    seconds: int


def needs_digest(cases: Set) -> list[str]:
    """The modules that are shown again once the kernel has the digest."""
    return [name for name in cases.modules if "sha512" in name or "sha384" in name]


def ask(state: State, cases: Set) -> Answers:
    """Start guests in this state, show them everything, and return what they answered.

    Images and modules have a guest each: GRUB 2.06 crashes at a kernel that it takes after several that it refused.
    """
    images = dict(_images(_start(state, cases, images=True).console)) if state.images else {}
    return _answers(_start(state, cases), images)


def confirmed(state: State, cases: Set) -> Answers:
    """What the next start answers after a person has confirmed in MokManager what this state has pending."""
    place = _place(state, cases, "-person")
    _esp(f"{place}.img", state, cases, images=False)
    _store(place, state, cases)
    first = _watched(place, f"{place}-asked.log", _PERSON)
    if "Perform MOK management" not in first.console:
        raise RuntimeError(f"MokManager did not come, see {place}-asked.log")
    return _answers(_run(place), {})


def _start(state: State, cases: Set, *, images: bool = False) -> Ended:
    place = _place(state, cases, "-images" if images else "")
    _esp(f"{place}.img", state, cases, images=images)
    _store(place, state, cases)
    return _run(place)


def _place(state: State, cases: Set, more: str) -> str:
    directory = os.path.join(cache(), "signature-guests")
    os.makedirs(directory, exist_ok=True)
    return os.path.join(directory, f"{cases.name}-{state.name}{more}")


def _store(place: str, state: State, cases: Set) -> None:
    with open(f"{place}.fd", "wb") as file:
        file.write(stored(state, cases))


def _run(place: str) -> Ended:
    ended = _watched(place, f"{place}.log", {})
    os.unlink(f"{place}.img")
    if _DONE not in ended.console:
        raise RuntimeError(f"the guest did not come to its end, see {place}.log:\n{ended.console[-2000:]}")
    return ended


def _watched(place: str, log: str, answers: Mapping[str, str]) -> Ended:
    """Start the guest and wait for its end. Each answer is typed once, when the console says what its key matches."""
    pending = dict(answers)
    machine = Hardware((Disk(f"{place}.img", "raw"),), Firmware(f"{place}.fd", secure_boot=True), processors=1)
    with start(machine, log) as guest:
        while guest.poll(1.0) and guest.seconds < _LIMIT and mark(guest.console.last()) is None:
            text = guest.console.text()
            for question in [question for question in pending if re.search(question, text)]:
                guest.type(pending.pop(question))
        return Ended(guest.console.text(), round(guest.seconds))


def _answers(ended: Ended, images: Mapping[str, Did]) -> Answers:
    modules: dict[str, Did] = {}
    variables: dict[str, Content] = {}
    enforces = lockdown = ""
    for line in ended.console.splitlines():
        kind, _, rest = line.partition("|")
        if kind == "CASE":
            name, code, said, taint, log = rest.split("|", 4)
            log = re.sub(r"^\[ *[0-9.]+\] ", "", log)
            modules[name] = Did("refused", said, log) if code != "0" else Did("taints" if taint else "loads", "", log)
        elif kind == "VARIABLE":
            name, _, data = rest.partition("|")
            variables[f"{VARIABLES}/{name}"] = base64.b64decode(data)
        elif kind == "STATE":
            enforces, _, lockdown = rest.partition("|")
    return Answers(modules, images, variables, enforces, lockdown, ended.seconds)


def _images(console: str) -> Iterator[tuple[str, Did]]:
    for name, between, answer in re.findall(
        r"IMAGE\|([a-z0-9-]+)\|(.*?)ANSWER\|(accepted|refused)", console, re.DOTALL
    ):
        error = re.search(r"error: ([^\n]*)", between)
        yield name, Did("loads" if answer == "accepted" else "refused", error.group(1).strip() if error else "")


def _menu(state: State, cases: Set, *, images: bool) -> str:
    if not images:
        line = f"linux /vmlinuz console=ttyS0,115200 quiet loglevel=1 panic=-1 {state.command_line}"
        return f"{line}\ninitrd /initrd\nboot\n"
    lines = []
    for name in cases.images:
        lines += [f"echo 'IMAGE|{name}|'", f"if linux /images/{name}; then echo 'ANSWER|accepted'"]
        lines += ["else echo 'ANSWER|refused'", "fi"]
    return "\n".join([*lines, f"echo '{_DONE}'", "halt", ""])


def _esp(image: str, state: State, cases: Set, *, images: bool) -> None:
    """A disk that is one FAT file system."""
    work = f"{image}.files"
    files: dict[str, bytes] = {
        "EFI/BOOT/BOOTX64.EFI": program("shim"),
        "EFI/BOOT/grubx64.efi": program("grub"),
        "EFI/BOOT/mmx64.efi": program("mm"),
        "EFI/debian/grub.cfg": _menu(state, cases, images=images).encode(),
    }
    if images:
        files.update({f"images/{name}": data for name, data in cases.images.items()})
    else:
        files.update({"vmlinuz": kernel(), "initrd": _initramfs(cases)})
    for name, data in files.items():
        os.makedirs(os.path.dirname(f"{work}/{name}"), exist_ok=True)
        with open(f"{work}/{name}", "wb") as file:
            file.write(data)
    with open(image, "wb") as file:
        file.truncate(_ESP_SIZE)
    run("mkfs.vfat", "-F", "32", image)
    run("mcopy", "-s", "-i", image, *(f"{work}/{name}" for name in sorted(os.listdir(work))), "::/")
    run("rm", "-r", work)


def _initramfs(cases: Set) -> bytes:
    root = tree()
    modules = root / "lib/modules" / RELEASE
    files: dict[str, initrd.Content] = {
        "init": _INIT.replace("MODULE", os.path.basename(cases.module)[:-3]).replace("DONE", _DONE).encode(),
        "bin/busybox": (root / "bin/busybox").read_bytes(),
        "sbin/insmod": (root / "bin/kmod").read_bytes(),
        "efivarfs.ko": (modules / "kernel/fs/efivarfs/efivarfs.ko").read_bytes(),
        "digests.ko": (modules / _DIGESTS).read_bytes(),
        "names": "\n".join(cases.modules).encode(),
        "again": "\n".join(needs_digest(cases)).encode(),
        **dict.fromkeys(("proc", "sys", "dev")),
        **{f"cases/{name}": data for name, data in cases.modules.items()},
    }
    for program_ in ("bin/busybox", "bin/kmod"):
        for library in _libraries(str(root), program_):
            files[library.lstrip("/")] = (root / os.path.realpath(f"{root}{library}")).read_bytes()
    return initrd.archive(files)


def _libraries(root: str, program_: str) -> list[str]:
    return re.findall(r"(/lib\S+)", run("chroot", root, "ldd", f"/{program_}", timeout=60))
