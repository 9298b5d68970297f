"""What a program needs to start, over files that exist as values only, and over this machine's own."""

from __future__ import annotations

import struct
import sys
from dataclasses import replace
from pathlib import Path

from safeupdate.closure import (
    MachineFiles,
    MissingFile,
    library,
    library_directories,
    loaded,
    missing,
    script_interpreter,
)
from safeupdate.formats.elf import Elf
from safeupdate.machine import Machine

PLAIN = Elf(type=3, machine=62, bits=64, endian="little", size=1000, loaded=900, extent=1000)
LOADER = "/lib64/ld-linux-x86-64.so.2"


class World:
    """Files as values: a header, a script's first line, or None for other files."""

    def __init__(self, files: dict[str, Elf | str | None], links: dict[str, str] | None = None) -> None:
        self.files = files
        self.links = links or {}

    def resolve(self, path: str) -> str | None:
        path = self.links.get(path, path)
        return path if path in self.files else None

    def elf(self, path: str) -> Elf | None:
        found = self.files[path]
        return found if isinstance(found, Elf) else None

    def script(self, path: str) -> str | None:
        found = self.files[path]
        return found if isinstance(found, str) else None


def program(*needed: str, interpreter: str | None = LOADER, **changes: object) -> Elf:
    return replace(PLAIN, interpreter=interpreter, needed=needed, **changes)  # type: ignore[arg-type]


def test_everything_is_there() -> None:
    world = World(
        {
            "/usr/lib/systemd/systemd": program("libc.so.6", "libsystemd-shared-252.so", runpath=("/usr/lib/systemd",)),
            "/usr/lib/systemd/libsystemd-shared-252.so": program("libc.so.6", interpreter=None),
            "/lib/x86_64-linux-gnu/libc.so.6": program("ld-linux-x86-64.so.2"),
            LOADER: PLAIN,
        },
        {"/sbin/init": "/usr/lib/systemd/systemd"},
    )
    assert missing(world, "/sbin/init") == ()


def test_nothing_is_there() -> None:
    assert missing(World({}), "/init") == (MissingFile("/init", "/init"),)


def test_the_interpreter_and_a_librarys_library_are_missing() -> None:
    world = World({"/bin/sh": program("liba.so"), "/lib/liba.so": program("libb.so", interpreter=None)})
    assert missing(world, "/bin/sh") == (MissingFile(LOADER, "/bin/sh"), MissingFile("libb.so", "/lib/liba.so"))


def test_libraries_that_need_each_other_end() -> None:
    world = World(
        {
            "/bin/sh": program("liba.so", interpreter=None),
            "/lib/liba.so": program("libb.so"),
            "/lib/libb.so": program("liba.so"),
        }
    )
    assert missing(world, "/bin/sh") == ()


def test_scripts_lead_to_their_interpreter() -> None:
    world = World({"/init": "/bin/busybox sh -e", "/bin/busybox": program(interpreter=None), "/loop": "/loop"})
    assert missing(world, "/init") == ()
    del world.files["/bin/busybox"]
    assert missing(world, "/init") == (MissingFile("/bin/busybox", "/init"),)
    assert "too many" in missing(world, "/loop")[0].why


def test_a_file_that_is_no_program() -> None:
    assert "neither" in missing(World({"/init": None}), "/init")[0].why


def test_a_library_for_another_machine_is_passed_over() -> None:
    world = World(
        {"/bin/a": program("liba.so", interpreter=None), "/lib/x86_64-linux-gnu/liba.so": replace(PLAIN, bits=32)}
    )
    assert "another machine" in missing(world, "/bin/a")[0].why
    world.files["/usr/lib/liba.so"] = PLAIN
    assert missing(world, "/bin/a") == ()


def test_an_interpreter_for_another_machine() -> None:
    world = World({"/bin/a": program(), LOADER: replace(PLAIN, machine=183)})
    assert missing(world, "/bin/a") == (MissingFile(LOADER, "/bin/a", "is for another machine (aarch64)"),)


def test_cut_files() -> None:
    world = World({"/bin/a": program("liba.so", interpreter=None), "/lib/liba.so": replace(PLAIN, size=10)})
    assert "cut short" in missing(world, "/bin/a")[0].why
    assert "cut short" in missing(World({"/bin/a": replace(PLAIN, size=899)}), "/bin/a")[0].why
    assert missing(World({"/bin/a": replace(PLAIN, size=950)}), "/bin/a") == ()


def test_a_broken_library() -> None:
    world = World({"/bin/a": program("liba.so", interpreter=None), "/lib64/liba.so": None})
    assert "broken" in missing(world, "/bin/a")[0].why


