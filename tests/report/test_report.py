"""The report is one file that says everything, fetches nothing and shows untrusted text as text."""

import re
import sys
from html.parser import HTMLParser

import pandas as pd
import pytest

from scoring.audit import Audit
from scoring.audit.storage import read_table
from scoring.queue.blinding import hidden_from_readers
from scoring.queue.order import default_order, suspicion
from scoring.queue.random_controls import audit_queue, blind_rows
from scoring.queue.second_reader_policy import ReviewPolicy
from scoring.report import render
from scoring.report.html import Paper, bars, number, rounded, share, stopping
from scoring.reviews import Event, ReviewLog

from ..conftest import hardlook

EVIL = '<script>alert("x")</script><img src=http://evil.example/x>\u202e &amp;'
SECTIONS = (
    "Overview",
    "Review effort and what it found",
    "Grids",
    "Error per decile",
    "Slices and their opponents",
    "Decisions, before and after",
    "Reviewers and agreement",
    "Predicted effect of the corrections",
    "How everything was computed",
)


class Tags(HTMLParser):
    """What a browser would make elements of."""

    def __init__(self, html):
        super().__init__()
        self.seen, self.links = set(), []
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        self.seen.add(tag)
        self.links += [value for name, value in attributes if name in ("src", "href", "xlink:href", "action")]


def filled(folder):
    audit = Audit.open(folder)
    run = audit.run()
    examples = read_table(audit.examples_path).to_pandas().set_index("example_id")
    train = examples[examples["split"] == "train"].index
    queue = audit_queue(audit, run, suspicion(run, default_order(audit, run)).reindex(train), "train").head(120)
    with ReviewLog.open(audit.log_url, audit=audit.log_name(audit.log_url)) as log:
        log.append(
            [
                Event(
                    client="c",
                    seq=at + 1,
                    example_id=row.example_id,
                    reviewer=EVIL[:60],
                    action="decide",
                    fingerprint=examples.loc[row.example_id, "fingerprint"],
                    label=examples.loc[row.example_id, "label"],
                    verdict="other" if at < 9 else "given",
                    new_label=str((int(examples.loc[row.example_id, "label"]) + 1) % 10) if at < 9 else None,
                    note=EVIL,
                    evidence={"blind": bool(row.blind)},
                )
                for at, row in enumerate(queue.itertuples())
            ]
        )
    return audit


@pytest.fixture(scope="module")
def written(scored_sample, tmp_path_factory):
    """(the HTML of a reviewed audit without its code, the modules that writing it loaded)."""
    import shutil

    folder = shutil.copytree(scored_sample, tmp_path_factory.mktemp("report") / "audit")
    filled(folder)
    for name in ("model.py", "data.py"):
        (folder / name).write_text("raise SystemExit('the report imported the code of the audit')")
    out = folder / "report.html"
    assert hardlook("report", folder, "-o", out) == 0
    return out.read_text(encoding="utf8")


def test_every_section_is_there_and_says_what_to_run_where_it_is_empty(written):
    for title in SECTIONS:
        assert f">{title}</h2>" in written
    assert "run `hardlook slice" in written and "run `hardlook refit`" in written


def test_nothing_is_fetched_and_nothing_runs(written):
    tags = Tags(written)
    assert not tags.seen & {"script", "link", "iframe", "object", "embed", "base", "form", "video"}
    assert all(link.startswith(("data:image/", "#")) for link in tags.links)
    assert "default-src 'none'" in written
    assert not re.search(r"url\(|@import", written.split("</style>")[0])
    assert len(written) < 10_000_000
    assert written.count("data:image/png;base64,") >= 48


def test_names_and_notes_are_text(written):
    assert "<script" not in written and "evil.example/x>" not in written
    assert "&lt;script&gt;" in written and "&amp;amp;" in written


def test_the_warning_about_open_test_stands_unless_test_is_blind(written, sample_copy):
    assert "inflates the measured accuracy" in written
    toml = sample_copy / "audit.toml"
    toml.write_text(toml.read_text() + '\n[policy]\ntest = "blind"\n')
    audit = Audit.open(sample_copy)
    with ReviewLog.open(audit.log_url, audit="audit") as log:
        assert "inflates the measured accuracy" not in render(audit, audit.run(), log)


def goal_and_team(folder):
    """An audit with a goal that Ana and Ben read, where each "unsure" and half of all answers wait for a second
    reader."""
    toml = folder / "audit.toml"
    toml.write_text(toml.read_text() + "\n[goal]\nerror_rate = 0.05\n[policy]\nsecond_opinions = 0.5\n")
    return Audit.open(folder)


