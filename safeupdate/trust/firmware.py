"""What firmware and shim trust and deny: db, dbx, MokListRT, MokListXRT, and the switches beside them.

UEFI specification 2.10, chapter 32 (Secure Boot); shim's MokVars.txt. The kernel shows the variables in efivarfs, and
those of shim also in `mok-variables`, whole however long they are (drivers/firmware/efi/mokvar-table.c).
What is here is what the boot that runs now was given; it holds for the next one unless an enrolment is pending.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import cached_property

from safeupdate.errors import FormatError, Missing, Unreadable
from safeupdate.formats import certificate, efi_signatures, efi_variables
from safeupdate.formats.certificate import Certificate
from safeupdate.formats.efi_signatures import Signature
from safeupdate.formats.efi_variables import GLOBAL, Variable
from safeupdate.machine import Machine

EFI = "/sys/firmware/efi"
VARIABLES = f"{EFI}/efivars"
MOK_VARIABLES = f"{EFI}/mok-variables"

IMAGE_SECURITY = "d719b2cb-3d3a-4596-a3bc-dad00e67656f"
"""Vendor of db and dbx (UEFI 2.10, section 32.6.1)."""

SHIM = "605dab50-e046-4300-abb6-3dd810dd8b23"
"""Vendor of shim's variables."""

REQUESTS = {
    "MokNew": "enrol a key",
    "MokAuth": "enrol a key",
    "MokDel": "delete a key",
    "MokDelAuth": "delete a key",
    "MokXNew": "deny a key",
    "MokXAuth": "deny a key",
    "MokXDel": "no longer deny a key",
    "MokXDelAuth": "no longer deny a key",
    "MokSB": "switch shim's validation",
    "MokDB": "switch the use of the firmware's db",
    "MokPW": "set MokManager's password",
    "MokListTrustedNew": "switch the trust in MokList",
}
"""Variables that make shim start MokManager at the next boot (shim, shim.c, check_mok_request), and what they ask."""

_RESETS = {"MokAuth": ("MokNew", "delete every enrolled key"), "MokXAuth": ("MokXNew", "no longer deny any key")}
"""What a password without the list that belongs to it asks (MokManager.c, “Reset MOK”)."""

_NON_VOLATILE = 0x1
_SIZE_LIMIT = efi_variables.SIZE_LIMIT


@dataclass(frozen=True)
class List:
    """One list of keys and digests. `path` is the file that it was read from, None where the variable is not set.

    `problem` says why it is not known, or not whole; `entries` then holds what could be read.
    """

    name: str
    path: str | None = None
    entries: tuple[Signature, ...] = ()
    problem: str | None = None

    @cached_property
    def certificates(self) -> tuple[Certificate, ...]:
        """The certificates that can be read, in their order."""
        found = []
        for entry in self.entries:
            if entry.kind == "x509":
                try:
                    found.append(certificate.parse(entry.data))
                except FormatError:
                    continue
        return tuple(found)

    def digests(self, kind: str) -> frozenset[bytes]:
        """The digests of this kind (`sha256`: of images and modules, `x509-sha256`: of certificates)."""
        return frozenset(entry.data for entry in self.entries if entry.kind == kind)


@dataclass(frozen=True)
class Store:
    """The firmware's state. `known` is false where its variables were not captured: then nothing here tells anything.

    `secure_boot`: the firmware verifies what it starts; None where unknown. `validating`: shim does too; false where a
    person switched that off. `ignores_db`: shim and the kernel leave db out. `trusts_mok`: shim says that its list may
    go into the kernel's .machine keyring. `requests` are the names of the variables that make MokManager ask a person
    at the next boot, `new` the keys that it would enrol, `deleted` those that it would delete, `denying` those that it
    would deny.
    """

    known: bool
    secure_boot: bool | None = None
    validating: bool = True
    ignores_db: bool = False
    trusts_mok: bool = False
    through_shim: bool = False
    db: List = List("db")
    dbx: List = List("dbx")
    mok: List = List("MokListRT")
    mokx: List = List("MokListXRT")
    new: List = List("MokNew")
    deleted: List = List("MokDel")
    denying: List = List("MokXNew")
    requests: tuple[str, ...] = ()
    sbat_level: bytes | None = None
    sbat_policy: int | None = None

    @property
    def enforcing(self) -> bool | None:
        """Whether a kernel that is started now takes itself for started by Secure Boot."""
        return False if not self.validating else self.secure_boot

    def asks(self, request: str) -> str:
        """What a person is asked to do because this variable is set."""
        without, everything = _RESETS.get(request, (request, ""))
        return REQUESTS[request] if without in self.requests else everything

    @property
    def resets(self) -> bool:
        """Whether a person is asked to delete all enrolled keys."""
        return "MokAuth" in self.requests and "MokNew" not in self.requests

    @cached_property
    def lasting(self) -> List:
        """`mok` without what a person is asked to delete. Shim's own keys, which nobody can delete, may be missing."""
        gone = {entry.data for entry in (self.mok if self.resets else self.deleted).entries}
        return replace(self.mok, entries=tuple(entry for entry in self.mok.entries if entry.data not in gone))


