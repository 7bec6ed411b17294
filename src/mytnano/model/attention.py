"""Causal attention, twice: spelled out, and fused, where the T x T matrix is never whole.

Shapes: B windows, H heads, T tokens, K head size. Both give the same result to rounding; the
ladder's flash rung and a test hold them to 1e-5 in fp32.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

TILE = 64
"""Query rows of one tile; on two AVX512-BF16 cores 32, 128 and 256 were slower at T = 128, 256."""

TILED_UP_TO = 512
"""Longest window tiled on a CPU to train; beyond it PyTorch's fused kernel is faster, below it its
backward pass is slower."""


def attention_weights(q: Tensor, k: Tensor, mask: Tensor) -> Tensor:
    """Softmax of scaled scores.

    Args:
        q: (B, H, Tq, K). k: (B, H, Tk, K).
        mask: (Tq, Tk), (H, Tq, Tk) or (B, 1 or H, Tq, Tk), -inf where a query may not look and 0,
            or ALiBi's bias, elsewhere.

    Returns:
        (B, H, Tq, Tk), rows sum to one.
    """
    scores = (q * (1 / math.sqrt(q.shape[-1]))) @ k.transpose(-2, -1) + mask  # (B, H, Tq, Tk)
    return scores.softmax(-1)


def explicit_attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    """Attention with all T x T weights in memory (Vaswani et al. 2017). Returns (B, H, T, K)."""
    return attention_weights(q, k, mask) @ v


def fused_attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    """The same attention without the whole T x T matrix (Dao et al. 2022). Returns (B, H, T, K).

    On a GPU this is PyTorch's FlashAttention. On a CPU short windows that are trained go through
    tiles of queries, which skip the keys of the future (half of the work) and stay in the cache.

    Args:
        q, k, v: (B, H, T, K); where :func:`groups_fused` says so, k and v may have fewer heads.
    """
    T = q.shape[2]
    if q.device.type == "cpu" and T <= TILED_UP_TO and torch.is_grad_enabled():
        tiles = [slice(start, min(start + TILE, T)) for start in range(0, T, TILE)]
        rows = [
            explicit_attention(
                q[:, :, t], k[:, :, : t.stop], v[:, :, : t.stop], mask[..., t, : t.stop]
            )
            for t in tiles
        ]  # (B, H, TILE, K) each
        return torch.cat(rows, dim=2)
    if mask.ndim > 2:  # a bias for each head, or documents apart, beyond a causal flag
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    grouped = k.shape[1] < q.shape[1]
    return F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=grouped)


def groups_fused(x: Tensor, mask: Tensor, head_size: int) -> bool:
    """Whether :func:`fused_attention` of such states takes key/value heads as they are.

    Of PyTorch's kernels FlashAttention alone does; in fp32, or with more than a causal mask, fewer
    heads would mean the whole T x T matrix. It trains heads up to 128 on every GPU that has it.
    """
    fast = x.device.type == "cuda" and x.dtype != torch.float32
    return fast and mask.ndim == 2 and head_size <= 128


def grouped_attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    """The same attention of a few queries over many cached keys, whose heads are not repeated.

    Args:
        q: (B, H, Tq, K). k, v: (B, G, Tk, K) with G dividing H.
        mask: broadcasts to (B, H, Tq, Tk).

    Returns:
        (B, H, Tq, K).
    """
    B, H, Tq, K = q.shape
    folded = (q * (1 / math.sqrt(K))).reshape(B, k.shape[1], -1, K)  # (B, G, H / G * Tq, K)
    scores = (folded @ k.transpose(-2, -1)).view(B, H, Tq, -1) + mask  # (B, H, Tq, Tk)
    weights = scores.softmax(-1).view(B, k.shape[1], -1, k.shape[2])  # (B, G, H / G * Tq, Tk)
    return (weights @ v).view(B, H, Tq, K)


def alibi_slopes(heads: int) -> list[float]:
    """What each head subtracts from a score for every token of distance (Press et al. 2022).

    2^(-8 i / H) for head i of H, counted from one. If H is no power of two, those of the power
    below it, then every second one of the power above it, as in the paper's code.
    """
    below = 2 ** (heads.bit_length() - 1)
    slopes = [2 ** (-8 * i / below) for i in range(1, below + 1)]
    between = [2 ** (-4 * i / below) for i in range(1, 2 * below + 1, 2)]
    return (slopes + between)[:heads]
