"""The first pass over the data gives the numbers of the two-step way, decodes each image once, resumes, and fails
early."""

import io
import os
import re
import shutil
from collections import Counter

import numpy as np
import pytest
import torch
from PIL import Image

from scoring.audit import Audit
from scoring.audit.errors import HardlookError
from scoring.audit.storage import read_json, read_metadata, read_table, read_vectors
from scoring.data import kept_pictures
from scoring.data.adapters import base
from scoring.pipeline import check, check_reproducible, early_check, first_pass, predictions, shards
from scoring.pipeline.read_data import read_data
from scoring.pipeline.score_audit import score_audit

from ..modalities import text_audit, vector_audit
from ..small_audits import spoil, striped, write_small_audit

ONLY = ["uncertainty", "neighbours"]
ARRAYS = """
[[data]]
path = "more.npz"
split = "train"
inputs = "images"
labels = "labels"
"""


@pytest.fixture
def small(tmp_path, monkeypatch):
    """36 image files, 13 rows of an array (two of them equal) and a file that is no image, in batches of 8."""
    for module in (first_pass, predictions, shards):
        monkeypatch.setattr(module, "BATCH", 8)
    root = write_small_audit(tmp_path / "audit")
    images = np.stack([striped(at % 3, 5000 + at // 2) for at in range(13)])
    np.savez(root / "more.npz", images=images, labels=np.arange(13) % 3)
    text = (root / "audit.toml").read_text()
    (root / "audit.toml").write_text(text.replace("[run.main]", ARRAYS + "\n[run.main]"))
    model = (root / "model.py").read_text()
    (root / "model.py").write_text(
        model.replace("def transform(image):", "def transform(image):\n    image = picture(image)")
        + "\n\ndef picture(image):\n    from PIL import Image\n"
        "    return image if hasattr(image, 'convert') else Image.fromarray(image)\n"
    )
    (root / "train" / "b" / "3.png").write_bytes(b"no image")
    return root


def score(root, only=ONLY, **options):
    audit = Audit.open(root)
    return score_audit(audit, audit.run(), device="cpu", only=only, anyway=True, **options)


def two_steps(root, only=ONLY):
    read_data(Audit.open(root))
    return score(root, only, read=False)


def written(root):
    """What a scoring wrote, as values: the bits of vectors, tables, thumbnails, and the check's findings."""
    audit = Audit.open(root)
    run = audit.run()
    vectors = {}
    for path in (run.logits_path, *([run.features_path] if run.features_path.is_file() else [])):
        ids, values = read_vectors(path)
        vectors[path.name] = (ids.tolist(), values.tobytes())
    tables = {
        path.name: read_table(path).to_pandas().to_json()
        for path in (audit.examples_path, run.predictions_path, *run.scores_folder.glob("*"))
    }
    pictures = {name: audit.thumbnails.get(name) for name in audit.thumbnails.ids()}
    kept = {name: audit.originals.get(name) for name in audit.originals.ids()}
    record = {name: run.record()[name] for name in ("head", "output")}
    return vectors, tables, pictures, kept, read_json(run.check_path)["findings"], record


def test_the_numbers_and_files_are_those_of_the_two_step_way(small, tmp_path):
    shutil.copytree(small, tmp_path / "other")
    two_steps(tmp_path / "other")
    score(small)
    assert written(small) == written(tmp_path / "other")
    assert not list(small.glob("runs/main/parts/*"))


@pytest.mark.parametrize("make", [vector_audit, text_audit])
def test_vectors_and_texts_too(tmp_path, make):
    made = make(tmp_path / "audit")
    for name in ("examples.parquet", "runs", "parts", "thumbnails.arrow", "media.arrow", "examples.json"):
        path = made / name
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    shutil.copytree(made, tmp_path / "other")
    two_steps(tmp_path / "other")
    score(made)
    assert written(made) == written(tmp_path / "other")


def test_each_image_is_decoded_once_and_a_few_for_the_checks(tmp_path, monkeypatch):
    root = write_small_audit(tmp_path / "audit")
    for epoch in (1, 2):
        (root / "checkpoints" / f"epoch-{epoch}.pt").unlink()
    for at in range(400):
        Image.fromarray(striped(at % 3, 9000 + at)).save(root / "train" / "abc"[at % 3] / f"more{at}.png")
    decoded = Counter()
    real = kept_pictures.decode

    def counted(data):
        decoded[data] += 1
        return real(data)

    monkeypatch.setattr(kept_pictures, "decode", counted)
    monkeypatch.setattr(base, "decode", counted)
    score(root)
    assert len(decoded) == 436
    assert (
        sum(decoded.values()) - 436 <= first_pass.FEW + 12 * 2 + 1
    )  # the twelve test images are read twice for the check
    before = sum(decoded.values())
    score(root)
    assert sum(decoded.values()) - before <= 1 + predictions.SAMPLE  # nothing changed: does the model still give them?


def killed_after(root, monkeypatch, batches):
    """Score until so many batches went through the model."""
    done, real = [], first_pass.predict_batch

    def dying(model, batch):
        if len(done) == batches:
            raise KeyboardInterrupt
        done.append(len(batch))
        return real(model, batch)

    with monkeypatch.context() as patch:
        patch.setattr(first_pass, "predict_batch", dying)
        with pytest.raises(KeyboardInterrupt):
            score(root)
    assert len(list(root.glob("runs/main/parts/first_pass/batch-*.parquet"))) == batches
    return sum(done)


@pytest.mark.parametrize("batches", [1, 3])  # before the first source was kept, and after
def test_what_a_killed_pass_computed_is_not_computed_again(small, tmp_path, monkeypatch, batches):
    shutil.copytree(small, tmp_path / "other")
    score(tmp_path / "other")
    done = killed_after(small, monkeypatch, batches)
    again, real = [], first_pass.predict_batch
    monkeypatch.setattr(
        first_pass, "predict_batch", lambda model, batch: again.append(len(batch)) or real(model, batch)
    )
    score(small)
    assert sum(again) == 48 - done
    assert written(small) == written(tmp_path / "other")


@pytest.mark.parametrize("name", ["00.png", "0.png"])  # a new one, second of the first batch, and other content of one
def test_a_batch_that_has_other_examples_now_is_computed_anew(small, tmp_path, monkeypatch, name):
    killed_after(small, monkeypatch, 3)
    Image.fromarray(striped(0, 99)).save(small / "train" / "a" / name)
    shutil.copytree(small, tmp_path / "other", ignore=shutil.ignore_patterns("runs", "parts", "*.arrow", "examples.*"))
    score(small)
    two_steps(tmp_path / "other")
    assert written(small)[:4] == written(tmp_path / "other")[:4]


def test_the_model_sees_turned_and_converted_pictures_as_the_two_step_way_does(tmp_path):
    root = write_small_audit(tmp_path / "audit")
    turn = Image.Exif()
    turn[0x0112] = 6
    for path in root.glob("t*/*/*.png"):
        Image.open(path).rotate(90).convert("RGB").save(path.with_suffix(".jpg"), exif=turn, quality=100)
        path.unlink()
    text = (root / "audit.toml").read_text()
    (root / "audit.toml").write_text(text.replace('path = "t', 'exif = true\nmode = "L"\npath = "t'))
    model = (root / "model.py").read_text()
    (root / "model.py").write_text(
        model.replace("def transform(image):", 'def transform(image):\n    assert image.mode == "L"')
    )
    shutil.copytree(root, tmp_path / "other")
    score(root)
    two_steps(tmp_path / "other")
    assert written(root) == written(tmp_path / "other")
    assert read_table(Audit.open(root).run().predictions_path).to_pandas()["correct"].mean() > 0.8
    key = read_metadata(Audit.open(root).run().predictions_path)["key"]
    assert {one["name"]: one["computed"] for one in score(root).passes}["predictions"] == 0
    assert read_metadata(Audit.open(root).run().predictions_path)["key"] == key
    without = (root / "audit.toml").read_text().replace("exif = true\n", "exif = false\n")
    (root / "audit.toml").write_text(without)  # the same files, seen otherwise
    assert {one["name"]: one["computed"] for one in score(root).passes}["predictions"] == 36


def test_a_source_that_turns_its_pictures_by_itself_is_known_before_its_table_is_written(tmp_path):
    """The key of the first pass is that of every later command: nothing is computed again."""
    datasets = pytest.importorskip("datasets")
    root = write_small_audit(tmp_path / "audit")
    turn = Image.Exif()
    turn[0x0112] = 6
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["a", "b", "c"])})
    for split in ("train", "test"):
        rows: dict[str, list] = {"image": [], "label": []}
        for path in sorted((root / split).glob("*/*.png")):
            data = io.BytesIO()
            Image.open(path).rotate(90).save(data, "PNG", exif=turn)
            rows["image"].append({"bytes": data.getvalue(), "path": None})
            rows["label"].append("abc".index(path.parent.name))
        shutil.rmtree(root / split)
        datasets.Dataset.from_dict(rows, features=features).save_to_disk(root / split)
    score(root)
    run = Audit.open(root).run()
    assert read_table(run.predictions_path).to_pandas()["correct"].mean() > 0.8
    later = shards.Context(Audit.open(root), run)  # as a command opens it that reads no data
    assert read_metadata(run.predictions_path)["key"] == predictions.predictions_key(later)


