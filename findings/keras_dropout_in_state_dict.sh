#!/usr/bin/env bash
# A Keras model on PyTorch names its dropout's random state by a counter of the process, so its state dict fits no copy.
#
# Keras keeps the state of each dropout layer's random generator as a parameter, under the name of the generator
# ("seed_generator_1", "seed_generator_2", …). That number counts the generators made in the process so far, and is not
# in the saved model, though the names of all layers are. Two loads of one file therefore have different state dicts,
# and torch's strict load_state_dict refuses the second. Code that saves PyTorch checkpoints of a Keras model cannot
# load them into the same model built in another order. A model without dropout has equal names at each load.
# Exits with 1 if the library no longer behaves so.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q keras==3.15.1 torch==2.14.1
cd "$folder"
KERAS_BACKEND=torch CUDA_VISIBLE_DEVICES= "$folder/venv/bin/python" -W ignore - <<'PY'
import sys

import keras
import torch


def loaded_twice(*layers):
    """Two loads of one saved model."""
    keras.Sequential([keras.layers.Input((4,)), *layers, keras.layers.Dense(3)]).save("model.keras")
    return [keras.saving.load_model("model.keras") for _ in range(2)]


def refusal(one, other):
    """The first line of what load_state_dict says of the other's state dict; None where it takes it."""
    try:
        one.load_state_dict(other.state_dict())
    except RuntimeError as error:
        return str(error).splitlines()[1].strip()[:100]
    return None


plain, dropped = loaded_twice(), loaded_twice(keras.layers.Dropout(0.5))
print(f"keras {keras.__version__} on torch {torch.__version__.partition('+')[0]}, one file loaded twice:")
for name, (one, other) in (("without dropout", plain), ("with dropout", dropped)):
    differ = sorted(set(one.state_dict()) ^ set(other.state_dict()))
    print(f"  {name}: {len(differ)} names differ {[name.rpartition('.')[2] for name in differ[:2]]}")
    print(f"    load_state_dict: {refusal(one, other) or 'takes it'}")
behaves = refusal(*plain) is None and refusal(*dropped) is not None
behaves = behaves and all("seed_generator" in name for name in set(dropped[0].state_dict()) ^ set(dropped[1].state_dict()))
sys.exit(0 if behaves else 1)
PY
