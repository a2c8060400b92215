"""The audit: its settings, and the paths of all its files.

An *audit* is a folder with an ``audit.toml``; a *run* (``scoring.audit.run``) is one model's pass over its
examples. These two are the only rooms that know file names: everybody else asks an ``Audit`` or a ``Run`` for
a path. All paths inside the folder are relative to it, so the folder can be moved. What ``audit.toml`` may
hold stands in ``scoring.audit.config``.

Inputs → outputs: a folder → an ``Audit`` with its configuration checked, key by key; cost: one small file
read. Limits: one label per example; ``audit.toml`` of format 1.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scoring.audit.config import SPLITS, check_config
from scoring.audit.errors import HardlookError
from scoring.audit.real_path import real_path
from scoring.audit.roles import check_roles
from scoring.audit.run import Run, can_name_run
from scoring.audit.storage import BlobStore

__all__ = ["SPLITS", "Audit", "Run", "can_name_run", "check_config"]

CONFIG = "audit.toml"
DEFAULT_ISSUES = ("bad image", "duplicate", "several objects", "guideline gap")


def read_config(path: Path) -> dict[str, Any]:
    """A file of settings, checked. Anything wrong is one ``HardlookError`` naming key, found and needed."""
    try:
        return check_config(
            tomllib.loads(path.read_text(encoding="utf-8-sig"))
        )  # some editors begin a file with a mark
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise HardlookError(f"{path} is not valid TOML: {error}") from error
    except RecursionError as error:
        raise HardlookError(f"{path} is nested too deeply to be read; write its values as tables") from error
    except OSError as error:
        raise HardlookError(f"{path} cannot be read: {error.strerror}; give it back and make it readable") from error


@dataclass(frozen=True)
class Audit:
    """One audited dataset: its folder, its checked configuration, and the paths of its files."""

    root: Path
    config: Mapping[str, Any]

    @classmethod
    def open(cls, folder: str | Path) -> Audit:
        """Read and check ``audit.toml``. Anything wrong is one ``HardlookError`` naming key, found and needed."""
        if "\0" in str(folder):
            raise HardlookError(f"{str(folder)!r} is not a path: it holds a NUL character; remove it")
        root = real_path(folder)
        path = root / CONFIG if root.is_dir() else root
        if path.is_file() and path.name != CONFIG:  # whoever opens the folder again (a worker, a page) reads audit.toml
            raise HardlookError(
                f"{path.name} is not named {CONFIG}, the only settings file that an audit reads; put it into a folder "
                "of its own under that name"
            )
        if not path.is_file():
            raise HardlookError(f"no audit at {folder}: there is no audit.toml; `hardlook new {folder}` makes one")
        return cls(path.parent, read_config(path))

    @property
    def name(self) -> str:
        """The audit's title, else its folder's name."""
        return self.config.get("name") or self.root.name

    @property
    def media(self) -> str:
        """image, vector or text."""
        return self.config.get("media", "image")

    @property
    def classes(self) -> list[str]:
        """Class names in the order of the model's outputs."""
        return list(self.config.get("classes", []))

    @property
    def issues(self) -> list[str]:
        """Returns what can be wrong with an example besides its label."""
        return list(self.config.get("issues", DEFAULT_ISSUES))

    @property
    def policy(self) -> dict[str, Any]:
        """``[policy]``: what becomes of an example with each verdict or issue."""
        return dict(self.config.get("policy", {}))

    @property
    def roles(self) -> dict[str, tuple[str, ...]]:
        """``[roles]``: role → names (``scoring.audit.roles``)."""
        return check_roles(self.config.get("roles", {}))

    @property
    def access(self) -> dict[str, Any]:
        """``[access]``: how a server identifies users: trusted proxies, their header, the public address."""
        return dict(self.config.get("access", {}))

    @property
    def goal(self) -> dict[str, Any]:
        """``[goal]``: how many wrong labels may remain (error_rate), how sure (confidence), within which budget."""
        return dict(self.config.get("goal", {}))

    @property
    def seed(self) -> int:
        """The one seed of everything random about this audit."""
        return int(self.config.get("seed", 0))

    @property
    def sources(self) -> list[dict[str, Any]]:
        """The ``[[data]]`` tables."""
        return [dict(source) for source in self.config.get("data", [])]

    @property
    def truth(self) -> dict[str, Any] | None:
        """``[truth]``: where verified labels lie; never shown to reviewers."""
        return self.config.get("truth")

    def path(self, reference: str) -> Path:
        """A path as audit.toml or a table writes it: absolute, or relative to the audit folder."""
        return real_path(self.root / os.path.expanduser(reference))

    def reference(self, path: Path) -> str:
        """The inverse of ``path``: relative inside the audit folder, absolute outside."""
        path = real_path(path)
        return path.relative_to(self.root).as_posix() if path.is_relative_to(self.root) else path.as_posix()

    @property
    def config_path(self) -> Path:
        """Returns what is audited: ``audit.toml``."""
        return self.root / CONFIG

    @property
    def examples_path(self) -> Path:
        """The example table."""
        return self.root / "examples.parquet"

    @property
    def columns_path(self) -> Path:
        """Of vectors: centre and spread of each column within each class."""
        return self.root / "columns.parquet"

    @property
    def ingest_path(self) -> Path:
        """Returns what the last reading of the data found."""
        return self.root / "examples.json"

    @property
    def ingest_folder(self) -> Path:
        """Returns what reading the data remembers for the next time, and its lock."""
        return self.root / "parts" / "examples"

    @property
    def thumbnails(self) -> BlobStore:
        """Pictures of at most 256 pixels, by example_id."""
        return BlobStore(self.root / "thumbnails.arrow")

    @property
    def originals(self) -> BlobStore:
        """The originals of examples that are not files, by example_id."""
        return BlobStore(self.root / "media.arrow")

    @property
    def log_url(self) -> str:
        """The review log's default place."""
        return f"sqlite:///{self.root / 'reviews.sqlite'}"

    def log_name(self, url: str) -> str:
        """The key under which a review log keeps this audit's events: ``id`` in audit.toml.

        The audit's own log needs none; a log elsewhere, which other audits may share, is refused without one. The
        title (``name``) is no key: it may be edited without losing a decision.
        """
        if "id" in self.config:
            return str(self.config["id"])
        if url == self.log_url:
            return "audit"
        raise HardlookError(
            f"the log at {url.split('@')[-1]} can hold several audits, which are distinguished by their id; add id = "
            '"a-permanent-name" to audit.toml'
        )

    @property
    def controls_path(self) -> Path:
        """The random order in which controls are drawn, fixed when the audit starts."""
        return self.root / "controls.parquet"

    @property
    def guidelines_path(self) -> Path:
        """The labelling guidelines, where the team keeps some."""
        return self.root / "guidelines.md"

    @property
    def exports_folder(self) -> Path:
        """Returns where patches go by default."""
        return self.root / "exports"

    @property
    def jobs_folder(self) -> Path:
        """Records of commands that a page started."""
        return self.root / "jobs"

    def run_names(self) -> list[str]:
        """Configured runs in the order of audit.toml, then those that only have files."""
        named = list(self.config.get("run", {}))
        for left in (self.root / "runs").glob(".*.old"):
            Run(left.name[1:-4], self.root).put_back()
        on_disk = sorted(path.parent.name for path in (self.root / "runs").glob("[!.]*/run.json"))
        return named + [name for name in on_disk if name not in named]

    def run(self, name: str | None = None) -> Run:
        """The run of that name; the first one where no name is given."""
        names = self.run_names()
        if name is None:
            if not names:
                raise HardlookError("audit.toml has no [run.<name>] table; add one with model and checkpoints")
            name = names[0]
        if name not in names:
            raise HardlookError(f"there is no run {name!r}; runs are: {', '.join(names) or 'none'}")
        return Run(name, self.root, self.config.get("run", {}).get(name, {}))
