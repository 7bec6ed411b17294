"""Counted floating-point operations: two per multiply-add, backward twice the forward.

The head counts, look-ups are free. Causal attention is counted as what must be computed (half of
the T x T scores), not what a given kernel computes. Counting the head matters: laws fitted to small
models bend without it (Porian et al. 2024).
"""

from __future__ import annotations

from mytnano.config import ModelConfig
from mytnano.model.transformer import GATED


def forward_flops_per_token(model: ModelConfig) -> float:
    """Average over the positions of a full window of ``model.context`` tokens."""
    head = 2 * model.width * model.vocab_size
    return head + model.layers * (_mixer(model) + _feed_forward(model))


def training_flops(model: ModelConfig, tokens: int) -> float:
    """Forward and backward over ``tokens`` tokens."""
    return 3 * forward_flops_per_token(model) * tokens


def _mixer(model: ModelConfig) -> float:
    if model.mixer == "mean":
        return 2 * model.width
    kv_width = model.width * model.kv_heads // model.heads
    projections = 2 * model.width * (2 * model.width + 2 * kv_width)
    scores_and_values = 4 * model.width * model.context / 2
    return projections + scores_and_values


def _feed_forward(model: ModelConfig) -> float:
    if model.ffn == "none":
        return 0
    return 2 * model.width * model.ffn_width * (3 if model.ffn in GATED else 2)
