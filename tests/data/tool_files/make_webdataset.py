"""Writes webdataset-1.0.2: two shards by the library's TarWriter, and what the library reads of them in ``read.json``.

pip install webdataset==1.0.2
python make_webdataset.py OUT
"""

import hashlib
import io
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import webdataset as wds
from PIL import Image


def main(out):
    out = Path(out)
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    rng = np.random.default_rng(2)
    for shard in range(2):
        with wds.TarWriter(str(out / f"train-{shard:03d}.tar"), mtime=0.0, user="a", group="a") as writer:
            for at in range(3):
                buffer = io.BytesIO()
                picture = Image.fromarray(rng.integers(0, 255, (16, 16, 3), dtype=np.uint8))
                picture.save(buffer, "PNG" if shard else "JPEG")
                facts = {"place": "Röm", "size": at, "list": [1]}
                content = {"seg.txt": "x", "cls": at, "json": facts, "png" if shard else "jpg": buffer.getvalue()}
                writer.write({"__key__": f"set.d/{shard}{at}", **content})
    urls = [str(shard) for shard in sorted(out.glob("*.tar"))]
    read = {
        sample["__key__"]: [hashlib.sha256(sample.get("png") or sample["jpg"]).hexdigest(), int(sample["cls"])]
        for sample in wds.WebDataset(urls, shardshuffle=False)
    }
    (out / "read.json").write_text(json.dumps(read, indent=1) + "\n")


main(sys.argv[1])
