"""BERT, RoBERTa and XLM-RoBERTa: post-norm transformers with learned positions.

Devlin et al., 2018, arXiv:1810.04805; Liu et al., 2019, arXiv:1907.11692; Conneau et al., 2019,
arXiv:1911.02116. MiniLM, BGE, the dense part of BGE-M3, E5, GTE and most other embedding models
have one of these architectures.
"""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any, ClassVar, Literal

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, UInt32
from pydantic import Field

from contrastive.errors import ConfigError
from contrastive.models.families.family import (
    Compute,
    Depth,
    Epsilon,
    Family,
    Fields,
    HFConfig,
    Rate,
    Size,
    check_heads,
)
from contrastive.models.linen.attention import attend, same_text
from contrastive.models.linen.dropout import Dropout, text_dropout
from contrastive.models.linen.layers import ACTIVATIONS, Activation, dense, layer_norm
from contrastive.types import Tokens


@dataclasses.dataclass(frozen=True)
class Spec:
    """The architecture, as described by config.json.

    Attributes:
      vocab_size: Vocabulary size V.
      width: Hidden size D, which is also the embedding width.
      depth: Number of layers.
      heads: Number of attention heads.
      mlp_width: Width of the feed-forward layer.
      positions: Number of rows of the position embedding table.
      first_position: Row of a text's first token; RoBERTa does not use the first rows.
      token_types: Number of token types; every token has type 0.
      activation: Activation function of the feed-forward layer.
      norm_eps: Epsilon of the layer norms.
      dropout: Dropout rate of hidden values.
      attention_dropout: Dropout rate of attention probabilities.
    """

    vocab_size: int
    width: int
    depth: int
    heads: int
    mlp_width: int
    positions: int
    first_position: int
    token_types: int
    activation: str
    norm_eps: float
    dropout: float
    attention_dropout: float


class BertEncoder(nn.Module):
    """A bidirectional transformer encoder; a token attends only to its own text.

    Attributes:
      spec: The architecture.
      dtype: Compute dtype of the layers.
      remat: Whether to recompute activations in the backward pass instead of storing them.
    """

    spec: Spec
    dtype: jnp.dtype = jnp.dtype(jnp.float32)
    remat: bool = False

    @property
    def width(self) -> int:
        """Hidden size D, which is also the embedding width."""
        return self.spec.width

    @property
    def vocab_size(self) -> int:
        """Vocabulary size V."""
        return self.spec.vocab_size

    @property
    def max_length(self) -> int:
        """Maximum number of tokens per text."""
        return self.spec.positions - self.spec.first_position

    @nn.compact
    def __call__(
        self, tokens: Tokens, *, seed: UInt32[Array, ""] | None = None
    ) -> Float[Array, "R T D"]:
        spec, dropout = self.spec, text_dropout(tokens, seed)
        ids, positions = jnp.asarray(tokens.ids), jnp.asarray(tokens.positions)
        x = self._table(spec.vocab_size, "word_embedding")(ids)
        x += self._table(spec.positions, "position_embedding")(positions + spec.first_position)
        x += self._table(spec.token_types, "type_embedding")(jnp.zeros_like(ids[:1, :1]))
        x = layer_norm(spec.norm_eps, self.dtype, "embedding_norm")(x)
        x = dropout.at(0).hidden(x, spec.dropout)
        mask = same_text(tokens)
        layer = nn.remat(_Layer) if self.remat else _Layer
        for number in range(spec.depth):
            block = layer(spec, tokens.blocks, self.dtype, name=f"layer_{number}")
            x = block(x, mask, dropout.at(number + 1))
        return x

    def _table(self, rows: int, name: str) -> nn.Embed:
        init = nn.initializers.normal(0.02)
        return nn.Embed(rows, self.width, embedding_init=init, dtype=self.dtype, name=name)


class _Layer(nn.Module):
    spec: Spec
    blocks: int
    dtype: Any

    @nn.compact
    def __call__(
        self, x: Float[Array, "R T D"], mask: Bool[Array, "R T T"], dropout: Dropout
    ) -> Float[Array, "R T D"]:
        spec = self.spec
        q, k, v = (
            self._dense(spec.width, name)(x).reshape(*x.shape[:2], spec.heads, -1)
            for name in ("query", "key", "value")
        )
        y = attend(q, k, v, mask, dropout.at(0), spec.attention_dropout, self.blocks)
        y = self._dense(spec.width, "attention_out")(y.reshape(x.shape))
        y = dropout.at(1).hidden(y, spec.dropout)
        x = layer_norm(spec.norm_eps, self.dtype, "attention_norm")(x + y)
        y = ACTIVATIONS[spec.activation](self._dense(spec.mlp_width, "mlp_in")(x))
        y = dropout.at(2).hidden(self._dense(spec.width, "mlp_out")(y), spec.dropout)
        return layer_norm(spec.norm_eps, self.dtype, "mlp_norm")(x + y)

    def _dense(self, features: int, name: str) -> nn.Dense:
        return dense(features, self.dtype, name)


