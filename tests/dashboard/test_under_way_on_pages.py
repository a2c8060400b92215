"""Pages say what a command is computing now."""

import pytest

from scoring.audit import Audit
from scoring.audit.under_way import under_way

from ..synthetic import make_audit
from .test_views import page, quiet, said  # noqa: F401  pytest finds the fixture by name


@pytest.mark.parametrize("name", ["overview", "suspects"])
def test_a_page_tells_what_is_under_way_while_it_is(tmp_path, name):
    audit = make_audit(tmp_path / "audit", 40, 3)
    audit = audit if isinstance(audit, Audit) else Audit.open(audit)
    with under_way(audit.run()) as shown:
        shown.step("vog", 3, 12)
        assert "vog, 3 of 12" in said(page(audit, name))
    assert "under way" not in said(page(audit, name))
