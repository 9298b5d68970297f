"""unattended-upgrades as it is, set to reboot by itself: it does so only when the check has come to its end."""

from __future__ import annotations

import hashlib
import os
import subprocess
from pathlib import Path

import pytest

from tests.hooks.built import RELEASE, chroot, file, kernel_deb, tree

pytestmark = pytest.mark.machines

KERNEL = f"linux-image-{RELEASE}"

UPGRADES = """\
Unattended-Upgrade::Origins-Pattern { "origin=ours"; };
Unattended-Upgrade::Automatic-Reboot "true";
Unattended-Upgrade::Automatic-Reboot-WithUsers "true";
"""

ARMED = """{
 "mode": "armed",
 "levers": {
  "reboot-required": {
"""

STUB = """#!/bin/sh
echo "$2" >> /run/noted
case $2 in *-pre) cat > /dev/null; exit 0 ;; esac
case $(cat /run/judged) in
safe) mv /run/safeupdate/held/* /run; exit 0 ;;
crash) kill -9 $$ ;;
esac
"""
"""In safeupdate's place: as settle does it, it puts back what was held where the next boot is safe."""

SCRIPT = """
mount -t proc proc /proc
mkdir -p /run/systemd/system /run/safeupdate
cp /opt/gate.json /run/safeupdate
apt-get -qq update
for judged in crash safe; do
	apt-get -qq --yes --allow-downgrades install /opt/kernel.deb > /dev/null 2>&1
	rm -rf /run/reboot-required* /run/safeupdate/held /run/safeupdate/hook /run/noted
	echo $judged > /run/judged
	unattended-upgrade --verbose > /run/said 2>&1
	echo "$judged: $?, $(dpkg-query --show --showformat '${Version} ${db:Status-Status}' KERNEL)," \\
		"$(echo $(sort -u /run/noted)), $(cat /run/rebooted 2> /dev/null || echo stays)"
done
cat /run/said >&2
""".replace("KERNEL", KERNEL)


def test_a_reboot_waits_for_the_check() -> None:
    if os.geteuid() != 0:
        pytest.skip("to run a machine's package manager takes root")
    new = kernel_deb(2)
    packages = (
        f"Package: {KERNEL}\nVersion: 2\nArchitecture: all\nFilename: ./new.deb\nSize: {len(new)}\n"
        f"SHA256: {hashlib.sha256(new).hexdigest()}\nMaintainer: nobody <a@b>\nDescription: a test\n"
    ).encode()
    listed = f"{hashlib.sha256(packages).hexdigest()} {len(packages)} Packages"
    with tree("debian13") as place, chroot(place):
        for path, data in {
            "/usr/bin/safeupdate": STUB.encode(),
            "/usr/libexec/safeupdate/hook": file("plugins/hook"),
            "/etc/apt/apt.conf.d/50safeupdate": file("plugins/apt/50safeupdate"),
            "/etc/apt/apt.conf.d/99ours": UPGRADES.encode(),
            "/etc/apt/sources.list": b"deb [trusted=yes] file:/opt/repository ./\n",
            "/etc/kernel/ours/postinst.d/zzz-safeupdate": file("plugins/apt/zzz-safeupdate"),
            "/opt/repository/new.deb": new,
            "/opt/repository/Packages": packages,
            "/opt/repository/Release": f"Origin: ours\nLabel: ours\nSHA256:\n {listed}\n".encode(),
            "/opt/kernel.deb": kernel_deb(1),
            "/opt/gate.json": ARMED.encode(),
            "/opt/shutdown": b'#!/bin/sh\necho "shutdown $*" > /run/rebooted\n',
        }.items():
            target = Path(place + path)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)
            target.chmod(0o755 if data.startswith(b"#!") else 0o644)
        os.rename(f"{place}/opt/shutdown", f"{place}/usr/sbin/shutdown")
        environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"}
        command = ["unshare", "--pid", "--mount", "--fork", "--kill-child", "chroot", place, "sh", "-c", SCRIPT]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=1200, check=False)
    assert done.stdout.splitlines() == [
        "crash: 0, 2 installed, apt-post apt-pre, stays",
        "safe: 0, 2 installed, apt-post apt-pre, shutdown -r now",
    ], done.stderr
