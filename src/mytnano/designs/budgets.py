"""How much each budget trains and measures, as data: the same command, the same numbers."""

from __future__ import annotations

from dataclasses import dataclass

from mytnano.config import RunConfig

MIB = 2**20

BATCH_WINDOWS = 4
"""Windows of one step, 1 KiB of text: here many small steps learn more than few large ones."""


WHOLE_TEXT = "tokenizers"
"""Group whose trained vocabularies learn from the whole training text."""


@dataclass(frozen=True)
class Budget:
    """What a ladder may spend.

    Attributes:
        train_bytes: training text of each run.
        seeds: runs of each rung of the core and of the extended groups, which share runs; the
            groups ``as-logged``, ``depth`` and ``long`` use ``other_seeds``.
        groups: what is trained when no rungs are named.
        test_bytes: test text scored; 0 is all of it, anything else is marked not comparable.
        validation_bytes: validation text scored at the end of each run; an eighth of it on the
            curve.
        depth_bytes: training text of each cell of the depth figure.
        long_bytes: training text of each run of the group ``long``.
    """

    name: str
    train_bytes: int
    seeds: int
    other_seeds: int
    groups: tuple[str, ...]
    test_bytes: int
    validation_bytes: int
    depth_bytes: int
    long_bytes: int

    def bytes_of(self, group: str) -> int:
        """Training text of each run of a group of rungs."""
        own = {"depth": self.depth_bytes, "long": self.long_bytes}
        return own.get(group, self.train_bytes)

    def seeds_of(self, group: str) -> int:
        """Runs of each rung of a group."""
        return self.other_seeds if group in ("as-logged", "depth", "long") else self.seeds

    @property
    def comparable(self) -> bool:
        """Whether all of the test text is scored; other scores must not be compared with it."""
        return self.test_bytes == 0


def text_size(count: float) -> str:
    """An amount of training text: ``256 KiB``, ``40 MiB``."""
    large = count >= 999.5 * 1024
    return f"{count / MIB:.3g} MiB" if large else f"{count / 1024:.3g} KiB"


LOGGED = ("core", "as-logged")
"""Groups of the log's own rows."""

ALL = (*LOGGED, "depth", "long")

BUDGETS = {
    budget.name: budget
    for budget in (
        Budget("smoke", MIB // 32, 1, 1, ("core",), 65_536, 32_768, MIB // 32, MIB // 32),
        Budget("quick", MIB, 2, 1, LOGGED, 0, MIB // 4, MIB // 4, MIB),
        Budget("standard", 2 * MIB, 5, 2, ALL, 0, MIB // 4, MIB // 2, 40 * MIB),
    )
}


def apply(config: RunConfig, budget: Budget, group: str) -> RunConfig:
    """The config under a budget.

    A trained tokenizer learns from as many bytes as the run trains on, 1 MiB at least; those of
    the group ``tokenizers`` from all of the training text, which the largest of them need.
    """
    size = budget.bytes_of(group)
    learned = config.data.tokenizer.startswith("bpe:") and group != WHOLE_TEXT
    return config.but(
        data={"tokenizer_bytes": max(size, MIB) if learned else 0},
        train={
            "train_bytes": size,
            "batch_windows": config.train.batch_windows if group == "long" else BATCH_WINDOWS,
            "test_bytes": budget.test_bytes,
            "score_test": group != "depth",
            "validation_bytes": budget.validation_bytes,
            "curve_bytes": budget.validation_bytes // 8,
        },
    )
