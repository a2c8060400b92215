"""What a model returns is told apart, inverted where that can be done, and null where it means nothing."""

import numpy as np
import pytest
import torch
from torch import nn

from scoring.audit import Audit
from scoring.audit.config import OUTPUTS
from scoring.audit.errors import HardlookError
from scoring.audit.storage import read_table, read_vectors
from scoring.models import AuditedModel
from scoring.models.eval_mode import logits_of
from scoring.models.outputs import OutputAsLogits, as_logits, detect, rows_of

from ..conftest import hardlook
from ..small_audits import spoil, write_small_audit

Z = torch.randn(64, 5, generator=torch.Generator().manual_seed(0)) * 2
RETURNED = {
    "logits": Z,
    "log_probabilities": Z.log_softmax(1),
    "probabilities": Z.softmax(1),
    "sigmoid": Z.sigmoid(),
    "logit": Z[:, :1],
    "probability": Z[:, :1].sigmoid(),
}


@pytest.mark.parametrize("kind", OUTPUTS)
def test_each_kind_is_told_apart_and_inverted(kind):
    assert detect(RETURNED[kind]) == kind
    found = as_logits(RETURNED[kind].double(), kind)
    wanted = torch.cat([torch.zeros(64, 1), Z[:, :1]], 1) if kind in ("logit", "probability") else Z
    if kind in ("log_probabilities", "probabilities"):
        found, wanted = found - found.mean(1, keepdim=True), wanted - wanted.mean(1, keepdim=True)
    torch.testing.assert_close(found, wanted.double(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", OUTPUTS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_coarse_types_are_told_apart_too(kind, dtype):
    assert detect(RETURNED[kind].to(dtype)) == kind


def test_saturated_sigmoids_and_probabilities_stay_finite_and_others_become_nan():
    certain = torch.tensor([[0.0, 1.0, 0.5]])
    assert as_logits(certain, "sigmoid").isfinite().all() and as_logits(certain, "probabilities").isfinite().all()
    assert as_logits(torch.tensor([[1.2, -0.1]]), "sigmoid").isnan().all()


def test_logits_that_happen_to_lie_in_0_to_1_are_no_sigmoids():
    assert detect((Z * 0.05).relu()) == "logits"  # behind a ReLU
    assert detect(Z.sigmoid() * 0.3 + 0.2) == detect(Z[:, :2] * 0.01 + 0.5) == "logits"  # hardly trained
    assert detect(Z[:, :1] * 0.01 + 0.5) == "logit"


def test_training_does_not_take_its_first_logits_for_sigmoids():
    from scoring.models.outputs import OutputReader

    read = OutputReader()
    assert not read.settle(Z.sigmoid()) and read.kind == "logits" and read.suspected == "sigmoid"
    assert read.settle(Z.softmax(1)) and read.kind == "probabilities"


def test_gradients_flow_through_the_hook():
    model = nn.Sequential(nn.Linear(3, 4), nn.Softmax(1)).double()
    x = torch.randn(7, 3, dtype=torch.float64, requires_grad=True)
    (plain,) = torch.autograd.grad(model[0](x).softmax(1)[:, 2].sum(), x)
    audited = AuditedModel(model, n_classes=4).returns(OutputAsLogits("probabilities"))
    (ours,) = torch.autograd.grad(audited(x).softmax(1)[:, 2].sum(), x)
    torch.testing.assert_close(ours, plain)


def test_of_features_and_logits_the_right_way_is_named():
    both = torch.zeros(4, 16), torch.zeros(4, 3)
    with pytest.raises(HardlookError, match=r"16 logits.*lists 3 classes; item 1 .*`output_item = 1`"):
        logits_of(both, 3)
    assert rows_of(both, 1) is both[1]
    with pytest.raises(HardlookError, match=r'needed \(n, classes\) logits.*`output_item = "scores"`'):
        logits_of({"scores": torch.zeros(4, 3)}, 3)
    with pytest.raises(HardlookError, match="output_item = 5: the model returned tuple of a tensor"):
        rows_of(both, 5)
    with pytest.raises(HardlookError, match="numbers of type int64 .classes instead of scores"):
        rows_of(torch.zeros(4, 3, dtype=torch.long))
    with pytest.raises(HardlookError, match='one number per example.*`output = "logit"`'):
        logits_of(torch.zeros(4, 1))


# -- a whole audit -------------------------------------------------------------------------------------------


def scored(folder, forward, extra=""):
    """An audit whose net ends in ``forward``, scored by the command."""
    write_small_audit(folder)
    if forward:
        spoil(folder, forward)
    (folder / "audit.toml").write_text((folder / "audit.toml").read_text() + extra)
    assert hardlook("score", folder, "--only", "energy,uncertainty,grand,tta,odin", "--anyway") == 0
    return Audit.open(folder).run()


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return scored(tmp_path_factory.mktemp("outputs") / "plain", "")


@pytest.mark.parametrize(
    ("kind", "forward"),
    [
        ("log_probabilities", "return self.net(x).log_softmax(1)"),
        ("probabilities", "return self.net(x).softmax(1)"),
        ("sigmoid", "return self.net(x).sigmoid()"),
    ],
)
def test_predictions_and_scores_are_those_of_the_logits(tmp_path, capsys, plain, kind, forward):
    run = scored(tmp_path / "audit", forward)
    printed = capsys.readouterr().out
    assert run.record()["output"]["kind"] == kind
    words = {
        "log_probabilities": "outputs are log-probabilities",
        "probabilities": "outputs are probabilities",
        "sigmoid": "outputs are one sigmoid per class",
    }[kind]
    assert f"check: warning: the model's {words}" in printed
    assert f"note: predictions: the model's {words}" in printed
    ours, wanted = (read_table(one.predictions_path).to_pandas() for one in (run, plain))
    for column in ("p_prediction", "p_label", "loss", "margin", "entropy", "p_second"):
        np.testing.assert_allclose(ours[column], wanted[column], rtol=2e-3, atol=1e-4)
    assert (ours["prediction"] == wanted["prediction"]).all()
    energy, expected = (read_table(one.score_path("energy")).to_pandas() for one in (run, plain))
    np.testing.assert_allclose(energy["max_probability"], expected["max_probability"], rtol=1e-3)
    if kind == "sigmoid":
        np.testing.assert_allclose(energy["energy"], expected["energy"], rtol=1e-3, atol=1e-4)
    else:
        assert energy["energy"].isna().all()
        assert "null: the model returns probabilities" in run.record()["notes"]["energy"][0]
    for score in ("tta", "odin"):
        found, wanted = (read_table(one.score_path(score)).to_pandas() for one in (run, plain))
        for column in found.columns[3:]:
            np.testing.assert_allclose(found[column], wanted[column], rtol=1e-2, atol=1e-3)


def test_log_softmax_behind_a_linear_head_keeps_its_closed_forms(tmp_path, plain):
    run = scored(tmp_path / "audit", "return self.net(x).log_softmax(1)")
    assert run.record()["head"]["linear"]
    ours, wanted = (read_table(one.score_path("grand")).to_pandas()["early"] for one in (run, plain))
    np.testing.assert_allclose(ours, wanted, rtol=1e-4)
    np.testing.assert_allclose(read_vectors(run.features_path)[1], read_vectors(plain.features_path)[1], rtol=1e-5)


def test_audit_toml_settles_what_the_outputs_are(tmp_path, plain):
    run = scored(tmp_path / "audit", "return self.net(x).sigmoid()", 'output = "logits"\n')
    assert run.record().get("output") is None
    assert read_table(run.predictions_path)["p_prediction"].to_numpy().max() < 0.58  # e / (e + 2): sigmoids as logits


def test_a_tuple_whose_second_item_holds_the_logits(tmp_path, plain):
    forward = "return x.flatten(1), self.net(x)"
    with pytest.raises(AssertionError):
        scored(tmp_path / "refused", forward)
    run = scored(tmp_path / "audit", forward, "output_item = 1\n")
    np.testing.assert_allclose(read_vectors(run.logits_path)[1], read_vectors(plain.logits_path)[1], rtol=1e-6)


def test_of_two_tensors_that_may_be_the_logits_the_choice_is_said(tmp_path):
    run = scored(tmp_path / "audit", "z = self.net(x); return z, -z")
    assert "the model returns 2 tensors with one number per class" in run.record()["notes"]["checkpoints"][0]


def test_another_kind_in_audit_toml_is_refused(tmp_path, capsys):
    write_small_audit(tmp_path / "audit")
    (tmp_path / "audit" / "audit.toml").write_text(
        (tmp_path / "audit" / "audit.toml").read_text() + 'output = "softmax"\n'
    )
    assert hardlook("score", tmp_path / "audit") != 0
    assert (
        "output = 'softmax'; needed what the model returns, one of logits, log_probabilities" in capsys.readouterr().err
    )


# -- while it is being trained -------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", [nn.LogSoftmax(1), nn.Softmax(1)])
def test_a_training_is_recorded_as_that_of_the_logits(tmp_path, ending):
    """The same weights with and without the last layer: the recorded numbers are the same."""
    from torch.utils.data import DataLoader, TensorDataset

    from scoring.training import Recorder
    from scoring.training.dynamics import MEASURES, read_dynamics

    data = TensorDataset(torch.randn(40, 3, generator=torch.Generator().manual_seed(1)), torch.arange(40) % 4)
    found = {}
    for name, last in (("plain", nn.Identity()), ("ended", ending)):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(3, 4), last)
        ids = [str(n) for n in range(40)]
        with Recorder(tmp_path / name, model, examples=data, ids=ids) as recorder:
            for _ in range(2):
                for inputs, _ in recorder.watch(DataLoader(data, batch_size=8)):
                    model(inputs)
        found[name] = read_dynamics(recorder.run.dynamics_files(), ids, (*MEASURES, "train_margin"))
    for column in ("p_label", "loss", "error_norm", "correct", "margin"):
        np.testing.assert_allclose(found["ended"][column], found["plain"][column], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(
        found["ended"]["train_margin"][1], found["plain"]["train_margin"][1], rtol=1e-4, atol=1e-5
    )
    wrong = np.abs(found["ended"]["train_margin"][0] - found["plain"]["train_margin"][0]) > 1e-4
    assert not wrong.any()  # null where it was not known yet, never another number


def test_training_a_model_that_ends_in_softmax_takes_the_loss_of_its_logits():
    from torch.utils.data import TensorDataset

    from scoring.training.trainer import fit

    data = TensorDataset(torch.randn(40, 3, generator=torch.Generator().manual_seed(1)), torch.arange(40) % 4)
    weights = []
    for last in (nn.Identity(), nn.Softmax(1)):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(3, 4), last)
        fit(model, data, epochs=2, batch_size=8)
        weights.append(model[0].weight.detach())
    torch.testing.assert_close(*weights, rtol=1e-3, atol=1e-5)


def test_one_number_per_example_needs_no_axis_of_its_own_and_one_per_class_does():
    assert torch.equal(OutputAsLogits("logit")(None, None, Z[:, 0]), as_logits(Z[:, :1], "logit"))
    assert detect(rows_of(Z[:, 0].sigmoid(), single=True)) == "probability"
    assert OutputAsLogits("logit")(None, None, Z[0, 0]).shape == (1, 2)
    with pytest.raises(HardlookError, match="shape"):  # a net that squeezes its batch of one
        OutputAsLogits()(None, None, Z[0])


@pytest.mark.parametrize("returned", ["z, -z", "(-z, z), z.flatten(1)[:, :2]"])
def test_the_choice_among_several_outputs_is_said_by_check_and_again_by_score(returned, tmp_path, capsys):
    folder = write_small_audit(tmp_path / "audit")
    net = (
        "class Net(nn.Sequential):\n    def forward(self, x):\n        z = super().forward(x)\n        return "
        + returned
    )
    text = (folder / "model.py").read_text()
    (folder / "model.py").write_text(
        text.replace("return nn.Sequential(", "return Net(").replace("\n\ndef net", f"\n\n{net}\n\n\ndef net")
    )
    hardlook("check", folder)
    assert "2 tensors with one number per class" in capsys.readouterr().out
    assert hardlook("score", folder, "--anyway", "--only", "uncertainty") == 0
    assert "2 tensors with one number per class" in str(Audit.open(folder).run().record()["notes"])
