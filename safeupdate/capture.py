"""What a check reads, copied from a machine into a tree that `check --root` judges the same way.

`docs/capture.md` lists what goes in and what never does. Of a file whose content is left out, the tree holds its name,
its mode and its size (a sparse file). `safeupdate-capture.json` at the top of the tree lists those, so that a check
cannot take the empty file for the real one, and what could not be read at all (`formats/capture_manifest.py`).
"""

from __future__ import annotations

import os
import posixpath
import re
import shutil
import stat
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from safeupdate import __version__, closure, steering
from safeupdate.closure import MachineFiles
from safeupdate.errors import FormatError, Missing, ProgramFailed, SafeupdateError, Unreadable, UsageError
from safeupdate.formats import capture_manifest, cmdline, fstab, mountinfo
from safeupdate.formats.capture_manifest import FileSystem, Manifest
from safeupdate.machine import Machine
from safeupdate.packages import Package, dpkg
from safeupdate.storage import devices

_FILES_LIMIT = 250_000
_BYTES_LIMIT = 16 << 30
"""A machine with five kernels, their modules and images has 40,000 files and 3 GB."""
_ATTRIBUTE_LIMIT = 64 << 10
"""Bytes taken of one sysfs file, and at a time: the kernel refuses reads of 4 MB and more in /proc/sys."""
_PROC_LIMIT = 4 << 20
"""Bytes taken of one file in /proc: mountinfo of a machine with a thousand containers has 2 MB."""
_LOADER_LIMIT = 16 << 20
"""An EFI program below this size is a boot loader, whose kind a check reads from its content."""
_CHUNK = 1 << 20

_CONFIGURATION = (
    "/etc/fstab",
    "/etc/crypttab",
    "/etc/os-release",
    "/usr/lib/os-release",
    "/etc/debian_version",
    "/etc/redhat-release",
    "/etc/NIXOS",
    "/etc/zipl.conf",
    "/etc/lilo.conf",
    "/etc/default/grub",
    "/etc/default/grub.d",
    "/etc/grub.d",
    "/etc/sysconfig/grub",
    "/etc/sysconfig/kernel",
    "/etc/grub2.cfg",
    "/etc/grub2-efi.cfg",
    "/etc/kernel",
    "/etc/cmdline.d",
    "/etc/initramfs-tools",
    "/etc/dracut.conf",
    "/etc/dracut.conf.d",
    "/etc/mkinitcpio.conf",
    "/etc/mkinitcpio.d",
    "/etc/modprobe.d",
    "/usr/lib/modprobe.d",
    "/etc/depmod.d",
    "/run/depmod.d",
    "/usr/local/lib/depmod.d",
    "/usr/lib/depmod.d",
    "/lib/depmod.d",
    "/etc/modules",
    "/etc/modules-load.d",
    "/usr/lib/modules-load.d",
    "/etc/mdadm",
    "/etc/mdadm.conf",
    "/etc/lvm/lvm.conf",
    "/etc/lvm/lvmlocal.conf",
    "/etc/default/keyboard",
    "/etc/vconsole.conf",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/ld.so.cache",
    "/etc/sysctl.conf",
    "/etc/sysctl.d",
    "/run/sysctl.d",
    "/usr/local/lib/sysctl.d",
    "/usr/lib/sysctl.d",
    "/etc/systemd/system.conf",
    "/etc/systemd/system.conf.d",
    "/usr/lib/systemd/system.conf",
    "/usr/lib/systemd/system.conf.d",
    "/etc/dkms",
    "/etc/safeupdate/safeupdate.toml",
    "/etc/safeupdate/safeupdate.toml.d",
    steering.RECORD,
    f"{dpkg.DIRECTORY}/status",
    f"{dpkg.DIRECTORY}/updates",
    f"{dpkg.DIRECTORY}/diversions",
    f"{dpkg.DIRECTORY}/triggers",
)
"""Copied whole, directories with all that is in them."""

