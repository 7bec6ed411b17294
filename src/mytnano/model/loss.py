"""Cross-entropy of a large vocabulary without its logits in memory.

Logits are formed for a chunk of rows at a time, and turned into gradients at once, in the forward
pass, so that no chunk is kept or computed twice (the idea of Liger-Kernel's fused linear
cross-entropy, Hsu et al. 2024, in plain PyTorch). The result is exact, not an approximation.
"""

from __future__ import annotations

import torch
from torch import Tensor

IGNORE = -100
"""Target of a row that is padding: it adds neither loss nor gradient (PyTorch's own convention)."""

CHUNK_ELEMENTS = 1 << 25
"""Logits held at once: 128 MB in fp32."""


def head_loss(states: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    """Summed cross-entropy of ``states @ weight.T`` against ``targets``.

    Args:
        states: (B, T, D), what enters the head. weight: (V, D). targets: (B, T) ids, or ``IGNORE``.

    Returns:
        Scalar fp32 sum in nats; differentiable in ``states`` and ``weight``.
    """
    return _ChunkedLoss.apply(states.flatten(0, -2), weight, targets.flatten())


def head_scores(states: Tensor, weight: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Per-position nats and whether the most likely token was right, without gradients.

    Shapes as in :func:`head_loss`; returns fp32 (B, T) and bool (B, T). An ``IGNORE`` position
    scores 0 and False.
    """
    flat, rows = targets.flatten(), states.flatten(0, -2)  # (N,), (N, D)
    nats = torch.zeros(flat.shape, device=states.device)  # (N,)
    right = torch.zeros(flat.shape, dtype=torch.bool, device=states.device)  # (N,)
    for part in _chunks(len(flat), weight.shape[0]):
        logits = (rows[part] @ weight.t()).float()  # (n, V)
        kept = flat[part] != IGNORE  # (n,)
        safe = flat[part].clamp_min(0)  # (n,)
        loss = logits.logsumexp(-1) - logits.gather(1, safe[:, None]).squeeze(1)  # (n,)
        nats[part] = loss * kept
        right[part] = (logits.argmax(-1) == safe) & kept
    return nats.view(targets.shape), right.view(targets.shape)


class _ChunkedLoss(torch.autograd.Function):
    @staticmethod
    def forward(ctx, states: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
        total = torch.zeros((), device=states.device)
        grad_states = torch.empty_like(states)  # (N, D)
        grad_weight = torch.zeros_like(weight, dtype=torch.float32)  # (V, D)
        for part in _chunks(len(targets), weight.shape[0]):
            logits = (states[part] @ weight.t()).float()  # (n, V)
            kept = (targets[part] != IGNORE)[:, None]  # (n, 1)
            right = targets[part].clamp_min(0)[:, None]  # (n, 1)
            right_logit = logits.gather(1, right)  # (n, 1)
            top = logits.amax(-1, keepdim=True)  # (n, 1)
            odds = logits.sub_(top).exp_()  # (n, V), in the logits' own memory
            normaliser = odds.sum(-1, keepdim=True)  # (n, 1)
            total += ((normaliser.log() + top - right_logit) * kept).sum()
            grad = torch.mul(
                odds, kept / normaliser, out=torch.empty_like(odds, dtype=states.dtype)
            )  # (n, V): softmax
            grad.scatter_add_(1, right, -kept.to(grad.dtype))  # minus one at the right token
            grad_states[part] = grad @ weight  # (n, D)
            grad_weight += grad.t() @ states[part]  # (V, D)
        ctx.save_for_backward(grad_states, grad_weight.to(weight.dtype))
        return total

    @staticmethod
    def backward(ctx, grad_total: Tensor):
        grad_states, grad_weight = ctx.saved_tensors
        return (
            grad_states * grad_total.to(grad_states.dtype),
            grad_weight * grad_total.to(grad_weight.dtype),
            None,
        )


def _chunks(rows: int, vocabulary: int) -> list[slice]:
    size = max(1, CHUNK_ELEMENTS // vocabulary)
    return [slice(start, min(start + size, rows)) for start in range(0, rows, size)]
