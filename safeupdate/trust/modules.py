"""What one kernel will make of one module's signature, in the kernel's own order of tests.

kernel/module/signing.c, certs/system_keyring.c (verify_pkcs7_message_sig), crypto/asymmetric_keys/pkcs7_verify.c and
pkcs7_trust.c. What these call ENODATA, ENOPKG and ENOKEY is forgiven where nothing is enforced; any other error is not.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal

from safeupdate.errors import FormatError
from safeupdate.formats import certificate, cms, modsig
from safeupdate.formats.certificate import Certificate
from safeupdate.formats.cms import SignedData, Signer
from safeupdate.formats.der import NotDistinguished
from safeupdate.formats.module_file import ModuleFile
from safeupdate.trust import verify
from safeupdate.trust.keys import ENROLLED, Key, Trust

Kind = Literal[
    "ok",
    "unsigned",
    "unknown-key",
    "pending-key",
    "unsupported",
    "conditional",
    "bad",
    "denied",
    "unreadable",
    "unverifiable",
]

NEVER: frozenset[Kind] = frozenset({"bad", "denied", "unreadable"})
"""The kernel refuses such a module whether or not anything is enforced."""

IF_ENFORCED: frozenset[Kind] = frozenset({"unsigned", "unknown-key", "pending-key", "unsupported"})
"""The kernel refuses it where signatures are enforced; else it loads, and taints the kernel."""

_WEAK = ("md4", "md5", "sha1")


@dataclass(frozen=True)
class Verdict:
    """What will become of a module.

    `key` is the one that decided, where one did (the pending one for `pending-key`). `why` says the rest, as a clause
    that a sentence may end with. `digest` is that of the signature; for `conditional`, `module` is the module without
    which the kernel cannot compute it, None where the doubt is about the key. `remarks` are worth a warning, no more.
    `leaving`: it holds only as long as nobody confirms at the console that the key is deleted.
    """

    kind: Kind
    why: str = ""
    key: Key | None = None
    digest: str | None = None
    module: str | None = None
    remarks: tuple[str, ...] = ()
    leaving: bool = False


class _Rejected(Exception):
    """EKEYREJECTED or EBADMSG; the message says why."""


class _Unsupported(Exception):
    """ENOPKG; the message says what."""


class _Untold(Exception):
    """This program cannot tell what the kernel will say; the message says why."""


@dataclass(frozen=True)
class Keyring:
    """The keys of a `Trust`, to be found by what a signature names them by."""

    keys: tuple[Key, ...]

    def find(self, name: bytes | tuple[bytes, bytes] | None) -> tuple[Key, ...]:
        """The keys with this identifier, or this issuer and serial number."""
        return () if name is None else self._by_name.get(name, ())

    @cached_property
    def _by_name(self) -> Mapping[bytes | tuple[bytes, bytes], tuple[Key, ...]]:
        found: dict[bytes | tuple[bytes, bytes], tuple[Key, ...]] = {}
        for key in self.keys:
            one = key.certificate
            names: list[bytes | tuple[bytes, bytes]] = [(one.issuer, one.serial)]
            if one.key_id is not None:
                names.append(one.key_id)
            for name in names:
                found[name] = (*found.get(name, ()), key)
        return found


@dataclass(frozen=True)
class Judge:
    """Judges modules for one kernel."""

    trust: Trust
    _accepted: Keyring = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_accepted", Keyring(self.trust.keys))

    @cached_property
    def _doubtful(self) -> Keyring:
        return Keyring(self.trust.doubtful)

    @cached_property
    def _unused(self) -> Keyring:
        return Keyring(tuple(key for key, _ in self.trust.unused))

    @cached_property
    def _pending(self) -> Keyring:
        return Keyring(self.trust.pending)

    @cached_property
    def _revoked(self) -> Keyring:
        return Keyring(self.trust.revoked)

    def module(self, module: ModuleFile) -> Verdict:
        """The verdict on a module, given what is known of its bytes."""
        verdict = self._signature(module)
        if module.broken is not None and verdict.kind not in ("bad", "denied"):
            return Verdict("unreadable", module.broken)
        if verdict.key is not None and verdict.kind in ("ok", "conditional") and self._is_leaving(verdict.key):
            return replace(verdict, leaving=self._afterwards._signature(module).kind != verdict.kind)
        return verdict

    def _is_leaving(self, key: Key) -> bool:
        return key.source == ENROLLED and key.certificate.der in self.trust.leaving

    @cached_property
    def _afterwards(self) -> Judge:
        """Once every deletion that is asked for is confirmed."""
        keys, doubtful = (
            tuple(key for key in several if not self._is_leaving(key))
            for several in (self.trust.keys, self.trust.doubtful)
        )
        return Judge(replace(self.trust, keys=keys, doubtful=doubtful, leaving=frozenset()))

    def _signature(self, module: ModuleFile) -> Verdict:
        try:
            where = modsig.parse(module.tail, module.size)
            if where is None:
                return Verdict("unsigned", "it carries no signature")
            if not where.is_pkcs7:
                return Verdict("unsupported", "its signature is of a kind that the kernel does not know")
            pkcs7 = module.tail[: where.end - where.covered]
            if len(module.tail) < module.size - where.covered:
                raise _Untold(f"its signature is longer than this program reads ({where.end - where.covered} bytes)")
            return self._pkcs7(module, cms.parse(pkcs7))
        except (NotDistinguished, _Untold) as error:
            return Verdict("unverifiable", str(error))
        except FormatError as error:
            return Verdict("bad", f"its signature is damaged: {error}")
        except _Rejected as error:
            return Verdict("bad", str(error))
        except _Unsupported as error:
            return Verdict("unsupported", str(error))

    def _pkcs7(self, module: ModuleFile, signed: SignedData) -> Verdict:
        for signer in signed.signers:
            self._known(signer)
        try:
            certificates = tuple(map(certificate.parse, signed.certificates))
        except FormatError as error:
            raise _Untold(f"a certificate in its signature cannot be read: {error}") from None
        if not all(one.dates_conform for one in certificates):
            raise _Rejected("its signature holds a certificate whose dates the kernel cannot read")
        if signed.version not in (1, 3) or any(_version(one) != signed.version for one in signed.signers):
            raise _Rejected("its signature has version numbers that do not fit together")
        if not signed.signers:
            raise _Rejected("its signature has no signer")
        if signed.content is not None:
            raise _Rejected("its signature holds content of its own")
        if signed.content_type != cms.DATA or any(one.signed_attributes is not None for one in signed.signers):
            raise _Rejected("its signature is of a form that the kernel takes for no module (signed attributes)")
        usable = [one for one in signed.signers if self.trust.digest(one.digest_name or "") != "no"]
        chains = [(one, self._chain(module, one, certificates)) for one in usable]
        if not usable:
            names = ", ".join(one.digest_name or one.digest for one in signed.signers)
            raise _Unsupported(f"the kernel is built without the digest of its signature ({names})")
        for signer, chain in chains:
            if self._search(module, signer, chain, self._revoked) is not None:
                return Verdict("denied", "its key's certificate is on the firmware's list of revoked ones")
        for signer, chain in chains:
            key = self._search(module, signer, chain, self._accepted)
            if key is not None:
                return self._accept(module, signer, key)
        return self._without_key(module, chains)

    def _known(self, signer: Signer) -> None:
        """The algorithms that the kernel's parser knows (crypto/asymmetric_keys/pkcs7_parser.c)."""
        if signer.digest_name is None:
            raise _Unsupported(f"the kernel does not know the digest of its signature ({signer.digest})")
        if signer.key_type == "ml-dsa":
            if self.trust.config is not None and "CONFIG_CRYPTO_MLDSA" not in self.trust.config:
                raise _Unsupported("the kernel is built without ML-DSA")
            raise _Untold("it is signed with ML-DSA")
        if signer.key_type not in ("rsa", "ecdsa") or (signer.key_type == "rsa" and signer.algorithm != cms.RSA):
            raise _Unsupported(f"the kernel does not know the algorithm of its signature ({signer.algorithm})")

    def _chain(self, module: ModuleFile, signer: Signer, certificates: tuple[Certificate, ...]) -> list[Certificate]:
        """The signer's certificate, if the signature brings it, and those of its issuers, each verified by the next."""
        first = next((one for one in certificates if _name(signer) in ((one.issuer, one.serial), one.key_id)), None)
        if first is None:
            return []
        if not _sure(verify.by_key(first, signer, _digest(module, signer))):
            raise _Rejected("it is not what was signed: the key whose certificate it brings says so")
        chain = [first]
        while chain[-1].issuer != chain[-1].subject:
            issuer = next((one for one in certificates if _is_issuer(one, chain[-1]) and one not in chain), None)
            if issuer is None:
                break
            if not _sure(verify.issued(issuer, chain[-1])):
                raise _Rejected("a certificate in its signature was not signed by the one that it names")
            chain.append(issuer)
        return chain

    def _search(self, module: ModuleFile, signer: Signer, chain: list[Certificate], ring: Keyring) -> Key | None:
        """The key of the ring that vouches for the signer, None without one (pkcs7_trust.c)."""
        below: Certificate | None = None
        for one in chain:
            found = ring.find((one.issuer, one.serial)) or ring.find(one.key_id)
            if found:
                return self._vouches(found, module, signer, below)
            if one.issuer == one.subject:
                return None
            below = one
        if below is not None:
            found = _authorities(ring, below)
            if found:
                return self._vouches(found, module, signer, below)
        found = ring.find(_name(signer))
        return self._vouches(found, module, signer, None) if found else None

    def _vouches(self, found: Iterable[Key], module: ModuleFile, signer: Signer, below: Certificate | None) -> Key:
        """The one of these keys that made the signature, of the certificate `below` or of the module itself."""
        for key in found:
            answer = (
                verify.by_key(key.certificate, signer, _digest(module, signer))
                if below is None
                else verify.issued(key.certificate, below)
            )
            if _sure(answer):
                return key
        raise _Rejected(f'it is not what was signed with the key "{key.name}"')

    def _accept(self, module: ModuleFile, signer: Signer, key: Key) -> Verdict:
        digest = signer.digest_name or ""
        if module.whole in self.trust.denied:
            return Verdict("denied", "its SHA-256 is on the firmware's list of revoked ones", key, digest)
        remarks = []
        if digest in _WEAK:
            remarks.append(f"its signature rests on {digest.upper()}, which later kernels may no longer take")
        if module.whole in self.trust.listed or key.certificate.der in self.trust.listed:
            remarks.append("it is on the firmware's list of revoked ones, which this kernel does not ask about modules")
        if self.trust.digest(digest) == "module":
            brings = self.trust.digest_module(digest)
            return Verdict("conditional", f"{digest} is in the module {brings}", key, digest, brings, tuple(remarks))
        return Verdict("ok", "", key, digest, None, tuple(remarks))

    def _without_key(self, module: ModuleFile, chains: list[tuple[Signer, list[Certificate]]]) -> Verdict:
        """No accepted key: say whether one is near."""
        digest = chains[0][0].digest_name
        for ring, kind in (
            (self._doubtful, "conditional"),
            (self._pending, "pending-key"),
            (self._unused, "unknown-key"),
        ):
            for signer, chain in chains:
                try:
                    key = self._search(module, signer, chain, ring)
                except _Rejected:
                    continue
                if key is None:
                    continue
                if kind == "conditional":
                    why = (
                        f'its key "{key.name}" is in {key.source}, and it is not known whether this kernel looks there'
                    )
                    return Verdict("conditional", why, key, digest)
                if kind == "pending-key":
                    why = f'its key "{key.name}" waits to be enrolled by a person at the console'
                    return Verdict("pending-key", why, key, digest)
                why = next(text for one, text in self.trust.unused if one is key)
                return Verdict("unknown-key", f'its key "{key.name}" is in {key.source}, but {why}', key, digest)
        if self.trust.missing is not None:
            raise _Untold(f"not every key of this kernel is known ({self.trust.missing})")
        return Verdict("unknown-key", "this kernel knows no key that signed it", None, digest)


