"""Steps that would harm the run: a loss that is no number, or far above its recent course.

Such a step is skipped, as PaLM skipped the batches around a spike (Chowdhery et al. 2022): its
gradients are dropped and the next batch is taken. Several in a row are no accident, and the run
stops.
"""

from __future__ import annotations

import math
import statistics
from typing import Any

RECENT = 64
"""Losses from which the median and the spread are taken."""

FEWEST = 16
"""Losses needed before anything but a loss that is no number counts as a spike."""

PATIENCE = 5
"""Skipped steps in a row after which the run stops."""

FLOOR = 0.01
"""Least spread, as a share of the median: a loss that hardly moves has next to none."""


class Guard:
    """Decides on each step, from the losses of the steps before it.

    Args:
        spreads: how many spreads (1.4826 times the median absolute deviation, which is the standard
            deviation of a normal distribution) above the median is a spike.
        state: what :attr:`state` was when the run was interrupted. If it had stopped the run, the
            patience starts anew.
    """

    def __init__(self, spreads: float, state: dict[str, Any] | None = None) -> None:
        self.spreads = spreads
        self.state: dict[str, Any] = state or {"recent": [], "skipped": 0, "in_a_row": 0}
        if self.exhausted:
            self.state["in_a_row"] = 0

    def accepts(self, loss: float, norm: float) -> bool:
        """Whether a step of this loss and gradient norm is to be made; counted either way."""
        state = self.state
        if self._harms(loss, norm):
            state["skipped"] += 1
            state["in_a_row"] += 1
            return False
        state["in_a_row"] = 0
        state["recent"] = [*state["recent"], loss][-RECENT:]
        return True

    @property
    def exhausted(self) -> bool:
        """Whether so many steps in a row were skipped that the run must stop."""
        return self.state["in_a_row"] >= PATIENCE

    def _harms(self, loss: float, norm: float) -> bool:
        if not (math.isfinite(loss) and math.isfinite(norm)):
            return True
        recent = self.state["recent"]
        if len(recent) < FEWEST:
            return False
        median = statistics.median(recent)
        spread = 1.4826 * statistics.median(abs(each - median) for each in recent)
        return loss > median + self.spreads * max(spread, FLOOR * median)
