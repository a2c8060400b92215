"""Detects the format of a checkpoint file from its content, without unpickling anything.

A path → the name of a format (`format_of`). Three of them hold weights that can be read here: "safetensors",
"zip" (torch.save) and "pickle" (torch.save before 1.6, and pickle.dump). Every other one has a sentence that
says what it is and which command makes weights of it (`found_instead`).

A safetensors file is told by its whole header: 8 bytes of length (little-endian), then a JSON object of that
length. The first bytes alone do not tell: a header of 640, 896, 1152 or 1408 bytes begins like a pickle of
protocol 2 to 5.

Cost: the header of the file, or the directory of a zip archive. Known limits: ONNX has no magic number and
is told by the first fields of its protobuf message.
"""

from __future__ import annotations

import codecs
import json
import zipfile
from pathlib import Path
from typing import IO

READABLE = ("safetensors", "zip", "pickle")
"""The formats in which `scoring.models.checkpoint_reader` finds tensors."""

LONGEST_HEADER = 100_000_000
"""The limit that the safetensors library itself sets to a header, in bytes."""

MAGIC = {
    b"\x89HDF\r\n\x1a\n": "hdf5",
    b"GGUF": "gguf",
    b"\x93NUMPY": "numpy",
    b"version https://git-lfs": "git-lfs",
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ\x00": "xz",
    b"7z\xbc\xaf\x27\x1c": "7z",
    b"\x28\xb5\x2f\xfd": "zstd",
}
"""First bytes → format."""

TOLD = {
    "hdf5": "it is an HDF5 file, written by Keras or TensorFlow; with Keras on the torch backend load it there and "
    "write torch.save(model.state_dict(), 'weights.pt') (manual: checkpoints), or import its predictions: hardlook "
    "import-predictions",
    "keras": "it is a model of Keras (.keras), whose weights have other names and layouts than PyTorch's; with Keras "
    "on the torch backend load it there and write torch.save(model.state_dict(), 'weights.pt') (manual: checkpoints), "
    "or import its predictions: hardlook import-predictions",
    "gguf": "it is a GGUF file (llama.cpp), whose weights are stored for inference and mostly quantised; name the "
    "checkpoint of PyTorch from which it was made",
    "onnx": "it is an ONNX model, which holds an inference graph without PyTorch's parameter names; name the "
    "checkpoint of PyTorch from which it was exported",
    "tflite": "it is a TensorFlow Lite model; name the checkpoint of PyTorch, or import its predictions: hardlook "
    "import-predictions",
    "pt2": "it is an exported program (torch.export, .pt2), not a checkpoint; write its weights with: "
    "torch.save(torch.export.load(path).state_dict, 'weights.pt')",
    "aotinductor": "it is a compiled package of AOTInductor (.pt2), which holds machine code; name the checkpoint of "
    "the model from which it was compiled",
    "git-lfs": "it is a pointer of Git LFS, not the file itself; fetch it: git lfs pull",
    "html": "it is a web page (HTML), probably from a failed download; download the file again",
    "npz": "it is an archive of numpy arrays (.npz); write them as tensors with: torch.save({name: "
    "torch.from_numpy(array) for name, array in numpy.load(path).items()}, 'weights.pt')",
    "numpy": "it is one numpy array (.npy), not the named weights of a model; needed torch.save(model.state_dict(), "
    "path)",
    "tar": "it is a tar archive; unpack it and name the checkpoint inside",
    "gzip": "it is compressed with gzip; unpack it first: gunzip, or tar -xzf",
    "bzip2": "it is compressed with bzip2; unpack it first: bunzip2, or tar -xjf",
    "xz": "it is compressed with xz; unpack it first: unxz, or tar -xJf",
    "7z": "it is an archive of 7-Zip; unpack it first: 7z x",
    "zstd": "it is compressed with Zstandard; unpack it first: unzstd",
}
"""Name of an unsupported format → the sentence on what it is and what to do."""

NEEDED = "needed a file written by torch.save, or safetensors"