_PUBLIC_KEYS = (
    "/etc/pki/akmods/certs/public_key.der",
    "/root/mok/MOK.der",
    "/var/lib/dkms/mok.pub",
    "/var/lib/shim-signed/mok/MOK.der",
)
"""The public halves of keys that this machine signs with."""

_NAMES = (
    "/etc/systemd/system",
    "/run/systemd/system",
    "/run/systemd/generator",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
    "/usr/bin",
    "/usr/sbin",
    "/bin",
    "/sbin",
    f"{dpkg.STATUS}-old",
    "/var/lib/dkms",
    "/usr/src/akmods",
    "/var/cache/akmods",
    "/usr/lib/module-init-tools",
    "/run/ostree-booted",
    "/etc/hostid",
)
"""Names, links and sizes: whether a unit, a program or a module of DKMS is there, not what it says."""

_RPM = ("/usr/lib/sysimage/rpm", "/var/lib/rpm", "/usr/share/rpm")
"""Hundreds of megabytes on a desktop: with their content only beside that of the kernels that they are held against."""

_SIGNED_PROGRAMS = ("/usr/lib/shim", "/usr/lib/grub/x86_64-efi-signed", "/usr/lib/grub/arm64-efi-signed")
"""Where Debian's packages put the signed loaders, which the ESP has copies of."""

_UNIT_WITH_CONTENT = re.compile(r"\.(mount|automount|swap|target)$")
"""Units that name file systems. Services may hold passwords in their environment."""

_BUILD_LOG = re.compile(r"/var/(?:lib/dkms/.*/make\.log|cache/akmods/.*\.log)$")
_BUILD_LOG_LIMIT = 1 << 20
"""Bytes of a log that goes in with its content; a build that fails writes some 10 KB."""

_PROGRAMS = (
    "/sbin/init",
    "/bin/sh",
    "/usr/bin/mount",
    "/bin/mount",
    "/usr/lib/systemd/systemd",
    "/lib/systemd/systemd",
    "/usr/lib/systemd/systemd-executor",
    "/usr/lib/systemd/systemd-udevd",
    "/lib/systemd/systemd-udevd",
)
"""Programs without which the machine does not come up: copied with everything that they load."""

_TOP_LINKS = ("/bin", "/sbin", "/lib", "/lib32", "/lib64", "/vmlinuz", "/vmlinuz.old", "/initrd.img", "/initrd.img.old")

_SIGNS = ("/ostree/repo", "/sysroot/ostree", "/proc/device-tree", "/sys/firmware/ipl", "/sys/firmware/opal")
"""Directories that only by being there tell what kind of machine it is."""

_PROC = (
    "/proc/cmdline",
    "/proc/self/mountinfo",
    "/proc/modules",
    "/proc/meminfo",
    "/proc/swaps",
    "/proc/cpuinfo",
    "/proc/filesystems",
    "/proc/mdstat",
)

_KERNEL_SETTINGS = ("osrelease", "ostype", "version", "tainted", "modules_disabled", "kexec_load_disabled", "panic")

_DEVICE_ATTRIBUTES = {
    "/sys/class/vtconsole": "name",
    "/sys/class/drm": "status",
    "/sys/class/input": "capabilities/ev",
}
"""What tells whether there is a screen or a keyboard. Their other attributes hold serial numbers."""

_BOOT_PLACES = ("/boot", "/efi")

_BOOT_CONFIGURATION = re.compile(
    r"(\.(cfg|conf|lst|csv)|/grubenv|/entries\.srel|/config-[^/]*|/config\.txt|/cmdline\.txt|/cmdline|/\.hmac)$",
    re.IGNORECASE,
)

_SECRET = re.compile(
    r"(\.(key|pem|priv|p12|pfx|jks|cred|kdbx|keyfile|keytab)|/random-seed|/credentials/.*|/id_[a-z0-9]+"
    r"|/ssh_host_[^/]*|/[^/]*_rsa|/dropbear[^/]*|/authorized_keys|/secure-boot-[^/]*|/luks[^/]*\.bin)$",
    re.IGNORECASE,
)
"""Names of keys and seeds; their content is left out wherever they lie."""

