"""The configuration in force, as one TOML file that says where each part comes from."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import fields
from typing import Any

from safeupdate.config import BUILT_IN, MAIN, SETTINGS, Config


def render(config: Config) -> str:
    """The text, which `tomllib` reads back as the same configuration."""
    return "\n".join(_lines(config)) + "\n"


def _lines(config: Config) -> Iterator[str]:
    yield f"# Read: {', '.join(config.files)}" if config.files else f"# {MAIN} does not exist."
    for section in SETTINGS:
        settings = getattr(config, section)
        yield ""
        yield f"[{section}]"
        for one in fields(settings):
            line = f"{one.name} = {_value(getattr(settings, one.name))}"
            yield f"{line:<28} # {config.sources.get(f'{section}.{one.name}', BUILT_IN)}"
    for check, skip in sorted(config.skipped.items()):
        yield ""
        yield f"[checks.{check}]".ljust(28) + f" # {skip.source}"
        yield "skip = true"
        yield f"reason = {_value(skip.reason)}"
    for name, rule in sorted(config.findings.items()):
        yield ""
        yield f"[findings.{_value(name)}]".ljust(28) + f" # {rule.source}"
        yield f"level = {_value(rule.level)}"
        yield f"subjects = {_value(list(rule.subjects))}"
        yield f"reason = {_value(rule.reason)}"


def _value(value: Any) -> str:
    """A TOML value: what JSON writes for a text, a number, a truth or a list of them is one."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
