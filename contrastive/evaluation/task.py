"""Retrieval tasks: texts to rank, texts that ask, and which answer which."""

from __future__ import annotations

import dataclasses
import gzip
import json
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tqdm import tqdm

from contrastive.data.example import Source, check_whole
from contrastive.data.groups import Prompts, Rules
from contrastive.errors import DataError


@dataclasses.dataclass(frozen=True)
class Retrieval:
    """Queries against a corpus.

    Attributes:
      name: For tables.
      queries: Text by query id.
      corpus: Text by document id.
      relevant: For each judged query, gain (> 0) by document id.
      query_prompts: By query id, what is put before its text instead of the encoder's prompt.
      document_prompts: The same by document id.
    """

    name: str
    queries: dict[str, str]
    corpus: dict[str, str]
    relevant: dict[str, dict[str, int]]
    query_prompts: dict[str, str] = dataclasses.field(default_factory=dict)
    document_prompts: dict[str, str] = dataclasses.field(default_factory=dict)


def from_examples(source: Source, name: str, rules: Rules | None = None) -> Retrieval:
    """Ranks every document of held-out examples for each of their queries.

    Args:
      source: Examples; equal texts with equal prompts become one query, or one document.
      name: For tables.
      rules: By which prompts are put before texts, as in training; the encoder's unless given.

    Returns:
      The task; documents that have the text of a positive are relevant with gain 1.
    """
    asked: dict[tuple[str, str], str] = {}
    ranked: dict[tuple[str, str], str] = {}
    answers: dict[str, list[str]] = {}
    for number in range(len(source)):
        example = source[number]
        prompts = rules.prompts(example) if rules else Prompts("", "")
        for text in (*example.positives, *example.negatives):
            ranked.setdefault((prompts.document, text), f"d{len(ranked)}")
        query = asked.setdefault((prompts.query, example.query), f"q{len(asked)}")
        answers.setdefault(query, []).extend(example.positives)
    with_text: dict[str, list[str]] = {}
    for (_, text), id in ranked.items():
        with_text.setdefault(text, []).append(id)
    return Retrieval(
        name,
        queries={id: text for (_, text), id in asked.items()},
        corpus={id: text for (_, text), id in ranked.items()},
        relevant={
            query: {id: 1 for text in texts for id in with_text[text]}
            for query, texts in answers.items()
        },
        query_prompts={id: prompt for (prompt, _), id in asked.items()} if rules else {},
        document_prompts={id: prompt for (prompt, _), id in ranked.items()} if rules else {},
    )


def load_beir(folder: str | Path, split: str = "test") -> Retrieval:
    """Loads a folder in BEIR's layout.

    `corpus.jsonl` of {_id, title, text}, `queries.jsonl` of {_id, text}, both plain or `.gz`, and
    `qrels/SPLIT.tsv` with a header and the columns query-id, corpus-id, score. A document is its
    title and text with a space between. Queries without a positive judgement are left out.

    Args:
      folder: The folder.
      split: Which judgements.

    Returns:
      The task.

    Raises:
      DataError: With file and line, for a missing file, a bad row or an unknown id.

    Source:
      Thakur et al., 2021, arXiv:2104.08663.
    """
    folder = Path(folder)
    corpus = _by_id(folder, "corpus.jsonl")
    queries = _by_id(folder, "queries.jsonl")
    relevant: dict[str, dict[str, int]] = {}
    for query, document, gain in _judgements(folder / "qrels" / f"{split}.tsv", queries, corpus):
        if gain > 0:
            relevant.setdefault(query, {})[document] = gain
    if not relevant:
        raise DataError(f"{folder}/qrels/{split}.tsv: no positive judgement")
    asked = {query: queries[query] for query in queries if query in relevant}
    return Retrieval(f"{folder.name} {split}", asked, corpus, relevant)


def _by_id(folder: Path, name: str) -> dict[str, str]:
    texts: dict[str, str] = {}
    for where, row in _rows(folder, name):
        id = _text(row, "_id", where)
        if id in texts:
            raise DataError(f"{where}: _id {id!r} is given twice")
        texts[id] = f"{row.get('title') or ''} {_text(row, 'text', where)}".strip()
    return texts


def _rows(folder: Path, name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    path = next((p for p in (folder / name, folder / f"{name}.gz") if p.is_file()), None)
    if path is None:
        raise DataError(f"{folder / name}: no such file, plain or .gz")
    lines = tqdm(_lines(path), desc=f"reading {path.name}", unit=" rows", leave=False, delay=1)
    for where, line in lines:
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{where}: {error}") from None
        if not isinstance(row, dict):
            raise DataError(f"{where}: expected an object, got {row!r:.60}")
        yield where, row


def _lines(path: Path) -> Iterator[tuple[str, str]]:
    number = 0
    try:
        with (gzip.open if path.suffix == ".gz" else open)(path, "rb") as file:
            for number, line in enumerate(file, start=1):
                yield f"{path}:{number}", line.decode()
    except UnicodeDecodeError as error:
        raise DataError(f"{path}:{number}: {error}") from None
    except (EOFError, zlib.error, OSError) as error:
        raise DataError(f"{path}: cannot be read after line {number}, {error}") from None


def _text(row: dict[str, Any], field: str, where: str) -> str:
    if not isinstance(row.get(field), str):
        raise DataError(f'{where}: "{field}" must be a string, got {row.get(field)!r:.60}')
    check_whole(row[field], field, where)
    return row[field]


def _judgements(path: Path, queries, corpus) -> Iterator[tuple[str, str, int]]:
    if not path.is_file():
        have = sorted(p.stem for p in path.parent.glob("*.tsv"))
        raise DataError(f"{path}: no such file; the splits here are {have}")
    for number, (where, line) in enumerate(_lines(path)):
        row = line.rstrip("\r\n").split("\t")
        if number == 0 and row[-1] == "score":
            continue
        if len(row) != 3 or not re.fullmatch(r"-?[0-9]+", row[2]):
            raise DataError(f"{where}: expected query-id, corpus-id and a whole score: {row}")
        for id, known, kind in ((row[0], queries, "query"), (row[1], corpus, "document")):
            if id not in known:
                raise DataError(f"{where}: {kind} {id!r} does not exist")
        yield row[0], row[1], int(row[2])