def format_of(path: Path) -> str:
    """The format of a file: one of ``READABLE``, a key of ``TOLD``, "archive", "empty", "text" or "unknown".

    A cut file is of the format that its beginning shows, so that it can be called damaged.
    """
    with path.open("rb") as file:
        start = file.read(512)
        if _has_safetensors_header(file, start):
            return "safetensors"
    if start.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return _format_of_zip(path)
    if start[:1] == b"\x80" and len(start) > 1 and 2 <= start[1] <= 5:
        return "pickle"
    return next((name for magic, name in MAGIC.items() if start.startswith(magic)), None) or _by_structure(start)


def found_instead(path: Path) -> str:
    """Returns what a file holds that is no checkpoint, and what to do or what was needed."""
    kind = format_of(path)
    if kind in TOLD:
        return TOLD[kind]
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(200)
    if kind == "empty":
        return f"it is empty (0 bytes); {NEEDED}"
    if kind == "text":
        line = (start.decode("utf8", "ignore").strip().splitlines() or [""])[0]
        return f"it is a text file that begins with {line[:40]!r} ({size:,} bytes); {NEEDED}"
    if kind == "archive":
        return f"it is a zip archive of {_entries(path)}, which torch.save did not write; {NEEDED}"
    return f"it begins with {start[:12]!r} ({size:,} bytes); {NEEDED}"


def _has_safetensors_header(file: IO[bytes], start: bytes) -> bool:
    """Returns whether 8 bytes of length are followed by a JSON object of that length, or by a part of one where the
    file was cut inside it. ``file`` may be read on; ``start`` are its first bytes."""
    length = int.from_bytes(start[:8], "little")
    if start[8:9] != b"{" or not 2 <= length <= LONGEST_HEADER:
        return False
    file.seek(8)
    header = file.read(length)
    if len(header) < length:  # cut: no JSON to parse, but no other format begins with a length, zeros and a brace
        return start[4:8] == bytes(4) and header.lstrip(b"{ \n\t")[:1] in (b'"', b"")
    try:
        return isinstance(json.loads(header), dict)
    except ValueError:  # UnicodeDecodeError is one
        return False


def _format_of_zip(path: Path) -> str:
    """Returns which of the formats that are zip archives; an archive without its directory was cut, and counts as
    torch's.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError):
        return "zip"
    inside = {name.partition("/")[2] for name in names}
    if "data.pkl" in inside:
        return "zip"
    if "archive_format" in inside:
        return "pt2" if any(name.startswith("models/") for name in inside) else "aotinductor"
    if {"serialized_exported_program.json", "serialized_state_dict.pt"} & {*names, *inside}:
        return "pt2"  # torch.export.save before 2.8
    if "config.json" in names and any(name.endswith(".weights.h5") for name in names):
        return "keras"
    return "npz" if names and all(name.endswith(".npy") for name in names) else "archive"


def _entries(path: Path) -> str:
    """The first names in a zip archive."""
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    return ", ".join(names[:4]) + (", …" if len(names) > 4 else "") if names else "nothing"


def _by_structure(start: bytes) -> str:
    """Formats without a magic number at the beginning."""
    if not start:
        return "empty"
    if start[257:262] == b"ustar":
        return "tar"
    if start[4:8] == b"TFL3":
        return "tflite"
    if (
        start[:1] == b"\x08"
        and 0 < start[1] < 64
        and start[2:3] in (b"\x12", b"\x1a", b"\x22", b"\x32", b"\x3a", b"\x42")
    ):
        return "onnx"  # ModelProto: field 1 is its small ir_version, then the producer, the graph or the opsets
    text = start.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if text.startswith((b"<!doctype html", b"<html", b"<?xml")):
        return "html"
    return "text" if _is_text(start) else "unknown"


def _is_text(start: bytes) -> bool:
    """Returns whether bytes are printable UTF-8; the last character may be cut."""
    if any(byte < 32 and byte not in b"\t\n\r\f" for byte in start):
        return False
    try:
        codecs.getincrementaldecoder("utf8")().decode(start)
    except UnicodeDecodeError:
        return False
    return True
