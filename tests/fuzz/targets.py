"""What is fuzzed: a line a parser, and whole trees of which any file may be anything.

An input is at most `LIMIT` bytes. A target returns for every input, or raises what its parser documents; everything
else is a defect, and so are more than `SECONDS` of processor time or more than `MEMORY` in the plain program.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from safeupdate import boot, closure, config, initramfs, kernels
from safeupdate.boot import firmware
from safeupdate.errors import FormatError, Missing, NoDecoder, Unreadable
from safeupdate.formats import (
    authenticode,
    bash,
    bash_grammar,
    bls,
    bzimage,
    capture_manifest,
    certificate,
    cmdline,
    cms,
    compression,
    cpio,
    crypttab,
    depmod_conf,
    dkms_conf,
    dm_table,
    dpkg_status,
    efi_signatures,
    efi_variables,
    elf,
    extended_regex,
    file_locks,
    fstab,
    grub_cfg,
    grub_core,
    grubenv,
    kconfig,
    kernel_parameters,
    loader_conf,
    luks,
    make_log,
    modsig,
    module_file,
    module_symbols,
    modules,
    mountinfo,
    sbat,
    shim,
    symvers,
    sysctl,
    uki,
    unpacked,
)
from safeupdate.formats.efi_variables import GLOBAL
from safeupdate.judge import judge
from safeupdate.ledger import reading, schema
from safeupdate.machine import Machine
from safeupdate.report import Finding
from safeupdate.trust import built_in, images
from safeupdate.trust import firmware as trusted
from safeupdate.volumes import Volumes
from tests.unit import layouts, test_distributions
from tests.unit.trees import Content

LIMIT = 64 << 10
"""Bytes of one input. Configuration is smaller, and of large files the headers are what is parsed."""

SECONDS = 1.0
"""Processor time that one input may take, in the plain program."""

MEMORY = 200 << 20
"""Bytes that the plain program may hold at its peak, the interpreter and every module of the program among them."""

UNPACKED = 64 << 20
"""Bytes to which an image may unpack here. The program's own limit is 4 GiB, of which nobody asks within a second."""

Run = Callable[[bytes], object]


@dataclass(frozen=True)
class Target:
    """`run` takes one input, and may raise `raises`. `words` are what stands in such files."""

    run: Run
    words: tuple[bytes, ...] = ()
    raises: tuple[type[Exception], ...] = (FormatError, NoDecoder)

    def __call__(self, data: bytes) -> None:
        """Take one input; whatever comes out is a defect."""
        try:
            self.run(data)
        except self.raises:
            pass


class Crashed(Exception):
    """A check crashed, and its report said so. `place` is a file's name for it."""

    def __init__(self, finding: Finding) -> None:
        super().__init__(f"{finding.id}: {finding.problem}")
        self.place = f"{finding.id.partition('.')[0]}-{finding.problem.partition(_CRASHED)[2].partition(':')[0]}"


_CRASHED = "it crashed ("


# -- parsers that need a word of explanation -------------------------------------------------------------------


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def _cmdline(data: bytes) -> None:
    line = cmdline.parse(_text(data))
    list(kernel_parameters.unmet(line, {}))
    for name, _ in line.parameters[:20]:
        kernel_parameters.meant(name)
        line.last(name)


def _luks(data: bytes) -> None:
    luks.parse(io.BytesIO(data))


def _dm_table(data: bytes) -> None:
    dm_table.parse(dm_table.without_keys(data))


def _versions(data: bytes) -> None:
    """Two version strings: both orders must be total."""
    one, _, two = _text(data[:2048]).partition("\n")
    for compare in (bls.compare_versions, loader_conf.compare_versions):
        assert compare(one, one) == 0
        compare(one, two)
    names = _text(data[:2048]).split("\n")
    assert len(bls.in_grub_order(names)) <= len(names)


def _dkms_conf(data: bytes) -> None:
    """A dkms.conf, by itself and under another one, for no kernel and for one."""
    first, _, second = data.partition(b"\n%\n")
    kernel = {"kernelver": "6.1.0-50-amd64", "kernel_source_dir": "/lib/modules/6.1.0-50-amd64/build", "arch": "x86_64"}
    for texts, variables in (([data], {}), ([first, second], kernel)):
        conf = dkms_conf.parse(texts, variables, {"CONFIG_A": "y"})
        assert all(index >= 0 for array in conf.values.values() for index in array)
        len(conf.modules), conf.lists_all_modules
    dkms_conf.parse_framework([data])
    bash.Shell({}).source(bash_grammar.program(data))


