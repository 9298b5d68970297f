"""Are the settings of the next boot what somebody meant? Each function asks of one; no answer is worse than a warning.

A stock installation with a screen or a keyboard has nothing to hear from here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import suppress

from safeupdate.case import Case, Check
from safeupdate.errors import Missing, Unreadable
from safeupdate.formats import cmdline, kernel_parameters, sysctl
from safeupdate.formats.cmdline import CommandLine
from safeupdate.kernels import module_releases
from safeupdate.machine import Machine
from safeupdate.remedies import change_command_line, write_boot_menu
from safeupdate.report import Finding, NotApplicable, Remedy, note, warning

_WHOLE_CONFIG = 1000
"""Options: distributions' kernels have 3,000 to 10,000. What `make savedefconfig` writes leaves out all defaults."""

_LINE_LIMITS = {"x86_64": 2048, "i386": 2048, "aarch64": 2048}
"""Bytes of a command line that the kernel keeps (COMMAND_LINE_SIZE, arch/*/include/uapi/asm/setup.h), where no
configuration changes it."""

_SYSCTL_DIRECTORIES = ("/etc/sysctl.d", "/run/sysctl.d", "/usr/local/lib/sysctl.d", "/usr/lib/sysctl.d")
"""A file hides those of its name in later directories (sysctl.d(5))."""

_KEY_REPEAT = 1 << 20
"""EV_REP of an input device's `capabilities/ev` (include/uapi/linux/input-event-codes.h): power buttons have none."""

_ZIPL_SLACK = 3600
"""Seconds: a copy of a machine that lost its files' times has them within minutes of one another."""

_CAP = 10


def check(case: Case) -> Iterator[Finding]:
    """One setting after the other."""
    if case.entry is None and case.kernel is None and not _boot_maps(case.machine):
        raise NotApplicable("it is not known which kernel boots next")
    for setting in SETTINGS:
        with suppress(Missing, Unreadable):  # a setting that cannot be read is none to warn of
            yield from setting(case)


def _line(case: Case) -> CommandLine:
    """The entry's parameters for the kernel: what follows `--` is init's."""
    text = case.entry.cmdline if case.entry is not None else ""
    return cmdline.parse(re.split(r"(?:^|\s)--(?:\s|$)", text)[0])


def _change(case: Case, text: str, *, add: str = "", remove: str = "") -> Remedy:
    """Change the command line there where it comes from."""
    entry = case.entry
    image = entry.kernel.path if entry is not None and entry.kernel is not None else None
    if add or remove:
        by_grubby = change_command_line(case.machine, image or "ALL", add=add, remove=remove)
        if by_grubby is not None:
            return Remedy(text, by_grubby.commands)
    if case.plan.loader == "grub":
        menu = write_boot_menu(case.machine, "grub", case.plan.config)
        return Remedy(f"{text} The command line comes from GRUB_CMDLINE_LINUX in /etc/default/grub.", menu.commands)
    return Remedy(f"{text} The command line is in {entry.source if entry is not None else '/etc/kernel/cmdline'}.")


def _evidence(case: Case) -> list[str]:
    return [f"{case.entry.source}: {case.entry.cmdline}"] if case.entry is not None else []


def _variable(case: Case, name: str) -> tuple[str, str] | None:
    """The value that a kernel variable has after the boot, and where it is set; None where nobody sets it."""
    found = None
    value = _line(case).last(f"sysctl.{name}")
    if value is not None:
        found = value, f"sysctl.{name}={value} on the command line"
    for path in _sysctl_files(case.machine):
        with suppress(Missing, Unreadable):  # a link to /dev/null hides a file of that name
            for key, value in sysctl.parse(case.machine.read(path)):
                if key == name:
                    found = value, path
    return found


def _sysctl_files(machine: Machine) -> list[str]:
    paths: dict[str, str] = {}
    for directory in _SYSCTL_DIRECTORIES:
        for name in machine.listdir(directory):
            if name.endswith(".conf"):
                paths.setdefault(name, f"{directory}/{name}")
    return [paths[name] for name in sorted(paths)]


def _number(text: str | None) -> int | None:
    """A number as the kernel reads it, decimal, octal or hexadecimal; None for what is none."""
    if text is None or not re.fullmatch(r"-?(?:0x[0-9a-fA-F]{1,8}|0[0-7]{0,10}|[1-9]\d{0,9})", text):
        return None
    return int(text, 8) if re.match(r"-?0[0-7]", text) else int(text, 0)


