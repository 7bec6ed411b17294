"""Text whose entropy is known: models get as close as they can see, and nothing gets below.

Every model trains and is scored through the same code as a ladder's runs.
"""

import numpy as np
import pytest
from model_toys import HEALTHY, markov_splits, random_bytes_source, text_of, toy_run

from mytnano.text.vocabulary import ByteTokenizer
from mytnano.training.loop import train

BIGRAM = {"optim": {"lr": 0.02, "schedule": "cosine"}, "window": 64, "batch": 16}
DEEPER = {
    "model": HEALTHY,
    "optim": {"lr": 8e-3, "schedule": "cosine", "warmup": 0.05},
    "window": 64,
    "batch": 16,
}


LUCK = 0.002
"""Bits per byte that a model may lie below the source's own score on the same text."""


def bpb_of(text, tmp_path, steps, **sections):
    """Test score of a toy run of some steps."""
    result = train(toy_run(text, steps, **sections), text, tmp_path)
    assert result["comparable"] and result["status"] == "healthy", result["status_evidence"]
    return result["test_bpb"]


@pytest.mark.parametrize(("alphabet", "seed"), [(b"abcd", 0), (b"etaoinsh", 3)])
def test_the_bigram_reaches_the_rate_of_order_one_text(tmp_path, alphabet, seed):
    source, splits = markov_splits(1, alphabet, 160_000, seed=seed)
    bpb = bpb_of(text_of(splits), tmp_path, 250, **BIGRAM)
    floor = source.bits_per_byte(splits[2])
    assert floor == pytest.approx(source.entropy_rate, abs=0.01)
    assert floor - LUCK < bpb < floor + 0.015  # the ends of documents cost 0.003 of it
    assert abs(bpb - source.entropy_rate) < 0.02


@pytest.fixture(scope="module")
def order_three():
    source, splits = markov_splits(3, b"abc", 400_000, spread=1.0)
    return source, splits, text_of(splits)


def test_the_bigram_reaches_no_more_than_one_symbol_gives(order_three, tmp_path):
    source, _, text = order_three
    bpb = bpb_of(text, tmp_path, 200, **BIGRAM)
    assert bpb == pytest.approx(source.conditional_entropy(1), abs=0.02)
    assert bpb > source.conditional_entropy(2) + 0.2


@pytest.mark.parametrize("kernel", ["explicit", "flash"])
def test_attention_approaches_the_rate_of_order_three_text(order_three, tmp_path, kernel):
    source, splits, text = order_three
    rates = [source.conditional_entropy(n) for n in (1, 2, 3)]
    assert rates[0] > 1.1 * rates[1] > 1.2 * rates[2]  # each symbol tells something
    deeper = {**DEEPER, "model": {**HEALTHY, "kernel": kernel}}
    bpb = bpb_of(text, tmp_path, 300, **deeper)
    floor = source.bits_per_byte(splits[2])
    assert bpb > floor - LUCK
    assert bpb < floor + 0.05 < rates[1] < rates[0]


@pytest.mark.parametrize("sections", [BIGRAM, DEEPER], ids=["bigram", "attention"])
def test_random_bytes_cost_eight_bits(tmp_path, sections):
    source = random_bytes_source()
    splits = [source.documents(n, 4096, seed) for seed, n in enumerate((120, 12, 12))]
    text = text_of(splits, ByteTokenizer())
    sections = {**sections, "optim": {**sections["optim"], "lr": 2e-3}}
    model = {**sections.get("model", {}), "init": "gpt2"}
    result = train(toy_run(text, 200, **{**sections, "model": model}), text, tmp_path)
    assert result["test_bpb"] == pytest.approx(8, abs=0.02)
    assert result["test_bpb"] > 8
    guessed = result["test_accuracy"]
    assert guessed < 1 / 256 + 4 * np.sqrt(1 / 256 / (12 * 4096))
