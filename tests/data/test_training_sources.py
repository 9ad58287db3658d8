"""From a config's sources to examples and rules."""

import gzip
import json

import pytest

from contrastive import config
from contrastive.data.batch_shapes import row_shape
from contrastive.data.training_sources import open_source, open_sources, training_sources
from contrastive.errors import ConfigError, DataError
from contrastive.sources._jsonl import row_files


def write(path, queries, **fields):
    rows = [{"query": query, "pos": ["p"], "neg": ["n"], **fields} for query in queries]
    content = "\n".join(map(json.dumps, rows)).encode()
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return str(path)


def queries(source):
    return [source[i].query for i in range(len(source))]


def test_a_folder_and_a_list_are_one_source_in_the_order_of_their_names(tmp_path):
    folder = tmp_path / "rows"
    write(folder / "b.jsonl", "cd")
    write(folder / "a.json", "ab")
    write(folder / "c.jsonl.gz", "e")
    write(folder / "notes.txt", "?")
    alone = write(tmp_path / "alone.jsonl", "xy")
    assert queries(open_source(config.Jsonl(path=str(folder)))) == list("abcde")
    assert queries(open_source(config.Jsonl(path=(alone, str(folder))))) == list("xyabcde")
    assert queries(open_source(config.Jsonl(path=alone))) == list("xy")
    limited = open_source(config.Jsonl(path=str(folder), limit=1))
    assert len(limited) == 3  # of each file
    assert [path.name for path in row_files(folder)] == ["a.json", "b.jsonl", "c.jsonl.gz"]


def test_several_files_are_checked_together(tmp_path):
    first = write(tmp_path / "first.jsonl", "ab", pos_scores=[4.0], neg_scores=[1.0])
    second = write(tmp_path / "second.jsonl", "cde")
    source = open_source(config.Jsonl(path=(first, second)))
    assert source.most_positives == 1
    assert source.mean_score_range == pytest.approx(3.0)  # of the rows that have scores
    with pytest.raises(DataError, match=r"second\.jsonl:1: .* this row has none \(3 of 5 rows"):
        source.check_scores(negative=True)
    with pytest.raises(DataError, match=r"first\.jsonl:1: a group needs 2 negatives"):
        source.check_negatives(2)
    one, other = (open_source(config.Jsonl(path=path)) for path in (first, second))
    turned = open_source(config.Jsonl(path=(second, first)))
    prints = {s.fingerprint for s in (source, one, other, turned)}
    assert len(prints) == 4


def test_a_file_that_has_changed_is_read_again(tmp_path):
    path = tmp_path / "rows.jsonl"
    for text in ("ab", "cde"):
        write(path, text)
        assert queries(open_source(config.Jsonl(path=str(path)))) == list(text)


def test_a_folder_without_rows_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("no rows")
    with pytest.raises(DataError, match=r"contains no file that ends in \.jsonl, \.json,"):
        open_source(config.Jsonl(path=str(tmp_path)))


def test_what_a_part_does_not_say_is_as_the_data_says(tmp_path):
    paths = [write(tmp_path / f"{name}.jsonl", name * 3) for name in "ab"]
    own = {
        "group_size": 1,
        "query_prompt": "own: ",
        "document_prompt": "",
        "query_max_length": 5,
        "document_max_length": 70,
    }
    data = config.Data(
        train=config.Mixture(
            parts=(
                config.MixturePart(source=config.Jsonl(path=paths[0])),
                config.MixturePart(source=config.Jsonl(path=paths[1]), in_batch=False, **own),
            )
        ),
        group_size=2,
        few_negatives="fewer",
        row_prompt="<{}>",
        query_max_length=9,
        document_max_length=30,
        shuffle_ratio=0.25,
    )
    prompts = {"query_prompt": "q: ", "document_prompt": "d: "}
    common, special = training_sources(data, open_sources(data), **prompts, scores=False)
    assert (common.rules.in_batch, special.rules.in_batch) == (True, False)
    for part, expected in (
        (common, (2, "q: ", "d: ", 9, 30)),
        (special, (1, "own: ", "", 5, 70)),
    ):
        rules = part.rules
        lengths = (rules.query_length, rules.document_length)
        found = (rules.group_size, rules.query_prompt, rules.document_prompt, *lengths)
        assert found == expected
        assert (rules.few_negatives, rules.row_prompt, rules.shuffle_ratio) == (
            "fewer",
            "<{}>",
            0.25,
        )
    shape = row_shape([common, special], 4)
    assert (shape.query_length, shape.document_length, shape.texts_per_row) == (9, 70, 4)
    with pytest.raises(DataError, match=r"a\.jsonl:1: the loss needs"):
        training_sources(data, open_sources(data), **prompts, scores=True)


def test_some_rows_must_have_scores_where_others_may_be_without(tmp_path):
    without = write(tmp_path / "without.jsonl", "ab")
    scored = write(tmp_path / "scored.jsonl", "c", pos_scores=[4.0], neg_scores=[1.0])

    def sources(*paths):
        parts = tuple(config.MixturePart(source=config.Jsonl(path=path)) for path in paths)
        data = config.Data(train=config.Mixture(parts=parts), group_size=2)
        options = {"query_prompt": "", "document_prompt": "", "scores": True, "unscored": True}
        return training_sources(data, open_sources(data), **options)

    assert [len(part.examples) for part in sources(without, scored)] == [2, 1]
    with pytest.raises(DataError, match="but no row has them; add them to some rows"):
        sources(without)


def test_parts_are_weighted_all_or_by_their_sizes(tmp_path):
    paths = [write(tmp_path / f"{name}.jsonl", "q" * n) for n, name in enumerate("abc", start=1)]

    def weights(*given):
        parts = [
            config.MixturePart(source=config.Jsonl(path=path), weight=weight)
            for path, weight in zip(paths, given, strict=True)
        ]
        data = config.Data(train=config.Mixture(parts=tuple(parts)))
        sources = open_sources(data)
        made = training_sources(data, sources, query_prompt="", document_prompt="", scores=False)
        return [part.weight for part in made]

    assert weights(None, None, None) == [1, 2, 3]
    assert weights(2, 0.5, 1) == [2, 0.5, 1]
    with pytest.raises(ConfigError) as error:
        weights(None, 2, None)
    assert f"data.train has no weight for parts[0] ({paths[0]}), parts[2] ({paths[2]})" in str(
        error.value
    )
    assert "give all parts a weight, or none" in str(error.value)
