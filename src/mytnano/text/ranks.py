"""Byte pair encoding by tiktoken's engine, of any vocabulary whose ids are in the order of merges.

tiktoken merges the neighbours whose joint bytes have the lowest id. That is what the merges say, if
each makes the next id: two neighbours that spell a token are then always the two that it was made
of, for had they been split in another way, an earlier merge would have joined other pieces of them.
"""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import tiktoken

MOST_SPACES = 500_000
"""White space in a row that is read as one; tiktoken's engine ends in a panic at a million."""
_SPACES = re.compile(rf"\s{{{MOST_SPACES}}}")


class RankEncoder:
    """Strings to ids."""

    def __init__(self, name: str, pattern: str, tokens: Sequence[bytes]) -> None:
        """``tokens`` in the order of their ids; ``pattern`` splits text before it is merged."""
        ranks = {token: id for id, token in enumerate(tokens)}
        self.engine = tiktoken.Encoding(
            name, pat_str=pattern, mergeable_ranks=ranks, special_tokens={}
        )

    def __call__(self, strings: list[str]) -> list[np.ndarray]:
        """Ids (n,) int32 of each string; several run in threads, as tiktoken drops the GIL."""
        if len(strings) < 2:
            return [self._encode(string) for string in strings]
        with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
            return list(pool.map(self._encode, strings))

    def _encode(self, string: str) -> np.ndarray:
        encoded = [self.engine.encode_to_numpy(p, disallowed_special=()) for p in _parts(string)]
        return np.concatenate(encoded).astype(np.int32)


def _parts(string: str) -> list[str]:
    """The string, cut behind every :data:`MOST_SPACES` of white space in a row."""
    cuts = [0, *(match.end() for match in _SPACES.finditer(string)), len(string)]
    return [string[start:end] for start, end in itertools.pairwise(cuts)]
