"""dkms of two Debian releases, on machines that have it: what it leaves behind where all went well, and where not.

Every failure is made by the machine's own programs, in the way in which it comes about.
"""

from __future__ import annotations

import lzma
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Callable

import pytest

import machines
from machines.build import releases
from machines.recipes import RECIPES
from safeupdate.judge import judge
from safeupdate.machine import Machine
from safeupdate.report import CheckResult, Finding, Report
from tests.integration.programs import ENVIRONMENT, next_build, programs
from tests.unit.signed_efi import entries, variables
from tests.unit.test_check_kernel_signature import PROGRAMS, with_secure_boot
from tests.unit.trees import tree

pytestmark = pytest.mark.machines

MACHINES = ("debian12-dkms", "debian13-dkms")
old_only = pytest.mark.parametrize("site", MACHINES[:1], indirect=True)
new_only = pytest.mark.parametrize("site", MACHINES[1:], indirect=True)

LOOPBACK = "v4l2loopback"
WRITEBOOST = "dm-writeboost"


@dataclass(frozen=True)
class Site:
    """A machine that runs its older kernel and will start the newer one, `target`."""

    name: str
    tree: str
    older: str
    target: str

    @property
    def dkms(self) -> tuple[int, ...]:
        """The version of dkms: 3.0 on Debian 12, 3.2 on Debian 13."""
        words = self.run("dkms", "--version").replace("-", " ").split()
        return tuple(int(number) for number in words[1].split(".")[:2])

    def path(self, path: str) -> Path:
        return Path(self.tree + path)

    def run(self, *command: str, status: int = 0) -> str:
        """Run a program of the machine, and return what it printed."""
        with programs(self.tree):
            done = subprocess.run(
                ["chroot", self.tree, *command],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=300,
                env=ENVIRONMENT,
                text=True,
                check=False,
            )
        assert done.returncode == status, (done.returncode, done.stdout[-4000:])
        return done.stdout

    def states(self) -> set[str]:
        """What dkms itself says."""
        return set(self.run("dkms", "status").splitlines())

    def is_installed(self, package: str) -> bool:
        return self.path(f"/var/lib/dpkg/info/{package}.list").exists()

    def source(self, package: str) -> Path:
        """Where the sources of a package are."""
        (directory,) = self.path("/usr/src").glob(f"{package}-[0-9]*")
        return directory

    def installed(self, release: str, package: str = LOOPBACK) -> Path:
        """The module that dkms has put there for a kernel."""
        (path,) = self.path(f"/usr/lib/modules/{release}/updates/dkms").glob(f"{package}.ko*")
        return path

    def version(self, package: str) -> str:
        return self.source(package).name[len(package) + 1 :]

    def unbuild(self, release: str, package: str = "") -> None:
        """Remove the modules of a kernel, as its package does before it goes, or those of one package."""
        if package:
            self.run("dkms", "remove", f"{package}/{self.version(package)}", "-k", release)
        else:
            self.run("/etc/kernel/prerm.d/dkms", release)

    def build(self, release: str, *, fails: bool = False) -> str:
        """Build every module for a kernel, as its package does after it came."""
        failed = 1 if self.dkms >= (3, 2) else 11
        return self.run("/etc/kernel/postinst.d/dkms", release, status=failed if fails else 0)

    def findings(self, check: str = "dkms") -> list[tuple[str, str, str]]:
        """Subject, id and level of what a check says of the kernel that boots next."""
        report = judge(Machine.tree(self.tree))
        return [(one.subject, one.id, one.level) for one in self.result(report, check).findings]

    @staticmethod
    def result(report: Report, check: str = "dkms") -> CheckResult:
        return next(one for one in report.checks if one.id == check)

    def in_use(self, *modules: str) -> None:
        """The running kernel has these modules, and something holds them."""
        path = self.path("/proc/modules")
        lines = [f"{module.replace('-', '_')} 49152 1 - Live 0x0\n" for module in modules]
        path.write_text(path.read_text() + "".join(lines))


@pytest.fixture(params=MACHINES)
def site(request: pytest.FixtureRequest, copy_of: Callable[[str], str]) -> Site:
    if os.geteuid() != 0:
        pytest.skip("to run a machine's programs takes root")
    tree = copy_of(request.param)
    if not os.path.ismount(tree):
        pytest.skip("the machine's programs would change the shared tree through hard links")
    machines.add_facts(tree, request.param)
    older, target = releases(tree)
    return Site(request.param, tree, older, target)


