from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from safeupdate.boot.plan import BootEntry, BootFile
from safeupdate.case import Case, Fallback
from safeupdate.checks.fallback import CHECK
from safeupdate.report import CheckResult, Finding, NotApplicable, Quality, Recovery, blocker, unknown
from tests.unit.trees import IMAGE, case, tree, x86_image

OLD = BootEntry("grub", "old", "Debian, with Linux 6.1.0-49", "grub.cfg", BootFile("/old", "/old"), release="6.1.0-49")


def asked(root: Path) -> Case:
    return case(tree(root, {IMAGE: x86_image()}))


def ids(one: Case) -> list[tuple[str, str]]:
    return [(finding.level, finding.id) for finding in CHECK.run(one)]


def test_no_entry_no_question(tmp_path: Path) -> None:
    with pytest.raises(NotApplicable):
        list(CHECK.run(replace(asked(tmp_path), entry=None)))


def test_no_other_kernel_is_a_warning(tmp_path: Path) -> None:
    assert ids(asked(tmp_path)) == [("warning", "fallback.none")]


def _failed(problem: Finding) -> CheckResult:
    return CheckResult("initramfs", "The initramfs", True, "failed", (problem,))


def test_a_broken_fallback_says_why(tmp_path: Path) -> None:
    problem = blocker("initramfs.truncated", "/boot/i", "The image is cut.", "It panics.")
    tried = (Fallback(OLD, "none", "manual", (_failed(problem),)), Fallback(OLD, "none", "none"))
    (finding,) = CHECK.run(replace(asked(tmp_path), tried=tried))
    assert (finding.level, finding.id) == ("warning", "fallback.broken")
    assert finding.evidence == (
        '"Debian, with Linux 6.1.0-49": The image is cut.',
        '"Debian, with Linux 6.1.0-49": it cannot be reached from the boot menu',
    )


def test_a_fallback_that_could_not_be_looked_at_is_not_called_broken(tmp_path: Path) -> None:
    left_out = unknown("initramfs.unreadable", "/boot/i", "Its content was left out when it was captured.", "")
    answer = CheckResult("initramfs", "The initramfs", True, "unknown", (left_out,))
    tried = (Fallback(OLD, "none", "manual", (answer,)),)
    (finding,) = CHECK.run(replace(asked(tmp_path), tried=tried))
    assert (finding.level, finding.id) == ("unknown", "fallback.not-known")
    assert finding.evidence == ('"Debian, with Linux 6.1.0-49": Its content was left out when it was captured.',)


@pytest.mark.parametrize(
    ("quality", "recovery", "expected"),
    [
        ("proven", "automatic", []),
        ("booted-before", "manual", ["fallback.manual"]),
        ("unproven", "automatic", ["fallback.unproven"]),
        ("unproven", "manual", ["fallback.unproven", "fallback.manual"]),
    ],
)
def test_a_good_fallback(tmp_path: Path, quality: Quality, recovery: Recovery, expected: list[str]) -> None:
    fallback = Fallback(OLD, quality, recovery)
    answer = ids(replace(asked(tmp_path), fallback=fallback, tried=(fallback,)))
    assert answer == [("note", name) for name in expected]
