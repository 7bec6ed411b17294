"""A model continued from its cache computes what it computes over the whole window."""

import pytest
import torch
from model_toys import KINDS, SMALL, kept_bytes, random_ids, rough_model

from mytnano.config import ModelConfig
from mytnano.model.cache import Cache, why_no_cache


def assert_equal(one, other):
    """To rounding: without norms the states of these models are large."""
    assert (one - other).abs().max() < 1e-5 * (1 + other.abs().max())


@pytest.fixture(params=KINDS)
def model(request):
    return rough_model(KINDS[request.param])


@torch.no_grad()
def test_token_by_token_is_the_whole_window(model):
    ids = random_ids(model.config, 3)
    whole = model(ids)
    cache = Cache([4] * 3, model.config.context)
    parts = [model(ids[:, :4], cache), model(ids[:, 4:7], cache)]
    parts += [model(ids[:, t : t + 1], cache) for t in range(7, model.config.context)]
    assert_equal(torch.cat(parts, 1), whole)


@torch.no_grad()
def test_rows_of_different_lengths_share_a_batch(model):
    lengths = [5, 1, 3]
    ids = random_ids(model.config, 3)
    whole = model(ids)
    cache = Cache(lengths, model.config.context)
    padded = ids[:, :5].clone()
    for row, length in enumerate(lengths):
        padded[row, length:] = 0
    states = model(padded, cache)
    for row, length in enumerate(lengths):
        assert_equal(states[row, :length], whole[row, :length])
    for step in range(4):
        if step == 2:
            cache.keep([2, 0])
            ids, whole, lengths = ids[[2, 0]], whole[[2, 0]], [lengths[2], lengths[0]]
        here = [length + step for length in lengths]
        rows = torch.arange(len(here))
        states = model(ids[rows, here][:, None], cache)
        assert_equal(states[:, 0], whole[rows, here])
    assert cache.lengths == [length + 4 for length in lengths]


@torch.no_grad()
def test_only_key_value_heads_are_kept():
    sizes = {}
    for kv_heads in (4, 2, 1):
        config = ModelConfig(**{**SMALL, "kv_heads": kv_heads})
        cache = Cache([3], config.context)
        rough_model(config)(random_ids(config, 1, 3), cache)
        sizes[kv_heads] = kept_bytes(cache)
    per_head = 2 * 2 * 4 * SMALL["context"] * SMALL["width"] // 4  # layers, K and V, bytes
    assert sizes == {heads: heads * per_head for heads in (4, 2, 1)}


def test_own_modules_are_named():
    assert why_no_cache(ModelConfig(**SMALL)) is None
    assert "mine.py:Mine" in why_no_cache(ModelConfig(**{**SMALL, "ffn": "mine.py:Mine"}))
