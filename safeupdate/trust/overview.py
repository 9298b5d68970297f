"""All keys of one machine, for people: who trusts them, for what, and until when."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from safeupdate import kernels
from safeupdate.errors import FormatError, Missing, NoDecoder, Unreadable
from safeupdate.formats import certificate
from safeupdate.formats.certificate import MODULE_SIGNING, Certificate
from safeupdate.machine import Machine
from safeupdate.trust import built_in, firmware
from safeupdate.trust.cache import Cache
from safeupdate.trust.firmware import List, Store

_OWNERS = {
    "77fa9abd-0359-4d32-bd60-28f4e78f784b": "Microsoft",
    firmware.SHIM: "shim",
    "00000000-0000-0000-0000-000000000000": "",
}
"""Owners of entries that are known by their GUID; whoever adds an entry chooses it."""


@dataclass(frozen=True)
class Row:
    """One key. `fingerprint` is the SHA-256 of its certificate, in hexadecimal; `owner` is who entered it, if known."""

    name: str
    issuer: str
    owner: str
    fingerprint: str
    signs: str
    not_before: datetime | None
    not_after: datetime | None


@dataclass(frozen=True)
class Group:
    """The keys of one place. `digests` counts the entries that name a file or a certificate by its digest.

    `problem` says why there may be more.
    """

    title: str
    rows: tuple[Row, ...] = ()
    digests: int = 0
    problem: str | None = None


@dataclass(frozen=True)
class Overview:
    """What this machine trusts. `state` are sentences about the switches."""

    state: tuple[str, ...]
    groups: tuple[Group, ...]


def read(machine: Machine, cache: Cache | None = None) -> Overview:
    """Firmware, shim, and every installed kernel. Raises nothing: what cannot be read is a `problem`."""
    store = firmware.read(machine)
    groups = [
        _list("Waiting for a person at the console (MokNew)", store.new, "once enrolled: kernels, loaders and modules"),
        _list("To be deleted by a person at the console (MokDel)", store.deleted, "nothing, once deleted"),
        _list("Enrolled on this machine, and shim's own (MokListRT)", store.mok, "kernels, loaders and modules"),
        _list("In the firmware (db)", store.db, "loaders and kernels"),
    ]
    groups += [_kernel(machine, kernel.release, kernel.image, cache) for kernel in kernels.installed(machine)]
    groups += [
        _list("Revoked by the firmware (dbx)", store.dbx, "nothing"),
        _list("Revoked by shim (MokListXRT)", store.mokx, "nothing"),
    ]
    shown = (group for group in groups if group.rows or group.digests or group.problem)
    return Overview(tuple(_state(store)), tuple(shown))


def _state(store: Store) -> Iterator[str]:
    if store.secure_boot is None:
        yield "Whether Secure Boot is on is not known here."
    elif not store.secure_boot:
        yield "Secure Boot is off: kernels do not load the keys that are enrolled."
    elif not store.validating:
        yield "Secure Boot is on, but shim is told not to validate: it is as if Secure Boot were off."
    else:
        yield "Secure Boot is on."
    if store.ignores_db:
        yield "Shim is told to leave the firmware's keys (db) out."
    for name in store.requests:
        yield f"At the next start MokManager will ask the person at the console to {store.asks(name)} ({name})."


def _list(title: str, entries: List, signs: str) -> Group:
    rows, digests, problem = [], 0, entries.problem
    for entry in entries.entries:
        if entry.kind != "x509":
            digests += 1
            continue
        try:
            rows.append(_row(certificate.parse(entry.data), signs, _OWNERS.get(entry.owner, entry.owner)))
        except FormatError as error:
            problem = problem or f"a certificate cannot be read: {error}"
    # A variable that was not captured is told once, by the state.
    return Group(title, tuple(rows), digests, problem if entries.path is not None else None)


def _kernel(machine: Machine, release: str, image: str, cache: Cache | None) -> Group:
    title = f"Built into the kernel {release} ({image})"
    try:
        found = built_in.read(machine, image, cache=cache)
    except (FormatError, Missing, NoDecoder, Unreadable) as error:
        return Group(title, problem=str(error))
    return Group(title, tuple(_row(one, f"modules of {release}", "") for one in found.certificates))


def _row(one: Certificate, signs: str, owner: str) -> Row:
    return Row(
        name=one.common_name or "(no name)",
        issuer=one.issuer_name if one.issuer != one.subject else "",
        owner=owner,
        fingerprint=hashlib.sha256(one.der).hexdigest(),
        signs="kernel modules only" if MODULE_SIGNING in one.usages else signs,
        not_before=one.not_before,
        not_after=one.not_after,
    )
