"""Toy runs of the engine and of the training loop, and what two of them must share."""

import torch
from model_toys import (
    HEALTHY,
    PARTS,
    alphabet_tokenizer,
    random_ids,
    text_of,
    tiny_design,
    toy_run,
    words,
)
from safetensors.torch import load_file

from mytnano.config import RunConfig
from mytnano.model.own import with_own_code
from mytnano.run_files import WEIGHTS
from mytnano.runs.store import RunFolder
from mytnano.training import loop
from mytnano.training.care import Care, unseen
from mytnano.training.checkpoint import save_checkpoint
from mytnano.training.engine import Engine

STEPS = 24
TIMES = {"tokens_per_second", "seconds", "peak_memory_bytes"}
CASES = {
    "fp32": {"model": HEALTHY},
    "bf16": {"model": HEALTHY, "train": {"precision": "bf16"}},
    "dropout": {"model": {**HEALTHY, "dropout": 0.3}},
    "cosine, layernorm, tied": {
        "model": {**HEALTHY, "norm": "layernorm", "tied": True, "init": "gpt2"},
        "optim": {"schedule": "cosine", "warmup": 0.2},
    },
    "muon, average, every part": {
        "model": {**HEALTHY, **PARTS["all"]},
        "optim": {"optimizer": "muon", "ema": 0.9, "schedule": "wsd", "table_lr": 3.0},
    },
    "lion, alibi": {
        "model": {**HEALTHY, "positions": "alibi"},
        "optim": {"optimizer": "lion", "schedule": "linear"},
    },
    "own optimizer": {"model": HEALTHY, "optim": {"optimizer": "./mine.py:Mine"}},
}
MINE = """
import torch


class Mine(torch.optim.Optimizer):
    def __init__(self, groups, lr):
        super().__init__(groups, dict(lr=lr))

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            group["steps"] = group.get("steps", 0) + 1
            for p in group["params"]:
                state = self.state[p]
                state["sum"] = 0.9 * state.get("sum", 0.0) + p.grad.square().mean().item()
                state["last"] = p.grad.clone()
                noise = 1e-3 * torch.randn_like(p)
                scale = (state["sum"] + 1e-12) ** 0.5 * group["steps"] ** 0.25
                p.sub_(group["lr"] * (state["last"] / scale + noise))
"""


def text_with_three_splits():
    splits = [words(20, 1500, seed) if seed == 0 else words(3, 900, seed) for seed in range(3)]
    return text_of(splits, alphabet_tokenizer(splits))


def run_of(text, case="fp32", steps=STEPS, **sections):
    return with_own_code(toy_run(text, steps, **{**CASES[case], **sections}))


def load_weights(model, folder):
    """Put a finished run's fp32 weights into a model of its config."""
    weights = load_file(folder / WEIGHTS)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(weights[name])


def run_config(id="mytnano", precision="fp32", model=None, **optim):
    """A rung's design for single steps of the engine."""
    config = tiny_design(id, **{"width": 32, "vocab_size": 40, "context": 16, **(model or {})})
    return RunConfig(model=config).but(train={"precision": precision}, optim=optim)


def batch(config, step=0, windows=12):
    x = random_ids(config.model, windows, seed=step)
    return x, (3 * x + 1) % config.model.vocab_size  # something that every design can learn


def trained(config, steps, lr=None):
    """An engine after some steps, and the losses on the way."""
    engine = Engine(config)
    engine.model.train()
    losses = []
    for step in range(steps):
        losses.append(engine.gradients(*batch(config, step)).item())
        engine.update(lr or config.optim.lr)
    return engine, losses


def timeless(values):
    return {key: value for key, value in values.items() if key not in TIMES}


def outcome(folder):
    """Everything that a run leaves, without what depends on the clock."""
    run = RunFolder(folder)
    weights = load_file(folder / "model.safetensors")
    return timeless(run.result()), [timeless(point) for point in run.metrics()], weights


def assert_same(one, other):
    assert one[:2] == other[:2]
    assert one[2].keys() == other[2].keys()
    for name, weight in one[2].items():
        assert torch.equal(weight, other[2][name]), name


def stepped(config, text, folder, care=None):
    """A run after its last step, not yet measured: for tests of what happens on the way."""
    folder.mkdir(exist_ok=True)
    run = loop.Run(config, text, folder, unseen, care or Care())
    run.steps()
    return run


def assert_same_steps(one, other):
    assert [timeless(p) for p in one.history["points"]] == [
        timeless(p) for p in other.history["points"]
    ]
    for name, weight in one.engine.masters.items():
        assert torch.equal(weight, other.engine.masters[name]), name


class Interrupted(Exception):
    pass


def interrupt(monkeypatch, after):
    """Save a checkpoint after every step, and stop as if killed after the one of step ``after``."""

    def save(folder, engine, step, *rest):
        save_checkpoint(folder, engine, step, *rest)
        if step == after:
            raise Interrupted

    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", -1.0)
    monkeypatch.setattr(loop, "save_checkpoint", save)


def counting(method, calls):
    def counted(*args):
        calls.append(args)
        return method(*args)

    return counted
