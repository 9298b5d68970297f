"""Who upgrades and reboots without a person: unattended-upgrades and dnf-automatic as they are, on a systemd that
reboots for real. They do so only when the check has come to its end, and the gate's levers let them, the real ones."""

from __future__ import annotations

import contextlib
import hashlib
import os
from pathlib import Path

import pytest

from tests.hooks.built import RELEASE, REPOSITORY, file, kernel_deb, program, rpms, tree
from tests.hooks.test_apt import ARMED
from tests.systemd import rig

pytestmark = pytest.mark.machines

KERNEL = f"linux-image-{RELEASE}"

UPGRADES = b"""\
Unattended-Upgrade::Origins-Pattern { "origin=ours"; };
Unattended-Upgrade::Automatic-Reboot "true";
Unattended-Upgrade::Automatic-Reboot-WithUsers "true";
"""

STUB = b"""#!/usr/bin/python3
import os, signal, sys
from datetime import datetime, timezone

from safeupdate.gate.host import Host
from safeupdate.gate.lever import Order
from safeupdate.gate.levers import reboot_required, reboot_target, scheduled
from safeupdate.machine import Machine

with open("/run/noted", "a") as file:
    print(sys.argv[2], file=file)
if sys.argv[2].endswith("-pre"):
    sys.exit()
with open("/run/judged") as file:
    judged = file.read().strip()
if judged == "crash":
    os.kill(os.getpid(), signal.SIGKILL)
host = Host(Machine.here(), lambda: datetime.now(timezone.utc))
for module in (reboot_required, scheduled, reboot_target):
    if judged == "unsafe":
        module.LEVER.close(host, Order("The initramfs is cut off."))
    else:
        module.LEVER.open(host)
"""
"""In safeupdate's place, with the verdict from a file."""


class Unattended:
    """A rig of a machine with both. `become` says how it ends after an upgrade with that verdict; None if it stays."""

    def __init__(self, machine: rig.Rig) -> None:
        self.rig = machine
        machine.run("rm", "-f", "/run/systemd/container")
        machine.host.write("/run/safeupdate/gate.json", ARMED)

    def sh(self, script: str) -> str:
        done = self.rig.run("sh", "-c", script, timeout=300)
        self.said = (done.stdout + done.stderr).decode(errors="replace")
        return done.stdout.decode().strip()

    def become(self, judged: str, upgrade: str, seconds: float = 5.0) -> str | None:
        self.sh(f"rm -f /run/noted; echo {judged} > /run/judged")
        # What asks for the reboot may be stopped before it says what it ended with.
        with contextlib.suppress(ValueError):
            self.sh(f"{upgrade}; echo ended with $?")
        return self.rig.ended(60.0 if judged == "safe" else seconds)

    @property
    def noted(self) -> set[str]:
        return set((self.rig.machine.text("/run/noted") or "").split())


