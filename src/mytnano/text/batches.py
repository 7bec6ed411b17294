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
from mytnano.text.stream import Stream


def tokens_per_window(stream: Stream, window_bytes: int) -> int:
    """Tokens that ``window_bytes`` bytes of this text make on average, at least two."""
    return max(2, round(window_bytes * len(stream.ids) / stream.byte_count))


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
        self._bytes_before = [0]  # bytes of text trained before each step
        self.per_epoch = stream.byte_count // window_bytes
        if self.per_epoch < 1 or len(stream.ids) <= context + 1:
            raise UserError(
                f"the training text has {stream.byte_count} bytes, less than one window of "
                f"{window_bytes}: give more text or a smaller data.window_bytes"
            )

    def starts(self, step: int) -> np.ndarray:
        """Index of the first token of each window of a step, (B,) int64."""
        order = np.arange(step * self.batch_size, (step + 1) * self.batch_size)  # (B,)
        epochs, places = np.divmod(order, self.per_epoch)  # (B,), (B,)
        byte = np.empty(self.batch_size, np.int64)  # (B,)
        for epoch in np.unique(epochs):
            phase, permutation = self._epoch(int(epoch))
            mine = epochs == epoch
            byte[mine] = permutation[places[mine]] * self.window_bytes + phase
        first = np.searchsorted(self.stream.offsets, byte)  # (B,)
        return np.minimum(first, len(self.stream.ids) - self.context - 1)

    def batch(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        """Inputs of a step, and the same one token later as targets: (B, T) int64 each."""
        span = self.starts(step)[:, None] + np.arange(self.context + 1)  # (B, T+1)
        ids = self.stream.ids[span].astype(np.int64)  # (B, T+1)
        return ids[:, :-1], ids[:, 1:]

    def tokens_and_bytes(self, steps: int) -> tuple[int, int]:
        """Tokens predicted in the first ``steps`` steps, and the bytes of text that they spell."""
        for step in range(len(self._bytes_before) - 1, steps):
            first = self.starts(step) + 1  # (B,)
            ends = np.minimum(first + self.context, len(self.stream.offsets) - 1)  # (B,)
            read = int((self.stream.offsets[ends] - self.stream.offsets[first]).sum())
            self._bytes_before.append(self._bytes_before[-1] + read)
        return steps * self.batch_size * self.context, self._bytes_before[steps]

    def pairs(self, steps: int) -> tuple[np.ndarray, np.ndarray]:
        """All (token, next token) pairs of the first ``steps`` steps: two (steps B T,) arrays."""
        batches = [self.batch(step) for step in range(steps)]
        x, y = (
            np.concatenate([batch[i].astype(np.int32).ravel() for batch in batches]) for i in (0, 1)
        )
        return x, y

    @functools.lru_cache(maxsize=2)  # noqa: B019 - an instance lives as long as its run
    def _epoch(self, epoch: int) -> tuple[int, np.ndarray]:
        digest = hashlib.sha256(f"{self.key}|{epoch}".encode()).digest()
        random = np.random.Generator(np.random.Philox(key=int.from_bytes(digest[:16], "little")))
        phase = int(random.integers(self.window_bytes))
        return phase, random.permutation(self.per_epoch)  # (windows,)
