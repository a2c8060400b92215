"""Our own small training loop, and ``hardlook train``."""

import random
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

from scoring.audit import Audit
from scoring.audit.errors import HardlookError
from scoring.data.ingest import ingest
from scoring.models import build_model, find_checkpoints, last_block_and_head
from scoring.models.randomness import own_randomness
from scoring.training import Recorder
from scoring.training.dynamics import read_dynamics
from scoring.training.in_memory import InMemory
from scoring.training.run_training import starting_model, train_run, training_settings
from scoring.training.trainer import fit

N, C = 96, 3


def data(n=N):
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(n) % C
    return TensorDataset(torch.randn(n, 1, 6, 6, generator=generator) + labels[:, None, None, None], labels)


def network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Dropout(0.2), nn.Linear(64, C)
    )


def weights(model):
    return torch.cat([value.double().flatten() for value in model.state_dict().values()])


IDS = [str(number) for number in range(N)]


# -- fit -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_fit_learns_and_tells_its_loss(optimizer):
    told = []
    model = fit(
        network(),
        data(),
        epochs=8,
        lr=0.05,
        optimizer=optimizer,
        batch_size=16,
        on_epoch=lambda epoch, loss: told.append((epoch, loss)),
    )
    with torch.no_grad():
        right = (model(data().tensors[0]).argmax(1) == data().tensors[1]).float().mean()
    assert right > 0.9 and not model.training
    assert [epoch for epoch, _ in told] == list(range(1, 9)) and told[-1][1] < told[0][1] / 2


def test_the_same_seed_gives_the_same_bits_and_another_one_does_not():
    augment = lambda batch: batch + 0.1 * torch.randn_like(batch)
    one, two, other = (weights(fit(network(), data(), epochs=2, seed=s, augment=augment)) for s in (0, 0, 1))
    assert torch.equal(one, two) and not torch.equal(one, other)


def test_every_epoch_has_random_numbers_of_its_own():
    drawn = []
    fit(network(), data(), epochs=3, batch_size=N, augment=lambda batch: drawn.append(torch.rand(1)) or batch)
    assert len(drawn) == 3 == len({float(number) for number in drawn})


def test_fit_leaves_the_global_generators_as_they_were():
    model = network()
    torch.manual_seed(3), np.random.seed(3), random.seed(3)
    before = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
    fit(model, data(), epochs=1, augment=lambda batch: batch + torch.randn_like(batch) + np.random.rand())
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1:] == (np.random.get_state()[1].tolist(), random.getstate())


def test_global_generators_are_lent_even_where_the_borrower_fails():
    state = torch.get_rng_state()
    with pytest.raises(KeyError), own_randomness(7):
        torch.rand(3), np.random.rand(3)
        raise KeyError
    assert torch.equal(state, torch.get_rng_state())


def test_fit_trains_the_same_with_and_without_a_recorder(tmp_path):
    with Recorder(tmp_path, model := network(), examples=data(), ids=IDS) as recorder:
        fit(model, data(), epochs=2, recorder=recorder)
    assert torch.equal(weights(model), weights(fit(network(), data(), epochs=2)))
    assert recorder.epochs == [1, 2] and not recorder.notes


@pytest.mark.parametrize("n", [1, 3, 17, 33])
def test_fit_takes_any_number_of_examples(n):
    model = nn.Sequential(nn.Flatten(), nn.Linear(36, C)) if n == 1 else network()
    assert torch.isfinite(weights(fit(model, data(n), epochs=1, batch_size=16))).all()


@pytest.mark.parametrize(
    "wrong, message",
    [
        ({"epochs": 0}, "epochs = 0"),
        ({"lr": -1.0}, "lr = -1.0"),
        ({"optimizer": "lbfgs"}, "'lbfgs'; needed one of sgd"),
    ],
)
def test_settings_that_make_no_sense_are_refused(wrong, message):
    with pytest.raises(HardlookError, match=message):
        fit(network(), data(), **wrong)


def test_a_model_without_parameters_to_train_is_refused():
    with pytest.raises(HardlookError, match="nothing to train"):
        fit(network().requires_grad_(False), data())


class Stopped(Exception):
    """A kill, from inside."""


