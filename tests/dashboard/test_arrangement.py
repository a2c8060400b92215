"""An arrangement moves row numbers of one table, and takes the rows once."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dashboard.review_session.arrangement import Arrangement

IDS = [*"abcdefgh", "", "a b"]
TABLE = pa.table({"example_id": IDS, "score": np.arange(10.0)})


@given(
    st.lists(
        st.tuples(st.sampled_from(["only", "without", "backwards", "take"]), st.sets(st.sampled_from([*IDS, "gone"])))
    )
)
def test_steps_do_to_rows_what_lists_do_to_ids(steps):
    rows, ids = Arrangement.of(TABLE), list(IDS)
    for step, named in steps:
        if step == "only":
            rows, ids = rows.only(named), [one for one in ids if one in named]
        elif step == "without":
            rows, ids = rows.without(named), [one for one in ids if one not in named]
        elif step == "backwards":
            rows, ids = rows.backwards(), ids[::-1]
        else:
            places = [at for at, one in enumerate(ids) if one in named][::-1]
            rows, ids = rows.take(places), [ids[at] for at in places]
    assert rows.ids == ids and len(rows) == len(ids)
    assert rows.rows(range(len(ids))).to_pylist() == [
        {"example_id": one, "score": float(IDS.index(one))} for one in ids
    ]
    assert [rows.place_of(one) for one in IDS] == [ids.index(one) if one in ids else None for one in IDS]


def test_the_next_row_of_another_arrangement_is_found_where_it_is_here():
    whole = Arrangement.of(TABLE)
    here = whole.only("bfh").backwards()
    assert here.ids == ["h", "f", "b"]
    assert [here.next_of(whole, at) for at in (0, 1, 2, 5, 6, 7, 8, 10)] == [2, 2, 1, 1, 0, 0, None, None]


def test_nothing_is_an_arrangement_too():
    empty = Arrangement.of(TABLE.slice(0, 0))
    assert empty.ids == [] and empty.place_of("a") is None and empty.place_of(None) is None
    assert empty.only({"a"}).backwards().take([]).rows(range(0)).num_rows == 0
    with pytest.raises(IndexError):
        empty.take([0])
