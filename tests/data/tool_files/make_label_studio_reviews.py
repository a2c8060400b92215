"""Writes label-studio-1.23.2-review: a small audit, the tasks that hardlook made of it, and the answers of two people.

    python make_label_studio_reviews.py http://127.0.0.1:PORT TOKEN OUT        (the server as in make_label_studio.py)

The server runs with LABEL_STUDIO_LOCAL_FILES_SERVING_ENABLED=true, and the folder above OUT as
LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT.

Label Studio imports interface and tasks as hardlook wrote them, predictions included; its exports are kept as they are.
"""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import requests
from PIL import Image

AUDIT = """format = 1
classes = ["cat", "dog & co", "Großer Panda"]

[[data]]
split = "train"
path = "train"

[[data]]
split = "pool"
path = "pool"
"""
CLASSES = ["cat", "dog & co", "Großer Panda"]


def write_audit(root):
    """Eight pictures in three folders, two in the pool, and predictions of which some dispute the label."""
    rng = np.random.default_rng(31)
    (root / "audit.toml").write_text(AUDIT, encoding="utf8")
    lines = ["example_id," + ",".join(CLASSES)]
    names = [f"train/{CLASSES[at % 3]}/{at} ä.png" for at in range(8)] + ["pool/8.png", "pool/9.png"]
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (16, 16, 3), dtype=np.uint8)).save(root / name)
        p = rng.dirichlet([1, 1, 1]).round(3)
        lines.append(f"{name},{p[0]},{p[1]},{1 - p[0] - p[1]:.3f}")
    (root / "predictions.csv").write_text("\n".join(lines) + "\n", encoding="utf8")


def main(server, token, out):
    out = Path(out)
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    write_audit(out)
    subprocess.run(["hardlook", "import-predictions", str(out), str(out / "predictions.csv")], check=True)
    subprocess.run(["hardlook", "export", str(out), "--format", "label-studio", "--out", str(out)], check=True)
    for made in ("runs", "parts", "thumbnails.arrow", "media.arrow", "ingest", "examples.parquet", "examples.json"):
        place = out / made
        shutil.rmtree(place) if place.is_dir() else place.unlink(missing_ok=True)
    session = requests.Session()
    session.headers["Authorization"] = f"Token {token}"

    def call(method, address, **more):
        answer = session.request(method, f"{server}/api/{address}", **more)
        assert answer.ok, answer.text
        return answer

    users = {user["email"]: user["id"] for user in call("GET", "users/").json()}
    ana, bo = users["ana@example.org"], users["bo@example.org"]
    interface = (out / "label-studio.xml").read_text(encoding="utf8")
    project = call("POST", "projects/", json={"title": "review", "label_config": interface}).json()["id"]
    storage = {"project": project, "path": str(out.resolve()), "use_blob_urls": True, "title": "pictures"}
    call("POST", "storages/localfiles/", json=storage)
    for split in ("train", "pool"):
        tasks = json.loads((out / f"label-studio-{split}.json").read_text(encoding="utf8"))
        done = call("POST", f"projects/{project}/import", json=tasks).json()
        assert done["task_count"] == len(tasks) and done["prediction_count"] == len(tasks), done
    tasks = call("GET", f"tasks/?project={project}&page_size=100&fields=all").json()["tasks"]
    served = session.get(server + tasks[0]["data"]["image"])
    assert served.ok and served.content[:4] == b"\x89PNG", "Label Studio serves the pictures that the tasks name"
    tasks.sort(key=lambda task: task["data"]["example_id"])

    def annotate(task, user, classes=(), outside=(), **more):
        result = [
            {"from_name": name, "to_name": "item", "type": "choices", "value": {"choices": list(choices)}}
            for name, choices in (("label", classes), ("no_class", outside))
            if choices
        ]
        made = call("POST", f"tasks/{task['id']}/annotations/", json={"result": result, "lead_time": 2.5, **more})
        call("PATCH", f"annotations/{made.json()['id']}/", json={"completed_by": user})

    pool, train = tasks[:2], tasks[2:]
    annotate(pool[0], ana, ["dog & co"])
    for task, answer in zip(
        train,
        [
            {"classes": [train[0]["data"]["given_label"]]},
            {"classes": [next(name for name in CLASSES if name != train[1]["data"]["given_label"])]},
            {"classes": ["cat", "Großer Panda"]},
            {"outside": ["no class fits"]},
            {"outside": ["not sure"]},
            {"was_cancelled": True},
            {},
        ],
        strict=False,
    ):
        annotate(task, ana, **answer)
    annotate(train[0], bo, [next(name for name in CLASSES if name != train[0]["data"]["given_label"])])
    for kind, name in (("JSON", "answers.json"), ("JSON_MIN", "answers-min.json"), ("CSV", "answers.csv")):
        exported = call("GET", f"projects/{project}/export?exportType={kind}&download_all_tasks=true")
        (out / name).write_bytes(exported.content)


main(*sys.argv[1:])
