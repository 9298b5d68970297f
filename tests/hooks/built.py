"""Small packages, and trees of machines with a package manager in them that they lack."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

import machines
from machines.build import BuildError, cache, path
from machines.namespace import mount, private_mounts, ran
from machines.recipes import RECIPES

TOP = Path(__file__).parents[2]

RELEASE = "9.9.9-1-amd64"

_SECONDS = 900
"""To fetch and install what is missing, on a slow machine."""

_INSTALL = """
set -e
mount -t proc proc "$1/proc"
mount -t tmpfs tmpfs "$1/dev"
for device in null:3 zero:5 random:8 urandom:9; do mknod -m 666 "$1/dev/${device%:*}" c 1 "${device#*:}"; done
cp /etc/resolv.conf "$1/etc/resolv.conf"
cp /etc/apt/apt.conf.d/*proxy* "$1/etc/apt/apt.conf.d/" 2> /dev/null || true
tree=$1
shift
chroot "$tree" apt-get -q update
chroot "$tree" apt-get -qy install --no-install-recommends "$@"
chroot "$tree" apt-get clean
rm -rf "$tree/var/lib/apt/lists/"*
"""


def file(name: str) -> bytes:
    """A file of ours."""
    return (TOP / name).read_bytes()


def deb(
    name: str, *, version: int = 1, files: Mapping[str, str] | None = None, postinst: str = "", postrm: str = ""
) -> bytes:
    """A Debian package with these files and scripts."""
    with tempfile.TemporaryDirectory() as directory:
        os.chmod(directory, 0o755)
        control = (
            f"Package: {name}\nVersion: {version}\nArchitecture: all\nMaintainer: nobody <a@b>\nDescription: a test\n"
        )
        for place, text in {"/DEBIAN/control": control, **(files or {})}.items():
            os.makedirs(os.path.dirname(directory + place), exist_ok=True)
            Path(directory + place).write_text(text, encoding="utf-8")
        for script, text in (("postinst", postinst), ("postrm", postrm)):
            if text:
                Path(f"{directory}/DEBIAN/{script}").write_text(f"#!/bin/sh\nset -e\n{text}", encoding="utf-8")
                os.chmod(f"{directory}/DEBIAN/{script}", 0o755)
        with tempfile.NamedTemporaryFile(suffix=".deb") as made:
            command = ["dpkg-deb", "--root-owner-group", "-Znone", "--build", directory, made.name]
            subprocess.run(command, timeout=60, check=True, capture_output=True)
            return Path(made.name).read_bytes()


def kernel_deb(version: int = 1) -> bytes:
    """A package as a Debian kernel's, which runs the hooks of /etc/kernel, the first of which asks for a reboot."""
    run = f"run-parts --arg={RELEASE} --arg=/boot/vmlinuz-{RELEASE} /etc/kernel"
    return deb(
        f"linux-image-{RELEASE}",
        version=version,
        files={f"/boot/vmlinuz-{RELEASE}": "an image\n", f"/lib/modules/{RELEASE}/modules.dep": ""},
        postinst=f"touch /run/reboot-required\necho linux-image >> /run/reboot-required.pkgs\n{run}/ours/postinst.d\n",
        postrm=f"{run}/ours/postrm.d\n",
    )


def program() -> dict[str, bytes]:
    """safeupdate itself, as a package installs it on Debian, with the hook."""
    files = {
        f"/usr/lib/python3/dist-packages/{path.relative_to(TOP)}": path.read_bytes()
        for path in TOP.glob("safeupdate/**/*")
        if path.suffix in (".py", ".txt", ".json")
    }
    return {**files, "/usr/bin/safeupdate": _PROGRAM, "/usr/libexec/safeupdate/hook": file("plugins/hook")}


_PROGRAM = b"#!/usr/bin/python3\nimport sys\nfrom safeupdate.cli import main\nsys.exit(main())\n"

ALONE = ("unshare", "--pid", "--mount", "--fork", "--kill-child", "chroot")
"""Starts a program as process 1 of a tree, which so is no chroot of another machine's; it is to mount /proc itself."""


def write(tree: str, files: Mapping[str, bytes]) -> None:
    """Write these files below a tree, scripts so that they can be run."""
    for place, data in files.items():
        target = Path(tree + place)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
        target.chmod(0o755 if data.startswith(b"#!") else 0o644)


DKMS = {
    "/usr/src/v4l2loopback-0.12.7/dkms.conf": b"""\
PACKAGE_NAME="v4l2loopback"
PACKAGE_VERSION="0.12.7"
BUILT_MODULE_NAME[0]="v4l2loopback"
DEST_MODULE_LOCATION[0]="/extra"
AUTOINSTALL="yes"
"""
}

BUILT = """
version=/var/lib/dkms/v4l2loopback/0.12.7
mkdir -p $version/$(uname -r)/x86_64/module
ln -s /usr/src/v4l2loopback-0.12.7 $version/source
ln -s 0.12.7/$(uname -r)/x86_64 /var/lib/dkms/v4l2loopback/kernel-$(uname -r)-x86_64
"""
"""For the shell: dkms has built that for the kernel that is running."""