def read(machine: Machine) -> Store:
    """The state of the firmware. Whatever cannot be read is said in the lists; nothing is raised."""
    if not machine.is_dir(EFI):
        return Store(known=machine.has_sysfs, secure_boot=False if machine.has_sysfs else None)
    variables = _Variables(machine)
    secure, setup = variables.flag("SecureBoot", GLOBAL), variables.flag("SetupMode", GLOBAL)
    state = variables.get("MokSBStateRT", SHIM)
    return Store(
        known=variables.there,
        secure_boot=None if secure is None and not variables.there else bool(secure) and not setup,
        # One that lasts was not made by shim (drivers/firmware/efi/libstub/secureboot.c).
        validating=not (state is not None and state.data[:1] == b"\1" and not state.attributes & _NON_VOLATILE),
        ignores_db=bool(variables.flag("MokIgnoreDB", SHIM)),
        trusts_mok=bool(variables.flag("MokListTrustedRT", SHIM)),
        through_shim=any(variables.has(name) for name in ("MokListRT", "MokListXRT", "SbatLevelRT")),
        db=variables.signatures("db", IMAGE_SECURITY),
        dbx=variables.signatures("dbx", IMAGE_SECURITY),
        mok=variables.signatures("MokListRT", SHIM),
        mokx=variables.signatures("MokListXRT", SHIM),
        new=variables.signatures("MokNew", SHIM),
        deleted=variables.signatures("MokDel", SHIM),
        denying=variables.signatures("MokXNew", SHIM),
        requests=tuple(name for name in REQUESTS if variables.has(name)),
        sbat_level=variables.value("SbatLevelRT", SHIM),
        sbat_policy=next(iter(variables.value("SbatPolicy", SHIM) or ()), None),
    )


class _Variables:
    """efivarfs and mok-variables of one machine."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        try:
            self._files = {name.lower(): f"{VARIABLES}/{name}" for name in machine.listdir(VARIABLES)}
            self._mok = {name: f"{MOK_VARIABLES}/{name}" for name in machine.listdir(MOK_VARIABLES)}
        except Unreadable:
            self._files, self._mok = {}, {}
        self.there = bool(self._files)

    def has(self, name: str) -> bool:
        """Whether shim has set this variable."""
        return name in self._mok or f"{name}-{SHIM}".lower() in self._files

    def read(self, name: str, vendor: str) -> tuple[str, Variable] | None:
        """The variable and the file that shows it, None where it is not set.

        Raises `FormatError` and `Unreadable`: only root may read mok-variables, but everybody efivarfs.
        """
        shown = self._files.get(f"{name}-{vendor}".lower())
        whole = self._mok.get(name) if vendor == SHIM else None
        if whole is not None:
            try:
                # Without attributes; what shim puts there does not last.
                return whole, Variable(0, self._machine.read(whole, limit=_SIZE_LIMIT))
            except (Missing, Unreadable):
                if shown is None:
                    raise
        if shown is None:
            return None
        return shown, efi_variables.parse(self._machine.read(shown, limit=_SIZE_LIMIT))

    def get(self, name: str, vendor: str) -> Variable | None:
        """The variable, None where it is not set or cannot be read."""
        try:
            found = self.read(name, vendor)
        except (FormatError, Missing, Unreadable):
            return None
        return None if found is None else found[1]

    def value(self, name: str, vendor: str) -> bytes | None:
        """The variable's value, None where it is not set or cannot be read."""
        variable = self.get(name, vendor)
        return None if variable is None else variable.data

    def flag(self, name: str, vendor: str) -> bool | None:
        """Whether the variable is one byte that is not zero; None where it is not set."""
        value = self.value(name, vendor)
        return None if not value else value[0] != 0

    def signatures(self, name: str, vendor: str) -> List:
        """A list of keys and digests."""
        try:
            found = self.read(name, vendor)
        except (FormatError, Missing, Unreadable) as error:
            return List(name, f"{VARIABLES}/{name}-{vendor}", problem=str(error))
        if found is None:
            return List(name, problem=None if self.there else "the firmware's variables were not captured")
        lists = efi_signatures.parse(found[1].data)
        entries, problem = lists.entries, lists.problem
        parts = self._parts(name) if found[0].startswith(VARIABLES) and vendor == SHIM else {}
        if parts and name in self._mok:
            problem = problem or f"it is in several parts, and whole in {self._mok[name]}, which cannot be read"
        for number, path in sorted(parts.items()):
            try:
                part = efi_signatures.parse(efi_variables.parse(self._machine.read(path, limit=_SIZE_LIMIT)).data)
            except (FormatError, Missing, Unreadable) as error:
                problem = problem or f"a part of it: {error}"
                continue
            entries, problem = entries + part.entries, problem or part.problem
            if number > 1 and number - 1 not in parts:
                problem = problem or f"the part before {path} is missing"
        return List(name, found[0], entries, problem)

    def _parts(self, name: str) -> dict[int, str]:
        """What did not fit into one variable is in others, with a number behind the name (shim, mok.c)."""
        pattern = re.compile(rf"{name}(\d{{1,4}})-{SHIM}", re.IGNORECASE)
        found = ((pattern.fullmatch(file), path) for file, path in self._files.items())
        return {int(match[1]): path for match, path in found if match}
