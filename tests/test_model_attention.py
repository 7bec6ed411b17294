"""Both kernels are one function: softmax attention over the past."""

import math

import pytest
import torch
import torch.nn.functional as F

from mytnano.model import attention
from mytnano.model.attention import (
    alibi_slopes,
    attention_weights,
    explicit_attention,
    fused_attention,
)
from mytnano.model.transformer import alibi_mask


def inputs(T, B=2, H=3, K=8, dtype=torch.float32):
    generator = torch.Generator().manual_seed(T)
    q, k, v, g = (torch.randn(B, H, T, K, generator=generator).to(dtype) for _ in range(4))
    mask = torch.full((T, T), -math.inf, dtype=dtype).triu(1)
    return [x.requires_grad_() for x in (q, k, v)], mask, g


def run(kernel, T, dtype=torch.float32):
    """Output and gradients of q, k, v under a random loss."""
    (q, k, v), mask, g = inputs(T, dtype=dtype)
    y = kernel(q, k, v, mask)
    (y * g).sum().backward()
    return [y.detach(), q.grad, k.grad, v.grad]


@pytest.mark.parametrize("T", [1, 63, 64, 65, 200, 600])
def test_explicit_and_fused_agree_in_value_and_gradient(T):
    for name, one, other in zip("yqkv", *(run(f, T) for f in KERNELS), strict=True):
        assert (one - other).abs().max() <= 1e-5, name


@pytest.mark.parametrize("T", [5, 70])
def test_both_agree_with_pytorch_in_double(T):
    def pytorch(q, k, v, mask):
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)

    truth = run(pytorch, T, torch.float64)
    for kernel in KERNELS:
        for one, other in zip(run(kernel, T, torch.float64), truth, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("T", [64, 130, 600])
def test_bf16_stays_close_to_fp32(T):
    for kernel in KERNELS:
        for one, other in zip(run(kernel, T, torch.bfloat16), run(kernel, T), strict=True):
            assert (one.float() - other).abs().max() < 0.1
            assert (one.float() - other).abs().mean() < 0.005


def test_weights_are_a_distribution_over_the_past():
    (q, k, _), mask, _ = inputs(9)
    weights = attention_weights(q, k, mask)  # (B, H, T, T)
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 3, 9))
    assert torch.all(weights.triu(1) == 0)
    assert torch.all(weights[..., 0, 0] == 1)
    by_hand = (q[1, 2, 3] @ k[1, 2, :4].T / math.sqrt(8)).softmax(-1)
    torch.testing.assert_close(weights[1, 2, 3, :4], by_hand)


def test_alibi_slopes_are_the_papers():
    assert alibi_slopes(8) == [2**-i for i in range(1, 9)]
    assert alibi_slopes(2) == [2**-4, 2**-8] and alibi_slopes(1) == [2**-8]
    # Six heads: the four of a power of two, then every second one of eight.
    assert alibi_slopes(6) == [2**-2, 2**-4, 2**-6, 2**-8, 2**-1, 2**-3]


@pytest.mark.parametrize("T", [9, 130, 600])
def test_alibi_by_hand_in_both_kernels(T):
    (q, k, v), _, _ = inputs(T, H=4)
    mask = alibi_mask(4, T, q)  # (H, T, T)
    scores = q @ k.transpose(-2, -1) / math.sqrt(8)
    for head, slope in enumerate((2**-2, 2**-4, 2**-6, 2**-8)):
        for i in (0, 1, T // 2, T - 1):
            back = torch.arange(i, -1, -1)
            weights = (scores[0, head, i, : i + 1] - slope * back).softmax(-1)
            for kernel in KERNELS:
                got = kernel(q, k, v, mask)[0, head, i]
                torch.testing.assert_close(got, weights @ v[0, head, : i + 1], rtol=1e-4, atol=1e-5)


def test_pytorchs_kernel_takes_fewer_key_value_heads(monkeypatch):
    monkeypatch.setattr(attention, "TILED_UP_TO", 0)  # as on a GPU
    (q, k, v), mask, _ = inputs(9, H=4)
    k, v = k[:, :2], v[:, :2]  # (B, G, T, K)
    whole = fused_attention(q, *(x.repeat_interleave(2, dim=1) for x in (k, v)), mask)
    torch.testing.assert_close(fused_attention(q, k, v, mask), whole)


KERNELS = (explicit_attention, fused_attention)
