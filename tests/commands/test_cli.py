"""Every command is documented, works from any folder, and says what to do next."""

import dataclasses
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from importlib.resources import files
from pathlib import Path

import pytest

from scoring.audit import check_config
from scoring.audit.storage import read_table
from scoring.cli import main, parser
from scoring.commands.score import setting_descriptions
from scoring.scorers import registry

from ..conftest import hardlook

ROOT = Path(__file__).parents[2]
COMMANDS = sorted(parser()._subparsers._group_actions[0].choices)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command, capsys):
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    assert len(shown.splitlines()) > 4


def test_options_of_scores_come_from_their_fields(capsys):
    with pytest.raises(SystemExit):
        main(["score", "--help"])
    assert "--vog-batch-size" in capsys.readouterr().out


@pytest.mark.parametrize("name", registry())
def test_every_setting_of_a_score_says_what_it_is(name):
    kind = registry()[name]
    assert {field.name for field in dataclasses.fields(kind)} <= set(setting_descriptions(kind.__doc__))


def test_without_a_command_the_first_steps_are_told_and_each_is_a_command(capsys):
    assert main([]) == 2
    steps = re.findall(r"^  hardlook ([a-z]+) ", capsys.readouterr().out, re.MULTILINE)
    assert steps[:2] == ["demo", "new"] and set(steps) <= set(COMMANDS)


def test_checkpoints_are_found_where_train_keeps_them_and_else_train_is_named(sample_copy, capsys):
    config = sample_copy / "audit.toml"
    config.write_text(config.read_text().replace('checkpoints = "checkpoints/main/*.pt"\n', ""))
    assert hardlook("check", sample_copy) == 0
    assert f"next: hardlook score {sample_copy}" in capsys.readouterr().out
    shutil.rmtree(sample_copy / "checkpoints")
    assert hardlook("check", sample_copy) == 1
    assert f"hardlook train {sample_copy}" in capsys.readouterr().err


def test_help_of_the_rest_loads_no_torch():
    code = "import sys; from scoring.cli import parser; parser(['dashboard'])\nsys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_new_writes_a_template_and_never_overwrites_an_audit(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert hardlook("new", "mine") == 0
    assert "hardlook check mine" in capsys.readouterr().out
    assert {"audit.toml"} == {path.name for path in (tmp_path / "mine").iterdir()}
    audit = check_config(tomllib.loads((tmp_path / "mine" / "audit.toml").read_text()))
    assert [source["split"] for source in audit["data"]] == ["train", "test"] and audit["run"]["main"]["transform"]
    (tmp_path / "mine" / "audit.toml").write_text("# my own work")
    assert hardlook("new", "mine") == 1
    assert hardlook("new", "mine", "--sample", "digits") == 1
    assert (tmp_path / "mine" / "audit.toml").read_text() == "# my own work"
    assert "already has an audit.toml" in capsys.readouterr().err


def test_new_alone_prints_its_usage_and_writes_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert hardlook("new") == 2
    assert "hardlook new DIR --train PATH" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())


def test_a_sample_is_copied_whole_and_the_demo_can_be_written_without_running_it(tmp_path, capsys):
    sample, demo = tmp_path / "digits", tmp_path / "demo"
    assert hardlook("new", sample, "--sample", "digits") == 0
    assert hardlook("demo", "--audit", demo, "--only-write") == 0
    for folder in (sample, demo):
        assert (folder / "audit.toml").read_text() == (files("sample_data") / "audit.toml").read_text()
        assert (folder / "guidelines.md").is_file() and (folder / "model.py").is_file()
    assert (demo / "data" / "train.csv").is_file() and not (demo / "runs").exists()
    assert f"hardlook train {demo}" in capsys.readouterr().out


def test_an_error_is_one_message_and_no_traceback(tmp_path, capsys):
    assert hardlook("score", tmp_path / "nothing") == 1
    shown = capsys.readouterr()
    assert "no audit at" in shown.err
    assert "Traceback" not in shown.err


def test_score_says_what_it_did_and_the_next_command(sample_copy, capsys):
    assert hardlook("score", sample_copy) == 0
    shown = capsys.readouterr().out
    assert re.search(r"vog: 0 of 3\d\d examples computed", shown)
    assert f"next: hardlook dashboard {sample_copy}" in shown
    assert "checkpoints:" in shown


def test_only_scores_what_was_named(sample_copy, capsys):
    for path in (sample_copy / "runs" / "main" / "scores").glob("*.parquet"):
        path.unlink()
    assert hardlook("score", sample_copy, "--only", "uncertainty") == 0
    assert [path.stem for path in (sample_copy / "runs" / "main" / "scores").glob("*")] == ["uncertainty"]
    assert hardlook("score", sample_copy, "--only", "vgo") == 1
    assert "no score 'vgo'" in capsys.readouterr().err


def test_export_without_decisions_says_so(sample_copy, capsys):
    assert hardlook("export", sample_copy) == 0
    assert "no example has a decision yet" in capsys.readouterr().out


def test_export_writes_the_decisions_of_each_split_apart(sample_copy, capsys):
    from scoring.audit import Audit
    from scoring.reviews import Event, ReviewLog

    audit = Audit.open(sample_copy)
    examples = read_table(audit.examples_path).to_pandas()
    chosen = {split: examples[examples["split"] == split].iloc[0] for split in ("train", "test")}
    with ReviewLog.open(audit.log_url, audit=audit.log_name(audit.log_url)) as log:
        log.append(
            [
                Event(
                    client="c",
                    seq=number,
                    example_id=row.example_id,
                    fingerprint=row.fingerprint,
                    label=row.label,
                    reviewer="r",
                    action="decide",
                    verdict="other",
                    new_label=str((int(row.label) + 1) % 10),
                )
                for number, row in enumerate(chosen.values(), 1)
            ]
        )
    assert hardlook("export", sample_copy, "--out", sample_copy / "out") == 0
    written = sorted(path.name for path in (sample_copy / "out").iterdir())
    assert any("train" in name for name in written)
    assert any("test" in name for name in written)
    train = next(path for path in (sample_copy / "out").iterdir() if "train" in path.name).read_text()
    assert chosen["train"].example_id in train
    assert chosen["test"].example_id not in train


def test_the_wheel_carries_the_sample_and_the_grids_assets(tmp_path):
    pip = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", str(tmp_path), str(ROOT)]
    subprocess.run(pip, check=True)
    names = zipfile.ZipFile(next(tmp_path.glob("*.whl"))).namelist()
    for needed in (
        "sample_data/audit.toml",
        "sample_data/model.py",
        "scoring/cli.py",
        "dashboard/app.py",
        "dashboard/help/index.md",
        "dashboard/help/recipes/timm.md",
    ):
        assert needed in names
    assert any(name.startswith("dashboard/grid/") and name.endswith(".js") for name in names)
    assert any(name.startswith("dashboard/grid/") and name.endswith(".css") for name in names)
    assert not any(name.startswith("tests/") for name in names)