def _extended_regex(data: bytes) -> None:
    pattern, _, text = _text(data).partition("\n")
    extended_regex.search(pattern, text[:256])


def _loader_conf(data: bytes) -> None:
    loader_conf.parse(data)
    pattern, _, name = _text(data).partition("\n")
    name = name[:255]  # a file's name
    loader_conf.matches(pattern, name)
    loader_conf.timeout(pattern)
    for suffix in (".conf", ".efi"):
        counter = loader_conf.counter(name, suffix)
        if counter is not None:
            assert loader_conf.counter(counter.after_a_try().name, suffix) is not None


def _efi_variable(data: bytes) -> None:
    value = efi_variables.parse(data).data
    readers = (efi_variables.load_option, efi_variables.numbers, efi_variables.text, efi_variables.flag)
    for read in (*readers, efi_variables.bits):
        try:
            read(value)
        except FormatError:
            pass


def _authenticode(data: bytes) -> None:
    file = io.BytesIO(data)
    image = authenticode.parse(file)
    for algorithm in authenticode.DIGESTS:
        authenticode.digest(file, image, algorithm)
    for section in image.sections:
        authenticode.read(file, section, limit=4096)
    authenticode.intact(file)


def _sbat(data: bytes) -> None:
    """A program's `.sbat`, and what is demanded of it."""
    found, _, wanted = data.partition(b"%")
    sbat.revoked(sbat.components(found), sbat.level(wanted))


def _shim(data: bytes) -> None:
    for read in (shim.vendor, shim.levels):
        try:
            read(data)
        except FormatError:
            pass


def _certificate(data: bytes) -> None:
    try:
        certificate.parse_all(data)
    except FormatError:
        pass
    certificate.parse(data)


def _cms(data: bytes) -> None:
    for signer in cms.parse(data).signers:
        for attribute in (cms.CONTENT_TYPE, cms.MESSAGE_DIGEST):
            try:
                cms.octets(signer.attribute(attribute) or b"")
            except FormatError:
                pass


def _image_signatures(data: bytes) -> None:
    """What is allowed and what is denied, each after two bytes of its length, and the program that is asked about."""
    lists, at = [], 0
    for name in ("db", "dbx"):
        size = int.from_bytes(data[at : at + 2], "big")
        lists.append(trusted.List(name, entries=efi_signatures.parse(data[at + 2 : at + 2 + size]).entries))
        at += 2 + size
    allowed, denied = lists
    program = images.read(io.BytesIO(data[at:]), lists)
    images.by_shim(program, allowed=[allowed], denied=[denied])
    images.by_firmware(program, allowed=allowed, denied=denied)


def _grub_core(data: bytes) -> None:
    grub_core.core_sector(data[:512])
    if grub_core.same(data, data):
        grub_core.blocks(data[:512])
        grub_core.unpack(data)


def _modules_index(data: bytes) -> None:
    for read in (modules.check_index, modules.read_index, modules.read_dep_index):
        try:
            read(data)
        except FormatError:
            pass


def _depmod_conf(data: bytes) -> None:
    conf = depmod_conf.parse(data)
    for pattern in [*(one.kernel for one in conf.overrides), *(one.kernel for one in conf.externals)][:20]:
        depmod_conf.matches(pattern, "6.1.0-50-amd64")


def _module_symbols(data: bytes) -> None:
    for relative in (False, True):
        try:
            module_symbols.of_kernel(io.BytesIO(data), relative=relative)
        except FormatError:
            pass
    module_symbols.parse(io.BytesIO(data))


def _unpacked(data: bytes) -> None:
    """Packed modules, and kernels, read from their ends and from their starts."""
    for name in ("a.ko", "a.ko.gz", "a.ko.xz"):
        try:
            file = unpacked.module(io.BytesIO(data), name)
            file.seek(-4, io.SEEK_END)
        except (FormatError, NoDecoder, OSError):
            continue
        file.read(4)
    kernel = unpacked.kernel(io.BytesIO(data), len(data))
    kernel.read(64)
    kernel.seek(0)
    kernel.read(64)


