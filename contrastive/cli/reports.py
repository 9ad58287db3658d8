"""The command of reports."""

from __future__ import annotations

from pathlib import Path

import tyro


def report(
    folders: tyro.conf.Positional[tuple[Path, ...]], /, *, output: Path | None = None
) -> None:
    """Make one HTML page of runs and sweeps: contrastive report DIR [DIR ...].

    Scores against temperature, histograms of cosines under a slider, penalties, training curves,
    uniformity and tolerance, differences of configs and advice. The page needs no network.

    Args:
      folders: Of `contrastive train`, `contrastive sweep`, or `training` in that of `finetune`.
      output: The page; report.html in the first folder unless given.
    """
    from contrastive.lab.report.page import write_report

    print(f"report: {write_report(folders, output)}")
