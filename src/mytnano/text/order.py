"""A shuffled order that is computed, not stored: any place of it costs the same few operations.

A shuffle of a billion windows would take 8 GB. A keyed permutation gives the window at each place
from the place and the key alone, so that every process of a run finds its own windows by itself.
"""

from __future__ import annotations

import math

import numpy as np

ROUNDS = 6
"""More than the four from which such a network is a pseudo-random permutation (Luby & Rackoff)."""


class KeyedPermutation:
    """A permutation of 0 .. n-1: a Feistel network over pairs, walked until inside the range.

    The network works on pairs of numbers below the root of n, with addition instead of exclusive
    or, so that few places fall outside (Black & Rogaway 2002, "Ciphers with arbitrary finite
    domains"). Its rounds are SplitMix64's mixer (Steele et al. 2014) with a key each: even enough
    for an order of training, no secret.
    """

    def __init__(self, n: int, key: bytes) -> None:
        """Of ``n`` numbers, at least one; ``key`` has eight bytes for each round."""
        if n < 1 or len(key) < 8 * ROUNDS:
            raise ValueError("a keyed permutation needs a number and 8 bytes of key a round")
        self.n = n
        self._root = np.uint64(math.isqrt(n - 1) + 1)
        self._keys = np.frombuffer(key, "<u8", ROUNDS)

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, places: np.ndarray) -> np.ndarray:
        """The numbers at ``places``, whole numbers (B,) below n; (B,) int64."""
        numbers = self._network(np.asarray(places, np.uint64))  # (B,)
        while (outside := numbers >= self.n).any():
            numbers[outside] = self._network(numbers[outside])
        return numbers.astype(np.int64)

    def _network(self, numbers: np.ndarray) -> np.ndarray:
        left, right = np.divmod(numbers, self._root)  # (B,) each
        for key in self._keys:
            left, right = right, (left + _mix(right ^ key)) % self._root  # wraps at 2^64, evenly
        return left * self._root + right


def _mix(x: np.ndarray) -> np.ndarray:
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
