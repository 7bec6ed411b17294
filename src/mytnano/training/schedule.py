"""Learning rate as a function of the step."""

from __future__ import annotations

import math

from mytnano.config import OptimConfig


def learning_rate(optim: OptimConfig, step: int, steps: int) -> float:
    """The rate of a 0-based step: linear warmup, then constant or half a cosine.

    The warmup never starts at zero and the cosine ends at ``final_lr`` of the peak on the last step
    (Loshchilov & Hutter 2017).
    """
    warmup = round(optim.warmup * steps)
    if step < warmup:
        return optim.lr * (step + 1) / (warmup + 1)
    if optim.schedule == "constant":
        return optim.lr
    progress = (step - warmup) / max(1, steps - 1 - warmup)
    share = (1 + math.cos(math.pi * progress)) / 2
    return optim.lr * (optim.final_lr + (1 - optim.final_lr) * share)
