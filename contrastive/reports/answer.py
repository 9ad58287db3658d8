"""The answer that a report begins with: the best setting, what others cost, and advice."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from contrastive.advice.advisor import in_short, of_run
from contrastive.advice.observed import Finding
from contrastive.errors import FolderError
from contrastive.folders.choice import TEMPERATURE, Choice, cost, worst
from contrastive.folders.reading import Folder, short, shown
from contrastive.reports.block import Row, Table
from contrastive.reports.scores import baseline_rows, told_apart
from contrastive.reports.study import Study
from contrastive.sweeps.table import in_words

_FACTORS = ((0.5, "half"), (2.0, "twice"))
_NO_CHOICE = (
    "Nothing selects a setting, because there are no validation scores. Set evaluators with "
    "held-out data; test scores, of final_evaluators, select nothing."
)
_NO_TEST = (
    "There are no test scores, because the experiment has no final_evaluators. The score of the "
    "best setting is optimistic, because the same data selected it."
)


class Answer(NamedTuple):
    """The answer of a study.

    Attributes:
      label: The study; empty if there is only one.
      headline: The best setting and its score, in a few words; empty if there is none.
      words: Sentences below the headline.
      table: What it costs to be off by a factor of two, without rows if it is not known.
      advice: Findings by label of the folder.
    """

    label: str
    headline: str
    words: Sequence[str]
    table: Table
    advice: Sequence[tuple[str, Sequence[Finding]]]


def answers(folders: Sequence[Folder], studies: Sequence[Study]) -> list[Answer]:
    """Returns the answers of all studies.

    Args:
      folders: The folders that were read.
      studies: The studies that `studies` made of them.

    Returns:
      One answer per study.
    """
    answers = []
    for study in studies:
        own = [folder for folder in folders if _belongs(folder, study)]
        label = own[0].label if len(own) == 1 else study.label
        answers.append(_answer(study, own, label if len(studies) > 1 else ""))
    return answers


def _belongs(folder: Folder, study: Study) -> bool:
    if folder.axes is None:
        return study.axis == "run"
    return study.axis != "run" and folder.label == study.label


def _answer(study: Study, folders: Sequence[Folder], label: str) -> Answer:
    advice = [(x.label if len(folders) > 1 else "", _findings(x)) for x in folders]
    nothing = Table("", [], [])
    if not any(run.scores for setting in study.settings for run in setting.runs):
        return Answer(label, "", ["Nothing has a score yet."], nothing, advice)
    choice = study.choice
    if choice is None:
        return Answer(label, "", [_NO_CHOICE] if not study.metric else [], nothing, advice)
    words = [_test_words(study, choice)]
    if len(study.settings) > 1:
        words.insert(0, told_apart(study))
    return Answer(label, _headline(study, choice), words, _costs(study, choice), advice)


def _findings(folder: Folder) -> list[Finding]:
    try:
        return of_run(folder) if folder.axes is None else in_short(folder)
    except FolderError as error:  # nothing has been logged yet
        return [Finding("too_early", str(error), "")]


def _headline(study: Study, choice: Choice) -> str:
    best, score = choice.best, choice.score
    seeds = "1 seed" if score.runs == 1 else f"{score.runs} seeds"
    number = f"{study.metric} {in_words(score)}, {seeds}"
    if len(study.settings) == 1:
        return number
    if (
        len(choice.compared) > 1
        and worst(choice, study.metric).score(study.metric).mean == score.mean
    ):
        return f"All settings score the same ({number})"
    if list(study.axes) == [TEMPERATURE] and study.axis != "run":
        return f"Best temperature: {shown(best.values[TEMPERATURE])} ({number})"
    return f"Best {'run' if study.axis == 'run' else 'setting'}: {best.label} ({number})"


def _test_words(study: Study, choice: Choice) -> str:
    test = study.counterpart()
    if test is None:
        return _NO_TEST
    words = f"Its {test} is {in_words(choice.best.score(test))}"
    others = [f"{label} {x[test]:.3f}" for label, x in baseline_rows([study]) if test in x]
    return f"{words} ({', '.join(others)})." if others else f"{words}."


def _costs(study: Study, choice: Choice) -> Table:
    """Returns the differences at half and at twice the best temperature."""
    metrics = [name for name in (study.metric, study.counterpart()) if name]
    if study.axis == "run" or TEMPERATURE not in study.axes or len(study.settings) < 2:
        return Table("", [], [])
    best = choice.best.values[TEMPERATURE]
    rows = []
    for factor, words in _FACTORS:
        costs = [cost(study.settings, choice.best, name, factor) for name in metrics]
        label = f"{words}: {shown(float(f'{best * factor:.3g}'))}"
        if first := costs[0]:
            if first.between:
                low, high = map(shown, first.between)
                label += f" (interpolated between {low} and {high})"
            cells = [in_words(each.difference, "+") if each else "-" for each in costs]
        else:
            cells = ["outside of the swept range", *["-"] * (len(metrics) - 1)]
        rows.append(Row(label, cells))
    caption = (
        "What it costs to be off by a factor of two: differences from the best temperature ± half "
        "the width of their 95% intervals, paired by seed."
    )
    return Table(caption, [short(TEMPERATURE), *metrics], rows)
