"""Normalisation of each position on its own."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mytnano.config import ModelConfig, is_own
from mytnano.model.own import build_own

EPS = 1e-5


class RMSNorm(nn.Module):
    """x / rms(x) * gain, over the last dimension (Zhang & Sennrich 2019).

    Without a gain it is what nanochat and modded-nanogpt use.
    """

    def __init__(self, width: int, gain: bool = True) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width)) if gain else None  # (D,)

    def forward(self, x: Tensor) -> Tensor:
        return rms_norm(x, self.weight)  # (B, T, D)


def rms_norm(x: Tensor, weight: Tensor | None = None) -> Tensor:
    """x / rms(x) over the last dimension, times ``weight`` if there is one.

    Args:
        x: (..., D). weight: (D,).
    """
    if x.device.type == "cpu" and not _batchable:
        return _RMSNorm.apply(x, weight)  # (..., D)
    return F.rms_norm(x, x.shape[-1:], weight, EPS)  # (..., D)


_batchable = False


@contextlib.contextmanager
def batchable() -> Iterator[None]:
    """Within it a norm is PyTorch's own operation on a CPU too: ``torch.vmap`` knows no other."""
    global _batchable
    before, _batchable = _batchable, True
    try:
        yield
    finally:
        _batchable = before


class _RMSNorm(torch.autograd.Function):
    """PyTorch composes bf16 RMSNorm on a CPU of eight fp32 operations; these are 2.4x faster.

    In bf16 1 / rms(x) is rounded before the product, which PyTorch's is not: a relative error of up
    to 2^-9, the same for all channels of a position.
    """

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor | None) -> Tensor:
        norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=torch.float32)  # (B, T, 1)
        scale = norm.square_().div_(x.shape[-1]).add_(EPS).rsqrt_().to(x.dtype)  # (B, T, 1)
        unit = x * scale  # (B, T, D)
        ctx.save_for_backward(unit, weight, scale)
        return unit if weight is None else unit * weight

    @staticmethod
    def backward(ctx, grad: Tensor):
        unit, weight, scale = ctx.saved_tensors
        grad_unit = grad if weight is None else grad * weight  # (B, T, D)
        along = torch.linalg.vecdot(grad_unit, unit).unsqueeze(-1) / unit.shape[-1]  # (B, T, 1)
        grad_x = torch.addcmul(grad_unit, unit, along, value=-1).mul_(scale)  # (B, T, D)
        if weight is None:
            return grad_x, None
        grad_weight = torch.linalg.vecdot(grad.flatten(0, -2), unit.flatten(0, -2), dim=0)  # (D,)
        return grad_x, grad_weight


def build_norm(config: ModelConfig) -> nn.Module | None:
    """LayerNorm (Ba et al. 2016), RMSNorm, a user's own, or nothing.

    ``norm_gain`` is about ours: without it they have no parameters.
    """
    if config.norm == "none":
        return None
    if is_own(config.norm):
        return build_own(config.norm, config.width)
    if config.norm == "layernorm":
        return nn.LayerNorm(config.width, eps=EPS, elementwise_affine=config.norm_gain)
    return RMSNorm(config.width, config.norm_gain)
