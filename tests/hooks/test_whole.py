"""apt, the hook and safeupdate itself together, as process 1 of a tree that is its own, without systemd."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.hooks.built import RELEASE, TOP, chroot, deb, file, kernel_deb, tree

pytestmark = pytest.mark.machines

PROGRAM = b"#!/usr/bin/python3\nimport sys\nfrom safeupdate.cli import main\nsys.exit(main())\n"

CONF = """PACKAGE_NAME="v4l2loopback"
PACKAGE_VERSION="0.12.7"
BUILT_MODULE_NAME[0]="v4l2loopback"
DEST_MODULE_LOCATION[0]="/extra"
AUTOINSTALL="yes"
"""

SCRIPT = f"""
mount -t proc proc /proc
mkdir -p /run/systemd/system
version=/var/lib/dkms/v4l2loopback/0.12.7
mkdir -p $version/$(uname -r)/x86_64/module
ln -s /usr/src/v4l2loopback-0.12.7 $version/source
ln -s 0.12.7/$(uname -r)/x86_64 /var/lib/dkms/v4l2loopback/kernel-$(uname -r)-x86_64
do_apt() {{ echo "== $*" >&2; apt-get -qq --yes "$@" > /dev/null; echo "ended with $?" >&2; }}
do_apt install /opt/harmless.deb
do_apt install /opt/kernel.deb
do_apt remove linux-image-{RELEASE}
"""


def test_one_update_from_its_beginning_to_its_end() -> None:
    if os.geteuid() != 0:
        pytest.skip("to run a machine's package manager takes root")
    with tree("debian13") as place, chroot(place):
        ours = {
            f"/usr/lib/python3/dist-packages/{path.relative_to(TOP)}": path.read_bytes()
            for path in TOP.glob("safeupdate/**/*")
            if path.suffix in (".py", ".txt", ".json")
        }
        for path, data in {
            **ours,
            "/usr/bin/safeupdate": PROGRAM,
            "/usr/libexec/safeupdate/hook": file("plugins/hook"),
            "/etc/apt/apt.conf.d/50safeupdate": file("plugins/apt/50safeupdate"),
            "/etc/kernel/ours/postinst.d/zzz-safeupdate": file("plugins/apt/zzz-safeupdate"),
            "/etc/kernel/ours/postrm.d/zzz-safeupdate": file("plugins/apt/zzz-safeupdate"),
            "/usr/src/v4l2loopback-0.12.7/dkms.conf": CONF.encode(),
            "/etc/safeupdate/safeupdate.toml": b"[hooks]\ntimeout_seconds = 600\n",
            "/opt/kernel.deb": kernel_deb(),
            "/opt/harmless.deb": deb("harmless", files={"/usr/share/harmless": "nothing\n"}),
        }.items():
            target = Path(place + path)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)
            target.chmod(0o755 if data.startswith(b"#!") else 0o644)
        environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"}
        command = ["unshare", "--pid", "--mount", "--fork", "--kill-child", "chroot", place, "sh", "-c", SCRIPT]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=1200, check=False)
        _, harmless, install, remove = done.stderr.split("== ")
        assert "safeupdate" not in harmless and "ended with 0" in harmless, done.stderr
        headers = f"The kernel {RELEASE} comes without its headers (linux-headers-{RELEASE})"
        assert headers in " ".join(install.split()), done.stderr
        for said in (install, remove):
            assert "ended with 0" in said and "could not be checked here" not in said, done.stderr
            assert any(word in said for word in ("safeupdate: SAFE", "safeupdate: UNSAFE", "safeupdate: UNKNOWN"))
        assert Path(f"{place}/run/safeupdate/gate.json").exists()
