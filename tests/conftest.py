"""Fixtures for real machines."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Callable

import pytest

import machines


@pytest.fixture
def copy_of() -> Iterator[Callable[[str], str]]:
    """A function: name of a machine to the root of a private copy that the test may break."""
    with contextlib.ExitStack() as copies:
        yield lambda name: copies.enter_context(machines.copy(name))
