"""Updates by night that a machine does not come back from, each from the installation of the package on."""

from __future__ import annotations

import base64
import json
import shlex
from collections.abc import Iterator
from contextlib import contextmanager

from safeupdate import __version__
from tests.gate_guests.machine import Lost, Running
from tests.hook_guests.disks import HEADERS, META
from tests.hook_guests.machine import PACKAGES, repositories, without_dkms
from tests.story_guests.machine import Machine

_MODULE = """
set -e
mkdir /usr/src/board-1.0
cat > /usr/src/board-1.0/board.c <<'END'
#include <linux/module.h>
MODULE_DESCRIPTION("the driver of a board");
MODULE_LICENSE("GPL");
END
echo 'obj-m := board.o' > /usr/src/board-1.0/Makefile
cat > /usr/src/board-1.0/dkms.conf <<'END'
PACKAGE_NAME="board"
PACKAGE_VERSION="1.0"
BUILT_MODULE_NAME[0]="board"
DEST_MODULE_LOCATION[0]="/updates/dkms"
MAKE[0]="make -C /lib/modules/$kernelver/build M=$dkms_tree/board/1.0/build modules"
CLEAN="true"
AUTOINSTALL="yes"
END
dkms add board/1.0
for release in $(ls /boot/vmlinuz-* | sed s,.*/vmlinuz-,,); do dkms install board/1.0 -k "$release"; done
echo board > /etc/modules-load.d/board.conf
modprobe board
"""
"""A driver that the machine needs, and that is built for each kernel that has its headers here."""

_OUTDATED = """
set -e
cat >> /usr/src/board-1.0/board.c <<'END'
#ifdef NEWER
static int __init board_init(void) { return board_register_old(); }
module_init(board_init);
#endif
END
cat >> /usr/src/board-1.0/Makefile <<'END'
ifneq ($(findstring cloud,$(KERNELRELEASE)),)
ccflags-y += -DNEWER
endif
END
"""
"""Of the kernel that comes it asks for a function that it does not have."""

_UPDATED = "sed -i 's/board_register_old()/0/' /usr/src/board-1.0/board.c"
"""As an update of the driver does."""

_STOCK = f"""
set -e
export DEBIAN_FRONTEND=noninteractive
apt-get -q --yes --no-install-recommends install unattended-upgrades python3-apt {META} {HEADERS}
cat > /etc/apt/apt.conf.d/99ours <<'END'
Unattended-Upgrade::Origins-Pattern {{ "origin=ours"; }};
Unattended-Upgrade::Automatic-Reboot "true";
Unattended-Upgrade::Automatic-Reboot-WithUsers "true";
END
rm -f /run/reboot-required*
echo COMPRESSLEVEL=1 > /etc/initramfs-tools/conf.d/lab.conf
# An emulated machine takes minutes for seconds of others.
mkdir -p /etc/safeupdate
printf '[hooks]\\ntimeout_seconds = 600\\n' > /etc/safeupdate/safeupdate.toml
"""

_REST = """
for i in $(seq 300); do
	sleep 4
	safeupdate status > /dev/null
	[ $? -ne 3 ] && ! systemctl list-units --no-legend 'safeupdate-*.service' | grep -q activating && break
done
"""
"""What the package started in the background has ended."""

_LOG = "grep -A 12 ^safeupdate /var/log/unattended-upgrades/unattended-upgrades-dpkg.log | tail -n 16"


@contextmanager
def _watched(machine: Machine, *scripts: str) -> Iterator[Running]:
    """A stock machine to which these things were done, with the package installed and armed."""
    with machine.begun() as guest:
        repositories(guest, "base")
        without_dkms(guest)
        for script in (_STOCK, *scripts):
            done = guest.ask(script)
            if done.code != 0:
                raise Lost(f"it was not made ready:\n{done.output[-2000:]}")
        # A boot whose files were changed while it ran is no witness: without this the gate would go on observing.
        became = guest.goes("systemctl reboot", 900)
        machine.tell("a reboot before all", became, right=became == "reboots")
    with machine.started() as guest:
        _shelf(guest)
        machine.say("The package is installed on a stock machine:")
        machine.types(guest, f"apt-get --yes install ./safeupdate_{__version__}_all.deb", "safeupdate")
        machine.types(guest, "safeupdate status", "", code=None)
        guest.ask(_REST)
        machine.say("It holds nothing before the boot that runs is on record and was judged safe. A minute later:")
        machine.types(guest, "safeupdate status", "armed: it acts")
        yield guest


