"""An encrypted volume: its algorithms, the program that opens it, and the configuration by which it is found.

initramfs-tools: cryptsetup-initramfs' hook `cryptroot` writes /cryptroot/crypttab, and its script of that name in
local-top opens what stands there. dracut: its module `crypt` (parse-crypt.sh), and systemd-cryptsetup-generator(8).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from safeupdate.formats import crypttab
from safeupdate.formats.crypttab import Line
from safeupdate.storage.layers import ask, mapper
from safeupdate.storage.requirement import Requirement

if TYPE_CHECKING:
    from safeupdate.storage.image import Image
    from safeupdate.storage.stack import Layer

KINDS = ("crypt",)

LISTS = {"initramfs-tools": "/cryptroot/crypttab", "dracut": "/etc/crypttab"}
"""By what made the image: its list of volumes."""

_WHOLE = {
    "aes": ("aesni_intel", "aes_ce_blk", "aes_neon_blk", "aes_neon_bs", "aes_arm_bs", "aes_s390", "vmx_crypto"),
}
"""By cipher: modules that bring it with its modes of operation, so that none of these is needed besides."""

_MODES = ("cbc", "ctr", "ecb", "xts")

_OLD = "/conf/conf.d/cryptroot"
"""What cryptsetup before 2.0.3 had in place of it."""

_UUID = re.compile(r"(?:UUID=|/dev/disk/by-uuid/)[\"']?([0-9a-fA-F-]{36})[\"']?$")

_SCRIPTS = ("init-top", "init-premount", "local-top", "local-block", "local-premount")
_KNOWN_SCRIPTS = re.compile(r"crypt(root|root-prepare|opensc|gnupg-sc)$|ORDER$")
_GENERATORS = ("/usr/lib/systemd/system-generators", "/lib/systemd/system-generators")
_SYSTEMD = (
    "/usr/lib/systemd/systemd-cryptsetup",
    "/lib/systemd/systemd-cryptsetup",
    "/usr/bin/systemd-cryptsetup",
)
_TOKENS = {"tpm2-device": "libtss2-esys.so", "fido2-device": "libfido2.so", "pkcs11-uri": "libp11-kit.so"}
"""By an option of crypttab: the library that systemd-cryptsetup loads for it when it runs."""

_ASKED = "The boot stops and waits until somebody types the passphrase."


def needs(layer: Layer, image: Image) -> Iterator[Requirement]:
    yield from _algorithms(layer, image)
    if image.generator == "initramfs-tools":
        yield from _initramfs_tools(layer, image)
    elif image.generator == "dracut":
        yield from _dracut(layer, image)
    elif image.generator == "mkinitcpio":
        yield Requirement("program", ("cryptsetup", *_SYSTEMD), True, "it opens the volume", layer)


def _algorithms(layer: Layer, image: Image) -> Iterator[Requirement]:
    cipher = layer.facts.get("cipher", "")
    names = _named(cipher)
    whole = tuple(one for name in names for one in _WHOLE.get(name, ()))
    faster = tuple(one for name in names for one in _faster(image, name))
    if "xts" in names:
        names.append("ecb")  # xts is made of it (crypto/xts.c)
    for name in dict.fromkeys(names):
        others = whole if name in _MODES else ()
        if name in ("cbc", "ecb"):
            others += faster
        yield from ask.algorithm(layer, image, name, f"the volume is encrypted with {cipher}", others=others)
    integrity = layer.facts.get("integrity", "")
    if integrity and integrity != "none":
        yield from ask.module(layer, image, "dm_integrity", "the volume's integrity data is kept by it")


def _faster(image: Image, cipher: str) -> Iterator[str]:
    """The modules of a cipher for some processors: these bring it with the simple modes of operation."""
    if cipher not in _MODES:
        yield from (one for one in image.target.algorithm(cipher) if not one.endswith(("_generic", "_ti")))


def _named(cipher: str) -> list[str]:
    """The algorithms in dm-crypt's words for a cipher (Documentation/admin-guide/device-mapper/dm-crypt.rst)."""
    if cipher.startswith("capi:"):
        return re.findall(r"[a-z][a-z0-9_]*", cipher[len("capi:") :].rpartition("-")[0])
    parts = cipher.split("-")
    if not cipher:
        return []
    found = parts[0].partition(":")[0].split(",")
    mode = parts[1] if len(parts) > 1 else "plain"
    found.append("cbc" if mode == "plain" else mode)
    initial, _, digest = parts[-1].partition(":")
    if initial == "essiv":
        found += ["essiv", digest]
    return [name for name in found if name]