def _uki(data: bytes) -> None:
    uki.looks_like(data[:4096])
    uki.architecture(data[:4096])
    file = io.BytesIO(data)
    for section in uki.parse(file).sections:
        part = uki.open_section(file, section)
        part.read(4096)
        part.seek(-4, io.SEEK_END)


def _elf(data: bytes) -> None:
    elf.parse(data)
    elf.parse(io.BytesIO(data))


def _search_path(data: bytes) -> None:
    """ld.so.conf, a file that it includes, musl's path file and ld.so.cache, one after another."""
    parts = dict(zip(("/etc/ld.so.conf", "/etc/ld.so.conf.d/a.conf", "/etc/ld-musl-x.path"), data.split(b"\n%\n")))
    parts["/etc/ld.so.cache"] = data
    closure.library_directories(parts.get, lambda _: ("a.conf", "ld-musl-x.path"))
    closure.script_interpreter(data[:256])


# -- images ----------------------------------------------------------------------------------------------------


def _read_image(data: bytes) -> initramfs.Index:
    limit, initramfs.UNPACKED_LIMIT = initramfs.UNPACKED_LIMIT, UNPACKED
    try:
        return initramfs.read_image(io.BytesIO(data), size=len(data))
    finally:
        initramfs.UNPACKED_LIMIT = limit


def _image(data: bytes) -> None:
    index = _read_image(data)
    initramfs.merge([index, index])
    closure.missing(index, "/init")
    closure.library(index, "libc.so.6", program="/init")
    for release in index.releases:
        index.modules(release)
    assert index.has_contents in (True, False)
    assert index.generator is not None
    for path in list(index.entries)[:50]:
        index.resolve(path)
        index.names(path)


def _zstd(data: bytes) -> bytes:
    """A frame of blocks that are not compressed (RFC 8878, section 3.1.1)."""
    frame = b"\x28\xb5\x2f\xfd\0\x38"
    for at in range(0, len(data), 128 << 10):
        block = data[at : at + (128 << 10)]
        frame += (len(block) << 3).to_bytes(3, "little") + block
    return frame + b"\1\0\0"


_PACKERS: tuple[Callable[[bytes], bytes], ...] = (
    bytes,
    lambda data: gzip.compress(data, 1, mtime=0),
    lambda data: bz2.compress(data, 1),
    lambda data: lzma.compress(data, lzma.FORMAT_ALONE, preset=0),
    lambda data: lzma.compress(data, check=lzma.CHECK_CRC32, preset=0),
    _zstd,
)


def _packed(data: bytes) -> None:
    """What is packed, after one byte that says how: bits as they are damage a compressed stream and nothing else."""
    kind = data[0] if data else 0
    _image(_PACKERS[kind % len(_PACKERS)](data[1:]))


def _members(data: bytes) -> None:
    """An image put together of files: kind, length of the name, two bytes of length of the content, both of them."""
    image, at = b"", 0
    while at + 4 <= len(data):
        kind, name_size, size = data[at], data[at + 1], int.from_bytes(data[at + 2 : at + 4], "big")
        name = data[at + 4 : at + 4 + name_size]
        content = data[at + 4 + name_size : at + 4 + name_size + size]
        at += 4 + name_size + size
        mode = (0o100755, 0o100644, 0o120777, 0o040755)[kind % 4]
        image += cpio.header(name, mode, content)
    _image(_PACKERS[data[0] >> 4 & 1 if data else 0](image + cpio.header(cpio.TRAILER, 0)))


def member(kind: int, name: bytes, content: bytes = b"") -> bytes:
    """One file of `_members`: 0 a program, 1 a file, 2 a link, 3 a directory."""
    return bytes([kind, len(name)]) + len(content).to_bytes(2, "big") + name + content


def _segments(data: bytes) -> None:
    """Where compressed segments end, with and without their decoders."""
    source = compression.Source(io.BytesIO(data), len(data))
    try:
        compression.end_of(source, 0)
    except FormatError:
        pass
    decoder = compression.unpack(source, 0)
    try:
        view = memoryview(bytearray(1 << 16))
        left = UNPACKED
        while left > 0 and (count := decoder.readinto(view)):
            left -= count
    finally:
        decoder.close()


