"""Which setting a score selects, and how much worse its neighbors are."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from contrastive.folders.setting import Setting
from contrastive.sweeps.table import Interval, comparable, interval

TEMPERATURE = "loss.temperature"
_SAME = 1e-6  # relative difference of temperatures


class Choice(NamedTuple):
    """The setting with the highest mean of a score.

    Attributes:
      best: The setting.
      score: The mean of its score and the interval over seeds.
      compared: The settings that it was chosen from, itself included: those whose seeds all have a
        score, because the seeds that did not diverge are a biased sample of their setting. If there
        is no such setting, all that have any score.
      rivals: The settings among them whose difference from the best has an interval that includes
        0. The difference is paired by seed; with a single seed there is no interval.
    """

    best: Setting
    score: Interval
    compared: Sequence[Setting]
    rivals: Sequence[Setting]


class Cost(NamedTuple):
    """What it costs to use another temperature than the best.

    Attributes:
      temperature: The other temperature.
      difference: How much its score exceeds that of the best, paired by seed.
      between: The swept temperatures between which its score was interpolated linearly in the
        logarithm of the temperature, for each seed; empty if it was swept itself.
    """

    temperature: float
    difference: Interval
    between: tuple[float, ...]


def choose(settings: Sequence[Setting], metric: str) -> Choice | None:
    """Returns the setting with the highest mean of a score.

    Args:
      settings: The settings.
      metric: Name of the score.

    Returns:
      The choice; None if no setting has the score.
    """
    scores = {place: setting.score(metric) for place, setting in enumerate(settings)}
    kept = comparable(scores, {place: len(x.runs) for place, x in enumerate(settings)})
    if not kept:
        return None
    compared = [settings[place] for place in kept]
    best = settings[max(kept, key=lambda place: kept[place].mean)]
    rivals = [x for x in compared if x is not best and _includes_0(x.difference(best, metric))]
    return Choice(best, best.score(metric), compared, rivals)


def worst(choice: Choice, metric: str) -> Setting:
    """Returns the setting with the lowest mean of a score among those that were compared.

    The last of several, because the best is the first of several: if all scores are equal, the two
    are different settings.
    """
    return min(reversed(choice.compared), key=lambda setting: setting.score(metric).mean)


def cost(settings: Sequence[Setting], best: Setting, metric: str, factor: float) -> Cost | None:
    """Returns what it costs to be off the best temperature by a factor.

    Args:
      settings: The settings of a sweep.
      best: The best of them.
      metric: Name of the score.
      factor: Ratio of the other temperature to the best.

    Returns:
      The cost; None if the other temperature is outside of the swept range, or the sweep has
      several fields and does not have all neighbors.
    """
    if TEMPERATURE not in best.values:
        return None
    others = {name: x for name, x in best.values.items() if name != TEMPERATURE}
    line = {
        float(setting.values[TEMPERATURE]): setting
        for setting in settings
        if {n: x for n, x in setting.values.items() if n != TEMPERATURE} == others
    }
    target = float(best.values[TEMPERATURE]) * factor
    for temperature, setting in line.items():
        if math.isclose(temperature, target, rel_tol=_SAME):
            return Cost(target, setting.difference(best, metric), ())
    below = max((t for t in line if t < target), default=None)
    above = min((t for t in line if t > target), default=None)
    if below is None or above is None or below <= 0:
        return None
    share = math.log(target / below) / math.log(above / below)
    low, high = (line[t].differences(best, metric) for t in (below, above))
    values = [(1 - share) * low[seed] + share * high[seed] for seed in low if seed in high]
    return Cost(target, interval(values), (below, above))


def _includes_0(difference: Interval) -> bool:
    return difference.runs > 1 and difference.low <= 0 <= difference.high
