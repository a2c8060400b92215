"""What the first look costs beside one bare pass: ``hardlook score --quick`` against decode, transform and forward.

Run ``python -m tests.benchmarks.front_door [--images 2000] [--keep FOLDER]``. It makes JPEG files of about 500 × 375
pixels (noise and a shape per class) and a ResNet-18 checkpoint, and prints, as ratios of CPU time of whole processes on
one thread:

*quick* = ``hardlook score --quick``: ids, fingerprints, thumbnails, check, predictions, features, label quality,
neighbours, suspicion. *again* = the same once more, nothing changed. *bare* = a loop that opens each file, applies the
same transform and runs the model on batches; *start* = Python's start with hardlook's imports; *first* = quick, and the
dashboard until a browser shows the first picture of /suspects (the browser's own CPU is not counted).
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from tests.benchmarks.first_suspects import served

CLASSES = 10
TOML = """format = 1
classes = [{classes}]

[[data]]
path = "train"
split = "train"

[[data]]
path = "test"
split = "test"

[run.main]
model = "resnet18"
arguments = {{ num_classes = {count} }}
transform = {{ resize = 256, crop = 224, mode = "RGB", mean = [0.485, 0.456, 0.406], std = [0.229, 0.224, 0.225] }}
checkpoints = "final.pt"
expected_accuracy = 0.0
"""
BARE = """
import sys
from pathlib import Path
import torch
from PIL import Image
from torchvision import models
from torchvision.transforms import v2

torch.set_num_threads(1)
net = models.resnet18(num_classes={count}).eval()
net.load_state_dict(torch.load(sys.argv[1] + "/final.pt", weights_only=True))
steps = v2.Compose([v2.Resize(256, antialias=True), v2.CenterCrop(224), v2.PILToTensor(),
                    v2.ToDtype(torch.float32, scale=True), v2.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])])
paths = sorted(Path(sys.argv[1]).glob("t*/*/*.jpg"))
found = []
with torch.inference_mode():
    for at in range(0, len(paths), {batch}):
        batch = torch.stack([steps(Image.open(path).convert("RGB")) for path in paths[at : at + {batch}]])
        found.append(net(batch))
torch.cat(found)
"""
START = "import scoring.pipeline.score_audit, scoring.scorers, torchvision; scoring.scorers.registry()"


def picture(number: int, seed: int) -> Image.Image:
    """A noisy background and a shape whose place, size and colour follow the class."""
    draw = np.random.default_rng(seed)
    width, height = int(draw.integers(460, 541)), int(draw.integers(345, 406))
    coarse = draw.integers(0, 255, (height // 8, width // 8, 3)).astype(np.uint8)
    image = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
    noise = draw.normal(0, 12, (height, width, 3))
    image = Image.fromarray(np.clip(np.asarray(image) + noise, 0, 255).astype(np.uint8))
    side = 60 + 10 * number
    left, top = int(draw.integers(0, width - side)), int(draw.integers(0, height - side))
    shape = ImageDraw.Draw(image)
    (shape.ellipse if number % 2 else shape.rectangle)(
        (left, top, left + side, top + side), fill=(25 * number, 255 - 25 * number, 128)
    )
    return image


def write_audit(folder: Path, images: int, seed: int = 0) -> None:
    """Folders of JPEG files by class, an untrained ResNet-18 and audit.toml."""
    import torch
    from torchvision import models

    for at in range(images):
        number = at % CLASSES
        place = folder / ("test" if at % 4 == 0 else "train") / f"class{number}"
        place.mkdir(parents=True, exist_ok=True)
        picture(number, seed + at).save(place / f"{at:05d}.jpg", quality=90)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        torch.save(models.resnet18(num_classes=CLASSES).state_dict(), folder / "final.pt")
    classes = ", ".join(f'"class{number}"' for number in range(CLASSES))
    (folder / "audit.toml").write_text(TOML.format(classes=classes, count=CLASSES))


def cpu_seconds(*command: str) -> tuple[float, str]:
    """CPU seconds, of user and system, of a process and what it started; and what it printed."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        command, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=False
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        sys.exit(done.stdout + done.stderr)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, done.stdout


def main() -> None:
    """Make the images, measure every side, print the ratios beside their bars."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--images", type=int, default=2000)
    options.add_argument("--batch", type=int, default=64, help="of the bare loop")
    options.add_argument("--keep", type=Path, help="where the images are made, or lie already")
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.keep or Path(temporary)
        if not (folder / "audit.toml").is_file():
            folder.mkdir(parents=True, exist_ok=True)
            write_audit(folder, given.images)
        hardlook = (sys.executable, "-m", "scoring.cli", "score", str(folder), "--quick", "--device", "cpu")
        start, _ = cpu_seconds(sys.executable, "-c", START)
        bare, _ = cpu_seconds(sys.executable, "-c", BARE.format(count=CLASSES, batch=given.batch), str(folder))
        quick, said = cpu_seconds(*hardlook)
        again, _ = cpu_seconds(*hardlook)
        shown = served(folder.resolve())
        bare_again, _ = cpu_seconds(sys.executable, "-c", BARE.format(count=CLASSES, batch=given.batch), str(folder))
    bare = (bare + bare_again) / 2
    print(said)
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; start {start:.1f} s, bare {bare:.1f} s of CPU")
    print(f"quick / bare   {quick / bare:.3f}  (bar 1.25)   {quick:.1f} s")
    print(f"first / bare   {(quick + shown) / bare:.3f}  (bar 1.5)   {shown:.1f} s of the dashboard")
    print(f"again − start  {again - start:.2f} s  (bar 2)")


if __name__ == "__main__":
    main()
