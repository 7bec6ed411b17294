"""Rotary positions: the convention of Hugging Face's Llama, and nothing but distances."""

import pytest
import torch
from model_toys import random_ids, rough_model, tiny_design

from mytnano.model.transformer import Transformer, build_tables, rotate


def llama_rotation(x, base):
    """What ``transformers.models.llama`` does: ``inv_freq``, ``rotate_half``, cos and sin."""
    T, K = x.shape[-2:]
    inv_freq = 1.0 / base ** (torch.arange(0, K, 2, dtype=torch.float64) / K)
    freqs = torch.arange(T, dtype=torch.float64)[:, None] * inv_freq[None]  # (T, K/2)
    emb = torch.cat((freqs, freqs), dim=-1)  # (T, K)
    x1, x2 = x[..., : K // 2], x[..., K // 2 :]
    rotate_half = torch.cat((-x2, x1), dim=-1)
    return x * emb.cos() + rotate_half * emb.sin()


@pytest.mark.parametrize(("K", "base"), [(2, 10_000.0), (8, 10_000.0), (32, 500_000.0)])
def test_rotation_is_llamas(K, base):
    config = tiny_design("rope", width=4 * K, heads=4, rope_base=base, context=50)
    x = torch.randn(2, 4, 50, K, generator=torch.Generator().manual_seed(0))
    tables = build_tables(config, 50, x)
    expected = llama_rotation(x.double(), base)
    torch.testing.assert_close(
        rotate(x, tables.cos, tables.sin).double(), expected, rtol=1e-5, atol=2e-5
    )


def test_scores_depend_on_distance_only_and_norms_stay():
    config = tiny_design("rope", width=64, context=40)
    generator = torch.Generator().manual_seed(1)
    q, k = (torch.randn(1, 1, 1, 16, generator=generator).expand(1, 1, 40, 16) for _ in "qk")
    tables = build_tables(config, 40, q)
    turned_q, turned_k = (rotate(x, tables.cos, tables.sin) for x in (q, k))
    scores = (turned_q @ turned_k.transpose(-2, -1))[0, 0]  # (T, T)
    for distance in (-7, 0, 1, 20):
        diagonal = scores.diagonal(-distance)
        assert diagonal.max() - diagonal.min() < 1e-4
    assert scores[:, 0].std() > 0.1
    torch.testing.assert_close(turned_q.norm(dim=-1), q.norm(dim=-1))
    assert torch.equal(turned_q[..., 0, :], q[..., 0, :])


def test_only_rope_makes_tables_and_they_are_rounded_last():
    like = torch.zeros(1, dtype=torch.bfloat16)
    assert build_tables(tiny_design("block"), 12, like).cos is None
    config = tiny_design("rope", context=1000)
    rounded = build_tables(config, 1000, like)
    exact = build_tables(config, 1000, like.float())
    assert torch.equal(rounded.cos, exact.cos.bfloat16())
    assert torch.equal(rounded.sin, exact.sin.bfloat16())


@pytest.mark.parametrize("positions", ["rope", "alibi", "learned"])
def test_shorter_windows_share_the_tables_of_the_longest(positions):
    model = Transformer(tiny_design("rope", context=40, positions=positions))
    x = torch.zeros(1)
    for T in (7, 40, 39):
        for found, own in zip(model.tables(T, x), build_tables(model.config, T, x), strict=True):
            assert found is None if own is None else torch.equal(found, own)
    assert len(model._tables) == 1


def test_a_model_without_positions_elsewhere_knows_order_by_rope():
    config = tiny_design("rope", layers=1)
    ids = random_ids(config, 1)
    swapped = ids.clone()
    swapped[0, [0, 1]] = ids[0, [1, 0]]
    assert ids[0, 0] != ids[0, 1]
    for positions, ordered in (("rope", True), ("none", False)):
        model = rough_model(config.but(positions=positions))
        with torch.no_grad():
            change = (model(ids) - model(swapped))[0, -1].abs().max()
        assert (change > 1e-4) == ordered
