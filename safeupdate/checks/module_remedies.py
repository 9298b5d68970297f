"""What helps where the kernel does not take a module: build it again, sign it, enrol its key."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from safeupdate.case import Case
from safeupdate.checks.without_initramfs import build_again
from safeupdate.errors import FormatError, Unreadable
from safeupdate.formats import certificate, cms, modsig, modules
from safeupdate.formats.certificate import Certificate
from safeupdate.formats.module_file import ModuleFile
from safeupdate.machine import Machine
from safeupdate.remedies import build_module, reinstall_kernel
from safeupdate.report import Remedy
from safeupdate.trust.firmware import Store

_CERTIFICATES = (
    "/var/lib/dkms/mok.pub",
    "/var/lib/shim-signed/mok/MOK.der",
    "/etc/pki/akmods/certs/public_key.der",
)
"""Where dkms (Debian, Fedora), Ubuntu's shim-signed and akmods keep the certificate that they sign modules with."""

_FRAMEWORK = "/etc/dkms/framework.conf"
_CERTIFICATE_LIMIT = 64 << 10

_AT_THE_CONSOLE = (
    "mokutil asks for a password; at the next start MokManager asks for it on the console, and a person must be there."
)


def reboot_attended(store: Store) -> Remedy:
    """What a pending enrolment waits for."""
    text = "Reboot with a person at the console, who confirms the request in MokManager with the password given to it."
    return Remedy(text, (("mokutil", "--list-new"),) if "MokNew" in store.requests else ())


def keep_keys(store: Store) -> Remedy:
    """What keeps the keys that a person is asked to delete, or to deny."""
    text = "Take the request back, or answer it with “No” at the console, until nothing needs the key any more."
    asked = ("MokDel", "MokXNew", *(("MokAuth",) if store.resets else ()))
    options = take_back(name for name in store.requests if name in asked)
    return Remedy(text, tuple(("mokutil", *revoke) for revoke in options))


def take_back(requests: Iterable[str]) -> tuple[tuple[str, ...], ...]:
    """The options by which mokutil(1) withdraws requests to MokManager, where it can."""
    return tuple(dict.fromkeys(_REVOKE[name] for name in requests if name in _REVOKE))


_REVOKE = {
    "MokNew": ("--revoke-import",),
    "MokAuth": ("--revoke-import",),
    "MokDel": ("--revoke-delete",),
    "MokXNew": ("--revoke-import", "--mokx"),
}


def make_again(case: Case, path: str, image: str | None, *, in_tree: bool) -> Remedy:
    """Put a sound module in the place of this one."""
    if image is not None:
        return build_again(case, image)
    release = case.release or ""
    if in_tree:
        return reinstall_kernel(case.machine, release)
    commands = build_module(case.machine, release, modules.module_name(path))
    return Remedy("Build the module again and have it signed.", commands)


def make_known(case: Case, store: Store, path: str, file: ModuleFile, image: str | None, *, in_tree: bool) -> Remedy:
    """Have the kernel know the key that signed the module, or sign it with one that it knows."""
    if in_tree:
        return make_again(case, path, image, in_tree=True)
    if not store.enforcing:
        return Remedy(
            "Keys that are enrolled count with Secure Boot only: switch it on, or take what enforces signatures out of "
            "the kernel's command line."
        )
    known = {one.der for one in store.mok.certificates}
    ours = dict(_certificates(case.machine))
    signed_with = _signed_with(file)
    for place, one in ours.items():
        if (one.issuer, one.serial) in signed_with or one.key_id in signed_with:
            return Remedy(f"Enrol the key that signed it. {_AT_THE_CONSOLE}", (("mokutil", "--import", place),))
    build = build_module(case.machine, case.release or "", modules.module_name(path))
    enrol = tuple(("mokutil", "--import", place) for place, one in ours.items() if one.der not in known)[:1]
    again = build_again(case, image).commands if image is not None else ()
    text = "Build the module again, signed with this machine's own key"
    return Remedy(f"{text}, and enrol that. {_AT_THE_CONSOLE}" if enrol else f"{text}.", build + again + enrol)


def _signed_with(file: ModuleFile) -> set[bytes | tuple[bytes, bytes]]:
    """What the signers are named by."""
    names: set[bytes | tuple[bytes, bytes]] = set()
    try:
        for signer in cms.parse(file.tail[: -modsig.TRAILER]).signers:
            if signer.issuer is not None and signer.serial is not None:
                names.add((signer.issuer, signer.serial))
            elif signer.key_id is not None:
                names.add(signer.key_id)
    except FormatError:
        pass
    return names


def _certificates(machine: Machine) -> Iterator[tuple[str, Certificate]]:
    """This machine's own certificates, by file."""
    for path in (*_configured(machine), *_CERTIFICATES):
        try:
            data = machine.read_if_there(path, limit=_CERTIFICATE_LIMIT)
            if data is not None:
                yield path, certificate.parse(data)
        except (FormatError, Unreadable):
            continue


def _configured(machine: Machine) -> Iterator[str]:
    """`mok_certificate` in dkms' configuration (dkms(8)), where it is a plain path."""
    names = [_FRAMEWORK, *(f"{_FRAMEWORK}.d/{name}" for name in machine.listdir(f"{_FRAMEWORK}.d"))]
    for name in names:
        try:
            text = machine.text(name) or ""
        except Unreadable:
            continue
        for match in re.finditer(r"^[ \t]*mok_certificate=[\"']?(/[^\"'$\s]+)", text, re.MULTILINE):
            yield match.group(1)
