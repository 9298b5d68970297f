"""What a sourced file has set, held against bash itself: whatever is told must be so."""

from __future__ import annotations

import shlex
import shutil
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest

from safeupdate.errors import FormatError
from safeupdate.formats import bash, bash_grammar
from safeupdate.formats.bash import Value

RELEASE = "6.1.0-50-amd64"
SOURCE = "/nowhere/build"
GIVEN = {"kernelver": RELEASE, "kernel_source_dir": SOURCE, "arch": "x86_64", "empty": ""}
OPTIONS = {"CONFIG_A": "y", "CONFIG_M": "m", "CONFIG_TEXT": "a b"}
NAMES = ("A", "B", "C", "i")
UNSET = frozenset(NAMES)

needs_bash = pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")


def shell_after(text: str, *, options: dict[str, str] | None = None) -> bash.Shell:
    shell = bash.Shell(GIVEN, unset=UNSET, options=options, option_files=(f"{SOURCE}/.config",))
    shell.source(bash_grammar.program(text.encode()))
    return shell


def told(text: str, *, options: dict[str, str] | None = None) -> dict[str, Value]:
    """Every element, as `A[0]`; None where a variable may have more."""
    shell = shell_after(text, options=options)
    found: dict[str, Value] = {}
    for name in NAMES:
        found.update((f"{name}[{index}]", value) for index, value in shell.values.get(name, {}).items())
        if name in shell.unsure:
            found[f"{name}[?]"] = None
    return found


_PRINT = r"""
for name in A B C i; do
    eval "for index in \"\${!$name[@]}\"; do printf '%s[%s]=%s\0' $name \$index \"\${$name[\$index]}\"; done"
done
"""


def set_by_bash(text: str, directory: Path, *, options: dict[str, str] | None = None) -> dict[str, str]:
    source = directory / "build"
    source.mkdir()
    if options is not None:
        (source / ".config").write_text("".join(f"{name}={shlex.quote(value)}\n" for name, value in options.items()))
    file = directory / "file"
    file.write_bytes(text.encode())
    given = "".join(f"{name}='{value}'\n" for name, value in {**GIVEN, "kernel_source_dir": str(source)}.items())
    script = f"{given}unset A B C i\n. {file} >/dev/null 2>&1 </dev/null\n{_PRINT}"
    done = subprocess.run(["bash", "-c", script], capture_output=True, timeout=20, check=False, cwd=directory)
    lines = done.stdout.decode().replace(str(source), SOURCE).split("\0")[:-1]
    return dict(line.split("=", 1) for line in lines)


