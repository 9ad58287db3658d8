"""From config to sources and tokenizers."""

from __future__ import annotations

from contrastive import config
from contrastive.data.example import Source
from contrastive.data.jsonl import Jsonl
from contrastive.data.pipeline import Shape
from contrastive.data.tokenization import Tokenizer, load_pretrained, train_wordpiece


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
        return Tokenizer(load_pretrained(data.tokenizer.name), special_tokens=special_tokens)
    examples = (source[i] for i in range(len(source)))
    texts = (text for e in examples for text in (e.query, *e.positives, *e.negatives))
    backend = train_wordpiece(
        texts, vocab_size=data.tokenizer.vocab_size, lowercase=data.tokenizer.lowercase
    )
    return Tokenizer(backend, special_tokens=special_tokens)


def shape_of(data: config.Data) -> Shape:
    """Lengths and rows: a row holds at least one text of the greatest length."""
    return Shape(
        query_length=data.query_max_length,
        document_length=data.document_max_length,
        query_row=data.query_max_length,
        document_row=data.document_max_length,
        texts_per_row=data.texts_per_row,
    )
