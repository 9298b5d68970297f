"""Builds root trees with mmdebstrap into the cache, each once, until its recipe changes."""

from __future__ import annotations

import contextlib
import fcntl
import glob
import hashlib
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence

from machines.namespace import private_mounts
from machines.recipes import RECIPES, WHEELS_FOR, Recipe

_HERE = os.path.dirname(os.path.abspath(__file__))
_PREPARE, _CUSTOMIZE, _MODULES = (os.path.join(_HERE, name) for name in ("prepare.sh", "customize.sh", "modules.sh"))
_UNUSED = ("doc", "doc-base", "man", "locale", "info", "lintian", "bash-completion", "zsh", "bug")
"""Below /usr/share: a third of the files, and none that a boot reads."""

TIMEOUT = 7200
"""Seconds for one root: two minutes on two processors with a near mirror, twenty with ZFS's modules, with room for
slow ones."""


KEPT = 24 * 3600
"""Seconds after its last use for which the tree of another recipe stays: another checkout may work with it."""


class BuildError(Exception):
    """A root could not be built; the message has the end of the builder's own output."""


def cache() -> str:
    """The directory for what is made once: `$SAFEUPDATE_CACHE`, else safeupdate in the user's cache directory."""
    given = os.environ.get("SAFEUPDATE_CACHE")
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return given or os.path.join(base, "safeupdate")


def names() -> tuple[str, ...]:
    """The machines that tests stand on."""
    return tuple(name for name, recipe in RECIPES.items() if not recipe.wheels and not recipe.lab)


def path(name: str) -> str:
    """Where the root of this recipe is, or will be."""
    recipe = RECIPES[name]
    digest = hashlib.sha256(repr((recipe, _UNUSED)).encode())
    if recipe.base:
        digest.update(os.path.basename(path(recipe.base)).encode())
    scripts = (_MODULES,) if recipe.base else (_PREPARE, _CUSTOMIZE)
    for script in scripts if not recipe.wheels else ():
        with open(script, "rb") as file:
            digest.update(file.read())
    return os.path.join(cache(), "machines", f"{name}-{digest.hexdigest()[:12]}")


def root(name: str) -> str:
    """The directory of a complete root tree, built first where it is missing. Raises `BuildError`.

    The tree is shared: nothing may be changed in it (see `machines.copy`).
    """
    tree = path(name)
    if not os.path.isdir(tree):
        with _locked(f"{os.path.dirname(tree)}/{name}.lock"):
            if not os.path.isdir(tree):
                _make(RECIPES[name], tree)
    with contextlib.suppress(PermissionError):
        os.utime(tree)
    return tree


def main(arguments: Sequence[str]) -> int:
    """Build the machines named (without a name all that tests stand on), and print the directory of each."""
    for name in arguments or [name for name, recipe in RECIPES.items() if not recipe.lab]:
        if name not in RECIPES:
            print(f"machines: there is no {name}; there are {', '.join(RECIPES)}", file=sys.stderr)
            return 2
        try:
            print(root(name), flush=True)
        except BuildError as error:
            print(f"machines: {error}", file=sys.stderr)
            return 1
    return 0


@contextlib.contextmanager
def _locked(name: str) -> Iterator[None]:
    os.makedirs(os.path.dirname(name), exist_ok=True)
    with open(name, "w", encoding="ascii") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _make(recipe: Recipe, tree: str) -> None:
    if os.geteuid() != 0:
        raise BuildError(f"only root can build {recipe.name}, whose files have several owners")
    print(f"machines: building {recipe.name}, a root tree of Debian {recipe.suite} (minutes, once)", file=sys.stderr)
    private_mounts()
    machines = os.path.dirname(tree)
    for interrupted in glob.glob(f"{machines}/{recipe.name}.new.*"):
        shutil.rmtree(interrupted)
    with tempfile.TemporaryDirectory(prefix=f"{recipe.name}.new.", dir=machines) as work:
        new = os.path.join(work, "root")
        with _root_device(recipe, work) as device:
            _mmdebstrap(recipe, new, device, _wheels(recipe, work))
        if not recipe.wheels:
            _clean(new)
        os.rename(new, tree)
    for other in set(glob.glob(f"{machines}/{recipe.name}-{'[0-9a-f]' * 12}")) - {tree}:
        if os.stat(other).st_mtime < time.time() - KEPT:
            shutil.rmtree(other)


