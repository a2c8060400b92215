"""Every exception to the checks of style and types names its rule and gives its reason beside it."""

import io
import re
import tokenize
import tomllib
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("dashboard", "sample_data", "scoring", "tests")
RULES = r"[A-Z]+[0-9]+(?:, ?[A-Z]+[0-9]+)*"
REASON = r"\w[^#]*\s\S+"
EXCEPTIONS = {
    "noqa": rf"# noqa: {RULES}  {REASON}",
    "type: ignore": rf"# type: ignore\[[a-z, -]+\]  # {REASON}",
    "pyright: ignore": rf"# pyright: ignore\[[A-Za-z, ]+\]  # {REASON}",
}
"""The word of an exception → the whole comment that it needs: its rules, two spaces, its reason of two words or
more."""
WHOLE_FILES = r"#\s*(ruff|flake8|mypy|pyright)\s*:\s*(noqa|ignore-errors|basic|disable)"
UNTYPED = {"disallow_incomplete_defs", "disallow_untyped_defs"}
SCRIPT = r"eslint-disable(-next-line|-line)? [a-z@/-]+(, [a-z@/-]+)* -- " + REASON


def files(kind: str) -> list[Path]:
    """Every file of that ending in the tree."""
    return sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob(f"*.{kind}"))


def unexplained(text: str) -> Iterator[str]:
    """The comments of a Python file that switch a rule off without naming it or without a reason."""
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type != tokenize.COMMENT:
            continue
        for word, needed in EXCEPTIONS.items():
            if re.search(rf"#\s*{word}", token.string) and not re.search(needed, token.string):
                yield f"{token.start[0]}: {token.string}"
        if re.search(WHOLE_FILES, token.string):
            yield f"{token.start[0]}: {token.string}"


def unexplained_in_script(text: str) -> list[str]:
    """The lines of a JavaScript file that switch a rule off without naming it or without a reason."""
    return [line for line in text.splitlines() if "eslint-disable" in line and not re.search(SCRIPT, line)]


def without_comment(text: str, entry: str) -> list[str]:
    """The lines of a TOML text that hold the entry with a comment neither after it nor on the line above."""
    lines = ["", *text.splitlines()]
    return [
        line
        for above, line in pairwise(lines)
        if f'"{entry}"' in line and not re.search(rf"#\s+{REASON}", line) and not above.lstrip().startswith("# ")
    ]


def test_every_exception_in_python_has_its_reason():
    found = [f"{path.relative_to(ROOT)}:{line}" for path in files("py") for line in unexplained(path.read_text("utf8"))]
    assert len(files("py")) > 400
    assert not found


def test_every_exception_in_javascript_has_its_reason():
    found = [
        f"{path.relative_to(ROOT)}: {line}"
        for path in files("js")
        for line in unexplained_in_script(path.read_text("utf8"))
    ]
    assert len(files("js")) > 20
    assert not found


def test_every_rule_that_is_left_out_has_its_reason():
    text = (ROOT / "pyproject.toml").read_text("utf8")
    lint = tomllib.loads(text)["tool"]["ruff"]["lint"]
    rules = {*lint["ignore"], *(rule for those in lint["per-file-ignores"].values() for rule in those)}
    assert len(rules) > 10
    assert not [line for rule in sorted(rules) for line in without_comment(text, rule)]


def test_the_exceptions_of_the_type_checker_are_few_exist_and_are_needed():
    text = (ROOT / "pyproject.toml").read_text("utf8")
    overrides = tomllib.loads(text)["tool"]["mypy"]["overrides"]
    own, others = set(), set()
    for override in overrides:
        names = {name for name in override["module"] if name.split(".")[0] in FOLDERS}
        own |= names
        others |= set(override["module"]) - names
        assert set(override) - {"module"} == ({"ignore_missing_imports"} if not names else UNTYPED)
    assert own == {"sample_data.*"}, "no module is added to the exceptions; state its types instead"
    assert all((ROOT / name.split(".")[0]).is_dir() for name in own)
    imported = "\n".join(
        path.read_text("utf8")
        for folder in ("dashboard", "sample_data", "scoring")
        for path in sorted((ROOT / folder).rglob("*.py"))
    )
    libraries = {name.removesuffix(".*") for name in others}
    assert not [
        name for name in sorted(libraries) if not re.search(rf"^\s*(import|from) {name}\b", imported, re.MULTILINE)
    ]
    headings = text.split("[[tool.mypy.overrides]]\n")[1:]
    assert len(headings) == len(overrides) and all(re.match(rf"# {REASON}", heading) for heading in headings)


def test_the_types_are_shipped():
    data = tomllib.loads((ROOT / "pyproject.toml").read_text("utf8"))["tool"]["setuptools"]["package-data"]
    for package in ("dashboard", "scoring"):
        assert (ROOT / package / "py.typed").is_file() and "py.typed" in data[package]


@pytest.mark.parametrize(
    "comment",
    [
        "# noqa",
        "# noqa: E501",
        "#noqa: E501",
        "# noqa: E501 reason with one space",
        "# noqa: E501  reason",
        "# type: ignore",
        "# type: ignore[arg-type]",
        "# type: ignore[arg-type]  reason that mypy would not read",
        "# pyright: ignore",
        "# ruff: noqa",
        "# mypy: ignore-errors",
    ],
)
def test_an_exception_without_rule_or_reason_is_found(comment):
    assert list(unexplained(f"x = 1  {comment}\n")) == [f"1: {comment}"]


def test_an_exception_with_rule_and_reason_passes():
    kept = "x = 1  # noqa: E501, B023  two words\ny = 1  # type: ignore[arg-type]  # the stubs lack it\nz = '# noqa'\n"
    assert not list(unexplained(kept))
    assert not unexplained_in_script("// eslint-disable-next-line no-console -- the only way out\n")
    assert unexplained_in_script("// eslint-disable-next-line no-console\n")
    assert not without_comment('ignore = [\n  "A001",  # a reason\n  # another reason\n  "A002",\n]', "A002")
    assert without_comment('ignore = [\n  "A001",  # a reason\n  "A002",\n]', "A002") == ['  "A002",']