def _version(signer: Signer) -> int:
    """The version of the whole signature that goes with a signer's (pkcs7_parser.c, pkcs7_note_signerinfo_version)."""
    return 1 if signer.version == 1 and signer.key_id is None else 3 if signer.version == 3 and signer.key_id else 0


def _name(signer: Signer) -> bytes | tuple[bytes, bytes] | None:
    if signer.issuer is not None and signer.serial is not None:
        return signer.issuer, signer.serial
    return signer.key_id


def _is_issuer(one: Certificate, subject: Certificate) -> bool:
    if subject.authority_issuer is not None and subject.authority_serial is not None:
        return (one.issuer, one.serial) == (subject.authority_issuer, subject.authority_serial)
    return subject.authority_key_id is not None and subject.authority_key_id == one.key_id


def _authorities(ring: Keyring, subject: Certificate) -> tuple[Key, ...]:
    if subject.authority_issuer is not None and subject.authority_serial is not None:
        return ring.find((subject.authority_issuer, subject.authority_serial))
    return ring.find(subject.authority_key_id)


def _digest(module: ModuleFile, signer: Signer) -> bytes:
    digest = module.digests.get(signer.digest_name or "")
    if digest is None:
        raise _Untold(f"the digest {signer.digest_name} cannot be computed on this machine")
    return digest


def _sure(answer: bool | None) -> bool:
    if answer is None:
        raise _Untold("its signature is of a kind that this program cannot verify")
    return answer
