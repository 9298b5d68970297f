from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from safeupdate import __version__
from safeupdate.cli import main
from tests.unit.initrd import archive
from tests.unit.test_render_json import SCHEMA
from tests.unit.trees import IMAGE, INITRD, RELEASE, Content, open_directory, real_kernels, tree, x86_image

HERE = Path(__file__).parents[2]
ROOT = "5afe0bda-0000-4000-8000-000000000001"
MENU = f"""
set timeout=5
menuentry 'Debian GNU/Linux' --id debian {{
    search --no-floppy --fs-uuid --set=root {ROOT}
    linux {IMAGE} root=UUID={ROOT} ro quiet
    initrd {INITRD}
}}
"""
FILES: dict[str, Content] = {
    IMAGE: x86_image(),
    INITRD: archive({"init": b"#!/bin/sh\n"}),
    "/boot/grub/grub.cfg": MENU,
    "/etc/fstab": f"UUID={ROOT} / ext4 defaults 0 1\n",
}


def start(*arguments: str, **settings: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "safeupdate", *arguments],
        cwd=HERE,
        capture_output=True,
        text=True,
        timeout=60,
        **settings,
    )


def report(capfd: pytest.CaptureFixture[str]) -> Any:
    parsed = json.loads(capfd.readouterr().out)
    jsonschema.validate(parsed, SCHEMA)
    return parsed


