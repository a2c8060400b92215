"""The commands that are killed (``tests.kills``): what each starts from, and what is compared afterwards."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import torch
from safetensors import safe_open
from torch import nn

from scoring.audit import Audit
from scoring.audit.storage import read_json, read_table, read_vectors, write_table
from scoring.reviews import Event, ReviewLog
from scoring.reviews.log_copy import back_up
from scoring.slices.slicing_run import SliceSettings, slice_run

from . import kills
from .conftest import hardlook
from .kills import Kill, Reader
from .old_logs import write_version_1
from .small_audits import write_small_audit
from .synthetic import make_audit

SCORES = ("--only", "uncertainty,data_map,influence", "--influence-arnoldi-dim", "12", "--influence-rank", "4")
TIMES = ("seconds", "started", "ended", "peak_gb", "timings", "passes", "decoded", "notes", "_fingerprint")
PLACE = re.compile(r"/[^`\"\n]*?/(?:\d+-killed|\d+|start)(?=/)")
"""The path of a copy in a text."""
CHANGES = ("added", "changed", "moved", "relabelled", "removed")
"""Keys of JSON that differ from run to run: times, and what examples.json compares with the reading before."""


@dataclass(frozen=True)
class Case:
    """A command in which ``@`` is the folder, what makes the folder, and how many kills CI makes (before a change, at
    random). warm: imported once. mixed, grows, refuses: see ``kills.faults``."""

    command: tuple[str, ...]
    make: Callable[[Path], None]
    kills: tuple[int, int] = (2, 1)
    warm: tuple[str, ...] = ()
    mixed: Reader | None = None
    grows: str = "^$"
    refuses: bool = False


# -- what they start from ---------------------------------------------------------------------------------------------


def scored(folder: Path) -> None:
    """The small audit with scores and influence embeddings."""
    write_small_audit(folder / "audit")
    assert hardlook("score", folder / "audit", *SCORES) == 0


def sliced(folder: Path) -> None:
    """A scored audit with its map and a slicing of the same name."""
    scored(folder)
    audit = Audit.open(folder / "audit")
    run = audit.run()
    slice_run(audit, run, SliceSettings(n_slices=2))
    of = run.influence_path.stat().st_mtime_ns  # to lay out the map takes longer than all the rest
    write_table(run.map_path, pa.table({"example_id": ["train/a/0.png"], "x": [0.0], "y": [0.0]}), {"influence": of})


def untrained(folder: Path) -> None:
    """The small audit without checkpoints."""
    write_small_audit(folder / "audit")
    shutil.rmtree(folder / "audit" / "checkpoints")
    text = (folder / "audit" / "audit.toml").read_text().replace("checkpoints/*.pt", "checkpoints/main/*.pt")
    (folder / "audit" / "audit.toml").write_text(text)


def ready(folder: Path) -> None:
    """The small audit, as it is."""
    write_small_audit(folder / "audit")


def trained(folder: Path) -> None:
    """An audit with a recorded training of two epochs."""
    untrained(folder)
    assert hardlook("train", folder / "audit", "--epochs", "2") == 0


def pickled(folder: Path) -> None:
    """Two checkpoints that are whole pickled modules; of the first there is a conversion."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("one", "two"):
        torch.save(nn.Sequential(nn.Conv2d(1, 2, 3), nn.Linear(4, 3)), folder / f"{name}.pt")
    assert hardlook("convert", folder / "one.pt", "--trust") == 0


def with_predictions(folder: Path) -> None:
    """An ingested audit, and a table of predictions."""
    scored(folder)
    examples = read_table(Audit.open(folder / "audit").examples_path).to_pandas()
    rows = [f"{name},0.7,0.2,0.1" for name in examples["example_id"]]
    (folder / "p.csv").write_text("\n".join(["example_id,a,b,c", *rows]) + "\n")


