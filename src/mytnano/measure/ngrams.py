"""Closed-form unigram and bigram over token ids, smoothed by pseudo-counts.

They say what a model could reach that reads no earlier token, or one: the target of the learned
bigram, and the score that marks a collapsed model. Counts are kept sparse (sorted unique keys), so
a vocabulary of 100 000 costs only the pairs that occur.

    unigram   p(b)   = (c(b) + k) / (n + k V)
    bigram    p(b|a) = (c(ab) + k V p(b)) / (c(a) + k V)

The bigram is add-k whose prior is the unigram instead of the uniform distribution (Dirichlet prior,
MacKay & Peto 1995); with a uniform ``p(b) = 1/V`` it is the classical
``(c(ab) + k) / (c(a) + k V)``. Every k is chosen on validation pairs, never on what is
scored later.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize_scalar

from mytnano.errors import UserError
from mytnano.measure.symbols import lookup

PRIOR_MASSES = np.logspace(-4, 10, 29)
"""Grid of k V, the total pseudo-count; the best point is then refined between its neighbours."""


@dataclass(frozen=True)
class Unigram:
    """Token frequencies.

    Attributes:
        probabilities: (V,) float64, sums to one.
        k: pseudo-count of each token.
    """

    probabilities: np.ndarray
    k: float

    def log_probabilities(self, targets: np.ndarray) -> np.ndarray:
        """ln p of each target, shape (n,)."""
        with np.errstate(divide="ignore"):
            return np.log(self.probabilities[np.asarray(targets)])

    def nats(self, targets: np.ndarray) -> float:
        """Total loss of the targets in nats."""
        return float(-self.log_probabilities(targets).sum())


@dataclass(frozen=True)
class Bigram:
    """Next-token frequencies given one token, backed off to the unigram.

    Attributes:
        unigram: the prior of every row.
        keys: (p,) int64 sorted ``context * V + target`` of the pairs that occurred.
        counts: (p,) int64 occurrences of each pair.
        context_counts: (V,) int64 occurrences of each context.
        k: pseudo-count; row a holds k V pseudo-counts spread like the unigram.
    """

    unigram: Unigram
    keys: np.ndarray
    counts: np.ndarray
    context_counts: np.ndarray
    k: float

    def log_probabilities(self, contexts: np.ndarray, targets: np.ndarray) -> np.ndarray:
        """ln p(target | context) of each pair, shape (n,)."""
        vocab_size = len(self.context_counts)
        contexts, targets = _checked_pairs(contexts, targets, vocab_size)
        mass = self.k * vocab_size
        pair_counts = _pair_counts(self.keys, self.counts, contexts * vocab_size + targets)  # (n,)
        numerator = pair_counts + mass * self.unigram.probabilities[targets]
        return np.log(numerator) - np.log(self.context_counts[contexts] + mass)

    def nats(self, contexts: np.ndarray, targets: np.ndarray) -> float:
        """Total loss of the targets in nats."""
        return float(-self.log_probabilities(contexts, targets).sum())


def fit_unigram(targets: np.ndarray, vocab_size: int, validation: np.ndarray) -> Unigram:
    """Count token ids (n,) and choose k on validation ids.

    Raises:
        UserError: no validation ids, or an id outside the vocabulary.
    """
    counts = np.bincount(_checked_ids(targets, vocab_size), minlength=vocab_size)  # (V,)
    held_out = np.bincount(_checked_ids(validation, vocab_size), minlength=vocab_size)  # (V,)
    seen = np.flatnonzero(held_out)
    if not len(seen):
        raise UserError("the unigram has no validation tokens to choose k on; give some")
    weights, train_counts, total = held_out[seen], counts[seen], counts.sum()

    def loss(mass: float) -> float:
        p = (train_counts + mass / vocab_size) / (total + mass)
        return -float(weights @ np.log(p))

    mass = _best_mass(loss)
    return Unigram((counts + mass / vocab_size) / (total + mass), mass / vocab_size)


def fit_bigram(
    contexts: np.ndarray,
    targets: np.ndarray,
    vocab_size: int,
    validation: tuple[np.ndarray, np.ndarray],
) -> Bigram:
    """Count (previous token, token) pairs, two arrays (n,), and choose both k on validation pairs.

    Raises:
        UserError: no validation pairs, an id outside the vocabulary, or arrays of unequal length.
    """
    contexts, targets = _checked_pairs(contexts, targets, vocab_size)
    held_contexts, held_targets = _checked_pairs(*validation, vocab_size)
    unigram = fit_unigram(targets, vocab_size, held_targets)
    keys, counts = np.unique(contexts * vocab_size + targets, return_counts=True)  # (p,)
    context_counts = np.bincount(contexts, minlength=vocab_size)  # (V,)

    held_keys, weights = np.unique(held_contexts * vocab_size + held_targets, return_counts=True)
    pair_counts = _pair_counts(keys, counts, held_keys)
    row_counts = context_counts[held_keys // vocab_size]
    prior = unigram.probabilities[held_keys % vocab_size]

    def loss(mass: float) -> float:
        p = (pair_counts + mass * prior) / (row_counts + mass)
        return -float(weights @ np.log(p))

    return Bigram(unigram, keys, counts, context_counts, _best_mass(loss) / vocab_size)


def _pair_counts(keys: np.ndarray, counts: np.ndarray, queries: np.ndarray) -> np.ndarray:
    positions, found = lookup(keys, queries)
    result = np.zeros(len(queries), dtype=np.int64)
    result[found] = counts[positions[found]]
    return result


def _best_mass(loss: Callable[[float], float]) -> float:
    """The pseudo-count mass k V with the least loss: log grid, then bounded scalar search."""
    best = int(np.argmin([loss(mass) for mass in PRIOR_MASSES]))
    low, high = (PRIOR_MASSES[np.clip(best + side, 0, len(PRIOR_MASSES) - 1)] for side in (-1, 1))
    found = minimize_scalar(
        lambda log_mass: loss(math.exp(log_mass)),
        bounds=(math.log(low), math.log(high)),
        method="bounded",
        options={"xatol": 1e-3},
    )
    return min(math.exp(found.x), float(PRIOR_MASSES[best]), key=loss)


def _checked_ids(ids: np.ndarray, vocab_size: int) -> np.ndarray:
    ids = np.asarray(ids, dtype=np.int64)
    if len(ids) and not (ids.min() >= 0 and ids.max() < vocab_size):
        raise UserError(
            f"token ids span {ids.min()}..{ids.max()} but the vocabulary has {vocab_size} ids; "
            "count with the tokenizer that encoded the text"
        )
    return ids


def _checked_pairs(
    contexts: np.ndarray, targets: np.ndarray, vocab_size: int
) -> tuple[np.ndarray, np.ndarray]:
    if len(contexts) != len(targets):
        raise UserError(
            f"{len(contexts)} contexts and {len(targets)} targets; give one context for each target"
        )
    return _checked_ids(contexts, vocab_size), _checked_ids(targets, vocab_size)
