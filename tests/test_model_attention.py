"""Both kernels are one function: softmax attention over the past."""

import math

import pytest
import torch
import torch.nn.functional as F

from mytnano.model.attention import attention_weights, explicit_attention, fused_attention


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


KERNELS = (explicit_attention, fused_attention)