# -- trees -----------------------------------------------------------------------------------------------------

Judge = Callable[[Machine], object]


@dataclass(frozen=True)
class World:
    """A small machine in a directory, some of whose files an input replaces.

    The input is a row of records: which file, what to do, two bytes of length, and as many of content. Whatever is not
    replaced is as the machine had it.
    """

    contents: Mapping[str, Content]
    judge: Judge
    only: str = ""

    @cached_property
    def files(self) -> tuple[tuple[str, bytes], ...]:
        """What can be replaced: path and content."""
        return tuple(
            (path, content.encode() if isinstance(content, str) else content)
            for path, content in sorted(self.contents.items())
            if isinstance(content, (bytes, str)) and path.startswith(self.only)
        )

    @cached_property
    def _root(self) -> Path:
        root = Path(tempfile.mkdtemp(prefix="tree-"))
        layouts.build(root, layouts.Layout("", "", self.contents, None, ""))
        return root

    @cached_property
    def _changed(self) -> set[int]:
        return set()

    def close(self) -> None:
        """Remove the directory."""
        if "_root" in self.__dict__:
            shutil.rmtree(self._root)

    def record(self, path: str, content: bytes | None = None, action: int = 0) -> bytes:
        """One record, with the file's own content unless another is given."""
        number = next(at for at, (name, _) in enumerate(self.files) if name == path)
        content = self.files[number][1] if content is None else content
        return bytes([number, action]) + min(len(content), 0xFFFF).to_bytes(2, "big") + content

    def __call__(self, data: bytes) -> None:
        for number in self._changed:
            self._put(number, 0, self.files[number][1])
        self._changed.clear()
        at = 0
        while at + 4 <= len(data):
            number, action = data[at] % len(self.files), data[at + 1]
            size = int.from_bytes(data[at + 2 : at + 4], "big")
            self._changed.add(number)
            self._put(number, action, data[at + 4 : at + 4 + size])
            at += 4 + size
        self.judge(Machine.tree(str(self._root)))

    def _put(self, number: int, action: int, content: bytes) -> None:
        path, original = self.files[number]
        place = self._root / path[1:]
        if not place.is_symlink() and place.is_dir():
            place.rmdir()
        else:
            place.unlink(missing_ok=True)
        action %= 8
        if action == 7:
            return
        if action == 6:
            place.mkdir()
            return
        if action == 5 and content and b"\0" not in content and len(content) < 4096:
            os.symlink(content, place)
            return
        if action == 4:
            content = original[: int.from_bytes(content[:2], "big")]
        elif action == 3:
            at = int.from_bytes(content[:2], "big") % (len(original) + 1)
            content = original[:at] + content[2:] + original[at + len(content[2:]) :]
        place.write_bytes(content)
        place.chmod(0o755 if original.startswith((b"\x7fELF", b"#!")) else 0o644)


def _plan(machine: Machine) -> None:
    boot.find_plan(machine, Volumes(machine))


def _judged(machine: Machine) -> None:
    for result in judge(machine).checks:
        for finding in result.findings:
            if _CRASHED in finding.problem:
                raise Crashed(finding)


def _identify(machine: Machine) -> None:
    firmware.identify(machine, "/a.efi")
    kernels.kernel_at(machine, "/a.efi")
    kernels.kernel_at(machine, "/a.efi", embedded=True)


def _kernel_keys(machine: Machine) -> None:
    limit, built_in._UNPACKED_LIMIT = built_in._UNPACKED_LIMIT, UNPACKED
    try:
        for path, embedded in (("/vmlinuz", False), ("/uki.efi", True)):
            try:
                built_in.read(machine, path, embedded=embedded)
            except (FormatError, Missing, NoDecoder, Unreadable):
                pass
    finally:
        built_in._UNPACKED_LIMIT = limit


def _trusted(machine: Machine) -> None:
    store = trusted.read(machine)
    for one in (store.db, store.dbx, store.mok, store.mokx, store.new, store.deleted):
        assert len(one.certificates) <= len(one.entries)
        one.digests("sha256")
    assert store.enforcing in (True, False, None)


def _variable(name: str, vendor: str) -> str:
    return f"{trusted.VARIABLES}/{name}-{vendor}"


