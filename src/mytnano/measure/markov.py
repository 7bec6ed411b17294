"""Generated text whose entropy is known exactly: the ruler that models and baselines are held to.

A model's bits per byte on text of a :class:`MarkovSource` cannot lie below the source's entropy
rate (Shannon 1948), except by sampling noise; :meth:`MarkovSource.bits_per_byte` scores the source
itself on the very same text and so takes the noise out. Order 0 over all bytes is random bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from mytnano.errors import UserError

PRINTABLE = b"etaoinshrdlucmfw"

LARGEST_CHAIN = 2**24
"""Entries of the largest transition table: 128 MiB."""


@dataclass(frozen=True)
class MarkovSource:
    """A stationary Markov chain over bytes.

    Attributes:
        alphabet: (A,) bytes, one for each symbol.
        order: how many earlier symbols the next one depends on.
        rows: (A**order, A) transition probabilities; the context's symbols are the digits of the
            row number in base A, the latest symbol last.
    """

    alphabet: bytes
    order: int
    rows: np.ndarray

    @cached_property
    def stationary(self) -> np.ndarray:
        """(A**order,) probabilities of the contexts in the long run.

        The lifted chain moves from context (a, s) to (s, b); we iterate its map to a fixed point.
        """
        size = len(self.alphabet)
        if not self.order:
            return np.ones(1)
        distribution = np.full(len(self.rows), 1 / len(self.rows))  # (A**order,)
        for _ in range(100_000):
            joint = distribution[:, None] * self.rows  # (A**order, A)
            following = joint.reshape(size, -1).sum(0)  # (A**order,): the oldest symbol forgotten
            moved = np.abs(following - distribution).sum()
            distribution = following / following.sum()
            if moved < 1e-14:
                return distribution
        raise UserError(
            "the Markov chain does not settle; give transition rows without zeros so that it mixes"
        )

    @property
    def entropy_rate(self) -> float:
        """Bits per byte of endless text: H(X_t | the ``order`` symbols before it)."""
        return self.conditional_entropy(self.order)

    def conditional_entropy(self, seen: int) -> float:
        """H(X_t | the ``seen`` symbols before it) in bits: the best predictor that sees so many.

        ``seen`` = 1 is what the best bigram reaches, 0 the best unigram; beyond ``order`` nothing
        is gained.
        """
        size, seen = len(self.alphabet), min(seen, self.order)
        joint = self.stationary[:, None] * self.rows  # (A**order, A)
        joint = joint.reshape(-1, size**seen, size).sum(0)  # (A**seen, A)
        context = joint.sum(1, keepdims=True)
        conditional = np.divide(joint, context, out=np.ones_like(joint), where=joint > 0)
        return float(-(joint * np.log2(conditional)).sum())

    def documents(self, count: int, length: int, seed: int) -> list[bytes]:
        """``count`` independent documents of ``length`` bytes, each started in equilibrium."""
        rng = np.random.default_rng(seed)
        size, contexts = len(self.alphabet), len(self.rows)
        cumulative = self.rows.cumsum(1)[:, :-1]  # (A**order, A - 1)
        state = rng.choice(contexts, size=count, p=self.stationary)  # (count,)
        # The start context is the document's first `order` symbols, so every byte is stationary.
        symbols = np.empty((max(length, self.order), count), dtype=np.uint8)
        for place in range(self.order):
            symbols[place] = state // size ** (self.order - 1 - place) % size
        for place in range(self.order, length):
            drawn = (rng.random((count, 1)) >= cumulative[state]).sum(1)  # (count,)
            symbols[place] = drawn
            state = (state * size + drawn) % contexts
        text = np.frombuffer(self.alphabet, dtype=np.uint8)[symbols[:length]]  # (length, count)
        return [column.tobytes() for column in np.ascontiguousarray(text.T)]

    def bits_per_byte(self, documents: Sequence[bytes]) -> float:
        """The source's own loss on its text, document ends free: the floor for this very sample.

        The first ``order`` bytes of each document are left out of both bits and bytes.
        """
        size, order = len(self.alphabet), self.order
        index = np.zeros(256, dtype=np.int64)
        index[np.frombuffer(self.alphabet, dtype=np.uint8)] = np.arange(size)
        bits, scored = 0.0, 0
        for document in documents:
            symbols = index[np.frombuffer(document, dtype=np.uint8)]  # (n,)
            predicted = max(len(symbols) - order, 0)
            context = np.zeros(predicted, dtype=np.int64)
            for place in range(order):
                context = context * size + symbols[place : place + predicted]
            bits -= float(np.log2(self.rows[context, symbols[order:]]).sum())
            scored += predicted
        return bits / scored


def markov_source(
    order: int, seed: int, alphabet: bytes = PRINTABLE, spread: float = 0.5
) -> MarkovSource:
    """A random chain whose every order tells something: rows are drawn around shorter contexts'.

    The row of (a, b, c) is drawn from a Dirichlet around the row of (b, c), that one around the row
    of (c), and so on down to uniform: a bigram beats a unigram, and a trigram the bigram.

    Args:
        order: 0, 1, 2, 3...; the chain has ``len(alphabet) ** order`` rows.
        seed: of the rows.
        alphabet: distinct bytes.
        spread: Dirichlet concentration for each symbol; smaller gives more predictable text.

    Raises:
        UserError: an alphabet of fewer than two symbols or with repeats, or a chain too large.
    """
    size = len(alphabet)
    if size < 2 or len(set(alphabet)) != size:
        raise UserError("a Markov alphabet needs at least two distinct bytes: give more")
    if order < 0 or size ** (order + 1) > LARGEST_CHAIN:
        raise UserError(
            f"a chain of order {order} over {size} symbols has no table of 1 to {LARGEST_CHAIN} "
            "entries; choose another order or a smaller alphabet"
        )
    rng = np.random.default_rng(seed)
    rows = np.full((1, size), 1 / size)
    for level in range(order + 1):
        parents = rows if level == 0 else np.tile(rows, (size, 1))  # (A**level, A)
        # Gamma draws normalised are a Dirichlet draw. The floor keeps every symbol possible, so
        # the chain mixes and no log-loss is infinite.
        draws = rng.standard_gamma(spread * size * parents) + 1e-12
        rows = 0.98 * draws / draws.sum(1, keepdims=True) + 0.02 / size
    return MarkovSource(alphabet, order, rows)