def _updates_itself(machine: Machine, guest: Running) -> None:
    machine.say("At night unattended-upgrades brings a kernel, and would reboot the machine then:")
    guest.ask("rm -f /run/reboot-required*")
    repositories(guest, "base", "kernel", "later")
    machine.types(guest, "unattended-upgrade --verbose", "", code=None)
    became = guest.goes("true", 150)
    machine.tell("for 150 s", became, right=became == "stays up")


def build(machine: Machine) -> None:
    """A driver that dkms builds does not compile for the kernel that comes; a reboot is forced; it is mended."""
    with _watched(machine, _MODULE, _OUTDATED) as guest:
        _updates_itself(machine, guest)
        _in_the_morning(machine, guest, "board_register_old")
        _forces(machine, guest)
    _comes_back(machine, _UPDATED, "dpkg --configure -a")
    _ends_on_the_newest(machine, "lsmod | grep board")


def headers(machine: Machine) -> None:
    """The kernel comes without the headers that dkms builds a driver with; a reboot is forced; they are installed."""
    with _watched(machine, _MODULE) as guest:
        guest.ask(f"apt-mark hold {HEADERS}")
        _updates_itself(machine, guest)
        _in_the_morning(machine, guest, "headers")
        _forces(machine, guest)
    _comes_back(machine)
    _ends_on_the_newest(machine, "lsmod | grep board")


def _in_the_morning(machine: Machine, guest: Running, why: str) -> None:
    machine.say("The machine stays up. In the morning the log, the message of the day and the gate say why:")
    machine.types(guest, _LOG, "safeupdate: UNSAFE")
    machine.types(guest, "cat /run/motd.d/*safeupdate*", "")
    machine.types(guest, "safeupdate status", "CLOSED", code=1)
    machine.types(guest, "systemctl reboot", "", code=1)
    machine.types(guest, "safeupdate check", why, code=1)


def _forces(machine: Machine, guest: Running) -> None:
    machine.say("Somebody forces it. The boot loader's default is held on the kernel that has proven itself:")
    machine.types(guest, "uname -r", machine.kernels[-1])
    became = guest.goes("reboot -f", 900)
    machine.tell("`reboot -f`", became, right=became == "reboots")


def _comes_back(machine: Machine, mend: str = "", after: str = "") -> None:
    with machine.started() as guest:
        machine.say("`reboot -f`, and the machine comes back by itself:")
        _up(machine, guest, machine.kernels[-1])
        _shelf(guest)
        guest.ask(_REST)
        machine.types(guest, "safeupdate status", "CLOSED", code=1)
        machine.say("What the findings say is done:")
        for command in filter(None, (mend, *_remedies(guest), after)):
            machine.types(guest, command, "", code=None)
        machine.types(guest, "safeupdate check", "SAFE")
        machine.types(guest, "safeupdate settle", "")
        machine.types(guest, "safeupdate status", "OPEN")
        machine.types(guest, "safeupdate snapshot list", "", code=None)
        became = guest.goes("systemctl reboot", 900)
        machine.tell("`systemctl reboot`", became, right=became == "reboots")


_IMPORT = "mokutil --generate-hash=secret > hash; mokutil --hash-file hash --import /var/lib/dkms/mok.pub"


