"""The second set: other keys, another module, and signatures made by other programs (openssl, sbsign).

What the program says of them was written to beforehand.json before any guest had seen them.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from functools import cache

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, pkcs7

from tests.signature_guests.cases import Set, flipped, kernel, key, unsigned_image, vendor_module, without_signature
from tests.unit import signed_efi
from tests.unit.signed_efi import entries
from tests.unit.signing import Key, trailer

MODULE = "kernel/lib/ts_kmp.ko"


def available() -> str | None:
    """Why the set cannot be made on this host, None where it can."""
    missing = [name for name in ("openssl", "sbsign", "zstd") if shutil.which(name) is None]
    return f"{', '.join(missing)} not here" if missing else None


@cache
def held_out() -> Set:
    """The second set."""
    company = [x509.NameAttribute(x509.NameOID.COUNTRY_NAME, "NO")]
    company += [x509.NameAttribute(x509.NameOID.ORGANIZATION_NAME, "Blåbær & Sønner")]
    large = key("Module signing, machine 7", bits=4096, more=company)
    middling, small = key("akmods 3072", bits=3072, authority=True), key("old 1024", bits=1024)
    by_sha512 = key("certificate signed with SHA-512", digest=hashes.SHA512())
    curve = key("P-256", curve=ec.SECP256R1())
    first = key("issued once")
    second = key("issued once", like=first)
    root = key("Root of a company", bits=4096, authority=True)
    middle = key("Between", issuer=root, authority=True)
    leaf = key("Builder", issuer=middle)
    direct = key("Builder without a middle", issuer=root)
    no_authority = key("Not an authority")
    below = key("Below no authority", issuer=no_authority)
    strange_root = key("Root of strangers", authority=True)
    strange = key("Stranger", issuer=strange_root, bits=3072)
    in_db = key("Owner's key in db", bits=4096)
    waiting = key("Waiting, 4096", bits=4096, authority=True)
    below_waiting = key("Below the waiting one", issuer=waiting)
    denied = key("Denied by the owner", bits=3072)

    vendor = vendor_module(MODULE)
    code = without_signature(vendor)
    ours = _cms(code, large)
    modules = {
        "rsa4096-long-name.ko": _with(code, ours),
        "rsa3072-by-key-id.ko": _with(code, _cms(code, middling, options=["-nocerts", "-keyid"])),
        "rsa1024.ko": _with(code, _cms(code, small)),
        "sha224.ko": _with(code, _cms(code, middling, digest="sha224")),
        "sha384.ko": _with(code, _cms(code, large, digest="sha384")),
        "sha512.ko": _with(code, _cms(code, small, digest="sha512")),
        "certificate-by-sha512.ko": _with(code, _cms(code, by_sha512)),
        "p256.ko": _with(code, _cms(code, curve)),
        "issued-again.ko": _with(code, _cms(code, second)),
        "issued-again-by-key-id.ko": _with(code, _cms(code, second, options=["-nocerts", "-keyid"])),
        "own-certificate.ko": _with(code, _cms(code, middling, options=[])),
        "chain-of-three.ko": _with(code, _cms(code, leaf, options=[], more=[middle])),
        "chain-with-root.ko": _with(code, _cms(code, leaf, options=[], more=[middle, root])),
        "chain-without-middle.ko": _with(code, _cms(code, leaf, options=[])),
        "direct-leaf.ko": _with(code, _cms(code, direct, options=[])),
        "leaf-below-no-authority.ko": _with(code, _cms(code, below, options=[])),
        "chain-of-strangers.ko": _with(code, _cms(code, strange, options=[], more=[strange_root])),
        "two-signers.ko": _with(code, _cms(code, strange, large)),
        "stranger-over-own.ko": _over(_with(code, ours), strange),
        "own-over-stranger.ko": _over(_with(code, _cms(code, strange)), middling),
        "own-over-vendor.ko": _over(vendor, large),
        "db-rsa4096.ko": _with(code, _cms(code, in_db)),
        "pss.ko": _with(code, _cms(code, large, keyopt="rsa_padding_mode:pss")),
        "no-length.ko": code + trailer(0),
        "kind-0.ko": code + ours + trailer(len(ours), kind=0),
        "der-head-flipped.ko": _with(code, flipped(ours, 5)),
        "oid-flipped.ko": _with(code, flipped(ours, 12)),
        "signature-flipped.ko": _with(code, flipped(ours, len(ours) - 100)),
        "der-cut.ko": _with(code, ours[:-50]),
        "code-shorter.ko": _with(code[:-16], ours),
        "attached.ko": _with(code, _cms(code, large, options=["-nocerts", "-nodetach"])),
        "pkcs7-by-another-program.ko": _with(code, _pkcs7(code, large)),
        "pkcs7-with-attributes.ko": _with(code, _pkcs7(code, large, attributes=True)),
        "digest-in-dbx.ko": _over(code + bytes(3), large),
        "digest-in-mokx.ko": _over(code + bytes(4), large),
        "denied-by-owner.ko": _with(code, _cms(code, denied)),
        "waiting.ko": _with(code, _cms(code, waiting)),
        "below-waiting.ko": _with(code, _cms(code, below_waiting, options=[])),
        "vendor.ko.zst": _zstd(vendor),
        "signature-flipped.ko.zst": _zstd(_with(code, flipped(ours, len(ours) - 100))),
        "cut.ko": vendor[:700],
    }
    whole = [hashlib.sha256(modules[f"digest-in-{where}.ko"]).digest() for where in ("dbx", "mokx")]
    plain = unsigned_image(kernel())
    allowed = flipped(plain, 0x4E)
    signed = _sbsign(plain, large)
    images = {
        "rsa4096": signed,
        "debian-and-stranger": _sbsign(kernel(), strange),
        "direct-leaf": _sbsign(plain, direct),
        "chain": _sbsign(plain, leaf, more=[middle]),
        "digest-in-mok": allowed,
        "bytes-behind": kernel() + bytes(16),
        "chain-without-middle": _sbsign(plain, leaf),
        "leaf-below-no-authority": _sbsign(plain, below),
        "stranger": _sbsign(plain, strange),
        "p256": signed_efi.sign(plain, curve),
        "by-sha512": signed_efi.sign(plain, large, algorithm="sha512"),
        "signature-flipped": flipped(signed, len(signed) - 100),
        "code-flipped": flipped(signed, 0x5000),
        "in-mokx": _sbsign(plain, denied),
        "waiting": _sbsign(plain, waiting),
    }
    return Set(
        "held-out",
        modules,
        images,
        db=entries(in_db),
        dbx=entries(whole[0], kind="sha256"),
        mok=entries(large, middling, small, by_sha512, curve, first, root, no_authority, denied)
        + entries(signed_efi.digest(allowed), kind="sha256"),
        mokx=entries(denied) + entries(whole[1], kind="sha256"),
        waiting=entries(waiting),
        module=MODULE,
    )


def _with(code: bytes, signature: bytes) -> bytes:
    return code + signature + trailer(len(signature))


def _over(content: bytes, *keys: Key) -> bytes:
    return _with(content, _cms(content, *keys))


def _cms(
    content: bytes,
    *keys: Key,
    digest: str = "sha256",
    options: list[str] | None = None,
    more: list[Key] | None = None,
    keyopt: str = "",
) -> bytes:
    """What openssl makes of it, without certificates unless `options` says otherwise."""
    with tempfile.TemporaryDirectory() as work:
        command = ["openssl", "cms", "-sign", "-binary", "-noattr", "-outform", "DER", "-md", digest]
        command += ["-nocerts"] if options is None else options
        for number, one in enumerate(keys):
            _pem(f"{work}/{number}", one)
            command += ["-signer", f"{work}/{number}.pem", "-inkey", f"{work}/{number}.key"]
            command += ["-keyopt", keyopt] if keyopt else []
        if more:
            _pem(f"{work}/more", *more)
            command += ["-certfile", f"{work}/more.pem"]
        return subprocess.run(command, input=content, capture_output=True, timeout=60, check=True).stdout


def _pkcs7(content: bytes, one: Key, *, attributes: bool = False) -> bytes:
    options = [pkcs7.PKCS7Options.DetachedSignature, pkcs7.PKCS7Options.Binary, pkcs7.PKCS7Options.NoCerts]
    options += [] if attributes else [pkcs7.PKCS7Options.NoAttributes]
    builder = pkcs7.PKCS7SignatureBuilder().set_data(content)
    builder = builder.add_signer(x509.load_der_x509_certificate(one.certificate), one.private, hashes.SHA256())
    return builder.sign(Encoding.DER, options)


def _sbsign(image: bytes, one: Key, *, more: list[Key] | None = None) -> bytes:
    with tempfile.TemporaryDirectory() as work:
        _pem(f"{work}/0", one)
        command = ["sbsign", "--key", f"{work}/0.key", "--cert", f"{work}/0.pem", "--output", f"{work}/out"]
        if more:
            _pem(f"{work}/more", *more)
            command += ["--addcert", f"{work}/more.pem"]
        with open(f"{work}/in", "wb") as file:
            file.write(image)
        subprocess.run([*command, f"{work}/in"], capture_output=True, timeout=60, check=True)
        with open(f"{work}/out", "rb") as file:
            return file.read()


def _zstd(data: bytes) -> bytes:
    return subprocess.run(["zstd", "-q", "-c"], input=data, capture_output=True, timeout=60, check=True).stdout


def _pem(place: str, *keys: Key) -> None:
    with open(f"{place}.pem", "wb") as file:
        file.writelines(x509.load_der_x509_certificate(one.certificate).public_bytes(Encoding.PEM) for one in keys)
    with open(f"{place}.key", "wb", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
        file.write(keys[0].private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
