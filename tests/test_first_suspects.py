"""Every journey of the page "first-suspects" runs as it is written, on what the library's own trainer left, and its
queue begins with labels that are wrong."""

import shlex

import pytest
from hardlook import open as open_audit

from .benchmarks.first_suspects import HEADINGS, SET_UP, SMALL, lines
from .conftest import hardlook
from .journeys import ERRORS, JOURNEYS, TRAIN, wrong_rows

quiet = pytest.mark.filterwarnings("ignore")  # of the libraries that train
WRONG = {f"{row:04d}.png" for row in wrong_rows()}


@quiet
@pytest.mark.parametrize(("heading", "name"), list(zip(HEADINGS, JOURNEYS, strict=True)))
def test_a_journey_runs_as_it_is_written_and_begins_with_wrong_labels(heading, name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    JOURNEYS[name](tmp_path)
    block = lines(heading)
    if block.language == "python":
        exec(SET_UP + block.text.replace("audit.show()", ""), {"__name__": "__main__"})
    for line in block.text.splitlines() if block.language == "bash" else ():
        words = (
            shlex.split(line + SMALL) if heading in ("One .pth", "Lightning") and " new " in line else shlex.split(line)
        )
        if words[1] != "dashboard":
            assert hardlook(*words[1:]) == 0, capsys.readouterr().err
    suspects = open_audit("my-audit").suspects(ERRORS)
    if heading == "Texts of Hugging Face":
        found = sum(int(example.removeprefix("t")) % 20 == 7 for example in suspects["example_id"])
        assert found >= 12  # of 15 wrong among 300; 1.5 by chance
    else:
        found = sum(example.rpartition("/")[2] in WRONG for example in suspects["example_id"])
        assert found >= 10 > 4 * ERRORS * ERRORS / TRAIN
