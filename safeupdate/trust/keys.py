"""Which keys one kernel will accept for modules in its next boot, and which it will not although they are enrolled.

The kernel's certs/system_keyring.c and security/integrity/platform_certs/load_uefi.c: keys in the image always, shim's
list only where Secure Boot is on, the firmware's db only where the kernel is patched to look there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

from safeupdate.errors import FormatError, Missing, NoDecoder, Unreadable
from safeupdate.formats.certificate import Certificate
from safeupdate.machine import Machine
from safeupdate.trust import built_in, enforcement, verify
from safeupdate.trust.cache import Cache
from safeupdate.trust.enforcement import Enforcement
from safeupdate.trust.firmware import Store

BUILT_IN, MACHINE, PLATFORM = ".builtin_trusted_keys", ".machine", ".platform"

ENROLLED = "MokListRT"
"""The source of keys that a person has enrolled, and may delete."""

Support = Literal["yes", "module", "no"]

_DIGEST_OPTIONS = {
    "md4": "CONFIG_CRYPTO_MD4",
    "md5": "CONFIG_CRYPTO_MD5",
    "sha1": "CONFIG_CRYPTO_SHA1",
    "sha224": "CONFIG_CRYPTO_SHA256",
    "sha256": "CONFIG_CRYPTO_SHA256",
    "sha384": "CONFIG_CRYPTO_SHA512",
    "sha512": "CONFIG_CRYPTO_SHA512",
    "sha3_256": "CONFIG_CRYPTO_SHA3",
    "sha3_384": "CONFIG_CRYPTO_SHA3",
    "sha3_512": "CONFIG_CRYPTO_SHA3",
    "sm3": "CONFIG_CRYPTO_SM3",
    "streebog256": "CONFIG_CRYPTO_STREEBOG",
    "streebog512": "CONFIG_CRYPTO_STREEBOG",
}
DIGEST_MODULES = {
    "CONFIG_CRYPTO_MD4": "md4",
    "CONFIG_CRYPTO_MD5": "md5",
    "CONFIG_CRYPTO_SHA1": "sha1_generic",
    "CONFIG_CRYPTO_SHA256": "sha256_generic",
    "CONFIG_CRYPTO_SHA512": "sha512_generic",
    "CONFIG_CRYPTO_SHA3": "sha3_generic",
    "CONFIG_CRYPTO_SM3": "sm3_generic",
    "CONFIG_CRYPTO_STREEBOG": "streebog_generic",
}
"""The module with each digest where it is not built in (crypto/Makefile)."""

_KEY_OPTIONS = {"rsa": "CONFIG_CRYPTO_RSA", "ecdsa": "CONFIG_CRYPTO_ECDSA"}

_SHA3_SINCE = (6, 7)
"""Before, the parser of signatures knew no SHA-3, whatever the kernel can compute (crypto/asymmetric_keys)."""


@dataclass(frozen=True)
class Key:
    """A key with the keyring that it is in and where it comes from: a kernel image, or the name of a variable."""

    certificate: Certificate
    ring: str
    source: str

    @property
    def name(self) -> str:
        """What a person calls it."""
        return self.certificate.common_name or "a key without a name"


@dataclass(frozen=True)
class Trust:
    """What one kernel trusts.

    `keys` are accepted. Of `doubtful` ones it is not known whether this kernel looks where they are. `unused` are
    enrolled, but not accepted in this boot; the text says why. `pending` waits for a person at the console; those of
    `keys` that are in `leaving` (DER) are accepted until a person there has confirmed that they are deleted.
    `revoked` certificates and `denied` digests (SHA-256 of whole modules) stop a module. `listed` are certificates and
    digests that are denied to images, which this kernel does not look up for modules. `missing` says why keys may be
    missing here; None where all are known.
    """

    release: str
    enforcement: Enforcement
    config: Mapping[str, str] | None = field(default=None, repr=False, hash=False)
    keys: tuple[Key, ...] = ()
    doubtful: tuple[Key, ...] = ()
    unused: tuple[tuple[Key, str], ...] = ()
    pending: tuple[Key, ...] = ()
    leaving: frozenset[bytes] = field(default=frozenset(), repr=False)
    revoked: tuple[Key, ...] = ()
    denied: frozenset[bytes] = frozenset()
    listed: frozenset[bytes] = field(default=frozenset(), repr=False)
    missing: str | None = None

    def digest(self, name: str) -> Support:
        """Whether the kernel can compute this digest for a signature: built in, in a module, or not at all."""
        return self._digests.get(name, "no")

    @cached_property
    def _digests(self) -> dict[str, Support]:
        return {name: self._support(name) for name in _DIGEST_OPTIONS}

    def _support(self, name: str) -> Support:
        if name.startswith("sha3_") and self._version is not None and self._version < _SHA3_SINCE:
            return "no"
        if self.config is not None and self.config.get("CONFIG_MODULE_SIG_HASH", "").replace("-", "_") == name:
            return "yes"  # its own modules are signed with it
        return self._option(_DIGEST_OPTIONS.get(name))

    def digest_module(self, name: str) -> str:
        """The module that brings this digest."""
        return DIGEST_MODULES[_DIGEST_OPTIONS[name]]

    def key_type(self, kind: str) -> Support:
        """Whether the kernel can verify signatures by this type of key (`rsa`, `ecdsa`)."""
        return self._option(_KEY_OPTIONS.get(kind))

    @property
    def algorithms(self) -> tuple[Support, ...]:
        """What is known of every digest and type of key, in a fixed order."""
        return (*self._digests.values(), *map(self.key_type, _KEY_OPTIONS))

    def _option(self, option: str | None) -> Support:
        if option is None:
            return "no"
        if self.config is None:
            return "yes"
        # Newer kernels compute some digests by their library alone.
        value = self.config.get(option) or self.config.get(option.replace("_CRYPTO_", "_CRYPTO_LIB_"))
        return "yes" if value == "y" else "module" if value == "m" else "no"

    @cached_property
    def _version(self) -> tuple[int, int] | None:
        parts = self.release.split(".")
        digits = "".join(letter for letter in parts[1] if letter.isdigit()) if len(parts) > 1 else ""
        return (int(parts[0]), int(digits)) if parts[0].isdigit() and digits else None


def of(
    machine: Machine,
    *,
    release: str,
    image: str | None,
    embedded: bool,
    config: Mapping[str, str] | None,
    command_line: str,
    store: Store,
    cache: Cache | None = None,
) -> Trust:
    """What the kernel in `image` will trust. Raises nothing: what could not be read is `missing`."""
    secure = store.enforcing
    known = Trust(release, enforcement.of(config, command_line, secure), config)
    missing = None
    ours: built_in.BuiltIn | None = None
    try:
        if image is None:
            missing = "the kernel's image is not known"
        else:
            ours = built_in.read(machine, image, embedded=embedded, cache=cache)
    except NoDecoder as error:
        missing = f"{error}; {error.hint}"
    except (FormatError, Missing, Unreadable) as error:
        missing = str(error)
    if missing is None and secure:
        # The keys of a list that is not whole may be there for the kernel.
        missing = next((f"{one.name}: {one.problem}" for one in (store.mok, store.db) if one.problem is not None), None)
    patched = None if ours is None else ours.patched or None
    keys = [Key(one, BUILT_IN, image or "") for one in (ours.certificates if ours is not None else ())]
    doubtful: list[Key] = []
    unused: list[tuple[Key, str]] = []

    def enrolled(certificates: Iterable[Certificate], source: str) -> None:
        for one in certificates:
            key = Key(one, _ring(one, source, config, trusted=store.trusts_mok, patched=bool(patched)), source)
            if source != "db" and secure is False:
                unused.append((key, "with Secure Boot off the kernel does not load the keys that are enrolled"))
            elif source == "db" and store.ignores_db:
                unused.append((key, "shim is told to leave the firmware's db out"))
            elif config is not None and "CONFIG_LOAD_UEFI_KEYS" not in config:
                unused.append((key, "the kernel is built without CONFIG_LOAD_UEFI_KEYS"))
            elif secure is not None and (key.ring == MACHINE or patched):
                keys.append(key)
            else:
                doubtful.append(key)

    enrolled(store.mok.certificates, ENROLLED)
    enrolled(store.db.certificates, "db")
    accepted = []
    for key in keys:
        kind = None if key.ring == BUILT_IN else verify.key_type(key.certificate.key)
        if not key.certificate.dates_conform:
            unused.append(
                (key, "the kernel cannot read its certificate: its dates are not in the form that they must have")
            )
        elif key.ring == BUILT_IN or (kind is not None and known.key_type(kind) != "no"):
            accepted.append(key)
        else:
            unused.append((key, "the kernel is built without this type of key"))
    denials = [store.dbx] + ([store.mokx] if secure else [])
    digests = frozenset[bytes]().union(*(one.digests("sha256") for one in denials))
    revokes = config is not None and "CONFIG_SYSTEM_REVOCATION_LIST" in config
    certificates = [Key(one, ".blacklist", denial.name) for denial in denials for one in denial.certificates]
    return Trust(
        release,
        known.enforcement,
        config,
        keys=tuple(accepted),
        doubtful=tuple(doubtful),
        unused=tuple(unused),
        pending=tuple(Key(one, MACHINE, "MokNew") for one in store.new.certificates),
        leaving=frozenset(one.data for one in store.mok.entries) - {one.data for one in store.lasting.entries},
        revoked=tuple(certificates) if revokes else (),
        denied=digests if patched else frozenset(),
        listed=frozenset(key.certificate.der for key in certificates) | (frozenset() if patched else digests),
        missing=missing,
    )


def _ring(one: Certificate, source: str, config: Mapping[str, str] | None, *, trusted: bool, patched: bool) -> str:
    """Where the kernel puts a key of shim's list (security/integrity/platform_certs/machine_keyring.c)."""
    if source == "db" or config is None or "CONFIG_INTEGRITY_MACHINE_KEYRING" not in config:
        return PLATFORM
    if "CONFIG_INTEGRITY_CA_MACHINE_KEYRING" in config and not one.is_authority:
        return PLATFORM
    return MACHINE if trusted or patched else PLATFORM
