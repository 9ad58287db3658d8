"""From config to sources and tokenizers."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import tokenizers

from contrastive import config
from contrastive.data.cache import cache_directory, replacing
from contrastive.data.calibration import Part, Shape
from contrastive.data.concatenated import Concatenated
from contrastive.data.example import Source
from contrastive.data.groups import Rules
from contrastive.data.jsonl import Jsonl
from contrastive.data.tokenization import Tokenizer, load_pretrained, train_wordpiece
from contrastive.errors import ConfigError, DataError


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
        paths = (source.path,) if isinstance(source.path, str) else source.path
        files = [
            file
            for path in map(Path, paths)
            for file in (row_files(path) if path.is_dir() else [path])
        ]
        opened = [_jsonl(file, source.limit, _stamp(file)) for file in files]
        return opened[0] if len(opened) == 1 else Concatenated(opened)
    from contrastive.data.pydoc import PydocSource  # imports TFDS

    return PydocSource(source.split)


@functools.lru_cache(maxsize=256)
def _jsonl(file: Path, limit: int | None, stamp: tuple[int, int]) -> Jsonl:
    """Checking a file takes a while: once for each state of it, however often it is opened."""
    del stamp
    return Jsonl(file, limit)


def _stamp(file: Path) -> tuple[int, int]:
    if not file.is_file():
        return (0, 0)  # Jsonl says so
    status = file.stat()
    return status.st_size, status.st_mtime_ns


def row_files(folder: Path) -> list[Path]:
    """The files of rows in a folder, by name.

    Raises:
      DataError: If there are none.
    """
    endings = (".jsonl", ".json", ".jsonl.gz", ".json.gz")
    files = sorted(path for path in folder.iterdir() if path.name.endswith(endings))
    if not files:
        raise DataError(f"{folder} holds no file that ends in {', '.join(endings)}")
    return files


def open_sources(train: config.Training) -> list[Source]:
    """Opens, and checks, all that is trained on, in the order of the config.

    Raises:
      DataError: With file and line, for bad rows.
      ConfigError: For a mixture of which only some parts have a weight.
    """
    return [open_source(part.source) for part in _parts(train)]


def make_parts(
    data: config.Data,
    sources: Sequence[Source],
    *,
    query_prompt: str,
    document_prompt: str,
    teacher: bool,
    negative_scores: bool = True,
    labels: bool = False,
    in_batch: bool = True,
) -> list[Part]:
    """The sources with the rules by which groups are drawn from them.

    Args:
      data: Their config.
      sources: As `open_sources` gives them.
      query_prompt: Of sources that have none of their own.
      document_prompt: Of sources that have none of their own.
      teacher: Whether rows need a teacher's scores.
      negative_scores: Whether these may be negative.
      labels: Whether rows need a label.
      in_batch: Whether queries of parts that allow it see other queries' documents.

    Returns:
      The parts.

    Raises:
      DataError: With file and line, for rows that no group can be drawn from.
    """
    made = []
    for part, source in zip(_parts(data.train), sources, strict=True):
        rules = Rules(
            group_size=_first(part.group_size, data.group_size),
            in_batch=part.in_batch and in_batch,
            few_negatives=data.few_negatives,
            query_prompt=_first(part.query_prompt, query_prompt),
            document_prompt=_first(part.document_prompt, document_prompt),
            row_prompt=data.row_prompt,
            query_length=_first(part.query_max_length, data.query_max_length),
            document_length=_first(part.document_max_length, data.document_max_length),
            shuffle_ratio=data.shuffle_ratio,
            temperature=part.temperature,
            teacher=teacher,
            negative_scores=negative_scores,
            labels=labels,
        )
        rules.check(source)
        made.append(Part(source, rules, part.weight or len(source)))
    return made


def _parts(train: config.Training) -> tuple[config.Part, ...]:
    if not isinstance(train, config.Mixture):
        return (config.Part(source=train),)
    without = [
        f"parts[{number}] ({getattr(part.source, 'path', part.source.kind)})"
        for number, part in enumerate(train.parts)
        if part.weight is None
    ]
    if 0 < len(without) < len(train.parts):
        raise ConfigError(
            f"data.train: no weight is given for {', '.join(without)}, but others have one, which "
            "does not compare with a size; give all parts a weight, or none, to go by their sizes"
        )
    return train.parts


def _first(own, default):
    return default if own is None else own


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
        with replacing(saved) as partial:
            tokenizer.save(str(partial))
    return tokenizers.Tokenizer.from_file(str(saved))


class _Texts:
    """All texts of a source, one at a time, as often as asked."""

    def __init__(self, source: Source):
        self._source = source

    def __iter__(self) -> Iterator[str]:
        for number in range(len(self._source)):
            example = self._source[number]
            yield from (example.query, *example.positives, *example.negatives)


def shape_of(parts: Sequence[Part], texts_per_row: int) -> Shape:
    """Lengths and rows: a row holds at least one text of the greatest length."""
    return Shape(
        query_length=max(part.rules.query_length for part in parts),
        document_length=max(part.rules.document_length for part in parts),
        texts_per_row=texts_per_row,
    )
