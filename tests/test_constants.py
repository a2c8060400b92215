"""No constant is left behind by the code that used it."""

import ast
import collections
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
SOURCES = {
    path: path.read_text(encoding="utf8")
    for folder in ("scoring", "dashboard")
    for path in (ROOT / folder).rglob("*.py")
}


def constants():
    """(file, name) of every constant at the top of a module."""
    for path, text in SOURCES.items():
        for node in ast.parse(text).body:
            targets = (
                node.targets
                if isinstance(node, ast.Assign)
                else [node.target]
                if isinstance(node, ast.AnnAssign)
                else []
            )
            for target in targets:
                for name in ast.walk(target):
                    if isinstance(name, ast.Name) and re.fullmatch(r"[A-Z][A-Z0-9_]+", name.id):
                        yield path.relative_to(ROOT).as_posix(), name.id


def test_every_constant_is_read_somewhere():
    read = collections.Counter()
    tests = [path.read_text(encoding="utf8") for path in (ROOT / "tests").rglob("*.py")]
    for text in [*SOURCES.values(), *tests]:
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
                read[node.id] += 1
            elif isinstance(node, ast.Attribute):
                read[node.attr] += 1
    assert [(path, name) for path, name in constants() if not read[name]] == []