def test_version(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--version"])
    assert caught.value.code == 0
    assert capfd.readouterr().out == f"safeupdate {__version__}\n"


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["frobnicate"],
        ["check", "--frobnicate"],
        ["check", "extra"],
        ["check", "--json", "--quiet"],
        ["check", "--root"],
        ["check", "--root", "/nowhere/at/all"],
        ["check", "--root", __file__],
        ["check", "--root", "a\0b"],
    ],
)
def test_usage_errors(arguments: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    try:
        code: object = main(arguments)
    except SystemExit as error:
        code = error.code
    assert code == 2
    captured = capfd.readouterr()
    assert captured.out == ""
    assert captured.err


def test_a_kernel_that_is_not_installed(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    tree(tmp_path, {**FILES, "/boot/vmlinuz-evil": x86_image("1.0\x1b[2J")})
    assert main(["check", "--root", str(tmp_path), "--kernel", "5.0.0", "--json"]) == 2
    captured = capfd.readouterr()
    assert captured.out == ""
    assert "5.0.0 is not installed" in captured.err
    assert RELEASE in captured.err
    assert "\x1b" not in captured.err


def test_an_unsafe_machine(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    tree(tmp_path, FILES)
    assert main(["check", "--root", str(tmp_path), "--json"]) == 1
    parsed = report(capfd)
    assert parsed["verdict"] == "unsafe"
    assert parsed["machine"]["root"] == str(tmp_path)
    assert parsed["machine"]["architecture"] == "x86_64"
    assert parsed["target"]["kernel"] == RELEASE
    assert parsed["target"]["loader"] == "grub"
    found = {finding["id"] for check in parsed["checks"] for finding in check["findings"]}
    assert "kernel-files.no-modules" in found
    assert main(["check", "--root", str(tmp_path)]) == 1
    assert capfd.readouterr().out.startswith("UNSAFE: ")
    assert main(["check", "--root", str(tmp_path), "--quiet"]) == 1
    assert "BLOCKER" not in capfd.readouterr().out
    assert main(["check", "--root", str(tmp_path), "--verbose", "--require-driver", "none"]) == 1
    assert "[kernel-files.no-modules, check kernel-files]" in capfd.readouterr().out


def test_no_kernel_is_unknown(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    tree(tmp_path, {"/etc/os-release": "ID=debian\n"})
    assert main(["check", "--root", str(tmp_path), "--json"]) == 3
    parsed = report(capfd)
    assert parsed["verdict"] == "unknown"
    assert [finding["id"] for check in parsed["checks"] for finding in check["findings"]] == ["no-kernel"]
    assert parsed["target"]["kernel"] is None


def test_the_named_kernel_without_an_entry(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    tree(tmp_path, {**FILES, "/boot/vmlinuz-6.1.0-51": x86_image("6.1.0-51")})
    assert main(["check", "--root", str(tmp_path), "--json", "--kernel", "6.1.0-51"]) == 1
    parsed = report(capfd)
    assert "boot-entry.no-entry" in {one["id"] for check in parsed["checks"] for one in check["findings"]}


HOSTILE: dict[str, Content] = {
    "/boot/grub/grub.cfg": b"menuentry '\xff\x1b]0;x\x07' {\n linux " + IMAGE.encode() + b" root=UUID=\xfe\x1b[2J\n}\n",
    "/etc/fstab": b"\xff\x00 / \x1b ext4\n",
    "/proc/self/mountinfo": b"garbage\n",
    "/etc/os-release": b"ID=\xff\x1b[31m\n",
}


@pytest.mark.parametrize("path", [None, *HOSTILE])
def test_hostile_files(tmp_path: Path, path: str | None, capfd: pytest.CaptureFixture[str]) -> None:
    tree(tmp_path, {**FILES, **({path: HOSTILE[path]} if path else HOSTILE)})
    assert main(["check", "--root", str(tmp_path), "--verbose"]) in (1, 3)
    text = capfd.readouterr().out
    assert "\x1b" not in text
    assert "crashed" not in text
    assert main(["check", "--root", str(tmp_path), "--json"]) in (1, 3)
    report(capfd)


def test_fifos_everywhere(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    tree(tmp_path, FILES)
    paths = [IMAGE, INITRD, "/boot/grub/grub.cfg", "/etc/fstab", "/etc/os-release", "/proc/self/mountinfo"]
    for path in [*paths, "/sbin/init", f"/boot/config-{RELEASE}", "/proc/sys/kernel/osrelease", "/boot/grub/grubenv"]:
        place = tmp_path / path[1:]
        place.parent.mkdir(parents=True, exist_ok=True)
        place.unlink(missing_ok=True)
        os.mkfifo(place)
        assert main(["check", "--root", str(tmp_path), "--json"]) in (1, 3), path
        assert "crashed" not in json.dumps(report(capfd))


def test_a_closed_pipe_is_quiet_and_keeps_the_verdict(tmp_path: Path) -> None:
    tree(tmp_path, FILES)
    for shape in ("--json", "--verbose"):
        reader, writer = os.pipe()
        os.close(reader)
        try:
            done = subprocess.run(
                [sys.executable, "-m", "safeupdate", "check", "--root", str(tmp_path), shape],
                cwd=HERE,
                stdout=writer,
                stderr=subprocess.PIPE,
                timeout=60,
            )
        finally:
            os.close(writer)
        assert done.stderr == b""
        assert done.returncode == 1


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")
def test_a_full_disk_is_told(tmp_path: Path) -> None:
    tree(tmp_path, {"/x": ""})
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "safeupdate", "check", "--root", str(tmp_path)],
            cwd=HERE,
            stdout=full,
            stderr=subprocess.PIPE,
            timeout=60,
        )
    assert b"cannot be written" in done.stderr
    assert b"Traceback" not in done.stderr
    assert done.returncode == 3


_AS_NOBODY = """
import importlib, os, pkgutil, sys
import bz2, concurrent.futures.thread, hashlib, json, locale, lzma, shutil, subprocess, zlib
import safeupdate
# Whoever runs these tests may have Python itself in a home that nobody may enter.
for module in pkgutil.walk_packages(safeupdate.__path__, "safeupdate."):
    if module.name != "safeupdate.__main__":
        importlib.import_module(module.name)
from safeupdate.cli import main
os.setegid(65534); os.seteuid(65534)
sys.exit(main(["check", "--root", sys.argv[1], "--json"]))
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="root becomes nobody")
@pytest.mark.parametrize(
    "closed", ["boot", "boot/efi", f"boot/initrd.img-{RELEASE}", "boot/grub/grub.cfg", "etc", "lib"]
)
def test_what_may_not_be_read_makes_unknown(closed: str) -> None:
    modules: dict[str, Content] = {f"/lib/modules/{RELEASE}/x": ""}
    with open_directory() as root:
        tree(root, {**FILES, **modules, "/boot/efi/EFI/x": ""})
        (root / closed).chmod(0)
        done = subprocess.run(
            [sys.executable, "-c", _AS_NOBODY, str(root)], cwd=HERE, capture_output=True, text=True, timeout=60
        )
    assert done.stdout, done.stderr
    parsed = json.loads(done.stdout)
    jsonschema.validate(parsed, SCHEMA)
    assert "crashed" not in done.stdout
    # These trees lack modules and much else, so that where the rest can be read it fails.
    assert done.returncode == {"unsafe": 1, "unknown": 3}[parsed["verdict"]]
    if closed == "boot":
        assert done.returncode == 3
        assert "Permission denied" in done.stdout


@pytest.mark.skipif(not real_kernels(), reason="no machines were built here")
def test_a_safe_machine() -> None:
    tree = str(real_kernels()[0].parents[1])
    done = start("check", "--json", "--root", tree, "--require-driver", "none")
    assert done.returncode == 0, done.stdout
    assert json.loads(done.stdout)["verdict"] == "safe"
    assert start("check", "--root", tree).returncode == 3  # what lies under its root is in no file


@pytest.mark.skipif(os.geteuid() != 0, reason="root becomes nobody")
def test_a_configuration_that_may_not_be_read_lowers_nothing_and_says_so() -> None:
    with open_directory() as root:
        tree(root, {**FILES, "/etc/safeupdate/safeupdate.toml": "[ledger]\nkeep_days = 3\n"})
        (root / "etc/safeupdate").chmod(0)
        done = subprocess.run(
            [sys.executable, "-c", _AS_NOBODY, str(root)], cwd=HERE, capture_output=True, text=True, timeout=60
        )
    (told,) = json.loads(done.stdout)["warnings"]
    assert told.startswith("/etc/safeupdate/safeupdate.toml.d cannot be read: Permission denied. ")
