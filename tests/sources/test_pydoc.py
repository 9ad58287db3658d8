import ast
import sys
import sysconfig
from collections import Counter
from pathlib import Path

import pytest

from contrastive.errors import ConfigError, DataError
from contrastive.sources import Pydoc
from contrastive.sources._example import Example
from contrastive.sources.pydoc.dataset import (
    SPLITS,
    Pair,
    pairs_in,
    prepare,
    split_of,
    unique,
)

FILE = '''
"""A module's docstring is no pair of anything at all."""

def plain(a, b):
    """Adds two numbers
    and returns the sum.

    Args:
      a: Not part of the query.
    """
    # A comment.
    return a + b

class Thing:
    """A class docstring is no pair either, it seems."""

    def method(self):
        """Tells how many things there are."""
        return len(self)

    @property
    async def later(self):
        """Waits until the thing is ready."""
        await self

def short():
    """Too few words."""
    return 1

def only_a_docstring():
    """Says a lot and does nothing at all."""

def without():
    return "no docstring, but a string of words"

def huge():
    """Returns a table of far too many numbers."""
    return [NUMBERS]
'''.replace("NUMBERS", ", ".join(map(str, range(1500))))


def pairs_of(tmp_path, content):
    path = tmp_path / "file.py"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return list(pairs_in(path, "package/file.py"))


def test_a_pair_is_the_first_paragraph_and_the_code_without_docstring(tmp_path):
    code = {
        "plain": "def plain(a, b):\n    return a + b",
        "method": "def method(self):\n    return len(self)",
        "later": "@property\nasync def later(self):\n    await self",
    }
    query = {
        "plain": "Adds two numbers and returns the sum.",
        "method": "Tells how many things there are.",
        "later": "Waits until the thing is ready.",
    }
    truth = {Pair("package/file.py", name, query[name], code[name]) for name in code}
    found = pairs_of(tmp_path, FILE)
    assert set(found) == truth
    assert len(found) == len(truth)


FUNCTION = 'def f():\n    """Returns the number of all things."""\n    return {}\n'

UNUSABLE = {
    "no Python": "def broken(:\n",
    "Python 2": FUNCTION.format(1) + "print 'hello'\n",
    "a zero byte": FUNCTION.format(1) + "\0",
    "not UTF-8": FUNCTION.format("'\xe4'").encode("latin-1"),
    "nested too deep": FUNCTION.format("(" * 3000 + ")" * 3000),
    "signs too deep to parse": FUNCTION.format("-" * 50_000 + "1"),
    "half a character": FUNCTION.format(1).replace("number", "\\ud83d"),
    "a sum too long to print": FUNCTION.format("+".join(["a"] * 1000)),
}


@pytest.mark.parametrize("name", UNUSABLE)
def test_files_that_cannot_be_used_are_skipped(tmp_path, name):
    assert pairs_of(tmp_path, UNUSABLE[name]) == []
    assert list(pairs_in(tmp_path / "missing.py", "missing.py")) == []
    assert len(pairs_of(tmp_path, FUNCTION.format(1))) == 1


def test_near_duplicates_are_kept_once():
    def pair(query, code, name="f"):
        return Pair("file.py", name, query, code)

    first = pair("Opens a file.", "def f(a):\n    return a + 'x' * 10")
    copies = [
        pair("Shuts a file.", "def g(a):\n    return a + 'x' * 10", "g"),
        pair("Locks a file.", "def f(a):\n    return a + 'other words' * 10"),
        pair("Finds a file.", 'def h(a):\n    return a + "y" * 0xff', "h"),
        pair("OPENS a File.", "def f(q):\n    raise NotImplementedError"),
        # Like the one before, which was not kept itself.
        pair("Reads a file.", "def f(q):\n    raise NotImplementedError"),
    ]
    others = [
        pair("Takes a file.", "def f(b):\n    return b + 'x' * 10"),
        pair("Moves a file.", "def f(a):\n    return a - 'x' * 10"),
    ]
    assert unique(iter([first, *copies, *others])) == [first, *others]
    assert unique(iter([copies[0], first])) == [copies[0]]


def test_files_are_split_85_5_10_by_name():
    count = Counter(split_of(f"package_{i % 37}/module_{i}.py") for i in range(10_000))
    for split, share in {"train": 0.85, "validation": 0.05, "test": 0.10}.items():
        assert count[split] / 10_000 == pytest.approx(share, abs=0.015)


@pytest.fixture(scope="session")
def pydoc_builder():
    """The pairs of the Python that runs the tests; prepared once, which takes a while."""
    return prepare()


@pytest.mark.slow
def test_the_installed_python_becomes_disjoint_splits_of_real_functions(pydoc_builder):
    rows = {split: list(pydoc_builder.as_data_source(split=split)) for split in SPLITS}
    assert "tensorflow" not in sys.modules
    total = sum(map(len, rows.values()))
    assert total > 5000
    assert len({row["query"].decode().casefold() for r in rows.values() for row in r}) == total
    files = {split: {row["file"].decode() for row in rows[split]} for split in SPLITS}
    for a, b in (("train", "validation"), ("train", "test"), ("validation", "test")):
        assert not files[a] & files[b]

    # Each is there, in the file it says, with its words: looked for in the file's text.
    stdlib = Path(sysconfig.get_paths()["stdlib"])
    checked = 0
    for row in rows["validation"]:
        file, name, query, code = (row[k].decode() for k in ("file", "name", "query", "code"))
        function = ast.parse(code).body[0]
        assert function.name == name
        if file.startswith("python/"):
            text = (stdlib / file.removeprefix("python/")).read_text(encoding="utf-8")
            assert f"def {name}" in text
            if "\\" not in query:
                assert query in " ".join(text.split()).replace("\\", "")
                checked += 1
    assert checked > 50


@pytest.mark.slow
def test_a_pydoc_source_reads_what_was_prepared(pydoc_builder):
    source = Pydoc(split="validation").read()
    rows = pydoc_builder.as_data_source(split="validation")
    assert len(source) == len(rows)
    for i in (0, len(rows) // 2, len(rows) - 1, 0):
        truth = Example(rows[i]["query"].decode(), (rows[i]["code"].decode(),))
        assert source[i] == truth
    source.check_negatives(0)
    with pytest.raises(
        DataError, match=r"needs 2 negatives .* has 0 .* groups of 1,.*data\.group_size"
    ):
        source.check_negatives(2)
    with pytest.raises(ConfigError, match=r"split is 'dev'.* 'train', 'validation' or 'test'"):
        Pydoc(split="dev")
