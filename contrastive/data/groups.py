"""What a step takes of an example: its query and a group of its documents."""

from __future__ import annotations

import dataclasses
from typing import Literal, NamedTuple

import numpy as np

from contrastive.data.example import Example, Source, text_id
from contrastive.errors import DataError

_LONG = 100  # characters; shorter positives are never shuffled


@dataclasses.dataclass(frozen=True)
class Rules:
    """How groups are drawn from one source.

    Attributes:
      group_size: Documents a query: 1 positive and the rest hard negatives.
      in_batch: Whether its queries see other queries' documents, and these see its documents.
      few_negatives: What to do where a row has fewer negatives than the group wants.
      query_prompt: Put before queries without a prompt of their own.
      document_prompt: Put before documents.
      row_prompt: What a row's own prompt, in place of {}, becomes before its query.
      query_length: Most tokens of a query.
      document_length: Most tokens of a document.
      shuffle_ratio: Share of the long positives whose thirds are put in random order.
      temperature: Of its queries, None for the run's.
      teacher: Whether every document needs a teacher's score.
      negative_scores: Whether these may be negative.
      labels: Whether every row needs a label.
    """

    group_size: int = 1
    in_batch: bool = True
    few_negatives: Literal["refuse", "repeat", "fewer"] = "refuse"
    query_prompt: str = ""
    document_prompt: str = ""
    row_prompt: str = "{}"
    query_length: int = 64
    document_length: int = 256
    shuffle_ratio: float = 0.0
    temperature: float | None = None
    teacher: bool = False
    negative_scores: bool = True
    labels: bool = False

    def check(self, source: Source) -> None:
        """Refuses a source that some group cannot be drawn from.

        Raises:
          DataError: Naming the row.
        """
        least = {"refuse": self.group_size - 1, "repeat": min(1, self.group_size - 1), "fewer": 0}
        source.check_negatives(least[self.few_negatives])
        if not self.in_batch:
            source.check_own_negatives()
        if self.teacher:
            source.check_scores(negative=self.negative_scores)
        if self.labels:
            source.check_labels()

    def prompts(self, example: Example) -> Prompts:
        """What is put before the texts of an example."""
        own = example.prompt
        query = self.query_prompt if own is None else self.row_prompt.replace("{}", own)
        return Prompts(query, query if example.is_symmetric else self.document_prompt)


class Prompts(NamedTuple):
    """What is put before a query and before documents."""

    query: str
    document: str


class Group(NamedTuple):
    """A query and its documents, the positive first, as they are encoded.

    Attributes:
      query: With its prompt.
      documents: With theirs; at most `group_size`.
      query_id: Of the text without prompt.
      document_ids: Of the texts without prompt.
      positive_ids: Of every known positive.
      scores: A teacher's, of the documents; empty without a teacher.
      label: Digest of its label, 0 without one.
      rules: Of its source.
      number: Of the example among all that are trained on.
    """

    query: str
    documents: list[str]
    query_id: int
    document_ids: list[int]
    positive_ids: list[int]
    scores: list[float]
    label: int
    rules: Rules
    number: int = 0


def draw_group(example: Example, rng: np.random.Generator, *, rules: Rules) -> Group:
    """Draws a positive, and negatives without replacement as long as there are enough.

    Args:
      example: One that `rules.check` has let pass.
      rng: Randomness of this example in this epoch.
      rules: Of its source.

    Returns:
      The group.
    """
    positive = int(rng.integers(len(example.positives)))
    negatives = _draw_negatives(example, rng, rules)
    documents = [example.positives[positive], *(example.negatives[n] for n in negatives)]
    places = [positive, *(len(example.positives) + n for n in negatives)]
    shown = [_shuffled(documents[0], rng, rules.shuffle_ratio), *documents[1:]]
    prompts = rules.prompts(example)
    return Group(
        query=prompts.query + example.query,
        documents=[prompts.document + text for text in shown],
        query_id=text_id(example.query),
        document_ids=[text_id(text) for text in documents],
        positive_ids=[text_id(text) for text in example.positives],
        scores=[example.scores[place] for place in places] if rules.teacher else [],
        label=0 if example.label is None else text_id(example.label),
        rules=rules,
    )


def _draw_negatives(example: Example, rng: np.random.Generator, rules: Rules) -> list[int]:
    have, most = len(example.negatives), example.most_negatives
    wanted = rules.group_size - 1 if most is None else min(most, rules.group_size - 1)
    if have < wanted and rules.few_negatives == "fewer":
        wanted = have
    if not wanted:
        return []
    if not have:
        raise DataError(f"no negatives for {example.query!r:.60}, {wanted} wanted")
    # As often as needed, each is there equally often before one is drawn.
    candidates = np.tile(np.arange(have), -(-wanted // have))
    return rng.choice(candidates, wanted, replace=False).tolist()


def _shuffled(text: str, rng: np.random.Generator, ratio: float) -> str:
    if ratio == 0 or len(text) <= _LONG or rng.random() >= ratio:
        return text
    size = len(text) // 3 + 1
    thirds = [text[start : start + size] for start in range(0, len(text), size)]
    return " ".join(thirds[place] for place in rng.permutation(len(thirds)))
