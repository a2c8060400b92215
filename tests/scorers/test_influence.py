"""The influence scorer on models that only part of it can serve: right for the rest, and it says so."""

import json

import numpy as np

from scoring.audit import Audit
from scoring.audit.storage import read_table, read_vectors
from tests.conftest import hardlook
from tests.small_audits import write_small_audit

FROZEN = """

class Probe(nn.Sequential):
    def forward(self, x):
        with torch.inference_mode():
            for layer in self[:-1]:
                x = layer(x)
        return self[-1](x)


def probe(classes=3):
    return Probe(*net(classes))
"""


def test_a_linear_probe_is_scored_on_its_head_and_the_run_says_what_was_left_out(tmp_path):
    folder = write_small_audit(tmp_path / "audit")
    (folder / "model.py").write_text((folder / "model.py").read_text() + FROZEN)
    settings = (folder / "audit.toml").read_text().replace("model.py:net", "model.py:probe")
    (folder / "audit.toml").write_text(settings + 'layers = ["0", "5"]\n')
    assert (
        hardlook("score", folder, "--only", "influence", "--influence-arnoldi-dim", "40", "--influence-rank", "8") == 0
    )
    run = Audit.open(folder).run()
    noted = json.loads((run.folder / "run.json").read_text())["notes"]["influence"]
    assert any("no gradient with respect to 0 " in note for note in noted)
    _, vectors = read_vectors(run.influence_path)
    scores = read_table(run.score_path("influence")).to_pandas()["self_influence"].to_numpy()
    assert np.isfinite(vectors).all() and np.isfinite(scores).all() and (scores > 0).any()