def _panic_timeout(case: Case) -> tuple[int | None, str | None]:
    """Seconds after which the machine restarts when the kernel panics, 0 for never, and who has set that."""
    given = _line(case).last("panic")
    variable = _variable(case, "kernel.panic")
    if variable is not None:
        return _number(variable[0]), variable[1]
    if given is not None:
        return _number(given), f"panic={given} on the command line"
    config = case.kernel.config if case.kernel is not None else None
    return _number((config or {}).get("CONFIG_PANIC_TIMEOUT", "0")), None


def _panic(case: Case) -> Iterator[Finding]:
    timeout, by = _panic_timeout(case)
    now = _number(case.machine.value("/proc/sys/kernel/panic"))  # set by a service, if by nothing else
    if timeout != 0 or (now or 0) != 0 or not _headless(case.machine) or _watchdog(case):
        return
    remedy = _change(case, "Have the kernel restart a minute after a panic: add panic=60.", add="panic=60")
    if by is not None and by.startswith("/"):
        remedy = Remedy(f"Have the kernel restart a minute after a panic: set kernel.panic = 60 in {by}.")
    if by is not None:
        yield warning(
            "boot-settings.panic-waits",
            by,
            f"The kernel is told to stay down after a panic ({by}), and this machine has neither screen nor keyboard.",
            "A panic leaves it down until somebody takes its power away.",
            remedy=remedy,
        )
    else:
        yield warning(
            "boot-settings.panic-waits-by-default",
            "kernel.panic",
            "The kernel stays down after a panic, as is its default, and this machine has neither screen nor keyboard.",
            "A panic leaves it down until somebody takes its power away.",
            remedy=remedy,
        )


def _panic_on_oom(case: Case) -> Iterator[Finding]:
    variable = _variable(case, "vm.panic_on_oom")
    if variable is None or _number(variable[0]) in (None, 0):
        return
    timeout, _ = _panic_timeout(case)
    evidence = [f"vm.panic_on_oom = {variable[0]} ({variable[1]})", f"kernel.panic = {timeout}"]
    if timeout == 0:
        yield warning(
            "boot-settings.panic-on-oom",
            variable[1],
            f"The kernel panics when memory runs out ({variable[1]}), and does not restart after a panic.",
            "One process that takes too much memory leaves the machine down.",
            evidence=evidence,
            remedy=Remedy("Set kernel.panic to a number of seconds beside it, or vm.panic_on_oom to 0."),
        )
    else:
        yield note(
            "boot-settings.restarts-on-oom",
            variable[1],
            f"The kernel panics when memory runs out ({variable[1]}), and then restarts.",
            "One process that takes too much memory restarts the machine.",
            evidence=evidence,
        )


def _watchdog(case: Case) -> bool:
    """Whether systemd feeds a watchdog, which restarts a machine that hangs (systemd-system.conf(5))."""
    if _line(case).last("systemd.watchdog_sec") not in (None, "", "0", "off"):
        return True
    paths = ["/etc/systemd/system.conf", "/usr/lib/systemd/system.conf"]
    for directory in ("/etc/systemd/system.conf.d", "/usr/lib/systemd/system.conf.d"):
        paths += [f"{directory}/{name}" for name in case.machine.listdir(directory)]
    texts = [case.machine.text(path) or "" for path in paths]
    return any(re.search(r"^\s*RuntimeWatchdogSec\s*=\s*(?!0\s*$|off\s*$)\S", text, re.MULTILINE) for text in texts)


def _headless(machine: Machine) -> bool:
    """Whether this machine surely has neither screen nor keyboard. A virtual machine's screen is one, and so is what a
    management controller shows."""
    consoles = machine.listdir("/sys/class/vtconsole")
    if not consoles:
        return False  # not a word of any screen: no facts
    connectors = [name for name in machine.listdir("/sys/class/drm") if "-" in name]
    if any(machine.value(f"/sys/class/drm/{name}/status") != "disconnected" for name in connectors):
        return False
    kinds = [machine.value(f"/sys/class/vtconsole/{name}/name") or "" for name in consoles]
    if not connectors and any("dummy" not in kind for kind in kinds):
        return False  # text mode, or a frame buffer of the firmware's: nothing tells what hangs on it
    for name in machine.listdir("/sys/class/input"):
        bits = machine.value(f"/sys/class/input/{name}/capabilities/ev") or ""
        if re.fullmatch("[0-9a-f]+", bits) and int(bits, 16) & _KEY_REPEAT:
            return False
    return True


_CONSOLES = ("ttyS", "ttyAMA", "ttyUSB", "hvc", "tty")


def _devices(line: CommandLine) -> list[str]:
    return [value.partition(",")[0] for value in line.all("console") if value]


