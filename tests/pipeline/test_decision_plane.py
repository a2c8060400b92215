"""scoring.pipeline.decision_plane, `hardlook cut` and its route: decisions against a linear rule, the nearest data,
jobs and refusals."""

import json
import time

import numpy as np
import pandas as pd
import pytest
import torch
from starlette.applications import Starlette

from dashboard.auth.serving import serve_this
from dashboard.routes import decision_plane as cut_routes
from dashboard.routes.http import MOST_BYTES
from scoring.audit import Audit
from scoring.audit.errors import HardlookError
from scoring.audit.storage import read_json, write_json
from scoring.data.column_statistics import cut_key
from scoring.data.ingest import ingest
from scoring.pipeline.decision_plane import cut
from scoring.pipeline.shards import Context

from ..conftest import hardlook
from ..dashboard.test_routes import Client

TOML = """format = 1
media = "vector"
classes = ["no", "yes"]
[[data]]
path = "x.csv"
split = "train"
id_column = "id"
[run.main]
model = "model.py:linear"
transform = { mean = [1.0, 2.0, 0.0], std = [2.0, 4.0, 1.0] }
checkpoints = "linear.pt"
"""
WEIGHTS = [3.0, -2.0, 5.0]
BIAS = 0.5


@pytest.fixture(scope="module")
def audit(tmp_path_factory):
    """Three columns and a linear rule on the standardised ones: yes where 3a − 2b + 5c + 0.5 > 0."""
    root = tmp_path_factory.mktemp("audits") / "cut"
    root.mkdir()
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(500, 3))
    rows[0] = [0.3, 0.1, 0.2]
    frame = pd.DataFrame(rows, columns=["a", "b", "-c d"])
    frame["id"], frame["label"] = [f"-r {i}" for i in range(len(rows))], np.where(rows[:, 0] > 0, "yes", "no")
    frame.to_csv(root / "x.csv", index=False)
    (root / "audit.toml").write_text(TOML)
    (root / "model.py").write_text("from torch import nn\ndef linear(): return nn.Linear(3, 2)\n")
    torch.save(
        {"weight": torch.tensor([[0.0, 0.0, 0.0], WEIGHTS]), "bias": torch.tensor([0.0, BIAS])}, root / "linear.pt"
    )
    found = Audit.open(root)
    ingest(found)
    return found


def test_decisions_are_those_of_the_rule_and_other_columns_stay(audit):
    found = cut(Context(audit, audit.run()), "-r 0", "a", "b", side=9)
    (a, b), c = np.meshgrid(found["xs"], found["ys"]), 0.2
    rule = 3 * (a - 1) / 2 - 2 * (b - 2) / 4 + 5 * c + BIAS
    assert found["decisions"] == (rule > 0).astype(int).ravel().tolist()
    assert 0 < sum(found["decisions"]) < 81
    assert found["p"] == pytest.approx(1 / (1 + np.exp(-np.abs(rule).ravel())), abs=1e-3)
    assert found["at"] == pytest.approx([0.3, 0.1])


def test_the_data_beside_it_is_nearest_in_the_other_columns(audit):
    found = cut(Context(audit, audit.run()), "-r 0", "a", "b", side=3)["points"]
    frame = pd.read_csv(audit.root / "x.csv").set_index("id")
    away = (frame["-c d"] - 0.2).abs().sort_values(kind="stable")
    assert len(found["x"]) == 400 and set(found["example_id"]) == set(away.index[:400])
    assert found["x"] == pytest.approx(frame.loc[found["example_id"], "a"], rel=1e-5)
    assert found["label"] == frame.loc[found["example_id"], "label"].tolist()


def test_without_columns_the_two_that_deviate_most_are_taken_in_the_datas_order(audit):
    found = cut(Context(audit, audit.run()), "-r 0", side=3)
    assert len({found["x"], found["y"]}) == 2
    names = ["a", "b", "-c d"]
    assert names.index(found["x"]) < names.index(found["y"])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("-r 0", "a", "a"), "two different columns"),
        (("-r 0", "a", "bb"), "no column 'bb'"),
        (("-r 9999", "a", "b"), "no readable example"),
        (("-r 0", "a", "b", 1), "side = 1"),
    ],
)
def test_what_cannot_be_cut_is_told(audit, arguments, said):
    with pytest.raises(HardlookError, match=said):
        cut(Context(audit, audit.run()), *arguments)


