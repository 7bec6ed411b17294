"""Whole runs: their files, that they repeat bit for bit, interrupted or not, and how they fail."""

import errno
import hashlib
import json
import math
import os

import pytest
import torch
from model_toys import HEALTHY, PARTS, alphabet_tokenizer, text_of, toy_run, words
from safetensors.torch import load, load_file, save

from mytnano.errors import UserError
from mytnano.measure.evaluate import score
from mytnano.model.own import with_own_code
from mytnano.model.transformer import Transformer
from mytnano.runs.store import RunFolder
from mytnano.training import loop
from mytnano.training.care import Care
from mytnano.training.checkpoint import (
    NAME,
    PREVIOUS,
    REFUSED,
    load_checkpoint,
    read_checkpoint,
    save_checkpoint,
)
from mytnano.training.engine import Engine
from mytnano.training.loop import load_weights, train

STEPS = 24
TIMES = {"tokens_per_second", "seconds", "peak_memory_bytes"}
ROW = {
    "rung", "seed", "tokenizer", "vocab_size", "params", "params_non_embedding", "train_bytes",
    "train_tokens", "flops", "test_loss", "test_accuracy", "test_perplexity",
    "test_bits_per_token", "test_bpb", "status", "tokens_per_second", "seconds",
    "peak_memory_bytes", "config_hash",
}  # fmt: skip
"""Columns of a ladder's results."""
MORE = {
    "validation_bpb", "bytes_per_token", "context", "comparable", "status_evidence", "mechanism",
    "sample", "prompt",
}  # fmt: skip
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


@pytest.fixture(autouse=True)
def mine(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(MINE)


@pytest.fixture(scope="module")
def text():
    splits = [words(20, 1500, seed) if seed == 0 else words(3, 900, seed) for seed in range(3)]
    return text_of(splits, alphabet_tokenizer(splits))


def run_of(text, case="fp32", steps=STEPS, **sections):
    return with_own_code(toy_run(text, steps, **{**CASES[case], **sections}))


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
    run = loop.Run(config, text, folder, lambda **progress: None, care or Care())
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


@pytest.mark.parametrize("case", CASES)
def test_a_resumed_run_is_the_same_bit_for_bit(text, tmp_path, monkeypatch, case):
    config = run_of(text, case)
    train(config, text, tmp_path / "whole")
    with monkeypatch.context() as patched:
        for after in (1, 9, STEPS - 1):
            interrupt(patched, after)
            with pytest.raises(Interrupted):
                train(config, text, tmp_path / "parts")
            torch.manual_seed(after)  # what another run in the same process does
    steps = []
    monkeypatch.setattr(Engine, "update", counting(Engine.update, steps))
    train(config, text, tmp_path / "parts")
    assert len(steps) == 1
    assert_same(outcome(tmp_path / "whole"), outcome(tmp_path / "parts"))
    assert not (tmp_path / "parts" / NAME).exists()


def counting(method, calls):
    def counted(*args):
        calls.append(args)
        return method(*args)

    return counted


def checkpointed(text, folder, monkeypatch, **sections):
    config = run_of(text, **sections)
    with monkeypatch.context() as patched:
        interrupt(patched, 9)
        with pytest.raises(Interrupted):
            train(config, text, folder)
    return config, folder / NAME


def damaged(data, damage, foreign):
    middle = len(data) // 2
    return {
        "truncated": data[:middle],
        "emptied": b"",
        "flipped": data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :],
        "foreign": foreign,
        "not ours": hashlib.sha256(b"text").digest() + b"text",
    }[damage]


WHY = {"foreign": "belongs to another run", "not ours": "no checkpoint of ours"}


@pytest.fixture(scope="module")
def saved(text, tmp_path_factory):
    """A config, and the bytes of its checkpoints after steps 9 and 8, and of another run's."""
    with pytest.MonkeyPatch.context() as patch:
        config, path = checkpointed(text, tmp_path_factory.mktemp("run"), patch)
        other, foreign = checkpointed(
            text, tmp_path_factory.mktemp("other"), patch, train={"seed": 1}
        )
    assert other.hash != config.hash
    blobs = [file.read_bytes() for file in (path, path.with_name(PREVIOUS), foreign)]
    return config, *blobs


