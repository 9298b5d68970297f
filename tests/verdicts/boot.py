"""Boots machines of the corpus in QEMU, one after the other, and records what the console said.

    python3 -m tests.verdicts.boot NAME...      # run by hand: minutes each; results go to boots.json beside this file

Software emulation only, so that it runs anywhere and a result does not depend on the host's processor. The disk is
made from the tree without mounting anything: `mkfs.ext4 -d` for the root file system, and GRUB's own boot.img and
core.img in front of it (or, for systemd-boot, a FAT image with the tree's /boot as the ESP). The changes to what the
loader reads are the serial console: GRUB's terminal, and `console=` on the kernel's command line.
"""

from __future__ import annotations

import json
import os
import re
import select
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import machines
from machines.build import cache
from machines.recipes import RECIPES
from tests.verdicts import layouts

RESULTS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "boots.json")

_CONSOLE = "console=ttyS0,115200 loglevel=6 systemd.show_status=1 no_timer_check"
"""`no_timer_check`: on a busy host, emulation is too slow for the kernel's test of its timer."""
_MARK = "safeupdate: multi-user reached"

_FINAL = (
    (rf"{_MARK} with (\S+)", "up"),
    (r"Kernel panic - not syncing", "panic"),
    (r"\(initramfs\) ?$|can't access tty; job control turned off", "a shell"),
    (
        r"You are in (?:emergency|rescue) mode|Give root password for maintenance|Cannot open access to console",
        "emergency mode",
    ),
    (r"(?:dracut|switch_root):/#|Entering emergency mode|Generating \"/run/initramfs/rdsosreport", "emergency mode"),
    (r"grub rescue>|grub>|^Shell> ", "loader"),
)
"""What the console says when the boot has come to its end, and what that end is."""

_TELLING = (
    r"(?<!end )Kernel panic - not syncing: .*",
    r"Initramfs unpacking failed: .*",
    r"ALERT! .*does not exist.*",
    r"No init found.*|run-init: .*",
    r"error: .*|Error preparing initrd: .*",
    r"[\w-]+ ?-- System halted",
    r"dracut-\S+: Warning: .*|Cannot find init!",
    r"Timed out waiting for device .*|Dependency failed for .*|Failed to mount .*",
    r"You are in (?:emergency|rescue) mode|Entering emergency mode|Cannot open access to console.*",
    r"Spawning shell within the initramfs",
    r"Failed to execute /init .*|mount: .*unknown filesystem.*",
)
"""What explains an end, or how far the boot came."""

_LIMIT = 900.0
"""Seconds for one boot; a good one takes 60 to 120 under emulation, and dracut waits for three minutes of its own."""

_SILENT = 240.0
"""Seconds without a byte after which nothing more is expected; the longest wait that says nothing is dracut's."""

_SILENT_LOADER = 45.0
"""The same after an error of the loader, before any kernel: a menu that waits for a person."""


@dataclass(frozen=True)
class Result:
    """How a boot ended: `up`, or what stopped it; the line that says so; the kernel that came up."""

    end: str
    said: tuple[str, ...]
    kernel: str | None
    seconds: int


# -- disks -------------------------------------------------------------------------------------------------------


def add_mark(tree: str) -> None:
    """A unit that says on the console that multi-user.target is reached, and powers off."""
    os.makedirs(f"{tree}/etc/systemd/system/multi-user.target.wants", exist_ok=True)
    unit = "/etc/systemd/system/safeupdate-mark.service"
    text = f"""[Unit]
Description=Say that the boot came to its end
DefaultDependencies=no
Requires=multi-user.target
After=multi-user.target
[Service]
Type=oneshot
ExecStart=/bin/sh -c 'echo "{_MARK} with $(uname -r)" > /dev/console'
ExecStart=/bin/systemctl --no-block poweroff
"""
    machines.replace(tree, unit, text.encode())
    os.symlink(unit, f"{tree}/etc/systemd/system/multi-user.target.wants/safeupdate-mark.service")


def with_console(tree: str) -> None:
    """GRUB's terminal and the kernels' console on the first serial line."""
    path = f"{tree}/boot/grub/grub.cfg"
    if os.path.isfile(path):
        with open(path, encoding="utf-8") as file:
            text = file.read()
        text = text.replace("terminal_output gfxterm", "terminal_output serial")
        text = re.sub(r"(?m)^(\s*linux\s+.*\S)\s*$", rf"\1 {_CONSOLE}", text)
        machines.replace(tree, "/boot/grub/grub.cfg", text.encode())
    for directory in ("/boot/loader/entries",):
        for name in os.listdir(tree + directory) if os.path.isdir(tree + directory) else ():
            with open(f"{tree}{directory}/{name}", encoding="utf-8") as file:
                text = file.read()
            text = re.sub(r"(?m)^(options\s+.*\S)\s*$", rf"\1 {_CONSOLE}", text)
            machines.replace(tree, f"{directory}/{name}", text.encode())


