import gzip
import json
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contrastive.data.groups import GroupRules, draw_group
from contrastive.errors import DataError
from contrastive.sources._example import Example
from contrastive.sources._jsonl import open_file

GOOD = b'{"query": "q", "pos": ["p"]}\n'

# The offending bytes are line 3: after a good row and a blank line.
BAD_ROWS = {
    "invalid JSON": (b'{"query": "q", "pos": ["p"]', "invalid JSON"),
    "two rows on a line": (GOOD.strip() + GOOD.strip(), "invalid JSON"),
    "no object": (b'"q", "p"', "invalid JSON"),
    "query missing": (b'{"pos": ["p"]}', '"query" is missing'),
    "query no string": (b'{"query": 7, "pos": ["p"]}', '"query" must be a string'),
    "pos missing": (b'{"query": "q"}', '"pos" is missing; the row has'),
    "pos empty": (b'{"query": "q", "pos": []}', '"pos" is empty'),
    "pos a string": (b'{"query": "q", "pos": "p"}', '"pos" must be a list'),
    "pos with a number": (b'{"query": "q", "pos": ["p", 5]}', '"pos" must be a list of strings'),
    "an array": (b'[{"query": "q", "pos": ["p"]}]', "one row per line"),
    "a number": (b"7", "expected an object"),
    "neg with null": (b'{"query": "q", "pos": ["p"], "neg": [null]}', '"neg" must be a list'),
    "not UTF-8": (b'{"query": "na\xefve", "pos": ["p"]}', "not UTF-8 at byte 14 "),
    "prompt no string": (b'{"query": "q", "pos": ["p"], "prompt": 5}', '"prompt" must be a string'),
    "type no string": (b'{"query": "q", "pos": ["p"], "type": []}', '"type" must be a string'),
    "a score too few": (
        b'{"query": "q", "pos": ["p", "r"], "pos_scores": [1]}',
        '"pos_scores" must be a list of 2 numbers',
    ),
    "scores no list": (
        b'{"query": "q", "pos": ["p"], "pos_scores": 1}',
        "must be a list of 1 numbers",
    ),
    "a score no number": (
        b'{"query": "q", "pos": ["p"], "neg": ["n"], "neg_scores": ["1"]}',
        '"neg_scores" must be finite numbers',
    ),
    "a score that is true": (
        b'{"query": "q", "pos": ["p"], "pos_scores": [true]}',
        "but contains True",
    ),
    "a score that is not finite": (
        b'{"query": "q", "pos": ["p"], "pos_scores": [NaN]}',
        "but contains nan",
    ),
    # Valid JSON, but no text: no tokenizer, and no digest, takes half a character.
    "half a character": (b'{"query": "\\ud83d", "pos": ["p"]}', ""),
    "number too long": (b'{"query": "q", "pos": ["p"], "n": ' + b"1" * 5000 + b"}", ""),
    "nested too deep": (b'{"query": "q", "pos": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", ""),
}


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gz"])
@pytest.mark.parametrize("name", BAD_ROWS)
def test_a_bad_row_is_refused_with_file_and_line(tmp_path, name, packed):
    line, complaint = BAD_ROWS[name]
    content = GOOD + b" \n" + line + b"\n" + GOOD
    path = tmp_path / ("rows.jsonl.gz" if packed else "rows.jsonl")
    path.write_bytes(gzip.compress(content) if packed else content)
    with pytest.raises(DataError) as error:
        open_file(path)
    assert str(error.value).startswith(f"{path}:3: ")
    assert complaint in str(error.value)


def _damaged():
    """A .gz whose middle is overwritten."""
    rows = b"".join(b'{"query": "q%d", "pos": ["p"]}\n' % (i * 7919 % 10_007) for i in range(3000))
    packed = bytearray(gzip.compress(rows))
    packed[200:260] = b"\xff" * 60
    return bytes(packed)


BAD_FILES = {
    "missing": ("rows.jsonl", None),
    "empty": ("rows.jsonl", b""),
    "blank lines only": ("rows.jsonl", b"\n  \n"),
    "empty gz": ("rows.jsonl.gz", gzip.compress(b"")),
    "truncated gz": ("rows.jsonl.gz", gzip.compress(GOOD * 1000)[:-9]),
    "no gz": ("rows.jsonl.gz", GOOD),
    "damaged gz": ("rows.jsonl.gz", _damaged()),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_bad_file_is_refused_by_name_however_often_it_is_opened(tmp_path, name):
    file, content = BAD_FILES[name]
    path = tmp_path / file
    if content is not None:
        path.write_bytes(content)
    for _ in range(2):  # nothing half unpacked may be left for the second time
        with pytest.raises(DataError) as error:
            open_file(path)
        assert str(path) in str(error.value)


def test_a_group_larger_than_the_negatives_names_the_row_and_both_numbers(tmp_path):
    path = tmp_path / "rows.jsonl"
    counts = [7, 4, 1, 4]
    rows = [{"query": "q", "pos": ["p"], "neg": ["n"] * count} for count in counts]
    path.write_text("\n\n".join(json.dumps(row) for row in rows))  # row k is line 2k + 1
    source = open_file(path)
    source.check_negatives(1)
    with pytest.raises(DataError) as error:
        source.check_negatives(4)
    message = str(error.value)
    assert message.startswith(f"{path}:5: ")
    assert "a group needs 4 negatives" in message
    assert "this row has 1 (1 of 4 rows" in message
    with pytest.raises(DataError, match=r":3: .* has 4 \(3 of 4 rows"):
        source.check_negatives(5)


texts = st.text(st.characters(codec="utf-8"), max_size=12)
rows = st.lists(
    st.tuples(texts, st.lists(texts, min_size=1, max_size=3), st.lists(texts, max_size=2)),
    min_size=1,
    max_size=5,
)


@settings(max_examples=2 * settings.default.max_examples)
@given(rows, st.booleans(), st.sampled_from(["\n", "\r\n", "\n\n", "\n \t\n"]), st.booleans())
def test_rows_are_read_as_written_plain_and_packed(tmp_path_factory, rows, ascii, end, last):
    folder = tmp_path_factory.mktemp("rows")
    lines = (
        json.dumps({"query": query, "pos": pos, "neg": neg, "other": 1}, ensure_ascii=ascii)
        for query, pos, neg in rows
    )
    content = end.join(lines) + (end if last else "")
    (folder / "a.jsonl").write_bytes(content.encode())
    (folder / "b.jsonl.gz").write_bytes(gzip.compress(content.encode()))
    for name in ("a.jsonl", "b.jsonl.gz"):
        source = open_file(folder / name)
        assert list(source) == [Example(q, tuple(pos), tuple(neg)) for q, pos, neg in rows]
        assert len(source) == len(rows)
        assert source.most_positives == max(len(pos) for _, pos, _ in rows)
        step = end.count("\n")
        places = [f"{folder / name}:{1 + step * i}" for i in range(len(rows))]
        assert [source.where(i) for i in range(len(rows))] == places


def written(path, *rows):
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def test_teachers_scores_prompt_and_type_are_read_and_null_is_as_if_missing(tmp_path):
    base = {"query": "q", "pos": ["a", "b"], "neg": ["c"]}
    nothing = dict.fromkeys(["pos_scores", "neg_scores", "prompt", "type"])
    scores = {"pos_scores": [0.5, 2], "neg_scores": [-1.5]}
    source = open_file(
        written(
            tmp_path / "rows.jsonl",
            {**base, **scores, "prompt": "Find: ", "type": "only_1neg"},
            {**base, **nothing},
            {**base, "pos_scores": [1, 2]},  # half of them: no teacher
            {"query": "q", "pos": ["a"], "neg": None, "pos_scores": [3.0]},
        )
    )
    texts = ("q", ("a", "b"), ("c",))
    assert list(source) == [
        Example(*texts, (0.5, 2.0, -1.5), "Find: ", "only_1neg"),
        Example(*texts),
        Example(*texts),
        Example("q", ("a",), (), (3.0,)),
    ]
    with pytest.raises(DataError, match=r"rows.jsonl:2: .*\(2 of 4 rows\)"):
        source.check_scores(negative=True)
    assert source.mean_score_range == pytest.approx(3.5 / 2)  # of two rows with scores


def test_shares_of_relevance_are_not_negative(tmp_path):
    def row(score):
        return {"query": "q", "pos": ["a"], "neg": ["b"], "pos_scores": [1], "neg_scores": [score]}

    source = open_file(written(tmp_path / "rows.jsonl", row(0), row(0.5), row(-0.25)))
    source.check_scores(negative=True)
    with pytest.raises(DataError, match=r"rows.jsonl:3: a score of this row is negative.*1 of 3"):
        source.check_scores(negative=False)


def test_a_kind_of_row_that_wants_fewer_negatives_is_not_refused_for_having_them(tmp_path):
    def row(kind, negatives):
        return {"query": "q", "pos": ["p"], "neg": ["n"] * negatives, "type": kind}

    path = tmp_path / "rows.jsonl"
    open_file(written(path, row("only_1neg", 1), row("symmetric_class", 2))).check_negatives(7)
    for kind in ("only_1neg", "symmetric_sts", None):
        with pytest.raises(DataError, match=r"rows.jsonl:1: a group needs 7 negatives"):
            open_file(written(path, row(kind, 0))).check_negatives(7)


def test_a_limit_takes_the_same_rows_every_time_in_their_order(tmp_path):
    path = written(tmp_path / "rows.jsonl", *({"query": str(i), "pos": ["p"]} for i in range(50)))
    whole, some = open_file(path), open_file(path, limit=20)
    taken = [int(example.query) for example in some]
    assert len(taken) == len(some) == 20
    assert taken == sorted(set(taken))
    assert taken != list(range(20))  # the first ones may all be alike
    assert [int(example.query) for example in open_file(path, limit=20)] == taken
    assert [some.where(i) for i in range(20)] == [f"{path}:{number + 1}" for number in taken]
    assert len({whole.fingerprint, some.fingerprint, open_file(path, limit=19).fingerprint}) == 3
    assert open_file(path, limit=50).fingerprint == whole.fingerprint
    assert list(open_file(path, limit=99)) == list(whole)


@pytest.mark.parametrize("text", ['[\n  {"query": "q", "pos": ["p"]}\n]', '[{"query": 1}]', "[]"])
def test_an_array_of_rows_is_refused_with_what_to_do(tmp_path, text):
    path = tmp_path / "rows.json"
    path.write_text(text)
    with pytest.raises(DataError, match=r"rows.json:1: a JSON array; .* jq -c"):
        open_file(path)


def test_line_separators_inside_a_string_do_not_split_a_row(tmp_path):
    text = "one\u2028two\u2029three\u0085four\x1cfive\x0bsix"
    # What JSON must escape is escaped; the rest stands in the file as it is.
    line = json.dumps({"query": text, "pos": [text]}, ensure_ascii=False)
    assert "\u2028" in line
    path = tmp_path / "rows.jsonl"
    path.write_bytes(line.encode() + b"\n" + GOOD)
    assert list(open_file(path)) == [Example(text, (text,)), Example("q", ("p",))]


def test_a_changed_gz_is_unpacked_again(tmp_path):
    path = tmp_path / "rows.jsonl.gz"
    for query in ("first", "second, longer"):
        path.write_bytes(gzip.compress(json.dumps({"query": query, "pos": ["p"]}).encode()))
        assert open_file(path)[0].query == query


def test_threads_that_share_a_file_read_the_right_rows(tmp_path):
    rng = np.random.default_rng(0)
    truth = [Example(f"q{i}", ("p" * int(n),)) for i, n in enumerate(rng.integers(0, 3000, 500))]
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(json.dumps({"query": e.query, "pos": e.positives}) for e in truth))
    source = open_file(path)
    order = rng.integers(len(truth), size=8000).tolist()
    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(source.__getitem__, order)) == [truth[i] for i in order]


def test_labels_are_words_or_numbers_and_all_or_none_where_a_loss_wants_them(tmp_path):
    labels = ["cat", 3, "3", None]
    rows = [{"query": "q", "pos": ["p"], "label": label} for label in labels]
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(map(json.dumps, [*rows, {"query": "q", "pos": ["p"]}])))
    source = open_file(path)
    assert [row.label for row in source] == ["cat", "3", "3", None, None]
    with pytest.raises(DataError, match=r'rows\.jsonl:4: the loss needs a "label".*2 of 5 rows'):
        source.check_labels()
    rng = np.random.default_rng(0)
    ids = [draw_group(row, rng, rules=GroupRules()).label for row in source]
    assert ids[1] == ids[2] != ids[0]
    assert ids[3] == ids[4] == 0
    path.write_text(json.dumps({"query": "q", "pos": ["p"], "label": 1.5}))
    with pytest.raises(DataError, match=r'rows\.jsonl:1: "label" must be a string, got 1\.5'):
        open_file(path)
