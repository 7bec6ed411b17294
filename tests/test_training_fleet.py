"""A fleet's members are what runs alone are, to rounding, and none disturbs another."""

import math
import warnings

import numpy as np
import pytest
import torch
from model_toys import HEALTHY, alphabet_tokenizer, text_of, toy_run, words

from mytnano.config import RunConfig
from mytnano.model.attention import TILED_UP_TO
from mytnano.text.batches import Windows
from mytnano.training import engine as engines
from mytnano.training import fleet as fleets
from mytnano.training.engine import Engine
from mytnano.training.fleet import CARRIED_OUT, Fleet, signature, why_alone
from mytnano.training.schedule import learning_rate

STEPS = 20
CLOSE = 1e-5
"""Largest relative difference of a loss, in fp32 on a CPU, over ``STEPS`` steps."""
LEARNED = {
    "width": 24, "layers": 2, "mixer": "attention", "heads": 2, "kv_heads": 2,
    "positions": "learned", "ffn": "gelu", "ffn_width": 48, "residual": True, "norm": "layernorm",
}  # fmt: skip
SHAPES = {
    "rope, gqa, swiglu, rmsnorm": HEALTHY,
    "learned, layernorm": {**LEARNED, "norm_place": "pre"},
    "post-norm, tied": {**LEARNED, "norm_place": "post", "tied": True, "init": "gpt2"},
    "bigram": {"width": 24, "layers": 0, "positions": "none"},
    "mean": {"width": 24, "layers": 1, "mixer": "mean", "positions": "learned"},
    "parts": {
        **HEALTHY, "qk_norm": True, "value_embeddings": True, "norm_gain": False,
        "embedding_norm": True, "norm_place": "sandwich", "x0_skip": True, "softcap": 5.0,
        "positions": "alibi", "init": "modern", "layers": 3, "width": 24, "ffn_width": 40,
    },
    "no norm, odd width": {
        **LEARNED, "width": 20, "norm": "none", "ffn": "none", "positions": "none",
    },
}  # fmt: skip
OWN = (
    {"optim": {"lr": 3e-3}},
    {"optim": {"lr": 1e-2, "weight_decay": 0.5}, "train": {"seed": 1}},
    {"optim": {"lr": 2e-3, "grad_clip": 0.0, "schedule": "cosine", "warmup": 0.2},
     "train": {"seed": 2}},
    {"optim": {"lr": 5e-3, "grad_clip": 0.1, "weight_decay": 0.0}, "train": {"salt": "twin"}},
)  # fmt: skip
"""What each member has for itself."""


@pytest.fixture(scope="module")
def text():
    splits = [words(12, 700, seed) if seed == 0 else words(2, 500, seed) for seed in range(3)]
    return text_of(splits, alphabet_tokenizer(splits))


def members(text, shape, own=OWN, precision="fp32"):
    base = toy_run(text, STEPS, model=SHAPES[shape]).but(train={"precision": precision})
    if shape == "parts":
        base = base.but(optim={"table_lr": 0.5})
    return [base.but(**each) for each in own]


def batches(text, config):
    train = config.train
    windows = Windows(
        text.train, 32, config.model.context, train.batch_windows, train.seed, train.salt
    )
    return [tuple(map(torch.from_numpy, windows.batch(step))) for step in range(STEPS)]


def alone(text, config, steps=STEPS):
    """Losses and gradient norms of a run alone, and its engine."""
    engine, measured = Engine(config), []
    for step, (x, y) in enumerate(batches(text, config)[:steps]):
        loss = engine.gradients(x, y).item()
        norm = engine.update(learning_rate(config.optim, step, STEPS)).item()
        measured.append((loss, norm))
    return measured, engine


def together(text, configs, steps=STEPS, **more):
    """The same of every member of a fleet."""
    fleet = Fleet(configs, **more)
    data = [batches(text, config) for config in configs]
    measured = [[] for _ in configs]
    for step in range(steps):
        x, y = (torch.stack([each[step][i] for each in data]) for i in (0, 1))
        fleet.compute(x, y)
        for k, (config, member) in enumerate(zip(configs, fleet.members, strict=True)):
            loss = member.gradients(x[k], y[k]).item()
            norm = member.update(learning_rate(config.optim, step, STEPS)).item()
            measured[k].append((loss, norm))
        fleet.settle()
    return measured, fleet


def distance(one, other):
    """Relative distance of two named sets of weights."""
    assert one.keys() == other.keys()
    apart = sum((one[name] - other[name]).square().sum().item() for name in one)
    size = sum(weight.square().sum().item() for weight in one.values())
    return math.sqrt(apart / size)


