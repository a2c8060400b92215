"""Audits that many tests share: a small part of the sample project, trained and scored once per session."""

import atexit
import csv
import functools
import os
import random
import shutil
import sys
import tempfile
from importlib.resources import files
from pathlib import Path

import pytest
from filelock import FileLock

os.environ.setdefault("OMP_NUM_THREADS", "1")  # pytest-xdist runs one worker per core
os.environ["XDG_CONFIG_HOME"] = tempfile.mkdtemp(prefix="hardlook")  # whoever runs the tests has given no name
atexit.register(shutil.rmtree, os.environ["XDG_CONFIG_HOME"], ignore_errors=True)


LONGEST = (
    "scorers/test_neighbours.py",
    "test_readme.py",
    "browser/test_session.py",
    "browser/test_grid.py",
    "browser/test_team.py",
    "browser/test_pages.py",
    "browser/test_desk.py",
    "browser/test_comparing.py",
)
"""The files that take longest, in the order in which they begin: one that began last would leave the other cores idle.
The first compiles pynndescent, which the demo in the second then finds compiled in part."""


def pytest_collection_modifyitems(items):
    """The longest files first, the others as they were; pytest-xdist deals files out in this order."""
    rank = {Path(__file__).parent / name: at for at, name in enumerate(LONGEST)}
    items.sort(key=lambda item: rank.get(item.path, len(rank)))


def sample_project(folder: Path, *, train: int = 240, test: int = 120, pool: int = 20, epochs: int = 4) -> Path:
    """The sample project with fewer digits and epochs, its data written, not yet read."""
    folder.mkdir(parents=True)
    for name in ("audit.toml", "model.py", "data.py"):
        shutil.copy(str(files("sample_data") / name), folder / name)
    from sample_data import data

    data.write(folder / "data")
    for split, n in {"train": train, "test": test, "pool": pool}.items():
        path = folder / "data" / f"{split}.csv"
        lines = path.read_text().splitlines(keepends=True)
        path.write_text("".join(lines[: n + 1]))
        for unused in csv.DictReader([lines[0], *lines[n + 1 :]]):
            (folder / "data" / unused["path"]).unlink()  # every test that changes the sample copies all that is left
    config = (folder / "audit.toml").read_text()
    config = config.replace("epochs = 12", f"epochs = {epochs}").replace("expected_accuracy = 0.93\n", "")
    (folder / "audit.toml").write_text(config)
    return folder


def hardlook(*arguments: object) -> int:
    """Run one command in this process; returns its exit status."""
    from scoring.cli import main

    return main([str(argument) for argument in arguments])


@pytest.fixture(autouse=True, scope="session")
def components():
    """Streamlit's AppTest reads the metadata of every installed package in each run, for components of theirs, which
    takes longer than most pages: here once per worker. What it finds stays the same."""
    from streamlit.components.v2 import manifest_scanner

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            manifest_scanner, "scan_component_manifests", functools.cache(manifest_scanner.scan_component_manifests)
        )
        yield


@pytest.fixture(autouse=True)
def threads():
    """Libraries that are tested against (accelerate, lightning) set torch's threads for the whole process, and sums of
    two threads round differently: what follows in this worker gets the number back that it began with."""
    yield
    if (torch := sys.modules.get("torch")) is not None:
        torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))


@pytest.fixture(autouse=True)
def draws():
    """Tests that seed a library's own generator leave it as they found it: no test draws what another one left."""
    torch, numpy = sys.modules.get("torch"), sys.modules.get("numpy")
    before = random.getstate(), torch and torch.get_rng_state(), numpy and numpy.random.get_state()
    yield
    random.setstate(before[0])
    if torch:
        torch.set_rng_state(before[1])
    if numpy:
        numpy.random.set_state(before[2])


@pytest.fixture(scope="session")
def scored_sample(tmp_path_factory) -> Path:
    """A small sample project, trained and scored. Read only: copy it (``sample_copy``) to change it."""
    if "PYTEST_XDIST_WORKER" not in os.environ:
        return score_sample(tmp_path_factory.mktemp("audits") / "digits")
    folder = tmp_path_factory.getbasetemp().parent / "digits"  # of the workers together
    scored = folder.with_suffix(".scored")
    with FileLock(f"{folder}.lock"):
        if not scored.exists():
            score_sample(folder)
            scored.touch()
    return folder


def score_sample(folder: Path) -> Path:
    """Write, train and score a small sample project."""
    sample_project(folder)
    assert hardlook("train", folder) == 0
    assert hardlook("second-split", folder, "--seeds", 1, "--epochs", 2) == 0
    assert hardlook("holdout", folder, "--epochs", 2) == 0
    assert hardlook("self-supervise", folder, "--epochs", 2) == 0
    assert hardlook("score", folder) == 0
    return folder


@pytest.fixture
def sample_copy(scored_sample, tmp_path) -> Path:
    """A copy of the scored sample, to change at will."""
    return Path(shutil.copytree(scored_sample, tmp_path / "copy"))


@pytest.fixture
def python() -> str:
    """The interpreter that runs the tests."""
    return sys.executable
