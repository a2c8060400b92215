"""The callbacks record, in the real libraries, what a plain loop over the same batches records."""

import math

import hardlook
import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, Dataset, TensorDataset

from scoring.audit import Run
from scoring.audit.errors import HardlookError
from scoring.training import Recorder
from scoring.training.callbacks import lightning_callback, trainer_callback

N, D, C, EPOCHS, LR = 50, 4, 3, 3, 0.1
IDS = [f"example {number}" for number in range(N)]


def data():
    generator = torch.Generator().manual_seed(0)
    return TensorDataset(torch.randn(N, D, generator=generator), torch.arange(N) % C)


def network():
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(D, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, C))


def loader(dataset=None, **settings):
    settings = {"shuffle": True, "generator": torch.Generator().manual_seed(2)} | settings
    return DataLoader(dataset or data(), 8, **settings)


def tables(folder):
    return [pd.read_parquet(path) for path in Run("main", folder).dynamics_files()]


def plain_loop(folder, model, batches, epochs=EPOCHS):
    """The oracle: the same training by hand."""
    optimizer = torch.optim.SGD(model.parameters(), lr=LR)
    with Recorder(folder, model, examples=data(), ids=IDS) as recorder:
        for _ in range(epochs):
            model.train()
            for inputs, labels in recorder.watch(batches):
                optimizer.zero_grad()
                cross_entropy(model(inputs), labels).backward()
                optimizer.step()
    return tables(folder)


def assert_same(found, expected):
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert one["example_id"].tolist() == other["example_id"].tolist()
        assert other["train_margin"].notna().sum() > 0
        numbers = ["p_label", "margin", "error_norm", "loss", "train_margin"]
        np.testing.assert_allclose(one[numbers], other[numbers], rtol=1e-5, atol=1e-6)
        assert one["correct"].tolist() == other["correct"].tolist()


# -- Lightning -----------------------------------------------------------------------------------------------


@pytest.fixture
def lightning(monkeypatch):
    """Lightning, without what it writes and says by itself."""
    return pytest.importorskip("lightning.pytorch")


def trainer_of(lightning, recorder, epochs=EPOCHS, **settings):
    return lightning.Trainer(
        max_epochs=epochs,
        callbacks=[lightning_callback(recorder)],
        accelerator="cpu",
        devices=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **settings,
    )


def lightning_module(lightning, net, own_loader=None, validate=False):
    class Module(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.net = net

        def forward(self, inputs):
            return self.net(inputs)

        def training_step(self, batch, _number):
            return cross_entropy(self(batch[0]), batch[1])

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=LR)

    if own_loader is not None:
        Module.train_dataloader = lambda self: own_loader
    if validate:
        Module.validation_step = lambda self, batch, _number: self(batch[0]).sum()
    return Module()


quiet = pytest.mark.filterwarnings(
    "ignore:.*LeafSpec.*is deprecated",  # Lightning asks torch's pytree in a way that torch has deprecated
    "ignore:.*does not have many workers",  # Lightning's advice, which depends on the number of cores
    "ignore:GPU available but not used",  # Lightning's advice on machines with a GPU
)


@quiet
@pytest.mark.parametrize("which", ["the module", "the network inside"])
def test_lightning_records_what_a_plain_loop_does(tmp_path, lightning, which):
    expected = plain_loop(tmp_path / "plain", network(), loader())
    module = lightning_module(lightning, network())
    model = module if which == "the module" else module.net
    recorder = Recorder(tmp_path / "lightning", model, examples=data(), ids=IDS)
    trainer_of(lightning, recorder).fit(module, loader())
    assert_same(tables(tmp_path / "lightning"), expected)
    assert not recorder.notes and not model._forward_hooks


def audit_of_the_data(folder):
    """An audit of the same examples, handed over as arrays, under the ids of the plain loop."""
    inputs, labels = data().tensors
    frame = pd.DataFrame(inputs.numpy(), columns=list("abcd")).assign(example_id=IDS, label=labels.numpy())
    return hardlook.audit(train=frame, folder=folder, classes=range(C), scores=None)


