"""Names of scores: the split, the task and the metric."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

__all__ = ["ScoreName"]

VALIDATION, TEST = "validation", "test"
_SPLITS = (VALIDATION, TEST)


class ScoreName(NamedTuple):
    """What a score is of. As text it is `SPLIT/TASK/METRIC`.

    A task that has the name of its split is not repeated, as in `test/nDCG@10`.

    >>> str(ScoreName("test", "scifact", "nDCG@10"))
    'test/scifact/nDCG@10'
    >>> ScoreName.parse("validation/nDCG@10")
    ScoreName(split='validation', task='validation', metric='nDCG@10')

    Attributes:
      split: `validation` for scores of `evaluators`, which select checkpoints and settings, or
        `test` for scores of `final_evaluators`, which select nothing.
      task: Name of the evaluator in the experiment.
      metric: Name of the metric.
    """

    split: str
    task: str
    metric: str

    def __str__(self) -> str:
        if self.split == self.task and "/" not in self.metric:
            return f"{self.split}/{self.metric}"
        return "/".join(self)

    @classmethod
    def parse(cls, text: str) -> ScoreName:
        """Parses the text of a name.

        Args:
          text: The text, such as `test/scifact/nDCG@10`.

        Returns:
          The name.

        Raises:
          ValueError: If the text is not the name of a score.
        """
        split, *rest = text.split("/", 2)
        if split not in _SPLITS or not rest:
            raise ValueError(f"{text!r} is not SPLIT/TASK/METRIC with a SPLIT in {_SPLITS}")
        task, metric = rest if len(rest) == 2 else (split, rest[0])
        return cls(split, task, metric)


def task_title(split: str, task: str) -> str:
    """Returns the beginning of the names of all scores of a task, such as `test/scifact`."""
    return split if split == task else f"{split}/{task}"


def is_score(column: str) -> bool:
    """Returns whether a column of a table contains a score."""
    return column.startswith(tuple(f"{split}/" for split in _SPLITS))


def columns(split: str, scores: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """Names scores by split, task and metric.

    Args:
      split: The split of all scores.
      scores: Metrics by task and name.

    Returns:
      The scores by the text of their `ScoreName`.
    """
    return {
        str(ScoreName(split, task, metric)): value
        for task, metrics in scores.items()
        for metric, value in metrics.items()
    }
