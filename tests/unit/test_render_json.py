from __future__ import annotations

import json
from dataclasses import replace
from importlib.resources import files
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from safeupdate.render.json import render
from safeupdate.report import CheckResult, Remedy, Report, blocker
from tests.unit.reports import EMPTY, FULL

SCHEMA: dict[str, Any] = json.loads((files("safeupdate.render") / "report.schema.json").read_text(encoding="utf-8"))


def document(report: Report) -> Any:
    text = render(report)
    assert text.endswith("}\n")
    parsed = json.loads(text)
    jsonschema.validate(parsed, SCHEMA, format_checker=jsonschema.FormatChecker())
    return parsed


def test_the_schema_is_one_and_is_open() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    parsed = document(FULL)
    parsed["later"] = parsed["target"]["later"] = parsed["checks"][0]["findings"][0]["later"] = 1
    jsonschema.validate(parsed, SCHEMA)


def test_the_whole_report() -> None:
    parsed = document(FULL)
    assert parsed["format"] == 1
    assert parsed["safeupdate"] == "1.2.3"
    assert parsed["verdict"] == "unsafe"
    assert parsed["target"]["kernel"] == "6.1.0-51-amd64"
    assert parsed["fallback"] == {
        "kernel": "6.1.0-50-amd64",
        "entry": "old",
        "quality": "booted-before",
        "recovery": "manual",
    }
    first = parsed["checks"][0]
    assert (first["outcome"], first["seconds"], first["reason"]) == ("failed", 0.123, None)
    assert first["findings"][2]["remedy"]["commands"] == [["apt-get", "install", "--reinstall", "linux image"]]
    assert parsed["checks"][3]["reason"] == "no entry is known"


def test_nothing_known() -> None:
    parsed = document(EMPTY)
    assert parsed["machine"]["secure_boot"] is None
    assert parsed["checks"] == []


@pytest.mark.parametrize(
    ("key", "value"),
    [("verdict", "maybe"), ("format", 2), ("checks", None), ("time", None), ("machine", {}), ("fallback", {})],
)
def test_the_schema_refuses(key: str, value: object) -> None:
    parsed = document(FULL)
    parsed[key] = value
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(parsed, SCHEMA)


def _with(text: str) -> Report:
    finding = blocker("a.b", text, text, text, evidence=[text], remedy=Remedy(text, ((text, text),)))
    check = CheckResult("a", text, True, "failed", (finding,), reason=text)
    target = replace(FULL.target, kernel=text, entry=text, title=text, why=text)
    return replace(FULL, checks=(check,), target=target, boot_path=(text,))


def test_bytes_that_are_not_utf8() -> None:
    text = b"caf\xe9 \xff".decode("utf-8", "surrogateescape") + "\ud83d \x1b[2J\n\u202e"
    parsed = document(_with(text))
    assert parsed["target"]["title"] == "caf\\xe9 \\xff\\ud83d \x1b[2J\n\u202e"


@given(st.text(st.characters(), max_size=20))
@settings(deadline=None)
def test_any_text(text: str) -> None:
    render(_with(text)).encode("utf-8")
    document(_with(text))