def test_origin_rpath_is_inherited_and_runpath_is_not() -> None:
    files = {
        "/opt/bin/a": program("liba.so", interpreter=None, rpath=("$ORIGIN/../lib",)),
        "/opt/lib/liba.so": program("libb.so"),
        "/opt/lib/libb.so": PLAIN,
    }
    world = World(
        dict(files), {"/opt/bin/../lib/liba.so": "/opt/lib/liba.so", "/opt/bin/../lib/libb.so": "/opt/lib/libb.so"}
    )
    assert missing(world, "/opt/bin/a") == ()
    world.files["/opt/bin/a"] = program("liba.so", interpreter=None, runpath=("${ORIGIN}/../lib",))
    assert missing(world, "/opt/bin/a") == (MissingFile("libb.so", "/opt/lib/liba.so"),)


def test_search_directories_and_names_with_a_slash() -> None:
    world = World(
        {"/bin/a": program("liba.so", "/opt/b.so", interpreter=None), "/opt/x/liba.so": PLAIN, "/opt/b.so": PLAIN}
    )
    assert missing(world, "/bin/a") == (MissingFile("liba.so", "/bin/a"),)
    assert missing(world, "/bin/a", search=("/opt/x",)) == ()


def test_musl_is_its_own_libraries() -> None:
    loader = "/lib/ld-musl-x86_64.so.1"
    world = World({"/bin/busybox": program("libc.musl-x86_64.so.1", interpreter=loader), loader: PLAIN})
    assert missing(world, "/bin/busybox") == ()


def test_a_library_opened_at_run_time() -> None:
    world = World({"/bin/kmod": program(interpreter=None), "/usr/lib64/libzstd.so.1": PLAIN, "/init": "/bin/kmod"})
    assert library(world, "libzstd.so.1", program="/bin/kmod") == "/usr/lib64/libzstd.so.1"
    assert library(world, "liblzma.so.5", program="/bin/kmod") is None
    assert library(world, "libzstd.so.1", program="/init") is None


def cache(paths: list[str], order: str = "<") -> bytes:
    strings = b"".join(path.encode() + b"\0" for path in paths)
    at = 48 + 24 * len(paths)
    entries = b""
    for path in paths:
        entries += struct.pack(f"{order}iIIIQ", 3, at, at + strings.index(path.encode()), 0, 0)
    mark = 2 if order == "<" else 3
    return b"glibc-ld.so.cache1.1" + struct.pack(f"{order}IIB19x", len(paths), len(strings), mark) + entries + strings


def test_loader_configuration() -> None:
    files = {
        "/etc/ld.so.conf": b"include ld.so.conf.d/*.conf\n/opt/a, /opt/b # words\nhwcap 1 nosegneg\n",
        "/etc/ld.so.conf.d/x.conf": b"/opt/x\ninclude /etc/ld.so.conf\n",
        "/etc/ld.so.conf.d/y.txt": b"/opt/y\n",
        "/etc/ld.so.cache": cache(["/opt/c/libc.so", "/opt/c/libd.so"]),
        "/etc/ld-musl-x86_64.path": b"/opt/m:/opt/n\n",
    }
    names = {"/etc": ["ld.so.conf", "ld-musl-x86_64.path"], "/etc/ld.so.conf.d": ["x.conf", "y.txt"]}
    found = library_directories(files.get, lambda path: names.get(path, []))
    assert found == ("/opt/a", "/opt/b", "/opt/x", "/opt/c", "/opt/m", "/opt/n")


def test_loader_caches_of_both_byte_orders_and_broken_ones() -> None:
    whole = cache(["/opt/c/libc.so"])
    for data in (whole, cache(["/opt/c/libc.so"], ">")):
        assert library_directories({"/etc/ld.so.cache": data}.get, lambda path: []) == ("/opt/c",)
    for length in range(len(whole)):
        library_directories({"/etc/ld.so.cache": whole[:length]}.get, lambda path: [])
    huge = bytearray(whole)
    huge[20:24] = b"\xff\xff\xff\x00"
    assert library_directories({"/etc/ld.so.cache": bytes(huge)}.get, lambda path: []) == ("/opt/c",)


def test_script_interpreter() -> None:
    assert script_interpreter(b"#! /bin/sh -e\necho") == "/bin/sh -e"
    assert script_interpreter(b"#!\n") is None
    assert script_interpreter(b"\x7fELF") is None


def test_this_machines_own_program_and_a_copy_without_its_libraries(tmp_path: Path) -> None:
    files = MachineFiles(Machine.here())
    assert missing(files, sys.executable, search=files.library_directories()) == ()
    copy = tmp_path / "bin" / "python"
    copy.parent.mkdir()
    copy.write_bytes(Path(sys.executable).read_bytes())
    lost = missing(MachineFiles(Machine.tree(str(tmp_path))), "/bin/python")
    assert "libc.so.6" in {each.name for each in lost}


def test_files_that_a_program_loads() -> None:
    world = World({"/init": "/bin/sh -e", "/bin/sh": program("liba.so"), "/lib/liba.so": PLAIN, LOADER: PLAIN})
    assert loaded(world, "/init") == ("/init", "/bin/sh", LOADER, "/lib/liba.so")
