"""Watches a guest from its start until it is up, or until it is clear that it will not be."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping

from safeupdate.rehearsal.agent import Agent
from safeupdate.rehearsal.outcome import GRACE, Ending, mark, patience
from safeupdate.rehearsal.qemu import Guest

LIMIT = 900.0
"""Seconds for one boot: one takes half a minute to two under software emulation, and ten where systemd waits for
several devices, one after the other."""


def watch(guest: Guest, *, answers: Mapping[str, str] | None = None, limit: float = LIMIT) -> Ending:
    """Wait until the guest's agent says that multi-user is reached, or until the boot has come to nothing.

    `answers` are typed on the console, each once, when its end matches their key: passphrases.
    """
    agent = Agent(guest)
    pending = dict(answers or {})
    seen = 0
    stopped: float | None = None
    while guest.poll(1.0):
        if agent.ready and stopped is None:
            return "up"
        now = time.monotonic()
        if guest.console.size != seen:
            seen = guest.console.size
            text = guest.console.last()
            for question in [question for question in pending if re.search(question, text)]:
                guest.type(pending.pop(question))
            if stopped is None and mark(text) is not None:
                stopped = now
        if stopped is not None and now - stopped > GRACE:
            return "stopped"
        if guest.silence > patience(guest.console.last()):
            return "silent"
        if guest.seconds > limit:
            return "late"
    return "ended"
