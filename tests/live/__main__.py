"""python3 -m tests.live [LAYOUT...]: run each machine, print what it says of itself and what its captures say."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from tests.live.jobs import captured, findings, job, perform, report
from tests.live.layouts import ALL, BY_NAME


def main(names: Sequence[str]) -> int:
    """Run the layouts named (all without a name)."""
    for name in names or [layout.name for layout in ALL]:
        whole = not BY_NAME[name].like
        results, ended = perform(name, job(whole=whole), keep="run")
        print(f"== {name}: {ended.seconds} s in all", flush=True)
        for which in ("healthy", "broken") if whole else ("healthy",):
            with open(os.path.join(results, f"{which}.ms"), encoding="ascii") as file:
                _tell(which, report(results, which), f"{file.read().strip()} ms")
        for which in ("capture", "capture-boot") if whole else ("capture",):
            _tell(which, captured(results, which), "")
    return 0


def _tell(which: str, document: dict[str, object], more: str) -> None:
    target, fallback = document["target"], document["fallback"]
    assert isinstance(target, dict) and isinstance(fallback, dict)
    print(f"-- {which}: {document['verdict']} {more}", " → ".join(map(str, document["boot_path"])), sep="\n   ")  # type: ignore[call-overload]
    print(f"   next: {target['kernel']} {target['entry']}: {target['why']}")
    print(f"   fallback: {fallback['kernel']} {fallback['quality']} {fallback['recovery']}")
    for level, name, subject in findings(document):
        print(f"   {level}: {name} ({subject})")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
