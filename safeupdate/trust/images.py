"""Whether an EFI program is let start: by the firmware, or by shim for whatever comes after it.

Both ask the same lists in another order. The firmware (UEFI 2.10, section 32.5.3.3, as EDK2's
DxeImageVerificationLib has it) refuses an image with one signature by a key that dbx denies; shim (verify.c) takes it
if another one is good. Neither looks at dates.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import BinaryIO, Literal

from safeupdate.errors import FormatError
from safeupdate.formats import authenticode, certificate, cms, sbat
from safeupdate.formats.authenticode import Image, Signature
from safeupdate.formats.certificate import MODULE_SIGNING, Certificate
from safeupdate.formats.sbat import Component
from safeupdate.trust import verify
from safeupdate.trust.firmware import List

Answer = Literal[
    "accepted", "denied", "unsigned", "changed", "broken", "unknown-key", "module-key", "not-taken", "unknown"
]
"""`changed`: no signature is of these bytes. `broken`: the signatures themselves are. `module-key`: the key is known,
but may sign kernel modules only. `not-taken`: shim takes SHA-256 and RSA, and no other."""

_TELLING: tuple[Answer, ...] = ("unknown", "denied", "module-key", "unknown-key", "not-taken", "broken", "changed")
"""Of several signatures that are refused, the one whose reason leads furthest stands for all."""

_CHAIN_LIMIT = 8
"""Certificates between a signer and its authority; Microsoft's and the distributions' signatures have one or two."""


@dataclass(frozen=True)
class Verdict:
    """What becomes of an image. `by` names the list that decided, `who` the key, `why` says more for people.

    `signer` is the certificate (DER) of the key that made the signature.
    """

    answer: Answer
    by: str = ""
    who: str = ""
    why: str = ""
    signer: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Program:
    """An EFI program, read once: its headers, its digests by algorithm, and its components (None: no SBAT at all)."""

    image: Image
    digests: dict[str, bytes] = field(hash=False)
    padded: bytes
    components: tuple[Component, ...] | None = None
    components_problem: str | None = None


def read(file: BinaryIO, lists: Iterable[List] = ()) -> Program:
    """Read an EFI program, for the questions below to be asked with these lists. Raises `FormatError`."""
    image = authenticode.parse(file)
    wanted = {"sha256", *(one.algorithm for one in image.signatures if one.algorithm)}
    wanted |= {entry.kind for one in lists for entry in one.entries if entry.kind in authenticode.DIGESTS}
    digests = {name: authenticode.digest(file, image, name) for name in wanted}
    padded = authenticode.digest(file, image, "sha256", padded=True) if image.padding else digests["sha256"]
    found, problem = None, None
    section = image.section(".sbat")
    if section is not None:
        try:
            found = sbat.components(authenticode.read(file, section, limit=sbat.SIZE_LIMIT))
        except FormatError as error:
            found, problem = (), str(error)
    return Program(image, digests, padded, found, problem)


def by_shim(program: Program, *, allowed: Sequence[List], denied: Sequence[List]) -> Verdict:
    """What shim says of an image that it starts, or that a loader asks it about."""
    if program.image.problem:
        return Verdict("broken", why=program.image.problem)
    hit = _listed(program, denied)
    if hit:
        return Verdict("denied", hit, why="its digest is listed there")
    hit = _listed(program, allowed)
    if hit:
        return _if_known(Verdict("accepted", hit, why="its digest is listed there"), denied)
    verdicts = [_shim_on(program, one, allowed, denied) for one in program.image.signatures]
    return _if_known(_best(verdicts), denied, allowed)


def by_firmware(program: Program, *, allowed: List, denied: List) -> Verdict:
    """What the firmware says of an image that it loads."""
    if program.image.problem:
        return Verdict("broken", why=program.image.problem)
    if _listed(program, [denied]):
        return Verdict("denied", denied.name, why="its digest is listed there")
    verdicts = [_firmware_on(program, one, allowed, denied) for one in program.image.signatures]
    refused = next((one for one in verdicts if one.by == denied.name), None)
    verdict = refused or _best(verdicts)
    if refused is None and verdict.answer != "accepted" and _listed(program, [allowed]):
        verdict = Verdict("accepted", allowed.name, why="its digest is listed there")
    return _if_known(verdict, [denied], [allowed])


def _if_known(verdict: Verdict, denied: Iterable[List], allowed: Iterable[List] = ()) -> Verdict:
    """The verdict, unless what is not seen of the lists could turn it."""
    if verdict.answer == "accepted":
        hidden = [one.name for one in denied if one.problem]
    elif verdict.answer in ("unsigned", "unknown-key", "changed", "module-key", "not-taken"):
        hidden = [one.name for one in allowed if one.problem]
    else:
        return verdict
    if not hidden:
        return verdict
    return replace(verdict, answer="unknown", why=f"{', '.join(hidden)} cannot be read here")


def _best(verdicts: Sequence[Verdict]) -> Verdict:
    if not verdicts:
        return Verdict("unsigned")
    accepted = next((one for one in verdicts if one.answer == "accepted"), None)
    return accepted or min(verdicts, key=lambda one: _TELLING.index(one.answer))


def _listed(program: Program, lists: Iterable[List]) -> str:
    """The name of the first list that has the image's digest; empty without any."""
    for one in lists:
        for entry in one.entries:
            if entry.kind in program.digests and entry.data in (program.digests[entry.kind], program.padded):
                return one.name
    return ""


