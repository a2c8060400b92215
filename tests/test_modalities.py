"""Audits of vectors and texts, the whole way: new, train, score, slice, what the pages get, decisions, export."""

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from streamlit.testing.v1 import AppTest

import dashboard
from dashboard.auth.serving import serve_this
from dashboard.presenters import cells, example_content, example_details
from scoring.audit import Audit
from scoring.audit.storage import read_table
from scoring.corrections.label_patch import read_patch
from scoring.data.examples import read_examples
from scoring.reviews import Event, ReviewLog

from .conftest import hardlook
from .modalities import HOSTILE, TOML, text_audit, vector_audit
from .synthetic import make_audit


@pytest.fixture(scope="module")
def vectors(tmp_path_factory):
    return Audit.open(vector_audit(tmp_path_factory.mktemp("audits") / "vectors"))


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    return Audit.open(text_audit(tmp_path_factory.mktemp("audits") / "texts"))


@pytest.mark.parametrize("sample", ["cancer", "docstrings", "blobs"])
def test_new_makes_each_sample_project(sample, tmp_path, capsys):
    assert hardlook("new", tmp_path / sample, "--sample", sample) == 0
    assert f"a working audit of the {sample} sample" in capsys.readouterr().out
    audit = Audit.open(tmp_path / sample)
    assert audit.media == ("text" if sample == "docstrings" else "vector")
    assert (tmp_path / sample / "data.py").is_file()


@pytest.mark.parametrize("which", ["vectors", "texts"])
def test_every_score_that_needs_no_picture_is_there(which, request):
    audit = request.getfixturevalue(which)
    run = audit.run()
    assert {"aum", "data_map", "forgetting", "influence", "self_influence", "uncertainty", "vog"} <= set(
        run.score_names()
    )
    vog = read_table(run.score_path("vog")).to_pandas()
    assert vog["late_label_logit"].notna().all() and (vog["late_label_logit"] > 0).all()


@pytest.mark.parametrize("which", ["vectors", "texts"])
def test_slices_and_corrected_labels_come_out_as_of_pictures(which, request, monkeypatch):
    monkeypatch.setattr(
        "scoring.slices.slicing_run.write_embedding_map", lambda *given: None
    )  # the map knows embeddings alone, no media
    audit = request.getfixturevalue(which)
    assert hardlook("slice", audit.root, "--n-slices", "3") == 0
    assert "kmeans" in audit.run().slicing_names()
    row = read_examples(audit).iloc[0]
    other = "cat" if row["label"] == "dog" else "dog"
    with ReviewLog.open(audit.log_url, audit=audit.log_name(audit.log_url)) as log:
        log.append(
            [
                Event(
                    client="c",
                    seq=1,
                    example_id=row["example_id"],
                    reviewer="ann",
                    action="decide",
                    fingerprint=row["fingerprint"],
                    label=row["label"],
                    verdict="other",
                    new_label=other,
                )
            ]
        )
    assert hardlook("export", audit.root, "--out", audit.root / "out") == 0
    patch = read_patch(next((audit.root / "out").glob("*train*.csv")))
    assert (patch.iloc[0]["example_id"], patch.iloc[0]["new_label"]) == (row["example_id"], other)


def test_cells_of_vectors_show_the_columns_that_deviate_most_with_their_units(vectors):
    serve_this(vectors.root)
    (cell,) = cells.make_cells(vectors, vectors.run(), pa.table({"example_id": ["row-00"]}), None)
    first = {"name": "age", "column": "age", "place": 3, "value": "40", "unit": None, "z": "", "odd": True}
    assert cell["rows"][0] | {"z": ""} == first
    units = {row["name"]: row["unit"] for row in cell["rows"]}
    assert units == {"age": None, "size": "cm", "weight": "kg", "<b>odd</b>": None}
    assert "text" not in cell


