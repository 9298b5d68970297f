"""What the administrator set: /etc/safeupdate/safeupdate.toml and the files of safeupdate.toml.d, in TOML (toml.io).

Every key is optional. The main file is read first, then `safeupdate.toml.d/*.toml` in the order of their names; a later
file wins, rule by rule and setting by setting. A mistake is a `ConfigError` that names the file, the key and what is
allowed there: a rule that is spelt wrong would else do nothing, in silence. `docs/configuration.md` is the manual.
"""

from __future__ import annotations

import difflib
import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from fnmatch import fnmatchcase
from typing import Any

from safeupdate.errors import SafeupdateError, UsageError
from safeupdate.machine import Machine
from safeupdate.report import Finding, Level, Lowered

MAIN = "/etc/safeupdate/safeupdate.toml"
DROP_INS = "/etc/safeupdate/safeupdate.toml.d"

BUILT_IN = "built in"
"""The source of a setting that no file gives."""

CATALOGUE = os.path.join(os.path.dirname(__file__), "findings.txt")
"""Every finding id and the levels that it can have, made from the code by `make docs`."""

_LEVELS: tuple[Level, ...] = ("blocker", "unknown", "warning", "note")
_SIZE_LIMIT = 1 << 20
"""Bytes of one file: ten thousand rules fit into it."""


OPT_IN_LEVERS = ("inhibitor",)
LEVERS = (
    *("reboot-required", "scheduled", "dnf-automatic", "reboot-target", "molly-guard", "boot-default"),
    *OPT_IN_LEVERS,
)
"""What the gate has, by name; see `docs/gate.md`."""

OPT_IN_SNAPSHOTS = ("lvm-thick", "snapm")
"""What keeps a state at a price that nobody should pay unasked; see `docs/snapshots.md`."""

_UNITS = {"s": 1, "min": 60, "h": 3600, "d": 86400}


def seconds(duration: str) -> int:
    """The seconds in a duration, as `90s`, `5min`, `1h`, `2d`. Raises `ValueError` for what is none."""
    match = re.fullmatch(r"([1-9][0-9]{0,8}) ?(s|min|h|d)", duration)
    if match is None:
        raise ValueError(duration)
    return int(match.group(1)) * _UNITS[match.group(2)]


class ConfigError(UsageError):
    """A mistake in a configuration file."""


@dataclass(frozen=True)
class Rule:
    """A finding is told at this level at most, where its subject matches one of the patterns (shell's, all of them)."""

    level: Level
    reason: str
    subjects: tuple[str, ...] = ("*",)
    source: str = BUILT_IN


@dataclass(frozen=True)
class Skip:
    """A check is not asked."""

    reason: str
    source: str = BUILT_IN


@dataclass(frozen=True)
class LedgerSettings:
    """`[ledger]`. A new setting is one more field here, or one more such class among the fields of `Config`."""

    keep_days: int = field(default=400, metadata={"least": 1, "most": 36500})
    """Days that a row is kept: a machine that is rebooted once a year still knows its last boot."""


@dataclass(frozen=True)
class ModuleSettings:
    """`[modules]`: of kernel modules that did not come with the kernel."""

    optional: tuple[str, ...] = ()
    """Modules that this machine can do without for a while: what is wrong with one is never more than a warning."""
    wait_seconds: int = field(default=300, metadata={"least": 0, "most": 3600})
    """How long a check waits for akmods, where that is building modules: the largest ones take two to five minutes."""

    def can_miss(self, name: str) -> bool:
        """Whether `optional` names the module, by the kernel's name for it, in either spelling."""
        return name in {one.replace("-", "_") for one in self.optional}


@dataclass(frozen=True)
class GateSettings:
    """`[gate]`: what holds reboots back."""

    unattended: tuple[str, ...] = field(default=("safe", "fallback"), metadata={"choices": ("safe", "fallback")})
    """What a reboot without a person asks for."""
    trust_skipped: bool = False
    """Whether it may go by a verdict for which an essential check was not asked."""
    off: tuple[str, ...] = field(default=(), metadata={"choices": LEVERS})
    """Levers that are not used."""
    also: tuple[str, ...] = field(default=(), metadata={"choices": OPT_IN_LEVERS})
    """Levers that are used only where this names them."""
    recheck: str = field(default="1h", metadata={"duration": True})
    """How long `unknown` stands until it is judged anew: what was in the way, as a build, is over by then."""
    deadline: str = field(default="24h", metadata={"duration": True})
    """After which a machine that is not decided is told of loudly: within a working day somebody should look."""


@dataclass(frozen=True)
class HookSettings:
    """`[hooks]`: what package managers call."""

    preflight: str = field(default="warn", metadata={"choices": ("warn", "refuse", "off")})
    """What becomes of a transaction that would certainly harm the next boot, before it begins."""
    timeout_seconds: int = field(default=60, metadata={"least": 5, "most": 600})
    """How long a package manager waits for the check: that takes seconds, on a slow disk with large images twenty.
    `plugins/hook` reads this too, without Python, by its name: no other table may have such a key."""