def key(machine: Machine) -> None:
    """With Secure Boot dkms signs a driver for the kernel that comes with a key that nobody has enrolled; it is."""
    with _watched(machine, _MODULE) as guest:
        enrolled = _certificate(guest)
        machine.say("dkms loses the key that is enrolled, and makes itself another when it needs one:")
        machine.types(guest, "rm /var/lib/dkms/mok.key /var/lib/dkms/mok.pub", "")
        _updates_itself(machine, guest)
        _in_the_morning(machine, guest, "key")
        machine.say("What the finding says is done, with the password in a file, as this is a script:")
        machine.types(guest, _IMPORT, "")
        machine.types(guest, "safeupdate settle", "", code=None)
        machine.types(guest, "safeupdate status", "", code=None)
        came = _certificate(guest)
        became = guest.goes("systemctl reboot", 900)
        machine.tell("`systemctl reboot`", became, right=became == "reboots")
    machine.say("Who stands at the console has MokManager enrol the key (here its variable is written in its place).")
    machine.enrol(enrolled, came)
    _ends_on_the_newest(machine, "mokutil --sb-state", "lsmod | grep board")


def _certificate(guest: Running) -> bytes:
    return base64.b64decode(guest.words("base64 -w 0 /var/lib/dkms/mok.pub"))


_FULL = """
free=$(df --output=avail -k /boot | tail -n 1)
fallocate -l $((free - 12000))K /boot/forgotten.iso
df -h /boot
"""
"""There is room for the kernel itself, and not for its initramfs."""


def full_boot(machine: Machine) -> None:
    """/boot has no room for the initramfs of the kernel that comes; room is made, and dpkg goes on."""
    with _watched(machine) as guest:
        machine.say("Somebody has left a file where the kernels are:")
        guest.ask(_FULL)
        machine.types(guest, "df -h /boot", "/boot")
        _updates_itself(machine, guest)
        machine.say("The machine stays up. In the morning the log and the gate say what happened:")
        machine.types(guest, _LOG, "not the room")
        machine.types(guest, "safeupdate check", "", code=None)
        machine.types(guest, "safeupdate status", "", code=None)
        machine.say("Room is made, and dpkg told to go on:")
        machine.types(guest, "rm /boot/forgotten.iso", "")
        machine.types(guest, "dpkg --configure -a", "")
        guest.ask(_REST)
        machine.types(guest, "safeupdate check", "SAFE")
        machine.types(guest, "safeupdate settle", "")
        machine.types(guest, "safeupdate status", "OPEN")
        became = guest.goes("systemctl reboot", 900)
        machine.tell("`systemctl reboot`", became, right=became == "reboots")
    _ends_on_the_newest(machine)


def _ends_on_the_newest(machine: Machine, *commands: str) -> None:
    with machine.started() as guest:
        newest = guest.words("ls /lib/modules | sort -V | tail -n 1")
        machine.say("`systemctl reboot`:")
        _up(machine, guest, newest)
        guest.ask(_REST)
        for command in commands:
            machine.types(guest, command, "")
        machine.types(guest, "safeupdate history", newest)
        machine.types(guest, "safeupdate status", "OPEN")


def _shelf(guest: Running) -> None:
    guest.ask(f"mkdir -p {PACKAGES}; mount -o ro LABEL=packages {PACKAGES}")


def _up(machine: Machine, guest: Running, release: str) -> None:
    machine.tell("the next boot", f"{guest.ending}, on {guest.kernel}", right=guest.ending == "up")
    if guest.ending != "up":
        raise Lost(f"{machine.base.name} did not come up")
    machine.types(guest, "uname -r", release)


def _remedies(guest: Running) -> list[str]:
    """The commands of what is wrong, the module's first, but for those that only look."""
    report = json.loads(guest.ask("safeupdate check --json 2> /dev/null").output)
    found = [one for check in report["checks"] for one in check["findings"] if one["level"] == "blocker"]
    found.sort(key=lambda one: not str(one["id"]).startswith("dkms."))
    if not found:
        raise Lost("nothing is wrong")
    commands = (words for one in found for words in one["remedy"]["commands"] if words[0] not in ("less", "cat"))
    return list(dict.fromkeys(map(shlex.join, commands)))
