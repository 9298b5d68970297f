"""Fixtures for real machines, and how the property tests run."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Callable

import pytest
from hypothesis import HealthCheck, settings

import machines

# No test is judged by the clock: what must end has a bound of its own.
# The same inputs every time, so that a change is not refused for what it did not do; `make fuzz` looks for new ones.
settings.register_profile(
    "safeupdate", deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("safeupdate")


@pytest.fixture
def copy_of() -> Iterator[Callable[[str], str]]:
    """A function: name of a machine to the root of a private copy that the test may break."""
    with contextlib.ExitStack() as copies:
        yield lambda name: copies.enter_context(machines.copy(name))
