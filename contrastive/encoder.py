"""The encoder: embeds texts with a trained model."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Float
from tqdm import tqdm

from contrastive.data.tokens import Tokenizer, pack
from contrastive.devices.compilation import keep_compiled_programs
from contrastive.devices.distributed import is_first
from contrastive.devices.mesh import make_mesh
from contrastive.encoding import check_range, checked_texts, embed_tokens, host_arrays
from contrastive.errors import ConfigError, FolderError
from contrastive.interop.hf_export import save
from contrastive.interop.hf_import import load
from contrastive.interop.pretrained import PretrainedModel
from contrastive.interop.run_model import model_folder
from contrastive.models.families.family import Compute
from contrastive.models.linen.embedder import Embedder, Pooling
from contrastive.types import Params

__all__ = ["Encoder"]

DType: TypeAlias = Literal["float32", "bfloat16"]

_TEXTS = 8192  # texts per chunk


class Encoder:
    """Embeds queries and documents on all devices of a mesh.

    `Encoder.from_pretrained` loads an encoder from a folder or from the Hub:

        encoder = contrastive.Encoder.from_pretrained("runs/mine")
        scores = encoder.similarity(
            encoder.encode_queries(["who wrote Faust"]), encoder.encode_documents(texts)
        )

    Args:
      model: The model with its tokenizer, pooling, prompts and lengths.
      params: Parameters of the model, as arrays on the devices of the mesh.
      mesh: Devices to embed on; rows are divided over all of them.
      texts_per_row: Maximum number of texts packed into a row.
    """

    def __init__(
        self, model: PretrainedModel, params: Params, mesh: Mesh, *, texts_per_row: int = 16
    ):
        assert model.pooling is not None
        self._model = model
        self._params = params
        self._mesh = mesh
        self._texts_per_row = texts_per_row
        self._width = model.module.width
        self._embedder = Embedder(model.module, model.pooling, model.normalize is not False)
        self._tokenize = Tokenizer(
            model.tokenizer, special_tokens=model.adds_special_tokens, names=model.names
        )

    @classmethod
    def from_pretrained(
        cls,
        name: str | Path,
        *,
        dtype: DType = "float32",
        pooling: Pooling | None = None,
        revision: str | None = None,
        cache_dir: str | None = None,
        mesh: Mesh | None = None,
    ) -> Encoder:
        """Loads a model from a folder or from the Hub.

        Args:
          name: The folder of a run, a model folder (of this library, sentence-transformers or
            Hugging Face), or a model name on the Hub.
          dtype: Compute dtype of the layers; embeddings are always float32.
          pooling: Required if the folder does not specify its pooling: mean, cls or last_token.
          revision: Branch, tag or commit on the Hub; None is the default branch.
          cache_dir: Folder for downloads from the Hub; None is the Hub's default cache.
          mesh: Devices to embed on; None is all devices.

        Returns:
          The encoder.

        Raises:
          FolderError: If a file is missing or invalid, or the pooling is unknown or contradictory.
          ConfigError: If the architecture is not supported.
        """
        if dtype not in get_args(DType):
            raise ConfigError(f"is {dtype!r}, but must be float32 or bfloat16", field="dtype")
        folder = model_folder(name, revision=revision, cache_dir=cache_dir)
        keep_compiled_programs()
        model = load(folder, Compute(jnp.dtype(dtype)))
        if pooling is None and model.pooling is None:
            raise FolderError(
                f"{name} does not specify its pooling; set pooling to mean, cls or last_token"
            )
        if pooling and model.pooling not in (None, pooling):
            raise FolderError(
                f"pooling is {pooling!r}, but {name} specifies {model.pooling!r}; omit pooling"
            )
        mesh = make_mesh() if mesh is None else mesh
        params = jax.device_put(model.params, NamedSharding(mesh, PartitionSpec()))
        resolved = dataclasses.replace(
            model,
            params={},
            pooling=pooling or model.pooling,
            normalize=model.normalize is not False,
        )
        return cls(resolved, params, mesh)

    def with_params(self, params: Params) -> Encoder:
        """Returns this encoder with other parameters, for evaluation during training."""
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__, _params=params)
        return other

    def truncated(self, width: int) -> Encoder:
        """Returns this encoder with shorter embeddings, for Matryoshka models.

        Args:
          width: Number of leading values to keep of each embedding. They are normalized again if
            the model normalizes.

        Raises:
          ConfigError: If `width` is not between 1 and D.
        """
        check_range("truncate_dim", width, self.width)
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__, _width=width)
        return other

    @property
    def width(self) -> int:
        """Embedding width D."""
        return self._width

    @property
    def query_prompt(self) -> str:
        """Prompt that is prepended to every query."""
        return self._model.query_prompt

    @property
    def document_prompt(self) -> str:
        """Prompt that is prepended to every document."""
        return self._model.document_prompt

    @property
    def query_length(self) -> int:
        """Maximum number of tokens per query, including the prompt."""
        return self._model.query_length

    @property
    def document_length(self) -> int:
        """Maximum number of tokens per document, including the prompt."""
        return self._model.document_length

    @property
    def mesh(self) -> Mesh:
        """Devices to embed on."""
        return self._mesh

    @property
    def temperature(self) -> float | None:
        """The last training temperature; None if unknown."""
        return self._model.temperature

    def __repr__(self) -> str:
        return (
            f"Encoder(width={self.width}, pooling={self._model.pooling!r}, "
            f"query_length={self.query_length}, document_length={self.document_length})"
        )

    def encode_queries(
        self, texts: Iterable[str], *, truncate_dim: int | None = None, progress: bool = True
    ) -> Float[np.ndarray, "N D"]:
        """Embeds queries, each with the query prompt prepended.

        Args:
          texts: N texts.
          truncate_dim: Number of leading values to keep of each embedding, for Matryoshka models.
            Truncated embeddings are normalized again if the model normalizes. None keeps all.
          progress: Whether to show a progress bar if encoding takes more than two seconds.

        Returns:
          Embeddings [N, D] in the order of the texts, float32.

        Raises:
          DataError: If `texts` is a single string or contains values that are not strings.
          ConfigError: If `truncate_dim` is not between 1 and D.
        """
        options = {"truncate_dim": truncate_dim, "progress": progress, "label": "queries"}
        return self.encode(texts, prompt=self.query_prompt, max_length=self.query_length, **options)

    def encode_documents(
        self, texts: Iterable[str], *, truncate_dim: int | None = None, progress: bool = True
    ) -> Float[np.ndarray, "N D"]:
        """Embeds documents, each with the document prompt prepended.

        Args:
          texts: N texts.
          truncate_dim: As in `encode_queries`.
          progress: As in `encode_queries`.

        Returns:
          Embeddings [N, D] in the order of the texts, float32.

        Raises:
          DataError: As in `encode_queries`.
          ConfigError: As in `encode_queries`.
        """
        options = {"truncate_dim": truncate_dim, "progress": progress, "label": "documents"}
        length = self.document_length
        return self.encode(texts, prompt=self.document_prompt, max_length=length, **options)

    def encode(
        self,
        texts: Iterable[str],
        *,
        prompt: str = "",
        max_length: int | None = None,
        truncate_dim: int | None = None,
        progress: bool = True,
        label: str = "texts",
    ) -> Float[np.ndarray, "N D"]:
        """Embeds texts with any prompt and maximum length.

        Args:
          texts: N texts.
          prompt: Prompt that is prepended to every text.
          max_length: Maximum number of tokens per text, including the prompt; longer texts are
            truncated. None is `document_length`.
          truncate_dim: As in `encode_queries`.
          progress: As in `encode_queries`.
          label: Name of the texts in the progress bar.

        Returns:
          Embeddings [N, D] in the order of the texts, float32.

        Raises:
          DataError: As in `encode_queries`.
          ConfigError: As in `encode_queries`.
        """
        texts = [prompt + text for text in checked_texts(texts)]
        length = self.document_length if max_length is None else max_length
        check_range("max_length", length, None)
        width = self.width if truncate_dim is None else truncate_dim
        check_range("truncate_dim", width, self.width)
        if not texts:
            return np.zeros((0, width), np.float32)
        chunks = []
        hidden: dict[str, Any] = {} if progress and is_first() else {"disable": True}
        with tqdm(
            total=len(texts),
            desc=f"encoding {label}",
            unit=" texts",
            leave=False,
            delay=2,
            **hidden,
        ) as bar:
            for start in range(0, len(texts), _TEXTS):
                part = texts[start : start + _TEXTS]
                chunks.append(self._embed(part, length))
                bar.update(len(chunks[-1]))
        return self._cut(np.concatenate(chunks), width)

    def similarity(
        self, queries: Float[np.ndarray, "Q D"], documents: Float[np.ndarray, "N D"]
    ) -> Float[np.ndarray, "Q N"]:
        """Computes the similarities that the model was trained with, s_ij = q_i . d_j.

        They are cosine similarities if the model normalizes embeddings.

        Args:
          queries: Embeddings of queries [Q, D].
          documents: Embeddings of documents [N, D].

        Returns:
          Similarities [Q, N], float32.
        """
        return np.asarray(queries, np.float32) @ np.asarray(documents, np.float32).T

    def save_pretrained(self, folder: str | Path) -> None:
        """Saves a model folder that this library, sentence-transformers and transformers load.

        Args:
          folder: Output folder, created if necessary; existing files are overwritten.
        """
        params = host_arrays(self._params, self._mesh)
        if jax.process_index() == 0:
            save(Path(folder), dataclasses.replace(self._model, params=params))

    def _embed(self, texts: list[str], max_length: int) -> np.ndarray:
        tokens = pack(
            self._tokenize(texts, max_length),
            row_length=max_length,
            texts_per_row=self._texts_per_row,
        )
        return embed_tokens(self._embedder, self._params, tokens, self._mesh)

    def _cut(self, vectors: np.ndarray, width: int) -> np.ndarray:
        if width == vectors.shape[1]:
            return vectors
        vectors = vectors[:, :width]
        if not self._model.normalize:
            return vectors
        return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
