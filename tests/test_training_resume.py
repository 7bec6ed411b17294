"""Checkpoints: a run that goes on is the same run, and a damaged state is not used."""

import errno
import hashlib
import json
import math
import os

import pytest
import torch
from loop_toys import (
    CASES,
    STEPS,
    Interrupted,
    assert_same,
    assert_same_steps,
    counting,
    interrupt,
    outcome,
    run_of,
    stepped,
)
from safetensors.torch import load, save

from mytnano.errors import UserError
from mytnano.run_files import CHECKPOINT, PREVIOUS, REFUSED
from mytnano.runs.store import RunFolder
from mytnano.training import loop
from mytnano.training.care import Care, unseen
from mytnano.training.checkpoint import (
    load_checkpoint,
    read_checkpoint,
    save_checkpoint,
)
from mytnano.training.engine import Engine
from mytnano.training.loop import train

pytestmark = pytest.mark.usefixtures("mine")


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


def checkpointed(text, folder, monkeypatch, **sections):
    config = run_of(text, **sections)
    with monkeypatch.context() as patched:
        interrupt(patched, 9)
        with pytest.raises(Interrupted):
            train(config, text, folder)
    return config, folder / CHECKPOINT


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
    path, previous = tmp_path / CHECKPOINT, tmp_path / PREVIOUS
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
    (tmp_path / "run" / CHECKPOINT).write_bytes(newest[:-1])
    steps = []
    monkeypatch.setattr(Engine, "update", counting(Engine.update, steps))
    train(config, text, tmp_path / "run")
    assert len(steps) == STEPS
    train(config, text, tmp_path / "fresh")
    assert_same(outcome(tmp_path / "run"), outcome(tmp_path / "fresh"))


def test_a_checkpoint_stays_until_the_folder_is_sealed(text, tmp_path, saved):
    config, newest, *_ = saved
    (tmp_path / CHECKPOINT).write_bytes(newest)
    train(config, text, tmp_path)
    assert (tmp_path / CHECKPOINT).exists()
    run = RunFolder(tmp_path, config.hash)
    run.finish()
    assert run.is_finished() and not list(tmp_path.glob("checkpoint*"))


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
            run = loop.Run(config, text, folder, unseen, Care(log_points=3))
            while run.step < stop:
                run._advance()
            run.save()
            torch.manual_seed(stop)
        states.append(read_checkpoint(folder / CHECKPOINT, config.hash))
        runs.append(stepped(config, text, folder, Care(log_points=3)))
    for name, tensor in states[0][0].items():
        assert torch.equal(tensor, states[1][0][name]), name
    kinds = {name.rpartition("/")[0] for name in states[0][0]}
    assert kinds >= {"weight", "state/exp_avg", "state/exp_avg_sq"}
    assert len(json.loads(states[0][1]["history"])["pending"]) == 11
    assert_same_steps(*runs)
    assert [point["step"] for point in runs[0].history["points"]] == [1, 12, STEPS]


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
    data = (tmp_path / CHECKPOINT).read_bytes()[32:]
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"]
    tensors = {name.removeprefix("state/"): tensor for name, tensor in load(data).items()}
    note = {key: header[key] for key in ("step", "hash", "history")}
    old = save(tensors, metadata=note)
    (tmp_path / CHECKPOINT).write_bytes(hashlib.sha256(old).digest() + old)
    fresh = Engine(config)
    assert load_checkpoint(tmp_path, fresh, config.hash)[0] == 1
    for each in (engine, fresh):
        each.gradients(x, x.roll(1))
        each.update(1e-2)
    assert all(torch.equal(p, fresh.masters[name]) for name, p in engine.masters.items())
