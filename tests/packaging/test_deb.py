"""Debian's package: built twice, installed, upgraded, removed and purged on systems of two releases."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from safeupdate import __version__, steering
from safeupdate.gate.lever import Order
from safeupdate.gate.levers import inhibitor, molly_guard, reboot_required, reboot_target, scheduled
from safeupdate.machine import Completed
from tests.hooks import built
from tests.systemd import rig

TOP = Path(__file__).parents[2]

ORDER = Order("The initramfs of 6.1.0-56-amd64 is cut off.")

LEVERS = tuple(module.LEVER for module in (reboot_required, scheduled, molly_guard, inhibitor, reboot_target))

HELD = steering.hold("gnulinux-advanced-x>gnulinux-6.1.0-50-amd64-advanced-x")

KEPT = "/var/lib/safeupdate/safeupdate-open"

RELEASES = ("debian13", pytest.param("debian12", marks=pytest.mark.vm))

TRACES = r"""
find / -xdev \( -path /proc -o -path /sys -o -path /dev -o -path /tmp -o -path /run -o -path /opt \) -prune -o -print |
grep -v -e ^/var/lib/dpkg -e ^/var/log -e ^/var/cache/apt -e ^/var/lib/apt -e ^/var/cache/ldconfig -e __pycache__ |
LC_ALL=C sort
find / -xdev -path '*safeupdate*' -not -path '/proc/*' -not -path '/opt/*'
"""
"""For the shell: every file of a machine, but for what its package manager keeps for itself."""


def test_the_changelog_has_the_version_of_the_program() -> None:
    first = (TOP / "debian/changelog").read_text(encoding="utf-8").partition("\n")[0]
    assert first.startswith(f"safeupdate ({__version__}) ")


def test_what_the_package_is_to_hold_is_there() -> None:
    for kind in ("install", "docs", "manpages"):
        for line in (TOP / f"debian/safeupdate.{kind}").read_text(encoding="utf-8").splitlines():
            assert list(TOP.glob(line.split()[0])), line


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the package is made of, in a directory that git does not know."""
    for program in ("dpkg-buildpackage", "dh", "dh_python3"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed (`make deb` installs it)")
    place = tmp_path_factory.mktemp("source")
    for name in ("safeupdate", "debian", "docs", "man", "completions", "plugins", "systemd", "bin", "tools"):
        if (TOP / name).is_dir():
            shutil.copytree(TOP / name, place / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE", ".gitignore"):
        shutil.copy2(TOP / name, place)
    return place


def _build(source: Path, **environment: str) -> bytes:
    done = subprocess.run(
        [str(source / "tools/deb.sh")],
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", **environment},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return (source / done.stdout.strip()).read_bytes()


@pytest.fixture(scope="module")
def deb(source: Path) -> bytes:
    """The package."""
    return _build(source, LC_ALL="C")


@pytest.fixture(scope="module")
def newer(deb: bytes, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The same with a higher version."""
    place = tmp_path_factory.mktemp("newer")
    (place / "old.deb").write_bytes(deb)
    subprocess.run(["dpkg-deb", "--raw-extract", f"{place}/old.deb", f"{place}/tree"], timeout=60, check=True)
    control = place / "tree/DEBIAN/control"
    text = re.sub("(?m)^Version: .*", "Version: 99", control.read_text(encoding="utf-8"))
    control.write_text(text, encoding="utf-8")
    command = ["dpkg-deb", "--root-owner-group", "--build", f"{place}/tree", f"{place}/new.deb"]
    subprocess.run(command, timeout=60, check=True, capture_output=True)
    return (place / "new.deb").read_bytes()


@pytest.mark.vm
def test_it_is_the_same_whenever_it_is_built(source: Path, deb: bytes) -> None:
    assert _build(source, LC_ALL="C.UTF-8", TZ="Asia/Tokyo", HOME="/nonexistent") == deb


@pytest.mark.vm
def test_lintian_has_nothing_to_say(deb: bytes, tmp_path: Path) -> None:
    if shutil.which("lintian") is None:
        pytest.skip("lintian is not installed")
    (tmp_path / "safeupdate.deb").write_bytes(deb)
    command = ["lintian", "--allow-root", "--pedantic", "--display-info", str(tmp_path / "safeupdate.deb")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert (done.returncode, done.stdout) == (0, "")


@pytest.fixture
def machine(request: pytest.FixtureRequest, deb: bytes, newer: bytes) -> Iterator[rig.Rig]:
    """A system with systemd and a boot loader's menu on which the package is not installed yet."""
    if os.geteuid() != 0:
        pytest.skip("only root can lay a tree upon another")
    name = request.param
    files = {
        "/opt/safeupdate.deb": deb,
        "/opt/newer.deb": newer,
        "/opt/harmless.deb": built.deb("harmless", files={"/usr/share/harmless": "nothing\n"}),
        "/opt/kernel.deb": built.kernel_deb(),
        # So that all of them are called by our kernel's package, and no others.
        "/etc/kernel/ours/postinst.d/zzz": b"#!/bin/sh\nexec run-parts --regex safeupdate /etc/kernel/postinst.d\n",
        "/etc/kernel/ours/postrm.d/zzz": b"#!/bin/sh\nexec run-parts --regex safeupdate /etc/kernel/postrm.d\n",
        "/usr/lib/molly-guard/molly-guard": b"#!/bin/sh\n",
    }
    with built.tree(name) as place, rig.started(name, files, place) as started:
        yield started


def _sh(machine: rig.Rig, script: str, code: int = 0) -> Completed:
    done = machine.run("sh", "-c", script, timeout=300)
    assert done.code == code, (script, done.stdout, done.stderr)
    return done


def _dpkg(machine: rig.Rig, action: str, code: int = 0) -> Completed:
    return _sh(machine, f"DEBIAN_FRONTEND=noninteractive dpkg {action}", code)


def _close(machine: rig.Rig) -> None:
    _sh(machine, "echo please > /run/reboot-required; shutdown -r +60")
    machine.host.write("/boot/grub/custom.cfg", HELD)
    for lever in LEVERS:
        lever.close(machine.host, ORDER)
    assert _closed(machine)


def _closed(machine: rig.Rig) -> bool:
    """Whether all of it is closed; else all of it is open."""
    held: list[bool] = [lever.state(machine.host).position == "closed" for lever in LEVERS]
    held += [machine.machine.read("/boot/grub/custom.cfg") == HELD]
    assert len(set(held)) == 1, held
    return held[0]


@pytest.mark.machines
@pytest.mark.parametrize("machine", RELEASES, indirect=True)
def test_from_the_installation_to_the_purge(machine: rig.Rig) -> None:
    files = machine.machine
    before = _sh(machine, TRACES).stdout
    (install,) = re.findall("(?m)^apt (install ./dist/.*)$", (TOP / "README.md").read_text(encoding="utf-8"))
    _sh(machine, f"mkdir /opt/dist; ln -s ../safeupdate.deb /opt/dist/safeupdate_{__version__}_all.deb")
    _sh(machine, f"cd /opt; DEBIAN_FRONTEND=noninteractive apt --yes {install}")
    assert _sh(machine, "safeupdate --version").stdout.split() == [b"safeupdate", __version__.encode()]
    assert _sh(machine, "systemctl is-active safeupdate-settle.timer").stdout == b"active\n"
    units = sorted(path.name for path in (TOP / "systemd").iterdir() if "[Install]" in path.read_text(encoding="utf-8"))
    assert _sh(machine, f"systemctl is-enabled {' '.join(units)}").stdout == b"enabled\n" * len(units)
    assert b"apt-post" in _sh(machine, "apt-config dump DPkg::Post-Invoke").stdout

    # A gate that is closed stays so while the package is upgraded.
    _close(machine)
    _dpkg(machine, "--install /opt/newer.deb")
    assert _closed(machine)
    assert _sh(machine, "systemctl is-active safeupdate-settle.timer").stdout == b"active\n"
    assert not files.exists("/run/safeupdate/way-out")

    # A removal that fails opens it all the same, and what closes it works again.
    _sh(
        machine,
        "mv /usr/bin/py3clean /opt; printf '#!/bin/sh\\nexit 1\\n' > /usr/bin/py3clean; chmod 755 /usr/bin/py3clean",
    )
    _dpkg(machine, "--remove safeupdate", code=1)
    assert not _closed(machine) and not files.exists("/run/safeupdate/way-out")
    assert _sh(machine, "systemctl is-active safeupdate-settle.timer").stdout == b"active\n"
    _sh(machine, "mv /opt/py3clean /usr/bin/py3clean")

    # What cannot be opened is told, and does not keep the package.
    _close(machine)
    _sh(machine, "mount --bind /boot/grub /boot/grub; mount -o remount,bind,ro /boot/grub")
    done = _dpkg(machine, "--remove safeupdate")
    assert KEPT.encode() in done.stderr and b"custom.cfg cannot be overwritten" in done.stderr
    assert files.read("/run/reboot-required") == b"please\n"
    _sh(machine, f"umount /boot/grub; {KEPT}")
    assert not _closed(machine)

    _dpkg(machine, "--install /opt/safeupdate.deb")
    assert not files.exists(KEPT)
    _sh(machine, "rm -f /run/safeupdate/way-out")
    _close(machine)
    _dpkg(machine, "--remove safeupdate")
    assert not _closed(machine) and files.read("/run/reboot-required") == b"please\n"
    assert not files.exists("/run/safeupdate")
    assert (
        _sh(machine, "systemctl list-units --no-legend --state=active,activating,failed 'safeupdate-*'").stdout == b""
    )
    # Its files for apt, for kernels' packages and for molly-guard are left, and do nothing.
    for installed in ("/opt/harmless.deb", "/opt/kernel.deb"):
        done = _sh(machine, f"apt-get --yes -qq install {installed}")
        assert b"safeupdate" not in done.stderr
    _sh(machine, "apt-get --yes -qq purge harmless linux-image-9.9.9-1-amd64")

    _sh(machine, "mkdir /etc/safeupdate; echo > /etc/safeupdate/safeupdate.toml; mkdir -p /var/cache/safeupdate")
    _dpkg(machine, "--purge safeupdate")
    _sh(machine, "rm -f /run/reboot-required*")
    assert _sh(machine, TRACES).stdout.splitlines() == before.splitlines()
    machine.run("systemctl", "reboot")
    assert machine.ended() == "rebooted"


SCRIPT = """
dpkg --install /opt/safeupdate.deb
mkdir -p /var/lib/safeupdate/levers
echo '{}' > /var/lib/safeupdate/levers/boot-default.json
cp /opt/held /boot/grub/custom.cfg
dpkg --install /opt/newer.deb
cmp /opt/held /boot/grub/custom.cfg
dpkg --remove safeupdate
head -n 1 /boot/grub/custom.cfg | grep -qx '# safeupdate off'
cat /run/safeupdate/held/reboot-required
dpkg --purge safeupdate
"""


@pytest.mark.machines
@pytest.mark.parametrize("name", RELEASES)
def test_in_a_chroot_the_machine_around_it_is_left_alone(name: str, deb: bytes, newer: bytes) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can lay a tree upon another")
    with built.tree(name) as place, built.chroot(place):
        files = {"/opt/safeupdate.deb": deb, "/opt/newer.deb": newer, "/opt/held": HELD}
        # As if the machine's own /run were mounted there.
        around = {"/run/safeupdate/held/reboot-required": b"please\n", "/run/safeupdate/gate.json": b"{}"}
        built.write(place, {**files, **around})
        os.makedirs(f"{place}/run/systemd/system", exist_ok=True)

        def chrooted(script: str) -> str:
            environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"}
            command = ["chroot", place, "sh", "-ec", script]
            done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600, check=False)
            assert done.returncode == 0, done.stderr
            return done.stdout

        before = chrooted(TRACES)
        chrooted(SCRIPT)
        assert chrooted(TRACES).splitlines() == before.splitlines()
        for path, data in around.items():
            assert Path(place + path).read_bytes() == data
