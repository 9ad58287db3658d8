"""Base class of sources of training examples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from contrastive.parts import Part

if TYPE_CHECKING:
    from contrastive.sources._example import Example
    from contrastive.sources._examples import Examples

__all__ = ["Source"]


class Source(Part):
    """Base class of sources of training examples.

    A subclass implements `read`:

        class Sums(contrastive.sources.Source):
            '''Sums and their results.'''

            count: int = 1000

            def read(self):
                return [{"query": f"{n} + {n}", "pos": [str(2 * n)]} for n in range(self.count)]
    """

    package: ClassVar[str] = "contrastive.sources"

    def read(self) -> Sequence[Example | Mapping[str, Any]] | Examples:
        """Returns a sequence of rows `{"query": str, "pos": [str], "neg": [str]}` or `Example`s.

        A row may also have `pos_scores`, `neg_scores`, `prompt`, `type` and `label`. Or it is a
        text with its class, `{"text": str, "label": str}`, for losses such as SupCon; its positives
        are other texts of the class. All rows are checked once before training, and read again when
        a step needs them.

        Raises:
          DataError: If rows cannot be used; the message says where they are.
        """
        raise self._not_implemented("read")