def test_parts_of_another_model_are_not_taken(small, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(first_pass.FirstPass, "end", lambda self: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            score(small)
    assert list(small.glob("runs/main/parts/first_pass/batch-*.parquet"))
    (small / "checkpoints" / "epoch-3.pt").unlink()
    shutil.copytree(small, tmp_path / "other", ignore=shutil.ignore_patterns("runs"))
    score(small)
    two_steps(tmp_path / "other")
    assert written(small) == written(tmp_path / "other")


def test_changed_and_added_examples_alone_go_through_the_model(small, tmp_path, monkeypatch):
    score(small)
    Image.fromarray(striped(1, 77)).save(small / "train" / "b" / "0.png")
    Image.fromarray(striped(2, 78)).save(small / "train" / "c" / "new.png")
    rows = []
    real = first_pass.predict_batch
    monkeypatch.setattr(first_pass, "predict_batch", lambda model, batch: rows.append(len(batch)) or real(model, batch))
    assert {one["name"]: one["computed"] for one in score(small).passes}["predictions"] == 2
    assert rows == [2]
    shutil.copytree(small, tmp_path / "other", ignore=shutil.ignore_patterns("runs", "parts", "*.arrow", "examples.*"))
    two_steps(tmp_path / "other")
    one, other = (
        read_table(Audit.open(root).run().predictions_path).to_pandas() for root in (small, tmp_path / "other")
    )
    np.testing.assert_allclose(one["loss"], other["loss"], rtol=1e-5)


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        ("checkpoints/*.pt", "nowhere/*.pt", "nowhere"),
        ("model.py:net", "model.py:nett", "nett"),
        ("model.py:transform", "model.py:trafo", "trafo"),
        ('"a", "b", "c"]', '"a", "b", "c", "d"]', "classes"),
    ],
)
def test_what_is_wrong_with_the_run_is_said_before_any_data_is_read(small, old, new, what):
    text = (small / "audit.toml").read_text()
    assert old in text
    (small / "audit.toml").write_text(text.replace(old, new))
    with pytest.raises(HardlookError, match=what):
        score(small)
    assert not (small / "examples.parquet").exists() and not list(small.glob("thumbnails.arrow/*"))


