"""Reads the folder of a run or a sweep and gives advice on its temperature."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from contrastive.advice.observed import Finding, Observed
from contrastive.advice.temperature_rules import healthy, judge, narrow
from contrastive.advice.training_rules import explain_away, raised
from contrastive.errors import FolderError
from contrastive.folders.choice import TEMPERATURE, choose, worst
from contrastive.folders.reading import Folder, read
from contrastive.folders.setting import Setting
from contrastive.sweeps.table import Interval

_MORE = "; run more --seeds to see how much is due to chance"


def advise(workdir: Path) -> list[Finding]:
    """Returns findings about a run or a sweep, which may still be running.

    Only files in the folder are read. Custom parts are not imported; they are judged by the traits
    that the run stored.

    Args:
      workdir: The folder of `contrastive train` or `contrastive sweep`, or the folder `training`
        inside that of `contrastive finetune`.

    Returns:
      For a run, its findings, most important first; a single `healthy` finding if nothing needs to
      change. A `narrow_range` finding, which needs no change either, may follow. For a sweep, the
      findings of each setting in order, by the majority of its seeds, then a `best` finding about
      the setting with the highest validation score.

    Raises:
      FolderError: If the folder is neither a run nor a sweep, or nothing has been logged yet.
    """
    (folder,) = read([workdir])
    return of_run(folder) if folder.axes is None else of_sweep(folder)


def of_run(folder: Folder) -> list[Finding]:
    """Returns findings about a run, most important first.

    Args:
      folder: The run.

    Returns:
      The findings.

    Raises:
      FolderError: If nothing has been logged yet.
    """
    return findings(_observed(folder))


def findings(run: Observed) -> list[Finding]:
    """Applies the rules to a run; problems outside the temperature take precedence.

    Args:
      run: The logged data of the run.

    Returns:
      Findings, most important first.
    """
    other_cause = explain_away(run)
    problems = [other_cause or judge(run), raised(run)]
    if not any(problems):
        problems = [healthy(run)]
    return [finding for finding in (*problems, None if other_cause else narrow(run)) if finding]


def _observed(folder: Folder) -> Observed:
    runs = _begun(folder.settings[0])
    if not runs:
        raise FolderError(f"{folder.path / 'metrics.jsonl'} contains no step yet; try again later")
    return runs[0]


def _begun(setting: Setting) -> list[Observed]:
    """Returns the runs of a setting that have logged a step."""
    return [
        Observed(setting.config, run.metrics, run.diverged_at)
        for run in setting.runs
        if any("loss" in row for row in run.metrics)
    ]


def of_sweep(folder: Folder) -> list[Finding]:
    """Returns findings about each setting of a sweep, by the majority of its seeds.

    Args:
      folder: The sweep.

    Returns:
      The findings of each setting in order, then the setting that scores best.

    Raises:
      FolderError: If nothing has been logged yet.
    """
    advised = _advised(folder)
    return [*(finding for findings in advised for finding in findings), _best(folder)]


def in_short(folder: Folder) -> list[Finding]:
    """Returns a summary of a sweep for a report, with one finding per cause.

    The numbers of each finding are those of the first setting with that cause.

    Args:
      folder: The sweep.

    Returns:
      The setting that scores best, then one finding per cause.

    Raises:
      FolderError: If nothing has been logged yet.
    """
    by_cause: dict[str, list[tuple[str, Finding]]] = {}
    for setting, (first, *_) in zip(folder.settings, _advised(folder), strict=True):
        by_cause.setdefault(first.cause, []).append((setting.label, first))
    summary = []
    for (_, first), *others in by_cause.values():
        same = f" (the same applies to {', '.join(label for label, _ in others)})" if others else ""
        summary.append(first._replace(seen=first.seen + same))
    return [_best(folder), *summary]


def _advised(folder: Folder) -> list[list[Finding]]:
    begun = [_begun(setting) for setting in folder.settings]
    if not any(begun):
        raise FolderError(
            f"no run of the sweep in {folder.path} has logged a step; try again later"
        )
    return [_agreed(*each) for each in zip(folder.settings, begun, strict=True)]


def _agreed(setting: Setting, runs: list[Observed]) -> list[Finding]:
    """Returns the findings of most seeds, with the numbers of the first such seed."""
    if not runs:
        return [Finding("too_early", f"{setting.label}: nothing logged yet", "try again later")]
    by_run = [findings(run) for run in runs]
    causes = [first.cause for first, *_ in by_run]
    cause, count = Counter(causes).most_common(1)[0]
    seeds = f", {count} of {len(runs)} seeds" if len(runs) > 1 else ""
    shown = by_run[causes.index(cause)]
    return [each._replace(seen=f"{setting.label}{seeds}: {each.seen}") for each in shown]


def _best(folder: Folder) -> Finding:
    choice = choose(folder.settings, folder.metric) if folder.metric else None
    if choice is None:
        return _no_choice(folder)
    best, score, compared, rivals = choice
    if len(compared) > 1 and worst(choice, folder.metric).score(folder.metric).mean == score.mean:
        return _all_equal(folder, score, len(compared))
    among = "" if len(compared) == len(folder.settings) else f" of the {len(compared)} with all"
    among += " scores" if among else ""
    seen = f"{best.label} scores best{among}: {folder.metric} {_shown(score)}"
    if rivals:
        labels = ", ".join(rival.label for rival in rivals)
        seen += f"; paired by seed, it cannot be told apart from: {labels}"
    more = _MORE if rivals or score.runs == 1 else ""
    return Finding("best", seen, _where(folder, best) + more)


def _all_equal(folder: Folder, score: Interval, count: int) -> Finding:
    seen = f"all {count} settings score the same: {folder.metric} {_shown(score)}"
    return Finding(
        "best",
        seen,
        "this score does not choose a setting; evaluate on harder or more held-out data",
    )


def _no_choice(folder: Folder) -> Finding:
    if folder.metric:
        return Finding("best", "no setting has a score", "scores are computed at the end")
    seen = "nothing selects a setting, because the sweep has no validation scores"
    return Finding(
        "best", seen, "set evaluators with held-out data; final_evaluators select nothing"
    )


def _shown(score: Interval) -> str:
    if score.runs == 1:
        return f"{score.mean:.3f} with one seed"
    return (
        f"{score.mean:.3f} (95% interval {score.low:.3f} to {score.high:.3f}, {score.runs} seeds)"
    )


def _where(folder: Folder, best: Setting) -> str:
    """Advises whether to widen the sweep, by where the best temperature lies in its range."""
    swept = sorted((folder.axes or {}).get(TEMPERATURE, ()))
    if len(swept) < 2:
        return "use this setting"
    temperature = best.values[TEMPERATURE]
    if temperature not in (swept[0], swept[-1]):
        return "it lies between the swept temperatures"
    end, factors = ("lowest", (1 / 2, 1 / 5)) if temperature == swept[0] else ("highest", (2, 5))
    further = " and ".join(f"{temperature * factor:.1g}" for factor in factors)
    return f"it is the {end} of the swept temperatures: widen the sweep to {further}"
