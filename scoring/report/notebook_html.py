"""An audit as a notebook prints it: one sentence, and the first suspects with their pictures.

Inputs → outputs: an audit's files → text and self-contained HTML; every text is escaped, pictures are inlined. Cost:
one read of the ranking and a few thumbnails. No torch.
"""

from __future__ import annotations

import base64
import json
from html import escape
from typing import Any

from scoring.audit import Audit, Run
from scoring.audit.errors import HardlookError
from scoring.audit.storage import read_table
from scoring.report.data_frames import first_split, suspect_frame

STYLE = "display:inline-block;vertical-align:top;width:120px;margin:0 10px 10px 0;font:12px/1.3 system-ui,sans-serif"
IMAGE = "width:120px;height:120px;object-fit:contain;background:#f2f3f4;display:block"


def summary_sentence(audit: Audit) -> str:
    """Returns how many examples and classes there are, what was scored and what was decided."""
    if not audit.examples_path.is_file():
        return "not read yet; score() reads the data"
    splits = read_table(audit.examples_path, ["split"]).to_pandas()["split"].value_counts(sort=False)
    counted = ", ".join(f"{count:,} {split}" for split, count in splits.items())
    names = [run.score_names() for run in _runs(audit)]
    scored = f"{len(names[0])} scores" if names and names[0] else "not scored yet"
    return f"{splits.sum():,} examples ({counted}), {len(audit.classes):,} classes, {scored}"


def audit_html(audit: Audit, n: int) -> str:
    """Returns the sentence and the first n suspects: picture, label → suggested label."""
    head = f"<p><b>hardlook</b> {escape(str(audit.root))}: {escape(summary_sentence(audit))}</p>"
    for run in _runs(audit)[:1]:
        try:
            frame = suspect_frame(audit, run, n, first_split(audit))
        except (HardlookError, FileNotFoundError):
            return f"{head}<p>No score ranks the labels yet; compute some with <code>score()</code>.</p>"
        cells = "".join(_cell(audit, row) for row in frame.to_dict("records"))
        return f"{head}<p>{escape(frame.attrs['order'])}:</p><div>{cells}</div>"
    return head


def _runs(audit: Audit) -> list[Run]:
    return [audit.run(name) for name in audit.run_names()]


def _cell(audit: Audit, row: dict[str, Any]) -> str:
    """One suspect."""
    label, suggested = (row[name] if isinstance(row[name], str) else "–" for name in ("label", "suggested_label"))
    title = escape(str(row["example_id"]), quote=True)
    return (
        f'<div style="{STYLE}" title="{title}">{_picture(audit, row["example_id"])}'
        f"{escape(label)} → <b>{escape(suggested)}</b></div>"
    )


def _picture(audit: Audit, example_id: str) -> str:
    """The thumbnail as an image, the beginning of a text, or nothing."""
    content = audit.thumbnails.get(example_id)
    if content is None:
        return ""
    if audit.media == "text":
        return f"<i>{escape(json.loads(content)['text'][:200])}</i><br>"
    kind = "png" if content.startswith(b"\x89PNG") else "webp" if content[8:12] == b"WEBP" else "jpeg"
    small = ";image-rendering:pixelated" if kind == "png" else ""
    data = base64.b64encode(content).decode()
    return f'<img alt="" style="{IMAGE}{small}" src="data:image/{kind};base64,{data}">'
