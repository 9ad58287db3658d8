"""Retrieval collections (queries, corpus and judgments), from rows and from folders."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tqdm import tqdm

from contrastive.errors import DataError
from contrastive.sources._example import Example, is_finite
from contrastive.sources._examples import Examples
from contrastive.tasks._rows import read_lines, read_rows, text


@dataclasses.dataclass(frozen=True)
class Collection:
    """A corpus, queries and relevance judgments.

    Attributes:
      name: Name of the collection in tables.
      queries: Text by query id.
      corpus: Text by document id.
      relevant: For each judged query, gain (> 0) by document id.
      query_prompts: Prompts by query id, for queries that do not use the encoder's query prompt.
      document_prompts: Prompts by document id, for documents that do not use the encoder's document
        prompt; None stands for the encoder's query prompt.
    """

    name: str
    queries: dict[str, str]
    corpus: dict[str, str]
    relevant: dict[str, dict[str, int]]
    query_prompts: dict[str, str] = dataclasses.field(default_factory=dict)
    document_prompts: dict[str, str | None] = dataclasses.field(default_factory=dict)

    @property
    def fingerprint(self) -> str:
        """Digest of texts, judgments and prompts."""
        named = {name: value for name, value in vars(self).items() if name != "name"}
        content = json.dumps(named, ensure_ascii=False)
        return hashlib.blake2b(content.encode(), digest_size=16).hexdigest()


def from_examples(examples: Examples, name: str, row_prompt: str = "{}") -> Collection:
    """Makes a collection of held-out examples: the corpus is the set of all their documents.

    Args:
      examples: Held-out examples. Equal texts with equal prompts become one query or one document.
      name: Name of the collection in tables.
      row_prompt: Prefix of the query of a row that has a prompt; {} stands for that prompt.

    Returns:
      The collection. Documents with the text of a positive are relevant with gain 1.
    """
    query_ids: dict[tuple[str | None, str], str] = {}
    document_ids: dict[tuple[bool, str | None, str], str] = {}
    answers: dict[str, list[str]] = {}
    for number in range(len(examples)):
        example = examples[number]
        prompt = _row_prompt(example, row_prompt)
        document_prompt = prompt if example.is_symmetric else None
        for document in (*example.positives, *example.negatives):
            key = example.is_symmetric, document_prompt, document
            document_ids.setdefault(key, f"d{len(document_ids)}")
        query = query_ids.setdefault((prompt, example.query), f"q{len(query_ids)}")
        answers.setdefault(query, []).extend(example.positives)
    with_text: dict[str, list[str]] = {}
    for (_, _, document), id in document_ids.items():
        with_text.setdefault(document, []).append(id)
    return Collection(
        name,
        queries={id: query for (_, query), id in query_ids.items()},
        corpus={id: document for (_, _, document), id in document_ids.items()},
        relevant={
            query: {id: 1 for document in texts for id in with_text[document]}
            for query, texts in answers.items()
        },
        query_prompts={id: prompt for (prompt, _), id in query_ids.items() if prompt is not None},
        document_prompts={
            id: prompt for (symmetric, prompt, _), id in document_ids.items() if symmetric
        },
    )


def _row_prompt(example: Example, template: str) -> str | None:
    return None if example.prompt is None else template.replace("{}", example.prompt)


def load_folder(folder: Path, split: str) -> Collection:
    """Loads a folder in the layout of BEIR or FlagEmbedding.

    Args:
      folder: The folder.
      split: Split of the judgments.

    Returns:
      The collection.

    Raises:
      DataError: If a file is missing, a row is invalid or an id is unknown; the message names the
        file and line.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such file or folder")
    if (folder / "qrels").is_dir():
        return load_beir(folder, split)
    if list(folder.glob("*_queries.jsonl*")):
        return load_flagembedding(folder, split)
    raise DataError(
        f"{folder} is not a retrieval task: expected corpus.jsonl with queries.jsonl and "
        f"qrels/{split}.tsv (BEIR), or with {split}_queries.jsonl and {split}_qrels.jsonl "
        "(FlagEmbedding)"
    )


