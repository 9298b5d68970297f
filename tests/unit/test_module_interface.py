from __future__ import annotations

import hashlib
import random
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from safeupdate.kernels import Kernel
from safeupdate.machine import Machine
from safeupdate.module_interface import Interface
from safeupdate.module_tree import ModuleTree
from safeupdate.trust.cache import Cache
from tests.unit import initrd
from tests.unit.test_module_symbols import HEADERS, VERMAGIC, ko, parse, vmlinux
from tests.unit.trees import IMAGE, MODULES, REAL_MACHINES, RELEASE, Content, tree, x86_image

KERNEL = {"module_layout": 0x11, "printk": 0x22, "kfree": 0x33, "_raw_spin_lock": 0x44}
OWN = {"module_layout": 0x11, "printk": 0x22}
SYMVERS = "".join(f"0x{number:08x}\t{name}\tvmlinux\tEXPORT_SYMBOL\t\n" for name, number in KERNEL.items())
SYMVERS += "0x00000055\tjbd2_start\tfs/jbd2/jbd2\tEXPORT_SYMBOL\t\n"
HEADERS_HERE: Mapping[str, Content] = {"build/Module.symvers": SYMVERS}
PACKED: Mapping[str, Content] = {IMAGE: x86_image(payload=initrd.compress("gzip", vmlinux(KERNEL)))}
IN_TREE: Mapping[str, Content] = {
    "kernel/lib/own.ko": ko("own", versions=OWN, undefined=["printk"]),
    "kernel/fs/jbd2.ko": ko("jbd2", versions={"module_layout": 0x11}, exports={"jbd2_start": 0x55}),
    "modules.dep": b"kernel/lib/own.ko:\nkernel/fs/jbd2.ko:\n",
    "modules.symbols": b"alias symbol:jbd2_start jbd2\n",
}
CONFIG = "CONFIG_MODULES=y\nCONFIG_MODVERSIONS=y\nCONFIG_MODULE_FORCE_LOAD=y\n"
PLAIN = "6.1.0-50-amd64 SMP preempt mod_unload "


def interface(root: Path, *files: Mapping[str, Content], config: str = CONFIG) -> Interface:
    """A kernel with its own modules, and these files; those without a first slash are below the modules directory."""
    everything: dict[str, Content] = {f"/boot/config-{RELEASE}": config}
    for several in (IN_TREE, *files):
        everything.update({path if path[0] == "/" else f"{MODULES}/{path}": data for path, data in several.items()})
    return Interface(ModuleTree(Kernel(RELEASE, IMAGE, tree(root, everything))))


def kind(found: Interface, **module: Any) -> str | None:
    misfit = found.of(parse(ko(**module)))
    assert misfit is None or misfit.why
    return None if misfit is None else misfit.kind


SOURCES = {"headers": HEADERS_HERE, "image": PACKED, "own modules": {}}


@pytest.mark.parametrize("source", SOURCES)
def test_checksums(tmp_path: Path, source: str) -> None:
    found = interface(tmp_path, SOURCES[source])
    assert kind(found, versions=KERNEL, undefined=["printk", "kfree"]) is None
    assert kind(found, versions={**KERNEL, "printk": 1}, undefined=["printk"]) == "symbol-version"
    assert kind(found, versions={**KERNEL, "printk": 1}, weak=["printk"]) == "symbol-version"
    assert kind(found, versions={**KERNEL, "module_layout": 1}) == "symbol-version"
    assert kind(found, versions={}, undefined=["printk"]) is None, "a symbol without a checksum is taken"
    assert kind(found, versions={**KERNEL, "gone": 1}) is None, "what is not asked for does not count"
    assert kind(found, versions=KERNEL, weak=["gone"]) is None
    assert kind(found, versions={**KERNEL, "gone": 1}, undefined=["gone"]) == (
        None if source == "own modules" else "symbol-missing"
    )


@pytest.mark.parametrize("source", SOURCES)
def test_symbols_of_the_kernels_own_modules(tmp_path: Path, source: str) -> None:
    found = interface(tmp_path, SOURCES[source])
    assert kind(found, versions={**KERNEL, "jbd2_start": 0x55}, undefined=["jbd2_start"]) is None
    assert kind(found, versions={**KERNEL, "jbd2_start": 0x56}, undefined=["jbd2_start"]) == "symbol-version"


def test_extended_versions_go_before_the_others(tmp_path: Path) -> None:
    found = interface(tmp_path, HEADERS_HERE)
    assert kind(found, versions={**KERNEL, "printk": 1}, extended=KERNEL, undefined=["printk"]) is None
    assert kind(found, versions=KERNEL, extended={**KERNEL, "printk": 1}, undefined=["printk"]) == "symbol-version"
    # With these alone the kernel compares the release, too.
    assert kind(found, extended=KERNEL, undefined=["printk"]) is None
    assert kind(found, extended=KERNEL, vermagic=VERMAGIC.replace("-50-", "-49-")) == "vermagic"