@pytest.fixture
def client(audit):
    serve_this(audit.root)
    return Client(Starlette(routes=cut_routes.plane_routes()))


ASKED = {"id": "-r 0", "x": "a", "y": "-c d"}


def test_a_page_starts_the_command_follows_it_and_gets_the_cut(audit, client):
    assert client.get("/hardlook/cut", ASKED).json["state"] == "none"
    reply = client.post("/hardlook/cut", ASKED)
    assert reply.status == 200, reply.text
    until = time.monotonic() + 300
    while (found := client.get("/hardlook/cut", ASKED).json)["state"] == "running" and time.monotonic() < until:
        time.sleep(0.2)
    path = audit.run().cut_path(cut_key(*ASKED.values()))
    assert path.is_file(), found
    audit.run().add_to_record(checkpoints=[{"sha256": read_json(path)["checkpoint"]}])
    found = client.get("/hardlook/cut", ASKED).json
    assert found["state"] == "ready" and found["cut"]["x"] == "a" and found["score"] is None
    assert found["sizes"] == [None] * 400


def test_a_cut_of_another_checkpoint_or_content_counts_as_none(audit, client):
    asked = {"id": "-r 1", "x": "a", "y": "b"}
    assert hardlook("cut", audit.root, "--example=-r 1", "--x=a", "--y=b", "--side=5") == 0
    path = audit.run().cut_path(cut_key(*asked.values()))
    kept = read_json(path)
    audit.run().add_to_record(checkpoints=[{"sha256": kept["checkpoint"]}])
    assert client.get("/hardlook/cut", asked).json["state"] == "ready"
    write_json(path, {**kept, "fingerprint": "other"})
    assert client.get("/hardlook/cut", asked).json["state"] == "none"
    write_json(path, {**kept, "checkpoint": "other"})
    assert client.get("/hardlook/cut", asked).json["state"] == "none"


def test_the_size_of_a_point_is_its_rank_among_those_shown(audit):
    run = audit.run()
    write_scores = pd.DataFrame({"example_id": ["a", "b", "c", "d"], "loss": np.array([9, 1, 5, np.nan], "float32")})
    run.scores_folder.mkdir(exist_ok=True, parents=True)
    write_scores.to_parquet(run.score_path("uncertainty"))
    column = type("Column", (), {"scorer": "uncertainty", "name": "loss"})
    assert cut_routes._ranks(run, column, ["b", "a", "d", "c"]) == [0.0, 1.0, None, 0.5]
    run.score_path("uncertainty").unlink()


def test_other_pages_and_wrong_questions_are_refused(client):
    assert client.post("/hardlook/cut", ASKED, x_hardlook=None).status == 403
    assert client.post("/hardlook/cut", {"id": 3}).status == 400
    assert client.post("/hardlook/cut", b"no json").status == 400
    assert client.post("/hardlook/cut", {**ASKED, "run": ["main"]}).status == 400
    large = b'{"x": "' + b"x" * MOST_BYTES + b'"}'
    assert client.post("/hardlook/cut", large).status == 400  # what is larger is not read to its end
    assert client.get("/hardlook/cut", {"id": "x"}).status == 400
    assert client.get("/hardlook/cut", {**ASKED, "run": "none"}).status == 400


def test_a_server_that_only_reads_says_what_to_type(audit, client):
    serve_this(audit.root, host="0.0.0.0")
    try:
        assert client.post("/hardlook/cut", ASKED).status == 403
        found = client.get("/hardlook/cut", {**ASKED, "x": "b"}).json
        assert "hardlook cut" in found["command"] and json.dumps(found["refusal"]) != "null"
    finally:
        serve_this(audit.root)