def stop_at(epoch):
    def told(now, _loss):
        if now == epoch:
            raise Stopped

    return told


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_a_stopped_training_goes_on_with_the_same_bits(tmp_path, optimizer):
    state = tmp_path / "state.pt"
    with pytest.raises(Stopped):
        fit(network(), data(), epochs=4, optimizer=optimizer, state=state, on_epoch=stop_at(2))
    told = []
    model = fit(
        network(), data(), epochs=4, optimizer=optimizer, state=state, on_epoch=lambda epoch, _: told.append(epoch)
    )
    assert told == [3, 4] and not state.exists()
    assert torch.equal(weights(model), weights(fit(network(), data(), epochs=4, optimizer=optimizer)))


def test_a_state_of_other_settings_is_not_taken_up(tmp_path):
    state, told = tmp_path / "state.pt", []
    with pytest.raises(Stopped):
        fit(network(), data(), epochs=3, state=state, on_epoch=stop_at(1))
    fit(network(), data(), epochs=3, lr=0.002, state=state, on_epoch=lambda e, _: told.append(e))
    assert told == [1, 2, 3]


# -- hardlook train ------------------------------------------------------------------------------------------

MODEL = """
import torch
from torch import nn


def net(classes=3):
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 3),
                         nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(16, classes))


def transform(image):
    return torch.as_tensor(image, dtype=torch.float32).reshape(1, 6, 6)


def noise(batch):
    return batch + 0.05 * torch.randn_like(batch)


def train(model, dataset, recorder, lr, rounds):
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    for _ in range(rounds):
        model.train()
        for x, y in recorder.watch(torch.utils.data.DataLoader(dataset, 16, shuffle=True)):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x), y).backward()
            optimizer.step()


def forgets(model, dataset, recorder):
    pass
"""


@pytest.fixture
def audit(tmp_path):
    """A small audit of arrays, read."""
    return make_audit(tmp_path / "audit")


def make_audit(folder: Path, training: str = "epochs = 3\nbatch_size = 16", run: str = "") -> Audit:
    folder.mkdir(exist_ok=True)
    x, y = (tensor.numpy() for tensor in data().tensors)
    for split, rows in {"train": slice(0, 72), "test": slice(72, N)}.items():
        np.savez(folder / f"{split}.npz", inputs=x[rows, 0], labels=np.asarray(["a", "b", "c"])[y[rows]])
    (folder / "model.py").write_text(MODEL)
    (folder / "audit.toml").write_text(
        textwrap.dedent("""
        format = 1
        media = "vector"
        classes = ["a", "b", "c"]
        [[data]]
        split = "train"
        path = "train.npz"
        [[data]]
        split = "test"
        path = "test.npz"
        [run.main]
        model = "model.py:net"
        transform = "model.py:transform"
        checkpoints = "checkpoints/main/*.pt"
        """)
        + run
        + f"\n[run.main.training]\n{training}\n"
    )
    opened = Audit.open(folder)
    if not opened.examples_path.is_file():
        ingest(opened)
    return opened


def recorded(audit):
    table = pd.read_parquet(audit.examples_path)
    return table, read_dynamics(audit.run().dynamics_files(), table["example_id"].tolist())


def test_a_run_is_trained_as_audit_toml_says_and_recorded(audit):
    said = train_run(audit, audit.run())
    table, found = recorded(audit)
    train = (table["split"] == "train").to_numpy()
    assert "3 epochs over 72 examples" in said
    assert found["p_label"].shape == (3, N) and np.isfinite(found["p_label"]).all()
    assert np.isfinite(found["train_margin"][:, train]).all()
    assert np.isnan(found["train_margin"][:, ~train]).all()
    checkpoints = find_checkpoints(audit.run().config["checkpoints"], audit.root)
    assert [checkpoint.epoch for checkpoint in checkpoints] == [1, 2, 3]


def test_the_command_line_may_ask_for_other_epochs_and_for_no_test_examples(tmp_path):
    audit = make_audit(tmp_path / "a", 'record_test = false\naugment = "model.py:noise"\nevery = 2')
    train_run(audit, audit.run(), epochs=4)
    table, found = recorded(audit)
    assert len(found["loss"]) == 4
    assert (np.isnan(found["loss"]).all(0) == (table["split"] == "test")).all()
    assert len(find_checkpoints(audit.run().config["checkpoints"], audit.root)) == 3


def test_a_trained_run_is_left_alone_and_one_trained_otherwise_refused(audit):
    train_run(audit, audit.run())
    before = audit.run().dynamics_files()[0].stat().st_mtime_ns
    assert "already trained" in train_run(audit, audit.run())
    assert audit.run().dynamics_files()[0].stat().st_mtime_ns == before
    with pytest.raises(HardlookError, match="3 epochs with other settings.*--overwrite"):
        train_run(audit, audit.run(), epochs=5)
    train_run(audit, audit.run(), epochs=2, overwrite=True)
    assert len(audit.run().dynamics_files()) == 2
    assert len(find_checkpoints(audit.run().config["checkpoints"], audit.root)) == 2


