"""What package managers do to a machine that boots, with a real kernel: each story begins with one that is armed."""

from __future__ import annotations

from tests.gate_guests.machine import Running
from tests.hook_guests.disks import META
from tests.hook_guests.machine import (
    PACKAGES,
    Machine,
    comes_up,
    flat,
    goes,
    manages,
    refuses,
    repositories,
    stands,
    without_dkms,
)

_LONG = 4 * 3600.0
"""Seconds for a whole release of packages, on a machine that is emulated."""


def _shelf(machine: Machine) -> str:
    return machine.base.name.partition("-")[0]


def _kernel(guest: Running) -> tuple[str, str]:
    """The package of the disk, and its release."""
    name = guest.words(f"cat {PACKAGES}/kernel/name")
    return name, name.partition("linux-image-")[2]


def apt(machine: Machine) -> None:
    """A kernel comes without the headers that DKMS needs, goes, comes to a machine without DKMS, is upgraded, boots."""
    with machine.begun(_shelf(machine)) as guest:
        kernel, release = _kernel(guest)
        repositories(guest, "base", "kernel")
        # By which it is known that the headers do not come with another package.
        guest.ask("apt-get --yes --no-install-recommends install python3-apt")
        done = manages(machine, guest, f"apt-get --yes install {kernel}", "safeupdate: UNSAFE")
        told = f"The kernel {release} comes without its headers" in flat(done.output)
        machine.tell("before it", "tells that headers are missing" if told else "tells nothing", right=told)
        stands(machine, guest, "status", "CLOSED")
        refuses(machine, guest)
        manages(machine, guest, f"apt-get --yes remove {kernel}", "safeupdate: SAFE")
        stands(machine, guest, "status", "OPEN")
        without_dkms(guest)
        done = manages(machine, guest, f"apt-get --yes install {kernel}", "safeupdate: SAFE")
        quiet = "without its headers" not in flat(done.output)
        machine.tell("before it, without DKMS", "tells nothing" if quiet else "tells of headers", right=quiet)
        repositories(guest, "kernel", "newer")
        manages(machine, guest, "apt-get --yes upgrade", "safeupdate: SAFE")
        stands(machine, guest, "status", "OPEN")
        manages(machine, guest, "apt-get --yes upgrade", "")
        goes(machine, guest, "systemctl reboot", "reboots", 900)
    with machine.started() as guest:
        comes_up(machine, guest, release)
        manages(machine, guest, f"apt-get --yes remove linux-image-{machine.kernels[0]}", "safeupdate: SAFE")
        stands(machine, guest, "status", "OPEN")


_UPGRADES = """
cat > /etc/apt/apt.conf.d/99ours <<'END'
Unattended-Upgrade::Origins-Pattern { "origin=ours"; };
Unattended-Upgrade::Automatic-Reboot "true";
Unattended-Upgrade::Automatic-Reboot-WithUsers "true";
END
rm -f /run/reboot-required*
"""


def _unattended(machine: Machine, guest: Running) -> str:
    repositories(guest, "base")
    command = f"apt-get --yes --no-install-recommends install unattended-upgrades {META}"
    manages(machine, guest, command, "safeupdate: SAFE")  # by its name it could be a kernel
    repositories(guest, "base", "kernel", "later")
    guest.ask(_UPGRADES)
    return _kernel(guest)[1]


def unattended_unsafe(machine: Machine) -> None:
    """unattended-upgrades brings a kernel that lacks a module of this machine's, and would reboot: it must stay up."""
    with machine.begun(_shelf(machine)) as guest:
        _unattended(machine, guest)
        manages(machine, guest, "unattended-upgrade --verbose", "comes without its headers")
        log = flat(guest.words("cat /var/log/unattended-upgrades/unattended-upgrades-dpkg.log"))
        said = log.rpartition("safeupdate: ")[2].partition(":")[0]
        machine.tell("what its log says last", said, right=said == "UNSAFE")
        goes(machine, guest, "true", "stays up", 300)
        stands(machine, guest, "status", "CLOSED")
        held = guest.words("ls /run/reboot-required 2> /dev/null; ls /run/safeupdate/held")
        machine.tell("/run/safeupdate/held", held.replace("\n", ", "), right=held.startswith("reboot-required"))


