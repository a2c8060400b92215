"""Paths as ``audit.toml`` writes them, and the folders of splits that lie below one path.

``written`` turns a path of the command line into one that starts at the audit's folder; ``split_folders`` finds
``train``, ``val`` and ``test`` below a folder. Inputs → outputs: paths → text, or (split, path, reason). Cost: one look
into a folder. Known limits: a validation set counts as held out, so it becomes a test split.
"""

from __future__ import annotations

import glob
import os
import re
from pathlib import Path

from scoring.audit.errors import HardlookError
from scoring.audit.real_path import real_path

SPLIT_WORDS = {
    "train": "train",
    "training": "train",
    "trn": "train",
    "test": "test",
    "testing": "test",
    "tst": "test",
    "eval": "test",
    "evaluation": "test",
    "val": "test",
    "valid": "test",
    "validation": "test",
    "dev": "test",
    "holdout": "test",
    "pool": "pool",
    "unlabeled": "pool",
    "unlabelled": "pool",
}
"""What people call their splits → the split of hardlook."""


def existing(path: str | Path, what: str) -> Path:
    """A path of the command line that must be there; raises ``HardlookError`` naming the option and what lies near."""
    place = Path(path).expanduser()
    if place.exists():
        return place
    near = place.parent
    while not near.is_dir() and near != near.parent:
        near = near.parent
    names = sorted(each.name for each in near.iterdir() if not each.name.startswith("."))
    listed = f"{', '.join(names[:6])}{', …' if len(names) > 6 else ''}" if names else "nothing"
    raise HardlookError(f"{what} {path}: there is nothing there; {near} holds {listed}; correct the path")


def written(path: str | Path, folder: str | Path) -> str:
    """A path as ``audit.toml`` in ``folder`` writes it: relative where both lie in one project, else absolute.

    >>> written("/data/a/train", "/data/my-audit"), written("/elsewhere/train", "/home/me/my-audit")
    ('../a/train', '/elsewhere/train')
    """
    place, start = os.path.abspath(Path(path).expanduser()), os.path.abspath(folder)
    parent = os.path.dirname(start)
    near = parent != os.path.dirname(parent) and os.path.commonpath([place, parent]) == parent
    text = os.path.relpath(real_path(place) if not near else place, real_path(start) if not near else start)
    return Path(text if near else place).as_posix()


def split_of(name: str) -> str | None:
    """The split that a file's or folder's name speaks of; None where it speaks of none or of several.

    >>> split_of("train-00000-of-00002.parquet"), split_of("val"), split_of("cats"), split_of("train_test")
    ('train', 'test', None, None)
    """
    words = [word for word in re.split(r"[^a-z]+", name.casefold()) if word]
    found = {SPLIT_WORDS[word] for word in words if word in SPLIT_WORDS}
    return found.pop() if len(found) == 1 else None


def split_folders(place: Path) -> list[tuple[str, Path]]:
    """The folders below ``place`` that are its splits, train first; none where its folders are something else.

    A folder ``train`` must be among them, and no folder that speaks of no split: classes may be called "test" too.
    """
    inner = sorted(each for each in place.iterdir() if each.is_dir() and not each.name.startswith((".", "__MACOSX")))
    named = [(SPLIT_WORDS.get(each.name.casefold(), ""), each) for each in inner]
    splits = [split for split, _ in named]
    if "train" not in splits or "" in splits:
        return []
    return sorted(named, key=lambda each: ("train", "test", "pool").index(each[0]))


def held_out_beside(place: Path) -> Path | None:
    """The folder of held-out data beside a folder ``train``, which the command did not name; None where none is."""
    if not place.is_dir() or SPLIT_WORDS.get(place.name.casefold()) != "train":
        return None
    return next((path for split, path in split_folders(place.absolute().parent) if split == "test"), None)


def shard_patterns(place: Path) -> list[tuple[str, str]]:
    """(split, pattern of its files) for the tar shards of a folder whose names speak of splits (``train-000000.tar``),
    train first; none where no name does, or all speak of one.

    Raises ``HardlookError`` where only some names do: the others may be of any split.
    """
    files = sorted(each.name for each in place.iterdir() if each.suffix.lower() == ".tar")
    named = {file: split_of(Path(file).stem) for file in files}
    splits = {split for split in named.values() if split}
    if not splits or (len(splits) == 1 and None not in named.values()):
        return []
    if unknown := next((file for file, split in named.items() if split is None), None):
        known = next(file for file, split in named.items() if split)
        raise HardlookError(
            f"{place} holds {known}, which names its split, and {unknown}, which names none; move the shards of each "
            "split into a folder of its own, and name them with --train and --test"
        )
    words: dict[tuple[str, str], list[str]] = {}
    for file, split in named.items():
        word = next(each for each in re.split(r"[^a-z]+", file.casefold()) if each in SPLIT_WORDS)
        words.setdefault((str(split), word), []).append(file)
    found = []
    for (split, _), own in words.items():
        start = os.path.commonprefix(own)  # noqa: RUF071  the common characters are meant
        alone = len(own) == 1 or [file for file in files if file.startswith(start)] != own
        found += [(split, glob.escape(file)) for file in own] if alone else [(split, f"{glob.escape(start)}*.tar")]
    return sorted(found, key=lambda each: ("train", "test", "pool").index(each[0]))


def unwritten(value: object, folder: Path) -> Path:
    """The last path that a line ``checkpoints`` names."""
    text = str(value[-1]) if isinstance(value, list) else str(value)
    hits = sorted(glob.glob(os.path.normpath(folder / text), recursive=True))
    return Path(hits[-1] if hits else os.path.normpath(folder / text))
