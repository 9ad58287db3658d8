"""Reads the folder of a run, and says what it shows of its temperature."""

from __future__ import annotations

from pathlib import Path

from contrastive.errors import FolderError
from contrastive.lab.advice.heat import healthy, judge, narrow
from contrastive.lab.advice.observed import Finding, Observed
from contrastive.lab.advice.training import explain_away, raised
from contrastive.lab.report.reading import Folder, read
from contrastive.lab.report.setting import Setting


def advise(workdir: Path) -> list[Finding]:
    """What a run that is finished, at work or diverged shows.

    Args:
      workdir: Of `contrastive train`, or `training` in that of `finetune`.

    Returns:
      Findings, the most important first; one that says `healthy` where nothing needs to change.

    Raises:
      FolderError: If it is not a run's folder, or nothing was logged yet.
    """
    (folder,) = read([workdir])
    return findings(_observed(folder))


def findings(run: Observed) -> list[Finding]:
    """The rules, in the order in which one explains away those after it.

    Args:
      run: What is known of it.

    Returns:
      Findings, the most important first.
    """
    wrong = explain_away(run)
    found = [wrong or judge(run), raised(run)]
    if not any(found):
        found = [healthy(run)]
    return [finding for finding in (*found, None if wrong else narrow(run)) if finding]


def _observed(folder: Folder) -> Observed:
    runs = _begun(folder.settings[0])
    if not runs:
        raise FolderError(f"{folder.path / 'metrics.jsonl'} holds no step yet; ask again later")
    return runs[0]


def _begun(setting: Setting) -> list[Observed]:
    """The runs of a setting that have logged a step."""
    return [
        Observed(setting.config, run.metrics, run.diverged_at)
        for run in setting.runs
        if any("loss" in row for row in run.metrics)
    ]