STUB = b"""#!/bin/sh
echo "$*" >> /run/noted
case $2 in *-pre) cat >> /run/told ;; esac
if [ -e /run/slow ]; then exec sleep 60; fi
exit "$(cat /run/code 2> /dev/null || echo 0)"
"""
"""In safeupdate's place: it notes what it is called for, and what it is told."""


_SPEC = """
Name: {name}
Version: 1
Release: {build}
Summary: A test
License: GPL-2.0-or-later
BuildArch: noarch
AutoReqProv: no
{provides}
%description
%install
mkdir -p %{{buildroot}}{place}
echo an image > %{{buildroot}}{place}/{name}-1-{build}.noarch
{pre}
%files
{place}/{name}-1-{build}.noarch
"""


def rpms(directory: Path) -> dict[str, bytes]:
    """A repository's packages: kernel-core in four builds, of which the last fails in its %pre, the headers of the
    first, and one more."""
    if shutil.which("rpmbuild") is None:
        pytest.skip("rpmbuild is not installed")
    for name, build in (*(("kernel-core", number) for number in range(1, 5)), ("kernel-devel", 1), ("harmless", 1)):
        fails = "%pre -p <lua>\nerror('it fails')"  # a shell would be asked for, which nothing provides here
        place = "/boot" if name == "kernel-core" else "/usr/share"
        provides = "Provides: installonlypkg(kernel)" if name.startswith("kernel") else ""
        spec = directory / f"{name}-{build}.spec"
        text = _SPEC.format(name=name, build=build, place=place, provides=provides, pre=fails if build == 4 else "")
        spec.write_text(text, encoding="utf-8")
        command = ["rpmbuild", "-bb", "--quiet", f"--define=_topdir {directory}", str(spec)]
        subprocess.run(command, timeout=120, check=True, capture_output=True)
    return {f"/opt/repository/{one.name}": one.read_bytes() for one in directory.glob("RPMS/noarch/*.rpm")}


REPOSITORY = b"[local]\nname=local\nbaseurl=file:///opt/repository\nenabled=1\ngpgcheck=0\n"


_NEEDED = ("python3-apt", "python3-cryptography", "python3-pefile", "python3-rich")

PACKAGES = {
    "debian12": _NEEDED,
    "debian13": ("dnf", "createrepo-c", "rpm", "unattended-upgrades", *_NEEDED),
    "testing-dracut": ("dnf5", "createrepo-c", "python3-libdnf5", "rpm"),
}
"""What the machines get besides: a package manager, and what safeupdate itself needs."""


@contextlib.contextmanager
def tree(name: str) -> Iterator[str]:
    """The tree of a machine with these packages too, to be changed in memory; this process and its children see it.

    They are fetched once. Skips the test where they cannot be.
    """
    packages = PACKAGES[name]
    if not private_mounts():
        pytest.skip("this process may make no mounts of its own")
    if RECIPES[name].moving and not os.path.isdir(path(name)):
        pytest.skip(f"{name} is built for the lab only")
    try:
        base = machines.root(name)
    except BuildError as error:
        pytest.skip(str(error))
    digest = hashlib.sha256(repr((base, packages)).encode()).hexdigest()[:12]
    layer = os.path.join(cache(), "hooks", f"{name}-{digest}")
    with tempfile.TemporaryDirectory(prefix="safeupdate-hooks.") as place:
        if not os.path.isdir(layer):
            _install(base, layer, place, packages)
        assert mount("tmpfs", place, "mode=0755")
        for directory in ("upper", "work"):
            os.mkdir(f"{place}/{directory}", 0o755)
        assert mount("overlay", place, f"lowerdir={layer}:{base},upperdir={place}/upper,workdir={place}/work")
        try:
            yield place
        finally:
            for _ in ("the overlay", "and what it keeps its changes in"):
                ran("umount", "--lazy", place)


@contextlib.contextmanager
def chroot(place: str) -> Iterator[None]:
    """What programs need to run below a tree."""
    assert mount("proc", f"{place}/proc", "ro")
    assert mount("tmpfs", f"{place}/dev", "mode=0755")
    try:
        for name, minor in (("null", 3), ("zero", 5), ("random", 8), ("urandom", 9)):
            os.mknod(f"{place}/dev/{name}", 0o20666, os.makedev(1, minor))
        yield
    finally:
        for below in ("/dev", "/proc"):
            ran("umount", "--lazy", place + below)


def _install(base: str, layer: str, place: str, packages: tuple[str, ...]) -> None:
    """Beside the layer, and then in its place whole."""
    new, work = f"{layer}.new", f"{layer}.work"
    for directory in (new, work):
        shutil.rmtree(directory, ignore_errors=True)
        os.makedirs(directory)
    assert mount("overlay", place, f"lowerdir={base},upperdir={new},workdir={work}")
    try:
        done = subprocess.run(
            ["sh", "-c", _INSTALL, "install", place, *packages],
            env={**os.environ, "DEBIAN_FRONTEND": "noninteractive", "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
            capture_output=True,
            timeout=_SECONDS,
            check=False,
        )
    finally:
        for below in ("/dev", "/proc", ""):
            ran("umount", "--lazy", place + below)
    shutil.rmtree(work, ignore_errors=True)
    if done.returncode:
        shutil.rmtree(new, ignore_errors=True)
        pytest.skip(f"{', '.join(packages)} cannot be installed: {done.stderr.decode(errors='replace')[-200:]}")
    os.rename(new, layer)
