"""Rows that no evaluator can use are refused with file and line."""

import gzip
import json

import pytest

from contrastive import tasks
from contrastive.errors import DataError

GOOD = {
    "STS": [{"sentence1": "a", "sentence2": "b", "score": n} for n in range(4)],
    "PairClassification": [{"sentence1": "a", "sentence2": "b", "label": n % 2} for n in range(4)],
    "Classification": [{"text": "a", "label": n % 2} for n in range(4)],
    "Clustering": [{"text": "a", "label": n % 2} for n in range(4)],
    "Reranking": [{"query": "q", "pos": ["p"], "neg": ["n"]} for _ in range(4)],
    "Retrieval": [{"query": "q", "pos": ["p"]} for _ in range(4)],
}


NO_ROWS = [b'{"text": "a"', b'["a"]', b'"a"', b'{"a": "\xff"}', b"[" * 99_999]


def of(name, path):
    evaluator = getattr(tasks, name)
    return (
        evaluator(train=str(path), test=str(path))
        if name == "Classification"
        else evaluator(str(path))
    )


def write(path, rows):
    lines = [row if isinstance(row, bytes) else json.dumps(row).encode() for row in rows]
    content = b"\n".join(lines) + b"\n"
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


@pytest.mark.parametrize("name", GOOD)
@pytest.mark.parametrize("file", ["rows.jsonl", "rows.jsonl.gz"])
def test_good_rows_are_read(tmp_path, name, file):
    evaluator = of(name, write(tmp_path / file, GOOD[name]))
    loaded = evaluator.load()
    described = evaluator.describe(loaded)
    assert {"fingerprint"} < set(described)
    assert evaluator.describe(evaluator.load()) == described
    changed = json.loads(json.dumps(GOOD[name]).replace('"a"', '"c"').replace('"p"', '"o"'))
    write(tmp_path / file, changed)
    assert evaluator.describe(evaluator.load())["fingerprint"] != described["fingerprint"]


@pytest.mark.parametrize("name", GOOD)
@pytest.mark.parametrize("bad", NO_ROWS)
@pytest.mark.parametrize("file", ["rows.jsonl", "rows.jsonl.gz"])
def test_what_is_no_row_is_refused_with_file_and_line(tmp_path, name, bad, file):
    path = write(tmp_path / file, [*GOOD[name][:2], bad, *GOOD[name][2:]])
    with pytest.raises(DataError) as error:
        of(name, path).load()
    assert str(error.value).startswith(f"{path}:3: ")


BAD_FIELDS = {
    ("STS", "sentence1"): [5, None, ["a"], "\ud83d"],
    ("STS", "sentence2"): [5, None],
    ("STS", "score"): ["5", None, True, float("nan"), float("inf"), 10**400],
    ("PairClassification", "sentence1"): [5],
    ("PairClassification", "sentence2"): [5, "\ud83d"],
    ("PairClassification", "label"): ["1", None, True, float("nan")],
    ("Classification", "text"): [5, None, "\ud83d"],
    ("Classification", "label"): [1.5, None, True, ["x"]],
    ("Clustering", "text"): [5, None],
    ("Clustering", "label"): [1.5, None, False],
    ("Reranking", "query"): [5, None],
    ("Reranking", "pos"): ["p", [], [5]],
    ("Reranking", "neg"): ["n", [None]],
    ("Retrieval", "query"): [5],
    ("Retrieval", "pos"): ["p", [], [5]],
}


@pytest.mark.parametrize(("name", "field"), BAD_FIELDS, ids="-".join)
def test_a_bad_field_is_refused_with_file_line_and_name(tmp_path, name, field):
    rows = GOOD[name]
    for value in BAD_FIELDS[name, field]:
        path = write(tmp_path / "rows.jsonl", [*rows[:2], {**rows[2], field: value}, rows[3]])
        with pytest.raises(DataError) as error:
            of(name, path).load()
        assert str(error.value).startswith(f"{path}:3: "), value
        assert f'"{field}"' in str(error.value)
    without = {key: value for key, value in rows[2].items() if key != field}
    path = write(tmp_path / "rows.jsonl", [*rows[:2], without, rows[3]])
    with pytest.raises(DataError) as error:
        of(name, path).load()
    assert str(error.value).startswith(f"{path}:3: ")
    assert f'"{field}"' in str(error.value) or (name, field) == ("Reranking", "neg")


@pytest.mark.parametrize("name", GOOD)
def test_a_file_without_rows_or_that_is_missing_is_refused_by_name(tmp_path, name):
    missing = tmp_path / "rows.jsonl"
    with pytest.raises(DataError) as error:
        of(name, missing).load()
    assert str(missing) in str(error.value)
    missing.write_bytes(b"")
    with pytest.raises(DataError) as error:
        of(name, missing).load()
    assert str(missing) in str(error.value)
    packed = tmp_path / "packed.jsonl.gz"
    packed.write_bytes(gzip.compress(json.dumps(GOOD[name][0]).encode() * 50)[:-9])
    with pytest.raises(DataError) as error:
        of(name, packed).load()
    assert str(packed) in str(error.value)


def test_labels_of_pairs_are_0_and_1_and_both_occur(tmp_path):
    rows = GOOD["PairClassification"]
    for labels, shown in (([0, 1, 2, 1], "[0.0, 1.0, 2.0]"), ([1, 1, 1, 1], "[1.0]")):
        changed = [{**row, "label": label} for row, label in zip(rows, labels, strict=True)]
        path = write(tmp_path / "rows.jsonl", changed)
        with pytest.raises(DataError) as error:
            of("PairClassification", path).load()
        assert str(error.value).startswith(f"{path}: labels must be 0 and 1")
        assert shown in str(error.value)
