"""apt and dpkg as they are call the hooks, on a systemd that runs; a stub is in safeupdate's place.

A test is one rig, in which one thing is tried after another: most of its time is the rig's start.
"""

from __future__ import annotations

import pytest

from safeupdate.machine import Completed
from tests.hooks.built import RELEASE, STUB, deb, file, kernel_deb
from tests.systemd import rig

KERNEL = f"linux-image-{RELEASE}"

ARMED = b"""{
 "mode": "armed",
 "levers": {
  "reboot-required": {
"""


def files() -> dict[str, bytes]:
    """A machine with the hooks, and two packages to install."""
    return {
        "/usr/bin/safeupdate": STUB,
        "/usr/libexec/safeupdate/hook": file("plugins/hook"),
        "/etc/apt/apt.conf.d/50safeupdate": file("plugins/apt/50safeupdate"),
        "/etc/kernel/ours/postinst.d/zzz-safeupdate": file("plugins/apt/zzz-safeupdate"),
        "/etc/kernel/ours/postrm.d/zzz-safeupdate": file("plugins/apt/zzz-safeupdate"),
        "/opt/kernel.deb": kernel_deb(),
        "/opt/firmware.deb": deb("firmware", postinst="echo new > /boot/initrd.img-x\n"),
        "/opt/harmless.deb": deb("harmless", files={"/usr/share/harmless": "nothing\n"}),
    }


class Apt:
    """apt in a rig that is taken for a machine."""

    def __init__(self, machine: rig.Rig) -> None:
        self.rig = machine
        self.sh("rm -f /run/systemd/container; mkdir -p /run/safeupdate")

    def sh(self, script: str) -> Completed:
        return self.rig.run("sh", "-c", script, timeout=600)

    def run(self, *words: str) -> Completed:
        """apt-get, without a question; what the stub noted before is forgotten."""
        self.sh("rm -f /run/noted /run/told")
        return self.rig.run("apt-get", "--yes", *words, timeout=600)

    def read(self, path: str) -> list[str]:
        return (self.rig.machine.text(path) or "").splitlines()

    @property
    def noted(self) -> list[str]:
        return self.read("/run/noted")

    @property
    def installed(self) -> bool:
        return self.sh(f"dpkg-query --show --showformat '${{Status}}' {KERNEL}").stdout == b"install ok installed"


@pytest.mark.parametrize("name", rig.SYSTEMD)
def test_the_check_is_asked_for_where_it_matters(name: str) -> None:
    # More than a pipe takes that nobody reads: apt tells how it is configured, too.
    many = "".join(f'Safeupdate::Test::{number} "{"x" * 100}";\n' for number in range(2000)).encode()
    with rig.started(name, {**files(), "/etc/apt/apt.conf.d/99many": many}) as machine:
        assert machine.run("apt-get", "--yes", "install", "/opt/kernel.deb", timeout=120).code == 0
        machine.run("apt-get", "--yes", "remove", KERNEL, timeout=120)
        assert not machine.machine.exists("/run/noted"), "a container does not boot by itself"

        apt = Apt(machine)
        done = apt.run("install", "/opt/harmless.deb")
        assert (done.code, apt.noted) == (0, [])
        done = apt.run("install", "/opt/kernel.deb")
        assert (done.code, apt.noted) == (0, ["hook apt-pre", "hook apt-post"])
        assert [line.split()[0] for line in apt.read("/run/told")] == [KERNEL, KERNEL]
        assert apt.read("/run/told")[1].endswith("**CONFIGURE**")
        done = apt.run("remove", "harmless")
        assert (done.code, apt.noted) == (0, [])

        # What a package does to /boot, whatever its name, is noticed by what is there.
        assert apt.run("install", "/opt/firmware.deb").code == 0
        assert apt.noted == ["hook apt-post"]

        # dpkg alone calls no hook of apt: the kernel's own leaves a mark, and the next run of apt sees it.
        apt.sh("rm -f /run/noted")
        assert apt.sh(f"dpkg --remove {KERNEL}").code == 0
        assert apt.noted == [] and apt.read("/run/safeupdate/hook/changed") == [RELEASE]
        assert apt.run("install", "/opt/harmless.deb").code == 0
        assert apt.noted == ["hook apt-post"] and not machine.machine.exists("/run/safeupdate/hook/changed")