def load_beir(folder: Path, split: str = "test") -> Collection:
    """Loads a folder in the layout of BEIR.

    The folder contains `corpus.jsonl` of {_id, title, text} and `queries.jsonl` of {_id, text},
    both plain or `.gz`, and `qrels/SPLIT.tsv` with a header and the columns query-id, corpus-id and
    score. A document is its title and text, joined by a space. Queries without a positive judgment
    are ignored.

    Args:
      folder: The folder.
      split: Split of the judgments.

    Returns:
      The collection.

    Raises:
      DataError: If a file is missing, a row is invalid or an id is unknown; the message names the
        file and line.

    Source:
      Thakur et al., 2021, arXiv:2104.08663.
    """
    path = folder / "qrels" / f"{split}.tsv"
    if not path.is_file():
        splits = sorted(p.stem for p in path.parent.glob("*.tsv"))
        raise DataError(f"{path}: no such file; the available splits are {splits}")
    texts = _by_id(folder / "queries.jsonl", "_id"), _by_id(folder / "corpus.jsonl", "_id")
    return _judged(f"{folder.name} {split}", path, *texts, _tab_separated(path))


def load_flagembedding(folder: Path, split: str = "test") -> Collection:
    """Loads a folder in the layout of FlagEmbedding's local evaluation data.

    The folder contains `corpus.jsonl` of {id, title, text}, `SPLIT_queries.jsonl` of {id, text} and
    `SPLIT_qrels.jsonl` of {qid, docid, relevance}, plain or `.gz`.

    Args:
      folder: The folder.
      split: Split of the queries and judgments.

    Returns:
      The collection.

    Raises:
      DataError: If a file is missing, a row is invalid or an id is unknown; the message names the
        file and line.
    """
    queries = _by_id(folder / f"{split}_queries.jsonl", "id")
    corpus = _by_id(folder / "corpus.jsonl", "id")
    path = folder / f"{split}_qrels.jsonl"
    judgments = (
        (where, _id(row, "qid", where), _id(row, "docid", where), _gain(row, where))
        for where, row in read_rows(path)
    )
    return _judged(f"{folder.name} {split}", path, queries, corpus, judgments)


def _judged(name: str, path: Path, queries, corpus, judgments) -> Collection:
    relevant: dict[str, dict[str, int]] = {}
    for where, query, document, gain in judgments:
        for id, known, kind in ((query, queries, "query"), (document, corpus, "document")):
            if id not in known:
                raise DataError(
                    f"{where}: {kind} {id!r} does not exist; every judged {kind} needs a text"
                )
        if gain > 0:
            relevant.setdefault(query, {})[document] = gain
    if not relevant:
        raise DataError(f"{path}: no positive judgment; at least one score must be above 0")
    judged = {query: queries[query] for query in queries if query in relevant}
    return Collection(name, judged, corpus, relevant)


def _tab_separated(path: Path) -> Iterator[tuple[str, str, str, int]]:
    for number, (where, line) in enumerate(read_lines(path)):
        row = line.rstrip("\r\n").split("\t")
        if number == 0 and row[-1] == "score":
            continue
        if len(row) != 3 or not re.fullmatch(r"-?[0-9]{1,9}", row[2]):
            raise DataError(
                f"{where}: expected query-id, corpus-id and an integer score of at most 9 digits, "
                "separated by tabs; "
                f"got {line!r:.80}"
            )
        yield where, row[0], row[1], int(row[2])


def _by_id(path: Path, field: str) -> dict[str, str]:
    texts: dict[str, str] = {}
    rows = tqdm(read_rows(path), desc=f"reading {path.name}", unit=" rows", leave=False, delay=1)
    for where, row in rows:
        id = _id(row, field, where)
        if id in texts:
            raise DataError(f"{where}: {field} {id!r} occurs twice; ids must be unique")
        title = text(row, "title", where) if row.get("title") is not None else ""
        texts[id] = f"{title} {text(row, 'text', where)}".strip()
    return texts


def _id(row: dict[str, Any], field: str, where: str) -> str:
    value = row.get(field)
    if isinstance(value, int) and is_finite(value) and field != "_id":
        return str(value)  # FlagEmbedding also allows integer ids
    return text(row, field, where)


def _gain(row: dict[str, Any], where: str) -> int:
    value = row.get("relevance")
    if isinstance(value, bool) or not isinstance(value, int) or abs(value) >= 10**9:
        raise DataError(
            f'{where}: "relevance" must be an integer of at most 9 digits, got {value!r:.60}'
        )
    return value
