"""Tables, figures and the HTML report."""

from sfr.report.figures import map_figure
from sfr.report.write import ReportSummary, write_report

__all__ = ["ReportSummary", "map_figure", "write_report"]
