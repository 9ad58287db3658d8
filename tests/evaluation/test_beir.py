import gzip

import pytest

from contrastive.errors import DataError
from contrastive.evaluation.task import load_beir

CORPUS = """{"_id": "d1", "title": "A title", "text": "and a text"}
{"_id": "d2", "title": "", "text": "no title"}
{"_id": "d3", "text": "none at all", "other": 5}
"""
QUERIES = (
    '{"_id": "q1", "text": "one"}\n{"_id": "q2", "text": "two"}\n{"_id": "q3", "text": "three"}\n'
)
QRELS = "query-id\tcorpus-id\tscore\nq3\td1\t1\nq1\td2\t2\nq2\td1\t0\nq3\td3\t1\n"
FILES = {"corpus.jsonl": CORPUS, "queries.jsonl": QUERIES, "qrels/test.tsv": QRELS}


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "qrels").mkdir()
    for name, content in FILES.items():
        (tmp_path / name).write_text(content)
    return tmp_path


def refused(folder, split="test"):
    with pytest.raises(DataError) as error:
        load_beir(folder, split)
    return str(error.value)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("header", [False, True])
def test_a_folder_is_read_as_written(folder, packed, header):
    if packed:
        for name in ("corpus.jsonl", "queries.jsonl"):
            (folder / name).unlink()
            (folder / f"{name}.gz").write_bytes(gzip.compress(FILES[name].encode()))
    if not header:
        (folder / "qrels/test.tsv").write_text(QRELS.partition("\n")[2])
    task = load_beir(folder)
    assert task.corpus == {"d1": "A title and a text", "d2": "no title", "d3": "none at all"}
    # Only judged queries are asked, in the order of their file.
    assert list(task.queries.items()) == [("q1", "one"), ("q3", "three")]
    assert task.relevant == {"q3": {"d1": 1, "d3": 1}, "q1": {"d2": 2}}
    assert task.name == f"{folder.name} test"


ROWS = {
    "no JSON": (b'{"_id": "d2"', ""),
    "blank": (b"", ""),
    "no object": (b'["d2"]', "expected an object"),
    "id missing": (b'{"text": "x"}', '"_id" must be a string'),
    "id a number": (b'{"_id": 2, "text": "x"}', '"_id" must be a string'),
    "text missing": (b'{"_id": "d2"}', '"text" must be a string'),
    "not UTF-8": (b'{"_id": "d2", "text": "\xff"}', ""),
}


@pytest.mark.parametrize("file", ["corpus.jsonl", "queries.jsonl"])
@pytest.mark.parametrize("name", ROWS)
def test_a_bad_row_is_refused_with_file_and_line(folder, file, name):
    row, complaint = ROWS[name]
    first, _, rest = FILES[file].encode().split(b"\n", 2)
    (folder / file).write_bytes(b"\n".join([first, row, rest]))
    message = refused(folder)
    assert message.startswith(f"{folder / file}:2: ")
    assert complaint in message


JUDGEMENTS = {
    "two columns": b"q1\td1",
    "four columns": b"q1\t0\td1\t1",
    "spaces": b"q1 d1 1",
    "no number": b"q1\td1\tone",
    "a fraction": b"q1\td1\t0.5",
    "two signs": b"q1\td1\t--1",
    "a raised two": "q1\td1\t\u00b2".encode(),
    "unknown query": b"q7\td1\t1",
    "unknown document": b"q1\td7\t1",
    "blank": b"",
    "not UTF-8": b"q1\td\xff\t1",
}


@pytest.mark.parametrize("name", JUDGEMENTS)
def test_a_bad_judgement_is_refused_with_file_and_line(folder, name):
    path = folder / "qrels/test.tsv"
    first, second, rest = QRELS.encode().split(b"\n", 2)
    path.write_bytes(b"\n".join([first, second, JUDGEMENTS[name], rest]))
    message = refused(folder)
    assert message.startswith(f"{path}:3: ")
    if name.startswith("unknown"):
        assert name.partition(" ")[2] in message
        assert "7'" in message


@pytest.mark.parametrize("file", FILES)
def test_a_missing_file_is_named(folder, file):
    (folder / file).unlink()
    assert str(folder / file) in refused(folder)


def test_a_missing_split_names_those_there_are(folder):
    (folder / "qrels/dev.tsv").write_text(QRELS)
    message = refused(folder, "train")
    assert str(folder / "qrels/train.tsv") in message
    assert "['dev', 'test']" in message


def test_judgements_without_a_positive_are_refused(folder):
    (folder / "qrels/test.tsv").write_text("query-id\tcorpus-id\tscore\nq1\td1\t0\n")
    assert str(folder / "qrels/test.tsv") in refused(folder)


@pytest.mark.parametrize("damage", ["truncated", "no gz"])
@pytest.mark.parametrize("file", ["corpus.jsonl", "queries.jsonl"])
def test_a_damaged_gz_is_refused_by_name(folder, file, damage):
    (folder / file).unlink()
    packed = gzip.compress(FILES[file].encode())
    content = packed[:-9] if damage == "truncated" else FILES[file].encode()
    (folder / f"{file}.gz").write_bytes(content)
    assert str(folder / f"{file}.gz") in refused(folder)