@quiet
def test_lightning_takes_an_audit_and_records_the_same(tmp_path, lightning):
    expected = plain_loop(tmp_path / "plain", network(), loader())
    audit = audit_of_the_data(tmp_path / "audit")
    trainer_of(lightning, audit).fit(lightning_module(lightning, network()), loader())
    found = tables(tmp_path / "audit")
    for one, other in zip(found, expected, strict=True):
        assert one["example_id"].tolist() == other["example_id"].tolist()
        np.testing.assert_allclose(one["p_label"], other["p_label"], rtol=1e-5, atol=1e-6)


@quiet
def test_lightning_with_workers_its_own_loader_and_validation_records_the_same(tmp_path, lightning):
    expected = plain_loop(tmp_path / "plain", network(), loader(num_workers=1, persistent_workers=True))
    batches = loader(num_workers=1, persistent_workers=True)
    module = lightning_module(lightning, network(), own_loader=batches, validate=True)
    recorder = Recorder(tmp_path / "lightning", module.net, examples=data(), ids=IDS)
    trainer_of(lightning, recorder).fit(module, val_dataloaders=DataLoader(data(), 50))
    assert_same(tables(tmp_path / "lightning"), expected)
    assert type(batches.batch_sampler).__name__ == "BatchSampler"


@quiet
def test_lightning_does_not_notice_the_recorder(tmp_path, lightning):
    def trained(recorded):
        module = lightning_module(lightning, network())
        callbacks = []
        if recorded:
            callbacks = [lightning_callback(Recorder(tmp_path, module.net, examples=data(), ids=IDS))]
        torch.manual_seed(7)
        lightning.Trainer(
            max_epochs=2,
            callbacks=callbacks,
            accelerator="cpu",
            devices=1,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        ).fit(module, DataLoader(data(), 8, shuffle=True))
        return module.state_dict(), torch.get_rng_state()

    (alone, state), (watched, watched_state) = trained(False), trained(True)
    assert all(torch.equal(value, watched[name]) for name, value in alone.items())
    assert torch.equal(state, watched_state)


@quiet
def test_a_second_lightning_training_continues_the_first_under_its_own_numbers(tmp_path, lightning):
    module = lightning_module(lightning, network())
    for resume, epochs in ((False, 1), (True, 3)):
        recorder = Recorder(tmp_path, module.net, examples=data(), ids=IDS, resume=resume)
        trainer_of(lightning, recorder, epochs).fit(module, loader())
    assert recorder.epochs == [1, 2, 3] and "epoch 1 was already recorded" in recorder.notes["again"]


@quiet
def test_an_error_in_a_lightning_training_leaves_nothing_in_model_or_loader(tmp_path, lightning):
    module, batches = lightning_module(lightning, network()), loader()
    module.on_train_batch_end = lambda *_: 1 / 0
    recorder = Recorder(tmp_path, module.net, examples=data(), ids=IDS)
    with pytest.raises(ZeroDivisionError):
        trainer_of(lightning, recorder).fit(module, batches)
    assert not module.net._forward_hooks and type(batches.batch_sampler).__name__ == "BatchSampler"
    Recorder(tmp_path, network(), examples=data(), ids=IDS).start()


# -- Hugging Face --------------------------------------------------------------------------------------------


class Items(Dataset):
    """The same examples as a Hugging Face dataset gives them: one dict each."""

    def __len__(self):
        return N

    def __getitem__(self, row):
        values, label = data()[row]
        return {"values": values, "labels": label}


class Classifier(nn.Module):
    """A model in the Hugging Face manner: keyword inputs, a loss where there are labels."""

    def __init__(self):
        super().__init__()
        self.net = network()

    def forward(self, values, labels=None):
        logits = self.net(values)
        loss = {} if labels is None else {"loss": cross_entropy(logits, labels)}
        return {**loss, "logits": logits}


@pytest.fixture
def transformers():
    pytest.importorskip("accelerate")
    return pytest.importorskip("transformers")


class InOrder:
    """Gives a Trainer the batches of a plain loop: the same order in both."""

    def __init__(self):
        self.generator = torch.Generator().manual_seed(2)

    def __iter__(self):
        return iter(torch.randperm(N, generator=self.generator).tolist())

    def __len__(self):
        return N


