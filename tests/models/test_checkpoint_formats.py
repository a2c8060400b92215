"""What a file is, is told by its content: safetensors by its whole header, everything else in one
sentence."""

import io
import json
import pickle
import zipfile

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from scoring.audit.errors import HardlookError
from scoring.models.checkpoint_formats import format_of, found_instead
from scoring.models.checkpoint_reader import read_state_dict
from scoring.models.checkpoints import find_checkpoints
from scoring.models.conversion import convert_checkpoint

from ..nets import Net, loads, state


def header_of(length, path, tensors):
    """A valid safetensors file whose header has this many bytes, by the length of a value in its metadata."""
    for pad in range(length):
        save_file(tensors, path, metadata={"epoch": "12", "pad": "x" * pad})
        if int.from_bytes(path.read_bytes()[:8], "little") == length:
            return path
    raise AssertionError(f"no header of {length} bytes")


@pytest.mark.parametrize("length", [640, 896, 1152, 1408])
@pytest.mark.parametrize("ending", ["safetensors", "pt", "bin"])
def test_safetensors_whose_header_begins_like_a_pickle_keep_their_weights_and_their_epoch(tmp_path, length, ending):
    model = torch.nn.Linear(4, 3)
    path = header_of(length, tmp_path / "a.safetensors", model.state_dict()).rename(tmp_path / f"a.{ending}")
    assert path.read_bytes()[:1] == b"\x80" and 2 <= path.read_bytes()[1] <= 5  # PROTO of a pickle
    loads(path, model, torch.nn.Linear(4, 3))
    assert read_state_dict(path).epoch == 12
    assert format_of(path) == "safetensors"
    with pytest.raises(HardlookError, match="is a safetensors file already.*name it in audit.toml"):
        convert_checkpoint(path, tmp_path / "out.safetensors", trust=True)


def test_pickles_that_are_called_safetensors_are_read_as_what_they_are(tmp_path):
    for name, zipped in (("zip", True), ("legacy", False)):
        torch.save({"state_dict": state(1), "epoch": 3}, tmp_path / "a.pt", _use_new_zipfile_serialization=zipped)
        path = (tmp_path / "a.pt").rename(tmp_path / f"{name}.safetensors")
        loads(path, Net(seed=1))
        assert read_state_dict(path).epoch == 3
    whole = tmp_path / "whole.safetensors"
    with whole.open("wb") as file:
        torch.save({"model": Net(seed=1), "epoch": 4}, file)
    with pytest.raises(HardlookError, match="whole.safetensors holds more than weights"):
        read_state_dict(whole)
    loads(convert_checkpoint(whole, tmp_path / "out.safetensors", trust=True), Net(seed=1))


def test_a_header_must_be_json_and_its_offsets_must_fit(tmp_path):
    header = json.dumps({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}).encode()
    whole = len(header).to_bytes(8, "little") + header + bytes(8)
    damaged = {
        "short": whole[:-4],
        "long": whole + bytes(4),
        "cut": whole[:30],
        "beginning": whole[:9],
        "overlap": whole.replace(b"[0, 8]", b"[0, 9]"),
    }
    for name, content in damaged.items():
        (tmp_path / name).write_bytes(content)
        assert format_of(tmp_path / name) == "safetensors"
        with pytest.raises(HardlookError, match=f"{name} is damaged or incomplete"):
            read_state_dict(tmp_path / name)
    (tmp_path / "list").write_bytes((8).to_bytes(8, "little") + b"{1, 2, 3")
    assert format_of(tmp_path / "list") == "unknown"
    (tmp_path / "whole").write_bytes(whole)
    assert read_state_dict(tmp_path / "whole").tensors["a"].tolist() == [0, 0]


def zip_of(*names):
    with zipfile.ZipFile(buffer := io.BytesIO(), "w") as archive:
        for name in names:
            archive.writestr(name, "x")
    return buffer.getvalue()


def exported():
    program = torch.export.export(torch.nn.Linear(2, 2), (torch.ones(1, 2),))
    torch.export.save(program, buffer := io.BytesIO())
    return buffer.getvalue()


def numpy_archive():
    np.savez(buffer := io.BytesIO(), a=np.ones(2))
    return buffer.getvalue()


FOREIGN = {
    "an HDF5 file": lambda: b"\x89HDF\r\n\x1a\n" + bytes(40),
    "a model of Keras": lambda: zip_of("metadata.json", "config.json", "model.weights.h5"),
    "a GGUF file": lambda: b"GGUF\x03\x00\x00\x00" + bytes(40),
    "an ONNX model": lambda: b"\x08\x0e:3\n\x0c\n\x01x\x12\x01y" + bytes(40),  # onnx 1.23 without a producer
    "an ONNX model, which": lambda: b"\x08\x08\x12\x07pytorch\x1a\x032.1" + bytes(40),
    r"an exported program .*torch.export.load": exported,
    r"an archive of numpy arrays": numpy_archive,
    r"a pointer of Git LFS, .*git lfs pull": lambda: b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\n",
    r"a web page \(HTML\), .*download": lambda: b"\n<!DOCTYPE html>\n<html><title>404</title></html>",
    "a text file that begins with 'Entry not found'": lambda: b"Entry not found\n",
    'a text file that begins with \'{"error"': lambda: b'{"error": "Repository not found"}',
    r"a zip archive of a.txt, b/c.txt": lambda: zip_of("a.txt", "b/c.txt"),
    "compressed with gzip": lambda: b"\x1f\x8b\x08\x00" + bytes(20),
    "empty": lambda: b"",
}


@pytest.mark.parametrize("said", FOREIGN)
@pytest.mark.parametrize("name", ["a.pt", "a.safetensors", "a.bin"])
def test_every_other_format_is_named_whatever_the_file_is_called(tmp_path, said, name):
    path = tmp_path / name
    path.write_bytes(FOREIGN[said]())
    for use in (
        read_state_dict,
        lambda path: find_checkpoints(path.name, path.parent),
        lambda path: convert_checkpoint(path, tmp_path / "out", trust=True),
    ):
        with pytest.raises(HardlookError, match=f"it is {said}") as error:
            use(path)
        assert "\n" not in str(error.value) and "damaged" not in str(error.value)


def test_the_way_out_of_an_exported_program_gives_its_weights(tmp_path):
    model = Net(seed=1).eval()
    path = tmp_path / "net.pt2"
    torch.export.save(torch.export.export(model, (torch.ones(2, 4),)), path)
    assert "torch.save(torch.export.load(path).state_dict, 'weights.pt')" in found_instead(path)
    torch.save(torch.export.load(path).state_dict, tmp_path / "weights.pt")
    loads(tmp_path / "weights.pt", model)


def test_a_plain_pickle_is_a_pickle_and_pictures_are_not_text(tmp_path):
    (tmp_path / "a").write_bytes(pickle.dumps({"a": 1}))
    (tmp_path / "b").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(9))
    assert format_of(tmp_path / "a") == "pickle" and "begins with b'\\x89PNG" in found_instead(tmp_path / "b")


def test_small_nets_of_every_size_are_told_and_keep_their_metadata(tmp_path):
    """Whatever the length of the header: what the library itself reads is what is read here."""
    path = tmp_path / "a.safetensors"
    for width in range(1, 120, 7):
        save_file(
            {f"layer.{n}.weight": torch.ones(n + 1) for n in range(width)},
            path,
            metadata={"epoch": str(width)},
        )
        with safe_open(path, framework="pt") as file:
            names = set(file.keys())
        found = read_state_dict(path)
        assert found.tensors.keys() == names and found.epoch == width
