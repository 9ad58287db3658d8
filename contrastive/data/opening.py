"""From config to sources and tokenizers."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator

import tokenizers

from contrastive import config
from contrastive.data.cache import cache_directory
from contrastive.data.example import Source
from contrastive.data.jsonl import Jsonl
from contrastive.data.pipeline import Shape
from contrastive.data.tokenization import Tokenizer, load_pretrained, train_wordpiece
from contrastive.errors import ConfigError


def open_source(source: config.Pydoc | config.Jsonl) -> Source:
    """Opens, and checks, a source.

    Args:
      source: Which.

    Returns:
      Its examples.

    Raises:
      DataError: With file and line, for bad rows.
    """
    if isinstance(source, config.Jsonl):
        return Jsonl(source.path)
    from contrastive.data.pydoc import PydocSource  # imports TFDS

    return PydocSource(source.split)


def open_tokenizer(data: config.Data, source: Source, *, special_tokens: bool) -> Tokenizer:
    """Loads a tokenizer, or trains it on the source.

    Args:
      data: Which.
      source: Training examples.
      special_tokens: Whether texts get first and last tokens.

    Returns:
      The tokenizer.
    """
    if isinstance(data.tokenizer, config.Pretrained):
        backend, names = load_pretrained(data.tokenizer.name)
        if special_tokens and "pad_token" not in names:
            raise ConfigError(f"the tokenizer {data.tokenizer.name!r} has no padding token")
        return Tokenizer(backend, special_tokens=special_tokens, names=names)
    settings = data.tokenizer or config.WordPiece()
    return Tokenizer(_wordpiece(settings, source), special_tokens=special_tokens)


def _wordpiece(settings: config.WordPiece, source: Source) -> tokenizers.Tokenizer:
    """Trained once on the same examples with the same settings, then cached."""
    identity = (source.fingerprint, settings.model_dump_json(), tokenizers.__version__)
    name = hashlib.blake2b(repr(identity).encode(), digest_size=16).hexdigest()
    saved = cache_directory("tokenizers") / f"{name}.json"
    if not saved.exists():
        tokenizer = train_wordpiece(
            _Texts(source), vocab_size=settings.vocab_size, lowercase=settings.lowercase
        )
        partial = saved.with_suffix(f".{os.getpid()}")
        tokenizer.save(str(partial))
        os.replace(partial, saved)
    return tokenizers.Tokenizer.from_file(str(saved))


class _Texts:
    """All texts of a source, one at a time, as often as asked."""

    def __init__(self, source: Source):
        self._source = source

    def __iter__(self) -> Iterator[str]:
        for number in range(len(self._source)):
            example = self._source[number]
            yield from (example.query, *example.positives, *example.negatives)


def shape_of(data: config.Data) -> Shape:
    """Lengths and rows: a row holds at least one text of the greatest length."""
    return Shape(
        query_length=data.query_max_length,
        document_length=data.document_max_length,
        texts_per_row=data.texts_per_row,
    )
