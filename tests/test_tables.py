from contrastive.tables import text


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
