"""Will the firmware, shim and the boot loader let one another start, and then the kernel?

With Secure Boot on, each asks for a signature of the next: the firmware of shim (or of whatever it starts), shim of the
loader, and the loader has shim or the firmware ask for the kernel's. Which programs these are, the boot plan tells.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property

from safeupdate.boot.firmware import EFI, VARIABLES, identify
from safeupdate.case import Case, Check
from safeupdate.checks.module_remedies import keep_keys, take_back
from safeupdate.errors import FormatError, Missing, Unreadable
from safeupdate.formats import authenticode, bzimage, certificate, sbat, shim
from safeupdate.formats.sbat import Component, Level
from safeupdate.formats.shim import Vendor
from safeupdate.machine import Machine
from safeupdate.remedies import add_kernels, install, reinstall_kernel
from safeupdate.report import Finding, NotApplicable, Remedy, blocker, note, unknown, warning
from safeupdate.trust import firmware, images
from safeupdate.trust.firmware import List, Store
from safeupdate.trust.images import Program, Verdict

_OWN_KEYS = (
    "/var/lib/shim-signed/mok/MOK.der",
    "/var/lib/dkms/mok.pub",
    "/etc/pki/akmods/certs/public_key.der",
    "/root/mok/MOK.der",
)
"""Where distributions put the certificate of a machine's own key."""


@dataclass(frozen=True)
class _Chain:
    """What starts what on this machine, and by which keys."""

    case: Case
    store: Store
    told: set[str] = field(default_factory=set)
    """Why something could not be decided, as far as it was said already."""
    starter: str | None = None
    """The shim that is asked, where it is not the one that starts the loader."""

    @cached_property
    def kinds(self) -> dict[str, str]:
        """Which program each file of the plan is."""
        return {path: identify(self.case.machine, path).kind for path in self.case.plan.programs}

    @cached_property
    def shim(self) -> str | None:
        """The shim that starts the loader, where its file is to be seen."""
        return self.starter or next(
            (path for path in reversed(self.case.plan.programs) if self.kinds[path] == "shim"), None
        )

    @property
    def through_shim(self) -> bool:
        """Whether shim is on the way: by the files, else by what it leaves for the running system."""
        return self.shim is not None if self.kinds else self.store.through_shim

    @cached_property
    def vendor(self) -> Vendor:
        """The keys in shim itself. Those of the shim that ran are in MokListRT too."""
        data = self._of_shim(".vendor_cert")
        return Vendor() if data is None else shim.vendor(data)

    @cached_property
    def asks_generations(self) -> bool:
        """Whether this shim knows SBAT, as those since 15.3 do."""
        return self._of_shim(".sbat") is not None

    @cached_property
    def level(self) -> Level:
        """The SBAT level that the next boot has: shim raises the one that is set to its own."""
        current = sbat.level(self.store.sbat_level or b"")
        data = self._of_shim(".sbatlevel")
        if data is None:
            return current
        policy = self.case.machine.read_if_there(f"{firmware.VARIABLES}/SbatPolicy-{firmware.SHIM}", limit=1 << 10)
        own = shim.levels(data)[policy is not None and policy[4:] == _POLICY_LATEST]
        return own if own.date > current.date else current

    def _of_shim(self, name: str) -> bytes | None:
        if self.shim is None:
            return None
        with self.case.machine.open(self.shim) as file:
            try:
                section = authenticode.parse(file).section(name)
            except FormatError:
                return None  # it is told of where shim itself is looked at
            return None if section is None else authenticode.read(file, section, limit=shim.SIZE_LIMIT)

    @cached_property
    def allowed(self) -> tuple[List, ...]:
        """What shim trusts."""
        lists = () if self.store.ignores_db else (self.store.db,)
        return (*lists, self.store.mok, List("shim's own keys", entries=self.vendor.allowed))

    @cached_property
    def denied(self) -> tuple[List, ...]:
        """What shim refuses."""
        return List("shim's own deny list", entries=self.vendor.denied), self.store.dbx, self.store.mokx

    @cached_property
    def lists(self) -> tuple[List, ...]:
        """All that may decide. Raises `FormatError` where shim's own keys cannot be read."""
        return (*self.allowed, *self.denied, self.store.db, self.store.denying)

    def by_shim(self, program: Program) -> Verdict:
        """What shim says of it."""
        return images.by_shim(program, allowed=self.allowed, denied=self.denied)

    def by_shim_afterwards(self, program: Program) -> Verdict:
        """What shim says of it once a person has confirmed what is pending: keys to delete, and keys to deny."""
        if self.shim is None and self.store.resets:
            return self.by_shim(program)  # which keys of the list are shim's own, and stay, is not to be seen
        allowed = [self.store.lasting if one is self.store.mok else one for one in self.allowed]
        return images.by_shim(program, allowed=allowed, denied=(*self.denied, self.store.denying))

    def by_firmware(self, program: Program) -> Verdict:
        """What the firmware says of it."""
        return images.by_firmware(program, allowed=self.store.db, denied=self.store.dbx)


