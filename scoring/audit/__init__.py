"""The audit folder, its runs, the settings in ``audit.toml``, and atomic file access.

The lowest room: it imports no other one, and every other one may import it.
"""

from scoring.audit.audit import CONFIG, Audit, read_config
from scoring.audit.config import SPLITS, check_config
from scoring.audit.run import Run, can_name_run

__all__ = ["CONFIG", "SPLITS", "Audit", "Run", "can_name_run", "check_config", "read_config"]
