"""The page of the grid's own tests, in a server that knows one verdict more."""

import runpy
from pathlib import Path

from scoring.reviews.verdicts import VERDICTS
from tests.sixth_verdict import NAME, SIXTH

VERDICTS[NAME] = SIXTH
runpy.run_path(str(Path(__file__).with_name("grid_page.py")))