def test_vermagic_of_a_kernel_with_symbol_versions(tmp_path: Path) -> None:
    found = interface(tmp_path, HEADERS_HERE)
    assert kind(found, versions=KERNEL, vermagic=VERMAGIC.replace(RELEASE, "6.1.0-49-amd64")) is None
    assert kind(found, versions=KERNEL, vermagic=VERMAGIC.replace("preempt ", "")) == "vermagic"
    assert kind(found, vermagic=VERMAGIC.replace(RELEASE, "6.1.0-49-amd64")) == "vermagic"
    assert kind(found, vermagic=PLAIN) == "vermagic"


def test_a_kernel_without_symbol_versions(tmp_path: Path) -> None:
    own: dict[str, Content] = {
        "kernel/lib/own.ko": ko("own", vermagic=PLAIN, undefined=["printk"]),
        "kernel/fs/jbd2.ko": ko("jbd2", vermagic=PLAIN, exports={"jbd2_start": None}),
    }
    for number, headers in enumerate(({}, HEADERS_HERE)):
        found = interface(tmp_path / str(number), own, headers, config="CONFIG_MODULES=y\n")
        assert kind(found, vermagic=PLAIN, undefined=["printk", "jbd2_start"]) is None
        assert kind(found, vermagic=PLAIN.replace("-50-", "-49-")) == "vermagic"
        assert kind(found, vermagic=VERMAGIC, versions=KERNEL) == "vermagic"
        assert kind(found, vermagic=None) == "vermagic"
        assert kind(found, vermagic=PLAIN, undefined=["gone"]) == ("symbol-missing" if headers else None)


@pytest.mark.parametrize(("config", "expected"), [(CONFIG, None), (CONFIG.replace("_FORCE", "_NO"), "symbol-version")])
def test_versions_that_were_taken_out(tmp_path: Path, config: str, expected: str | None) -> None:
    assert kind(interface(tmp_path, HEADERS_HERE, config=config), undefined=["printk"]) == expected


def test_a_module_that_says_nothing_of_its_kernel(tmp_path: Path) -> None:
    assert kind(interface(tmp_path / "1", HEADERS_HERE), versions=KERNEL, vermagic=None) is None
    bare = CONFIG.replace("_FORCE", "_NO")
    assert kind(interface(tmp_path / "2", HEADERS_HERE, config=bare), versions=KERNEL, vermagic=None) == "vermagic"


def test_other_settings_that_no_text_tells(tmp_path: Path) -> None:
    assert kind(interface(tmp_path), versions=KERNEL, size=960) == "vermagic"


def test_what_is_no_module_of_this_kernel(tmp_path: Path) -> None:
    found = interface(tmp_path, {"extra/cut.ko": ko()[:-100], "extra/empty.ko": b"", "extra/a.ko.xz": b"no xz"})
    assert kind(found, machine=183) == "broken"
    assert kind(found, size=None) == "broken"
    for path in ("extra/cut.ko", "extra/empty.ko", "extra/a.ko.xz", "extra/none.ko"):
        misfit = found.misfit(path)
        assert misfit is not None
        assert misfit.kind == "broken"
    assert found.misfit("kernel/lib/own.ko") is None
    assert found.misfit(f"{MODULES}/kernel/fs/jbd2.ko") is None


# -- other modules ---------------------------------------------------------------------------------------------


def test_symbols_of_other_modules_from_elsewhere(tmp_path: Path) -> None:
    """Known to depmod or not: it need not have run yet."""
    spl: Mapping[str, Content] = {"updates/dkms/spl.ko": ko("spl", versions=OWN, exports={"spl_start": 7})}
    zfs = {"versions": {**OWN, "spl_start": 7}, "undefined": ["spl_start"]}
    for number, source in enumerate((HEADERS_HERE, PACKED)):
        assert kind(interface(tmp_path / f"{number}", source), **zfs) == "symbol-missing"
        found = interface(tmp_path / f"{number}-both", source, spl)
        assert kind(found, **zfs) is None
        assert kind(found, versions={**OWN, "spl_start": 8}, undefined=["spl_start"]) == "symbol-version"


def test_exports_without_checksums_fit_any(tmp_path: Path) -> None:
    found = interface(tmp_path, HEADERS_HERE, {"extra/spl.ko": ko("spl", versions=OWN, exports={"spl_start": None})})
    assert kind(found, versions={**OWN, "spl_start": 8}, undefined=["spl_start"]) is None


