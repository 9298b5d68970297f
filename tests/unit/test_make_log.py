"""Why a build failed, by logs as dkms and make write them."""

from __future__ import annotations

import re

import pytest

from safeupdate.formats import make_log
from safeupdate.formats.make_log import MakeLog

RELEASE = "6.1.0-50-amd64"
OLD = f"DKMS make.log for v4l2loopback-0.12.7 for kernel {RELEASE} (x86_64)\nMon Nov 23 07:00:00 UTC 2026\n"
NEW = (
    f"DKMS (dkms-3.2.2) make.log for v4l2loopback/0.15.0 for kernel {RELEASE} (x86_64)\nMon Nov 23 07:00:00 UTC 2026\n"
)
END = "\n# exit code: 2\n# elapsed time: 00:00:03\n----------------------------------------------------------------\n"

IN_SOURCE = """make: Entering directory '/usr/src/linux-headers-6.1.0-50-amd64'
  CC [M]  /var/lib/dkms/a/1/build/a.o
warning: the compiler differs from the one used to build the kernel
/var/lib/dkms/a/1/build/a.c: In function 'start':
/var/lib/dkms/a/1/build/a.c:12:5: error: too few arguments to function 'class_create'
   12 |     class_create("a");
      |     ^~~~~~~~~~~~
make[2]: *** [/usr/src/linux-headers-6.1.0-50-common/scripts/Makefile.build:254: /var/lib/dkms/a/1/build/a.o] Error 1
make[1]: *** [/usr/src/linux-headers-6.1.0-50-common/Makefile:1927: /var/lib/dkms/a/1/build] Error 2
make: *** [Makefile:47: a] Error 2
"""


def read(text: str) -> MakeLog:
    return make_log.parse(text.encode(), text.encode())


@pytest.mark.parametrize(("head", "end"), [(OLD, ""), (NEW, END)])
def test_an_error_in_the_source(head: str, end: str) -> None:
    log = read(head + IN_SOURCE + end)
    assert (log.kernel, log.cause) == (RELEASE, "build")
    assert log.said == log.lines[0]
    assert log.said.endswith("error: too few arguments to function 'class_create'")
    assert log.lines[-1] == "make: *** [Makefile:47: a] Error 2"
    assert len(log.lines) == 4


CAUSES = {
    "make: *** /lib/modules/6.1.0-50-amd64/build: No such file or directory.  Stop.": "headers",
    "  ERROR: Kernel configuration is invalid.\n         include/generated/autoconf.h or include/config/auto.conf are "
    "missing.": "headers",
    "/bin/sh: 1: scripts/basic/fixdep: not found": "headers",
    "configure: error:\n\t*** Please make sure the kernel devel package for your\n\t*** distribution": "headers",
    "a.c:1:10: fatal error: generated/autoconf.h: No such file or directory": "headers",
    "a.c:1:10: fatal error: linux/removed.h: No such file or directory": "build",
    "/bin/sh: 1: gcc-12: not found": "compiler",
    "make[1]: gcc-12: No such file or directory": "compiler",
    "make[1]: x86_64-linux-gnu-gcc-14: No such file or directory": "compiler",
    "/bin/bash: line 1: clang: command not found": "compiler",
    "gcc: error: unrecognized command-line option '-ftrivial-auto-var-init=zero'": "compiler",
    "cc1: error: incompatible gcc/plugin versions": "compiler",
    "*** CC version check failed: gcc 12, kernel gcc 14": "compiler",
    "configure: error: C compiler cannot create executables": "compiler",
    "a.c:3:1: error: unknown type name 'x'\ncc1: note: unrecognized command-line option '-Wno-x' may": "build",
    "warning: the compiler differs from the one used to build the kernel\nmake: *** [a] Error 1": "compiler",
    'ERROR: modpost: "filp_open" [/a.ko] undefined!\nmake[1]: *** [Module.symvers] Error 1': "build",
    "/bin/sh: 1: /usr/src/linux-headers/scripts/sign-file: not found\nmake: *** [a] Error 127": "sign",
    "fatal error: error writing to /tmp/a.s: No space left on device": "build",
    "gcc: fatal error: Killed signal terminated program cc1": "build",
    "Hunk #1 FAILED at 12.\n1 out of 1 hunk FAILED": "build",
}


@pytest.mark.parametrize("text", list(CAUSES))
def test_what_stood_in_the_way(text: str) -> None:
    log = read(f"{NEW}{text}\n{END}")
    assert log.cause == CAUSES[text]
    assert any(line.strip() in text for line in log.lines)


def test_without_errors_the_end_is_shown() -> None:
    log = read(NEW + "".join(f"  LD [M]  a{number}.o\n" for number in range(50)) + END.replace("2", "0"))
    assert log.lines == tuple(f"LD [M]  a{number}.o" for number in range(42, 50))
    assert (log.cause, log.said) == ("build", "LD [M]  a49.o")


def test_the_first_errors_and_the_last() -> None:
    log = read(OLD + "".join(f"a.c:{number}:1: error: x\n" for number in range(100)) + "make: *** [a] Error 1\n")
    assert len(log.lines) == 8
    assert log.lines[0] == "a.c:0:1: error: x"
    assert log.lines[-1] == "make: *** [a] Error 1"


def test_a_log_that_names_no_kernel() -> None:
    assert read("make: *** [a] Error 1\n").kernel is None
    assert read("") == MakeLog(None, "build", (), "")


@pytest.mark.parametrize(
    "data",
    [
        b"error: " * 40000,
        b"\0\xff\x1b[31m" * 40000,
        bytes(range(256)) * 1000,
        b"\n" * 250000,
        b"scripts/Makefile.a " * 14000,
        b"kernel headers " * 17000,
        b"# exit code: 99999999999999999999\n" * 7000,
        b"make.log for " * 20000,
    ],
)
def test_whatever_a_log_holds(data: bytes) -> None:
    log = make_log.parse(data[:4096], data)
    assert len(log.lines) <= 8
    assert all(len(line) <= 240 and not re.search(r"[\x00-\x1f\x7f-\x9f]", line) for line in log.lines)


def test_nothing_steers_the_terminal() -> None:
    log = read(f"{NEW}\x1b[01m\x1b[Ka.c:1:1:\x1b[m\x1b[K \x1b[01;31merror: \x1b[mno \x9bsuch\x07 thing\n")
    assert log.lines == ("a.c:1:1: error: no  such  thing",)
