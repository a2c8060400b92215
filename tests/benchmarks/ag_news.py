"""Real texts: `python -m tests.benchmarks.ag_news [--bert] [--epochs 6] [--keep DIR]` audits 7,600 AG News texts.

Split into 5,600 train and 2,000 test, the small text classifier is trained, scored and sliced with hardlook's own
commands. Printed are accuracy, times, and the two slices (of at least 15 test examples) on which it is worst, with
label homogeneity (the share of the most frequent label, Wang et al. 2023), coherence beside random sets, their most
central texts and strongest opponents.

``--bert``: a BERT of two layers and width 64 over the same hashed words, predictions and VoG alone: the test error per
decile of the class-normalised VoG, lowest to highest, and the size of raw VoG.

Inputs: ag_news_test.csv (not for redistribution: nothing of it is kept with the project).
"""

from __future__ import annotations

import argparse
import csv
import json
import random
import tempfile
import time
from pathlib import Path

from scoring.audit import Audit
from scoring.audit.storage import read_table
from scoring.data.examples import read_examples
from scoring.evaluation import error_by_decile

from ..conftest import hardlook
from .data import data_file

CLASSES = {"1": "World", "2": "Sports", "3": "Business", "4": "Sci/Tech"}
TRAIN = 5600
SMALLEST = 15
TOML = """format = 1
name = "AG News"
media = "text"
classes = ["World", "Sports", "Business", "Sci/Tech"]

[[data]]
path = "news.csv"
split_column = "split"
id_column = "id"
text_column = ["title", "text"]
label_column = "label"

[run.main]
model = "scoring.models.text:BagOfEmbeddings"
arguments = {{ classes = 4, buckets = 32768 }}
transform = {{ length = 96, buckets = 32768 }}
checkpoints = "checkpoints/main/*.pt"

[run.main.training]
epochs = {epochs}
batch_size = 64
lr = 0.005

[run.main.scores.influence]
arnoldi_dim = 150
rank = 50
"""
BERT = """import torch
import transformers


class Bert(torch.nn.Module):
    def __init__(self, classes, buckets):
        super().__init__()
        self.net = transformers.BertForSequenceClassification(transformers.BertConfig(
            vocab_size=buckets + 1, hidden_size=64, num_hidden_layers=2, num_attention_heads=4, intermediate_size=128,
            num_labels=classes, pad_token_id=0))

    def forward(self, ids):
        return self.net(input_ids=ids, attention_mask=(ids != 0).long()).logits
"""


def use_bert(folder: Path) -> None:
    """The audit's model is a small BERT, trained as such nets are."""
    (folder / "model.py").write_text(BERT)
    config = (folder / "audit.toml").read_text().replace("scoring.models.text:BagOfEmbeddings", "model.py:Bert")
    (folder / "audit.toml").write_text(config.replace("lr = 0.005", 'lr = 0.001\noptimizer = "adamw"'))


def report_vog(audit: Audit) -> None:
    """Accuracy, the size of raw VoG, and the error per decile of the late z-scores on test."""
    run = audit.run()
    predicted = read_table(run.predictions_path, ["example_id", "split", "correct"]).to_pandas().set_index("example_id")
    test = predicted[predicted["split"] == "test"]
    scores = read_table(run.score_path("vog")).to_pandas().set_index("example_id").loc[test.index]
    print(
        f"\n== test accuracy {test['correct'].mean():.1%}; raw late logit VoG "
        f"{scores['late_label_logit'].median():.2g} (median)"
    )
    for column in ("late_label_logit_z", "late_label_probability_z"):
        table = error_by_decile(scores[column].to_numpy(), ~test["correct"].astype(bool).to_numpy())
        print(
            f"{column}: test error per decile, lowest to highest: "
            f"{' '.join(f'{error:.0%}' for error in table['error'])}"
        )


def write_audit(folder: Path, epochs: int) -> None:
    """The texts as one CSV with ids and splits."""
    with open(data_file("ag_news_test.csv"), newline="", encoding="utf8") as file:
        rows = [(f"news-{number:04d}", *row) for number, row in enumerate(csv.reader(file))]
    random.Random(0).shuffle(rows)
    with open(folder / "news.csv", "w", newline="", encoding="utf8") as file:
        table = csv.writer(file)
        table.writerow(["id", "split", "label", "title", "text"])
        for number, (name, label, title, text) in enumerate(rows):
            table.writerow([name, "train" if number < TRAIN else "test", CLASSES[label], title, text])
    (folder / "audit.toml").write_text(TOML.format(epochs=epochs))


def main() -> None:
    """Write, train, score, slice, and print two slices."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--bert", action="store_true", help="a small BERT: VoG alone")
    parser.add_argument("--keep", metavar="DIR", help="where the audit is written and stays")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(options.keep or temporary)
        folder.mkdir(parents=True, exist_ok=True)
        write_audit(folder, options.epochs)
        commands = (
            ["train"],
            ["score"],
            ["slice", "--n-slices", "25"],
            ["slice", "--method", "rule", "--max-accuracy", "0.5", "--min-size", "15"],
        )
        if options.bert:
            use_bert(folder)
            commands = (["train"], ["score", "--only", "vog"])
        for command in commands:
            start = time.perf_counter()
            assert hardlook(command[0], folder, *command[1:]) == 0
            print(f"== {' '.join(command)}: {time.perf_counter() - start:.0f} s")
        (report_vog if options.bert else report)(Audit.open(folder))


def report(audit: Audit) -> None:
    """The two worst slices of each method."""
    examples = read_examples(audit).set_index("example_id")
    with open(audit.root / "news.csv", encoding="utf8") as file:
        titles = {row["id"]: row["title"] for row in csv.DictReader(file)}
    for name in audit.run().slicing_names():
        summary = json.loads(audit.run().slices_summary_path(name).read_text())
        large = [one for one in summary["slices"] if one["size"] >= SMALLEST]
        print(f"\n== {name}: {len(summary['slices'])} slices, accuracy of all {summary['accuracy']:.1%}")
        for one in sorted(large, key=lambda one: one["accuracy"])[:2]:
            print(
                f"slice {one['slice_id']}: {one['size']} texts, accuracy {one['accuracy']:.0%}, label homogeneity "
                f"{one['homogeneity']:.2f}, labels {one['labels']}, predictions {one['predictions']}, "
                f"coherence {one['coherence']:.3g}, random {one['random_coherence']:.3g}"
            )
            for example in one["nearest"][:4]:
                print(f"   centre    {examples.loc[example, 'label']:<9} {titles[example][:90]}")
            for found in one["opponents"][:4]:
                example = found["example_id"]
                print(
                    f"   opponent  {examples.loc[example, 'label']:<9} {titles[example][:90]}  "
                    f"({found['influence']:.3g})"
                )


if __name__ == "__main__":
    main()
