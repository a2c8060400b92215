"""Writes datumaro-1.13.12: one small dataset in Datumaro's own format, CVAT's XML and both forms of ImageNet.

    pip install datumaro==1.13.12
    python make_datumaro.py OUT

Beside each lies ``read.json``: what Datumaro's own reader makes of it (subset, id, labels, path of the picture).
"""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
from datumaro import AnnotationType, Dataset, DatasetItem, Image, Label, LabelCategories

LABELS = ["dog", "cat", "Großer Panda"]


def picture(rng):
    return Image.from_numpy(rng.integers(0, 255, (16, 16, 3), dtype=np.uint8), ext=".png")


def main(out):
    out = Path(out)
    shutil.rmtree(out, ignore_errors=True)
    rng = np.random.default_rng(7)
    several = {
        ("train", "one"): [0],
        ("train", "sub/two"): [1],
        ("train", "with space"): [2],
        ("val", "three"): [1],
        ("val", "both"): [0, 1],
        ("val", "none"): [],
    }
    for kind in ("datumaro", "cvat", "imagenet_txt", "imagenet"):
        named = {key: labels for key, labels in several.items() if kind != "imagenet" or len(labels) == 1}
        items = [
            DatasetItem(
                id=name if kind != "imagenet" else Path(name).name,
                subset=subset,
                media=picture(rng),
                annotations=[
                    Label(label, attributes={"occluded": False} if kind == "cvat" else {}) for label in labels
                ],
                attributes={"frame": at, "source": "camera 1"} if kind == "datumaro" else {"frame": at},
            )
            for at, ((subset, name), labels) in enumerate(named.items())
        ]
        categories = {AnnotationType.label: LabelCategories.from_iterable(LABELS)}
        data = Dataset.from_iterable(items, categories=categories, media_type=Image)
        data.export(str(out / kind), kind, save_media=True, image_ext=".png")
        read = []
        sources = sorted((out / kind).glob("*.xml")) if kind == "cvat" else [out / kind]
        for source in sources:
            again = Dataset.import_from(str(source), kind)
            names = [label.name for label in again.categories()[AnnotationType.label]]
            for item in again:
                labels = [names[each.label] for each in item.annotations if each.type == AnnotationType.label]
                path = getattr(item.media, "path", "") or ""
                where = str(Path(path).relative_to((out / kind).resolve())) if Path(path).is_absolute() else path
                read.append({"subset": item.subset, "id": item.id, "labels": labels, "path": where})
        found = {"labels": names, "items": sorted(read, key=lambda each: (each["subset"], each["id"]))}
        (out / kind / "read.json").write_text(json.dumps(found, ensure_ascii=False, indent=1) + "\n", encoding="utf8")


main(sys.argv[1])
