"""Named evaluators, whose data is loaded once and reused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from contrastive.errors import ConfigError, DataError
from contrastive.tasks._evaluator import Evaluator

if TYPE_CHECKING:
    from contrastive.encoder import Encoder

Scores: TypeAlias = dict[str, dict[str, float]]


class Evaluated(NamedTuple):
    """Result of evaluating an encoder.

    Attributes:
      scores: Metrics by evaluator and name.
      examples: By evaluator, what a few queries retrieved, as `examples_of` returns it.
    """

    scores: Scores
    examples: dict[str, list[dict[str, Any]]]


class _Loaded(NamedTuple):
    evaluator: Evaluator
    data: Any


class Suite:
    """Evaluators with their data.

    Args:
      evaluators: Evaluators by name.

    Raises:
      DataError: If data is missing or cannot be used.
    """

    def __init__(self, evaluators: Mapping[str, Evaluator]):
        self._loaded = {name: _Loaded(x, _data_of(name, x)) for name, x in evaluators.items()}

    def __bool__(self) -> bool:
        return bool(self._loaded)

    def scores(self, encoder: Encoder) -> Scores:
        """Computes the scores of an encoder: metrics by evaluator and name."""
        return self.evaluate(encoder).scores

    def evaluate(self, encoder: Encoder) -> Evaluated:
        """Computes the scores of an encoder, with examples of what it retrieves."""
        measured = {
            name: evaluator.evaluate(encoder, data)
            for name, (evaluator, data) in self._loaded.items()
        }
        scores = {
            name: _numbers(name, self._loaded[name].evaluator.metric_names, metrics)
            for name, metrics in measured.items()
        }
        examples = {name: getattr(metrics, "examples", []) for name, metrics in measured.items()}
        return Evaluated(scores, {name: some for name, some in examples.items() if some})

    def baselines(self) -> dict[str, Scores]:
        """Computes metrics of other systems, by evaluator, system and name, where there are any."""
        measured = {
            name: evaluator.baselines(data) for name, (evaluator, data) in self._loaded.items()
        }
        return {
            name: {system: dict(metrics) for system, metrics in systems.items()}
            for name, systems in measured.items()
            if systems
        }

    def describe(self) -> dict[str, dict[str, Any]]:
        """Returns the settings of each evaluator, its numbers of texts and their fingerprint.

        `counts` has only the numbers of texts, which else cannot be told from settings.
        """
        return {
            name: {**evaluator.model_dump(mode="json"), **about, "counts": _counts(about)}
            for name, (evaluator, data) in self._loaded.items()
            for about in [evaluator.describe(data)]
        }

    def fingerprints(self) -> dict[str, str]:
        """Returns the fingerprints of the data, for evaluators that have one."""
        described = {name: x.evaluator.describe(x.data) for name, x in self._loaded.items()}
        return {name: x["fingerprint"] for name, x in described.items() if "fingerprint" in x}


def _data_of(name: str, evaluator: Evaluator) -> Any:
    try:
        return evaluator.load()
    except OSError as error:
        raise DataError(
            f"the data of the evaluator {name!r} ({evaluator.short_name()}) cannot be read: {error}"
        ) from None


def flat(scores: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """Flattens scores to names of the form `EVALUATOR/METRIC`."""
    return {
        f"{name}/{m}": value for name, metrics in scores.items() for m, value in metrics.items()
    }


def named(
    evaluators: Evaluator | Sequence[Evaluator] | Mapping[str, Evaluator],
) -> dict[str, Evaluator]:
    """Names evaluators; those of a sequence are named by kind, numbered if a kind repeats.

    Args:
      evaluators: One evaluator, a sequence, or a mapping by name.

    Returns:
      The evaluators by name.

    Raises:
      ConfigError: If something else is among them.
    """
    if isinstance(evaluators, Evaluator):
        evaluators = [evaluators]
    if isinstance(evaluators, str):
        raise _not_an_evaluator(evaluators)
    is_mapping = isinstance(evaluators, Mapping)
    for evaluator in evaluators.values() if is_mapping else evaluators:
        if not isinstance(evaluator, Evaluator):
            raise _not_an_evaluator(evaluator)
    if is_mapping:
        return dict(evaluators)
    names: dict[str, Evaluator] = {}
    for evaluator in evaluators:
        name = evaluator.short_name()
        number = sum(known.short_name() == name for known in names.values()) + 1
        names[name if number == 1 else f"{name}_{number}"] = evaluator
    return names


def _not_an_evaluator(value: Any) -> ConfigError:
    return ConfigError(
        f"expected evaluators, got {value!r:.60}; pass instances of classes in contrastive.tasks, "
        "such as STS"
    )


def _counts(described: Mapping[str, Any]) -> dict[str, int]:
    return {
        name: value
        for name, value in described.items()
        if isinstance(value, int) and not isinstance(value, bool)
    }


def _numbers(name: str, names: Sequence[str], metrics: Mapping[str, float]) -> dict[str, float]:
    if not isinstance(metrics, Mapping):
        raise ConfigError(
            f"the evaluator {name!r} returned {metrics!r:.60}; return a dict of numbers by name"
        )
    if missing := [metric for metric in names if metric not in metrics]:
        raise ConfigError(
            f"the evaluator {name!r} did not return {', '.join(missing)}, which its metric_names "
            f"contain; it returned {', '.join(metrics)}"
        )
    numbers = {}
    for metric, value in metrics.items():
        try:
            numbers[metric] = float(value)
        except (TypeError, ValueError):
            raise ConfigError(
                f"the evaluator {name!r} returned {metric} = {value!r:.60}; return numbers"
            ) from None
    return numbers