KNOWN = {
    "A=1": {"A[0]": "1"},
    "A=1 # B=2": {"A[0]": "1"},
    "A=1#2": {"A[0]": "1#2"},
    "A='$B \"x\"'": {"A[0]": '$B "x"'},
    'A="a\\"b\\$c\\x"': {"A[0]": 'a"b$c\\x'},
    "A=a\\ b\\#c": {"A[0]": "a b#c"},
    'A="a \\\nb"': {"A[0]": "a b"},
    "A=a\\\nb": {"A[0]": "ab"},
    "A=a'b'\"c\"$empty": {"A[0]": "abc"},
    'A=$"translated"': {"A[0]": "translated"},
    "A=$'plain'": {"A[0]": "plain"},
    "A=1; B=$A-${A}x": {"A[0]": "1", "B[0]": "1-1x"},
    'A="$kernelver/$kernel_source_dir"': {"A[0]": f"{RELEASE}/{SOURCE}"},
    'A="$"; B=a$': {"A[0]": "$", "B[0]": "a$"},
    "A=${empty:-${arch}}; B=${arch:-x}; C=${empty:+x}${arch:+y}": {"A[0]": "x86_64", "B[0]": "x86_64", "C[0]": "y"},
    "A=1\nA+=2\nA[3]+=x\nA[3]+=y": {"A[0]": "12", "A[3]": "xy"},
    "A=(a 'b c' \"$arch\")\nA+=(d)": {"A[0]": "a", "A[1]": "b c", "A[2]": "x86_64", "A[3]": "d"},
    "A=([2]=x y [0]=z) # comment": {"A[2]": "x", "A[3]": "y", "A[0]": "z"},
    "A=(\n  a # one\n  b\n)": {"A[0]": "a", "A[1]": "b"},
    "B='x y'; A=($B z)": {"B[0]": "x y", "A[0]": "x", "A[1]": "y", "A[2]": "z"},
    "A=(a b); A=c": {"A[0]": "c", "A[1]": "b"},
    "A=(a b); A=()": {},
    "A=(a b c); B=${A[1]}; C=${#A[@]}; i=${A[*]}": {
        **{f"A[{index}]": letter for index, letter in enumerate("abc")},
        "B[0]": "b",
        "C[0]": "3",
        "i[0]": "a b c",
    },
    "A[${#A[@]}]=x; A[${#A[@]}]=y": {"A[0]": "x", "A[1]": "y"},
    "i=0; A[$i]=x; i=$((i+1)); A[$i]=y; ((i++)); A[i]=z": {"i[0]": "2", "A[0]": "x", "A[1]": "y", "A[2]": "z"},
    "i=1; A[i++]=x; A[++i]=y; ((i+=2)); ((i-=1))": {"i[0]": "4", "A[1]": "x", "A[3]": "y"},
    "i=5; A=$((i - 2 + 10))": {"i[0]": "5", "A[0]": "13"},
    "A=1; unset A; B=2": {"B[0]": "2"},
    "export A=1 B=2; declare -a C=(x y)": {"A[0]": "1", "B[0]": "2", "C[0]": "x", "C[1]": "y"},
    "true && A=1 || A=2": {"A[0]": "1"},
    "false && A=1 || A=2": {"A[0]": "2"},
    "! false && A=1": {"A[0]": "1"},
    'if [ -n "$arch" ] && [ x = x ]; then A=1; else A=2; fi': {"A[0]": "1"},
    "if [ -z $empty ]; then A=1; elif true; then A=2; fi": {"A[0]": "1"},
    'if [ "$arch" != x86_64 -o 3 -lt 2 ]; then A=1; elif [ 2 -ge 2 -a ! 1 -eq 2 ]; then A=2; fi': {"A[0]": "2"},
    "if [[ $kernelver == 6.* && ( $arch = x86_64 || $arch = y ) ]]; then A=1; fi": {"A[0]": "1"},
    'if [[ $kernelver == "6.*" ]]; then A=1; else A=2; fi': {"A[0]": "2"},
    "if [[ $kernelver =~ ^6\\.[0-9]+(\\.|$) ]]; then A=1; fi": {"A[0]": "1"},
    "B='^5'; if [[ ! $kernelver =~ $B ]]; then A=1; fi": {"B[0]": "^5", "A[0]": "1"},
    "if [[ 5.1 < 5.2 && ! 2 < 1 ]]\nthen A=1\nfi": {"A[0]": "1"},
    "exec 3>/dev/null; A=1": {"A[0]": "1"},
    "case $arch in i?86) A=1;; x86*|y) A=2;; *) A=3;; esac": {"A[0]": "2"},
    'case $kernelver in\n  ("6.*") A=1 ;;\n  *)\n    A=2\nesac': {"A[0]": "2"},
    "{ A=1; }; (A=2; B=3); A=4 | cat": {"A[0]": "1"},
    "A=1 >/dev/null 2>&1": {"A[0]": "1"},
    "if { echo $kernelver; echo 5.18; } | sort -V -C; then A=1; else A=2; fi": {"A[0]": "2"},
    'if ! { echo "6.1.0"; echo "6.12"; } | sort -V -C ; then A=1; else A=2; fi': {"A[0]": "2"},
    "cat <<EOF\nA=1\nEOF\nB=2": {"B[0]": "2"},
    "cat <<-'END' >/dev/null\n\tA=1 ' \"\n\tEND\nB=2": {"B[0]": "2"},
    "cat <<< A=1; B=2": {"B[0]": "2"},
    "function f { A=1; }\ng() {\n  A=2\n}\nB=1": {"B[0]": "1"},
    "A=1\nreturn 0\nA=2": {"A[0]": "1"},
    "A=1 env; B=$A": {"B[0]": ""},
    "A=1 $empty": {"A[0]": "1"},
    "A=1 & B=2; wait": {"B[0]": "2"},
    "A=${arch:=x}": {"A[0]": "x86_64"},
}
"""Files of which everything is told, and what they set."""


@needs_bash
@pytest.mark.parametrize("text", list(KNOWN))
def test_what_is_known(text: str, tmp_path: Path) -> None:
    assert KNOWN[text] == set_by_bash(text, tmp_path)
    assert told(text) == KNOWN[text]


