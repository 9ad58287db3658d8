"""Reads the texts of a file that a command is given."""

from __future__ import annotations

from pathlib import Path

from contrastive.errors import ConfigError


def read_texts(path: Path) -> list[str]:
    """Reads the texts of a file.

    Args:
      path: A file of rows `{"text": str}` if its name ends in .jsonl or .jsonl.gz; else UTF-8 text
        with one text per line.

    Returns:
      The texts.

    Raises:
      ConfigError: If the file is missing, empty, or not UTF-8.
      DataError: If a row has no text; the message names file and line.
    """
    if not path.is_file():
        raise ConfigError(f"{path}: no such file")
    if path.name.endswith((".jsonl", ".jsonl.gz")):
        from contrastive.tasks._rows import read_columns, text

        return read_columns(str(path), text=text)[0]
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8, at byte {error.start + 1}") from None
    texts = lines[:-1] if lines[-1] == "" else lines
    if not texts:
        raise ConfigError(f"{path} is empty; expected one text per line")
    return texts
