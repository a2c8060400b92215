"""VoG against closed forms, the authors' released scores, and the definition applied to stacked gradients."""

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from scoring.audit import Audit
from scoring.audit.errors import HardlookError
from scoring.gradients import Slot, input_gradients
from scoring.models import AuditedModel, find_checkpoints
from scoring.pipeline.shards import Context
from scoring.scorers import Shard
from scoring.scorers.vog import (
    FORMS,
    INDEXES,
    STAGES,
    Spread,
    Targets,
    VoG,
    pixel_mean,
    vog,
    vog_from_maps,
    vog_maps,
)

DATA = Path(os.environ.get("HARDLOOK_DATA") or Path(__file__).parents[3] / "shared" / "data")
CLASSES = 5


def conv_net(seed):
    """A small convolutional net with batch norms that have lived."""
    torch.manual_seed(seed)
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.Conv2d(8, 8, 3, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(32, CLASSES),
    )
    net[1].running_mean.normal_()
    net[1].running_var.uniform_(0.5, 2)
    return net


def shard(n=23, seed=0):
    """Inputs, labels and predictions, with every combination of there and missing."""
    rng = np.random.default_rng(seed)
    inputs = torch.from_numpy(rng.normal(size=(n, 3, 6, 6)).astype(np.float32))
    labels, predictions = rng.integers(0, CLASSES, (2, n))
    predictions[: n // 2] = labels[: n // 2]
    labels[[3, 17]] = -1
    predictions[[5, 17]] = -1
    return inputs, labels, predictions


def checkpoints(k=4):
    return [conv_net(seed) for seed in range(k)]


def states(models):
    return [model.state_dict() for model in models]


def run(models, *which, kernel=vog, batch_size=8, **options):
    slot_options = {key: options.pop(key) for key in ("fold", "dtype") if key in options}
    return kernel(Slot(models[0], **slot_options), states(models), *which, batch_size=batch_size, **options)


def by_definition(models, inputs, classes, form):
    """Stacked channel-averaged gradients, (k, n, 6, 6)."""
    classes = torch.as_tensor(np.maximum(classes, 0))
    return np.stack([input_gradients(m, inputs, classes, form=form).mean(1).numpy() for m in models])


STAGE_SLICES = {"early": slice(None, 3), "late": slice(-3, None), "all": slice(None)}


# -- the definition ------------------------------------------------------------------------------------------


def test_the_authors_released_scores_are_reproduced():
    path = DATA / "vog_authors_grads.npz"
    if not path.is_file():
        pytest.skip(f"the authors' released arrays are not at {path}; set HARDLOOK_DATA to their folder")
    with np.load(path) as released:
        np.testing.assert_allclose(vog_from_maps(released["grads"]), released["ref_vog_late"], rtol=1e-5)


def test_raw_vog_is_the_population_deviation_averaged_over_pixels():
    maps = np.random.default_rng(0).normal(size=(5, 4, 3, 2))
    expected = [
        np.mean(
            [np.sqrt(np.mean((maps[:, i, a, b] - maps[:, i, a, b].mean()) ** 2)) for a in range(3) for b in range(2)]
        )
        for i in range(4)
    ]
    np.testing.assert_allclose(vog_from_maps(maps), expected, rtol=1e-12)


def test_a_tensor_stays_a_tensor_and_an_array_an_array():
    maps = torch.randn(3, 4, 2)
    found = vog_from_maps(maps)
    assert isinstance(found, torch.Tensor) and found.dtype == torch.float32
    np.testing.assert_array_equal(found.numpy(), vog_from_maps(maps.numpy()))


def test_maps_of_one_checkpoint_are_refused():
    with pytest.raises(HardlookError, match=r"\(1, 4, 2\).*at least 2"):
        vog_from_maps(np.zeros((1, 4, 2)))


@pytest.mark.parametrize("k", [2, 3, 5, 7])
def test_a_linear_models_vog_is_the_spread_of_its_weights(k):
    models = [nn.Linear(6, CLASSES) for _ in range(k)]
    labels, predictions = np.array([0, 4, 2, 1]), np.array([1, 4, 3, -1])
    found = run(models, torch.randn(4, 6), labels, predictions)
    weights = np.stack([m.weight.detach().numpy() for m in models])
    for stage, part in STAGE_SLICES.items():
        expected = weights[part].std(0).mean(1)
        np.testing.assert_allclose(found[f"{stage}_label_logit"], expected[labels], rtol=1e-5)
        predicted = found[f"{stage}_prediction_logit"]
        np.testing.assert_allclose(predicted[:3], expected[predictions[:3]], rtol=1e-5)
        assert np.isnan(predicted[3])


# -- the streaming kernel ------------------------------------------------------------------------------------


@pytest.mark.parametrize("k", [2, 3, 4, 7])
def test_streaming_equals_the_definition_on_stacked_gradients(k):
    models, (inputs, labels, predictions) = checkpoints(k), shard()
    found = run(models, inputs, labels, predictions)
    assert list(found) == [f"{s}_{i}_{f}" for s in STAGES for i in INDEXES for f in FORMS]
    for index, classes in [("label", labels), ("prediction", predictions)]:
        for form in FORMS:
            maps = by_definition(models, inputs, classes, form)
            for stage, part in STAGE_SLICES.items():
                expected = np.where(classes >= 0, vog_from_maps(maps[part]), np.nan)
                value = found[f"{stage}_{index}_{form}"]
                assert value.dtype == np.float32
                np.testing.assert_allclose(value, expected, rtol=1e-5, err_msg=f"{stage} {index} {form}")


def test_the_mean_of_each_map_is_the_raw_score():
    models, which = checkpoints(), shard()
    scores, maps = run(models, *which), run(models, *which, kernel=vog_maps)
    for name, value in scores.items():
        assert maps[name].shape == (23, 6, 6) and maps[name].dtype == np.float32
        np.testing.assert_allclose(maps[name].mean((1, 2)), value, rtol=1e-5)


def test_the_numbers_are_bit_equal_whatever_the_shard():
    models, (inputs, labels, predictions) = checkpoints(), shard()
    whole = run(models, inputs, labels, predictions)
    for parts in (np.array_split(np.arange(23), 3), [np.arange(22, -1, -1)], [[i] for i in range(23)]):
        for rows in parts:
            part = run(models, inputs[rows], labels[rows], predictions[rows])
            for name, value in whole.items():
                np.testing.assert_array_equal(part[name], value[rows], err_msg=name)


@pytest.mark.parametrize("batch_size", [1, 5, 64])
def test_the_batch_size_moves_no_number_by_more_than_a_hundred_thousandth(batch_size):
    models, which = checkpoints(), shard()
    whole = run(models, *which)
    for name, value in run(models, *which, batch_size=batch_size).items():
        np.testing.assert_allclose(value, whole[name], rtol=1e-5, err_msg=name)


def test_folding_moves_no_number_by_more_than_a_hundred_thousandth():
    models, which = checkpoints(), shard()
    plain = run(models, *which, fold=False)
    for name, value in run(models, *which).items():
        np.testing.assert_allclose(value, plain[name], rtol=1e-5, err_msg=name)


def test_dropout_is_off_so_scoring_twice_gives_the_same_bits():
    models, which = checkpoints(), shard()
    first, second = run(models, *which), run(models, *which)
    assert all(np.array_equal(first[name], second[name], equal_nan=True) for name in first)


def test_each_gradient_is_taken_once():
    labels, predictions = np.array([0, 1, -1, 2, -1]), np.array([0, 2, 3, -1, -1])
    targets = Targets.of(labels, predictions)
    assert list(zip(targets.rows.tolist(), targets.classes.tolist(), strict=True)) == [
        (0, 0),
        (1, 1),
        (2, 3),
        (3, 2),
        (1, 2),
    ]
    assert targets.place["label"].tolist() == [0, 1, -1, 3, -1]
    assert targets.place["prediction"].tolist() == [0, 4, 2, -1, -1]


def test_memory_does_not_grow_with_the_number_of_checkpoints():
    spread, held = Spread(pixel_mean), []
    for _ in range(40):
        spread.add(torch.randn(2, 3, 3))
        held.append(len(spread.recent) + len([spread.mean, spread.squares]))
    assert max(held) == held[3] == 5 and spread.first.shape == (2,)


@pytest.mark.parametrize("models", [[], checkpoints(1)])
def test_fewer_than_two_checkpoints_are_refused(models):
    with pytest.raises(HardlookError, match=f"at least 2 checkpoints, found {len(models)}"):
        vog(Slot(conv_net(0)), states(models), *shard())


def test_gradients_that_are_not_finite_name_the_checkpoint():
    models = checkpoints()
    with torch.no_grad():
        models[2][8].weight[0, 0] = torch.nan
    with pytest.raises(HardlookError, match="epoch-3 produces gradients that are not finite"):
        run(models, *shard(), names=["epoch-1", "epoch-2", "epoch-3", "epoch-4"])


def test_an_input_that_is_not_finite_is_missing_and_stops_no_other():
    models, (inputs, labels, predictions) = checkpoints(), shard()
    whole = run(models, inputs, labels, predictions)
    inputs[4, 0, 0, 0] = torch.nan
    others = np.arange(23) != 4
    for name, value in run(models, inputs, labels, predictions).items():
        assert np.isnan(value[4])
        np.testing.assert_array_equal(value[others], whole[name][others])


def test_one_form_alone_can_be_asked_for():
    models, which = checkpoints(), shard()
    both, alone = run(models, *which), run(models, *which, forms=["logit"])
    assert list(alone) == [name for name in both if name.endswith("logit")]
    for name, value in alone.items():
        np.testing.assert_array_equal(value, both[name])


def test_a_shard_without_any_class_is_all_missing():
    none = np.full(4, -1)
    found = run(checkpoints(), torch.randn(4, 3, 6, 6), none, none)
    assert all(np.isnan(value).all() and value.shape == (4,) for value in found.values())


def test_series_vectors_and_tokens_go_through_the_same_code():
    class Tagger(nn.Module):
        def __init__(self):
            super().__init__()
            self.tokens, self.head = nn.Embedding(11, 4), nn.Linear(4, CLASSES)

        def forward(self, ids):
            return self.head(self.tokens(ids).tanh().mean(1))

    def series():
        return nn.Sequential(nn.Conv1d(2, 4, 3), nn.BatchNorm1d(4), nn.Tanh(), nn.Flatten(), nn.Linear(24, CLASSES))

    def vectors():
        return nn.Sequential(nn.Linear(7, 4), nn.Tanh(), nn.Linear(4, CLASSES))

    labels = np.array([0, 1, 2, 3, 4, 0])
    for make, inputs, axis in [
        (Tagger, torch.randint(0, 11, (6, 5)), None),
        (series, torch.randn(6, 2, 8), 1),
        (vectors, torch.randn(6, 7), None),
    ]:
        models = [make() for _ in range(3)]
        gradients = [input_gradients(m, inputs, torch.as_tensor(labels)).numpy() for m in models]
        maps = np.stack([g if axis is None else g.mean(axis) for g in gradients])
        found = run(models, inputs, labels, labels)["all_label_logit"]
        np.testing.assert_allclose(found, vog_from_maps(maps), rtol=1e-5)


def test_bfloat16_stays_near_float32():
    models, which = checkpoints(), shard()
    full, half = run(models, *which), run(models, *which, dtype=torch.bfloat16)
    for name, value in half.items():
        assert value.dtype == np.float32
        np.testing.assert_allclose(value, full[name], rtol=0.1, err_msg=name)


class Contrast(nn.Module):
    """A net that looks at differences between channels alone: a constant added to all of them changes nothing."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 8, 3), nn.Tanh(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(32, CLASSES)
        )

    def forward(self, x):
        return self.body(x - x.mean(1, keepdim=True))


@pytest.mark.parametrize("precision", [torch.float32, torch.float64])
def test_where_channels_cancel_there_is_no_number_and_a_note(precision):
    torch.manual_seed(0)
    models, (inputs, labels, predictions) = [Contrast().to(precision) for _ in range(3)], shard()
    slot = Slot(models[0])
    found = vog(slot, states(models), inputs, labels, predictions, batch_size=8)
    assert all(np.isnan(value).all() for value in found.values())
    assert any("is only rounding noise" in note for note in slot.notes)


def test_channels_cancel_example_by_example():
    class Some(Contrast):
        def forward(self, x):
            return torch.where(x[:, :1, 0, 0] > 0, super().forward(x), self.body(x))

    torch.manual_seed(0)
    models, (inputs, labels, _) = [Some() for _ in range(3)], shard()
    labels = np.maximum(labels, 0)
    found = run(models, inputs, labels, labels)["all_label_logit"]
    np.testing.assert_array_equal(np.isnan(found), (inputs[:, 0, 0, 0] > 0).numpy())
    wanted = vog_from_maps(by_definition(models, inputs, labels, "logit"))
    np.testing.assert_allclose(found[~np.isnan(found)], wanted[~np.isnan(found)], rtol=1e-5)


def test_a_gradient_that_is_truly_zero_has_a_vog_of_zero():
    class Constant(nn.Module):
        def __init__(self):
            super().__init__()
            self.head = nn.Linear(3, CLASSES)

        def forward(self, x):
            return self.head((x.mean((2, 3)) - 100).relu())

    found = run([Constant() for _ in range(3)], *shard())["all_label_logit"]
    assert (found[np.isfinite(found)] == 0).all() and np.isfinite(found).any()


# -- the score -----------------------------------------------------------------------------------------------


def test_columns_are_raw_and_z_of_every_choice():
    names = [column.name for column in VoG.columns]
    raw = {f"{s}_{i}_{f}" for s in STAGES for i in INDEXES for f in FORMS}
    assert set(names) == raw | {f"{name}_z" for name in raw} and len(names) == 24
    assert all(column.suspicious == "measured" and column.help for column in VoG.columns)


def test_z_scores_are_taken_within_split_and_the_class_indexed():
    examples = pd.DataFrame(
        {
            "split": ["train"] * 4 + ["test"] * 2 + ["pool"],
            "label": ["a", "a", "b", "b", "a", "a", None],
            "prediction": ["a", "b", "b", "b", "a", "a", "a"],
        }
    )
    raw = np.array([1, 3, 10, 20, 100, 300, np.nan], dtype=np.float32)
    columns = {f"{s}_{i}_{f}": raw for s in STAGES for i in INDEXES for f in FORMS}
    done = VoG().finish(columns, examples)
    assert set(done) == {column.name for column in VoG.columns}
    np.testing.assert_array_equal(done["late_label_logit_z"], [-1, 1, -1, 1, -1, 1, np.nan])
    by_prediction = done["late_prediction_logit_z"]
    three = raw[1:4].astype(float)
    np.testing.assert_allclose(by_prediction[1:4], (three - three.mean()) / three.std(), rtol=1e-6)
    assert by_prediction[0] == 0 and by_prediction.dtype == np.float32


def test_an_unknown_precision_is_refused():
    with pytest.raises(HardlookError, match="float32, bfloat16"):
        VoG(precision="float8")._slot(None)


@pytest.mark.parametrize(("there", "expected"), [(True, torch.bfloat16), (False, torch.float32)])
def test_bfloat16_is_taken_only_where_the_hardware_has_it(monkeypatch, there, expected):
    monkeypatch.setattr("scoring.gradients.has_bfloat16", lambda device: there)
    assert VoG(precision="bfloat16")._slot(AuditedModel(conv_net(0))).dtype == expected


def test_the_score_runs_a_shard_through_its_models_checkpoints(tmp_path):
    models, (inputs, labels, predictions) = checkpoints(), shard()
    for number, model in enumerate(models):
        torch.save(model.state_dict(), tmp_path / f"epoch-{number}.pt")
    audited = AuditedModel(conv_net(9), find_checkpoints("*.pt", tmp_path), n_classes=CLASSES)
    before = {key: value.clone() for key, value in audited.module.state_dict().items()}
    given = Shard(
        example_id=np.arange(23).astype(str).astype(object),
        split=np.full(23, "train"),
        labels=labels,
        classes=list("abcde"),
        predictions=predictions,
        inputs=inputs,
        model=audited,
        checkpoints=audited.checkpoints,
    )
    scorer, expected = VoG(batch_size=8), run(models, inputs, labels, predictions)
    found = scorer.score(given, None)
    assert all(np.array_equal(found[name], expected[name], equal_nan=True) for name in expected)
    maps = scorer.maps(given, forms=["logit"])
    assert list(maps) == [name for name in expected if name.endswith("logit")]
    assert maps["late_label_logit"].shape == (23, 6, 6)
    assert audited.module.training and all(p.grad is None for p in audited.module.parameters())
    assert all(torch.equal(value, before[key]) for key, value in audited.module.state_dict().items())


def audited_shard(folder, models, inputs, labels):
    """A shard over checkpoint files of these models, the first of which is the audited module."""
    for number, model in enumerate(models):
        torch.save(model.state_dict(), folder / f"epoch-{number}.pt")
    audited = AuditedModel(models[0], find_checkpoints("*.pt", folder), n_classes=CLASSES)
    ids = np.arange(len(inputs)).astype(str).astype(object)
    return Shard(
        example_id=ids,
        split=np.full(len(ids), "train"),
        labels=labels,
        classes=list("abcde"),
        predictions=labels,
        inputs=inputs,
        model=audited,
        checkpoints=audited.checkpoints,
    )


def test_a_copy_that_was_left_is_said_with_the_shard(tmp_path):
    models, (inputs, labels, _) = checkpoints(), shard()
    expected = run(models, inputs, labels, labels)["late_label_logit"]
    given = audited_shard(tmp_path, models, inputs, labels)
    old = models[0].forward
    models[0].forward = lambda x: old(x)
    found = VoG(batch_size=8).score(given, None)["late_label_logit"]
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    assert any("original's weights" in note for note in given.notes)


class Words(nn.Module):
    def __init__(self):
        super().__init__()
        self.words, self.head = nn.Embedding(11, 4), nn.Linear(4, CLASSES)

    def forward(self, ids):
        return self.head(self.words(ids).tanh().mean(1))


def test_texts_are_scored_in_parts_that_fit_into_memory(tmp_path, monkeypatch):
    torch.manual_seed(0)
    tokens, labels = torch.randint(1, 11, (30, 6)), np.arange(30) % CLASSES
    given = audited_shard(tmp_path, [Words() for _ in range(3)], tokens, labels)
    whole = VoG(batch_size=4).score(given, None)
    monkeypatch.setattr("scoring.scorers.vog.STATISTICS_BYTES", 40 * 24 * 7)  # seven texts of 6 × 4 numbers
    for name, value in VoG(batch_size=4).score(given, None).items():
        np.testing.assert_array_equal(value, whole[name])


def test_padding_is_as_set_or_as_the_model_or_else_the_transform_says(tmp_path):
    torch.manual_seed(0)
    tokens, labels = torch.randint(1, 11, (9, 6)), np.arange(9) % CLASSES
    given = audited_shard(tmp_path, [Words() for _ in range(3)], tokens, labels)

    def column(state=None, **settings):
        return VoG(**settings).score(given, state)["all_label_logit"]

    without_three = column(padding=3)
    assert not np.array_equal(without_three, column())
    np.testing.assert_array_equal(column({"padding": 3}), without_three)
    given.model.module.words.padding_idx = 5
    np.testing.assert_array_equal(column({"padding": 3}), column(padding=5))
    maps = VoG(padding=3).maps(given)["all_label_logit"]
    assert (maps[tokens.numpy() == 3] == 0).all() and (maps[tokens.numpy() != 3] > 0).all()


def test_an_image_is_never_scored_alone():
    models, which = checkpoints(), shard()
    two = run(models, *which, batch_size=2)
    assert all(
        np.array_equal(value, two[name], equal_nan=True) for name, value in run(models, *which, batch_size=1).items()
    )


def test_bfloat16_is_refused_where_a_sample_is_not_ranked_as_in_float32(scored_sample, monkeypatch):
    audit = Audit.open(scored_sample)
    context = Context(audit, audit.run())
    monkeypatch.setattr("scoring.gradients.has_bfloat16", lambda device: True)
    said = []
    context.say = said.append
    monkeypatch.setattr("scoring.evaluation.reduced_precision.ENOUGH", -1)
    VoG(precision="bfloat16").fit(context, None)
    least = float(said[0].split("correlation of ")[1].split()[0])
    assert 0.5 < least < 0.9999  # an agreement that was measured: neither of one precision with itself nor of noise
    monkeypatch.setattr("scoring.evaluation.reduced_precision.ENOUGH", least + 0.0001)
    with pytest.raises(HardlookError, match=f"{least}.*--vog-precision"):
        VoG(precision="bfloat16").fit(context, None)
    assert VoG().fit(context, None) is None and len(said) == 1