@dataclass(frozen=True)
class SnapshotSettings:
    """`[snapshots]`: a way back."""

    policy: str = field(default="if-possible", metadata={"choices": ("required", "if-possible", "off")})
    """Whether the gate stays closed where none can be taken."""
    also: tuple[str, ...] = field(default=(), metadata={"choices": OPT_IN_SNAPSHOTS})
    """Back ends that are used only where this names them."""
    keep: int = field(default=6, metadata={"least": 2, "most": 100})
    """How many: an update has two, and each holds on to what updates since have replaced."""
    keep_days: int = field(default=30, metadata={"least": 1, "most": 3650})
    """After which one is removed: who goes back further loses more than he gains."""


@dataclass(frozen=True)
class Config:
    """All that is in force. `sources` names the file of every setting that is not built in, as `ledger.keep_days`."""

    findings: Mapping[str, Rule] = field(default_factory=dict)
    skipped: Mapping[str, Skip] = field(default_factory=dict)
    ledger: LedgerSettings = LedgerSettings()
    modules: ModuleSettings = ModuleSettings()
    gate: GateSettings = GateSettings()
    hooks: HookSettings = HookSettings()
    snapshots: SnapshotSettings = SnapshotSettings()
    sources: Mapping[str, str] = field(default_factory=dict)
    files: tuple[str, ...] = ()

    def skip(self, check: str) -> Skip | None:
        """Why a check is not asked, where it is not."""
        return self.skipped.get(check)

    def lowered(self, finding: Finding) -> Finding:
        """The finding as it is told here; a rule never makes one worse."""
        rule = self.findings.get(finding.id)
        if rule is None or _LEVELS.index(rule.level) <= _LEVELS.index(finding.level):
            return finding
        if not any(fnmatchcase(finding.subject, pattern) for pattern in rule.subjects):
            return finding
        return finding.at(rule.level, Lowered(finding.level, rule.reason, rule.source))


DEFAULTS = Config()
"""A machine on which nothing is configured."""


def load(machine: Machine) -> Config:
    """What the machine's own files say. Raises `ConfigError`, and `Unreadable` for a file that is for root only."""
    names = [name for name in machine.listdir(DROP_INS) if name.endswith(".toml") and not name.startswith(".")]
    files = [path for path in (MAIN, *(f"{DROP_INS}/{name}" for name in names)) if machine.exists(path)]
    config = replace(DEFAULTS, files=tuple(files))
    for path in files:
        config = _with(config, path, _toml(path, machine.read(path, limit=_SIZE_LIMIT)))
    return config


def in_force(machine: Machine) -> Config:
    """The same for what acts, and must go on: what is built in where the files have a mistake, which `check` tells."""
    try:
        return load(machine)
    except SafeupdateError:
        return DEFAULTS


SETTINGS = {
    "ledger": LedgerSettings,
    "modules": ModuleSettings,
    "gate": GateSettings,
    "hooks": HookSettings,
    "snapshots": SnapshotSettings,
}
_TABLES = ("checks", "findings", *SETTINGS)


def _with(config: Config, path: str, document: dict[str, Any]) -> Config:
    """The configuration with one more file on top."""
    for name, value in document.items():
        if name not in _TABLES:
            raise _mistake(path, name, "there is no such table", _allowed(name, _TABLES))
        if not isinstance(value, dict):
            raise _mistake(path, name, "this is a table", f"write it as [{name}]")
    findings, skipped, sources = dict(config.findings), dict(config.skipped), dict(config.sources)
    for name, value in document.get("findings", {}).items():
        findings[name] = _rule(path, name, value)
    for name, value in document.get("checks", {}).items():
        skip = _skip(path, name, value)
        skipped.pop(name, None)
        if skip is not None:
            skipped[name] = skip
    settings = {}
    for name in SETTINGS:
        settings[name] = _settings(path, name, document.get(name, {}), getattr(config, name))
        sources.update({f"{name}.{key}": path for key in document.get(name, {})})
    return Config(findings, skipped, sources=sources, files=config.files, **settings)