@pytest.mark.parametrize("damage", ["truncated", "emptied", "flipped", "foreign", "not ours"])
def test_a_checkpoint_that_cannot_be_trusted_is_not_used(text, tmp_path, saved, damage):
    config, newest, before, foreign = saved
    path, previous = tmp_path / NAME, tmp_path / PREVIOUS
    path.write_bytes(newest)
    previous.write_bytes(before)
    assert load_checkpoint(tmp_path, Engine(config), config.hash)[0] == 9
    said = []
    path.write_bytes(damaged(newest, damage, foreign))
    assert load_checkpoint(tmp_path, Engine(config), config.hash, said.append)[0] == 8
    assert len(said) == 1 and str(path) in said[0] and WHY.get(damage, "checksum") in said[0]
    assert (tmp_path / REFUSED).exists() and not path.exists()

    previous.write_bytes(damaged(before, damage, foreign))
    engine = Engine(config)
    weights = {name: p.detach().clone() for name, p in engine.masters.items()}
    assert load_checkpoint(tmp_path, engine, config.hash) is None
    assert all(torch.equal(weights[name], p) for name, p in engine.masters.items())
    assert not engine.optimizer.state


def test_a_run_without_a_good_checkpoint_starts_again(text, tmp_path, saved, monkeypatch):
    config, newest, *_ = saved
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / NAME).write_bytes(newest[:-1])
    steps = []
    monkeypatch.setattr(Engine, "update", counting(Engine.update, steps))
    train(config, text, tmp_path / "run")
    assert len(steps) == STEPS and not list((tmp_path / "run").glob("checkpoint*"))
    train(config, text, tmp_path / "fresh")
    assert_same(outcome(tmp_path / "run"), outcome(tmp_path / "fresh"))


def test_a_full_disk_leaves_the_last_checkpoint(text, tmp_path, monkeypatch):
    config, folder = run_of(text), tmp_path / "run"
    saves, write = [], os.fsync

    def full(descriptor):
        saves.append(1)
        if len(saves) == 19:  # each save writes the checkpoint and the curve
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write(descriptor)

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(UserError, match=r"no space left on the disk for .*checkpoint\.bin"):
            stepped(config, text, folder, Care(checkpoint_seconds=-1.0))
    _, header = read_checkpoint(folder / PREVIOUS, config.hash)
    assert header["step"] == "9" and not list(folder.glob(".tmp-*"))
    assert_same_steps(stepped(config, text, tmp_path / "whole"), stepped(config, text, folder))


def test_a_checkpoint_between_two_points_of_the_curve_keeps_their_losses(text, tmp_path):
    """Also the state of the optimizer is the same after a resumed run as after a whole one."""
    config = run_of(text, "dropout", train={"evaluations": 1})
    folders = [tmp_path / name for name in ("whole", "parts")]
    states, runs = [], []
    for folder, stops in zip(folders, ((STEPS - 1,), (2, 9, 17, STEPS - 1)), strict=True):
        for stop in stops:
            folder.mkdir(exist_ok=True)
            run = loop.Run(config, text, folder, lambda **p: None, Care(log_points=3))
            while run.step < stop:
                run._advance()
            run.save()
            torch.manual_seed(stop)
        states.append(read_checkpoint(folder / NAME, config.hash))
        runs.append(stepped(config, text, folder, Care(log_points=3)))
    for name, tensor in states[0][0].items():
        assert torch.equal(tensor, states[1][0][name]), name
    kinds = {name.rpartition("/")[0] for name in states[0][0]}
    assert kinds >= {"weight", "state/exp_avg", "state/exp_avg_sq"}
    assert len(json.loads(states[0][1]["history"])["pending"]) == 11
    assert_same_steps(*runs)
    assert [point["step"] for point in runs[0].history["points"]] == [1, 12, STEPS]


