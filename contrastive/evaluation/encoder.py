"""Texts to vectors: corpora of any size through one compiled shape."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Float
from tqdm import tqdm

from contrastive.data.packing import pack
from contrastive.data.tokenization import Tokenizer
from contrastive.models.embedder import Embedder
from contrastive.types import Params, Tokens

_ROWS = 64  # a device's rows at a time
_TEXTS = 8192  # tokenised and packed at a time


@dataclasses.dataclass(frozen=True)
class Encoder:
    """An embedder with its tokenizer, ready for texts.

    Attributes:
      embedder: Tokens to embeddings.
      tokenize: Texts to tokens.
      query_length: Most tokens of a query.
      document_length: Most tokens of a document.
      mesh: Devices to embed on; rows are divided among all of them.
      query_prompt: Put before every query.
      document_prompt: Put before every document.
      texts_per_row: Most texts packed into a row.
    """

    embedder: Embedder
    tokenize: Tokenizer
    query_length: int
    document_length: int
    mesh: Mesh
    query_prompt: str = ""
    document_prompt: str = ""
    texts_per_row: int = 16

    def queries(self, params: Params, texts: Sequence[str]) -> Float[np.ndarray, "N D"]:
        """Embeddings of queries, float32."""
        texts = [self.query_prompt + text for text in texts]
        return self.encode(params, texts, self.query_length, "queries")

    def documents(self, params: Params, texts: Sequence[str]) -> Float[np.ndarray, "N D"]:
        """Embeddings of documents, float32."""
        texts = [self.document_prompt + text for text in texts]
        return self.encode(params, texts, self.document_length, "documents")

    def encode(
        self, params: Params, texts: Sequence[str], max_length: int, name: str = "texts"
    ) -> Float[np.ndarray, "N D"]:
        """Embeds texts on all devices that hold the parameters.

        Args:
          params: The encoder's parameters.
          texts: N texts.
          max_length: Tokens a text is cut to.
          name: For the progress bar.

        Returns:
          Embeddings in the order of the texts, float32.
        """
        if not len(texts):
            raise ValueError("there are no texts to encode")
        bar = tqdm(total=len(texts), desc=f"encoding {name}", unit=" texts", leave=False, delay=2)
        with bar:
            chunks = []
            for start in range(0, len(texts), _TEXTS):
                chunks.append(self._chunk(params, texts[start : start + _TEXTS], max_length))
                bar.update(len(chunks[-1]))
            return np.concatenate(chunks)

    def _chunk(self, params: Params, texts: Sequence[str], max_length: int) -> np.ndarray:
        """Packs texts together, then embeds their rows a fixed number at a time."""
        ids = self.tokenize(texts, max_length)
        tokens = pack(ids, row_length=max_length, texts_per_row=self.texts_per_row)
        devices = self.mesh.size
        # Few shapes: full height, or a power of two for the few texts of a search.
        rows = min(_ROWS, 1 << (-(-tokens.ids.shape[0] // devices) - 1).bit_length())
        sharding = NamedSharding(self.mesh, PartitionSpec(self.mesh.axis_names))
        found = []
        for start in range(0, tokens.ids.shape[0], rows * devices):
            part = jax.tree.map(
                lambda x: jax.make_array_from_callback(x.shape, sharding, lambda index: x[index]),
                _all_places(tokens, start, rows, devices),
            )
            found.append(np.asarray(_embed(self.embedder, self.mesh, params, part)))
        return np.concatenate(found)[tokens.slots]


def _all_places(tokens: Tokens, start: int, rows: int, blocks: int) -> Tokens:
    """Some rows, with every place of theirs as a text: its shape depends on no text."""

    def cut(x):
        x = x[start : start + rows * blocks]
        return np.pad(x, ((0, rows * blocks - len(x)), (0, 0)))

    by_row = (tokens.ids, tokens.segments, tokens.positions, tokens.text_ids)
    slots = np.tile(np.arange(rows * tokens.texts_per_row, dtype=np.int32), blocks)
    ids, segments, positions, text_ids = map(cut, by_row)
    return Tokens(ids, segments, positions, text_ids, slots, blocks)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _embed(embedder: Embedder, mesh: Mesh, params: Params, tokens: Tokens):
    everywhere = NamedSharding(mesh, PartitionSpec())
    return jax.lax.with_sharding_constraint(embedder.embed(params, tokens), everywhere)
