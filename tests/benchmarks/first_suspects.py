"""From a training to the first suspect: lines that the user writes, and seconds of CPU, beside other tools.

    OMP_NUM_THREADS=1 python -m tests.benchmarks.first_suspects [--only Lightning] [--peers FOLDER]

Each journey begins with the files of its library's own trainer (``tests/journeys.py``: 600 + 200 digits of 32 px, 400
texts), and its lines are those of the help page "first-suspects". CPU is that of all processes that the lines start,
imports included; the dashboard counts until a browser shows the first suspect. cleanlab's Datalab and Renumics
Spotlight get the same data and model in scripts as short as their documents have them; ``--peers`` is a folder with
``datalab/bin/python`` and ``spotlight/bin/python``, environments in which they and torch are installed.

The table goes to the help page by hand. Found and chance: wrong labels among the first 30 of the 600 (30 are wrong).
"""

from __future__ import annotations

import argparse
import os
import re
import resource
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from playwright.sync_api import sync_playwright

from tests.journeys import JOURNEYS, wrong_rows
from tests.manual import Block, blocks

HEADINGS = (
    "One .pth",
    "Lightning",
    "Images of Hugging Face",
    "Texts of Hugging Face",
    "timm",
    "scikit-learn",
    "A notebook",
)
SMALL = " --transform '{ resize = 32, crop = 32, mode = \"RGB\" }'"
"""What a user whose pictures are of 32 px adds: no file of a plain loop or of Lightning says it."""
SET_UP = """
import torch
from torchvision.datasets import ImageFolder
from torchvision.models import resnet18
from torchvision.transforms import v2
transform = v2.Compose([v2.Resize(32), v2.CenterCrop(32), v2.ToImage(), v2.ToDtype(torch.float32, scale=True)])
train, test = ImageFolder("images/train", transform), ImageFolder("images/test", transform)
net = resnet18(num_classes=10)
net.load_state_dict(torch.load("final.pth", weights_only=True))
"""
"""The end of the training script in whose process the notebook's lines run."""

FORWARD = """
features, logits = [], []
with torch.no_grad():
    net.eval()
    net.fc.register_forward_pre_hook(lambda module, inputs: features.append(inputs[0]))
    for inputs, _ in torch.utils.data.DataLoader(train, 64):
        logits.append(net(inputs))
p, f = torch.cat(logits).softmax(1).numpy(), torch.cat(features).numpy()
"""
DATALAB = (
    FORWARD
    + """
from cleanlab import Datalab
lab = Datalab({"label": train.targets}, label_name="label")
lab.find_issues(pred_probs=p, features=f)
issues = lab.get_issues("label").sort_values("label_score")
"""
)
SPOTLIGHT = (
    FORWARD
    + """
import pandas as pd
from renumics import spotlight
frame = pd.DataFrame({"image": [path for path, _ in train.samples], "label": train.targets})
frame["p_label"] = p[range(len(frame)), train.targets]
frame["embedding"] = list(f)
viewer = spotlight.show(frame.sort_values("p_label"), no_browser=True, wait=False, analyze=True)
"""
)

SHOWN = "[...document.querySelectorAll('[data-example-id] img')].some(one => one.complete && one.naturalWidth > 0)"
"""Whether a browser has drawn the picture of an example."""


def lines(heading: str) -> Block:
    """The block below a heading of the help page."""
    from tests.manual import PAPERS

    text = PAPERS["first-suspects"].read_text(encoding="utf8")
    start = text.index(f"## {heading}\n")
    inside = text[start : text.find("\n## ", start + 1)]
    return next(block for block in blocks("first-suspects") if block.text in inside)


def written(text: str) -> int:
    """Lines with something on them."""
    return len([line for line in text.splitlines() if line.strip() and not line.startswith("#")])


def cpu_of(command: list[str], folder: Path, stdin: str | None = None) -> tuple[float, str]:
    """Seconds of CPU of a process and its children → (seconds, output)."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        command,
        cwd=folder,
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": ""},
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise SystemExit(f"{shlex.join(command)}\n{done.stdout}{done.stderr}")
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, done.stdout


def served(audit: Path) -> float:
    """Seconds of CPU of the dashboard until a browser shows the first suspect's picture."""
    command = [sys.executable, "-m", "scoring.cli", "dashboard", str(audit), "--port", "0"]
    with (
        subprocess.Popen(command, cwd=audit.parent, stdout=subprocess.PIPE, text=True) as server,
        sync_playwright() as playwright,
    ):
        assert server.stdout is not None
        try:
            address = next(found[0] for line in server.stdout if (found := re.search(r"http://\S+", line)))
            browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
            page = browser.new_page(viewport={"width": 1440, "height": 900})
            page.goto(f"{address}/suspects")
            page.get_by_text("1 of ", exact=False).first.wait_for(timeout=60_000)
            page.wait_for_timeout(1000)
            fields = Path(f"/proc/{server.pid}/stat").read_text(encoding="utf8").rpartition(")")[2].split()
            spent = sum(int(fields[at]) for at in (11, 12)) / os.sysconf("SC_CLK_TCK")
            browser.close()
        finally:
            server.send_signal(signal.SIGINT)
            server.wait(20)
    return spent


def journey(heading: str, folder: Path) -> tuple[int, float, float]:
    """(lines, CPU of scoring, CPU of the dashboard)."""
    block = lines(heading)
    spent = 0.0
    if block.language == "python":
        text = block.text.replace("audit.show()", "audit.suspects(1)")
        spent, _ = cpu_of([sys.executable, "-"], folder, SET_UP + text)
        spent -= cpu_of([sys.executable, "-"], folder, SET_UP)[0]
    else:
        for line in block.text.splitlines():
            if "dashboard" not in line:
                line += SMALL if heading in ("One .pth", "Lightning") and " new " in line else ""
                spent += cpu_of([sys.executable, "-m", "scoring.cli", *shlex.split(line)[1:]], folder)[0]
    return written(block.text), spent, served(folder / "my-audit")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--only")
    parser.add_argument("--peers", type=Path)
    options = parser.parse_args()
    print(f"cores {os.cpu_count()}, load {os.getloadavg()[0]:.1f}, {time.strftime('%Y-%m-%d')}")
    print("| journey | lines | CPU to the queue, s | CPU to the first picture, s |\n|---|---:|---:|---:|")
    for heading, (name, prepare) in zip(HEADINGS, JOURNEYS.items(), strict=True):
        if options.only in (None, heading, name):
            with tempfile.TemporaryDirectory() as folder:
                prepare(Path(folder))
                count, scoring, dashboard = journey(heading, Path(folder))
            print(f"| {heading} | {count} | {scoring:.1f} | {scoring + dashboard:.1f} |", flush=True)
    if options.peers is not None:
        with tempfile.TemporaryDirectory() as name:
            JOURNEYS["one .pth"](Path(name))
            for peer, script in (("datalab", DATALAB), ("spotlight", SPOTLIGHT)):
                python = str(options.peers / peer / "bin" / "python")
                spent = cpu_of([python, "-"], Path(name), SET_UP + script)[0]
                spent -= cpu_of([python, "-"], Path(name), SET_UP)[0]
                print(f"| {peer}, a notebook | {written(script)} | {spent:.1f} | |", flush=True)
    print(f"wrong labels: {len(wrong_rows())} of 600")


if __name__ == "__main__":
    main()