_POLICY_LATEST = b"\1"
"""SbatPolicy (shim, include/sbat.h)."""


def check(case: Case) -> Iterator[Finding]:
    """Each program on the way to the kernel, then the kernel."""
    if case.entry is None or case.entry.kernel is None:
        raise NotApplicable("it is not known which kernel boots next")
    if case.firmware.kind == "bios":
        raise NotApplicable("this machine has no UEFI firmware, and so no Secure Boot")
    if case.firmware.secure_boot is None and not case.firmware.captured:
        yield from _not_captured(case)
        return
    chain = _Chain(case, firmware.read(case.machine))
    yield from _mok_manager(chain)
    if not case.firmware.secure_boot:
        raise NotApplicable("Secure Boot is off")
    for path in case.plan.programs:
        if path != case.entry.kernel.path:
            findings = list(_loader(chain, path, chain.kinds[path]))
            if chain.kinds[path] == "shim" and not any(finding.level == "blocker" for finding in findings):
                for helper, kind in _helpers(chain, path):
                    findings += _loader(replace(chain, starter=path), helper, kind)
            yield from findings
            if any(finding.level == "blocker" for finding in findings):
                return  # nothing after it starts, and a broken shim does not tell what it would have trusted
    yield from _kernel(chain)


# -- the programs on the way -----------------------------------------------------------------------------------


def _helpers(chain: _Chain, path: str) -> Iterator[tuple[str, str]]:
    """The programs of shim's own that this shim starts on the way: MokManager where a request is pending, and the
    fallback program where it goes from the default path to the loader that is registered in another directory."""
    programs = chain.case.plan.programs
    directory, _, name = path.rpartition("/")
    suffix = re.sub(r"^(?:shim|boot)", "", name.lower())
    names = {one.lower(): one for one in chain.case.machine.listdir(directory)}
    following = programs[programs.index(path) + 1 :][:1]
    wanted = []
    if chain.store.requests and "shim" not in map(chain.kinds.get, programs[: programs.index(path)]):
        wanted.append((f"mm{suffix}", "mokmanager.efi", _MOK_MANAGER))
    if name.lower().startswith("boot") and following and following[0].rpartition("/")[0] != directory:
        wanted.append((f"fb{suffix}", "fallback.efi", _FALLBACK))
    for usual, other, kind in wanted:
        found = names.get(usual) or names.get(other)
        if found is not None:
            yield f"{directory}/{found}", kind


_MOK_MANAGER, _FALLBACK = "MokManager", "shim's fallback program"


def _brought_by_shim(chain: _Chain, verdict: Verdict) -> bool:
    """Whether shim was built with the certificate of the key that signed its own programs (ENABLE_SHIM_CERT)."""
    return (
        verdict.answer == "unknown-key"
        and chain.shim is not None
        and verdict.signer is not None
        and verdict.signer in chain.case.machine.read(chain.shim, limit=_PROGRAM_LIMIT)
    )