@pytest.mark.parametrize("name", rig.SYSTEMD)
def test_nothing_that_goes_wrong_is_an_error_of_apts(name: str) -> None:
    with rig.started(name, files()) as machine:
        apt = Apt(machine)

        def failing(words: bytes) -> None:
            """A kernel comes and goes, the hooks fail, and apt does not."""
            for arguments in (("install", "/opt/kernel.deb"), ("remove", KERNEL)):
                done = apt.run(*arguments)
                assert done.code == 0, done.stderr
                assert apt.installed == (arguments[0] == "install")
                assert words in done.stderr, done.stderr

        # A crash. Where the gate is armed, what asks for a reboot lies aside.
        machine.host.write("/run/safeupdate/gate.json", ARMED)
        apt.sh("echo 1 > /run/code")
        failing(b"could not be checked here")
        assert apt.noted == ["hook apt-pre", "hook apt-post"]
        assert apt.read("/run/safeupdate/held/reboot-required.pkgs") == ["linux-image"]
        assert not machine.machine.exists("/run/reboot-required")

        # Where it observes, nothing is held.
        machine.host.write("/run/safeupdate/gate.json", ARMED.replace(b"armed", b"observing"))
        failing(b"could not be checked here")
        assert machine.machine.exists("/run/reboot-required")

        # Time runs out.
        apt.sh("mkdir /etc/safeupdate; printf '[hooks]\\ntimeout_seconds = 5\\n' > /etc/safeupdate/safeupdate.toml")
        apt.sh("touch /run/slow")
        failing(b"could not be checked here")
        apt.sh("rm /run/slow /run/code")

        # No interpreter, no program, a disk that is full, one that is read-only, no hook at all.
        apt.sh("mv /usr/bin/safeupdate /opt/stub; echo '#!/usr/bin/python9' > /usr/bin/safeupdate")
        apt.sh("chmod 755 /usr/bin/safeupdate")
        failing(b"could not be checked here")
        apt.sh("rm /usr/bin/safeupdate")
        failing(b"could not be checked here")
        apt.sh("mv /opt/stub /usr/bin/safeupdate")
        apt.sh("rm -r /run/safeupdate; mkdir /run/safeupdate; mount -t tmpfs -o size=4k tmpfs /run/safeupdate")
        apt.sh("cat /dev/zero > /run/safeupdate/full 2> /dev/null")
        failing(b"")
        assert apt.noted == ["hook apt-pre", "hook apt-post"], "what cannot be remembered is looked at"
        apt.sh("mount -o remount,ro /run/safeupdate")
        failing(b"")
        assert apt.noted == ["hook apt-pre", "hook apt-post"]
        apt.sh("umount /run/safeupdate; mv /usr/libexec/safeupdate /opt/away")
        failing(b"")
        assert apt.noted == []

        # Killed, with the shell that waits for it.
        apt.sh("mv /opt/away /usr/libexec/safeupdate")
        hook = file("plugins/hook").replace(b"set -u\n", b"echo $$ > /run/hook\n", 1)
        machine.host.write("/usr/libexec/safeupdate/hook", hook, 0o755)
        stub = b"#!/bin/sh\necho killed >> /run/noted\nkill -9 $(cat /run/hook)\n"
        machine.host.write("/usr/bin/safeupdate", stub, 0o755)
        failing(b"")
        assert apt.noted == ["killed", "killed"]


def test_a_refusal_changes_nothing_and_a_chroot_is_left_alone() -> None:
    with rig.started("debian13", files()) as machine:
        apt = Apt(machine)
        apt.sh("echo 3 > /run/code")
        done = apt.run("install", "/opt/kernel.deb")
        assert (done.code, apt.noted, apt.installed) == (100, ["hook apt-pre"], False)
        apt.sh("rm /run/code")

        # Even one that has the host's /run and /proc.
        apt.sh("mkdir /chroot; cp -a /bin /lib /lib64 /chroot")
        places = "usr etc boot run proc var opt tmp dev"
        binds = f"for one in {places}; do mkdir -p /chroot/$one; mount --bind /$one /chroot/$one; done"
        assert apt.sh(binds).code == 0
        apt.sh("rm -rf /run/safeupdate/hook")
        assert apt.sh("chroot /chroot /usr/libexec/safeupdate/hook kernel x").code == 0
        apt.sh("rm -f /run/noted")
        done = apt.sh("chroot /chroot apt-get --yes install /opt/kernel.deb")
        assert (done.code, apt.noted, apt.installed) == (0, [], True), done.stderr
        assert not machine.machine.exists("/run/safeupdate/hook")
        assert apt.sh("/usr/libexec/safeupdate/hook kernel x").code == 0
        assert apt.read("/run/safeupdate/hook/changed") == ["x"]