_VARIABLE = re.compile(
    r"(Boot[0-9A-F]{4}|BootOrder|BootNext|BootCurrent|Loader(?!SystemToken|RandomSeed)\w+|Stub\w+|SecureBoot|SetupMode"
    r"|AuditMode|DeployedMode|PK|KEK|db|dbx|MokList\w*|MokSBState\w*|MokIgnoreDB|MokX?(New|Del)"
    r"|Sbat\w+|OsIndications\w*)-[0-9a-f-]{36}$",
    re.IGNORECASE,
)

_PASSWORD_VARIABLE = re.compile(
    r"(MokPW\w*|MokX?(Del)?Auth|MokSB|MokDB|MokListTrustedNew)(-[0-9a-f-]{36})?$", re.IGNORECASE
)
"""Requests to MokManager (mokutil(1)). They hold the password that it asks for, or its hash; that one is there tells
enough."""

_SERIAL_ATTRIBUTE = re.compile(
    r"(serial.*|.*_serial|.*_uuid|uuid|wwid|wwn|nguid|eui|unique_id|address|cid|vpd.*|inquiry|.*_tag|firmware_node|.*_key"
    r"|unique_number|keyring|authorized.*|subsysnqn|hostnqn|hostid)$"
)
"""Attributes that tell one piece of hardware from another of its kind. `dm/uuid` and md's are not among them: see
`_attribute_wanted`."""

_UDEV_SECRET = re.compile(
    r"^E:(ID_SERIAL|ID_SHORT_SERIAL|ID_WWN|DM_SERIAL|DM_WWN|SCSI_|ID_SCSI_SERIAL|ID_USB_SERIAL|NVME_)"
)

_PASSWORDS = (
    re.compile(rb"(grub\.pbkdf2\.)([\w.]+)"),
    re.compile(rb"^([ \t]*password[ \t]+\S+[ \t]+)(\S.*)$", re.MULTILINE),
    re.compile(rb"(\bstable_secret[ \t]*=[ \t]*|\bKBUILD_SIGN_PIN=)(\S+)"),
    re.compile(rb"^([ \t]*\w*Environment[ \t]*=)((?:.*\\\n)*.*)$", re.MULTILINE),
    re.compile(rb"((?:^|[,\s=\"'])(?:password2?|pass|passwd|rd\.iscsi\.(?:in\.)?password)=)([^,\s\"']+)"),
)
"""GRUB's password hashes and passwords; seeds of addresses (sysctl.d), the PIN of a signing key (dkms), what systemd
gives its services; passwords in mount options and on command lines."""

_PRIVATE = b"PRIVATE KEY-----"


@dataclass(frozen=True)
class Summary:
    """What a capture holds. `left_out`: files of which only the name is in it; `unreadable`: what could not be read."""

    destination: str
    files: int
    links: int
    size: int
    left_out: int
    unreadable: tuple[str, ...]
    boot: bool


def capture(machine: Machine, destination: str, *, boot: bool) -> Summary:
    """Copy what a check reads below `destination`, which must not exist or be empty; only its owner can enter it.

    With `boot`, kernels, initramfs images and modules go in with their content. Everything is written beside the
    destination first and appears there whole or not at all. Raises `UsageError` for a destination that will not do,
    `SafeupdateError` where it cannot be written.
    """
    destination = os.path.abspath(destination)
    parent = os.path.dirname(destination)
    try:
        if os.path.lexists(destination) and (not os.path.isdir(destination) or os.listdir(destination)):
            raise UsageError(f"{destination} exists and is not an empty directory")
        place = tempfile.mkdtemp(prefix=f".{os.path.basename(destination)}.", dir=parent)
    except OSError as error:
        raise UsageError(f"{destination} cannot be made: {error.strerror}") from None
    try:
        copy = _Copy(machine, place, boot=boot, avoid=(place, destination))
        copy.everything()
        copy.write_manifest()
        os.rename(place, destination)
    except OSError as error:
        raise SafeupdateError(
            f"the capture could not be written: {error.strerror}", "choose another place for it; nothing was kept"
        ) from None
    finally:
        shutil.rmtree(place, ignore_errors=True)
    return Summary(
        destination=destination,
        files=copy.files,
        links=copy.links,
        size=copy.size,
        left_out=len(copy.left_out),
        unreadable=tuple(sorted(copy.unreadable | copy.refused)),
        boot=boot,
    )


