"""How many planted near duplicates are found, and what else is: run by hand, never as a timed test.

    python tests/benchmarks/near_duplicates.py AUDIT [--run NAME] [--most 70000] [--chance 0.001] [--sheet FILE.png]

AUDIT is a scored audit of pictures. One example in twenty (2,000 at most) gets a copy that was brightened by 15 %,
encoded again as JPEG of quality 75, moved by half a pixel or 1/28 of the side, or reduced to 3/4 and enlarged again;
the model's features of the copies stand among those of all examples. Printed: the share of each kind that ends in one
group with its original, how many groups hold anything else (real near duplicates of the data, or mistakes), and for
comparison pairs below a share of the median nearest distance. ``--sheet`` draws 48 of the other pairs, to be judged by
eye.
"""

from __future__ import annotations

import argparse
import io
import time

import numpy as np
import torch
from PIL import Image, ImageEnhance

from scoring.audit import Audit
from scoring.data.duplicates import near_groups
from scoring.data.images import picture
from scoring.data.nearest_neighbours import among
from scoring.models import features_of, head_of
from scoring.pipeline.shards import Context


def moved(image: Image.Image) -> Image.Image:
    by = max(0.5, image.width / 28)
    return image.transform(image.size, Image.Transform.AFFINE, (1, 0, by, 0, 1, by), Image.Resampling.BILINEAR)


def brighter(image: Image.Image) -> Image.Image:
    return ImageEnhance.Brightness(image).enhance(1.15)


def encoded(image: Image.Image) -> Image.Image:
    kept = io.BytesIO()
    image.save(kept, "JPEG", quality=75)
    return Image.open(io.BytesIO(kept.getvalue())).copy()


def rescaled(image: Image.Image) -> Image.Image:
    small = image.resize((image.width * 3 // 4, image.height * 3 // 4), Image.Resampling.BILINEAR)
    return small.resize(image.size, Image.Resampling.BILINEAR)


KINDS = {"brighter": brighter, "encoded again": encoded, "moved": moved, "rescaled": rescaled}


def original(context: Context, row: int) -> Image.Image:
    """The picture of one example."""
    return picture(context.inputs.originals.read(int(context.inputs.sources[row]), int(context.inputs.rows[row])))


def plant(context: Context, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(n, d) features of altered copies, and (n,) which kind each is."""
    kinds = np.array(list(KINDS))[np.arange(len(rows)) % len(KINDS)]
    inputs = torch.stack(
        [context.inputs.transform(KINDS[kind](original(context, row))) for row, kind in zip(rows, kinds, strict=True)]
    )
    with context.model.at(context.checkpoints[-1]):
        head = head_of(context.model.module, inputs[:2])
        parts = [features_of(context.model.module, part, head).features for part in inputs.split(500)]
    return torch.cat(parts).numpy(), kinds


def main() -> None:
    """Plant, search and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("audit")
    parser.add_argument("--run")
    parser.add_argument("--most", type=int, default=70_000)
    parser.add_argument("--chance", type=float, default=0.001)
    parser.add_argument("--sheet")
    options = parser.parse_args()
    audit = Audit.open(options.audit)
    context = Context(audit, audit.run(options.run), device="cpu")
    rng = np.random.default_rng(0)
    rows = np.flatnonzero(np.isfinite(context.features).all(1))
    rows = np.sort(rng.choice(rows, options.most, replace=False)) if len(rows) > options.most else rows
    chosen = rng.choice(len(rows), min(len(rows) // 20, 2000), replace=False)
    planted, kinds = plant(context, rows[chosen])
    features = np.concatenate([context.features[rows], planted])
    content = np.r_[
        context.examples["fingerprint"].to_numpy(dtype=str)[rows], [f"copy {n}" for n in range(len(planted))]
    ]
    start = time.process_time()
    found = near_groups(features, content, chance=options.chance)
    print(
        f"{audit.name}: {len(rows):,} examples, {len(planted):,} copies; nearer than {found.threshold:.3f} of the "
        f"distance to the tenth, in {found.dimension:.1f} dimensions; {time.process_time() - start:.0f} s of CPU"
    )
    copies = len(rows) + np.arange(len(planted))
    hit = (found.group[copies] >= 0) & (found.group[copies] == found.group[chosen])
    for kind in KINDS:
        print(f"  {kind:14} {hit[kinds == kind].mean():.0%} found")
    alone = np.setdiff1d(np.unique(found.group[found.group >= 0]), found.group[copies][hit])
    print(f"  {hit.sum():,} groups with a planted copy, {len(alone):,} others")
    compare(features, content, chosen, copies)
    if options.sheet:
        draw(context, rows, found, alone, options.sheet)


def compare(features: np.ndarray, content: np.ndarray, chosen: np.ndarray, copies: np.ndarray) -> None:
    """Pairs below a share of the median nearest distance, which is what one would try first."""
    near = among(features, 10)
    one = np.repeat(np.arange(len(features)), near.positions.shape[1])
    other, far = near.positions.ravel(), near.distances.ravel()
    keep = (other > one) & (content[one] != content[other])
    one, other, far = one[keep], other[keep], far[keep]
    true = dict(zip(copies.tolist(), chosen.tolist(), strict=True))
    right = np.array([true.get(b) == a for a, b in zip(one.tolist(), other.tolist(), strict=True)])
    median = np.median(near.distances[:, 0])
    for share in (0.05, 0.13, 0.3):
        hit = far < share * median
        print(f"  below {share} of the median: {hit.sum():,} pairs, {right[hit].sum():,} of {len(copies):,} planted")


def draw(context: Context, rows: np.ndarray, found, alone: np.ndarray, path: str) -> None:
    """Two members of each of 48 groups without a planted copy."""
    side, sheet = 56, Image.new("RGB", (12 * 120, 4 * 64))
    picked = alone[np.linspace(0, len(alone) - 1, min(48, len(alone))).astype(int)] if len(alone) else []
    for number, group in enumerate(picked):
        for place, at in enumerate(np.flatnonzero(found.group[: len(rows)] == group)[:2]):
            image = original(context, rows[at]).convert("RGB").resize((side, side), Image.Resampling.NEAREST)
            sheet.paste(image, (number % 12 * 120 + place * side, number // 12 * 64))
    sheet.save(path)


if __name__ == "__main__":
    main()
