"""Writes fiftyone-1.22.1 with FiftyOne's exporter classes, and what its importer classes read in ``read.json``.

    pip install fiftyone==1.22.1
    python make_fiftyone.py OUT

A FiftyOneDataset needs FiftyOne's database, which is a download of its own. Its samples are therefore those that
``fiftyone.Sample`` makes of itself for the database, written as the exporter writes them; ``metadata.json`` has only
the keys of that file that say something about classes.
"""

import json
import shutil
import sys
from pathlib import Path

import fiftyone as fo
import fiftyone.utils.data as foud
import numpy as np
from bson import ObjectId, json_util
from PIL import Image

CLASSES = ["dog", "cat", "Großer Panda"]
LABELS = ["dog", "cat", "Großer Panda", "dog", None]


def pictures(folder):
    rng = np.random.default_rng(11)
    folder.mkdir(parents=True)
    for at in range(len(LABELS)):
        Image.fromarray(rng.integers(0, 255, (16, 16, 3), dtype=np.uint8)).save(folder / f"bild {at}.png")
    return [folder / f"bild {at}.png" for at in range(len(LABELS))]


def main(out):
    out = Path(out).resolve()
    shutil.rmtree(out, ignore_errors=True)
    files = pictures(out / "pictures")
    read = {}
    for name, more in (("indices", {"classes": CLASSES}), ("names", {}), ("confidences", {"include_confidence": True})):
        exporter = foud.FiftyOneImageClassificationDatasetExporter(
            export_dir=str(out / name), export_media=True, **more
        )
        with exporter:
            for file, label in zip(files, LABELS, strict=True):
                told = None if label is None else fo.Classification(label=label, confidence=0.5)
                exporter.export_sample(str(file), told)
        importer = foud.FiftyOneImageClassificationDatasetImporter(dataset_dir=str(out / name))
        with importer:
            read[name] = {
                str(Path(path).relative_to(out / name)): label.label if label is not None else None
                for path, _, label in importer
            }
    exporter = foud.FiftyOneImageClassificationDatasetExporter(export_dir=str(out / "several"), export_media=True)
    with exporter:
        both = [fo.Classification(label="dog"), fo.Classification(label="cat")]
        exporter.export_sample(str(files[0]), fo.Classifications(classifications=both))
        exporter.export_sample(str(files[1]), fo.Classifications(classifications=both[:1]))
    exporter = foud.ImageClassificationDirectoryTreeExporter(export_dir=str(out / "tree"), export_media=True)
    with exporter:
        for file, label in zip(files, LABELS, strict=True):
            exporter.export_sample(str(file), None if label is None else fo.Classification(label=label))
    importer = foud.ImageClassificationDirectoryTreeImporter(dataset_dir=str(out / "tree"))
    with importer:
        read["tree"] = {
            str(Path(path).relative_to(out / "tree")): None if label is None else label.label
            for path, _, label in importer
        }
        read["tree classes"] = importer.get_dataset_info()["classes"]
    samples = []
    (out / "samples" / "data").mkdir(parents=True)
    for at, (file, label) in enumerate(zip(files, LABELS, strict=True)):
        sample = fo.Sample(filepath=str(file), tags=["train"] if at < 3 else ["validation", "sharp"])
        sample["ground_truth"] = None if label is None else fo.Classification(label=label)
        sample["model"] = fo.Classification(label="cat", confidence=0.25)
        sample["weather"] = "sunny" if at % 2 else "rainy"
        document = sample.to_mongo_dict() | {"_id": ObjectId(f"{at:024x}"), "filepath": f"data/{file.name}"}
        samples.append(document)
        shutil.copy(file, out / "samples" / "data")
    (out / "samples" / "samples.json").write_text(json_util.dumps({"samples": samples}), encoding="utf8")
    facts = {"media_type": "image", "classes": {"ground_truth": CLASSES}, "default_classes": [], "info": {}}
    (out / "samples" / "metadata.json").write_text(json.dumps(facts), encoding="utf8")
    shutil.rmtree(out / "pictures")
    (out / "read.json").write_text(json.dumps(read, ensure_ascii=False, indent=1) + "\n", encoding="utf8")


main(sys.argv[1])
