"""What a check says of captures of real machines."""

from __future__ import annotations

from pathlib import Path

from safeupdate.commands import machine_at
from safeupdate.judge import judge
from safeupdate.report import Report
from tests.unit.captures import captured


def judged(name: str, directory: Path) -> Report:
    return judge(captured(name, directory))


def levels(report: Report) -> set[tuple[str, str]]:
    return {(result.id, finding.level) for result in report.checks for finding in result.findings}


def test_systemd_boot_with_an_esp_that_is_mounted_when_it_is_looked_at(tmp_path: Path) -> None:
    report = judged("systemd-boot-gpt-auto", tmp_path)
    assert report.target.kernel == "6.12.117+deb13-amd64"
    assert report.target.loader == "systemd-boot"
    assert report.target.entry == "16358f0062e1d5f9f4ab1be50114eddd-6.12.117+deb13-amd64.conf"
    assert report.target.why.startswith("the firmware starts /EFI/systemd/systemd-bootx64.efi (Boot0001 ")
    assert report.machine.running_kernel == "6.12.117+deb13-amd64"
    assert report.machine.distribution == "debian 13"
    assert (report.machine.firmware, report.machine.secure_boot) == ("uefi", False)
    # Nothing of this healthy machine may look broken; what was left out cannot be told.
    assert report.verdict == "unknown"
    assert {level for _, level in levels(report)} == {"unknown"}
    assert {result.id for result in report.checks if result.outcome == "passed"} >= {"boot-entry"}


def test_grub_with_boot_on_a_file_system_of_its_own_and_what_breaks_it(tmp_path: Path) -> None:
    report = judged("xfs-dracut", tmp_path)
    assert report.target.kernel == report.machine.running_kernel == "6.1.0-56-amd64"
    assert report.target.loader == "grub"
    assert report.target.entry == "gnulinux-simple-5afe11fe-0004-4000-8000-000000000002"
    assert report.boot_path[0] == "BIOS"
    assert report.verdict == "unknown"
    assert {level for _, level in levels(report)} == {"unknown"}

    menu = tmp_path / "boot/grub/grub.cfg"
    menu.write_text(menu.read_text().replace("root=UUID=5afe11fe-", "root=UUID=5afe0bad-"))
    report = judge(machine_at(str(tmp_path)))
    blockers = [f.id for result in report.checks for f in result.findings if f.level == "blocker"]
    assert blockers == ["boot-entry.root-missing"]
