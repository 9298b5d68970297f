from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from safeupdate.errors import Missing, ProgramFailed, Unreadable
from safeupdate.machine import Machine
from tests.unit.trees import Content, Link, open_directory, tree

HERE = Path(__file__).parents[2]


# -- links stay inside -----------------------------------------------------------------------------------------


def test_an_absolute_link_is_followed_inside_the_root(tmp_path: Path) -> None:
    machine = tree(tmp_path, {"/etc/shadow": "the tree's", "/boot/vmlinuz": Link("/etc/shadow")})
    assert machine.resolve("/boot/vmlinuz") == "/etc/shadow"
    assert machine.read("/boot/vmlinuz") == b"the tree's"


def test_an_absolute_link_to_a_file_of_the_host_is_missing(tmp_path: Path) -> None:
    machine = tree(tmp_path, {"/boot/passwd": Link("/etc/passwd")})
    assert os.path.exists("/etc/passwd")
    assert not machine.exists("/boot/passwd")
    with pytest.raises(Missing):
        machine.read("/boot/passwd")


@pytest.mark.parametrize("climb", ["../" * 40 + "etc/passwd", "/../../etc/passwd", "a/b/../../../../../etc/passwd"])
def test_dots_stop_at_the_root(tmp_path: Path, climb: str) -> None:
    machine = tree(tmp_path / "root", {"/a/b/link": Link(climb), "/a/b/c": None})
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_text("outside")
    for path in (climb, "/a/b/link", f"/a/b/{climb}"):
        assert not machine.exists(path)
        assert machine.host_path("/" + "../" * 20) == str(tmp_path / "root")


def test_dots_after_a_link_go_up_from_where_the_link_leads(tmp_path: Path) -> None:
    machine = tree(tmp_path, {"/usr/lib/x": "usr", "/usr/y": "y", "/lib": Link("usr/lib"), "/y": "top"})
    for _ in range(2):  # the second time from the cache
        assert machine.read("/lib/../y") == b"y"
        assert machine.read("/lib/x") == b"usr"
        assert machine.resolve("/lib/../../y") == "/y"


def test_dots_do_not_climb_out_of_what_is_not_there(tmp_path: Path) -> None:
    machine = tree(tmp_path, {"/etc/fstab": ""})
    with pytest.raises(Missing):
        machine.resolve("/nowhere/../etc/fstab")
    with pytest.raises(Missing):
        machine.resolve("/etc/fstab/../fstab")


def test_what_was_asked_before_changes_no_answer(tmp_path: Path) -> None:
    files: dict[str, Content] = {
        "/usr/lib/one": "1",
        "/usr/lib/up": Link("../share/two"),
        "/usr/share/two": "2",
        "/share/two": "3",
        "/lib": Link("usr/lib"),
    }
    machine = tree(tmp_path, files)
    names = ("one", "up", "..", ".", "", "missing", "../share/two", "one")
    paths = [f"{above}/{name}" for above in ("/lib", "lib", "/lib/", "/lib/..", "/usr/lib") for name in names]
    for follow in (True, False):
        for path in paths:
            assert machine.resolve(path, follow=follow) == Machine.tree(machine.root).resolve(path, follow=follow)


def test_chains_of_links_and_loops(tmp_path: Path) -> None:
    chain = {f"/l{n}": Link(f"l{n + 1}") for n in range(39)}
    machine = tree(tmp_path, {**chain, "/l39": "end", "/long": Link("l0"), "/longer": Link("long")})
    assert machine.read("/l0") == b"end"
    assert machine.exists("/long")
    assert not machine.exists("/longer")  # 41 links, one more than the kernel follows
    loops = tree(tmp_path, {"/a": Link("b"), "/b": Link("/a"), "/self": Link("self"), "/d/up": Link("../d/up/x")})
    for path in ("/a", "/b", "/self", "/d/up", "/a/x", "/self/../etc"):
        assert loops.stat(path) is None
        assert loops.listdir(path) == []
        with pytest.raises(Missing):
            loops.open(path)
    assert loops.is_link("/self")
    assert loops.readlink("/self") == "self"


def test_a_link_to_the_host_root_through_proc_leads_into_the_tree(tmp_path: Path) -> None:
    machine = tree(tmp_path, {"/out": Link("/proc/self/root/etc"), "/proc/self/root": Link("/"), "/etc/name": "in"})
    assert machine.read("/out/name") == b"in"
    assert not machine.exists("/out/passwd")


def test_follow_false_keeps_the_last_link_only(tmp_path: Path) -> None:
    machine = tree(tmp_path, {"/usr/lib/a": Link("b"), "/lib": Link("usr/lib")})
    assert machine.resolve("/lib/a", follow=False) == "/usr/lib/a"
    assert machine.resolve("/lib/a") == "/usr/lib/b"
    assert machine.readlink("/lib/a") == "b"
    with pytest.raises(Missing):
        machine.readlink("/usr")
    with pytest.raises(Missing):
        machine.readlink("/nothing")


