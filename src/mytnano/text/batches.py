"""Which windows of the text a step trains on: a pure function of (seed, step).

Windows are placed by byte, not by token, so that runs with different vocabularies see the same text
in the same order; a window then holds as many tokens as ``window_bytes`` of the training text make
on average.
"""

from __future__ import annotations

import functools
import hashlib

import numpy as np

from mytnano.errors import UserError
from mytnano.text.order import ROUNDS, KeyedPermutation
from mytnano.text.stream import Stream

LARGEST_SHUFFLE = 1 << 20
"""Windows of a stream on disk whose order is still shuffled in memory, as that of any corpus is."""

MOST_PAIRS = 1 << 26
"""Pairs that :meth:`Windows.pairs` returns at most, 0.5 GB."""


def tokens_per_window(stream: Stream, window_bytes: int) -> int:
    """Tokens that ``window_bytes`` bytes of this text make on average, at least two."""
    return max(2, round(window_bytes * len(stream.ids) / stream.byte_count))


def bytes_per_window(stream: Stream, context: int) -> int:
    """Bytes that ``context`` tokens of this text spell on average, at least eight."""
    return max(8, round(context * stream.byte_count / len(stream.ids)))


class Windows:
    """Training windows of one split, shuffled anew each epoch and laid from a random phase.

    Args:
        stream: the split in one vocabulary.
        window_bytes: spacing of the windows in bytes.
        context: tokens of one window (T).
        batch: windows of one step (B).
        seed, salt: choose the order; another salt gives an independent order of the same seed.

    Raises:
        UserError: the text is shorter than one window.
    """

    def __init__(
        self, stream: Stream, window_bytes: int, context: int, batch: int, seed: int, salt: str = ""
    ) -> None:
        self.stream, self.window_bytes, self.context, self.batch_size = (
            stream,
            window_bytes,
            context,
            batch,
        )
        self.key = f"data|{seed}|{salt}"
        self._bytes_before = {0: 0}  # bytes of text trained before a step
        self.per_epoch = stream.byte_count // window_bytes
        if self.per_epoch < 1 or len(stream.ids) <= context + 1:
            raise UserError(
                f"the training text has {stream.byte_count} bytes, less than one window of "
                f"{window_bytes}: give more text or a smaller data.window_bytes"
            )
        self._keyed = not stream.in_memory and self.per_epoch > LARGEST_SHUFFLE
        self._epoch = functools.lru_cache(maxsize=2)(self._shuffle)  # each run has its own order

    def starts(self, step: int, rank: int = 0, ranks: int = 1) -> np.ndarray:
        """Index of the first token of each window of a step, (B / ranks,) int64.

        Args:
            rank, ranks: one of many processes, which gets its own share: all shares, in the order
                of the ranks, are the step's windows, whatever their number.

        Raises:
            UserError: the ranks do not share the windows evenly.
        """
        if self.batch_size % ranks:
            raise UserError(
                f"{ranks} processes cannot share the {self.batch_size} windows of a step evenly: "
                "set train.batch_windows to a multiple of their number"
            )
        share = self.batch_size // ranks
        order = step * self.batch_size + rank * share + np.arange(share)  # (B / ranks,)
        epochs, places = np.divmod(order, self.per_epoch)  # (B / ranks,), (B / ranks,)
        byte = np.empty(share, np.int64)  # (B / ranks,)
        for epoch in np.unique(epochs):
            phase, permutation = self._epoch(int(epoch))
            mine = epochs == epoch
            byte[mine] = permutation[places[mine]] * self.window_bytes + phase
        first = self.stream.token_at(byte)  # (B / ranks,)
        return np.minimum(first, len(self.stream.ids) - self.context - 1)

    def batch(self, step: int, rank: int = 0, ranks: int = 1) -> tuple[np.ndarray, np.ndarray]:
        """Inputs of a step, and the same one token later as targets: (B / ranks, T) int64 each.

        Arguments as of :meth:`starts`; a process reads no windows but its own.
        """
        ids = self.stream.spans(self.starts(step, rank, ranks), self.context + 1)  # (.., T+1)
        return ids[:, :-1], ids[:, 1:]

    def tokens_and_bytes(self, steps: int) -> tuple[int, int]:
        """Tokens predicted in the first ``steps`` steps, and the bytes of text that they spell."""
        known = max(step for step in self._bytes_before if step <= steps)
        read = self._bytes_before[known]
        for step in range(known, steps):
            first = self.starts(step) + 1  # (B,)
            ends = np.minimum(first + self.context, len(self.stream.ids) - 1)  # (B,)
            read += int((self.stream.byte_at(ends) - self.stream.byte_at(first)).sum())
        self.remember(steps, read)
        return steps * self.batch_size * self.context, read

    def remember(self, steps: int, read: int) -> None:
        """Count on from here: ``read`` is what ``tokens_and_bytes(steps)`` gave before.

        A run that resumes then need not look up every window that it has seen.
        """
        self._bytes_before[steps] = read

    def pairs(self, steps: int) -> tuple[np.ndarray, np.ndarray]:
        """All (token, next token) pairs of the first ``steps`` steps: two (steps B T,) arrays.

        Of a run too long for memory, those of its first steps, :data:`MOST_PAIRS` at most.
        """
        steps = min(steps, max(1, MOST_PAIRS // (self.batch_size * self.context)))
        batches = [self.batch(step) for step in range(steps)]
        x, y = (
            np.concatenate([batch[i].astype(np.int32).ravel() for batch in batches]) for i in (0, 1)
        )
        return x, y

    def _shuffle(self, epoch: int) -> tuple[int, np.ndarray | KeyedPermutation]:
        digest = hashlib.sha256(f"{self.key}|{epoch}".encode()).digest()
        random = np.random.Generator(np.random.Philox(key=int.from_bytes(digest[:16], "little")))
        phase = int(random.integers(self.window_bytes))
        if self._keyed:
            return phase, KeyedPermutation(self.per_epoch, random.bytes(8 * ROUNDS))
        return phase, random.permutation(self.per_epoch)  # (windows,)
