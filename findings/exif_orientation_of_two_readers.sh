#!/usr/bin/env bash
# The same photograph reaches a model turned by one library and unturned by another, and neither says so.
#
# Cameras store a portrait as a landscape with a note "turn me" (the EXIF orientation). Hugging Face's datasets applies the
# note when it decodes an image, torchvision's ImageFolder does not: a model trained through the one and evaluated through
# the other sees every such picture lying on its side, at another shape, with no warning from either.
# Exits with 1 if the libraries no longer differ so.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q datasets==5.2.0 torch==2.14.1 torchvision==0.29.1 pillow==13.0.0
cd "$folder"
HF_HOME="$folder/home" HF_DATASETS_OFFLINE=1 HF_DATASETS_DISABLE_PROGRESS_BARS=1 "$folder/venv/bin/python" -W ignore - <<'PY'
from pathlib import Path

import datasets
import numpy as np
import PIL
import torchvision
from PIL import Image

Path("images/a").mkdir(parents=True)
exif = Image.Exif()
exif[0x0112] = 6  # "turn by a quarter, clockwise"
pixels = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)
Image.fromarray(pixels).save("images/a/photo.png", exif=exif)
print(f"datasets {datasets.__version__}, torchvision {torchvision.__version__}, pillow {PIL.__version__}")

folder = np.asarray(torchvision.datasets.ImageFolder("images")[0][0])
features = datasets.Features({"image": datasets.Image()})
hub = np.asarray(datasets.Dataset.from_dict({"image": ["images/a/photo.png"]}, features=features)[0]["image"])
print(f"stored as {pixels.shape[:2]}; ImageFolder gives {folder.shape[:2]}, datasets gives {hub.shape[:2]}")
print("ImageFolder leaves the picture as it is stored:", np.array_equal(folder, pixels))
print("datasets turns it by a quarter, clockwise:", np.array_equal(hub, np.rot90(pixels, -1)))
raise SystemExit(0 if np.array_equal(folder, pixels) and np.array_equal(hub, np.rot90(pixels, -1)) else 1)
PY
