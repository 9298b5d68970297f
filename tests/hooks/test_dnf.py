"""dnf 4 and dnf 5 as they are call the hooks, below the tree of a machine, with packages from a repository beside."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path

import pytest

from machines.namespace import mount, ran
from safeupdate.gate import state
from safeupdate.gate.host import Host
from safeupdate.gate.state import Gate, Judged
from safeupdate.machine import Machine
from tests.hooks.built import ALONE, BUILT, DKMS, REPOSITORY, STUB, chroot, file, program, rpms, tree, write

pytestmark = pytest.mark.machines

# Below a tree nothing boots, which the hook would see.
HOOK = file("plugins/hook").replace(b"boots_here || exit 0\n", b"")

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
        files = {
            **packages,
            "/etc/yum.repos.d/local.repo": REPOSITORY,
            "/usr/bin/safeupdate": STUB,
            "/usr/libexec/safeupdate/hook": HOOK,
            **{path: file(ours) for path, ours in plugins[name].items()},
        }
        write(place, files)
        self.call("createrepo_c", "--quiet", "/opt/repository")

    def write(self, path: str, data: bytes) -> None:
        write(self.place, {path: data})

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
        # The plug-in for dnf 4 tells of headers, too.
        told = sorted(line for line in self.lines("/run/told") if "-devel" not in line)
        return done.returncode, self.lines("/run/noted"), told

    def alone(self, script: str) -> list[str]:
        """What each command of dnf's in a script of `do_dnf` said, and what it ended with, with / that of process 1."""
        prepared = "mount -t proc proc /proc; mkdir -p /run/systemd/system\n"
        prepared += "do_dnf() { echo == >&2; "
        prepared += f'{self.name} -y --setopt=install_weak_deps=0 "$@" > /dev/null; echo "ended with $?" >&2; }}\n'
        environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C", "HOME": "/root"}
        whole = [*ALONE, self.place, "sh", "-c", prepared + script]
        done = subprocess.run(whole, env=environment, capture_output=True, text=True, timeout=600, check=False)
        return [" ".join(said.split()) for said in done.stderr.split("==\n")[1:]]

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


BEFORE = b"""#!/bin/sh
case $2 in *-pre) exec python3 -m safeupdate "$@" ;; esac
"""
"""The program itself; of what it does afterwards this is not about."""

LIMITED = f"""{BUILT}
do_dnf install kernel-core-1-1
do_dnf remove kernel-core-1-1
do_dnf install kernel-core-1-1 kernel-devel-1-1
do_dnf install kernel-core-1-2
rm -r /var/lib/dkms
mkdir -p /run/safeupdate
cp /opt/gate.json /run/safeupdate
printf '[hooks]\\npreflight = "refuse"\\n' > /etc/safeupdate/safeupdate.toml
do_dnf --setopt=installonly_limit=2 install kernel-core-1-3
ls /boot/kernel-core* >&2
: > /etc/safeupdate/safeupdate.toml
do_dnf --setopt=installonly_limit=2 install kernel-core-1-3
ls /boot/kernel-core* >&2
"""


def test_what_the_program_itself_says_before(dnf: Dnf) -> None:
    """Of headers that dkms needs, and of the fallback that `installonly_limit` drives out."""
    toml = b'[hooks]\ntimeout_seconds = 600\n[snapshots]\npolicy = "off"\n'
    write(dnf.place, {**program(), **DKMS, "/etc/safeupdate/safeupdate.toml": toml, "/usr/bin/safeupdate": BEFORE})
    for debian in ("apt-get", "apt"):
        os.unlink(f"{dnf.place}/usr/bin/{debian}")  # a machine's own package manager is asked, and that is dnf here
    if dnf.name == "dnf5":
        os.symlink("dnf5", f"{dnf.place}/usr/bin/dnf")  # as Fedora has it
    judged = Judged("safe", "", kernel="9-9.noarch", fallback="1-1.noarch", quality="proven")
    gate = Gate("open", "armed", "safe", "safe", True, True, "", "", None, confirmed=False, judged=judged)
    state.store(Host(Machine.tree(dnf.place), lambda: datetime.now(timezone.utc)), gate)
    os.rename(f"{dnf.place}/run/safeupdate/gate.json", f"{dnf.place}/opt/gate.json")
    offered, removed, both, nowhere, refused, evicted = dnf.alone(LIMITED)
    assert "The kernel 1-1.noarch comes without its headers (kernel-devel-1-1.noarch)" in offered
    assert "dnf install kernel-devel-1-1.noarch" in offered and "ended with 0" in offered
    for said in (removed, both):
        assert "safeupdate" not in said and "ended with 0" in said
    assert "No repository has these headers" in nowhere and "'--exclude=kernel*'" in nowhere
    for said, code in ((refused, 1), (evicted, 0)):
        assert "This removes the kernel 1-1.noarch, the one that is known to start this machine" in said
        assert f"ended with {code}" in said
        assert ("kernel-core-1-1.noarch" in said.partition("ended")[2]) == bool(code)


LOCKS = {"dnf": "/run/safeupdate/dnf", "dnf5": "/run/dnf/rpmtransaction.lock"}

HELD = """
held() { [ -e LOCK ] && grep -q ":$(stat --format %i LOCK) " /proc/locks && echo "$1 held" || echo "$1 free"; }
"""

