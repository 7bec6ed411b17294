"""The table of initial weights, and the stream of its own of every tensor."""

import math

import pytest
import torch
from model_toys import tiny_design

from mytnano.config import ModelConfig
from mytnano.model.init import initial_value, initialise, stream_seed
from mytnano.model.transformer import Transformer

LARGE = (256, 144)
INTO_THE_STREAM = ["blocks.0.mixer.output.weight", "blocks.3.ffn.down.weight"]
MATRICES = ["blocks.0.mixer.query.weight", "blocks.2.ffn.up.weight", "blocks.1.ffn.gate.weight"]
RESIDUAL = 1 / math.sqrt(8)  # four layers


def value(name, rule, tied=False, shape=LARGE):
    config = ModelConfig(layers=4, init=rule, tied=tied)
    return initial_value(name, shape, config, 0, "")


def is_normal(tensor, std):
    near = abs(tensor.std().item() / std - 1) < 0.03 and abs(tensor.mean().item()) < 0.03 * std
    beyond = (tensor.abs() > 2 * std).float().mean().item()  # 4.6 % of a normal, 0 of a uniform
    return near and 0.03 < beyond < 0.06


def is_uniform(tensor, bound):
    near = abs(tensor.std().item() / (bound / math.sqrt(3)) - 1) < 0.03
    return near and tensor.abs().max() <= bound and tensor.abs().max() > 0.99 * bound


@pytest.mark.parametrize("rule", ["torch", "zero-out"])
def test_what_torch_does(rule):
    assert is_normal(value("embedding.weight", rule), 1)
    assert is_normal(value("position.weight", rule), 1)
    for name in ["head.weight", *MATRICES]:
        assert is_uniform(value(name, rule), 1 / 12)
    for name in INTO_THE_STREAM:
        tensor = value(name, rule)
        assert is_uniform(tensor, 1 / 12) if rule == "torch" else not tensor.any()


def test_torch_rule_is_that_of_nn_linear_and_nn_embedding():
    torch.manual_seed(0)
    linear, table = torch.nn.Linear(144, 256, bias=False), torch.nn.Embedding(256, 144)
    assert is_uniform(linear.weight.detach(), 1 / 12) and is_normal(table.weight.detach(), 1)


@pytest.mark.parametrize("tied", [False, True])
def test_gpt2(tied):
    for name in ["embedding.weight", "position.weight", "head.weight", *MATRICES]:
        assert is_normal(value(name, "gpt2", tied), 0.02)
    for name in INTO_THE_STREAM:
        assert is_normal(value(name, "gpt2", tied), 0.02 * RESIDUAL)


@pytest.mark.parametrize("tied", [False, True])
def test_logged(tied):
    for name in ["head.weight", *MATRICES, *INTO_THE_STREAM]:
        assert is_normal(value(name, "logged", tied), RESIDUAL)
    assert is_normal(value("position.weight", "logged", tied), 0.02)
    assert is_normal(value("embedding.weight", "logged", tied), RESIDUAL if tied else 0.02)


@pytest.mark.parametrize("tied", [False, True])
def test_modern(tied):
    for name in ("embedding.weight", "position.weight"):
        assert is_normal(value(name, "modern", tied), 0.02 if tied else 1)
    assert is_normal(value("head.weight", "modern", tied), 0.001)
    for name in MATRICES:
        assert is_normal(value(name, "modern", tied), 1 / 12)
    for name in INTO_THE_STREAM:
        assert not value(name, "modern", tied).any()


@pytest.mark.parametrize("rule", ["torch", "zero-out", "gpt2", "logged", "modern"])
def test_a_value_table_and_the_scalars_of_blocks(rule):
    config = ModelConfig(width=64, layers=4, init=rule)
    assert is_normal(initial_value("value_embedding.weight", LARGE, config, 0, ""), 1 / 8)
    for name, expected in (("x_scales", 1), ("value_scales", 1), ("x0_scales", 0)):
        assert value(name, rule, shape=(4,)).tolist() == [expected] * 4


@pytest.mark.parametrize("rule", ["torch", "zero-out", "gpt2", "logged", "modern"])
def test_gains_are_one_and_biases_zero(rule):
    assert torch.equal(value("final_norm.weight", rule, shape=(8,)), torch.ones(8))
    assert torch.equal(value("final_norm.bias", rule, shape=(8,)), torch.zeros(8))


def weights(config, seed=0, salt=""):
    model = Transformer(config)
    initialise(model, seed, salt)
    return {name: p.detach() for name, p in model.named_parameters()}


def test_a_tensor_is_the_same_whatever_else_exists():
    small = weights(tiny_design("block"))
    for other in ("residual", "pre-norm", "rope"):
        large = weights(tiny_design(other))
        common = [n for n in small if n in large and small[n].shape == large[n].shape]
        assert "blocks.0.mixer.query.weight" in common and "embedding.weight" in common
        assert all(torch.equal(small[name], large[name]) for name in common)


def test_seed_and_salt_make_independent_weights():
    config = tiny_design("block", width=64)
    first = weights(config)
    assert all(torch.equal(first[n], w) for n, w in weights(config).items())
    for other in (weights(config, seed=1), weights(config, salt="twin")):
        for name, weight in other.items():
            pair = torch.stack((first[name].flatten(), weight.flatten()))
            assert abs(torch.corrcoef(pair)[0, 1]) < 0.2, name


def test_layers_differ_and_a_zeroed_block_is_the_identity():
    model = weights(tiny_design("pre-norm", layers=2))
    assert not torch.equal(
        model["blocks.0.mixer.query.weight"], model["blocks.1.mixer.query.weight"]
    )
    config = tiny_design("init")
    network = Transformer(config)
    initialise(network, 0)
    ids = torch.arange(8)[None]
    expected = network.final_norm(network.embedding(ids))
    assert torch.equal(network(ids), expected)


def test_the_global_random_state_does_not_matter_and_is_left_alone():
    torch.manual_seed(1)
    first = weights(tiny_design("block"))
    torch.manual_seed(2)
    assert all(torch.equal(first[n], w) for n, w in weights(tiny_design("block")).items())
    network = Transformer(tiny_design("block"))
    state = torch.get_rng_state()
    initialise(network, 0)
    assert torch.equal(torch.get_rng_state(), state)


def test_stream_seeds_are_the_same_on_every_machine():
    assert stream_seed(0, "embedding.weight", "") == 3403162121426640271
    assert stream_seed(1, "a", "b") != stream_seed(1, "ab", "")
    assert 0 <= stream_seed("x") < 2**63