def _rule(path: str, name: str, value: Any) -> Rule:
    where = f'findings."{name}"'
    # `no-kernel` is no check's finding: without a kernel there is nothing to judge, whatever is configured.
    known = [one for one in _catalogue() if "." in one]
    if name not in known:
        unquoted = [one for one in value if f"{name}.{one}" in known] if isinstance(value, dict) else []
        if unquoted:
            raise _mistake(path, where, "a dot divides this name", f'write it as [findings."{name}.{unquoted[0]}"]')
        of_check = [one for one in known if one.partition(".")[0] == name.partition(".")[0]]
        raise _mistake(path, where, "there is no such finding", _allowed(name, of_check or known))
    table = _table(path, where, value, {"level": str, "reason": str, "subjects": list}, ("level", "reason"))
    if table["level"] not in _LEVELS:
        raise _mistake(path, f"{where}.level", f"{table['level']!r} is no level", _allowed(table["level"], _LEVELS))
    subjects = table.get("subjects", ["*"])
    if not subjects or not all(isinstance(subject, str) for subject in subjects):
        raise _mistake(path, f"{where}.subjects", "this is a list of patterns", 'as in subjects = ["/srv/*"]')
    return Rule(table["level"], table["reason"], tuple(subjects), path)


def _skip(path: str, name: str, value: Any) -> Skip | None:
    where = f"checks.{name}"
    checks = sorted({one.partition(".")[0] for one in _catalogue() if "." in one})
    if name not in checks:
        raise _mistake(path, where, "there is no such check", _allowed(name, checks))
    table = _table(path, where, value, {"skip": bool, "reason": str}, ("skip",))
    if not table["skip"]:
        return None
    if "reason" not in table:
        raise _mistake(path, f"{where}.reason", "this is missing", "the report shows the reason beside what is skipped")
    return Skip(table["reason"], path)


def _settings(path: str, section: str, table: dict[str, Any], before: Any) -> Any:
    """A section's settings, over those of the files before."""
    known = {one.name: one for one in fields(before)}
    values = {name: getattr(before, name) for name in known}
    for name, value in table.items():
        where = f"{section}.{name}"
        if name not in known:
            raise _mistake(path, where, "there is no such setting", _allowed(name, known))
        # In Python, but not here, true is a number.
        kind = list if isinstance(values[name], tuple) else type(values[name])
        if type(value) is not kind:
            raise _mistake(path, where, f"{value!r} will not do", f"this is {_KINDS[kind]}")
        if isinstance(value, list):
            if not all(isinstance(one, str) and one.strip() for one in value):
                raise _mistake(path, where, f"{value!r} will not do", "this is a list of texts in quotes")
            value = tuple(value)
            choices = known[name].metadata.get("choices", value)
            for one in value:
                if one not in choices:
                    raise _mistake(path, where, f"{one!r} will not do", _allowed(one, choices))
        elif value not in known[name].metadata.get("choices", (value,)):
            raise _mistake(path, where, f"{value!r} will not do", _allowed(value, known[name].metadata["choices"]))
        if "duration" in known[name].metadata:
            try:
                seconds(value)
            except ValueError:
                raise _mistake(
                    path, where, f"{value!r} will not do", "this is a duration, as 90s, 5min, 1h or 2d"
                ) from None
        least, most = (known[name].metadata.get(end) for end in ("least", "most"))
        if least is not None and not least <= value <= most:
            raise _mistake(path, where, f"{value} will not do", f"allowed: {least} to {most}")
        values[name] = value
    return type(before)(**values)


_KINDS = {str: "a text in quotes", bool: "true or false", int: "a whole number", list: "a list in [ ]"}


def _table(path: str, where: str, value: Any, kinds: dict[str, type], needed: tuple[str, ...]) -> dict[str, Any]:
    """A table with these keys only, each of its kind; a text says something."""
    if not isinstance(value, dict):
        raise _mistake(path, where, "this is a table", f"write it as [{where}]")
    for key, content in value.items():
        if key not in kinds:
            raise _mistake(path, f"{where}.{key}", "there is no such key", _allowed(key, kinds))
        if type(content) is not kinds[key]:
            raise _mistake(path, f"{where}.{key}", f"{content!r} will not do", f"this is {_KINDS[kinds[key]]}")
        if isinstance(content, str) and not content.strip():
            raise _mistake(
                path, f"{where}.{key}", "this is empty", "the report shows the reason beside what it changes"
            )
    for key in needed:
        if key not in value:
            raise _mistake(path, f"{where}.{key}", "this is missing", f"needed here: {', '.join(needed)}")
    return value


def _toml(path: str, data: bytes) -> dict[str, Any]:
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    try:
        return tomllib.loads(data.decode("utf-8"))
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{path}, line {line}: this is not UTF-8", "TOML files are written in UTF-8") from None
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ConfigError(f"{path}: this is not TOML: {error}", "https://toml.io describes the format") from None


def _catalogue() -> tuple[str, ...]:
    with open(CATALOGUE, encoding="ascii") as file:
        return tuple(line.split()[0] for line in file if line.strip())


def _allowed(given: str, names: Any) -> str:
    near = difflib.get_close_matches(given, names, 1)
    allowed = f"allowed: {', '.join(sorted(names))}"
    return f"did you mean {near[0]}? {allowed}" if near else allowed


def _mistake(path: str, key: str, what: str, hint: str) -> ConfigError:
    return ConfigError(f"{path}: {key}: {what}", hint)
