"""What goes wrong around a transaction of apt's: its result is what it would be without the hooks, and what boots next
is looked at all the same. With apt and dpkg as they are, on a systemd that runs, and a stub in safeupdate's place."""

from __future__ import annotations

import subprocess

import pytest

from safeupdate.machine import Completed
from tests.hooks.built import RELEASE, STUB, deb, file
from tests.hooks.test_apt import ARMED, KERNEL, Apt
from tests.hooks.test_apt import files as apt_files
from tests.systemd import rig

pytestmark = pytest.mark.machines

HOOK = file("plugins/hook").decode()


def _valid(text: str) -> bool:
    return (
        subprocess.run(["sh", "-n"], input=text.encode(), capture_output=True, timeout=60, check=False).returncode == 0
    )


def _with(number: int, text: str) -> str:
    lines = HOOK.splitlines(keepends=True)
    return "".join((*lines[:number], text, *lines[number:]))


def _steps() -> list[int]:
    """The lines of the hook before which a command can stand, from where it knows its name."""
    first = HOOK[: HOOK.index("name=")].count("\n") + 1
    lines = HOOK.splitlines()
    return [
        number
        for number in range(first, len(lines))
        if lines[number].strip()
        and not lines[number].lstrip().startswith("#")
        and not lines[number - 1].endswith(("\\", "|", "&&"))
        and _valid(_with(number, ":\n"))
    ]


TRACED = 'echo "$(cat /run/code) $name {}" >> /run/steps\n'

KILLED = '[ "$(cat /run/killed)" != "$name {step}" ] || {{ echo killed > /run/killed; kill -9 $$; }}\n'

TRANSACTION = f"""
transaction() {{
	rm -rf /run/safeupdate/held /run/reboot-required /run/noted
	echo "linux-image-{RELEASE} - - none < 1 amd64 none /opt/kernel.deb" | "$1" apt-pre
	echo "$2" > /boot/vmlinuz-{RELEASE}
	echo please > /run/reboot-required
	"$1" kernel {RELEASE}
	"$1" apt-post
}}
"""
"""As apt does it. Only the shell that starts it sees the hook's end: apt's own result hangs on that line alone."""

TRACE = f"""{TRANSACTION}
rm -f /run/steps
for code in 1 0; do
	echo $code > /run/code
	transaction /opt/traced $code
done 2> /dev/null
cat /run/steps
"""

CASE = f"""{TRANSACTION}
while read -r code name step; do
	echo "$code" > /run/code
	echo "$name $step" > /run/killed
	transaction "/opt/killed-$step" "$code $name $step" 2> /dev/null
	held=$([ -e /run/reboot-required ] || echo held)
	noted=$(echo $(cut -d ' ' -f 2 /run/noted))
	rm -f /run/noted
	echo "harmless - - none < 1 amd64 none /opt/harmless.deb" | /usr/libexec/safeupdate/hook apt-pre
	/usr/libexec/safeupdate/hook apt-post 2> /dev/null
	echo "$code $name $step/$(cat /run/killed)/$held/$noted/$(cut -d ' ' -f 2 /run/noted)"
done < /opt/cases
"""


class Armed(Apt):
    """With a gate that is armed, so that what asks for a reboot is held while nothing is known."""

    def __init__(self, machine: rig.Rig) -> None:
        super().__init__(machine)
        machine.host.write("/run/safeupdate/gate.json", ARMED)

    def hook(self, text: str) -> None:
        self.rig.host.write("/usr/libexec/safeupdate/hook", text.encode(), 0o755)

    @property
    def held(self) -> bool:
        return not self.rig.machine.exists("/run/reboot-required")


def test_the_hook_is_killed_at_each_step() -> None:
    lines, steps = HOOK.splitlines(keepends=True), _steps()
    traced = "".join(TRACED.format(one) * (one in steps) + line for one, line in enumerate(lines))
    variants = {f"/opt/killed-{step}": _with(step, KILLED.format(step=step)).encode() for step in steps}
    with rig.started("debian13", {**apt_files(), "/opt/traced": traced.encode(), **variants}) as machine:
        apt = Armed(machine)
        reached = set(apt.sh(TRACE).stdout.decode().splitlines())
        cases = sorted(one for one in reached if one.startswith("1 ") or f"1{one[1:]}" not in reached)
        assert {one.split()[1] for one in cases} == {"apt-pre", "kernel", "apt-post"} and len(cases) > 30
        machine.host.write("/opt/cases", "".join(f"{one}\n" for one in cases).encode())
        done = apt.sh(CASE).stdout.decode().splitlines()
        assert [line.partition("/")[0] for line in done] == cases
        for line in done:
            case, killed, held, noted, again = line.split("/")
            code, name, step = case.split()
            where = f"{line}, before: {lines[int(step)]}"
            assert killed == "killed", where
            # Nothing that a package asked for reboots the machine: the kernel's own hook lays it aside, and, where that
            # was killed, the one at the end, unless the check came to its end, which then sees to it.
            assert held or code == "0", where
            assert name == "apt-post" or "apt-post" in noted, where
            assert again == "apt-post" or code == "0", where


INTERRUPTED = """
set -m
apt-get --yes install /opt/kernel.deb &
until [ -e /run/waits ]; do sleep 0.1; done
sleep 1
kill -INT -- -$!
wait $!
echo ended with $?
"""
"""As a terminal does it at Ctrl-C: to the whole group of processes. A shell's own job, as no other has a group."""

SECOND = """
apt-get --yes install /opt/kernel.deb &
until [ -e /run/waits ]; do sleep 0.1; done
apt-get --yes install /opt/harmless.deb
echo second $?
wait $!
echo first $?
"""

