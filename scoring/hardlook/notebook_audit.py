"""``hardlook.audit`` and ``hardlook.open``: an audit as an object, with its results as data frames.

What needs the model is computed in this process; the folder then serves `hardlook dashboard`, `slice`, `export` and
`report` without it. Inputs → outputs: datasets and a model → ``Audit``. Cost: that of the scores asked for.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from scoring.audit import Audit as Folder
from scoring.audit import Run
from scoring.audit.errors import HardlookError
from scoring.audit.in_process import one_process

if TYPE_CHECKING:
    from torch import nn

    from .served import Served

FIRST = 12
"""Suspects that an audit shows of itself."""

Checkpoints = str | os.PathLike[str] | Iterable[str | os.PathLike[str]] | None


def audit(
    train: Any = None,
    test: Any = None,
    pool: Any = None,
    *,
    folder: str | os.PathLike[str] = "hardlook-audit",
    model: nn.Module | Callable[..., nn.Module] | str | None = None,
    checkpoints: Checkpoints = None,
    transform: Callable[[Any], Any] | str | Mapping[str, Any] | None = None,
    classes: Iterable[object] | None = None,
    media: str | None = None,
    pred_probs: Mapping[str, Any] | None = None,
    features: Mapping[str, Any] | None = None,
    out_of_fold: bool = False,
    scores: str | Sequence[str] | None = "quick",
    device: str = "auto",
    anyway: bool = False,
) -> Audit:
    """Returns an audit of datasets in ``folder``, scored as far as ``scores`` says.

    ``train``, ``test``, ``pool``: a map-style dataset of PyTorch, a dataset of Hugging Face, a data frame with a column
    of paths, texts or numbers, a tuple (inputs, labels), or a path that audit.toml could name. ``model``: a module, a
    function that makes one, or how audit.toml names one; its weights are those of ``checkpoints`` (paths or globs, in
    order of training), else those that a ``Recorder`` kept in the folder, else its own as they are now. ``transform``:
    original → tensor, for evaluation, or a tokenizer or image processor of Hugging Face; default: the datasets' own.
    ``classes``: names in the order of the outputs. ``pred_probs``, ``features``: instead of a model, (n, c) and (n, d)
    by split; ``out_of_fold``: those of train come from a cross-validation. ``scores``: "quick" (predictions, label
    quality, neighbours, suspicion), "all", a list of names, or None; ``anyway``: even if the check finds errors.
    Running the same cell again computes only what changed.
    """
    from scoring.pipeline.given_predictions import refuse_other_rows
    from scoring.setup.in_memory_audit import in_memory_audit, make_folder, written_mark

    data = {"train": train, "test": test, "pool": pool}
    if isinstance(scores, str) and scores not in ("quick", "all"):
        raise HardlookError(f'scores = {scores!r}; needed "quick", "all", a list of names such as ["vog"], or None')
    if model is not None and pred_probs is not None:
        raise HardlookError("found model and pred_probs; needed one of them: predictions come from the model")
    place = Path(folder).expanduser()
    make_folder(place)
    with one_process(place):
        made = in_memory_audit(
            place,
            data,
            model=model,
            checkpoints=checkpoints,
            transform=transform,
            classes=classes,
            media=media,
        )
        found = Audit(made.root)
        found._mark = written_mark(made.root)
        if pred_probs is not None:
            refuse_other_rows(data, pred_probs, features)
            found._import(pred_probs, features, out_of_fold)
        if scores is not None and (model is not None or pred_probs is not None):
            only = None if isinstance(scores, str) else scores
            found.score(only, quick=scores == "quick", device=device, anyway=anyway)
    return found


def open(folder: str | os.PathLike[str]) -> Audit:
    """Returns an audit that is there, whatever made it."""
    if not isinstance(folder, (str, os.PathLike)):
        raise HardlookError(f"folder: found {type(folder).__name__}; needed the path of an audit")
    return Audit(Folder.open(os.fspath(folder)).root)


class Audit:
    """One audit and its first run. It stands for its folder wherever a path is taken (``Recorder(audit, net)``)."""

    def __init__(self, folder: Path, run: str | None = None) -> None:
        self.folder, self._run_name = folder, run
        self.messages: list[str] = []
        """What computing had to say, one sentence each."""
        self._served: Served | None = None
        self._mark: str | None = None

    def __fspath__(self) -> str:
        return str(self.folder)

    @property
    def _audit(self) -> Folder:
        if self._mark is not None:
            from scoring.setup.in_memory_audit import written_mark

            if written_mark(self.folder) not in (None, self._mark):
                raise HardlookError(
                    f"{self.folder} was written anew since, by another cell or notebook; run the cell of this audit "
                    "again, or choose a folder of its own"
                )
        return Folder.open(self.folder)

    @property
    def _run(self) -> Run:
        audit = self._audit
        if not audit.run_names():
            raise HardlookError(f"nothing is scored in {self.folder} yet; score it with audit.score(model=net)")
        return audit.run(self._run_name)

    # -- computing ---------------------------------------------------------------------------------------------------

    def score(
        self,
        only: Sequence[str] | None = None,
        *,
        quick: bool = False,
        within: float | None = None,
        model: nn.Module | Callable[..., nn.Module] | str | None = None,
        checkpoints: Checkpoints = None,
        device: str = "auto",
        anyway: bool = False,
        settings: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> Audit:
        """Compute scores, and return the audit. ``only``: names of scores; ``quick``: stop once the queue is ready;
        ``within``: seconds that all may take. ``model``: one that was trained since the audit was made. ``settings``:
        score → setting → value. Raises ``HardlookError`` where the check finds errors, unless ``anyway``."""
        from scoring.pipeline.score_audit import score_audit
        from scoring.pipeline.score_order import left_out

        if model is not None or checkpoints is not None:
            from scoring.setup.in_memory_audit import with_model, written_mark

            with one_process(self.folder):
                with_model(self._audit, model, checkpoints)
                self._mark = self._mark and written_mark(self.folder)
        try:
            summary = score_audit(
                self._audit,
                self._run,
                device=device,
                only=only,
                quick=quick,
                within=within,
                settings=settings,
                anyway=anyway,
                progress=bar,
                say=self._say,
            )
        except HardlookError as error:
            raise HardlookError(self._here(str(error))) from error
        self.messages += map(self._here, [*summary.notes, *left_out(summary.skipped)])
        return self

    def _here(self, text: str) -> str:
        """A sentence of a command, with what does the same here."""
        return (
            text.replace(f"`hardlook score {self.folder}`", "audit.score()")
            .replace(f"hardlook dashboard {self.folder}", "audit.show()")
            .replace("score with --anyway", "pass anyway=True")
        )

    def _say(self, text: str) -> None:
        text = self._here(text)
        self.messages.append(text)
        if "check: warning" in text or "check: error" in text or "cannot be read" in text:
            print(f"hardlook: {text}")

    def _import(self, p: Mapping[str, Any], features: Mapping[str, Any] | None, out_of_fold: bool) -> None:
        from scoring.pipeline.given_predictions import import_given

        self._run_name = import_given(self._audit, p, features, out_of_fold, progress=bar, say=self._say)

    # -- results -----------------------------------------------------------------------------------------------------

    def scores(self) -> pd.DataFrame:
        """Returns one row per example: label, prediction, and every score as ``<scorer>.<column>``."""
        from scoring.report.data_frames import score_frame

        return score_frame(self._audit, self._run)

    def suspects(self, n: int = 50, split: str | None = None, by: str | None = None) -> pd.DataFrame:
        """Returns the n examples whose label is most suspicious, with the suggested label. ``split``: default: train,
        or test where there is no other. ``by``: another score."""
        from scoring.report.data_frames import first_split, suspect_frame

        run = self._run
        if not isinstance(n, int) or n < 0:
            raise HardlookError(f"n = {n!r}; needed how many suspects, a whole number")
        split = first_split(self._audit) if split is None else split
        return suspect_frame(self._audit, run, n, split, by)

    def slices(self, n: int | None = None, split: str = "test") -> pd.DataFrame:
        """Returns groups of examples on which the model fails for the same reason, worst first. ``n``: how many;
        default: 25, or as many as a small split bears. What they need (influence embeddings) is computed where it is
        not there yet."""
        from scoring.report.data_frames import slice_frame

        if not self._run.influence_path.is_file():
            self.score(["influence"])
        return slice_frame(self._audit, self._run, n, split)

    def decisions(self) -> pd.DataFrame:
        """Returns what reviewers decided, one row per example."""
        from scoring.report.data_frames import decision_frame

        return decision_frame(self._audit)

    def corrected_labels(self) -> pd.DataFrame:
        """Returns the labels as the review left them; ``changed`` marks those that differ."""
        from scoring.report.data_frames import corrected_frame

        return corrected_frame(self._audit)

    def refit(self, device: str = "auto") -> pd.DataFrame:
        """Returns what the decisions so far do to the accuracy of the refitted head, by group of test examples:
        original, reviewed and placebo labels, and the gain with its 95 % interval; ``attrs["conclusion"]`` says it in
        a sentence."""
        from scoring.corrections.effect.conclusion import conclusion
        from scoring.corrections.effect.preview import refit_audit
        from scoring.pipeline.shards import Context

        found = refit_audit(self._audit, self._run, Context(self._audit, self._run, device=device, progress=bar))
        frame = pd.DataFrame(found["groups"])
        frame.attrs["conclusion"] = conclusion(next(row for row in found["groups"] if row["group"] == "all"))
        return frame

    # -- looking -----------------------------------------------------------------------------------------------------

    def show(self, port: int = 0, height: int = 900) -> Served:
        """Open the dashboard beside the notebook and return at once; the address is printed, and the value shows the
        pages in a frame where the notebook allows it."""
        from .served import Served

        if self._served is None or not self._served.running:
            self._served = Served(self.folder, port, height)
        print(f"hardlook: the dashboard is at {self._served.url}; audit.close() stops it")
        return self._served

    def close(self) -> None:
        """Stop the dashboard that ``show`` opened."""
        if self._served is not None:
            self._served.close()
        self._served = None

    def __enter__(self) -> Audit:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __repr__(self) -> str:
        from scoring.report.notebook_html import summary_sentence

        return f"hardlook.Audit({str(self.folder)!r}): {summary_sentence(self._audit)}"

    def _repr_html_(self) -> str:
        from scoring.report.notebook_html import audit_html

        return audit_html(self._audit, FIRST)


@contextmanager
def bar(what: str, total: int, unit: str = "examples") -> Iterator[Callable[[int], object]]:
    """A progress bar of the notebook or the terminal, once a pass takes more than two seconds."""
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a notebook without widgets: the bar is then one of text
        from tqdm.auto import tqdm

        shown = tqdm(total=total, desc=what, unit=f" {unit}", delay=2, leave=False, dynamic_ncols=True)
    with shown:
        yield shown.update