@pytest.mark.parametrize("source", ["headers", "image"])
def test_a_module_in_place_of_the_kernels_own(tmp_path: Path, source: str) -> None:
    """Only the one that is loaded counts: what was built with the kernel's own does not fit beside the other."""
    newer: Mapping[str, Content] = {
        "updates/jbd2.ko": ko("jbd2", versions=OWN, exports={"jbd2_start": 0x99}),
        "modules.dep": b"kernel/lib/own.ko:\nupdates/jbd2.ko:\n",
    }
    found = interface(tmp_path, SOURCES[source], newer)
    assert kind(found, versions={**OWN, "jbd2_start": 0x99}, undefined=["jbd2_start"]) is None
    assert kind(found, versions={**OWN, "jbd2_start": 0x55}, undefined=["jbd2_start"]) == "symbol-version"


def test_a_module_of_the_kernel_that_is_not_installed(tmp_path: Path) -> None:
    """Fedora and Ubuntu have packages of seldom used modules; the headers list what those export all the same."""
    more = {"build/Module.symvers": f"{SYMVERS}0x00000066\trare\tdrivers/rare\tEXPORT_SYMBOL\t\n"}
    found = interface(tmp_path, more)
    assert kind(found, versions={**OWN, "rare": 0x66}, undefined=["rare"]) == "symbol-missing"


def test_without_what_depmod_wrote(tmp_path: Path) -> None:
    nothing: Mapping[str, Content] = {"modules.dep": b"", "modules.symbols": b""}
    found = interface(tmp_path, HEADERS_HERE, nothing)
    assert kind(found, versions={**OWN, "jbd2_start": 0x55}, undefined=["jbd2_start"]) is None


@pytest.mark.parametrize("source", SOURCES)
def test_what_the_kernel_has_itself_by_now(tmp_path: Path, source: str) -> None:
    found = interface(tmp_path, SOURCES[source])
    assert kind(found, versions=OWN, exports={"kfree": 0x33}) == (None if source == "own modules" else "symbol-twice")
    assert kind(found, versions=OWN, exports={"jbd2_start": 0x55}) is None, (
        "which of two modules is loaded is not known"
    )


# -- what the kernel has ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    ["symvers", "symvers.gz", "symvers.xz", f"/boot/symvers-{RELEASE}.gz", f"/boot/symvers-{RELEASE}.xz"]
    + ([f"/boot/symvers-{RELEASE}.zst", "symvers.zst"] if initrd.has("zstd") else []),
)
def test_where_distributions_put_the_list(tmp_path: Path, path: str) -> None:
    packer = {"gz": "gzip", "xz": "xz", "zst": "zstd"}.get(path.rpartition(".")[2])
    data = SYMVERS.encode()
    found = interface(tmp_path, {path: data if packer is None else initrd.compress(packer, data)})
    assert kind(found, versions={**OWN, "gone": 1}, undefined=["gone"]) == "symbol-missing"


@pytest.mark.parametrize(
    "other", [SYMVERS.replace("00011", "00012"), SYMVERS[:-5], "", "0x1\ta\tfs/b\tEXPORT_SYMBOL\n"]
)
def test_headers_of_another_build_tell_nothing(tmp_path: Path, other: str) -> None:
    """A package of headers may be older or newer than the kernel of the same name."""
    found = interface(tmp_path / "1", {"build/Module.symvers": other})
    assert kind(found, versions=KERNEL, undefined=["kfree", "gone"]) is None
    found = interface(tmp_path / "2", {"build/Module.symvers": other}, PACKED)
    assert kind(found, versions=KERNEL, undefined=["kfree", "gone"]) == "symbol-missing"


def test_a_foreign_module_among_the_kernels_own(tmp_path: Path) -> None:
    """Some installers copy to kernel/; what is built wrongly there says nothing of the kernel."""
    foreign: Mapping[str, Content] = {
        "kernel/a.ko": ko("a", versions={"module_layout": 9}, vermagic="5.10 SMP modversions ", fields=(), size=8)
    }
    found = interface(tmp_path, foreign, HEADERS_HERE)
    assert kind(found, versions=KERNEL, undefined=["kfree"]) is None
    assert kind(found, versions={**KERNEL, "gone": 1}, undefined=["gone"]) == "symbol-missing"
    misfit = found.misfit("kernel/a.ko")
    assert misfit is not None
    assert misfit.kind == "vermagic"


def test_headers_that_lag_behind_the_image(tmp_path: Path) -> None:
    """They fit the few modules that are asked, and yet not the module: the image has the last word."""
    old = SYMVERS.replace("0x00000033\tkfree", "0x00000099\tkfree")
    zfs = {"versions": KERNEL, "undefined": ["kfree"]}
    assert kind(interface(tmp_path / "1", {"build/Module.symvers": old}), **zfs) == "symbol-version"
    assert kind(interface(tmp_path / "2", {"build/Module.symvers": old}, PACKED), **zfs) is None


