"""One self-contained file about an audit, to send, print and keep: the door of ``write_report``.

``pages`` says what stands in each section, ``drawing`` makes text, tables, images and charts of it.
"""

from scoring.report.sections import render, write_report

__all__ = ["render", "write_report"]