_SECURE_BOOT: dict[str, Content] = {
    **{_variable(name, GLOBAL): b"\6\0\0\0" + value for name, value in (("SecureBoot", b"\1"), ("SetupMode", b"\0"))},
    **{_variable(name, trusted.IMAGE_SECURITY): b"\x27\0\0\0" for name in ("db", "dbx")},
    **{
        _variable(name, trusted.SHIM): b"\6\0\0\0"
        for name in ("MokListRT", "MokListXRT", "MokListTrustedRT", "MokSBStateRT", "MokIgnoreDB", "SbatLevelRT")
    },
    **{_variable(name, trusted.SHIM): b"\7\0\0\0" for name in ("MokNew", "MokAuth", "MokDel", "SbatPolicy")},
    **{f"{trusted.MOK_VARIABLES}/{name}": b"" for name in ("MokListRT", "MokListXRT", "SbatLevelRT")},
}

WORLDS: dict[str, World] = {
    "tree-debian": World(test_distributions.DEBIAN_LUKS.files, _judged),
    "tree-fedora": World(test_distributions.FEDORA.files, _judged),
    "tree-arch": World(test_distributions.ARCH_SDBOOT.files, _judged),
    "tree-unified": World(test_distributions.ARCH_UKI.files, _judged),
    "grub": World(test_distributions.DEBIAN_BIOS.files, _plan, "/boot/grub/"),
    "grub-bls": World(test_distributions.FEDORA.files, _plan, "/boot/"),
    "systemd-boot": World(test_distributions.ARCH_SDBOOT.files, _plan, "/boot/"),
    "efi-variables": World(test_distributions.ARCH_SDBOOT.files, _plan, "/sys/firmware/"),
    "efi-program": World({"/a.efi": b"MZ"}, _identify),
    "firmware-keys": World(_SECURE_BOOT, _trusted),
    "kernel-keys": World({"/vmlinuz": b"", "/uki.efi": layouts.unified("6.1", "quiet")}, _kernel_keys),
    "config": World({config.MAIN: "", f"{config.DROP_INS}/a.toml": ""}, config.load),
    "ledger": World({schema.PATH: ""}, reading.read),
}

# -- the table -------------------------------------------------------------------------------------------------

