"""/help and the links to it: a topic, a search, their state in the address; each page and each score has its link."""

import pytest

from dashboard.help import parts, read_topic, topic_names
from dashboard.pages import PAGES
from dashboard.widgets import manual
from scoring.audit.storage import read_table
from scoring.scorers import registry

from ..synthetic import make_audit
from .test_views import page, quiet, said  # noqa: F401  fixtures and their helpers


@pytest.fixture(scope="module")
def audit(tmp_path_factory):
    return make_audit(tmp_path_factory.mktemp("audit"), 60, 3)


@pytest.mark.parametrize("name", topic_names())
def test_every_topic_is_shown_whole(audit, name):
    app = page(audit, "help", **({} if name == "index" else {"topic": name}))
    shown = said(app)
    assert app.title[0].value == read_topic(name).title
    assert [one.value for one in app.subheader] == [one.title for one in read_topic(name).sections[1:]]
    assert [one.anchor for one in app.subheader] == [one.anchor for one in read_topic(name).sections[1:]]
    for section in read_topic(name).sections:
        assert all(one.content in shown for one in parts(section, name) if one.kind != "image")


def test_the_first_page_lists_every_topic(audit):
    shown = said(page(audit, "help"))
    assert all(f"/help?topic={name})" in shown for name in topic_names() if name != "index")


def test_a_search_shows_its_hits_with_links_and_the_sentence_around(audit):
    app = page(audit, "help", search="Krippendorff")
    assert app.text_input(key="search").value == "Krippendorff"
    assert "/help?topic=teams#second-opinions-and-disputes" in said(app) and "Teams › Second opinions" in said(app)
    assert "percent and as Krippendorff's alpha" in said(app).replace("\\", "")


def test_a_search_without_a_hit_says_so(audit):
    app = page(audit, "help", search="*nosuchword*")
    assert "no section with `*nosuchword*`" in app.info[0].value


def test_the_topic_is_there_again_when_the_search_is_cleared(audit):
    app = page(audit, "help", topic="teams", search="blind")
    assert not app.title
    app.text_input(key="search").set_value("").run()
    assert app.title[0].value == "Teams"


def test_an_unknown_topic_is_an_error_that_names_the_close_ones(audit):
    assert "did you mean" in page(audit, "help", topic="scoers").error[0].value


@pytest.mark.parametrize("one", PAGES, ids=lambda one: one.name)
def test_every_page_links_to_its_topic(audit, one):
    links = [element.proto for element in page(audit, one.name).get("page_link")]
    named = [(link.label, link.query_string) for link in links if link.label == "Help on this page"]
    assert named == ([] if one.name == "help" else [("Help on this page", f"topic={one.topic}")])


@pytest.mark.parametrize(
    ("name", "score"), [("grid", "AUM"), ("deciles", "AUM"), ("deciles", "VoG"), ("suspects", "AUM")]
)
def test_the_score_on_a_page_links_to_its_heading(audit, name, score):
    parameters = {"view": "Sheet"} if name == "suspects" else {}
    app = page(audit, name, score=score, **parameters)
    assert f"[More in the manual](/help?topic=scores#{score.lower()})" in said(app)


def test_the_table_of_scores_links_to_every_heading(audit):
    tables = [element.value for element in page(audit, "overview").dataframe]
    (table,) = [one for one in tables if "manual" in one.columns]
    assert set(table["manual"]) == {f"/help?topic=scores#{name}" for name in audit.run().score_names()}


@pytest.mark.parametrize("name", registry())
def test_every_score_has_an_address_in_the_manual(name):
    assert manual.score_address(name) == f"/help?topic=scores#{name}"


def test_a_score_of_ones_own_has_no_link():
    assert manual.score_address("our_own") is None and manual.score_link("our_own") == ""


def test_the_manual_reads_no_file_of_the_audit(audit):
    assert read_table(audit.examples_path).num_rows == 60
    before = said(page(audit, "help", topic="vog"))
    bare = make_audit(audit.root.parent / "other", 20, 2, scores=False, predictions=False)
    assert said(page(bare, "help", topic="vog")).split("VoG")[1:] == before.split("VoG")[1:]