# -- one signature ---------------------------------------------------------------------------------------------


def _shim_on(program: Program, signature: Signature, allowed: Sequence[List], denied: Sequence[List]) -> Verdict:
    if signature.algorithm not in ("", "sha256"):
        return Verdict("not-taken", why=f"the signature's digest is {signature.algorithm.upper()}")
    chains = _chains(program, signature)
    if isinstance(chains, Verdict):
        return chains
    if any(verify.key_type(chain[0].key) != "rsa" for chain in chains):
        return Verdict("not-taken", who=chains[0][0].common_name, why="the key is none of RSA", signer=chains[0][0].der)
    signer = chains[0][0].der
    for one in denied:
        key = _trusted(chains, one, modules=False)
        if key:
            return Verdict("denied", one.name, key.common_name, "the key is listed there", signer)
    for_modules = None
    for one in allowed:
        key = _trusted(chains, one, modules=False)
        if key:
            return Verdict("accepted", one.name, key.common_name, signer=signer)
        for_modules = for_modules or _trusted(chains, one, modules=True)
    if for_modules:
        return Verdict("module-key", who=for_modules.common_name, signer=signer)
    return _stranger(chains, allowed)


def _firmware_on(program: Program, signature: Signature, allowed: List, denied: List) -> Verdict:
    chains = _chains(program, signature)
    if isinstance(chains, Verdict):
        return chains
    signer = chains[0][0].der
    key = _trusted(chains, denied)
    if key:
        return Verdict("denied", denied.name, key.common_name, "the key is listed there", signer)
    key = _by_digest(chains, denied)
    if key:
        why = f"{denied.name} has the digest of a certificate, from a date on that is not read here"
        return Verdict("unknown", denied.name, key.common_name, why, signer)
    key = _trusted(chains, allowed)
    if key and signature.algorithm == "sha1":
        return Verdict("unknown", allowed.name, key.common_name, "firmware may or may not take SHA-1", signer)
    if key and any(verify.key_type(chain[0].key) != "rsa" for chain in chains):
        return Verdict(
            "unknown", allowed.name, key.common_name, "firmware may or may not take keys other than RSA", signer
        )
    if key:
        return Verdict("accepted", allowed.name, key.common_name, signer=signer)
    return _stranger(chains, [allowed])


def _stranger(chains: Sequence[Sequence[Certificate]], allowed: Iterable[List]) -> Verdict:
    signer, name = chains[0][0], chains[0][-1].issuer_name
    anchors = [anchor for one in allowed for anchor in one.certificates]
    for one in (one for chain in chains for one in chain):
        if any(_issues(anchor, one) and verify.issued(anchor, one) is None for anchor in anchors):
            why = f"the certificate “{one.common_name}” is signed in a way that cannot be verified here"
            return Verdict("unknown", who=signer.common_name, why=why, signer=signer.der)
    issued = f"issued by “{name}”" if name and name != signer.common_name else ""
    return Verdict("unknown-key", who=signer.common_name, why=issued, signer=signer.der)


