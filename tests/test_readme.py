"""What the README says is run: its commands parse, its snippets work, its demo finds the planted errors."""

import re
import shlex
import tomllib
from pathlib import Path

import numpy as np
import pytest

from scoring.audit import Audit, check_config
from scoring.cli import parser

from .conftest import hardlook

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf8")


def blocks(language: str) -> list[str]:
    """The fenced blocks of one language."""
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


COMMANDS = sorted(
    {
        line.split("#")[0].split("&&")[-1].strip()
        for block in blocks("bash")
        for line in block.splitlines()
        if "hardlook " in line and "pip install '" not in line
    }
)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_parses(command):
    program, *arguments = shlex.split(command)
    assert program == "hardlook"
    assert callable(parser(arguments).parse_args(arguments).command)


def test_the_two_commands_of_a_fresh_machine_stand_first_after_the_picture():
    assert README.startswith("![")
    assert blocks("bash")[0].strip() == "pip install . && hardlook demo"
    assert blocks("bash")[1].strip() == "pip install '.[test]' && pytest"
    assert blocks("bash")[1].strip() in (Path(__file__).parents[1] / ".ci" / "run").read_text().replace(" -q", "")


def test_the_audit_toml_of_the_readme_is_a_good_one():
    assert check_config(tomllib.loads(blocks("toml")[0]))["classes"] == ["cat", "dog"]


def test_the_map_of_the_house_names_every_room_and_none_that_is_not_there():
    """Files and folders right under scoring and dashboard each by name; what lies in a folder is covered by its
    folder's."""
    house = README.split("## The map of the house")[1].split("```")[1]
    for part in ("scoring", "dashboard"):
        home = Path(__file__).parents[1] / part
        told = re.search(rf"^{part}/ .*?(?=^\S|\Z)", house, re.MULTILINE | re.DOTALL)[0].removeprefix(f"{part}/")
        gone = {name for name in re.findall(r"\w+\.py|\w+/", told) if not list(home.rglob(name.rstrip("/")))}
        assert not gone, f"the README names {gone} in {part}"
        rooms = {path.stem for path in home.iterdir() if path.suffix == ".py" or (path / "__init__.py").is_file()}
        unnamed = {name for name in rooms if not name.startswith("_")} - set(re.findall(r"\w+", told))
        assert not unnamed, f"the README does not name {unnamed} of {part}"


def test_every_file_that_is_linked_to_is_there():
    home = Path(__file__).parents[1]
    links = re.findall(r"\]\((?!https?://|#)([^)#\s]+)", README)
    assert links and not [link for link in links if not (home / link).exists()]


def test_two_lines_record_a_training_loop(sample_copy, monkeypatch):
    import shutil

    import torch

    from scoring.models.inputs import Inputs, labelled

    audit = Audit.open(sample_copy)
    shutil.rmtree(audit.run().folder)
    shutil.rmtree(sample_copy / "checkpoints")
    sample_copy.rename(sample_copy.parent / "my-audit")
    monkeypatch.chdir(sample_copy.parent)
    audit = Audit.open("my-audit")
    data = Inputs(audit, audit.run(), labelled(audit))
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))
    snippet = next(block for block in blocks("python") if "Recorder" in block)
    loop = snippet.replace("...", "model(inputs)")
    exec(loop, {"model": model, "epochs": 2, "loader": torch.utils.data.DataLoader(data, batch_size=60)})
    assert len(audit.run().dynamics_files("main")) == 2
    assert len(list(Path("my-audit/checkpoints/main").glob("*.pt"))) == 2


def test_the_score_of_the_readme_scores():
    import torch

    import scoring.scorers._contract as contract

    names = {**vars(contract), "dataclass": __import__("dataclasses").dataclass}
    exec(next(block for block in blocks("python") if "Brightness" in block), names)
    shard = contract.Shard(
        example_id=np.array(["a"]),
        split=np.array(["test"]),
        labels=np.array([0]),
        classes=["x"],
        inputs=torch.tensor([[[[1.0, 3.0]]]]),
    )
    assert names["Brightness"]().score(shard, None)["mean"].tolist() == [2.0]


def test_the_demo_finds_the_planted_errors_and_says_so(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert hardlook("demo", "--no-dashboard", "--device", "cpu") == 0
    shown = capsys.readouterr().out
    first, second = map(
        int, re.search(r"the suspect ranking \(suspicion.suspicion\) *(\d+) \(\d+%\) and (\d+)", shown).groups()
    )
    assert first >= 45 and second >= 54, shown
    assert "next: hardlook dashboard hardlook-demo" in shown