def imported(folder: Path) -> None:
    """An audit with imported predictions, and a table of others."""
    with_predictions(folder)
    assert hardlook("import-predictions", folder / "audit", folder / "p.csv") == 0
    text = (folder / "p.csv").read_text()
    (folder / "p.csv").write_text(text.replace("0.7,0.2,0.1", "0.1,0.3,0.6"))


def decided(folder: Path) -> None:
    """A scored audit, of which ana has relabelled and confirmed some examples."""
    scored(folder)
    decide(Audit.open(folder / "audit"))


def decide(audit: Audit, most: int = 12) -> None:
    """Every second of the first examples is relabelled to the last class, the others are confirmed."""
    examples = read_table(audit.examples_path).to_pandas().dropna(subset="label")
    first, last = audit.classes[0], audit.classes[-1]
    with ReviewLog.open(audit.log_url, audit.log_name(audit.log_url)) as log:
        log.append(
            Event(
                client="c",
                seq=at + 1,
                example_id=row.example_id,
                fingerprint=row.fingerprint,
                reviewer="ana",
                action="decide",
                label=row.label,
                verdict="other" if at % 2 else "given",
                new_label=(first if row.label == last else last) if at % 2 else None,
            )
            for at, row in enumerate(examples.head(most).itertuples())
        )


def much_decided(folder: Path) -> None:
    """A synthetic audit whose low scores were found wrong."""
    audit = make_audit(folder / "audit", 300)
    examples = read_table(audit.examples_path).to_pandas()
    loss = read_table(audit.run().score_path("uncertainty")).to_pandas().set_index("example_id")["loss"]
    train = examples[(examples["split"] == "train") & examples["problem"].isna()].set_index("example_id")
    ranked = loss.reindex(train.index).sort_values().index
    with ReviewLog.open(audit.log_url, audit.log_name(audit.log_url)) as log:
        log.append(
            Event(
                client="c",
                seq=at + 1,
                example_id=name,
                fingerprint=train.loc[name, "fingerprint"],
                reviewer="ana",
                action="decide",
                label=train.loc[name, "label"],
                verdict="other" if at < 40 else "given",
                new_label=next(one for one in audit.classes if one != train.loc[name, "label"]) if at < 40 else None,
            )
            for at, name in enumerate([*ranked[-40:], *ranked[:100]])
        )


def backed_up(folder: Path) -> None:
    """A backup of a log that is gone."""
    decided(folder)
    back_up(Audit.open(folder / "audit").log_url, folder / "backup.sqlite")
    for path in (folder / "audit").glob("reviews.sqlite*"):
        path.unlink()


def old_log(folder: Path) -> None:
    """An audit whose log is of version 1."""
    scored(folder)
    path = folder / "audit" / "audit.toml"
    path.write_text('id = "digits"\n' + path.read_text())
    write_version_1(f"sqlite:///{folder / 'audit' / 'reviews.sqlite'}")


def exported(kind: str) -> Callable[[Path], None]:
    """A decided audit with an export of before the last decisions."""

    def make(folder: Path) -> None:
        scored(folder)
        audit = Audit.open(folder / "audit")
        decide(audit, 5)
        assert hardlook("export", audit.root, "--format", kind, "--out", folder / "out") == 0
        decide(audit)

    return make


# -- what is compared -------------------------------------------------------------------------------------------------


def without_times(value: object) -> object:
    """JSON without what differs from run to run."""
    if isinstance(value, dict):
        return {key: without_times(item) for key, item in value.items() if key not in TIMES + CHANGES}
    return [without_times(item) for item in value] if isinstance(value, list) else value


