#!/usr/bin/env bash
# Valid safetensors files can begin like a pickle, and torch.load decides by the file's name.
#
# A safetensors file begins with the length of its header. A header of 640, 896, 1152 or 1408 bytes makes its first two
# bytes 80 02 to 80 05, which are the PROTO opcode of a pickle of protocol 2 to 5: a look at the first bytes, as it tells
# pickles from other files, takes them for pickles. torch.load, for its part, looks at the ending of the name: called
# a.safetensors the file loads (without its metadata), called a.pt the same bytes are an error about a pickle; and a file
# of torch.save that is called .safetensors is an error about a header.
# Exits with 1 if the libraries no longer behave so.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.14.1 safetensors==0.8.0 numpy
cd "$folder"
CUDA_VISIBLE_DEVICES= "$folder/venv/bin/python" -W ignore - <<'PY'
import pathlib
import shutil

import safetensors
import torch
from safetensors.torch import save_file

weights = torch.nn.Linear(4, 3).state_dict()
lengths = {}
for pad in range(1400):
    save_file(weights, "a.safetensors", metadata={"epoch": "12", "pad": "x" * pad})
    start = pathlib.Path("a.safetensors").read_bytes()[:8]
    if start[0] == 0x80 and 2 <= start[1] <= 5:
        lengths[int.from_bytes(start, "little")] = start[:2].hex(" ")
        shutil.copy("a.safetensors", "like_a_pickle.safetensors")
print(f"torch {torch.__version__}, safetensors {safetensors.__version__}")
print(f"headers whose first bytes are those of a pickle: {lengths}")


def outcome(path):
    try:
        return f"loaded {sorted(torch.load(path, weights_only=True))}"
    except Exception as error:
        return f"{type(error).__name__}: {str(error).splitlines()[0][:90]}"


shutil.copy("like_a_pickle.safetensors", "same_bytes.pt")
torch.save({"state_dict": weights, "epoch": 12}, "saved.pt")
shutil.copy("saved.pt", "saved.safetensors")
told = {name: outcome(name) for name in ("like_a_pickle.safetensors", "same_bytes.pt", "saved.pt", "saved.safetensors")}
for name, text in told.items():
    print(f"torch.load({name!r}): {text}")
loads = [text.startswith("loaded") for text in told.values()]
lost = told["like_a_pickle.safetensors"] == "loaded ['bias', 'weight']"  # no epoch
raise SystemExit(0 if sorted(lengths) == [640, 896, 1152, 1408] and loads == [True, False, True, False] and lost else 1)
PY
