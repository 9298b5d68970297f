"""What fuzzing starts from: files of real machines, cut down, and small ones made byte by byte."""

from __future__ import annotations

import lzma
import struct
import tarfile
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from safeupdate import config
from safeupdate.ledger import schema
from tests.fuzz.targets import LIMIT, WORLDS, member
from tests.unit import efi, elves, initrd, layouts, signed_efi, signing
from tests.unit.test_efi_signatures import SHA256, X509, siglist
from tests.unit.test_ledger_reading import BOOT, CHECK, ledger
from tests.unit.test_luks import LUKS1, LUKS2
from tests.unit.test_module_symbols import ko, vmlinux
from tests.unit.trees import dep_index, index, x86_image

DATA = Path(__file__).parents[1] / "data"
ZSTD = bytes.fromhex("28b52ffd2004210000303730373031ab57e6a3")

_DKMS_SETS = b"""PACKAGE_NAME="a"
PACKAGE_VERSION=1 # b
MAKE="make -C ${kernel_source_dir} \\"c\\""
BUILT_MODULE_NAME=(a b)
BUILT_MODULE_NAME+=(c)
i=0
DEST_MODULE_LOCATION[$i]=/extra
i=$((i+1))
AUTOINSTALL=yes
"""
_DKMS_ASKS = b"""if [ -f $kernel_source_dir/.config ]; then
    . $kernel_source_dir/.config
    if [ "${CONFIG_A:-n}" = "n" ]; then
        BUILD_EXCLUSIVE_KERNEL="NO A"
    fi
fi
[[ $kernelver =~ ^6 ]] && BUILD_EXCLUSIVE_ARCH=x86 || true
"""
_DKMS_HIDES = b"""case $arch in
x86*|i?86) A=1;;
*) A=`b`;;
esac
for i in a b; do
C=$(d "$i")
done
f() { g; }
%
f
"""

Seeds = dict[str, list[bytes]]


