"""What the best and the worst setting retrieve for the same queries."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from contrastive.folders.choice import worst
from contrastive.folders.setting import Setting
from contrastive.reports.study import Study
from contrastive.training.stored import RankedQuery

_BETTER, _WORSE = 3, 1  # queries that are shown where the best setting ranks better, and worse


class Ranking(NamedTuple):
    """The first documents of a query by one setting.

    Attributes:
      label: The setting.
      rank: In words, the rank of the first relevant document.
      documents: Text and relevance of each document, best first.
    """

    label: str
    rank: str
    documents: Sequence[tuple[str, bool]]


class Comparison(NamedTuple):
    """A query with its first documents by two settings.

    Attributes:
      query: Text of the query.
      rankings: The rankings of the best and of the worst setting.
    """

    query: str
    rankings: Sequence[Ranking]


class Examples(NamedTuple):
    """Queries of a task on which two settings differ.

    Attributes:
      title: The task, and the study if there are several.
      words: Which settings are compared, and on how many queries each of them ranks better.
      comparisons: The queries that are shown.
    """

    title: str
    words: str
    comparisons: Sequence[Comparison]


def retrieved(studies: Sequence[Study]) -> list[Examples]:
    """Compares what the best and the worst setting of each study retrieve.

    Args:
      studies: The studies.

    Returns:
      One comparison per study and task with stored examples.
    """
    examples = []
    for study in studies:
        choice = study.choice
        if choice is None or len(choice.compared) < 2:
            continue
        pair = choice.best, worst(choice, study.metric)
        for task in _of_first_run(pair[0]):
            title = f"{study.label}: {task}" if len(studies) > 1 else task
            if comparison := _compared(title, pair, task):
                examples.append(comparison)
    return examples


def _compared(title: str, pair: tuple[Setting, Setting], task: str) -> Examples | None:
    """Compares the first seeds of two settings on the queries that both have stored."""
    best, other = (_of_first_run(setting).get(task, []) for setting in pair)
    theirs = {ranked.query: ranked for ranked in other}
    both = [(ranked, theirs[ranked.query]) for ranked in best if ranked.query in theirs]
    if not both:
        return None
    gains = [_reciprocal(ours) - _reciprocal(other) for ours, other in both]
    order = sorted(range(len(both)), key=lambda place: gains[place])
    worse = [place for place in order if gains[place] < 0]
    better = [place for place in reversed(order) if gains[place] > 0]
    shown = better[:_BETTER] + worse[:_WORSE] or order[:1]
    words = (
        f"The first seeds of {pair[0].label}, the best setting, and {pair[1].label}, the worst, on "
        f"{len(both)} queries that are spread evenly over the task: the best ranks the first "
        f"relevant document higher for {len(better)}, lower for {len(worse)}, and equally for "
        f"{len(both) - len(better) - len(worse)}. Shown are those with the largest differences; "
        "relevant documents are marked."
    )
    labels = [setting.label for setting in pair]
    comparisons = [
        Comparison(
            both[place][0].query,
            [_ranking(label, x) for label, x in zip(labels, both[place], strict=True)],
        )
        for place in shown
    ]
    return Examples(title, words, comparisons)


def _of_first_run(setting: Setting) -> dict[str, Sequence[RankedQuery]]:
    """Returns the examples of the first run that has some, by split and task."""
    return next((dict(run.examples) for run in setting.runs if run.examples), {})


def _reciprocal(ranked: RankedQuery) -> float:
    return 1 / ranked.rank if ranked.rank else 0.0


def _ranking(label: str, ranked: RankedQuery) -> Ranking:
    rank = "none found" if ranked.rank is None else f"at rank {ranked.rank}"
    return Ranking(label, rank, [(x.text, x.relevant) for x in ranked.documents])