def unattended_safe(machine: Machine) -> None:
    """The same on a machine that needs no such module: it must reboot."""
    with machine.begun(_shelf(machine)) as guest:
        without_dkms(guest)
        release = _unattended(machine, guest)
        goes(machine, guest, "unattended-upgrade --verbose", "reboots", 3000)
    with machine.started() as guest:
        comes_up(machine, guest, release)


_SETTLES = """
for i in $(seq 300); do
	status=$(safeupdate status)
	case $status in "{wanted}"*) break ;; esac
	sleep 2
done
echo "$status"
"""


def dpkg(machine: Machine) -> None:
    """No hook of apt's is called, and the unit that watches notices it."""
    with machine.begun(_shelf(machine)) as guest:
        kernel, _ = _kernel(guest)
        manages(machine, guest, f"dpkg -i {PACKAGES}/kernel/{kernel}_*.deb", "")
        stands(machine, guest, "status, by itself", "CLOSED", _SETTLES.format(wanted="CLOSED: reboots are"))
        refuses(machine, guest)
        manages(machine, guest, f"dpkg -r {kernel}", "")
        stands(machine, guest, "status, by itself", "OPEN", _SETTLES.format(wanted="OPEN"))
        goes(machine, guest, "systemctl reboot", "reboots", 900)


_FULL = "apt-get --yes -o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold full-upgrade"


def release(machine: Machine) -> None:
    """The next release of Debian: Python, systemd and the kernel are replaced in one transaction."""
    with machine.begun("upgrade") as guest:
        without_dkms(guest)
        repositories(guest, "next")
        manages(machine, guest, _FULL, "safeupdate: SAFE", limit=_LONG)
        newest = guest.words("ls /lib/modules | sort -V | tail -n 1")
        version = guest.words(". /etc/os-release; echo $VERSION_ID; python3 --version; systemctl --version | head -n 1")
        machine.tell("Debian, Python and systemd then", flat(version), right=version.startswith("13"))
        stands(machine, guest, "status", "OPEN")
        goes(machine, guest, "systemctl reboot", "reboots", 900)
    with machine.started() as guest:
        comes_up(machine, guest, newest)


_DNF = """
set -e
cp -r @PACKAGES@/rpm /srv/rpm
createrepo_c -q /srv/rpm
mkdir -p /etc/yum.repos.d /etc/dnf
printf '[main]\\ngpgcheck=0\\ninstallonly_limit=3\\nexcludepkgs=kernel-core-9*\\n' > /etc/dnf/dnf.conf
printf '[local]\\nname=local\\nbaseurl=file:///srv/rpm\\nenabled=1\\ngpgcheck=0\\n' > /etc/yum.repos.d/local.repo
cat > /usr/local/sbin/kernel-came <<'END'
#!/bin/sh
depmod "$1"
image=/boot/initrd.img-$1
if [ -x /usr/sbin/update-initramfs ]; then update-initramfs -c -k "$1"; else dracut --force "$image" "$1"; fi
if [ -e /etc/break ]; then truncate -s 1000000 "$image"; fi
first=/etc/default/grub.d/plain-first.cfg
if [ -e $first ]; then cp -n $first /etc/first; echo "GRUB_TOP_LEVEL=/boot/vmlinuz-$1" > $first; fi
update-grub
END
cat > /usr/local/sbin/kernel-went <<'END'
#!/bin/sh
rm -rf "/boot/initrd.img-$1" "/usr/lib/modules/$1"
if [ -e /etc/first ]; then cp /etc/first /etc/default/grub.d/plain-first.cfg; fi
update-grub
END
chmod 755 /usr/local/sbin/kernel-*
""".replace("@PACKAGES@", PACKAGES)

