"""Texts to vocabulary ids."""

from __future__ import annotations

import collections
import hashlib
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers

from contrastive.errors import ConfigError

PAD, UNKNOWN, FIRST, LAST, MASK = SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
BERT_NAMES = {
    "pad_token": PAD,
    "unk_token": UNKNOWN,
    "cls_token": FIRST,
    "sep_token": LAST,
    "mask_token": MASK,
}
_MOST_LETTERS = 1000  # rarer characters make their word unknown
_REMEMBERED_BYTES = 256 << 20  # data sets seen for several epochs are tokenised once
_BYTES_A_TEXT = 250  # of keys and objects, besides the ids


class Tokenizer:
    """A `tokenizers` tokenizer with the choices of this project made.

    Safe to call from several threads.

    Args:
      backend: The tokenizer.
      special_tokens: Whether texts get the tokenizer's own first and last tokens.
      names: What the special tokens are called, as in special_tokens_map.json.
    """

    def __init__(
        self,
        backend: tokenizers.Tokenizer,
        *,
        special_tokens: bool,
        names: Mapping[str, str] = BERT_NAMES,
    ):
        self.names = dict(names)
        self._json = backend.to_str()
        self._special_tokens = special_tokens
        self._truncating: dict[int, tokenizers.Tokenizer] = {}
        self._remembered: dict[bytes, np.ndarray] = {}
        self._room = _REMEMBERED_BYTES

    def __call__(self, texts: Sequence[str], max_length: int) -> list[np.ndarray]:
        """Vocabulary ids of each text, int32, at most `max_length` with special tokens."""
        keys = [_key(text, max_length) for text in texts]
        new = {k: t for k, t in zip(keys, texts, strict=True) if k not in self._remembered}
        encode = self.truncating(max_length).encode_batch_fast
        encodings = encode(list(new.values()), add_special_tokens=self._special_tokens)
        fresh = {k: np.asarray(e.ids, np.int32) for k, e in zip(new, encodings, strict=True)}
        ids = [fresh[k] if k in fresh else self._remembered[k] for k in keys]
        if self._room > 0:
            self._room -= sum(ids.nbytes + _BYTES_A_TEXT for ids in fresh.values())
            self._remembered.update(fresh)
        return ids

    def truncating(self, max_length: int) -> tokenizers.Tokenizer:
        """The tokenizer that cuts texts to a length, as it is saved beside a model."""
        # Truncation is a setting of the tokenizer, not of the call: one copy a length.
        if max_length not in self._truncating:
            copy = tokenizers.Tokenizer.from_str(self._json)
            added = copy.num_special_tokens_to_add(False) if self._special_tokens else 0
            if max_length < added:
                raise ConfigError(
                    f"texts may have {max_length} tokens but {added} of them would be special; "
                    f"make their length at least {added}"
                )
            copy.no_padding()
            copy.enable_truncation(max_length)
            self._truncating[max_length] = copy
        return self._truncating[max_length]

    @property
    def backend(self) -> tokenizers.Tokenizer:
        """The tokenizer without truncation, as it was given."""
        return tokenizers.Tokenizer.from_str(self._json)

    @property
    def vocab_size(self) -> int:
        """One more than the largest vocabulary id, special tokens included; ids may have gaps."""
        return max(self.backend.get_vocab().values()) + 1

    @property
    def fingerprint(self) -> str:
        """A digest of everything that decides the ids."""
        return hashlib.blake2b(self._json.encode(), digest_size=16).hexdigest()


def _key(text: str, max_length: int) -> bytes:
    return hashlib.blake2b(text.encode(), digest_size=16, salt=max_length.to_bytes(4)).digest()


def train_wordpiece(
    texts: Iterable[str], *, vocab_size: int, lowercase: bool = True
) -> tokenizers.Tokenizer:
    """Trains BERT's tokenizer on a corpus; the same corpus gives the same tokenizer.

    Args:
      texts: The corpus; it is read twice.
      vocab_size: Most word pieces, special tokens included.
      lowercase: Whether to fold case and strip accents.

    Returns:
      A tokenizer that puts [CLS] and [SEP] around texts where special tokens are asked for.

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

    # Once more with the same pieces, for the letters above are not special when texts are encoded.
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
      name_or_path: A folder, or a name on the Hub.

    Returns:
      Its fast tokenizer, and the names of its special tokens.

    Raises:
      ConfigError: If there is none, or it is not a fast one.
    """
    from transformers import AutoTokenizer  # takes a second to import

    try:
        found = AutoTokenizer.from_pretrained(name_or_path)
        backend = found.backend_tokenizer
    except Exception as error:  # transformers and tokenizers raise many kinds
        raise ConfigError(f"data.tokenizer.name: cannot load {name_or_path!r}, {error}") from None
    usual = {n: t for n, t in BERT_NAMES.items() if backend.token_to_id(t) is not None}
    return backend, {**usual, **{n: str(t) for n, t in found.special_tokens_map.items()}}
