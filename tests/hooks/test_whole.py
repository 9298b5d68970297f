"""apt, the hook and safeupdate itself together, as process 1 of a tree that is its own, without systemd."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.hooks.built import ALONE, BUILT, DKMS, RELEASE, chroot, deb, file, kernel_deb, program, tree, write

pytestmark = pytest.mark.machines

SCRIPT = f"""
mount -t proc proc /proc
mkdir -p /run/systemd/system
{BUILT}
do_apt() {{ echo "== $*" >&2; apt-get -qq --yes "$@" > /dev/null; echo "ended with $?" >&2; }}
do_apt install /opt/harmless.deb
do_apt install /opt/kernel.deb
do_apt remove linux-image-{RELEASE}
"""


def test_one_update_from_its_beginning_to_its_end() -> None:
    if os.geteuid() != 0:
        pytest.skip("to run a machine's package manager takes root")
    with tree("debian13") as place, chroot(place):
        files = {
            **program(),
            **DKMS,
            "/etc/apt/apt.conf.d/50safeupdate": file("plugins/apt/50safeupdate"),
            "/etc/kernel/ours/postinst.d/zzz-safeupdate": file("plugins/apt/zzz-safeupdate"),
            "/etc/kernel/ours/postrm.d/zzz-safeupdate": file("plugins/apt/zzz-safeupdate"),
            "/etc/safeupdate/safeupdate.toml": b"[hooks]\ntimeout_seconds = 600\n",
            "/opt/kernel.deb": kernel_deb(),
            "/opt/harmless.deb": deb("harmless", files={"/usr/share/harmless": "nothing\n"}),
        }
        write(place, files)
        environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"}
        command = [*ALONE, place, "sh", "-c", SCRIPT]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=1200, check=False)
        _, harmless, install, remove = done.stderr.split("== ")
        assert "safeupdate" not in harmless and "ended with 0" in harmless, done.stderr
        headers = f"The kernel {RELEASE} comes without its headers (linux-headers-{RELEASE})"
        assert headers in " ".join(install.split()), done.stderr
        for said in (install, remove):
            assert "ended with 0" in said and "could not be checked here" not in said, done.stderr
            assert any(word in said for word in ("safeupdate: SAFE", "safeupdate: UNSAFE", "safeupdate: UNKNOWN"))
        assert Path(f"{place}/run/safeupdate/gate.json").exists()
