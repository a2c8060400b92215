"""Commands on a read-only audit, under an ASCII locale, and where the system gives no further thread."""

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from scoring.commands import check

from .conftest import hardlook
from .small_audits import write_small_audit

ROOT = Path(__file__).parents[1]
WITHOUT_RIGHTS = ["setpriv", "--bounding-set=-dac_override,-dac_read_search,-fowner"]
"""As root a folder is read-only only without these capabilities."""


def run(*arguments: object, before: Sequence[str] = (), **environment: str) -> subprocess.CompletedProcess:
    command = [*before, sys.executable, "-m", "scoring.cli", *map(str, arguments)]
    known = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **environment}
    return subprocess.run(command, capture_output=True, text=True, encoding="utf8", env=known, cwd=ROOT)


@pytest.fixture
def read_only(tmp_path):
    """(folder, the words before a command): a scored audit that the command cannot write."""
    before = []
    if os.geteuid() == 0:
        if not shutil.which("setpriv"):
            pytest.skip("root writes everywhere, and there is no setpriv")
        before = WITHOUT_RIGHTS
    folder = write_small_audit(tmp_path / "audit")
    assert hardlook("score", folder, "--only", "uncertainty") == 0
    assert hardlook("export", folder) == 0  # makes the log
    paths = [folder, *folder.rglob("*")]
    for path in paths:
        path.chmod(0o555 if path.is_dir() else 0o444)
    yield folder, before
    for path in paths:
        path.chmod(0o755 if path.is_dir() else 0o644)


def test_a_read_only_audit_is_exported_and_reported_elsewhere(read_only, tmp_path):
    folder, before = read_only
    held = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    for fmt in ("csv", "parquet", "imagefolder", "cleanlab", "fiftyone"):
        done = run("export", folder, "--format", fmt, "--out", tmp_path / fmt, before=before)
        assert (done.returncode, done.stderr) == (0, "") and any((tmp_path / fmt).iterdir()), done.stderr
    for name in ("a.html", "b.html"):
        done = run("report", folder, "-o", tmp_path / name, before=before)
        assert (done.returncode, done.stderr) == (0, "") and (tmp_path / name).stat().st_size > 10_000, done.stderr
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == held
    done = run("export", folder, before=before)
    assert done.returncode == 1 and done.stderr.startswith("hardlook export: Permission denied: ")


@pytest.mark.skipif(sys.platform == "win32", reason="names of files are Unicode there")
def test_an_ascii_locale_reads_names_as_the_users_shell_does(tmp_path):
    folder = write_small_audit(tmp_path / "prüfung 検")
    for split in ("train", "test"):
        (folder / split / "c").rename(folder / split / "ç")
    config = folder / "audit.toml"
    config.write_text(config.read_text(encoding="utf8").replace('"c"', '"ç"'), encoding="utf8")
    ascii_only = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    for command in (("score", "--only", "uncertainty"), ("export", "--format", "imagefolder", "--out", tmp_path / "é")):
        done = run(command[0], folder, *command[1:], **ascii_only)
        assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr
    assert {path.name for path in (tmp_path / "é" / "train").iterdir()} == {"a", "b", "ç"}


def test_a_system_that_gives_no_thread_is_told_in_one_sentence_and_other_errors_are_bugs(tmp_path, capsys, monkeypatch):
    def without_thread(options):
        raise RuntimeError("can't start new thread")

    def with_bug(options):
        raise RuntimeError("another")

    folder = write_small_audit(tmp_path / "audit")
    monkeypatch.setattr(check, "check", without_thread)
    assert hardlook("check", folder) == 1
    said = capsys.readouterr().err
    assert said.startswith("hardlook check: the system allows this user no further thread;") and said.count("\n") == 1
    monkeypatch.setattr(check, "check", with_bug)
    with pytest.raises(RuntimeError, match="another"):
        hardlook("check", folder)
