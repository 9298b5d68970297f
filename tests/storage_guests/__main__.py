"""python3 -m tests.storage_guests make|boot|keep|page [--suite NAME] [--pick TEXT] [--again] [ROOT...]

make    make all roots, and the capture of their guest (as root)
boot    start these, all without a name, from whole images and from images with something taken out
        whose kind and name match --pick; what is in results.jsonl is not started again, but with --again
keep    write tests/data/captures/roots.tar.xz
page    write the tables of docs/root-storage.md
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from tests.storage_guests import boots, keep, page, tree
from tests.storage_guests.keep import GENERATORS
from tests.storage_guests.made import made
from tests.storage_guests.stacks import ROOTS


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python3 -m tests.storage_guests")
    parser.add_argument("verb", choices=("make", "boot", "keep", "page"))
    parser.add_argument("roots", nargs="*", choices=[*ROOTS, []])
    parser.add_argument("--suite", choices=list(tree.SUITES), default="debian12")
    parser.add_argument("--generator", choices=GENERATORS)
    parser.add_argument("--pick", default="")
    parser.add_argument("--again", action="store_true")
    given = parser.parse_args(arguments)
    roots = [ROOTS[name] for name in given.roots or ROOTS]
    if given.verb == "make":
        print(made(given.suite))
    elif given.verb == "boot":
        for root in roots:
            for generator in [given.generator] if given.generator else GENERATORS:
                for one in boots.boots(root, given.suite, generator, pick=given.pick, again=given.again):
                    words = "agrees" if one.agrees else "DIFFERS"
                    said = ", ".join(one.said) or "nothing"
                    print(
                        f"{words}: {one.root} {generator} {one.kind} {one.name}: {said}; {one.ending} after "
                        f"{one.seconds} s: {one.line}",
                        flush=True,
                    )
    elif given.verb == "keep":
        keep.keep(made(given.suite), given.suite)
    else:
        page.write()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