def test_an_opened_vector_carries_the_vog_of_each_column(vectors):
    serve_this(vectors.root)
    found = example_details.describe(vectors, vectors.run(), "row-00")["content"]
    shares = [row["vog"] for row in found["rows"]]
    assert found["map"] and max(shares) == 1 and "class cat" in found["compared"]
    kept = json.loads(vectors.run().maps.get("row-00"))["values"]
    raw = read_table(vectors.run().score_path("vog")).to_pandas().set_index("example_id")["late_label_logit"]
    assert np.mean(kept) == pytest.approx(raw["row-00"], rel=1e-3)


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_texts_arrive_as_text_with_every_token_where_it_stands(texts, name):
    serve_this(texts.root)
    (cell,) = cells.make_cells(texts, texts.run(), pa.table({"example_id": [name]}), None)
    text = HOSTILE[name].translate(example_content.HIDDEN)
    assert text.startswith(cell["text"]) and len(cell["text"]) <= 600 and "\0" not in cell["text"]
    found = example_details.describe(texts, texts.run(), name)["content"]
    assert "".join(piece for piece, _ in found["pieces"]) == text[: example_content.LONGEST]
    assert found["left"] == max(0, len(text) - example_content.LONGEST)
    strengths = [strength for _, strength in found["pieces"] if strength is not None]
    assert max(strengths) == 1 and len(strengths) <= 24
    assert all(piece.strip() != "" for piece, strength in found["pieces"] if strength is not None)


def test_a_tokenizer_without_spans_says_so():
    assert example_content._whole_text("cats purr", {"values": [1.0, 2.0]})["spans"] is False


def test_wide_vectors_send_their_most_unusual_columns_alone(vectors):
    values = np.zeros(5000, dtype=np.float32)
    assert len(example_content._rows(vectors, values, None, most=10)) == 10
    found = example_content._rows(vectors, values, "cat")  # another width than the audit's: no deviations, no names
    assert len(found) == example_content.IN_FULL and found[0]["name"] == "0" and "z" not in found[0]


BERT = """
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

WORDS = ["[PAD]", "[UNK]", "purr", "meow", "fish", "sleep", "bark", "fetch", "stick", "walk", "the", "and"]

def bert():
    sizes = dict(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16)
    return BertForSequenceClassification(BertConfig(vocab_size=12, max_position_embeddings=16, num_labels=2, **sizes))

class Tokens:
    def __init__(self):
        made = Tokenizer(models.WordLevel({word: at for at, word in enumerate(WORDS)}, unk_token="[UNK]"))
        made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        self.tokenizer = PreTrainedTokenizerFast(tokenizer_object=made, pad_token="[PAD]", unk_token="[UNK]")

    def tokens(self, text, **more):
        return self.tokenizer(text, truncation=True, padding="max_length", max_length=12, **more)

    def __call__(self, text):
        return torch.tensor(self.tokens(text)["input_ids"])

    def spans(self, text):
        return self.tokens(text, return_offsets_mapping=True)["offset_mapping"]
"""


def test_a_tokenizer_and_a_transformer_of_the_users_own(texts, tmp_path):
    """Hugging Face's, with offsets: VoG at the word embeddings, tokens marked where they stand, padding nowhere."""
    pytest.importorskip("transformers")
    (tmp_path / "model.py").write_text(BERT)
    shutil.copy(texts.root / "data.parquet", tmp_path)
    run = 'model = "model.py:bert"\ntransform = "model.py:Tokens"'
    (tmp_path / "audit.toml").write_text(TOML.format(media="text", run=run).replace("epochs = 4", "epochs = 2"))
    assert hardlook("train", tmp_path) == 0
    assert hardlook("score", tmp_path, "--only", "vog") == 0
    audit = Audit.open(tmp_path)
    serve_this(audit.root)
    pieces = example_details.describe(audit, audit.run(), "text-01")["content"]["pieces"]
    assert [piece for piece, strength in pieces if strength is not None] == "".join(p for p, _ in pieces).split()


def test_pictures_get_no_text(tmp_path):
    audit = make_audit(tmp_path / "images", 20, 2, thumbnails=True)
    ids = read_examples(audit)["example_id"].head(3).tolist()
    assert example_content.cell_contents(audit, ids, [None] * 3) == [{}, {}, {}]


@pytest.mark.parametrize(("which", "said"), [("vectors", "Each row is one input column"), ("texts", "Texts as tokens")])
def test_the_overview_shows_what_the_model_sees(which, said, request):
    audit = request.getfixturevalue(which)
    serve_this(audit.root)
    page = AppTest.from_file(str(Path(dashboard.__file__).with_name("app.py")), default_timeout=300).run()
    assert not page.exception, page.exception[0].stack_trace
    assert any(said in caption.value for caption in page.caption)
