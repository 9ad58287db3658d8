"""Prepared data that several machines share: whole files, whoever writes them at the same time."""

import errno
import gzip
import json
import os
import stat

import pytest

from contrastive import config
from contrastive.data.tokenizers import open_tokenizer
from contrastive.files import replacing
from contrastive.sources._jsonl import open_file

ROWS = [{"query": f"question {n}", "pos": [f"answer {n}"]} for n in range(50)]


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("CONTRASTIVE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def other_host(monkeypatch, work):
    """Does the same work, under the same process id, just before the first file is in its place."""
    replace, done = os.replace, []

    def after(partial, path):
        if not done:
            done.append(True)
            done.append(work())
        replace(partial, path)

    monkeypatch.setattr(os, "replace", after)
    return done


def test_a_gz_is_unpacked_by_two_at_once(cache, tmp_path, monkeypatch):
    path = tmp_path / "rows.jsonl.gz"
    path.write_bytes(gzip.compress("\n".join(map(json.dumps, ROWS)).encode()))
    other = other_host(monkeypatch, lambda: open_file(path))
    ours = open_file(path)
    assert list(ours) == list(other[1])
    assert [example.query for example in ours] == [row["query"] for row in ROWS]
    assert len(list((cache / "jsonl").iterdir())) == 1


def test_a_tokenizer_is_trained_by_two_at_once(cache, tmp_path, monkeypatch):
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(map(json.dumps, ROWS)))

    def trained():
        data = config.Data(tokenizer=config.WordPiece(vocab_size=60))
        return open_tokenizer(data, open_file(path), special_tokens=True).fingerprint

    other = other_host(monkeypatch, trained)
    assert trained() == other[1]
    assert len(list((cache / "tokenizers").iterdir())) == 1


def test_a_file_is_there_whole_or_not_at_all_for_whoever_may_read_the_folder(tmp_path):
    path = tmp_path / "file"

    def interrupted():
        with replacing(path) as partial:
            partial.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert not list(tmp_path.iterdir())
    with replacing(path) as partial:
        partial.write_text("whole")
        assert not path.exists()
    (tmp_path / "plain").touch()
    assert path.read_text() == "whole"
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE((tmp_path / "plain").stat().st_mode)


def test_a_file_system_that_cannot_flush_folders_is_written_to(tmp_path, monkeypatch):
    flush = os.fsync

    def fsync(descriptor):
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        flush(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    with replacing(tmp_path / "file") as partial:
        partial.write_text("whole")
    assert (tmp_path / "file").read_text() == "whole"