def made() -> Seeds:
    """Those that need no machine: for every target at least one that its parser takes."""
    seeds: Seeds = defaultdict(list)
    release = "6.1.0-50-amd64"
    files: dict[str, initrd.Content] = {
        "init": b"#!/bin/sh\n",
        "bin/sh": elves.program(needed=("libc.so.6",), interpreter="/lib/ld.so"),
        "lib/libc.so.6": elves.program(soname="libc.so.6", interpreter=None, needed=()),
        "lib/ld.so": "libc.so.6",
        f"usr/lib/modules/{release}/a.ko": layouts.module("a", release),
        f"usr/lib/modules/{release}/modules.dep": b"a.ko:\n",
        "etc/fstab": b"UUID=1 / ext4 defaults 0 1\n",
        "lib/modules": "../usr/lib/modules",
    }
    image = initrd.archive(files)
    seeds["initramfs"] += [image, image + initrd.compress("gzip", image)]
    seeds["initramfs-packed"] += [bytes([kind]) + image for kind in range(6)]
    kinds = {bytes: 0, str: 2, type(None): 3}
    parts = [
        member(kinds[type(content)], path.encode(), content.encode() if isinstance(content, str) else content or b"")
        for path, content in {"lib": None, "bin": None, "etc": None, **files}.items()
    ]
    seeds["initramfs-members"] += [b"".join(parts), *parts]
    seeds["compression"] += [initrd.compress(kind, image[:600]) for kind in ("gzip", "bzip2", "lzma", "xz")]
    seeds["compression"] += [ZSTD, b"\x02\x21\x4c\x18" + b"\2\0\0\0ab" * 3, b"\x89LZO\0\r\n\x1a\n" + bytes(60)]
    seeds["uki"] += [
        efi.uki(),
        efi.uki(more=[(".profile", b"ID=a\n"), (".cmdline", b"quiet"), (".profile", b"ID=b\n")]),
    ]
    seeds["authenticode"] += [layouts.unified(release, "quiet"), efi.pe([(".text", b"x")])]
    seeds["bzimage"] += [x86_image(), layouts.arm_image()[:4096], elves.program()]
    seeds["elf"] += [elves.program(), elves.program(32, ">", 20, runpath="$ORIGIN/a", rpath="/b:/c", soname="d")]
    dlopen = b'[{"soname":["libx.so.1"],"feature":"x","priority":"required"}]\0'
    seeds["elf"] += [elves.program(notes=elves.note("<", b"FDO\0", 0x407C0C0A, dlopen))]
    seeds["elf-module"] += [layouts.module("a", release)]
    seeds["efi-variable"] += [
        content
        for content in efi.variables(
            order=[1, 2], current=1, options={1: efi.option("\\EFI\\a.efi")}, loader={"LoaderInfo": "systemd-boot 257"}
        ).values()
        if isinstance(content, bytes)
    ]
    seeds["efi-program"] += [
        WORLDS["efi-program"].record("/a.efi", data)
        for data in (efi.grub("/EFI/debian"), efi.grub("/boot/grub", "1-2"), efi.shim(), efi.systemd_boot(), efi.uki())
    ]
    signed = [signing.key("a"), signing.key("b", kind="ec", authority=True, usages=("1.2.3.4",))]
    seeds["certificate"] += [one.certificate for one in signed]
    for by_key_id in (False, True):
        certificates = [one.certificate for one in signed]
        seeds["cms"].append(
            signing.signature(b"a", *signed, by_key_id=by_key_id, certificates=certificates, attributes=by_key_id)
        )
    seeds["efi-signatures"].append(siglist(X509, signed[0].certificate) + siglist(SHA256, bytes(32), bytes(32)))
    seeds["module-signature"].append(signing.module(b"a", signed[0]))
    seeds["authenticode"].append(_signed_image(seeds["cms"][1]))
    seeds["module-file"].append(signing.module(layouts.module("a", release), signed[0]))
    seeds["sbat"].append(b"sbat,1,SBAT,sbat,1,https://a\ngrub,3,FSF,grub,2.06,https://b\n%sbat,1,2024010100\ngrub,4\n")
    seeds["shim"] += [
        struct.pack("<IIII", len(one := signed[0].certificate), 0, 16, 16 + len(one)) + one,
        struct.pack("<III", 0, 8, 20) + b"sbat,1,1\n\0\0\0sbat,1,2\n\0",
    ]
    _signatures(seeds, signed)
    seeds["dkms-conf"] += [_DKMS_SETS, _DKMS_ASKS, _DKMS_HIDES]
    seeds["extended-regex"].append(b"^((5\\.[0-5]($|[.-]))|(4\\.)|(3\\.1[[:digit:]]{1,2}))\n5.4.0-1-amd64")
    seeds["make-log"].append(
        b"DKMS (dkms-3.2.2) make.log for a/1 for kernel 6.1.0-50-amd64 (x86_64)\nMon Nov 23 07:00:00 UTC 2026\n"
        b"a.c:3:4: error: too few arguments\nmake[1]: *** [a.o] Error 1\n\n# exit code: 2\n# elapsed time: 00:00:01\n"
    )
    seeds["dpkg-status"].append(
        b"Package: linux-image-a\nStatus: install ok half-configured\nArchitecture: amd64\nVersion: 1.2-3\n"
        b"Triggers-Pending: a b\nConffiles:\n /etc/a 0123\nDescription: a\n b\n"
    )
    seeds["config"].append(WORLDS["config"].record(config.MAIN, _CONFIG))
    seeds["ledger"].append(WORLDS["ledger"].record(schema.PATH, _ledger()))
    seeds["depmod-conf"].append(
        b"# a\nsearch updates \\\n extra built-in\noverride a ^6[.]1 b\nexternal * /a\nexclude b\n"
    )
    seeds["module-symbols"] += [
        ko(versions={"a": 1}, extended={"b": 2}, exports={"c": 3, "d": None}, undefined=["a", "b"], weak=["e"]),
        ko(exports={"c": 3}, checksums="constants", bits=32, order=">"),
        *(vmlinux({"a": 1, "b": 2}, layout=layout, relative=True) for layout in ("distances", "pointers")),
    ]
    seeds["symvers"].append(b"0x4c9d28b0\ta\tvmlinux\tEXPORT_SYMBOL\t\n0x00000000\tb\tfs/c\tEXPORT_SYMBOL_GPL\tNS\n")
    seeds["unpacked"] += [initrd.compress(kind, image[:600]) for kind in ("gzip", "xz")] + [x86_image()]
    seeds["modules-index"] += [index(), dep_index({"a/b.ko": (), "a/c.ko.xz": ("a/b.ko",)})]
    seeds["modules-dep"] += [b"a/b.ko:\na/c.ko.xz: a/b.ko\n"]
    seeds["modules-builtin"] += [b"kernel/a-b.ko\nkernel/c.ko\n"]
    seeds["capture-manifest"] += [b'{"format": 1, "left_out": ["/a"], "unreadable": ["/b"]}']
    seeds["cmdline"] += [b'root=UUID=1 ro quiet dyndbg="file a.c +p" "b=c d"']
    seeds["crypttab"] += [
        b"vda2_crypt UUID=1 none luks,discard\n# c\nswap\\040a /dev/vda3 /dev/urandom swap,cipher=a\n"
    ]
    seeds["dm-table"] += [b"vda2_crypt: 0 39809024 crypt aes-xts-plain64 :64:logon:a 0 254:2 32768 1 allow_discards\n"]
    seeds["luks"] += [LUKS1, LUKS2.rstrip(b"\0")]
    seeds["fstab"] += [b'UUID=1 / ext4 defaults 0 1\n/dev/a\\040b /c none bind,x="a,b"\n# d\n/swap none swap sw 0 0\n']
    seeds["mountinfo"] += [
        b"22 1 8:2 / / rw,noatime shared:1 - ext4 /dev/sda2 rw,a=b\n23 22 0:5 / /a\\040b rw - tmpfs t rw\n"
    ]
    seeds["grub-core"] += [_grub_core()]
    seeds["grubenv"] += [layouts.grubenv(saved_entry="a>b", next_entry="c\\\nd")]
    seeds["sysctl"].append(b"# a\nkernel.panic = 10\n-net/ipv4/a.b = 1\n")
    seeds["file-locks"].append(
        b"1: POSIX  ADVISORY  WRITE 712 fe:00:131 0 EOF\n1: -> FLOCK  ADVISORY  READ 9 00:1f:2 0 9\n"
    )
    seeds["kconfig"] += [b'CONFIG_A=y\n# CONFIG_B is not set\nCONFIG_C="x"\n']
    seeds["loader-conf"] += [b"timeout 3\ndefault arch-*.conf\neditor no\n", b"[a-c]*?x\\*\nbbx*", b"1\na+3-1.conf"]
    seeds["versions"] += [b"6.1.0~rc1-2+deb\n6.1.0-10", b"a-1.2-3\nb-1.2-4\na-1.2-3"]
    seeds["bls"] += [layouts.bls_entry("Fedora", release, "root=UUID=1 ro").encode()]
    seeds["search-path"] += [b"include ld.so.conf.d/*.conf\n/opt/lib\n%\n/usr/local/lib\n%\n/lib:/usr/lib\n"]
    for path in sorted((DATA / "grub").glob("*.cfg")):
        seeds["grub-cfg"].append(path.read_bytes())
        seeds["grub"].append(WORLDS["grub"].record("/boot/grub/grub.cfg", path.read_bytes()))
    for name, world in WORLDS.items():
        if name != "efi-program":
            # Small pieces of configuration first, so that what is mutated is not a kernel's zeros.
            seeds[name] += [world.record(path) for path, content in world.files if len(content) < 8192]
    return seeds


