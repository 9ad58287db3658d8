"""What is drawn of a row, and what is put before its texts."""

import json
import math
from collections import Counter

import numpy as np
import pytest

from contrastive.data.groups import GroupRules, draw_group
from contrastive.errors import DataError
from contrastive.sources._example import Example, text_id
from contrastive.sources._jsonl import open_file

POSITIVES, NEGATIVES = ("a", "b", "c"), tuple("uvwxyz")


def draws(example, count=1, seed=0, **rules):
    rng = np.random.default_rng(seed)
    return [draw_group(example, rng, rules=GroupRules(**rules)) for _ in range(count)]


def near(found, expected):
    """Within five standard deviations of a Poisson count."""
    return abs(found - expected) < 5 * np.sqrt(expected)


def test_positives_and_negatives_are_drawn_evenly_and_in_every_place():
    groups = [g.documents for g in draws(Example("q", POSITIVES, NEGATIVES), 5000, group_size=4)]
    for place, texts in enumerate([POSITIVES, *[NEGATIVES] * 3]):
        found = Counter(group[place] for group in groups)
        assert set(found) == set(texts)
        assert all(near(n, len(groups) / len(texts)) for n in found.values()), place
    assert all(len(set(group)) == 4 for group in groups)
    pairs = Counter(frozenset(group[1:3]) for group in groups)
    assert len(pairs) == 15
    assert all(near(n, len(groups) / 15) for n in pairs.values())


@pytest.mark.parametrize("have", [1, 2, 3, 5])
def test_too_few_negatives_are_repeated_no_more_often_than_they_must_be(have):
    example = Example("q", ("p",), NEGATIVES[:have])
    groups = draws(example, 2000, group_size=8, few_negatives="repeat")
    counts = [Counter(group.documents[1:]) for group in groups]
    assert {sum(count.values()) for count in counts} == {7}
    assert max(max(count.values()) for count in counts) == -(-7 // have)
    total = sum(counts, Counter())
    assert all(near(total[text], 2000 * 7 / have) for text in NEGATIVES[:have])


def test_groups_may_be_smaller_where_there_are_too_few():
    rules = {"group_size": 4, "few_negatives": "fewer"}
    for have in range(6):
        (group,) = draws(Example("q", ("p",), NEGATIVES[:have]), **rules)
        assert len(group.documents) == len(group.document_ids) == 1 + min(have, 3)
        assert len(set(group.documents)) == len(group.documents)


def test_nothing_is_made_up_where_there_is_nothing():
    with pytest.raises(DataError, match="no negatives for 'q', 3 wanted"):
        draws(Example("q", ("p",)), group_size=4, few_negatives="repeat")


@pytest.mark.parametrize(
    ("kind", "negatives", "documents"),
    [
        (None, 6, 5),
        ("normal", 6, 5),
        ("only_1neg", 6, 2),
        ("symmetric_sts", 6, 5),
        ("symmetric_class", 6, 5),
        ("symmetric_class", 2, 3),  # never repeated: there are no others of the class
        ("symmetric_class", 0, 1),
    ],
)
def test_the_kind_of_a_row_bounds_its_group(kind, negatives, documents):
    example = Example("q", ("p",), NEGATIVES[:negatives], kind=kind)
    (group,) = draws(example, group_size=5, few_negatives="repeat")
    assert len(group.documents) == documents
    assert len(set(group.documents)) == documents


@pytest.mark.parametrize("kind", ["only_1neg", "symmetric_class"])
def test_the_kind_of_a_row_is_left_out_of_account_if_asked_to(tmp_path, kind):
    rules = {"group_size": 5, "few_negatives": "repeat", "row_types": False}
    (group,) = draws(Example("q", ("p",), ("x", "y"), kind=kind), **rules)
    assert sorted(group.documents) == ["p", "x", "x", "y", "y"]
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({"query": "q", "pos": ["p"], "neg": ["x", "y"], "type": kind}))
    GroupRules(group_size=5).check(open_file(path))
    with pytest.raises(DataError, match="a group needs 4 negatives but this row has 2"):
        GroupRules(group_size=5, row_types=False).check(open_file(path))


def test_documents_of_symmetric_rows_are_documents_if_types_do_not_count():
    example = Example("q", ("p",), ("x",), prompt="say", kind="symmetric_sts")
    (group,) = draws(example, group_size=2, row_types=False, **PROMPTS)
    assert (group.query, group.documents) == ("Instruct: say\nq", ["D: p", "D: x"])


PROMPTS = {"query_prompt": "Q: ", "document_prompt": "D: ", "row_prompt": "Instruct: {}\n"}


@pytest.mark.parametrize(
    ("kind", "own", "query", "document"),
    [
        (None, None, "Q: ", "D: "),
        (None, "say", "Instruct: say\n", "D: "),
        (None, "", "Instruct: \n", "D: "),
        ("symmetric_class", "say", "Instruct: say\n", "D: "),
        ("symmetric_sts", "say", "Instruct: say\n", "Instruct: say\n"),
        ("symmetric_clustering", "say", "Instruct: say\n", "Instruct: say\n"),
        ("symmetric_sts", None, "Q: ", "Q: "),
    ],
)
def test_prompts(kind, own, query, document):
    example = Example("how {}", ("p",), ("x",), prompt=own, kind=kind)
    (group,) = draws(example, group_size=2, **PROMPTS)
    assert group.query == query + "how {}"
    assert group.documents == [document + "p", document + "x"]
    # Texts are the same texts whatever is put before them.
    assert group.query_id == text_id("how {}")
    assert group.document_ids == [text_id("p"), text_id("x")]


