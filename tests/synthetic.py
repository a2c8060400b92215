"""Audits made of numbers: the files that `hardlook score` would write, without a model, to test what reads
them.

A share of the labels is wrong; wrong examples have low margins and stay improbable, so that rankings have
something to find. Everything follows from one seed.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
from PIL import Image

from scoring.audit import Audit, Run
from scoring.audit.storage import write_json, write_table, write_vectors
from scoring.evaluation import measured_direction, normalize_by_class
from scoring.scorers import Column
from scoring.training.dynamics import EpochTables, measure

STAGES, INDICES, FORMS = ("early", "late", "all"), ("label", "prediction"), ("logit", "probability")
AWKWARD = (
    "<b>bold</b> & *stars*",
    "[link](http://x) `tick` :smile: $x$",
    "l" * 120,
    "naïve ☕ 中文",
    "= 1 + 1",
    "none",
)


def vog_columns() -> list[Column]:
    """The columns of vog.parquet: every stage, index and form, raw and as class z-scores."""
    return [
        Column(
            name=f"{stage}_{index}_{form}{suffix}",
            title=f"VoG, {stage}, {index}, {form}{', z' if suffix else ''}",
            help="How much the input gradient varies across checkpoints.",
            family="vog",
            suspicious="measured",
            detects="difficulty",
            stage=stage,
            index=index,
            form=form,
            normalised="class" if suffix else None,
        )
        for stage in STAGES
        for index in INDICES
        for form in FORMS
        for suffix in ("", "_z")
    ]


OTHER_COLUMNS = {
    "aum": [
        Column(
            name="aum",
            title="AUM",
            help="Mean margin over the recorded training.",
            family="aum",
            suspicious="low",
            detects="label error",
        )
    ],
    "data_map": [
        Column(
            name="confidence",
            title="Data map confidence",
            help="Mean probability of the label over epochs.",
            family="data map",
            suspicious="low",
            detects="label error",
        ),
        Column(
            name="variability",
            title="Data map variability",
            help="Its standard deviation over epochs.",
            family="data map",
            detects="difficulty",
        ),
    ],
    "uncertainty": [
        Column(
            name="loss",
            title="Loss",
            help="−log p(label) of the last checkpoint.",
            family="loss",
            unit="nats",
            suspicious="high",
            detects="label error",
        ),
        Column(
            name="entropy",
            title="Entropy",
            help="Spread of the prediction.",
            family="entropy",
            unit="nats",
            suspicious="high",
            detects="difficulty",
        ),
    ],
}


def make_audit(
    path: Path,
    n: int = 400,
    classes: int | Sequence[str] = 5,
    *,
    seed: int = 0,
    wrong: float = 0.08,
    splits: Sequence[str] = ("train", "test"),
    runs: Sequence[str] = ("main",),
    predictions: bool = True,
    scores: bool = True,
    thumbnails: bool = False,
    meta: bool = True,
    checkpoints: int = 8,
    memorised: bool = False,
    problems: int = 3,
    name: str = "Synthetic shapes",
) -> Audit:
    """Write an audit of ``n`` examples under ``path`` and open it. Every tenth example is test (or pool)."""
    path = Path(path)
    names = [f"class {number:03d}" for number in range(classes)] if isinstance(classes, int) else list(classes)
    path.mkdir(parents=True, exist_ok=True)
    (path / "audit.toml").write_text(_toml(name, names, runs), encoding="utf8")
    audit = Audit.open(path)
    rng = np.random.default_rng(seed)
    examples, truth = _examples(n, names, splits, rng, wrong, meta, problems)
    write_table(audit.examples_path, pa.Table.from_pandas(examples, preserve_index=False))
    if thumbnails:
        audit.thumbnails.write_part((i, _picture(k, rng)) for i, k in zip(examples["example_id"], truth, strict=True))
    for run in runs:
        _write_run(audit.run(run), examples, truth, names, rng, predictions, scores, checkpoints, memorised)
    return audit


def _toml(name: str, classes: Sequence[str], runs: Sequence[str]) -> str:
    quoted = ", ".join('"' + c.replace("\\", "\\\\").replace('"', '\\"') + '"' for c in classes)
    tables = "".join(f'\n[run."{run}"]\nmodel = "model.py:cnn"\ncheckpoints = "checkpoints/*.pt"\n' for run in runs)
    data = '[[data]]\nsplit = "train"\npath = "data.npz"\n'
    return f'format = 1\nname = "{name}"\nclasses = [{quoted}]\n\n{data}{tables}'


def _examples(n, names, splits, rng, wrong, meta, problems):
    number = np.arange(n)
    truth = rng.integers(0, len(names), n)
    label = np.where(rng.random(n) < wrong, (truth + 1) % len(names), truth)
    split = np.asarray(splits, dtype=object)[
        (number % 10 == 9) * (len(splits) > 1) * (1 + number // 10 % max(len(splits) - 1, 1))
    ]
    fingerprint = [hashlib.sha256(f"{i // 2 if i < 8 else i}".encode()).hexdigest() for i in number]  # 4 pairs alike
    labels = np.asarray(names, dtype=object)[label]
    labels[split == "pool"] = None
    problem = np.full(n, None, dtype=object)
    problem[n - problems :] = "cannot identify image file"
    frame = pd.DataFrame(
        {
            "example_id": [f"{s}/{i:06d}.png" for s, i in zip(split, number, strict=True)],
            "split": split,
            "label": labels,
            "fingerprint": fingerprint,
            "kind": "image",
            "reference": None,
            "problem": problem,
            "source": np.zeros(n, np.int32),
            "row": number,
        }
    )
    if meta:
        frame["meta.camera"] = np.asarray(["north", "south", None], dtype=object)[rng.integers(0, 3, n)]
        frame["meta.width"] = rng.integers(100, 2000, n)
        frame["meta.file:note *odd*"] = [f"note {i}" for i in number]
    for column in ("label", "reference", "problem", "split", "example_id"):
        frame[column] = frame[column].astype(object).astype("str")
    return frame.sample(frac=1, random_state=seed_of(rng)).sort_index(), truth


def write_dynamics(audit: Audit, run: Run, epochs: int = 5, training: str = "main", seed: int = 0) -> None:
    """A recorded training of the labelled examples: p(label) rises with the epochs, for wrong-looking ones late."""
    examples = pd.read_parquet(audit.examples_path)
    examples = examples[examples["label"].notna() & examples["problem"].isna()]
    position = {name: k for k, name in enumerate(audit.classes)}
    labels = examples["label"].map(position).to_numpy()
    rng = np.random.default_rng(seed)
    speed = rng.gamma(2.0, 0.4, len(examples))
    tables = EpochTables(run, training, examples["example_id"].tolist(), labels)
    tables.open(overwrite=True)
    try:
        for epoch in range(1, epochs + 1):
            logits = rng.normal(0, 0.5, (len(examples), len(audit.classes)))
            logits[np.arange(len(labels)), labels] += speed * epoch - 1
            nothing = np.full(len(labels), np.nan, np.float32)
            tables.append(epoch, measure(logits, labels), nothing, None, {"from": "synthetic"})
    finally:
        tables.close()


def seed_of(rng: np.random.Generator) -> int:
    """A seed for a library that wants a number."""
    return int(rng.integers(0, 2**31))


def _picture(kind: int, rng) -> bytes:
    """A small picture whose hue and shape say its class."""
    side = 32
    y, x = np.mgrid[:side, :side] - side / 2 + rng.normal(0, 2, 2)[:, None, None]
    mask = (np.hypot(x, y) < 9) if kind % 2 else (np.maximum(abs(x), abs(y)) < 8)
    hue = np.array([(kind * 97) % 200 + 55, (kind * 57) % 200 + 55, (kind * 151) % 200 + 55])
    pixels = np.where(mask[..., None], hue, 30 + rng.integers(0, 40, 3)) + rng.normal(0, 8, (side, side, 3))
    buffer = io.BytesIO()
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def _write_run(run: Run, examples, truth, names, rng, predictions, scores, checkpoints, memorised):
    run.folder.mkdir(parents=True, exist_ok=True)
    n, c = len(examples), len(names)
    position = {name: k for k, name in enumerate(names)}
    label = np.array([position.get(value, -1) for value in examples["label"]])
    readable = examples["problem"].isna().to_numpy()
    hardness = rng.gamma(2.0, 1.0, n) + 3.0 * (label != truth)
    wrong = rng.random(n) < np.clip(hardness / 12, 0, 0.9)
    prediction = np.where(wrong, (truth + 2) % c, truth)
    if memorised:
        prediction = np.where((examples["split"] == "train") & (label >= 0), label, prediction)
    confidence = np.clip(0.98 - hardness / 12 + rng.normal(0, 0.05, n), 0.05, 0.99)
    p_label = np.where(prediction == label, confidence, (1 - confidence) * 0.5)
    facts = {
        "name": run.name,
        "checkpoints": [{"path": f"checkpoints/{k}.pt", "sha256": str(k)} for k in range(checkpoints)],
    }
    if predictions:
        _write_predictions(run, examples, names, prediction, confidence, p_label, label, readable)
    if scores:
        columns = _scores(hardness, p_label, label, prediction, rng)
        facts["directions"] = {}
        for scorer, declared in {"vog": vog_columns(), **OTHER_COLUMNS}.items():
            _write_scores(run, scorer, declared, columns, examples, readable)
            test = ((examples["split"] == "test") & readable & (label >= 0)).to_numpy()
            if predictions and test.any():
                for column in declared:
                    measured = measured_direction(columns[column.name][test], (prediction != label)[test])
                    facts["directions"][f"{scorer}.{column.name}"] = {**measured, "split": "test"}
    write_json(run.record_path, facts)


def _write_predictions(run, examples, names, prediction, confidence, p_label, label, readable):
    labelled = readable & (label >= 0)
    second = np.asarray(names, dtype=object)[(label + 1) % len(names)]

    def numbers(values, where):
        return pa.array(np.where(where, values, 0).astype(np.float32), mask=~where)

    write_table(
        run.predictions_path,
        pa.table(
            {
                "example_id": pa.array(examples["example_id"], pa.string()),
                "prediction": pa.array(
                    np.where(readable, np.asarray(names, dtype=object)[prediction], None), pa.string()
                ),
                "p_prediction": numbers(confidence, readable),
                "p_label": numbers(p_label, labelled),
                "loss": numbers(-np.log(p_label), labelled),
                "margin": numbers(p_label - confidence, labelled),
                "entropy": numbers(1 - confidence, readable),
                "correct": pa.array(prediction == label, mask=~labelled),
                "second": pa.array(second, pa.string()),
                "p_second": numbers((1 - p_label) / 2, labelled),
            }
        ),
    )
    if len(names) <= 20:
        logits = np.full((len(prediction), len(names)), -2.0, np.float32)
        logits[np.arange(len(prediction)), prediction] = np.log(confidence) + 3
        write_vectors(run.logits_path, examples["example_id"].tolist(), logits)


def _scores(hardness, p_label, label, prediction, rng) -> dict[str, np.ndarray]:
    n = len(hardness)
    found = {}
    for stage, index, form in ((s, i, f) for s in STAGES for i in INDICES for f in FORMS):
        sign = -1 if form == "logit" or stage == "early" else 1
        raw = np.exp(sign * hardness / 6 + rng.normal(0, 0.3, n))
        found[f"{stage}_{index}_{form}"] = raw
        found[f"{stage}_{index}_{form}_z"] = normalize_by_class(raw, label if index == "label" else prediction)
    return found | {
        "aum": 4 - hardness + rng.normal(0, 0.5, n),
        "confidence": p_label,
        "variability": np.abs(rng.normal(0.2, 0.1, n)),
        "loss": -np.log(p_label),
        "entropy": hardness / 3,
    }


def _write_scores(run, scorer, declared, columns, examples, readable):
    fields = [pa.field(name, pa.string()) for name in ("example_id", "fingerprint", "label")]
    arrays = [pa.array(examples[f.name], pa.string()) for f in fields]
    for column in declared:
        needs_label = column.index == "label" or column.detects == "label error"
        there = readable & (examples["label"].notna().to_numpy() | (not needs_label))
        arrays.append(pa.array(columns[column.name].astype(np.float32), mask=~there))
        fields.append(column.arrow_field())
    write_table(run.score_path(scorer), pa.table(arrays, schema=pa.schema(fields)))