class _Copy:
    """One capture on its way."""

    def __init__(self, machine: Machine, place: str, *, boot: bool, avoid: tuple[str, ...]) -> None:
        self._machine = machine
        self._place = place
        self._boot = boot
        self._avoid = avoid
        self._done: set[str] = set()
        self.files = self.links = self.size = 0
        self.left_out: set[str] = set()
        self.unreadable: set[str] = set()
        self.refused: set[str] = set()
        self.file_systems: dict[str, FileSystem] = {}

    def everything(self) -> None:
        """All of it, small and certain things first."""
        self._space("/")
        for path in _TOP_LINKS:
            if self._is(path, stat.S_ISLNK):
                self._entry(path, content=False)
        for path in _SIGNS:
            if self._is(path, stat.S_ISDIR, follow=True):
                self._directory(self._follow(path) or path)
        for path in (*_CONFIGURATION, *_PUBLIC_KEYS):
            self._tree(path, content=lambda _: True)
        self._packages()
        self._programs()
        for path in _NAMES:
            self._tree(path, content=self._wanted)
        self._builders()
        self._proc()
        self._sys()
        self._volumes()
        self._efi()
        self._dev()
        self._modules()
        self._boot_files()

    def write_manifest(self) -> None:
        """What the tree does not tell, for `Machine` to read."""
        contents = Manifest(frozenset(self.left_out), frozenset(self.unreadable), self.file_systems)
        with open(self._place + capture_manifest.PATH, "xb") as file:
            file.write(capture_manifest.compose(contents, version=__version__, boot=self._boot))

    # -- what ----------------------------------------------------------------------------------------------

    def _packages(self) -> None:
        """Of dpkg's packages what those with a kernel brought; their files are held against that."""
        releases = self._list("/lib/modules")

        def wanted(name: str) -> bool:
            if not name.endswith((".list", ".md5sums")) or "-headers-" in name:
                return False
            package = name.rpartition(".")[0].partition(":")[0]
            return Package(package, "", "").role == "kernel" or any(release in package for release in releases)

        for name in filter(wanted, self._list(dpkg.INFO)):
            self._tree(f"{dpkg.INFO}/{name}", content=lambda _: True)
        for path in _RPM:
            self._tree(path, content=lambda _: self._boot)
        for path in _SIGNED_PROGRAMS:
            self._tree(path, content=lambda path: posixpath.basename(path).startswith(("shim", "grub")))

    def _wanted(self, path: str) -> bool:
        """Of which files in `_NAMES` the content tells something."""
        if _BUILD_LOG.search(path):
            return self._machine.size(path) <= _BUILD_LOG_LIMIT
        return bool(_UNIT_WITH_CONTENT.search(path))

    def _builders(self) -> None:
        """What DKMS is to build, and for which kernels it could: whether their headers are there."""
        for name in self._list("/var/lib/dkms"):
            for version in self._list(f"/var/lib/dkms/{name}"):
                self._file(f"/var/lib/dkms/{name}/{version}/source/dkms.conf")
        for release in self._list("/lib/modules"):
            for place in (f"/lib/modules/{release}/build", f"/usr/src/kernels/{release}"):
                headers = self._follow(place)
                if headers is not None and self._is(headers, stat.S_ISDIR):
                    self._entry(f"{headers}/Makefile", content=False)
                    if self._is(f"{headers}/include", stat.S_ISDIR, follow=True):
                        self._directory(f"{headers}/include")

    def _programs(self) -> None:
        files = MachineFiles(self._machine)
        search = closure.library_directories(self._bytes, self._list)
        asked = cmdline.parse(self._bytes("/proc/cmdline").decode("utf-8", "surrogateescape")).last("init")
        for program in (*_PROGRAMS, *([asked] if asked else [])):
            try:
                for path in closure.loaded(files, program, search=search):
                    self._file(path)
            except Unreadable as error:
                self.unreadable.add(error.path)

    def _proc(self) -> None:
        for path in (*_PROC, *(f"/proc/sys/kernel/{name}" for name in _KERNEL_SETTINGS)):
            self._attribute(path, limit=_PROC_LIMIT)

    def _sys(self) -> None:
        for group in ("/sys/class/block", "/sys/block", "/sys/class/nvme", "/sys/class/scsi_host", "/sys/class/net"):
            for name in self._list(group):
                self._entry(f"{group}/{name}", content=False)
                self._device(f"{group}/{name}")
        for name in self._list("/sys/class/devlink"):  # what supplies a device on a board with a devicetree
            link = self._follow(f"/sys/class/devlink/{name}") or ""
            self._attributes(link)
            self._device(f"{link}/supplier")
        for name in self._list("/sys/class/dmi"):
            self._entry(f"/sys/class/dmi/{name}", content=False)
            self._attributes(self._follow(f"/sys/class/dmi/{name}") or "")
        for group, attribute in _DEVICE_ATTRIBUTES.items():
            for name in self._list(group):
                self._attribute(f"{self._follow(f'{group}/{name}') or group}/{attribute}")
        self._attribute(f"{self._follow('/sys/class/tty/console') or '/sys/class/tty'}/active")
        for bus in self._list("/sys/bus"):
            for driver in self._list(f"/sys/bus/{bus}/drivers"):
                self._driver(f"/sys/bus/{bus}/drivers/{driver}")
        self._attribute("/sys/devices/system/cpu/modalias")
        for name in self._list("/sys/devices/platform"):
            self._attribute(f"/sys/devices/platform/{name}/modalias")
        for module in self._list("/sys/module"):
            self._directory(f"/sys/module/{module}")
            for name in ("initstate", "refcnt", "version", "srcversion", "taint", "parameters/sig_enforce"):
                self._attribute(f"/sys/module/{module}/{name}")
        for name in ("btrfs", "bcachefs", "virtiofs"):
            self._attributes(f"/sys/fs/{name}", depth=3)
        for path in ("/sys/fs/selinux/enforce", "/sys/kernel/security/lockdown", "/sys/power/resume"):
            self._attribute(path)

    def _volumes(self) -> None:
        """What sysfs does not tell of volumes: the targets and ciphers of device-mapper's, bcache's caches."""
        if any(name.startswith("dm-") for name in self._list("/sys/class/block")):
            try:
                data = devices.table(self._machine)
            except (ProgramFailed, Unreadable):
                data = b""
            if data:
                self._parent(devices.TABLE)
                with open(self._place + devices.TABLE, "xb") as file:
                    file.write(data)
                self.files += 1
                self.size += len(data)
        for name in self._list("/sys/fs/bcache"):
            for entry in self._list(f"/sys/fs/bcache/{name}"):
                if self._is(f"/sys/fs/bcache/{name}/{entry}", stat.S_ISLNK):
                    self._entry(f"/sys/fs/bcache/{name}/{entry}", content=False)

    def _driver(self, place: str) -> None:
        """A driver's module, and the links to the devices that are bound to it."""
        self._directory(place)
        for name in self._list(place):
            if self._is(f"{place}/{name}", stat.S_ISLNK):
                self._entry(f"{place}/{name}", content=False)

    def _device(self, link: str) -> None:
        """A device's attributes, its own parts', and those of all devices above it."""
        device = self._follow(link) or ""
        if not device.startswith("/sys/devices/"):
            return
        self._attributes(device, depth=3)
        device = posixpath.dirname(device)
        while device.startswith("/sys/devices/"):
            self._attributes(device)
            device = posixpath.dirname(device)

    def _efi(self) -> None:
        if self._is("/sys/firmware/efi", stat.S_ISDIR):
            self._attributes("/sys/firmware/efi")
            for name in self._list("/sys/firmware/efi/efivars"):
                if _VARIABLE.match(name) or _PASSWORD_VARIABLE.match(name):
                    self._variable(f"/sys/firmware/efi/efivars/{name}")
            for name in self._list("/sys/firmware/efi/mok-variables"):
                self._variable(f"/sys/firmware/efi/mok-variables/{name}")

    def _variable(self, path: str) -> None:
        if _PASSWORD_VARIABLE.match(posixpath.basename(path)):
            self._entry(path, content=False)
        else:
            self._attribute(path, limit=_PROC_LIMIT)

    def _dev(self) -> None:
        """Links to block devices, and udev's records of these; no device nodes."""
        for name in self._list("/dev"):
            path = f"/dev/{name}"
            if name in ("disk", "mapper", "md") or (
                name not in ("fd", "char", "block") and self._is_volume_group(path)
            ):
                self._links_below(path, depth=2)
        for name in self._list("/run/udev/data"):
            if name.startswith("b"):
                self._attribute(f"/run/udev/data/{name}")

    def _is_volume_group(self, path: str) -> bool:
        """LVM makes a directory of links for each group."""
        names = self._list(path) if self._is(path, stat.S_ISDIR) else []
        return bool(names) and all(self._is(f"{path}/{name}", stat.S_ISLNK) for name in names)

    def _links_below(self, path: str, *, depth: int) -> None:
        for name in self._list(path):
            if self._is(f"{path}/{name}", stat.S_ISLNK):
                self._entry(f"{path}/{name}", content=False)
            elif depth > 1 and self._is(f"{path}/{name}", stat.S_ISDIR):
                self._links_below(f"{path}/{name}", depth=depth - 1)

    def _modules(self) -> None:
        def content(path: str) -> bool:
            name = posixpath.basename(path)
            return self._boot or name.startswith("modules.") or name in ("config", "pkgbase")

        for release in self._list("/lib/modules"):
            self._tree(f"/lib/modules/{release}", content=content)

    def _boot_files(self) -> None:
        def content(path: str) -> bool:
            if self._boot or _BOOT_CONFIGURATION.search(path):
                return True
            lower = path.lower()
            if not lower.endswith(".efi") or "/efi/linux/" in lower or "vmlinu" in lower:
                return False
            return self._machine.size(path) <= _LOADER_LIMIT

        for path in (*_BOOT_PLACES, *self._mounted_esps()):
            self._tree(path, content=content)

    def _mounted_esps(self) -> list[str]:
        """FAT file systems mounted elsewhere that hold boot loaders."""
        points = []
        with suppress(FormatError):
            mounts = mountinfo.parse(self._bytes("/proc/self/mountinfo"))
            points = [mount.point for mount in mounts if mount.fstype == "vfat"]
        lines = fstab.parse(self._bytes("/etc/fstab")).lines
        points += [line.point for line in lines if line.fstype == "vfat" and line.point.startswith("/")]
        covered = tuple(f"{place}/" for place in _BOOT_PLACES)
        return [
            point
            for point in dict.fromkeys(points)
            if point not in _BOOT_PLACES
            and not point.startswith(covered)
            and any(name.lower() in ("efi", "loader") for name in self._list(point))
        ]

    # -- how -----------------------------------------------------------------------------------------------

    def _tree(self, path: str, *, content: Callable[[str], bool]) -> None:
        """A file or a whole directory; `content` says of which files more than the name goes in."""
        real = self._follow(path)
        pending = [real] if real is not None else []
        while pending:
            path = pending.pop()
            mode = self._mode(path)
            if stat.S_ISDIR(mode):
                if self._machine.host_path(path) not in self._avoid:
                    self._directory(path)
                    self._space(path)
                    pending += [f"{path.rstrip('/')}/{name}" for name in reversed(self._list(path))]
            elif stat.S_ISLNK(mode) or stat.S_ISREG(mode):
                self._entry(path, content=stat.S_ISREG(mode) and content(path))

    def _space(self, directory: str) -> None:
        """What is left on its file system, where that is another one than its parent's."""
        space = self._machine.space(directory)
        if space is not None:
            above = directory
            while above not in self.file_systems and above != "/":
                above = posixpath.dirname(above)
            known = self.file_systems.get(above)
            if known is None or known.device != space.device:
                self.file_systems[directory] = FileSystem(**vars(space))

    def _file(self, path: str) -> None:
        """One file with its content, and every link on the way to it."""
        real = self._follow(path)
        if real is not None and stat.S_ISREG(self._mode(real)):
            self._entry(real, content=True)

    def _follow(self, path: str) -> str | None:
        """`path` with links resolved; each of them is copied. None where they loop."""
        for _ in range(40):
            parts = path.strip("/").split("/")
            for count in range(1, len(parts) + 1):
                prefix = "/" + "/".join(parts[:count])
                if self._is(prefix, stat.S_ISLNK):
                    self._entry(prefix, content=False)
                    target = posixpath.join(posixpath.dirname(prefix), self._machine.readlink(prefix))
                    path = posixpath.normpath(posixpath.join(target, *parts[count:]))
                    path = "/" + path.lstrip("/")
                    break
            else:
                return path
        return None

    def _entry(self, path: str, *, content: bool) -> None:
        """A link as it is, or a file: with its content, or by name and size alone."""
        if path in self._done:
            return
        self._done.add(path)
        if len(self._done) > _FILES_LIMIT:
            raise SafeupdateError(f"more than {_FILES_LIMIT} files would be captured", "this machine is too unusual")
        try:
            status = self._machine.stat(path, follow=False)
            if status is None:
                return
            if stat.S_ISLNK(status.st_mode):
                target = self._machine.readlink(path)
                self._parent(path)
                os.symlink(target, self._place + path)
                self.links += 1
                return
        except Missing:
            return
        except Unreadable:
            self.unreadable.add(path)
            return
        if not stat.S_ISREG(status.st_mode):
            return
        try:
            if not content or _SECRET.search(path) or not self._copied(path, status):
                self._placeholder(path, status)
        except Missing:
            return
        except Unreadable:
            self.refused.add(path)
            self._placeholder(path, status)

    def _copied(self, path: str, status: os.stat_result) -> bool:
        """Copy the content; False where it is a private key."""
        with self._machine.open(path) as source:
            head = self._read(path, source.read, _CHUNK)
            if _PRIVATE in head:
                return False
            self._parent(path)
            host = self._place + path
            with open(host, "xb") as target:
                if status.st_size <= _CHUNK and b"\0" not in head:
                    head = _scrubbed(head)
                while head:
                    target.write(head)
                    self.size += len(head)
                    if self.size > _BYTES_LIMIT:
                        raise SafeupdateError(f"more than {_BYTES_LIMIT >> 30} GB would be captured")
                    head = self._read(path, source.read, _CHUNK)
        os.chmod(host, stat.S_IMODE(status.st_mode) & 0o755 | 0o600)
        os.utime(host, ns=(status.st_mtime_ns, status.st_mtime_ns))
        self.files += 1
        return True

    @staticmethod
    def _read(path: str, read: Callable[[int], bytes], limit: int) -> bytes:
        try:
            return read(limit)
        except OSError as error:
            raise Unreadable(path, error.strerror or "it cannot be read") from None

    def _placeholder(self, path: str, status: os.stat_result) -> None:
        self._parent(path)
        host = self._place + path
        with open(host, "wb") as target:
            target.truncate(status.st_size)
        os.chmod(host, stat.S_IMODE(status.st_mode) & 0o755 | 0o600)
        os.utime(host, ns=(status.st_mtime_ns, status.st_mtime_ns))
        if status.st_size:
            self.left_out.add(path)
        self.files += 1

    def _attribute(self, path: str, *, limit: int = _ATTRIBUTE_LIMIT) -> None:
        """A file of sysfs, procfs or the like: its size is not known before it is read, and reading may fail."""
        try:
            with self._machine.open(path) as source:
                data = b""
                while len(data) <= limit and (more := self._read(path, source.read, _ATTRIBUTE_LIMIT)):
                    data += more
        except (Missing, Unreadable) as error:
            if isinstance(error, Unreadable) and not path.startswith("/sys/devices/"):
                self.unreadable.add(path)
            return
        if len(data) > limit or path in self._done:
            return
        self._done.add(path)
        self._parent(path)
        with open(self._place + path, "xb") as target:
            target.write(_without_serials(path, data))
        self.files += 1
        self.size += len(data)

    def _attributes(self, path: str, *, depth: int = 1) -> None:
        """The readable attributes and links of a sysfs directory, and of those below it."""
        if not self._is(path, stat.S_ISDIR) or (path in self._done and depth == 1):
            return
        self._directory(path)
        self._done.add(path)
        for name in self._list(path):
            entry = f"{path}/{name}"
            mode = self._mode(entry)
            if stat.S_ISLNK(mode):
                self._entry(entry, content=False)
            elif stat.S_ISREG(mode) and mode & 0o444 and _attribute_wanted(entry):
                self._attribute(entry)
            elif (
                stat.S_ISDIR(mode)
                and depth > 1
                and name not in ("power", "trace", "mq", "iosched", "statistics", "queues")
            ):
                self._attributes(entry, depth=depth - 1)

    def _bytes(self, path: str) -> bytes:
        """A text that says what else to take; nothing where it is missing or cannot be read."""
        try:
            return self._machine.read(path, limit=_PROC_LIMIT)
        except (Missing, Unreadable):
            return b""

    def _list(self, path: str) -> list[str]:
        try:
            return self._machine.listdir(path)
        except Unreadable:
            self.unreadable.add(path)
            return []

    def _mode(self, path: str, *, follow: bool = False) -> int:
        try:
            status = self._machine.stat(path, follow=follow)
        except Unreadable:
            self.unreadable.add(path)
            return 0
        return 0 if status is None else status.st_mode

    def _is(self, path: str, kind: Callable[[int], bool], *, follow: bool = False) -> bool:
        return kind(self._mode(path, follow=follow))

    def _directory(self, path: str) -> None:
        os.makedirs(self._place + path, mode=0o755, exist_ok=True)

    def _parent(self, path: str) -> None:
        self._directory(posixpath.dirname(path))


