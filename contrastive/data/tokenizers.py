"""Trains or loads tokenizers."""

from __future__ import annotations

import collections
from collections.abc import Iterable, Iterator
from pathlib import Path

import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers
from tqdm import tqdm

from contrastive.cache import cached_file
from contrastive.data.config import Data, Pretrained, WordPiece
from contrastive.data.tokens import BERT_NAMES, FIRST, LAST, SPECIAL, UNKNOWN, Tokenizer
from contrastive.digests import digest_of
from contrastive.errors import ConfigError
from contrastive.sources._examples import Examples

_MOST_LETTERS = 1000  # words with rarer characters become unknown


def open_tokenizer(data: Data, source: Examples, *, special_tokens: bool) -> Tokenizer:
    """Loads a tokenizer, or trains it on the source.

    Args:
      data: Data settings, which choose the tokenizer.
      source: Training examples.
      special_tokens: Whether special first and last tokens are added to texts.

    Returns:
      The tokenizer.
    """
    if isinstance(data.tokenizer, Pretrained):
        backend, names = load_pretrained(data.tokenizer.name)
        if special_tokens and "pad_token" not in names:
            raise ConfigError(f"the tokenizer {data.tokenizer.name!r} has no padding token")
        return Tokenizer(backend, special_tokens=special_tokens, names=names)
    settings = data.tokenizer or WordPiece()
    return Tokenizer(_wordpiece(settings, source), special_tokens=special_tokens)


def _wordpiece(settings: WordPiece, source: Examples) -> tokenizers.Tokenizer:
    """Trains a tokenizer; the result is cached by examples and settings."""
    identity = (source.fingerprint, settings.model_dump_json(), tokenizers.__version__)

    def train(path: Path) -> None:
        tokenizer = train_wordpiece(
            _Texts(source), vocab_size=settings.vocab_size, lowercase=settings.lowercase
        )
        path.write_text(tokenizer.to_str(), encoding="utf-8")

    key = digest_of(repr(identity).encode())
    return tokenizers.Tokenizer.from_file(str(cached_file("tokenizers", key, ".json", train)))


class _Texts:
    """Iterates over all texts of a source, as often as needed, with a progress bar."""

    def __init__(self, source: Examples):
        self._source = source

    def __iter__(self) -> Iterator[str]:
        rows = range(len(self._source))
        for number in tqdm(rows, desc="training a tokenizer", unit=" rows", leave=False, delay=2):
            example = self._source[number]
            yield from (example.query, *example.positives, *example.negatives)


def train_wordpiece(
    texts: Iterable[str], *, vocab_size: int, lowercase: bool = True
) -> tokenizers.Tokenizer:
    """Trains BERT's WordPiece tokenizer on a corpus, deterministically.

    Args:
      texts: The corpus; it is read twice.
      vocab_size: Maximum number of word pieces, including special tokens.
      lowercase: Whether to fold case and strip accents.

    Returns:
      A tokenizer that puts [CLS] and [SEP] around texts if special tokens are requested.

    Source:
      Wu et al., 2016, arXiv:1609.08144 (word pieces).
    """
    tokenizer = tokenizers.Tokenizer(models.WordPiece(unk_token=UNKNOWN))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    # The trainer numbers "##c" pieces in the order of a randomly seeded hash map, and breaks ties
    # by number. Given all single characters in a fixed order, it is deterministic.
    letters = _alphabet(texts, tokenizer.normalizer)
    trainer = trainers.WordPieceTrainer(
        vocab_size=vocab_size,
        special_tokens=[*SPECIAL, *letters, *(f"##{letter}" for letter in letters)],
        limit_alphabet=len(letters),
        initial_alphabet=letters,
        show_progress=False,
    )
    tokenizer.train_from_iterator(iter(texts), trainer)
    vocabulary = tokenizer.get_vocab()

    # Rebuild the tokenizer from the same pieces: the letters above are not special when encoding.
    result = tokenizers.Tokenizer(models.WordPiece(vocabulary, unk_token=UNKNOWN))
    result.normalizer, result.pre_tokenizer = tokenizer.normalizer, tokenizer.pre_tokenizer
    result.decoder = decoders.WordPiece()
    result.add_special_tokens(list(SPECIAL))
    result.post_processor = processors.TemplateProcessing(
        single=f"{FIRST} $A {LAST}",
        special_tokens=[(token, vocabulary[token]) for token in (FIRST, LAST)],
    )
    return result


def _alphabet(texts: Iterable[str], normalizer) -> list[str]:
    counts = collections.Counter()
    for text in texts:
        counts.update(normalizer.normalize_str(text))
    letters = [c for c in counts if not c.isspace()]
    return sorted(sorted(letters, key=lambda c: (-counts[c], c))[:_MOST_LETTERS])


def load_pretrained(name_or_path: str) -> tuple[tokenizers.Tokenizer, dict[str, str]]:
    """Loads a Hugging Face tokenizer.

    Args:
      name_or_path: A folder, or a name on the Hugging Face Hub.

    Returns:
      The fast tokenizer, and the names of its special tokens.

    Raises:
      ConfigError: If there is no tokenizer, or it has no fast version.
    """
    from transformers import AutoTokenizer  # takes a second to import

    try:
        pretrained = AutoTokenizer.from_pretrained(name_or_path)
        backend = pretrained.backend_tokenizer
    except Exception as error:  # transformers and tokenizers raise many types of exceptions
        raise ConfigError(
            f"is {name_or_path!r}, which cannot be loaded: {error}", field="data.tokenizer.name"
        ) from None
    usual = {n: t for n, t in BERT_NAMES.items() if backend.token_to_id(t) is not None}
    return backend, {**usual, **{n: str(t) for n, t in pretrained.special_tokens_map.items()}}
