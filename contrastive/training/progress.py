"""Progress of the evaluations of a run, which decides its best parameters and its end."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence


@dataclasses.dataclass(frozen=True)
class Progress:
    """Progress of the evaluations. Tuples have one entry per run, of which a sweep has several.

    Attributes:
      best: Best value of the metric so far; None before the first evaluation.
      best_step: Step of the best value.
      worse: Number of evaluations since the best one.
      saved_step: Last step at which some run improved and parameters were saved.
      raised: How often the temperature was raised after the run diverged.
      evaluated_step: Step of the last evaluation.
    """

    best: tuple[float | None, ...]
    best_step: tuple[int, ...]
    worse: tuple[int, ...]
    saved_step: int = 0
    raised: int = 0
    evaluated_step: int = 0

    @classmethod
    def start(cls, runs: int) -> Progress:
        """Returns the progress before the first evaluation."""
        return cls((None,) * runs, (0,) * runs, (0,) * runs)

    def after(
        self, values: Sequence[float | None], step: int, patience: int | None
    ) -> tuple[Progress, list[bool]]:
        """Adds an evaluation.

        Args:
          values: The metric of each run; None for a run that was not evaluated.
          step: Step of the evaluation.
          patience: Number of evaluations without improvement after which a run's best is final.

        Returns:
          The new progress, and which runs improved.
        """
        settled = [patience is not None and worse >= patience for worse in self.worse]
        improved = [
            # A score that is not a number, as of a collapsed encoder, is never the best.
            value is not None
            and math.isfinite(value)
            and not done
            and (best is None or value > best)
            for value, best, done in zip(values, self.best, settled, strict=True)
        ]
        each = zip(values, self.best, self.best_step, self.worse, improved, settled, strict=True)
        new = [
            (value, step, 0) if better else (best, at, worse if done else worse + 1)
            for value, best, at, worse, better, done in each
        ]
        best, best_step, worse = zip(*new, strict=True)
        saved_step = step if any(improved) else self.saved_step
        return Progress(best, best_step, worse, saved_step, self.raised, step), improved

    def is_over(self, patience: int | None) -> bool:
        """Whether all runs have exhausted the patience."""
        return patience is not None and all(worse >= patience for worse in self.worse)
