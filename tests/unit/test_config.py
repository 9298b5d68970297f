from __future__ import annotations

import json
import re
from dataclasses import fields
from pathlib import Path

import pytest

from safeupdate import config
from safeupdate.cli import main
from safeupdate.config import DROP_INS, MAIN, SETTINGS, Config, ConfigError, ModuleSettings
from safeupdate.judge import judge
from safeupdate.machine import Machine
from safeupdate.render.config import render
from safeupdate.render.json import render as render_json
from safeupdate.render.text import render as render_text
from safeupdate.report import blocker, note, unknown
from tests.unit.test_cli import FILES
from tests.unit.trees import INITRD, Content, tree

CUT = '[findings."initramfs.truncated"]\nlevel = "warning"\nreason = "a test image"\n'


def loaded(root: Path, *files: str) -> Config:
    """The configuration of a main file and, after it, of drop-ins."""
    names = [MAIN, *(f"{DROP_INS}/{number}0.toml" for number in range(1, len(files)))]
    return config.load(tree(root, dict(zip(names, files))))


def mistake(root: Path, text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        loaded(root, text)
    return f"{caught.value} | {caught.value.hint}"


def test_nothing_is_configured(tmp_path: Path) -> None:
    assert config.load(Machine.tree(str(tmp_path))) == Config()


def test_a_finding_is_lowered_and_says_why(tmp_path: Path) -> None:
    lowered = loaded(tmp_path, CUT).lowered(blocker("initramfs.truncated", "/boot/i", "It is cut.", "It panics."))
    assert lowered.level == "warning"
    assert lowered.lowered is not None
    assert (lowered.lowered.level, lowered.lowered.reason, lowered.lowered.source) == ("blocker", "a test image", MAIN)
    assert not lowered.baseline


def test_no_finding_is_made_worse(tmp_path: Path) -> None:
    one = note("initramfs.truncated", "/boot/i", "It is cut.")
    assert loaded(tmp_path, CUT).lowered(one) is one


def test_a_later_file_takes_a_rule_back(tmp_path: Path) -> None:
    rules = loaded(tmp_path, CUT, CUT.replace('"warning"', '"blocker"'))
    one = blocker("initramfs.truncated", "/boot/i", "It is cut.", "It panics.")
    assert rules.lowered(one) is one


def test_only_what_is_named_is_lowered(tmp_path: Path) -> None:
    rules = loaded(tmp_path, CUT + 'subjects = ["/boot/old-*", "/boot/x"]\n')
    levels = [
        rules.lowered(blocker(name, subject, "", "")).level
        for name, subject in (
            ("initramfs.truncated", "/boot/old-1"),
            ("initramfs.truncated", "/boot/x"),
            ("initramfs.truncated", "/boot/new"),
            ("initramfs.empty", "/boot/x"),
        )
    ]
    assert levels == ["warning", "warning", "blocker", "blocker"]


def test_an_unknown_can_be_lowered_too(tmp_path: Path) -> None:
    rules = loaded(tmp_path, CUT.replace('"warning"', '"note"'))
    assert rules.lowered(unknown("initramfs.truncated", "", "", "")).level == "note"


def test_a_later_file_wins_rule_by_rule(tmp_path: Path) -> None:
    both = loaded(
        tmp_path,
        CUT + '[checks.mounts]\nskip = true\nreason = "one"\n[ledger]\nkeep_days = 10\n',
        CUT.replace("a test image", "the second"),
        "[checks.mounts]\nskip = false\n[ledger]\nkeep_days = 20\n",
    )
    assert both.findings["initramfs.truncated"].reason == "the second"
    assert both.findings["initramfs.truncated"].source == f"{DROP_INS}/10.toml"
    assert both.skip("mounts") is None
    assert both.ledger.keep_days == 20
    assert both.sources == {"ledger.keep_days": f"{DROP_INS}/20.toml"}


def test_only_toml_files_are_read_and_in_the_order_of_their_names(tmp_path: Path) -> None:
    days = "[ledger]\nkeep_days = {}\n"
    files: dict[str, Content] = {
        f"{DROP_INS}/b.toml": days.format(2),
        f"{DROP_INS}/a.toml": days.format(1),
        f"{DROP_INS}/z.toml.dpkg-dist": "[",
        f"{DROP_INS}/.c.toml": "[",
    }
    read = config.load(tree(tmp_path, files))
    assert read.ledger.keep_days == 2
    assert read.files == (f"{DROP_INS}/a.toml", f"{DROP_INS}/b.toml")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[findngs]\n", "findngs: there is no such table | did you mean findings?"),
        ("findings = 1\n", "findings: this is a table | write it as [findings]"),
        (
            CUT.replace("truncated", "truncatd"),
            'findings."initramfs.truncatd": there is no such finding | did you mean initramfs.truncated?',
        ),
        ('[findings."x.y"]\n', 'findings."x.y": there is no such finding | allowed: '),
        ('[findings."no-kernel"]\n', 'findings."no-kernel": there is no such finding | allowed: '),
        ("[findings.initramfs.truncated]\n", 'divides this name | write it as [findings."initramfs.truncated"]'),
        ('[findings]\n"initramfs.truncated" = "note"\n', "this is a table | write it as [findings."),
        (CUT.replace('"warning"', '"warn"'), "'warn' is no level | did you mean warning? allowed: blocker, note, "),
        (CUT.replace('"warning"', "3"), "level: 3 will not do | this is a text in quotes"),
        (CUT.replace("reason", "raeson"), "raeson: there is no such key | did you mean reason?"),
        (CUT.replace("a test image", " "), "reason: this is empty"),
        ('[findings."initramfs.truncated"]\nlevel = "note"\n', "reason: this is missing | needed here: level, reason"),
        (CUT + "subjects = [1]\n", "subjects: this is a list of patterns"),
        (CUT + "subjects = []\n", "subjects: this is a list of patterns"),
        ("[checks.mount]\nskip = true\n", "checks.mount: there is no such check | did you mean mounts?"),
        ("[checks.mounts]\nskip = true\n", "checks.mounts.reason: this is missing"),
        ("[checks.mounts]\nskip = 1\n", "checks.mounts.skip: 1 will not do | this is true or false"),
        ("[checks]\nmounts = true\n", "checks.mounts: this is a table"),
        ("[ledger]\nkeep = 3\n", "ledger.keep: there is no such setting | did you mean keep_days?"),
        ("[ledger]\nkeep_days = 0\n", "ledger.keep_days: 0 will not do | allowed: 1 to 36500"),
        ("[ledger]\nkeep_days = true\n", "ledger.keep_days: True will not do | this is a whole number"),
        ('[modules]\noptional = "zfs"\n', "modules.optional: 'zfs' will not do | this is a list in [ ]"),
        ("[modules]\noptional = [1]\n", "modules.optional: [1] will not do | this is a list of texts in quotes"),
        ('[gate]\noff = ["boot-defalt"]\n', "gate.off: 'boot-defalt' will not do | did you mean boot-default?"),
        ('[gate]\nalso = ["molly-guard"]\n', "gate.also: 'molly-guard' will not do | allowed: inhibitor"),
        ('[gate]\nunattended = ["safely"]\n', "'safely' will not do | did you mean safe? allowed: fallback, safe"),
        ('[gate]\nrecheck = "1"\n', "gate.recheck: '1' will not do | this is a duration, as 90s, 5min, 1h or 2d"),
        ('[gate]\ndeadline = "0h"\n', "gate.deadline: '0h' will not do | this is a duration"),
        ("[ledger\n", "this is not TOML: "),
        ("a = " + "[" * 5000, "this is not TOML: "),
    ],
)
def test_a_mistake_names_file_key_and_what_is_allowed(tmp_path: Path, text: str, expected: str) -> None:
    told = mistake(tmp_path, text)
    assert told.startswith(MAIN)
    assert expected in told


