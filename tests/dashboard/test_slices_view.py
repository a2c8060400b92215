"""The page of slices: cards, an opened slice, the map, and what to run where something is missing."""

import pytest

from scoring.audit import Audit
from scoring.slices.slicing_run import SliceSettings, slice_run

from .test_views import cells, grids, page, said


@pytest.fixture(scope="module")
def sliced(scored_sample, tmp_path_factory):
    import shutil

    audit = Audit.open(shutil.copytree(scored_sample, tmp_path_factory.mktemp("sliced") / "audit"))
    slice_run(audit, audit.run(), SliceSettings(n_slices=4), "four")
    return audit


def test_cards_say_how_the_slices_were_found(sliced):
    app = page(sliced, "slices")
    assert "4 slices" in said(app)
    assert "120 test examples" in said(app)


def test_an_opened_slice_shows_members_opponents_and_proponents_in_one_grid(sliced):
    app = page(sliced, "slices", slicing="four", slice="0")
    titles = [panel["title"] for grid in grids(app) for panel in grid["panels"]]
    assert len(titles) == 3
    assert any("pponent" in title for title in titles) and any("roponent" in title for title in titles)
    assert cells(app)


def test_other_settings_find_slices_in_place(sliced):
    app = page(sliced, "slices", slicing="other settings", method="kmeans", n_slices="3")
    assert "3 slices" in said(app)


def test_the_map_says_what_to_run_where_there_is_none(sliced):
    app = page(sliced, "slices", show="map")
    assert "hardlook slice" in said(app)


def test_without_embeddings_the_page_says_what_to_run(tmp_path, scored_sample):
    import shutil

    audit = Audit.open(shutil.copytree(scored_sample, tmp_path / "audit"))
    audit.run().influence_path.unlink()
    assert "hardlook score" in said(page(audit, "slices"))