def hugging_face(transformers, folder, recorder, model, **settings):
    class Trainer(transformers.Trainer):
        def _get_train_sampler(self, *_):
            return InOrder()

    settings = {"num_train_epochs": EPOCHS, "per_device_train_batch_size": 8, **settings}
    arguments = transformers.TrainingArguments(
        str(folder / "hf"),
        learning_rate=LR,
        lr_scheduler_type="constant",
        max_grad_norm=0.0,
        report_to=[],
        save_strategy="no",
        disable_tqdm=True,
        use_cpu=True,
        logging_strategy="no",
        remove_unused_columns=False,
        **settings,
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=LR)
    callbacks = [trainer_callback(recorder)] if recorder else []
    return Trainer(
        model=model, args=arguments, train_dataset=Items(), optimizers=(optimizer, None), callbacks=callbacks
    )


def test_the_hugging_face_trainer_takes_an_audit_and_records_the_same(tmp_path, transformers):
    expected = plain_loop(tmp_path / "plain", network(), loader(shuffle=False, sampler=InOrder()))
    audit = audit_of_the_data(tmp_path / "audit")
    hugging_face(transformers, tmp_path, audit, Classifier()).train()
    found = tables(tmp_path / "audit")
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one["p_label"], other["p_label"], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("workers", [0, 1])
def test_the_hugging_face_trainer_records_what_a_plain_loop_does(tmp_path, transformers, workers):
    expected = plain_loop(tmp_path / "plain", network(), loader(shuffle=False, sampler=InOrder()))
    model = Classifier()
    recorder = Recorder(tmp_path / "hf", model, examples=Items(), ids=IDS)
    hugging_face(transformers, tmp_path, recorder, model, dataloader_num_workers=workers).train()
    assert_same(tables(tmp_path / "hf"), expected)
    assert not recorder.notes and not model._forward_hooks
    saved = torch.load(tmp_path / "hf/checkpoints/main/epoch-0001.pt", weights_only=True)
    assert set(saved["state_dict"]) == set(model.state_dict())


def test_gradient_accumulation_in_the_trainer_keeps_each_margin_with_its_example(tmp_path, transformers):
    model = Classifier()
    recorder = Recorder(tmp_path, model, examples=Items(), ids=IDS)
    hugging_face(
        transformers,
        tmp_path,
        recorder,
        model,
        gradient_accumulation_steps=25,
        num_train_epochs=1,
        per_device_train_batch_size=2,
    ).train()
    (table,) = tables(tmp_path)
    untrained, margins = Classifier(), np.empty(N)
    order = list(InOrder())
    for start in range(0, N, 2):
        rows = order[start : start + 2]
        z = untrained.net(data().tensors[0][rows]).detach().numpy()  # no step before the last batch
        for row, logits in zip(rows, z, strict=True):
            margins[row] = logits[row % C] - np.delete(logits, row % C).max()
    assert len(margins) == N and not recorder.notes
    np.testing.assert_allclose(table["train_margin"], margins, rtol=1e-4, atol=1e-5)


def test_a_trainer_that_stops_within_an_epoch_leaves_that_epochs_margins_out(tmp_path, transformers):
    model = Classifier()
    recorder = Recorder(tmp_path, model, examples=Items(), ids=IDS)
    steps = math.ceil(N / 8)
    hugging_face(transformers, tmp_path, recorder, model, max_steps=steps + 2).train()
    first, second = tables(tmp_path)
    assert first["train_margin"].notna().all() and second["train_margin"].isna().all()
    assert "within an epoch" in recorder.notes["distrusted"] and second["p_label"].notna().all()


def test_the_trainer_does_not_notice_the_recorder(tmp_path, transformers):
    alone, watched = Classifier(), Classifier()
    hugging_face(transformers, tmp_path, None, alone).train()
    recorder = Recorder(tmp_path / "a", watched, examples=Items(), ids=IDS)
    hugging_face(transformers, tmp_path, recorder, watched).train()
    assert all(torch.equal(value, watched.state_dict()[name]) for name, value in alone.state_dict().items())


def test_a_library_that_is_not_there_is_named(tmp_path, monkeypatch):
    import scoring.training.callbacks as room

    def missing(name):
        raise ModuleNotFoundError(f"No module named {name!r}", name=name.partition(".")[0])

    monkeypatch.setattr(room.importlib, "import_module", missing)
    recorder = Recorder(tmp_path, network(), examples=data(), ids=IDS)
    with pytest.raises(HardlookError, match="needs lightning, which is not installed"):
        lightning_callback(recorder)
    with pytest.raises(HardlookError, match="needs transformers"):
        trainer_callback(recorder)
