"""Groups: the query of an example and the documents drawn for it in one step."""

from __future__ import annotations

import dataclasses
import math
from typing import Literal, NamedTuple

import numpy as np

from contrastive.errors import DataError
from contrastive.sources._example import Example, text_id
from contrastive.sources._examples import Examples

_LONG = 100  # characters; positives up to this length are never shuffled


@dataclasses.dataclass(frozen=True)
class GroupRules:
    """How groups are drawn from one source.

    Attributes:
      group_size: Number of documents per query: 1 positive, the rest hard negatives.
      in_batch: Whether in-batch negatives are used for the source.
      few_negatives: What to do when a row has fewer negatives than the group needs.
      query_prompt: Text put before queries whose row has no prompt.
      document_prompt: Text put before documents.
      row_prompt: Template of the text put before the query of a row that has a prompt, which
        replaces {}.
      row_types: Whether the "type" of a row changes its prompts and negatives.
      query_length: Maximum number of tokens per query.
      document_length: Maximum number of tokens per document.
      shuffle_ratio: Fraction of the long positives whose thirds are put in random order.
      temperature: Temperature for queries of the source; None uses the temperature of the run.
      scores: Whether every document needs a score.
      unscored: Whether rows may be without scores all the same; theirs are NaN.
      negative_scores: Whether scores may be negative.
      labels: Whether every row needs a label.
    """

    group_size: int = 1
    in_batch: bool = True
    few_negatives: Literal["refuse", "repeat", "fewer"] = "refuse"
    query_prompt: str = ""
    document_prompt: str = ""
    row_prompt: str = "{}"
    row_types: bool = True
    query_length: int = 64
    document_length: int = 256
    shuffle_ratio: float = 0.0
    temperature: float | None = None
    scores: bool = False
    unscored: bool = False
    negative_scores: bool = True
    labels: bool = False

    def check(self, source: Examples) -> None:
        """Checks that a group can be drawn from every row of a source.

        Raises:
          DataError: If some row does not allow it; the message names the row.
        """
        least = {"refuse": self.group_size - 1, "repeat": min(1, self.group_size - 1), "fewer": 0}
        source.check_negatives(least[self.few_negatives], by_type=self.row_types)
        if not self.in_batch:
            source.check_own_negatives()
        if self.scores:
            source.check_scores(negative=self.negative_scores, missing=self.unscored)
        if self.labels:
            source.check_labels()

    def prompts(self, example: Example) -> Prompts:
        """Returns the prompts of an example."""
        own = example.prompt
        query = self.query_prompt if own is None else self.row_prompt.replace("{}", own)
        symmetric = self.row_types and example.is_symmetric
        return Prompts(query, query if symmetric else self.document_prompt)


class Prompts(NamedTuple):
    """Texts put before a query and before its documents."""

    query: str
    document: str


class Group(NamedTuple):
    """A query and its documents as they are encoded; the positive comes first.

    Attributes:
      query: The query with its prompt.
      documents: The documents with their prompts; at most `group_size`.
      query_id: Id of the query without its prompt.
      document_ids: Ids of the documents without their prompts.
      positive_ids: Ids of all known positives.
      scores: Teacher scores of the documents, NaN in a row without scores; empty without a
        teacher.
      label: Digest of the label; 0 without one.
      rules: Rules of the source.
      number: Index of the example among all training examples.
    """

    query: str
    documents: list[str]
    query_id: int
    document_ids: list[int]
    positive_ids: list[int]
    scores: list[float]
    label: int
    rules: GroupRules
    number: int = 0


def draw_group(example: Example, rng: np.random.Generator, *, rules: GroupRules) -> Group:
    """Draws a positive, and negatives without replacement as long as there are enough.

    Args:
      example: An example of a source that passed `rules.check`.
      rng: Random generator for this example in this epoch.
      rules: Rules of the example's source.

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
        scores=_scores(example, places) if rules.scores else [],
        label=0 if example.label is None else text_id(example.label),
        rules=rules,
    )


def _scores(example: Example, places: list[int]) -> list[float]:
    if not example.scores:
        return [math.nan] * len(places)
    return [example.scores[place] for place in places]


def _draw_negatives(example: Example, rng: np.random.Generator, rules: GroupRules) -> list[int]:
    have, most = len(example.negatives), example.most_negatives if rules.row_types else None
    wanted = rules.group_size - 1 if most is None else min(most, rules.group_size - 1)
    if have < wanted and rules.few_negatives == "fewer":
        wanted = have
    if not wanted:
        return []
    if not have:
        raise DataError(f"no negatives for {example.query!r:.60}, {wanted} wanted")
    # Tile the candidates evenly before sampling.
    candidates = np.tile(np.arange(have), -(-wanted // have))
    return rng.choice(candidates, wanted, replace=False).tolist()


def _shuffled(text: str, rng: np.random.Generator, ratio: float) -> str:
    if ratio == 0 or len(text) <= _LONG or rng.random() >= ratio:
        return text
    size = len(text) // 3 + 1
    thirds = [text[start : start + size] for start in range(0, len(text), size)]
    return " ".join(thirds[place] for place in rng.permutation(len(thirds)))
