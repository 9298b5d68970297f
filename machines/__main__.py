"""`python3 -m machines NAME...`: build the root trees that are missing, and print where they are."""

import sys

from machines.build import main

sys.exit(main(sys.argv[1:]))
