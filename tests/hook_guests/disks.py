"""The disk that a story's machine gets its packages from, as the guests have no network: made once, on the host, below
the machine's own tree, which is changed in a layer of its own.

    base/    what a story installs before it begins: unattended-upgrades, dnf, all that they need
    kernel/  a kernel that the machine lacks
    newer/   the same kernel, as an update of its package brings it
    later/   the updates that bring the kernel and its headers: packages of ours, whose first versions are in base/
    rpm/     the same kernel, packed by rpmbuild(8)
    next/    the next release of Debian, for all that the machine has

Each directory is a repository of apt's, rpm/ one of dnf's, and what apt knows of them is `[trusted=yes]`.
"""

from __future__ import annotations

import glob
import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace

import machines
from machines.build import cache
from machines.namespace import mount, private_mounts
from safeupdate.rehearsal.hardware import Disk, Hardware
from tests.lab.programs import LabError, run

META = "kernel-of-ours"
"""A package that an update makes depend on the kernel, as linux-image-amd64 is."""

HEADERS = "kernel-of-ours-headers"
"""The same for its headers, on the disks that have them."""

_VERSION = 3
"""To be raised where the code below makes another disk of the same texts."""

_SECONDS = 3600


@dataclass(frozen=True)
class Shelf:
    """What is on the disk for one tree of machines/. `next_suite` is the release after it."""

    tree: str
    packages: tuple[str, ...]
    headers: str = ""
    rpm: bool = False
    next_suite: str = ""


_HEADERS = "linux-headers-cloud-amd64"

SHELVES = {
    "debian12": Shelf("debian12-dkms", ("unattended-upgrades",)),
    "debian13": Shelf("debian13-dkms", ("unattended-upgrades", "dnf", "createrepo-c", "rpm"), rpm=True),
    "testing": Shelf("testing-dracut", ("dnf5", "createrepo-c", "rpm"), rpm=True),
    "upgrade": Shelf("debian12-dkms", (), next_suite="trixie"),
    "story-debian12": Shelf("debian12-dkms", ("unattended-upgrades", _HEADERS), _HEADERS),
    "story-debian13": Shelf("debian13-dkms", ("unattended-upgrades", _HEADERS), _HEADERS),
}

_PROGRAM_NEEDS = "python3 python3-cryptography python3-pefile python3-rich python3-zstandard"
"""What a base machine of the lab has besides (tests/lab/build.py), and what is upgraded with it."""

_FETCH = """
set -e
tree=$1 next=$2
shift 2
mount -t proc proc "$tree/proc"
mount -t tmpfs tmpfs "$tree/dev"
for device in null:3 zero:5 random:8 urandom:9; do mknod -m 666 "$tree/dev/${device%:*}" c 1 "${device#*:}"; done
cp /etc/resolv.conf "$tree/etc/resolv.conf"
cp /etc/apt/apt.conf.d/*proxy* "$tree/etc/apt/apt.conf.d/" 2> /dev/null || true
apt() { chroot "$tree" apt-get -q --yes --no-install-recommends -o Acquire::Retries=3 "$@"; }
apt update
depends=$(chroot "$tree" apt-cache depends linux-image-cloud-amd64)
kernel=$(echo "$depends" | sed -n 's/.*Depends: \\(linux-image-[0-9].*\\)/\\1/p')
if [ -n "$next" ]; then
	apt install PROGRAM_NEEDS
	apt clean
	cat "$tree/etc/apt/sources.list"
	sed -i "s/bookworm/$next/g" "$tree/etc/apt/sources.list"
	apt update
	apt --download-only full-upgrade
	mkdir "$tree/next"
	mv "$tree"/var/cache/apt/archives/*.deb "$tree/next"
	exit
fi
mkdir "$tree/kernel" "$tree/base"
apt --download-only install PROGRAM_NEEDS "$@"
mv "$tree"/var/cache/apt/archives/*.deb "$tree/base"
if [ -d "$tree/lib/modules/${kernel#linux-image-}" ]; then
	# testing's tree has it; its base machine of the lab has not.
	apt --reinstall --download-only install "$kernel"
else
	apt --download-only install "$kernel"
fi
mv "$tree"/var/cache/apt/archives/linux-image-*.deb "$tree/kernel"
echo "$kernel" > "$tree/kernel/name"
""".replace("PROGRAM_NEEDS", _PROGRAM_NEEDS)


