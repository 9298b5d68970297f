"""Reports to render: one with everything, one with nothing."""

from __future__ import annotations

from safeupdate.report import (
    CheckResult,
    FallbackFacts,
    MachineFacts,
    Remedy,
    Report,
    Target,
    blocker,
    note,
    unknown,
    warning,
)

LONG = "This sentence says at some length what is wrong, so that it does not fit into one line of a terminal. "

FULL = Report(
    version="1.2.3",
    time="2026-11-23T01:37:35+00:00",
    machine=MachineFacts("/", "debian 12", "x86_64", "uefi", True, "6.1.0-50-amd64"),
    target=Target("6.1.0-51-amd64", "grub", "gnulinux", "Debian GNU/Linux", "GRUB starts entry 0", "gnulinux"),
    fallback=FallbackFacts("6.1.0-50-amd64", "old", "booted-before", "manual"),
    verdict="unsafe",
    checks=(
        CheckResult(
            "kernel-files",
            "The kernel is whole",
            True,
            "failed",
            (
                note("kernel-files.no-config", "/boot/config", LONG),
                warning("kernel-files.module-missing", "/lib/modules", LONG * 2, "They cannot be loaded."),
                blocker(
                    "kernel-files.image-empty",
                    "/boot/vmlinuz",
                    LONG * 3,
                    "The boot loader cannot load it.",
                    evidence=["0 bytes", LONG * 2],
                    remedy=Remedy("Install it again.", (("apt-get", "install", "--reinstall", "linux image"),)),
                ),
            ),
            seconds=0.123456,
        ),
        CheckResult("initramfs", "The initramfs", True, "unknown", (unknown("initramfs.no-decoder", "x", LONG, LONG),)),
        CheckResult("boot-entry", "The boot entry", True, "passed"),
        CheckResult("fallback", "There is a way back", False, "not-applicable", reason="no entry is known"),
    ),
    boot_path=("UEFI", "GRUB", "6.1.0-51-amd64", "initrd.img-6.1.0-51-amd64", "UUID=5afe0bda (sda2)", "/"),
)

EMPTY = Report(
    version="1.2.3",
    time="2026-11-23T01:37:35+00:00",
    machine=MachineFacts("/tmp/x", None, None, "unknown", None, None),
    target=Target(None, None, None, None, "", None),
    fallback=FallbackFacts(),
    verdict="unknown",
    checks=(),
)
