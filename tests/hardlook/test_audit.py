"""An audit from a notebook: what it computes, what it gives back, and what other processes can do with its folder."""

import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request

import hardlook
import numpy as np
import pandas as pd
import pytest
import torch
from hardlook import Audit
from sklearn.linear_model import LogisticRegression
from torch import nn
from torch.utils.data import TensorDataset

from scoring.audit import Audit as Folder
from scoring.reviews import Event, ReviewLog
from scoring.training import Recorder

FEW = ["uncertainty", "label_quality", "neighbours", "suspicion"]


def blobs(n=60, seed=0):
    """Two clouds of points, their classes, and the same with every tenth label wrong."""
    random = np.random.default_rng(seed)
    true = np.arange(n) % 2
    points = random.normal(size=(n, 4)) + 3 * true[:, None]
    given = np.where(np.arange(n) % 10 == 3, 1 - true, true)
    return torch.tensor(points, dtype=torch.float32), torch.tensor(given), true


def trained(points, labels, steps=60):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    optimizer = torch.optim.Adam(net.parameters(), 0.02)
    for _ in range(steps):
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(points), labels).backward()
        optimizer.step()
    return net


@pytest.fixture(scope="module")
def scored(tmp_path_factory):
    """An audit with a model, its folder, the network and the data."""
    points, given, true = blobs()
    net = trained(points, torch.tensor(true))
    train, test = TensorDataset(points, given), TensorDataset(*blobs(20, 1)[:2])
    folder = tmp_path_factory.mktemp("scored")
    audit = hardlook.audit(train=train, test=test, model=net, folder=folder, scores=FEW)
    return audit, net, points, given, true


def run_command(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "scoring.cli", *map(str, arguments)], capture_output=True, text=True, check=False
    )


def test_scores_are_the_models_own_and_rows_find_the_dataset(scored):
    audit, net, points, given, _ = scored
    frame = audit.scores()
    train = frame[frame["split"] == "train"]
    assert len(frame) == 80
    assert train["row"].tolist() == list(range(60))
    with torch.no_grad():
        p = net(points).softmax(1).numpy()
    assert np.allclose(train["p_label"], p[np.arange(60), given.numpy()], atol=1e-5)
    assert frame.attrs["columns"]["uncertainty.loss"]["suspicious"] == "high"


def test_the_suspects_are_the_wrong_labels_and_the_suggestion_is_the_true_one(scored):
    audit, _, _, given, true = scored
    suspects = audit.suspects(6)
    wrong = np.flatnonzero(given.numpy() != true)
    assert set(suspects["row"]) == set(wrong)
    assert suspects["suggested_label"].tolist() == [str(true[row]) for row in suspects["row"]]
    assert suspects["suspicion"].is_monotonic_decreasing
    by_loss = audit.suspects(3, by="uncertainty.loss")
    assert by_loss["uncertainty.loss"].tolist() == sorted(audit.scores()["uncertainty.loss"][:60])[::-1][:3]


def test_the_model_is_left_as_it_was(scored):
    _, net, points, _, true = scored
    again = trained(points, torch.tensor(true))
    assert all(torch.equal(one, other) for one, other in zip(net.parameters(), again.parameters(), strict=True))
    assert net.training


def test_the_same_cell_again_computes_nothing(scored):
    audit, net, points, given, _ = scored
    before = {path: path.stat().st_mtime_ns for path in audit.folder.glob("runs/main/scores/*.parquet")}
    again = hardlook.audit(
        train=TensorDataset(points, given), test=TensorDataset(*blobs(20, 1)[:2]), model=net, folder=audit, scores=FEW
    )
    assert {path: path.stat().st_mtime_ns for path in again.folder.glob("runs/main/scores/*.parquet")} == before


def test_slices_compute_what_they_need(scored):
    audit, *_ = scored
    slices = audit.slices(3)
    assert len(audit.slices()) <= 4
    assert slices["size"].sum() == 20
    assert slices["accuracy"].is_monotonic_increasing
    ids = set(audit.scores()["example_id"])
    assert all(set(row) <= ids for row in [*slices["members"], *slices["opponents"]])