def _loader(chain: _Chain, path: str, kind: str) -> Iterator[Finding]:
    """One of the programs before the kernel, and whether the one before it lets it start."""
    case, is_shim, is_helper = chain.case, kind == "shim", kind in (_MOK_MANAGER, _FALLBACK)
    by_shim = chain.shim is not None and not is_shim
    if by_shim and not chain.store.validating:
        return
    name = {"grub": "GRUB"}.get(kind, kind or "the boot loader")
    lists = chain.lists
    with case.machine.open(path) as file:
        try:
            program = images.read(file, lists)
        except FormatError as error:
            yield blocker(
                "kernel-signature.loader-broken",
                path,
                f"{path} is no EFI program that can be started: {error}.",
                "The firmware does not start it, and the machine stops in the firmware or at the next boot option.",
                remedy=_loader_again(case, path),
            )
            return
    verdict = chain.by_shim(program) if by_shim else chain.by_firmware(program)
    if is_helper and _brought_by_shim(chain, verdict):
        verdict = Verdict("accepted", "shim's own keys", verdict.who, signer=verdict.signer)
    if verdict.answer == "unknown":
        yield from _undecided(chain, path, verdict, "the boot loader")
    elif verdict.answer != "accepted":
        yield blocker(
            "kernel-signature.loader-refused",
            path,
            f"{path} ({name}) {_refusal(verdict, 'shim' if by_shim else 'the firmware')}.",
            "shim stops with “Security Violation”, before the boot menu."
            if by_shim
            else "The firmware refuses to start it, and goes on with its next boot option or stops.",
            evidence=_evidence(verdict),
            remedy=_NEW_KEYS if is_shim and _MICROSOFT_2023 in verdict.why else _loader_again(case, path),
        )
    elif by_shim and not is_helper and chain.by_shim_afterwards(program).answer != "accepted":
        yield _refused_afterwards(chain, path, verdict)
    elif (by_shim or is_shim) and program.components_problem is None:
        yield from _generations(chain, path, name, program, mandatory=by_shim)
    elif by_shim or is_shim:
        yield blocker(
            "kernel-signature.loader-broken",
            path,
            f"The SBAT section of {path} cannot be read: {program.components_problem}.",
            "shim refuses to start it, before the boot menu.",
            remedy=_loader_again(case, path),
        )
    yield from _of_package(case, path, kind)


def _generations(chain: _Chain, path: str, name: str, program: Program, *, mandatory: bool) -> Iterator[Finding]:
    """The program's components against the SBAT level; shim asks this of itself first of all."""
    old = sbat.revoked(program.components or (), chain.level)
    if program.components is None and mandatory and chain.level.generations and chain.asks_generations:
        yield blocker(
            "kernel-signature.loader-revoked",
            path,
            f"{path} ({name}) has no SBAT section, which shim asks for.",
            "shim stops with “Security Violation”, before the boot menu.",
            remedy=_loader_again(chain.case, path),
        )
    elif old:
        yield blocker(
            "kernel-signature.loader-revoked",
            path,
            f"{path} ({name}) is revoked: {_generations_of(old, chain.level)}.",
            "shim stops with “Security Violation”, before the boot menu."
            if mandatory
            else "shim fails its own check (“SBAT self-check failed: Security Policy Violation”) and turns the "
            "machine off.",
            evidence=[f"SBAT level {chain.level.date or 'without a date'}"],
            remedy=_loader_again(chain.case, path),
        )


def _generations_of(old: tuple[Component, ...], level: Level) -> str:
    return ", ".join(
        f"{one.name} has generation {one.generation}, {level.generations[one.name]} is wanted" for one in old
    )


def _mok_manager(chain: _Chain) -> Iterator[Finding]:
    """A request to change the keys makes shim start MokManager, before anything else and whatever Secure Boot says."""
    requests = chain.store.requests
    first = next((path for path in chain.case.plan.programs if chain.kinds[path] == "shim"), None) if requests else None
    if first is None:
        return
    directory = first.rpartition("/")[0]
    names = {name.lower() for name in chain.case.machine.listdir(directory)}
    if any(name == "mokmanager.efi" or (name.startswith("mm") and name.endswith(".efi")) for name in names):
        return
    yield blocker(
        "kernel-signature.mok-manager-missing",
        directory,
        f"A change of the machine owner's keys is pending ({', '.join(requests)}), and the program "
        f"that shim starts for it, MokManager (mmx64.efi), is not in {directory}.",
        "shim stops with “Failed to start MokManager” and turns the machine off, at every start.",
        remedy=Remedy(
            "Take the request back, or put MokManager beside shim.",
            (
                *(("mokutil", *revoke) for revoke in take_back(requests)),
                *_loader_again(chain.case, first).commands,
            ),
        ),
    )


