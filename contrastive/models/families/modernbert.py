"""ModernBERT: pre-norm, rotary positions, gated GELU, and mostly local attention.

Warner et al., 2024, arXiv:2412.13663. The transformer trained from scratch is a ModernBERT with
global attention in all layers, so that other libraries can load it.
"""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any, ClassVar, Literal, TypeAlias

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, UInt32
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
from contrastive.models.linen.layers import ACTIVATIONS, Activation, dense, layer_norm, rotate
from contrastive.types import Tokens


@dataclasses.dataclass(frozen=True)
class Spec:
    """The architecture, as described by config.json.

    Attributes:
      vocab_size: Vocabulary size V.
      width: Hidden size D, which is also the embedding width.
      heads: Number of attention heads.
      mlp_width: Width of the gated feed-forward layer.
      windows: For each layer, the number of tokens visible to either side; None is the whole text.
      thetas: For each layer, the base of the rotary frequencies.
      max_length: Maximum number of tokens per text.
      activation: Activation function of the feed-forward layer.
      norm_eps: Epsilon of the layer norms.
      norm_bias: Whether the layer norms have a bias.
      attention_bias: Whether the linear layers of attention have a bias.
      mlp_bias: Whether the linear layers of the feed-forward layer have a bias.
      embedding_dropout: Dropout rate of token embeddings.
      attention_dropout: Dropout rate of attention probabilities and attention outputs.
      mlp_dropout: Dropout rate of hidden values of the feed-forward layer.
    """

    vocab_size: int
    width: int
    heads: int
    mlp_width: int
    windows: tuple[int | None, ...]
    thetas: tuple[float, ...]
    max_length: int = 8192
    activation: str = "gelu"
    norm_eps: float = 1e-5
    norm_bias: bool = False
    attention_bias: bool = False
    mlp_bias: bool = False
    embedding_dropout: float = 0.0
    attention_dropout: float = 0.0
    mlp_dropout: float = 0.0


class ModernBertEncoder(nn.Module):
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
        return self.spec.max_length

    @nn.compact
    def __call__(
        self, tokens: Tokens, *, seed: UInt32[Array, ""] | None = None
    ) -> Float[Array, "R T D"]:
        spec, dropout = self.spec, text_dropout(tokens, seed)
        positions = jnp.asarray(tokens.positions)
        init = nn.initializers.normal(0.02)
        embed = nn.Embed(
            spec.vocab_size, spec.width, embedding_init=init, dtype=self.dtype, name="embedding"
        )
        x = _norm(spec, self.dtype, "embedding_norm")(embed(jnp.asarray(tokens.ids)))
        x = dropout.at(0).hidden(x, spec.embedding_dropout)
        global_mask = same_text(tokens)
        distance = jnp.abs(positions[:, :, None] - positions[:, None, :])
        layer = nn.remat(_Layer) if self.remat else _Layer
        for number, window in enumerate(spec.windows):
            mask = global_mask if window is None else global_mask & (distance <= window)
            block = layer(spec, number, tokens.blocks, self.dtype, name=f"layer_{number}")
            x = block(x, mask, positions, dropout.at(number + 1))
        return _norm(spec, self.dtype, "final_norm")(x)


class _Layer(nn.Module):
    spec: Spec
    number: int
    blocks: int
    dtype: Any

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "R T D"],
        mask: Bool[Array, "R T T"],
        positions: Int[Array, "R T"],
        dropout: Dropout,
    ) -> Float[Array, "R T D"]:
        spec, theta = self.spec, self.spec.thetas[self.number]
        # The first layer has no norm: embedding_norm takes its place.
        y = _norm(spec, self.dtype, "attention_norm")(x) if self.number else x
        qkv = self._dense(3 * spec.width, "qkv", spec.attention_bias)(y)
        q, k, v = jnp.moveaxis(qkv.reshape(*x.shape[:2], 3, spec.heads, -1), 2, 0)
        q, k = rotate(q, positions, theta), rotate(k, positions, theta)
        y = attend(q, k, v, mask, dropout.at(0), spec.attention_dropout, self.blocks)
        y = y.reshape(x.shape)
        y = self._dense(spec.width, "attention_out", spec.attention_bias, out=True)(y)
        x += dropout.at(1).hidden(y, spec.attention_dropout)
        y = _norm(spec, self.dtype, "mlp_norm")(x)
        y = self._dense(2 * spec.mlp_width, "mlp_in", spec.mlp_bias)(y)
        value, gate = jnp.split(y, 2, axis=-1)
        y = dropout.at(2).hidden(ACTIVATIONS[spec.activation](value) * gate, spec.mlp_dropout)
        return x + self._dense(spec.width, "mlp_out", spec.mlp_bias, out=True)(y)

    def _dense(self, features: int, name: str, bias: bool, *, out: bool = False) -> nn.Dense:
        # Outputs that are added to the residual stream start smaller in deeper models.
        stddev = 0.02 / (2 * len(self.spec.windows)) ** 0.5 if out else 0.02
        return dense(features, self.dtype, name, bias=bias, stddev=stddev)


def _norm(spec: Spec, dtype: Any, name: str) -> nn.LayerNorm:
    return layer_norm(spec.norm_eps, dtype, name, bias=spec.norm_bias)