@contextlib.contextmanager
def _root_device(recipe: Recipe, work: str) -> Iterator[str]:
    """The number of a block device with a small file system of the root's type and UUID, as `7:0`.

    Empty where loop devices are not to be had: the images then lack fsck, as in any chroot.
    """
    if recipe.wheels or recipe.base:
        yield ""
        return
    image = os.path.join(work, "disk")
    with open(image, "wb") as file:
        file.truncate(64 << 20)
    _run(["mkfs.ext4", "-q", "-F", "-U", recipe.root_uuid, image], {}, timeout=60)
    try:
        loop = _run(["losetup", "--find", "--show", image], {}, timeout=60).strip()
    except BuildError:
        yield ""
        return
    # Detached while it is open, a loop device goes with the last process that has it open: nothing is left behind.
    with open(loop, "rb") as device:
        _run(["losetup", "--detach", loop], {}, timeout=60)
        number = os.fstat(device.fileno()).st_rdev
        yield f"{os.major(number)}:{os.minor(number)}"


def _wheels(recipe: Recipe, work: str) -> str:
    directory = os.path.join(work, "wheels")
    if recipe.wheels:
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--quiet"]
        _run([*pip, *WHEELS_FOR, f"--dest={directory}", *recipe.wheels], {}, timeout=TIMEOUT)
    return directory


def _mmdebstrap(recipe: Recipe, directory: str, device: str, wheels: str) -> None:
    command = ["mmdebstrap", "--mode=root", "--format=directory", f"--components={','.join(recipe.components)}"]
    command += ["--aptopt=APT::Install-Recommends false", "--aptopt=Acquire::Retries 3"]
    command += [f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in _UNUSED]
    if recipe.moving:
        # A mirror of testing that has stood still for a while is good enough here.
        command += ["--aptopt=Acquire::Check-Valid-Until false"]
    if recipe.base:
        command += [
            "--variant=custom",
            f'--setup-hook=cp -a --reflink=auto {shlex.quote(root(recipe.base))}/. "$1"',
            # The copy has brought the base's own.
            f'--setup-hook=sed -i "s/ main.*/ {" ".join(recipe.components)}/" "$1/etc/apt/sources.list"',
            f'--customize-hook={_MODULES} "$1" {shlex.join(recipe.packages)}',
        ]
    else:
        command += ["--variant=minbase", f"--include={','.join(recipe.packages)}"]
    if recipe.wheels:
        install = f"/venv/bin/pip install --quiet --no-index --find-links=/wheels {shlex.join(recipe.wheels)}"
        command += [
            f"--customize-hook=copy-in {shlex.quote(wheels)} /",
            f'--customize-hook=chroot "$1" sh -c {shlex.quote(f"python3 -m venv /venv && {install}")}',
            '--customize-hook=rm -r "$1/wheels"',
        ]
    elif not recipe.base:
        command += [f'--essential-hook={_PREPARE} "$1"', f'--customize-hook={_CUSTOMIZE} "$1"']
    environment = {
        "MACHINE": recipe.name,
        "ROOT_UUID": recipe.root_uuid,
        "ROOT_DISK": recipe.root_disk,
        "ROOT_DEVICE": device,
    }
    _run([*command, recipe.suite, directory], environment, timeout=TIMEOUT)


def _clean(tree: str) -> None:
    """Take out what belongs to the build and not to the machine, device nodes among it."""
    for directory in ("dev", "run", "tmp", "var/log", "var/cache/debconf"):
        for entry in os.scandir(os.path.join(tree, directory)):
            if entry.is_dir(follow_symlinks=False):
                shutil.rmtree(entry.path)
            elif directory != "var/cache/debconf" or entry.name.endswith("-old"):
                os.unlink(entry.path)
    os.chmod(tree, 0o755)


def releases(tree: str) -> list[str]:
    """The kernel releases of a root tree, the oldest first: of one series, so that numbers decide, then flavours."""
    found = os.listdir(os.path.join(tree, "usr/lib/modules"))
    return sorted(found, key=lambda release: ([int(number) for number in re.findall("[0-9]+", release)], release))


def _run(command: Sequence[str], environment: dict[str, str], *, timeout: float) -> str:
    """Run a program to its end, with nothing to read, and return what it printed. Raises `BuildError`."""
    with subprocess.Popen(
        command,
        env={**os.environ, "PATH": f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin", **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    ) as process:
        try:
            output, _ = process.communicate(timeout=timeout)
        except BaseException as error:
            # Asked to end, mmdebstrap ends its helpers and takes its mounts away.
            process.terminate()
            output, _ = process.communicate()
            if isinstance(error, subprocess.TimeoutExpired):
                raise BuildError(f"{command[0]} did not end within {timeout:g} seconds:\n{output[-4000:]}") from None
            raise
    if process.returncode != 0:
        raise BuildError(f"{command[0]} ended with {process.returncode}:\n{output[-4000:]}")
    return output
