"""The pages of the dashboard: address, title, place in the navigation, and rule for blind examples.

A page is a file under ``views`` and one line of ``PAGES``. The navigation and the tests that every page has to pass are
made from this table. The tests cover an audit without data, both themes, axe, and the rule for blind examples. A blind
example (``scoring.queue.blinding``) is a test example under ``test = "blind"``, or a control before its first verdict;
a reviewer must not see what the model predicts for it.

Inputs: none → the table. Cost: none. Limit: this table declares the rule; the page itself keeps it
(``dashboard.blinding.model_output``).
"""

from __future__ import annotations

from dataclasses import dataclass

from scoring.audit.errors import HardlookError
from scoring.audit.user_code import close_names

BLIND_RULES = {
    "left out": "lists no blind example and says how many are left out",
    "random order": "lists blind examples in random order, without model output",
    "not counted": "lists no example; its numbers over part of the data exclude blind examples",
    "no model output": "shows no model output of any example",
}


@dataclass(frozen=True)
class Page:
    """One page. ``name``: its address and, with _ for -, its file; ``blind``: one of ``BLIND_RULES``; ``topic``: that
    of the manual (``dashboard.help``) which explains the page."""

    group: str
    name: str
    title: str
    icon: str
    blind: str
    topic: str = "index"

    def __post_init__(self) -> None:
        if self.blind not in BLIND_RULES:
            raise HardlookError(f"page {self.name!r}: blind = {self.blind!r}; {close_names(self.blind, BLIND_RULES)}")

    @property
    def script(self) -> str:
        """Its file under ``views``.

        >>> Page("Look", "data-map", "Data map", "", "left out").script
        'data_map.py'
        """
        return f"{self.name.replace('-', '_')}.py"


PAGES = (
    Page("Look", "overview", "Overview", ":material/dashboard:", blind="not counted", topic="pages"),
    Page("Look", "grid", "Grid", ":material/grid_view:", blind="left out", topic="vog"),
    Page("Look", "deciles", "Deciles", ":material/bar_chart:", blind="not counted", topic="vog"),
    Page("Look", "data-map", "Data map", ":material/scatter_plot:", blind="left out", topic="training-dynamics"),
    Page("Look", "slices", "Slices", ":material/hub:", blind="left out", topic="slices"),
    Page("Decide", "suspects", "Suspects", ":material/rule:", blind="random order", topic="sessions"),
    Page("Team", "reviews", "Reviews", ":material/group:", blind="no model output", topic="teams"),
    Page("Team", "meeting", "Meeting", ":material/groups:", blind="no model output", topic="teams"),
    Page("Lab", "compare", "Compare", ":material/compare_arrows:", blind="left out", topic="refit-and-evidence"),
    Page("Help", "help", "Manual", ":material/menu_book:", blind="no model output", topic="index"),
)


def groups() -> dict[str, list[Page]]:
    """Returns the pages by group of the navigation, in their order."""
    return {
        group: [page for page in PAGES if page.group == group] for group in dict.fromkeys(page.group for page in PAGES)
    }


def find_page(name: str) -> Page:
    """Returns the page at an address."""
    return next(page for page in PAGES if page.name == name)
