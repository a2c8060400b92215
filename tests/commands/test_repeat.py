"""Runs that are like another, and the command that trains them."""

import tomllib

import pytest

from scoring.audit import Audit, check_config
from scoring.audit.errors import HardlookError
from scoring.audit.storage import read_table

from ..conftest import hardlook

TOML = """
format = 1
classes = ["a", "b"]
[[data]]
split = "train"
path = "x"
[run.main]
model = "model.py:net"
arguments = { classes = 2, width = 8 }
checkpoints = "checkpoints/main/*.pt"
training = { epochs = 3, seed = 0 }
"""


def test_a_run_like_another_takes_over_what_it_does_not_say():
    config = check_config(
        tomllib.loads(TOML + '[run.other]\nlike = "main"\ntraining = { seed = 1 }\narguments = { width = 4 }')
    )
    assert config["run"]["other"] == {
        "model": "model.py:net",
        "arguments": {"classes": 2, "width": 4},
        "training": {"epochs": 3, "seed": 1},
        "checkpoints": "checkpoints/other/*.pt",
    }
    assert config["run"]["main"]["training"] == {"epochs": 3, "seed": 0}


@pytest.mark.parametrize("like", ["nobody", "other"])
def test_a_run_like_none_or_like_itself_is_refused(like):
    with pytest.raises(HardlookError, match=rf"\[run.other\] like = '{like}'; needed .*'main'"):
        check_config(tomllib.loads(TOML + f'[run.other]\nlike = "{like}"'))


def test_repeat_adds_trains_and_scores_runs_and_leaves_them_alone_afterwards(sample_copy, capsys):
    before = (sample_copy / "audit.toml").read_text()
    assert hardlook("repeat", sample_copy, "--seeds", "5", "--keep", "3", "--only", "aum,uncertainty") == 0
    audit = Audit.open(sample_copy)
    assert audit.run_names() == ["main", "main-seed5", "main-keep3"]
    assert (sample_copy / "audit.toml").read_text().startswith(before)
    assert len(list((sample_copy / "checkpoints" / "main-keep3").glob("*.pt"))) == 3
    loss = {
        name: read_table(audit.run(name).score_path("uncertainty"), ["loss"])["loss"].to_pylist()
        for name in audit.run_names()
    }
    assert loss["main-keep3"] == loss["main"]  # the same training, of which fewer checkpoints were kept
    assert loss["main-seed5"] != loss["main"]
    after = (sample_copy / "audit.toml").read_text()
    capsys.readouterr()
    assert hardlook("repeat", sample_copy, "--seeds", "5", "--only", "aum,uncertainty") == 0
    assert "already trained" in capsys.readouterr().out
    assert (sample_copy / "audit.toml").read_text() == after


def test_repeat_refuses_what_it_cannot_repeat(sample_copy, capsys):
    toml = sample_copy / "audit.toml"
    assert hardlook("repeat", sample_copy) == 1
    assert "give other values" in capsys.readouterr().err
    toml.write_text(toml.read_text() + '\n[run.main-seed5]\nlike = "main"\ntraining = { seed = 6 }\n')
    before = toml.read_text()
    assert hardlook("repeat", sample_copy, "--seeds", "5,7") == 1
    assert "with other training settings" in capsys.readouterr().err
    assert toml.read_text() == before