def test_it_prints_itself(scored):
    audit, *_ = scored
    assert "80 examples (60 train, 20 test), 2 classes" in repr(audit)
    html = audit._repr_html_()
    assert html.count("<img") == 12
    assert "→ <b>" in html


def test_other_processes_say_what_they_lack_and_do_the_rest(scored):
    audit, *_ = scored
    audit.slices(3)  # computes what slicing needs, here, where the model is
    for command in ("score", "check"):
        done = run_command(command, audit.folder)
        assert done.returncode == 1
        assert "in-process:model: this audit's model lives in the notebook or script" in done.stderr
    for command in (["slice", "--n-slices", "4"], ["export"], ["report", "-o", f"{audit.folder}/report.html"]):
        done = run_command(command[0], audit.folder, *command[1:])
        assert done.returncode == 0, done.stderr


def test_the_dashboard_opens_beside_and_closes(scored):
    audit, *_ = scored
    with audit:
        shown = audit.show()
        assert urllib.request.urlopen(shown.url, timeout=20).status == 200
        assert f'src="{shown.url}"' in shown._repr_html_()
        assert audit.show() is shown
    assert "closed" in repr(shown)
    assert not shown.running


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_the_dashboard_ends_with_a_process_that_is_killed(scored, number):
    audit, *_ = scored
    code = f"import hardlook, time; print(hardlook.open({str(audit.folder)!r}).show().url, flush=True); time.sleep(600)"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        process.stdout.readline()  # the sentence that show() prints
        url = process.stdout.readline().strip()
        with urllib.request.urlopen(url, timeout=20) as page:
            assert page.status == 200
        process.send_signal(number)
        process.wait(20)
    for _ in range(200):
        try:
            urllib.request.urlopen(url, timeout=20).close()
        except urllib.error.URLError:
            break
        time.sleep(0.1)
    else:
        pytest.fail("the dashboard still runs")


def test_a_port_that_is_none_is_one_sentence(scored):
    audit, *_ = scored
    for port in ("abc", -1, 70_000):
        with pytest.raises(hardlook.HardlookError, match="needed a number up to 65535"):
            audit.show(port=port)


def test_another_models_weights_are_scored_anew(tmp_path):
    points, given, true = blobs()
    data = TensorDataset(points, given)
    first = hardlook.audit(train=data, model=trained(points, torch.tensor(true)), folder=tmp_path, scores=FEW)
    before = first.scores()["uncertainty.loss"]
    second = hardlook.audit(train=data, model=trained(points, given, 5), folder=tmp_path, scores=FEW)
    assert not np.allclose(before, second.scores()["uncertainty.loss"])


def test_another_transform_is_noticed(tmp_path):
    points, given, true = blobs()
    net, data = trained(points, torch.tensor(true)), TensorDataset(points, given)
    losses = []
    for factor in (1.0, -1.0):  # the same source text: only the value that it closes over differs
        audit = hardlook.audit(
            train=data, model=net, folder=tmp_path, scores=["uncertainty"], transform=times(factor), classes=["0", "1"]
        )
        losses.append(audit.scores()["uncertainty.loss"].mean())
    assert losses[0] < losses[1]


def times(factor):
    def transform(values):
        return torch.as_tensor(values, dtype=torch.float32) * factor

    return transform


def test_train_then_look_is_one_notebook(tmp_path):
    points, given, _ = blobs()
    audit = hardlook.audit(train=(points, given), test=blobs(20, 1)[:2], folder=tmp_path, scores=None)
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    optimizer = torch.optim.Adam(net.parameters(), 0.02)
    loader = torch.utils.data.DataLoader(TensorDataset(points, given), batch_size=20)
    with Recorder(audit, net) as recorder:
        for _ in range(3):
            for inputs, labels in recorder.watch(loader):
                optimizer.zero_grad()
                nn.functional.cross_entropy(net(inputs), labels).backward()
                optimizer.step()
    audit.score(["uncertainty", "aum", "suspicion"], model=net)
    assert audit.scores()["aum.aum"][:60].notna().all()
    assert len(Folder.open(audit).run().dynamics_files("main")) == 3


