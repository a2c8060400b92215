"""What a person is told to do about a damaged file is a command that exists, or a copy."""

from pathlib import Path

import pytest

from scoring.audit.remedies import COMMANDS, remedy
from scoring.cli import parser


@pytest.mark.parametrize("name", COMMANDS)
def test_each_file_names_a_command_that_exists(name, capsys):
    command = COMMANDS[name].removeprefix("hardlook ")
    with pytest.raises(SystemExit) as ended:
        parser().parse_args([command, "--help"])
    assert ended.value.code == 0 and command in capsys.readouterr().out
    path = Path("audit/runs/main") / name
    assert f"`hardlook {command}`" in remedy(path if "." in name else path / "kmeans.parquet")


def test_what_no_command_writes_again_is_restored_from_a_copy():
    assert "restore it from a copy" in remedy(Path("a/controls.parquet"))
    assert "train with the Recorder again" in remedy(Path("a/runs/main/dynamics/main/epoch-0001.parquet"))
    assert "`hardlook score`" in remedy(Path("elsewhere.parquet"))
