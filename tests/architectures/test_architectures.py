"""Each architecture through the check and every scorer: compared scores equal naive float64 autograd, or are left out
and why."""

import pytest

from ..nets import picture, unchanged
from .case import score
from .comparison import open_comparisons, rows
from .zoo import FAST, ZOO

pytestmark = pytest.mark.filterwarnings("ignore")  # of ninety nets that others wrote


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in FAST else pytest.mark.architectures) for name in ZOO]
)
def test_each_compared_score_is_that_of_the_model_or_left_out_with_a_reason(name, tmp_path):
    architecture = ZOO[name]
    case = score(architecture, tmp_path)
    assert [finding.text for finding in case.findings if finding.level == "error"] == []
    before = picture(case.context.model.module)
    found = list(rows(case))
    absent = architecture.absent or {}
    left_out = {row.score: row.reason for row in found if row.error is None and row.score in case.summary.skipped}
    assert left_out.keys() == absent.keys(), left_out
    assert {row.score for row in found if not row.compared} == open_comparisons(case)
    null = set() if case.context.model.keeps_logits else {"energy"}
    assert {
        row.score for row in found if row.error is None and row.compared
    } - left_out.keys() == null - left_out.keys()
    for scorer, part in absent.items():
        assert part in left_out[scorer]
    assert unchanged(before, picture(case.context.model.module))


def test_there_are_sixty_at_least():
    assert len(FAST) >= 60 and len(ZOO) >= 90
