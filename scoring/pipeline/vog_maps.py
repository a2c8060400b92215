"""VoG maps: the per-pixel VoG, stored for the few examples that are shown.

For the extremes of each class (by late VoG) and the top of the queue, the per-pixel spread over the last three
checkpoints is kept as a grey PNG, longest side at most 256, scaled from 0 to the example's own maximum: a map says
*where* in one example, never *how much* between two. It covers the whole picture, so that it can be laid over it:
black where the transform cropped, and turned where the picture is shown turned by its EXIF orientation. Of texts and
vectors the numbers are kept, as JSON: ``values``, one per token or column, and for texts ``spans``, the characters of
each token, where the transform has ``spans(text)``; of small audits all examples. Inputs: a scored run; outputs:
``runs/<run>/maps.arrow``.

Cost: what scoring those examples costs (k forward and backward passes). Limits: how a transform of the user's own crops
is not known, so its map is stretched. Loads torch.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image

from scoring.audit.storage import read_table
from scoring.data.exif_orientation import orientation, turned, upright
from scoring.models.transforms import TableTransform
from scoring.pipeline.shards import Context, cut, make_shard
from scoring.queue.order import default_order, suspicion
from scoring.scorers.vog import VoG

EXTREMES = 10
QUEUE = 200
MOST = 4000
SIDE = 256
WHOLE = (0.0, 0.0, 1.0, 1.0)


def write_vog_maps(context: Context, scorer: VoG) -> int:
    """Keep the maps of the chosen examples that have none yet for these checkpoints; returns how many were made."""
    run, store = context.run, context.run.maps
    if not run.score_path("vog").is_file():
        return 0
    encoded = ENCODERS[context.audit.media]
    facts = {"maps": f"{context.key} upright" if context.audit.media == "image" else context.key}
    if run.record().get("maps") != facts["maps"]:
        store.clear()
        run.add_to_record(**facts)
    chosen = set(chosen_examples(context)) - store.ids()
    positions = np.flatnonzero(context.examples["example_id"].isin(chosen))
    form = map_form(context)
    with context.progress("VoG maps", len(positions)) as advance:
        for part in cut(positions, min(context.shard_size, 512)):
            shard, at = make_shard(context, scorer, part)
            maps = scorer.maps(shard, (form,), scorer.padding_state(context))
            late = maps[f"late_label_{form}"]
            missing = ~np.isfinite(late.reshape(len(late), -1)).all(1)
            late = np.where(missing.reshape(-1, *[1] * (late.ndim - 1)), maps[f"late_prediction_{form}"], late)
            store.write_part(
                [
                    (name, encoded(context, int(part[row]), values))
                    for name, row, values in zip(shard.example_id, at, late, strict=True)
                    if np.isfinite(values).all()
                ]
            )
            advance(len(part))
    return len(positions)


def map_form(context: Context) -> str:
    """Of which form maps are kept: of the logit, or of the probability where the model returns no logits."""
    return "logit" if context.model.keeps_logits else "probability"


def picture_map(context: Context, number: int, values: np.ndarray) -> bytes:
    """A map (h, w) as a grey PNG of the whole picture, upright as pages show it."""
    inputs = context.inputs
    original = inputs.originals.read(int(inputs.sources[number]), int(inputs.rows[number]))
    return png(turned(placed(values, window(inputs.transform, original)), turn(inputs.transform, original)))


def column_map(_context: Context, _number: int, values: np.ndarray) -> bytes:
    """A map (d,) as JSON: ``values``, to four digits."""
    return _json({"values": _rounded(values)})


def token_map(context: Context, number: int, values: np.ndarray) -> bytes:
    """A map (tokens,) as JSON: ``values``, and ``spans`` where the transform tells them."""
    spans = getattr(context.inputs.transform, "spans", None)
    if spans is None:
        return _json({"values": _rounded(values)})
    inputs = context.inputs
    text = inputs.originals.read(int(inputs.sources[number]), int(inputs.rows[number]))
    found = [[int(start), int(end)] for start, end in spans(text)][: values.size]
    return _json({"values": _rounded(values)[: len(found)], "spans": found})


def _rounded(values: np.ndarray) -> list[float]:
    return [float(f"{value:.4g}") for value in values.reshape(-1).tolist()]


def _json(value: dict[str, Any]) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


ENCODERS: dict[str, Callable[[Context, int, np.ndarray], bytes]] = {
    "image": picture_map,
    "vector": column_map,
    "text": token_map,
}


def chosen_examples(context: Context) -> list[str]:
    """Ids of the lowest and highest late VoG of each (split, class) and of the top of each split's queue; of a small
    audit without images all, since their maps are a kilobyte each."""
    run = context.run
    if context.audit.media != "image" and len(context.examples) <= MOST:
        return context.examples["example_id"].tolist()
    label, prediction = (f"late_{index}_{map_form(context)}" for index in ("label", "prediction"))
    scores = read_table(run.score_path("vog"), ["example_id", label, prediction]).to_pandas()
    frame = context.examples[["example_id", "split", "label"]].merge(scores, on="example_id")
    frame["value"] = frame[label].fillna(frame[prediction])
    frame = frame.dropna(subset=["value"]).sort_values("value", kind="stable")
    groups = frame.groupby(["split", frame["label"].fillna("")], sort=True)["example_id"]
    each = max(1, min(EXTREMES, MOST // (2 * max(groups.ngroups, 1))))
    chosen = [*groups.head(each), *groups.tail(each)]
    for split in ("train", "test"):
        order = default_order(context.audit, run, split)
        if order is not None:
            ranked = suspicion(run, order).reindex(frame.loc[frame["split"] == split, "example_id"])
            chosen += ranked.sort_values(ascending=False, kind="stable").index[:QUEUE].tolist()
    return list(dict.fromkeys(chosen))


def turn(transform: Callable[[Any], Any], original: Any) -> int:
    """The EXIF orientation that a picture is still to be turned by after the transform; 1 where it needs none: where it
    reached the transform upright, or where a transform of the user's own turns it, which its equal output proves."""
    found = orientation(original) if isinstance(original, Image.Image) else 1
    if found == 1 or np.array_equal(np.asarray(transform(original)), np.asarray(transform(upright(original)))):
        return 1
    return found


