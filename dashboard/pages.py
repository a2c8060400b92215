"""The pages of the dashboard: address, title, where they stand in the navigation, and how they treat blind examples.

A page is a file under ``views`` and one line here. Navigation is made from this table, and so are the tests that every
page has to pass: an audit without data, both themes, axe, and its duty to blind examples (``scoring.queue.blinding``:
test under ``test = "blind"``, controls until their first verdict), of which a reviewer must not learn what the model
says.

Inputs: none → the table. Cost: none. Limit: a duty is kept by the page itself (``dashboard.blinding.model_output``);
here it is declared.
"""

from __future__ import annotations

from dataclasses import dataclass

DUTIES = {
    "left out": "lists no blind example, and says how many it left out",
    "by lot": "shows blind examples by lot, without anything that a model says of them",
    "counted": "lists no example; its numbers of a part of the examples are counted without blind ones",
    "untold": "shows nothing that a model says of an example",
}


@dataclass(frozen=True)
class Page:
    """One page. ``name``: its address and, with _ for -, its file; ``blind``: one of ``DUTIES``; ``topic``: that of the
    manual (``dashboard.help``) which explains the page."""

    group: str
    name: str
    title: str
    icon: str
    blind: str
    topic: str = "index"

    @property
    def script(self) -> str:
        """Its file under ``views``.

        >>> Page("Look", "data-map", "Data map", "", "left out").script
        'data_map.py'
        """
        return f"{self.name.replace('-', '_')}.py"


PAGES = (
    Page("Look", "overview", "Overview", ":material/dashboard:", blind="counted", topic="pages"),
    Page("Look", "grid", "Grid", ":material/grid_view:", blind="left out", topic="vog"),
    Page("Look", "deciles", "Deciles", ":material/bar_chart:", blind="counted", topic="vog"),
    Page("Look", "data-map", "Data map", ":material/scatter_plot:", blind="left out", topic="training-dynamics"),
    Page("Look", "slices", "Slices", ":material/hub:", blind="left out", topic="slices"),
    Page("Decide", "suspects", "Suspects", ":material/rule:", blind="by lot", topic="sessions"),
    Page("Team", "reviews", "Reviews", ":material/group:", blind="untold", topic="teams"),
    Page("Team", "meeting", "Meeting", ":material/groups:", blind="untold", topic="teams"),
    Page("Lab", "compare", "Compare", ":material/compare_arrows:", blind="left out", topic="refit-and-evidence"),
    Page("Help", "help", "Manual", ":material/menu_book:", blind="untold", topic="index"),
)


def groups() -> dict[str, list[Page]]:
    """The pages by group of the navigation, in their order."""
    return {
        group: [page for page in PAGES if page.group == group] for group in dict.fromkeys(page.group for page in PAGES)
    }


def find_page(name: str) -> Page:
    """The page at an address."""
    return next(page for page in PAGES if page.name == name)