NOTING = f"""#!/bin/sh
{HELD}
case $2 in *-pre) cat > /dev/null ;; esac
held "$2" >> /run/noted
"""

IN_TURN = f"""{BUILT}{HELD}
do_dnf install kernel-core-1-1
held then >> /run/noted
"""


def test_until_its_hook_has_ended_it_is_at_work(dnf: Dnf) -> None:
    """rpm's lock is given up before; safeupdate/hooks/idle.py waits for these."""
    dnf.write("/usr/bin/safeupdate", NOTING.replace("LOCK", LOCKS[dnf.name]).encode())
    (said,) = dnf.alone(IN_TURN.replace("LOCK", LOCKS[dnf.name]))
    assert "ended with 0" in said
    before = "free" if dnf.name == "dnf" else "held"  # our plug-in takes it when that hook has let the transaction pass
    assert dnf.lines("/run/noted") == [f"{dnf.name}-pre {before}", f"{dnf.name}-post held", "then free"], said


INTERRUPTED = """
set -m
rm -f /run/waits
{} -y install kernel-core-1-1 &
until [ -e /run/waits ]; do sleep 0.1; done
sleep 1
kill -INT -- -$!
wait $!
echo $? > /run/ended
"""

TWO = """
{0} -y install kernel-core-1-1 &
{0} -y install kernel-core-1-2
code=$?
wait $!
echo $?-$code
"""

SLOW = b"""#!/bin/sh
echo "$*" >> /run/noted
case $2 in *-pre) cat > /dev/null ;; esac
[ "$2" != "$(cat /run/slow)" ] || { touch /run/waits; exec sleep 60; }
"""


@pytest.mark.vm  # for its time: a minute
def test_what_goes_wrong_stays_no_matter_of_dnfs(dnf: Dnf) -> None:
    both = [f"hook {dnf.name}-pre", f"hook {dnf.name}-post"]

    def installs(name: str, *, said: str = "") -> list[str]:
        """A kernel, without an error, and removes it again; what was noted."""
        code, noted, _ = dnf.run("install", name)
        assert code == 0 and dnf.kernels == [name[-1]], dnf.said
        assert said in dnf.said, dnf.said
        assert dnf.run("remove", name)[0] == 0 and dnf.kernels == [], dnf.said
        return noted

    # Killed, in each call.
    for name in (f"{dnf.name}-pre", f"{dnf.name}-post", "dnf5-package"):
        dnf.write(
            "/usr/libexec/safeupdate/hook",
            HOOK.replace(b"\nname=", b"\n[ $1 != %s ] || kill -9 $$\nname=" % name.encode()),
        )
        assert installs("kernel-core-1-1") in ([one for one in both if name not in one], both[1:]), dnf.said
    dnf.write("/usr/libexec/safeupdate/hook", HOOK)

    # No interpreter, no program, no time.
    dnf.write("/usr/bin/safeupdate", b"#!/usr/bin/python9\n")
    installs("kernel-core-1-1", said="could not be checked here")
    os.unlink(f"{dnf.place}/usr/bin/safeupdate")
    installs("kernel-core-1-1", said="could not be checked here")
    dnf.write("/usr/bin/safeupdate", SLOW)
    dnf.write("/etc/safeupdate/safeupdate.toml", b"[hooks]\ntimeout_seconds = 5\n")
    dnf.write("/run/slow", both[1][5:].encode())
    assert installs("kernel-core-1-1", said="could not be checked here") == both
    os.unlink(f"{dnf.place}/etc/safeupdate/safeupdate.toml")

    # A person's Ctrl-C, which a terminal sends to all of them: before, nothing is changed; after it, all is done, and
    # dnf goes on to its end. dnf 5 makes an error of it.
    for hook, code, installed in (both[0], "1", []), (both[1], "0" if dnf.name == "dnf" else "1", ["1"]):
        dnf.write("/run/slow", hook[5:].encode())
        done = dnf.call("bash", "-c", INTERRUPTED.format(dnf.name))
        said = (done.stdout + done.stderr).decode(errors="replace")
        assert (dnf.lines("/run/ended"), dnf.kernels) == ([code], installed), said
        assert "could not be" in said, said
        dnf.write("/run/slow", b"")
        dnf.run("remove", "kernel-core-1-1")

    # Two at once: one waits for the other, and its hooks with it.
    Path(f"{dnf.place}/run/noted").unlink(missing_ok=True)
    done = dnf.call("sh", "-c", TWO.format(dnf.name))
    assert done.stdout.decode().split()[-1:] == ["0-0"] and dnf.kernels == ["1", "2"], done
    assert dnf.lines("/run/noted") == both * 2
    dnf.run("remove", "kernel-core-1-1", "kernel-core-1-2")

    # No room in /boot: rpm sees that before it begins, and before the hooks.
    assert mount("tmpfs", f"{dnf.place}/boot", "size=4k")
    try:
        dnf.write("/boot/full", bytes(4096))
        ended = []
        for hook_text in (b"#!/bin/sh\n", HOOK):
            dnf.write("/usr/libexec/safeupdate/hook", hook_text)
            ended.append(dnf.run("install", "kernel-core-1-1"))
        assert ended == [(1, [], [])] * 2, dnf.said
    finally:
        assert ran("umount", f"{dnf.place}/boot")
