from __future__ import annotations

import lzma
import random
import shutil
import subprocess
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

import pytest

from safeupdate.errors import FormatError, Missing
from safeupdate.kernels import Kernel
from safeupdate.machine import Machine
from safeupdate.module_tree import ModuleTree
from tests.unit.test_module_symbols import ko, real_modules
from tests.unit.trees import IMAGE, MODULES, RELEASE, Content, Link, dep_index, tree

DEPMOD = shutil.which("depmod", path="/usr/sbin:/sbin:/usr/bin:/bin")


def module_tree(machine: Machine, release: str = RELEASE) -> ModuleTree:
    return ModuleTree(Kernel(release, IMAGE, machine))


def made(root: Path, files: Mapping[str, Content]) -> ModuleTree:
    """A tree with these files, of which those without a first slash are below the modules directory."""
    return module_tree(
        tree(root, {path if path[0] == "/" else f"{MODULES}/{path}": data for path, data in files.items()})
    )


def test_files(tmp_path: Path) -> None:
    found = made(
        tmp_path,
        {
            "kernel/fs/b-c.ko.xz": b"b",
            "kernel/a.ko": b"a",
            "updates/dkms/a.ko": b"a",
            "weak-updates/w.ko": Link("/lib/modules/gone/w.ko"),
            "extra": Link("/opt/extra"),
            "/opt/extra/deep/e.ko": b"e",
            "/opt/extra/readme": b"",
            "loop": Link("."),
            "up": Link("/lib"),
            "build": Link("/usr/src/headers"),
            "/usr/src/headers/x.ko": b"x",
            "source/y.ko": b"y",
            "updates/build/z.ko": b"z",
            "modules.builtin": b"kernel/lib/in-side.ko\n",
        },
    )
    assert sorted(found.files) == [
        "extra/deep/e.ko",
        "kernel/a.ko",
        "kernel/fs/b-c.ko.xz",
        "updates/dkms/a.ko",
        "weak-updates/w.ko",
    ]
    assert found.named("a") == ("kernel/a.ko", "updates/dkms/a.ko")
    assert found.named("b_c") == found.named("b-c") == ("kernel/fs/b-c.ko.xz",)
    assert found.named("none") == ()
    assert found.out_of_tree == ("extra/deep/e.ko", "updates/dkms/a.ko", "weak-updates/w.ko")
    assert found.builtin == {"in_side"}
    assert found.path("kernel/a.ko") == f"{MODULES}/kernel/a.ko"
    assert found.preferred("w") is None, "its link leads nowhere"


def test_no_tree(tmp_path: Path) -> None:
    found = made(tmp_path, {})
    assert not found.files and not found.dependencies and not found.out_of_tree
    assert found.index.problem == found.text.problem == "the file does not exist"
    assert (found.chosen("a"), found.preferred("a"), found.vermagic, found.exporters) == (None, None, None, None)


def test_what_depmod_wrote(tmp_path: Path) -> None:
    listing = {"kernel/a-b.ko": ("kernel/c.ko",), "kernel/c.ko": ()}
    files: dict[str, Content] = {
        "modules.dep.bin": dep_index(listing),
        "modules.dep": b"updates/a-b.ko:\n",
        "modules.symbols": b"# Aliases\nalias symbol:one a_b\nalias symbol:one c\nalias symbol:two c\n",
    }
    found = made(tmp_path / "whole", files)
    assert found.dependencies == found.index.dependencies == listing
    assert found.chosen("a_b") == found.chosen("a-b") == "kernel/a-b.ko"
    assert found.exporters == {"one": ["a_b", "c"], "two": ["c"]}
    files["modules.dep.bin"] = dep_index(listing)[:-1]
    found = made(tmp_path / "cut", files)
    assert found.index.problem is not None and found.text.problem is None
    assert found.chosen("a_b") == "updates/a-b.ko"


