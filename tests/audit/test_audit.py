"""audit.toml is checked key by key, and an audit's folder can be moved."""

import subprocess
import sys
import textwrap

import pytest

from scoring.audit import Audit
from scoring.audit.errors import HardlookError

GOOD = """
format = 1
classes = ["cat", "dog"]
[[data]]
split = "train"
path = "images"
[run.main]
model = "model.py:net"
checkpoints = "ckpt/*.pt"
expected_accuracy = 0.9
[run.other]
model = "resnet18"
"""


def audit_of(folder, text):
    folder.mkdir(exist_ok=True)
    (folder / "audit.toml").write_text(textwrap.dedent(text))
    return Audit.open(folder)


def test_a_good_audit_opens(tmp_path):
    audit = audit_of(tmp_path / "my audit", GOOD)
    assert (audit.name, audit.media, audit.classes) == ("my audit", "image", ["cat", "dog"])
    assert audit.run_names() == ["main", "other"]
    assert audit.run().name == "main"
    assert audit.run("other").config["model"] == "resnet18"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("format = 1", ""), "no format"),
        (("format = 1", "format = 2"), "format 2, but this version of hardlook reads formats up to 1; upgrade"),
        (("format = 1", "format = true"), "format = True; needed 1"),
        (('classes = ["cat", "dog"]', 'clases = ["cat"]'), "unknown key 'clases'; did you mean 'classes'"),
        (('"cat", "dog"', '"cat", "cat"'), "'cat' is listed twice"),
        (('"cat", "dog"', '"cat", 1'), r'classes holds 1; needed non-empty strings: classes = \["cat", "1"\]$'),
        (('"cat", "dog"', "1, 2, 3, 4"), r'classes holds 1; needed non-empty strings: classes = \["1", "2", "3", …\]$'),
        (('"cat", "dog"', '"cat", ""'), "classes holds ''; needed non-empty strings$"),
        (('classes = ["cat", "dog"]', 'classes = "cat"'), "classes = 'cat'; needed a list"),
        (('split = "train"', 'split = "val"'), "split = 'val'; needed one of train, test, pool"),
        (("[[data]]", "[data]"), "names no data"),
        (("expected_accuracy = 0.9", "expected_accuracy = 93"), "needed a share between 0 and 1"),
        (("expected_accuracy = 0.9", "expected_acuracy = 0.9"), "did you mean 'expected_accuracy'"),
        (('checkpoints = "ckpt/*.pt"', "checkpoints = 3"), "checkpoints = 3; needed a glob such as"),
        (
            ('checkpoints = "ckpt/*.pt"', "checkpoints = []"),
            "checkpoints = \\[\\]; needed a glob such as .* or a list of them",
        ),
        (('checkpoints = "ckpt/*.pt"', 'checkpoints = ["a.pt", 3]'), "needed a glob such as .* or a list of them"),
        (
            ('checkpoints = "ckpt/*.pt"', 'weights = "ema"'),
            "weights = 'ema' names a kind of weights, but .*averaged = true",
        ),
        (
            ('checkpoints = "ckpt/*.pt"', 'weights = "Plain"'),
            "weights = 'Plain' names a kind of weights, but",
        ),
        (("[run.other]", '[run."a/b"]'), "'a/b' cannot be the name of a run"),
        (("format = 1", "format = = 1"), "not valid TOML"),
        (("format = 1", 'format = 1\nmedia = "sound"'), "media = 'sound'; needed one of image, vector, text"),
    ],
)
def test_each_mistake_names_the_key_and_what_was_needed(tmp_path, change, message):
    assert change[0] in GOOD
    with pytest.raises(HardlookError, match=message):
        audit_of(tmp_path, GOOD.replace(*change))


def test_a_missing_audit_says_how_to_make_one(tmp_path):
    with pytest.raises(HardlookError, match="hardlook new"):
        Audit.open(tmp_path)


def test_an_unknown_run_lists_the_runs(tmp_path):
    with pytest.raises(HardlookError, match="no run 'best'; runs are: main, other"):
        audit_of(tmp_path, GOOD).run("best")


def test_references_survive_a_move_of_the_folder(tmp_path):
    audit = audit_of(tmp_path / "one", GOOD)
    inside, outside = audit.root / "images" / "a.png", tmp_path / "elsewhere" / "b.png"
    kept = audit.reference(inside), audit.reference(outside)
    (tmp_path / "one").rename(tmp_path / "two")
    moved = Audit.open(tmp_path / "two")
    assert moved.path(kept[0]) == moved.root / "images" / "a.png"
    assert moved.path(kept[1]) == outside


def test_a_log_elsewhere_needs_an_id_that_stays(tmp_path):
    audit = audit_of(tmp_path, GOOD)
    assert audit.log_name(audit.log_url) == "audit"
    with pytest.raises(HardlookError, match="add id ="):
        audit.log_name("postgresql+psycopg://someone:secret@host/db")
    named = audit_of(tmp_path, GOOD.replace("format = 1", 'format = 1\nid = "cats"'))
    assert named.log_name("postgresql+psycopg://host/db") == "cats"


def test_the_error_about_a_shared_log_hides_its_password(tmp_path):
    with pytest.raises(HardlookError) as error:
        audit_of(tmp_path, GOOD).log_name("postgresql+psycopg://someone:secret@host/db")
    assert "secret" not in str(error.value)


def test_a_second_writer_of_a_run_leaves(tmp_path):
    run = audit_of(tmp_path, GOOD).run()
    code = "import sys; from scoring.audit import Audit\nwith Audit.open(sys.argv[1]).run().lock(): pass"
    with run.lock():
        done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True)
    assert "another hardlook command is writing run 'main'" in done.stderr
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path)]).returncode == 0


def test_facts_are_added_to_the_record_and_the_rest_is_kept(tmp_path):
    run = audit_of(tmp_path, GOOD).run()
    run.add_to_record(a=1, b=2)
    run.add_to_record(b=3)
    assert run.record() == {"a": 1, "b": 3}


def test_the_settings_lie_in_audit_toml_and_in_no_other_file(tmp_path):
    """Workers and pages open the folder again: they would read audit.toml, and score another model in silence."""
    audit = audit_of(tmp_path, GOOD)
    assert audit.config_path == tmp_path / "audit.toml" and Audit.open(audit.config_path) == audit
    (tmp_path / "variant.toml").write_text((tmp_path / "audit.toml").read_text())
    with pytest.raises(HardlookError, match="variant.toml is not named audit.toml"):
        Audit.open(tmp_path / "variant.toml")


@pytest.mark.parametrize("linked", ["audit", "audit/audit.toml"])
def test_an_audit_that_is_linked_to_itself_is_no_audit(tmp_path, linked):
    link = tmp_path / linked
    link.parent.mkdir(exist_ok=True)
    link.symlink_to(link.name)
    with pytest.raises(HardlookError, match="there is no audit.toml"):
        Audit.open(tmp_path / "audit")


@pytest.mark.parametrize("reference", ["loop/data.csv", "~nobody-of-that-name/data.csv"])
def test_a_reference_that_cannot_be_followed_is_a_path_where_nothing_is(tmp_path, reference):
    audit = audit_of(tmp_path, GOOD)
    (tmp_path / "loop").symlink_to("loop")
    assert audit.path(reference) == tmp_path.resolve() / reference and not audit.path(reference).exists()