def test_a_syntax_error_names_the_line(tmp_path: Path) -> None:
    assert "line 3" in mistake(tmp_path, "[ledger]\n\nkeep_days = = 3\n")
    with pytest.raises(ConfigError, match=f"{MAIN}, line 2: this is not UTF-8"):
        config.load(tree(tmp_path / "other", {MAIN: b"[ledger]\n# \xff\n"}))


def test_what_is_shown_reads_back_as_the_same(tmp_path: Path) -> None:
    text = CUT.replace("a test image", 'a \\"test\\" \\\\ image ä ü\\u007f') + 'subjects = ["/boot/*"]\n'
    one = loaded(
        tmp_path / "one",
        text,
        '[checks.mounts]\nskip = true\nreason = "no"\n[ledger]\nkeep_days = 7\n[modules]\noptional = ["a"]\n',
    )
    shown = render(one)
    two = loaded(tmp_path / "two", shown)
    assert {name: (rule.level, rule.reason, rule.subjects) for name, rule in two.findings.items()} == {
        "initramfs.truncated": ("warning", 'a "test" \\ image ä ü\x7f', ("/boot/*",))
    }
    assert two.skipped["mounts"].reason == "no"
    assert two.ledger == one.ledger
    assert two.modules == one.modules == ModuleSettings(optional=("a",))
    assert f"keep_days = 7               # {DROP_INS}/10.toml".replace("               #", "                #") in shown