def test_what_is_in_the_modules(tmp_path: Path) -> None:
    own = ko("own", vermagic="6.1 SMP ", exports={"one": 1})
    found = made(
        tmp_path,
        {
            "kernel/cut.ko": own[:-200],
            "kernel/foreign.ko": ko("f", vermagic="5.10 SMP ", fields=(), size=8),
            "kernel/own.ko.xz": lzma.compress(own + bytes(20_000)),
            "kernel/z.ko": b"",
            "updates/a.ko": ko("a", vermagic="4.19 SMP "),
        },
    )
    assert found.smallest == ("kernel/own.ko.xz", "kernel/foreign.ko", "kernel/cut.ko")
    assert [sample.one("name") for sample in found.samples] == ["own"]
    assert found.vermagic == "6.1 SMP "
    assert found.symbols("kernel/own.ko.xz").exports == {"one": 1}
    with found.open("kernel/own.ko.xz") as content:
        assert content.read(len(own)) == own
    with pytest.raises(FormatError):
        found.symbols("kernel/cut.ko")
    with pytest.raises(Missing):
        found.symbols("kernel/none.ko")


def test_modules_that_do_not_say_that_they_came_with_the_kernel(tmp_path: Path) -> None:
    found = made(tmp_path, {"kernel/foreign.ko": ko("f", vermagic="5.10 SMP ", fields=())})
    assert found.vermagic == "5.10 SMP "


# -- depmod.d --------------------------------------------------------------------------------------------------

TWO: Mapping[str, Content] = {"kernel/a.ko": b"a", "extra/a.ko": b"a"}


def test_by_itself_depmod_prefers_updates_alone(tmp_path: Path) -> None:
    assert made(tmp_path / "1", {**TWO, "updates/dkms/a.ko": b"a"}).preferred("a") == "updates/dkms/a.ko"
    assert made(tmp_path / "2", TWO).preferred("a") is None
    chosen = {"modules.dep": b"extra/a.ko:\n"}
    assert made(tmp_path / "3", {**TWO, **chosen}).preferred("a") == "extra/a.ko"
    stale = {"modules.dep": b"gone/a.ko:\n"}
    assert made(tmp_path / "4", {**TWO, **stale}).preferred("a") is None


@pytest.mark.parametrize(
    ("files", "preferred"),
    [
        ({"/etc/depmod.d/a.conf": "search extra built-in\n"}, "extra/a.ko"),
        ({"/etc/depmod.d/a.conf": "search built-in extra\n"}, "kernel/a.ko"),
        (
            {"/etc/depmod.d/a.conf": "search built-in extra\n", "/lib/depmod.d/a.conf": "search extra built-in\n"},
            "kernel/a.ko",
        ),
        ({"/etc/depmod.d/b.conf": "search built-in\n", "/lib/depmod.d/a.conf": "search extra\n"}, "extra/a.ko"),
        (
            {"/run/depmod.d/a.conf": "search extra built-in\n", "/lib/depmod.d/a.conf": "search built-in extra\n"},
            "extra/a.ko",
        ),
        ({"/etc/depmod.d/a.conf": "override a * kernel\n"}, "kernel/a.ko"),
        ({"/etc/depmod.d/a.conf": f"override a {RELEASE} extra\n"}, "extra/a.ko"),
        ({"/etc/depmod.d/a.conf": "override a 5[.]10 extra\noverride a 6[.]1 kernel\n"}, "kernel/a.ko"),
        ({"/etc/depmod.d/a.conf": "exclude extra\n"}, "kernel/a.ko"),
        ({"/etc/depmod.d/a.conf": Link("/dev/null"), "/lib/depmod.d/a.conf": "search extra\n"}, None),
        ({"/etc/depmod.d/a": "search extra built-in\n", "/etc/depmod.d/.a.conf": "search extra built-in\n"}, None),
    ],
)
def test_configuration(tmp_path: Path, files: Mapping[str, Content], preferred: str | None) -> None:
    assert made(tmp_path, {**TWO, **files}).preferred("a") == preferred


def test_directories_outside(tmp_path: Path) -> None:
    files: dict[str, Content] = {
        **TWO,
        "/opt/mods/deep/a.ko": b"a",
        "/opt/mods/new.ko": b"n",
        "/etc/depmod.d/a.conf": "external * /opt/mods\nsearch external built-in\n",
    }
    found = made(tmp_path, files)
    assert found.named("a") == ("/opt/mods/deep/a.ko", "extra/a.ko", "kernel/a.ko")
    assert found.preferred("a") == "/opt/mods/deep/a.ko"
    assert found.preferred("new") == found.path("/opt/mods/new.ko") == "/opt/mods/new.ko"
    assert "/opt/mods/new.ko" in found.out_of_tree


