"""What a machine that is up says of itself: its kernel, which devices have a driver, and its out-of-tree modules."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

SCRIPT = """
# multi-user.target does not wait for the drivers that udev still loads.
udevadm settle --timeout=60 2> /dev/null
echo "kernel $(uname -r)"
echo "boot $(cat /proc/sys/kernel/random/boot_id)"
echo "system $(systemctl is-system-running 2> /dev/null)"
systemctl --failed --no-legend --plain 2> /dev/null | while read -r unit rest; do echo "failed $unit"; done
while read -r module size count users state address taint; do
	case $taint in
	*O*) echo "module $module" ;;
	esac
done < /proc/modules
for device in /sys/bus/*/devices/*; do
	[ -L "$device/driver" ] || echo "device $device"
done
find /sys/bus/*/devices/*/driver -maxdepth 0 -printf 'device %h %l\\n'
while read -r source point rest; do
	case $source in
	/*) echo "mount $point" ;;
	esac
done < /proc/mounts
echo end
"""
"""sysfs-rules, tainted-modules.rst (`O`: not built with the kernel) in the kernel's Documentation, proc_modules(5)."""


@dataclass(frozen=True)
class Report:
    """One boot. `drivers` has every device of every bus, with the name of its driver or an empty text."""

    kernel: str
    boot: str
    system: str
    failed: tuple[str, ...]
    modules: frozenset[str]
    drivers: dict[str, str]
    mounts: frozenset[str]


def parse(text: str) -> Report | None:
    """What `SCRIPT` printed; None where it did not come to its end."""
    facts: dict[str, list[str]] = {}
    lines = text.splitlines()
    if "end" not in lines:
        return None
    for line in lines[: lines.index("end")]:
        word, _, rest = line.partition(" ")
        facts.setdefault(word, []).append(rest)
    drivers = {}
    for device in facts.get("device", ()):
        name, _, driver = device.partition(" ")
        drivers[name] = driver.rpartition("/")[2]
    return Report(
        kernel=" ".join(facts.get("kernel", ())),
        boot=" ".join(facts.get("boot", ())),
        system=" ".join(facts.get("system", ())),
        failed=tuple(facts.get("failed", ())),
        modules=frozenset(facts.get("module", ())),
        drivers=drivers,
        mounts=frozenset(facts.get("mount", ())),
    )


def lost(before: Report, after: Report) -> Iterator[str]:
    """What this boot lacks of what the one before had, in words: drivers of devices, and out-of-tree modules.

    A device that is gone lacks nothing here: what it hung on, or the module that made it, is told instead.
    """
    for device, driver in sorted(before.drivers.items()):
        if driver and after.drivers.get(device) == "":
            yield f"{device} had the driver {driver} and has none now"
    for module in sorted(before.modules - after.modules):
        yield f"the out-of-tree module {module} was loaded and is not now"
