"""What README and manual say is run: commands parse, snippets work, the demo finds the planted errors."""

import re
import shlex

import pytest

from scoring.cli import parser

from .conftest import hardlook
from .manual import PAPERS, ROOT, audit_of, blocks, commands

README = PAPERS["README"].read_text(encoding="utf8")
INSTALLS = re.compile(
    r"pip install '?(?:\.|hardlook)(?:\[\w+\])?'?|pytest|python [\w/]+\.py|ray start --[\w=:.-]+(?: --port=\d+)?"
)
"""What else a bash block may hold: to install, to test, a script of the page, the start of a Ray cluster."""


@pytest.mark.parametrize(("page", "command"), sorted({(page, line) for page in PAPERS for line in commands(page)}))
def test_every_command_parses(page, command):
    program, *arguments = shlex.split(command)
    if program != "hardlook":
        assert INSTALLS.fullmatch(command), f"{page}: {command}"
    else:
        assert callable(parser(arguments).parse_args(arguments).command)


INLINE = sorted(
    {(page, line) for page, path in PAPERS.items() for line in re.findall(r"`(hardlook [^`]+)`", path.read_text())}
)


@pytest.mark.parametrize(("page", "command"), INLINE)
def test_every_command_within_a_sentence_exists(page, command):
    name, *rest = shlex.split(command.replace("\n", " "))[1:]
    known = parser([name, *rest])._subparsers._group_actions[0].choices
    assert name in known or name == "COMMAND", f"{page}: {command}"
    if name in known:
        options = known[name].format_help()
        assert all(option in options for option in rest if option.startswith("--")), f"{page}: {command}"


@pytest.mark.parametrize("page", PAPERS)
def test_every_toml_is_a_good_audit_or_a_part_of_one(page):
    for block in blocks(page, "toml"):
        assert audit_of(block.text)["classes"]


@pytest.mark.parametrize("page", PAPERS)
def test_every_block_names_a_language_that_a_test_reads(page):
    assert {block.language for block in blocks(page)} <= {"bash", "toml", "python", "csv", "markdown"}


def test_the_two_commands_of_a_fresh_machine_stand_first_after_the_picture():
    assert README.startswith("![")
    first, second = (block.text.strip() for block in blocks("README", "bash")[:2])
    assert first == "pip install . && hardlook demo"
    assert second == "pip install '.[test]' && pytest"
    assert second in (ROOT / ".ci" / "run").read_text().replace(" -q", "")


def test_the_readme_is_read_in_a_few_minutes():
    assert len(README.splitlines()) < 200


def test_the_demo_finds_the_planted_errors_and_says_so(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert hardlook("demo", "--no-dashboard", "--device", "cpu") == 0
    shown = capsys.readouterr().out
    found = re.search(r"the suspect ranking \(suspicion.suspicion\) *(\d+) \(\d+%\) and (\d+)", shown)
    first, second = map(int, found.groups())
    assert first >= 45 and second >= 54, shown
    assert "next: hardlook dashboard hardlook-demo" in shown
