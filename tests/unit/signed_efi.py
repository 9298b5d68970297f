"""EFI programs with signatures, as sbsign(1) makes them, and the firmware's lists of keys."""

from __future__ import annotations

import hashlib
import struct
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache

from safeupdate.formats import certificate, cms
from safeupdate.formats.efi_variables import GLOBAL
from tests.unit import efi, signing
from tests.unit.signing import Key, oid, tlv
from tests.unit.trees import Content, x86_image

SECURITY = "d719b2cb-3d3a-4596-a3bc-dad00e67656f"
SHIM = "605dab50-e046-4300-abb6-3dd810dd8b23"
SBAT = "sbat,1,SBAT Version,sbat,1,https://github.com/rhboot/shim/blob/main/SBAT.md\n"
LEVEL = "sbat,1,2023012900\nshim,2\ngrub,3\n"
_TYPES = {
    "x509": "a5c059a1-94e4-4aa7-87b5-ab155c2bf072",
    "sha1": "826ca512-cf10-4ac9-b187-be01496631bd",
    "sha256": "c1c41626-504c-4092-aca9-41f936934328",
    "x509-sha256": "3bd2a492-96c0-4079-b420-fcf98ef103ed",
}
_OPTIONAL = 24
_DIRECTORY = _OPTIONAL + 112 + 4 * 8


@cache
def key(common: str, issuer: str | None = None, *, authority: bool = False, usages: tuple[str, ...] = ()) -> Key:
    """A key of this name, made once a run; an issuer is an authority of its own."""
    above = key(issuer, authority=True) if issuer is not None else None
    serial = int.from_bytes(hashlib.sha256(common.encode()).digest()[:8], "big") >> 1
    return signing.key(common, issuer=above, authority=authority, usages=usages, serial=serial)


def kernel(release: str = "6.1.0-50-amd64", image: bytes | None = None) -> bytes:
    """A kernel for x86 that is an EFI program too: the headers stand in the free part of the boot sector."""
    data = bytearray(image if image is not None else x86_image(release))
    data += bytes(-len(data) % 8)
    head = bytearray(0x40) + b"PE\0\0" + struct.pack("<HHIIIHH", efi.X64, 1, 0, 0, 0, 240, 0x22E)
    head[:2] = b"MZ"
    struct.pack_into("<I", head, 0x3C, 0x40)
    optional = bytearray(240)
    struct.pack_into("<H", optional, 0, 0x20B)
    struct.pack_into("<I", optional, 60, 0x200)
    struct.pack_into("<I", optional, 108, 16)
    length = len(data) - 0x200
    head += optional + struct.pack("<8sIIIIIIHHI", b".text", length, 0x200, length, 0x200, 0, 0, 0, 0, 0x60000020)
    assert len(head) <= 0x1F1
    data[: len(head)] = head
    return bytes(data)


def digest(image: bytes, algorithm: str = "sha256") -> bytes:
    """The digest of an EFI program whose sections fill the file."""
    pe = int.from_bytes(image[0x3C:0x40], "little")
    start, _ = struct.unpack_from("<II", image, pe + _DIRECTORY)
    value = hashlib.new(algorithm, image[: pe + _OPTIONAL + 64])
    value.update(image[pe + _OPTIONAL + 68 : pe + _DIRECTORY])
    value.update(image[pe + _DIRECTORY + 8 : start or len(image)])
    return value.digest()


def sign(
    image: bytes,
    *keys: Key,
    algorithm: str = "sha256",
    certificates: Sequence[bytes] | None = None,
    of: bytes | None = None,
    attributes: bool = True,
) -> bytes:
    """The program with one signature by all these keys, behind those that it has; `of` takes its digest's place."""
    data = bytearray(image + bytes(-len(image) % 8))
    pe = int.from_bytes(data[0x3C:0x40], "little")
    if not any(data[pe + _OPTIONAL + 108 : pe + _OPTIONAL + 112]):
        # What efi.pe makes has no data directories.
        struct.pack_into("<II", data, pe + _OPTIONAL + 108, 16, 0)
    start, length = struct.unpack_from("<II", data, pe + _DIRECTORY)
    start = start or len(data)
    content = tlv(
        0x30,
        tlv(0x30, oid("1.3.6.1.4.1.311.2.1.15"), tlv(0x30, tlv(0x03, b"\0"))),
        tlv(0x30, tlv(0x30, oid(_oid_of(algorithm)), b"\5\0"), tlv(0x04, of or digest(bytes(data), algorithm))),
    )
    inner = content[2 if content[1] < 0x80 else 2 + (content[1] & 0x7F) :]
    pkcs7 = signing.signature(
        inner,
        *(replace(one, name=certificate.parse(one.certificate).issuer) for one in keys),
        digest=algorithm,
        certificates=[one.certificate for one in keys] if certificates is None else certificates,
        attributes=attributes,
        content_type=cms.AUTHENTICODE,
        embedded=content,
    )
    entry = struct.pack("<IHH", 8 + len(pkcs7), 0x200, 2) + pkcs7
    entry += bytes(-len(entry) % 8)
    struct.pack_into("<II", data, pe + _DIRECTORY, start, length + len(entry))
    return bytes(data) + entry


