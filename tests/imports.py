"""Who imports whom: rooms, floors and ties of the house, read from the source.

A *room* is a folder right under ``scoring`` (``cli.py`` is one too), and ``dashboard`` as a whole; inside ``dashboard``
its folders are rooms of their own. A *tie* is a pair of rooms of which one imports the other, at its top or inside a
function. The *floor* of a room is the length of the longest way down from it.

``python -m tests.imports`` prints the numbers, the longest modules and functions, and the drawing of CONTRIBUTING.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
Tie = tuple[str, str]


def modules(top: str) -> dict[str, Path]:
    """Every module below a package by its dotted name."""
    found = {}
    for path in sorted((ROOT / top).rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imported(path: Path, known: Iterable[str]) -> Iterator[str]:
    """The known modules that a file imports, anywhere in it."""
    known = set(known)
    for node in ast.walk(ast.parse(path.read_text(encoding="utf8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            while name not in known and "." in name:
                name = name.rpartition(".")[0]
            if name in known:
                yield name


def room(module: str, inside: str = "scoring") -> str | None:
    """The room of a module: of the whole house, or of one package of it alone.

    >>> room("scoring.data.adapters.manifest"), room("dashboard.views.grid"), room("dashboard.views.grid", "dashboard")
    ('data', 'dashboard', 'views')
    """
    top, _, rest = module.partition(".")
    if top == inside:
        return rest.partition(".")[0] or None
    return top if inside == "scoring" and top == "dashboard" else None


def ties(inside: str = "scoring") -> dict[Tie, list[Tie]]:
    """Pairs of rooms of which the first imports the second → the pairs of modules that tie them."""
    known = {**modules("scoring"), **modules("dashboard")}
    found: dict[Tie, list[Tie]] = {}
    for name, path in known.items():
        if is_door(path):
            continue
        for other in imported(path, known):
            pair = room(name, inside), room(other, inside)
            if None not in pair and pair[0] != pair[1]:
                found.setdefault(pair, []).append((name, other))
    return found


def is_door(path: Path) -> bool:
    """Whether a file only leads from an old name to the new one."""
    return "from scoring.audit.moved import moved" in path.read_text(encoding="utf8")


def floors(pairs: Iterable[Tie]) -> dict[str, int]:
    """The floor of each room, 1 where it imports none. Raises ``ValueError`` for rooms that import each other in a
    ring."""
    below: dict[str, set[str]] = {}
    for upper, lower in pairs:
        below.setdefault(upper, set()).add(lower)
        below.setdefault(lower, set())
    found: dict[str, int] = {}
    while len(found) < len(below):
        ready = {name: others for name, others in below.items() if name not in found and others <= found.keys()}
        if not ready:
            raise ValueError(f"rooms import each other in a ring: {', '.join(sorted(set(below) - set(found)))}")
        found.update({name: 1 + max((found[other] for other in others), default=0) for name, others in ready.items()})
    return found


def drawing(pairs: Iterable[Tie]) -> str:
    """The house as a Mermaid chart: each room above those that it imports; ties that follow from others are left
    out."""
    pairs = set(pairs)
    below: dict[str, set[str]] = {}
    for name, _ in sorted(floors(pairs).items(), key=lambda each: each[1]):
        direct = {lower for upper, lower in pairs if upper == name}
        below[name] = direct.union(*(below[lower] for lower in direct))
    kept = [(a, b) for a, b in sorted(pairs) if not any((a, c) in pairs and b in below[c] for c in below if c != b)]
    return "\n".join(["```mermaid", "flowchart TD", *(f"  {a} --> {b}" for a, b in kept), "```"])


def longest(top: str) -> tuple[tuple[int, str], tuple[int, str]]:
    """The longest module and the longest function below a package, in lines."""
    sizes, functions = [], []
    for name, path in modules(top).items():
        text = path.read_text(encoding="utf8")
        sizes.append((len(text.splitlines()), name))
        functions += [
            (node.end_lineno - node.lineno + 1, f"{name}.{node.name}")
            for node in ast.walk(ast.parse(text))
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        ]
    return max(sizes), max(functions)


def main() -> None:
    """Print what the house measures."""
    for inside in ("scoring", "dashboard"):
        pairs = ties(inside)
        height = floors(pairs)
        print(
            f"{inside}: {len(height)} rooms on {max(height.values())} floors, {len(pairs)} ties, {len(modules(inside))} modules"
        )
        print("  longest module {} {}, longest function {} {}".format(*longest(inside)[0], *longest(inside)[1]))
        for name in sorted(height, key=lambda each: (height[each], each)):
            print(f"  {height[name]:2} {name}: {', '.join(sorted(lower for upper, lower in pairs if upper == name))}")
    print(drawing(ties()))


if __name__ == "__main__":
    main()