def broken_batches(monkeypatch, steps, value=math.nan):
    """Losses of these 0-based steps come out as ``value``, with gradients to match."""
    whole = Engine.gradients
    calls = iter(range(10_000))

    def gradients(engine, x, y):
        loss = whole(engine, x, y)
        if next(calls) in steps:
            for master in engine.masters.values():
                master.grad.fill_(value)
            return loss * 0 + value
        return loss

    monkeypatch.setattr(Engine, "gradients", gradients)


@pytest.mark.parametrize("value", [math.nan, math.inf, 50.0])
def test_a_spike_is_skipped_counted_and_said(text, tmp_path, monkeypatch, value):
    config = run_of(text, optim={"spike": 6.0})
    broken_batches(monkeypatch, {18, 20}, value)
    said = []
    run = stepped(config, text, tmp_path, Care(say=said.append))
    assert [sentence.partition(":")[0] for sentence in said] == [
        "step 19 was skipped",
        "step 21 was skipped",
    ]
    points = run.history["points"]
    assert [p["step"] for p in points] == [*range(1, 19), 20, *range(22, STEPS + 1)]
    assert [p["skipped"] for p in points] == [0] * 18 + [1] + [2] * 3
    assert all(math.isfinite(p["train_loss"]) and p["train_loss"] < 10 for p in points)
    assert all(weight.isfinite().all() for weight in run.engine.masters.values())


def test_without_a_spike_the_guard_changes_nothing(text, tmp_path):
    config = run_of(text, steps=40)
    plain = stepped(config, text, tmp_path / "plain")
    guarded = stepped(config.but(optim={"spike": 8.0}), text, tmp_path / "guarded")
    assert guarded.finish({})["skipped_steps"] == 0
    for point in guarded.history["points"]:
        assert point.pop("skipped") == 0
    assert_same_steps(plain, guarded)


def test_steps_that_all_break_stop_the_run_with_its_state_saved(text, tmp_path, monkeypatch):
    config = run_of(text, optim={"spike": 6.0})
    with monkeypatch.context() as patched:
        broken_batches(patched, range(10, 100))
        with pytest.raises(UserError, match=r"stopped after step 15: 5 steps in a row.*lr=0\.001"):
            train(config, text, tmp_path)
    tensors, header = read_checkpoint(tmp_path / NAME, config.hash)
    assert header["step"] == "15" and all(tensor.isfinite().all() for tensor in tensors.values())
    run = stepped(config, text, tmp_path)
    assert run.guard.state["skipped"] == 5 and run.history["points"][-1]["step"] == STEPS


def test_asked_to_stop_it_saves_and_goes_on_where_it_was(text, tmp_path):
    config = run_of(text)
    asked = iter([False] * 6 + [True])
    heard = Heard()
    with pytest.raises(KeyboardInterrupt):
        care = Care(stopping=lambda: next(asked), recorders=[heard])
        train(config, text, tmp_path / "parts", care=care)
    assert [point["step"] for point in heard.points] == [1, 2, 3, 4, 5, 6, 7]
    assert heard.closed == [None]
    assert read_checkpoint(tmp_path / "parts" / NAME, config.hash)[1]["step"] == "7"
    heard = Heard()
    parts = stepped(config, text, tmp_path / "parts", Care(recorders=[heard]))
    assert [point["step"] for point in heard.points] == list(range(8, STEPS + 1))
    assert_same_steps(stepped(config, text, tmp_path / "whole"), parts)


def test_samples_are_written_on_the_way_and_change_nothing(text, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "SAMPLE_TOKENS", 4)
    config = run_of(text, "dropout")
    heard = Heard()
    care = Care(prompts=("The people ", "law"), recorders=[heard])
    sampled = stepped(config, text, tmp_path, care)
    assert_same_steps(stepped(config, text, tmp_path / "plain"), sampled)
    result = sampled.finish({})
    lines = (tmp_path / loop.SAMPLES).read_text().splitlines()
    samples = [json.loads(line) for line in lines]
    assert [s["step"] for s in samples] == [6, 6, 12, 12, 18, 18, 24, 24]
    assert samples == heard.samples and len({s["text"] for s in samples}) > 2
    assert "samples" not in result