def test_predictions_instead_of_a_model(tmp_path):
    points, given, true = blobs()
    test_points, test_labels, _ = blobs(20, 1)
    model = LogisticRegression().fit(points, true)
    p = {"train": model.predict_proba(points), "test": model.predict_proba(test_points)}
    audit = hardlook.audit(
        train=(points, given),
        test=(test_points, test_labels),
        pred_probs=p,
        features={"train": points, "test": test_points},
        folder=tmp_path,
        scores=FEW,
    )
    assert set(audit.suspects(6)["row"]) == set(np.flatnonzero(given.numpy() != true))
    assert np.allclose(
        audit.scores()["uncertainty.loss"][60:], -np.log(p["test"][np.arange(20), test_labels]), atol=1e-4
    )


@pytest.mark.parametrize(
    ("p", "words"),
    [
        (np.full((60, 2), 0.5), "needed one array by split"),
        ({"train": np.full((59, 2), 0.5)}, "59 rows; needed 60"),
        ({"pool": np.full((59, 2), 0.5)}, "no examples in split 'pool'"),
        ({"train": np.full((60, 3), 1 / 3)}, "2 classes"),
    ],
)
def test_predictions_that_do_not_fit_are_one_sentence(tmp_path, p, words):
    points, given, _ = blobs()
    with pytest.raises(hardlook.HardlookError, match=words):
        hardlook.audit(train=(points, given), pred_probs=p, folder=tmp_path)


def test_decisions_and_corrected_labels(scored):
    audit, _, _, given, true = scored
    folder = Folder.open(audit)
    row = int(np.flatnonzero(given.numpy() != true)[0])
    frame = audit.scores()
    example, fingerprint = frame["example_id"][row], pd.read_parquet(folder.examples_path)["fingerprint"][row]
    with ReviewLog.open(folder.log_url, audit="audit") as log:
        log.append(
            [
                Event(
                    client="a", seq=1, example_id=example, reviewer="ana", action="decide", verdict="other",
                    label=str(int(given[row])), new_label=str(true[row]), fingerprint=fingerprint,
                )
            ]
        )  # fmt: skip
    assert audit.decisions()["new_label"].tolist() == [str(true[row])]
    corrected = audit.corrected_labels()
    assert corrected.loc[corrected["changed"], "example_id"].tolist() == [example]
    assert corrected["label"][row] == str(true[row])
    assert len(corrected) == 80
    refit = audit.refit()
    assert refit["n"].iloc[0] > 0
    assert "test examples" in refit.attrs["conclusion"]
    done = run_command("refit", audit.folder)
    assert done.returncode == 1
    assert "in-process:model: this audit's model lives in the notebook or script" in done.stderr


def test_an_edited_file_is_kept_or_named(tmp_path):
    points, given, _ = blobs()
    audit = hardlook.audit(train=(points, given), folder=tmp_path, scores=None)
    path = Folder.open(audit).config_path
    path.write_text(path.read_text() + '\n[policy]\nunsure = "keep"\n')
    hardlook.audit(train=(points, given), folder=tmp_path, scores=None)
    assert "[policy]" in path.read_text()
    with pytest.raises(hardlook.HardlookError, match="written by hand and differs"):
        hardlook.audit(train=(points, given), folder=tmp_path, scores=None, classes=["1", "0"])


def test_open_takes_any_audit_and_importing_is_light(tmp_path):
    points, given, _ = blobs()
    hardlook.audit(train=(points, given), folder=tmp_path, scores=None)
    assert isinstance(hardlook.open(tmp_path), Audit)
    with pytest.raises(hardlook.HardlookError, match="no audit"):
        hardlook.open(tmp_path / "nothing")
    code = (
        "import sys, hardlook; assert not {'torch', 'ray', 'streamlit', 'sklearn', 'transformers'} & set(sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_model_that_cannot_be_copied_is_one_sentence(tmp_path):
    points, given, _ = blobs()
    net = nn.Linear(4, 2)
    net.kept = (number for number in [1])  # a generator, which nothing copies
    with pytest.raises(hardlook.HardlookError, match="cannot be copied"):
        hardlook.audit(train=(points, given), model=net, folder=tmp_path, scores=FEW)