def test_configuration_that_cannot_be_read_decides_nothing(tmp_path: Path) -> None:
    found = made(tmp_path, {**TWO, "/etc/depmod.d/a.conf": b"\n" * 100_000})
    assert found.preferred("a") is None
    assert found.named("a") == ("extra/a.ko", "kernel/a.ko")


# -- beside the real depmod ------------------------------------------------------------------------------------

CONFIGURATIONS = (
    "",
    "search updates extra built-in weak-updates\n",
    "search built-in updates\n",
    "search extra\n",
    "search updates/dkms updates built-in extra\nsearch weak-updates\n",
    "search updates built-in updates extra\n",
    "override a * extra\noverride b-c * weak-updates\noverride b_c * extra\n",
    f"override a {RELEASE} kernel/drivers\noverride a * extra\noverride d 5[.]10 extra\n",
    "search updates built-in\nexclude dkms old\noverride b-c ^6[.]1 updates\n",
    "override a * updates\noverride a * updates/dkms\nsearch extra built-in\n",
    "external * {root}/outside\nexternal 5[.]10 {root}/other\nsearch external updates built-in\n",
    "external * {root}/outside\nsearch updates built-in extra external\n",
    "external * {root}/outside\n",
)
DIRECTORIES = (
    "kernel/drivers",
    "kernel/old",
    "updates",
    "updates/dkms",
    "extra",
    "weak-updates",
    "/outside",
    "/linked",
)
NAMES = ("a", "b-c", "b_c", "d")


@lru_cache
def contents() -> list[bytes]:
    """The bytes of small modules: a distribution's, where there are any."""
    real = [path for path in real_modules(40) if path.suffix == ".ko" and path.stat().st_size < 20_000]
    return [path.read_bytes() for path in real] or [ko()]


def random_tree(chance: random.Random) -> dict[str, Content]:
    """Modules of a few names in many places: plain, packed, both, behind links; some links lead nowhere."""
    files: dict[str, Content] = {"modules.order": b"", "modules.builtin": b"", "modules.builtin.modinfo": b""}
    data = contents()
    for directory in DIRECTORIES:
        for name in NAMES:
            if chance.random() < 0.6:
                continue
            content, place = data[len(files) % len(data)], f"{directory}/{name}.ko"
            kind = chance.choice(("plain", "plain", "packed", "both", "link", "dangling"))
            if kind in ("packed", "both"):
                files[f"{place}.xz"] = lzma.compress(content, check=lzma.CHECK_CRC32)
            if kind in ("plain", "both"):
                files[place] = content
            if kind == "link":
                files[f"/elsewhere/{len(files)}"] = content
                up = "../" * (directory.count("/") + (0 if directory.startswith("/") else 4))
                files[place] = Link(f"{up}elsewhere/{len(files) - 1}")
            if kind == "dangling":
                files[place] = Link("nowhere.ko")
    if any(path.startswith("/linked/") for path in files):
        files["extra-linked"] = Link("../../../linked")
    return files


@pytest.mark.skipif(DEPMOD is None, reason="there is no depmod here")
@pytest.mark.parametrize("number", range(len(CONFIGURATIONS)))
def test_the_same_as_depmod_chooses(tmp_path: Path, number: int) -> None:
    chance = random.Random(number)
    told = 0
    for turn in range(6):
        root = tmp_path / str(turn)
        files = random_tree(chance)
        # depmod knows of a tree, but not that what its configuration names lies in it.
        files["/etc/depmod.d/a.conf"] = CONFIGURATIONS[number].format(root="")
        files["/conf/a.conf"] = CONFIGURATIONS[number].format(root=root)
        before = made(root, files)
        expected = {name: before.preferred(name) for name in NAMES}
        command = [str(DEPMOD), "-b", str(root), "-C", str(root / "conf"), RELEASE]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        after = module_tree(Machine.tree(str(root)))
        for name, path in expected.items():
            chosen = (after.chosen(name) or "").replace(str(root), "") or None
            assert path in (None, chosen), (files["/etc/depmod.d/a.conf"], after.named(name))
            assert after.preferred(name) == chosen or (chosen or "").startswith("/")
            told += path is not None
    assert told >= 3, "much of what depmod chooses follows from its configuration"