_GRUB = (
    *(b"menuentry 'a' {\n", b"submenu 'a' {\n", b"}\n", b"if true; then\n", b"elif [ ", b"else\n", b"fi\n", b"; do\n"),
    *(
        b"done\n",
        b"while ",
        b"until ",
        b"for i in ",
        b"function f {\n",
        b"set a=$a$a\n",
        b"set default=",
        b"${a}",
        b'"',
    ),
    *(b"'", b"\\\n", b"load_env\n", b"save_env a\n", b"source ", b"configfile ", b"normal ", b"blscfg\n", b"eval "),
    *(b"search --set=root --file ", b"linux /boot/vmlinuz-", b"initrd ", b"chainloader ", b"export a\n", b"return\n"),
    *(b"break 9\n", b"continue\n", b"shift\n", b"setparams $@\n", b"increment a\n", b"-plt", b"-nt", b" -o ", b" ! "),
    *(b" ( ", b" ) ", b"$@", b"$*", b"$#", b"$1", b"$?", b"f\n", b"regexp --set=a b c\n", b"probe --set=a -u $root\n"),
    *(b"timeout=5", b"fallback=1", b"prev_saved_entry", b"next_entry", b"saved_entry", b"$prefix", b"(hd0,gpt1)"),
)
_CPIO = (b"070701", b"070702", b"070707", b"TRAILER!!!\0", b"000081a4", b"0000a1ff", b"000041ed", b"ffffffff")
_MAGICS = (
    *(b"\x1f\x8b\x08\0", b"BZh9", b"\x5d\0\0\x80", b"\xfd7zXZ\0\0\1", b"\x89LZO\0\r\n\x1a\n", b"\x02\x21\x4c\x18"),
    *(b"\x28\xb5\x2f\xfd", b"\x04\x22\x4d\x18"),
)
_PE = (b"MZ", b"PE\0\0", b".linux\0\0", b".initrd\0", b".cmdline", b".osrel\0\0", b".uname\0\0", b".profile", b"HdrS")
_ELF = (b"\x7fELF\2\1\1", b"\x7fELF\1\2\1", b".modinfo\0", b"vermagic=", b".note.gnu.build-id\0", b"GNU\0", b"FDO\0")
_FSTAB = (
    b"UUID=",
    b"/dev/disk/by-uuid/",
    b"\\040",
    b"x-systemd.",
    b"nofail",
    b"subvol=",
    b'"',
    b"swap",
    b"none",
    b" - ",
)
_BLS = (b"title ", b"version ", b"linux ", b"initrd ", b"options ", b"efi ", b"uki ", b"sort-key ", b"machine-id ")
_CONF = (b"default ", b"timeout ", b"@saved", b"menu-force", b"*", b"?", b"[a-z]", b"+3-1.conf", b"+0.efi", b"~", b"^")
_BASH = (
    *(b"BUILT_MODULE_NAME[0]=", b"DEST_MODULE_LOCATION+=(", b"i=$((i+1))\n", b"${i:-", b"${#i[@]}", b"$(", b"`", b"}"),
    *(
        b"if [ -f $kernel_source_dir/.config ]; then\n",
        b"fi\n",
        b"elif [[ ",
        b" =~ ",
        b" ]]",
        b" && ",
        b" || ",
        b"else\n",
    ),
    *(
        b"for i in ",
        b"; do\n",
        b"done\n",
        b"case $i in\n",
        b"esac\n",
        b";;\n",
        b". $kernel_source_dir/.config\n",
        b"\\\n",
    ),
    *(
        b"grep -q ^CONFIG_A=y $kernel_source_dir/.config",
        b"f() {\n",
        b"unset i\n",
        b"{ echo ",
        b"} | sort -V -C",
        b"$'",
    ),
)
_TOML = (
    b"[checks]\n",
    b"[findings]\n",
    b"[ledger]\n",
    b"reason = ''",
    b"level = ",
    b"keep_days = ",
    b"skip",
    b"[[[",
    b"=",
)
_SQL = (b"CREATE TABLE ", b"CREATE VIEW ", b"SELECT ", b"WITH RECURSIVE ", b"boots", b"checks", b"events", b"hashes")
_DER = (b"\x30\x82", b"\x30\x80", b"\x31", b"\xa0\x82", b"\xa3\x82", b"\x04\x20", b"\x06\x03\x55\x1d", b"\x17\x0d")
_TREE = (*_GRUB, *_FSTAB, *_BLS, *_CONF, *_CPIO, *_MAGICS, *_PE, *_ELF)

