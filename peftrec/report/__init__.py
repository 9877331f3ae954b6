"""Reports for people: an HTML page with plots."""

from peftrec.report.html import write_report

__all__ = ["write_report"]
