"""What the machine is asked: peak memory, and which precision pays."""

import sys

import numpy as np
import pytest
import torch

from mytnano.training import memory, precision


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux can forget a peak")
def test_peak_memory_is_that_since_the_reset():
    size = 200 * 2**20
    memory.reset_peak("cpu")
    before = memory.peak_bytes("cpu")
    block = np.ones(size, np.uint8)
    assert memory.peak_bytes("cpu") - before > 0.9 * size
    del block
    assert memory.peak_bytes("cpu") - before > 0.9 * size  # a peak stays
    memory.reset_peak("cpu")
    assert memory.peak_bytes("cpu") - before < 0.5 * size


def test_the_faster_precision_is_chosen(monkeypatch):
    for factor, chosen in ((1.0, "fp32"), (1.1, "fp32"), (1.2, "bf16")):
        speeds = {"fp32": 1000.0, "bf16": 1000.0 * factor}
        monkeypatch.setattr(precision, "tokens_per_second", lambda name, *_, s=speeds: s[name])
        monkeypatch.setattr(precision, "bf16_products_pay", lambda device: True)
        assert precision.choose_precision("cpu") == (chosen, speeds)


def test_slow_bf16_products_spare_the_training_steps(monkeypatch):
    seconds = {torch.float32: 1.0, torch.bfloat16: 50.0}
    monkeypatch.setattr(precision, "product_seconds", seconds.get)
    monkeypatch.setattr(precision, "tokens_per_second", lambda name, *_: {"fp32": 1000.0}[name])
    precision.bf16_products_pay.cache_clear()
    assert precision.choose_precision("cpu") == ("fp32", {"fp32": 1000.0})
    precision.bf16_products_pay.cache_clear()
    seconds[torch.bfloat16] = 0.5
    assert precision.bf16_products_pay("cpu")
    precision.bf16_products_pay.cache_clear()


def test_products_are_timed():
    assert 0 < precision.product_seconds(torch.float32) < 1


def test_speed_is_measured(monkeypatch):
    monkeypatch.setattr(precision, "SECONDS", 0.01)
    small = precision.PROBE.but(
        model={"width": 16, "layers": 1, "vocab_size": 32, "context": 16},
        train={"batch_windows": 2},
    )
    monkeypatch.setattr(precision, "PROBE", small)
    precision.tokens_per_second.cache_clear()
    for name in ("fp32", "bf16"):
        assert precision.tokens_per_second(name, "cpu", 1) > 100
    precision.tokens_per_second.cache_clear()
