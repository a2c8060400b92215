"""The front page's snippet in a real Jupyter kernel: every cell runs, and an audit shows itself."""

import re

import nbformat
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

from tests.manual import blocks

SET_UP = """
import numpy as np, torch
from torch.utils.data import TensorDataset
random = np.random.default_rng(0)
true = np.arange(60) % 2
points = torch.tensor(random.normal(size=(60, 4)) + 3 * true[:, None], dtype=torch.float32)
labels = np.where(np.arange(60) % 10 == 3, 1 - true, true)
dataset, dataset2 = TensorDataset(points, torch.tensor(labels)), TensorDataset(points[:20], torch.tensor(true[:20]))
torch.manual_seed(0)
net = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))
optimizer = torch.optim.Adam(net.parameters(), 0.02)
for _ in range(60):
    optimizer.zero_grad()
    torch.nn.functional.cross_entropy(net(points), torch.tensor(true)).backward()
    optimizer.step()
p, f = net(points).softmax(1).detach().numpy(), points
import os
os.mkdir("ckpts")
for epoch in (1, 2):
    torch.save({"state_dict": net.state_dict(), "epoch": epoch}, f"ckpts/{epoch}.pt")
    net[2].bias.data += 0.01
"""


def run_cells(folder, *cells):
    """The outputs of each cell, run in a kernel in ``folder``."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in (SET_UP, *cells)])
    client = NotebookClient(notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(folder)}})
    client.execute()
    return [cell["outputs"] for cell in notebook.cells[1:]]


def test_the_front_pages_snippet_runs_and_everything_shows_itself(tmp_path):
    (snippet,) = blocks("README", "python")
    shown, issues, audit, suspects, closed = run_cells(
        tmp_path,
        snippet.text,
        "issues.nsmallest(6, 'rank')",
        "audit",
        "audit.suspects(6)",
        "audit.close()\nprint('done')",
    )
    assert "suggested_label" in issues[-1]["data"]["text/html"]
    html = audit[-1]["data"]["text/html"]
    assert html.count("<img") == 12
    assert "60 train, 20 test" in html
    assert "suspicion" in suspects[-1]["data"]["text/html"]
    frame = shown[-1]["data"]["text/html"]
    assert re.search(r'<iframe src="http://localhost:\d+"', frame)
    printed = "".join(output.get("text", "") for output in shown)
    assert re.search(r"the dashboard is at http://localhost:\d+", printed)
    assert closed[-1]["text"] == "done\n"


def test_a_mistake_ends_in_one_sentence(tmp_path):
    with pytest.raises(CellExecutionError) as error:
        run_cells(tmp_path, "import hardlook\nhardlook.audit(train=7)")
    assert "hardlook: train: found int; needed a path, a data frame" in str(error.value)
    assert "Traceback" not in str(error.value)