class _Config(Fields):
    vocab_size: Size
    hidden_size: Size
    embedding_size: Size | None = None
    num_hidden_layers: Depth
    num_attention_heads: Size
    intermediate_size: Size
    max_position_embeddings: Size
    pad_token_id: Annotated[int, Field(ge=0, lt=2**24)] = 1
    type_vocab_size: Size = 2
    hidden_act: Activation = "gelu"
    layer_norm_eps: Epsilon = 1e-12
    hidden_dropout_prob: Rate = 0.1
    attention_probs_dropout_prob: Rate = 0.1
    position_embedding_type: Literal["absolute"] = "absolute"
    is_decoder: Literal[False] = False


class Bert(Family):
    """The family of BERT."""

    model_types: ClassVar[tuple[str, ...]] = ("bert",)
    modules: ClassVar[tuple[tuple[str, str], ...]] = (
        (r"word_embedding", r"embeddings.word_embeddings"),
        (r"position_embedding", r"embeddings.position_embeddings"),
        (r"type_embedding", r"embeddings.token_type_embeddings"),
        (r"embedding_norm", r"embeddings.LayerNorm"),
        (r"layer_(\d+)/(query|key|value)", r"encoder.layer.\1.attention.self.\2"),
        (r"layer_(\d+)/attention_out", r"encoder.layer.\1.attention.output.dense"),
        (r"layer_(\d+)/attention_norm", r"encoder.layer.\1.attention.output.LayerNorm"),
        (r"layer_(\d+)/mlp_in", r"encoder.layer.\1.intermediate.dense"),
        (r"layer_(\d+)/mlp_out", r"encoder.layer.\1.output.dense"),
        (r"layer_(\d+)/mlp_norm", r"encoder.layer.\1.output.LayerNorm"),
    )
    prefixes: ClassVar[tuple[str, ...]] = ("bert.", "roberta.")
    heads: ClassVar[tuple[str, ...]] = (
        r"pooler\..*",
        r"cls\..*",
        r"lm_head\..*",
        r"classifier\..*",
        r"embeddings\.position_ids",
    )

    @classmethod
    def build(cls, config: HFConfig, compute: Compute) -> BertEncoder:
        fields = _Config.of(config)
        width, heads = fields.hidden_size, fields.num_attention_heads
        if fields.embedding_size not in (None, width):
            raise ConfigError(
                f"embedding_size is {fields.embedding_size}, which is not supported; it must be "
                f"hidden_size, {width}"
            )
        check_heads(width, heads)
        first_position = cls.first_position(fields.pad_token_id)
        if first_position >= fields.max_position_embeddings:
            raise ConfigError(
                f"max_position_embeddings is {fields.max_position_embeddings}, but the first "
                f"{first_position} positions are not used; it must be larger"
            )
        spec = Spec(
            vocab_size=fields.vocab_size,
            width=width,
            depth=fields.num_hidden_layers,
            heads=heads,
            mlp_width=fields.intermediate_size,
            positions=fields.max_position_embeddings,
            first_position=first_position,
            token_types=fields.type_vocab_size,
            activation=fields.hidden_act,
            norm_eps=fields.layer_norm_eps,
            dropout=compute.rate(fields.hidden_dropout_prob),
            attention_dropout=compute.rate(fields.attention_probs_dropout_prob),
        )
        return BertEncoder(spec, compute.dtype, compute.remat)

    @classmethod
    def first_position(cls, pad_token_id: int) -> int:
        """Returns the position id of a text's first token."""
        del pad_token_id
        return 0


class Roberta(Bert):
    """The family of RoBERTa, XLM-RoBERTa and CamemBERT, whose positions follow the padding id."""

    model_types: ClassVar[tuple[str, ...]] = ("roberta", "xlm-roberta", "camembert")

    @classmethod
    def first_position(cls, pad_token_id: int) -> int:
        return pad_token_id + 1
