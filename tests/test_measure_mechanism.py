"""Mechanism numbers on activations whose answers are known, and on real models by hand."""

import math

import pytest
import torch
from model_toys import random_ids, rough_model, tiny_design

from mytnano.measure import mechanism
from mytnano.measure.mechanism import (
    activity,
    block_norms,
    normalised_entropy,
    probe,
    visible_positions,
)
from mytnano.model.attention import attention_weights
from mytnano.model.transformer import apart, documents_of

T = 9


def causal(scores):
    mask = torch.full((T, T), -math.inf).triu(1)
    return (scores + mask).softmax(-1)


def test_identical_positions():
    x = torch.randn(3, 1, 5, generator=torch.Generator().manual_seed(0)).expand(3, T, 5)
    measured = activity(x)
    assert measured["rank_one_distance"] == pytest.approx(0, abs=1e-6)
    assert measured["token_cosine"] == pytest.approx(1, abs=1e-5)
    assert measured["activation_rms"] == pytest.approx(x.square().mean().sqrt().item())


def test_orthogonal_positions():
    measured = activity(7 * torch.eye(T).repeat(2, 1, 1))
    assert measured["token_cosine"] == pytest.approx(0, abs=1e-6)
    # mean 1/T everywhere, so ||X - mean||^2 = T - 1 of ||X||^2 = T
    assert measured["rank_one_distance"] == pytest.approx(math.sqrt((T - 1) / T), rel=1e-5)
    assert measured["activation_rms"] == pytest.approx(7 / math.sqrt(T), rel=1e-5)


def test_activity_by_hand():
    x = torch.randn(4, T, 6, generator=torch.Generator().manual_seed(1)) + 0.5
    cosines = [
        torch.cosine_similarity(w[i], w[j], dim=0)
        for w in x for i in range(T) for j in range(T) if i != j
    ]  # fmt: skip
    distances = [(w - w.mean(0)).norm() / w.norm() for w in x]
    measured = activity(x)
    assert measured["token_cosine"] == pytest.approx(torch.stack(cosines).mean().item(), rel=1e-4)
    assert measured["rank_one_distance"] == pytest.approx(torch.stack(distances).mean().item())
    scaled = activity(1000 * x)
    assert scaled["rank_one_distance"] == pytest.approx(measured["rank_one_distance"], rel=1e-5)
    assert scaled["activation_rms"] == pytest.approx(1000 * measured["activation_rms"], rel=1e-5)


def test_zero_activations_are_numbers():
    assert all(math.isfinite(value) for value in activity(torch.zeros(1, T, 4)).values())


def test_entropy():
    uniform = causal(torch.zeros(2, 3, T, T))
    assert normalised_entropy(uniform) == pytest.approx(1, rel=1e-5)
    itself = torch.eye(T).expand(2, 3, T, T)
    assert normalised_entropy(itself) == pytest.approx(0, abs=1e-6)
    two = torch.zeros(1, 1, T, T)
    two[..., 0] = 1
    two[..., range(1, T), range(1, T)] = two[..., range(1, T), 0] = 0.5
    expected = sum(math.log(2) / math.log(t) for t in range(2, T + 1)) / (T - 1)
    assert normalised_entropy(two) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("id", ["multi-head", "post-norm", "pre-norm", "mytnano"])
def test_probe_sees_what_the_model_does(id):
    config = tiny_design(id)
    model, ids = rough_model(config), random_ids(config, 3)
    rows = probe(model, ids)
    assert len(rows) == config.layers
    x = model.embedding(ids)
    if model.position is not None:
        x = x + model.position.weight
    tables = model.tables(config.context, x)
    for row, block in zip(rows, model.blocks, strict=True):
        pre = config.norm != "none" and config.norm_place == "pre"
        q, k, _ = block.mixer.project(block.mixer_norm(x) if pre else x, tables)
        weights = attention_weights(q, k, tables.mask)
        assert row["attention_entropy"] == pytest.approx(normalised_entropy(weights), rel=1e-4)
        x = block(x, tables)
        for name, value in activity(x).items():
            assert row[name] == pytest.approx(value, rel=1e-4)