def test_recorders_hear_of_the_end(text, tmp_path):
    heard = Heard()
    assert [train(run_of(text, steps=2), text, tmp_path, care=Care(recorders=[heard]))] == (
        heard.closed
    )


def test_a_killed_measurement_does_not_cost_the_training(text, tmp_path, monkeypatch):
    config = run_of(text)
    stepped(config, text, tmp_path, Care(save_at_end=True))  # and is killed before it is measured
    steps = []
    monkeypatch.setattr(Engine, "update", counting(Engine.update, steps))
    assert train(config, text, tmp_path)["test_bpb"] > 0 and not steps


class Heard:
    def __init__(self):
        self.points, self.samples, self.closed = [], [], []

    def point(self, point):
        self.points.append(point)

    def sample(self, **sample):
        self.samples.append(sample)

    def close(self, result):
        self.closed.append(result)


def test_no_checkpoint(text, tmp_path):
    config = run_of(text)
    assert load_checkpoint(tmp_path, Engine(config), config.hash) is None


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_checkpoint_restores_weights_moments_and_history(text, tmp_path, precision):
    config = run_of(text, train={"precision": precision})
    engine = Engine(config)
    x = torch.arange(64).view(2, 32) % config.model.vocab_size
    for _ in range(3):
        engine.gradients(x, x.roll(1))
        engine.update(1e-2)
    history = {"points": [{"train_loss": float("nan")}], "seconds": 1.5}
    save_checkpoint(tmp_path, engine, 3, config.hash, history)
    fresh = Engine(config)
    step, restored = load_checkpoint(tmp_path, fresh, config.hash)
    assert step == 3 and restored["seconds"] == 1.5
    assert math.isnan(restored["points"][0]["train_loss"])
    for name, master in engine.masters.items():
        assert torch.equal(master, fresh.masters[name])
        for key, value in engine.optimizer.state[master].items():
            other = fresh.optimizer.state[fresh.masters[name]][key]
            assert torch.equal(value, other) and value.device == other.device, key
        assert torch.equal(engine.parameters[name], fresh.parameters[name])


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("case", ["muon, average, every part", "own optimizer"])
def test_a_checkpoint_restores_any_optimizer_and_the_average(text, tmp_path, case, precision):
    config = run_of(text, case, train={"precision": precision})
    engine = Engine(config)
    x = torch.arange(64).view(2, 32) % config.model.vocab_size
    for _ in range(3):
        engine.gradients(x, x.roll(1))
        engine.update(1e-2)
    save_checkpoint(tmp_path, engine, 3, config.hash, {})
    fresh = Engine(config)
    load_checkpoint(tmp_path, fresh, config.hash)
    assert fresh.updates == 3
    for name, master in engine.masters.items():
        state, other = engine.optimizer.state[master], fresh.optimizer.state[fresh.masters[name]]
        assert state.keys() == other.keys() and state
        for key, value in state.items():
            assert type(value) is type(other[key])
            same = torch.equal if isinstance(value, torch.Tensor) else float.__eq__
            assert same(value, other[key]), (name, key)
        if engine.average is not None:
            assert torch.equal(engine.average[name], fresh.average[name])
    for group, other in zip(
        engine.optimizer.param_groups, fresh.optimizer.param_groups, strict=True
    ):
        plain = [{k: v for k, v in g.items() if k != "params"} for g in (group, other)]
        assert plain[0] == plain[1]


def test_a_checkpoint_of_the_version_before_is_still_used(text, tmp_path):
    """Moments had no prefix, and there were neither numbers nor groups."""
    config = run_of(text)
    engine = Engine(config)
    x = torch.arange(64).view(2, 32) % config.model.vocab_size
    engine.gradients(x, x.roll(1))
    engine.update(1e-2)
    save_checkpoint(tmp_path, engine, 1, config.hash, {})
    data = (tmp_path / NAME).read_bytes()[32:]
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"]
    tensors = {name.removeprefix("state/"): tensor for name, tensor in load(data).items()}
    note = {key: header[key] for key in ("step", "hash", "history")}
    old = save(tensors, metadata=note)
    (tmp_path / NAME).write_bytes(hashlib.sha256(old).digest() + old)
    fresh = Engine(config)
    assert load_checkpoint(tmp_path, fresh, config.hash)[0] == 1
    for each in (engine, fresh):
        each.gradients(x, x.roll(1))
        each.update(1e-2)
    assert all(torch.equal(p, fresh.masters[name]) for name, p in engine.masters.items())


