"""Probabilities keep the names that they were computed for when ``classes`` of audit.toml change their order."""

from dashboard.presenters.example_details import probabilities_of
from dashboard.presenters.session_facts import _probabilities
from scoring.audit import Audit
from scoring.audit.storage import read_table
from scoring.queue.order import opinions, suggestions

from ..conftest import hardlook
from ..small_audits import write_small_audit

ID = "train/b/0.png"


def shown(root):
    audit = Audit.open(root)
    run = audit.run()
    suggested = suggestions(audit, run).set_index("example_id")
    return (
        dict(probabilities_of(audit, run, ID)),
        opinions(audit, run, [ID]),
        suggested.loc[ID, ["suggested_label", "p_suggested"]].tolist(),
        _probabilities(audit, run, [ID])[ID],
    )


def test_classes_in_another_order_do_not_swap_the_shown_probabilities(tmp_path):
    root = write_small_audit(tmp_path / "audit")
    assert hardlook("score", root, "--only", "uncertainty") == 0
    before = shown(root)
    row = read_table(Audit.open(root).run().predictions_path).to_pandas().set_index("example_id").loc[ID]
    assert max(before[0], key=before[0].get) == row["prediction"] == before[1][ID]
    text = (root / "audit.toml").read_text()
    (root / "audit.toml").write_text(text.replace('["a", "b", "c"]', '["c", "a", "b"]'))
    assert shown(root) == before