def test_no_list_holds_what_is_read_blind_or_waits_for_a_second_reader(sample_copy):
    audit = goal_and_team(sample_copy)
    run, policy = audit.run(), ReviewPolicy.of(audit)
    examples = read_table(audit.examples_path).to_pandas().set_index("example_id")
    rows = blind_rows(audit, run)
    with ReviewLog.open(audit.log_url, audit=audit.log_name(audit.log_url)) as log:
        before = captions(render(audit, run, log))
        open_ones = sorted(before & set(examples.index[examples["split"] == "train"]))
        waiting = [one for one in open_ones if policy.is_drawn(one)][:2]
        settled = [one for one in open_ones if not policy.is_drawn(one)][:2]
        log.append(
            [
                Event(
                    client="c",
                    seq=at,
                    example_id=one,
                    reviewer=("ana", "ben")[at % 2],
                    action="decide",
                    verdict="none",
                    label=examples.loc[one, "label"],
                    fingerprint=examples.loc[one, "fingerprint"],
                )
                for at, one in enumerate([*waiting, *settled], 1)
            ]
        )
        text = render(audit, run, log)
        assert hidden_from_readers(audit, log).keys() == rows | set(waiting)
    assert len(before) > 40 and not before & rows and "until the first verdict" in text
    assert len(waiting) == 2 and set(settled) <= captions(text) and not captions(text) & (rows | set(waiting))
    assert "2 decisions wait for a second reviewer" in text


def captions(text):
    """The examples whose picture or id the report shows."""
    return set(re.findall(r'<img[^>]* alt="([^"]+)"', text)) | set(
        re.findall(r'<span class="note">([^<]+)</span>', text)
    )


def test_before_and_after_and_the_stopping_sentence_are_told(written):
    assert "With 95% confidence" in written or "with 95% confidence fewer than" in written
    assert "left out" in written or "relabel" in written
    assert "Clopper-Pearson" in written and "Waudby-Smith" in written


def test_the_effect_of_a_refit_is_told_group_by_group(sample_copy):
    """A real `hardlook refit` of real corrections; every group that it judged is a row with its own figures."""
    from scoring.audit.storage import read_json
    from scoring.corrections.effect.conclusion import conclusion

    audit = filled(sample_copy)
    assert hardlook("refit", sample_copy) == 0
    found = read_json(audit.run().refit_path)
    rows = [row for row in found["groups"] if row["n"]]
    assert len(rows) > 1 and found["edits"]["relabelled"] == 9 and any(row["gain"] for row in rows)
    with ReviewLog.open(audit.log_url, audit=audit.log_name(audit.log_url)) as log:
        text = render(audit, audit.run(), log)
    ends = (">Predicted effect of the corrections</h2>", ">How everything was computed</h2>")
    part = text[text.index(ends[0]) : text.index(ends[1])]
    assert "9 training labels changed" in part and f"evaluated on {found['judged_on']['examples']:,}" in part
    assert f"Over all test examples: {conclusion(rows[0])}" in part and rows[0]["group"] == "all"
    assert found["placebo"] in part and part.count("<tr>") == 1 + min(len(rows), 60)
    for row in rows[:60]:
        figures = [share(row[name]) for name in ("original", "reviewed", "placebo")]
        gain = f"{100 * row['gain']:+.2f} ({100 * row['gain_low']:+.2f} to {100 * row['gain_high']:+.2f})"
        assert all(f"<td>{value}</td>" in part for value in [*figures, gain]), row["group"]


def test_the_report_loads_no_torch(scored_sample, tmp_path):
    import subprocess

    code = (
        "import sys; from scoring.cli import main; main(sys.argv[1:]); sys.exit(any(name in sys.modules for name in "
        "('torch', 'ray', 'umap', 'dashboard')))"
    )
    done = subprocess.run([sys.executable, "-c", code, "report", str(scored_sample), "-o", str(tmp_path / "r.html")])
    assert done.returncode == 0
    (scored_sample / "controls.parquet").unlink(missing_ok=True)
    (scored_sample / "controls.parquet.lock").unlink(missing_ok=True)
    (scored_sample / "reviews.sqlite").unlink(missing_ok=True)


def test_pictures_stop_at_the_budget():
    paper = Paper(lambda name: b"\x89PNG" + b"x" * 3000, budget=10_000)
    paper.sheet((f"e{at}", "caption") for at in range(5))
    assert paper.html("t").count("<img") == 2 and "e4" in paper.html("t")


def test_numbers_have_three_digits_and_charts_stand_still():
    assert (number(0.123456), number(12345.6), number(float("nan")), number(float("inf"))) == (
        "0.123",
        "12,346",
        "–",
        "∞",
    )
    assert share(0.0382) == "3.82 %" and rounded(0.5) == 0.6
    frame = pd.DataFrame(
        {"decile": [1, 2], "error": [0.1, float("nan")], "low": [0.05, float("nan")], "high": [0.2, float("nan")]}
    )
    assert bars(frame, "decile", "error", "x", EVIL).count("<rect") == 1
    assert "<script" not in bars(frame, "decile", "error", EVIL, EVIL)
    history = pd.DataFrame(
        {"decisions": [0, 50], "controls": [0, 20], "found": [0, 3], "low": [0, 0], "high": [100, 40]}
    )
    assert "goal" in stopping(history, 5)