def window(transform: Callable[[Any], Any], original: Any) -> tuple[float, float, float, float]:
    """Returns which part of an example's picture the model sees (``TableTransform.window``); all of it where the
    transform crops nothing, or is code of the user's own."""
    if not isinstance(transform, TableTransform) or not transform.crop:
        return WHOLE
    if isinstance(original, Image.Image):
        return transform.window(original.height, original.width)
    height, width = transform.picture_size(np.asarray(original))
    return transform.window(height, width)


def placed(values: np.ndarray, seen: tuple[float, float, float, float]) -> np.ndarray:
    """A map (h, w) of the part that the model saw → the map of the whole picture, 0 where the model saw nothing.

    ``seen``: top, left, height and width of that part, as shares of the picture.

    >>> placed(np.ones((1, 2)), (0.5, 0.0, 0.5, 1.0)).tolist()
    [[0.0, 0.0], [1.0, 1.0]]
    """
    if seen == WHOLE:
        return values
    height, width = (max(1, round(n / share)) for n, share in zip(values.shape, seen[2:], strict=True))
    top, left = round(seen[0] * height), round(seen[1] * width)
    whole = np.zeros((height, width), dtype=values.dtype)
    inside = values[max(-top, 0) : height - top, max(-left, 0) : width - left]
    whole[max(top, 0) : max(top, 0) + inside.shape[0], max(left, 0) : max(left, 0) + inside.shape[1]] = inside
    return whole


def png(values: np.ndarray) -> bytes:
    """A map (h, w) ≥ 0 → grey PNG from 0 (black) to the map's maximum (white), longest side at most 256.

    >>> Image.open(io.BytesIO(png(np.array([[0.0, 2.0]])))).tobytes()
    b'\\x00\\xff'
    """
    scaled = values / max(float(values.max()), 1e-30)
    picture = Image.fromarray((scaled * 255).round().astype(np.uint8).reshape(values.shape[0], -1))
    picture.thumbnail((SIDE, SIDE))
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG")
    return buffer.getvalue()
