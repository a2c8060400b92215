"""Data and trainings as users have them, small enough for a test."""

from pathlib import Path

import pytest
from PIL import Image

from tests.small_audits import striped


def write_images(root: Path, counts: dict[str, int], names: tuple[str, ...] = ("cat", "dog", "eel")) -> Path:
    """Striped RGB images of 40 × 32 pixels: folders of splits with one folder per class (the stripe's place)."""
    for split, count in counts.items():
        for number, name in enumerate(names):
            (root / split / name).mkdir(parents=True)
            for at in range(count):
                picture = Image.fromarray(striped(number % 3, 100 * number + at + 1000 * len(split)))
                picture.convert("RGB").resize((40, 32)).save(root / split / name / f"{at}.png")
    return root


@pytest.fixture
def work(tmp_path, monkeypatch):
    """A working directory with ``images/train`` and ``images/test``; commands are typed there."""
    monkeypatch.chdir(tmp_path)
    write_images(tmp_path / "images", {"train": 8, "test": 4})
    return tmp_path
