"""Broken files and slips of the pen, through the commands: one message that says what to do, or the example's own
problem; never a traceback, a hang, or a number that is silently wrong."""

import errno
import json
import os
import zipfile

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from scoring.audit import Audit
from scoring.cli import system_refusal
from scoring.data.examples import read_examples

from .conftest import hardlook
from .small_audits import AUDIT, small_states, spoil, write_small_audit


@pytest.fixture
def small(tmp_path):
    return write_small_audit(tmp_path / "small")


def refused(capsys, folder, *words, only="uncertainty"):
    """Scoring ends with one message that holds the words."""
    assert hardlook("score", folder, "--only", only) == 1
    said = capsys.readouterr().err
    assert "Traceback" not in said and said.count("hardlook score:") == 1
    for word in words:
        assert word in said, said
    return said


def configured(folder, old, new):
    text = (folder / "audit.toml").read_text()
    assert old in text
    (folder / "audit.toml").write_text(text.replace(old, new, 1))


# -- files --------------------------------------------------------------------------------------------------


def test_pipes_and_devices_are_problems_of_their_own_and_are_never_read(small):
    os.mkfifo(small / "train" / "a" / "pipe.png")
    os.symlink("/dev/zero", small / "train" / "a" / "zero.png")
    assert hardlook("score", small, "--only", "uncertainty") == 0
    problems = read_examples(Audit.open(small)).set_index("example_id")["problem"].dropna()
    assert set(problems.index) == {"train/a/pipe.png", "train/a/zero.png"}
    assert problems.str.contains("pipe, socket or device").all()


def test_inputs_of_two_shapes_are_refused_by_an_example_of_each(small, capsys):
    from PIL import Image

    Image.new("L", (5, 5)).save(small / "train" / "b" / "small.png")
    refused(capsys, small, "(1, 5, 5) of 'train/b/small.png'", "(1, 8, 8) of", "add a resize")


def test_a_damaged_npz_is_one_message(small, capsys):
    np.savez_compressed(
        small / "train.npz",
        x=np.random.default_rng(0).integers(0, 255, (24, 8, 8)).astype(np.uint8),
        y=np.repeat(np.arange(3), 8),
    )
    with zipfile.ZipFile(small / "train.npz") as archive:
        middle = archive.getinfo("x.npy").compress_size // 2
    content = bytearray((small / "train.npz").read_bytes())
    content[middle : middle + 100] = bytes(100)
    (small / "train.npz").write_bytes(bytes(content))
    configured(small, 'path = "train"', 'path = "train.npz"')
    refused(capsys, small, "array 'x' of train.npz is damaged", "save the file again")


def test_integers_with_gaps_as_pandas_writes_them_are_indices(small):
    rows = "".join(f"train/{name}/{at}.png,{number}.0\n" for number, name in enumerate("abc") for at in range(8))
    (small / "train.csv").write_text("path,label\n" + rows.replace("train/a/3.png,0.0", "train/a/3.png,"))
    configured(small, 'path = "train"', 'path = "train.csv"')
    assert hardlook("score", small, "--only", "uncertainty") == 0
    labels = read_examples(Audit.open(small)).set_index("example_id")["label"]
    assert labels["train/b/0.png"] == "b" and labels[labels.index.str.startswith("train/")].notna().sum() == 23


# -- audit.toml ---------------------------------------------------------------------------------------------


def test_a_byte_order_mark_before_audit_toml_is_passed_over(small):
    (small / "audit.toml").write_bytes(b"\xef\xbb\xbf" + AUDIT.encode())
    assert Audit.open(small).classes == ["a", "b", "c"]


@pytest.mark.parametrize(
    "line, words",
    [
        ('seed = "x"', "seed = 'x'; needed a whole number"),
        ("seed = -1", "seed = -1; needed a whole number from 0"),
        ("seed = 99999999999", "needed a whole number from 0 to 4294967295"),
        ('issues = "duplicate"', "issues = 'duplicate'; needed a list"),
        ("policy = 3", "policy = 3; needed a table"),
        ('policy = { unsure = "explode" }', "unsure = 'explode'; needed one of"),
        ("policy = { second_opinions = 3 }", "needed a share from 0 to 1"),
        ("truth = 3", "truth = 3; needed a table"),
        ("truth = {}", "[truth] has no path"),
        ('id = ""', "id = ''; needed a permanent name"),
        ('name = ["x"]', "name = ['x']; needed a title"),
        ('access = { proxies = "10.0.0.5" }', "[access] proxies = '10.0.0.5'; needed a list"),
        ('name = "a\\u0000b"', "NUL character"),
    ],
)
def test_a_wrong_kind_of_value_is_refused_when_the_audit_is_opened(small, capsys, line, words):
    configured(small, "format = 1", f"format = 1\n{line}")
    refused(capsys, small, words)


