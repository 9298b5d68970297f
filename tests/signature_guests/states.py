"""States of a machine: what is in its firmware, what its kernel is told, and what the program says of it beforehand."""

from __future__ import annotations

import hashlib
import io
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from safeupdate.boot import find_plan
from safeupdate.checks import kernel_files, kernel_signature
from safeupdate.formats import authenticode, efi_signatures, kconfig, shim
from safeupdate.formats.efi_variables import GLOBAL
from safeupdate.kernels import installed
from safeupdate.machine import Machine
from safeupdate.report import Finding, NotApplicable
from safeupdate.trust import firmware, keys, module_files
from safeupdate.trust.modules import IF_ENFORCED, NEVER, Judge
from safeupdate.volumes import Volumes
from tests.lab import nvram
from tests.lab.nvram import Value, Variables
from tests.signature_guests.cases import RELEASE, Set, kernel, program, tree
from tests.unit import efi, trees
from tests.unit.signed_efi import SECURITY, SHIM, entries
from tests.unit.trees import Content

STORE = "/usr/share/OVMF/OVMF_VARS_4M.ms.fd"
"""Microsoft's keys in db, and Debian's PK and KEK."""

PASSWORD = "console-1"
"""What the person gave to mokutil who asked for the enrolment, or the deletion."""

_SWITCH = "f0a30bc7-af08-4556-99c4-001009c93a44"
_KEPT = ("certdb", "MTC", "MemoryTypeInformation", "KEK", "PK", "VendorKeysNv", "CustomMode")
_BEFORE_BOOT = 0x3
_RUNTIME = 0x6


@dataclass(frozen=True)
class State:
    """One boot of the machine. `deleting`: a person is asked to delete the first key of MokList, or (`all`) every key.
    `images`: shim is shown kernel images in it, too."""

    name: str
    secure_boot: bool = True
    command_line: str = ""
    validating: bool = True
    ignores_db: bool = False
    pending: bool = False
    deleting: str = ""
    images: bool = True


STATES = (
    State("secure-boot"),
    State("off", secure_boot=False),
    State("off-enforced", secure_boot=False, command_line="module.sig_enforce=1", images=False),
    State("off-lockdown", secure_boot=False, command_line="lockdown=integrity", images=False),
    State("not-validating", validating=False),
    State("pending", pending=True),
    State("db-ignored", ignores_db=True),
)

DELETING = State("deleting", deleting="first", images=False)
DELETING_ALL = State("deleting-all", deleting="all", images=False)


def stored(state: State, cases: Set) -> bytes:
    """The file of the firmware's variables before the boot."""
    image = Path(STORE).read_bytes()
    old = nvram.read(image)
    new: Variables = {key: value for key, value in old.items() if key[0] in _KEPT}
    for name, more in (("db", cases.db), ("dbx", cases.dbx)):
        value = old[name, SECURITY]
        new[name, SECURITY] = replace(value, data=(value.data if name == "db" else b"") + more)
    new["SecureBootEnable", _SWITCH] = Value(_BEFORE_BOOT, bytes([state.secure_boot]))
    new["MokList", SHIM] = Value(_BEFORE_BOOT, cases.mok)
    new["MokListX", SHIM] = Value(_BEFORE_BOOT, cases.mokx)
    if not state.validating:
        new["MokSBState", SHIM] = Value(_BEFORE_BOOT, b"\1")
    if state.ignores_db:
        new["MokDBState", SHIM] = Value(_BEFORE_BOOT, b"\1")
    if state.pending:
        new["MokNew", SHIM] = Value(0x7, cases.waiting)
        new["MokAuth", SHIM] = Value(0x7, _authority(cases.waiting))
    for name, data in _deletion(state, cases).items():
        new[name, SHIM] = Value(0x7, data)
    return nvram.write(image, new)


def shown(state: State, cases: Set) -> dict[str, Content]:
    """efivarfs on the machine that is asked before it boots so."""
    old = nvram.read(Path(STORE).read_bytes())
    values = {
        f"SecureBoot-{GLOBAL}": (_RUNTIME, bytes([state.secure_boot])),
        f"SetupMode-{GLOBAL}": (_RUNTIME, b"\0"),
        f"db-{SECURITY}": (0x27, old["db", SECURITY].data + cases.db),
        f"dbx-{SECURITY}": (0x27, cases.dbx),
        f"MokListRT-{SHIM}": (_RUNTIME, cases.mok + entries(_vendor())),
        f"MokListXRT-{SHIM}": (_RUNTIME, cases.mokx),
        f"MokListTrustedRT-{SHIM}": (_RUNTIME, b"\1"),
    }
    if not state.validating:
        values[f"MokSBStateRT-{SHIM}"] = (_RUNTIME, b"\1")
    if state.ignores_db:
        values[f"MokIgnoreDB-{SHIM}"] = (_RUNTIME, b"\1")
    if state.pending:
        values[f"MokNew-{SHIM}"] = (0x7, cases.waiting)
        values[f"MokAuth-{SHIM}"] = (0x7, _authority(cases.waiting))
    values.update({f"{name}-{SHIM}": (0x7, data) for name, data in _deletion(state, cases).items()})
    return {
        f"{efi.VARIABLES}/{name}": attributes.to_bytes(4, "little") + data
        for name, (attributes, data) in values.items()
    }