@pytest.mark.parametrize(
    ("forward", "what"),
    [
        ("return self.net(x.flatten(1))", "the model fails on inputs of shape"),
        ("return self.net(x)[:, :2]", "the model gives 2 logits"),
    ],
)
def test_a_model_that_cannot_take_the_inputs_is_told_before_any_data_is_read(small, forward, what):
    spoil(small, forward)
    with pytest.raises(HardlookError, match=what):
        score(small)
    assert not (small / "examples.parquet").exists()


def test_a_transform_that_fails_on_every_example_is_told_before_any_data_is_read(small):
    text = (small / "model.py").read_text()
    (small / "model.py").write_text(text.replace('convert("L")', 'convert("nothing")'))
    with pytest.raises(
        HardlookError, match="48 of 48 examples cannot be turned into inputs, the first: example 'train/a/0.png'"
    ):
        score(small)
    assert not (small / "examples.parquet").exists()


def test_outputs_that_look_like_logits_at_first_and_are_none_are_computed_the_two_step_way(
    small, tmp_path, monkeypatch
):
    spoil(small, "return (8 * self.net(x)).sigmoid()")
    shutil.copytree(small, tmp_path / "other")
    two_steps(tmp_path / "other", ["uncertainty"])
    monkeypatch.setattr(first_pass, "_gives_logits", lambda context, inputs: True)
    score(small, ["uncertainty"])
    assert Audit.open(small).run().record()["output"]["kind"] == "sigmoid"
    assert written(small) == written(tmp_path / "other")