def _of_package(case: Case, path: str, kind: str) -> Iterator[Finding]:
    """On Debian and its kin packages bring the signed programs, and the ESP has copies of them."""
    directory, _, name = path.rpartition("/")
    prefix, place = _PACKAGED.get(kind, ("", ""))
    vendor = directory.rpartition("/")[2].lower()
    if not place or vendor != (case.machine.distribution or "").partition(" ")[0]:
        return
    suffix = name.lower().removeprefix(prefix)
    brought = [
        f"{at}/{one}"
        for at in (place.format("x86_64"), place.format("arm64"))
        for one in case.machine.listdir(at)
        if one.startswith(prefix) and f"{suffix}." in one
    ]
    if not brought:
        return
    ours = case.machine.read(path, limit=_PROGRAM_LIMIT)
    if all(case.machine.read(one, limit=_PROGRAM_LIMIT) != ours for one in brought if case.machine.is_file(one)):
        yield warning(
            "kernel-signature.loader-not-of-package",
            path,
            f"{path} is not the file that the installed packages brought ({brought[0]}).",
            "What was mended or revoked since does not reach the boot; an older one may be refused one day.",
            remedy=Remedy("Copy the installed boot loader to the ESP.", (("grub-install",),)),
        )


def _refused_afterwards(chain: _Chain, path: str, verdict: Verdict) -> Finding:
    """It starts now. Whether it still does after the next start hangs on what a person answers there."""
    key = f"the key “{verdict.who}” in {verdict.by}" if verdict.who else f"an entry in {verdict.by}"
    asked = " and to ".join(dict.fromkeys(map(chain.store.asks, chain.store.requests)))
    return unknown(
        "kernel-signature.refused-once-confirmed",
        path,
        f"{path} is let start because of {key}, which is not to be trusted any more once a person at the console has "
        f"confirmed what is pending: to {asked}.",
        "With nobody there MokManager gives up after some seconds, and all stays as it is. Once it is confirmed, shim "
        "refuses it, and this entry does not start.",
        evidence=_evidence(verdict),
        remedy=keep_keys(chain.store),
    )


# -- the kernel ------------------------------------------------------------------------------------------------


def _kernel(chain: _Chain) -> Iterator[Finding]:
    case = chain.case
    assert case.entry is not None and case.entry.kernel is not None
    path = case.entry.kernel.path
    if path is None or not case.machine.is_file(path):
        raise NotApplicable("the kernel's file is not there, or not to be seen")
    direct = path in case.plan.programs
    if chain.through_shim and not chain.store.validating:
        raise NotApplicable("shim is told to start everything (mokutil --disable-validation)")
    program = _program(chain, path)
    by_shim = chain.through_shim
    if program is None:
        verdict = Verdict("unsigned")
    elif by_shim:
        verdict = chain.by_shim(program)
        # systemd-boot lets the firmware have its say where shim has said no.
        if case.plan.loader == "systemd-boot":
            other = chain.by_firmware(program)
            if other.answer == "accepted":
                verdict, by_shim = other, False
    else:
        verdict = chain.by_firmware(program)
    if verdict.answer == "accepted":
        assert program is not None
        afterwards = chain.by_shim_afterwards(program) if by_shim else verdict
        if afterwards.answer != "accepted":
            yield _refused_afterwards(chain, path, verdict)
        yield from _kernel_generations(chain, path, program, mandatory=direct)
        return
    if verdict.answer == "unknown":
        yield from _undecided(chain, path, verdict, "the kernel")
        return
    with case.machine.open(path) as file:
        if authenticode.intact(file) is False:
            raise NotApplicable("the image is not the one that was signed, which kernel-files tells")
    if not chain.through_shim and case.plan.loader == "grub":
        yield from _grub_alone(chain, path, verdict)
        return
    yield _kernel_refused(chain, path, program, verdict)


