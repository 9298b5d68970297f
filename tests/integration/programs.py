"""Programs of a machine that run below its tree, and packages for them to install."""

from __future__ import annotations

import hashlib
import io
import lzma
import os
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

ENVIRONMENT = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}


def newest(tree: str) -> str:
    """The release that boots next: the highest number."""
    names = [name[len("vmlinuz-") :] for name in os.listdir(f"{tree}/boot") if name.startswith("vmlinuz-")]
    return max(names)


def other_signature(module: bytearray, *, packed: bool) -> bytearray:
    """The same module, as a build with another key leaves it: a bit of its signature differs."""
    plain = bytearray(lzma.decompress(module)) if packed else module
    plain[-60] ^= 1
    return bytearray(lzma.compress(plain, check=lzma.CHECK_CRC32, preset=0)) if packed else plain


def next_build(tree: str, name: str) -> str:
    """The next build of an installed kernel package, with its own scripts and other signatures in some modules.

    Returns where it is, as the machine has it.
    """
    info = f"{tree}/var/lib/dpkg/info/{name}"
    sums, data = [], io.BytesIO()
    path = "/var/cache/next-build.deb"
    with (
        open(f"{tree}{path}.data", "wb") as file,
        tarfile.open(fileobj=file, mode="w", format=tarfile.GNU_FORMAT) as archive,
    ):
        for line in Path(f"{info}.list").read_text(encoding="utf-8").splitlines():
            place = f"{tree}{line}"
            if line.startswith(("/usr/share", "/.")) or not os.path.lexists(place):
                continue
            member = archive.gettarinfo(place, f".{line}")
            if not member.isreg():
                archive.addfile(member)
                continue
            content = bytearray(Path(place).read_bytes())
            if "/kernel/arch/" in line:
                content = other_signature(content, packed=line.endswith(".xz"))
            member.type, member.linkname = tarfile.REGTYPE, ""
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
            sums.append(f"{hashlib.md5(content).hexdigest()}  {line[1:]}\n")
    with tarfile.open(fileobj=data, mode="w", format=tarfile.GNU_FORMAT) as archive:
        texts = {"control": control(tree, name), "md5sums": "".join(sums)}
        for script in ("preinst", "postinst", "prerm", "postrm"):
            if os.path.exists(f"{info}.{script}"):
                texts[script] = Path(f"{info}.{script}").read_text(encoding="utf-8")
        for kind, text in texts.items():
            member = tarfile.TarInfo(f"./{kind}")
            member.mode, member.size = 0o755, len(text.encode())
            archive.addfile(member, io.BytesIO(text.encode()))
    with open(f"{tree}{path}", "wb") as package:
        package.write(b"!<arch>\n")
        for entry, size in (
            ("debian-binary", 4),
            ("control.tar", len(data.getvalue())),
            ("data.tar", os.path.getsize(f"{tree}{path}.data")),
        ):
            package.write(f"{entry:<16}{0:<12}{0:<6}{0:<6}{100644:<8}{size:<10}`\n".encode())
            if entry == "data.tar":
                with open(f"{tree}{path}.data", "rb") as unpacked:
                    shutil.copyfileobj(unpacked, package, 1 << 20)
            else:
                package.write(b"2.0\n" if entry == "debian-binary" else data.getvalue())
            package.write(b"\n" * (size % 2))
    os.unlink(f"{tree}{path}.data")
    return path


def control(tree: str, name: str) -> str:
    """The package's stanza in dpkg's status, without what dpkg added, and with a later version."""
    stanzas = Path(f"{tree}/var/lib/dpkg/status").read_text(encoding="utf-8").split("\n\n")
    stanza = next(text for text in stanzas if text.startswith(f"Package: {name}\n"))
    lines = [line for line in stanza.splitlines() if not line.startswith(("Status:", "Conffiles:"))]
    return "\n".join(f"{line}+next" if line.startswith("Version:") else line for line in lines) + "\n"


@contextmanager
def programs(tree: str) -> Iterator[None]:
    """What the machine's programs need of a system to run below it; checks must not see it."""
    with ExitStack() as mounts:
        for where, kind in (("dev", "tmpfs"), ("proc", "proc")):
            done = subprocess.run(["mount", "-t", kind, kind, f"{tree}/{where}"], timeout=60, capture_output=True)
            assert done.returncode == 0, done.stderr
            mounts.callback(subprocess.run, ["umount", "--lazy", f"{tree}/{where}"], timeout=60, check=True)
        for name, minor in {"null": 3, "zero": 5, "urandom": 9}.items():
            os.mknod(f"{tree}/dev/{name}", 0o20666, os.makedev(1, minor))
        os.symlink("/proc/self/fd", f"{tree}/dev/fd")
        yield