_WORDS = {
    "grub": _GRUB,
    "grub-bls": (*_GRUB, *_BLS),
    "config": _TOML,
    "ledger": _SQL,
    "efi-program": _PE,
    "firmware-keys": _DER,
    "kernel-keys": (*_MAGICS, *_PE, *_DER),
}
_RAISES: dict[str, tuple[type[Exception], ...]] = {
    "config": (config.ConfigError, Unreadable),
    "efi-program": (Missing, Unreadable),
}
TARGETS: dict[str, Target] = {
    "authenticode": Target(_authenticode, (*_PE, *_DER)),
    "bls": Target(lambda data: bls.parse(data, name="a-1.conf"), _BLS),
    "bzimage": Target(lambda data: bzimage.parse(io.BytesIO(data)), (*_PE, *_ELF, b"zimg", b"ARM\x64", b"RISCV\0\0\0")),
    "capture-manifest": Target(capture_manifest.parse, (b'"left_out"', b'"unreadable"', b"[[[[[[[[", b"1e999")),
    "certificate": Target(_certificate, _DER),
    "cmdline": Target(_cmdline, (b"root=", b'"', b"rd.luks.uuid=", b"crashkernel=", b"console=ttyS0,", b"panic=")),
    "cms": Target(_cms, _DER),
    "compression": Target(_segments, _MAGICS),
    "crypttab": Target(crypttab.parse, (b"luks,", b"UUID=", b" none ", b"\\040", b"keyscript=/"), ()),
    "depmod-conf": Target(
        _depmod_conf, (b"search ", b"override ", b" * ", b"external ", b"exclude ", b"\\\n", b"^6[.]1.*$")
    ),
    "dkms-conf": Target(_dkms_conf, _BASH),
    "dm-table": Target(_dm_table, (b": 0 8 ", b"crypt aes-xts-plain64 ", b"\n", b" :64:logon:", b"linear 8:1 0")),
    "dpkg-status": Target(
        dpkg_status.parse, (b"Package: ", b"Status: ", b"\n\n", b"\n ", b"half-configured", b"triggers-")
    ),
    "efi-signatures": Target(efi_signatures.parse, _DER, ()),
    "efi-variable": Target(_efi_variable),
    "elf": Target(_elf, _ELF),
    "elf-module": Target(elf.module, _ELF),
    "extended-regex": Target(_extended_regex, (b"(a|b)*", b"[[:digit:]]", b"{2,3}", b"\\w", b"^", b"$", b"[^]-a]")),
    "file-locks": Target(file_locks.parse, (b"1: POSIX  ADVISORY  WRITE ", b" fe:00:", b" 0 EOF"), ()),
    "fstab": Target(fstab.parse, _FSTAB, ()),
    "grub-cfg": Target(grub_cfg.parse, _GRUB),
    "grub-core": Target(_grub_core, (b"\0grub_", b"\x20\x08", b"\xea\x1c\x82\0"), ()),
    "grubenv": Target(grubenv.parse, (grubenv.SIGNATURE, b"\\\n", b"=", b"#")),
    "image-signatures": Target(_image_signatures, (*_PE, *_DER)),
    "initramfs": Target(_image, (*_CPIO, *_MAGICS), ()),
    "initramfs-members": Target(_members, (b"init", b"usr/lib/modules/6.1/", b".ko", b"#!/bin/sh", *_ELF), ()),
    "initramfs-packed": Target(_packed, _CPIO, ()),
    "kconfig": Target(kconfig.parse, (b"CONFIG_", b"=y\n", b"=m\n")),
    "loader-conf": Target(_loader_conf, _CONF),
    "luks": Target(_luks, (luks.MAGIC, b"\0\2", b'"segments":{"0":{', b'"encryption":"aes-xts-plain64"', b'"tokens":')),
    "make-log": Target(
        lambda data: make_log.parse(data[:4096], data),
        (b"DKMS make.log for ", b"a.c:1:2: error: ", b"# exit code: "),
        (),
    ),
    "modules-builtin": Target(modules.parse_builtin, (b"kernel/", b".ko\n"), ()),
    "modules-dep": Target(modules.parse_dep, (b".ko: ", b".ko.xz ", b"kernel/")),
    "modules-index": Target(_modules_index, (b"\xb0\x07\xf4\x57\0\2\0\1", b"\x80\0\0", b"\x40\0\0", b"\x20\0\0")),
    "module-file": Target(lambda data: module_file.read(memoryview(data)), (*_ELF, modsig.MARK), ()),
    "module-signature": Target(lambda data: modsig.parse(data[-40:], len(data)), (modsig.MARK,)),
    "module-symbols": Target(
        _module_symbols,
        (*_ELF, b"__versions\0", b"__version_ext_crcs\0", b"__ksymtab_gpl\0", b"__kcrctab\0", b"__ksymtab_strings\0"),
    ),
    "mountinfo": Target(mountinfo.parse, _FSTAB),
    "sbat": Target(_sbat, (b"sbat,1,", b"grub,3,", b"%sbat,1,2024010100\n", b",99999999999999999999")),
    "search-path": Target(_search_path, (b"include ", b"\n%\n", b"glibc-ld.so.cache1.1"), ()),
    "shim": Target(_shim, _DER),
    "symvers": Target(symvers.parse, (b"0x", b"\tvmlinux\tEXPORT_SYMBOL\t\n", b"\t", b"\n")),
    "sysctl": Target(sysctl.parse, (b"kernel.panic = ", b"kernel/panic=", b"-net."), ()),
    "uki": Target(_uki, _PE),
    "unpacked": Target(_unpacked, (*_MAGICS, b"HdrS")),
    "versions": Target(_versions, _CONF),
    **{name: Target(world, _WORDS.get(name, _TREE), _RAISES.get(name, ())) for name, world in WORLDS.items()},
}
"""Every parser, by a name that is a file's; the checks are fuzzed through the trees."""
