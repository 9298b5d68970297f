"""The program's own wheel, made from a checkout, and how it gets into a guest."""

from __future__ import annotations

import functools
import hashlib
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator

from tests.lab.programs import run

OURS = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

INSTALL = """
set -e
cd /usr/lib/python3/dist-packages
rm -rf safeupdate safeupdate-*.dist-info
python3 - {directory}/wheel.whl <<'END'
import configparser, sys, zipfile
wheel = zipfile.ZipFile(sys.argv[1])
wheel.extractall()
(points,) = [name for name in wheel.namelist() if name.endswith(".dist-info/entry_points.txt")]
scripts = configparser.ConfigParser()
scripts.read_string(wheel.read(points).decode())
for name, target in scripts["console_scripts"].items():
    module, function = target.split(":")
    lines = "#!/usr/bin/python3", "import sys", f"from {{module}} import {{function}}", f"sys.exit({{function}}())"
    with open(f"/usr/bin/{{name}}", "w") as file:
        print(*lines, sep="\\n", file=file)
END
chmod 755 /usr/bin/safeupdate
python3 -m compileall -q safeupdate
rm {directory}/wheel.whl
cd /
safeupdate confirm
safeupdate check --json > {directory}/healthy.json || true
sync
cat {directory}/healthy.json
"""
"""What a package does: files, the entry point, bytecode. Then the machine notes that this boot came up, and judges
itself once, as one does that has had the program for a while."""


def _files(checkout: str) -> Iterator[str]:
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        yield name
    for directory, names, files in os.walk(os.path.join(checkout, "safeupdate")):
        names[:] = sorted(name for name in names if name != "__pycache__")
        for name in sorted(files):
            yield os.path.relpath(os.path.join(directory, name), checkout)


@functools.cache
def made(checkout: str = OURS) -> tuple[str, bytes]:
    """The wheel's identity, by the content of what it is made of, and its bytes. Raises `LabError`."""
    digest = hashlib.sha256()
    with tempfile.TemporaryDirectory(prefix="safeupdate-lab.") as work:
        for name in _files(checkout):
            target = os.path.join(work, "source", name)
            os.makedirs(os.path.dirname(target), exist_ok=True)
            shutil.copyfile(os.path.join(checkout, name), target)
            with open(target, "rb") as file:
                data = file.read()
            digest.update(f"{name} {len(data)}\n".encode() + data)
        pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "--quiet")
        run(*pip, "--no-deps", "--no-build-isolation", f"--wheel-dir={work}", os.path.join(work, "source"))
        (wheel,) = (name for name in os.listdir(work) if name.endswith(".whl"))
        with open(os.path.join(work, wheel), "rb") as file:
            return digest.hexdigest()[:12], file.read()
