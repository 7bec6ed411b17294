"""Normalisation of each position on its own."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mytnano.config import ModelConfig, is_own
from mytnano.model.own import build_own

EPS = 1e-5


class RMSNorm(nn.Module):
    """x / rms(x) * gain, over the last dimension (Zhang & Sennrich 2019)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))  # (D,)

    def forward(self, x: Tensor) -> Tensor:
        if x.device.type == "cpu":
            return _RMSNorm.apply(x, self.weight)  # (B, T, D)
        return F.rms_norm(x, x.shape[-1:], self.weight, EPS)  # (B, T, D)


class _RMSNorm(torch.autograd.Function):
    """PyTorch composes bf16 RMSNorm on a CPU of eight fp32 operations; these are 2.4x faster."""

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor) -> Tensor:
        norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=torch.float32)  # (B, T, 1)
        scale = norm.square_().div_(x.shape[-1]).add_(EPS).rsqrt_().to(x.dtype)  # (B, T, 1)
        unit = x * scale  # (B, T, D)
        ctx.save_for_backward(unit, weight, scale)
        return unit * weight

    @staticmethod
    def backward(ctx, grad: Tensor):
        unit, weight, scale = ctx.saved_tensors
        grad_unit = grad * weight  # (B, T, D)
        along = torch.linalg.vecdot(grad_unit, unit).unsqueeze(-1) / unit.shape[-1]  # (B, T, 1)
        grad_x = torch.addcmul(grad_unit, unit, along, value=-1).mul_(scale)  # (B, T, D)
        grad_weight = torch.linalg.vecdot(grad.flatten(0, -2), unit.flatten(0, -2), dim=0)  # (D,)
        return grad_x, grad_weight


def build_norm(config: ModelConfig) -> nn.Module | None:
    """LayerNorm (Ba et al. 2016), RMSNorm, a user's own, or nothing."""
    if config.norm == "none":
        return None
    if is_own(config.norm):
        return build_own(config.norm, config.width)
    return (
        nn.LayerNorm(config.width, eps=EPS) if config.norm == "layernorm" else RMSNorm(config.width)
    )