def test_unattended_upgrades() -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can lay a tree upon another")
    new = kernel_deb(2)
    packages = (
        f"Package: {KERNEL}\nVersion: 2\nArchitecture: all\nFilename: ./new.deb\nSize: {len(new)}\n"
        f"SHA256: {hashlib.sha256(new).hexdigest()}\nMaintainer: nobody <a@b>\nDescription: a test\n"
    ).encode()
    listed = f"{hashlib.sha256(packages).hexdigest()} {len(packages)} Packages"
    files = {
        **program(),
        "/usr/bin/safeupdate": STUB,
        "/etc/apt/apt.conf.d/50safeupdate": file("plugins/apt/50safeupdate"),
        "/etc/apt/apt.conf.d/99ours": UPGRADES,
        "/etc/apt/sources.list": b"deb [trusted=yes] file:/opt/repository ./\n",
        "/etc/kernel/ours/postinst.d/zzz-safeupdate": file("plugins/apt/zzz-safeupdate"),
        "/opt/repository/new.deb": new,
        "/opt/repository/Packages": packages,
        "/opt/repository/Release": f"Origin: ours\nLabel: ours\nSHA256:\n {listed}\n".encode(),
        "/opt/kernel.deb": kernel_deb(1),
    }
    upgrade = "unattended-upgrade --verbose"
    with tree("debian13") as place, rig.started("debian13", files, place) as machine:
        unattended = Unattended(machine)
        unattended.sh("apt-get -q update; rm -f /etc/apt/apt.conf.d/*periodic*")
        for judged in ("crash", "unsafe", "safe"):
            unattended.sh("echo safe > /run/judged; apt-get --yes --allow-downgrades install /opt/kernel.deb")
            unattended.sh("rm -rf /run/reboot-required* /run/safeupdate/held /run/safeupdate/hook")
            ended = unattended.become(judged, upgrade)
            assert ended == ("rebooted" if judged == "safe" else None), (judged, unattended.said)
            if judged != "safe":
                assert "ended with 0" in unattended.said and unattended.noted == {"apt-pre", "apt-post"}
                assert unattended.sh(f"dpkg-query -Wf '${{Version}} ${{db:Status-Status}}' {KERNEL}") == "2 installed"
                assert machine.machine.exists("/run/safeupdate/held/reboot-required") and machine.stays()


AUTOMATIC = b"""\
[commands]
upgrade_type = default
random_sleep = 0
network_online_timeout = 0
download_updates = yes
apply_updates = yes
reboot = when-needed
reboot_command = shutdown -r now
[emitters]
emit_via = stdio
"""

DNF = b"[main]\ngpgcheck=0\ninstallonly_limit=9\nexcludepkgs=kernel-core-1-4\n"


PLUGINS = {
    "dnf": {
        "/usr/lib/python3/dist-packages/dnf-plugins/safeupdate.py": "plugins/dnf/safeupdate.py",
        "/etc/dnf/plugins/safeupdate.conf": "plugins/dnf/safeupdate.conf",
    },
    "dnf5": {"/etc/dnf/libdnf5-plugins/actions.d/safeupdate.actions": "plugins/dnf5/safeupdate.actions"},
}


@pytest.mark.vm  # for its time: half a minute
@pytest.mark.parametrize(
    ("name", "on", "upgrade"),
    [
        # Debian has the program as a module alone.
        ("dnf", "debian13", "python3 -c 'import dnf.automatic.main as it, sys; sys.exit(it.main([]))'"),
        ("dnf5", "testing-dracut", "dnf5 automatic --installupdates"),
    ],
    ids=["dnf", "dnf5"],
)
def test_dnf_automatic(name: str, on: str, upgrade: str, tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can lay a tree upon another")
    files = {
        **rpms(tmp_path),
        **program(),
        "/usr/bin/safeupdate": STUB,
        "/etc/dnf/automatic.conf": AUTOMATIC,
        "/etc/dnf/dnf.conf": DNF,
        "/etc/yum.repos.d/local.repo": REPOSITORY,
        **{path: file(ours) for path, ours in PLUGINS[name].items()},
    }
    with tree(on) as place, rig.started(on, files, place) as machine:
        unattended = Unattended(machine)
        unattended.sh(f"createrepo_c -q /opt/repository; echo safe > /run/judged; {name} -y install kernel-core-1-1")
        assert machine.machine.exists("/boot/kernel-core-1-1.noarch"), unattended.said
        assert unattended.become("unsafe", upgrade) is None
        assert unattended.noted == {f"{name}-pre", f"{name}-post"}, unattended.said
        assert "ended with 1" in unattended.said, "it tells that its command for the reboot failed"
        assert machine.machine.exists("/boot/kernel-core-1-3.noarch") and machine.stays()
        unattended.sh(f"echo safe > /run/judged; {name} -y remove kernel-core-1-3")
        assert unattended.become("safe", upgrade) == "rebooted", unattended.said