def test_what_is_scored_and_saved_is_the_average(text, tmp_path):
    config = run_of(text, steps=10, optim={"ema": 0.9, "lr": 1e-2})
    result = train(config, text, tmp_path)
    model = Transformer(config.model)
    load_weights(model, tmp_path)
    assert result["test_bpb"] == pytest.approx(score(model, text.test).bits_per_byte, rel=1e-6)
    plain = train(config.but(optim={"ema": 0.0}), text, tmp_path / "plain")
    assert plain["test_bpb"] != result["test_bpb"]
    curve = [RunFolder(folder).metrics() for folder in (tmp_path, tmp_path / "plain")]
    assert curve[0][-1]["train_loss"] == curve[1][-1]["train_loss"]  # training is the same
    assert curve[0][-1]["validation_bpb"] != curve[1][-1]["validation_bpb"]


def test_same_config_same_numbers_whatever_ran_before(text, tmp_path):
    config = run_of(text, "dropout")
    train(config, text, tmp_path / "one")
    torch.manual_seed(123)
    train(config, text, tmp_path / "two")
    assert_same(outcome(tmp_path / "one"), outcome(tmp_path / "two"))
    train(config.but(train={"salt": "twin"}), text, tmp_path / "twin")
    one, twin = (outcome(tmp_path / name)[0] for name in ("one", "twin"))
    assert one["test_bpb"] != twin["test_bpb"] and one["train_tokens"] == twin["train_tokens"]


def test_the_files_of_a_run(text, tmp_path):
    config = run_of(text)
    seen = []
    result = train(
        config, text, tmp_path, lambda **p: seen.append(p), {"rung": "toy", "group": "core"}
    )
    run = RunFolder(tmp_path, config.hash)
    assert run.finish() == run.result() == json.loads(json.dumps(result))
    assert run.is_finished() and run.config() == config.model_dump()
    points = run.metrics()
    assert [point["step"] for point in points] == list(range(1, STEPS + 1))
    assert [p["bytes"] for p in points] == sorted(p["bytes"] for p in points)
    assert points[-1]["tokens"] == result["train_tokens"] == STEPS * 8 * config.model.context
    assert points[-1]["bytes"] == result["train_bytes"]
    assert sum(point["validation_bpb"] is not None for point in points) == 10
    assert points[-1]["validation_bpb"] is not None
    assert {point["lr"] for point in points} == {config.optim.lr}
    assert all(point["grad_norm"] > 0 for point in points)
    assert set(result) >= ROW | MORE
    assert result["rung"] == "toy" and result["config_hash"] == config.hash
    assert abs(result["train_bytes"] - config.train.train_bytes) < 0.02 * config.train.train_bytes


def test_scores_are_those_of_the_weights_on_disk(text, tmp_path):
    config = run_of(text)
    result = train(config, text, tmp_path)
    model = Transformer(config.model)
    load_weights(model, tmp_path)
    scored = score(model, text.test)
    assert result["test_bpb"] == pytest.approx(scored.bits_per_byte, rel=1e-6)
    assert result["test_loss"] == pytest.approx(scored.loss, rel=1e-6)
    assert result["test_perplexity"] == pytest.approx(math.exp(scored.loss), rel=1e-5)
    assert result["test_bits_per_token"] == pytest.approx(scored.loss / math.log(2), rel=1e-6)
    assert result["test_accuracy"] == scored.accuracy
    assert result["validation_bpb"] == pytest.approx(score(model, text.validation).bits_per_byte)
    assert result["comparable"]
    total = sum(p.numel() for p in model.parameters())
    tables = 2 * config.model.vocab_size * config.model.width
    assert result["params"] == total and result["params_non_embedding"] == total - tables


