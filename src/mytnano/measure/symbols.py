"""Byte text as symbols: 0..255 are bytes and 256 is the border of a document.

The closed-form byte baselines read *fragments*: integer arrays of symbols in which every symbol but
the first is predicted and contexts never reach outside the fragment. A whole document is
``[256, bytes..., 256]``; a window that a run saw is any slice of :func:`stream_symbols`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

BORDER = 256
SYMBOLS = 257


def document_symbols(document: bytes) -> np.ndarray:
    """``[256, bytes..., 256]``, (len(document) + 2,) uint16: one document with both borders."""
    body = np.frombuffer(document, dtype=np.uint8)
    return np.concatenate([[BORDER], body, [BORDER]]).astype(np.uint16)


def stream_symbols(documents: Iterable[bytes]) -> np.ndarray:
    """``[256, d1..., 256, d2..., 256]`` as uint16: documents that share their borders."""
    parts = [np.array([BORDER], dtype=np.uint16)]
    parts += [document_symbols(document)[1:] for document in documents]
    return np.concatenate(parts)


def symbol_pairs(fragments: Iterable[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """(previous symbol, symbol) of every predicted symbol, two int64 arrays of equal length."""
    fragments = list(fragments)
    empty = np.empty(0, dtype=np.int64)
    contexts = np.concatenate([empty, *(fragment[:-1] for fragment in fragments)])
    targets = np.concatenate([empty, *(fragment[1:] for fragment in fragments)])
    return contexts.astype(np.int64), targets.astype(np.int64)


def bits_per_byte(nats: float, raw_bytes: int) -> float:
    """Total nats (end-of-document loss included) over ln 2 times the raw bytes of the text."""
    return nats / (math.log(2) * raw_bytes)


def lookup(keys: np.ndarray, queries: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Position of each query in sorted unique ``keys``, and whether it is there.

    Returns:
        positions (n,) valid where found, and found (n,) bool.
    """
    positions = np.searchsorted(keys, queries)
    positions[positions == len(keys)] = 0
    if not len(keys):
        return positions, np.zeros(len(queries), dtype=bool)
    return positions, keys[positions] == queries