def test_documents_apart_are_measured_apart(monkeypatch):
    config = tiny_design("pre-norm")
    model, eod, place = rough_model(config), 3, 5
    ids = random_ids(config, 2).clamp(4)
    ids[0, place] = eod
    states, entropy = [], []
    monkeypatch.setattr(mechanism, "activity", lambda x: states.append(x) or {})
    monkeypatch.setattr(mechanism, "over_visible", lambda found, visible: entropy.append(found))
    for before in (ids[0, :place].clone(), ids[0, :place].flip(0) + 1):
        ids[0, :place] = before.clamp(4, 10)
        probe(model, ids, documents_of(ids, eod))
    half = len(states) // 2
    for one, other in zip(states[:half], states[half:], strict=True):  # (B, T, D)
        assert torch.equal(one[0, place:], other[0, place:])
        assert not torch.equal(one[0, :place], other[0, :place])
    for one, other in zip(entropy[:half], entropy[half:], strict=True):  # (B, H, T)
        assert torch.equal(one[0, :, place:], other[0, :, place:])
        assert (one[0, :, place] == 0).all()


def test_entropy_is_over_what_a_document_shows():
    documents = torch.tensor([[0, 0, 0, 1, 1, 2], [1, 1, 1, 1, 1, 1]])
    visible = visible_positions(documents)
    assert visible.tolist() == [[1, 2, 3, 1, 2, 1], [1, 2, 3, 4, 5, 6]]
    mask = apart(torch.full((6, 6), -math.inf).triu(1), documents)  # (2, 1, 6, 6)
    uniform = mask.expand(2, 3, 6, 6).softmax(-1)
    assert normalised_entropy(uniform, visible) == pytest.approx(1, rel=1e-5)
    assert normalised_entropy(uniform) < 0.9
    assert normalised_entropy(uniform, torch.ones_like(visible)) is None


@pytest.mark.parametrize("positions", ["rope", "alibi"])
def test_long_windows_are_probed_in_parts(monkeypatch, positions):
    config = tiny_design("mytnano", positions=positions)
    model, ids = rough_model(config), random_ids(config, 3)
    for documents in (None, documents_of(ids, 3)):
        monkeypatch.setattr(mechanism, "MOST_WEIGHTS", 1 << 27)
        whole = probe(model, ids, documents)
        monkeypatch.setattr(mechanism, "MOST_WEIGHTS", 5 * config.heads * config.context)
        for row, expected in zip(probe(model, ids, documents), whole, strict=True):
            assert row == pytest.approx(expected, rel=1e-6)


def test_a_block_without_attention_has_no_entropy():
    config = tiny_design("average")
    (row,) = probe(rough_model(config), random_ids(config, 2))
    assert row["attention_entropy"] is None and row["rank_one_distance"] > 0
    bigram = tiny_design("bigram")
    assert probe(rough_model(bigram), random_ids(bigram, 2)) == []


def test_probing_leaves_no_trace():
    config = tiny_design("pre-norm", dropout=0.5)
    model, ids = rough_model(config).train(), random_ids(config, 2)
    state = torch.get_rng_state()
    assert probe(model, ids) == probe(model, ids)
    assert torch.equal(torch.get_rng_state(), state) and model.training
    assert not any(block._forward_hooks for block in model.blocks)
    assert all(p.grad is None for p in model.parameters())


def test_stacking_without_residuals_pulls_positions_together():
    def distances(id):
        config = tiny_design(id, width=32, layers=6, context=32)
        return [row["rank_one_distance"] for row in probe(rough_model(config), ids)]

    ids = random_ids(tiny_design("stack", context=32), 8)
    plain, residual = distances("stack"), distances("residual")
    assert plain[-1] < 0.1 < plain[0] and plain == sorted(plain, reverse=True)
    assert residual[-1] > 3 * plain[-1]


def test_norms_are_gathered_per_block():
    config = tiny_design("block", layers=2)
    model = rough_model(config)
    named = {name: p.detach() for name, p in model.named_parameters()}
    expected = [
        torch.cat([p.detach().flatten() for p in block.parameters()]).norm().item()
        for block in model.blocks
    ]
    assert block_norms(model, named.items()) == pytest.approx(expected, rel=1e-5)