@pytest.mark.parametrize("shape", SHAPES)
def test_every_member_is_the_run_alone(text, shape):
    configs = members(text, shape, OWN if shape == next(iter(SHAPES)) else OWN[1:3])
    measured, fleet = together(text, configs)
    close = 1e-4 if shape == "parts" else CLOSE  # at its rates a difference grows tenfold
    for config, mine, member in zip(configs, measured, fleet.members, strict=True):
        expected, engine = alone(text, config)
        assert [m for m, _ in mine[:8]] == pytest.approx([m for m, _ in expected[:8]], rel=CLOSE)
        assert [m for m, _ in mine] == pytest.approx([m for m, _ in expected], rel=close)
        assert [n for _, n in mine] == pytest.approx([n for _, n in expected], rel=200 * close)
        masters = {name: p.detach() for name, p in engine.masters.items()}
        assert distance(masters, member.masters) < 10 * close
        start = {name: p.detach() for name, p in Engine(config).masters.items()}
        assert distance(start, member.masters) > 1e-2, "it has moved"


@pytest.mark.parametrize("shape", ["rope, gqa, swiglu, rmsnorm", "post-norm, tied"])
def test_in_bf16_they_are_close(text, shape):
    configs = members(text, shape, OWN[:2], "bf16")
    measured, fleet = together(text, configs, steps=8)
    for config, mine, member in zip(configs, measured, fleet.members, strict=True):
        expected, engine = alone(text, config, steps=8)
        assert [m for m, _ in mine] == pytest.approx([m for m, _ in expected], rel=5e-3)
        masters = {name: p.detach() for name, p in engine.masters.items()}
        assert distance(masters, member.masters) < 0.02
        for name, parameter in member.model.named_parameters():
            assert parameter.dtype == torch.bfloat16
            assert torch.equal(parameter, member.masters[name].bfloat16())


def test_one_that_diverges_disturbs_no_other(text):
    sane = members(text, "no norm, odd width")[:2]
    wild = sane[0].but(optim={"lr": 1e12, "grad_clip": 0.0}, train={"seed": 7})
    measured, fleet = together(text, [sane[0], wild, sane[1]])
    for k, config in ((0, sane[0]), (2, sane[1])):
        assert [m for m, _ in measured[k]] == pytest.approx(
            [m for m, _ in alone(text, config)[0]], rel=CLOSE
        )
    expected = [math.isfinite(loss) for loss, _ in alone(text, wild)[0]]
    assert [math.isfinite(loss) for loss, _ in measured[1]] == expected
    assert expected[0] and not expected[-1], "it did diverge"
    assert fleet.alive.tolist() == [True, False, True]


def test_a_dead_member_keeps_its_last_weights(text):
    configs = members(text, "bigram")[:2]
    fleet = Fleet(configs)
    with torch.no_grad():
        fleet.members[1].masters["head.weight"].fill_(math.inf)
    before = fleet.master[1].clone(), fleet.first[1].clone()
    x, y = (torch.stack(each) for each in zip(*(batches(text, c)[0] for c in configs), strict=True))
    for _ in range(2):
        fleet.compute(x, y)
        norms = [member.update(1e-2) for member in fleet.members]
        fleet.settle()
        assert fleet.losses[0].isfinite() and norms[0].isfinite()
        assert fleet.losses[1].isnan() and norms[1].isnan()
    assert torch.equal(before[0], fleet.master[1]) and torch.equal(before[1], fleet.first[1])
    assert fleet.master[0].isfinite().all()


def test_twins_in_one_fleet_are_the_same_bit_for_bit(text):
    """A/A inside a fleet: the place of a member does not matter."""
    config = members(text, "rope, gqa, swiglu, rmsnorm")[1]
    measured, fleet = together(text, [config] * 3, steps=5)
    assert measured[0] == measured[1] == measured[2]
    assert torch.equal(fleet.master[0], fleet.master[2])


def test_micro_batches_equal_one_batch(text, monkeypatch):
    configs = members(text, "rope, gqa, swiglu, rmsnorm")[:2]
    whole, _ = together(text, configs, steps=3)
    monkeypatch.setattr(engines, "MICRO_TOKENS", 64)
    parts, _ = together(text, configs, steps=3)
    for one, other in zip(whole, parts, strict=True):
        assert [m for m, _ in one] == pytest.approx([m for m, _ in other], rel=1e-6)


def test_who_looks_finds_its_own_update_done(text):
    configs = members(text, "learned, layernorm")[:2]
    lazy, eager = Fleet(configs), Fleet(configs)
    x, y = (torch.stack(each) for each in zip(*(batches(text, c)[0] for c in configs), strict=True))
    for fleet in (lazy, eager):
        fleet.compute(x, y)
        for member in fleet.members:
            member.update(1e-2)
    before = lazy.master.clone()
    assert torch.equal(lazy.master, before), "nobody has looked"
    seen = lazy.members[1].model.head.weight
    assert not torch.equal(seen, lazy.layout.of_member(before[1])["head.weight"])
    assert torch.equal(lazy.master[0], before[0]), "the other one waits"
    lazy.settle()
    eager.settle()
    assert torch.equal(lazy.master, eager.master), "and nothing is done twice"