def test_the_verb_shows_where_it_comes_from(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tree(tmp_path, {MAIN: CUT})
    assert main(["config", "show", "--root", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    assert f'[findings."initramfs.truncated"] # {MAIN}\nlevel = "warning"\nsubjects = ["*"]\n' in shown
    assert "# built in\n" in shown


def test_a_mistake_is_a_usage_error_of_every_verb(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tree(tmp_path, {MAIN: "[ledger]\nkeep = 3\n"})
    for verb in (["check"], ["config", "show"]):
        assert main([*verb, "--root", str(tmp_path)]) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert err.startswith(f"safeupdate: {MAIN}: ledger.keep: there is no such setting\n  did you mean keep_days?")


def test_the_report_shows_what_was_lowered_and_skipped(tmp_path: Path) -> None:
    machine = tree(tmp_path, {**FILES, INITRD: b"", MAIN: '[checks.mounts]\nskip = true\nreason = "no fstab here"\n'})
    tree(tmp_path, {f"{DROP_INS}/1.toml": CUT.replace("truncated", "empty").replace("warning", "note")})
    report = judge(machine, config=config.load(machine))
    results = {result.id: result for result in report.checks}
    assert (results["mounts"].outcome, results["mounts"].findings) == ("skipped", ())
    assert results["initramfs"].outcome == "passed"
    text = " ".join(render_text(report).split())
    assert f"Skipped: mounts (no fstab here; {MAIN})." in text
    assert f"Lowered from blocker: a test image ({DROP_INS}/1.toml)" in text
    written = {result["id"]: result for result in json.loads(render_json(report))["checks"]}
    (finding,) = written["initramfs"]["findings"]
    assert finding["lowered"] == {"from": "blocker", "reason": "a test image", "source": f"{DROP_INS}/1.toml"}
    assert {one.id: one.outcome for one in judge(machine).checks}["initramfs"] == "failed"


PAGE = Path(__file__).parents[2] / "docs" / "configuration.md"


def test_every_example_of_the_page_is_valid(tmp_path: Path) -> None:
    examples = re.findall(r"```toml\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    assert len(examples) == 2
    for number, text in enumerate(examples):
        loaded(tmp_path / str(number), text)


def test_the_screen_of_the_page_is_what_the_verb_prints(tmp_path: Path) -> None:
    (screen,) = re.findall(r"\$ safeupdate config show\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    lower, skip = re.findall(r"```toml\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    machine = tree(tmp_path, {MAIN: lower, f"{DROP_INS}/50-site.toml": skip})
    assert render(config.load(machine)) == screen


def test_every_setting_is_in_the_page() -> None:
    page = PAGE.read_text("utf-8")
    for section, settings in SETTINGS.items():
        for one in fields(settings):
            assert f"| `{section}.{one.name}` | `{json.dumps(one.default)}` |" in page