def _signatures(seeds: Seeds, keys: list[signing.Key]) -> None:
    """Kernels that hold these keys, programs that they have signed, and lists in which the firmware has them."""
    certificates = b"".join(one.certificate for one in keys)
    listed = signed_efi.entries(*keys)
    kernels, variables = WORLDS["kernel-keys"], WORLDS["firmware-keys"]
    plain = elves.program() + certificates
    # Behind the payload stands the length that it unpacks to; gzip's own end says the same.
    size = struct.pack("<I", len(plain))
    packed = [x86_image(payload=initrd.compress(kind, plain) + size) for kind in ("bzip2", "lzma", "xz")]
    packed.append(x86_image(payload=initrd.compress("gzip", plain)))
    seeds["kernel-keys"] += [kernels.record("/vmlinuz", image) for image in (plain, *packed)]
    seeds["kernel-keys"].append(kernels.record("/uki.efi", efi.pe([(".linux", packed[0])])))
    program = signed_efi.grub()
    denied = signed_efi.entries(bytes(32), kind="sha256") + signed_efi.entries(bytes(32), kind="x509-sha256")
    issued = signing.key("c", issuer=keys[0])
    digest = signed_efi.entries(signed_efi.digest(program), kind="sha256")
    seeds["image-signatures"] += [
        len(one).to_bytes(2, "big") + one + len(other).to_bytes(2, "big") + other + image
        for one, other in ((listed, denied), (denied, listed), (digest, b""), (b"", digest))
        for image in (
            program,
            signed_efi.sign(signed_efi.sign(program, keys[0]), keys[1], algorithm="sha512"),
            signed_efi.sign(program, issued, certificates=[issued.certificate, keys[0].certificate]),
            signed_efi.sign(program, keys[0], attributes=False),
        )
    ]
    seeds["firmware-keys"] += [variables.record(path, content + denied + listed) for path, content in variables.files]


_CONFIG = b"""
[ledger]
keep_days = 30
[checks.fallback]
skip = true
reason = "one kernel"
[findings."mounts.device-missing"]
level = "warning"
subjects = ["/srv/*"]
reason = "a"
"""


def _ledger() -> bytes:
    """The smallest ledger that has a row."""
    with tempfile.TemporaryDirectory() as directory:
        return ledger(Path(directory, "a"), BOOT, CHECK, "PRAGMA page_size=512", "VACUUM").read_bytes()


def _signed_image(signature: bytes) -> bytes:
    """An EFI program with a certificate table that holds this signature."""
    image = bytearray(efi.pe([(".text", b"x")]))
    table = struct.pack("<IHH", 8 + len(signature), 0x200, 2) + signature
    table += bytes(-len(table) % 8)
    struct.pack_into("<II", image, 0x80 + 24 + 112 + 32, len(image), len(table))
    return bytes(image + table)


