"""RMSNorm by hand is PyTorch's RMSNorm, forward and backward."""

import pytest
import torch
import torch.nn.functional as F
from model_toys import tiny_design

from mytnano.model.norms import EPS, RMSNorm, build_norm, rms_norm


def both(dtype, scale, shape=(2, 5, 24)):
    """(output, grad of x, grad of gain) of ours in ``dtype`` and of PyTorch's in double."""
    generator = torch.Generator().manual_seed(0)
    x = (scale * torch.randn(shape, generator=generator)).to(dtype)
    gain = (1 + 0.3 * torch.randn(shape[-1], generator=generator)).to(dtype)
    out_grad = torch.randn(shape, generator=generator).to(dtype)
    module = RMSNorm(shape[-1])
    module.weight = torch.nn.Parameter(gain.clone())
    ours = x.clone().requires_grad_()
    y = module(ours)
    y.backward(out_grad)
    theirs, their_gain = x.double().requires_grad_(), gain.double().requires_grad_()
    z = F.rms_norm(theirs, shape[-1:], their_gain, EPS)
    z.backward(out_grad.double())
    assert y.dtype == ours.grad.dtype == module.weight.grad.dtype == dtype
    return (y, ours.grad, module.weight.grad), (z, theirs.grad, their_gain.grad)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 300.0])
def test_rmsnorm_is_pytorchs_in_fp32(scale):
    for one, other in zip(*both(torch.float32, scale), strict=True):
        torch.testing.assert_close(one.double(), other, rtol=1e-4, atol=1e-5 / min(scale, 1))


@pytest.mark.parametrize("scale", [1e-2, 1.0, 300.0])
def test_rmsnorm_stays_close_in_bf16(scale):
    for one, other in zip(*both(torch.bfloat16, scale, (4, 64, 128)), strict=True):
        error = (one.double() - other).norm() / other.norm()
        assert error < 0.01


@pytest.mark.filterwarnings("ignore:Input .* requires gradient:UserWarning")
def test_rmsnorm_gradients_are_those_of_finite_differences():
    module = RMSNorm(6)
    torch.nn.init.normal_(module.weight, generator=torch.Generator().manual_seed(1))
    x = torch.randn(3, 6, generator=torch.Generator().manual_seed(2), requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda x, w: torch.func.functional_call(module, {"weight": w}, x),
        (x, module.weight),
        eps=1e-2,
        atol=5e-3,
        rtol=1e-2,
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_without_a_gain_it_is_the_same_with_a_gain_of_one(dtype):
    x = torch.randn(2, 3, 5, 24, generator=torch.Generator().manual_seed(0)).to(dtype)
    one, other = x.clone().requires_grad_(), x.clone().requires_grad_()
    gain = torch.ones(24, dtype=dtype)
    y, z = rms_norm(one.transpose(1, 2)), rms_norm(other.transpose(1, 2), gain)
    assert torch.equal(y, z)
    (y * x.transpose(1, 2).square()).sum().backward()
    (z * x.transpose(1, 2).square()).sum().backward()
    assert torch.equal(one.grad, other.grad)


def test_norms_without_gain_have_no_parameters():
    for id in ("rmsnorm", "post-norm"):
        norm = build_norm(tiny_design(id, norm_gain=False))
        assert list(norm.parameters()) == []
        x = 3 + 2 * torch.randn(4, 16, generator=torch.Generator().manual_seed(1))
        torch.testing.assert_close(norm(x), build_norm(tiny_design(id))(x))


def test_zero_stays_zero():
    assert torch.equal(RMSNorm(4)(torch.zeros(1, 2, 4)), torch.zeros(1, 2, 4))


def test_kinds():
    assert build_norm(tiny_design("residual")) is None
    layernorm = build_norm(tiny_design("post-norm"))
    assert isinstance(layernorm, torch.nn.LayerNorm) and layernorm.eps == EPS
    assert isinstance(build_norm(tiny_design("rmsnorm")), RMSNorm)
