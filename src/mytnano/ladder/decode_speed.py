"""What sharing keys and values saves when text is written: the cache of a token, tokens a second.

The finished runs of the group ``kv-heads`` write greedily with their caches, several texts at a
time, in the windows that they were trained on and in long ones, where the cache weighs: rotary
positions need no table, so the same weights run at any length. What they write there is not
looked at, only the time, from the first token to the last: reading the prompt is not in it. Runs
take strict turns, and a speed is the median over the rounds, on the threads of a run of the ladder,
in fp32.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from mytnano.config import ModelConfig
from mytnano.designs.budgets import Budget
from mytnano.designs.groups import WIDER_GROUPS, members_of
from mytnano.environment import environment
from mytnano.inference.generate import generate
from mytnano.inference.load import load_run
from mytnano.kept import kept
from mytnano.ladder.cells import Where
from mytnano.measure.turns import in_turns
from mytnano.model.cache import kv_bytes_per_token
from mytnano.model.transformer import Transformer
from mytnano.run_files import DECODE

GROUP = "kv-heads"
ROWS = 8
"""Texts written at a time."""

LONG, SHORT_LONG = 2048, 256
"""Positions of the long window; the second where the budget only shows that everything works."""

PROMPT = 3, 4
"""Share of a window that is read before writing begins."""

ROUNDS = 5


def decode_speed(where: Where, budget: Budget, rows: Sequence[dict[str, Any]]) -> None:
    """Measure the group's first runs once, if results hold at least two of its rungs.

    Args:
        rows: of the results.
    """
    group = WIDER_GROUPS[GROUP]
    first = {row["rung"]: row for row in reversed(rows) if row["rung"] in group.ids}
    if len(first) < 2 or not set(members_of(group)) & set(first):
        return
    folders = {id: where.out / first[id]["folder"] for id in group.ids if id in first}
    length, rounds = (LONG, ROUNDS) if budget.comparable else (SHORT_LONG, 2)
    conditions = [length, rounds, ROWS, PROMPT, [first[id]["config_hash"] for id in folders]]
    kept(
        where.out / DECODE,
        conditions,
        lambda: measure(folders, length, rounds) | {"environment": environment("cpu", "fp32")},
    )


def measure(folders: dict[str, Path], length: int, rounds: int) -> dict[str, Any]:
    """Race finished runs at their own window's length and at ``length`` positions.

    Returns:
        ``rows`` of ``{"rung", "positions", "prompt", "new", "kv_bytes_per_token",
        "tokens_per_second"}``, tokens of all texts together; and the conditions.
    """
    runs = {id: load_run(folder).model for id, folder in folders.items()}
    own = min(model.config.context for model in runs.values())
    found = []
    for positions in (own, length):
        models = {id: with_context(model, positions) for id, model in runs.items()}
        prompt = positions * PROMPT[0] // PROMPT[1]
        new = positions - prompt
        times = in_turns(
            {id: partial(seconds, model, prompt, new) for id, model in models.items()}, rounds
        )
        found += [
            {
                "rung": id,
                "positions": positions,
                "prompt": prompt,
                "new": new,
                "kv_bytes_per_token": kv_bytes_per_token(model.config),
                "tokens_per_second": ROWS * (new - 1) / statistics.median(times[id]),
            }
            for id, model in models.items()
        ]
    return {"rows": found, "texts": ROWS, "rounds": rounds, "threads": torch.get_num_threads()}


def with_context(model: Transformer, positions: int) -> Transformer:
    """The same weights in windows of another length."""
    config: ModelConfig = model.config.but(context=positions)
    other = Transformer(config)
    other.load_state_dict(model.state_dict())
    return other.eval()


def seconds(model: Transformer, prompt: int, new: int) -> float:
    """Seconds that ``new`` ids take after a prompt of so many in every row, the first id aside."""
    generator = torch.Generator().manual_seed(0)
    shape = (ROWS, prompt)
    ids = torch.randint(0, model.config.vocab_size, shape, generator=generator)  # (B, P)
    steps = generate(model, ids.tolist(), new)
    next(steps)
    begun = time.perf_counter()
    for _ in steps:
        pass
    return time.perf_counter() - begun