def test_a_root_that_is_a_link_itself(tmp_path: Path) -> None:
    tree(tmp_path / "real", {"/etc/x": "1"})
    (tmp_path / "link").symlink_to("real")
    machine = Machine.tree(str(tmp_path / "link"))
    assert machine.root == str(tmp_path / "real")
    assert machine.read("/etc/x") == b"1"
    assert machine.host_path("/") == str(tmp_path / "real")


_PART = st.sampled_from(["a", "b", "l1", "l2", "l3", "..", ".", "", "x" * 300])
_PATH = st.lists(_PART, max_size=8).map("/".join)


@given(targets=st.lists(_PATH.filter(bool), min_size=3, max_size=3), path=_PATH)
@settings(max_examples=150, deadline=None)
def test_no_path_leaves_the_root(tmp_path_factory: pytest.TempPathFactory, targets: list[str], path: str) -> None:
    outside = tmp_path_factory.mktemp("outside")
    root = outside / "one" / "root"
    (root / "a/b").mkdir(parents=True)
    for number, target in enumerate(targets, 1):
        if target.encode():
            try:
                (root / f"a/l{number}").symlink_to(target)
            except OSError:  # a name that no file system takes
                return
    machine = Machine.tree(str(root))
    for _ in range(2):
        try:
            resolved = machine.resolve(path)
        except Missing:
            continue
        host = machine.host_path(path)
        assert resolved.startswith("/")
        assert ".." not in resolved.split("/")
        assert host == str(root) or host.startswith(f"{root}/")
        if os.path.lexists(host):
            assert os.path.realpath(host) == host


# -- names -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    ["/etc/a\0b", "\0", "/" + "n" * 256, "/d/" + "n" * 4096, "/".join(["/d"] * 5000), "/\udcff\udc80", "/\ud800"],
    ids=["NUL", "only NUL", "256 bytes", "4096 bytes", "5000 parts", "not UTF-8", "half a surrogate pair"],
)
def test_impossible_names_are_missing(tmp_path: Path, name: str) -> None:
    machine = tree(tmp_path, {"/d": None})
    assert machine.stat(name) is None
    assert not machine.exists(name)
    assert not machine.is_file(name)
    assert not machine.is_dir(name)
    assert not machine.is_link(name)
    assert machine.listdir(name) == []
    assert machine.text(name) is None
    assert list(machine.walk(name)) == []
    for ask in (machine.open, machine.read, machine.size, machine.readlink):
        with pytest.raises(Missing):
            ask(name)


def test_names_that_are_not_utf8_are_read_back(tmp_path: Path) -> None:
    with open(os.fsencode(tmp_path) + b"/na\xffme", "wb") as file:
        file.write(b"x\xfe")
    machine = tree(tmp_path)
    (name,) = machine.listdir("/")
    assert machine.read(f"/{name}") == b"x\xfe"
    assert machine.text(f"/{name}") == "x\udcfe"


# -- what is no file -------------------------------------------------------------------------------------------


def test_fifos_sockets_and_directories_are_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    here = os.open(".", os.O_RDONLY)
    try:
        os.chdir(tmp_path)  # a socket's path may have 107 bytes only
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind("socket")
    finally:
        os.fchdir(here)
        os.close(here)
    machine = tree(tmp_path, {"/directory": None, "/link": Link("fifo")})
    for path in ("/fifo", "/socket", "/directory", "/link", "/"):
        assert machine.exists(path)
        assert not machine.is_file(path)
        for ask in (machine.open, machine.read, machine.text, machine.value, machine.read_if_there):
            with pytest.raises(Unreadable, match="not a regular file"):
                ask(path)
    assert machine.listdir("/fifo") == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes device nodes")
def test_device_nodes_are_not_opened(tmp_path: Path) -> None:
    machine = tree(tmp_path)
    try:
        os.mknod(tmp_path / "null", 0o20666, os.makedev(1, 3))
        # A number without a driver: to open it fails with ENXIO, so that "no regular file" proves nothing was opened.
        os.mknod(tmp_path / "gone", 0o60666, os.makedev(511, 77))
    except PermissionError:
        pytest.skip("device nodes cannot be made here")
    for path in ("/null", "/gone"):
        with pytest.raises(Unreadable, match="not a regular file"):
            machine.open(path)