@pytest.mark.parametrize(
    "line, words",
    [
        ("transform = 3", "transform = 3; needed"),
        ("scores = 3", "scores = 3; needed one table"),
        ("scores = { vog = 3 }", "needed one table of settings per score"),
        ("scores = { vgo = {} }", "vgo"),
        ("batch_size = 8", "batch_size has no effect there"),
        ('averaged = "yes"', "averaged = 'yes'; needed true or false"),
        ("l2 = -1", "l2 = -1; needed the L2 penalty"),
        ("layers = 3", "layers = 3; needed a list of layer names"),
    ],
)
def test_a_wrong_kind_of_value_in_a_run_is_refused(small, capsys, line, words):
    configured(
        small,
        'transform = "model.py:transform"',
        line if "transform" in line else f'transform = "model.py:transform"\n{line}',
    )
    refused(capsys, small, words)


@pytest.mark.parametrize(
    "line, words",
    [
        ('loader = "nope.py:x"', "data[0].loader = 'nope.py:x'"),
        ("extensions = [3]", "data[0].extensions = [3]; needed endings"),
        ('mode = "XYZ"', "data[0].mode = 'XYZ'; needed a mode of Pillow"),
    ],
)
def test_a_source_that_no_example_could_be_read_by_is_refused_once(small, capsys, line, words):
    configured(small, 'path = "train"', f'path = "train"\n{line}')
    refused(capsys, small, words)


@pytest.mark.parametrize("name", ["x" * 100_000, "a\0b"], ids=["long", "nul"])
def test_a_path_that_can_be_none_is_one_message(name, capsys):
    assert hardlook("score", name) == 1
    said = capsys.readouterr().err
    assert "Traceback" not in said and 20 < len(said) < 500


# -- checkpoints --------------------------------------------------------------------------------------------


def without_second(folder):
    (folder / "checkpoints" / "epoch-2.pt").unlink()
    return folder / "checkpoints" / "epoch-2.pt"


@pytest.mark.parametrize(
    "content, words",
    [
        (b"", "it is empty (0 bytes)"),
        (b"<!doctype html>", "it is a web page (HTML)"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "git lfs pull"),
    ],
)
def test_what_stands_in_place_of_a_checkpoint_is_told(small, capsys, content, words):
    without_second(small).write_bytes(content)
    refused(capsys, small, "epoch-2.pt", words)


def test_a_link_that_leads_nowhere_is_told(small, capsys):
    os.symlink("/nowhere/at/all", without_second(small))
    refused(capsys, small, "epoch-2.pt, which is a broken link")


@pytest.mark.parametrize(
    "change, words",
    [
        (lambda weight: weight.to_sparse(), "is sparse_coo"),
        (lambda weight: weight.to("meta"), "without data"),
        (lambda weight: weight.to(torch.complex64), "holds complex64, the model needs float32"),
        (lambda weight: (100 * weight).to(torch.int8), "is quantised (int8 values)"),
    ],
    ids=["sparse", "meta", "complex", "integers"],
)
@pytest.mark.filterwarnings("ignore:Sparse invariant checks:UserWarning")
def test_weights_that_would_be_cut_down_in_silence_are_refused(small, capsys, change, words):
    state = small_states()[1]
    torch.save({**state, "5.weight": change(state["5.weight"])}, without_second(small))
    refused(capsys, small, "'5.weight'", words, only="vog")


def test_an_epoch_beyond_all_numbers_counts_as_not_told(small, capsys):
    torch.save({"state_dict": small_states()[1], "epoch": 10**400}, without_second(small))
    assert hardlook("check", small) == 0
    assert (
        "in the order of the epoch in the file names: epoch-1.pt (epoch 1), epoch-2.pt, epoch-3.pt"
        in capsys.readouterr().out
    )


@pytest.mark.parametrize(
    "index, state, words",
    [
        ({"weight_map": {"a": 3, "b": "model-00001-of-00001.safetensors"}}, "{}", "not an index of shards"),
        (None, "{nope", "trainer_state.json is damaged"),
        (None, "[]", "trainer_state.json is damaged"),
    ],
)
def test_a_damaged_folder_of_shards_is_told(small, capsys, index, state, words):
    folder = small / "checkpoints" / "ckpt-2"
    folder.mkdir()
    shard = "model-00001-of-00001.safetensors"
    save_file(small_states()[1], folder / shard)
    index = index or {"weight_map": dict.fromkeys(small_states()[1], shard)}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    (folder / "trainer_state.json").write_text(state)
    configured(small, "checkpoints/*.pt", "checkpoints/ckpt-*")
    refused(capsys, small, words)


