"""Make the data of the text sample: docstrings of four installed libraries, split, with 5 % of the labels made wrong.

Which library is a docstring from? The texts are read from the source files on this machine, so nothing is downloaded;
other versions of the libraries give other texts. Run it with ``python data.py``.
"""

import ast
import csv
from importlib.util import find_spec
from pathlib import Path

import numpy as np

LIBRARIES = ("numpy", "pandas", "sklearn", "torch")
EACH = 400
SHORTEST = 80
WRONG = 0.05
SEED = 5
SPLITS = ("train", "train", "train", "test")
DOCUMENTED = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


def docstrings(library):
    """(name, docstring) of the functions and classes in a library's source files, each text once."""
    folder = Path(find_spec(library).origin).parent
    seen = set()
    for path in sorted(folder.rglob("*.py")):
        if "tests" in path.parts or "testing" in path.parts:
            continue
        try:
            tree = ast.parse(path.read_text(encoding="utf8"))
        except (SyntaxError, UnicodeDecodeError):
            continue
        for node in ast.walk(tree):
            text = ast.get_docstring(node) if isinstance(node, DOCUMENTED) else None
            if text and len(text) >= SHORTEST and text not in seen:
                seen.add(text)
                yield f"{path.relative_to(folder.parent).as_posix()}:{node.lineno}", text


def write(folder, each=EACH):
    """Write docstrings.csv and truth.csv into ``folder``: ``each`` texts of every library."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(SEED)
    rows = []
    for library in LIBRARIES:
        found = list(docstrings(library))
        chosen = rng.choice(len(found), size=min(each, len(found)), replace=False)
        rows += [(*found[row], library) for row in sorted(chosen)]
    with (
        open(folder / "docstrings.csv", "w", newline="", encoding="utf8") as texts,
        open(folder / "truth.csv", "w", newline="", encoding="utf8") as truth,
    ):
        table, true = csv.writer(texts), csv.writer(truth)
        table.writerow(["id", "split", "label", "text", "words"])
        true.writerow(["example_id", "true_label"])
        for number in rng.permutation(len(rows)):
            name, text, library = rows[number]
            given = str(rng.choice(LIBRARIES)) if rng.random() < WRONG * 4 / 3 else library
            table.writerow([name, SPLITS[number % 4], given, text, len(text.split())])
            true.writerow([name, library])


if __name__ == "__main__":
    write(Path(__file__).parent / "data")
