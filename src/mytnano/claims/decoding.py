"""What sharing keys and values does to the speed of writing, at the size of the log's models.

Untrained models are timed, for time does not depend on what weights or cached values are: the cache
is told that it holds a text, whose keys and values are zeros, and tokens are written after it.
Designs take strict turns, on a machine that is quiet.
"""

from __future__ import annotations

import statistics
import time
from functools import partial
from typing import Any

import torch

from mytnano.claims.costs import check_quiet, median_and_ends, of_width
from mytnano.environment import environment
from mytnano.inference.generate import read_next, read_whole
from mytnano.measure.turns import in_turns
from mytnano.model.cache import Cache, kv_bytes_per_token
from mytnano.model.init import initialise
from mytnano.model.transformer import Transformer

WIDTH, HEADS, VOCABULARY = 128, 8, 1024
KV_HEADS = {"mha": 8, "gqa": 4, "mqa": 1}
"""Those of the log's stage 07."""

CONDITIONS = ((1, 256), (1, 4096), (64, 256), (64, 4096))
"""Texts written at a time, and positions of each."""

TOKENS = 16
"""Written in every round."""
ROUNDS = 7


def measure_decoding(device: str) -> dict[str, Any]:
    """Race the designs under every condition; some minutes on two cores.

    Returns:
        ``rows`` of ``{"design", "texts", "positions", "kv_bytes_per_token", "tokens_per_second"}``
        of all texts together, and ``speed_up`` over ``mha``: median, low and high of the rounds.

    Raises:
        UserError: the machine does something else.
    """
    check_quiet()
    rows = []
    for texts, positions in CONDITIONS:
        models = {name: untrained(heads, positions, device) for name, heads in KV_HEADS.items()}
        times = in_turns(
            {name: partial(seconds, model, texts, positions) for name, model in models.items()},
            ROUNDS,
        )
        for name, taken in times.items():
            ratios = [a / b for a, b in zip(times["mha"], taken, strict=True)]
            rows.append(
                {
                    "design": name,
                    "texts": texts,
                    "positions": positions,
                    "kv_bytes_per_token": kv_bytes_per_token(models[name].config),
                    "tokens_per_second": texts * TOKENS / statistics.median(taken),
                    "speed_up": median_and_ends(ratios),
                }
            )
    return {
        "rows": rows,
        "tokens": TOKENS,
        "rounds": ROUNDS,
        "threads": torch.get_num_threads(),
        "environment": environment(device, "fp32"),
    }


def untrained(kv_heads: int, positions: int, device: str) -> Transformer:
    """A model of the log's size with so many key and value heads."""
    config = of_width(WIDTH, VOCABULARY, positions, "fp32", device).model
    model = Transformer(config.but(heads=HEADS, kv_heads=kv_heads))
    initialise(model, seed=0)
    return model.eval().to(device)


def seconds(model: Transformer, texts: int, positions: int) -> float:
    """Of writing :data:`TOKENS` ids to the end of windows that are full otherwise."""
    cache = Cache([1] * texts, positions)
    read_whole(model, [[0]] * texts, cache)
    cache.lengths = [positions - TOKENS] * texts
    begun = time.perf_counter()
    for _ in range(TOKENS):
        read_next(model, [0] * texts, cache)
    return time.perf_counter() - begun
