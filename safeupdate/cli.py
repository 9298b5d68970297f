"""The parser and the table of verbs, nothing else."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from safeupdate import __version__
from safeupdate.commands import (
    allow,
    capture,
    check,
    config,
    confirm,
    history,
    hook,
    keys,
    kured_sentinel,
    reboot,
    reject,
    settle,
    snapshot,
    status,
)
from safeupdate.errors import SafeupdateError, UsageError

USAGE = 2

COMMANDS = (
    *(check, status, settle, allow, reject, reboot),
    *(snapshot, confirm, history, keys, config, capture, kured_sentinel, hook),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb. Exit codes are the verb's own; 2 is a usage error, with nothing on stdout."""
    parser = argparse.ArgumentParser(prog="safeupdate", description="If this machine reboots now, will it come back?")
    parser.add_argument("--version", action="version", version=f"safeupdate {__version__}")
    verbs = parser.add_subparsers(dest="verb", metavar="COMMAND", required=True)
    for command in COMMANDS:
        command.add(verbs)
    parsed = parser.parse_args(arguments)
    try:
        code: int = parsed.run(parsed)
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except SafeupdateError as error:
        from safeupdate.render import visible

        print(f"safeupdate: {visible(str(error))}", file=sys.stderr)
        if error.hint:
            print(f"  {visible(error.hint)}", file=sys.stderr)
        return USAGE if isinstance(error, UsageError) else 1
    except KeyboardInterrupt:
        return 130
