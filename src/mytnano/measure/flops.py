"""Counted floating-point operations: two per multiply-add, backward twice the forward.

The head counts, look-ups are free. Causal attention is counted as what must be computed (half of
the T x T scores), not what a given kernel computes. Counting the head matters: laws fitted to small
models bend without it (Porian et al. 2024).
"""

from __future__ import annotations

import functools

import torch
from torch.utils.flop_counter import FlopCounterMode

from mytnano.config import ModelConfig, is_own
from mytnano.model.own import build_own
from mytnano.model.transformer import GATED


def forward_flops_per_token(model: ModelConfig) -> float:
    """Average over the positions of a full window of ``model.context`` tokens."""
    head = 2 * model.width * model.vocab_size
    places = own_flops(model.positions, model) if is_own(model.positions) else 0
    return head + places + model.layers * (_mixer(model) + _feed_forward(model))


def training_flops(model: ModelConfig, tokens: int) -> float:
    """Forward and backward over ``tokens`` tokens."""
    return 3 * forward_flops_per_token(model) * tokens


def _mixer(model: ModelConfig) -> float:
    if is_own(model.mixer):
        return own_flops(model.mixer, model)
    if model.mixer == "mean":
        return 2 * model.width
    kv_width = model.width * model.kv_heads // model.heads
    projections = 2 * model.width * (2 * model.width + 2 * kv_width)
    scores_and_values = 4 * model.width * model.context / 2
    return projections + scores_and_values


def _feed_forward(model: ModelConfig) -> float:
    if model.ffn == "none":
        return 0
    if is_own(model.ffn):
        return own_flops(model.ffn, model)
    return 2 * model.width * model.ffn_width * (3 if model.ffn in GATED else 2)


@functools.lru_cache(maxsize=64)
def own_flops(reference: str, model: ModelConfig) -> float:
    """Forward operations a token of a user's module, as PyTorch counts those of a whole window."""
    module = build_own(reference, model)
    x = torch.zeros(1, model.context, model.width)  # (1, T, D)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        module(x)
    return counter.get_total_flops() / model.context
