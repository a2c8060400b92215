"""The script that Streamlit runs for every interaction: it shows the navigation and the sidebar, then the page.

The sidebar's choices (audit, run, metadata filters, grouping) are shared by all pages. A page is a file under
``views`` with an address of its own. A new page is one file and one line in ``dashboard.pages``.
"""

from __future__ import annotations

from functools import cache

import duckdb
import pyarrow as pa
import streamlit as st
from PIL import Image, ImageDraw

from dashboard import pages
from dashboard.auth.serving import serving
from dashboard.queries import database
from dashboard.queries.selection import MetaFilter
from dashboard.style.colours import NEUTRAL, WRONG
from dashboard.style.formatting import quoted
from dashboard.widgets import browser_history, grouping, inputs, manual, page_frame, visitor
from scoring.audit import Audit, Run
from scoring.audit.errors import HardlookError

# Errors that a damaged file raises when a page reads it. Every other error is a bug and is shown as one.
DAMAGED = (duckdb.IOException, duckdb.InvalidInputException, pa.ArrowInvalid, OSError)

# Less empty space around the images than Streamlit's default. The toolbar of tables offers no CSV download, because a
# reviewer's note could act as a formula in a spreadsheet; `hardlook export` and /reviews prevent that.
STYLE = """<style>
.stMainBlockContainer { padding: 3rem 2.5rem 2rem; }
/* The bar above lies over the page on narrow screens. */
@media (max-width: 768px) { .stMainBlockContainer { padding: 4.5rem 1.5rem 2rem; } }
[data-testid="stSidebarUserContent"] { padding-bottom: 1rem; }
button[aria-label="Download as CSV"] { display: none; }
.st-key-pages [data-testid="stCaptionContainer"] { padding: 0.5rem 0 0.1rem; }
.st-key-pages [data-testid="stPageLink"] { padding: 0.22rem 0; }
/* As high as the lists beside them, so that labels align. */
button[data-variant="segmented_control"] { min-height: 2.5rem; }
/* Long code in a table breaks. */
[data-testid="stMarkdownContainer"] :not(pre) > code { white-space: normal; overflow-wrap: anywhere; }
[data-testid="stCode"] .token { color: inherit !important; }
/* A link's own colour is too pale in a caption. */
[data-testid="stCaptionContainer"] a { color: inherit !important; }
.st-key-manual h1 { padding-bottom: 0.5rem !important; }
h1 { font-size: 2rem !important; padding: 0 !important; } h3 { padding-bottom: 0.4rem !important; }
</style>"""


@cache
def icon() -> Image.Image:
    """Returns the favicon, a contact sheet with one marked picture. It is an image because Streamlit loads its
    symbols from other servers."""
    image = Image.new("RGBA", (32, 32))
    draw = ImageDraw.Draw(image)
    for at in range(9):
        left, top = 2 + 10 * (at % 3), 2 + 10 * (at // 3)
        draw.rectangle([left, top, left + 7, top + 7], fill=WRONG.colour if at == 5 else NEUTRAL.colour)
    return image


def home() -> None:
    """Redirects the root address to /overview, so that every page has its own address."""
    st.switch_page("views/overview.py")


def navigation() -> tuple[st.Page, dict[str, list[st.Page]]]:
    """Returns the requested page, and all pages by group."""
    groups = {
        group: [st.Page(f"views/{one.script}", title=one.title, icon=one.icon, url_path=one.name) for one in some]
        for group, some in pages.groups().items()
    }
    root = st.Page(home, title="Home", default=True, visibility="hidden")
    return st.navigation({"": [root], **groups}, position="hidden"), groups


def show_links(groups: dict[str, list[st.Page]], here: str) -> None:
    """Shows the pages as links and the manual's topic of the open page, because screen readers do not announce
    Streamlit's own grouped pages as a list."""
    with st.container(gap=None, key="pages"):
        for group, pages in groups.items():
            st.caption(group)
            for one in pages:
                st.page_link(one, width="stretch")
        manual.show_link(here)
        manual.keep_in_tab()
        browser_history.install_script()


def main() -> None:
    """Draws the sidebar, then the page."""
    st.set_page_config(page_title="hardlook", page_icon=icon(), layout="wide")
    st.html(STYLE)
    page, groups = navigation()
    page_frame.open_page(page.url_path)
    try:
        visitor.require_role()
        with st.sidebar:
            show_links(groups, page.url_path)
            page_frame.store_choices(*pick_shared())
        if problem := serving().settings.problem:
            st.warning(quoted(problem, longest=1000), icon=":material/warning:")
        page.run()
    except HardlookError as error:
        st.error(quoted(str(error), longest=1000), icon=":material/error:")
    except DAMAGED as error:
        message = f"a file of this audit cannot be read: {str(error).strip()}"
        st.error(quoted(message, longest=1000), icon=":material/error:")
        st.write("Delete that file. This command writes it again:")
        st.code(f"hardlook score {serving().audit_path}", language="bash")


def pick_shared() -> tuple[Audit, Run | None, tuple[MetaFilter, ...], str | None]:
    """Returns audit, run, metadata filters and grouping from the sidebar, which also shows the reviewer's name."""
    audit = database.open_audit()
    st.text(audit.name)
    run = inputs.pick_run(audit)
    meta = inputs.pick_meta(audit)
    group = grouping.pick_column(audit)
    visitor.show_visitor()
    return audit, run, meta, group


main()