def _program(chain: _Chain, path: str) -> Program | None:
    """The kernel image as an EFI program; None for a sound one that is none, and so cannot be signed."""
    lists = chain.lists
    with chain.case.machine.open(path) as file:
        try:
            return images.read(file, lists)
        except FormatError:
            try:
                bzimage.parse(file)
            except FormatError as error:
                raise NotApplicable("the image is damaged, which kernel-files tells") from error
            return None


def _kernel_refused(chain: _Chain, path: str, program: Program | None, verdict: Verdict) -> Finding:
    case = chain.case
    consequence = _KERNEL_CONSEQUENCES.get(case.plan.loader or "", "The firmware or shim refuses to start it.")
    who = "neither the firmware nor shim" if chain.through_shim else "the firmware"
    evidence = _evidence(verdict)
    if verdict.answer == "denied":
        return blocker(
            "kernel-signature.image-revoked",
            path,
            f"{path} {_refusal(verdict, who)}.",
            consequence,
            evidence=evidence,
            remedy=_NEWER,
        )
    report = blocker
    if _runs_all_the_same(chain, path, verdict):
        report = unknown
        evidence.append(f"the kernel that runs, {case.machine.running_kernel}, would be refused too")
    if verdict.answer == "unsigned":
        return report(
            "kernel-signature.image-unsigned",
            path,
            f"{path} carries no signature, and Secure Boot is on.",
            consequence,
            evidence=evidence,
            remedy=_sign(case, path),
        )
    if verdict.answer == "module-key":
        return report(
            "kernel-signature.key-for-modules",
            path,
            f"{path} {_refusal(verdict, who)}.",
            consequence,
            evidence=evidence,
            remedy=Remedy(
                "Sign it with a key whose certificate does not have the extended key usage 1.3.6.1.4.1.2312.16.1.2, "
                "or install the distribution's signed kernel.",
                _package_again(case),
            ),
        )
    if verdict.answer != "unknown-key" or program is None:
        return report(
            "kernel-signature.signature-unusable",
            path,
            f"{path} {_refusal(verdict, who)}.",
            consequence,
            evidence=evidence,
            remedy=_sign(case, path),
        )
    if (
        chain.through_shim
        and images.by_shim(program, allowed=[chain.store.new], denied=chain.denied).answer == "accepted"
    ):
        return blocker(
            "kernel-signature.key-pending",
            path,
            f"{path} is signed by the key “{verdict.who}”, whose enrolment is pending.",
            "At the next start MokManager asks a person at the console to enrol it. Without one it goes on after some "
            f"seconds, without the key. Then: {consequence}",
            evidence=evidence,
            remedy=Remedy(
                "Restart while you are at the console, choose “Enroll MOK”, and enter the password that was given to "
                "mokutil.",
                (("mokutil", "--list-new"),),
            ),
        )
    return report(
        "kernel-signature.key-not-trusted",
        path,
        f"{path} {_refusal(verdict, who)}.",
        consequence,
        evidence=evidence,
        remedy=_trust(chain, path, verdict),
    )


def _runs_all_the_same(chain: _Chain, path: str, verdict: Verdict) -> bool:
    """Whether the kernel that runs, another file, would get the same answer: then this machine's loader does not ask
    what is thought here that it asks."""
    running = next((one for one in chain.case.kernels if one.release == chain.case.machine.running_kernel), None)
    if running is None or running.image == path:
        return False
    try:
        program = _program(chain, running.image)
    except (NotApplicable, Missing, Unreadable):
        return False
    if program is None:
        return verdict.answer == "unsigned"
    return (chain.by_shim(program) if chain.through_shim else chain.by_firmware(program)).answer == verdict.answer


_KERNEL_CONSEQUENCES = {
    "grub": "GRUB says “bad shim signature”, and this entry does not start.",
    "systemd-boot": "systemd-boot reports a security violation, and this entry does not start.",
}