def value(path: Path) -> object:
    """A file's content, times apart; an error of reading is raised."""
    if path.is_symlink():
        return os.readlink(path).split("/audit/")[-1]
    if path.stat().st_size == 0:
        return "empty"
    if path.suffix == ".parquet":
        table = read_table(path)
        return [
            table.column_names,
            [str(kind) for kind in table.schema.types],
            table.to_pandas().to_json(date_format="iso"),
        ]
    if path.suffix == ".arrow" and not path.name.startswith(("part-", "data-")):
        ids, vectors = read_vectors(path)
        return [ids.tolist(), vectors.tobytes()]
    if path.name == "rankings.json":
        last = read_json(path)["versions"][-1:]  # a second ranking of the same decisions is a version of its own
        return json.dumps([{key: item for key, item in one.items() if key != "version"} for one in last])
    if path.suffix == ".json":
        return PLACE.sub("", json.dumps(without_times(read_json(path))))
    if path.suffix == ".safetensors" and not path.name.startswith("factors"):
        with safe_open(path, framework="pt") as held:  # the order of its header is drawn
            names = sorted(held.keys())
            return [sorted(held.metadata().items()), {name: held.get_tensor(name).tolist() for name in names}]
    if path.suffix == ".pt":
        held = torch.load(path, weights_only=False)
        return str(held) if isinstance(held, dict) else hashlib.sha256(path.read_bytes()).hexdigest()
    if path.name.endswith((".sqlite", ".sqlite-wal", ".sqlite-shm")):
        return "log"
    if path.suffix == ".html":
        text = re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d", "", path.read_text())
        return PLACE.sub("", text)
    if path.suffix == ".arrow" and path.name.startswith("data-"):
        with pa.memory_map(str(path)) as source:
            return str(pa.ipc.open_stream(source).read_all().to_pydict())
    return hashlib.sha256(path.read_bytes()).hexdigest()


