"""Settings that are compared with each other."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from contrastive.config import flatten
from contrastive.lab.report.reading import Folder, is_number, short, shown
from contrastive.lab.report.setting import Setting

TEMPERATURE = "loss.temperature"
_NO_AXES = ("name", "seed", "init_seed")


@dataclasses.dataclass(frozen=True)
class Study:
    """The settings of a sweep, or all runs that are not of one.

    Attributes:
      label: The sweep's folder; `runs`.
      axis: What a place among the settings is called: the one swept field, `setting` or `run`.
      axes: Fields in which settings differ; those that are numbers first.
      settings: In order.
      metric: What chooses the best.
      bm25: Its scores on each task.
    """

    label: str
    axis: str
    axes: Sequence[str]
    settings: Sequence[Setting]
    metric: str
    bm25: Sequence[Mapping[str, float]]

    def place(self, setting: Setting) -> str:
        """What tells a setting from the others of the study, where `axis` is said already."""
        one = len(self.axes) == 1 and self.axis != "run"
        return shown(setting.values[self.axes[0]]) if one else setting.label

    @property
    def field(self) -> str | None:
        """The field against which scores are drawn, None where no number differs."""
        values = [setting.values.get(self.axes[0]) for setting in self.settings if self.axes]
        return self.axes[0] if values and all(map(is_number, values)) else None

    @property
    def rows(self) -> list[dict[str, Any]]:
        """A row a run: the setting's values, and scores."""
        return [{**s.values, **run.scores} for s in self.settings for run in s.runs]


def studies(folders: Sequence[Folder]) -> list[Study]:
    """Each sweep by itself, and all runs together.

    Args:
      folders: That were read.

    Returns:
      Sweeps in their order, then the runs.
    """
    found = []
    for folder in folders:
        if folder.axes is not None:
            axes = sorted(folder.axes, key=lambda name: name != TEMPERATURE)
            name = short(axes[0]) if len(axes) == 1 else "setting"
            bm25 = [folder.bm25] if folder.bm25 else []
            found.append(
                Study(folder.label, name, axes, folder.settings, folder.config.metric, bm25)
            )
    runs = [folder for folder in folders if folder.axes is None]
    return [*found, _of_runs(runs)] if runs else found


def _of_runs(folders: Sequence[Folder]) -> Study:
    values = [
        {name: _hashable(x) for name, x in flatten(f.config.model_dump(mode="json")).items()}
        for f in folders
    ]
    axes = [name for name in _differing(values) if name not in _NO_AXES]
    axes.sort(key=lambda name: not all(is_number(of_run.get(name)) for of_run in values))
    axes.sort(key=lambda name: name != TEMPERATURE)
    settings = [
        dataclasses.replace(setting, values={name: of_run.get(name) for name in axes})
        for folder, of_run in zip(folders, values, strict=True)
        for setting in folder.settings
    ]
    bm25 = [dict(pairs) for pairs in dict.fromkeys(tuple(f.bm25.items()) for f in folders) if pairs]
    return Study("runs", "run", axes, settings, folders[0].config.metric, bm25)


def _differing(flat: Sequence[Mapping[str, Any]]) -> list[str]:
    """Names whose values are not the same everywhere."""
    missing = object()
    names = dict.fromkeys(name for one in flat for name in one)
    return [name for name in names if len({one.get(name, missing) for one in flat}) > 1]


def differences_of(folders: Sequence[Folder]) -> dict[str, list[Any]]:
    """Where the configs of folders differ.

    Args:
      folders: That were read.

    Returns:
      Values in the order of the folders by field, those that a sweep swept as tuples; None where
      a config has no such field.
    """
    values = []
    for folder in folders:
        flat = flatten(folder.config.model_dump(mode="json"))
        swept = {name: tuple(some) for name, some in (folder.axes or {}).items()}
        values.append({name: _hashable(x) for name, x in flat.items()} | swept)
    return {name: [one.get(name) for one in values] for name in _differing(values)}


class Labelled(NamedTuple):
    """A setting among those of all studies.

    Attributes:
      label: Tells it from all others.
      study: Whose it is.
      setting: It.
    """

    label: str
    study: Study
    setting: Setting


def labelled(some: Sequence[Study]) -> list[Labelled]:
    """All settings.

    Args:
      some: Studies.

    Returns:
      Settings in order; with the sweep's folder where there are several studies.
    """
    return [
        Labelled(
            setting.label
            if len(some) == 1 or study.axis == "run" or setting.label == study.label
            else f"{study.label}: {setting.label}",
            study,
            setting,
        )
        for study in some
        for setting in study.settings
    ]


def score_columns(some: Iterable[Study]) -> list[str]:
    """Names of all scores, what chooses the best first.

    Args:
      some: Studies.

    Returns:
      Names, each once.
    """
    some = list(some)
    names = list(dict.fromkeys(n for study in some for row in study.rows for n in row))
    axes = {name for study in some for name in study.axes}
    columns = [name for name in names if name not in axes]
    chosen = [study.metric for study in some if study.metric in columns]
    return list(dict.fromkeys([*chosen, *columns]))


def _hashable(value: Any) -> Any:
    return json.dumps(value) if isinstance(value, list) else value