def _oid_of(algorithm: str) -> str:
    return next(number for number, name in cms.DIGESTS.items() if name == algorithm)


def program(*sections: tuple[str, bytes], components: str | None = "grub,4,FSF,grub,2.12,https://gnu.org\n") -> bytes:
    """An EFI program with these sections, and an SBAT section (None: without)."""
    more = [] if components is None else [(".sbat", (SBAT + components).encode())]
    return efi.pe([*sections, *more])


def grub(components: str | None = "grub,4,Free Software Foundation,grub,2.12,https://gnu.org\n") -> bytes:
    """A program with GRUB's marks, whose configuration is in /EFI/debian."""
    body = b"Welcome to GRUB!\n\0grub rescue> \0\0\0/EFI/debian\0\0"
    return program((".text", body), components=components)


def shim(
    vendor: Key | None = None,
    *,
    denied: bytes = b"",
    components: str | None = "shim,3,UEFI shim,shim,1,https://github.com/rhboot/shim\n",
    automatic: str = LEVEL,
    latest: str = LEVEL,
    built_with: Key | None = None,
) -> bytes:
    """A program with shim's marks, its vendor's key, and the SBAT levels that it sets. The names are short enough for
    a PE file without a string table. `built_with` is a key for what belongs to shim (ENABLE_SHIM_CERT)."""
    keys = vendor.certificate if vendor is not None else b""
    table = struct.pack("<IIII", len(keys), len(denied), 16, 16 + len(keys)) + keys + denied
    first = automatic.encode() + b"\0"
    levels = struct.pack("<III", 0, 8, 8 + len(first)) + first + latest.encode() + b"\0"
    body = b"UEFI SHIM\n$Version: 15.8 $\0\\grubx64.efi"
    body += built_with.certificate if built_with is not None else b""
    image = program((".text", body), ("/4", levels), ("/15", table), components=components)
    return _with_names(image, b".sbatlevel\0.vendor_cert\0")


def _with_names(image: bytes, names: bytes) -> bytes:
    """The program with a COFF string table at its end."""
    data = bytearray(image)
    struct.pack_into("<II", data, int.from_bytes(data[0x3C:0x40], "little") + 12, len(data), 0)
    return bytes(data) + struct.pack("<I", 4 + len(names)) + names


# -- the firmware's lists --------------------------------------------------------------------------------------


def entries(*data: bytes | Key, kind: str = "x509") -> bytes:
    """EFI_SIGNATURE_LISTs, one an entry."""
    found = b""
    for one in data:
        value = one.certificate if isinstance(one, Key) else one
        if kind.startswith("x509-"):
            value += bytes(16)
        kind_id = uuid.UUID(_TYPES[kind]).bytes_le
        found += (
            kind_id + struct.pack("<III", 28 + 16 + len(value), 0, 16 + len(value)) + uuid.UUID(SHIM).bytes_le + value
        )
    return found


def variables(**values: bytes) -> dict[str, Content]:
    """Variables of Secure Boot and of shim by their names, with the vendors that they have."""
    return {
        f"{efi.VARIABLES}/{name}-{SECURITY if name in ('db', 'dbx') else SHIM}": b"\6\0\0\0" + value
        for name, value in values.items()
    }


def secured(files: Mapping[str, Content]) -> dict[str, Content]:
    """A machine's files; where its firmware has Secure Boot on, all programs and kernels are signed as they must be."""
    made = dict(files)
    if files.get(f"{efi.VARIABLES}/SecureBoot-{GLOBAL}") != b"\7\0\0\0\1":
        return made
    board, vendor = key("Microsoft UEFI CA", authority=True), key("distribution's CA", authority=True)
    signer = key("distribution's signer", "distribution's CA")
    for path, content in files.items():
        if not isinstance(content, bytes):
            continue
        if content[0x202:0x206] == b"HdrS":
            content = kernel(image=content)
        if content[:2] == b"MZ":
            made[path] = sign(content, board if b"UEFI SHIM" in content else signer)
    made.update(variables(db=entries(board), dbx=b"", MokListRT=entries(vendor)))
    return made