def test_without_prompts_nothing_is_put_before():
    (group,) = draws(Example("q", ("p",), ("x",)), group_size=2)
    assert (group.query, group.documents) == ("q", ["p", "x"])


def test_a_teachers_scores_stay_with_their_documents():
    scores = dict(zip((*POSITIVES, *NEGATIVES), map(float, range(9)), strict=True))
    example = Example("q", POSITIVES, NEGATIVES, tuple(scores.values()))
    for group in draws(example, 50, group_size=4, scores=True):
        assert group.scores == [scores[text] for text in group.documents]
        assert group.positive_ids == list(map(text_id, POSITIVES))
    assert draws(example, group_size=4)[0].scores == []


def test_a_row_without_scores_has_none_that_are_numbers(tmp_path):
    scored = {"query": "q", "pos": ["p"], "neg": ["x"], "pos_scores": [2], "neg_scores": [1]}
    without = {**scored, "pos_scores": None}
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(map(json.dumps, [scored, without])))
    source, rules = open_file(path), {"group_size": 2, "scores": True, "unscored": True}
    GroupRules(**rules).check(source)
    assert draws(source[0], **rules)[0].scores == [2.0, 1.0]
    assert all(map(math.isnan, draws(source[1], **rules)[0].scores))
    assert source.mean_score_range == 1.0
    with pytest.raises(DataError, match=r"rows\.jsonl:2: the loss needs"):
        GroupRules(group_size=2, scores=True).check(source)


def test_long_positives_are_shuffled_by_thirds_as_often_as_asked():
    text = "".join(chr(ord("a") + i // 37) for i in range(110))  # thirds of 37, 37 and 36
    a, b, c = text[:37], text[37:74], text[74:]
    example = Example("q", (text,), (text + "!",))
    found = Counter(g.documents[0] for g in draws(example, 3000, group_size=2, shuffle_ratio=0.6))
    orders = [f"{x} {y} {z}" for x, y, z in ((a, b, c), (a, c, b), (b, a, c), (b, c, a))]
    orders += [f"{x} {y} {z}" for x, y, z in ((c, a, b), (c, b, a))]
    assert set(found) == {text, *orders}
    assert near(found[text], 1200)
    assert all(near(found[order], 300) for order in orders)
    (group,) = draws(example, group_size=2, shuffle_ratio=1.0)
    assert group.documents[1] == text + "!"  # negatives stay as they are
    assert group.document_ids[0] == group.positive_ids[0] == text_id(text)
    short = Example("q", ("x" * 100,))
    assert draws(short, shuffle_ratio=1.0)[0].documents == ["x" * 100]


def test_rules_refuse_a_file_by_row(tmp_path):
    path = tmp_path / "rows.jsonl"
    lines = ['{"query": "q", "pos": ["p"], "neg": ["x", "y"]}', '{"query": "q", "pos": ["p"]}']
    path.write_text("\n".join(lines))
    source = open_file(path)
    GroupRules(group_size=4, few_negatives="fewer").check(source)
    GroupRules(group_size=1).check(source)
    for policy, wanted in (("repeat", 1), ("refuse", 3)):
        with pytest.raises(DataError) as error:
            GroupRules(group_size=4, few_negatives=policy).check(source)
        line = 2 if policy == "repeat" else 1
        assert str(error.value).startswith(f"{path}:{line}: a group needs {wanted} negatives")
        assert "or allow rows with fewer" in str(error.value)
        assert "data.few_negatives" in str(error.value)
    with pytest.raises(DataError, match=r'rows\.jsonl:1: the loss needs "pos_scores"'):
        GroupRules(group_size=1, scores=True).check(source)


@pytest.mark.parametrize("few_negatives", ["refuse", "repeat", "fewer"])
@pytest.mark.parametrize("kind", [None, "symmetric_class"])
def test_rows_from_which_nothing_is_learned_out_of_batch_are_refused(tmp_path, few_negatives, kind):
    """Alone with its positive, a query has the loss 0 whatever the model."""
    path = tmp_path / "rows.jsonl"
    row = {"query": "q", "pos": ["p"], "neg": ["x"], "type": kind}
    path.write_text("\n".join(map(json.dumps, [row, {**row, "neg": []}, {**row, "neg": None}])))
    rules = {"group_size": 2, "few_negatives": few_negatives}
    with pytest.raises(DataError) as error:
        GroupRules(**rules, in_batch=False).check(open_file(path))
    assert str(error.value).startswith(f"{path}:2: ")
    assert "2 of 3 rows" in str(error.value)
    if few_negatives == "fewer" or kind:
        assert "add at least 1 negative, leave such rows out, or use in-batch" in str(error.value)
        GroupRules(**rules).check(open_file(path))
    path.write_text(json.dumps(row))
    GroupRules(**rules, in_batch=False).check(open_file(path))
