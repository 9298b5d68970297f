"""The machine of a story: armed, started with the disk of packages, and with the hooks in their places."""

from __future__ import annotations

import io
import os
import re
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager

from safeupdate.rehearsal.agent import DIRECTORY, Done
from tests.gate_guests import machine as gate
from tests.gate_guests.machine import SETTLED, Lost, Running
from tests.gate_guests.states import PATIENCE, state
from tests.hook_guests.disks import added
from tests.hook_guests.played import PLAYED
from tests.lab import saved

PACKAGES = "/mnt/packages"
"""Where the disk is in the guest."""

_PLACES = {
    "plugins/hook": ("usr/libexec/safeupdate/hook",),
    "plugins/apt/50safeupdate": ("etc/apt/apt.conf.d/50safeupdate",),
    "plugins/apt/zzz-safeupdate": ("etc/kernel/postinst.d/zzz-safeupdate", "etc/kernel/postrm.d/zzz-safeupdate"),
    "plugins/dnf/safeupdate.py": ("usr/lib/python3/dist-packages/dnf-plugins/safeupdate.py",),
    "plugins/dnf/safeupdate.conf": ("etc/dnf/plugins/safeupdate.conf",),
    "plugins/dnf5/safeupdate.actions": ("etc/dnf/libdnf5-plugins/actions.d/safeupdate.actions",),
    "systemd/safeupdate-changed.path": ("usr/lib/systemd/system/safeupdate-changed.path",),
    "systemd/safeupdate-changed.service": ("usr/lib/systemd/system/safeupdate-changed.service",),
}

_HOOKS = f"""
set -e
tar -xf {DIRECTORY}/hooks.tar -C /
rm {DIRECTORY}/hooks.tar
mkdir -p {PACKAGES} /etc/safeupdate
mount -o ro /dev/disk/by-label/packages {PACKAGES}
# An emulated machine takes minutes for seconds of others, and half an hour for an initramfs that is packed best.
printf '[hooks]\\ntimeout_seconds = 600\\n' >> /etc/safeupdate/safeupdate.toml
if [ -d /etc/initramfs-tools/conf.d ]; then
	printf 'COMPRESSLEVEL=1\\nMODULES=list\\n' > /etc/initramfs-tools/conf.d/hooks.conf
	printf '%s\\n' virtio_pci virtio_blk ext4 >> /etc/initramfs-tools/modules
fi
rm -f /etc/apt/sources.list.d/*
systemctl daemon-reload
systemctl enable --now safeupdate-changed.path
safeupdate settle
"""
"""What a package does."""

_PURGE = """
modprobe -r v4l2loopback
rm -f /etc/modules-load.d/v4l2loopback.conf
apt-get -q --yes purge $(dpkg-query --show --showformat '${Package}\\n' '*-dkms')
"""

_QUIET = "export DEBIAN_FRONTEND=noninteractive\n"


class Machine(gate.Machine):
    """As that of the gate's stories, with results of its own."""

    kept = "hooks"
    played = PLAYED

    @contextmanager
    def begun(self, shelf: str) -> Iterator[Running]:
        """It loses its power behind the `with`; `started` then starts it anew."""
        before = state(self.base, "armed", self.checkout)
        saved.room()
        self._disk = added(before.onto(os.path.join(self.work, "disk")), shelf)
        with self.up() as guest:
            guest.ask(SETTLED)
            guest.agent.put("hooks.tar", _archive(self.checkout), PATIENCE)
            done = guest.ask(_HOOKS)
            if done.code != 0:
                raise Lost(f"the hooks could not be put in their places:\n{done.output[-2000:]}")
            stands(self, guest, "with the hooks in their places, status", "OPEN")
            yield guest


def _archive(checkout: str) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for path, targets in _PLACES.items():
            with open(os.path.join(checkout, path), "rb") as file:
                data = file.read()
            for target in targets:
                info = tarfile.TarInfo(target)
                info.size = len(data)
                info.mode = 0o755 if data.startswith(b"#!") else 0o644
                archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


def repositories(guest: Running, *names: str) -> None:
    """Have apt know these directories of the disk, and no other place."""
    lines = "".join(f"deb [trusted=yes] file:{PACKAGES}/{name} ./\n" for name in names)
    guest.ask(f"cat > /etc/apt/sources.list <<'END'\n{lines}END\napt-get -q update")


def without_dkms(guest: Running) -> None:
    """Take out the module from outside the kernel, which the kernel of the disk can have no more of."""
    guest.ask(f"{_QUIET}{_PURGE}")
    guest.ask("safeupdate settle; safeupdate status")


def manages(
    machine: Machine, guest: Running, command: str, said: str | None, *, code: int = 0, limit: float = PATIENCE
) -> Done:
    """Have a package manager do this. `said` is what we are to say, empty for nothing, None for whatever it is."""
    done = guest.ask(f"{_QUIET}{command}", limit)
    ours = flat(done.output)
    words = next(iter(re.findall(r"safeupdate: ((?:SAFE|UNSAFE|UNKNOWN)\b.*?\.)(?: |$)", ours)), "nothing of a verdict")
    right = said is None or (said in ours if said else "safeupdate: " not in ours)
    machine.tell(f"`{command}`", f"ends with {done.code}; it says: {words}", right=right and done.code == code)
    return done


def flat(text: str) -> str:
    """In one line, as it was wrapped for a screen."""
    return " ".join(text.split())


def stands(machine: Machine, guest: Running, step: str, wanted: str, script: str = "safeupdate status") -> None:
    """How the gate stands."""
    status = guest.words(script)
    first = (status.splitlines() or [""])[0]
    machine.tell(step, first, right=first.startswith(wanted))


def refuses(machine: Machine, guest: Running) -> None:
    """That a person's reboot is refused."""
    done = guest.ask("systemctl reboot")
    last = (done.output.strip().splitlines() or [""])[-1]
    jobs = guest.words("systemctl list-jobs --no-legend | grep reboot")
    machine.tell("`systemctl reboot`", f"{done.code}, {last}", right=done.code == 1 and not jobs)


def goes(machine: Machine, guest: Running, command: str, wanted: str, seconds: float) -> None:
    """What becomes of the machine."""
    became = guest.goes(command, seconds)
    machine.tell(f"`{command}`" if command != "true" else f"for {seconds:.0f} s", became, right=became == wanted)


def comes_up(machine: Machine, guest: Running, release: str) -> None:
    """That the next boot leads to multi-user on this kernel, and the gate is open there."""
    right = guest.ending == "up" and guest.kernel == release
    machine.tell("the next boot", f"{guest.ending}, on {guest.kernel or 'no kernel'}", right=right)
    if guest.ending != "up":
        raise Lost(f"{machine.base.name} did not come up")
    stands(machine, guest, "status there", "OPEN", SETTLED)