NOT_KNOWN: dict[str, dict[str, Value]] = {
    "A=$(echo x); B=`echo x`; C=y": {"A[0]": None, "B[0]": None, "C[0]": "y"},
    "A=\"x $(case a in a) echo ')';; esac) y\"": {"A[0]": None},
    "A=$HOME; B=${UNSET_HERE:-x}": {"A[0]": None, "B[0]": None},
    "A=${arch%_64}; B=${arch/x/y}; C=${arch^^}": {"A[0]": None, "B[0]": None, "C[0]": None},
    "A=1; if [ -d /nowhere ]; then A=2; B=3; fi; C=$A": {"A[0]": None, "B[0]": None, "C[0]": None},
    "A=1; if [ -d /nowhere ]; then A=1; fi": {"A[0]": "1"},
    "ls /nowhere && A=1 || B=2": {"A[0]": None, "B[0]": None},
    "A=x; [ -d /nowhere ] || return; A=y; B=z": {"A[0]": None, "B[0]": None},
    "for i in 1 2; do A[$i]=x; B=1; done; C=1": {"A[?]": None, "B[0]": None, "i[?]": None, "C[0]": "1"},
    "i=0; while [ $i -lt 3 ]; do A[$i]=x; i=$((i+1)); done": {"A[?]": None, "i[0]": None},
    "A=(a $(echo b c) d)": {"A[0]": "a", "A[1]": None, "A[?]": None},
    'A=(a "$(echo b c)" d)': {"A[0]": "a", "A[1]": None, "A[2]": "d"},
    "i=$(echo 2); A[0]=x; A[$i]=y": {"i[0]": None, "A[?]": None},
    "i=$(echo 0); A[0]=x; A[$i]=y; A[1]=z": {"i[0]": None, "A[1]": "z", "A[?]": None},
    "A=(x{1,2} y); B=x{1,2}": {"A[0]": None, "A[?]": None, "B[0]": "x{1,2}"},
    "A=(/etc/pass* y); B=/etc/pass*": {"A[0]": None, "A[?]": None, "B[0]": "/etc/pass*"},
    "A=~/x; B=x:~; C=1~2": {"A[0]": None, "B[0]": None, "C[0]": "1~2"},
    "IFS=:; B=a:b; A=($B c)": {"B[0]": "a:b", "A[0]": None, "A[?]": None},
    "A=1; (( 1 && (A = 3) ))": {"A[?]": None},
    "A=1; B=$(( C = 2, 3 ))": {"A[0]": "1", "B[0]": None, "C[0]": None},
    "A=${B:=x}; C=${A:=y}": {"B[?]": None, "C[0]": None, "A[?]": None},
    "declare -i A; A=1+2": {"A[0]": None, "A[?]": None, "B[?]": None, "C[?]": None, "i[?]": None},
    "A=(1 2 3); unset 'A[1]'": {"A[?]": None},
    "f() { :; }; f=1; A=1; unset -f f": {"A[?]": None, "B[?]": None, "C[?]": None, "i[?]": None},
    "A=1; eval A=2; B=3": {"A[?]": None, "B[?]": None, "C[?]": None, "i[?]": None, "B[0]": "3"},
    "f() { A=2; }; A=1; f; B=3": {"A[?]": None, "B[?]": None, "C[?]": None, "i[?]": None, "B[0]": "3"},
    "A=1; read A B < /dev/null; C=1": {"A[?]": None, "B[?]": None, "C[0]": "1"},
    "A=1; printf -v A x": {"A[?]": None},
    "A=$((010)); B=$((1 * 2))": {"A[0]": None, "B[0]": None},
    "if [[ a < B ]]; then A=1; fi": {"A[0]": None},
    "case $HOME in /root) A=1;; *) A=2;; esac": {"A[0]": None},
    "if [[ $kernelver =~ (a)\\1 ]]; then A=1; fi": {"A[0]": None},
}
"""Files of which not all is told."""


@needs_bash
@pytest.mark.parametrize("text", list(NOT_KNOWN))
def test_what_only_bash_can_compute(text: str, tmp_path: Path) -> None:
    found = told(text)
    assert found == NOT_KNOWN[text]
    held_against_bash(found, set_by_bash(text, tmp_path))


def held_against_bash(found: dict[str, Value], real: dict[str, str]) -> None:
    for key, value in found.items():
        if value is not None:
            assert real.get(key, "") == value, key
    for key in real:
        assert key in found or f"{key.partition('[')[0]}[?]" in found, f"{key} was not seen to be set"


