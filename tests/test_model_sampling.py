"""Samples follow the model's distribution, from a fixed seed."""

import math

import pytest
import torch
from model_toys import rough_model, tiny_design

from mytnano.model.sampling import draw, sample


@pytest.fixture
def model():
    return rough_model(tiny_design("mytnano"))


def test_greedy_takes_the_likeliest(model):
    ids = [1, 2, 3]
    drawn = sample(model, ids, 5, temperature=0)
    assert ids == [1, 2, 3] and len(drawn) == 5
    for token in drawn:
        with torch.no_grad():
            assert int(model.eval().logits(torch.tensor([ids]))[0, -1].argmax()) == token
        ids.append(token)


def test_next_to_zero_is_zero():
    logits = torch.tensor([1.0, 90.0, 89.0])
    for temperature in (1e-40, 1e-300, 1e-7):
        assert draw(logits, temperature, torch.Generator().manual_seed(0)) == 1


def test_only_the_last_window_counts(model):
    context = model.config.context
    long = [n % 11 for n in range(3 * context)]
    assert sample(model, long, 4, seed=1) == sample(model, long[-context:], 4, seed=1)
    assert len(sample(model, [0], 2 * context)) == 2 * context


def test_same_seed_same_text(model):
    torch.manual_seed(0)
    first = sample(model, [0], 30, seed=3)
    torch.manual_seed(1)
    assert sample(model, [0], 30, seed=3) == first
    assert sample(model, [0], 30, seed=4) != first


@pytest.mark.parametrize("temperature", [0.5, 1.0])
def test_frequencies_are_the_distribution(temperature):
    model = rough_model(tiny_design("bigram"))
    with torch.no_grad():
        logits = model.logits(torch.arange(11)[None])[0]  # (V, V)
        expected = (logits / temperature).softmax(-1)
    drawn = torch.tensor([0, *sample(model, [0], 8000, temperature)])
    row = int(drawn.bincount().argmax())
    after = drawn[1:][drawn[:-1] == row]
    counts = after.bincount(minlength=11) / len(after)
    assert (counts - expected[row]).abs().max() < 4 * 0.5 / math.sqrt(len(after))


def test_a_training_model_stays_one(model):
    model.train()
    sample(model, [0], 1)
    assert model.training