def test_a_killed_training_run_goes_on_with_the_same_numbers(tmp_path):
    settings = "epochs = 6\nbatch_size = 16"
    straight, killed = (make_audit(tmp_path / name, settings) for name in ("straight", "killed"))
    train_run(straight, straight.run())
    script = textwrap.dedent(f"""
        import contextlib
        from scoring.audit import Audit
        from scoring.training.run_training import train_run

        @contextlib.contextmanager
        def progress(what, total):
            yield lambda n: print(n, flush=True)

        audit = Audit.open({str(killed.root)!r})
        train_run(audit, audit.run(), progress=progress)
        """)
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as process:
        for number, _line in enumerate(process.stdout):
            if number == 5 * 3 + 2:  # a first line for what is done, then five batches an epoch
                process.send_signal(signal.SIGKILL)
                break
    there = len(killed.run().dynamics_files())
    assert 0 < there < 6
    train_run(killed, killed.run())
    one, two = recorded(straight)[1], recorded(killed)[1]
    for name, values in one.items():
        np.testing.assert_array_equal(values, two[name], err_msg=name)
    one, two = (find_checkpoints("checkpoints/main/*.pt", audit.root) for audit in (straight, killed))
    assert [checkpoint.sha256 for checkpoint in one] == [checkpoint.sha256 for checkpoint in two]


def test_the_audits_own_function_trains_with_a_recorder(tmp_path):
    audit = make_audit(tmp_path / "a", 'function = "model.py:train"\nlr = 0.1\nrounds = 2')
    train_run(audit, audit.run())
    assert np.isfinite(recorded(audit)[1]["train_margin"]).sum() == 2 * 72
    audit = make_audit(tmp_path / "a", 'function = "model.py:train"\nlr = 0.1\nrounds = 1')
    with pytest.raises(HardlookError, match="--resume continues it"):
        train_run(audit, audit.run())
    train_run(audit, audit.run(), resume=True)
    assert len(audit.run().dynamics_files()) == 3


def test_a_function_that_records_nothing_is_told_how(tmp_path):
    audit = make_audit(tmp_path / "a", 'function = "model.py:forgets"')
    with pytest.raises(HardlookError, match="recorded no epoch.*recorder.watch"):
        train_run(audit, audit.run())


def test_given_weights_are_kept_but_for_the_last_block_and_the_head(tmp_path):
    audit = make_audit(tmp_path / "a")
    given = build_model("model.py:net", {}, audit.root)
    for parameter in given.parameters():
        nn.init.constant_(parameter, 7.0)
    torch.save(given.state_dict(), audit.root / "final.pt")
    audit = make_audit(tmp_path / "a", run='weights = "final.pt"\n')
    with own_randomness(0):
        model = starting_model(audit, audit.run())
    with own_randomness(0):
        fresh = build_model("model.py:net", {}, audit.root)
    renewed = last_block_and_head(fresh, torch.zeros(2, 1, 6, 6))
    kept = [name for name, _ in model.named_parameters() if not name.startswith(renewed)]
    assert kept and renewed[-1] == "7"
    for name, value in model.named_parameters():
        assert value.eq(7).all() if name in kept else torch.equal(value, fresh.get_parameter(name)), name


def test_an_unknown_setting_is_an_error_that_lists_the_known_ones(tmp_path):
    audit = make_audit(tmp_path / "a", "epoch = 3")
    with pytest.raises(HardlookError, match="unknown key 'epoch'; known are augment, batch_size, epochs"):
        training_settings(audit, audit.run())


def test_items_kept_in_memory_are_read_once_and_only_where_they_fit():
    class Counting(torch.utils.data.Dataset):
        ids, labels = ["a", "b"], np.array([0, 1])
        reads = 0

        def __len__(self):
            return 2

        def __getitem__(self, number):
            self.reads += 1
            return torch.full((3,), number), number

    for most, expected in ((24 * 2, 2 + 1), (24 * 2 - 1, 4 + 1)):
        counting = Counting()
        kept = InMemory(counting, most)
        assert [int(kept[number][0][0]) for number in (0, 1, 0, 1)] == [0, 1, 0, 1]
        assert counting.reads == expected
