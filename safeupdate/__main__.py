import sys

from safeupdate.cli import main

sys.exit(main())
