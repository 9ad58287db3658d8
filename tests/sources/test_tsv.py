"""Rows of tab-separated files, and how bad lines are refused."""

import pytest

from contrastive.config import Data, Experiment, Static
from contrastive.data.training_sources import open_source
from contrastive.errors import DataError
from contrastive.sources import Example, Tsv


def written(tmp_path, content):
    path = tmp_path / "rows.tsv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return Tsv(path=str(path))


def test_rows_become_examples(tmp_path):
    source = written(tmp_path, 'a "cat"\tone\n\nb\ttwo\tthree\t\tfour\r\nc\tfünf\n')
    examples = open_source(source)
    assert [examples[index] for index in range(len(examples))] == [
        Example('a "cat"', ("one",)),
        Example("b", ("two",), ("three", "four")),
        Example("c", ("fünf",)),
    ]


def test_files_of_spreadsheets(tmp_path):
    """A byte-order mark, cells of any length, carriage returns in cells."""
    long = "x" * 200_000
    source = written(tmp_path, f"\ufeffq\t{long}\r\na\rb\tone\r\n")
    examples = open_source(source)
    assert [examples[index] for index in range(2)] == [
        Example("q", (long,)),
        Example("a\rb", ("one",)),
    ]


def test_errors_of_later_checks_name_the_line(tmp_path):
    source = written(tmp_path, "\nquery\tdocument\n\nb\ttwo\tthree\nc\tfour\n")
    examples = open_source(source.replace(header=True))
    assert len(examples) == 2
    with pytest.raises(DataError, match=r"rows\.tsv:5: a group needs 1 negatives"):
        examples.check_negatives(1)


def test_a_header_is_skipped(tmp_path):
    source = written(tmp_path, "query\tdocument\nb\ttwo\n")
    assert len(open_source(source)) == 2
    assert len(open_source(source.model_copy(update={"header": True}))) == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            "a\tone\nb\n",
            r"rows\.tsv:2: expected a query and a document.* 1 columns, the first of them 'b'",
        ),
        ("a\tone\nb\t\tx\n", r"rows\.tsv:2: .* 3 columns, the first of them 'b'"),
        ("a\tone\n\tx\n", r"rows\.tsv:2: .* 2 columns, the first of them ''"),
        (b"a\t\xff\n", r"rows\.tsv: not UTF-8"),
        ("\n", r"rows\.tsv: the file has no rows"),
    ],
)
def test_bad_lines_are_refused(tmp_path, content, message):
    with pytest.raises(DataError, match=message):
        open_source(written(tmp_path, content))


def test_a_missing_file_is_refused():
    with pytest.raises(DataError, match=r"missing\.tsv: No such file"):
        open_source(Tsv(path="missing.tsv"))


def test_it_is_named_in_json(tmp_path):
    source = written(tmp_path, "a\tone\n")
    experiment = Experiment(
        name="t", steps=1, batch_size=2, data=Data(train=source), model=Static(width=4)
    )
    stored = experiment.model_dump(mode="json")
    assert stored["data"]["train"]["kind"] == "tsv"
    assert Experiment.model_validate(stored) == experiment
