"""The JSON files of model folders, with the types that are accepted in each."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal, TypeAlias

import pydantic
from pydantic import Field, PositiveFloat, PositiveInt

from contrastive.digests import read_sealed
from contrastive.json_files import read_json

OURS = "contrastive.json"
SENTENCE_TRANSFORMERS = "config_sentence_transformers.json"
_REMEDY = "copy or download it again"


def _inside(path: str) -> str:
    parts = PurePosixPath(path).parts
    if path.startswith("/") or ".." in parts or "\\" in path or "\0" in path:
        raise ValueError("it must be a path inside the model folder")
    return path


PathInside: TypeAlias = Annotated[str, pydantic.AfterValidator(_inside)]


Length: TypeAlias = Annotated[int, Field(gt=0, le=2**20)]


class _Fields(pydantic.BaseModel):
    """Fields that are read; other libraries may write others."""

    model_config = pydantic.ConfigDict(extra="allow", allow_inf_nan=False)


class ModuleEntry(_Fields):
    """An entry of modules.json."""

    type: str
    path: PathInside


class PoolingFile(_Fields):
    """The fields of the config.json of a pooling module."""

    pooling_mode: str | list[str] | None = None
    include_prompt: bool | None = None

    @property
    def modes(self) -> list[str]:
        """The poolings: older files have a flag for each, newer ones a name or a list of names."""
        extra = self.model_extra or {}
        flags = [name for name, on in extra.items() if name.startswith("pooling_mode_") and on]
        named = [self.pooling_mode] if isinstance(self.pooling_mode, str) else self.pooling_mode
        return flags or list(named or ())


class PromptsFile(_Fields):
    """The fields of config_sentence_transformers.json."""

    prompts: dict[str, str] | None = None
    default_prompt_name: str | None = None

    def prompt(self, *names: str) -> str:
        """Returns the first prompt that has one of the names, or else the default prompt."""
        prompts = self.prompts or {}
        named = (prompts[name] for name in names if name in prompts)
        return next(named, prompts.get(self.default_prompt_name or "", ""))


class TextFile(_Fields):
    """The fields of sentence_bert_config.json, which had other names in older folders."""

    max_seq_length: PositiveInt | None = None
    do_lower_case: bool | None = None


class SpecialToken(_Fields):
    """A special token with settings."""

    content: str


class TokenizerFile(_Fields):
    """The fields of tokenizer_config.json."""

    model_max_length: Annotated[int | float, Field(gt=0)] | None = None


class ShardIndex(_Fields):
    """The fields of model.safetensors.index.json."""

    weight_map: dict[str, PathInside] = Field(default_factory=dict)


class OurFile(pydantic.BaseModel):
    """The fields of contrastive.json, which has what no file of another library has.

    Attributes:
      query_length: Maximum number of tokens per query.
      document_length: Maximum number of tokens per document.
      temperature: The last training temperature.
      pooling: The pooling of a custom architecture.
      normalize: Whether a custom architecture's embeddings have unit length.
      model: The settings of a custom architecture.
      vocab_size: The number of token ids of a custom architecture.
      files: Digests of the other files that `load` reads, by relative path.
    """

    model_config = pydantic.ConfigDict(extra="forbid", allow_inf_nan=False)

    query_length: Length | None = None
    document_length: Length | None = None
    temperature: PositiveFloat | None = None
    pooling: Literal["mean", "cls", "last_token"] | None = None
    normalize: bool | None = None
    model: dict[str, Any] | None = None
    vocab_size: Annotated[int, Field(gt=0, lt=2**31)] | None = None
    files: dict[PathInside, str] = Field(default_factory=dict)


def read_ours(folder: Path) -> OurFile:
    """Reads contrastive.json of a model folder; folders of other libraries have none.

    Args:
      folder: The model folder.

    Returns:
      Its fields; all of them have their defaults if there is no file.

    Raises:
      FolderError: If the file is damaged.
    """
    path = folder / OURS
    return read_sealed(path, OurFile, remedy=_REMEDY) if path.is_file() else OurFile()


def read_optional(path: Path, kind: Any) -> Any:
    """Reads a JSON file of a model folder; None if there is no such file.

    Args:
      path: The file.
      kind: The expected type; see `read_json`.

    Raises:
      FolderError: If the file is damaged.
    """
    return read_json(path, kind, remedy=_REMEDY) if path.is_file() else None
