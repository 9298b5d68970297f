"""dkms.conf: what is told of one must be what dkms, that is bash, would find in it."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from safeupdate.errors import FormatError
from safeupdate.formats import dkms_conf
from safeupdate.formats.dkms_conf import DIRECTIVES, DkmsConf, Module, compare

RELEASE = "6.1.0-50-amd64"
_PLACE = "dkms/x/*/*/usr/src/*/dkms.conf"
TREE = {"dkms_tree": "/var/lib/dkms", "source_tree": "/usr/src", "install_tree": "/lib/modules", "module": "a"}
KERNEL = {"kernelver": RELEASE, "kernel_source_dir": f"/lib/modules/{RELEASE}/build", "arch": "x86_64"}
PACKAGES = sorted({path.read_bytes(): path for path in (Path.home() / ".cache/safeupdate").glob(_PLACE)}.values())
"""Those of Debian's packages, where somebody has unpacked them; they are not ours to copy."""

TWO = b"""PACKAGE_NAME="a"
PACKAGE_VERSION="1.0"
MAKE[0]="make -C ${kernel_source_dir} M=${dkms_tree}/${PACKAGE_NAME}/${PACKAGE_VERSION}/build"
BUILT_MODULE_NAME[0]="$PACKAGE_NAME"
BUILT_MODULE_NAME[1]="a-helper"
DEST_MODULE_NAME[1]="helper"
DEST_MODULE_LOCATION[0]="/extra"
DEST_MODULE_LOCATION[1]="/kernel/../misc/"
AUTOINSTALL="yes"
"""

NEEDS_OPTION = b"""PACKAGE_NAME="a"
if [ -f $kernel_source_dir/.config ]; then
    . $kernel_source_dir/.config
    if ! { echo "$kernelver"; echo 5.18; } | sort -V -C; then
        if [ "${CONFIG_NEW:-n}" = "n" ]; then
            BUILD_EXCLUSIVE_KERNEL="REQUIRES CONFIG_NEW"
        fi
    else
        if [ "${CONFIG_OLD:-n}" = "n" ]; then
            BUILD_EXCLUSIVE_KERNEL="REQUIRES CONFIG_OLD"
        fi
    fi
fi
DEST_MODULE_LOCATION="/extra"
"""


def read(*texts: bytes, kernel: Mapping[str, str] = {}, config: Mapping[str, str] | None = None) -> DkmsConf:
    return dkms_conf.parse(texts, {**TREE, **kernel}, config)


def test_modules_and_where_they_go() -> None:
    conf = read(TWO)
    assert conf.modules == (Module("a", "a", "/extra"), Module("a-helper", "helper", "/kernel/../misc/"))
    assert conf.lists_all_modules
    assert conf.value("PACKAGE_VERSION") == "1.0"
    assert conf.value("OBSOLETE_BY") == ""


def test_one_module_has_the_packages_name() -> None:
    assert read(b"PACKAGE_NAME=a-b\nDEST_MODULE_LOCATION=/extra\n").modules == (Module("a-b", "a-b", "/extra"),)
    conf = read(b"PACKAGE_NAME=a\nDEST_MODULE_LOCATION=(/extra /extra)\n")
    assert [module.name for module in conf.modules] == [None, None]
    assert not conf.lists_all_modules


def test_no_modules_at_all() -> None:
    conf = read(b"PACKAGE_NAME=a\n")
    assert conf.modules == ()
    assert not conf.lists_all_modules


def test_modules_that_hang_on_what_only_bash_knows() -> None:
    text = b"i=0\nBUILT_MODULE_NAME[$i]=a\ni=$((i+1))\nif [ -e /b ]; then BUILT_MODULE_NAME[$i]=b; i=$((i+1)); fi\n"
    conf = read(text + b"BUILT_MODULE_NAME[$i]=c\nDEST_MODULE_LOCATION=/extra\n")
    assert [module.name for module in conf.modules] == [None]
    assert not conf.lists_all_modules


@pytest.mark.parametrize(
    ("release", "config", "value"),
    [
        (RELEASE, {"CONFIG_NEW": "m"}, ""),
        (RELEASE, {"CONFIG_OLD": "m"}, "REQUIRES CONFIG_NEW"),
        ("5.10.0-30-amd64", {"CONFIG_OLD": "y"}, ""),
        ("5.10.0-30-amd64", {"CONFIG_NEW": "y"}, "REQUIRES CONFIG_OLD"),
        (RELEASE, None, None),
    ],
)
def test_a_condition_on_the_kernels_configuration(
    release: str, config: dict[str, str] | None, value: str | None
) -> None:
    kernel = {"kernelver": release, "kernel_source_dir": f"/lib/modules/{release}/build"}
    conf = read(NEEDS_OPTION, kernel=kernel, config=config)
    assert conf.value("BUILD_EXCLUSIVE_KERNEL") == value


def test_what_hangs_on_the_kernel_is_not_known_without_one() -> None:
    text = b"BUILT_MODULE_NAME=a-$kernelver\nDEST_MODULE_LOCATION=/extra\nAUTOINSTALL=yes\nOBSOLETE_BY=1\n"
    text += b"[ $arch = x86_64 ] && AUTOINSTALL=\n"
    assert read(text).modules == (Module(None, None, "/extra"),)
    assert read(text).value("AUTOINSTALL") is None
    assert read(text).value("OBSOLETE_BY") == "1"
    conf = read(text, kernel=KERNEL)
    assert conf.modules == (Module(f"a-{RELEASE}", f"a-{RELEASE}", "/extra"),)
    assert conf.value("AUTOINSTALL") == ""


