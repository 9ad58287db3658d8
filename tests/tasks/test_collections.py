import dataclasses
import gzip

import pytest

from contrastive.errors import DataError
from contrastive.sources import Jsonl
from contrastive.tasks import Retrieval
from contrastive.tasks.retrieval.collections import load_beir, load_flagembedding

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


@pytest.mark.parametrize("packed", [False, True])
def test_byte_order_marks_are_no_text(folder, packed):
    expected = load_beir(folder)
    for path in [path for path in folder.rglob("*") if path.is_file()]:
        marked = b"\xef\xbb\xbf" + path.read_bytes()
        if packed and path.suffix == ".jsonl":
            path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(marked))
            path.unlink()
        else:
            path.write_bytes(marked)
    assert load_beir(folder) == expected


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


FLAG_FILES = {
    "corpus.jsonl": CORPUS.replace('"_id"', '"id"'),
    "test_queries.jsonl": QUERIES.replace('"_id"', '"id"'),
    "test_qrels.jsonl": "".join(
        f'{{"qid": "{query}", "docid": "{document}", "relevance": {gain}}}\n'
        for query, document, gain in (line.split("\t") for line in QRELS.splitlines()[1:])
    ),
}


@pytest.fixture
def flag_folder(tmp_path):
    """The same data in the layout of FlagEmbedding's local evaluation data."""
    folder = tmp_path / "flag"
    folder.mkdir()
    for name, content in FLAG_FILES.items():
        (folder / name).write_text(content)
    return folder


@pytest.mark.parametrize("packed", [False, True])
def test_flagembeddings_layout_is_read_as_beirs(folder, flag_folder, packed):
    if packed:
        for name, content in FLAG_FILES.items():
            (flag_folder / name).unlink()
            (flag_folder / f"{name}.gz").write_bytes(gzip.compress(content.encode()))
    expected = load_beir(folder)
    found = load_flagembedding(flag_folder, "test")
    assert found.name == "flag test"
    assert dataclasses.replace(found, name=expected.name) == expected
    assert list(found.queries.items()) == list(expected.queries.items())
    assert found.fingerprint == expected.fingerprint
    for task, truth in ((Retrieval(str(folder)), expected), (Retrieval(str(flag_folder)), found)):
        assert task.load() == truth
        described = task.describe(truth)
        assert (described["queries"], described["documents"]) == (2, 3)


def test_ids_may_be_numbers_in_flagembeddings_layout(flag_folder):
    (flag_folder / "corpus.jsonl").write_text('{"id": 1, "title": "", "text": "one"}\n')
    (flag_folder / "test_queries.jsonl").write_text('{"id": 7, "text": "seven"}\n')
    rows = '{"qid": "7", "docid": 1, "relevance": 2}\n'
    (flag_folder / "test_qrels.jsonl").write_text(rows)
    task = load_flagembedding(flag_folder)
    assert (task.queries, task.corpus) == ({"7": "seven"}, {"1": "one"})
    assert task.relevant == {"7": {"1": 2}}


FLAG_ROWS = {
    "test_qrels.jsonl": {
        "qid missing": '{"docid": "d1", "relevance": 1}',
        "docid no id": '{"qid": "q1", "docid": ["d1"], "relevance": 1}',
        "relevance missing": '{"qid": "q1", "docid": "d1"}',
        "relevance a fraction": '{"qid": "q1", "docid": "d1", "relevance": 0.5}',
        "relevance true": '{"qid": "q1", "docid": "d1", "relevance": true}',
        "unknown query": '{"qid": "q7", "docid": "d1", "relevance": 1}',
        "unknown document": '{"qid": "q1", "docid": "d7", "relevance": 1}',
        "no JSON": "q1 d1 1",
        "blank": "",
    },
    "corpus.jsonl": {
        "id missing": '{"text": "x"}',
        "id true": '{"id": true, "text": "x"}',
        "id given twice": '{"id": "d1", "text": "x"}',
        "text missing": '{"id": "d9"}',
    },
    "test_queries.jsonl": {
        "id missing": '{"_id": "q9", "text": "x"}',
        "id given twice": '{"id": "q1", "text": "x"}',
        "text a number": '{"id": "q9", "text": 5}',
    },
}


@pytest.mark.parametrize(
    ("file", "name"), [(file, name) for file, rows in FLAG_ROWS.items() for name in rows]
)
def test_a_bad_row_of_flagembeddings_layout_is_refused(flag_folder, file, name):
    first, rest = FLAG_FILES[file].split("\n", 1)
    (flag_folder / file).write_text("\n".join([first, FLAG_ROWS[file][name], rest]))
    with pytest.raises(DataError) as error:
        Retrieval(str(flag_folder)).load()
    assert str(error.value).startswith(f"{flag_folder / file}:2: ")
    if name.startswith("unknown"):
        assert f"{name.partition(' ')[2]} '{'q' if 'query' in name else 'd'}7'" in str(error.value)


@pytest.mark.parametrize("file", FLAG_FILES)
def test_a_missing_file_of_flagembeddings_layout_is_named(flag_folder, file):
    (flag_folder / file).unlink()
    with pytest.raises(DataError) as error:
        load_flagembedding(flag_folder)
    assert str(flag_folder / file) in str(error.value)


def test_judgments_without_a_positive_are_refused_in_both_layouts(flag_folder):
    path = flag_folder / "test_qrels.jsonl"
    path.write_text('{"qid": "q1", "docid": "d1", "relevance": 0}\n')
    with pytest.raises(DataError, match="no positive judgment") as error:
        load_flagembedding(flag_folder)
    assert str(path) in str(error.value)


def test_a_folder_in_neither_layout_says_what_is_expected(tmp_path):
    with pytest.raises(DataError, match=r"not a retrieval task: expected .*dev\.tsv.*dev_queries"):
        Retrieval(str(tmp_path), split="dev").load()
    with pytest.raises(DataError, match="none: no such file or folder"):
        Retrieval(str(tmp_path / "none")).load()


def test_rows_are_a_collection_too(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"query": "x", "pos": ["one"], "neg": ["two"]}\n')
    for data in (str(path), Jsonl(path=str(path))):
        task = Retrieval(data).load()
        assert list(task.queries.values()) == ["x"]
        assert list(task.corpus.values()) == ["one", "two"]
        assert task.relevant == {"q0": {"d0": 1}}