def test_what_a_fleet_may_differ_in(text):
    config = members(text, "rope, gqa, swiglu, rmsnorm")[0]
    for change in OWN:
        assert signature(config.but(**change)) == signature(config)
    for section, change in (
        ("model", {"ffn": "relu"}), ("model", {"width": 64}), ("train", {"batch_windows": 2}),
        ("optim", {"beta2": 0.9}), ("data", {"tokenizer": "byte"}),
    ):  # fmt: skip
        other = config.but(**{section: change})
        assert signature(other) != signature(config)
        with pytest.raises(ValueError, match="one shape"):
            Fleet([config, other])


def test_what_has_to_run_alone(text):
    config = members(text, "rope, gqa, swiglu, rmsnorm")[0]
    assert why_alone(config) == ""
    dropping = config.but(model={"dropout": 0.1})
    assert why_alone(dropping) == "model.dropout is 0.1, which a fleet does not carry out"
    assert "code of its own" in why_alone(config.but(model={"ffn": "mine.py:Mine"}))
    assert why_alone(config.but(optim={"optimizer": "muon"})) == "a fleet has no muon"
    assert "optim.ema is 0.9" in why_alone(config.but(optim={"ema": 0.9}))
    with pytest.raises(ValueError, match="dropout"):
        Fleet([dropping])


def test_a_setting_that_the_fleet_does_not_know_is_left_to_runs_alone(text, monkeypatch):
    assert set(CARRIED_OUT) == set(RunConfig.model_fields)
    for section, known in CARRIED_OUT.items():
        assert known <= set(type(getattr(RunConfig(), section)).model_fields), "no such setting"
    config = members(text, "rope, gqa, swiglu, rmsnorm")[0]
    for section, name in (("model", "ffn"), ("data", "window_bytes"), ("optim", "lr")):
        fewer = {**CARRIED_OUT, section: CARRIED_OUT[section] - {name}}
        monkeypatch.setattr(fleets, "CARRIED_OUT", fewer)
        assert why_alone(config).startswith(f"{section}.{name} is ")


@pytest.mark.extras
@pytest.mark.skipif(not engines.can_compile(), reason="needs a C++ compiler")
@pytest.mark.parametrize(("shape", "precision"), [
    ("rope, gqa, swiglu, rmsnorm", "fp32"),
    ("bigram", "fp32"),
])  # fmt: skip
def test_compiled_it_is_the_same(text, shape, precision):
    configs = members(text, shape, precision=precision)[:3]
    eager, _ = together(text, configs, steps=6)
    fast, fleet = together(text, configs, steps=6, compile=True)
    assert fleet.program.compiled, "in one graph"
    for one, other in zip(eager, fast, strict=True):
        close = CLOSE if precision == "fp32" else 5e-3
        assert [m for m, _ in one] == pytest.approx([m for m, _ in other], rel=close)
    # The next fleet of this shape finds it compiled; its numbers are its own.
    again = [config.but(train={"seed": 9 + k}) for k, config in enumerate(configs)]
    assert Fleet(again, compile=True).program is fleet.program
    assert together(text, configs, steps=6, compile=True)[0] == fast


def test_where_compilation_fails_it_goes_on_without(text, monkeypatch):
    def broken(function, **options):
        def compiled(*args):
            raise RuntimeError("no compiler today")

        return compiled

    monkeypatch.setattr(torch, "compile", broken)
    configs = members(text, "bigram")[:2]
    with pytest.warns(UserWarning, match=r"uncompiled \(RuntimeError: no compiler today\)"):
        measured, fleet = together(text, configs, steps=3, compile=True)
    assert not fleet.program.compiled
    assert measured == together(text, configs, steps=3)[0]


def test_a_long_window_on_a_cpu(text):
    """PyTorch's fused attention on a CPU has no batching rule; another one of its kernels has."""
    base = toy_run(text, 2, batch=2, window=520, model=HEALTHY)
    configs = [base.but(train={"seed": seed}) for seed in (0, 1)]
    windows = [Windows(text.train, 520, base.model.context, 2, seed).batch(0) for seed in (0, 1)]
    x, y = (torch.from_numpy(np.stack([each[i] for each in windows])) for i in (0, 1))
    assert base.model.context > TILED_UP_TO
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fleet = Fleet(configs)
        fleet.compute(x, y)
    for k, config in enumerate(configs):
        alone = Engine(config)
        assert fleet.losses[k].item() == pytest.approx(alone.gradients(x[k], y[k]).item(), rel=1e-5)
        assert fleet.norms[k].item() == pytest.approx(alone.update(0.0).item(), rel=1e-4)