def test_an_image_that_tells_nothing(tmp_path: Path) -> None:
    for number, image in enumerate((b"", x86_image(), x86_image(payload=initrd.compress("gzip", bytes(5000))))):
        found = interface(tmp_path / str(number), {IMAGE: image})
        assert kind(found, versions=KERNEL, undefined=["kfree", "gone"]) is None
        assert kind(found, versions={**KERNEL, "printk": 1}, undefined=["printk"]) == "symbol-version"


def test_an_image_is_unpacked_once(tmp_path: Path) -> None:
    tree = interface(tmp_path, PACKED)._tree
    key = hashlib.sha256(tree.kernel.machine.read(IMAGE)).hexdigest()
    cache = Cache(str(tmp_path / "cache"))
    zfs = {"versions": KERNEL, "undefined": ["kfree"]}
    assert kind(Interface(tree, cache=cache), **zfs) is None
    kept = cache.get("exports", key)
    assert kept is not None
    assert min(kept) == b"00000011 module_layout"
    # What is kept is believed, as long as it fits the kernel's own modules.
    cache.put("exports", key, [line.replace(b"33 kfree", b"34 kfree") for line in kept])
    assert kind(Interface(tree, cache=cache), **zfs) == "symbol-version"
    for junk in ([], [b"junk"], [b"00000011 \xff"]):
        cache.put("exports", key, junk)
        assert kind(Interface(tree, cache=cache), **zfs) is None
        assert cache.get("exports", key) == kept


def test_nothing_at_all_is_unknown(tmp_path: Path) -> None:
    files: dict[str, Content] = {f"/boot/config-{RELEASE}": CONFIG, f"{MODULES}/extra/a.ko": ko(versions=KERNEL)}
    found = Interface(ModuleTree(Kernel(RELEASE, IMAGE, tree(tmp_path, files))))
    misfit = found.misfit("extra/a.ko")
    assert misfit is not None
    assert misfit.kind == "unknown"
    assert kind(found, vermagic=VERMAGIC.replace("-50-", "-49-")) == "vermagic"


# -- real kernels ----------------------------------------------------------------------------------------------

TRIED = 30
"""Modules of each kernel; all of them were tried once."""


def real_trees() -> list[ModuleTree]:
    """Every kernel of every distribution's machine."""
    found = []
    for boot in REAL_MACHINES:
        machine = Machine.tree(str(boot.parent))
        for image in sorted(boot.glob("vmlinuz-*")):
            release = image.name.partition("-")[2]
            if machine.is_dir(f"/lib/modules/{release}/kernel"):
                found.append(ModuleTree(Kernel(release, f"/boot/{image.name}", machine)))
    return found


ALL = real_trees()
TREES = [*{found.kernel.release: found for found in reversed(ALL)}.values()]
"""One for each kernel."""


def sample(found: ModuleTree) -> list[str]:
    return random.Random(1).sample(sorted(path for path in found.files if path.startswith("kernel/")), TRIED)


@pytest.mark.parametrize("found", TREES, ids=[found.kernel.release for found in TREES])
def test_a_kernels_own_modules_fit(found: ModuleTree) -> None:
    one = Interface(found)
    assert [misfit for path in sample(found) if (misfit := one.misfit(path)) is not None] == []


@pytest.mark.skipif(not HEADERS, reason="no linux-headers package is on a machine here")
def test_they_fit_by_the_headers_and_so_does_what_was_built_with_these() -> None:
    built = 0
    for found in ALL:
        if not found.kernel.machine.is_file(f"{found.directory}/build/Module.symvers"):
            continue
        one = Interface(found)
        assert [misfit for path in (*sample(found), *found.out_of_tree) if (misfit := one.misfit(path))] == []
        own = found.sample
        assert own is not None
        misfit = one.of(replace(own, undefined=own.undefined | {"gone"}))
        assert misfit is not None, "the headers were not asked"
        assert misfit.kind == "symbol-missing"
        built += len(found.out_of_tree)
    assert built, "DKMS has built nothing"


@pytest.mark.skipif(len({one.kernel.release[:4] for one in TREES}) < 2, reason="there are no two kernels here")
def test_modules_of_another_series_do_not_fit() -> None:
    for found, other in ((TREES[0], TREES[-1]), (TREES[-1], TREES[0])):
        one = Interface(found)
        for path in sample(other):
            misfit = one.of(other.symbols(path))
            assert misfit is not None, path
            assert misfit.kind == "symbol-version", path
