"""Tables of scores, and the sentences about them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from contrastive.folders.reading import Folder
from contrastive.folders.setting import Setting
from contrastive.reports.block import Row, Table
from contrastive.reports.study import Study, labeled, score_columns
from contrastive.sweeps.table import in_words
from contrastive.tasks._score_name import ScoreName, task_title

_BEST = "best"


def score_table(studies: Sequence[Study]) -> Table:
    """Returns a table of the scores that select, differences from the best, and test scores.

    Args:
      studies: The studies.

    Returns:
      A table with one row per setting and baseline; the best setting of each study is marked.
    """
    metrics = list(dict.fromkeys(study.metric for study in studies if study.metric))
    tests = [study.counterpart() for study in studies]
    columns = [name for name in score_columns(studies) if name in metrics]
    if not columns:
        columns = score_columns(studies)[:1]
    has_choice = any(x.choice is not None and len(x.settings) > 1 for x in studies)
    others = list(dict.fromkeys(name for name in tests if name and name not in columns))
    rows = []
    for label, scores in baseline_rows(studies):
        if set(scores) & {*columns, *others}:
            cells, tested = (_numbers(scores, names) for names in (columns, others))
            rows.append(Row(label, ["", *cells, *[""] * has_choice, *tested, ""]))
    for label, study, setting in labeled(studies):
        choice = study.choice if len(study.settings) > 1 else None
        is_best = choice is not None and choice.best is setting
        name = study.place(setting) if len(studies) == 1 else label
        cells, tested = (_scores(setting, names) for names in (columns, others))
        differences = [_difference(study, setting)] * has_choice
        seeds = str(len(setting.runs))
        rows.append(Row(name, [seeds, *cells, *differences, *tested, setting.state], is_best))
    head = [studies[0].axis if len(studies) == 1 else "setting", "seeds", *columns]
    best = (
        "difference from the best" if len(studies) == 1 else "difference from the best of its group"
    )
    words = "Means over seeds ± half the width of their 95% confidence intervals (Student's t)."
    if has_choice:
        words += " Differences are paired by seed, because seeds share batches and initialization."
    return Table(words, [*head, *[best] * has_choice, *others, "state"], rows)


def detail_tables(studies: Sequence[Study]) -> list[Table]:
    """Returns a table of all metrics for each split and task.

    Args:
      studies: The studies.

    Returns:
      The tables; empty if there are no metrics but those of `score_table`.
    """
    by_task: dict[tuple[str, str], list[str]] = {}
    for column in score_columns(studies):
        name = ScoreName.parse(column)
        by_task.setdefault((name.split, name.task), []).append(column)
    if all(len(columns) == 1 for columns in by_task.values()):
        return []
    corner = studies[0].axis if len(studies) == 1 else "setting"
    tables = []
    for (split, task), columns in by_task.items():
        rows = [
            Row(label, _numbers(scores, columns))
            for label, scores in baseline_rows(studies)
            if set(scores) & set(columns)
        ]
        for label, study, setting in labeled(studies):
            if any(setting.score(name).runs for name in columns):
                name = study.place(setting) if len(studies) == 1 else label
                rows.append(Row(name, _scores(setting, columns)))
        head = [corner, *(ScoreName.parse(column).metric for column in columns)]
        tables.append(Table("", head, rows, task_title(split, task)))
    return tables


def baseline_rows(studies: Sequence[Study]) -> list[tuple[str, Mapping[str, float]]]:
    """Returns the scores of other systems, such as BM25, with labels that tell them apart.

    Args:
      studies: The studies. Folders with the same scores share an entry.

    Returns:
      Labels and scores; the label names the folder if a system has several scores.
    """
    by_system: dict[str, list[tuple[str, Mapping[str, float]]]] = {}
    for study in studies:
        for folder, systems in study.baselines.items():
            for system, scores in systems.items():
                known = by_system.setdefault(system, [])
                if scores not in [other for _, other in known]:
                    known.append((folder, scores))
    return [
        (system if len(known) == 1 else f"{system} of {folder}", scores)
        for system, known in by_system.items()
        for folder, scores in known
    ]


def different_data(folders: Sequence[Folder]) -> list[str]:
    """Names the tasks whose texts differ between folders.

    Args:
      folders: The folders that were read.

    Returns:
      One sentence per task.
    """
    by_task: dict[str, dict[str, list[str]]] = {}
    for folder in folders:
        for task, about in folder.ending.get("evaluators", {}).items():
            if fingerprint := about.get("fingerprint"):
                same = by_task.setdefault(task_title(folder.split, task), {})
                same.setdefault(str(fingerprint), []).append(folder.label)
    return [
        f"The texts of {task} differ between folders, so that their scores cannot be compared: "
        f"{' | '.join(', '.join(labels) for labels in same.values())}."
        for task, same in by_task.items()
        if len(same) > 1
    ]


def choice_in_words(studies: Sequence[Study], column: str) -> str:
    """Describes which setting is selected, and a score of it.

    Args:
      studies: The studies.
      column: Name of the score.

    Returns:
      A few sentences; empty if nothing is selected.
    """
    sentences = []
    for study in studies:
        if (choice := study.choice) is None or len(study.settings) < 2:
            continue
        where = f"{study.label}: " if len(studies) > 1 else ""
        score = in_words(choice.best.score(column))
        if column == study.metric:
            sentences.append(
                f"{where}Best {column}: {choice.best.label}, {score}. {told_apart(study)}"
            )
        elif choice.best.score(column).runs:
            sentences.append(
                f"{where}{study.metric} selects {choice.best.label}, whose {column} is {score}."
            )
    return " ".join(sentences)


def told_apart(study: Study) -> str:
    """Describes which settings differ from the best by no more than chance.

    Args:
      study: A study with a choice.

    Returns:
      A sentence.
    """
    choice = study.choice
    assert choice is not None
    if choice.score.runs == 1:
        return "With one seed, chance cannot be told from a difference."
    left_out = [x.label for x in study.settings if x not in choice.compared]
    more = f" Not compared, because not all of its seeds have a score: {'; '.join(left_out)}."
    if choice.rivals:
        words = f"Paired by seed, it cannot be told apart from: {_list(choice.rivals)}."
    else:
        words = "Paired by seed, all other settings are worse beyond chance."
    return words + (more if left_out else "")


def _list(settings: Sequence[Setting]) -> str:
    return "; ".join(setting.label for setting in settings)


def _difference(study: Study, setting: Setting) -> str:
    choice = study.choice
    if choice is None or len(study.settings) == 1:
        return ""
    if choice.best is setting:
        return _BEST
    return in_words(setting.difference(choice.best, study.metric), "+")


def _scores(setting: Setting, columns: Sequence[str]) -> list[str]:
    return [in_words(setting.score(name)) for name in columns]


def _numbers(scores: Mapping[str, Any], columns: Sequence[str]) -> list[str]:
    return [f"{scores[name]:.3f}" if name in scores else "-" for name in columns]