def bios_disk(tree: str, base: str, uuid: str, image: str) -> None:
    """A disk with an MBR, GRUB in front of the first partition, and the whole tree on that partition."""
    start, sectors = 2048, (3 << 30) // 512
    core = _core_image(base)
    with open(os.path.join(machines.root(base), "usr/lib/grub/i386-pc/boot.img"), "rb") as file:
        boot = bytearray(file.read(512))
    # One entry of the partition table (type 0x83, active), and the signature.
    boot[446:462] = b"\x80\0\0\0\x83\0\0\0" + start.to_bytes(4, "little") + (sectors - start).to_bytes(4, "little")
    boot[462:510] = bytes(48)
    boot[440:444] = int(uuid.partition("-")[0], 16).to_bytes(4, "little")  # the disk's identity, for PARTUUID
    boot[510:512] = b"\x55\xaa"
    assert len(core) <= (start - 1) * 512, "core.img does not fit in front of the partition"
    with open(image, "wb") as file:
        file.truncate(sectors * 512)
        file.write(bytes(boot) + core)
    size = (sectors - start) * 512 // 1024
    _run("mkfs.ext4", "-q", "-F", "-U", uuid, "-d", tree, "-E", f"offset={start * 512}", image, f"{size}k")


def _core_image(base: str) -> bytes:
    """core.img of the release's own GRUB, which finds /boot/grub on the first partition and speaks on serial."""
    with machines.copy(base) as tree:
        early = "serial --unit=0 --speed=115200\nterminal_input serial\nterminal_output serial\n"
        machines.replace(tree, "/early.cfg", early.encode())
        command = ["chroot", tree, "grub-mkimage", "-O", "i386-pc", "-p", "(hd0,msdos1)/boot/grub", "-c", "/early.cfg"]
        command += ["-o", "/core.img", "biosdisk", "part_msdos", "ext2", "serial", "terminal"]
        _run(*command)
        with open(f"{tree}/core.img", "rb") as file:
            return file.read()


def uefi_disks(tree: str, uuid: str, esp: str, image: str) -> None:
    """The tree's /boot as a FAT file system of its own, and the rest as the root file system."""
    boot = f"{tree}/boot"
    with open(esp, "wb") as file:
        file.truncate(512 << 20)
    _run("mkfs.vfat", "-F", "32", "-i", layouts.ESP_UUID.replace("-", ""), esp)
    _run("mcopy", "-Q", "-s", "-i", esp, *(os.path.join(boot, name) for name in sorted(os.listdir(boot))), "::/")
    shutil.rmtree(boot)
    os.mkdir(boot)
    with open(image, "wb") as file:
        file.truncate(3 << 30)
    _run("mkfs.ext4", "-q", "-F", "-U", uuid, "-d", tree, image)


def _run(*command: str) -> None:
    subprocess.run(command, check=True, timeout=600, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)


# -- the machine -------------------------------------------------------------------------------------------------


def start(arguments: Sequence[str], log: str, *, reboots: bool = False) -> Result:
    """Run QEMU with the serial console watched until the boot has ended, one way or another."""
    command = ["qemu-system-x86_64", "-machine", "q35", "-accel", "tcg", "-cpu", "max", "-smp", "2", "-m", "1024"]
    command += ["-display", "none", "-serial", "stdio", "-monitor", "none", "-nic", "none", *arguments]
    command += [] if reboots else ["-no-reboot"]
    started = time.monotonic()
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        text = _watch(process, log, started, reboots)
    finally:
        process.kill()
        process.wait()
    return _judge(text, round(time.monotonic() - started))


def _watch(process: subprocess.Popen[bytes], log: str, started: float, reboots: bool) -> str:
    assert process.stdout is not None
    data = b""
    ended: float | None = None
    heard = started
    with open(log, "wb") as file:
        while time.monotonic() - started < _LIMIT:
            ready, _, _ = select.select([process.stdout], [], [], 1.0)
            now = time.monotonic()
            if ready:
                chunk = os.read(process.stdout.fileno(), 65536)
                if not chunk:
                    break
                data += chunk
                heard = now
                file.write(chunk)
                file.flush()
            text = plain(data)
            if ended is None and any(
                re.search(pattern, text, re.MULTILINE) for pattern, end in _FINAL if not (reboots and end == "panic")
            ):
                ended = now
            # A last line may still be on its way; a panic prints its trace.
            if ended is not None and now - ended > 2:
                break
            loader = "Linux version" not in text and re.search(r"(?m)^ *error: ", text)
            if now - heard > (_SILENT_LOADER if loader else _SILENT):
                break
    return plain(data)