def test_of_much_data_a_sample_shows_a_mistake_before_all_is_read(small, monkeypatch):
    monkeypatch.setattr(early_check, "MUCH", 30)
    text = (small / "audit.toml").read_text()
    (small / "audit.toml").write_text(text.replace('["a", "b", "c"]', '["c", "a", "b"]'))
    audit = Audit.open(small)
    with pytest.raises(HardlookError, match="(?s)accuracy .* of a sample .*every score would be wrong"):
        score_audit(audit, audit.run(), device="cpu", only=ONLY)
    assert not (small / "examples.parquet").exists()
    score(small)  # anyway
    (small / "audit.toml").write_text(text)
    score_audit(Audit.open(small), audit.run(), device="cpu", only=ONLY)


def test_a_model_that_drops_at_random_is_refused_before_much_data_is_read(small, monkeypatch):
    monkeypatch.setattr(early_check, "MUCH", 30)
    spoil(small, "import torch; return torch.nn.functional.dropout(self.net(x), 0.5)")
    audit = Audit.open(small)
    with pytest.raises(HardlookError, match="different logits for the same inputs"):
        score_audit(audit, audit.run(), device="cpu", only=["uncertainty"])
    assert not (small / "examples.parquet").exists()


def test_a_pipe_among_the_files_is_not_opened(small):
    (small / "train" / "a" / "0.png").unlink()
    os.mkfifo(small / "train" / "a" / "0.png")
    score(small)  # would wait for ever
    problems = read_table(small / "examples.parquet").to_pandas().set_index("example_id")["problem"]
    assert "pipe" in problems["train/a/0.png"]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("dtype=np.float32)[None] / 255", "dtype=np.float32)[None] / 255 + np.float32(np.random.rand())"),
        ("return nn.Sequential(", "return Noisy("),
    ],
    ids=["random transform", "random model"],
)
def test_what_is_random_is_told_in_the_words_of_check_and_nothing_else_is_blamed(tmp_path, old, new):
    root = write_small_audit(tmp_path / "audit")
    text = (root / "model.py").read_text()
    assert old in text
    noisy = (
        "class Noisy(nn.Sequential):\n    def forward(self, x):\n        return super().forward(x) + torch.rand(3)\n"
    )
    (root / "model.py").write_text(f"{text.replace(old, new)}\n\n{noisy}")
    audit = Audit.open(root)
    with pytest.raises(HardlookError) as found:
        score_audit(audit, audit.run(), device="cpu", only=["uncertainty"])
    told = errors(read_json(audit.run().check_path)["findings"])
    assert len(told) == 1 and found.match(re.escape(told[0]))
    audit.run().check_path.unlink()
    findings = check.check_run(shards.Context(audit, audit.run(), device="cpu"))
    assert errors([{"level": one.level, "text": one.text} for one in findings]) == told


def errors(findings):
    return [one["text"] for one in findings if one["level"] == "error"]


def test_other_logits_than_in_the_pass_are_told():
    few = torch.randn(8, 3, generator=torch.Generator().manual_seed(0))
    assert check_reproducible.unlike_passed(few, torch.cat([few, few])) == []
    changed = few.clone()
    changed[5] = changed[5].roll(1)
    (finding,) = check_reproducible.unlike_passed(few, changed)
    assert finding.level == "error" and "augments some of them at random" in finding.text
