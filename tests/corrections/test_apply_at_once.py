"""Two commands, or another program, change one dataset at once: nothing is lost, and who cannot go on says so."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from filelock import FileLock

from scoring.audit.errors import HardlookError
from scoring.corrections.apply import apply_to, manifest_target, undo, undo_record
from scoring.corrections.apply.target_lock import held, lock_path
from scoring.corrections.apply.targets import open_target

from .test_apply import content, files, patch

N = 120
APPLY = (
    "import sys, pathlib, time; from scoring.cli import main; ready, go, *command = sys.argv[1:]\n"
    "import scoring.corrections.apply.targets\n"
    "pathlib.Path(ready).touch()\n"
    "while not pathlib.Path(go).exists(): time.sleep(0.002)\n"
    "sys.exit(main(command))"
)


def made(root: Path, kind: str) -> Path:
    """A dataset of N pictures, all cats, as a folder or a manifest."""
    names = [f"cat/{number}.png" for number in range(N)]
    for name in names:
        (root / "data" / name).parent.mkdir(parents=True, exist_ok=True)
        (root / "data" / name).write_bytes(content(name))
    (root / "data/dog").mkdir()
    if kind == "folder":
        return root / "data"
    table = pa.table({"path": names, "label": ["cat"] * N})
    if kind == "parquet":
        pq.write_table(table, root / "data/train.parquet")
    else:
        table.to_pandas().to_csv(root / "data/train.csv", index=False)
    return root / f"data/train.{kind}"


def state(data: Path) -> dict[str, str]:
    """Relative path as it was at first → class, of those that are there."""
    if data.is_dir():
        return {f"cat/{Path(name).name}": name.partition("/")[0] for name in files(data)}
    frame = pd.read_csv(data) if data.suffix == ".csv" else pd.read_parquet(data)
    return dict(zip(frame["path"], frame["label"], strict=True))


def halves(root: Path) -> tuple[Path, Path]:
    """A patch that relabels the even rows up to 80, and one that leaves out the odd ones."""
    rows = [(f"cat/{number}.png", content(f"cat/{number}.png"), "cat") for number in range(80)]
    return (
        patch(root / "a.csv", *((*row, "dog", "relabel") for row in rows[::2])),
        patch(root / "b.csv", *((*row, None, "exclude") for row in rows[1::2])),
    )


EXPECTED = {
    f"cat/{number}.png": "dog" if number < 80 else "cat" for number in range(N) if number >= 80 or not number % 2
}


@pytest.mark.parametrize("kind", ["csv", "parquet", "folder"])
def test_two_patches_applied_at_once_are_both_applied_whole(tmp_path, kind):
    data = made(tmp_path, kind)
    before = state(data)
    running = [
        subprocess.Popen(
            [sys.executable, "-c", APPLY, tmp_path / f"ready-{at}", tmp_path / "go", "apply", each, data],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            cwd=Path(__file__).parents[2],
        )
        for at, each in enumerate(halves(tmp_path))
    ]
    while not all((tmp_path / f"ready-{at}").exists() for at in range(2)):
        assert all(process.poll() is None for process in running)
    (tmp_path / "go").touch()
    assert [process.wait() for process in running] == [0, 0]
    assert state(data) == EXPECTED
    assert open_target(data).applications == 2
    assert undo(open_target(data)) == [] and undo(open_target(data)) == []
    assert state(data) == before


@pytest.mark.parametrize("kind", ["csv", "parquet", "folder"])
def test_whoever_waits_too_long_leaves_with_one_sentence_and_changes_nothing(tmp_path, monkeypatch, kind):
    data, (one, _) = made(tmp_path, kind), halves(tmp_path)
    before = state(data)
    monkeypatch.setattr(undo_record, "held", lambda path: held(path, wait=0.05))
    with FileLock(lock_path(data)):
        for act in (lambda: apply_to(one, open_target(data)), lambda: undo(open_target(data))):
            with pytest.raises(HardlookError, match=f"another hardlook command is changing {data}; wait"):
                act()
    assert state(data) == before and open_target(data).applications == 0


def test_a_lock_that_an_undo_removed_is_no_lock_for_who_waited(tmp_path):
    data, inside, end = made(tmp_path, "csv"), threading.Event(), threading.Event()

    def second():
        with held(data):
            inside.set()
            end.wait(30)

    waiting = threading.Thread(target=second)
    with held(data):
        waiting.start()
        time.sleep(0.2)
        assert not inside.is_set()
        lock_path(data).unlink()
    assert inside.wait(30)
    with pytest.raises(HardlookError, match="another hardlook command"), held(data, wait=0.05):
        pass
    end.set()
    waiting.join()


def test_links_to_one_dataset_share_its_lock(tmp_path):
    data = made(tmp_path, "csv")
    (tmp_path / "folder").symlink_to(tmp_path / "data")
    (tmp_path / "train.csv").symlink_to(data)
    assert lock_path(tmp_path / "folder" / "train.csv") == lock_path(tmp_path / "train.csv") == lock_path(data)
    assert lock_path(tmp_path / "folder") == lock_path(tmp_path / "data")


def test_a_link_to_a_manifest_stays_a_link_and_what_it_leads_to_is_corrected_and_brought_back(tmp_path):
    data, (one, _) = made(tmp_path, "csv"), halves(tmp_path)
    before = data.read_bytes()
    os.chmod(data, 0o600)
    link = tmp_path / "data/latest.csv"
    link.symlink_to("train.csv")
    apply_to(one, open_target(link))
    assert link.is_symlink() and list(state(data).values()).count("dog") == 40
    assert data.stat().st_mode & 0o777 == 0o600, "who may read it is the user's matter"
    undo(open_target(data))
    assert data.read_bytes() == before


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_what_another_program_wrote_meanwhile_is_not_overwritten(tmp_path, monkeypatch, kind):
    data, (one, two) = made(tmp_path, kind), halves(tmp_path)
    apply_to(two, open_target(data))
    write = manifest_target.ManifestTarget._write

    def interrupted(self, out, cells, excluded):
        write(self, out, cells, excluded)
        data.write_bytes(b"path,label\nmine.png,cat\n")

    with monkeypatch.context() as patched:
        patched.setattr(manifest_target.ManifestTarget, "_write", interrupted)
        with pytest.raises(HardlookError, match=r"was changed by another program while .* run this command again"):
            apply_to(one, open_target(data))
    assert data.read_bytes() == b"path,label\nmine.png,cat\n"
    assert open_target(data).applications == 1, "the journal has the patch that was applied alone"
