"""`python3 -m machines NAME...`: build the root trees that are missing, and print where they are.

Without a name all of them, and the packages that tests look into.
"""

import sys

from machines.build import main
from machines.packages import Offline, unpacked

status = main(sys.argv[1:])
if status == 0 and len(sys.argv) == 1:
    try:
        print(unpacked())
    except Offline as error:
        print(f"machines: {error}", file=sys.stderr)
sys.exit(status)
