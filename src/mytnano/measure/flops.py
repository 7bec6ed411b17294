"""Counted floating-point operations: two per multiply-add, backward twice the forward.

The head counts; look-ups and element-wise work (norms, caps, skips, biases) are free. Causal
attention is counted as what must be computed (half of the T x T scores), not what a given kernel
computes. Counting the head matters: laws fitted to small models bend without it (Porian et al.
2024).
"""

from __future__ import annotations

import functools

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from mytnano.config import ModelConfig, is_own
from mytnano.model.own import build_own
from mytnano.model.transformer import GATED


def forward_flops_per_token(model: ModelConfig) -> float:
    """Average over the positions of a full window of ``model.context`` tokens."""
    head = 2 * model.width * model.vocab_size
    places = own_flops(model.positions, model) if is_own(model.positions) else 0
    blocks = model.layers * (_mixer(model) + _feed_forward(model))
    return head + places + blocks + _norms(model)


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
def own_flops(reference: str, model: ModelConfig, argument: int | None = None) -> float:
    """Forward operations a token of a user's module, over a whole window.

    PyTorch counts the matrix products in windows of T and of T/2 tokens. What grows with the square
    of T is charged by half, as our own attention is, whose other half nobody needs; attention
    counts as its products whichever kernel computes it. Element-wise work is free, here as there.

    Args:
        argument: what the module is made with instead of the config: a norm's width.
    """
    module = build_own(reference, model if argument is None else argument).eval()
    T, half = model.context, max(1, model.context // 2)
    whole, part = (_counted(module, length, model.width) for length in (T, half))  # a token each
    square = (whole - part) / (T - half) if half < T else 0.0
    return whole - max(0.0, square) * T / 2


def _counted(module: torch.nn.Module, length: int, width: int) -> float:
    x = torch.zeros(1, length, width)  # (1, T, D)
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        module(x)
    return counter.get_total_flops() / length


def _norms(model: ModelConfig) -> float:
    """Users' norms; ours have no matrix products."""
    if not is_own(model.norm):
        return 0
    each = 2 if model.norm_place == "sandwich" else 1
    count = model.layers * (1 + (model.ffn != "none")) * each + model.embedding_norm
    count += model.layers > 0 and model.norm_place != "post"
    return count * own_flops(model.norm, model, model.width) if count else 0
