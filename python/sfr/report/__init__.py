"""Tables, figures and the HTML report."""

from sfr.report.write import ReportSummary, write_report

__all__ = ["ReportSummary", "write_report"]