def unsigned(module: Path) -> bytes:
    """A module without its signature, unpacked (module_signature.h: the length is behind it)."""
    data = module.read_bytes()
    data = lzma.decompress(data) if module.suffix == ".xz" else data
    return data[: -40 - int.from_bytes(data[-32:-28], "big")]


def weighed(site: Site, finding: str, *modules: str) -> Finding:
    """What the check says of modules that failed for the newer kernel, after it was seen that it says this of each of
    them, and of no other, with the weight that the machine's need for it has: none, then a use.
    """
    names = sorted(module.replace("-", "_") for module in modules)
    assert sorted(site.findings()) == [(name, finding, "warning") for name in names]
    site.in_use(*modules)
    report = judge(Machine.tree(site.tree))
    found = sorted(site.result(report).findings, key=lambda one: one.subject)
    assert [(one.subject, one.id, one.level) for one in found] == [(name, finding, "blocker") for name in names]
    assert report.verdict == "unsafe"
    assert all(site.target in one.problem for one in found)
    return found[-1]


# -- where all went well ---------------------------------------------------------------------------------------


def test_modules_that_are_there_for_both_kernels(site: Site) -> None:
    assert len(site.states()) == 4
    assert all(line.endswith(": installed") for line in site.states())
    for needed in ((), (LOOPBACK, WRITEBOOST)):
        site.in_use(*needed)
        report = judge(Machine.tree(site.tree))
        assert (report.verdict, site.result(report).outcome, site.result(report).findings) == ("safe", "passed", ())
        assert report.fallback.kernel == site.older
        signatures = site.result(report, "module-signatures").findings
        assert [(one.id, one.level) for one in signatures] == [("module-signatures.taints", "note")]


def test_modules_that_only_the_next_kernel_has(site: Site) -> None:
    """The boot that is running goes without them; it is the fallback."""
    site.unbuild(site.older)
    report = judge(Machine.tree(site.tree))
    assert (report.verdict, site.result(report).outcome) == ("safe", "passed")
    assert report.fallback.kernel == site.older


def test_an_older_kernel_that_is_neither_next_nor_the_fallback(site: Site) -> None:
    third = f"5.10.0-1-{site.older.rpartition('-')[2]}"
    modules, copied = (site.path(f"/usr/lib/modules/{release}") for release in (site.older, third))
    shutil.copytree(modules / "kernel/arch", copied / "kernel/arch")
    for name in ("order", "builtin", "builtin.modinfo"):
        shutil.copy(modules / f"modules.{name}", copied)
    site.run("depmod", "-a", third)
    report = judge(Machine.tree(site.tree))
    result = site.result(report)
    assert (report.verdict, result.outcome) == ("safe", "passed")
    assert {(one.id, one.level) for one in result.findings} == {("dkms.other-kernels", "note")}
    assert all(third in one.problem for one in result.findings)


# -- failures --------------------------------------------------------------------------------------------------


def test_no_headers(site: Site) -> None:
    site.unbuild(site.target)
    headers = f"linux-headers-{site.target}"
    site.run("dpkg", "--purge", "--force-depends", headers)
    assert "headers" in site.build(site.target)
    finding = weighed(site, "dkms.headers-missing", LOOPBACK, WRITEBOOST)
    assert any(headers in command for command in finding.remedy.commands)


def test_a_source_that_does_not_compile(site: Site) -> None:
    site.unbuild(site.target, LOOPBACK)
    source = site.source(LOOPBACK) / "v4l2loopback.c"
    source.write_text(source.read_text().replace("video_device_alloc(", "video_device_allocate("))
    site.build(site.target, fails=True)
    finding = weighed(site, "dkms.build-failed", LOOPBACK)
    assert any("error" in line and "video_device_allocate" in line for line in finding.evidence)


def test_no_compiler(site: Site) -> None:
    site.unbuild(site.target, LOOPBACK)
    packages = [name for name in ("gcc-12", "gcc-14", "gcc-14-x86-64-linux-gnu") if site.is_installed(name)]
    site.run("dpkg", "--purge", "--force-depends", *packages)
    site.build(site.target, fails=True)
    weighed(site, "dkms.compiler-mismatch", LOOPBACK)


