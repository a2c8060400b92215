"""The Recorder: what it writes, and that the training does not notice it."""

import random
import signal
import subprocess
import sys
import textwrap

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch
from scipy.special import log_softmax
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.data import BatchSampler, DataLoader, Dataset, RandomSampler, Subset, TensorDataset

from scoring.audit import Audit, Run
from scoring.audit.errors import HardlookError
from scoring.audit.storage import read_metadata, read_vectors
from scoring.models.checkpoints import find_checkpoints
from scoring.training import Recorder

N, D, C = 60, 4, 3


def data(n=N, seed=0):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, C, (n,), generator=generator)
    return TensorDataset(torch.randn(n, D, generator=generator) + labels[:, None], labels)


IDS = [f"example {number}" for number in range(N)]


def network():
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(D, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.3), nn.Linear(8, C))


def loop(model, loader, epochs, watch=lambda loader: loader, lr=0.1, seen=None):
    """The user's loop; ``seen`` gathers what its training forwards gave, by hand."""
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9)
    for _ in range(epochs):
        model.train()
        for inputs, labels, *rows in watch(loader):
            logits = model(inputs)
            if seen is not None:
                seen.append((rows[0], logits.detach().clone(), labels))
            optimizer.zero_grad()
            cross_entropy(logits, labels).backward()
            optimizer.step()
    return model


def epochs_of(folder, run="main", training="main"):
    return [pd.read_parquet(path) for path in Run(run, folder).dynamics_files(training)]


class Augmented(Dataset):
    """Draws from every global generator there is, as augmentations do."""

    def __init__(self, plain):
        self.plain = plain

    def __len__(self):
        return len(self.plain)

    def __getitem__(self, row):
        x, y = self.plain[row]
        return x + 0.1 * torch.randn(D) + float(np.random.normal() * 0.1) + random.gauss(0, 0.1), y


class Numbered(Dataset):
    """Also gives the row, so that a loop can keep its books by hand."""

    def __init__(self, plain):
        self.plain = plain

    def __len__(self):
        return len(self.plain)

    def __getitem__(self, row):
        return (*self.plain[row], row)


class Noisy(Dataset):
    """An evaluation dataset that draws random numbers although it has no reason to."""

    def __init__(self, plain):
        self.plain, self.labels = plain, plain.tensors[1]

    def __len__(self):
        return len(self.plain)

    def __getitem__(self, row):
        torch.rand(1), np.random.rand(), random.random()
        return self.plain[row]


def seeded():
    torch.manual_seed(5), np.random.seed(5), random.seed(5)


def global_states():
    return torch.get_rng_state().tolist(), np.random.get_state()[1].tolist(), random.getstate()


# -- the training does not notice ----------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [0, 2])
def test_a_training_is_bit_for_bit_the_same_with_and_without_a_recorder(tmp_path, workers):
    def train(recorded):
        model = network()
        loader = DataLoader(Augmented(data()), 8, shuffle=True, num_workers=workers)
        seeded()
        if not recorded:
            return loop(model, loader, 3), global_states()
        with Recorder(tmp_path, model, examples=Noisy(data()), ids=IDS) as recorder:
            loop(model, loader, 3, recorder.watch)
        return model, global_states()

    (alone, states), (watched, watched_states) = train(False), train(True)
    assert all(torch.equal(value, watched.state_dict()[name]) for name, value in alone.state_dict().items())
    assert states == watched_states
    assert len(epochs_of(tmp_path)) == 3


def test_the_model_is_given_back_exactly_as_it_was(tmp_path):
    model = network()
    model.train()
    model[1].eval()
    model[0].weight.requires_grad_(False)
    model[4].weight.grad = torch.ones_like(model[4].weight)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with Recorder(tmp_path, model, examples=data(), ids=IDS) as recorder:
        recorder.end_epoch()
    assert [module.training for module in model] == [True, False, True, True, True] and model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert [p.requires_grad for p in model.parameters()] == [False] + [True] * 5
    assert model[4].weight.grad.eq(1).all() and model[0].bias.grad is None
    assert not model._forward_hooks


