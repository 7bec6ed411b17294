"""The runs of a forecast: sizes and budgets of text, crossed as far as compute allows."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from mytnano.config import RunConfig
from mytnano.designs.baselines import starting_design
from mytnano.designs.rates import BYTES_EXPONENT
from mytnano.errors import unknown
from mytnano.words import rounded

KIB, MIB = 1 << 10, 1 << 20


@dataclass(frozen=True)
class Size:
    """The shape of one model; four times its width in the feed-forward network."""

    width: int
    layers: int
    heads: int

    @property
    def name(self) -> str:
        return f"d{self.width}"


@dataclass(frozen=True)
class Ladder:
    """The runs of one forecast.

    Attributes:
        budgets: size -> bytes of text of its runs.
        held_out: the cell that the gate is tried on, four to eight times the compute of any other.
        seeds: runs of every cell.
        tuned: sizes whose learning rate is tuned, on ``tuned_bytes``; the others' lies between, by
            width. Empty: ``lr`` at width 64 on ``tuned_bytes``, lower for wider models.
        tokenizer, batch_windows: of all runs. test_bytes, validation_bytes: what each is scored on.
    """

    name: str
    budgets: Mapping[Size, tuple[int, ...]]
    held_out: tuple[Size, int]
    seeds: int
    tuned: tuple[Size, ...]
    tuned_bytes: int
    lr: float
    tokenizer: str
    batch_windows: int
    test_bytes: int
    validation_bytes: int

    @property
    def cells(self) -> list[tuple[Size, int]]:
        """(size, bytes) of every cell, the held-out one last."""
        return [
            *((size, count) for size, counts in self.budgets.items() for count in counts),
            self.held_out,
        ]

    @property
    def longest(self) -> int:
        """Bytes of the longest run: as much text is needed, for none may be read twice."""
        return max(count for _, count in self.cells)


def _megabytes(*counts: float) -> tuple[int, ...]:
    return tuple(round(count * MIB) for count in counts)


D48, D64, D96, D128, D160 = (
    Size(48, 2, 4), Size(64, 3, 4), Size(96, 3, 4), Size(128, 4, 4), Size(160, 4, 5),
)  # fmt: skip
D16, D24, D32 = Size(16, 1, 2), Size(24, 2, 2), Size(32, 2, 2)

LADDERS = {
    ladder.name: ladder
    for ladder in (
        Ladder(
            "smoke",
            dict.fromkeys((D16, D24, D32), (32 * KIB, 64 * KIB, 128 * KIB)),
            (D32, 512 * KIB), seeds=2, tuned=(), tuned_bytes=64 * KIB, lr=4e-3,
            tokenizer="bpe:512", batch_windows=4, test_bytes=65_536, validation_bytes=32_768,
        ),
        Ladder(
            "full",
            {
                D48: _megabytes(1.5, 3, 6, 12, 24),
                D64: _megabytes(1.5, 3, 6, 12),
                D96: _megabytes(1.5, 3, 6),
                D128: _megabytes(0.75, 1.5, 3),
                D160: _megabytes(0.75, 1.5),
            },
            (D160, 12 * MIB), seeds=2, tuned=(D48, D96, D160), tuned_bytes=3 * MIB // 2, lr=4e-3,
            tokenizer="bpe:1024", batch_windows=8, test_bytes=MIB, validation_bytes=MIB // 4,
        ),
    )
}  # fmt: skip
"""``full``: 0.1 to 1.4 million weights in matrices and head. ``smoke`` shows the way, and its
forecast means nothing."""


def ladder_named(name: str) -> Ladder:
    """Raises UserError if there is no such budget."""
    if name not in LADDERS:
        raise unknown(name, "a budget", LADDERS)
    return LADDERS[name]


def config_of(ladder: Ladder, size: Size, count: int, lr: float, seed: int) -> RunConfig:
    """The run of a cell, not yet resolved; every other setting is alike in all of them."""
    return starting_design("small").but(
        model={
            "width": size.width,
            "layers": size.layers,
            "heads": size.heads,
            "kv_heads": size.heads,
            "ffn_width": 4 * size.width,
        },
        data={"tokenizer": ladder.tokenizer, "tokenizer_bytes": 8 * MIB},
        optim={"lr": lr, "final_lr": 0.0},
        train={
            "train_bytes": count,
            "batch_windows": ladder.batch_windows,
            "seed": seed,
            "evaluations": 4,
            "curve_bytes": ladder.validation_bytes // 8,
            "validation_bytes": ladder.validation_bytes,
            "test_bytes": ladder.test_bytes,
        },
    )


def cell_rate(
    ladder: Ladder, size: Size, count: int, tuned: Mapping[Size, float] | None = None
) -> float:
    """Of a cell: tuned rates, between them a straight line of logarithms; falling with length."""
    if tuned:
        widths, rates = zip(
            *sorted((each.width, rate) for each, rate in tuned.items()), strict=True
        )
        at_base = math.exp(_between(math.log(size.width), [*map(math.log, widths)], rates))
    else:
        at_base = ladder.lr * (64 / size.width) ** 0.5
    return rounded(at_base * (count / ladder.tuned_bytes) ** BYTES_EXPONENT)


def _between(place: float, places: list[float], rates: tuple[float, ...]) -> float:
    """Log rate at a place, from ascending places; beyond them that of the nearest."""
    return float(np.interp(place, places, np.log(rates)))
