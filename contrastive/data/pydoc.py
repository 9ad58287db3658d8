"""(docstring, source code) pairs of the Python that is installed, as a TFDS data set.

Real text-to-code retrieval data that every machine with this project already has: the functions of
the standard library and of some packages that the project requires.
"""

from __future__ import annotations

import ast
import contextlib
import hashlib
import importlib.metadata
import io
import logging
import re
import sys
import sysconfig
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, TypeGuard

import tensorflow_datasets as tfds
from filelock import FileLock
from tqdm import tqdm

from contrastive.data.cache import cache_directory
from contrastive.data.example import Example
from contrastive.errors import DataError

SPLITS = ("train", "validation", "test")
_HELD_OUT_FILES = {"validation": 5, "test": 10}  # percent
_SKIPPED_FOLDERS = {"test", "tests", "testing", "site-packages", "idlelib", "lib2to3", "_vendor"}
_MOST_CODE = 4000  # characters; longer functions are mostly tables
# All required, but not all that is: with one more the data would be other data.
_PACKAGES = (
    "array-record",
    "bm25s",
    "filelock",
    "flax",
    "grain",
    "importlib-resources",
    "ir-measures",
    "jax",
    "jaxtyping",
    "numpy",
    "optax",
    "orbax-checkpoint",
    "pydantic",
    "safetensors",
    "tensorflow-datasets",
    "tokenizers",
    "tqdm",
    "transformers",
    "tyro",
)
_FEWEST_WORDS = 4  # in a docstring: fewer do not describe a function


class Pair(NamedTuple):
    """The first paragraph of a function's docstring, and the function without it."""

    file: str
    name: str
    query: str
    code: str


class Pydoc(tfds.core.GeneratorBasedBuilder):
    """TFDS builder of the pairs, written as ArrayRecord without TensorFlow."""

    VERSION = tfds.core.Version("1.0.0")

    def __init__(self, **kwargs):
        packages = installed_packages()
        config = tfds.core.BuilderConfig(
            name=_digest(repr(packages)),
            description=" ".join(f"{name}=={version}" for name, version in packages),
        )
        super().__init__(file_format="array_record", config=config, **kwargs)

    def _info(self) -> tfds.core.DatasetInfo:
        text = tfds.features.Text()
        features = {"query": text, "code": text, "file": text, "name": text}
        return tfds.core.DatasetInfo(
            builder=self,
            description=__doc__,
            features=tfds.features.FeaturesDict(features),
            supervised_keys=("query", "code"),
        )

    def _split_generators(self, dl_manager):
        del dl_manager
        pairs = unique(collect())
        return {split: self._generate_examples(pairs, split) for split in SPLITS}

    def _generate_examples(self, pairs, split):
        for key, pair in enumerate(pairs):
            if split_of(pair.file) == split:
                yield key, pair._asdict()


class PydocSource:
    """Examples of one split, prepared on first use and cached.

    Args:
      split: `train`, `validation` or `test`.

    Raises:
      DataError: For any other split.
    """

    most_positives = 1

    def __init__(self, split: str = "train"):
        if split not in SPLITS:
            raise DataError(f"pydoc has no split {split!r}; choose one of {', '.join(SPLITS)}")
        self._split = split
        builder = _prepare()
        self.fingerprint = f"{_digest(repr(installed_packages()))} {builder.version} {split}"
        self._data = builder.as_data_source(split=split)  # pyright: ignore[reportCallIssue]
        self._read: dict[int, Example] = {}  # decoding a record costs more than tokenising it

    def __len__(self) -> int:
        return len(self._data)

    def __getitem__(self, index: int) -> Example:
        if index not in self._read:
            row = self._data[index]
            self._read[index] = Example(row["query"].decode(), (row["code"].decode(),))
        return self._read[index]

    def __repr__(self) -> str:
        return f"PydocSource({self._split!r})"

    def check_negatives(self, needed: int) -> None:
        """Refuses groups: the data has pairs only."""
        if needed > 0:
            raise DataError(
                f"group_size is {needed + 1} but pydoc has no hard negatives; set group_size=1"
            )

    def check_own_negatives(self) -> None:
        """Refuses training out of batch: the data has pairs only."""
        raise DataError("pydoc has no hard negatives; use in-batch negatives")

    def check_scores(self, *, negative: bool) -> None:
        """Refuses distillation: there is no teacher."""
        del negative
        raise DataError("the loss wants scores of documents and pydoc has none; take another")

    def check_labels(self) -> None:
        """Refuses losses of classes: there are none."""
        raise DataError("the loss wants labels and pydoc has none; take another loss")

    @property
    def score_spread(self) -> float:
        """There is no teacher."""
        return 0.0

    @property
    def field_counts(self) -> Counter[str]:
        """There are no such fields."""
        return Counter()


