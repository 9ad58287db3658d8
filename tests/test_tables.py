"""Tables of numbers as text, and their columns."""

import pytest

from contrastive.tables import Table, text


def test_a_table_has_its_numbers_under_their_names():
    names = ["MRR@10", "a long metric's name"]
    rows = [
        ("BM25", {names[0]: 0.5, names[1]: 1.0}),
        ("a long system's name", dict.fromkeys(names, 0)),
    ]
    cells = [[name, *(f"{metrics[n]:.3f}" for n in names)] for name, metrics in rows]
    header, *lines = text(["", *names], cells).splitlines()
    assert [line.split()[-2:] for line in lines] == [["0.500", "1.000"], ["0.000", "0.000"]]
    assert [line.startswith(name) for line, (name, _) in zip(lines, rows, strict=True)] == [
        True
    ] * 2
    assert {len(line) for line in lines} == {len(header)}
    ends = [header.index(name) + len(name) for name in names]
    assert [
        lines[0][:end].endswith(number)
        for end, number in zip(ends, ("0.500", "1.000"), strict=True)
    ]


LOG = Table([{"step": 10, "loss": 1.0}, {"step": 10, "dev/MAP": 0.3}, {"step": 20, "loss": 0.5}])


def test_columns_are_aligned():
    assert LOG.column("step") == [10, 10, 20]
    assert LOG.column("loss") == [1.0, None, 0.5]
    training = LOG.having("loss")
    assert (training.column("step"), training.column("loss")) == ([10, 20], [1.0, 0.5])
    for call in (LOG.column, LOG.having):
        with pytest.raises(KeyError, match=r"no column 'los'; the columns are step, loss, dev/MAP"):
            call("los")


def test_a_long_table_is_cut_in_the_middle():
    lines = repr(Table([{"step": number} for number in range(1000)])).splitlines()
    assert [line.strip() for line in lines[1:]] == [
        *map(str, range(20)),
        "...",
        *map(str, range(980, 1000)),
    ]