def _deletion(state: State, cases: Set) -> dict[str, bytes]:
    """What mokutil(1) sets for `--delete` and `--reset`."""
    if state.deleting == "all":
        return {"MokAuth": _authority(b"")}
    first = entries(efi_signatures.parse(cases.mok).entries[0].data)
    return {"MokDel": first, "MokDelAuth": _authority(first)} if state.deleting else {}


def _authority(asked: bytes) -> bytes:
    """What MokManager holds the password against, in its older form (shim, MokManager.c, compute_pw_hash)."""
    return hashlib.sha256(asked + PASSWORD.encode("utf-16-le")).digest()


def _vendor() -> bytes:
    file = io.BytesIO(program("shim"))
    section = authenticode.parse(file).section(".vendor_cert")
    assert section is not None
    return shim.vendor(authenticode.read(file, section, limit=shim.SIZE_LIMIT)).allowed[0].data


@dataclass(frozen=True)
class Said:
    """What the program says: its verdict, and what the kernel or shim will do: `loads`, `taints` (a module that loads
    all the same), `refused`, or `unknown`; for a digest in a module, that with it and that without it."""

    verdict: str
    expected: str
    otherwise: str = ""


def of_modules(state: State, cases: Set, variables: Mapping[str, Content] | None = None) -> dict[str, Said]:
    """What the program says of each module, by the name of its file."""
    files: dict[str, Content] = {
        **(shown(state, cases) if variables is None else variables),
        "/sys/class/block/vda/dev": "254:0\n",
        f"/boot/vmlinuz-{RELEASE}": kernel(),
        **{f"/cases/{name}": data for name, data in cases.modules.items()},
    }
    config = kconfig.parse((tree() / "boot" / f"config-{RELEASE}").read_bytes())
    with tempfile.TemporaryDirectory() as directory:
        made = trees.tree(Path(directory), files)
        trust = keys.of(
            made,
            release=RELEASE,
            image=f"/boot/vmlinuz-{RELEASE}",
            embedded=False,
            config=config,
            command_line=state.command_line,
            store=firmware.read(made),
        )
        judge = Judge(trust)
        found = {}
        for name in cases.modules:
            verdict = judge.module(module_files.read(made, f"/cases/{name}"))
            kind, enforced = verdict.kind, trust.enforcement.enforced
            tolerated = "unknown" if enforced is None else "refused" if enforced else "taints"
            if kind == "ok":
                said = Said(f"{kind}, leaving" if verdict.leaving else kind, "loads")
            elif kind == "conditional" and verdict.module:
                said = Said(f"{kind}: {verdict.module}", "loads", tolerated)
            elif kind in NEVER:
                said = Said(kind, "refused")
            else:
                said = Said(kind, tolerated if kind in IF_ENFORCED else "unknown")
            found[name] = said
        return found


def of_images(state: State, cases: Set) -> dict[str, Said]:
    """What the program says of each kernel image."""
    find = "search --no-floppy --fs-uuid --set=root 11111111"
    linux = f"linux /boot/vmlinuz-{RELEASE} root=/dev/sda2 ro"
    menu = f"{find}\nmenuentry 'Debian' {{\n\t{linux}\n\tinitrd /boot/initrd.img-{RELEASE}\n}}\n"
    stub = "search.fs_uuid 11111111 root\nset prefix=($root)'/boot/grub'\nconfigfile $prefix/grub.cfg\n"
    esp = "/boot/efi/EFI/debian"
    option = efi.option("\\EFI\\debian\\shimx64.efi", description="debian")
    files: dict[str, Content] = {
        **efi.disks(),
        **efi.variables(order=[1], options={1: option}, current=1, secure_boot=state.secure_boot),
        **shown(state, cases),
        "/etc/os-release": "ID=debian\nVERSION_ID=12\n",
        "/var/lib/dpkg/status": "",
        **{f"{esp}/{name}x64.efi": program(name) for name in ("shim", "grub", "mm")},
        f"{esp}/grub.cfg": stub,
        "/boot/grub/grub.cfg": menu,
        f"/boot/initrd.img-{RELEASE}": b"070701",
    }
    found = {}
    with tempfile.TemporaryDirectory() as directory:
        for name, image in cases.images.items():
            made = trees.tree(Path(directory), {**files, f"/boot/vmlinuz-{RELEASE}": image})
            found[name] = _image(made, shim_asks=state.secure_boot and state.validating)
    return found


def _image(made: Machine, *, shim_asks: bool) -> Said:
    # GRUB alone takes a damaged kernel, which then ends in a panic: that is another question.
    checks = (kernel_files.CHECK, kernel_signature.CHECK) if shim_asks else (kernel_signature.CHECK,)
    boot, plan = find_plan(made, Volumes(made))
    assert plan.next is not None
    case = replace(trees.case(made, entry=plan.next, firmware=boot), plan=plan, kernels=installed(made))
    findings: list[Finding] = []
    for check in checks:
        try:
            findings += [finding for finding in check.run(case) if finding.id.startswith(check.id)]
        except NotApplicable:
            continue
    about = [finding for finding in findings if finding.subject == case.entry.kernel.path]  # type: ignore[union-attr]
    blockers = [finding.id for finding in about if finding.level == "blocker"]
    unknowns = [finding.id for finding in about if finding.level == "unknown"]
    if blockers:
        return Said(blockers[0], "refused")
    return Said(unknowns[0], "unknown") if unknowns else Said("ok", "loads")