# -- the operating system -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "number, words",
    [
        (errno.ENOSPC, "free some disk space"),
        (errno.EROFS, "writable"),
        (errno.EACCES, "writable"),
        (errno.ENAMETOOLONG, "shorten the path"),
    ],
)
def test_what_the_system_refuses_is_one_sentence_with_a_way_out(small, capsys, monkeypatch, number, words):
    def full(*given):
        raise OSError(number, os.strerror(number), str(small / "examples.parquet"))

    monkeypatch.setattr("scoring.audit.atomic._flush", full)
    assert hardlook("score", small) == 1
    said = capsys.readouterr().err
    assert os.strerror(number) in said and "examples.parquet" in said and words in said and "Traceback" not in said
    assert not list(small.rglob("*.partial"))


def test_memory_that_is_not_there_is_told_too():
    assert "out of memory" in system_refusal(MemoryError())


# -- models and transforms ----------------------------------------------------------------------------------

SPOILT = {
    "dropout as a function": (
        "return self.net(nn.functional.dropout(x, 0.5))",
        "returns different logits",
    ),
    "noise": ("return self.net(x) + torch.randn(3)", "returns different logits"),
    "batch statistics": ("self.net[1].train(); return self.net(x)", "depend on the other examples in its batch"),
    "batch mean": ("y = self.net(x); return y - y.mean(0)", "depend on the other examples in its batch"),
    "forward raises": (
        "raise RuntimeError('a bad day')",
        "the model fails on inputs of shape (1, 8, 8) of float32: RuntimeError: a bad day",
    ),
}


@pytest.mark.parametrize("forward, words", SPOILT.values(), ids=SPOILT)
def test_a_model_whose_logits_do_not_stand_is_refused_before_anything_is_scored(small, capsys, forward, words):
    spoil(small, forward)
    refused(capsys, small, words, only="vog")
    assert not list(small.glob("runs/main/scores/*"))


@pytest.mark.parametrize(
    "forward", ["return self.net(x.detach())", "return self.net(x).detach()"], ids=["inputs", "logits"]
)
@pytest.mark.parametrize("score", ["vog", "odin", "influence"])
def test_a_forward_that_cuts_the_graph_is_told_by_each_score_that_needs_it(small, capsys, forward, score):
    spoil(small, forward)
    if score == "influence" and "x.detach" in forward:
        assert hardlook("score", small, "--only", score) == 0  # the weights still have their gradients
        return
    refused(capsys, small, "cuts the graph", only=score)


@pytest.mark.parametrize(
    "transform, words",
    [
        ("np.asarray(image, dtype=np.float64)[None] / 255", "of float64"),
        ("np.asarray(image, dtype=np.float32)[None].repeat(3, 0)", "of shape (3, 8, 8)"),
        ("sys.exit(3)", "cannot be read"),
    ],
)
def test_a_transform_that_does_not_fit_the_model_is_told_by_its_shape(small, capsys, transform, words):
    text = (small / "model.py").read_text()
    (small / "model.py").write_text(
        text[: text.index("def transform")] + f"def transform(image):\n    import sys\n"
        f"    return torch.from_numpy({transform})\n"
    )
    refused(capsys, small, words)


def test_colours_of_sixteen_bits_are_told_by_the_check_and_kept_by_a_loader(small, capsys):
    import struct
    import zlib

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    values = (np.arange(8 * 8 * 3).reshape(8, 8, 3) * 300 + 7).astype(">u2")
    rows = b"".join(b"\0" + row.tobytes() for row in values)
    head = struct.pack(">IIBBBBB", 8, 8, 16, 2, 0, 0, 0)
    deep = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    (small / "test" / "a" / "0.png").write_bytes(deep)
    assert hardlook("check", small) == 0
    assert "1 of 12 images have 16 bits per channel and reach the transform with 8" in capsys.readouterr().out
    (small / "read.py").write_text(  # as OpenCV's IMREAD_UNCHANGED would, for the one kind of file that is read here
        "import zlib\nfrom pathlib import Path\n\nimport numpy as np\n\n\ndef read(path):\n"
        "    content = Path(path).read_bytes()\n"
        "    if content[24] == 8:\n        return np.zeros((8, 8, 3), np.uint16)\n"
        "    rows = zlib.decompress(content[content.index(b'IDAT') + 4 :])\n"
        "    return np.frombuffer(rows, np.uint8).reshape(8, 49)[:, "
        "1:].copy().view('>u2').astype(np.uint16).reshape(8, 8, 3)\n"
    )
    text = (small / "audit.toml").read_text()
    (small / "audit.toml").write_text(text.replace('path = "test"', 'path = "test"\nloader = "read.py:read"'))
    from scoring.data.examples import Originals
    from scoring.data.ingest import ingest

    ingest(audit := Audit.open(small))
    row = read_examples(audit).set_index("example_id").loc["test/a/0.png"]
    assert row["problem"] is None or np.isnan(row["problem"])
    read = Originals(audit).read(row["source"], row["row"])
    assert read.dtype == np.uint16 and np.array_equal(read, values)
