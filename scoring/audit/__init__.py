"""What is audited and where it lies: the audit folder, its runs, what ``audit.toml`` may hold, and atomic files.

The lowest room: it imports no other one, and every other one may import it.
"""

from scoring.audit.audit import CONFIG, Audit, read_config
from scoring.audit.config import SPLITS, check_config
from scoring.audit.run import Run, can_name_run

__all__ = ["CONFIG", "SPLITS", "Audit", "Run", "can_name_run", "check_config", "read_config"]