def _is_serial(console: str) -> bool:
    return not re.fullmatch(r"tty\d*|ttynull|null|", console)


def _consoles(case: Case) -> Iterator[Finding]:
    if case.entry is None:
        return
    wanted = _devices(_line(case))
    for value in _line(case).all("console"):
        name = re.sub(r"^/dev/", "", value)
        kind = next((one for one in _CONSOLES if re.match(rf"{one}\d+(?:,|$)", name, re.IGNORECASE)), "")
        meant = kind + name[len(kind) :]
        if kind and meant != value:
            yield warning(
                "boot-settings.console-misspelt",
                f"console={value}",
                f"The command line says console={value}, which names no console; console={meant} would.",
                "No message of the boot appears there.",
                evidence=_evidence(case),
                remedy=_change(case, f"Make it console={meant}.", remove=f"console={value}"),
            )
    running = _devices(cmdline.parse(case.machine.value("/proc/cmdline") or ""))
    lost = [name for name in running if _is_serial(name)]
    if lost and not any(_is_serial(name) for name in wanted):
        level = warning if _headless(case.machine) else note
        yield level(
            "boot-settings.serial-console-lost",
            f"console={lost[0]}",
            f"This boot writes to the serial console {lost[0]}, the next one does not: its command line has no "
            f"console={lost[0]}.",
            "Where the next boot stops, nobody sees why.",
            evidence=_evidence(case),
            remedy=_change(case, f"Add console={lost[0]}.", add=f"console={lost[0]}"),
        )
    elif not any(map(_is_serial, wanted)) and _headless(case.machine):
        active = (case.machine.value("/sys/class/tty/console/active") or "tty0").split()
        if not any(map(_is_serial, active)):
            yield warning(
                "boot-settings.no-serial-console",
                "console=",
                "This machine has neither screen nor keyboard, and its kernel writes to no serial console.",
                "Where a boot stops, nobody sees why.",
                remedy=_change(case, "Add console=ttyS0, or the console that this machine has.", add="console=ttyS0"),
            )


def _mistakes(case: Case) -> Iterator[Finding]:
    """What stands otherwise than it was meant."""
    entry = case.entry
    if entry is None or entry.unresolved:
        return
    for problem, consequence in _slips(entry.cmdline, _line(case)):
        yield warning(
            "boot-settings.mistake",
            entry.title,
            f'The command line of the entry "{entry.title}" {problem}.',
            consequence,
            evidence=_evidence(case),
            remedy=_change(case, "Correct it."),
        )
    limit = _LINE_LIMITS.get(case.architecture or "")
    length = len(entry.cmdline.encode("utf-8", "surrogateescape"))
    if limit is not None and length >= limit:
        yield warning(
            "boot-settings.too-long",
            entry.title,
            f'The command line of the entry "{entry.title}" has {length} bytes; the kernel keeps {limit - 1}.',
            "The parameters at its end have no effect.",
            evidence=[entry.source],
            remedy=_change(case, "Shorten it."),
        )


def _slips(text: str, line: CommandLine) -> Iterator[tuple[str, str]]:
    """What is wrong with a command line, and what comes of it (next_arg, lib/cmdline.c)."""
    if text.count('"') % 2:
        yield "has a quote that is never closed", "All that follows the quote is taken for one parameter."
    pasted = re.search(r"(?:^|[\s=,])([\u2010-\u2015\u2018-\u201f\u2212])|([\u00a0])|([\u2019\u201d])(?:\s|$)", text)
    if pasted:
        character = next(filter(None, pasted.groups()))
        yield (
            f"has the character {character} (U+{ord(character):04X}), as web pages and word processors write it",
            "The kernel does not know the parameter that it stands in.",
        )
    if "" in line:
        yield "has blanks around an equals sign", "The kernel takes the name and the value for two parameters."
    for name, _ in dict.fromkeys(line.parameters):
        known = kernel_parameters.meant(name)
        if known is not None:
            yield f'says "{name}"; {known} may be meant', f"If so, {known} has no effect: the kernel does not know it."


def _duplicates(case: Case) -> Iterator[Finding]:
    line = _line(case)
    twice = [
        f"{name}= ({', '.join(values)})" for name in kernel_parameters.SINGLE if len(values := _values(line, name)) > 1
    ]
    # GRUB's own menu says ro, and who wants rw adds it: one contradiction that is meant.
    level = warning if twice else note
    if "ro" in line and "rw" in line:
        twice.append("ro and rw")
    if twice and case.entry is not None:
        yield level(
            "boot-settings.given-twice",
            case.entry.title,
            f'The command line of the entry "{case.entry.title}" contradicts itself: {"; ".join(twice)}.',
            "The last of them counts.",
            evidence=_evidence(case),
        )