def _attribute_wanted(path: str) -> bool:
    """dm's and md's names for volumes are no serial numbers: they tell what a volume is for."""
    directory, _, name = path.rpartition("/")
    if name in ("uuid", "name") and posixpath.basename(directory) in ("dm", "md"):
        return True
    return not _SERIAL_ATTRIBUTE.match(name) and name not in ("config", "rom", "autosuspend", "vpd")


def _scrubbed(data: bytes) -> bytes:
    """Passwords overwritten; the length stays, as a grubenv must have its 1024 bytes."""
    for pattern in _PASSWORDS:
        data = pattern.sub(lambda match: match.group(1) + b"X" * len(match.group(2)), data)
    return data


def _without_serials(path: str, data: bytes) -> bytes:
    """Addresses in kernel memory, serial numbers of processors and disks, and passwords, taken out of a text."""
    if path == "/proc/modules":
        return re.sub(rb"0x[0-9a-f]+", b"0x0", data)
    if path == "/proc/cpuinfo":
        return re.sub(rb"(?m)^(Serial\s*:).*$", rb"\1 0", data)
    if path.startswith("/run/udev/data/"):
        lines = data.decode("utf-8", "surrogateescape").split("\n")
        return "\n".join(line for line in lines if not _UDEV_SECRET.match(line)).encode("utf-8", "surrogateescape")
    return _scrubbed(data) if path in ("/proc/cmdline", "/proc/self/mountinfo") else data
