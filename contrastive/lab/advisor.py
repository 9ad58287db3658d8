"""Reads the folder of a run or of a sweep, and says what it shows of its temperature."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from contrastive.errors import FolderError
from contrastive.lab.advice.heat import healthy, judge, narrow
from contrastive.lab.advice.observed import Finding, Observed
from contrastive.lab.advice.training import explain_away, raised
from contrastive.lab.report.reading import Folder, read
from contrastive.lab.report.setting import Setting
from contrastive.lab.table import Interval

_TEMPERATURE = "loss.temperature"
_MORE = "; more --seeds would show what is chance"


def advise(workdir: Path) -> list[Finding]:
    """What a folder shows of a run that is finished, at work or diverged, or of a sweep.

    Args:
      workdir: Of `contrastive train`, `contrastive sweep`, or `training` in that of `finetune`.

    Returns:
      Of a run: findings, the most important first; one that says `healthy` where nothing needs to
      change. Of a sweep: those of each setting in order, and which is best.

    Raises:
      FolderError: If it is neither's folder, or nothing was logged yet.
    """
    (folder,) = read([workdir])
    return findings(_observed(folder)) if folder.axes is None else of_sweep(folder)


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


def of_sweep(folder: Folder) -> list[Finding]:
    """What the settings of a sweep show, each with what most of its seeds agree on.

    Args:
      folder: The sweep's.

    Returns:
      Findings of each setting in order, then which setting scores best.

    Raises:
      FolderError: If nothing was logged yet.
    """
    advised = _advised(folder)
    return [*(finding for findings in advised for finding in findings), _best(folder)]


def in_short(folder: Folder) -> list[Finding]:
    """What a sweep shows, for a page: settings of one cause together, in numbers of the first.

    Args:
      folder: The sweep's.

    Returns:
      Which setting scores best, then a finding a cause.

    Raises:
      FolderError: If nothing was logged yet.
    """
    together: dict[str, list[tuple[str, Finding]]] = {}
    for setting, (first, *_) in zip(folder.settings, _advised(folder), strict=True):
        together.setdefault(first.cause, []).append((setting.label, first))
    found = []
    for (_, first), *others in together.values():
        like = f" (and likewise {', '.join(label for label, _ in others)})" if others else ""
        found.append(first._replace(seen=first.seen + like))
    return [_best(folder), *found]


def _advised(folder: Folder) -> list[list[Finding]]:
    begun = [_begun(setting) for setting in folder.settings]
    if not any(begun):
        raise FolderError(
            f"no run of the sweep in {folder.path} has logged a step; ask again later"
        )
    return [_agreed(*each) for each in zip(folder.settings, begun, strict=True)]


def _agreed(setting: Setting, runs: list[Observed]) -> list[Finding]:
    """What most seeds show, in numbers of the first of these."""
    if not runs:
        return [Finding("too_early", f"{setting.label}: nothing is logged yet", "ask again later")]
    found = [findings(run) for run in runs]
    causes = [first.cause for first, *_ in found]
    cause, count = Counter(causes).most_common(1)[0]
    seeds = f", {count} of {len(runs)} seeds" if len(runs) > 1 else ""
    shown = found[causes.index(cause)]
    return [each._replace(seen=f"{setting.label}{seeds}: {each.seen}") for each in shown]


def _best(folder: Folder) -> Finding:
    metric = folder.config.metric
    names = {name for setting in folder.settings for run in setting.runs for name in run.scores}
    # A setting that was chosen by the test data has none left to be tested on.
    column = next((name for name in (f"validation/{metric}", metric) if name in names), None)
    if column is None:
        seen = f"no setting has a score of {metric}"
        return Finding("best", seen, "it comes at the end, from data.validation or data.test")
    scores = _scores(folder, column)
    best, score = max(scores, key=lambda each: each[1].mean)
    some = "" if len(scores) == len(folder.settings) else f" of the {len(scores)} with all scores"
    rivals = [other.label for other, x in scores if other is not best and _overlap(x, score)]
    alike = f"; intervals that overlap with it: {', '.join(rivals)}" if rivals else ""
    seen = f"{best.label} scores best{some}: {column} {_shown(score)}{alike}"
    more = _MORE if rivals or score.runs == 1 else ""
    return Finding("best", seen, _where(folder, best) + more)


def _scores(folder: Folder, column: str) -> list[tuple[Setting, Interval]]:
    """Of settings all of whose seeds have a score, or of any where there are none.

    What is left of seeds that have diverged is no measure of a setting.
    """
    found = [(setting, setting.score(column)) for setting in folder.settings]
    whole = [(setting, score) for setting, score in found if score.runs == len(setting.runs)]
    return whole or [(setting, score) for setting, score in found if score.runs]


def _overlap(one: Interval, other: Interval) -> bool:
    """Whether seeds do not tell two settings apart; of one seed alone nothing is known."""
    return min(one.runs, other.runs) > 1 and one.low <= other.high and other.low <= one.high


def _shown(score: Interval) -> str:
    if score.runs == 1:
        return f"{score.mean:.3f} of one seed"
    return f"{score.mean:.3f} ({score.low:.3f} to {score.high:.3f}, 95 % by {score.runs} seeds)"


def _where(folder: Folder, best: Setting) -> str:
    """Whether the sweep has gone past the best temperature on both sides."""
    swept = sorted((folder.axes or {}).get(_TEMPERATURE, ()))
    if len(swept) < 2:
        return "go on with it"
    at = best.values[_TEMPERATURE]
    if at not in (swept[0], swept[-1]):
        return "it lies between the swept temperatures"
    end, factors = ("lowest", (1 / 2, 1 / 5)) if at == swept[0] else ("highest", (2, 5))
    further = " and ".join(f"{at * factor:.1g}" for factor in factors)
    return f"it is the {end} of the swept temperatures: widen the sweep to {further}"
