"""Writes label-studio-1.23.2: exports of a running Label Studio in JSON, JSON_MIN and CSV, with the pictures.

    pip install label-studio==1.23.2
    LABEL_STUDIO_ENABLE_LEGACY_API_TOKEN=true LABEL_STUDIO_BASE_DATA_DIR=DATA label-studio start --no-browser \
        --port PORT --username ana@example.org --password … --user-token TOKEN
    python make_label_studio.py http://127.0.0.1:PORT TOKEN OUT

Seven tasks: two agree, differ, several choices, skipped, ground truth among two that differ, none; the pictures are
noise of 16 × 16.
"""

import io
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import requests
from PIL import Image

CONFIG = """<View><Image name="image" value="$image"/><Choices name="animal" toName="image" choice="multiple">
<Choice value="cat"/><Choice value="dog"/><Choice value="Großer Panda"/></Choices></View>"""


def main(server, token, out):
    out = Path(out)
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    session = requests.Session()
    session.headers["Authorization"] = f"Token {token}"

    def call(method, address, **more):
        answer = session.request(method, f"{server}/api/{address}", **more)
        assert answer.ok, answer.text
        return answer

    users = {user["email"]: user["id"] for user in call("GET", "users/").json()}
    for name in ("bo@example.org",):
        if name not in users:
            users[name] = call("POST", "users/", json={"email": name, "username": name}).json()["id"]
    ana, bo = users["ana@example.org"], users["bo@example.org"]
    project = call("POST", "projects/", json={"title": "animals", "label_config": CONFIG}).json()["id"]
    rng = np.random.default_rng(13)
    for at in range(7):
        picture = io.BytesIO()
        Image.fromarray(rng.integers(0, 255, (16, 16, 3), dtype=np.uint8)).save(picture, "PNG")
        files = {"file": (f"bild {at}.png", picture.getvalue(), "image/png")}
        call("POST", f"projects/{project}/import", files=files)
    tasks = sorted(call("GET", f"tasks/?project={project}&page_size=100").json()["tasks"], key=lambda task: task["id"])

    def annotate(task, choices, user, **more):
        result = [{"from_name": "animal", "to_name": "image", "type": "choices", "value": {"choices": choices}}]
        fields = {"result": result if choices else [], "completed_by": user, **more}
        made = call("POST", f"tasks/{task['id']}/annotations/", json=fields).json()
        call("PATCH", f"annotations/{made['id']}/", json={"completed_by": user})

    first, second, third, fourth, fifth, sixth, _ = tasks
    annotate(first, ["cat"], ana)
    annotate(first, ["cat"], bo)
    annotate(second, ["cat"], ana)
    annotate(second, ["dog"], bo)
    annotate(third, ["cat", "dog"], ana)
    annotate(fourth, ["cat"], ana, was_cancelled=True)
    annotate(fifth, ["cat"], ana)
    annotate(fifth, ["dog"], bo, ground_truth=True)
    annotate(sixth, ["Großer Panda"], bo)
    call(
        "POST",
        "predictions/",
        json={
            "task": first["id"],
            "model_version": "v1",
            "score": 0.9,
            "result": [{"from_name": "animal", "to_name": "image", "type": "choices", "value": {"choices": ["dog"]}}],
        },
    )
    for kind, name in (("JSON", "tasks.json"), ("JSON_MIN", "tasks-min.json"), ("CSV", "tasks.csv")):
        exported = call("GET", f"projects/{project}/export?exportType={kind}&download_all_tasks=true")
        (out / name).write_bytes(exported.content)
    for task in json.loads((out / "tasks.json").read_text()):
        address = task["data"]["image"]
        file = out / "media" / address.removeprefix("/data/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(session.get(server + address).content)


main(*sys.argv[1:])