def _initramfs_tools(layer: Layer, image: Image) -> Iterator[Requirement]:
    # Of what opens volumes in a way of its own, only the program is known.
    must = not _has_own_script(image)
    opens = "it opens the volume"
    yield Requirement("program", ("cryptsetup",), must, opens, layer)
    listed = LISTS["initramfs-tools"]
    if image.exists(_OLD) and not image.exists(listed):
        listed = _OLD
    else:
        functions = ("/lib/cryptsetup/functions", "/usr/lib/cryptsetup/functions")
        yield Requirement("file", functions, must, f"{opens} (cryptroot)", layer)
    yield Requirement("file", ("/scripts/local-top/cryptroot",), must, opens, layer)
    line = ask.arguments(image)
    if "cryptopts" in line:
        return
    text = image.text(listed)
    if text is None and image.exists(listed):
        return
    entry = entry_of(layer, text)
    known = entry is not None or (listed == _OLD and _old_entry(text or "", layer))
    called = layer.facts.get("dm-name", layer.name)
    why = f"{listed} in the image tells that {called} is to be opened, and how"
    yield Requirement("configuration", (f"{called} in {listed}",), must, why, layer, met=known)
    if entry is not None:
        yield from _key(entry, layer)


def _key(entry: Line, layer: Layer) -> Iterator[Requirement]:
    """What a line of initramfs-tools' crypttab gets the passphrase from."""
    script = entry.value("keyscript")
    if script:
        places = (script,) if script.startswith("/") else (f"/lib/cryptsetup/scripts/{script}",)
        yield Requirement("file", places, True, "it says the passphrase of the volume", layer)
    elif entry.key == "none":
        asking = ("/lib/cryptsetup/askpass", "/usr/lib/cryptsetup/askpass")
        yield Requirement("program", asking, True, "it asks for the passphrase of the volume", layer)
    elif entry.key.startswith("/cryptroot/keyfiles/"):
        yield Requirement("file", (entry.key,), True, "the volume is opened with this key", layer)


def _has_own_script(image: Image) -> bool:
    """Whether a script in the image that is not cryptsetup-initramfs' speaks of cryptsetup."""
    for stage in _SCRIPTS:
        for name in image.names(f"/scripts/{stage}"):
            if not _KNOWN_SCRIPTS.search(name) and "cryptsetup" in (image.text(f"/scripts/{stage}/{name}") or ""):
                return True
    return False


def _old_entry(text: str, layer: Layer) -> bool:
    """Whether the list of cryptsetup before 2.0 names a volume."""
    uuid = layer.facts.get("luks-uuid", "")
    return f"target={layer.facts.get('dm-name')}," in f"{text}," or bool(uuid and uuid in text.lower())


def entry_of(layer: Layer, text: str | None) -> Line | None:
    """The line of a crypttab by which a volume is opened; None where there is none."""
    return next((one for one in _lines(text) if _is_of(one, layer)), None)


def _lines(text: str | None) -> tuple[Line, ...]:
    return crypttab.parse((text or "").encode())


def _is_of(line: Line, layer: Layer) -> bool:
    """Whether a line of crypttab opens a volume: by the number of its header where it names one, else by its name."""
    uuid = layer.facts.get("luks-uuid", "")
    named = _UUID.match(line.source)
    if uuid and named:
        return named.group(1).lower() == uuid
    return line.name == layer.facts.get("dm-name")