def _trusted(chains: Sequence[Sequence[Certificate]], keys: List, *, modules: bool | None = None) -> Certificate | None:
    """The certificate of the list that every chain leads to: it is part of it, or has issued a part of it.

    `modules`: take only keys that may sign nothing but modules (True), or only the others (False).
    """
    for one in keys.certificates:
        if modules in (None, MODULE_SIGNING in one.usages) and all(_leads(chain, one) for chain in chains):
            return one
    return None


def _leads(chain: Sequence[Certificate], anchor: Certificate) -> bool:
    return any(one.der == anchor.der or (_issues(anchor, one) and verify.issued(anchor, one)) for one in chain)


def _issues(issuer: Certificate, subject: Certificate) -> bool:
    """Whether a certificate may have issued the other, by what both say. Whether it calls itself an authority does not
    count, its key usage does: so shim was seen to do."""
    named = subject.authority_key_id is None or issuer.key_id in (None, subject.authority_key_id)
    return issuer.subject == subject.issuer and issuer.may_certify and named


def _by_digest(chains: Sequence[Sequence[Certificate]], keys: List) -> Certificate | None:
    for entry in keys.entries:
        kind, _, algorithm = entry.kind.partition("-")
        if kind == "x509" and algorithm:
            for one in (one for chain in chains for one in chain):
                if _digest(algorithm, one.signed) == entry.data:
                    return one
    return None


def _chains(program: Program, signature: Signature) -> list[list[Certificate]] | Verdict:
    """For each signer its certificate and those that issued it, as far as the signature brings them; else why not.

    Both verifiers look for a signer's certificate in the signature only, and all signers must be right.
    """
    if signature.problem is not None or signature.signed is None:
        return Verdict("unknown" if signature.not_der else "broken", why=signature.problem or "")
    if program.digests[signature.algorithm] != signature.digest:
        return Verdict("changed", why="the signature is that of other bytes")
    embedded = []
    for data in signature.signed.certificates:
        try:
            embedded.append(certificate.parse(data))
        except FormatError as error:
            return Verdict("unknown", why=f"a certificate in the signature cannot be read: {error}")
    chains = []
    for signer in signature.signed.signers:
        found = next((one for one in embedded if (one.issuer, one.serial) == (signer.issuer, signer.serial)), None)
        if found is None:
            return Verdict("broken", why="the signature does not bring the certificate of its key")
        good = _signed(signature, signer, found)
        if not good:
            why = "the signature does not fit its key" if good is False else "its algorithm cannot be verified here"
            return Verdict("broken" if good is False else "unknown", who=found.common_name, why=why, signer=found.der)
        chain = [found]
        while len(chain) < _CHAIN_LIMIT:
            issuer = next((one for one in embedded if one not in chain and _issues(one, chain[-1])), None)
            if issuer is None or not verify.issued(issuer, chain[-1]):
                break
            chain.append(issuer)
        chains.append(chain)
    return chains or Verdict("broken", why="the signature has no signer")


def _signed(signature: Signature, signer: cms.Signer, key: Certificate) -> bool | None:
    """Whether the key signed what the image's signature says; None: cannot tell."""
    value = _digest(signer.digest_name, signature.signed_content)
    if signer.signed_attributes is not None:
        try:
            claimed = signer.attribute(cms.MESSAGE_DIGEST)
            if value is not None and (claimed is None or cms.octets(claimed) != value):
                return False
        except FormatError:
            return False
        value = _digest(signer.digest_name, signer.signed_attributes)
    return None if value is None else verify.by_key(key, signer, value)


def _digest(algorithm: str | None, data: bytes) -> bytes | None:
    digest = verify.digester(algorithm) if algorithm else None
    if digest is None:
        return None
    digest.update(data)
    value: bytes = digest.digest()
    return value