def real() -> Iterator[tuple[str, bytes]]:
    """Target and input, from the root trees of machines/ and the captures in tests/data."""
    import machines

    for name in ("debian12", "debian13"):
        yield from _of_root(Path(machines.root(name)))
    for capture in sorted((DATA / "captures").glob("*.tar.xz")):
        with tarfile.open(capture) as archive:
            for info in archive:
                file = archive.extractfile(info) if info.isfile() and info.size <= LIMIT else None
                if file is not None:
                    yield from _of_capture("/" + info.name.lstrip("./"), file.read())


def _grub_core() -> bytes:
    """A core that lies behind a first sector, with three names in it."""
    unpacked = bytes(100) + b"\0grub_a\0grub_b\0grub_c\0"
    filters = [{"id": lzma.FILTER_LZMA1, "dict_size": 1 << 16, "lc": 3, "lp": 0, "pb": 2}]
    packed = lzma.compress(unpacked, lzma.FORMAT_RAW, filters=filters)
    lists = bytes(0x1F4) + struct.pack("<QHH", 2, 8, 0x820)
    return lists + bytes(8) + struct.pack("<4I", len(packed), len(unpacked), 0, 64) + b"code" * 20 + packed


_OF_A_CAPTURE = (
    ("/sys/firmware/efi/efivars/", "efi-variable"),
    ("/etc/fstab", "fstab"),
    ("/dmsetup-table", "dm-table"),
    ("/proc/self/mountinfo", "mountinfo"),
    ("/proc/cmdline", "cmdline"),
    ("/loader/loader.conf", "loader-conf"),
    ("/loader/entries/", "bls"),
    ("/grub.cfg", "grub-cfg"),
    ("/grubenv", "grubenv"),
    ("/safeupdate-capture.json", "capture-manifest"),
)


def _of_capture(path: str, data: bytes) -> Iterator[tuple[str, bytes]]:
    for place, target in _OF_A_CAPTURE:
        if place in path and data:
            yield target, data[:8192]
    if path.endswith("/grub.cfg"):
        yield "tree-debian", WORLDS["tree-debian"].record("/boot/grub/grub.cfg", data)


def _of_root(root: Path) -> Iterator[tuple[str, bytes]]:
    grub = (root / "boot/grub/grub.cfg").read_bytes()
    yield "grub-cfg", grub
    for name in ("grub", "tree-debian"):
        yield name, WORLDS[name].record("/boot/grub/grub.cfg", grub)
    yield "fstab", (root / "etc/fstab").read_bytes()
    yield "dpkg-status", _lines(root / "var/lib/dpkg/status", 4096)
    yield "search-path", _head(root / "etc/ld.so.cache", 4096)
    for path in sorted((root / "boot").glob("vmlinuz-*"))[:1]:
        yield "bzimage", _head(path, 4096)
        yield "authenticode", _head(path, 4096)
        yield "efi-program", WORLDS["efi-program"].record("/a.efi", _head(path, 4096))
    for path in sorted((root / "boot").glob("config-*"))[:1]:
        yield "kconfig", _lines(path, 4096)
    for path in sorted((root / "boot").glob("initrd.img-*")):
        head = _head(path, 4096)
        yield "initramfs", head
        yield "compression", head
    for directory in sorted((root / "usr/lib/modules").iterdir())[:1]:
        yield "modules-dep", _lines(directory / "modules.dep", 4096)
        yield "modules-builtin", _lines(directory / "modules.builtin", 2048)
        for path in sorted(directory.glob("modules.*.bin")):
            if path.stat().st_size <= LIMIT:
                yield "modules-index", path.read_bytes()
        found = sorted(directory.glob("kernel/**/*.ko"), key=lambda path: path.stat().st_size)
        for path in found[:5]:
            yield "elf-module", path.read_bytes()
    programs = [path for path in (root / "usr/bin").iterdir() if path.is_file() and not path.is_symlink()]
    for path in sorted(programs, key=lambda path: path.stat().st_size):
        if path.stat().st_size > 2048 and _head(path, 4) == b"\x7fELF":
            yield "elf", path.read_bytes()[:LIMIT]
            break


def _head(path: Path, length: int) -> bytes:
    with path.open("rb") as file:
        return file.read(length)


def _lines(path: Path, length: int) -> bytes:
    return _head(path, length).rpartition(b"\n")[0] + b"\n"


def everything() -> Seeds:
    """All of them, each once."""
    seeds = made()
    for target, data in real():
        seeds[target].append(data)
    return {target: list(dict.fromkeys(inputs)) for target, inputs in seeds.items()}
