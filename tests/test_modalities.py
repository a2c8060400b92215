"""Audits of vectors and texts, the whole way: new, train, score, slice, what the pages get, decisions, export."""

import json

import numpy as np
import pyarrow as pa
import pytest

from dashboard import cells, contents, details
from dashboard.serving import serve_this
from scoring.audit import Audit
from scoring.examples import read_examples
from scoring.patches import read_patch
from scoring.reviews import Event, ReviewLog
from scoring.tables import read_table

from .conftest import hardlook
from .modalities import HOSTILE, text_audit, vector_audit


@pytest.fixture(scope="module")
def vectors(tmp_path_factory):
    return Audit.open(vector_audit(tmp_path_factory.mktemp("audits") / "vectors"))


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    return Audit.open(text_audit(tmp_path_factory.mktemp("audits") / "texts"))


@pytest.mark.parametrize("sample", ["cancer", "docstrings", "blobs"])
def test_new_makes_each_sample_project(sample, tmp_path, capsys):
    assert hardlook("new", tmp_path / sample, "--sample", sample) == 0
    assert f"about {sample}" in capsys.readouterr().out
    audit = Audit.open(tmp_path / sample)
    assert audit.media == ("text" if sample == "docstrings" else "vector")
    assert (tmp_path / sample / "data.py").is_file()


@pytest.mark.parametrize("which", ["vectors", "texts"])
def test_every_score_that_needs_no_picture_is_there(which, request):
    audit = request.getfixturevalue(which)
    run = audit.run()
    assert {"aum", "data_map", "forgetting", "influence", "self_influence", "uncertainty", "vog"} <= set(run.score_names())
    vog = read_table(run.score_path("vog")).to_pandas()
    assert vog["late_label_logit"].notna().all() and (vog["late_label_logit"] > 0).all()


@pytest.mark.parametrize("which", ["vectors", "texts"])
def test_slices_and_corrected_labels_come_out_as_of_pictures(which, request, monkeypatch):
    monkeypatch.setattr("scoring.slicing.lay_out", lambda *given: None)  # the map knows embeddings alone, no media
    audit = request.getfixturevalue(which)
    assert hardlook("slice", audit.root, "--n-slices", "3") == 0
    assert "kmeans" in audit.run().slicing_names()
    row = read_examples(audit).iloc[0]
    other = "cat" if row["label"] == "dog" else "dog"
    with ReviewLog.open(audit.log_url, audit=audit.log_name(audit.log_url)) as log:
        log.append([Event(client="c", seq=1, example_id=row["example_id"], reviewer="ann", action="decide",
                          fingerprint=row["fingerprint"], label=row["label"], verdict="other", new_label=other)])
    assert hardlook("export", audit.root, "--out", audit.root / "out") == 0
    patch = read_patch(next((audit.root / "out").glob("*train*.csv")))
    assert (patch.iloc[0]["example_id"], patch.iloc[0]["new_label"]) == (row["example_id"], other)


def test_cells_of_vectors_show_the_columns_that_deviate_most_with_their_units(vectors):
    (cell,) = cells.make_cells(vectors, vectors.run(), pa.table({"example_id": ["row-00"]}), None)
    first = {"name": "age", "column": "age", "place": 3, "value": "40", "unit": None, "z": "", "odd": True}
    assert cell["rows"][0] | {"z": ""} == first
    units = {row["name"]: row["unit"] for row in cell["rows"]}
    assert units == {"age": None, "size": "cm", "weight": "kg", "<b>odd</b>": None}
    assert "text" not in cell


def test_an_opened_vector_carries_the_vog_of_each_column(vectors):
    serve_this(vectors.root)
    found = details.describe(vectors, vectors.run(), "row-00")["content"]
    shares = [row["vog"] for row in found["rows"]]
    assert found["map"] and max(shares) == 1 and "class cat" in found["compared"]
    kept = json.loads(vectors.run().maps.get("row-00"))["values"]
    raw = read_table(vectors.run().score_path("vog")).to_pandas().set_index("example_id")["late_label_logit"]
    assert np.mean(kept) == pytest.approx(raw["row-00"], rel=1e-3)


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_texts_arrive_as_text_with_every_token_where_it_stands(texts, name):
    (cell,) = cells.make_cells(texts, texts.run(), pa.table({"example_id": [name]}), None)
    text = HOSTILE[name].translate(contents.HIDDEN)
    assert text.startswith(cell["text"]) and len(cell["text"]) <= 600 and "\0" not in cell["text"]
    serve_this(texts.root)
    found = details.describe(texts, texts.run(), name)["content"]
    assert "".join(piece for piece, _ in found["pieces"]) == text[: contents.LONGEST]
    assert found["left"] == max(0, len(text) - contents.LONGEST)
    strengths = [strength for _, strength in found["pieces"] if strength is not None]
    assert max(strengths) == 1 and len(strengths) <= 24
    assert all(not piece.strip() == "" for piece, strength in found["pieces"] if strength is not None)


def test_a_tokenizer_without_spans_says_so():
    assert contents._whole_text("cats purr", {"values": [1.0, 2.0]})["spans"] is False


def test_pictures_get_no_text(scored_sample):
    audit = Audit.open(scored_sample)
    ids = read_examples(audit)["example_id"].head(3).tolist()
    assert contents.in_cells(audit, ids, [None] * 3) == [{}, {}, {}]