def _prepare() -> Pydoc:
    folder = cache_directory("tfds")
    logging.getLogger("absl").addFilter(_not_about_configs)
    # Several processes of one machine prepare it once. A builder looks at the folder when it is
    # made, so that is done under the lock too.
    with FileLock(folder / "pydoc.lock"):
        builder = Pydoc(data_dir=str(folder))
        if not builder.is_prepared():
            tfds.disable_progress_bar()  # our own bar counts files; theirs what is already read
            with contextlib.redirect_stdout(io.StringIO()):
                builder.download_and_prepare()
        return builder


def _not_about_configs(record: logging.LogRecord) -> bool:
    """TFDS warns of configs made on the fly; ours name the installed versions, so they must be."""
    message = record.getMessage()
    return "custom data configuration" not in message and "Variant folder" not in message


def installed_packages() -> tuple[tuple[str, str], ...]:
    """Name and version of Python and of every package that is read."""
    packages = ((name, importlib.metadata.version(name)) for name in _PACKAGES)
    return (("python", ".".join(map(str, sys.version_info[:3]))), *packages)


def collect() -> Iterator[Pair]:
    """Every pair of the installed Python files, in a fixed order, with a progress bar."""
    files = [(f"python/{p}", root / p) for root in [_stdlib()] for p in _python_files(root)]
    for name, _ in installed_packages()[1:]:
        distribution = importlib.metadata.distribution(name)
        listed = sorted(str(p) for p in distribution.files or () if p.suffix == ".py")
        files += [(p, Path(str(distribution.locate_file(p)))) for p in listed if _wanted(Path(p))]
    for name, path in tqdm(files, desc="reading installed Python files", unit=" files"):
        yield from pairs_in(path, name)


def _stdlib() -> Path:
    return Path(sysconfig.get_paths()["stdlib"])


def _python_files(root: Path) -> list[Path]:
    return sorted(p for p in (f.relative_to(root) for f in root.rglob("*.py")) if _wanted(p))


def _wanted(path: Path) -> bool:
    is_test = path.name.startswith("test_") or path.name.endswith("_test.py")
    return not is_test and not _SKIPPED_FOLDERS & set(path.parts)


def pairs_in(path: Path, name: str) -> Iterator[Pair]:
    """The pairs of one file; none if it cannot be parsed by this Python.

    Args:
      path: A Python file.
      name: How the file is called in the data.

    Yields:
      A pair for each function with a docstring and a body.
    """
    unreadable = (SyntaxError, ValueError, OSError, RecursionError, MemoryError)
    try:
        functions = [node for node in ast.walk(ast.parse(path.read_bytes())) if _is_function(node)]
    except unreadable:
        return
    for node in functions:
        docstring = ast.get_docstring(node)
        if not docstring or len(node.body) < 2:
            continue
        query = " ".join(re.split(r"\n\s*\n", docstring, maxsplit=1)[0].split())
        node.body = node.body[1:]
        try:
            code = ast.unparse(node)
            (query + code).encode()
        except unreadable:
            continue
        if len(query.split()) >= _FEWEST_WORDS and len(code) <= _MOST_CODE:
            yield Pair(name, node.name, query, code)


def _is_function(node: ast.AST) -> TypeGuard[ast.FunctionDef | ast.AsyncFunctionDef]:
    return isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)


def unique(pairs: Iterator[Pair]) -> list[Pair]:
    """Keeps the first of pairs with the same query or the same code but for names and numbers."""
    seen: set[str] = set()
    kept = []
    for pair in pairs:
        marks = {_digest("query " + pair.query.casefold()), _digest("code " + normalise(pair.code))}
        if not marks & seen:
            kept.append(pair)
        seen |= marks
    return kept


def normalise(code: str) -> str:
    """Code with the function's own name, strings and numbers taken out: copies become equal."""
    code = re.sub(r"def \w+", "def _", code)
    code = re.sub(r"'[^'\n]*'|\"[^\"\n]*\"", "''", code)
    return re.sub(r"\b\d[\w.]*\b", "0", code)


def split_of(file: str) -> str:
    """The split of a source file, by a digest of its name: all of a file is in one split."""
    percent = int(_digest(file), 16) % 100
    for split, share in _HELD_OUT_FILES.items():
        if percent < share:
            return split
        percent -= share
    return "train"


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
