"""Small audits of vectors and of texts, hostile ones among them, taken through `hardlook train` and `score`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from .conftest import hardlook

HOSTILE = {
    "markup": '<img src=x onerror="window.hurt = 1"><b>bold</b> & cats like fish **very** much',
    "direction": "cats \u202eesrever\u202c and عربي purr and sleep",
    "nul": "cats\0purr\x1b[31m softly",
    "long": "dogs bark at night. " * 3000,
    "quotes": "dogs \"fetch\" 'sticks', `code` and $x^2$, and bark",
}
WORDS = {"cat": ["purr", "meow", "fish", "sleep"], "dog": ["bark", "fetch", "stick", "walk"]}

TOML = """format = 1
media = "{media}"
classes = ["cat", "dog"]

[[data]]
path = "data.parquet"
split_column = "split"
id_column = "id"
label_column = "label"

[run.main]
{run}
checkpoints = "checkpoints/main/*.pt"

[run.main.training]
epochs = 4
batch_size = 16
lr = 0.02

[run.main.scores.influence]
arnoldi_dim = 20
rank = 8
"""

VECTOR_RUN = 'model = "model.py:network"'
TEXT_RUN = (
    'model = "scoring.models.text:BagOfEmbeddings"\narguments = { classes = 2, buckets = 512, width = 16, hidden = 8 }\n'
    "transform = { length = 24, buckets = 512 }"
)
MODEL = """from torch import nn

def network():
    return nn.Sequential(nn.Linear(4, 12), nn.Sigmoid(), nn.Linear(12, 2))
"""


def vector_audit(folder: Path, n: int = 96) -> Path:
    """Rows of four columns, of which "weight" comes in kilograms and "size (cm)" in centimetres, trained and scored."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    own = np.arange(n) % 2
    values = rng.normal(size=(n, 4)) + 2.0 * own[:, None] * [1, 1, 0, 0]
    values[0] = [0.5, 0.5, 0.0, 40.0]  # one row with a column far from its class
    names = ["size (cm)", "weight", "<b>odd</b>", "age"]
    table = pa.table(
        {
            "id": [f"row-{i:02d}" for i in range(n)],
            "split": ["test" if i % 3 == 2 else "train" for i in range(n)],
            "label": np.array(["cat", "dog"])[own],
            **dict(zip(names, values.T, strict=True)),
        }
    )
    at = table.schema.get_field_index("weight")
    schema = table.schema.set(at, table.schema.field(at).with_metadata({"unit": "kg"}))
    pq.write_table(table.cast(schema), folder / "data.parquet")
    (folder / "model.py").write_text(MODEL)
    return _scored(folder, "vector", VECTOR_RUN)


def text_audit(folder: Path, n: int = 90) -> Path:
    """Short texts of two topics and some hostile ones, trained and scored."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(1)
    labels = ["cat" if i % 2 else "dog" for i in range(n)]
    texts = [" ".join(rng.choice([*WORDS[label], "the", "and"], size=8)) for label in labels]
    rows = {f"text-{i:02d}": (text, label) for i, (text, label) in enumerate(zip(texts, labels, strict=True))}
    rows |= {name: (text, "dog" if "dogs" in text else "cat") for name, text in HOSTILE.items()}
    frame = pd.DataFrame(
        [
            (name, "test" if i % 3 == 2 else "train", label, text)
            for i, (name, (text, label)) in enumerate(rows.items())
        ],
        columns=["id", "split", "label", "text"],
    )
    frame.to_parquet(folder / "data.parquet", index=False)
    return _scored(folder, "text", TEXT_RUN)


def _scored(folder: Path, media: str, run: str) -> Path:
    (folder / "audit.toml").write_text(TOML.format(media=media, run=run))
    assert hardlook("train", folder) == 0
    assert hardlook("score", folder) == 0
    return folder
