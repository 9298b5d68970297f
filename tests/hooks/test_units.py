"""What changes without a hook is noticed: the path unit on a systemd that runs."""

from __future__ import annotations

import os

import pytest

from tests.hooks.built import RELEASE, deb, file, program, tree
from tests.hooks.test_apt import KERNEL, Apt
from tests.hooks.test_apt import files as apt_files
from tests.systemd import rig

pytestmark = pytest.mark.machines

NAMES = ("safeupdate-changed.path", "safeupdate-changed.service")


def units() -> dict[str, bytes]:
    """Ours, which would do nothing in a container."""
    condition = b"ConditionVirtualization=!container\n"
    return {f"/usr/lib/systemd/system/{name}": file(f"systemd/{name}").replace(condition, b"") for name in NAMES}


class Watched(Apt):
    """A machine on which the path unit is switched on."""

    def __init__(self, machine: rig.Rig) -> None:
        super().__init__(machine)
        assert self.sh("systemctl start safeupdate-changed.path").code == 0

    def soon(self, words: str) -> bool:
        return self.sh(f"for i in $(seq 300); do {words} && exit; sleep 0.1; done; exit 1").code == 0

    def settled(self) -> None:
        """All that came before is over, and forgotten."""
        state = "systemctl show --property=ActiveState --value safeupdate-changed.service"
        assert self.soon(f'[ "$({state})" = inactive ] && sleep 1 && [ "$({state})" = inactive ]')
        self.sh("rm -f /run/noted")

    def noticed(self, script: str) -> bool:
        """Whether it notes that something changed."""
        self.settled()
        self.sh(script)
        return self.soon("grep -qx 'hook changed' /run/noted")


@pytest.mark.parametrize("name", rig.SYSTEMD)
def test_what_changes_without_a_hook_is_noticed(name: str) -> None:
    untouched = {
        f"/usr/lib/systemd/system/untouched.{name.rpartition('.')[2]}": file(f"systemd/{name}") for name in NAMES
    }
    with rig.started(name, {**apt_files(), **units(), **untouched}) as machine:
        watched = Watched(machine)
        for script in (
            "dpkg -i /opt/kernel.deb",
            f"dpkg -r {KERNEL}",
            "cp /opt/harmless.deb /boot/vmlinuz-by-hand",
            "mv /boot/vmlinuz-by-hand /boot/other",
            "rm /boot/other",
            f"mkdir /usr/lib/modules/{RELEASE}",
            f"rmdir /usr/lib/modules/{RELEASE}",
        ):
            assert watched.noticed(script), script
        watched.settled()
        watched.sh("touch /etc/nothing; dpkg -i /opt/harmless.deb; sleep 2")
        assert watched.noted == []

        # A hook that is killed leaves it to the unit, and so does one whose check fails.
        hook = file("plugins/hook").replace(b"boots_here || exit 0\n", b"kill -9 $$\n")
        machine.host.write("/usr/libexec/safeupdate/hook", hook, 0o755)
        assert watched.noticed("apt-get --yes install /opt/kernel.deb")
        machine.host.write("/usr/libexec/safeupdate/hook", file("plugins/hook"), 0o755)
        watched.sh("systemctl stop safeupdate-changed.path; echo 1 > /run/code")
        assert watched.noticed(f"apt-get --yes remove {KERNEL}")
        assert watched.noted == ["hook apt-pre", "hook apt-post", "hook changed"]

        machine.run("systemctl", "start", "untouched.path")
        shown = machine.run("systemctl", "show", "--property=ConditionResult", "untouched.path").stdout
        assert shown == b"ConditionResult=no\n", "in a container"


WAITS = b"""#!/usr/bin/python3
import os
from safeupdate.hooks import idle
from safeupdate.machine import Machine

begun = os.path.exists("/run/ends")
idle.wait(Machine.here())
with open("/run/noted", "a") as file:
    print(begun, os.path.exists("/run/ends"), file=file)
"""

SLOW = "touch /boot/vmlinuz-slow\nfor i in $(seq 40); do sleep 0.1; done\ntouch /run/ends\n"


def test_it_waits_for_the_package_manager() -> None:
    """dpkg is still at work when the unit starts."""
    if os.geteuid() != 0:
        pytest.skip("only root can lay a tree upon another")
    files = {**program(), **units(), "/usr/bin/safeupdate": WAITS, "/opt/slow.deb": deb("slow", postinst=SLOW)}
    with tree("debian13") as place, rig.started("debian13", files, place) as machine:
        watched = Watched(machine)
        watched.sh("dpkg -i /opt/slow.deb")
        assert watched.soon("[ -s /run/noted ]")
        assert watched.noted == ["False True"]
