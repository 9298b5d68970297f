"""Private copies of a root tree, cheap enough to make one for every test that breaks something."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator

from machines.build import cache, root
from machines.namespace import mount, private_mounts, ran


@contextlib.contextmanager
def copy(name: str) -> Iterator[str]:
    """A copy of the machine `name` that may be changed, below a temporary directory; gone afterwards.

    An overlay where this process may mount one (6 ms). It is mounted where only this process and its children see
    it, so it goes with them, whatever ends them. Elsewhere a directory of hard links (0.7 s; where links cannot be
    had, of copies, 10 s): with those `replace` and `remove` are the only safe ways to change a file.
    """
    with copy_of(root(name), name) as tree:
        yield tree


@contextlib.contextmanager
def copy_of(source: str, name: str) -> Iterator[str]:
    """The same of any tree, in which nothing else may be changed; `name` is for the directory."""
    parent = os.path.join(cache(), "copies")
    os.makedirs(parent, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f"{name}.", dir=parent) as directory:
        tree = os.path.join(directory, "root")
        if _overlay(source, tree):
            try:
                yield tree
            finally:
                for _ in ("the overlay", "and what it keeps its changes in"):
                    ran("umount", "--lazy", tree)
        else:
            shutil.copytree(source, tree, symlinks=True, copy_function=_link)
            yield tree


def replace(tree: str, path: str, data: bytes) -> None:
    """Give the file at `path` of the machine new content, and leave every other name of the old content alone.

    Owner and mode stay; a symbolic link is followed inside the tree. The file may be new; its directory must exist.
    """
    target = _inside(tree, path)
    new = f"{target}.replaced"
    with open(new, "wb") as file:
        file.write(data)
    if os.path.exists(target):
        status = os.stat(target)
        os.chown(new, status.st_uid, status.st_gid)
        os.chmod(new, status.st_mode & 0o7777)
    os.replace(new, target)


def remove(tree: str, path: str) -> None:
    """Remove a file, a symbolic link, or a directory with all that is in it."""
    directory, name = os.path.split(path.rstrip("/"))
    target = os.path.join(_inside(tree, directory), name)
    if os.path.isdir(target) and not os.path.islink(target):
        shutil.rmtree(target)
    else:
        os.unlink(target)


def _inside(tree: str, path: str) -> str:
    """The file that `path` names on the machine: every link on the way is the machine's own, not the host's."""
    done = tree
    pending = path.split("/")[::-1]
    for _ in range(1000):
        if not pending:
            return done
        part = pending.pop()
        if part in ("", ".", ".."):
            done = os.path.dirname(done) if part == ".." and done != tree else done
            continue
        candidate = os.path.join(done, part)
        if not os.path.islink(candidate):
            done = candidate
            continue
        target = os.readlink(candidate)
        done = tree if target.startswith("/") else done
        pending += target.split("/")[::-1]
    raise OSError(f"{path} loops")


def _overlay(source: str, tree: str) -> bool:
    """Mount a tree over `source` whose changes are kept in memory."""
    if not private_mounts():
        return False
    os.mkdir(tree)
    if mount("tmpfs", tree, "mode=0755"):
        upper, work = os.path.join(tree, "upper"), os.path.join(tree, "work")
        os.mkdir(upper, 0o755)
        os.mkdir(work)
        if mount("overlay", tree, f"lowerdir={source},upperdir={upper},workdir={work}"):
            return True
        ran("umount", tree)
    os.rmdir(tree)
    return False


def _link(source: str, target: str) -> str:
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError:
        with contextlib.suppress(PermissionError):  # what only root may read matters to no check
            shutil.copy2(source, target, follow_symlinks=False)
    return target
