"""dnf 4 and dnf 5 as they are call the hooks, below the tree of a machine, with packages from a repository beside."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hooks.built import REPOSITORY, STUB, chroot, file, rpms, tree

pytestmark = pytest.mark.machines

MANAGERS = {"dnf": "debian13", "dnf5": "testing-dracut"}


class Dnf:
    """A package manager below a tree; a stub notes what safeupdate is asked."""

    def __init__(self, name: str, place: str, packages: dict[str, bytes]) -> None:
        self.name, self.place = name, place
        plugins = {
            "dnf": {
                "/usr/lib/python3/dist-packages/dnf-plugins/safeupdate.py": "plugins/dnf/safeupdate.py",
                "/etc/dnf/plugins/safeupdate.conf": "plugins/dnf/safeupdate.conf",
            },
            "dnf5": {"/etc/dnf/libdnf5-plugins/actions.d/safeupdate.actions": "plugins/dnf5/safeupdate.actions"},
        }
        # Below a tree nothing boots, which the hook would see.
        hook = file("plugins/hook").replace(b"boots_here || exit 0\n", b"")
        for path, data in {
            **packages,
            "/etc/yum.repos.d/local.repo": REPOSITORY,
            "/usr/bin/safeupdate": STUB,
            "/usr/libexec/safeupdate/hook": hook,
            **{path: file(ours) for path, ours in plugins[name].items()},
        }.items():
            self.write(path, data)
        self.call("createrepo_c", "--quiet", "/opt/repository")

    def write(self, path: str, data: bytes) -> None:
        place = Path(self.place + path)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data)
        place.chmod(0o755 if data.startswith(b"#!") else 0o644)

    def call(self, *command: str) -> subprocess.CompletedProcess[bytes]:
        environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C", "HOME": "/root"}
        whole = ["chroot", self.place, *command]
        return subprocess.run(whole, env=environment, capture_output=True, timeout=300, check=False)

    def run(self, *words: str) -> tuple[int, list[str], list[str]]:
        """Its exit code, what the stub was called for, and what it was told."""
        for path in ("/run/noted", "/run/told"):
            Path(self.place + path).unlink(missing_ok=True)
        done = self.call(self.name, "-y", "--setopt=install_weak_deps=0", *words)
        self.said = (done.stdout + done.stderr).decode(errors="replace")
        return done.returncode, self.lines("/run/noted"), sorted(self.lines("/run/told"))

    def lines(self, path: str) -> list[str]:
        place = Path(self.place + path)
        return place.read_text(encoding="utf-8").splitlines() if place.exists() else []

    @property
    def kernels(self) -> list[str]:
        """The builds that are installed."""
        return sorted(one.stem[-1] for one in Path(f"{self.place}/boot").glob("kernel-core-1-?.noarch"))


@pytest.fixture(params=MANAGERS)
def dnf(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Dnf]:
    if os.geteuid() != 0:
        pytest.skip("to run a machine's package manager takes root")
    built = rpms(tmp_path)
    with tree(MANAGERS[request.param]) as place, chroot(place):
        yield Dnf(request.param, place, built)


def test_every_story(dnf: Dnf) -> None:
    both = [f"hook {dnf.name}-pre", f"hook {dnf.name}-post"]
    assert dnf.run("install", "harmless") == (0, [], []), dnf.said
    assert dnf.run("install", "kernel-core-1-1") == (0, both, ["kernel-core noarch 1-1 in"]), dnf.said
    assert dnf.run("install", "kernel-core-1-2") == (0, both, ["kernel-core noarch 1-2 in"]), dnf.said

    # A third one drives out the first.
    limit = "--setopt=installonly_limit=2"
    told = ["kernel-core noarch 1-1 out", "kernel-core noarch 1-3 in"]
    assert dnf.run(limit, "install", "kernel-core-1-3") == (0, both, told), dnf.said
    assert dnf.kernels == ["2", "3"]
    assert dnf.run("remove", "kernel-core-1-2") == (0, both, ["kernel-core noarch 1-2 out"]), dnf.said

    # What fails in rpm is no less looked at.
    code, noted, _ = dnf.run("install", "kernel-core-1-4")
    assert (code, dnf.kernels) == (1, ["3"]) and noted[:1] == both[:1], dnf.said

    # A check that fails is no failure of dnf's; nor is a hook that is gone.
    dnf.write("/run/code", b"1")
    assert dnf.run("install", "kernel-core-1-1")[:2] == (0, both), dnf.said
    assert "could not be checked here" in dnf.said and dnf.kernels == ["1", "3"]
    os.rename(f"{dnf.place}/usr/libexec/safeupdate/hook", f"{dnf.place}/opt/hook")
    assert dnf.run("remove", "kernel-core-1-1")[:2] == (0, []), dnf.said
    os.rename(f"{dnf.place}/opt/hook", f"{dnf.place}/usr/libexec/safeupdate/hook")

    # A refusal is one, and nothing was changed.
    dnf.write("/run/code", b"3")
    assert dnf.run("install", "kernel-core-1-2")[:2] == (1, both[:1]), dnf.said
    assert "safeupdate refuses this transaction" in dnf.said and dnf.kernels == ["3"]

    # Another root is not this machine.
    os.unlink(f"{dnf.place}/run/code")
    assert dnf.run("--installroot=/opt/root", "--releasever=1", "install", "kernel-core-1-2")[1:] == ([], []), dnf.said
