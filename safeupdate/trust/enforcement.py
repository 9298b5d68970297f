"""Whether a kernel will refuse modules whose signature it cannot verify (kernel/module/signing.c, module_sig_check).

It does where one of three says so: its own configuration, its command line, or lockdown, which configuration, command
line or Secure Boot may switch on (security/lockdown/lockdown.c; ima_efi.c for kernels with IMA's architecture policy).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from safeupdate.formats import cmdline

_ON = {"", "1", "y", "Y", "t", "T", "on", "ON", "On"}
"""Values of a boolean parameter that mean yes (lib/kstrtox.c, kstrtobool); a bare word is the empty one."""


@dataclass(frozen=True)
class Enforcement:
    """Whether signatures are looked at (`checked`), and needed (`enforced`; None: it cannot be known), and why."""

    checked: bool
    enforced: bool | None
    reasons: tuple[str, ...] = ()


def of(config: Mapping[str, str] | None, command_line: str, secure_boot: bool | None) -> Enforcement:
    """What a kernel with this configuration (None: not known) does, started with this command line.

    `secure_boot` is what the kernel will be told (`Store.enforcing`), None where that is not known.
    """
    if config is not None and "CONFIG_MODULE_SIG" not in config:
        return Enforcement(checked=False, enforced=False)
    words = tuple(_words(config, command_line))
    reasons = []
    if (config or {}).get("CONFIG_MODULE_SIG_FORCE") == "y":
        reasons.append("the kernel is built so (CONFIG_MODULE_SIG_FORCE)")
    if any(name == "module.sig_enforce" and value in _ON for name, value in words):
        reasons.append("its command line says so (module.sig_enforce)")
    level = next((value for name, value in reversed(words) if name == "lockdown"), "")
    locks = _locks(config, words)
    if locks and level in ("integrity", "confidentiality"):
        reasons.append(f"its command line says lockdown={level}")
    for name in ("INTEGRITY", "CONFIDENTIALITY"):
        if locks and f"CONFIG_LOCK_DOWN_KERNEL_FORCE_{name}" in (config or {}):
            reasons.append(f"the kernel is built so (CONFIG_LOCK_DOWN_KERNEL_FORCE_{name})")
    by_firmware = config is None or (
        (locks and "CONFIG_LOCK_DOWN_IN_EFI_SECURE_BOOT" in config)
        or {"CONFIG_IMA_ARCH_POLICY", "CONFIG_IMA_SECURE_AND_OR_TRUSTED_BOOT"} <= config.keys()
    )
    if by_firmware and secure_boot and config is not None:
        reasons.append("Secure Boot is on")
    if reasons:
        return Enforcement(True, True, tuple(reasons))
    # Without Secure Boot a configuration that is not known is taken for the usual one, which enforces nothing.
    undecided = by_firmware and (secure_boot is None or (secure_boot and config is None))
    return Enforcement(True, None if undecided else False)


def _words(config: Mapping[str, str] | None, command_line: str) -> Iterator[tuple[str, str]]:
    """The parameters that are the kernel's; dashes and underscores in names are the same to it (kernel/params.c)."""
    for text in ((config or {}).get("CONFIG_CMDLINE", ""), command_line):
        for name, value in cmdline.parse(text).parameters:
            if name == "--":
                break
            yield name.replace("-", "_"), value or ""


def _locks(config: Mapping[str, str] | None, words: tuple[tuple[str, str], ...]) -> bool:
    """Whether lockdown is among the security modules that are started (`lsm=`, CONFIG_LSM)."""
    if config is None:
        return True
    if "CONFIG_SECURITY_LOCKDOWN_LSM" not in config:
        return False
    modules = next((value for name, value in reversed(words) if name == "lsm"), config.get("CONFIG_LSM"))
    early = "CONFIG_SECURITY_LOCKDOWN_LSM_EARLY" in config
    return early or modules is None or "lockdown" in modules.split(",")