def _dracut(layer: Layer, image: Image) -> Iterator[Requirement]:
    opens = "it opens the volume"
    if image.systemd:
        yield Requirement("program", _SYSTEMD, True, opens, layer)
        names = tuple(f"{place}/systemd-cryptsetup-generator" for place in _GENERATORS)
        yield Requirement("program", names, True, "it makes the unit that opens the volume", layer)
        if ask.arguments(image).last("root") != f"/dev/mapper/{layer.facts.get('dm-name', layer.name)}":
            # Of root= itself systemd knows that it waits for it, and so starts what makes it.
            why = "with it that unit is started, as nothing else waits for the opened volume"
            yield Requirement("unit", ("cryptsetup.target",), True, why, layer)
    else:
        yield Requirement("program", ("cryptsetup",), True, opens, layer)
        yield Requirement("program", ("cryptroot-ask",), True, "it asks for the passphrase of the volume", layer)
    text = image.text(LISTS["dracut"])
    entry = entry_of(layer, text)
    found = True if entry is not None else _is_named(layer, image, _lines(text))
    uuid = layer.facts.get("luks-uuid", "UUID")
    if found is not None:
        why = "the image's /etc/crypttab or the command line tells that the volume is to be opened"
        names = (f"rd.luks.uuid={uuid}", f"{layer.facts.get('dm-name', layer.name)} in /etc/crypttab")
        yield Requirement("configuration", names, True, why, layer, met=found)
    if _is_given(layer, image, "rd.luks.uuid", "rd_LUKS_UUID"):
        why = "dracut waits for the volume below /dev/disk/by-id, where udev puts it by this rule"
        yield from ask.link(layer, image, mapper.BY_ID, "/by-id/dm-uuid-", why)
    if entry is not None and image.systemd:
        yield from _unlocked_by(entry, layer, image)


def _is_named(layer: Layer, image: Image, lines: tuple[Line, ...]) -> bool | None:
    """Whether dracut or systemd is told to open a volume by other means than a line of crypttab that names it. None
    where that cannot be told."""
    line = ask.arguments(image)
    if ask.is_off(line, "rd.luks") or ask.is_off(line, "luks"):
        return False
    if ask.is_on(line, "rd.auto"):
        return True
    if _is_given(layer, image, "rd.luks.uuid", "luks.uuid", "rd_LUKS_UUID", "rd.luks.name", "luks.name"):
        return True
    others = [one for one in lines if "uuid" not in one.source.lower()]
    elsewhere = any(name in line for name in ("rd.luks.partuuid", "rd.luks.serial", "rd.luks.data", "luks.data"))
    if (
        "luks-uuid" not in layer.facts
        or others
        or elsewhere
        or (line.last("root") or "gpt-auto").startswith("gpt-auto")
    ):
        return None
    return False


def _is_given(layer: Layer, image: Image, *names: str) -> bool:
    """Whether any of these parameters has a volume's number, or a part of it."""
    line, uuid = ask.arguments(image), layer.facts.get("luks-uuid", "").replace("-", "")
    given = (value.partition("=")[0].lower() for name in names for value in line.all(name))
    parts = (re.sub("^(keysource:)?(luks-)?", "", value).replace("-", "") for value in given)
    return any(part and part in uuid for part in parts)


def _unlocked_by(entry: Line, layer: Layer, image: Image) -> Iterator[Requirement]:
    """What systemd-cryptsetup opens a volume with without asking anybody; it asks for the passphrase otherwise."""
    key = entry.key
    if key.startswith("/") and ":" not in key and not key.startswith(("/dev/", "/run/")):
        why = "the volume is opened with this key without a question"
        yield Requirement("file", (key,), False, why, layer, otherwise=_ASKED)
    for option, library in _TOKENS.items():
        if entry.has(option):
            there = (name for directory in ask.library_directories(image) for name in image.names(directory))
            found = any(name.startswith(library) for name in there)
            why = f"crypttab has {option}, by which the volume is opened without a passphrase"
            yield Requirement("configuration", (library,), False, why, layer, met=found, otherwise=_ASKED)
    if entry.has("keyscript"):
        why = "crypttab has a keyscript, which systemd in the image does not run: it asks for the passphrase"
        names = ("a way to open it without a keyscript",)
        yield Requirement("configuration", names, False, why, layer, met=False, otherwise=_ASKED)