def test_a_file_beyond_the_bound_is_unreadable(tmp_path: Path) -> None:
    machine = tree(tmp_path, {"/etc/fstab": b"x" * 100})
    assert machine.read("/etc/fstab", limit=100) == b"x" * 100
    with pytest.raises(Unreadable, match="larger than 99 bytes"):
        machine.read("/etc/fstab", limit=99)
    with open(tmp_path / "etc/huge", "wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(Unreadable, match="larger"):
        machine.text("/etc/huge")


_AS_NOBODY = """
import os, sys
from safeupdate.errors import Unreadable
from safeupdate.machine import Machine
os.setegid(65534); os.seteuid(65534)
machine = Machine.tree(sys.argv[1])
asked = {
    "a file": lambda: machine.read("/file"),
    "below": lambda: machine.exists("/closed/x"),
    "list": lambda: machine.listdir("/closed"),
    "walk": lambda: list(machine.walk("/")),
    "no rights": lambda: machine.readlink("/closed/link"),
}
for name, ask in asked.items():
    try:
        print(name, "gave", ask())
    except Unreadable as error:
        print(name, "unreadable", error.reason)
assert machine.stat("/file") is not None
assert machine.exists("/closed")
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="root becomes nobody")
def test_no_permission_is_unreadable_and_never_missing() -> None:
    with open_directory() as root:
        tree(root, {"/file": "secret", "/closed/x": "", "/closed/link": Link("x")})
        (root / "file").chmod(0)
        (root / "closed").chmod(0)
        done = subprocess.run(
            [sys.executable, "-c", _AS_NOBODY, str(root)], cwd=HERE, capture_output=True, text=True, timeout=60
        )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 5
    assert all(line.endswith("unreadable Permission denied") for line in lines), lines


# -- walking ---------------------------------------------------------------------------------------------------


def test_walk_follows_no_link_and_ends_in_a_loop(tmp_path: Path) -> None:
    files: dict[str, Content] = {
        "/d/loop": Link("."),
        "/d/up": Link(".."),
        "/d/e/f": "x",
        "/other/g": "y",
        "/d/out": Link("/other"),
    }
    machine = tree(tmp_path, files)
    names = {os.path.relpath(entry.path, tmp_path) for entry in machine.walk("/d")}
    assert names == {"d/loop", "d/up", "d/e", "d/e/f", "d/out"}
    assert list(machine.walk("/d/e/f")) == []
    assert list(machine.walk("/nothing")) == []


def test_walk_through_a_link_at_the_top(tmp_path: Path) -> None:
    machine = tree(tmp_path, {"/usr/lib/modules/r/a.ko": "", "/lib": Link("usr/lib")})
    (entry,) = machine.walk("/lib/modules/r")
    assert entry.path == str(tmp_path / "usr/lib/modules/r/a.ko")


def test_walk_is_bounded(tmp_path: Path) -> None:
    machine = tree(tmp_path, {f"/d/{n}": "" for n in range(20)})
    assert len(list(machine.walk("/d", limit=20))) == 20
    with pytest.raises(Unreadable, match="too many files"):
        list(machine.walk("/d", limit=19))


def test_walk_of_a_tree_deeper_than_a_path_may_be(tmp_path: Path) -> None:
    here = os.open(".", os.O_RDONLY)
    os.chdir(tmp_path)
    try:
        for _ in range(60):
            os.mkdir("d" * 100)
            os.chdir("d" * 100)
    finally:
        os.fchdir(here)
        os.close(here)
    found = list(tree(tmp_path).walk("/"))
    assert 30 <= len(found) <= 60


# -- the rest --------------------------------------------------------------------------------------------------


def test_programs_have_a_time_out_and_the_c_locale() -> None:
    machine = Machine.here()
    done = machine.run(["sh", "-c", "cat; echo $LC_ALL; echo e >&2; exit 3"], stdin=b"in ")
    assert (done.code, done.stdout, done.stderr) == (3, b"in C\n", b"e\n")
    with pytest.raises(ProgramFailed, match="within 0"):
        machine.run(["sleep", "30"], timeout=0.1)
    with pytest.raises(ProgramFailed, match="cannot be started"):
        machine.run(["/nowhere/program"])


@pytest.mark.parametrize(
    ("text", "distribution"),
    [
        ('ID=debian\nVERSION_ID="12"\n', "debian 12"),
        ("ID=arch\n", "arch"),
        ("# nothing\n", None),
        ("", None),
        ("ID='fedora'\nVERSION_ID=41\nBROKEN LINE\n", "fedora 41"),
    ],
)
def test_distribution(tmp_path: Path, text: str, distribution: str | None) -> None:
    assert tree(tmp_path, {"/etc/os-release": text}).distribution == distribution


def test_facts_that_cannot_be_read_are_not_known(tmp_path: Path) -> None:
    machine = tree(tmp_path, {"/etc/os-release": None, "/proc/sys/kernel/osrelease": None})
    assert machine.distribution is None
    assert machine.running_kernel is None
    assert tree(tmp_path / "empty", {"/x": ""}).distribution is None


def test_facts(tmp_path: Path) -> None:
    machine = tree(tmp_path, {"/proc/sys/kernel/osrelease": "6.1.0\n", "/sys/class/block/sda": None, "/empty": None})
    assert machine.running_kernel == "6.1.0"
    assert machine.has_sysfs
    assert machine.populated("/sys")
    assert not machine.populated("/empty")
    assert not machine.populated("/gone")
