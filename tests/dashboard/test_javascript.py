"""The scripts hang together: each is imported by a page, each import exists; their check installs from any registry."""

import json
import re
from pathlib import Path

from dashboard.grid.scripts import scripts
from scoring.reviews import sessions

ROOT = Path(__file__).parents[2]
ENTRIES = {"main.js", "cards.js"}
"""The scripts that pages load by name."""
IMPORT = re.compile(r'^import .* from "\./(.+)";$', re.MULTILINE)


def imported(name: str) -> set[str]:
    """The scripts that a script imports."""
    return set(IMPORT.findall(scripts()[name].decode()))


def test_every_import_is_served_and_every_script_is_reached_from_a_page():
    reached, new = set(), set(ENTRIES)
    while new:
        reached |= new
        assert new <= set(scripts()), "an import that is not served"
        new = set().union(*(imported(name) for name in new)) - reached
    assert reached == set(scripts())


def test_the_clock_and_the_preview_count_as_the_server_does():
    for script, name, value in (("clock.js", "IDLE", sessions.IDLE), ("lookalikes.js", "LEAST", sessions.LEAST)):
        assert f"\nconst {name} = {value:g};" in scripts()[script].decode()


def test_the_meeting_is_one_script():
    text = (ROOT / "dashboard/meeting/meeting.js").read_text(encoding="utf8")
    assert not re.search(r"^import ", text, re.MULTILINE), "Streamlit takes it as one text"


def test_the_tools_are_pinned_and_named_without_a_registry():
    folder = ROOT / ".ci/javascript"
    package, lock = (json.loads((folder / f"{name}.json").read_text()) for name in ("package", "package-lock"))
    wanted = package["devDependencies"]
    assert all(re.fullmatch(r"\d+\.\d+\.\d+", version) for version in wanted.values())
    packages = {name.removeprefix("node_modules/"): facts for name, facts in lock["packages"].items() if name}
    assert wanted == {name: packages[name]["version"] for name in wanted}
    assert not [name for name, facts in packages.items() if "resolved" in facts or "integrity" not in facts]
