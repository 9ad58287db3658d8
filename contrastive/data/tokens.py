"""Texts to tokens: vocabulary ids, packed into rows of a fixed length."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import tokenizers

from contrastive.data.groups import Group
from contrastive.errors import ConfigError
from contrastive.types import Tokens

PAD, UNKNOWN, FIRST, LAST, MASK = SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
BERT_NAMES = {
    "pad_token": PAD,
    "unk_token": UNKNOWN,
    "cls_token": FIRST,
    "sep_token": LAST,
    "mask_token": MASK,
}
_REMEMBERED_BYTES = 256 << 20  # cache size; training for several epochs tokenizes texts once
_BYTES_A_TEXT = 250  # memory per text for keys and objects, besides the ids


class Tokenizer:
    """A Hugging Face tokenizer with truncation and a cache.

    Safe to call from several threads.

    Args:
      backend: The underlying tokenizer.
      special_tokens: Whether the tokenizer's special first and last tokens are added to texts.
      names: Names of the special tokens, as in special_tokens_map.json.
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
        """Returns the int32 vocabulary ids of each text.

        Args:
          texts: The texts.
          max_length: Maximum number of tokens per text, including special tokens.
        """
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
        """Returns the tokenizer that truncates texts to a length, as it is saved with a model."""
        # Truncation is a setting of the tokenizer, not of the call, so each length needs a copy.
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
        """A copy of the underlying tokenizer, as it was given."""
        return tokenizers.Tokenizer.from_str(self._json)

    @property
    def vocab_size(self) -> int:
        """The largest vocabulary id plus 1, including special tokens; ids may have gaps."""
        return max(self.backend.get_vocab().values()) + 1

    @property
    def fingerprint(self) -> str:
        """A digest of everything that determines the ids."""
        return hashlib.blake2b(self._json.encode(), digest_size=16).hexdigest()


def _key(text: str, max_length: int) -> bytes:
    return hashlib.blake2b(text.encode(), digest_size=16, salt=max_length.to_bytes(4)).digest()


def tokenize_groups(
    groups: Sequence[Group], tokenize: Tokenizer
) -> tuple[list[np.ndarray], list[list[np.ndarray]]]:
    """Tokenizes queries and documents, each truncated to the maximum length of its source.

    Args:
      groups: Groups, from any sources.
      tokenize: Tokenizer.

    Returns:
      Vocabulary ids: one array per query, and one list of arrays per group for the documents.
    """
    queries: list[np.ndarray] = [np.empty(0, np.int32)] * len(groups)
    documents: list[list[np.ndarray]] = [[] for _ in groups]
    for rules in {id(group.rules): group.rules for group in groups}.values():
        own = [number for number, group in enumerate(groups) if group.rules is rules]
        of_queries = tokenize([groups[n].query for n in own], rules.query_length)
        texts = [text for n in own for text in groups[n].documents]
        of_documents = iter(tokenize(texts, rules.document_length))
        for number, query in zip(own, of_queries, strict=True):
            queries[number] = query
            documents[number] = [next(of_documents) for _ in groups[number].documents]
    return queries, documents


def pack(
    texts: Sequence[np.ndarray],
    *,
    row_length: int,
    texts_per_row: int = 1,
    blocks: int = 1,
) -> Tokens:
    """Packs texts into rows: the longest first, each into the fullest row that it still fits.

    Each block gets the same number of consecutive texts, and the same number of rows, which is as
    small as possible. Equal texts of a block share one place, so they are encoded only once.

    Args:
      texts: Vocabulary ids, int32, of B texts; B is a multiple of `blocks`.
      row_length: Number of tokens per row, T.
      texts_per_row: Maximum number of texts per row, S; 1 disables packing.
      blocks: Number of data-parallel devices that will hold the rows.

    Returns:
      The tokens, as NumPy arrays.

    Raises:
      ValueError: If a text is longer than a row, or the texts cannot be divided into equal blocks.
    """
    if len(texts) % blocks:
        raise ValueError(f"{len(texts)} texts cannot be divided into {blocks} blocks of equal size")
    longest = max(map(len, texts), default=0)
    if longest > row_length:
        raise ValueError(f"a text of {longest} tokens does not fit in a row of {row_length}")
    size = len(texts) // blocks
    own = [_distinct(texts[b * size : (b + 1) * size]) for b in range(blocks)]
    placed = [_place([len(t) for t in block.texts], row_length, texts_per_row) for block in own]
    rows = max((row + 1 for block in placed for row, _, _ in block), default=1)
    shape = (blocks * rows, row_length)
    ids, segments, positions = (np.zeros(shape, np.int32) for _ in range(3))
    text_ids = np.zeros((blocks * rows, texts_per_row), np.int32)
    slots = np.zeros((blocks, size), np.int32)
    for block, (numbers, distinct) in enumerate(own):
        for text, (row, place, start) in zip(distinct, placed[block], strict=True):
            where = (block * rows + row, slice(start, start + len(text)))
            ids[where] = text
            segments[where] = place + 1
            positions[where] = np.arange(len(text))
            text_ids[block * rows + row, place] = _digest(text)
        of_distinct = [row * texts_per_row + place for row, place, _ in placed[block]]
        slots[block] = [of_distinct[number] for number in numbers]
    return Tokens(ids, segments, positions, text_ids, slots.reshape(-1), blocks)


class _Distinct(NamedTuple):
    """The distinct texts, and for each text the index of the one it equals."""

    numbers: list[int]
    texts: list[np.ndarray]


def _distinct(texts: Sequence[np.ndarray]) -> _Distinct:
    seen: dict[bytes, int] = {}
    numbers = [seen.setdefault(text.tobytes(), len(seen)) for text in texts]
    return _Distinct(numbers, [np.frombuffer(key, np.int32) for key in seen])


def _digest(text: np.ndarray) -> int:
    digest = hashlib.blake2b(text.tobytes(), digest_size=4).digest()
    return int.from_bytes(digest, "little", signed=True)


def _place(lengths: Sequence[int], row_length: int, texts_per_row: int):
    """Finds row, slot and first position of each text by best-fit decreasing bin packing."""
    spots: list[tuple[int, int, int]] = [(0, 0, 0)] * len(lengths)
    by_space: list[list[int]] = [[] for _ in range(row_length + 1)]  # open rows by free positions
    spaces = 0  # bit s is set where by_space[s] is not empty
    held: list[int] = []
    for text in np.argsort(-np.asarray(lengths), kind="stable").tolist():
        length = lengths[text]
        fitting = spaces >> length
        if fitting:
            space = length + (fitting & -fitting).bit_length() - 1
            row = by_space[space].pop()
            if not by_space[space]:
                spaces ^= 1 << space
        else:
            row, space = len(held), row_length
            held.append(0)
        spots[text] = (row, held[row], row_length - space)
        held[row] += 1
        if held[row] < texts_per_row:
            by_space[space - length].append(row)
            spaces |= 1 << (space - length)
    return spots


def padding_share(*tokens: Tokens) -> float:
    """Computes the fraction of row positions that hold no token."""
    filled = sum(np.count_nonzero(x.segments) for x in tokens)
    return 1.0 - filled / max(sum(x.segments.size for x in tokens), 1)
