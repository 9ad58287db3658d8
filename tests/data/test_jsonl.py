import gzip
import json
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contrastive.data.example import Example
from contrastive.data.jsonl import Jsonl
from contrastive.errors import DataError

GOOD = b'{"query": "q", "pos": ["p"]}\n'

# The offending bytes are line 3: after a good row and a blank line.
BAD_ROWS = {
    "invalid JSON": (b'{"query": "q", "pos": ["p"]', "invalid JSON"),
    "two rows on a line": (GOOD.strip() + GOOD.strip(), "invalid JSON"),
    "no object": (b'["q", "p"]', "expected an object"),
    "query missing": (b'{"pos": ["p"]}', '"query" is missing'),
    "query no string": (b'{"query": 7, "pos": ["p"]}', '"query" must be a string'),
    "pos missing": (b'{"query": "q"}', '"pos" must be a list'),
    "pos empty": (b'{"query": "q", "pos": []}', '"pos" is empty'),
    "pos a string": (b'{"query": "q", "pos": "p"}', '"pos" must be a list'),
    "pos with a number": (b'{"query": "q", "pos": ["p", 5]}', '"pos" must be a list of strings'),
    "neg null": (b'{"query": "q", "pos": ["p"], "neg": null}', '"neg" must be a list'),
    "neg with null": (b'{"query": "q", "pos": ["p"], "neg": [null]}', '"neg" must be a list'),
    "not UTF-8": (b'{"query": "na\xefve", "pos": ["p"]}', "not UTF-8 at byte 14 "),
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
        Jsonl(path)
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
            Jsonl(path)
        assert str(path) in str(error.value)


def test_a_group_larger_than_the_negatives_names_the_row_and_both_numbers(tmp_path):
    path = tmp_path / "rows.jsonl"
    counts = [7, 4, 1, 4]
    rows = [{"query": "q", "pos": ["p"], "neg": ["n"] * count} for count in counts]
    path.write_text("\n\n".join(json.dumps(row) for row in rows))  # row k is line 2k + 1
    source = Jsonl(path)
    source.check_negatives(1)
    with pytest.raises(DataError) as error:
        source.check_negatives(4)
    message = str(error.value)
    assert message.startswith(f"{path}:5: ")
    assert "group_size is 5 " in message
    assert "has 1 negatives" in message
    assert "1 of 4 rows" in message
    with pytest.raises(DataError, match=r":3: .* has 4 negatives \(3 of 4 rows"):
        source.check_negatives(5)


texts = st.text(st.characters(codec="utf-8"), max_size=12)
rows = st.lists(
    st.tuples(texts, st.lists(texts, min_size=1, max_size=3), st.lists(texts, max_size=2)),
    min_size=1,
    max_size=5,
)


@settings(max_examples=40, deadline=None)
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
        source = Jsonl(folder / name)
        assert list(source) == [Example(q, tuple(pos), tuple(neg)) for q, pos, neg in rows]
        assert len(source) == len(rows)
        assert source.most_positives == max(len(pos) for _, pos, _ in rows)
        step = end.count("\n")
        places = [f"{folder / name}:{1 + step * i}" for i in range(len(rows))]
        assert [source.where(i) for i in range(len(rows))] == places


def test_line_separators_inside_a_string_do_not_split_a_row(tmp_path):
    text = "one\u2028two\u2029three\u0085four\x1cfive\x0bsix"
    # What JSON must escape is escaped; the rest stands in the file as it is.
    line = json.dumps({"query": text, "pos": [text]}, ensure_ascii=False)
    assert "\u2028" in line
    path = tmp_path / "rows.jsonl"
    path.write_bytes(line.encode() + b"\n" + GOOD)
    assert list(Jsonl(path)) == [Example(text, (text,)), Example("q", ("p",))]


def test_a_changed_gz_is_unpacked_again(tmp_path):
    path = tmp_path / "rows.jsonl.gz"
    for query in ("first", "second, longer"):
        path.write_bytes(gzip.compress(json.dumps({"query": query, "pos": ["p"]}).encode()))
        assert Jsonl(path)[0].query == query


def test_threads_that_share_a_file_read_the_right_rows(tmp_path):
    rng = np.random.default_rng(0)
    truth = [Example(f"q{i}", ("p" * int(n),)) for i, n in enumerate(rng.integers(0, 3000, 500))]
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(json.dumps({"query": e.query, "pos": e.positives}) for e in truth))
    source = Jsonl(path)
    order = rng.integers(len(truth), size=8000).tolist()
    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(source.__getitem__, order)) == [truth[i] for i in order]
