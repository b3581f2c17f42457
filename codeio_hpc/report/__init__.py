"""The report page of a run: read from its finished files only."""

from __future__ import annotations

from pathlib import Path


def write_report(run: Path) -> Path:
    """Write ``report/index.html`` of the run folder, self-contained, and give its path.

    Raises:
        UserError: the folder holds no run.
    """
    from codeio_hpc.report.page import write_page

    return write_page(run)
