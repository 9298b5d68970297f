"""The questions, in the order in which they are asked and reported. A new check is one file and one line.

The files that are not listed hold parts of a question: `early_programs`, `early_modules` and `without_initramfs` of
`initramfs`, `dkms_early` and `module_weight` of `dkms`, `first_process` and `mount_types` of `mounts`,
`module_remedies` of `module_signatures`.
"""

from __future__ import annotations

from safeupdate.case import Check
from safeupdate.checks import (
    boot_entry,
    boot_settings,
    boot_space,
    dkms,
    fallback,
    initramfs,
    kernel_files,
    kernel_signature,
    module_signatures,
    mounts,
    packages,
    root_storage,
)

CHECKS: tuple[Check, ...] = (
    packages.CHECK,
    boot_space.CHECK,
    kernel_files.CHECK,
    dkms.CHECK,
    module_signatures.CHECK,
    kernel_signature.CHECK,
    initramfs.CHECK,
    root_storage.CHECK,
    boot_entry.CHECK,
    fallback.CHECK,
    mounts.CHECK,
    boot_settings.CHECK,
)