def plain(data: bytes) -> str:
    """The console without terminal sequences."""
    text = data.decode("utf-8", "replace").replace("\r", "")
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b[()=>].?|\x1bc", "", text)


def _judge(text: str, seconds: int) -> Result:
    found = {end: match for pattern, end in _FINAL if (match := re.search(pattern, text, re.MULTILINE))}
    said = tuple(_lines(text))
    if "up" in found:
        return Result("up", said, found["up"].group(1), seconds)
    for end in ("panic", "a shell", "emergency mode", "loader"):
        if end in found:
            return Result(end, said, None, seconds)
    if "Linux version" not in text and said:
        return Result("loader", said, None, seconds)
    last = next((line.strip() for line in reversed(text.split("\n")) if line.strip()), "")
    return Result("silence", (*said, f"nothing after {last!r}"), None, seconds)


def _lines(text: str) -> list[str]:
    """The telling lines, in the order of the console, the last ones of many."""
    found = sorted((match.start(), match.group(0)) for pattern in _TELLING for match in re.finditer(pattern, text))
    lines = dict.fromkeys(re.sub(r"\s+", " ", line).strip() for _, line in found)
    return list(lines)[-4:]


def disk(image: str, base: str) -> list[str]:
    """QEMU's arguments for a disk of the kind that the machine's facts have."""
    drive = f"file={image},format=raw,cache=unsafe"
    if RECIPES[base].root_disk == "vda":
        return ["-drive", f"{drive},if=virtio"]
    return ["-drive", f"{drive},if=none,id=root", "-device", "ide-hd,drive=root"]


# -- the corpus --------------------------------------------------------------------------------------------------


def boot(name: str) -> Result:
    """Make the machine, start it, and return how it ended."""
    from tests.verdicts import corpus

    case = corpus.BY_NAME[name]
    assert case.boot, f"{name} has no way to boot"
    directory = os.path.join(cache(), "boots")
    os.makedirs(directory, exist_ok=True)
    with machines.copy(case.base) as tree, tempfile.TemporaryDirectory(dir=directory) as work:
        newest = corpus.Tree(tree, case.base).newest
        corpus.apply(case, tree)
        for facts in ("sys", "proc", "run", "dev"):
            shutil.rmtree(f"{tree}/{facts}")
            os.mkdir(f"{tree}/{facts}")
        add_mark(tree)
        with_console(tree)
        image = os.path.join(work, "disk.img")
        uuid = corpus.root_uuid(case.base)
        if "bios" in case.boot:
            bios_disk(tree, case.base, uuid, image)
            drives = disk(image, case.base)
        else:
            esp, variables = os.path.join(work, "esp.img"), os.path.join(work, "vars.fd")
            uefi_disks(tree, uuid, esp, image)
            shutil.copyfile("/usr/share/OVMF/OVMF_VARS_4M.fd", variables)
            firmware = "if=pflash,format=raw,unit=0,readonly=on,file=/usr/share/OVMF/OVMF_CODE_4M.fd"
            drives = ["-drive", firmware, "-drive", f"if=pflash,format=raw,unit=1,file={variables}"]
            drives += [*disk(image, case.base), "-drive", f"file={esp},if=virtio,format=raw,cache=unsafe"]
        result = start(drives, os.path.join(directory, f"{name}.log"), reboots="reboots" in case.boot)
    kernel = result.kernel and ("the newest" if result.kernel == newest else "an older one")
    said = tuple(re.sub(r"\d+\.\d+\.\d+[-+][\w+.-]*(?:amd64|cloud)", "RELEASE", line) for line in result.said)
    return Result(result.end, said, kernel, result.seconds)


def results() -> dict[str, dict[str, object]]:
    """What boots.json has, by name."""
    if not os.path.exists(RESULTS):
        return {}
    with open(RESULTS, encoding="utf-8") as file:
        recorded: dict[str, dict[str, object]] = json.load(file)
    return recorded


def main(names: Sequence[str]) -> int:
    """Boot each, record each."""
    for name in names:
        result = boot(name)
        print(
            f"{name}: {result.end} after {result.seconds} s {result.kernel or ''}",
            *result.said,
            sep="\n    ",
            flush=True,
        )
        recorded = {**results(), name: asdict(result)}
        with open(RESULTS, "w", encoding="utf-8") as file:
            json.dump(dict(sorted(recorded.items())), file, indent=1)
            file.write("\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
