"""Duplicates on /overview: near ones beside exact ones, conflicting first, filtered, opening in the grid."""

import numpy as np
import pyarrow as pa
import pytest

from dashboard.auth.serving import serve_this
from dashboard.panels.duplicates import near_duplicates_of, near_groups
from scoring.audit.storage import read_table, write_table

from ..synthetic import make_audit
from .test_views import cells, page, quiet, said  # noqa: F401  pytest finds the fixtures by name


@pytest.fixture(scope="module")
def audit(tmp_path_factory):
    made = make_audit(tmp_path_factory.mktemp("near") / "audit", 300, 3, splits=("train", "test"), thumbnails=True)
    frame = read_table(made.examples_path).to_pandas()
    frame = frame[frame["problem"].isna()].drop_duplicates("fingerprint", keep=False)
    train, test = frame[frame["split"] == "train"], frame[frame["split"] == "test"]
    one, other, third = (train[train["label"] == name]["example_id"].tolist() for name in made.classes)
    here = test[test["label"] == made.classes[0]]["example_id"].tolist()
    groups = [one[:3], [one[3], here[0]], [one[4], other[0]], [third[0], other[1], here[1]]]
    write(made.run(), groups)
    return made, groups


def write(run, groups):
    flat = [(number, name) for number, ids in enumerate(groups) for name in ids]
    write_table(
        run.near_duplicates_path,
        pa.table(
            {
                "group": pa.array([number for number, _ in flat], pa.int64()),
                "example_id": [name for _, name in flat],
                "closest": [name for _, name in flat],
                "ratio": pa.array(np.full(len(flat), 0.1, np.float32)),
            }
        ),
    )


def near_table(app):
    return next(frame.value for frame in app.dataframe if "one" in frame.value)


def test_near_groups_stand_beside_exact_ones_conflicting_first_then_across_splits(audit):
    made, groups = audit
    app = page(made, "overview")
    assert "4 groups, 2 with conflicting labels, 2 across splits" in said(app)
    table = near_table(app)
    assert [sorted(ids) for ids in table["example_ids"]] == [sorted(groups[at]) for at in (3, 2, 1, 0)]
    first = table.iloc[1]
    assert first["grid"].startswith("/grid?near=") and first["grid"].endswith("&run=main")
    assert "/hardlook/thumb?id=" in first["one"] and first["one"] != first["other"]


def test_they_are_filtered_by_kind_and_by_metadata(audit):
    made, groups = audit
    app = page(made, "overview", duplicates="across splits")
    assert [sorted(ids) for ids in near_table(app)["example_ids"]] == [sorted(groups[3]), sorted(groups[1])]
    assert "2 match the filters" in said(app)
    frame = read_table(made.examples_path).to_pandas().set_index("example_id")
    column = next(
        name
        for name in frame
        if name.startswith("meta.") and frame[name].dtype.kind in "OT" and frame[name].nunique() < 9
    )
    value = frame.loc[groups[2][0], column]
    left = [ids for ids in groups if (frame.loc[ids, column] == value).any()]
    app = page(made, "overview", **{"filter": column.removeprefix("meta."), column: value})
    assert sorted(map(sorted, near_table(app)["example_ids"])) == sorted(map(sorted, left))


def test_a_group_opens_in_the_grid(audit):
    made, groups = audit
    app = page(made, "grid", near=groups[0][1], run="main")
    assert sorted(cells(app)) == sorted(groups[0]) and "Near duplicates of" in said(app)
    app = page(made, "grid", near="nobody", run="main")
    assert "no group of near duplicates" in said(app)


def test_an_audit_where_nobody_looked_says_what_to_run(tmp_path):
    made = make_audit(tmp_path / "audit", 60, 3)
    serve_this(made.root)
    assert near_groups(made, made.run()) is None and near_duplicates_of(made, made.run(), "a") == []
    assert "hardlook score" in said(page(made, "overview")) and "--only near_duplicates" in said(page(made, "overview"))
    write(made.run(), [])
    assert "There are no near duplicates by the features" in said(page(made, "overview"))