def test_files_that_override_it() -> None:
    conf = read(TWO, b"LOCAL=1\nAUTOINSTALL=\nBUILT_MODULE_NAME+=(more)\n", b"DEST_MODULE_NAME[2]=x$LOCAL\n")
    assert conf.value("AUTOINSTALL") == ""
    assert conf.value("BUILT_MODULE_NAME", 2) == "more"
    assert conf.value("DEST_MODULE_NAME", 2) is None  # the environment may have it: the file before is forgotten
    assert read(TWO, b"exit\n").modules == ()
    assert not read(TWO, b"eval x\n").lists_all_modules


def test_carriage_returns_and_blanks() -> None:
    conf = read(b'PACKAGE_NAME="a"\r\nBUILD_EXCLUSIVE_CONFIG="CONFIG_A \\\n  !CONFIG_B"\r\nAUTOINSTALL=yes\r\n')
    assert conf.value("PACKAGE_NAME") == "a"
    assert conf.value("BUILD_EXCLUSIVE_CONFIG") == "CONFIG_A !CONFIG_B"
    assert conf.array("BUILD_EXCLUSIVE_CONFIG") == ("CONFIG_A", "!CONFIG_B")
    assert conf.value("AUTOINSTALL") == "yes"


def test_a_file_that_bash_does_not_read() -> None:
    with pytest.raises(FormatError, match="line 2"):
        read(b'PACKAGE_NAME=a\nAUTOINSTALL="yes\n')


def test_framework() -> None:
    texts = [
        b"# tree\ndkms_tree=/srv/dkms\ninstall_tree=/a/$kernelver/b\n",
        b"source_tree=/srv/src\n",
        b"dkms_tree=/srv/x\n",
    ]
    assert dkms_conf.parse_framework(texts) == {"dkms_tree": "/srv/x", "source_tree": "/srv/src", "install_tree": None}
    assert dkms_conf.parse_framework([]) == {}


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("6.1", "6.1"),
        ("4.19.0-1-amd64", "4.18"),
        ("6.1.0-9-amd64", "6.1.0-10-amd64"),
        ("6.12.5", "6.2"),
        ("6.1.0-50-amd64", "6.1"),
        ("20100405+svn20111107.r124", "3.27"),
        ("1.0~rc1", "1.0"),
        ("1000.1", "99.1"),
        ("a1b2", "a1b10"),
    ],
)
def test_the_order_of_versions_is_that_of_dkms(one: str, other: str) -> None:
    """Three digits for each number; what dkms does in sed, put down again here."""
    script = (
        "pad() { echo \"$1\" | sed -e 's:\\([^0-9]\\)\\([0-9]\\):\\1 \\2:g' -e 's:\\([0-9]\\)\\([^0-9]\\):\\1 \\2:g' "
        "-e 's:.*: & :' -e 's: \\([0-9]\\) : 00\\1 :g' -e 's: \\([0-9][0-9]\\) : 0\\1 :g' -e 's: ::g'; }\n"
        'a=$(pad "$1") b=$(pad "$2"); if [[ $a > $b ]]; then echo 1; elif [[ $a < $b ]]; then echo -1; else echo 0; fi'
    )
    command = ["bash", "-c", script, "-", one, other]
    done = subprocess.run(command, capture_output=True, timeout=20, check=True, env={**os.environ, "LC_ALL": "C"})
    assert compare(one, other) == int(done.stdout) == -compare(other, one)


_PRINT = r"""
for name in NAMES; do
    eval "for index in \"\${!$name[@]}\"; do printf '%s\t%s\t%s\0' $name \$index \"\${$name[\$index]}\"; done"
done
"""
CONFIGS: tuple[dict[str, str], ...] = (
    {},
    {
        f"CONFIG_{name}": "y"
        for name in ("VIDEO_DEV", "ACPI", "I2C", "BACKLIGHT_CLASS_DEVICE", "USB_HID", "64BIT", "NET")
    },
    {"CONFIG_PREEMPT_RT": "y", "CONFIG_VIDEO_V4L2": "m", "CONFIG_BLOCK": "y", "CONFIG_EVENT_TRACING": "y"},
)


@pytest.mark.skipif(not PACKAGES, reason="no packages of Debian's are here")
@pytest.mark.parametrize("path", PACKAGES, ids=[path.parent.name for path in PACKAGES])
def test_debians_packages(path: Path, tmp_path: Path) -> None:
    """Whatever is told of a real file is what bash finds in it; and nearly all is told."""
    not_known = values = 0
    for number, config in enumerate(CONFIGS):
        source = tmp_path / str(number)
        source.mkdir()
        (source / ".config").write_text("".join(f"{name}={value}\n" for name, value in config.items()))
        release = ("5.4.0-1-rt-amd64", RELEASE, "6.12.0-1-amd64")[number]
        given = {**TREE, "kernelver": release, "kernel_source_dir": str(source), "arch": "x86_64"}
        lines = "".join(f"{name}='{value}'\n" for name, value in given.items())
        script = f"{lines}. {path} >/dev/null 2>&1 </dev/null\n" + _PRINT.replace("NAMES", " ".join(DIRECTIVES))
        done = subprocess.run(["bash", "-c", script], capture_output=True, timeout=20, check=False, cwd=tmp_path)
        real = {}
        for line in done.stdout.decode().split("\0")[:-1]:
            name, index, value = line.split("\t", 2)
            real[name, int(index)] = " ".join(value.split())
        conf = dkms_conf.parse([path.read_bytes()], given, config)
        seen = {(name, index) for name, array in conf.values.items() for index in array}
        for name, place in seen | set(real):
            told = conf.value(name, place)
            values += 1
            not_known += told is None
            # The configuration in /boot is taken for the same file, and is not there.
            if "/boot/config" not in path.read_text():
                assert told in (None, real.get((name, place), "")), f"{name}[{place}]"
    if "lttng" not in str(path):
        assert not_known <= max(9, values // 10)