ASKED: dict[str, dict[str, Value]] = {
    "if [ -f $kernel_source_dir/.config ]; then A=1; fi": {"A[0]": "1"},
    ". $kernel_source_dir/.config\nA=$CONFIG_A B=${CONFIG_N:-n} C=$CONFIG_TEXT": {
        "A[0]": "y",
        "B[0]": "n",
        "C[0]": "a b",
    },
    'source "$kernel_source_dir/.config"; if [ "${CONFIG_M:-n}" = "n" ]; then A=1; else B=1; fi': {"B[0]": "1"},
    "if [[ -n $CONFIG_A ]]; then A=1; else A=2; fi": {"A[0]": None},
    'if grep -q "^CONFIG_A=[ym]" $kernel_source_dir/.config; then A=1; else A=2; fi': {"A[0]": "1"},
    'if ! grep -qE "^CONFIG_N=[my]$" $kernel_source_dir/.config 2>/dev/null ; then A=1; fi': {"A[0]": "1"},
    'grep -q "^CONFIG_TEXT=" $kernel_source_dir/.config && A=1': {"A[0]": "1"},
    'grep -q "CONFIG_N=" $kernel_source_dir/.config || B=1': {"B[0]": "1"},
    'grep -qv "^CONFIG_A=y" $kernel_source_dir/.config && A=1': {"A[0]": None},
    'grep -q "^CONFIG_A=(y|m)" $kernel_source_dir/.config && A=1': {"A[0]": None},
    "grep -q CONFIG_M=y $kernel_source_dir/.config && A=1 || A=2": {"A[0]": "2"},
    "grep CONFIG_.*=y $kernel_source_dir/.config && A=1 || A=2": {"A[0]": None},
}


@needs_bash
@pytest.mark.parametrize("text", list(ASKED))
def test_the_kernels_configuration(text: str, tmp_path: Path) -> None:
    found = told(text, options=OPTIONS)
    assert found == ASKED[text]
    if None not in ASKED[text].values() or "grep" in text:
        held_against_bash(found, set_by_bash(text, tmp_path, options=OPTIONS))


@pytest.mark.parametrize("text", [text for text in ASKED if "A[0]" in ASKED[text] or "B[0]" in ASKED[text]])
def test_without_the_kernels_configuration_nothing_hangs_on_it(text: str) -> None:
    assert set(told(text).values()) == {None}


@needs_bash
@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("A=1\nB='x\n", 2),
        ('A=1\n\nB="x\n\n', 3),
        ("A=$(echo x\n", 2),
        ("if true; then\nA=1\n", 3),
        ("A=${B\n", 2),
        ("fi\n", 1),
        ("A=1 )\n", 1),
        ("[[ a = b\n", 2),
        ("A=1\nfor i in a | b; do A=2; done\n", 2),
        ("case a in\nb) A=1\n", 3),
    ],
)
def test_what_bash_does_not_read(text: str, line: int, tmp_path: Path) -> None:
    (tmp_path / "file").write_text(text)
    checked = subprocess.run(["bash", "-n", tmp_path / "file"], capture_output=True, timeout=20, check=False)
    assert checked.returncode != 0
    with pytest.raises(FormatError, match=f"line {line}\\b"):
        bash_grammar.program(text.encode())


def test_bytes_that_are_no_text() -> None:
    with pytest.raises(FormatError, match="NUL"):
        bash_grammar.program(b"A=1\n\0")
    with pytest.raises(FormatError, match="larger"):
        bash_grammar.program(b"#" * (2 << 20))
    assert shell_after("A=\udcff".encode("utf-8", "surrogateescape").decode("utf-8", "replace")).values["A"]


@pytest.mark.parametrize(
    "text",
    [
        "A=xxxxxxxx\n" + "A=$A$A$A$A\n" * 5000,
        "B=1\n" + "A+=($B)\n" * 8000,
        "eval x\na=1;" * 6000,
        "a &&" * 16000 + " b",
        "$(" * 30000,
        "f() f() " * 8000,
        "function f " * 6000,
        "((" * 30000,
        "A[" * 30000,
        "A[;" * 20000,
        "{ " * 30000,
        "${A:-" * 12000,
        "[[ " + "( " * 30000,
        "[[ a =~ (a*)*(b*)*c ]] && A=1\n" * 2000,
        "[[ aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa == *a*a*a*b ]]\n" * 1000,
        "if x; then A=(1 2 3); fi\n" * 2500,
        "for i in 1; do " * 38 + "A=1" + "; done" * 38,
        "cat <<E\nE\n" * 6000,
        'x "$A' * 10000,
    ],
)
def test_hostile_files_end(text: str) -> None:
    with suppress(FormatError):
        shell_after(text[: 32 << 10])