def disk(name: str) -> str:
    """The image of this shelf, an ext4 file system without partitions, made first where it is missing. Raises
    `LabError`."""
    shelf = SHELVES[name]
    tree = machines.root(shelf.tree)
    made_of = (shelf, os.path.basename(tree), _FETCH, _SPEC, _SCRIPTS, _VERSION)
    digest = hashlib.sha256(repr(made_of).encode()).hexdigest()[:12]
    directory = os.path.join(cache(), "hooks")
    os.makedirs(directory, exist_ok=True)
    image = os.path.join(directory, f"{name}-{digest}.img")
    if not os.path.exists(image):
        for old in glob.glob(f"{directory}/{name}-{'[0-9a-f]' * 12}.img"):
            os.unlink(old)
        print(f"hooks: making {image}", flush=True)
        with tempfile.TemporaryDirectory(prefix="disk.", dir=directory) as work:
            _make(shelf, tree, work, f"{image}.new")
        os.rename(f"{image}.new", image)
    return image


def added(hardware: Hardware, name: str) -> Hardware:
    """A machine with that disk beside its own, as it is at each start."""
    return replace(hardware, disks=(*hardware.disks, Disk(disk(name), "raw", forget=True)))


def _make(shelf: Shelf, tree: str, work: str, image: str) -> None:
    if not private_mounts():
        raise LabError("disks are made by root, in a mount namespace of its own")
    top, upper, shelves = (os.path.join(work, name) for name in ("top", "upper", "shelves"))
    for directory in (top, upper, shelves, os.path.join(work, "work")):
        os.mkdir(directory)
    if not mount("overlay", top, f"lowerdir={tree},upperdir={upper},workdir={work}/work"):
        raise LabError("no overlay could be mounted")
    try:
        words = ("sh", "-c", _FETCH, "fetch", top, shelf.next_suite, *shelf.packages)
        run(*words, timeout=_SECONDS, environment={"DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C"})
    finally:
        for below in ("/proc", "/dev", ""):
            subprocess.run(["umount", "--lazy", top + below], timeout=60, capture_output=True, check=False)
    for name in ("base", "kernel", "next"):
        if os.path.isdir(f"{upper}/{name}"):
            os.rename(f"{upper}/{name}", f"{shelves}/{name}")
    if os.path.isdir(f"{shelves}/kernel"):
        _kernels(shelves, work, tree, shelf)
    for name in os.listdir(shelves):
        if name != "rpm":
            _index(f"{shelves}/{name}")
    used = int(run("du", "-sm", shelves).split()[0])
    run(
        "mke2fs",
        "-q",
        "-t",
        "ext4",
        "-d",
        shelves,
        "-L",
        "packages",
        image,
        f"{used + used // 5 + 64}M",
        timeout=_SECONDS,
    )


def _kernels(shelves: str, work: str, tree: str, shelf: Shelf) -> None:
    with open(f"{shelves}/kernel/name", encoding="utf-8") as file:
        kernel = file.read().strip()
    (packed,) = glob.glob(f"{shelves}/kernel/{kernel}_*.deb")
    unpacked = os.path.join(work, "kernel")
    run("dpkg-deb", "--raw-extract", packed, unpacked, timeout=_SECONDS)
    control = f"{unpacked}/DEBIAN/control"
    with open(control, encoding="utf-8") as file:
        text = file.read()
    for directory in ("newer", "later"):
        os.mkdir(f"{shelves}/{directory}")
    version = next(line.partition(": ")[2] for line in text.splitlines() if line.startswith("Version: "))
    with open(control, "w", encoding="utf-8") as file:
        file.write(text.replace(f"Version: {version}\n", f"Version: {version}+update1\n"))
    _pack(unpacked, f"{shelves}/newer")
    shutil.rmtree(f"{unpacked}/DEBIAN")
    for name, what in ((META, kernel), (HEADERS, shelf.headers)):
        for number, directory in enumerate(("base", "later") if what else (), start=1):
            meta = os.path.join(work, f"{name}-{number}")
            os.makedirs(f"{meta}/DEBIAN")
            depends = f"Depends: {what}\n" if directory == "later" else ""
            with open(f"{meta}/DEBIAN/control", "w", encoding="utf-8") as file:
                file.write(
                    f"Package: {name}\nVersion: {number}\nArchitecture: all\nMaintainer: nobody <a@b>\n{depends}"
                    "Description: brings a kernel\n"
                )
            _pack(meta, f"{shelves}/{directory}")
    if shelf.rpm:
        release = kernel.partition("linux-image-")[2]
        # From Debian 14 on the package has no files, and depends on others that have them.
        _rpms(release, tree if os.path.isdir(f"{tree}/usr/lib/modules/{release}") else unpacked, work, f"{shelves}/rpm")


