"""hardlook in a notebook or a script: find label issues in arrays, audit a dataset with its model, look at the result.

    import hardlook

    issues = hardlook.find_issues(labels, pred_probs=p, features=f)
    audit = hardlook.audit(train=dataset, test=dataset2, model=net, checkpoints="ckpts/*.pt", folder="my-audit")
    audit.suspects(50)
    audit.show()

Nothing heavy is imported before it is needed.
"""

from scoring import __version__
from scoring.audit.errors import HardlookError
from scoring.pipeline.array_issues import find_issues

from .notebook_audit import Audit, audit, open

__all__ = ["Audit", "HardlookError", "__version__", "audit", "find_issues", "open"]