def _kernel_generations(chain: _Chain, path: str, program: Program, *, mandatory: bool) -> Iterator[Finding]:
    if not chain.through_shim:
        return
    problem = None
    if program.components_problem:
        problem = f"its SBAT section cannot be read: {program.components_problem}"
    elif program.components is None and mandatory and chain.level.generations and chain.asks_generations:
        problem = "it has no SBAT section, which shim asks for where it starts an image itself"
    elif old := sbat.revoked(program.components or (), chain.level):
        problem = _generations_of(old, chain.level)
    if problem:
        yield blocker(
            "kernel-signature.image-revoked",
            path,
            f"shim does not start {path} any more: {problem}.",
            _KERNEL_CONSEQUENCES.get(chain.case.plan.loader or "", "shim stops with “Security Violation”."),
            evidence=[f"SBAT level {chain.level.date or 'without a date'}"],
            remedy=_NEWER,
        )


def _grub_alone(chain: _Chain, path: str, verdict: Verdict) -> Iterator[Finding]:
    """GRUB without shim: some builds ask the firmware about kernels, some refuse all of them, and some start all."""
    if not _runs_all_the_same(chain, path, verdict):
        yield unknown(
            "kernel-signature.grub-without-shim",
            path,
            f"{path} {_refusal(verdict, 'the firmware')}, and the firmware starts GRUB here itself, without shim.",
            "Whether this GRUB asks for a signature of kernels depends on how it was built.",
            evidence=_evidence(verdict),
            remedy=_sign(chain.case, path),
        )


def _not_captured(case: Case) -> Iterator[Finding]:
    """Without the firmware's variables: the kernel that runs tells what starts here. In the image of a machine nothing
    tells of the firmware that it will meet: then it is said, and decides nothing."""
    assert case.entry is not None and case.entry.kernel is not None
    offline = case.firmware.kind == "unknown"
    path = case.entry.kernel.path
    others = [one for one in case.kernels if one.image != path]
    if not offline:
        others = [one for one in others if one.release == case.machine.running_kernel]
    signed = next((one for one in others if _carries_signature(case, one.image)), None)
    if path is None or signed is None or _carries_signature(case, path):
        raise NotApplicable("whether Secure Boot is on is not to be seen here")
    where = EFI if offline else VARIABLES
    yield (note if offline else unknown)(
        "kernel-signature.secure-boot-not-known",
        path,
        f"{path} carries no signature, other than {signed.image}, and whether Secure Boot is on cannot be seen: "
        f"the firmware's facts ({where}) are not there.",
        "With Secure Boot on, the kernel does not start.",
        remedy=_sign(case, path),
    )


def _carries_signature(case: Case, path: str) -> bool:
    try:
        with case.machine.open(path) as file:
            return bool(authenticode.parse(file).signatures)
    except (FormatError, Missing, Unreadable):
        return False


# -- words -----------------------------------------------------------------------------------------------------


def _undecided(chain: _Chain, path: str, verdict: Verdict, what: str) -> Iterator[Finding]:
    if verdict.why not in chain.told:
        chain.told.add(verdict.why)
        yield unknown(
            "kernel-signature.not-decidable",
            path,
            f"Whether {path} is let start cannot be told: {verdict.why}.",
            f"With Secure Boot on, {what} may be refused.",
            evidence=_evidence(verdict),
        )


def _refusal(verdict: Verdict, who: str) -> str:
    """What is wrong with a program, as the rest of a sentence that its path begins; `who` refuses it."""
    if verdict.answer == "denied" and verdict.who:
        return f"is signed by a key that must not be trusted any more: {verdict.by} lists “{verdict.who}”"
    if verdict.answer == "unknown-key":
        issued = f" ({verdict.why})" if verdict.why else ""
        trust = "trusts" if who.startswith("neither") else "does not trust"
        return f"is signed by the key “{verdict.who}”{issued}, which {who} {trust}"
    return {
        "denied": f"must not be started any more: {verdict.by} lists its digest",
        "unsigned": "carries no signature",
        "changed": "was changed after it was signed",
        "module-key": f"is signed by the key “{verdict.who}”, which may sign kernel modules only",
        "not-taken": f"is signed in a way that shim does not take ({verdict.why})",
    }.get(verdict.answer, f"has no signature that can be used ({verdict.why})")