def _pack(directory: str, target: str) -> None:
    run("dpkg-deb", "--root-owner-group", "-Zgzip", "-z1", "--build", directory, target, timeout=_SECONDS)


def _index(directory: str) -> None:
    """A flat repository, of an origin that unattended-upgrades is told of."""
    entries = []
    for path in sorted(glob.glob(f"{directory}/*.deb")):
        with open(path, "rb") as file:
            digest = hashlib.sha256(file.read()).hexdigest()
        control = run("dpkg-deb", "--field", path).strip()
        entries.append(
            f"{control}\nFilename: ./{os.path.basename(path)}\nSize: {os.path.getsize(path)}\nSHA256: {digest}\n"
        )
    packages = "\n".join(entries).encode()
    with open(f"{directory}/Packages", "wb") as file:
        file.write(packages)
    listed = f"{hashlib.sha256(packages).hexdigest()} {len(packages)} Packages"
    with open(f"{directory}/Release", "w", encoding="utf-8") as file:
        file.write(f"Origin: ours\nLabel: ours\nSHA256:\n {listed}\n")


_SPEC = """
Name: kernel-core
Version: {version}
Release: {release}
Summary: A kernel of Debian's, packed by rpm
License: GPL-2.0-only
BuildArch: x86_64
AutoReqProv: no
Provides: installonlypkg(kernel)
%description
%install
mkdir -p %{{buildroot}}
{fill}
{scripts}
%files
{files}
"""

_SCRIPTS = """
%posttrans -p <lua>
os.execute("/usr/local/sbin/kernel-came {release}")
%postun -p <lua>
os.execute("/usr/local/sbin/kernel-went {release}")
"""
"""In Lua: a shell would be asked for, which no package of rpm's provides on these machines."""


def _rpms(release: str, unpacked: str, work: str, target: str) -> None:
    """In versions: those that have nothing in them, the kernel, and one that fails."""
    modules = f"/usr/lib/modules/{release}"
    source = (
        f"{unpacked}/usr/lib/modules" if os.path.isdir(f"{unpacked}/usr/lib/modules") else f"{unpacked}/lib/modules"
    )
    fill = "mkdir -p %{buildroot}/usr/lib/modules %{buildroot}/boot; "
    fill += f"cp -a {source}/{release} %{{buildroot}}/usr/lib/modules/; "
    fill += f"cp -a {unpacked}/boot/config-{release} {unpacked}/boot/vmlinuz-{release} %{{buildroot}}/boot/"
    mark = "mkdir -p %{buildroot}/usr/share/doc; touch %{buildroot}/usr/share/doc/kernel-core-"
    version = release.partition("-")[0].partition("+")[0]
    scripts = _SCRIPTS.format(release=release)
    empty = [(one, f"{mark}{one}", "", f"/usr/share/doc/kernel-core-{one}") for one in ("0.1", "97", "98")]
    for number, (numbered, does, what, files) in enumerate(
        (
            *empty,
            (version, fill, scripts, f"/boot/config-{release}\n/boot/vmlinuz-{release}\n{modules}"),
            ("99", f"{mark}99", "%pre -p <lua>\nerror('it fails')\n", "/usr/share/doc/kernel-core-99"),
        )
    ):
        spec = os.path.join(work, f"{number}.spec")
        with open(spec, "w", encoding="utf-8") as file:
            file.write(_SPEC.format(version=numbered, release=1, fill=does, scripts=what, files=files))
        defines: Sequence[str] = (f"--define=_topdir {work}/rpmbuild", "--define=_binary_payload w1.gzdio")
        defines = (*defines, "--define=__os_install_post %{nil}", "--define=debug_package %{nil}")
        run("rpmbuild", "-bb", "--quiet", *defines, spec, timeout=_SECONDS)
    os.mkdir(target)
    for path in glob.glob(f"{work}/rpmbuild/RPMS/*/*.rpm"):
        shutil.move(path, target)
