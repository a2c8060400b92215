"""What a run's numbers depend on beside weights and data: all of the user's own code, and what it reads."""

import subprocess
import sys

import numpy as np
import pytest

from scoring.audit import Audit
from scoring.audit.code_fingerprint import code_digest
from scoring.audit.storage import read_vectors
from scoring.pipeline.predictions import RENEWED

from ..small_audits import MODEL, write_small_audit


def score(folder):
    """Score in a process of its own, as a user does after an edit; → (n, c) logits and what was printed."""
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys; from scoring.cli import main; sys.exit(main(sys.argv[1:]))",
            "score",
            str(folder),
            "--anyway",
            "--only",
            "uncertainty",
            "--device",
            "cpu",
        ],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return read_vectors(Audit.open(folder).run().logits_path)[1], done.stdout


def write(folder, name, text):
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(text, encoding="utf8")


WAYS = {
    "a module beside the file": ("model.py", "helper.py", "from helper import net, transform\n"),
    "an import inside a function": (
        "model.py",
        "helper.py",
        "def net():\n    from helper import net\n    return net()\n\n"
        "def transform(image):\n    from helper import transform\n    return transform(image)\n",
    ),
    "a relative import in a package": ("nets/__init__.py", "nets/inner.py", "from .inner import net, transform\n"),
}


@pytest.mark.parametrize("way", WAYS)
def test_numbers_follow_code_that_is_imported(way, tmp_path):
    folder = write_small_audit(tmp_path / "audit")
    outer, inner, text = WAYS[way]
    (folder / "model.py").unlink()
    write(folder, outer, text)
    write(folder, inner, MODEL)
    if outer != "model.py":
        toml = folder / "audit.toml"
        toml.write_text(toml.read_text().replace("model.py:", "nets:"))
    before, _ = score(folder)
    write(folder, inner, MODEL.replace("nn.ReLU()", "nn.Sigmoid()"))
    after, _ = score(folder)
    write(folder, inner, MODEL.replace("/ 255", "/ 128"))
    other_inputs, _ = score(folder)
    assert abs(after - before).max() > 1e-3 and abs(other_inputs - before).max() > 1e-3


def test_logits_that_no_digest_explains_are_found_and_said(tmp_path):
    folder = write_small_audit(tmp_path / "audit")
    write(folder, "scale.txt", "1.0")
    write(
        folder,
        "model.py",
        MODEL.replace("/ 255", "/ 255 * float(open(__file__.replace('model.py', 'scale.txt')).read())"),
    )
    before, _ = score(folder)
    kept, printed = score(folder)
    assert RENEWED not in printed and np.array_equal(kept, before)
    write(folder, "scale.txt", "2.0")
    after, printed = score(folder)
    assert RENEWED in printed and abs(after - before).max() > 1e-3
    assert RENEWED in Audit.open(folder).run().record()["notes"]["predictions"]
    settled, printed = score(folder)
    assert "predictions: 0 of" in printed and np.array_equal(settled, after)


def test_code_that_is_not_imported_changes_nothing(tmp_path):
    write(tmp_path, "model.py", "def net(): pass\n")
    before = code_digest("model.py:net", tmp_path)
    write(tmp_path, "notebook.py", "x = 1\n")
    assert code_digest("model.py:net", tmp_path) == before
    assert code_digest("model:net", tmp_path) == before
    assert code_digest("absent.py:net", tmp_path) is None