def _evidence(verdict: Verdict) -> list[str]:
    import hashlib

    if verdict.signer is None:
        return []
    name = certificate.parse(verdict.signer).common_name
    return [f"signed by “{name}”, SHA-256 of the certificate {hashlib.sha256(verdict.signer).hexdigest()}"]


_PROGRAM_LIMIT = 16 << 20
"""Bytes of a loader that is compared with its package's; the largest, a signed GRUB, has 4 MB."""

_PACKAGED = {"shim": ("shim", "/usr/lib/shim"), "grub": ("grub", "/usr/lib/grub/{}-efi-signed")}
"""How the names begin, and where Debian's packages put the signed programs."""


def _loader_again(case: Case, path: str) -> Remedy:
    machine = case.machine
    text = "Install the signed boot loader anew."
    if machine.has_program("sbctl"):
        return Remedy(f"Sign {path} with this machine's own keys.", (("sbctl", "sign", "-s", path),))
    if machine.exists("/etc/kernel/proxmox-boot-uuids"):
        return Remedy(text, (("proxmox-boot-tool", "reinit"),))
    if case.plan.loader == "systemd-boot":
        return Remedy(text, (("bootctl", "install"),))
    if machine.exists("/var/lib/dpkg/status"):
        architecture = "arm64" if "aa64" in path.lower() else "amd64"
        packages = ("shim-signed", f"grub-efi-{architecture}-signed")
        return Remedy(text, (("apt-get", "install", "--reinstall", *packages), ("grub-install",)))
    if machine.exists("/usr/bin/dnf"):
        return Remedy(text, (("dnf", "reinstall", "shim-*", "grub2-efi-*"),))
    if machine.exists("/usr/bin/zypper"):
        again = ("zypper", "install", "--force", "shim", "grub2-x86_64-efi")
        return Remedy(text, (again, ("update-bootloader", "--reinit")))
    return Remedy(text)


def _sign(case: Case, path: str) -> Remedy:
    """A signed kernel in place of this one: the package's, or the same one signed here."""
    if case.machine.has_program("sbctl"):
        return Remedy(f"Sign {path} with this machine's own keys.", (("sbctl", "sign", "-s", path),))
    if case.entry is not None and case.entry.embedded and case.release:
        return add_kernels(case.machine, [case.release])
    return Remedy(
        "Install the signed kernel of the distribution, or sign the image with a key that is enrolled (sbsign).",
        _package_again(case),
    )


def _package_again(case: Case) -> tuple[tuple[str, ...], ...]:
    again = reinstall_kernel(case.machine, case.release or "")
    # Debian and Ubuntu have each kernel a second time without a signature, under a name that says so.
    return tuple(tuple(word.removesuffix("-unsigned") for word in command) for command in again.commands)


_NEWER = Remedy("Install a newer kernel, and start another one that is installed until then.")

_MICROSOFT_2023 = "Microsoft UEFI CA 2023"
_NEW_KEYS = Remedy(
    "Bring the keys of the firmware up to date, which do not have Microsoft's of 2023 yet.",
    (("fwupdmgr", "refresh"), ("fwupdmgr", "update")),
)


def _trust(chain: _Chain, path: str, verdict: Verdict) -> Remedy:
    """Have the key enrolled, where it is this machine's own and shim is there to ask; else a kernel that is trusted."""
    machine = chain.case.machine
    own = next((one for one in _OWN_KEYS if _content(machine, one) == verdict.signer), None)
    if own is None or not chain.through_shim:
        return _sign(chain.case, path)
    text = "Ask for the enrolment of this machine's own key, restart at the console, and confirm it in MokManager."
    tool = () if machine.exists("/usr/bin/mokutil") else install(machine, "mokutil").commands
    return Remedy(text, (*tool, ("mokutil", "--import", own)))


def _content(machine: Machine, path: str) -> bytes | None:
    with suppress(Unreadable):  # /root is open to root alone, and what is in it only makes the advice better
        return machine.read_if_there(path, limit=1 << 16)
    return None


CHECK = Check("kernel-signature", "The firmware and shim let the kernel start", essential=True, run=check)
