"""Interpolated modified Kneser-Ney n-grams over bytes and the document border.

Chen & Goodman 1998, "An Empirical Study of Smoothing Techniques for Language Modeling", section 3,
with KenLM's conventions (Heafield et al. 2013, "Scalable Modified Kneser-Ney Language Model
Estimation"): three discounts per order from counts of counts; lower orders count distinct left
neighbours instead of occurrences, except n-grams that begin at a document border, which have no
left neighbour and keep their occurrences; below the unigram lies the uniform distribution.

An n-gram is one int64 key, its symbols as digits in base 257 with the predicted symbol last, so
``key // 257`` is its context and ``key % 257**m`` its last m symbols.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mytnano.errors import UserError
from mytnano.measure.symbols import BORDER, SYMBOLS, lookup

MAX_ORDER = 7
"""257**7 < 2**63: the longest n-gram that fits an int64 key."""

USUAL_DISCOUNTS = (0.5, 1.0, 1.5)
"""For counts 1, 2, 3+ where counts of counts give no valid estimate (KenLM's fallback)."""


@dataclass(frozen=True)
class _Order:
    """All n-grams of one order: discounted shares, and the weight left for the next lower order."""

    keys: np.ndarray  # (types,) int64 sorted
    shares: np.ndarray  # (types,) float64: (count - discount) / context total
    context_keys: np.ndarray  # (contexts,) int64 sorted
    backoff: np.ndarray  # (contexts,) float64: sum of discounts / context total
    discounts: tuple[float, float, float]


@dataclass(frozen=True)
class KneserNey:
    """A fitted model; ``orders[m]`` holds the n-grams of m + 1 symbols."""

    orders: tuple[_Order, ...]

    @property
    def discounts(self) -> list[tuple[float, float, float]]:
        """Discounts of counts 1, 2 and 3+, one row for each order from the unigram up."""
        return [order.discounts for order in self.orders]

    def log_probabilities(self, fragments: Sequence[np.ndarray]) -> np.ndarray:
        """ln p of every symbol but the first of each fragment, in order, shape (n,)."""
        keys, lengths = _ngrams(fragments, len(self.orders))
        # Text repeats itself: score each distinct (n-gram, context length) once.
        distinct, inverse = np.unique(keys * 8 + lengths, return_inverse=True)
        return np.log(self._probabilities(distinct // 8, distinct % 8))[inverse]

    def nats(self, fragments: Sequence[np.ndarray]) -> float:
        """Total loss of the fragments in nats; the first symbol of each is context only."""
        return float(-self.log_probabilities(fragments).sum())

    def distribution(self, context: Sequence[int]) -> np.ndarray:
        """Probabilities (257,) of the next symbol after any symbols 0..256."""
        longest = len(self.orders) - 1
        usable = list(context)[len(context) - min(longest, len(context)) :]
        borders = [index for index, symbol in enumerate(usable) if symbol == BORDER]
        usable = usable[borders[-1] :] if borders else usable
        key = 0
        for symbol in usable:
            key = key * SYMBOLS + int(symbol)
        lengths = np.full(SYMBOLS, len(usable), dtype=np.int64)
        return self._probabilities(key * SYMBOLS + np.arange(SYMBOLS, dtype=np.int64), lengths)

    def _probabilities(self, keys: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        """p of n-grams ``keys`` (n,) whose contexts hold ``lengths`` (n,) symbols."""
        p = np.full(len(keys), 1 / SYMBOLS)  # (n,)
        for below, order in enumerate(self.orders):
            suffixes = keys % SYMBOLS ** (below + 1)
            context_at, known = lookup(order.context_keys, suffixes // SYMBOLS)
            known &= lengths >= below
            at, seen = lookup(order.keys, suffixes)
            seen &= known
            p[known] *= order.backoff[context_at[known]]
            p[seen] += order.shares[at[seen]]
        return p


def fit_kneser_ney(fragments: Sequence[np.ndarray], order: int = 5) -> KneserNey:
    """Fit on fragments of symbols 0..256 (see :mod:`mytnano.measure.symbols`).

    A context never reaches across a fragment's start or a document border; the border itself is
    the start symbol of what follows it. Where a fragment begins inside a document the left
    neighbour is unknown: such an n-gram counts once if it has no known left neighbour elsewhere.
    Give each window of text once: repeats distort the counts of counts.

    Raises:
        UserError: order outside 1..7, or a symbol above 256.
    """
    if not 1 <= order <= MAX_ORDER:
        raise UserError(f"an n-gram order of {order} does not fit; choose 1 to {MAX_ORDER}")
    keys, lengths = _ngrams(fragments, order)
    types, counts = np.unique(keys[lengths == order - 1], return_counts=True)
    orders = [_discounted(types, counts)]
    for size in range(order - 1, 0, -1):
        base = SYMBOLS**size
        short = keys[lengths == size - 1] % base  # n-grams cut at a border or a fragment's start
        types, counts = _continuations(types % base, short, base // SYMBOLS)
        orders.append(_discounted(types, counts))
    return KneserNey(tuple(reversed(orders)))


def _ngrams(fragments: Sequence[np.ndarray], order: int) -> tuple[np.ndarray, np.ndarray]:
    """Keys (n,) of up to ``order`` symbols up to each predicted one; context lengths (n,)."""
    fragments = [fragment for fragment in fragments if len(fragment)]
    if not fragments:
        return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)
    symbols = np.concatenate(fragments)  # (s,)
    if symbols.min() < 0 or symbols.max() > BORDER:
        raise UserError("byte n-grams take symbols 0..256; build fragments with document_symbols")
    sizes = np.array([len(fragment) for fragment in fragments])
    starts = np.zeros(len(symbols), dtype=bool)  # (s,)
    starts[np.cumsum(sizes) - sizes] = True

    keys = np.zeros(len(symbols), dtype=np.int64)  # (s,)
    for back in range(min(order, len(symbols))):
        keys[back:] += symbols[: len(symbols) - back].astype(np.int64) * SYMBOLS**back
    index = np.arange(len(symbols))
    anchors = np.maximum.accumulate(np.where(starts | (symbols == BORDER), index, 0))
    lengths = np.minimum(index[1:] - anchors[:-1], order - 1)  # (s - 1,)
    predicted = ~starts[1:]
    keys, lengths = keys[1:][predicted], lengths[predicted]
    # Digits left of a short context belong to other text.
    keys %= np.array([SYMBOLS ** (size + 1) for size in range(order)])[lengths]
    return keys, lengths


def _continuations(
    suffixes: np.ndarray, short: np.ndarray, first_digit: int
) -> tuple[np.ndarray, np.ndarray]:
    """Sorted n-grams and their counts of distinct left neighbours.

    Args:
        suffixes: last symbols of every longer n-gram type, one entry for each left neighbour.
        short: n-gram occurrences that have no left neighbour.
        first_digit: place value of the first symbol in a key.
    """
    types, counts = np.unique(suffixes, return_counts=True)
    extra, occurrences = np.unique(short, return_counts=True)
    _, known = lookup(types, extra)
    at_border = extra // first_digit == BORDER if first_digit > 1 else np.zeros(len(extra), bool)
    extra_counts = np.where(at_border, occurrences, 1)[~known]
    types, counts = np.concatenate([types, extra[~known]]), np.concatenate([counts, extra_counts])
    sorting = np.argsort(types, kind="stable")
    return types[sorting], counts[sorting]


def _discounted(keys: np.ndarray, counts: np.ndarray) -> _Order:
    discounts = _discounts(counts)
    discount = np.array([0.0, *discounts])[np.minimum(counts, 3)]  # (types,)
    contexts = keys // SYMBOLS
    first = np.flatnonzero(np.diff(contexts, prepend=-1))  # where each context's run begins
    if not len(first):
        return _Order(keys, discount, contexts, discount, discounts)
    totals = np.add.reduceat(counts, first).astype(np.float64)  # (contexts,)
    backoff = np.add.reduceat(discount, first) / totals
    runs = np.diff(first, append=len(keys))
    shares = (counts - discount) / np.repeat(totals, runs)
    return _Order(keys, shares, contexts[first], backoff, discounts)


def _discounts(counts: np.ndarray) -> tuple[float, float, float]:
    """D1, D2, D3+ of Chen & Goodman 1998, equation 26; the usual ones where it is undefined.

    A discount must lie in (0, count]: zero would leave unseen symbols no probability.
    """
    n1, n2, n3, n4 = (int((counts == value).sum()) for value in (1, 2, 3, 4))
    if not (n1 and n2 and n3):
        return USUAL_DISCOUNTS
    y = n1 / (n1 + 2 * n2)
    estimates = 1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3
    valid = all(0 < estimate <= count for count, estimate in enumerate(estimates, start=1))
    return estimates if valid else USUAL_DISCOUNTS
