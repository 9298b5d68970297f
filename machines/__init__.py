"""Real machines for tests and for a first look: root trees from the packages of distributions, made once and kept.

    tree = machines.root("debian12")                     # built where it is missing (docs/machines.md)
    with machines.copy("debian12") as tree:              # a private copy, to break something
        machines.replace(tree, "/boot/grub/grub.cfg", b"")

What a root holds comes from the distribution; `add_facts` adds what a kernel would tell of hardware and mounts.
"""

from machines.build import names, root
from machines.copies import copy, remove, replace
from machines.facts import add_facts

__all__ = ["add_facts", "copy", "names", "remove", "replace", "root"]