def test_a_kernel_for_which_it_is_not_built(site: Site) -> None:
    site.unbuild(site.target, LOOPBACK)
    site.path("/etc/dkms/v4l2loopback.conf").write_text('BUILD_EXCLUSIVE_KERNEL="^5\\."\n')
    site.build(site.target, fails=site.dkms < (3, 2))
    assert site.findings() == [(LOOPBACK, "dkms.not-wanted", "note")]


@old_only
def test_a_kernel_removed_and_installed_again(site: Site) -> None:
    """Somebody removed /lib/modules/R, and installs the packages that have it again. (On Debian 13 a hook of dkms takes
    away what it knows of a kernel before the kernel comes, so that everything is built again.)
    """
    image = next_build(site.tree, f"linux-image-{site.target}")
    headers = os.readlink(site.path(f"/usr/lib/modules/{site.target}/build"))
    machines.remove(site.tree, f"/usr/lib/modules/{site.target}")
    machines.remove(site.tree, "/etc/kernel/postinst.d/zz-update-grub")  # there is no disk, and the menu stays as it is
    site.run("env", "INITRD=No", "dpkg", "--install", image)
    site.path(f"/usr/lib/modules/{site.target}/build").symlink_to(headers)
    site.run("run-parts", f"--arg={site.target}", "/etc/kernel/header_postinst.d")
    assert all(": installed" in line for line in site.states()), "it trusts its links"
    weighed(site, "dkms.not-installed", LOOPBACK, WRITEBOOST)


@new_only
def test_links_into_a_tree_that_is_gone(site: Site) -> None:
    """symlink_modules: what is below /lib/modules points to /var/lib/dkms."""
    site.unbuild(site.target, LOOPBACK)
    with site.path("/etc/dkms/framework.conf").open("a") as file:
        file.write('symlink_modules="yes"\n')
    site.build(site.target)
    assert site.findings() == []
    shutil.rmtree(site.path(f"/var/lib/dkms/{LOOPBACK}/{site.version(LOOPBACK)}/{site.target}"))
    weighed(site, "dkms.dangling-link", LOOPBACK)


@old_only
def test_a_weak_link(site: Site) -> None:
    """As weak-modules leaves it on RHEL: the module of one kernel, linked for another, and then removed there."""
    extra, weak = (
        site.path(f"/usr/lib/modules/{name}") for name in (f"{site.older}/extra", f"{site.target}/weak-updates")
    )
    extra.mkdir()
    weak.mkdir()
    built = site.installed(site.older)
    shutil.copy(built, extra)
    site.run("dpkg", "--purge", f"{LOOPBACK}-dkms")
    (weak / built.name).symlink_to(f"/lib/modules/{site.older}/extra/{built.name}")
    site.run("depmod", "-a", site.target)
    assert site.findings() == []
    (extra / built.name).unlink()
    for release in (site.older, site.target):
        site.run("depmod", "-a", release)
    finding = weighed(site, "dkms.dangling-link", LOOPBACK)
    assert any("weak-updates" in text for text in (finding.problem, *finding.evidence))


def test_another_module_that_depmod_prefers(site: Site) -> None:
    """Somebody's own build, for the kernel of that time, and the configuration that has it taken first."""
    extra = site.path(f"/usr/lib/modules/{site.target}/extra")
    extra.mkdir()
    site.path("/etc/depmod.d").mkdir(exist_ok=True)
    site.path("/etc/depmod.d/local.conf").write_text("search extra updates built-in\n")
    stale = extra / f"{LOOPBACK}.ko"
    stale.write_bytes(
        unsigned(site.installed(site.target)).replace(b"V4L2 loopback video device", b"V4L2 loopback video DEVICE")
    )
    site.run("depmod", "-a", site.target)
    path = f"/lib/modules/{site.target}/extra/{stale.name}"
    assert site.findings() == [(path, "dkms.overridden", "warning")]
    (name,) = set(MACHINES) - {site.name}
    with machines.copy(name) as other:
        stale.write_bytes(unsigned(Site(name, other, *releases(other)).installed(releases(other)[0])))
    site.run("depmod", "-a", site.target)
    assert site.findings() == [(path, "dkms.misfit", "warning")]
    site.in_use(LOOPBACK)
    assert site.findings() == [(path, "dkms.misfit", "blocker")]