def test_mechanism_is_measured_at_three_moments(text, tmp_path):
    result = train(run_of(text), text, tmp_path)
    assert [m["at"] for m in result["mechanism"]] == ["init", "10%", "end"]
    assert [m["step"] for m in result["mechanism"]] == [0, 2, STEPS - 1]
    for moment in result["mechanism"]:
        assert len(moment["blocks"]) == 2 and moment["embedding_gradient_norm"] > 0
        for block in moment["blocks"]:
            assert 0 < block["update_ratio"] < 1 and block["gradient_norm"] > 0
            assert 0 < block["attention_entropy"] < 1


def test_probing_does_not_change_the_run(text, tmp_path, monkeypatch):
    config = run_of(text, "dropout")
    train(config, text, tmp_path / "probed")
    monkeypatch.setattr(loop.Run, "_probed_step", lambda self, lr: self._step(lr))
    train(config, text, tmp_path / "plain")
    weights = [load_file(tmp_path / name / "model.safetensors") for name in ("probed", "plain")]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_test_text_is_read_by_nothing_when_it_must_not_be(text, tmp_path):
    config = run_of(text, train={"score_test": False})
    untouchable = type(text)(text.corpus, text.tokenizer, text.train, text.validation, None)
    result = train(config, untouchable, tmp_path)
    assert result["test_bpb"] is None and result["validation_bpb"] > 0 and result["sample"] == ""


def test_the_sample_continues_the_prompt(text, tmp_path):
    result = train(run_of(text), text, tmp_path)
    assert result["prompt"] == "The people " and 200 < len(result["sample"]) <= 240


def test_a_diverged_run_ends_early_and_has_no_scores(text, tmp_path):
    config = run_of(text, model={**HEALTHY, "norm": "none"}, optim={"lr": 1e12})
    result = train(config, text, tmp_path)
    assert result["status"] == "diverged"
    scores = [key for key in result if key.startswith(("test_", "validation_"))]
    assert len(scores) == 6 and all(result[key] is None for key in scores)
    assert result["train_tokens"] < STEPS * 8 * config.model.context
    assert json.loads((tmp_path / "result.json").read_text())["status"] == "diverged"
    points = RunFolder(tmp_path).metrics()
    assert points[-1]["train_loss"] is None  # not a number, so not in JSON


def test_a_run_that_breaks_in_its_last_step_has_no_scores_either(text, tmp_path, monkeypatch):
    update = Engine.update

    def breaking(engine, lr):
        norm = update(engine, lr)
        if next(iter(engine.optimizer.state.values()))["step"] == STEPS:
            with torch.no_grad():
                engine.masters["head.weight"].fill_(math.nan)
                engine.refresh()
        return norm

    monkeypatch.setattr(Engine, "update", breaking)
    result = train(run_of(text), text, tmp_path)
    assert result["status"] == "diverged"
    assert result["test_bpb"] is None and result["validation_bpb"] is None
    assert result["train_tokens"] == STEPS * 8 * result["context"]


def test_progress_is_reported(text, tmp_path, monkeypatch):
    seen = []
    ticks = iter(range(100_000))
    monkeypatch.setattr(loop.time, "perf_counter", lambda: float(next(ticks)))
    train(run_of(text), text, tmp_path, lambda **progress: seen.append(progress))
    assert [p["step"] for p in seen] == sorted(p["step"] for p in seen) and len(seen) > 3
    assert seen[-1]["steps"] == STEPS and seen[-1]["loss"] > 0
    assert {"validation_bpb", "tokens_per_second"} <= seen[-1].keys()


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_shortest_runs(text, tmp_path, steps):
    result = train(run_of(text, steps=steps), text, tmp_path)
    assert result["train_tokens"] == steps * 8 * result["context"] and result["test_bpb"] > 0
    assert "end" in [moment["at"] for moment in result["mechanism"]]
    assert steps == 1 or result["mechanism"][0]["at"] == "init"