def _values(line: CommandLine, name: str) -> list[str]:
    return list(dict.fromkeys(line.all(name)))


def _second_initrd(case: Case) -> Iterator[Finding]:
    """`initrd=` is for a kernel that gets no image from a loader (Documentation/admin-guide/efi-stub.rst)."""
    given = _line(case).last("initrd")
    if given and case.entry is not None and case.entry.loader == "grub" and case.entry.initramfs:
        yield note(
            "boot-settings.initrd-ignored",
            f"initrd={given}",
            f"The command line says initrd={given}, and the boot entry loads an initramfs by itself.",
            "The kernel uses the one that the boot loader gives it.",
            evidence=_evidence(case),
        )


def _not_in_kernel(case: Case) -> Iterator[Finding]:
    config = case.kernel.config if case.kernel is not None else None
    if config is None or case.kernel is None or len(config) < _WHOLE_CONFIG:
        return
    for parameter, need in kernel_parameters.unmet(_line(case), config):
        options = " or ".join(f"CONFIG_{option}" for option in need.options)
        yield warning(
            "boot-settings.not-in-kernel",
            parameter,
            f"The command line says {parameter}, and the kernel {case.kernel.release} is built without {options}.",
            f"The parameter has no effect: {need.effect}.",
            evidence=[f"{case.kernel.config_path}: {options} is not set"],
            remedy=_change(case, "Remove the parameter, or start a kernel that has it.", remove=parameter),
        )


def _devicetree(case: Case) -> Iterator[Finding]:
    """boot-entry speaks of a device tree that is not there."""
    release, running = case.release, case.machine.running_kernel
    file = case.entry.devicetree if case.entry is not None else None
    if release is None:
        return
    if file is not None and release not in file.spec:
        other = next((one for one in module_releases(case.machine) if f"{one}/" in file.spec), None)
        if other is not None:
            yield warning(
                "boot-settings.devicetree-of-another-kernel",
                file.spec,
                f"The boot entry starts the kernel {release} with the device tree {file.spec}, which is {other}'s.",
                "Hardware that the two describe differently does not work, or the kernel does not start.",
                remedy=Remedy("Write the boot entry anew."),
            )
    if file is not None or running is None or running == release:
        return
    for place in ("/boot/dtbs/{}", "/boot/dtb-{}"):
        had, has = place.format(running), place.format(release)
        if case.machine.exists(had) and not case.machine.exists(has):
            yield warning(
                "boot-settings.no-devicetree",
                has,
                f"The running kernel has its device trees in {had}; there are none for {release} in {has}.",
                "If the boot loader takes them from there, the kernel does not start, or does not know its hardware.",
                remedy=Remedy(f"Install the kernel {release} again, or the package that has its device trees."),
            )


def _boot_maps(machine: Machine) -> bool:
    return machine.is_file("/boot/bootmap")


def _zipl(case: Case) -> Iterator[Finding]:
    """zipl(8) writes down on which blocks of the disk kernel and initramfs lie: what was written later is not read."""
    machine = case.machine
    written = machine.stat("/boot/bootmap")
    if written is None:
        return
    names = [
        f"/boot/{name}" for name in machine.listdir("/boot") if re.match(r"(vmlinuz|image|initr)", name, re.IGNORECASE)
    ]
    names += [
        f"/boot/loader/entries/{name}" for name in machine.listdir("/boot/loader/entries") if name.endswith(".conf")
    ]
    newer = []
    for path in ("/etc/zipl.conf", *names):
        status = machine.stat(path)
        if status is not None and "kdump" not in path and status.st_mtime > written.st_mtime + _ZIPL_SLACK:
            newer.append(path)
    if newer:
        yield warning(
            "boot-settings.zipl-not-run",
            "/boot/bootmap",
            f"{newer[0]}{f' and {len(newer) - 1} more' if newer[1:] else ''} changed after zipl wrote /boot/bootmap.",
            "The machine starts what lies where the files were: the previous kernel, or none.",
            evidence=newer[:_CAP],
            remedy=Remedy("Write the boot map anew.", (("zipl",),)),
        )


SETTINGS: tuple[Callable[[Case], Iterator[Finding]], ...] = (
    _mistakes,
    _duplicates,
    _second_initrd,
    _not_in_kernel,
    _consoles,
    _panic,
    _panic_on_oom,
    _devicetree,
    _zipl,
)

CHECK = Check("boot-settings", "The settings of the boot are what was meant", False, check, per_entry=False)
