import argparse
import inspect
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from contrastive.data import tokens
from contrastive.data.tokenizers import load_pretrained, train_wordpiece
from contrastive.data.tokens import BERT_NAMES, Tokenizer
from contrastive.errors import ConfigError

# Real text with many ties among pairs of letters.
CORPUS = [*inspect.getsource(argparse).split("\n\n"), "Ünïcödé Straße ΑΒΓ", "", "naïve café"]
TEXTS = ["", "add", "Add_Argument(self)", "naïve STRASSE 東京 café", *CORPUS[5:25]]


@pytest.fixture(scope="module")
def backend():
    return train_wordpiece(CORPUS, vocab_size=700)


TRAIN = """
import sys
from contrastive.data.tokenizers import train_wordpiece
corpus = sys.stdin.read().split("\\0")
print(train_wordpiece(corpus, vocab_size=700).to_str())
"""


def test_the_same_corpus_gives_the_same_tokenizer_in_any_process(tmp_path, backend, monkeypatch):
    trained = {backend.to_str()}
    monkeypatch.setenv("CONTRASTIVE_CACHE", str(tmp_path / "here"))  # or it is read, not trained
    trained.add(train_wordpiece(CORPUS, vocab_size=700).to_str())
    for seed in ("1", "2"):
        cache = str(tmp_path / seed)
        environment = {**os.environ, "PYTHONHASHSEED": seed, "CONTRASTIVE_CACHE": cache}
        done = subprocess.run(
            [sys.executable, "-c", TRAIN],
            input="\0".join(CORPUS).encode(),
            capture_output=True,
            env=environment,
            check=True,
        )
        trained.add(done.stdout.decode().strip())
    assert len(trained) == 1


def test_another_corpus_or_setting_gives_another_tokenizer(backend):
    others = [
        train_wordpiece(CORPUS, vocab_size=690),
        train_wordpiece(CORPUS, vocab_size=700, lowercase=False),
        train_wordpiece([*CORPUS, "zebra zebras zebra"], vocab_size=700),
    ]
    assert len({x.to_str() for x in (backend, *others)}) == 4
    assert backend.get_vocab_size() == 700
    assert [backend.token_to_id(token) for token in tokens.SPECIAL] == [0, 1, 2, 3, 4]


def test_words_become_the_longest_pieces_of_the_vocabulary(backend):
    vocabulary = backend.get_vocab()

    def pieces(word):
        found, start = [], 0
        while start < len(word):
            for end in range(len(word), start, -1):
                piece = ("##" if start else "") + word[start:end]
                if piece in vocabulary:
                    break
            else:
                return [vocabulary["[UNK]"]]
            found.append(vocabulary[piece])
            start = end
        return found

    texts = ["add_argument", "Namespace HELP formatter", "naïve café", "a [x] # ##", "q東z q"]
    # Case folded, accents stripped; punctuation and CJK letters stand alone.
    words = [
        ["add", "_", "argument"],
        ["namespace", "help", "formatter"],
        ["naive", "cafe"],
        ["a", "[", "x", "]", "#", "#", "#"],
        ["q", "東", "z", "q"],
    ]
    truth = [[id for word in line for id in pieces(word)] for line in words]
    ids = Tokenizer(backend, special_tokens=False)(texts, 512)
    assert [x.tolist() for x in ids] == truth
    assert max(map(len, truth)) > len(words[0])  # some word is more than one piece


def test_a_text_that_is_cut_still_ends_with_its_last_token(backend):
    tokenize = Tokenizer(backend, special_tokens=True)
    bare = [x.tolist() for x in Tokenizer(backend, special_tokens=False)(TEXTS, 10_000)]
    first, last = backend.token_to_id("[CLS]"), backend.token_to_id("[SEP]")
    for length in (2, 3, 8, 20, 10_000):
        truth = [[first, *ids[: length - 2], last] for ids in bare]
        assert [x.tolist() for x in tokenize(TEXTS, length)] == truth
        assert all(x.dtype == np.int32 for x in tokenize(TEXTS, length))


def test_no_text_is_longer_than_asked(backend):
    assert max(map(len, Tokenizer(backend, special_tokens=False)(TEXTS, 1))) <= 1
    with pytest.raises(ConfigError, match="1 tokens but 2 of them would be special"):
        Tokenizer(backend, special_tokens=True)(TEXTS, 1)


def test_what_was_asked_before_does_not_matter(backend, monkeypatch):
    def ask(order, tokenize):
        found = {}
        for length, texts in order:
            for text, ids in zip(texts, tokenize(texts, length), strict=True):
                found.setdefault((length, text), set()).add(tuple(ids.tolist()))
        return found

    # Two lengths in turn, texts again, together and alone, twice in one call.
    orders = [
        [(8, TEXTS), (30, TEXTS)],
        [(30, TEXTS[::-1]), (8, TEXTS), (30, TEXTS), (8, TEXTS[:3] * 2)],
        [(length, [text]) for text in TEXTS for length in (30, 8, 30)],
    ]
    truth = ask(orders[0], Tokenizer(backend, special_tokens=True))
    assert all(len(answers) == 1 for answers in truth.values())
    assert any(truth[8, text] != truth[30, text] for text in TEXTS)
    for room in (1 << 25, 400):  # with memory for all, and for a few texts
        monkeypatch.setattr(tokens, "_REMEMBERED_BYTES", room)
        for order in orders:
            assert ask(order, Tokenizer(backend, special_tokens=True)) == truth


def test_threads_with_different_lengths_do_not_disturb_each_other(backend):
    calls = [(length, start) for start in range(len(TEXTS)) for length in (4, 9, 33)] * 4

    def ask(tokenize, length, start):
        return [x.tolist() for x in tokenize(TEXTS[start:], length)]

    shared = Tokenizer(backend, special_tokens=True)
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda call: ask(shared, *call), calls))
    full = [x.tolist() for x in Tokenizer(backend, special_tokens=False)(TEXTS, 10_000)]
    truth = [[[2, *ids[: length - 2], 3] for ids in full[start:]] for length, start in calls]
    assert found == truth


def test_a_saved_tokenizer_is_loaded_from_its_folder(tmp_path, backend):
    backend.save(str(tmp_path / "tokenizer.json"))
    found, names = load_pretrained(str(tmp_path))
    assert names == BERT_NAMES
    loaded = Tokenizer(found, special_tokens=True)
    ours = Tokenizer(backend, special_tokens=True)
    assert loaded.vocab_size == ours.vocab_size == 700
    assert [x.tolist() for x in loaded(TEXTS, 50)] == [x.tolist() for x in ours(TEXTS, 50)]
