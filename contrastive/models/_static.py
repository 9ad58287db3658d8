"""Settings of the static encoder: one vector per token, without context."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import PositiveInt

from contrastive.models._model import Model

__all__ = ["Static"]


class Static(Model):
    """Mean of static token vectors; fast, and saved as a sentence-transformers StaticEmbedding."""

    width: PositiveInt = 256
    """Embedding width D."""

    adds_special_tokens: ClassVar[bool] = False
    poolings: ClassVar[tuple[str, ...]] = ("mean",)

    def build(self, vocab_size: int) -> Any:
        from contrastive.models.families.static import StaticEncoder

        return StaticEncoder(vocab_size, self.width)

    def hugging_face(self, vocab_size: int) -> Any:
        from contrastive.models.families.static import StaticEmbedding

        return StaticEmbedding, {"vocab_size": vocab_size, "hidden_size": self.width}