@new_only
def test_a_signature_tool_that_is_not_there(site: Site) -> None:
    for tool in site.path("/usr/lib").glob("linux-kbuild-*/scripts/sign-file"):
        tool.unlink()
    site.unbuild(site.target, LOOPBACK)
    site.build(site.target)
    assert site.findings() == [], "the build went well, and nothing asks for signatures"
    menu = site.path("/boot/grub/grub.cfg")
    menu.write_text(menu.read_text().replace(" ro ", " ro module.sig_enforce=1 "))
    site.in_use(LOOPBACK)
    directory = f"/lib/modules/{site.target}"
    found = site.findings("module-signatures")
    assert sorted(found) == [(directory, "module-signatures.refused", level) for level in ("blocker", "warning")], (
        "what has no signature and is in use, and what has one by a key that this kernel does not know"
    )
    assert site.findings() == [], "the other check speaks of it"


@pytest.mark.skipif(None in PROGRAMS.values(), reason="Debian's signed boot programs are not here")
@old_only
def test_a_key_that_is_not_enrolled(site: Site) -> None:
    """dkms makes a new key where it does not find one."""
    root = Path(site.tree)
    with_secure_boot(root)
    certificate = site.path("/var/lib/dkms/mok.pub").read_bytes()
    tree(root, variables(MokListRT=entries(certificate)))
    site.in_use(LOOPBACK)
    assert site.findings("module-signatures") == []
    for half in ("key", "pub"):
        site.path(f"/var/lib/dkms/mok.{half}").unlink()
    site.unbuild(site.target, LOOPBACK)
    site.build(site.target)
    assert site.path("/var/lib/dkms/mok.pub").read_bytes() != certificate
    assert site.findings("module-signatures") == [
        (f"/lib/modules/{site.target}", "module-signatures.refused", "blocker"),
    ]
    assert site.findings() == [], "the other check speaks of it"


DRIVER = """#include <linux/module.h>
static int __init start(void)
{{
	return {number};
}}
static void __exit stop(void)
{{
}}
module_init(start);
module_exit(stop);
MODULE_LICENSE("GPL");
MODULE_VERSION("{version}");
"""


def own_driver(site: Site, module: str, number: int, *, version: str = "", fails: bool = False) -> None:
    """A vendor's driver of the disk, installed for the newer kernel in the place of an older version of it."""
    source = site.path(f"/usr/src/acme-{number}")
    source.mkdir()
    (source / "Makefile").write_text(f"obj-m := {module}.o\n")
    (source / f"{module}.c").write_text(DRIVER.format(number=number, version=version or f"9.{number}"))
    (source / "dkms.conf").write_text(
        f'PACKAGE_NAME="acme"\nPACKAGE_VERSION="{number}"\nBUILT_MODULE_NAME="{module}"\n'
        'DEST_MODULE_LOCATION="/updates"\nAUTOINSTALL="yes"\n'
    )
    if number > 1:
        site.run("dkms", "remove", f"acme/{number - 1}", "--all")
    site.run("dkms", "add", f"acme/{number}")
    site.build(site.target, fails=fails)


def test_a_driver_that_the_kernel_has_in_the_same_version(site: Site) -> None:
    """dkms leaves the kernel's own in its place. The one of Debian 12 calls that installed, the other one a failure."""
    own_driver(site, "ahci", 1, version="1.0", fails=site.dkms >= (3, 2))
    (state,) = (line for line in site.states() if line.startswith("acme/1"))
    assert (": installed" if site.dkms < (3, 2) else ": built") in state
    assert site.findings() == [("ahci", "dkms.not-wanted", "note")]


def test_a_driver_of_the_disk_that_is_built_after_the_initramfs(site: Site) -> None:
    module = {"vda": "virtio_blk", "sda": "ahci"}[RECIPES[site.name].root_disk]
    image = f"/boot/initrd.img-{site.target}"
    stale = [(image, "dkms.initramfs-stale", "warning")]
    own_driver(site, module, 1)
    assert site.findings() == stale, "the kernel's own driver is in the image, and will do"
    # Only what is listed: the image is made in a moment.
    site.path("/etc/initramfs-tools/conf.d/list").write_text("MODULES=list\n")
    listed = site.path("/etc/initramfs-tools/modules")
    listed.write_text(f"{module}\nvirtio_pci\nsd_mod\next4\n")
    site.run("update-initramfs", "-u", "-k", site.target)
    assert site.findings() == []
    own_driver(site, module, 2)
    assert site.findings() == stale
    listed.write_text("virtio_pci\nsd_mod\next4\n")
    site.run("update-initramfs", "-u", "-k", site.target)
    assert site.findings() == [(image, "dkms.not-in-initramfs", "blocker")]