WAITS = b"""#!/bin/sh
echo "$*" >> /run/noted
case $2 in *-pre) cat > /dev/null ;; esac
[ "$2" != "$(cat /run/slow)" ] || { touch /run/waits; exec sleep 60; }
"""


def test_apts_result_does_not_hang_on_who_is_killed_or_stopped() -> None:
    with rig.started("debian13", {**apt_files(), "/opt/waits": WAITS}) as machine:
        apt = Armed(machine)
        gone = f"apt-get --yes purge {KERNEL}; rm -rf /run/reboot-required /run/safeupdate/held /run/noted /run/waits"
        for name in ("apt-pre", "kernel", "apt-post"):
            apt.sh(f"{gone}; echo 1 > /run/code")
            apt.hook(HOOK.replace("boots_here || exit 0\n", f'[ "$name" != {name} ] || kill -9 $$\n'))
            assert apt.run("install", "/opt/kernel.deb").code == 0 and apt.installed and apt.held, name

        apt.hook(HOOK)
        apt.sh("cp /opt/waits /usr/bin/safeupdate")
        # Before, nothing is changed; after it, all is done, and apt is ended by what ends its shell.
        for name, code, noted in (
            ("apt-pre", b"100", ["hook apt-pre"]),
            ("apt-post", b"130", ["hook apt-pre", "hook apt-post"]),
        ):
            apt.sh(f"echo > /run/slow; {gone}; echo {name} > /run/slow")
            done = machine.run("bash", "-c", INTERRUPTED, timeout=120)
            assert done.stdout.endswith(b"ended with %s\n" % code), done
            assert (apt.noted, apt.installed) == (noted, name == "apt-post") and apt.held
            assert b"could not be" in done.stderr

        # Another apt, while the check runs: it finds the lock that the first one holds, and no hook is called.
        apt.sh(f"echo > /run/slow; {gone}; echo apt-post > /run/slow")
        apt.sh("mkdir -p /etc/safeupdate; printf '[hooks]\\ntimeout_seconds = 5\\n' > /etc/safeupdate/safeupdate.toml")
        done = apt.sh(SECOND)
        assert done.stdout.splitlines()[-2:] == [b"second 100", b"first 0"], done
        assert apt.noted == ["hook apt-pre", "hook apt-post"] and apt.held


@pytest.mark.parametrize(
    "then", ["rm /opt/python", "cp /bin/false /opt/new; mv /opt/new /opt/python"], ids=["goes", "breaks"]
)
def test_python_goes_or_breaks_in_the_same_transaction(then: str) -> None:
    ours = {
        "/usr/bin/safeupdate": STUB.replace(b"/bin/sh", b"/opt/python", 1),
        "/opt/upgrade.deb": deb("python", postinst=then),
    }
    with rig.started("debian12", {**apt_files(), **ours}) as machine:
        apt = Armed(machine)
        apt.sh("cp /bin/dash /opt/python")
        done = apt.run("install", "/opt/kernel.deb", "/opt/upgrade.deb")
        assert done.code == 0 and apt.installed and apt.held
        assert apt.noted == ["hook apt-pre"] and b"could not be checked here" in done.stderr


FAILING = "echo it fails >&2; exit 1\n"

READ_ONLY = "mount -o remount,ro /\n"

FULL = """
mkdir -p /run/dpkg
mount -t tmpfs -o size=24m tmpfs /run/dpkg
cp -a /var/lib/dpkg/. /run/dpkg
mount --bind /run/dpkg /var/lib/dpkg
cat /dev/zero > /var/lib/dpkg/full 2> /dev/null
"""

SCRIPTS = {
    # What is done first, what apt is to do, what is done then, and what apt ends with.
    "a kernel's package fails": (":", "install /opt/failing.deb", "dpkg --purge failing", 100),
    "the root becomes read-only": (":", "install /opt/read-only.deb /opt/kernel.deb", "mount -o remount,rw /", 100),
    "/boot is full": ("mount -t tmpfs -o size=64k tmpfs /boot", "install /opt/large.deb", "umount /boot", 100),
    "dpkg's own directory is full": (
        FULL,
        "install /opt/kernel.deb",
        "umount /var/lib/dpkg /run/dpkg",
        100,
    ),
}


@pytest.mark.vm  # for its time: a minute
@pytest.mark.parametrize("name", rig.SYSTEMD)
def test_what_goes_wrong_in_a_transaction_is_looked_at_and_stays_apts_own(name: str) -> None:
    boot = {"/boot/vmlinuz-large": "x" * 200_000}
    packages = {
        "/opt/failing.deb": deb("failing", files={"/boot/vmlinuz-x": "x"}, postinst=FAILING),
        "/opt/read-only.deb": deb("a-read-only", files={"/boot/vmlinuz-y": "y"}, postinst=READ_ONLY),
        "/opt/large.deb": deb("large", files=boot),
    }
    with rig.started(name, {**apt_files(), **packages}) as machine:
        apt = Armed(machine)
        for what, (first, words, then, code) in SCRIPTS.items():
            ended: list[Completed] = []
            for hook in ("", HOOK):
                apt.sh("dpkg --force-all --purge failing a-read-only large; apt-get --yes purge " + KERNEL)
                apt.sh("rm -rf /run/reboot-required* /run/safeupdate/held")
                apt.hook(hook or "#!/bin/sh\n")
                apt.sh(first)
                ended.append(apt.run(*words.split()))
                noted = apt.noted
                apt.sh(then)
            assert [done.code for done in ended] == [code, code], (what, ended[1].stderr)
            assert "hook apt-post" in noted, (what, ended[1].stderr)