Theta: TypeAlias = Annotated[float, Field(gt=0)]


class _Rope(Fields):
    rope_type: Literal["default"] = "default"
    rope_theta: Theta | None = None


class _Config(Fields):
    vocab_size: Size
    hidden_size: Size
    num_hidden_layers: Depth
    num_attention_heads: Size
    intermediate_size: Size
    max_position_embeddings: Size = 8192
    hidden_activation: Activation = "gelu"
    norm_eps: Epsilon = 1e-5
    norm_bias: bool = False
    attention_bias: bool = False
    mlp_bias: bool = False
    embedding_dropout: Rate = 0.0
    attention_dropout: Rate = 0.0
    mlp_dropout: Rate = 0.0
    local_attention: Size = 128
    layer_types: list[Literal["sliding_attention", "full_attention"]] = Field(default_factory=list)
    global_attn_every_n_layers: Size = 3
    rope_parameters: dict[str, Any] = Field(default_factory=dict)
    local_rope_theta: Theta = 10_000.0
    global_rope_theta: Theta = 160_000.0

    @property
    def is_local(self) -> list[bool]:
        """For each layer, whether its attention is local."""
        depth = self.num_hidden_layers
        if self.layer_types:
            return [kind == "sliding_attention" for kind in self.layer_types[:depth]]
        return [number % self.global_attn_every_n_layers != 0 for number in range(depth)]

    def theta(self, local: bool) -> float:
        """Reads `rope_parameters`, or, in older files, a field for each kind of layer."""
        name = "sliding_attention" if local else "full_attention"
        rope = _Rope.of(self.rope_parameters.get(name) or {})
        return rope.rope_theta or (self.local_rope_theta if local else self.global_rope_theta)


def hf_config(spec: Spec) -> dict[str, Any]:
    """Returns the fields of config.json for a ModernBERT with global attention in all layers."""
    theta = spec.thetas[0]
    return {
        "model_type": "modernbert",
        "architectures": ["ModernBertModel"],
        "vocab_size": spec.vocab_size,
        "hidden_size": spec.width,
        "intermediate_size": spec.mlp_width,
        "num_hidden_layers": len(spec.windows),
        "num_attention_heads": spec.heads,
        "hidden_activation": spec.activation,
        "norm_eps": spec.norm_eps,
        "norm_bias": spec.norm_bias,
        "attention_bias": spec.attention_bias,
        "mlp_bias": spec.mlp_bias,
        "embedding_dropout": spec.embedding_dropout,
        "attention_dropout": spec.attention_dropout,
        "mlp_dropout": spec.mlp_dropout,
        "max_position_embeddings": spec.max_length,
        "global_attn_every_n_layers": 1,
        "local_attention": spec.max_length,
        "global_rope_theta": theta,
        "local_rope_theta": theta,
    }


class ModernBert(Family):
    """The family of ModernBERT."""

    model_types: ClassVar[tuple[str, ...]] = ("modernbert",)
    modules: ClassVar[tuple[tuple[str, str], ...]] = (
        (r"embedding", r"embeddings.tok_embeddings"),
        (r"embedding_norm", r"embeddings.norm"),
        (r"final_norm", r"final_norm"),
        (r"layer_(\d+)/attention_norm", r"layers.\1.attn_norm"),
        (r"layer_(\d+)/qkv", r"layers.\1.attn.Wqkv"),
        (r"layer_(\d+)/attention_out", r"layers.\1.attn.Wo"),
        (r"layer_(\d+)/mlp_norm", r"layers.\1.mlp_norm"),
        (r"layer_(\d+)/mlp_in", r"layers.\1.mlp.Wi"),
        (r"layer_(\d+)/mlp_out", r"layers.\1.mlp.Wo"),
    )
    prefixes: ClassVar[tuple[str, ...]] = ("model.",)
    heads: ClassVar[tuple[str, ...]] = (r"head\..*", r"decoder\..*", r"classifier\..*")

    @classmethod
    def build(cls, config: HFConfig, compute: Compute) -> ModernBertEncoder:
        fields = _Config.of(config)
        layers = fields.is_local
        if len(layers) != fields.num_hidden_layers:
            raise ConfigError(
                f"layer_types has {len(layers)} entries, but num_hidden_layers is "
                f"{fields.num_hidden_layers}"
            )
        check_heads(fields.hidden_size, fields.num_attention_heads)
        thetas = {local: fields.theta(local) for local in set(layers)}
        window = fields.local_attention // 2
        spec = Spec(
            vocab_size=fields.vocab_size,
            width=fields.hidden_size,
            heads=fields.num_attention_heads,
            mlp_width=fields.intermediate_size,
            windows=tuple(window if local else None for local in layers),
            thetas=tuple(thetas[local] for local in layers),
            max_length=fields.max_position_embeddings,
            activation=fields.hidden_activation,
            norm_eps=fields.norm_eps,
            norm_bias=fields.norm_bias,
            attention_bias=fields.attention_bias,
            mlp_bias=fields.mlp_bias,
            embedding_dropout=compute.rate(fields.embedding_dropout),
            attention_dropout=compute.rate(fields.attention_dropout),
            mlp_dropout=compute.rate(fields.mlp_dropout),
        )
        return ModernBertEncoder(spec, compute.dtype, compute.remat)
