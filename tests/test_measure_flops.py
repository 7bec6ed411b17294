"""Counted operations against PyTorch's own counter."""

import pytest
import torch
from model_toys import PARTS, rough_model, tiny_design, with_part
from torch.utils.flop_counter import FlopCounterMode

from mytnano.designs.rungs import CORE
from mytnano.measure.flops import forward_flops_per_token, training_flops
from mytnano.model.loss import head_loss

T, V, B = 32, 900, 2


def counted(config):
    """Operations of one training step of B windows, with the explicit kernel's whole T x T."""
    model = rough_model(config.but(kernel="explicit"))
    ids = torch.randint(0, V, (B, T), generator=torch.Generator().manual_seed(0))
    with FlopCounterMode(display=False) as counter:
        head_loss(model(ids), model.head.weight, ids).backward()
    return counter.get_total_flops()


def future(config):
    """Operations on the half of the scores that no one needs, which the explicit kernel does."""
    if config.mixer == "mean":
        return 0
    return 3 * config.layers * B * 4 * config.width * (T * T - T * T / 2)


@pytest.mark.parametrize("id", [rung.id for rung in CORE])
def test_training_flops(id):
    config = tiny_design(id, vocab_size=V, context=T, width=64, ffn_width=100)
    expected = counted(config) - future(config)
    assert training_flops(config, B * T) == pytest.approx(expected, rel=0.01)


@pytest.mark.parametrize("part", PARTS)
def test_training_flops_of_parts(part):
    config = with_part(part, vocab_size=V, context=T, width=64, ffn_width=100)
    expected = counted(config) - future(config)
    assert training_flops(config, B * T) == pytest.approx(expected, rel=0.01)


def test_parts():
    config = tiny_design("bigram", vocab_size=V, context=T)
    assert forward_flops_per_token(config) == 2 * 16 * V
    assert training_flops(config, 10) == 60 * 16 * V
    block = tiny_design("block", vocab_size=V, context=T)
    assert training_flops(block.but(kernel="flash"), 7) == training_flops(block, 7)
    per_layer = [forward_flops_per_token(block.but(layers=n)) for n in (1, 2, 3)]
    assert per_layer[2] - per_layer[1] == per_layer[1] - per_layer[0] > 0
    longer = block.but(context=2 * T)
    extra = forward_flops_per_token(longer) - forward_flops_per_token(block)
    assert extra == 2 * 16 * T  # scores and values of T/2 more tokens
    grouped = tiny_design("gqa", vocab_size=V, context=T)
    full = tiny_design("rope", vocab_size=V, context=T)
    difference = forward_flops_per_token(full) - forward_flops_per_token(grouped)
    assert difference == 4 * (2 * 16 * (2 * 8))
