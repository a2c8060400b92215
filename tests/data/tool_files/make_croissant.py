"""Writes mlcroissant-1.1.1: small datasets that mlcroissant describes, and what it reads of them in ``read.json``.

    pip install mlcroissant==1.1.1
    python make_croissant.py OUT

``folders``: pictures in a zip, whose folder is the label. ``joined``: pictures in a zip, labels in a CSV by file name.
``table``: a CSV of texts and labels.
"""

import csv
import hashlib
import io
import json
import shutil
import sys
import zipfile
from pathlib import Path

import mlcroissant as mlc
import numpy as np
from PIL import Image

LABELS = ["dog", "cat", "Großer Panda", "dog"]


def pictures(folder, names):
    rng = np.random.default_rng(17)
    folder.mkdir(parents=True)
    with zipfile.ZipFile(folder / f"{folder.name}.zip", "w") as archive:
        for name in names:
            buffer = io.BytesIO()
            Image.fromarray(rng.integers(0, 255, (16, 16, 3), dtype=np.uint8)).save(buffer, "PNG")
            archive.writestr(zipfile.ZipInfo(name), buffer.getvalue())


def file_object(folder, name, kind):
    content = hashlib.sha256((folder / name).read_bytes()).hexdigest()
    return mlc.FileObject(id=name, name=name, content_url=name, encoding_formats=[kind], sha256=content)


def zipped(folder):
    """The library keeps what it unpacked under the archive's name, so each dataset has one of its own."""
    archive = f"{folder.name}.zip"
    kinds = ["image/png"]
    files = mlc.FileSet(
        id="pictures", name="pictures", contained_in=[archive], includes="*.png", encoding_formats=kinds
    )
    return [file_object(folder, archive, "application/zip"), files]


def field(name, kinds, source, **more):
    return mlc.Field(id=f"records/{name}", name=name, data_types=kinds, source=source, **more)


def picture_field():
    source = mlc.Source(file_set="pictures", extract=mlc.Extract(file_property=mlc.FileProperty.content))
    return field("image", [mlc.DataType.IMAGE_OBJECT], source)


def write(folder, distribution, fields):
    about = {
        "name": folder.name,
        "description": "noise",
        "license": "CC0",
        "url": "https://example.org",
        "version": "1",
    }
    about |= {"cite_as": "none", "date_published": "2025-01-01"}
    metadata = mlc.Metadata(
        **about, distribution=distribution, record_sets=[mlc.RecordSet(id="records", name="records", fields=fields)]
    )
    text = json.dumps(metadata.to_json(), indent=1, default=str, ensure_ascii=False)
    (folder / "metadata.json").write_text(text + "\n", encoding="utf8")
    found = []
    for record in mlc.Dataset(jsonld=str(folder / "metadata.json")).records("records"):
        plain = {key.split("/")[-1]: value for key, value in record.items()}
        found.append(
            {
                name: hashlib.sha256(np.asarray(value).tobytes()).hexdigest()
                if isinstance(value, Image.Image)
                else value.decode()
                if isinstance(value, bytes)
                else value
                for name, value in plain.items()
            }
        )
    (folder / "read.json").write_text(json.dumps(found, ensure_ascii=False, indent=1) + "\n", encoding="utf8")


def main(out):
    out = Path(out)
    shutil.rmtree(out, ignore_errors=True)
    pictures(out / "folders", [f"set/{label}/{at}.png" for at, label in enumerate(LABELS)])
    path = mlc.Source(
        file_set="pictures",
        extract=mlc.Extract(file_property=mlc.FileProperty.fullpath),
        transforms=[mlc.Transform(regex=r"^set/([^/]*)/.*\.png$")],
    )
    label = field("label", [mlc.DataType.TEXT, "cr:Label"], path)
    write(out / "folders", zipped(out / "folders"), [picture_field(), label])

    names = [f"b{at}.png" for at in range(4)]
    pictures(out / "joined", names)
    with open(out / "joined" / "labels.csv", "w", newline="", encoding="utf8") as file:
        csv.writer(file).writerows(
            [("file", "class", "age"), *zip(reversed(names), reversed(LABELS), range(4), strict=True)]
        )
    table = file_object(out / "joined", "labels.csv", "text/csv")

    def column(name):
        return mlc.Source(file_object="labels.csv", extract=mlc.Extract(column=name))

    by_name = mlc.Source(file_set="pictures", extract=mlc.Extract(file_property=mlc.FileProperty.filename))
    fields = [
        picture_field(),
        field("name", [mlc.DataType.TEXT], by_name, references=column("file")),
        field("class", [mlc.DataType.TEXT, "cr:Label"], column("class")),
        field("age", [mlc.DataType.INTEGER], column("age")),
    ]
    write(out / "joined", [*zipped(out / "joined"), table], fields)

    (out / "table").mkdir()
    with open(out / "table" / "texts.csv", "w", newline="", encoding="utf8") as file:
        csv.writer(file).writerows([("sentence", "mood", "age"), ("well, well", "good", 1), ("oh no", "bad", 2)])
    table = file_object(out / "table", "texts.csv", "text/csv")
    fields = [
        field(name, kinds, mlc.Source(file_object="texts.csv", extract=mlc.Extract(column=source)))
        for name, kinds, source in (
            ("words", [mlc.DataType.TEXT], "sentence"),
            ("feeling", [mlc.DataType.TEXT, "cr:Label"], "mood"),
            ("age", [mlc.DataType.INTEGER], "age"),
        )
    ]
    write(out / "table", [table], fields)


main(sys.argv[1])
