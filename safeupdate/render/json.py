"""The report as JSON, format 1. Its schema is `report.schema.json` beside this file."""

from __future__ import annotations

import json
from typing import Any

from safeupdate.render import plain
from safeupdate.report import CheckResult, Finding, Report

FORMAT = 1


def render(report: Report) -> str:
    """The whole document, one final newline. Bytes that were not UTF-8 stand in it as `\\xNN`."""
    return json.dumps(_plain(_document(report)), indent=2, ensure_ascii=False) + "\n"


def _document(report: Report) -> dict[str, Any]:
    machine, target, fallback = report.machine, report.target, report.fallback
    return {
        "format": FORMAT,
        "safeupdate": report.version,
        "time": report.time,
        "machine": {
            "root": machine.root,
            "distribution": machine.distribution,
            "architecture": machine.architecture,
            "firmware": machine.firmware,
            "secure_boot": machine.secure_boot,
            "running_kernel": machine.running_kernel,
        },
        "target": {
            "kernel": target.kernel,
            "loader": target.loader,
            "entry": target.entry,
            "title": target.title,
            "why": target.why,
            "actual_next": target.actual_next,
            "actual_kernel": target.actual_kernel,
        },
        "fallback": {
            "kernel": fallback.kernel,
            "entry": fallback.entry,
            "quality": fallback.quality,
            "recovery": fallback.recovery,
        },
        "verdict": report.verdict,
        "boot_path": list(report.boot_path),
        "checks": [_check(result) for result in report.checks],
        "fingerprint": dict(report.fingerprint),
        "warnings": list(report.warnings),
    }


def _check(result: CheckResult) -> dict[str, Any]:
    return {
        "id": result.id,
        "title": result.title,
        "outcome": result.outcome,
        "reason": result.reason,
        "essential": result.essential,
        "seconds": round(result.seconds, 3),
        "findings": [_finding(finding) for finding in result.findings],
    }


def _finding(finding: Finding) -> dict[str, Any]:
    return {
        "id": finding.id,
        "level": finding.level,
        "subject": finding.subject,
        "problem": finding.problem,
        "consequence": finding.consequence,
        "evidence": list(finding.evidence),
        "remedy": {"text": finding.remedy.text, "commands": [list(command) for command in finding.remedy.commands]},
        "baseline": finding.baseline,
        "lowered": None
        if finding.lowered is None
        else {"from": finding.lowered.level, "reason": finding.lowered.reason, "source": finding.lowered.source},
    }


def _plain(value: Any) -> Any:
    if isinstance(value, str):
        return plain(value)
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return value
