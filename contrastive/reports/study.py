"""Groups settings into studies, which a report compares."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from contrastive.folders.choice import TEMPERATURE, Choice, choose
from contrastive.folders.reading import Baselines, Folder, is_number, short, shown
from contrastive.folders.setting import Setting
from contrastive.settings import flatten
from contrastive.tasks._score_name import TEST, ScoreName

_NO_AXES = ("name", "seed", "init_seed")


@dataclasses.dataclass(frozen=True)
class Study:
    """The settings of a sweep, or all single runs.

    Attributes:
      label: The folder of the sweep, or `runs`.
      axis: The name of the axis of settings: the only swept field, `setting` or `run`.
      axes: The fields in which settings differ; numeric fields come first.
      settings: The settings, in order.
      metric: The validation score that selects the best setting; empty if there is none.
      baselines: Scores of other systems, by system and name, with the labels of the folders that
        have them.
    """

    label: str
    axis: str
    axes: Sequence[str]
    settings: Sequence[Setting]
    metric: str
    baselines: Mapping[str, Baselines]

    def place(self, setting: Setting) -> str:
        """Returns the label of a setting on an axis that is labeled `axis`.

        Args:
          setting: A setting of the study.

        Returns:
          The value of the only swept field, else the label of the setting.
        """
        is_value = len(self.axes) == 1 and self.axis != "run"
        return shown(setting.values[self.axes[0]]) if is_value else setting.label

    @property
    def field(self) -> str | None:
        """The field that scores are drawn against, or None if no numeric field differs."""
        values = [setting.values.get(self.axes[0]) for setting in self.settings if self.axes]
        return self.axes[0] if values and all(map(is_number, values)) else None

    @property
    def rows(self) -> list[dict[str, Any]]:
        """One row per run: the values of its setting, its seed, and its scores."""
        return [
            {**setting.values, "init_seed": run.seed, **run.scores}
            for setting in self.settings
            for run in setting.runs
        ]

    @property
    def choice(self) -> Choice | None:
        """The setting that the validation score selects; None if there is none."""
        return choose(self.settings, self.metric) if self.metric else None

    def counterpart(self) -> str | None:
        """Returns the test score with the metric that selects, of the same task or the first."""
        if not self.metric:
            return None
        selecting = ScoreName.parse(self.metric)
        tests = [ScoreName.parse(name) for name in score_columns([self])]
        tests = [x for x in tests if x.split == TEST and x.metric == selecting.metric]
        tests.sort(key=lambda name: name.task != selecting.task)
        return str(tests[0]) if tests else None


def studies(folders: Sequence[Folder]) -> list[Study]:
    """Groups folders into studies: one per sweep, and one of all single runs.

    Args:
      folders: The folders that were read.

    Returns:
      The sweeps in their order, then the study of the runs.
    """
    sweeps = []
    for folder in folders:
        if folder.axes is not None:
            axes = sorted(folder.axes, key=lambda name: name != TEMPERATURE)
            name = short(axes[0]) if len(axes) == 1 else "setting"
            baselines = {folder.label: folder.baselines} if folder.baselines else {}
            study = Study(folder.label, name, axes, folder.settings, folder.metric, baselines)
            sweeps.append(study)
    runs = [folder for folder in folders if folder.axes is None]
    return [*sweeps, _of_runs(runs)] if runs else sweeps


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
    metric = next((folder.metric for folder in folders if folder.metric), "")
    baselines = {folder.label: folder.baselines for folder in folders if folder.baselines}
    return Study("runs", "run", axes, settings, metric, baselines)


def _differing(flat: Sequence[Mapping[str, Any]]) -> list[str]:
    """Returns the names whose values differ."""
    missing = object()
    names = dict.fromkeys(name for values in flat for name in values)
    return [name for name in names if len({values.get(name, missing) for values in flat}) > 1]


def differences_of(folders: Sequence[Folder]) -> dict[str, list[Any]]:
    """Returns the fields in which the configs of folders differ.

    Args:
      folders: The folders that were read.

    Returns:
      For each field, its values in the order of the folders: a tuple for a swept field, and None
      for a config without the field.
    """
    configs = []
    for folder in folders:
        flat = flatten(folder.config.model_dump(mode="json"))
        swept = {name: tuple(values) for name, values in (folder.axes or {}).items()}
        configs.append({name: _hashable(x) for name, x in flat.items()} | swept)
    return {name: [config.get(name) for config in configs] for name in _differing(configs)}


class Labeled(NamedTuple):
    """A setting with a label that is unique among several studies.

    Attributes:
      label: The unique label.
      study: The study of the setting.
      setting: The setting.
    """

    label: str
    study: Study
    setting: Setting


def labeled(all_studies: Sequence[Study]) -> list[Labeled]:
    """Returns the settings of all studies, with unique labels.

    Args:
      all_studies: The studies.

    Returns:
      The settings in order; labels include the folder of the sweep if there are several studies.
    """
    return [
        Labeled(
            setting.label
            if len(all_studies) == 1 or study.axis == "run" or setting.label == study.label
            else f"{study.label}: {setting.label}",
            study,
            setting,
        )
        for study in all_studies
        for setting in study.settings
    ]


def score_columns(all_studies: Iterable[Study]) -> list[str]:
    """Returns the names of all scores, those that select the best setting first.

    Args:
      all_studies: The studies.

    Returns:
      The distinct names.
    """
    all_studies = list(all_studies)
    settings = [setting for study in all_studies for setting in study.settings]
    columns = list(dict.fromkeys(n for x in settings for run in x.runs for n in run.scores))
    selecting = [study.metric for study in all_studies if study.metric in columns]
    return list(dict.fromkeys([*selecting, *columns]))


def _hashable(value: Any) -> Any:
    return json.dumps(value) if isinstance(value, list) else value