def log_rows(name: str) -> Reader:
    """The events, the position and the schema's version of a log in the folder; None where there is none."""

    def read(folder: Path) -> object:
        path = folder / name
        if not path.exists():
            return None
        beside = folder.with_name(folder.name + "-read")
        shutil.rmtree(beside, ignore_errors=True)
        beside.mkdir()
        for one in path.parent.glob(f"{path.name}*"):
            shutil.copy(one, beside / one.name)
        with sqlite3.connect(beside / path.name) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            tables = {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            if not tables:
                return None  # a log without its tables is the empty file that SQLite makes first
            return [
                sorted(tables),
                connection.execute("SELECT version, position FROM hardlook_log").fetchall(),
                connection.execute("SELECT * FROM hardlook_events ORDER BY position").fetchall(),
            ]

    return read


def slicing(folder: Path) -> object:
    """What the slices page reads: members and summary, which belong to each other."""
    from scoring.slices.slicing_run import read_slicing

    run = Audit.open(folder / "audit").run()
    if "kmeans" not in run.slicing_names():
        return None
    members, summary = read_slicing(run, "kmeans")
    return [members.to_json(), json.dumps(summary, default=str)]


def imported_run(folder: Path) -> object:
    """The predictions of the imported run, and what its record says that they are."""
    audit = Audit.open(folder / "audit")
    if "imported" not in audit.run_names():
        return None
    run = audit.run("imported")
    _, logits = read_vectors(run.logits_path)
    return [read_table(run.predictions_path).to_pandas().to_json(), logits.tobytes(), run.record()["imported"]]


def training(folder: Path) -> object:
    """Which checkpoints belong to no recorded epoch; they would be scored as if they were of the same training."""
    run = Audit.open(folder / "audit").run()
    if not run.dynamics_files("main"):
        return []
    epochs = {int(path.stem.split("-")[1]) for path in run.dynamics_files("main")}
    found = {int(path.stem.split("-")[1]) for path in (folder / "audit" / "checkpoints" / "main").glob("epoch-*.pt")}
    return sorted(found - epochs - {max(epochs, default=0) + 1})


def export_case(kind: str, *, refuses: bool = False) -> Case:
    """An export beside an earlier one, or where none may be."""
    make = decided if refuses else exported(kind)
    warm = ("scoring.commands.export", "scoring.corrections.dataset_formats", "scoring.corrections.label_patch")
    if kind == "huggingface":
        warm = (*warm, "datasets")
    return Case(("export", "@/audit", "--format", kind, "--out", "@/out"), make, (2, 1), warm, refuses=refuses)


TORCH = ("torch", "scoring.pipeline.score_run", "scoring.pipeline.check", "scoring.training.run_training", "cleanlab")
GROWS = r"/(run|check|examples|rankings)\.json$|/parts/|mean_probabilities|/dynamics/"
LOG = ("scoring.reviews.log_copy",)
CASES: dict[str, Case] = {
    "slice": Case(
        ("slice", "@/audit", "--n-slices", "3"),
        sliced,
        (3, 1),
        ("scoring.slices.slicing_run", "sklearn.cluster"),
        mixed=slicing,
    ),
    "slice, with its map": Case(
        ("slice", "@/audit", "--n-slices", "3"), scored, (0, 0), ("scoring.slices.slicing_run", "umap"), mixed=slicing
    ),
    "train": Case(("train", "@/audit", "--epochs", "2"), untrained, (2, 0), TORCH, grows=GROWS),
    "train --overwrite": Case(
        ("train", "@/audit", "--epochs", "3", "--overwrite"), trained, (2, 0), TORCH, mixed=training, grows=GROWS
    ),
    "convert": Case(
        ("convert", "@/one.pt", "@/two.pt", "--trust"), pickled, (2, 0), ("torch", "scoring.models.conversion")
    ),
    "import-predictions": Case(
        ("import-predictions", "@/audit", "@/p.csv"),
        with_predictions,
        (2, 1),
        TORCH,
        mixed=imported_run,
        grows=GROWS,
        refuses=True,
    ),
    "import-predictions --overwrite": Case(
        ("import-predictions", "@/audit", "@/p.csv", "--overwrite"),
        imported,
        (5, 1),
        TORCH,
        mixed=imported_run,
        grows=GROWS,
    ),
    "second-split": Case(
        ("second-split", "@/audit", "--seeds", "1", "--epochs", "2"), ready, (2, 0), TORCH, grows=GROWS
    ),
    "self-supervise": Case(("self-supervise", "@/audit", "--epochs", "2"), ready, (2, 0), TORCH, grows=GROWS),
    "backup": Case(("backup", "@/audit", "@/b.sqlite"), decided, (2, 1), LOG, mixed=log_rows("b.sqlite"), refuses=True),
    "restore": Case(
        ("restore", "@/audit", "@/backup.sqlite"), backed_up, (2, 1), LOG, mixed=log_rows("audit/reviews.sqlite")
    ),
    "migration of the log": Case(
        ("export", "@/audit"), old_log, (2, 1), ("scoring.commands.export",), mixed=log_rows("audit/reviews.sqlite")
    ),
    "rank": Case(("rank", "@/audit"), much_decided, (2, 1), (*TORCH, "scoring.queue.suspicion")),
    "report": Case(
        ("report", "@/audit", "-o", "@/r.html"), decided, (2, 1), ("scoring.report", "plotly.graph_objects")
    ),
    **{f"export {kind}": export_case(kind) for kind in ("csv", "parquet", "cleanlab", "fiftyone")},
    **{f"export {kind}": export_case(kind, refuses=True) for kind in ("imagefolder", "huggingface")},
}


def campaign(root: Path, kills_of: Mapping[str, tuple[int, int]]) -> dict[str, list[Kill]]:
    """Kills commands (by name: how often before a change of a file, how often at random) under ``root/NAME``, and
    returns the runs of each."""
    plans = {}
    for name, (before, at_random) in kills_of.items():
        case, folder = CASES[name], root / name
        case.make(folder / "start")
        (folder / "start" / "tmp").mkdir()
        plans[folder] = kills.Plan(case.command, before, at_random, case.warm)
    return {folder.name: runs for folder, runs in kills.campaign(plans).items()}


def faults(name: str, root: Path, runs: Sequence[Kill]) -> list[str]:
    """Returns what the kills of a case broke."""
    case = CASES[name]
    return kills.faults(root, runs, value, case.mixed, grows=case.grows, refuses=case.refuses)
