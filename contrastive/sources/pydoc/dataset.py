"""(docstring, source code) pairs from the installed Python packages, as a TFDS data set.

This is real text-to-code retrieval data that is available wherever this project is installed: the
functions of the standard library and of some packages that the project requires.
"""

from __future__ import annotations

import ast
import contextlib
import hashlib
import importlib.metadata
import io
import logging
import re
import shutil
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, TypeGuard

import tensorflow_datasets as tfds
from filelock import FileLock
from tqdm import tqdm

from contrastive.digests import check_manifest, write_manifest
from contrastive.errors import FolderError
from contrastive.files import cache_directory

SPLITS = ("train", "validation", "test")
_HELD_OUT_FILES = {"validation": 5, "test": 10}  # percent
_SKIPPED_FOLDERS = {"test", "tests", "testing", "site-packages", "idlelib", "lib2to3", "_vendor"}
_MOST_CODE = 4000  # characters; longer functions are mostly tables
# All of these are required dependencies, but not all dependencies are listed: adding one would
# change the data.
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
_FEWEST_WORDS = 4  # shorter docstrings do not describe a function


class Pair(NamedTuple):
    """The first paragraph of a function's docstring, and the function without it."""

    file: str
    name: str
    query: str
    code: str


class Pydoc(tfds.core.GeneratorBasedBuilder):
    """TFDS builder of the pairs; writes ArrayRecord files without TensorFlow."""

    VERSION = tfds.core.Version("1.0.0")

    def __init__(self, **kwargs):
        packages = installed_packages()
        config = tfds.core.BuilderConfig(
            name=digest(repr(packages)),
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


def prepare() -> Pydoc:
    """Builds the data set on first use; afterwards reads it from the cache folder."""
    folder = cache_directory("tfds")
    logging.getLogger("absl").addFilter(_not_about_configs)
    # Processes on the same machine prepare the data once. A builder inspects the folder when it is
    # created, so that happens under the lock as well.
    prepared = folder / Pydoc.name / digest(repr(installed_packages())) / str(Pydoc.VERSION)
    with FileLock(folder / "pydoc.lock"):
        if prepared.exists() and not _is_intact(prepared):
            shutil.rmtree(prepared)
        builder = Pydoc(data_dir=str(folder))
        if not builder.is_prepared():
            tfds.disable_progress_bar()  # our bar counts files; theirs counts what is already read
            with contextlib.redirect_stdout(io.StringIO()):
                builder.download_and_prepare()
            write_manifest(prepared)
        return builder


def _is_intact(folder: Path) -> bool:
    """Returns whether the data set is as it was written; explains why not."""
    try:
        if check_manifest(folder):
            return True
        problem = f"{folder} is incomplete or of an older version"
    except FolderError as error:
        problem = str(error)
    print(f"contrastive: {problem}; the data set is prepared again", file=sys.stderr)
    return False


def _not_about_configs(record: logging.LogRecord) -> bool:
    """Filters TFDS warnings about custom configs; ours must be, as they name installed versions."""
    message = record.getMessage()
    return "custom data configuration" not in message and "Variant folder" not in message


def installed_packages() -> tuple[tuple[str, str], ...]:
    """Returns name and version of Python and of every package that is read."""
    packages = ((name, importlib.metadata.version(name)) for name in _PACKAGES)
    return (("python", ".".join(map(str, sys.version_info[:3]))), *packages)


def collect() -> Iterator[Pair]:
    """Yields the pairs of all installed Python files in a fixed order, with a progress bar."""
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
    """Yields the pairs of one file; none if this Python version cannot parse it.

    Args:
      path: A Python file.
      name: Name of the file in the data.

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
    """Drops pairs whose query occurred before, or whose code did up to names and numbers."""
    seen: set[str] = set()
    kept = []
    for pair in pairs:
        marks = {digest("query " + pair.query.casefold()), digest("code " + normalize(pair.code))}
        if not marks & seen:
            kept.append(pair)
        seen |= marks
    return kept


def normalize(code: str) -> str:
    """Removes the function's own name, strings and numbers from code, so that copies are equal."""
    code = re.sub(r"def \w+", "def _", code)
    code = re.sub(r"'[^'\n]*'|\"[^\"\n]*\"", "''", code)
    return re.sub(r"\b\d[\w.]*\b", "0", code)


def split_of(file: str) -> str:
    """Returns the split of a source file by a digest of its name; files are never divided."""
    percent = int(digest(file), 16) % 100
    for split, share in _HELD_OUT_FILES.items():
        if percent < share:
            return split
        percent -= share
    return "train"


def digest(text: str) -> str:
    """Computes a short digest of a text."""
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
