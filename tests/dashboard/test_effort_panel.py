"""The page says when to stop, with the figures and the plot behind it."""

import pytest

from dashboard.auth.serving import serve_this
from dashboard.panels.effort import effort_estimates, estimates_table, reviewers_table, stopping_chart, yield_chart
from dashboard.queries import decisions
from scoring.audit import Audit
from scoring.audit.storage import read_table
from scoring.queue.order import default_order, suspicion
from scoring.queue.random_controls import audit_queue
from scoring.reviews import Event

from .test_views import page, quiet, said  # noqa: F401  pytest finds the fixtures by name


@pytest.fixture
def half_reviewed(sample_copy):
    audit = Audit.open(sample_copy)
    serve_this(audit.root)
    run = audit.run()
    labels = read_table(audit.examples_path).to_pandas().query("split == 'train'").set_index("example_id")["label"]
    queue = audit_queue(audit, run, suspicion(run, default_order(audit, run)).reindex(labels.index), "train").head(200)
    decisions.open_log(audit).append(
        [
            Event(
                client="c",
                seq=at + 1,
                example_id=row.example_id,
                label=labels[row.example_id],
                reviewer="ana",
                action="decide",
                verdict="none" if at < 12 else "given",
                seconds=1.5,
                evidence={"blind": bool(row.blind), "probability": row.probability},
            )
            for at, row in enumerate(queue.itertuples())
        ]
    )
    return audit


def test_the_page_says_when_to_stop(half_reviewed):
    app = page(half_reviewed, "reviews")
    words = said(app)
    assert "Review progress and remaining label errors" in words
    assert "confidence fewer than" in words and "The goal" in words
    assert "used in the estimate" in words and "unsure, disputed or not blind" in words
    assert any(
        "label\\-error rate" in str(table.value) or "label-error rate" in str(table.value) for table in app.dataframe
    )


def test_the_charts_show_what_was_estimated(half_reviewed):
    found = effort_estimates(half_reviewed, half_reviewed.run(), "train")
    chart = stopping_chart(found)
    lines = {trace.name: trace for trace in chart.figure.data if trace.name}
    assert list(lines["remaining, upper bound"].y) == found.history.query("controls > 0")["high"].tolist()
    assert lines[f"goal: fewer than {found.allowed:,}"].y[0] == found.allowed
    assert "Stop when" in chart.reading
    assert yield_chart(found.by_rank).figure.data[0].y[0] == pytest.approx(100 * found.by_rank["rate"].iloc[0])
    assert estimates_table(found)["what"].tolist()[:3] == [
        "wrong labels found",
        "wrong labels remaining",
        "label-error rate",
    ]
    assert reviewers_table(found.readers)["median time, s"].eq(1.5).all()


def test_the_answer_is_kept_until_the_log_moves(half_reviewed):
    first = effort_estimates(half_reviewed, half_reviewed.run(), "train")
    assert effort_estimates(half_reviewed, half_reviewed.run(), "train") is first
    example = read_table(half_reviewed.examples_path).to_pandas().query("split == 'train'")["example_id"].iloc[0]
    decisions.open_log(half_reviewed).append(
        [Event(client="d", seq=1, example_id=example, reviewer="bo", action="decide", verdict="unsure")]
    )
    assert effort_estimates(half_reviewed, half_reviewed.run(), "train") is not first
