"""JSON files that are not what is expected are refused by file and field."""

import pytest

from contrastive.errors import FolderError
from contrastive.json_files import read_json, read_json_lines


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b'{"a": {"b": "1"}}', "the field \"a.b\" is '1'"),
        (b'{"a": {"b": 1.5}}', 'the field "a.b" is 1.5'),
        (b'{"a": 1}', 'the field "a" is 1'),
        (b"[]", "[]"),
        (b'{"a": {"b": 1', "not valid JSON"),
        (b'{"a": {"b": ' + b"9" * 6000 + b"}}", "not valid JSON"),
        (b"[" * 100_000, "not valid JSON"),
        (b'{"a": {"\\ud800": 1}}', "not valid JSON"),
        (b"\xff", "not valid JSON"),
    ],
)
def test_contents_of_another_type(tmp_path, content, words):
    path = tmp_path / "file.json"
    path.write_bytes(content)
    with pytest.raises(FolderError) as error:
        read_json(path, dict[str, dict[str, int]], remedy="copy it again")
    assert str(error.value).startswith(f"{path}: ")
    assert words in str(error.value)
    assert str(error.value).endswith("; copy it again")


def test_a_missing_file_and_a_folder(tmp_path):
    with pytest.raises(FolderError, match="no such file"):
        read_json(tmp_path / "file.json", dict)
    with pytest.raises(FolderError, match="Is a directory"):
        read_json(tmp_path, dict)


def test_a_file_that_would_fill_the_memory(tmp_path):
    with open(tmp_path / "file.json", "wb") as file:
        file.truncate(10**12)  # a hole, which takes no space
    with pytest.raises(FolderError, match="1,000,000,000,000 bytes"):
        read_json(tmp_path / "file.json", dict)


def test_lines(tmp_path):
    path = tmp_path / "lines.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"a": 1}\n{"a": "x"}\n{"a": 2}\n{"a": 3')
    (_, first), (number, damaged), (_, last) = read_json_lines(path, dict[str, int])
    assert (first, last) == ({"a": 1}, {"a": 2})
    assert number == 2
    assert str(damaged).startswith(f"{path}:2: the field \"a\" is 'x'")