def test_the_loop_gets_the_loaders_own_batches_and_length(tmp_path):
    loader = DataLoader(data(), 8, shuffle=False)
    with Recorder(tmp_path, network(), examples=data(), ids=IDS) as recorder:
        watched = recorder.watch(loader)
        assert len(watched) == len(loader) == 8
        for given, expected in zip(watched, loader, strict=True):
            assert torch.equal(given[0], expected[0])
    assert type(loader.batch_sampler).__name__ == "BatchSampler"


# -- what an epoch's table holds -----------------------------------------------------------------------------


def test_an_epochs_table_holds_the_numbers_of_a_logistic_regression_in_float64(tmp_path):
    torch.manual_seed(0)
    model, examples = nn.Linear(D, C).double(), data()
    examples = TensorDataset(examples.tensors[0].double(), examples.tensors[1])
    x, y = examples.tensors[0].numpy(), examples.tensors[1].numpy()
    weights = []
    with Recorder(tmp_path, model, examples=examples, ids=IDS, batch_size=7) as recorder:
        for _ in range(3):
            loop(model, DataLoader(examples, 8), 1, recorder.watch)
            weights.append((model.weight.detach().numpy().copy(), model.bias.detach().numpy().copy()))
    tables = epochs_of(tmp_path)
    mean = np.zeros((N, C))
    for table, (weight, bias) in zip(tables, weights, strict=True):
        logits = x @ weight.T + bias
        p = np.exp(log_softmax(logits, axis=1))
        mean += p / 3
        others = np.where(np.eye(C, dtype=bool)[y], -np.inf, logits).max(1)
        assert table["example_id"].tolist() == IDS
        np.testing.assert_allclose(table["p_label"], p[np.arange(N), y], rtol=1e-5)
        np.testing.assert_allclose(table["loss"], -np.log(p[np.arange(N), y]), rtol=1e-5, atol=1e-7)
        np.testing.assert_allclose(table["margin"], logits[np.arange(N), y] - others, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(table["error_norm"], np.linalg.norm(p - np.eye(C)[y], axis=1), rtol=1e-5)
        assert table["correct"].tolist() == (logits.argmax(1) == y).tolist()
    ids, kept = read_vectors(Run("main", tmp_path).mean_probabilities_path("main"))
    assert ids.tolist() == IDS
    np.testing.assert_allclose(kept, mean, rtol=1e-5, atol=1e-7)


def test_what_is_recorded_does_not_depend_on_the_batch_size_of_the_pass(tmp_path):
    for size in (1, 7, 256):
        with Recorder(tmp_path / str(size), network(), examples=data(), ids=IDS, batch_size=size) as recorder:
            recorder.end_epoch()
    first, *others = [epochs_of(tmp_path / str(size))[0] for size in (1, 7, 256)]
    for other in others:
        np.testing.assert_allclose(first[["p_label", "loss"]], other[["p_label", "loss"]], rtol=1e-5)


def test_logits_that_are_not_finite_become_null_with_a_note(tmp_path):
    model, x = nn.Linear(D, C), data().tensors[0].clone()
    x[3, 0] = torch.inf
    with Recorder(tmp_path, model, examples=TensorDataset(x, data().tensors[1]), ids=IDS) as recorder:
        recorder.end_epoch()
        recorder.end_epoch()
    table = epochs_of(tmp_path)[0]
    assert table.loc[3, ["p_label", "margin", "loss", "error_norm", "correct"]].isna().all()
    assert table.drop(3)[["p_label", "margin", "loss", "error_norm", "correct"]].notna().all().all()
    assert "not finite" in recorder.notes["infinite"]


def test_test_examples_are_recorded_beside_the_train_examples(tmp_path):
    model, unseen = network(), data(20, seed=9)
    ids = [f"test {number}" for number in range(20)]
    with Recorder(tmp_path, model, examples=data(), ids=IDS, test=unseen, test_ids=ids) as recorder:
        loop(model, DataLoader(data(), 8, shuffle=True), 1, recorder.watch)
    table = epochs_of(tmp_path)[0].set_index("example_id")
    assert table.loc[IDS, "train_margin"].notna().all() and table.loc[ids, "train_margin"].isna().all()
    with torch.no_grad():
        expected = model.eval()(unseen.tensors[0]).softmax(1)[torch.arange(20), unseen.tensors[1]]
    np.testing.assert_allclose(table.loc[ids, "p_label"], expected, rtol=1e-5)


def test_every_column_explains_itself(tmp_path):
    with Recorder(tmp_path, network(), examples=data(), ids=IDS) as recorder:
        recorder.end_epoch()
    schema = pq.read_schema(Run("main", tmp_path).dynamics_files()[0])
    assert all({b"title", b"help"} <= set(schema.field(name).metadata) for name in schema.names[1:])
    assert Run("main", tmp_path).record()["trainings"]["main"]["epochs"] == [1]


# -- the training forward's own margins ----------------------------------------------------------------------


def by_hand(seen, n=N):
    """Mean margin of each row from (rows, logits, labels) of one epoch; NaN where it was in no batch."""
    gathered = {row: [] for row in range(n)}
    for rows, logits, labels in seen:
        for row, z, y in zip(rows.tolist(), logits.tolist(), labels.tolist(), strict=True):
            gathered[row].append(z[y] - max(value for k, value in enumerate(z) if k != y))
    return np.array([np.mean(values) if values else np.nan for values in gathered.values()])


LOADERS = {
    "shuffled": lambda d: DataLoader(d, 8, shuffle=True),
    "last batch dropped": lambda d: DataLoader(d, 8, shuffle=True, drop_last=True),
    "two workers": lambda d: DataLoader(d, 8, shuffle=True, num_workers=2, prefetch_factor=3),
    "workers that stay": lambda d: DataLoader(d, 8, shuffle=True, num_workers=1, persistent_workers=True),
    "drawn with replacement": lambda d: DataLoader(
        d, 8, sampler=torch.utils.data.WeightedRandomSampler(torch.linspace(0, 1, len(d)), 50)
    ),
    "a batch sampler of the user's": lambda d: DataLoader(d, batch_sampler=[[5, 1, 7], [0, 2], [9, 8, 3, 4]]),
    "no automatic batching": lambda d: DataLoader(d, batch_size=None, sampler=BatchSampler(RandomSampler(d), 8, False)),
    "a collate function of the user's": lambda d: DataLoader(
        d,
        8,
        shuffle=True,
        collate_fn=lambda items: [
            torch.stack([torch.as_tensor(v) for v in column]) for column in zip(*items, strict=True)
        ],
    ),
}


class Batching(Numbered):
    """Takes lists of rows too, for loaders without automatic batching."""

    def __getitem__(self, row):
        return super().__getitem__(torch.as_tensor(row))


@pytest.mark.parametrize("name", LOADERS)
def test_training_margins_are_those_that_a_loop_keeps_by_hand(tmp_path, name):
    model, seen = network(), []
    numbered = Batching(data()) if name == "no automatic batching" else Numbered(data())
    loader = LOADERS[name](numbered)
    with Recorder(tmp_path, model, examples=data(), ids=IDS) as recorder:
        for epoch in range(3):
            seen.clear()
            loop(model, loader, 1, recorder.watch, seen=seen)
            recorded = epochs_of(tmp_path)[epoch]["train_margin"].to_numpy()
            np.testing.assert_allclose(recorded, by_hand(seen), rtol=1e-5, atol=1e-6)
            assert 0 < np.isfinite(recorded).sum() <= N
    assert not recorder.notes


def test_persistent_workers_that_were_there_before_are_followed_too(tmp_path):
    model, seen = network(), []
    loader = DataLoader(Numbered(data()), 8, shuffle=True, num_workers=1, persistent_workers=True)
    loop(model, loader, 1)
    with Recorder(tmp_path, model, examples=data(), ids=IDS) as recorder:
        loop(model, loader, 1, recorder.watch, seen=seen)
    np.testing.assert_allclose(epochs_of(tmp_path)[0]["train_margin"], by_hand(seen), rtol=1e-5, atol=1e-6)


def test_a_subset_is_followed_down_to_the_examples_below_it(tmp_path):
    model, seen = network(), []
    chosen = torch.randperm(N, generator=torch.Generator().manual_seed(3)).tolist()
    loader = DataLoader(Subset(Numbered(data()), chosen), 8, shuffle=True)
    with Recorder(tmp_path, model, examples=data(), ids=IDS) as recorder:
        loop(model, loader, 1, recorder.watch, seen=seen)
    np.testing.assert_allclose(epochs_of(tmp_path)[0]["train_margin"], by_hand(seen), rtol=1e-5, atol=1e-6)


def test_examples_that_are_a_subset_are_found_in_a_loader_over_another_subset(tmp_path):
    model, seen = network(), []
    kept, drawn = list(range(10, 50)), list(range(40, 5, -1))
    loader = DataLoader(Subset(Numbered(data()), drawn), 8, shuffle=True)
    with Recorder(tmp_path, model, examples=Subset(data(), kept), ids=IDS[10:50]) as recorder:
        loop(model, loader, 1, recorder.watch, seen=seen)
    recorded = epochs_of(tmp_path)[0]["train_margin"].to_numpy()
    np.testing.assert_allclose(recorded, by_hand(seen)[10:50], rtol=1e-5, atol=1e-6)
    assert np.isfinite(recorded).tolist() == [10 <= row <= 40 for row in kept]


@pytest.mark.parametrize("answer", ["ids", "rows", "tensor"])
def test_the_user_can_say_which_example_each_row_is(tmp_path, answer):
    model, seen = network(), []
    batches = list(DataLoader(Numbered(data()), 8, shuffle=True))
    tell = {
        "ids": lambda batch: [IDS[row] for row in batch[2]],
        "rows": lambda batch: batch[2].tolist(),
        "tensor": lambda batch: batch[2],
    }[answer]
    with Recorder(tmp_path, model, examples=data(), ids=IDS) as recorder:
        loop(model, batches, 1, lambda loader: recorder.watch(loader, rows=tell), seen=seen)
    np.testing.assert_allclose(epochs_of(tmp_path)[0]["train_margin"], by_hand(seen), rtol=1e-5, atol=1e-6)


def test_margins_are_taken_in_float32_under_autocast_and_through_a_compiled_model(tmp_path):
    model, seen = network(), []
    compiled = torch.compile(model, backend="eager")
    with Recorder(tmp_path, compiled, examples=data(), ids=IDS) as recorder:
        for batch in recorder.watch(DataLoader(Numbered(data()), 20, shuffle=True)):
            with torch.autocast("cpu", torch.bfloat16):
                logits = compiled.train()(batch[0])
            assert logits.dtype == torch.bfloat16
            seen.append((batch[2], logits.detach().float(), batch[1]))
    np.testing.assert_allclose(epochs_of(tmp_path)[0]["train_margin"], by_hand(seen), rtol=1e-6)
    saved = torch.load(tmp_path / "checkpoints/main/epoch-0001.pt", weights_only=True)
    assert set(saved["state_dict"]) == set(model.state_dict())


# -- margins that cannot be attributed are left out, never wrong ---------------------------------------------


def one_epoch(tmp_path, step, loader=None, **watch):
    """Run ``step(model, batch)`` over one recorded epoch → its train margins and the notes."""
    model = network().train()
    with Recorder(tmp_path, model, examples=data(), ids=IDS) as recorder:
        for batch in recorder.watch(loader or DataLoader(data(), 10, shuffle=True), **watch):
            step(model, batch)
    return epochs_of(tmp_path)[0]["train_margin"].to_numpy(), recorder.notes


def own(batch, logits):
    z = logits.detach().clone()
    label = z.gather(1, batch[1][:, None])
    return (label - z.scatter(1, batch[1][:, None], -torch.inf).amax(1, keepdim=True)).squeeze(1)


def test_of_the_two_forwards_of_sharpness_aware_minimisation_the_first_counts(tmp_path):
    total = []

    def step(model, batch):
        total.append(own(batch, model(batch[0])).sum())
        with torch.no_grad():
            model[0].weight.add_(0.5)
        model(batch[0].clone())

    margins, notes = one_epoch(tmp_path, step)
    assert np.isclose(margins.sum(), float(sum(total)), rtol=1e-5) and not notes


def test_a_forward_of_other_examples_of_the_same_number_is_not_taken_for_the_batch(tmp_path):
    total = []

    def step(model, batch):
        model(torch.randn_like(batch[0]))  # unlabelled examples first
        total.append(own(batch, model(batch[0])).sum())

    margins, notes = one_epoch(tmp_path, step)
    assert np.isclose(margins.sum(), float(sum(total)), rtol=1e-5) and not notes


def test_two_forwards_of_which_neither_saw_the_batch_itself_are_left_out(tmp_path):
    def step(model, batch):
        model(batch[0] + 1), model(batch[0] - 1)

    margins, notes = one_epoch(tmp_path, step)
    assert np.isnan(margins).all() and "6 of 6 batches" in notes["missed"]


def test_a_batch_that_passes_in_pieces_is_left_out_with_one_note(tmp_path):
    def step(model, batch):
        model(batch[0][:5]), model(batch[0][5:])

    margins, notes = one_epoch(tmp_path, step)
    assert np.isnan(margins).all() and list(notes) == ["missed"]


def test_forwards_without_gradients_or_in_eval_mode_are_not_the_training_forward(tmp_path):
    def step(model, batch):
        with torch.no_grad():
            model(batch[0])
        model.eval()(batch[0])
        model.train()

    margins, _ = one_epoch(tmp_path, step)
    assert np.isnan(margins).all()


def test_a_loader_whose_order_cannot_be_known_leaves_margins_null_with_a_note(tmp_path):
    def step(model, batch):
        model(batch[0])

    unordered = DataLoader(data(), 10, num_workers=2, in_order=False)
    for number, loader in enumerate([unordered, list(DataLoader(data(), 10)), DataLoader(data(30), 10)]):
        margins, notes = one_epoch(tmp_path / str(number), step, loader)
        assert np.isnan(margins).all() and "cannot be matched to examples" in notes["unknown"]


def test_a_loader_whose_labels_are_not_those_of_the_examples_is_not_trusted(tmp_path):
    other = data(seed=4)
    margins, notes = one_epoch(tmp_path, lambda model, batch: model(batch[0]), DataLoader(other, 10))
    assert np.isnan(margins).all() and "labels" in notes["distrusted"]


def test_the_training_forward_can_be_left_alone(tmp_path):
    margins, notes = one_epoch(tmp_path, lambda model, batch: model(batch[0]), logits=False)
    assert np.isnan(margins).all() and not notes


# -- epochs --------------------------------------------------------------------------------------------------


def test_a_loop_that_is_left_is_not_recorded_unless_it_says_so(tmp_path):
    model, loader = network().train(), DataLoader(data(), 10)
    with Recorder(tmp_path, model, examples=data(), ids=IDS) as recorder:
        for batch in recorder.watch(loader):
            model(batch[0])
            break
        assert recorder.epochs == [] and "ended before its last batch" in recorder.notes["left"]
        assert not model._forward_hooks and type(loader.batch_sampler).__name__ == "BatchSampler"
        recorder.end_epoch()
        assert recorder.epochs == [1]
    assert epochs_of(tmp_path)[0]["train_margin"].notna().sum() == 10


def test_epochs_count_from_one_and_an_epoch_recorded_before_stays_as_it_was(tmp_path):
    model = network()
    with Recorder(tmp_path, model, examples=data(), ids=IDS) as recorder:
        recorder.end_epoch()
        first = epochs_of(tmp_path)[0]
        nn.init.zeros_(model[4].weight)
        recorder.end_epoch(1)
        pd.testing.assert_frame_equal(epochs_of(tmp_path)[0], first)
        recorder.end_epoch(5)
        assert recorder.epochs == [1, 5] and "epoch 1" in recorder.notes["again"]
        with pytest.raises(HardlookError, match="count from 1"):
            recorder.end_epoch(0)
    names = [path.name for path in Run("main", tmp_path).dynamics_files()]
    assert names == ["epoch-00001.parquet", "epoch-00005.parquet"]


def test_a_second_recorder_on_the_same_training_is_told_to_wait(tmp_path):
    with Recorder(tmp_path, network(), examples=data(), ids=IDS):
        with pytest.raises(HardlookError, match="another Recorder"):
            Recorder(tmp_path, network(), examples=data(), ids=IDS).start()


# -- continuing ----------------------------------------------------------------------------------------------


def test_an_existing_training_is_refused_continued_or_replaced(tmp_path):
    def recorder(**how):
        return Recorder(tmp_path, network(), examples=data(), ids=IDS, **how)

    with recorder() as first:
        first.end_epoch()
    with pytest.raises(HardlookError, match="holds 1 recorded epochs.*resume=True.*overwrite=True"):
        recorder().start()
    with recorder(resume=True) as continued:
        continued.end_epoch()
        assert continued.epochs == [1, 2]
    with recorder(overwrite=True) as replaced:
        assert replaced.epochs == [] and not list((tmp_path / "checkpoints/main").iterdir())
        replaced.end_epoch()
    assert len(epochs_of(tmp_path)) == 1
    with Recorder(tmp_path, network(), examples=data(), ids=IDS, training="other") as other:
        other.end_epoch()
    assert len(list((tmp_path / "checkpoints/main").iterdir())) == 1


def test_a_training_over_other_examples_cannot_be_continued(tmp_path):
    with Recorder(tmp_path, network(), examples=data(), ids=IDS) as recorder:
        recorder.end_epoch()
    with pytest.raises(HardlookError, match="other examples or labels"):
        Recorder(tmp_path, network(), examples=data(), ids=IDS[::-1], resume=True).start()


def test_a_training_in_two_parts_records_what_one_in_one_part_does(tmp_path):
    def train(folder, parts):
        model, loader = network(), DataLoader(data(), 8, shuffle=True)
        seeded()
        for number, epochs in enumerate(parts):
            with Recorder(folder, model, examples=data(), ids=IDS, resume=number > 0) as recorder:
                for _ in range(epochs):
                    for inputs, labels in recorder.watch(loader):
                        loss = cross_entropy(model.train()(inputs), labels)
                        model.zero_grad()
                        loss.backward()
                        with torch.no_grad():
                            [p.sub_(0.1 * p.grad) for p in model.parameters()]
        return folder

    one, two = train(tmp_path / "one", [4]), train(tmp_path / "two", [1, 3])
    for a, b in zip(epochs_of(one), epochs_of(two), strict=True):
        pd.testing.assert_frame_equal(a, b, check_exact=True)
    means = [read_vectors(Run("main", folder).mean_probabilities_path("main"))[1] for folder in (one, two)]
    np.testing.assert_array_equal(*means)


def test_an_epoch_that_a_kill_left_unfinished_is_removed_and_recorded_again(tmp_path):
    with Recorder(tmp_path, network(), examples=data(), ids=IDS) as recorder:
        recorder.end_epoch()
    run = Run("main", tmp_path)
    (whole,) = run.dynamics_files()
    (whole.parent / "epoch-00002.parquet").write_bytes(whole.read_bytes())  # the mean never counted it
    extra = tmp_path / "checkpoints/main/epoch-0002.pt"
    extra.write_bytes((extra.parent / "epoch-0001.pt").read_bytes())
    with Recorder(tmp_path, network(), examples=data(), ids=IDS, resume=True) as recorder:
        assert recorder.epochs == [1] and run.dynamics_files() == [whole] and not extra.exists()
        recorder.end_epoch()
        assert recorder.epochs == [1, 2]


def test_a_killed_training_leaves_whole_epochs(tmp_path):
    script = textwrap.dedent(f"""
        import torch
        from torch.utils.data import TensorDataset
        from scoring.training import Recorder
        torch.manual_seed(0)
        model = torch.nn.Linear(4, 3)
        examples = TensorDataset(torch.randn(60, 4), torch.arange(60) % 3)
        ids = [str(number) for number in range(60)]
        with Recorder({str(tmp_path)!r}, model, examples=examples, ids=ids) as recorder:
            while True:
                torch.nn.init.normal_(model.weight)
                recorder.end_epoch()
                print(recorder.epochs[-1], flush=True)
        """)
    told = 0
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout:
            told = int(line)
            if told >= 15:
                process.send_signal(signal.SIGKILL)
                break
    assert told == 15
    examples = TensorDataset(torch.zeros(60, 4), torch.arange(60) % 3)
    ids = [str(number) for number in range(60)]
    with Recorder(tmp_path, nn.Linear(4, 3), examples=examples, ids=ids, resume=True) as recorder:
        assert len(recorder.epochs) >= told and recorder.epochs == list(range(1, len(recorder.epochs) + 1))
        assert all(len(table) == 60 for table in epochs_of(tmp_path))
        found = find_checkpoints("checkpoints/main/*.pt", tmp_path)
        assert [checkpoint.epoch for checkpoint in found] == recorder.epochs


# -- checkpoints ---------------------------------------------------------------------------------------------


def test_a_checkpoint_is_plain_tensors_and_states_its_epoch(tmp_path):
    model = network()
    with Recorder(tmp_path, model, examples=data(), ids=IDS) as recorder:
        loop(model, DataLoader(data(), 8), 2, recorder.watch)
    found = find_checkpoints("checkpoints/main/*.pt", tmp_path)
    assert [(checkpoint.path.name, checkpoint.epoch) for checkpoint in found] == [
        ("epoch-0001.pt", 1),
        ("epoch-0002.pt", 2),
    ]
    saved = torch.load(found[-1].path, weights_only=True)
    assert saved["epoch"] == 2
    assert all(torch.equal(value, saved["state_dict"][name]) for name, value in model.state_dict().items())


def test_checkpoints_are_thinned_and_dynamics_are_not(tmp_path):
    model = network()
    with Recorder(tmp_path, model, examples=data(), ids=IDS, every=4) as recorder:
        for _ in range(7):
            nn.init.normal_(model[4].weight)
            recorder.end_epoch()
    assert [c.epoch for c in find_checkpoints("checkpoints/main/*.pt", tmp_path)] == [1, 5, 7]
    assert len(epochs_of(tmp_path)) == 7


def test_checkpoints_of_others_in_the_same_place_are_refused(tmp_path):
    place = tmp_path / "checkpoints/main"
    place.mkdir(parents=True)
    torch.save({}, place / "best.pt")
    with pytest.raises(HardlookError, match="holds best.pt.*checkpoints=False"):
        Recorder(tmp_path, network(), examples=data(), ids=IDS).start()
    with Recorder(tmp_path, network(), examples=data(), ids=IDS, checkpoints=False) as recorder:
        recorder.end_epoch()
    assert [path.name for path in place.iterdir()] == ["best.pt"]


# -- which example is which ----------------------------------------------------------------------------------


def audit(folder, labels, classes="abc"):
    """An audit whose example table lists these labels, in the order of IDS."""
    listed = ", ".join(f'"{name}"' for name in classes)
    text = f'format = 1\nclasses = [{listed}]\n[[data]]\nsplit = "train"\npath = "x.npz"\n'
    folder.mkdir(exist_ok=True)
    (folder / "audit.toml").write_text(text + '[run.main]\nmodel = "m.py:f"\ncheckpoints = "kept/*.pt"\n')
    names = [classes[label] for label in labels]
    problem = pd.array([None] * N, "string")
    pd.DataFrame(
        {"example_id": IDS, "split": "train", "label": names, "problem": problem, "source": 0, "row": range(N)}
    ).to_parquet(folder / "examples.parquet")
    return Audit.open(folder)


@pytest.fixture
def read_examples_here(monkeypatch):
    """Read the example table without the adapters."""
    pytest.importorskip("scoring.data.examples")


def test_ids_come_from_the_audits_example_table(tmp_path, read_examples_here):
    opened = audit(tmp_path / "a", data().tensors[1].tolist())
    with Recorder(opened, network(), examples=data()) as recorder:
        recorder.end_epoch()
    assert epochs_of(tmp_path / "a")[0]["example_id"].tolist() == IDS
    assert (tmp_path / "a/kept/epoch-0001.pt").is_file()


def test_labels_that_differ_from_the_audits_are_an_error_that_names_the_example(tmp_path, read_examples_here):
    labels = data().tensors[1].tolist()
    labels[7] = (labels[7] + 1) % C
    with pytest.raises(HardlookError, match=r"'example 7' has label \d in .* and \d in the audit \(1 of 60"):
        Recorder(audit(tmp_path, labels), network(), examples=data())


def test_a_model_with_other_classes_than_the_audits_is_refused(tmp_path, read_examples_here):
    opened = audit(tmp_path, data().tensors[1].tolist(), classes="abcd")
    with Recorder(opened, network(), examples=data()) as recorder:
        with pytest.raises(HardlookError, match="3 logits per example and audit.toml lists 4") as caught:
            recorder.end_epoch()
        assert caught.traceback  # whoever holds the error holds its frames, and yet:
        assert torch.is_grad_enabled() and recorder.model.training


@pytest.mark.parametrize(
    "wrong, message",
    [
        ({"ids": IDS[:-1]}, "59 ids .* 60 examples"),
        ({"ids": ["same"] * N}, "'same' is used by several rows"),
        ({"ids": None}, "pass ids="),
        ({"ids": IDS, "labels": [0, 1]}, "2 labels for 60 examples"),
        ({"ids": IDS, "labels": [-1] * N}, "label -1"),
        ({"ids": IDS, "every": 0}, "every=0"),
        ({"ids": IDS, "keep": 1}, "keep=1"),
        ({"ids": IDS, "test": data(5), "test_ids": IDS[:5]}, "by a train and a test"),
    ],
)
def test_what_does_not_fit_is_one_clear_error(tmp_path, wrong, message):
    with pytest.raises(HardlookError, match=message):
        Recorder(tmp_path, network(), examples=data(), **wrong)


def test_examples_whose_labels_turn_out_different_are_an_error(tmp_path):
    with Recorder(tmp_path, network(), examples=data(), ids=IDS, labels=[0] * N) as recorder:
        with pytest.raises(HardlookError, match="must be un-augmented and in the order of ids"):
            recorder.end_epoch()


def test_notes_stand_in_the_epochs_own_file(tmp_path):
    one_epoch(tmp_path, lambda model, batch: None)
    (path,) = Run("main", tmp_path).dynamics_files()
    assert "6 of 6 batches" in read_metadata(path)["notes"][0] and read_metadata(path)["epoch"] == 1