_AUTOMATIC = """
cat > /etc/dnf/automatic.conf <<'END'
[commands]
upgrade_type = default
random_sleep = 0
network_online_timeout = 0
download_updates = yes
apply_updates = yes
reboot = when-needed
reboot_command = "shutdown -r +5"
[emitters]
emit_via = stdio
END
"""

_RUNS = {
    "dnf": "python3 -c 'import dnf.automatic.main as it, sys; sys.exit(it.main([]))'",
    "dnf5": "dnf5 automatic --installupdates",
}
"""Of dnf 4 Debian has no program for it, but all that it does."""


def _dnf(machine: Machine, guest: Running) -> tuple[str, str, str]:
    """It is installed: its name, what a command of it begins with, and the version of the kernel it can bring."""
    name = "dnf" if machine.base.name.startswith("debian13") else "dnf5"
    repositories(guest, "base")
    without_dkms(guest)
    guest.ask(f"apt-get -q --yes --no-install-recommends install {name} createrepo-c rpm; {_DNF}")
    return name, f"{name} --assumeyes --releasever=1", _kernel(guest)[1].partition("-")[0].partition("+")[0]


def dnf(machine: Machine) -> None:
    """A kernel from a repository of rpm's comes and goes; one fails; one comes by itself, broken and whole."""
    with machine.begun(_shelf(machine)) as guest:
        name, run, version = _dnf(machine, guest)
        _, release = _kernel(guest)
        manages(machine, guest, f"{run} install kernel-core-0.1", None)
        manages(machine, guest, f"{run} install kernel-core-{version}", "safeupdate: SAFE")
        stands(machine, guest, "status", "OPEN")
        manages(machine, guest, f"{run} remove kernel-core-{version}", "safeupdate: SAFE")
        manages(machine, guest, f"{run} --setopt=excludepkgs= install kernel-core-99", None, code=1)
        stands(machine, guest, "status", "OPEN")
        guest.ask(f"touch /etc/break; {_AUTOMATIC}")
        done = guest.ask(_RUNS[name])
        machine.tell("a kernel that is broken comes by itself", _last(done.output), right="UNSAFE" in done.output)
        goes(machine, guest, "true", "stays up", 420)
        stands(machine, guest, "status", "CLOSED")
        manages(machine, guest, f"{run} remove kernel-core-{version}", "safeupdate: SAFE")
        guest.ask("rm /etc/break")
        goes(machine, guest, _RUNS[name], "reboots", 3000)
    with machine.started() as guest:
        comes_up(machine, guest, release)


def eviction(machine: Machine) -> None:
    """The kernel that is broken goes, as a newer one comes and more than two are not to be there."""
    with machine.begun(_shelf(machine)) as guest:
        _, run, version = _dnf(machine, guest)
        run = f"{run} --setopt=excludepkgs= --setopt=installonly_limit=2"
        guest.ask("touch /etc/break")
        manages(machine, guest, f"{run} install kernel-core-{version}", "safeupdate: UNSAFE")
        stands(machine, guest, "status", "CLOSED")
        manages(machine, guest, f"{run} install kernel-core-97", None)
        stands(machine, guest, "status", "CLOSED")
        done = manages(machine, guest, f"{run} install kernel-core-98", "safeupdate: SAFE")
        left = guest.words("rpm -q kernel-core; ls /boot").split()
        gone = f"vmlinuz-{_kernel(guest)[1]}" not in left and f"{version}-1" in flat(done.output)
        machine.tell("the kernel that was broken", "is removed by it" if gone else "is there", right=gone)
        stands(machine, guest, "status", "OPEN")
        goes(machine, guest, "systemctl reboot", "reboots", 900)


def _last(text: str) -> str:
    return (text.strip().splitlines() or [""])[-1]
