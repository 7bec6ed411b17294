"""Learning rate as a function of the step."""

from __future__ import annotations

import math

from mytnano.config import OptimConfig


def learning_rate(optim: OptimConfig, step: int, steps: int) -> float:
    """The rate of a 0-based step: linear warmup, then one of

    * ``constant``;
    * ``cosine``: half a cosine (Loshchilov & Hutter 2017);
    * ``linear``: a straight line (Bergsma et al. 2025);
    * ``wsd``: constant, then a straight line over the last ``decay`` of the steps (Hu et al. 2024).

    The warmup never starts at zero, and a decay ends at ``final_lr`` of the peak on the last step.
    """
    warmup = round(optim.warmup * steps)
    if step < warmup:
        return optim.lr * (step + 1) / (warmup + 1)
    if optim.schedule == "constant":
        return optim.lr
    rest = steps - 1 - warmup  # steps from the peak to the last one
    if optim.schedule == "wsd":
        rest = min(rest, round(optim.decay * steps))
    progress = max(0, step - (steps - 1 - rest)) / max(1, rest)
    share = (1 + math.cos(math.pi * progress)) / 2 if optim.schedule == "cosine" else 1 - progress
    return optim.lr * (optim.final_lr + (1 - optim.final_lr) * share)
