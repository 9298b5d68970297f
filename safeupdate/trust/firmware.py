"""What firmware and shim trust and deny: db, dbx, MokListRT, MokListXRT, and the switches beside them.

UEFI specification 2.10, chapter 32 (Secure Boot); shim's MokVars.txt. The kernel shows the variables in efivarfs, and
those of shim also in `mok-variables`, whole however long they are (drivers/firmware/efi/mokvar-table.c).
What is here is what the boot that runs now was given; it holds for the next one unless an enrolment is pending.
"""

from __future__ import annotations

from dataclasses import dataclass
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

_NON_VOLATILE = 0x1


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
    at the next boot, `new` the keys that it would enrol, `deleted` those that it would delete.
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
    requests: tuple[str, ...] = ()
    sbat_level: bytes | None = None
    sbat_policy: int | None = None

    @property
    def enforcing(self) -> bool | None:
        """Whether a kernel that is started now takes itself for started by Secure Boot."""
        return False if not self.validating else self.secure_boot


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
                return whole, Variable(0, self._machine.read(whole, limit=efi_variables.SIZE_LIMIT))
            except (Missing, Unreadable):
                if shown is None:
                    raise
        if shown is None:
            return None
        return shown, efi_variables.parse(self._machine.read(shown, limit=efi_variables.SIZE_LIMIT))

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
        return List(name, found[0], lists.entries, lists.problem)
