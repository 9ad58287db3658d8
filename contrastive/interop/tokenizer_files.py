"""Reads tokenizer.json, whose Rust parser fails in many ways on damaged files."""

from __future__ import annotations

from pathlib import Path

import tokenizers

from contrastive.errors import FolderError

_SAMPLE = "Some text, to see whether it can be encoded."


def open_tokenizer(path: Path, vocab_size: int) -> tokenizers.Tokenizer:
    """Opens a tokenizer without truncation and padding, and checks that it fits a model.

    Args:
      path: A tokenizer.json.
      vocab_size: Number of embeddings of the model.

    Returns:
      The tokenizer.

    Raises:
      FolderError: If the file is damaged, or if the model has no embedding for some of its ids.
    """
    try:
        tokenizer = tokenizers.Tokenizer.from_file(str(path))
        tokenizer.no_truncation()
        tokenizer.no_padding()
        encoded = tokenizer.encode(_SAMPLE)
        vocabulary = tokenizer.get_vocab()
    except BaseException as error:  # panics of Rust are not Exceptions
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        reason = str(error).split("\n")[0][:200]
        raise FolderError(f"{path} cannot be read: {reason}; copy or download it again") from None
    largest = max((*vocabulary.values(), *encoded.ids), default=-1)
    if largest >= vocab_size:
        raise FolderError(
            f"{path} has ids up to {largest}, but the model has {vocab_size} embeddings, so they "
            "do not belong together; use the tokenizer of this model"
        )
    for token, id in zip(encoded.tokens, encoded.ids, strict=True):
        if tokenizer.token_to_id(token) not in (id, None):
            raise FolderError(
                f"{path} adds the token {token!r} with the id {id}, but its vocabulary has the id "
                f"{tokenizer.token_to_id(token)}; copy or download it again"
            )
    return tokenizer
