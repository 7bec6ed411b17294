"""What a run that one waits for needs besides its config: none of it moves a number of the run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol


class Recorder(Protocol):
    """Somewhere that the curve goes to while it is drawn; see :mod:`mytnano.training.recorders`."""

    def point(self, point: Mapping[str, Any]) -> None:
        """Take a line of ``metrics.jsonl``."""

    def sample(self, step: int, prompt: str, text: str) -> None:
        """Take what the model wrote after ``step`` steps."""

    def close(self, result: Mapping[str, Any] | None) -> None:
        """Flush; ``result`` is None for a run that is interrupted."""


@dataclass(frozen=True)
class Progress:
    """Where a run is: ``loss`` in nats per token, the last ``validation_bpb`` in bits per byte."""

    step: int
    steps: int
    loss: float
    validation_bpb: float | None
    tokens_per_second: float


OnProgress = Callable[[Progress], None]


def unseen(progress: Progress) -> None:
    """Ignore progress reports."""


@dataclass(frozen=True)
class Care:
    """How a run is looked after.

    Attributes:
        checkpoint_seconds: between two checkpoints; None for the loop's own.
        log_points: points of the curve at most.
        recorders: who hears of them, besides the run's own file.
        prompts: texts that the model continues after every quarter of the steps.
        save_at_end: keep a checkpoint of the last step while the run is measured.
        started: called before the first step, with the steps that an earlier command made.
        stopping: asked after every step; True saves a checkpoint and raises KeyboardInterrupt.
        trained: called after the last step, before the model is measured.
        say: gets a sentence when something happens that one should know.
    """

    checkpoint_seconds: float | None = None
    log_points: int = 200
    recorders: Sequence[Recorder] = ()
    prompts: tuple[str, ...] = ()
    save_at_end: bool = False
    started: Callable[[int], None] = lambda step: None
    stopping: Callable[[], bool] = lambda: False
    trained: Callable[[], None] = lambda: None
    say: Callable[[str], None] = lambda sentence: None
