"""The base class of encoder settings, which build a Flax module."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from contrastive.parts import Part

if TYPE_CHECKING:
    from contrastive.models.families.family import Family

__all__ = ["Model"]


class Model(Part):
    """Settings of an encoder that is trained from scratch.

    A subclass implements `build`:

        class Words(contrastive.models.Model):
            '''One vector per token, followed by a dense layer.'''

            width: int = 64

            def build(self, vocab_size):
                return WordEncoder(vocab_size, self.width)

    where `WordEncoder` is a `flax.linen.Module` that takes `contrastive.types.Tokens` and the
    keyword `seed` (32 random bits for dropout, or None) and returns token vectors [R, T, D]. It has
    an attribute `width`, D, and, if the number of tokens per text is limited, `max_length`.
    """

    package: ClassVar[str] = "contrastive.models"

    is_pretrained: ClassVar[bool] = False
    """Whether the encoder comes with its own weights and tokenizer."""
    adds_special_tokens: ClassVar[bool] = True
    """Whether the tokenizer's special first and last tokens are added to each text."""
    poolings: ClassVar[tuple[str, ...]] = ("mean", "cls", "last_token")
    """Supported ways to pool token vectors into a text vector."""

    def build(self, vocab_size: int) -> Any:
        """Builds the Flax module, without parameters.

        Args:
          vocab_size: Vocabulary size V.

        Returns:
          The module.
        """
        raise self._not_implemented("build")

    def hugging_face(self, vocab_size: int) -> tuple[type[Family], dict[str, Any]] | None:
        """Returns the Hugging Face description of the architecture.

        Args:
          vocab_size: Vocabulary size V.

        Returns:
          The family, which names the weights, and the fields of config.json. None for a custom
          architecture, which is saved in a format that only this library loads.
        """
        del vocab_size
        return None
