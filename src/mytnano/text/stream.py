"""One split in one vocabulary: documents joined by end-of-document ids, with their byte offsets."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mytnano.text.cache import digest, read_cache, write_cache
from mytnano.text.vocabulary import Tokenizer


@dataclass(frozen=True)
class Stream:
    """``eod d1 eod d2 eod ... dk eod``: the leading eod is the start symbol, the rest is predicted.

    Attributes:
        ids: (n,) int32.
        offsets: (n,) int64, where each token starts in the concatenated bytes of the split; an
            end-of-document has the offset of what follows it.
        document_starts: (k,) int64, index in ``ids`` of the eod that precedes each document.
        byte_count: raw bytes of the split.
        vocab_size: ids of the vocabulary.
    """

    ids: np.ndarray
    offsets: np.ndarray
    document_starts: np.ndarray
    byte_count: int
    vocab_size: int

    in_memory = True
    """Whether all of it is; a :class:`~mytnano.text.shards.ShardStream` is not."""

    def spans(self, first: np.ndarray, length: int) -> np.ndarray:
        """Ids of ``length`` tokens from each of ``first`` (B,) on: (B, length) int64."""
        return self.ids[first[:, None] + np.arange(length)].astype(np.int64)

    def token_at(self, byte: np.ndarray) -> np.ndarray:
        """The first token that starts at or after each byte, (B,) int64."""
        return np.searchsorted(self.offsets, byte)

    def byte_at(self, token: np.ndarray) -> np.ndarray:
        """Where each token starts, (B,) int64; the token after the last one starts at the end."""
        inside = np.minimum(token, len(self.offsets) - 1)
        return np.where(token < len(self.offsets), self.offsets[inside], self.byte_count)


def encode_split(documents: list[bytes], tokenizer: Tokenizer, cache: Path) -> Stream:
    """Encode the documents of one split, or take them from the cache.

    Where encoding is as fast as reading (``tokenizer.fast``) nothing is cached. A damaged cache
    file is rebuilt.

    Raises:
        UserError: the cache folder cannot be written.
    """
    byte_count = sum(map(len, documents))
    if tokenizer.fast:
        return encode_documents(documents, tokenizer)
    key = hashlib.sha256(f"{tokenizer.fingerprint} {digest(documents)}".encode()).hexdigest()
    path = Path(cache) / f"ids-{tokenizer.name.replace(':', '-')}-{key[:24]}.bin"
    dtype = np.min_scalar_type(tokenizer.eod_id)
    if (cached := read_cache(path)) is not None and len(cached) % dtype.itemsize == 0:
        ids = np.frombuffer(cached, dtype=dtype).astype(np.int32)
    else:
        ids = _join(documents, tokenizer)
        write_cache(path, ids.astype(dtype).tobytes())
    return stream_from_ids(ids, byte_count, tokenizer)


def encode_documents(documents: list[bytes], tokenizer: Tokenizer) -> Stream:
    """Encode documents that are read once, without a cache."""
    return stream_from_ids(_join(documents, tokenizer), sum(map(len, documents)), tokenizer)


def _join(documents: list[bytes], tokenizer: Tokenizer) -> np.ndarray:
    eod = np.array([tokenizer.eod_id], dtype=np.int32)
    parts = [eod]
    for ids in tokenizer.encode_documents(documents):
        parts += [ids, eod]
    return np.concatenate(parts)


def stream_from_ids(ids: np.ndarray, byte_count: int, tokenizer: Tokenizer) -> Stream:
    """The stream of ids (n,) int32 that spell a split; RuntimeError if they do not."""
    ends = np.empty(len(ids) + 1, dtype=np.int64)
    ends[0] = 0
    np.take(tokenizer.byte_lengths, ids, out=ends[1:], mode="clip")  # "raise" makes a copy
    np.cumsum(ends, out=ends)
    if ends[-1] != byte_count:
        raise RuntimeError(f"{tokenizer.name} spells {ends[-1]} bytes of {byte_count}")
    starts = np.flatnonzero(ids == tokenizer.eod_id)[:-1]
    return Stream(ids, ends[:-1], starts, byte_count, tokenizer.vocab_size)
