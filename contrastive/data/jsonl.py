"""JSON-lines files of `{"query", "pos", "neg"}` rows, by index."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import shutil
import zlib
from collections import Counter
from pathlib import Path

import numpy as np
from jaxtyping import Bool
from tqdm import tqdm

from contrastive.data.cache import cache_directory, replacing
from contrastive.data.example import Example, example_from_row
from contrastive.errors import DataError

_PROGRESS_BYTES = 64 << 20  # a bar for files that take seconds to check


class Jsonl:
    """Examples of one file, plain or `.gz`, checked from first row to last when opened.

    Only byte offsets are kept in memory. A `.gz` file is unpacked once into the cache folder.

    Args:
      path: The file.
      limit: Most rows; which ones is always the same.

    Raises:
      DataError: With file and line: no such file, empty, not UTF-8, invalid JSON, a row without
        `query`, `pos` empty or not a list of strings.
    """

    def __init__(self, path: str | os.PathLike[str], limit: int | None = None):
        self.path = Path(path)
        if not self.path.is_file():
            raise DataError(f"{self.path}: no such file")
        plain = _unpack(self.path) if self.path.suffix == ".gz" else self.path
        self._rows, self.fingerprint = _scan(plain, self.path)
        if not len(self._rows):
            raise DataError(f"{self.path}: the file has no rows")
        if limit is not None and limit < len(self._rows):
            chosen = np.random.default_rng(0).choice(len(self._rows), limit, replace=False)
            self._rows = self._rows[np.sort(chosen)]
            self.fingerprint += f" {limit}"
        self._file = os.open(plain, os.O_RDONLY)

    def __del__(self):
        if hasattr(self, "_file"):
            os.close(self._file)

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> Example:
        begin, end = int(self._rows[index]["begin"]), int(self._rows[index]["end"])
        # pread keeps no position, so threads may share the file.
        row = json.loads(os.pread(self._file, end - begin, begin))
        return example_from_row(row, self.where(index))

    def __repr__(self) -> str:
        return f"Jsonl({str(self.path)!r})"

    def where(self, index: int) -> str:
        """File and line of an example."""
        return f"{self.path}:{self._rows[index]['line']}"

    @property
    def most_positives(self) -> int:
        """The most positives any example has."""
        return int(self._rows["positives"].max())

    def check_negatives(self, needed: int) -> None:
        """Refuses a group size that some row cannot fill.

        Args:
          needed: Negatives a row must have, group_size - 1.

        Raises:
          DataError: Naming the first row that has fewer.
        """
        have = self._rows["negatives"]
        short = np.flatnonzero(have < np.minimum(needed, self._rows["wanted"]))
        if len(short):
            raise DataError(
                f"{self.where(int(short[0]))}: a group wants {needed} negatives but this row has "
                f"{int(have[short[0]])} ({len(short)} of {len(self)} rows have too few); add "
                f"negatives, set group_size={int(have.min()) + 1}, or few_negatives to 'fewer' for "
                "smaller groups where there are too few"
            )

    def check_own_negatives(self) -> None:
        """Refuses rows without a negative, from which nothing is learned out of batch.

        Raises:
          DataError: Naming the first.
        """
        self._refuse_without(
            self._rows["negatives"] > 0,
            "this row has no negatives and sees no other query's documents, so that nothing is "
            "learned from it",
            "add at least 1 negative, leave such rows out, or use in-batch negatives",
        )

    def check_scores(self, *, negative: bool) -> None:
        """Refuses rows without a teacher's scores, or with negative ones.

        Args:
          negative: Whether scores may be negative.

        Raises:
          DataError: Naming the first.
        """
        self._refuse_without(
            self._rows["scored"],
            'the loss wants "pos_scores" and "neg_scores" but this row has none',
            "add them, or train without distillation and losses of scores",
        )
        if not negative:
            self._refuse_without(
                self._rows["least_score"] >= 0,
                "a score of this row is negative, and has no share of the row's relevance",
                "shift them, or take listwise with the target softmax",
            )

    def check_labels(self) -> None:
        """Refuses rows without a label.

        Raises:
          DataError: Naming the first.
        """
        self._refuse_without(
            self._rows["labelled"],
            'the loss wants a "label" but this row has none',
            "add the class of each, or take another loss",
        )

    def _refuse_without(self, has: Bool[np.ndarray, " n"], wrong: str, instead: str) -> None:
        without = np.flatnonzero(~has)
        if len(without):
            raise DataError(
                f"{self.where(int(without[0]))}: {wrong} ({len(without)} of {len(self)} rows); "
                f"{instead}"
            )

    @property
    def score_spread(self) -> float:
        """How far a row's highest teacher's score is above its lowest, on average."""
        return float(self._rows["spread"].mean())

    @property
    def field_counts(self) -> Counter[str]:
        """How many rows have each of the fields that a user may want to hear of."""
        return Counter({name: int(self._rows[name].sum()) for name in _FIELDS})


# `type` where it has an effect; the last two have none here, and one in FlagEmbedding.
_FIELDS = ("prompt", "type", "batch_size", "train_group_size")
_ROW = np.dtype(
    [
        ("begin", np.int64),
        ("end", np.int64),
        ("line", np.int64),
        ("positives", np.int32),
        ("negatives", np.int32),
        ("wanted", np.int32),  # the most negatives this row's kind wants
        ("scored", bool),
        ("spread", np.float32),  # of its scores
        ("least_score", np.float32),
        ("labelled", bool),
        *((name, bool) for name in _FIELDS),
    ]
)


def _scan(plain: Path, path: Path):
    rows: list[tuple[float, ...]] = []
    digest = hashlib.blake2b(digest_size=16)
    size = plain.stat().st_size
    bar = tqdm(
        desc=f"checking {path.name}",
        total=size,
        unit="B",
        unit_scale=True,
        disable=size < _PROGRESS_BYTES,
    )
    begin = 0
    with open(plain, "rb") as file, bar:
        for number, line in enumerate(file, start=1):
            bar.update(len(line))
            digest.update(line)
            end = begin + len(line)
            if line.strip():
                decoded = _decode(line, f"{path}:{number}")
                example = example_from_row(decoded, f"{path}:{number}")
                wanted = example.most_negatives
                row = (
                    begin,
                    end,
                    number,
                    len(example.positives),
                    len(example.negatives),
                    np.iinfo(np.int32).max if wanted is None else wanted,
                    bool(example.scores),
                    max(example.scores) - min(example.scores) if example.scores else 0.0,
                    min(example.scores, default=0.0),
                    example.label is not None,
                    example.prompt is not None,
                    wanted is not None or example.is_symmetric,
                    decoded.get("batch_size") is not None,
                    decoded.get("train_group_size") is not None,
                )
                rows.append(row)
            begin = end
    return np.array(rows, _ROW), digest.hexdigest()


def _decode(line: bytes, where: str):
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{where}: not UTF-8 at byte {error.start + 1} of the line "
            f"(0x{line[error.start]:02x}); convert the file, for example with iconv -t UTF-8"
        ) from None
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        if text.lstrip().startswith("["):
            raise DataError(
                f"{where}: a JSON array; write a row a line, for example with jq -c '.[]'"
            ) from None
        raise DataError(f"{where}: invalid JSON, {error.msg} at column {error.colno}") from None
    except (ValueError, RecursionError) as error:  # endless numbers, endless nesting
        raise DataError(f"{where}: JSON that cannot be read, {error}") from None


def _unpack(path: Path) -> Path:
    stat = path.stat()
    identity = f"{path.resolve()} {stat.st_size} {stat.st_mtime_ns}"
    name = hashlib.blake2b(identity.encode(), digest_size=16).hexdigest()
    plain = cache_directory("jsonl") / f"{name}.jsonl"
    if not plain.exists():
        try:
            with (
                replacing(plain) as partial,
                gzip.open(path, "rb") as packed,
                open(partial, "wb") as unpacked,
            ):
                shutil.copyfileobj(packed, unpacked, 1 << 20)
        except (EOFError, zlib.error, OSError) as error:
            raise DataError(f"{path}: cannot be unpacked, {error}") from None
    return plain
